"""Networks for which the worst group of images counts: balanced sampling, group DRO, weight decay.

Networks that fit all training images have the same loss for every group, so group DRO changes
little without strong weight decay or few epochs (Sagawa et al. 2020).
"""

from search.space import Choice, Float, SearchSpace

FOR = (
    "Images in groups, of which the worst is to be recognised well too: rank trials by worst-group "
    "accuracy."
)


def space() -> SearchSpace:
    """Return the space of learning rates, weight decay, and methods that balance groups.

    The network is `deep_cnn`; another one can be chosen with `--set model.name=...`.
    """
    return SearchSpace(
        {
            "train.sampling": Choice("shuffled", "groups"),
            "train.group_dro": Choice(0.0, 0.01, 0.1),
            "optimizer.lr": Float(1e-4, 1e-2, log=True),
            "optimizer.weight_decay": Float(1e-4, 1.0, log=True),
            "epochs": Choice(5, 10, 20),
        },
        base={"model.name": "deep_cnn", "model.layers": 5, "optimizer.name": "adamw"},
        trials=24,
        first=[
            {
                "train.sampling": sampling,
                "train.group_dro": step_size,
                "optimizer.lr": 1e-3,
                "optimizer.weight_decay": 1e-3,
                "epochs": 10,
            }
            for sampling, step_size in (("shuffled", 0.0), ("groups", 0.0), ("shuffled", 0.1))
        ],
    )
