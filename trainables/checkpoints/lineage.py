"""Which trainings are the beginning of one another: those that differ in their number of epochs
alone; and what is told of it. No torch here.

A training that is resumed equals an undisturbed one to the last bit, and its randomness comes from
the config's seed and the epoch's number. So the first 10 epochs of 30 are the training of 10,
unless the learning rate's schedule looks at how many there will be.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

from trainables.checkpoints.remote import Mirror
from trainables.config import TrialConfig
from trainables.errors import ConfigError

HORIZON_FREE = ("constant", "step", "plateau")
"""Schedules that do not depend on how many epochs there will be; `cosine` reaches its end with the
last one.
"""
ELSEWHERE = ("root", "skip_bad")
"""Where the images lie, and how they were read, says nothing about them: their fingerprint does."""


def is_horizon_free(config: TrialConfig) -> bool:
    """Whether a longer training begins as this one does."""
    return config.optimizer.schedule in HORIZON_FREE


def training_key(config: TrialConfig) -> str:
    """16 hex digits, equal for configs of which, on the same data, the shorter training is the
    beginning of the longer one.
    """
    values = config.to_dict()
    if is_horizon_free(config):
        del values["epochs"]
    values["model"] = {"name": config.model.name, **config.model.options}
    values["data"] = {
        name: value for name, value in values["data"].items() if name not in ELSEWHERE
    }
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def training_key_of(config: dict[str, Any]) -> str:
    """The stem of a config as the journal has it; empty where it is none, as after a change of
    code.
    """
    try:
        return training_key(TrialConfig.from_dict(config)) if config else ""
    except ConfigError:
        return ""


def is_own_beginning(begun: TrialConfig, epoch: int, config: TrialConfig) -> bool:
    """Whether a training of `begun` that has come to this epoch is a beginning of one of `config`."""
    return epoch <= config.epochs and training_key(begun) == training_key(config)


@dataclass(frozen=True)
class WarmStartSource:
    """A trial of this or another search that has trained the beginning of this one. Plain values,
    which may cross to other machines.
    """

    search: str
    trial: str
    folder: str
    epoch: int
    """It has come to this epoch, as far as is known; it may have gone on."""
    mirror: Mirror | None = None
    """Where its checkpoints are kept, if `folder` is not to be seen from here."""

    def __str__(self) -> str:
        return f"{self.trial} of '{self.search}'"


@dataclass(frozen=True)
class WarmStart:
    """With how much of whose training a trial began."""

    search: str
    trial: str
    epoch: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def begun_of(text: str | None) -> WarmStart | None:
    """What `begun.json` says; None where it says nothing."""
    try:
        return WarmStart(**json.loads(text)) if text else None
    except (ValueError, TypeError):
        return None
