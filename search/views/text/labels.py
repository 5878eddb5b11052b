"""Short texts on a search and its trials, such as a value with its deviation."""

import math
from collections.abc import Mapping
from typing import Any

from search.design.budget import shares_of, shares_text
from search.facts.parameters import param_text, searched, short_names
from search.journal.result import SearchResult, TrialResult, metric_of
from search.values.objectives import OBJECTIVES, goals_text, need_costs
from trainables.catalog.entries import Metric

AT_CHANCE = "at chance"
"""The mark in tables for trials that are not significantly better than guessing."""


MAY_BE_LUCK, NO_GAIN = "may be luck", "no gain"
"""The marks for a metric that is a gain over a method that learns nothing."""


def outcome_with_mark(trial: TrialResult, marked: set[str]) -> str:
    """Return a trial's outcome, followed by a mark if its name is in `marked`."""
    if trial.trial not in marked:
        return trial.outcome
    gain_mark = MAY_BE_LUCK if trial.value > 0 else NO_GAIN
    return f"{trial.outcome}, {gain_mark if trial.metric.is_gain else AT_CHANCE}"


def figure_text(trial: TrialResult, metric: Metric | None = None) -> str:
    """Format a trial's value on the validation set at its best epoch: `0.9721`.

    With folds, it is the mean and the sample standard deviation: `0.9721 ± 0.0080 (5 folds)`.

    Args:
        trial: the trial, which must have finished an epoch.
        metric: the metric to format; None for the one that ranks the trial's epochs.
    """
    metric = metric or trial.metric
    deviation = trial.best.get(metric.deviation_key)
    folds = (
        f" ± {deviation:.4f} ({trial.config['data']['folds']} folds)"
        if deviation is not None
        else ""
    )
    unit = f" {metric.unit}" if metric.unit else ""
    return f"{trial.best.get(metric.key, math.nan):.4f}{unit}{folds}"


def best_text(result: SearchResult) -> str:
    """Format the best trial so far: `best 0.9721 (t0003)`; empty if there is none."""
    best = result.best
    return f"best {figure_text(best)} ({best.trial})" if best is not None else ""


def used_text(result: SearchResult) -> str:
    """Format the used shares as `; used 43% of the 2h budget`; empty without a budget."""
    shares = shares_of(result)
    return f"; used {shares_text(shares)}" if shares else ""


def primary_text(trial: TrialResult | None) -> str:
    """Format a trial's primary metric like `reached_text`; another metric may rank the epochs."""
    return reached_text(trial, None if trial is None else trial.task.primary)


def reached_text(trial: TrialResult | None, metric: Metric | None = None) -> str:
    """Format a trial's value: `0.9721`, `0.8997 (stopped at epoch 3 of 20)`, or `not tried`."""
    if trial is None or not trial.epochs:
        return "not tried"
    stopped = (
        f" (stopped at epoch {len(trial.epochs)} of {trial.config['epochs']})"
        if trial.outcome == "stopped"
        else ""
    )
    return f"{figure_text(trial, metric)}{stopped}"


def reference_text(result: SearchResult, trial: TrialResult | None) -> str:
    """Format the value of a trial from `reference_rows`.

    After a selection, the value of the chosen training is its expected value over fresh seeds.
    """
    verdict = result.selection.verdict if result.selection is not None else None
    if trial is None or verdict is None or trial is not result.chosen:
        return reached_text(trial)
    return f"{verdict.expected.mean:.4f} (mean of {verdict.expected.seeds} seeds)"


def outcome_text(result: SearchResult) -> str:
    """Format the number of trials by outcome: `48 completed, 11 stopped, 1 diverged`."""
    order = (
        "completed",
        "stopped",
        "diverged",
        "failed",
        "interrupted",
        "running",
        "held",
        "pending",
    )
    counts = result.counts
    return (
        ", ".join(f"{counts[outcome]} {outcome}" for outcome in order if outcome in counts)
        or "no trials"
    )


