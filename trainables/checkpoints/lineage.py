"""Trainings whose epochs are also the first epochs of longer trainings, for warm starts.

Such trainings differ only in their number of epochs. A resumed training equals an uninterrupted one
to the last bit, and its randomness depends only on the config's seed and the epoch. Therefore the
first 10 of 30 epochs equal a training of 10 epochs, unless the schedule of the learning rate
depends on the number of epochs. This module does not import torch.
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

`cosine` is not listed, because its period is the number of epochs.
"""
ELSEWHERE = ("root", "bucket", "groups", "skip_bad", "leaks")
"""Fields of `DataConfig` that are left out of the training key.

They state where the images and their groups are and how they are read; the images themselves, with
their groups, are identified by their fingerprint.
"""


def is_horizon_free(config: TrialConfig) -> bool:
    """True if a longer training of this config starts with the same epochs."""
    return config.optimizer.schedule in HORIZON_FREE


def training_key(config: TrialConfig) -> str:
    """Return 16 hex digits that identify a training, regardless of its number of epochs.

    If two configs have the same key, and the data is the same, the longer training starts with the
    epochs of the shorter one. If the schedule depends on the number of epochs, so does the key.
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
    """Return the training key of a config that a journal stores as JSON.

    The key is empty if the config is empty, or not valid for this version of the code.
    """
    try:
        return training_key(TrialConfig.from_dict(config)) if config else ""
    except ConfigError:
        return ""


def is_own_beginning(earlier: TrialConfig, epoch: int, config: TrialConfig) -> bool:
    """True if the epochs of `earlier`, up to `epoch`, are also the first epochs of `config`."""
    return epoch <= config.epochs and training_key(earlier) == training_key(config)


@dataclass(frozen=True)
class WarmStartSource:
    """A trial, in this or another search, that has trained the first epochs of the trial to start.

    This object can be serialised, to be sent to other machines.
    """

    search: str
    trial: str
    folder: str
    epoch: int
    """The last epoch that the trial is known to have trained; it may have trained more since."""
    mirror: Mirror | None = None
    """The remote storage of the trial's checkpoints; None if `folder` is accessible from here."""

    def __str__(self) -> str:
        return f"{self.trial} of '{self.search}'"


def parse_warm_start(text: str | None) -> WarmStart | None:
    """Parse the content of `begun.json`, a trial's record of its warm start.

    The result is None if there is no text or it is not valid.
    """
    try:
        return WarmStart(**json.loads(text)) if text else None
    except (ValueError, TypeError):
        return None
