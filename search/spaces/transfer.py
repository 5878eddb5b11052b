"""Fine-tuning of networks that were pretrained on other images."""

from search.space import Choice, Float, SearchSpace

FOR = (
    "Photographs, up to about a thousand per class: fine-tuning of networks that were pretrained "
    "on other photographs."
)

FAMILIES = ("resnet18", "mobilenet_v2", "squeezenet1_0")
"""Networks that are small enough for a CPU. Those without available weights are left out."""


def space() -> SearchSpace:
    """Return the space for fine-tuning three small networks.

    Its parameters are the network, the part of it that is frozen, the learning rates of head and
    backbone, weight decay, batch size and augmentation. All trials have 10 epochs. Users can choose
    another network with `--set model.name=...`.
    """
    return SearchSpace(
        {
            "model.name": Choice(*FAMILIES),
            "model.freeze": Choice("backbone", "all_but_last_stage", "nothing"),
            "optimizer.lr": Float(1e-4, 1e-2, log=True),
            "optimizer.backbone_lr": Float(
                1e-5, 1e-3, log=True, when={"model.freeze": ("all_but_last_stage", "nothing")}
            ),
            "optimizer.weight_decay": Float(1e-6, 1e-2, log=True),
            "batch_size": Choice(16, 32, 64),
            "augment.crop": Choice(0, 4),
            "augment.jitter": Choice(0.0, 0.2),
        },
        base={
            "model.pretrained": True,
            "optimizer.name": "adamw",
            "optimizer.schedule": "cosine",
            "epochs": 10,
        },
        trials=20,
        first=[
            {"model.name": name, "optimizer.lr": 3e-3, "batch_size": 32, **learning}
            for learning in (
                {"model.freeze": "backbone"},
                {"model.freeze": "nothing", "optimizer.backbone_lr": 3e-4},
            )
            for name in FAMILIES
        ],
    )
