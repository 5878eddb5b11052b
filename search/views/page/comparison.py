"""Plots that compare trials: parameters, importances, metric against cost, and finalists."""

from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import patheffects
from matplotlib.collections import LineCollection
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator

from search.facts.answer import answer_trial
from search.facts.parameters import param_text, searched, short_names
from search.facts.selection import FinalistInterval
from search.facts.series import Axis, lowest_visible
from search.facts.trials import is_baseline
from search.journal.result import SearchResult, TrialResult
from search.values.objectives import OBJECTIVES, Objective, in_order, objective_value
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
    length,
    styled,
)

MISSING = -0.14
"""Position on an axis of parallel coordinates for trials that do not have the parameter.

The positions of values are between 0 and 1.
"""
BESIDE = 0.04
"""Distance between an axis and its labels, as a fraction of the distance between two axes."""
MAX_OPTIONS, CROWDED = 20, 7
"""Maximum number of values on an axis that are all labelled, and maximum number of axes whose names
fit next to each other. With more axes, the names alternate between two heights.
"""
COLOURS = {"max": "cividis_r", "min": "cividis"}
"""Colour map by the metric's mode; the best values are the darkest."""
Box = tuple[float, float, float, float]
"""Left, bottom, width and height, as fractions of a figure."""


@styled
def parallel(result: SearchResult, narrow: bool = False) -> Figure:
    """Draw parallel coordinates: an axis for each parameter, a line for each trial.

    Better trials have darker lines, and the answer has a colour of its own. With `narrow`, the axes
    are horizontal.
    """
    trials, paths, names = result.ranking[::-1], varied_axes(result), short_names(searched(result))
    scales = [_scale(result, Axis.of(result, path, names[path])) for path in paths]
    figure, axes = canvas(*((NARROW, 0.9 + 0.78 * len(paths)) if narrow else (WIDE, 4.4)))
    places = np.arange(len(paths), dtype=float)
    heights = _positions(trials, paths, scales)
    across = np.broadcast_to(places, heights.shape)
    lines = [*np.stack((heights, -across) if narrow else (across, heights), axis=-1)]
    metric, scores = result.metric, np.array([trial.score for trial in trials])
    floor = np.quantile(scores, 0.25)
    drawn = LineCollection(
        lines,
        cmap=COLOURS[metric.mode],
        alpha=min(0.75, max(0.2, 40 / len(trials))),
        linewidths=1.2,
        rasterized=len(trials) > MANY,
    )
    drawn.set_array([metric.score(score) for score in np.maximum(scores, floor)])
    axes.add_collection(drawn)
    answer = answer_trial(result)
    for line, trial in zip(lines, trials, strict=True):
        if trial is answer:  # `==` would compare all fields
            axes.plot(*line.T, color=ANSWER, linewidth=2.6, zorder=4)
    for place, path, scale in zip(places, paths, scales, strict=True):
        has_missing = any(path not in trial.params for trial in trials)
        _axis(
            axes,
            place,
            names[path],
            scale,
            has_missing=has_missing,
            is_crowded=len(paths) > CROWDED,
            narrow=narrow,
        )
    axes.set_axis_off()
    where = (
        _lie(axes, len(paths))
        if narrow
        else _stand(axes, [names[path] for path in paths], scales[-1])
    )
    bar = figure.colorbar(
        drawn, cax=figure.add_axes(where), orientation="horizontal" if narrow else "vertical"
    )
    beyond = "less" if metric.mode == "max" else "more"
    bar.set_label(
        f"validation {metric.title}"
        + (f" ({metric.score(floor):.3f} or {beyond}: palest)" if floor > scores.min() else "")
    )
    bar.outline.set_visible(False)
    return figure


def _lie(axes: Any, count: int) -> Box:
    """Lay out `count` horizontal axes above a colour bar, and return the bar's position."""
    height = axes.figure.get_size_inches()[1]
    axes.set(xlim=(-0.25, 1.12), ylim=(-count + 0.6, 0.5))
    axes.set_position((0.02, 0.62 / height, 0.96, 1 - 0.66 / height))
    return 0.04, 0.46 / height, 0.92, 0.09 / height


