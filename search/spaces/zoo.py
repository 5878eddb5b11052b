"""A comparison of torchvision's families of networks, each with its own parameter ranges.

The traditional approach (hand-made features and a classifier) is included for comparison.
"""

from search.space import Cases, Choice, Float, SearchSpace

FOR = (
    "A comparison of thirteen families of networks and of hand-made features on your images. It "
    "takes the longest."
)

FAMILIES = (
    "resnet18",
    "mobilenet_v3_small",
    "squeezenet1_0",
    "mobilenet_v2",
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
"""The families of networks, roughly from cheap to expensive."""
BASELINES = ("svm", "knn", "tree")
FIRST = (*FAMILIES[:2], "svm", *FAMILIES[2:], "knn", "tree")
"""All models, in the order in which the first trials try them."""

UNNORMALISED = ("alexnet", "vit_b_16", "squeezenet1_0")
"""Families without batch normalisation. They diverge at large learning rates."""
NORMALISED = tuple(name for name in FAMILIES if name not in UNNORMALISED)
DROPOUT = ("alexnet", "vgg11_bn", "vgg16_bn")
"""Families with large dense layers, which overfit without dropout."""


def space() -> SearchSpace:
    """Return the space of model families, with parameters whose ranges depend on the family.

    A network has an optimizer, a learning rate, weight decay, a batch size and, if its dense layers
    are large, dropout. A baseline has features. All networks are trained for 20 epochs.
    """
    return SearchSpace(
        {
            "model.name": Choice(*FAMILIES, *BASELINES),
            "model.features": Choice("hog", "all", when={"model.name": BASELINES}),
            "optimizer.name": Choice("adamw", "sgd", when={"model.name": FAMILIES}),
            "optimizer.lr": Cases(
                Float(
                    1e-5,
                    1e-3,
                    log=True,
                    when={"model.name": UNNORMALISED, "optimizer.name": "adamw"},
                ),
                Float(
                    1e-3, 3e-2, log=True, when={"model.name": UNNORMALISED, "optimizer.name": "sgd"}
                ),
                Float(
                    1e-4, 5e-3, log=True, when={"model.name": NORMALISED, "optimizer.name": "adamw"}
                ),
                Float(
                    3e-3, 2e-1, log=True, when={"model.name": NORMALISED, "optimizer.name": "sgd"}
                ),
            ),
            "optimizer.weight_decay": Float(1e-6, 1e-2, log=True, when={"model.name": FAMILIES}),
            "model.dropout": Float(0.2, 0.6, when={"model.name": DROPOUT}),
            "batch_size": Choice(32, 64, 128, when={"model.name": FAMILIES}),
        },
        base={"epochs": 20, "optimizer.schedule": "cosine"},
        trials=40,
        first=[
            {"model.name": name, "model.features": "hog"} if name in BASELINES else defaults(name)
            for name in FIRST
        ],
    )


def defaults(name: str) -> dict[str, str | float]:
    """Return the params of the first trial of a network."""
    lr = 1e-4 if name in UNNORMALISED else 1e-3
    return {
        "model.name": name,
        "optimizer.name": "adamw",
        "optimizer.lr": lr,
        "optimizer.weight_decay": 1e-4,
        "batch_size": 64,
    }
