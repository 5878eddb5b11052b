"""Nothing is trained twice: a trial begins with what its relatives have trained, those of its own
search and of earlier ones.

Trials are relatives when their trainings differ in length alone
(`trainables.checkpoints.lineage`), so three of 10, 20 and 30 epochs are one training. Of those,
one trains at a time; the others wait, and go on from its checkpoints. Each stays a trial of its
own, with its own epochs and checkpoints.
"""

from collections.abc import Collection
from functools import cached_property
from itertools import islice
from typing import Any, Protocol

from search.experiment import Experiment
from search.journal.result import TrialResult
from trainables.checkpoints.lineage import is_horizon_free, training_key_of
from trainables.config import TrialConfig

MAX_LENGTHS = 8
"""Where more numbers of epochs than these are searched, checkpoints are not kept for each."""
MAX_BEGINNINGS = 4
"""How many are named to a worker, which takes the longest that is whole."""

Trials = dict[str, TrialResult]


class Known(Protocol):
    """What other searches have trained."""

    def of(self, training: str, length: int, most: int) -> list[dict[str, Any]]:
        """Trials of this training key, at most so many, of most use for a training of this length
        first: `search`, `trial`, `epoch` (the last one), and where their checkpoints are.
        """


class Relatives:
    """Who is whose relative in a search."""

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment
        self.earlier: Known | None = None
        self._stems: dict[str, str] = {}
        self._families: dict[str, list[str]] = {}

    def within(self, experiment: Experiment) -> "Relatives":
        """Those of the same search as it goes on in another space."""
        found = Relatives(experiment)
        found.earlier = self.earlier
        return found

    def must_wait(
        self, trial: str, trials: Trials, active: Collection[str], left: Collection[str]
    ) -> bool:
        """Whether a relative has still to train what this trial needs, and does so now, or is
        shorter and will.
        """
        mine = trials[trial].config["epochs"]
        for other in self._others(trial, trials):
            length, reached = other.config["epochs"], max(other.epochs, default=0)
            if other.trial in active and reached < min(mine, length):
                return True
            if other.trial in left and reached < length < mine:
                return True
        return False

    def beginnings(self, trial: str, trials: Trials, training: str) -> list[dict[str, Any]]:
        """What relatives have trained of this trial beyond its own epochs, that of most use first;
        as `job.beginnings_of` takes it. Only what was trained by what trains now counts, which has
        this fingerprint.
        """
        mine, own = trials[trial].config["epochs"], max(trials[trial].epochs, default=0)
        found = [
            {
                "search": self.experiment.name,
                "trial": other.trial,
                "epoch": max(other.epochs),
                **self.experiment.home.place(other.trial),
            }
            for other in self._others(trial, trials)
            if other.epochs and other.trainings <= {training}
        ]
        model = trials[trial].config["model"]
        if self.earlier is not None and not (
            model.get("weights") or model.get("pretrained")
        ):  # whose file may hold others by now
            found += self.earlier.of(self._stems[trial], mine, MAX_BEGINNINGS)
        useful = sorted(
            (one for one in found if one["epoch"] > own),
            key=lambda one: nearness(one["epoch"], mine),
        )
        return [{**one, "epoch": min(mine, one["epoch"])} for one in useful[:MAX_BEGINNINGS]]

    def milestones(self, config: TrialConfig) -> list[int]:
        """At which of its epochs others may end: those find there what they need. A grid of which
        nothing waits has had the shorter ones before.
        """
        if (self.experiment.algorithm, self.experiment.scheduler) == (
            "grid",
            "fifo",
        ) or not is_horizon_free(config):
            return []
        return [length for length in self._lengths if length < config.epochs]

    @cached_property
    def _lengths(self) -> list[int]:
        """The numbers of epochs that are searched, where they are few."""
        domain = self.experiment.space.domains.get("epochs")
        if domain is None or domain.count is None or domain.count > MAX_LENGTHS:
            return []
        most = self.experiment.max_epochs
        return sorted({min(value, most) if most else value for value in domain.values or ()})

    def _others(self, trial: str, trials: Trials) -> list[TrialResult]:
        if len(trials) > len(self._stems):
            for name in list(islice(trials, len(self._stems), None)):
                self._stems[name] = training_key_of(trials[name].config)
                self._families.setdefault(self._stems[name], []).append(name)
        if not self._stems[trial]:
            return []
        return [trials[name] for name in self._families[self._stems[trial]] if name != trial]


def nearness(epoch: int, length: int) -> tuple[int, int]:
    """How little is left to train of so many epochs after this one. One that has just as many is
    nearest: of a longer one, less may be kept.
    """
    return -min(epoch, length), epoch
