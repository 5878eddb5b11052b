"""A comparison of all networks for detection, from nothing."""

from search.space import Choice, Float, SearchSpace
from search.spaces.tasks.detection import BASE

FOR = "Images with boxes around objects: a comparison of all networks, with anchors and without."
TASK = "detection"

NETWORKS = (
    "center_points",
    "center_points_mobilenet_v2",
    "center_points_squeezenet1_0",
    "center_points_resnet18",
    "ssdlite_mobilenet_v3_large",
    "faster_rcnn_mobilenet_v3_large",
)
"""The networks, those without anchors first."""


def space() -> SearchSpace:
    """Return the space of networks for detection, all of which the first trials try once.

    Each has a learning rate, weight decay and a batch size, and 20 epochs.
    """
    return SearchSpace(
        {
            "model.name": Choice(*NETWORKS),
            "optimizer.lr": Float(3e-4, 1e-2, log=True),
            "optimizer.weight_decay": Float(1e-6, 1e-2, log=True),
            "batch_size": Choice(4, 8, 16),
        },
        base=BASE,
        trials=18,
        first=[{"model.name": name, "optimizer.lr": 1e-3, "batch_size": 8} for name in NETWORKS],
    )
