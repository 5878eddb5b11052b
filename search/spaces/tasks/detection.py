"""Detection with a small network that a CPU can train from nothing, beside a baseline."""

from search.space import Choice, Float, SearchSpace

FOR = (
    "Images with boxes around objects: a small network that finds them, of several sizes, beside a "
    "random forest on blobs."
)
TASK = "detection"
DEFAULT_FOR = (TASK,)

BASELINE, NETWORK = "blob_forest", "center_points"
BASE = {
    "data.task": TASK,
    "model.name": NETWORK,
    "optimizer.name": "adamw",
    "optimizer.schedule": "cosine",
    "augment.flip": True,
    "batch_size": 8,
    "epochs": 20,
}
"""The settings that all spaces of detection share."""


def space() -> SearchSpace:
    """Return the space for detection on a CPU or one GPU.

    Its parameters are the width of a network without pretrained weights, the learning rate, weight
    decay, batch size and augmentation. A network has 20 epochs. The baseline is fitted once.
    """
    is_network = {"model.name": NETWORK}
    return SearchSpace(
        {
            "model.name": Choice(NETWORK, BASELINE),
            "model.width": Choice(16, 24, 32, 48, when=is_network),
            "optimizer.lr": Float(3e-4, 1e-2, log=True, when=is_network),
            "optimizer.weight_decay": Float(1e-6, 1e-2, log=True, when=is_network),
            "batch_size": Choice(4, 8, 16, when=is_network),
            "augment.scale": Choice(0.0, 0.25, when=is_network),
            "augment.jitter": Choice(0.0, 0.2, when=is_network),
        },
        base=BASE,
        trials=16,
        first=[
            {"model.name": BASELINE},
            {
                "model.name": NETWORK,
                "model.width": 32,
                "optimizer.lr": 2e-3,
                "batch_size": 8,
                "augment.scale": 0.0,
            },
        ],
    )
