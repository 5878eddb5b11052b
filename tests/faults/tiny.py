"""A space whose trials take a second or two: nine configurations of three epochs."""

from search.space import Choice, SearchSpace


def space() -> SearchSpace:
    """Learning rate and batch size of a small `deep_cnn`."""
    return SearchSpace(
        {"optimizer.lr": Choice(0.001, 0.003, 0.01), "batch_size": Choice(32, 64, 128)},
        base={"model.name": "deep_cnn", "model.layers": 5, "epochs": 3},
    )
