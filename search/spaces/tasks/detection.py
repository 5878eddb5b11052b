"""Detection with a small network that a CPU can train from nothing."""

from search.space import Choice, Float, SearchSpace

FOR = "Images with boxes around objects: a small network that finds them, of several sizes."
TASK = "detection"
DEFAULT_FOR = (TASK,)

BASE = {
    "data.task": TASK,
    "model.name": "center_points",
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
    decay, batch size and augmentation. All trials have 20 epochs.
    """
    return SearchSpace(
        {
            "model.width": Choice(16, 24, 32, 48),
            "optimizer.lr": Float(3e-4, 1e-2, log=True),
            "optimizer.weight_decay": Float(1e-6, 1e-2, log=True),
            "batch_size": Choice(4, 8, 16),
            "augment.scale": Choice(0.0, 0.25),
            "augment.jitter": Choice(0.0, 0.2),
        },
        base=BASE,
        trials=16,
        first=[{"model.width": 32, "optimizer.lr": 2e-3, "batch_size": 8, "augment.scale": 0.0}],
    )
