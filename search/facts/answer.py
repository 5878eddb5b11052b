"""Facts about a search's answer: the network or baseline that the search or its selection chose.

The facts are read from the journal and from files that the workers wrote.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from search.journal.result import SearchResult, TrialResult
from search.journal.store import DECISION
from search.spaces.find import file_of
from trainables.config import TrialConfig
from trainables.disk import read_regular
from trainables.fairness.groups import GROUPS
from trainables.messages import Cost
from trainables.values import Evaluation, Json, Params


@dataclass(frozen=True)
class AnswerEvidence:
    """An evaluation of the answer, on the test or the validation set."""

    part: str
    """`test` or `validation`."""
    evaluation: Evaluation
    """The known fields of the result of `trainables.evaluation.evaluate.evaluate`."""

    def has(self, name: str) -> bool:
        """True if this field is known and not empty."""
        return bool(self.evaluation.get(name))


def cost_of(result: SearchResult) -> Cost:
    """Return the size and inference time of the answer; empty if they were not measured.

    If a selection trained the answer and only its candidate was measured, the candidate's values
    are returned, since both have the same architecture.
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
    """Load the answer's evaluation on the test set or, before the test, on the validation set.

    The figures in the journal take precedence. Further figures are read from the worker's file, if
    that file agrees with the journal.

    Args:
        result: the search.
        folder: the search's folder; None to read only the journal.
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
    """Load the lines of the decision of `search.improve`; empty if it is missing or unreadable."""
    if folder is None:
        return []
    try:
        document = json.loads(read_regular(folder / DECISION))
        return [str(line) for line in document["text"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _written(trial: TrialResult, folder: Path, name: str) -> Evaluation:
    """Load the evaluation that a worker wrote; empty if it cannot be read.

    Searches of earlier versions have no such file. The evaluation may be that of another epoch.
    """
    try:
        document = json.loads(read_regular(folder / "trials" / trial.trial / "evidence" / name))
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def answer_trial(result: SearchResult) -> TrialResult | None:
    """Return the trial that is the answer: the candidate that a selection chose, or the best trial.

    If the answer is an ensemble, it is the best trial. None if no trial has a result.
    """
    answer = result.best if result.is_ensemble_chosen else result.chosen
    return result.trials.get(answer.repeat_of, answer) if answer is not None else None


def reference_rows(result: SearchResult) -> list[tuple[str, Params, TrialResult | None]]:
    """Return the configurations to compare, each as (title, params, trial or None).

    The first one is the best trial or, after a selection, the chosen training. If the answer is an
    ensemble, it is the first one, and the best trial the second one. The space's
    reference comes last; its trial is None if it was not tried. The reference of a built-in space
    applies only to the data set that it was published for, so it is left out for a user's images.
    """
    rows: list[tuple[str, Params, TrialResult | None]] = []
    if (answer := result.chosen) is not None:
        title = "ensemble" if result.is_ensemble_chosen else "found"
        rows.append(("chosen" if answer.repeat_of else title, answer.params, answer))
    if result.is_ensemble_chosen and (best := result.best) is not None:
        rows.append(("best trial", best.params, best))
    experiment = result.started.experiment
    space = experiment["space"]
    source = experiment.get("space_source", "")
    is_built_in = bool(source) and file_of(source) is None
    if space["reference"] and not (is_built_in and result.started.data["name"] == "folder"):
        same = (
            trial
            for trial in result.trials.values()
            if trial.config and _is_at(TrialConfig.from_dict(trial.config), space["reference"])
        )
        rows.append((space["reference_title"], space["reference"], next(same, None)))
    return rows


def _is_at(config: TrialConfig, reference: Params) -> bool:
    return all(config.value(path) == value for path, value in reference.items())


def evaluated_groups(result: SearchResult) -> tuple[Json, str]:
    """Return the latest evaluation of the answer, and the part of the data on which it was made.

    The part is `validation` or `test`. The evaluation is empty if it has no groups.
    """
    if (answer := result.chosen) is None:
        return {}, "validation"
    test = result.test_of(answer)
    val = answer.evaluation.val if answer.evaluation is not None else {}
    evaluation = test or val
    return evaluation if GROUPS in evaluation else {}, "test" if test else "validation"


def group_facts(result: SearchResult) -> Json:
    """Return the groups of the answer's latest evaluation for `--json`; empty without groups."""
    evaluation, part = evaluated_groups(result)
    return {GROUPS: {"part": part, **evaluation[GROUPS]}} if evaluation else {}
