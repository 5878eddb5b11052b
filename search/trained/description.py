"""The description of a registered model, with its figures and its usage, and its tags."""

from typing import TYPE_CHECKING

from cluster.secrets import redact
from search.facts.data import source_text
from search.facts.metric import tested_value
from search.facts.parameters import param_text
from search.journal.events import Selected
from search.journal.result import ENDED, SearchResult, TrialResult
from search.trained.answer import against_guessing
from search.views.text.labels import classes_text, figure_text, model_text
from search.views.text.reliability import reliability_figures
from search.views.text.sentences import against_text
from trainables.catalog.entries import Metric
from trainables.errors import printable
from trainables.predictors.base import JUDGEMENT_COLUMNS
from trainables.values import Evaluation

if TYPE_CHECKING:
    from trainables.export.export import Exported

LONGEST_PARAMS = 1000
"""The maximum number of characters for the searched values in a description."""


def describe_model(result: SearchResult, chosen: TrialResult, exported: "Exported") -> str:
    """Compose the description of a model for the registry, in Markdown and without secrets."""
    data = result.started.data
    params = ", ".join(f"{path} {param_text(value)}" for path, value in chosen.params.items())[
        :LONGEST_PARAMS
    ]
    rows = "\n".join(
        f"| {title} | {text} |" for title, text in model_figures(result, chosen, exported).items()
    )
    where = (
        f"`{chosen.trial}`"
        if chosen.members
        else f"trial {chosen.trial}"
        if not chosen.repeat_of
        else f"{chosen.trial}, the average of trainings in the selection"
        if result.selection is not None and chosen is result.selection.average
        else f"training {chosen.trial} of the selection"
    )
    text = f"""{model_text(chosen)}, {where} of the search **{result.name}** \
on the data set **{source_text(data)}** \
({classes_text(data)}fingerprint {data["fingerprint"]}).{not_complete(result, chosen)}

| | |
|---|---|
{rows}

Searched values: {params or ("those of its members" if chosen.members else "none")}.

{_images(chosen, exported)}{_drafts(result)}{_levels(exported)} It returns \
a table with a row for each image: {_columns(chosen, exported)}.{_needs(exported)}"""
    return redact(printable_lines(text))


def _images(chosen: TrialResult, exported: "Exported") -> str:
    """Describe the form in which the model takes images."""
    shape = " x ".join(map(str, exported.example.shape[1:]))
    return chosen.task.accepts.format(shape=shape)


def _columns(chosen: TrialResult, exported: "Exported") -> str:
    """List the columns of the table that the model returns, as Markdown."""
    columns = chosen.task.columns or ", ".join(f"`{column}`" for column in exported.columns)
    if not exported.promises.options:
        return columns
    added = [f"`{name}`" for name in JUDGEMENT_COLUMNS if name in exported.columns]
    return f"{columns}; {', '.join(added)}"


def _drafts(result: SearchResult) -> str:
    """Describe how large JPEGs were decoded for the training; empty unless the data is a folder."""
    targets = result.task.load_targets()
    if result.started.data["name"] != "folder" or targets.fills_up or targets.pads:
        return ""
    size = " x ".join(map(str, result.started.data["image"][1:]))
    return (
        " For the training, JPEGs of a million pixels or more that had to become much smaller "
        f"were decoded at a fraction of their size, then resized to {size} (height x width). If "
        "they are resized from their full size, some pixels differ slightly."
    )


def _levels(exported: "Exported") -> str:
    """Describe how to convert images of more than 8 bits; empty if the training images had 8."""
    if exported.value_range is None:
        return ""
    low, high = exported.value_range
    return (
        " The images of the training had more than 8 bits: convert values v to "
        f"255 * (v - {low:g}) / ({high:g} - {low:g}), clipped to 0 and 255."
    )


def _needs(exported: "Exported") -> str:
    return (
        ""
        if is_network(exported)
        else " It is not a network: loading it requires scikit-image, scikit-learn and skops."
    )


def is_network(exported: "Exported") -> bool:
    """True if the model runs in torch, false for a baseline."""
    return "torch" in exported.requirements


def printable_lines(text: str) -> str:
    """Remove all control characters except line ends."""
    return "\n".join(printable(line) for line in text.split("\n"))


