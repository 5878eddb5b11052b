"""A smoke test that checks within seconds if everything works on this machine."""

from search.space import Choice, Float, SearchSpace

FOR = (
    "A check that everything works on this machine: four trials of a few seconds, whose result "
    "means little."
)


def space() -> SearchSpace:
    """Return the space for four short trials of `table2`, the network of the paper's Table II."""
    return SearchSpace(
        {"optimizer.lr": Float(1e-3, 1e-2, log=True), "batch_size": Choice(32, 64)},
        base={"model.name": "table2", "model.width": 8, "epochs": 2, "data.train_limit": 300},
        trials=4,
    )
