"""Plots of learning curves (of all trials, and of one trial) and of the best value so far."""

from collections.abc import Iterator
from itertools import chain
from typing import Any

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from search.facts.answer import answer_trial
from search.facts.more_labels import LabelsForecast
from search.facts.series import BestSoFar, lowest_visible
from search.facts.trials import is_baseline
from search.journal.guessing import Guessing
from search.journal.result import SearchResult, TrialResult
from search.views.page.figures import (
    ANSWER,
    FAINT,
    INK,
    MANY,
    NARROW,
    SECOND,
    STRONG,
    WIDE,
    Figure,
    Value,
    arrange,
    canvas,
    label,
    styled,
)
from search.views.text.labels import state_text
from trainables.catalog.entries import Metric
from trainables.catalog.guesses import Guess

DENSE, DENSE_PIXELS = 1000, 100
"""With more than `DENSE` curves, the lines merge into an area. Then a resolution of `DENSE_PIXELS`
per inch looks the same as one of `PIXELS`, and drawing takes two thirds of the time.
"""
WORST_SHARE = 0.25
"""Share of the trials that may lie outside the plot, the worst ones first. If all were inside, the
good ones could not be distinguished.
"""


@styled
def search_curves(result: SearchResult, narrow: bool = False) -> Figure:
    """Plot the metric on the validation set by epoch, with a line for each trial.

    Colours distinguish the best, the completed and the stopped or paused trials. A dashed line is
    the value of the best baseline, a dotted line that of the best guess.
    """
    figure, axes = canvas(*((NARROW, 3.6) if narrow else (WIDE, 4.6)))
    best, handles = answer_trial(result), []
    networks = [trial for trial in result.ranking if not is_baseline(trial)]
    if len(networks) > DENSE:
        figure.pixels = DENSE_PIXELS
    for colour, name, is_cut_short in (
        (FAINT, state_text(result), True),
        (STRONG, "completed", False),
    ):
        trials = [
            trial
            for trial in networks
            if (trial.outcome != "completed") == is_cut_short and trial is not best
        ]
        if trials:
            _lines(axes, trials, colour)
            handles.append(Line2D([], [], color=colour, label=name))
    if best is not None and not is_baseline(best):
        epochs, values = _curve(best)
        axes.plot(
            epochs,
            values,
            color=ANSWER,
            linewidth=2.4,
            marker="o",
            markersize=4 if len(epochs) < 40 else 0,
            zorder=4,
        )
        is_chosen = result.chosen is not None and bool(result.chosen.repeat_of)
        title = "chosen" if is_chosen else "best"
        handles.append(Line2D([], [], color=ANSWER, linewidth=2.4, label=f"{title}: {best.trial}"))
    baseline = next((trial for trial in result.ranking if is_baseline(trial)), None)
    if baseline is not None:
        axes.axhline(baseline.value, color=SECOND, linestyle="--", linewidth=1.4)
        handles.append(
            Line2D(
                [],
                [],
                color=SECOND,
                linestyle="--",
                label=f"best baseline: {baseline.config['model']['name']}",
            )
        )
    if best is not None:
        figure.tell_each(axes, chain.from_iterable(map(_epoch_values, [best, *result.ranking])))
    axes.autoscale()
    handles += _draw_guess(axes, result)
    axes.set(xlabel="epoch", ylabel=f"validation {result.metric.title}", ylim=_ends(result))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    return arrange(figure, handles, 2 if narrow else 4)


def _ends(result: SearchResult) -> list[float]:
    """Return the limits of the vertical axis; some of the worst trials may lie outside."""
    metric = result.metric
    low = metric.score(worst_shown(result))
    high = max([trial.score for trial in result.ranking], default=1.0)
    if (guess := _guess(result)) is not None:
        high = max(high, metric.score(guess.val[metric.name]))
    scores = (low, high + 0.04 * (high - low)) if high > low else (high - 0.1, high + 0.1)
    return within(metric, *sorted(map(metric.score, scores)))


def within(metric: Metric, low: float, high: float) -> list[float]:
    """Clip the limits of an axis to the metric's range, with a small margin.

    The margin keeps lines at the ends of the range visible.
    """
    pad = 0.02 * (high - low)
    return [max(low, metric.limits[0] - pad), min(high, metric.limits[1] + pad)]


