"""A training that is only played: no torch, no network, curves that depend on the config alone. See
`sitecustomize`.

It stands for `trainables.trial`, `trainables.training.process` and `trainables.evaluation.evaluate`
at once. Its checkpoint is one empty file an epoch.
"""

import hashlib
import json
import math
import time

from sitecustomize import NOW, after, before, plan

from trainables.messages import EpochMetrics, Report


def run_trial(config, dataset, folder, request, **options):
    """Go on after the newest file in `folder`. Accuracy grows towards a height that the config
    alone decides.
    """
    NOW.update(trial=folder.name, folder=str(folder))
    folder.mkdir(parents=True, exist_ok=True)
    trained = max((int(path.suffix[1:]) for path in folder.glob("played.*")), default=0)
    height = (
        int(
            hashlib.sha256(json.dumps(config.to_dict(), sort_keys=True).encode()).hexdigest()[:8],
            16,
        )
        / 16**8
    )
    for epoch in range(trained + 1, config.epochs + 1):
        before(epoch)
        time.sleep(plan()["played"]["epoch_s"])
        accuracy = (0.5 + 0.4 * height) * (1 - math.exp(-epoch / 5))
        values = {
            "train/loss": 1 - accuracy,
            "val/loss": 1 - accuracy,
            "val/accuracy": accuracy,
            "lr": 0.001,
            "time/epoch_s": plan()["played"]["epoch_s"],
        }
        metrics = after(EpochMetrics(epoch, values))
        (folder / f"played.{epoch:04d}").touch()
        yield Report(epoch, metrics.values, outcome="completed" if epoch == config.epochs else None)


def prepare(threads, gpu=0):
    """Nothing to prepare."""


def give_back_memory():
    """None was kept."""


def check(path):
    """Its checkpoint is as whole as an empty file can be."""


def evaluate(config, dataset, part, path, *, device="cpu"):
    """A perfect evaluation."""
    classes = list(dataset.classes)
    figures = {"precision": 1.0, "recall": 1.0, "f1": 1.0}
    return {
        "images": len(part),
        "accuracy": 1.0,
        "macro": {**figures, "auc": None},
        "per_class": {name: {**figures, "images": 1} for name in classes},
        "confusion_matrix": [
            [int(row == column) for column in range(len(classes))] for row in range(len(classes))
        ],
        "classes": classes,
        "roc": {name: {"auc": None, "fpr": [], "tpr": []} for name in classes},
    }


def brief(config, evaluation):
    """What the journal takes of it for each trial."""
    areas = {name: curve["auc"] for name, curve in evaluation["roc"].items()}
    return {name: value for name, value in evaluation.items() if name != "roc"} | {"auc": areas}


def plain(config, evaluation):
    """All of it: there are no pictures."""
    return evaluation


def load_model(config, dataset, path, **options):
    """Refuse: there is no network, and nothing that is played looks into one."""
    raise RuntimeError("a training that is only played has no network")
