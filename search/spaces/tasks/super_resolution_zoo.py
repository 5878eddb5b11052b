"""A comparison of five networks for super-resolution, and of four interpolations."""

from search.space import Choice, Float, SearchSpace
from search.spaces.tasks.super_resolution import BASE, FIRST

FOR = "Photographs, which are to become larger: a comparison of five networks with interpolation."
TASK = "super_resolution"

NETWORKS = ("autoencoder", "edsr", "espcn", "fsrcnn", "srcnn")
"""The networks, roughly from the most to the least promising on a CPU."""
BASELINES = ("bicubic", "lanczos", "bilinear", "nearest")


def space() -> SearchSpace:
    """Return the space of models for super-resolution, all of which the first trials try once.

    A network has a loss, a learning rate and a batch size, and 20 epochs.
    """
    is_network = {"model.name": NETWORKS}
    return SearchSpace(
        {
            "model.name": Choice(*NETWORKS, *BASELINES),
            "task.loss": Choice("l1", "l2", "charbonnier", when=is_network),
            "optimizer.lr": Float(3e-4, 1e-2, log=True, when=is_network),
            "batch_size": Choice(8, 16, when=is_network),
        },
        base=BASE,
        trials=24,
        first=[{"model.name": name} for name in BASELINES]
        + [{"model.name": name, **FIRST} for name in NETWORKS],
    )
