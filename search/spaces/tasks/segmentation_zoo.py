"""A comparison of all networks for segmentation that suit a CPU, and of baselines without networks.

Networks with a ResNet-50 are left out: an epoch on a CPU takes tens of times as long.
"""

from search.space import Choice, Float, SearchSpace
from search.spaces.tasks.segmentation import BASE, LOSSES

FOR = (
    "Images with masks: a comparison of the networks that suit a CPU with a threshold and with a "
    "random forest on pixels."
)
TASK = "segmentation"

NETWORKS = (
    "unet",
    "unet_mobilenet_v2",
    "lraspp_mobilenet_v2",
    "enet",
    "unet_squeezenet1_0",
    "lraspp_mobilenet_v3_large",
    "unet_resnet18",
    "unet_resnet34",
)
"""The networks, roughly from the most to the least promising on a CPU."""
BASELINES = ("otsu", "pixel_forest")


def space() -> SearchSpace:
    """Return the space of models for segmentation, all of which the first trials try once.

    A network has a loss, a learning rate, weight decay and a batch size, and 20 epochs. A forest
    has its depth.
    """
    is_network = {"model.name": NETWORKS}
    return SearchSpace(
        {
            "model.name": Choice(*NETWORKS, *BASELINES),
            "model.tree_depth": Choice(8, 16, 24, when={"model.name": "pixel_forest"}),
            "task.loss": Choice(*LOSSES, when=is_network),
            "optimizer.lr": Float(1e-4, 1e-2, log=True, when=is_network),
            "optimizer.weight_decay": Float(1e-6, 1e-2, log=True, when=is_network),
            "batch_size": Choice(8, 16, 32, when=is_network),
        },
        base=BASE,
        trials=24,
        first=[
            {"model.name": "otsu"},
            {"model.name": "pixel_forest", "model.tree_depth": 16},
            *map(defaults, NETWORKS),
        ],
    )


def defaults(name: str) -> dict[str, str | float]:
    """Return the params of the first trial of a network."""
    return {
        "model.name": name,
        "task.loss": "cross_entropy_dice",
        "optimizer.lr": 2e-3,
        "optimizer.weight_decay": 1e-4,
        "batch_size": 16,
    }
