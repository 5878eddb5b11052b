"""The report as one self-contained HTML file, which needs neither a network nor the data set.

Its only script sorts and filters the table of trials; the page is complete without it.
"""

import base64
import functools
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

from markupsafe import Markup

from search.facts.answer import AnswerEvidence, answer_trial, decision, evidence, reference_rows
from search.facts.data import source_text
from search.facts.guessing import at_chance
from search.facts.importance import BEST_SHARE, MIN_TRIALS, importance
from search.facts.more_labels import labels_forecast
from search.facts.parameters import param_text, searched, short_names
from search.facts.selection import finalists
from search.facts.trials import is_baseline
from search.journal.result import PAGE, SearchResult
from search.journal.store import Home
from search.values.objectives import OBJECTIVES
from search.views.page import comparison, curves, data, explanation_panel, quality, sections
from search.views.page.figures import Picture, picture
from search.views.page.templates import template
from search.views.text import labels, reliability, robustness
from search.views.text.groups import group_sentences
from search.views.text.labels import reference_text
from search.views.text.tables import front_table, models_table
from search.views.text.terms import terms_of
from search.views.text.verdict import one_observation, tiles, verdict
from trainables.errors import counted
from trainables.values import Json

TEMPLATE = "page.html"
SCRIPT = Path(__file__).with_name("trials.js")
VISIBLE_TRIALS = 100
"""Number of trials that are visible at first; a click shows the others."""
CONSTANTS = {
    "visible": VISIBLE_TRIALS,
    "best_share": BEST_SHARE,
    "least_trials": MIN_TRIALS,
    "text": param_text,
    "count": counted,
    "words": labels,
    "robustness": robustness,
    "objectives": OBJECTIVES,
    "group_sentences": group_sentences,
    "reliability": reliability,
}
"""The values, functions and modules in the template that are equal for all searches."""


@functools.cache
def script() -> Markup:
    """Load the page's script, which is safe to embed, since it contains no text from users."""
    return Markup(SCRIPT.read_text(encoding="utf-8"))


def script_source() -> str:
    """Return the hash of the page's only script, as a source for a Content-Security-Policy."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script().encode()).digest()).decode()}'"


def render(
    result: SearchResult, folder: Path | None = None, pictures: Mapping[str, Picture] | None = None
) -> str:
    """Render the page as HTML. All text from users' files and names is escaped.

    Args:
        result: the search.
        folder: the search's folder, with the workers' files; None to use only the journal.
        pictures: all pictures, by name; None to draw them.
    """
    judgement, highlighted = evidence(result, folder), answer_trial(result)
    has_matrix, forecast = judgement.has("confusion_matrix"), labels_forecast(result)
    if pictures is None:
        pictures = of_search(result) | of_training(result) | of_answer(judgement)
    pictures = {**pictures, **of_registration(result)}
    return template(TEMPLATE).render(
        result=result,
        experiment=result.started.experiment,
        data=result.started.data,
        title=source_text(result.started.data),
        verdict=verdict(result, decision(folder)),
        tiles=tiles(result),
        finalists=finalists(result),
        references=reference_rows(result),
        compared_paths=_compared_paths(result),
        models=models_table(result),
        front=front_table(result),
        evidence=judgement,
        data_section=data.section(folder),
        explained=explanation_panel.section(folder, result.chosen.trial if result.chosen else ""),
        twins=data.twins(folder),
        mistakes=sections.mistakes(judgement.evaluation) if has_matrix else [],
        weakest=sections.weakest(judgement.evaluation) if has_matrix else [],
        has_networks=any(not is_baseline(trial) for trial in result.ranking),
        stops=sections.stops(result),
        failures=sections.failures(result),
        retried=sections.retried(result),
        trials=sections.trial_rows(result),
        at_chance=at_chance(result),
        highlighted=highlighted.trial if highlighted is not None else "",
        origin=sections.origin(result),
        script=script(),
        script_source=Markup(script_source()),
        paths=searched(result),
        names=short_names(searched(result)),
        reached=functools.partial(reference_text, result),
        metric=result.metric,
        classifies=result.task.load_targets().are_classes,
        terms=terms_of(result.task),
        pictures=pictures,
        edge=curves.worst_shown(result),
        times=sorted(set(comparison.measured_values(result).values())),
        corner=judgement.has("roc") and quality.corner(judgement.evaluation["roc"]) < 1,
        labels=forecast,
        trusted=sections.trusted_registration(result),
        observation=one_observation(result),
        observed=counted(len(result.distinct), one_observation(result)),
        **CONSTANTS,
    )


def write(
    result: SearchResult, folder: Path, path: Path, pictures: Mapping[str, Picture] | None = None
) -> None:
    """Write the search's page to `path` atomically, with these pictures or with new ones."""
    partial = path.with_name(f".{path.name}.{uuid4().hex[:8]}")
    partial.write_text(render(result, folder, pictures), encoding="utf-8")
    partial.replace(path)


def redraw(home: Home, result: SearchResult) -> None:
    """Write the page of a search again, if there is one, because files that it shows are new."""
    if PAGE in home.names():
        home.write(PAGE, render(result, home.opened(files=True)).encode())


