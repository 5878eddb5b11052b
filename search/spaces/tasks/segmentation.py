"""Segmentation with U-Nets."""

from search.space import Choice, Float, SearchSpace

FOR = "Images with masks, which give each pixel a class: U-Nets of several sizes."
TASK = "segmentation"
DEFAULT_FOR = (TASK,)

LOSSES = ("cross_entropy", "cross_entropy_dice", "focal_dice")
BASE = {
    "data.task": TASK,
    "model.name": "unet",
    "optimizer.name": "adamw",
    "optimizer.schedule": "cosine",
    "augment.flip": True,
    "epochs": 20,
}
"""The settings that all spaces of segmentation share."""


def space() -> SearchSpace:
    """Return the space for segmentation on a CPU or one GPU.

    Its parameters are the depth and width of a U-Net, the loss, the learning rate, weight decay,
    batch size and augmentation. All trials have 20 epochs, in each of which networks see about as
    many pixels as the training images have, or at least 2,000 crops.
    """
    return SearchSpace(
        {
            "model.width": Choice(8, 12, 16, 24),
            "model.depth": Choice(3, 4, when={"model.name": "unet"}),
            "task.loss": Choice(*LOSSES),
            "optimizer.lr": Float(1e-4, 1e-2, log=True),
            "optimizer.weight_decay": Float(1e-6, 1e-2, log=True),
            "batch_size": Choice(8, 16, 32),
            "augment.jitter": Choice(0.0, 0.2),
            "augment.scale": Choice(0.0, 0.2),
        },
        base=BASE,
        trials=16,
        first=[
            {
                "model.width": 12,
                "model.depth": 3,
                "task.loss": "cross_entropy_dice",
                "optimizer.lr": 1e-3,
                "batch_size": 16,
            }
        ],
    )