def _guess(result: SearchResult) -> Guess | None:
    """Return the best guess on the validation set; None if the values of guessing are not known."""
    guessing = Guessing.of(result)
    return guessing.best("val") if guessing is not None else None


def _draw_guess(axes: Any, result: SearchResult) -> list[Line2D]:
    """Draw a line at the value of the best guess, and return its handle for the legend.

    The list is empty if the values of guessing are not known. The line may lie outside the limits
    of the axis, but the label of the handle contains its value.
    """
    if (guess := _guess(result)) is None:
        return []
    value = guess.val[result.metric.name]
    axes.axhline(value, color=INK, linestyle=":", linewidth=1.4)
    text = f"{label(guess.title, 24)}: {value:.3g}"
    return [Line2D([], [], color=INK, linestyle=":", label=text)]


def worst_shown(result: SearchResult) -> float:
    """Return the value at the worse end of the vertical axis of `search_curves`.

    It is the lower end, or the upper end if lower values are better; 0 without ranked trials.
    """
    if not result.ranking:
        return 0.0
    metric, scores = result.metric, [trial.score for trial in result.ranking]
    best = map(metric.score, _curve(result.ranking[0])[1])
    worst = lowest_visible(scores, WORST_SHARE, list(best))
    return metric.score(worst - 0.04 * (max(scores) - worst))


@styled
def best_so_far(result: SearchResult, narrow: bool = False) -> Figure:
    """Plot each trial's value in the order of proposal, and the best value so far."""
    figure, axes = canvas(*((NARROW, 3.2) if narrow else (WIDE, 3.4)))
    metric, counted = result.metric, {trial.trial for trial in result.ranking}
    trials = [
        (number, trial)
        for number, trial in enumerate(result.trials.values(), 1)
        if trial.trial in counted
    ]
    places, values = [number for number, _ in trials], [trial.value for _, trial in trials]
    best, reached = BestSoFar(metric), list[float]()
    for value in values:
        best.add(value)
        reached.append(best.value)
    axes.plot(
        places, values, "o", color=STRONG, markersize=4, alpha=0.65, rasterized=len(trials) > MANY
    )
    axes.step(
        [*places, len(result.trials)],
        [*reached, reached[-1]],
        where="post",
        color=ANSWER,
        linewidth=2,
    )
    figure.tell_each(axes, map(_place_value, trials, reached))
    axes.set(xlabel="trials proposed", ylabel=f"validation {metric.title}", ylim=_ends(result))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    handles = [
        Line2D([], [], color=STRONG, marker="o", linestyle="none", label="trial"),
        Line2D([], [], color=ANSWER, linewidth=2, label="best so far"),
        *_draw_guess(axes, result),
    ]
    return arrange(figure, handles, 2 if narrow else 4)


def _epoch_values(trial: TrialResult) -> Iterator[Value]:
    """Yield each epoch of a trial with its value and its tooltip."""
    for epoch, value in zip(*_curve(trial), strict=True):
        yield epoch, value, f"{trial.trial}, epoch {epoch}: {value:.4f}"


def _place_value(placed: tuple[int, TrialResult], so_far: float) -> Value:
    """Return the point of a trial, with a tooltip that includes the best value so far."""
    number, trial = placed
    text = f"{trial.trial}: {trial.value:.4f} ({trial.outcome}); best so far {so_far:.4f}"
    return number, trial.value, text


def _curve(trial: TrialResult) -> tuple[list[int], list[float]]:
    key = trial.metric.key
    return list(trial.epochs), [metrics[key] for metrics in trial.epochs.values()]


def _lines(axes: Any, trials: list[TrialResult], colour: str) -> None:
    curves = [_curve(trial) for trial in trials]
    drawn = [np.array(curve).T for curve in curves if len(curve[0]) > 1]
    alpha = min(0.75, max(0.1, 30 / len(trials)))
    axes.add_collection(
        LineCollection(
            drawn, colors=colour, linewidths=1.1, alpha=alpha, rasterized=len(drawn) > MANY
        )
    )
    single = np.array(
        [(epochs[0], values[0]) for epochs, values in curves if len(epochs) == 1]
    ).reshape(-1, 2)
    axes.plot(
        single[:, 0],
        single[:, 1],
        "o",
        color=colour,
        markersize=3.5,
        alpha=alpha,
        rasterized=len(single) > MANY,
    )


