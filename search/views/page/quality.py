"""Plots of a classifier's quality: confusion matrix, ROC curves, reliability diagram."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from search.views.page.figures import (
    ANSWER,
    FAINT,
    HALF,
    INK,
    NARROW,
    STRONG,
    Figure,
    arrange,
    canvas,
    label,
    styled,
)

MAX_COUNTS, MAX_NAMES = 20, 30
"""Maximum number of classes for which each cell of the confusion matrix shows its number of images,
and maximum number for which the axes show the names of the classes.
"""
MARKED = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00")
"""The colours of the ROC curves with the smallest areas; all others share one colour."""
CORNER = 0.2
"""Length of both axes of `roc` if all curves are close to the upper left corner."""


@styled
def confusion(evaluation: Mapping[str, Any], narrow: bool = False) -> Figure:
    """Draw the confusion matrix: true classes in rows, predicted ones in columns.

    The colour of a cell is its share of the images of the true class.
    """
    counts, classes = np.array(evaluation["confusion_matrix"]), evaluation["classes"]
    side = NARROW if narrow else HALF
    figure, axes = canvas(side, side)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    size = min(9.0, (200 if narrow else 240) / len(classes))
    ticks = range(len(classes)) if len(classes) <= MAX_NAMES else []
    # A character is about 0.6 times as wide as its font size; names may take a third of the
    # picture.
    most = max(12, int(side / 3 / (0.6 * size / 72)))
    names = [label(classes[number], most) for number in ticks]
    axes.set_xticks(
        ticks, names, rotation=90 if max(map(len, names), default=0) > 2 else 0, fontsize=size
    )
    axes.set_yticks(ticks, names, fontsize=size)
    if len(classes) <= MAX_COUNTS:
        for (row, column), count in np.ndenumerate(counts):
            if count:
                colour = "white" if shares[row, column] > 0.5 else INK
                axes.text(
                    column,
                    row,
                    str(count),
                    ha="center",
                    va="center",
                    fontsize=min(8.5, size),
                    color=colour,
                )
    for row, column in np.argwhere(counts):
        number, whole = counts[row, column], counts[row].sum()
        text = f"{classes[row]} predicted as {classes[column]}: {number:,} of {whole:,}"
        figure.tell(axes, column, row, text)
    axes.set(xlabel="predicted class", ylabel="true class")
    return arrange(figure)


@styled
def roc(evaluation: Mapping[str, Any], narrow: bool = False) -> Figure:
    """Draw the ROC curve of each class against all others.

    If all curves are close to the upper left corner, only that corner is shown.
    """
    figure, axes = canvas(NARROW if narrow else HALF, NARROW if narrow else HALF)
    curves = sorted(
        ((name, curve) for name, curve in evaluation["roc"].items() if curve["auc"] is not None),
        key=lambda pair: float(pair[1]["auc"]),
    )
    for number, (name, curve) in reversed(list(enumerate(curves))):
        is_marked = number < len(MARKED)
        text = (
            f"{label(name)} ({curve['auc']:.4f})"
            if is_marked
            else f"{len(curves) - len(MARKED)} others"
            if number == len(curves) - 1
            else None
        )
        colour = MARKED[number] if is_marked else FAINT
        axes.plot(
            curve["fpr"],
            curve["tpr"],
            color=colour,
            linewidth=1.8 if is_marked else 1,
            label=text,
            rasterized=len(curves) > MAX_NAMES,
        )
    side = corner(evaluation["roc"])
    if side == 1:
        axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle=":")
    margin = 0.02 * side
    axes.locator_params(nbins=5)
    axes.set(
        xlim=(-margin, side),
        ylim=(1 - side, 1 + margin),
        xlabel="false positive rate",
        ylabel="true positive rate",
    )
    handles, names = axes.get_legend_handles_labels()
    axes.legend(handles[::-1], names[::-1], loc="lower right", title="class (area), smallest first")
    return arrange(figure)


def corner(curves: Mapping[str, Any]) -> float:
    """Return the length of both axes of `roc`: 1, or `CORNER` to show only that corner."""
    drawn = [curve for curve in curves.values() if curve["auc"] is not None]
    return (
        CORNER
        if drawn
        and all(
            np.interp(CORNER / 2, curve["fpr"], curve["tpr"]) > 1 - CORNER / 2 for curve in drawn
        )
        else 1
    )


@styled
def reliability(evaluation: Mapping[str, Any], narrow: bool = False) -> Figure:
    """Draw the accuracy by confidence and, below it, the number of predictions by confidence.

    See Guo et al. 2017, "On Calibration of Modern Neural Networks", figure 1.
    """
    figure, (axes, counts) = canvas(NARROW if narrow else HALF, NARROW if narrow else HALF, rows=2)
    axes.get_gridspec().set_height_ratios([3, 1])
    images, sure, right = (
        np.array(evaluation["bins"][name]) for name in ("images", "confidence", "right")
    )
    edges, there = np.linspace(0, 1, len(images) + 1), images > 0
    middle, width = (edges[:-1] + edges[1:]) / 2, 0.92 / len(images)
    divisors = np.maximum(images, 1)
    axes.bar(
        middle[there], (right / divisors)[there], width, color=STRONG, alpha=0.85, label="accuracy"
    )
    axes.plot(
        (sure / divisors)[there],
        (sure / divisors)[there],
        "_",
        color=ANSWER,
        markersize=10,
        markeredgewidth=2.2,
        label="mean confidence",
    )
    axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle=":")
    axes.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="share correct")
    axes.tick_params(labelbottom=False)
    axes.legend(loc="best")
    for place in np.flatnonzero(there):
        share, mean = right[place] / divisors[place], sure[place] / divisors[place]
        text = f"{images[place]:,.0f} images: {share:.1%} correct, mean confidence {mean:.1%}"
        figure.tell(axes, middle[place], share, text)
    counts.bar(middle, images, width, color=FAINT)
    counts.set(
        xlim=(0, 1),
        xlabel="confidence (probability of the prediction)",
        ylabel="images",
        yscale="symlog",
    )
    counts.set_yticks([10**power for power in range(0, int(np.log10(max(images.max(), 1))) + 1, 2)])
    counts.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    counts.yaxis.minorticks_off()
    return arrange(figure)
