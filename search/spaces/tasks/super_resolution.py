"""Super-resolution with networks that a CPU can train."""

from search.space import Choice, Float, SearchSpace

FOR = "Photographs, which are to become larger: an autoencoder, ESPCN and small residual networks."
TASK = "super_resolution"
DEFAULT_FOR = (TASK,)

BASE = {
    "data.task": TASK,
    "model.name": "edsr",
    "optimizer.name": "adam",
    "optimizer.schedule": "cosine",
    "batch_size": 16,
    "epochs": 20,
}
"""The settings that all spaces of super-resolution share."""
FIRST = {"task.loss": "l1", "optimizer.lr": 2e-3, "batch_size": 8}
"""Settings with which each network learns well."""


def space() -> SearchSpace:
    """Return the space for super-resolution on a CPU or one GPU.

    Its parameters are the network, its size, the loss, the learning rate and the batch size. All
    trials have 20 epochs, in each of which networks see about as many pixels as the training
    images have, or at most 2,000 crops.
    """
    return SearchSpace(
        {
            "model.name": Choice("autoencoder", "edsr", "espcn"),
            "model.width": Choice(16, 24, 32),
            "model.depth": Choice(1, 2, when={"model.name": "autoencoder"}),
            "model.layers": Choice(3, 4, 6, when={"model.name": "edsr"}),
            "task.loss": Choice("l1", "charbonnier"),
            "optimizer.lr": Float(3e-4, 1e-2, log=True),
            "batch_size": Choice(8, 16),
        },
        base=BASE,
        trials=16,
        first=[
            {**FIRST, "model.name": "autoencoder", "model.width": 16, "model.depth": 2},
            {**FIRST, "model.name": "edsr", "model.width": 32, "model.layers": 4},
        ],
    )
