"""The decisions of a selection: the next candidate and seed to train, and who leaves the race.

See `search.decisions.selection`.
"""

from collections.abc import Collection, Iterator
from pathlib import Path

from search.decisions.policy import Decisions, Record
from search.decisions.selection import Race
from search.design.experiment import Experiment
from search.journal.events import Concluded, Dropped, Ended, EventData, Finished, Suggested
from search.journal.result import FAILED, SearchResult, Selection, TrialResult
from search.schedulers.base import Stop
from search.schedulers.fifo import Fifo
from search.values.statistics import Comparison
from search.values.wording import last_line_of
from trainables.catalog.ranking import rank
from trainables.checkpoints.lineage import WarmStartSource
from trainables.config import TrialConfig
from trainables.errors import ConfigError
from trainables.messages import Cost

MAX_SEED = 2**31
"""Seeds are below this number."""


def training(candidate: str, number: int) -> str:
    """Return the name of a candidate's training with the seed of this number (from 1)."""
    return f"{candidate}-s{number}"


def number_of(name: str) -> int:
    """Return the number of the seed of a training with this name."""
    return int(name.rpartition("-s")[2])


def comparison_of(left: Dropped) -> Comparison | None:
    """Return the comparison by which a candidate left; None of one that failed."""
    if left.difference is None or left.error is None or left.p is None:
        return None
    return Comparison(left.difference, left.error, left.p)


