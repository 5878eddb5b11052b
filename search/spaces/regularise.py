"""Ways to avoid overfitting, searched beside the learning rate of one small network."""

from search.space import Choice, Float, SearchSpace

FOR = (
    "Networks that learn their images by heart: mixed images, augmentation, smoothed labels, "
    "averaged weights."
)


def space() -> SearchSpace:
    """Return the space of options that regularise `deep_cnn`, and of its learning rate.

    All trials have 20 epochs. Users can choose another network with `--set model.name=...`.
    """
    return SearchSpace(
        {
            "augment.mix": Choice("none", "mixup", "cutmix"),
            "augment.policy": Choice("none", "trivial", "randaugment", "augmix"),
            "train.smoothing": Choice(0.0, 0.05, 0.1, 0.2),
            "train.ema": Choice(0.0, 0.99, 0.999),
            "optimizer.lr": Float(1e-4, 1e-2, log=True),
        },
        base={
            "model.name": "deep_cnn",
            "model.layers": 10,
            "optimizer.name": "adamw",
            "optimizer.schedule": "cosine",
            "epochs": 20,
        },
        trials=40,
        first=[
            {
                "augment.mix": mix,
                "augment.policy": policy,
                "train.smoothing": 0.0,
                "train.ema": 0.0,
                "optimizer.lr": 3e-3,
            }
            for mix, policy in (("none", "none"), ("none", "trivial"), ("mixup", "none"))
        ],
    )