def state_text(result: SearchResult) -> str:
    """Name the states of trials that were cut short: `stopped`, `held`, or `stopped or held`."""
    states = [state for state in ("stopped", "held") if state in result.counts]
    return " or ".join(states) or "stopped"


def strategy_text(experiment: Mapping[str, Any]) -> str:
    """Format the algorithm and the scheduler of a search: `bayes + asha`.

    A metric that is not the primary one is added, and so are further objectives: `bayes + asha, by
    macro F1, for low latency too`. `experiment` is the description in the journal.
    """
    goals = goals_text(experiment.get("objectives", ())[1:])
    metric = metric_of(experiment.get("base", {}))
    return (
        f"{experiment['algorithm']} + {experiment['scheduler']}"
        + ("" if metric.is_primary else f", by {metric.title}")
        + (f", for {goals} too" if goals else "")
    )


def classes_text(data: Mapping[str, Any]) -> str:
    """Format the number of classes as the start of a list, `10 classes, `; empty without any."""
    count = len(data["classes"])
    return f"{count:,} class{'es' * (count != 1)}, " if count else ""


def parts_text(data: Mapping[str, Any]) -> str:
    """Format the sizes of the splits: `1,079 training, 359 validation, 359 test images`.

    With folds, training and validation have one number: `1,438 in 4 folds, 359 test images`.
    """
    titles = (
        {"train": f"in {data['folds']} folds", "test": "test"}
        if data.get("folds")
        else {"train": "training", "val": "validation", "test": "test"}
    )
    return ", ".join(f"{data[part]:,} {title}" for part, title in titles.items()) + " images"


def model_text(trial: TrialResult) -> str:
    """Name the model of a trial, or the members of an ensemble: `the mean of t0003, t0007`."""
    if trial.members:
        return f"the mean of {', '.join(trial.members)}"
    return str(trial.config["model"]["name"])


def network_text(trial: TrialResult, result: SearchResult) -> str:
    """Format a trial's network and its searched options: `deep_cnn, layers 10, filter_size 3`."""
    names = short_names(searched(result))
    parts = [
        f"{names[path]} {param_text(value)}"
        for path, value in trial.params.items()
        if path.startswith("model.") and path != "model.name"
    ]
    return ", ".join([trial.config["model"]["name"], *parts])


def format_value(value: float, metric: Metric) -> str:
    """Format a metric's value for a sentence: `95.2%`, or `0.4878` if it is not a percentage."""
    return f"{100 * value:.1f}%" if metric.in_percent else f"{value:.4f}"


def interval_text(bounds: tuple[float, float] | None) -> str:
    """Format an interval: `95 % interval 0.9000 to 0.9500`, or `95 % interval not known`."""
    if bounds is None:
        return "95 % interval not known"
    return "95 % interval {:.4f} to {:.4f}".format(*bounds)


def with_article(metric: Metric) -> str:
    """Return the title of a metric with its article: `an accuracy`, `a macro F1`."""
    return f"{'an' if metric.title[0].lower() in 'aeiou' else 'a'} {metric.title}"


def capital(metric: Metric) -> str:
    """Return the title of a metric for the start of a sentence: `Accuracy`, `mAP50`."""
    title = metric.title
    return title if title[1:2].isupper() else title[0].upper() + title[1:]


def superlative(metric: Metric) -> str:
    """Return the word for the best of several values: `highest`, or `lowest` if lower is better."""
    return "highest" if metric.mode == "max" else "lowest"


def as_good(metric: Metric) -> str:
    """Return `as accurate` if the metric is a share of the images, otherwise `as good`."""
    return "as accurate" if metric.is_share else "as good"


def no_worse(result: SearchResult) -> str:
    """Phrase the condition of a Pareto front on the further objectives, such as `costs no more`."""
    names = result.further_objectives
    costs = ["costs no more"] if need_costs(names) else []
    measured = [name.replace("_", " ") for name in names if OBJECTIVES[name].is_measured]
    return " and ".join([*costs, *(f"has at least as high a {name}" for name in measured)])
