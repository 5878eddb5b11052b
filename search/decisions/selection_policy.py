"""The policy of a selection: what is trained next, and which candidates are dropped.

See `search.decisions.selection`.
"""

from collections.abc import Collection, Iterator
from pathlib import Path

from search.decisions.policy import Decisions, Record
from search.decisions.selection import Race
from search.design.experiment import Experiment
from search.journal.events import Concluded, Dropped, Ended, EventData, Finished, Suggested
from search.journal.result import FAILED, SearchResult, Selection, TrialResult
from search.schedulers.base import Setting, Stop
from search.schedulers.fifo import Fifo
from search.values.statistics import Comparison
from search.values.wording import last_line_of
from trainables.config import TrialConfig
from trainables.errors import ConfigError
from trainables.messages import Cost, WarmStartSource

MAX_SEED = 2**31
"""All seeds are below this number."""


def training_name(candidate: str, number: int) -> str:
    """Return the name of a candidate's training with seed `number` (from 1), such as `t0007-s2`."""
    return f"{candidate}-s{number}"


def seed_number(name: str) -> int:
    """Return the number of the seed in a training's name."""
    return int(name.rpartition("-s")[2])


def deciding_comparison(dropped: Dropped) -> Comparison | None:
    """Return the comparison by which a candidate was dropped; None for one that failed."""
    if dropped.difference is None or dropped.error is None or dropped.p is None:
        return None
    return Comparison(dropped.difference, dropped.error, dropped.p)


