"""Reuse of trainings: a trial continues from the epochs that other trials have trained.

These others are its relatives: trials of its own search, or of earlier ones, whose trainings differ
only in length (`trainables.config`). For example, three trials of 10, 20 and 30 epochs
with otherwise equal configs are one training. Only one of several relatives trains at a time; the
others wait, and continue from its checkpoints. Each remains a separate trial, with its own epochs
and checkpoints.
"""

from collections.abc import Collection
from dataclasses import replace
from functools import cached_property
from itertools import islice
from typing import Protocol

from search.design.experiment import Experiment
from search.journal.result import TrialResult
from search.journal.store import Home
from trainables.config import TrialConfig, is_horizon_free, training_key_of
from trainables.messages import WarmStartSource
from trainables.values import Json

MAX_LENGTHS = 8
"""The maximum number of distinct training lengths for which checkpoints are kept.

If a space has more lengths, no checkpoints are kept for shorter relatives.
"""
MAX_BEGINNINGS = 4
"""The maximum number of sources for a warm start that a worker receives.

The worker uses the first one whose checkpoint is complete.
"""

Trials = dict[str, TrialResult]


class OtherTrainings(Protocol):
    """The trainings of other searches."""

    def of(self, training: str, length: int, most: int) -> list[WarmStartSource]:
        """Return up to `most` trials with this training key.

        The most useful ones for a training of `length` epochs come first (`nearness`).
        """


class Relatives:
    """An index of a search's trials by their trainings, to find the relatives of a trial."""

    def __init__(self, experiment: Experiment, earlier: OtherTrainings | None = None) -> None:
        """Create an empty index of trainings.

        `earlier` has the trainings of earlier searches; None if they are not used.
        """
        self.experiment, self.earlier = experiment, earlier
        self._training_keys: dict[str, str] = {}
        """Maps trials to their training keys."""
        self._trials_by_key: dict[str, list[str]] = {}
        """Maps training keys to trials."""

    def must_wait(
        self, trial: str, trials: Trials, active: Collection[str], pending: Collection[str]
    ) -> bool:
        """True if a relative is training epochs that this trial needs, or will train them first.

        A relative will train them first if it is pending and shorter than this trial.
        """
        own_length = trials[trial].config["epochs"]
        for relative in self._relatives(trial, trials):
            length, reached = relative.config["epochs"], max(relative.epochs, default=0)
            if relative.trial in active and reached < min(own_length, length):
                return True
            if relative.trial in pending and reached < length < own_length:
                return True
        return False

    def beginnings(self, trial: str, trials: Trials, training: str) -> list[WarmStartSource]:
        """Return the relatives that have trained further than a trial, the best source first.

        Args:
            trial: the trial.
            trials: all trials of the search.
            training: the fingerprint of the search's trainings in this session. A relative of the
                same search is used only if all of its epochs have this fingerprint.
        """
        length, trained = trials[trial].config["epochs"], max(trials[trial].epochs, default=0)
        sources = [
            warm_start_source(
                self.experiment.name, relative.trial, max(relative.epochs), self.experiment.home
            )
            for relative in self._relatives(trial, trials)
            if relative.epochs and relative.trainings <= {training} and not relative.is_freed
        ]
        if self.earlier is not None and is_shared_between_searches(trials[trial].config):
            sources += self.earlier.of(self._training_keys[trial], length, MAX_BEGINNINGS)
        useful = sorted(
            (beginning for beginning in sources if beginning.epoch > trained),
            key=lambda beginning: nearness(beginning.epoch, length),
        )
        return [
            replace(beginning, epoch=min(length, beginning.epoch))
            for beginning in useful[:MAX_BEGINNINGS]
        ]

    def milestones(self, config: TrialConfig) -> list[int]:
        """Return the epochs of a trial at which shorter relatives may end.

        A checkpoint is kept there, so that these relatives can continue from it. A grid without
        early stopping needs none: it trains the shorter trials first.
        """
        if (self.experiment.algorithm, self.experiment.scheduler) == (
            "grid",
            "fifo",
        ) or not is_horizon_free(config):
            return []
        return [length for length in self._lengths if length < config.epochs]

    @cached_property
    def _lengths(self) -> list[int]:
        """The sorted numbers of epochs in the space; empty if there are more than `MAX_LENGTHS`."""
        domain = self.experiment.space.domains.get("epochs")
        if domain is None or domain.count is None or domain.count > MAX_LENGTHS:
            return []
        most = self.experiment.max_epochs
        return sorted({min(value, most) if most else value for value in domain.values or ()})

    def _relatives(self, trial: str, trials: Trials) -> list[TrialResult]:
        """Return the other trials of the same training."""
        if len(trials) > len(self._training_keys):
            for name in list(islice(trials, len(self._training_keys), None)):
                self._training_keys[name] = training_key_of(trials[name].config)
                self._trials_by_key.setdefault(self._training_keys[name], []).append(name)
        if not self._training_keys[trial]:
            return []
        return [
            trials[name]
            for name in self._trials_by_key[self._training_keys[trial]]
            if name != trial
        ]


def is_shared_between_searches(config: Json) -> bool:
    """True if trainings with this config may be reused by other searches.

    A training that starts from a file of weights must not be reused: the file may have changed.
    """
    model = config["model"]
    return not (model.get("weights") or model.get("pretrained"))


def warm_start_source(search: str, trial: str, epoch: int, home: Home) -> WarmStartSource:
    """Describe a trial that has finished this epoch as a source for a warm start."""
    place = home.place(trial)
    return WarmStartSource(search, trial, place.folder, epoch, place.mirror)


def nearness(epoch: int, length: int) -> tuple[int, int]:
    """Return the sort key of a source that has finished `epoch`, for a training of `length` epochs.

    The fewer epochs remain to be trained, the smaller the key. Among sources that have trained all
    epochs, the shortest comes first, since longer ones may not have kept the checkpoint.
    """
    return -min(epoch, length), epoch
