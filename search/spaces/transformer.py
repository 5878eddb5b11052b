"""A vision transformer for small images, trained from scratch."""

from search.space import Choice, Float, SearchSpace

FOR = "Thousands of small images: a vision transformer that is trained from scratch."


def space() -> SearchSpace:
    """Return the space of the network's shape and its training settings.

    Its parameters are patch size, depth, width, dropout, learning rate, weight decay and batch
    size. All trials have 20 epochs.
    """
    return SearchSpace(
        {
            "model.patch": Choice(2, 4, 8),
            "model.layers": Choice(3, 6, 9),
            "model.width": Choice(64, 128, 192),
            "model.dropout": Float(0.0, 0.3),
            "optimizer.lr": Float(1e-4, 3e-3, log=True),
            "optimizer.weight_decay": Float(1e-4, 1e-1, log=True),
            "batch_size": Choice(32, 64, 128),
        },
        base={
            "model.name": "vit",
            "optimizer.name": "adamw",
            "optimizer.schedule": "cosine",
            "epochs": 20,
        },
        trials=30,
        first=[
            {
                "model.patch": 4,
                "model.layers": 6,
                "model.width": 128,
                "optimizer.lr": 1e-3,
                "batch_size": 64,
            }
        ],
    )