class SelectionPolicy:
    """The policy of one selection: its trials are the candidates' trainings."""

    by = "the race"
    more_later = may_wait = False
    at_rung: frozenset[str] = frozenset()
    outcome, risk = ("completed", ""), None

    def __init__(self, experiment: Experiment, record: Record) -> None:
        self.experiment, self.record, self.scheduler = experiment, record, Fifo()
        self.metric = experiment.base.ranked_by
        self.race = Race([], 0, images=1)
        self._failed: list[TrialResult] = []
        """Trainings that have failed, whose candidates are to be dropped."""

    @property
    def result(self) -> SearchResult:
        """The search, as far as it is known."""
        return self.record.result

    @property
    def selection(self) -> Selection:
        """The selection as far as it is known; it has begun."""
        assert self.result.selection is not None
        return self.result.selection

    @property
    def trials(self) -> dict[str, TrialResult]:
        """The trainings of this race; none before it has begun.

        An earlier race may have had other candidates, or more seeds.
        """
        race, selection = self.race, self.result.selection
        known = selection.repeats if selection is not None else {}
        return {
            name: trial
            for name, trial in known.items()
            if trial.repeat_of in race.scores and number_of(name) <= race.seeds
        }

    def extend(self, experiment: Experiment) -> None:
        """Go on with other numbers; a race's own terms are not among them."""
        self.experiment = experiment

    def begin(self) -> Decisions:
        """Count the results that are there, and drop the candidates whose trainings failed."""
        terms = self.selection.started
        self.race = Race(terms.candidates, terms.seeds, terms.alpha, images=self.result.steps)
        for name in self.race.candidates:
            if (left := self.selection.dropped.get(name)) is not None:
                self._leave_race(left)
        for name, trial in self.trials.items():
            if trial.outcome == "completed":
                self.race.scores[trial.repeat_of][number_of(name)] = trial.score
        for trial in [trial for trial in self.trials.values() if trial.outcome in FAILED]:
            yield from self._drop_failed(trial)

    def hear(self, data: EventData) -> None:
        """Take a training's result, or that a candidate has left."""
        match data:
            case Dropped() if data.candidate in self.race.scores:
                self._leave_race(data)
            case Ended() if (ended := self.trials.get(data.trial)) is not None:
                if ended.outcome == "completed":
                    self.race.scores[ended.repeat_of][number_of(data.trial)] = ended.score
                elif ended.outcome in FAILED:
                    self._failed.append(ended)

    def ranked(self, candidate: str) -> list[TrialResult]:
        """Return a candidate's trainings that came to their end, the best first.

        Those whose checkpoints were removed come last.
        """
        completed = (
            trial
            for trial in self.trials.values()
            if trial.repeat_of == candidate and trial.outcome == "completed"
        )
        return sorted(
            completed,
            key=lambda trial: (not trial.is_freed, rank(trial.best, trial.metric)),
            reverse=True,
        )

    @property
    def best(self) -> dict[str, TrialResult]:
        """The best training of each candidate in the race, once it has one."""
        return {
            candidate: ranked[0]
            for candidate in self.race.alive
            if (ranked := self.ranked(candidate))
        }

    def _open(self) -> Iterator[tuple[str, int]]:
        """Yield each candidate and number of a seed that it has not been given yet.

        All candidates get the first seed, then all the second, and so on.
        """
        for number in range(1, self.race.seeds + 1):
            for candidate in self.race.alive:
                if training(candidate, number) not in self.selection.repeats:
                    yield candidate, number

    @property
    def more_now(self) -> bool:
        """True if a candidate in the race has not been given all seeds."""
        return next(self._open(), None) is not None

    @property
    def ahead(self) -> int:
        """The number of trainings that are not proposed yet."""
        return sum(1 for _ in self._open())

    def propose(self, *, idle: bool) -> Decisions:
        """Propose the next training."""
        while (following := next(self._open(), None)) is not None:
            candidate, number = following
            known = self.result.trials[candidate]
            seed = self._seed(number)
            try:
                config = TrialConfig.from_dict(known.config).override({"seed": seed})
            except ConfigError as error:  # after a change of code an old config may be invalid
                yield from self._drop(candidate, str(error))
                continue
            yield Suggested(
                trial=training(candidate, number),
                params=known.params,
                config=config.to_dict(),
                repeat_of=candidate,
                seed=seed,
            )

    def _seed(self, number: int) -> int:
        """Return the seed of this number.

        It is the one that other candidates have had, else the next one after the search's own that
        no training has had.
        """
        drawn = {
            number_of(name): int(trial.config["seed"])
            for name, trial in self.selection.repeats.items()
        }
        if number in drawn:
            return drawn[number]
        taken = {
            *drawn.values(),
            self.experiment.seed,
            *(trial.config.get("seed") for trial in self.result.trials.values()),
        }
        return next(
            seed
            for step in range(1, MAX_SEED)
            if (seed := (self.experiment.seed + step) % MAX_SEED) not in taken
        )

    def judge(self, trial: str) -> Stop | None:
        """Return why a training goes no further: its candidate has left. None if it may."""
        reason = self.race.out.get(self.trials[trial].repeat_of)
        return Stop(reason) if reason else None

    def follow_up(self) -> Decisions:
        """Drop the candidates whose trainings failed, and those that are clearly worse."""
        while self._failed:
            yield from self._drop_failed(self._failed.pop(0))
        for name, (leader, pair) in self.race.behind().items():
            yield from self._drop(
                name,
                f"{self.metric.gap(pair.difference)} behind {leader} "
                f"over {self.race.rounds} seeds (p {pair.p:.2g})",
                pair,
            )

    def _drop_failed(self, trial: TrialResult) -> Decisions:
        """Drop the candidate whose training failed."""
        return self._drop(
            trial.repeat_of,
            f"{trial.trial} {trial.outcome}: {last_line_of(trial.reason, 'no reason known')}",
        )

    def _drop(self, candidate: str, reason: str, pair: Comparison | None = None) -> Decisions:
        if candidate not in self.race.out:
            facts = vars(pair) if pair is not None else {}
            yield Dropped(candidate, self.race.rounds, reason, **facts)

    def _leave_race(self, left: Dropped) -> None:
        self.race.out[left.candidate] = left.reason
        if (pair := comparison_of(left)) is not None:
            self.race.worse[left.candidate] = pair

    def last_word(self, outcome: str, reason: str) -> Finished | Concluded:
        """Return the selection's last event."""
        return Concluded(outcome, reason)

    def cost(self, trial: str, measured: Cost | None) -> Decisions:
        """Decide nothing: what a candidate costs is known."""
        yield from ()

    def wants_cost(self, config: TrialConfig) -> bool:
        """Return False: what a candidate costs is known."""
        return False

    def must_wait(self, trial: str, active: Collection[str], pending: Collection[str]) -> bool:
        """Return False: each training is for itself."""
        return False

    def beginnings(self, trial: str) -> list[WarmStartSource]:
        """Return nothing: a training with a fresh seed is trained from its beginning."""
        return []

    def milestones(self, config: TrialConfig) -> list[int]:
        """Return nothing: no other training goes on from this one."""
        return []

    def save(self, folder: Path) -> None:
        """Save nothing."""
