"""Detection with networks whose encoder was pretrained on photographs."""

from search.space import Choice, Float, SearchSpace
from search.spaces.tasks.detection import BASE

FOR = (
    "Images with boxes around objects: networks that start with weights pretrained on photographs."
)
TASK = "detection"

NETWORKS = (
    "center_points_mobilenet_v2",
    "center_points_resnet18",
    "center_points_squeezenet1_0",
)
"""Networks that are small enough for a CPU. Those without available weights are left out."""


def space() -> SearchSpace:
    """Return the space for fine-tuning three small networks.

    Its parameters are the network, the learning rates of head and encoder, weight decay, batch size
    and augmentation. All trials have 12 epochs.
    """
    return SearchSpace(
        {
            "model.name": Choice(*NETWORKS),
            "optimizer.lr": Float(3e-4, 5e-3, log=True),
            "optimizer.backbone_lr": Float(1e-4, 2e-3, log=True),
            "optimizer.weight_decay": Float(1e-6, 1e-2, log=True),
            "batch_size": Choice(4, 8, 16),
            "augment.scale": Choice(0.0, 0.25),
            "augment.jitter": Choice(0.0, 0.2),
        },
        base={**BASE, "model.name": NETWORKS[0], "model.pretrained": True, "epochs": 12},
        trials=16,
        first=[
            {
                "model.name": name,
                "optimizer.lr": 1e-3,
                "optimizer.backbone_lr": 1e-3,
                "batch_size": 8,
                "augment.scale": 0.0,
            }
            for name in NETWORKS
        ],
    )