def of_search(result: SearchResult, *, as_file: bool = False) -> dict[str, Picture]:
    """Draw the plots that compare trials, by name; those with nothing to compare are left out.

    With `as_file`, the learning curves are also encoded as a PNG file.
    """
    pictures: dict[str, Picture] = {}
    what = f"Validation {result.metric.title}"
    if rows := finalists(result):
        pictures["finalists"] = picture(
            functools.partial(comparison.finalists, rows, title=result.metric.title),
            "The candidates: value in the search, and mean of fresh seeds with its interval",
        )
    if len(set(comparison.measured_values(result).values())) > 1:
        pictures["pareto"] = picture(
            functools.partial(comparison.pareto, result),
            f"{what} against the time that one image takes, with the Pareto front",
        )
    for name in result.further_objectives:
        if name != "latency" and comparison.measured_values(result, name):
            drawn = functools.partial(comparison.pareto, result, name=name)
            pictures[f"pareto_{name}"] = picture(
                drawn, f"{what} against the {OBJECTIVES[name].summary}, with the Pareto front"
            )
    pictures |= _course(result, what, as_file=as_file)
    if len(result.ranking) > 1 and len(comparison.varied_axes(result)) > 1:
        pictures["parallel"] = picture(
            functools.partial(comparison.parallel, result),
            "Parallel coordinates: one axis per hyperparameter, one line per trial",
        )
    if (forecast := labels_forecast(result)) is not None:
        pictures["labels"] = picture(
            functools.partial(curves.labels_curve, forecast),
            "Accuracy by the number of training images, as measured and as forecast",
        )
    if shares := importance(result):
        names = short_names(searched(result))
        alt = "Importance: " + ", ".join(
            f"{names[path]} {share[0]:.0%}" for path, share in shares.items()
        )
        pictures["importance"] = picture(
            functools.partial(comparison.importance_bars, shares, names), alt
        )
    return pictures


def _course(result: SearchResult, what: str, *, as_file: bool) -> dict[str, Picture]:
    """Draw the learning curves (`curves`) and the best value so far (`progress`).

    If all trials are baselines, there are no learning curves, and `curves` is the best value so
    far.
    """
    in_turn = functools.partial(curves.best_so_far, result)
    caption = f"{what} of each trial in turn, and the best so far"
    if not result.ranking:
        return {}
    if all(map(is_baseline, result.ranking)):
        return {"curves": picture(in_turn, caption, as_file=as_file)}
    drawn = functools.partial(curves.search_curves, result)
    pictures = {"curves": picture(drawn, f"{what} by epoch, one line per trial", as_file=as_file)}
    return pictures | ({"progress": picture(in_turn, caption)} if len(result.ranking) > 1 else {})


def _compared_paths(result: SearchResult) -> list[str]:
    """Return the searched parameters of the configurations to compare (`reference_rows`)."""
    rows = reference_rows(result)
    return [path for path in searched(result) if any(path in params for _, params, _ in rows)]


def of_training(result: SearchResult, *, as_file: bool = False) -> dict[str, Picture]:
    """Draw the learning curves of the answer; empty if it was trained for less than two epochs."""
    answer = result.chosen
    if answer is None or len(answer.epochs) < 2:
        return {}
    alt = f"Loss and validation {result.metric.title} of {answer.trial} by epoch"
    return {"own": picture(functools.partial(curves.trial_curves, answer), alt, as_file=as_file)}


def of_calibration(calibration: Json, *, as_file: bool = False) -> dict[str, Picture]:
    """Draw the reliability diagrams of a registered model, before and after its temperature.

    With `as_file`, they are also encoded as PNG files.
    """
    return {
        f"calibration_{name}": picture(
            functools.partial(quality.reliability, calibration[name]),
            f"Reliability diagram {title}: {reliability.diagram_text(calibration[name])}",
            as_file=as_file,
        )
        for name, title in (("before", "as trained"), ("after", "as registered"))
    }


def of_registration(result: SearchResult) -> dict[str, Picture]:
    """Draw the reliability diagrams of the model that was registered last; empty without one."""
    registrations = result.registrations
    calibration = registrations[-1].event.reliability.get("calibration") if registrations else None
    return of_calibration(calibration) if calibration else {}


def of_answer(answer_evidence: AnswerEvidence, *, as_file: bool = False) -> dict[str, Picture]:
    """Draw the confusion matrix, the ROC curves and the reliability diagram of an evaluation.

    Those without data in the evaluation are left out. With `as_file`, the confusion matrix and the
    ROC curves are also encoded as PNG files.
    """
    drawn: dict[str, tuple[str, Any, str]] = {
        "confusion": (
            "confusion_matrix",
            quality.confusion,
            "Confusion matrix: true classes down, predicted ones across",
        ),
        "roc": ("roc", quality.roc, "ROC curves, one class against the rest"),
        "reliability": (
            "bins",
            quality.reliability,
            "Reliability diagram: accuracy by confidence",
        ),
    }
    return {
        name: picture(
            functools.partial(draw, answer_evidence.evaluation),
            alt,
            as_file=as_file and name != "reliability",
        )
        for name, (needed, draw, alt) in drawn.items()
        if answer_evidence.has(needed)
    }