def _stand(axes: Any, names: Sequence[str], last: Mapping[Any, float]) -> Box:
    """Lay out vertical axes next to a colour bar, and return the bar's position.

    Space is left for the text that extends beyond the outer axes: half of the first and of the last
    name, and the labels of the last axis.

    Args:
        axes: the matplotlib axes that contain all of the drawing.
        names: the names of the parameters.
        last: the scale of the last parameter, whose keys are its values.
    """
    width = axes.figure.get_size_inches()[0] - 0.95
    before, above = (length(label(name, 24), 9.5, bold=True) / 2 for name in (names[0], names[-1]))
    values = max(length(label(param_text(value), 18), 8.5) for value in last)
    unit = (width - before - values) / (len(names) - 1 + BESIDE)
    behind = max(above, values + BESIDE * unit)
    unit = (width - before - behind) / (len(names) - 1)
    axes.set(xlim=(-before / unit, len(names) - 1 + behind / unit), ylim=(-0.22, 1.2))
    whole = width + 0.95
    axes.set_position((0.05 / whole, 0.02, width / whole, 0.96))
    return (whole - 0.8) / whole, 0.02, 0.013, 0.96


def varied_axes(result: SearchResult) -> list[str]:
    """List the searched parameters that have several values among the ranked trials."""
    return [
        path
        for path in searched(result)
        if len({_key(trial.params.get(path)) for trial in result.ranking}) > 1
    ]


def _key(value: Any) -> Any:
    """Convert a value to a dictionary key, so that True and 1 differ."""
    return (
        value
        if isinstance(value, int | float | str) and not isinstance(value, bool)
        else str(value)
    )


def _scale(result: SearchResult, axis: Axis) -> dict[Any, float]:
    """Return the position of each value on its axis, from 0 to 1.

    Numbers are placed by size, on a log scale if the space uses one. Other values are placed at
    equal distances, in the space's order.
    """
    trials = [trial for trial in result.ranking if axis.path in trial.params]
    values = list(dict.fromkeys(_key(trial.params[axis.path]) for trial in trials))
    if axis.is_choice or not all(isinstance(value, int | float) for value in values):
        order = [_key(option) for option in axis.options]
        options = sorted(
            values, key=lambda value: order.index(value) if value in order else len(order)
        )
        return {
            value: number / max(1, len(options) - 1) if len(options) > 1 else 0.5
            for number, value in enumerate(options)
        }
    is_log = min(values) > 0 and axis.is_log
    numbers = {value: float(np.log(value)) if is_log else float(value) for value in values}
    low, high = min(numbers.values()), max(numbers.values())
    return {
        value: (number - low) / (high - low) if high > low else 0.5
        for value, number in numbers.items()
    }


def _positions(
    trials: Sequence[TrialResult], paths: Sequence[str], scales: Sequence[Mapping[Any, float]]
) -> Any:
    """Return the positions of trials on axes, as an array of shape (trials, axes).

    A position is a number from 0 to 1, or `MISSING`.
    """
    return np.array(
        [
            [
                scale.get(_key(trial.params[path]), 0.5) if path in trial.params else MISSING
                for path, scale in zip(paths, scales, strict=True)
            ]
            for trial in trials
        ]
    )


def _axis(
    axes: Any,
    place: float,
    name: str,
    scale: Mapping[Any, float],
    *,
    has_missing: bool,
    is_crowded: bool,
    narrow: bool,
) -> None:
    """Draw an axis with its name and values; if these are too dense, only the ends are labelled."""
    ends = (0, 1)
    axes.plot(
        *((ends, (-place, -place)) if narrow else ((place, place), ends)),
        color=INK,
        linewidth=1,
        zorder=3,
    )
    ranked = sorted(scale, key=lambda value: scale[value])
    gap = min(np.diff([scale[value] for value in ranked]), default=1.0)
    labelled = ranked if gap >= (0.3 if narrow else 1 / MAX_OPTIONS) else [ranked[0], ranked[-1]]
    halo = [patheffects.withStroke(linewidth=2.6, foreground="white")]
    texts = [
        (
            f"{value:.2g}"
            if narrow and isinstance(value, float)
            else label(param_text(value), 10 if narrow else 18),
            scale[value],
        )
        for value in labelled
    ] + [("none", MISSING)] * has_missing
    for text, height in texts:
        at = (height, -place - 0.1) if narrow else (place + BESIDE, height)
        how = {"ha": "center", "va": "top"} if narrow else {"ha": "left", "va": "center"}
        axes.text(*at, text, fontsize=8.5, path_effects=halo, zorder=5, **how)
    above = 1.05 + 0.07 * (is_crowded and place % 2)
    at, how = (
        ((0, -place + 0.13), {"ha": "left", "va": "bottom"})
        if narrow
        else ((place, above), {"ha": "center", "va": "bottom"})
    )
    axes.text(
        *at, label(name, 24), fontsize=9.5, fontweight="bold", path_effects=halo, zorder=5, **how
    )


