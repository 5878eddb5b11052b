"""Trainings of which one is the beginning of the other, and what is reported of a warm start.

Such trainings differ in their number of epochs alone. A training that is resumed equals an
undisturbed one to the last bit, and its randomness comes from the config's seed and the epoch's
number. So the first 10 epochs of 30 are the training of 10, unless the learning rate's schedule
depends on the number of epochs. Imports no torch.
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

Where the images lie, and how they were read, says nothing about them: their fingerprint does.
"""


def is_horizon_free(config: TrialConfig) -> bool:
    """Return whether a longer training begins as this one does."""
    return config.optimizer.schedule in HORIZON_FREE


def training_key(config: TrialConfig) -> str:
    """Return 16 hex digits that are equal for trainings of which one is the beginning of the other.

    That is, of two configs with one key the shorter training is the beginning of the longer one, on
    the same data.
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
    """Return the training key of a config as the journal has it.

    Empty where it is no config, or none of this version of the code.
    """
    try:
        return training_key(TrialConfig.from_dict(config)) if config else ""
    except ConfigError:
        return ""


def is_own_beginning(begun: TrialConfig, epoch: int, config: TrialConfig) -> bool:
    """Return whether a training of `begun`, at this epoch, is a beginning of one of `config`."""
    return epoch <= config.epochs and training_key(begun) == training_key(config)


@dataclass(frozen=True)
class WarmStartSource:
    """A trial of this or another search that has trained the beginning of this one.

    It holds plain values, which may cross to other machines.
    """

    search: str
    trial: str
    folder: str
    epoch: int
    """The epoch that it has reached, as far as is known; it may have gone on."""
    mirror: Mirror | None = None
    """The place of its checkpoints, if `folder` is not to be seen from here."""

    def __str__(self) -> str:
        return f"{self.trial} of '{self.search}'"


def begun_of(text: str | None) -> WarmStart | None:
    """Return the warm start that `begun.json` describes; None where its text says nothing."""
    try:
        return WarmStart(**json.loads(text)) if text else None
    except (ValueError, TypeError):
        return None
