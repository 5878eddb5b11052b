"""Which network, for these images: the families of torchvision, each over ranges of its own, and the traditional way beside them."""

from search.space import Cases, Choice, Float, SearchSpace

FAMILIES = (
    "resnet18",
    "mobilenet_v3_small",
    "efficientnet_b0",
    "googlenet",
    "densenet121",
    "resnet50",
    "vgg11_bn",
    "alexnet",
    "vit_b_16",
    "inception_v3",
    "vgg16_bn",
)
"""In the order in which they are tried first: the cheap before the dear."""

UNNORMALISED = ("alexnet", "vit_b_16")
"""Without batch normalisation a large step throws these off."""
DROPOUT = ("alexnet", "vgg11_bn", "vgg16_bn")
"""Large dense layers that overfit without it."""


def space() -> SearchSpace:
    """Family, optimizer, learning rate, weight decay, dropout of the nets with large dense layers, batch size, mirroring; 20 epochs."""
    return SearchSpace(
        {
            "model.name": Choice(*FAMILIES),
            "optimizer.name": Choice("adamw", "sgd"),
            "optimizer.lr": Cases(
                Float(1e-5, 1e-3, log=True, when={"model.name": UNNORMALISED, "optimizer.name": "adamw"}),
                Float(1e-4, 5e-3, log=True, when={"optimizer.name": "adamw"}),
                Float(1e-3, 3e-2, log=True, when={"model.name": UNNORMALISED}),
                Float(3e-3, 2e-1, log=True),
            ),
            "optimizer.weight_decay": Float(1e-6, 1e-2, log=True),
            "model.dropout": Float(0.2, 0.6, when={"model.name": DROPOUT}),
            "batch_size": Choice(32, 64, 128),
        },
        base={"epochs": 20, "optimizer.schedule": "cosine"},
        trials=33,
        first=[{"model.name": name, "optimizer.name": "adamw", "optimizer.lr": 1e-4 if name in UNNORMALISED else 1e-3, "batch_size": 64} for name in FAMILIES],
    )
