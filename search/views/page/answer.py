"""Facts about the answer: the network or baseline that the search, or its selection, chose.

They come from the journal and from the workers' files.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from search.journal.result import SearchResult, TrialResult
from search.journal.store import DECISION
from trainables.disk import read_regular
from trainables.messages import Cost
from trainables.values import Evaluation


@dataclass(frozen=True)
class Evidence:
    """An evaluation of the answer."""

    part: str
    """`test` or `validation`."""
    found: Evaluation
    """The fields of `trainables.evaluation.evaluate.evaluate`, as far as they are known."""

    def has(self, name: str) -> bool:
        """Return whether this field is there, and not empty."""
        return bool(self.found.get(name))


def cost_of(result: SearchResult) -> Cost:
    """Return the cost of using the answer; empty where it was not measured.

    An answer trained for a selection has the cost of its candidate, which is the same network.
    """
    answer = result.chosen
    candidate = result.trials.get(answer.repeat_of) if answer is not None else None
    return next(
        (
            trial.evaluation.cost
            for trial in (answer, candidate)
            if trial is not None and trial.evaluation is not None
        ),
        Cost(),
    )


def evidence(result: SearchResult, folder: Path | None) -> Evidence:
    """Return the answer's evaluation.

    It is on the test part, or on the validation part while the test part is sealed. It holds the
    journal's figures, and what the worker wrote beside them if it agrees with these.

    Args:
        folder: the search's folder; without it, only the journal is read.
    """
    answer = result.chosen
    if answer is None:
        return Evidence("validation", {})
    test = result.chosen_test
    known = test or (answer.evaluation.val if answer.evaluation is not None else {})
    written = (
        _written(answer, folder, "test.json" if test else "val.json") if folder is not None else {}
    )
    told = ("images", result.task.primary.name, "classes")
    is_same = all(written.get(name) == known.get(name) for name in told)
    return Evidence("test" if test else "validation", {**(written if is_same else {}), **known})


def decision(folder: Path | None) -> list[str]:
    """Return the lines with what `search.improve` has decided; empty before, or if not readable."""
    if folder is None:
        return []
    try:
        found = json.loads(read_regular(folder / DECISION))
        return [str(line) for line in found["text"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _written(trial: TrialResult, folder: Path, name: str) -> Evaluation:
    """Return what a worker wrote about an evaluation; empty if there is none to read.

    A search of an earlier version has none. The file may also be of another epoch.
    """
    try:
        found = json.loads(read_regular(folder / "trials" / trial.trial / "evidence" / name))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
