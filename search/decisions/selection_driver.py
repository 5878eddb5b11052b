"""The decisions of a selection: which of a search's best few is trained with which seed next, who
leaves the race. See `search.decisions.selection`.
"""

from collections.abc import Iterator
from typing import Any

from search.algorithms.base import Algorithm
from search.decisions.driver import Driver
from search.decisions.selection import Race
from search.experiment import Experiment
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


def training(candidate: str, number: int) -> str:
    """The name of a candidate's training with the seed of this number (from 1)."""
    return f"{candidate}-s{number}"


def number_of(name: str) -> int:
    """The inverse, as far as the number goes."""
    return int(name.rpartition("-s")[2])


class Nothing(Algorithm):
    """Proposes nothing: what is trained is known."""

    def ask(self, trial: str) -> Params | None:
        """None."""
        return None

    def replay(self, trial: str, params: Params) -> None:
        """Nothing to learn."""


class RaceDriver(Driver):
    """Answers for one selection, as `Driver` does for a search: its trials are the candidates'
    trainings.
    """

    judge = "the race"
    last_word = "concluded"
    reuses_trainings = tracks_cost = False

    def __init__(self, experiment: Experiment, journal: Journal, **options: Any) -> None:
        super().__init__(experiment, journal, **options)
        self.race = Race([], 0, images=1)

    def _algorithm(self) -> Algorithm:
        return Nothing()

    def _scheduler(self) -> Scheduler:
        return Fifo()

    def replay(self, events: list[Event]) -> None:
        """Hear what was done before: the search, and what a selection that was cut off came to."""
        for event in events:
            self.result.apply(event)

    @property
    def selection(self) -> Selection:
        """What is known of the selection, which has begun."""
        assert self.result.selection is not None
        return self.result.selection

    @property
    def trials(self) -> dict[str, TrialResult]:
        """The trainings of this race; an earlier one may have had other candidates, or more seeds."""
        known, race = self.selection.repeats, self.race
        return {
            name: trial
            for name, trial in known.items()
            if trial.repeat_of in race.scores and number_of(name) <= race.seeds
        }

    def go_on(self) -> None:
        """Once the session is in the journal: count what is there, and line up what was cut off."""
        terms = self.selection.started
        self.race = Race(
            terms["candidates"], terms["seeds"], terms["alpha"], images=self.result.images
        )
        for name in self.race.candidates:
            if (left := self.selection.dropped.get(name)) is not None:
                self._leave_race(
                    name,
                    left["reason"],
                    Comparison(left["difference"], left["error"], left["p"])
                    if "p" in left
                    else None,
                )
        for name, trial in self.trials.items():
            if trial.outcome == "completed":
                self.race.scores[trial.repeat_of][number_of(name)] = trial.accuracy
            if "memory" in trial.retries and trial.kind != "memory":
                self.out_of_memory.add(name)
        for trial in [trial for trial in self.trials.values() if trial.outcome in FAILED]:
            self._drop_failed(trial)
        super().go_on()
        self._drop_behind()
        self._withdraw()

    def ranked(self, candidate: str) -> list[TrialResult]:
        """A candidate's trainings that came to their end, the best first."""
        completed = (
            trial
            for trial in self.trials.values()
            if trial.repeat_of == candidate and trial.outcome == "completed"
        )
        return sorted(completed, key=lambda trial: rank(trial.best), reverse=True)

    @property
    def best(self) -> dict[str, TrialResult]:
        """Of each candidate in the race its best training, once it has one."""
        return {
            candidate: ranked[0]
            for candidate in self.race.alive
            if (ranked := self.ranked(candidate))
        }

    def _open(self) -> Iterator[tuple[str, int]]:
        """Who has not yet been given which seed: all the first, then all the second, ..."""
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
            except (
                ConfigError
            ) as error:  # what once was a config may be none after a change of code
                self._drop(candidate, str(error))
                return self._propose()
            name = training(candidate, number)
            self.journal.append(
                "suggested",
                trial=name,
                params=known.params,
                config=config.to_dict(),
                repeat_of=candidate,
                seed=seed,
            )
            return name
        return ""

    def _seed(self, number: int) -> int:
        """The seed of this number: what others have had, else the next one after the search's own
        that no training has had.
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
        """A training of who has left goes on no further."""
        reason = self.race.out.get(self.trials[trial].repeat_of)
        return Stop(reason) if reason else None

    def _tell(self, trial: str) -> None:
        super()._tell(trial)
        ended = self.trials[trial]
        if ended.outcome == "completed":
            self.race.scores[ended.repeat_of][number_of(trial)] = ended.accuracy
        elif ended.outcome in FAILED:
            self._drop_failed(ended)
        self._drop_behind()

    def _drop_behind(self) -> None:
        """Who is clearly worse leaves."""
        for name, (leader, pair) in self.race.behind().items():
            self._drop(
                name,
                f"{100 * pair.difference:.2f} points behind {leader} over {self.race.rounds} seeds (p {pair.p:.2g})",
                pair,
            )

    def _drop_failed(self, trial: TrialResult) -> None:
        """Whose training failed leaves."""
        self._drop(
            trial.repeat_of,
            f"{trial.trial} {trial.outcome}: {last_line_of(trial.reason, 'no reason known')}",
        )

    def _drop(self, candidate: str, reason: str, pair: Comparison | None = None) -> None:
        if candidate not in self.race.out:
            facts = (
                {"difference": pair.difference, "error": pair.error, "p": pair.p}
                if pair is not None
                else {}
            )
            self.journal.append(
                "dropped", candidate=candidate, seeds=self.race.rounds, reason=reason, **facts
            )
            self._leave_race(candidate, reason, pair)
            self._withdraw()

    def _withdraw(self) -> None:
        """Trainings of who has left are not begun, or begun again, any more."""
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
