"""The standing of a search: it runs, has ended, or waits to be continued."""

import time
from dataclasses import dataclass
from enum import Enum
from typing import Self

from search.decisions.refinement import refinement_facts
from search.facts.guessing import above_chance
from search.facts.selection import average_facts
from search.facts.summary import metric_facts, registration_facts, request_facts
from search.facts.trials import deviation
from search.journal.guessing import answer_against
from search.journal.result import ENDED, SearchResult
from search.journal.store import Home, Storage
from search.values.objectives import value_of
from search.values.wording import DEFAULT_STORAGE


class Stage(Enum):
    """The current stage of a search."""

    RUNNING = "running"
    SELECTING = "choosing"
    """The search has ended, and its selection runs."""
    OVER = "over"
    HALTED = "halted"
    """No driver runs the search, but it can be continued."""


@dataclass(frozen=True)
class SearchStanding:
    """The state of a search at one moment, and the driver that runs it."""

    name: str
    """The name with which commands refer to the search."""
    result: SearchResult
    holder: str = ""
    """The driver that runs the search or its selection; empty if there is none."""
    storage: Storage = DEFAULT_STORAGE

    @classmethod
    def read(cls, name: str, home: Home, storage: Storage) -> Self:
        """Read a search from its home."""
        return cls(name, *SearchResult.kept_in(home), storage)

    @property
    def stage(self) -> Stage:
        """The current stage.

        A driver may hold the lease of an ended search without running it, for example to remove
        checkpoints. Then the stage is still `OVER`.
        """
        if self.holder and self.result.current_sessions is not self.result.sessions:
            return Stage.SELECTING
        if self.result.outcome in ENDED:
            return Stage.OVER
        return Stage.RUNNING if self.holder else Stage.HALTED

    @property
    def cut_off_s(self) -> float | None:
        """Seconds since the last event of a search whose driver died; None if it did not die."""
        if self.result.outcome != "running" or self.stage is not Stage.HALTED:
            return None
        return max(0.0, time.time() - self.result.sessions[-1].last_ms / 1000)


def standing_json(standing: SearchStanding) -> dict[str, object]:
    """Convert the standing of a search to JSON-compatible values."""
    result = standing.result
    trials = {
        name: {
            "outcome": trial.outcome,
            "reason": trial.reason,
            "kind": trial.kind,
            "epochs": len(trial.epochs),
            "attempt": trial.attempt,
            "retries": trial.retries,
            value_of(trial.task.primary.name): trial.primary_value if trial.epochs else None,
            "value": trial.value if trial.epochs else None,
            **deviation(trial),
        }
        for name, trial in result.trials.items()
    }
    facts: dict[str, object] = {
        "name": result.name,
        **metric_facts(result.metric),
        "outcome": result.outcome,
        "reason": result.reason,
        "holder": standing.holder,
        "counts": result.counts,
        "above_chance": above_chance(answer_against(result)),
        "risk": result.risk.chance if result.risk is not None else None,
        "requests": request_facts(result),
        "trials": trials,
    }
    facts |= refinement_facts(result) | registration_facts(result)
    if (selection := result.selection) is None:
        return facts
    trainings = {name: training.outcome for name, training in selection.repeats.items()}
    chosen = {key: getattr(selection.verdict, key, None) for key in ("candidate", "trial")}
    return {
        **facts,
        "selection": {
            "outcome": selection.outcome,
            "reason": selection.reason,
            "trainings": trainings,
            **average_facts(selection),
            **chosen,
        },
    }
