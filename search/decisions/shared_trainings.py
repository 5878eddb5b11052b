"""Reuse of trainings: a trial begins with what others have trained of it, so none is done twice.

The others are its relatives: trials of its own search and of earlier ones whose trainings differ in
length alone (`trainables.checkpoints.lineage`). Three trials of 10, 20 and 30 epochs are one
training. Of relatives, one trains at a time; the others wait, and go on from its checkpoints. Each
stays a trial of its own, with its own epochs and checkpoints.
"""

from collections.abc import Collection
from dataclasses import replace
from functools import cached_property
from itertools import islice
from typing import Protocol

from search.design.experiment import Experiment
from search.journal.result import TrialResult
from search.journal.store import Home
from trainables.checkpoints.lineage import WarmStartSource, is_horizon_free, training_key_of
from trainables.config import TrialConfig
from trainables.values import Json

MAX_LENGTHS = 8
"""With more numbers of epochs in a search than these, no checkpoints are kept for each."""
MAX_BEGINNINGS = 4
"""The most warm start sources that are named to a worker.

The worker takes the longest that is whole.
"""

Trials = dict[str, TrialResult]


class Known(Protocol):
    """The trainings of other searches."""

    def of(self, training: str, length: int, most: int) -> list[WarmStartSource]:
        """Return trials of this training key, at most `most`, the most useful ones first.

        They are to be of use for a training of `length` epochs.
        """


class Relatives:
    """The trials of a search that share their trainings."""

    def __init__(self, experiment: Experiment, earlier: Known | None = None) -> None:
        """`earlier` are the trainings of earlier searches; None where they are not used."""
        self.experiment, self.earlier = experiment, earlier
        self._training_keys: dict[str, str] = {}
        """The training key of each trial."""
        self._trials_by_key: dict[str, list[str]] = {}
        """The trials of each training key."""

    def must_wait(
        self, trial: str, trials: Trials, active: Collection[str], left: Collection[str]
    ) -> bool:
        """Return whether a relative has still to train what this trial needs.

        It does so now, or it is shorter than this trial and will do so.
        """
        mine = trials[trial].config["epochs"]
        for other in self._others(trial, trials):
            length, reached = other.config["epochs"], max(other.epochs, default=0)
            if other.trial in active and reached < min(mine, length):
                return True
            if other.trial in left and reached < length < mine:
                return True
        return False

    def beginnings(self, trial: str, trials: Trials, training: str) -> list[WarmStartSource]:
        """Return the warm start sources of a trial, the most useful first.

        These are what relatives have trained of it beyond its own epochs. Of the same search, only
        trainings with the fingerprint `training` count, that of what trains now.
        """
        mine, own = trials[trial].config["epochs"], max(trials[trial].epochs, default=0)
        found = [
            source(self.experiment.name, other.trial, max(other.epochs), self.experiment.home)
            for other in self._others(trial, trials)
            if other.epochs and other.trainings <= {training} and not other.is_freed
        ]
        if self.earlier is not None and is_shared_between_searches(trials[trial].config):
            found += self.earlier.of(self._training_keys[trial], mine, MAX_BEGINNINGS)
        useful = sorted(
            (one for one in found if one.epoch > own),
            key=lambda one: nearness(one.epoch, mine),
        )
        return [replace(one, epoch=min(mine, one.epoch)) for one in useful[:MAX_BEGINNINGS]]

    def milestones(self, config: TrialConfig) -> list[int]:
        """Return the epochs of a trial at which shorter ones may end.

        Those find there the checkpoint that they need. A grid in which no trial waits at a rung has
        none: it has trained the shorter trials before.
        """
        if (self.experiment.algorithm, self.experiment.scheduler) == (
            "grid",
            "fifo",
        ) or not is_horizon_free(config):
            return []
        return [length for length in self._lengths if length < config.epochs]

    @cached_property
    def _lengths(self) -> list[int]:
        """The numbers of epochs that are searched, in order; empty where they are many."""
        domain = self.experiment.space.domains.get("epochs")
        if domain is None or domain.count is None or domain.count > MAX_LENGTHS:
            return []
        most = self.experiment.max_epochs
        return sorted({min(value, most) if most else value for value in domain.values or ()})

    def _others(self, trial: str, trials: Trials) -> list[TrialResult]:
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
    """Check whether a training with this config may begin with what earlier searches have trained.

    A file of weights may hold others by now than an earlier search began with.
    """
    model = config["model"]
    return not (model.get("weights") or model.get("pretrained"))


def source(search: str, trial: str, epoch: int, home: Home) -> WarmStartSource:
    """Return a trial that has trained until this epoch as one to warm-start from."""
    place = home.place(trial)
    return WarmStartSource(search, trial, place.folder, epoch, place.mirror)


def nearness(epoch: int, length: int) -> tuple[int, int]:
    """Return a sort key: the less is left to train of `length` epochs after `epoch`, the smaller.

    One that has just as many is nearest: of a longer one, less may be kept.
    """
    return -min(epoch, length), epoch