@styled
def labels_curve(forecast: LabelsForecast, narrow: bool = False) -> Figure:
    """Plot the accuracy by the number of training images, as measured and as forecast."""
    figure, axes = canvas(*((NARROW, 3.2) if narrow else (WIDE, 3.4)))
    curve = forecast.curve
    sizes, measured = curve["sizes"], curve["accuracies"]
    later = [round(each["times"] * curve["images"]) for each in curve["forecasts"]]
    likely, low, high = (
        [each[name] for each in curve["forecasts"]] for name in ("likely", "low", "high")
    )
    axes.fill_between(later, low, high, color=ANSWER, alpha=0.15, linewidth=0)
    axes.plot(later, likely, color=ANSWER, linewidth=2, marker="o", markersize=3)
    axes.plot(sizes, measured, "o", color=STRONG, markersize=5)
    axes.axvline(curve["images"], color=INK, linewidth=0.8, linestyle=":")
    figure.tell_each(
        axes,
        [
            *(
                (size, value, f"{size:,} images: {value:.4f}")
                for size, value in zip(sizes, measured, strict=True)
            ),
            *(
                (size, value, f"{size:,} images: {bottom:.4f} to {top:.4f}")
                for size, value, bottom, top in zip(later, likely, low, high, strict=True)
            ),
        ],
    )
    axes.set_xscale("log")
    axes.set(xlabel="training images", ylabel="accuracy")
    ticks = sorted({*sizes, *(round(times * curve["images"]) for times in (1, 2, 4))})
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.minorticks_off()
    handles = [
        Line2D([], [], color=STRONG, marker="o", linestyle="none", label="measured"),
        Line2D([], [], color=ANSWER, linewidth=2, label="forecast, with its interval"),
        Line2D([], [], color=INK, linestyle=":", label="now"),
    ]
    return arrange(figure, handles, 2 if narrow else 4)


@styled
def trial_curves(trial: TrialResult, narrow: bool = False) -> Figure:
    """Plot a trial's training loss, validation loss and metric by epoch.

    With folds, a band shows the mean plus and minus the standard deviation of the metric.
    """
    figure, (losses, own) = canvas(
        *((NARROW, 5) if narrow else (WIDE, 3.4)),
        rows=2 if narrow else 1,
        columns=1 if narrow else 2,
    )
    epochs, values = _curve(trial)
    for name, colour, text in (
        ("train/loss", FAINT, "training"),
        ("val/loss", STRONG, "validation"),
    ):
        if not any(name in metrics for metrics in trial.epochs.values()):
            continue  # a task may have no validation loss
        losses.plot(
            epochs,
            [metrics.get(name, np.nan) for metrics in trial.epochs.values()],
            color=colour,
            label=text,
            marker="o",
            markersize=3,
        )
    losses.set(xlabel="epoch", ylabel="loss")
    losses.legend()
    own.plot(epochs, values, color=ANSWER, marker="o", markersize=3)
    if trial.deviation is not None:
        spread = np.array(
            [metrics.get(trial.metric.deviation_key, np.nan) for metrics in trial.epochs.values()]
        )
        own.fill_between(
            epochs, values - spread, values + spread, color=ANSWER, alpha=0.15, linewidth=0
        )
    if trial.best_epoch is not None:
        own.plot(
            trial.best_epoch,
            trial.value,
            "o",
            markerfacecolor="none",
            markeredgecolor=INK,
            markersize=9,
        )
        losses.axvline(trial.best_epoch, color=INK, linewidth=0.8, linestyle=":")
    own.set(xlabel="epoch", ylabel=f"validation {trial.metric.title}")
    own.set_ylim(within(trial.metric, *own.get_ylim()))
    figure.tell_each(own, _epoch_values(trial))
    for epoch, metrics in trial.epochs.items():
        for name in ("train/loss", "val/loss"):
            if name in metrics:
                figure.tell(
                    losses, epoch, metrics[name], f"{name}, epoch {epoch}: {metrics[name]:.4f}"
                )
    for axes in (losses, own):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return arrange(figure)
