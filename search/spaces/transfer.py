"""Fine-tuning of a network that was pretrained on other images.

Searched are the part that is frozen, and the learning rates of head and backbone.
"""

from search.space import Choice, Float, SearchSpace


def space() -> SearchSpace:
    """Return the space of a ResNet-18 (or `--set model.name=...`); 10 epochs.

    It has the frozen part, the rates of head and backbone, weight decay, batch size and
    augmentation.
    """
    return SearchSpace(
        {
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
            "model.name": "resnet18",
            "model.pretrained": True,
            "optimizer.name": "adamw",
            "optimizer.schedule": "cosine",
            "epochs": 10,
        },
        trials=20,
        first=[
            {"model.freeze": "backbone", "optimizer.lr": 3e-3, "batch_size": 32},
            {
                "model.freeze": "nothing",
                "optimizer.lr": 3e-3,
                "optimizer.backbone_lr": 3e-4,
                "batch_size": 32,
            },
        ],
    )
