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
class AnswerEvidence:
    """An evaluation of the answer."""

    part: str
    """`test` or `validation`."""
    evaluation: Evaluation
    """The fields of `trainables.evaluation.evaluate.evaluate`, as far as they are known."""

    def has(self, name: str) -> bool:
        """True if this field is known and not empty."""
        return bool(self.evaluation.get(name))


def cost_of(result: SearchResult) -> Cost:
    """The cost of using the answer; empty where it was not measured.

    An answer that a selection trained has the cost of its candidate, which is the same network.
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


def evidence(result: SearchResult, folder: Path | None) -> AnswerEvidence:
    """Load the answer's evaluation on the test set, or on the validation set while that is sealed.

    It holds the journal's figures, and the worker's additional ones if they agree with these.

    Args:
        folder: the search's folder; without it, only the journal is read.
    """
    answer = result.chosen
    if answer is None:
        return AnswerEvidence("validation", {})
    test = result.chosen_test
    figures = test or (answer.evaluation.val if answer.evaluation is not None else {})
    written = (
        _written(answer, folder, "test.json" if test else "val.json") if folder is not None else {}
    )
    compared = ("images", result.task.primary.name, "classes")
    is_same = all(written.get(name) == figures.get(name) for name in compared)
    return AnswerEvidence(
        "test" if test else "validation", {**(written if is_same else {}), **figures}
    )


def decision(folder: Path | None) -> list[str]:
    """Load the lines of the decision of `search.improve`; empty before it, or if unreadable."""
    if folder is None:
        return []
    try:
        document = json.loads(read_regular(folder / DECISION))
        return [str(line) for line in document["text"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _written(trial: TrialResult, folder: Path, name: str) -> Evaluation:
    """Load the evaluation that a worker wrote; empty if it cannot be read.

    A search of an earlier version has none. The file may also belong to another epoch.
    """
    try:
        document = json.loads(read_regular(folder / "trials" / trial.trial / "evidence" / name))
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}
