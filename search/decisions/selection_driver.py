"""The decisions of a selection: the next candidate and seed to train, and who leaves the race.

See `search.decisions.selection`.
"""

from collections.abc import Iterator
from typing import Any

from search.algorithms.base import Algorithm
from search.decisions.driver import Driver
from search.decisions.selection import Race
from search.experiment import Experiment
from search.journal.events import Concluded, Dropped, Suggested
from search.journal.journal import Event, Journal
from search.journal.result import FAILED, Selection, TrialResult
from search.phrases import last_line_of
from search.schedulers.base import Scheduler, Stop
from search.schedulers.fifo import Fifo
from search.space import Params
from search.statistics import Comparison
from trainables.catalog.ranking import rank
from trainables.config import TrialConfig
from trainables.errors import ConfigError

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


class Nothing(Algorithm):
    """An algorithm that proposes nothing, since it is known what is trained."""

    def ask(self, trial: str) -> Params | None:
        """Return None."""
        return None

    def replay(self, trial: str, params: Params) -> None:
        """Do nothing: there is nothing to learn."""


class RaceDriver(Driver):
    """The driver of one selection, as `Driver` is that of a search.

    Its trials are the candidates' trainings.
    """

    judge = "the race"
    last_word = Concluded
    reuses_trainings = tracks_cost = False

    def __init__(self, experiment: Experiment, journal: Journal, **options: Any) -> None:
        super().__init__(experiment, journal, **options)
        self.race = Race([], 0, images=1)

    def _algorithm(self) -> Algorithm:
        return Nothing()

    def _scheduler(self) -> Scheduler:
        return Fifo()

    def replay(self, events: list[Event]) -> None:
        """Hear what was done before: the search, and a selection that was cut off."""
        for event in events:
            self.result.apply(event)

    @property
    def selection(self) -> Selection:
        """The selection as far as it is known; it has begun."""
        assert self.result.selection is not None
        return self.result.selection

    @property
    def trials(self) -> dict[str, TrialResult]:
        """The trainings of this race.

        An earlier race may have had other candidates, or more seeds.
        """
        known, race = self.selection.repeats, self.race
        return {
            name: trial
            for name, trial in known.items()
            if trial.repeat_of in race.scores and number_of(name) <= race.seeds
        }

    def go_on(self) -> None:
        """Count the results that are there, and line up the trainings that were cut off.

        Called once the session is in the journal.
        """
        terms = self.selection.started
        self.race = Race(terms.candidates, terms.seeds, terms.alpha, images=self.result.images)
        for name in self.race.candidates:
            if (left := self.selection.dropped.get(name)) is not None:
                self._leave_race(name, left.reason, comparison_of(left))
        for name, trial in self.trials.items():
            if trial.outcome == "completed":
                self.race.scores[trial.repeat_of][number_of(name)] = trial.score
            if "memory" in trial.retries and trial.kind != "memory":
                self.out_of_memory.add(name)
        for trial in [trial for trial in self.trials.values() if trial.outcome in FAILED]:
            self._drop_failed(trial)
        super().go_on()
        self._drop_behind()
        self._withdraw()

    def ranked(self, candidate: str) -> list[TrialResult]:
        """Return a candidate's trainings that came to their end, the best first."""
        completed = (
            trial
            for trial in self.trials.values()
            if trial.repeat_of == candidate and trial.outcome == "completed"
        )
        return sorted(completed, key=lambda trial: rank(trial.best, trial.metric), reverse=True)

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
    def _has_more(self) -> bool:
        return next(self._open(), None) is not None

    @property
    def _more(self) -> int:
        return sum(1 for _ in self._open())

    def _propose(self) -> str:
        for candidate, number in self._open():
            known = self.result.trials[candidate]
            seed = self._seed(number)
            try:
                config = TrialConfig.from_dict(known.config).override({"seed": seed})
            except ConfigError as error:  # after a change of code an old config may be invalid
                self._drop(candidate, str(error))
                return self._propose()
            name = training(candidate, number)
            self.journal.append(
                Suggested(
                    trial=name,
                    params=known.params,
                    config=config.to_dict(),
                    repeat_of=candidate,
                    seed=seed,
                )
            )
            return name
        return ""

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

    def _judge(self, trial: str, epoch: int) -> Stop | None:
        """Return why a training goes no further: its candidate has left. None if it may."""
        reason = self.race.out.get(self.trials[trial].repeat_of)
        return Stop(reason) if reason else None

    def _tell(self, trial: str) -> None:
        super()._tell(trial)
        ended = self.trials[trial]
        if ended.outcome == "completed":
            self.race.scores[ended.repeat_of][number_of(trial)] = ended.score
        elif ended.outcome in FAILED:
            self._drop_failed(ended)
        self._drop_behind()

    def _drop_behind(self) -> None:
        """Drop the candidates that are clearly worse."""
        for name, (leader, pair) in self.race.behind().items():
            self._drop(
                name,
                f"{self.metric.gap(pair.difference)} behind {leader} "
                f"over {self.race.rounds} seeds (p {pair.p:.2g})",
                pair,
            )

    def _drop_failed(self, trial: TrialResult) -> None:
        """Drop the candidate whose training failed."""
        self._drop(
            trial.repeat_of,
            f"{trial.trial} {trial.outcome}: {last_line_of(trial.reason, 'no reason known')}",
        )

    def _drop(self, candidate: str, reason: str, pair: Comparison | None = None) -> None:
        if candidate not in self.race.out:
            facts = vars(pair) if pair is not None else {}
            self.journal.append(Dropped(candidate, self.race.rounds, reason, **facts))
            self._leave_race(candidate, reason, pair)
            self._withdraw()

    def _withdraw(self) -> None:
        """End the trainings of candidates that have left, which do not run now."""
        while (
            name := next(
                (name for name in self.pending if self.trials[name].repeat_of in self.race.out),
                None,
            )
        ) is not None:
            self.pending.remove(name)
            self._end(name, "stopped", self.race.out[self.trials[name].repeat_of])

    def _leave_race(self, candidate: str, reason: str, pair: Comparison | None) -> None:
        self.race.out[candidate] = reason
        if pair is not None:
            self.race.worse[candidate] = pair