class SelectionPolicy:
    """The policy of one selection; its trials are the trainings of the candidates."""

    by = "the race"
    more_later = may_wait = False
    at_rung: frozenset[str] = frozenset()
    outcome, risk = ("completed", ""), None

    def __init__(self, experiment: Experiment, record: Record) -> None:
        self.experiment, self.record = experiment, record
        self.scheduler = Fifo(Setting(experiment.horizon))
        self.metric = experiment.base.ranked_by
        self.race = Race([], 0, images=1)
        self._failed: list[TrialResult] = []
        """Failed trainings whose candidates have not been dropped yet."""

    @property
    def result(self) -> SearchResult:
        """The search so far."""
        return self.record.result

    @property
    def selection(self) -> Selection:
        """The selection so far; it must have started."""
        assert self.result.selection is not None
        return self.result.selection

    @property
    def trials(self) -> dict[str, TrialResult]:
        """The trainings of this race; empty before it has started.

        Trainings of earlier races, with other candidates or more seeds, are left out.
        """
        race, selection = self.race, self.result.selection
        repeats = selection.repeats if selection is not None else {}
        return {
            name: trial
            for name, trial in repeats.items()
            if trial.repeat_of in race.scores and seed_number(name) <= race.seeds
        }

    def extend(self, experiment: Experiment) -> None:
        """Replace the experiment; the terms of the race stay the same."""
        self.experiment = experiment

    def begin(self) -> Decisions:
        """Restore the race from its trainings, and drop candidates whose trainings failed."""
        terms = self.selection.started
        self.race = Race(terms.candidates, terms.seeds, terms.alpha, images=self.result.steps)
        for name in self.race.candidates:
            if (dropped := self.selection.dropped.get(name)) is not None:
                self._leave_race(dropped)
        for name, trial in self.trials.items():
            if trial.outcome == "completed":
                self.race.scores[trial.repeat_of][seed_number(name)] = trial.score
        for trial in [trial for trial in self.trials.values() if trial.outcome in FAILED]:
            yield from self._drop_failed(trial)

    def receive(self, data: EventData) -> None:
        """Update the race with an event: a training has ended, or a candidate was dropped."""
        match data:
            case Dropped() if data.candidate in self.race.scores:
                self._leave_race(data)
            case Ended() if (ended := self.trials.get(data.trial)) is not None:
                if ended.outcome == "completed":
                    self.race.scores[ended.repeat_of][seed_number(data.trial)] = ended.score
                elif ended.outcome in FAILED:
                    self._failed.append(ended)

    def ranked(self, candidate: str) -> list[TrialResult]:
        """Return a candidate's completed trainings, the best first.

        Those whose checkpoints were removed come last.
        """
        completed = (
            trial
            for trial in self.trials.values()
            if trial.repeat_of == candidate and trial.outcome == "completed"
        )
        return sorted(
            completed,
            key=lambda trial: (not trial.is_freed, trial.metric.rank(trial.best)),
            reverse=True,
        )

    @property
    def best(self) -> dict[str, TrialResult]:
        """The best training of each candidate in the race, if any of its trainings completed."""
        return {
            candidate: ranked[0]
            for candidate in self.race.alive
            if (ranked := self.ranked(candidate))
        }

    def _open(self) -> Iterator[tuple[str, int]]:
        """Yield (candidate, seed number) of each training that is not proposed yet.

        All candidates get the first seed, then all get the second, and so on.
        """
        for number in range(1, self.race.seeds + 1):
            for candidate in self.race.alive:
                if training_name(candidate, number) not in self.selection.repeats:
                    yield candidate, number

    @property
    def more_now(self) -> bool:
        """True if a candidate in the race does not have all seeds yet."""
        return next(self._open(), None) is not None

    @property
    def ahead(self) -> int:
        """The number of trainings that are not proposed yet."""
        return sum(1 for _ in self._open())

    def propose(self, *, idle: bool) -> Decisions:
        """Propose the next training."""
        while (following := next(self._open(), None)) is not None:
            candidate, number = following
            original = self.result.trials[candidate]
            seed = self._seed(number)
            try:
                config = TrialConfig.from_dict(original.config).override({"seed": seed})
            except ConfigError as error:  # after a change of code an old config may be invalid
                yield from self._drop(candidate, str(error))
                continue
            yield Suggested(
                trial=training_name(candidate, number),
                params=original.params,
                config=config.to_dict(),
                repeat_of=candidate,
                seed=seed,
            )

    def _seed(self, number: int) -> int:
        """Return the seed with this number, which is the same for all candidates.

        A new seed is the first one above the search's own seed that no training has used.
        """
        drawn = {
            seed_number(name): int(trial.config["seed"])
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
        """Return the reason to stop a training, if its candidate was dropped; otherwise None."""
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
        """Drop the candidate of a training that failed or diverged."""
        return self._drop(
            trial.repeat_of,
            f"{trial.trial} {trial.outcome}: {last_line_of(trial.reason, 'no reason known')}",
        )

    def _drop(self, candidate: str, reason: str, pair: Comparison | None = None) -> Decisions:
        if candidate not in self.race.out:
            facts = vars(pair) if pair is not None else {}
            yield Dropped(candidate, self.race.rounds, reason, **facts)

    def _leave_race(self, dropped: Dropped) -> None:
        self.race.out[dropped.candidate] = dropped.reason
        if (pair := deciding_comparison(dropped)) is not None:
            self.race.worse[dropped.candidate] = pair

    def last_word(self, outcome: str, reason: str) -> Finished | Concluded:
        """Create the last event of the selection."""
        return Concluded(outcome, reason)

    def cost(self, trial: str, measured: Cost | None) -> Decisions:
        """Decide nothing: the search has measured the cost of each candidate."""
        yield from ()

    def wants_cost(self, config: TrialConfig) -> bool:
        """Return False: the search has measured the cost of each candidate."""
        return False

    def must_wait(self, trial: str, active: Collection[str], pending: Collection[str]) -> bool:
        """Return False: trainings with different seeds share nothing."""
        return False

    def beginnings(self, trial: str) -> list[WarmStartSource]:
        """Return an empty list: a training with a fresh seed starts from the beginning."""
        return []

    def milestones(self, config: TrialConfig) -> list[int]:
        """Return an empty list: no other training continues from this one."""
        return []

    def save(self, folder: Path) -> None:
        """Save nothing."""
