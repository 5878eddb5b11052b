"""Sentences and tables about how far the answers of a registered model can be relied on."""

from dataclasses import dataclass

from trainables.errors import counted
from trainables.values import Json

PROMISE_TITLES = ("promise", "kept by", "on the images it was set with")
KIND_TITLES = ("made-up unlike images", "detected", "area under ROC", "area of the probability")
BIN_TITLES = (
    "probability",
    "images, before",
    "mean probability",
    "correct",
    "images, after",
    "mean probability",
    "correct",
)


def reliability_figures(facts: Json) -> dict[str, str]:
    """Describe how far a model's answers can be relied on, by title; empty if not measured.

    Args:
        facts: the facts about its probabilities and promises (`Exported.reliability`).
    """
    figures = {}
    if own := facts.get("calibration"):
        figures["calibration"] = calibration_text(own)
    if own := facts.get("max_error"):
        figures["answers"] = f"{_max_error_promise(own)}; it {_answered_text(own)}"
    if own := facts.get("coverage"):
        figures["sets"] = f"{_coverage_promise(own)}; {_sets_text(own)}"
    if own := facts.get("unlike"):
        areas = [kind["auc"] for kind in own["kinds"].values()]
        figures["unlike images"] = (
            f"reported at a false-alarm rate of {_percent(own['false_alarms'])} "
            f"({own['alarms']} of {own['of_images']:,} {own['part']} images), by the score "
            f"'{own['method']}': area under the ROC curve {min(areas):.2f} to {max(areas):.2f} for "
            f"{counted(len(areas), 'kind')} of made-up unlike images"
        )
    return figures


def calibration_text(own: Json) -> str:
    """Describe the calibration before and after the temperature in a clause."""
    before, after = own["before"], own["after"]
    fitted = ", to which the temperature was fitted" if own["part"] == "validation" else ""
    return (
        f"error {_error_text(after)}, before the temperature of {own['temperature']:.3g} "
        f"{_error_text(before)}; log loss {after['log_loss']:.3g}, before "
        f"{before['log_loss']:.3g}, on {own['images']:,} {own['part']} images{fitted}"
    )


def beyond_chance(values: Json) -> float:
    """Return a calibration error without the part that chance explains; at least 0."""
    return max(0.0, float(values["ece"]) - float(values["bias"]))


def _error_text(values: Json) -> str:
    """Format a calibration error: `0.031 (0.012 beyond chance)`."""
    return f"{values['ece']:.3f} ({beyond_chance(values):.3f} beyond chance)"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _max_error_promise(own: Json) -> str:
    return (
        f"with {100 * own['confidence']:g} % confidence, at most {_percent(own['asked'])} of them "
        "are wrong"
    )


def _answered_text(own: Json) -> str:
    share = own["answered"] / own["images"]
    return (
        f"answers {_percent(share)} of {own['images']:,} test images, {own['wrong']} of them "
        "wrongly, and abstains from the others"
    )


def _coverage_promise(own: Json) -> str:
    scope = "of the images of each class" if own["by_class"] else "of the images"
    return f"contain the true class of {_percent(own['asked'])} {scope}"


def _sets_text(own: Json) -> str:
    text = f"on average {own['mean_size']:.2f} classes, measured on {own['images']:,} test images"
    if own["without_limit"]:
        text += (
            f"; {counted(own['without_limit'], 'class')} with too few test images "
            f"{'is' if own['without_limit'] == 1 else 'are'} in every set"
        )
    return text


def promise_rows(facts: Json) -> list[tuple[str, str, str]]:
    """List the promises as rows of a table (`PROMISE_TITLES`); empty if none was made."""
    rows = []
    if own := facts.get("max_error"):
        promise = f"Answers: {_max_error_promise(own)}."
        threshold = f"a probability of at least {own['threshold']:.4g}"
        rows.append((promise, threshold, f"It {_answered_text(own)}."))
    if own := facts.get("coverage"):
        rows.append(
            (f"Sets of classes {_coverage_promise(own)}.", _limits_text(own), _sets_of(own))
        )
    if own := facts.get("unlike"):
        rows.append(
            (
                f"About {_percent(own['false_alarms'])} of ordinary images are reported as unlike "
                "those of the training.",
                f"a score ('{own['method']}') of at most {own['limit']:.4g}",
                f"It reports {own['alarms']} of {own['of_images']:,} {own['part']} images; the "
                f"limit was set with {counted(own['images'], 'validation image')}.",
            )
        )
    return rows


def _sets_of(own: Json) -> str:
    text = _sets_text(own)
    return f"{text[0].upper()}{text[1:]}."


def _limits_text(own: Json) -> str:
    limits = own["limits"]
    if not limits:
        return "no limit: too few images of each class"
    low, high = min(limits), max(limits)
    text = f"a probability of at least {low:.4g}"
    return text if low == high else f"{text} to {high:.4g}, by class"


def kind_rows(facts: Json) -> list[tuple[str, str, str, str]]:
    """List the kinds of unlike images as rows of a table (`KIND_TITLES`); empty without any."""
    return [
        (
            name,
            f"{100 * kind['detected']:.0f} %",
            f"{kind['auc']:.3f}",
            f"{kind['auc_probability']:.3f}",
        )
        for name, kind in facts.get("unlike", {}).get("kinds", {}).items()
    ]


@dataclass(frozen=True)
class CalibrationRow:
    """A calibration before or after the temperature, for the report."""

    title: str
    error: float
    """The expected calibration error."""
    beyond_chance: float
    log_loss: float


def calibration_rows(own: Json) -> list[CalibrationRow]:
    """List the calibration before and after the temperature."""
    return [
        CalibrationRow(title, own[name]["ece"], beyond_chance(own[name]), own[name]["log_loss"])
        for title, name in (("as trained", "before"), ("as registered", "after"))
    ]


def diagram_text(values: Json) -> str:
    """Describe a reliability diagram for people who cannot see it."""
    bins = values["bins"]
    rows = [
        f"{right / images:.0%} correct at a mean probability of {sure / images:.0%} "
        f"({images:,.0f} images)"
        for images, sure, right in zip(
            bins["images"], bins["confidence"], bins["right"], strict=True
        )
        if images
    ]
    return "; ".join(rows)


def bin_rows(own: Json) -> list[list[str]]:
    """List the bins of both reliability diagrams as rows of a table (`BIN_TITLES`).

    Bins without images are left out.
    """
    bins = [own[name]["bins"] for name in ("before", "after")]
    count = len(bins[0]["images"])
    return [
        [f"{number / count:.2f} to {(number + 1) / count:.2f}"]
        + [cell for values in bins for cell in _bin_cells(values, number)]
        for number in range(count)
        if any(values["images"][number] for values in bins)
    ]


def _bin_cells(values: Json, number: int) -> list[str]:
    images = values["images"][number]
    if not images:
        return ["0", "", ""]
    return [
        f"{images:,.0f}",
        f"{values['confidence'][number] / images:.1%}",
        f"{values['right'][number] / images:.1%}",
    ]
