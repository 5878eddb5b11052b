"""A comparison of all networks for detection, from nothing, and of a baseline without a network."""

from search.space import Choice, Float, SearchSpace
from search.spaces.tasks.detection import BASE, BASELINE

FOR = (
    "Images with boxes around objects: a comparison of all networks, and of a "
    "random forest on blobs."
)
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
    """Return the space of models for detection, all of which the first trials try once.

    A network has a learning rate, weight decay and a batch size, and 20 epochs.
    """
    is_network = {"model.name": NETWORKS}
    return SearchSpace(
        {
            "model.name": Choice(*NETWORKS, BASELINE),
            "optimizer.lr": Float(3e-4, 1e-2, log=True, when=is_network),
            "optimizer.weight_decay": Float(1e-6, 1e-2, log=True, when=is_network),
            "batch_size": Choice(4, 8, 16, when=is_network),
        },
        base=BASE,
        trials=18,
        first=[
            {"model.name": BASELINE},
            *({"model.name": name, "optimizer.lr": 1e-3, "batch_size": 8} for name in NETWORKS),
        ],
    )