def model_figures(
    result: SearchResult, chosen: TrialResult, exported: "Exported"
) -> dict[str, str]:
    """Return the figures of a model for its description, as a mapping from titles to texts."""
    where = "selection" if chosen.repeat_of else "search"
    measured = (
        ""
        if exported.value is None
        else f" in the {where}; {exported.value:.4f} as promoted, on {exported.images:,} images"
    )
    metric, primary = chosen.metric, chosen.task.primary
    figures = {} if metric.is_primary else {f"validation {metric.title}": figure_text(chosen)}
    figures[f"validation {primary.title}"] = figure_text(chosen, primary) + measured
    if folds := chosen.config["data"].get("folds"):
        figures["committee"] = f"{chosen.task.committee} {folds} models, one trained for each fold"
    if chosen.repeat_of and result.selection is not None and result.selection.verdict is not None:
        figures["expected value"] = expected_text(result.selection.verdict)
    if (compared := against_guessing(result, chosen)) is not None:
        figures["guessing"] = against_text(compared, chosen.trial)
    figures |= _test_figures(result.test_of(chosen), metric, primary)
    return (
        figures | reliability_figures(exported.reliability) | _computing_figures(chosen, exported)
    )


def _computing_figures(chosen: TrialResult, exported: "Exported") -> dict[str, str]:
    """Return texts on the inference time and numerical accuracy of each exported form, by title."""
    if not is_network(exported):
        return {
            "time": (
                f"{_times(exported.inference)}, from pixels in memory to probabilities on one "
                "thread of a CPU, features included"
            )
        }
    what = chosen.task.output
    figures = {
        "torch": (
            f"{_times(exported.inference)}, from pixels in memory to {what} on one thread of a CPU"
        )
    }
    if exported.onnx_inference is not None:
        beside = f"{what} differ from torch's by at most {exported.onnx_difference:.1g}"
        figures["ONNX"] = f"{_times(exported.onnx_inference)}, the same in onnxruntime; {beside}"
    is_half = exported.precision in ("bf16", "fp16")
    trained = (
        (
            f" (it was trained in {exported.precision}: {what} differ from that by at most "
            f"{exported.difference:.2g})"
        )
        if is_half
        else ""
    )
    return figures | {"pixels": f"float32{trained}"}


def _test_figures(test: Evaluation, metric: Metric, primary: Metric) -> dict[str, str]:
    """Format the metric and the primary metric on the test set; return the texts by title."""
    if not test:
        return {f"test {metric.title}": "the test set was not used for it"}
    values = {
        f"test {metric.title}": tested_value(test, metric),
        f"test {primary.title}": test[primary.name],
    }
    return {title: f"{value:.4f} on {test['images']:,} images" for title, value in values.items()}


def not_complete(result: SearchResult, chosen: TrialResult) -> str:
    """Return a sentence on the outcome if the search is not complete; empty if it is."""
    best = ": this is the best so far" if chosen is result.chosen else ""
    return (
        "" if result.outcome in ENDED else f" The search is not complete ({result.outcome}){best}."
    )


def expected_text(verdict: Selected) -> str:
    """Format an expected value: `0.9701, 95 % interval 0.9650 to 0.9740, from 5 fresh seeds`."""
    expected = verdict.expected
    return (
        f"{expected.mean:.4f}, {100 * verdict.level:g} % interval {expected.low:.4f} to "
        f"{expected.high:.4f}, from {expected.seeds} fresh seeds"
    )


def _times(inference: dict[str, dict[str, float]]) -> str:
    """Format inference times: `0.21 ms per image alone, 0.034 ms in batches of 64`."""
    words = {"batch_1": "ms per image alone", "batch_64": "ms in batches of 64"}
    medians = {words[size]: times["median_ms"] for size, times in inference.items()}
    return ", ".join(
        f"{f'{ms:,.0f}' if ms >= 1000 else f'{ms:.3g}'} {word}" for word, ms in medians.items()
    )


def tags(result: SearchResult, chosen: TrialResult) -> dict[str, str]:
    """Return the tags of a model version, which identify its search, its trial and its task."""
    by = {} if chosen.metric.is_primary else {"search.metric": chosen.metric.name}
    if not chosen.task.is_implied:
        by["search.task"] = chosen.task.name
    return {
        "search.name": result.name,
        "search.id": result.started.id,
        "search.trial": chosen.trial,
        **by,
    }