@styled
def importance_bars(
    shares: Mapping[str, tuple[float, ...]], names: Mapping[str, str], narrow: bool = False
) -> Figure:
    """Draw a bar for each parameter, the most important on top.

    A line across each bar is the interval of its share.

    Args:
        shares: for each path, the mean share and the bounds of its interval, from `importance`.
        names: the short names of the parameters, by path.
        narrow: True to draw for a phone.
    """
    figure, axes = canvas(NARROW if narrow else WIDE, 0.7 + 0.36 * len(shares))
    paths = list(shares)[::-1]
    values = np.array([shares[path] for path in paths]).reshape(-1, 3)
    axes.barh(range(len(paths)), values[:, 0], color=STRONG, height=0.6, alpha=0.85)
    axes.hlines(range(len(paths)), values[:, 1], values[:, 2], color=INK, linewidth=1.6)
    for place, (path, (mean, low, high)) in enumerate(zip(paths, values, strict=True)):
        figure.tell(axes, mean, place, f"{names[path]}: {mean:.0%} ({low:.0%} to {high:.0%})")
    axes.set_yticks(range(len(paths)), [label(names[path], 18) for path in paths])
    axes.set(xlim=(0, 1.02), xlabel="share of the importance")
    axes.grid(visible=False, axis="y")
    return arrange(figure)


def measured_values(result: SearchResult, name: str = "latency") -> dict[str, float]:
    """Return the value of each ranked trial in one of `OBJECTIVES`; unknown ones are left out."""
    costs = result.costs
    value_by_trial = {
        trial.trial: objective_value(name, costs.get(trial.trial, {})) for trial in result.ranking
    }
    return {trial: value for trial, value in value_by_trial.items() if value is not None}


def front_by_cost(scores: Mapping[str, float], costs: Mapping[str, float]) -> list[str]:
    """Return the names of the trials on the Pareto front for one cost, the lowest cost first.

    A trial is on the front if no other trial has a score at least as high and costs no more.
    """
    ordered, count = in_order(scores, {name: (value,) for name, value in costs.items()})
    return ordered[:count][::-1]


@styled
def pareto(result: SearchResult, narrow: bool = False, *, name: str = "latency") -> Figure:
    """Plot the validation metric against another objective, with the Pareto front.

    The axis of an objective for which lower is better has a log scale.
    """
    metric, objective = result.metric, OBJECTIVES[name]
    figure, axes = canvas(*((NARROW, 3.8) if narrow else (WIDE, 4.4)))
    costs = measured_values(result, name)
    trials = [trial for trial in result.ranking if trial.trial in costs]
    best_of_models = {trial.trial for trial in result.best_of_models.values()}
    handles = _scatter(axes, trials, costs, best_of_models)
    figure.tell_each(axes, _plotted_values(trials, costs, objective))
    edge = [
        result.trials[trial]
        for trial in front_by_cost(
            {trial.trial: trial.score for trial in trials},
            {trial: objective.cost(value) for trial, value in costs.items()},
        )
    ]
    handles.append(_draw_front(axes, edge, costs))
    for trial in edge[-4:] if narrow else edge[-8:]:
        at = (costs[trial.trial], trial.value)
        beside = "right" if objective.mode == "min" else "left"
        side = "center" if trial is edge[0] else beside
        text = trial.config["model"]["name"] if len(best_of_models) > 1 else trial.trial
        moved = 0 if trial is edge[0] else -6 if beside == "right" else 6
        axes.annotate(
            label(text, 20),
            at,
            (moved, 7 if metric.mode == "max" else -13),
            textcoords="offset points",
            ha=side,
            fontsize=8.5,
        )
    axes.set(
        xlabel=objective.axis,
        ylabel=f"validation {metric.title}",
        ylim=_heights(trials, edge),
    )
    axes.margins(x=0.16)
    if objective.mode == "min":
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,g}")
    else:
        axes.xaxis.set_major_formatter(lambda value, _: objective.form(value))
    axes.minorticks_off()
    return arrange(figure, handles, 3)


def _plotted_values(
    trials: Sequence[TrialResult], values: Mapping[str, float], objective: Objective
) -> Iterator[Value]:
    """Yield the place of each trial in the plot, and its tooltip."""
    for trial in trials:
        model, value = trial.config["model"]["name"], values[trial.trial]
        value_text = f"{value:,.4g} {objective.unit}" if objective.unit else objective.form(value)
        yield value, trial.value, f"{trial.trial}, {model}: {trial.value:.4f}, {value_text}"


