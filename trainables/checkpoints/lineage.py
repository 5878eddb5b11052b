"""Trainings that are the beginning of longer ones, and the reports of warm starts.

Such trainings differ only in their number of epochs. A resumed training equals an undisturbed one
to the last bit, and its randomness comes from the config's seed and the epoch's number. So the
first 10 epochs of 30 equal the training of 10, unless the learning rate's schedule depends on the
number of epochs. Imports no torch.
"""

import hashlib
import json
from dataclasses import dataclass

from trainables.checkpoints.remote import Mirror
from trainables.config import TrialConfig
from trainables.errors import ConfigError
from trainables.messages import WarmStart
from trainables.values import Json

HORIZON_FREE = ("constant", "step", "plateau")
"""Schedules that do not depend on the number of epochs.

`cosine` does: it reaches its end with the last epoch.
"""
ELSEWHERE = ("root", "skip_bad", "leaks")
"""Fields of `DataConfig` that are left out of the training key.

These say where the images are and how they were read; the images themselves are identified by
their fingerprint.
"""


def is_horizon_free(config: TrialConfig) -> bool:
    """True if a longer training begins with the same epochs as this one."""
    return config.optimizer.schedule in HORIZON_FREE


def training_key(config: TrialConfig) -> str:
    """Return 16 hex digits that identify a training regardless of its length.

    Of two configs with the same key the shorter training is the beginning of the longer one, if the
    data is the same.
    """
    values = config.to_dict()
    if is_horizon_free(config):
        del values["epochs"]
    values["model"] = {"name": config.model.name, **config.model.options}
    values["data"] = {
        name: value for name, value in values["data"].items() if name not in ELSEWHERE
    }
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def training_key_of(config: Json) -> str:
    """Return the training key of a config from a journal.

    Empty if it is not a valid config of this version of the code.
    """
    try:
        return training_key(TrialConfig.from_dict(config)) if config else ""
    except ConfigError:
        return ""


def is_own_beginning(earlier: TrialConfig, epoch: int, config: TrialConfig) -> bool:
    """True if the first epochs of `earlier`, until this one, are also those of `config`."""
    return epoch <= config.epochs and training_key(earlier) == training_key(config)


@dataclass(frozen=True)
class WarmStartSource:
    """A trial of this or another search that has trained the beginning of this one.

    It has only plain values, so that it can be sent to other machines.
    """

    search: str
    trial: str
    folder: str
    epoch: int
    """The last epoch that is known of it; it may have trained more."""
    mirror: Mirror | None = None
    """Where its checkpoints are stored, if `folder` is not accessible from here."""

    def __str__(self) -> str:
        return f"{self.trial} of '{self.search}'"


def parse_warm_start(text: str | None) -> WarmStart | None:
    """Return the warm start that `begun.json` describes; None if the text is not valid."""
    try:
        return WarmStart(**json.loads(text)) if text else None
    except (ValueError, TypeError):
        return None
