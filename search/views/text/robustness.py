"""Sentences and tables about the evaluations of `--evaluate`."""

from collections.abc import Iterator
from dataclasses import dataclass

from search.journal.result import SearchResult, TrialResult
from search.values.statistics import share_interval
from search.views.text.labels import model_text
from trainables.errors import counted
from trainables.robustness.stress_tests import ATTACKED, CORRUPTED
from trainables.values import Json

METHOD_TITLES = {
    "fgsm": "FGSM (one step)",
    "pgd": "PGD",
    "square": "squares, without gradients",
}


@dataclass(frozen=True)
class CorruptionRow:
    """The accuracy on images with one corruption, for the report."""

    name: str
    accuracies: list[float]
    """The accuracies of the severities 1 to 5."""
    mean: float


def corruption_rows(summary: Json) -> list[CorruptionRow]:
    """List the corruptions, the most harmful first."""
    rows = [
        CorruptionRow(name.replace("_", " "), values, sum(values) / len(values))
        for name, values in summary["table"].items()
    ]
    return sorted(rows, key=lambda row: row.mean)


def attack_rows(summary: Json) -> list[list[str]]:
    """List the attacks as rows of a table, the first of which has the titles."""
    rows = [["attack", "each value changes by", "steps x starts", "accuracy", "95 % interval"]]
    images = summary["images"]
    for row in summary["table"]:
        low, high = share_interval(row["accuracy"], images)
        rows.append(
            [
                METHOD_TITLES[row["method"]],
                _limit_text(row["epsilon"]),
                f"{row['steps']} x {row['restarts']}",
                f"{row['accuracy']:.1%}",
                f"{low:.1%} to {high:.1%}",
            ]
        )
    return rows


def _limit_text(epsilon: float) -> str:
    return f"{255 * epsilon:g}/255"


def corruption_text(summary: Json) -> str:
    """Describe the accuracy on corrupted images in a sentence."""
    if "reason" in summary:
        return f"not measured on corrupted images: {summary['reason']}."
    interval = (
        f" (95 % interval {summary['low']:.1%} to {summary['high']:.1%})"
        if summary["low"] is not None
        else ""
    )
    worst = corruption_rows(summary)[0]
    return (
        f"classifies {summary['accuracy']:.1%} of corrupted images correctly{interval}, and "
        f"{summary['clean']:.1%} of the same {counted(summary['images'], 'image')} without "
        f"corruptions; {worst.name} harms most ({worst.mean:.1%})."
    )


def attack_text(summary: Json) -> str:
    """Describe the accuracy under attacks in a sentence or two."""
    if "reason" in summary:
        return f"cannot be attacked: {summary['reason']}."
    of_limits: dict[float, list[float]] = {}
    for row in summary["table"]:
        of_limits.setdefault(row["epsilon"], []).append(row["accuracy"])
    lowest = " and ".join(
        f"{min(values):.1%} (by up to {_limit_text(epsilon)})"
        for epsilon, values in of_limits.items()
    )
    return (
        f"classifies {summary['clean']:.1%} of {counted(summary['images'], 'image')} correctly, "
        f"and at most {lowest} if an attacker changes each value of their pixels."
        f"{masked_text(summary)}"
    )


def masked_text(summary: Json) -> str:
    """Warn of hidden gradients in a sentence with a leading space; empty if there are none."""
    if not summary["masked"]:
        return ""
    limits = " and ".join(map(_limit_text, summary["masked"]))
    return (
        f" At {limits}, the attack without gradients is stronger than PGD: the network hides its "
        "gradients, and may be weaker than measured."
    )


TEXTS = {CORRUPTED: corruption_text, ATTACKED: attack_text}


def robustness_lines(result: SearchResult) -> Iterator[str]:
    """Yield a sentence on each evaluation of `--evaluate`, those of the answer first."""
    for trial in robust_trials(result):
        for evaluation, summary in trial.robustness.items():
            yield f"{trial.trial} {TEXTS[evaluation](summary)}"


def robust_trials(result: SearchResult) -> list[TrialResult]:
    """List the trials that have an evaluation of `--evaluate`, the answer first."""
    answer = result.chosen
    trials = [trial for trial in result.ranking if trial is not answer]
    return [trial for trial in ([answer] if answer else []) + trials if trial.robustness]


def comparison_rows(result: SearchResult) -> list[list[str]]:
    """Compare the trials with evaluations as rows of a table; empty for a single trial."""
    trials = robust_trials(result)
    if len(trials) < 2:
        return []
    rows = [["trial", "model", f"val {result.metric.title}", "corrupted", "attacked"]]
    return rows + [
        [
            trial.trial,
            model_text(trial),
            f"{trial.value:.4f}",
            _corrupted_value(trial.robustness.get(CORRUPTED, {})),
            _attacked_value(trial.robustness.get(ATTACKED, {})),
        ]
        for trial in trials
    ]


def _corrupted_value(summary: Json) -> str:
    return f"{summary['accuracy']:.1%}" if "accuracy" in summary else ""


def _attacked_value(summary: Json) -> str:
    """Format the lowest accuracy under the attacks."""
    values = [row["accuracy"] for row in summary.get("table", [])]
    return f"{min(values):.1%}" if values else ""