def _heights(trials: Sequence[TrialResult], edge: Sequence[TrialResult]) -> list[float]:
    """Return the limits of the vertical axis of `pareto`; some of the worst trials may lie outside.

    `edge` is the Pareto front, the trial with the lowest cost first. A margin leaves space for its
    labels.
    """
    scores = [trial.score for trial in trials]
    low, high = lowest_visible(scores, 0.1, [edge[0].score]), edge[-1].score
    margin = 0.08 * (high - low) or 0.05
    return sorted(map(edge[0].metric.score, (low - margin, high + 1.6 * margin)))


def _scatter(
    axes: Any, trials: Sequence[TrialResult], costs: Mapping[str, float], large: Container[str]
) -> list[Line2D]:
    """Draw a point for each trial, larger for those in `large`; return the legend's handles."""
    handles = []
    for is_mine, colour, marker, text in (
        (False, STRONG, "o", "network"),
        (True, SECOND, "s", "baseline"),
    ):
        points = [trial for trial in trials if is_baseline(trial) == is_mine]
        if points:
            sizes = [46 if trial.trial in large else 16 for trial in points]
            axes.scatter(
                *_points(points, costs),
                s=sizes,
                color=colour,
                marker=marker,
                alpha=0.65,
                linewidths=0,
                rasterized=len(points) > MANY,
            )
            handles.append(
                Line2D([], [], color=colour, marker=marker, linestyle="none", label=text)
            )
    return handles


def _draw_front(axes: Any, edge: Sequence[TrialResult], costs: Mapping[str, float]) -> Line2D:
    """Draw the Pareto front as a stepped line, and return its handle for the legend."""
    axes.plot(
        *_points(edge, costs),
        color=ANSWER,
        linewidth=1.6,
        marker="o",
        markersize=7,
        markerfacecolor="none",
        drawstyle="steps-post",
    )
    return Line2D([], [], color=ANSWER, marker="o", markerfacecolor="none", label="Pareto front")


def _points(
    trials: Sequence[TrialResult], costs: Mapping[str, float]
) -> tuple[list[float], list[float]]:
    return [costs[trial.trial] for trial in trials], [trial.value for trial in trials]


@styled
def finalists(
    rows: Sequence[FinalistInterval], narrow: bool = False, *, title: str = "accuracy"
) -> Figure:
    """Draw the candidates of a selection, one per row.

    A hollow circle is the value that the search measured. A tick is the value of a training with a
    fresh seed, and a diamond is the mean of these, with its confidence interval. `title` is the
    metric's title.
    """
    figure, axes = canvas(NARROW if narrow else WIDE, 1.1 + 0.42 * len(rows))
    for place, row in enumerate(reversed(rows)):
        colour = ANSWER if row.state == "chosen" else STRONG if row.state == "tied" else FAINT
        seeds = row.accuracies
        if row.low is not None:
            axes.hlines(place, row.low, row.high, color=colour, linewidth=6, alpha=0.3)
        axes.plot(seeds, [place] * len(seeds), "|", color=colour, markersize=9, markeredgewidth=1.6)
        text = f"{row.candidate}: {row.search_value:.4f} in the search"
        figure.tell(axes, row.search_value, place, text)
        if row.mean is not None:
            text = f"{row.candidate}: mean {row.mean:.4f} of {row.seeds} seeds"
            figure.tell(axes, row.mean, place, text)
            axes.plot(row.mean, place, "D", color=colour, markersize=6.5)
        axes.plot(
            row.search_value,
            place,
            "o",
            markerfacecolor="none",
            markeredgecolor=INK,
            markersize=7.5,
            markeredgewidth=1.3,
        )
    names = [label(f"{row.candidate} {'' if narrow else row.model}", 28) for row in reversed(rows)]
    axes.set_yticks(range(len(rows)), names)
    axes.set(xlabel=f"validation {title}", ylim=(-0.6, len(rows) - 0.4))
    axes.grid(visible=False, axis="y")
    marks = (
        ("o", INK, "none", "measured in the search"),
        ("D", STRONG, STRONG, "mean over fresh seeds, with interval"),
    )
    handles = [
        Line2D(
            [], [], color=colour, marker=mark, markerfacecolor=face, linestyle="none", label=text
        )
        for mark, colour, face, text in marks
    ]
    return arrange(figure, handles, 1 if narrow else 2)
