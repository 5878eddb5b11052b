"""What is known of the answer, the network or baseline that the search (or its selection) chose:
from the journal, and from the workers' files.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search.journal.result import SearchResult, TrialResult


@dataclass(frozen=True)
class Evidence:
    """An evaluation of the answer."""

    part: str
    """`test` or `validation`."""
    found: dict[str, Any]
    """As `trainables.evaluation.evaluate.evaluate` gives it, as far as it is there."""

    def has(self, name: str) -> bool:
        """Whether this is there, and not empty."""
        return bool(self.found.get(name))


def cost_of(result: SearchResult) -> dict[str, Any]:
    """What the answer costs to use; of a training for a selection what its candidate costs, the
    same network. Empty where it was not measured.
    """
    answer = result.chosen
    candidate = result.trials.get(answer.repeat_of) if answer is not None else None
    found: dict[str, Any] = next(
        (
            trial.evaluation["cost"]
            for trial in (answer, candidate)
            if trial is not None and trial.evaluation
        ),
        {},
    )
    return found


def evidence(result: SearchResult, folder: Path | None) -> Evidence:
    """The answer on the test part, or while that is sealed on the validation part: the journal's
    figures, and what its worker wrote beside them.
    """
    answer = result.chosen
    if answer is None:
        return Evidence("validation", {})
    test = result.chosen_test
    known = test or answer.evaluation.get("val", {})
    written = (
        _written(answer, folder, "test.json" if test else "val.json") if folder is not None else {}
    )
    is_same = all(
        written.get(name) == known.get(name) for name in ("images", "accuracy", "classes")
    )
    return Evidence("test" if test else "validation", {**(written if is_same else {}), **known})


def _written(trial: TrialResult, folder: Path, name: str) -> dict[str, Any]:
    """What a worker wrote of an evaluation; empty where that is not to be had: an old search has
    none, and it may be of another epoch.
    """
    try:
        found = json.loads(
            (folder / "trials" / trial.trial / "evidence" / name).read_text(encoding="utf-8")
        )
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
