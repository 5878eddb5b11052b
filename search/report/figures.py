"""The pictures, by matplotlib, drawn from results alone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.ticker import MaxNLocator

from search.result import SearchResult, TrialResult
from trainables.errors import printable

BEST, COMPLETED, STOPPED = "#d1495b", "#2e6f95", "#b8c0c8"
MAX_LEGEND = 12


def search_curves(result: SearchResult) -> Figure:
    """Validation accuracy by epoch, a line a trial: the best, the completed, the stopped."""
    figure, axes = _canvas(8, 4.5)
    ranked = result.ranking
    best = result.best
    for trial in reversed(ranked):
        is_best = trial is best
        colour = BEST if is_best else COMPLETED if trial.outcome == "completed" else STOPPED
        epochs, values = list(trial.epochs), [metrics["val/accuracy"] for metrics in trial.epochs.values()]
        axes.plot(
            epochs, values, color=colour, linewidth=2.4 if is_best else 1, alpha=1 if is_best else 0.6, marker="o" if len(epochs) == 1 else None, markersize=3
        )
    for colour, label in ((BEST, f"best: {best.trial}" if best else "best"), (COMPLETED, "completed"), (STOPPED, "stopped early")):
        axes.plot([], [], color=colour, label=label)
    axes.set(xlabel="epoch", ylabel="validation accuracy", title=f"{result.name}: {len(result.trials)} trials")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(loc="lower right", frameon=False)
    return figure


def trial_curves(trial: TrialResult) -> Figure:
    """Training and validation loss, and validation accuracy, by epoch."""
    figure, axes = _canvas(7, 4)
    epochs = list(trial.epochs)
    right = axes.twinx()
    for name, colour in (("train/loss", STOPPED), ("val/loss", COMPLETED)):
        axes.plot(epochs, [metrics[name] for metrics in trial.epochs.values()], color=colour, label=name, marker="o", markersize=3)
    right.plot(epochs, [metrics["val/accuracy"] for metrics in trial.epochs.values()], color=BEST, label="val/accuracy", marker="o", markersize=3)
    axes.set(xlabel="epoch", ylabel="loss", title=trial.trial)
    right.set_ylabel("validation accuracy")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    lines = [*axes.get_lines(), *right.get_lines()]
    axes.legend(lines, [str(line.get_label()) for line in lines], loc="center right", frameon=False)
    return figure


def confusion(test: Mapping[str, Any]) -> Figure:
    """True classes down, predicted ones across; the number of images in each cell, for up to 20 classes."""
    matrix, classes = test["confusion_matrix"], test["classes"]
    side = min(12, 3 + 0.45 * len(classes))
    figure, axes = _canvas(side + 0.5, side)
    axes.imshow(matrix, cmap="Blues")
    ticks = range(len(classes))
    axes.set_xticks(ticks, [_label(name) for name in classes], rotation=90 if max(map(len, classes)) > 2 else 0)
    axes.set_yticks(ticks, [_label(name) for name in classes])
    highest = max(map(max, matrix)) or 1
    for row, counts in enumerate(matrix if len(classes) <= 20 else []):
        for column, count in enumerate(counts):
            axes.text(column, row, count or "", ha="center", va="center", fontsize=8, color="white" if count > highest / 2 else "black")
    axes.set(xlabel="predicted", ylabel="true", title=f"test: {test['images']:,} images, accuracy {test['accuracy']:.4f}")
    axes.spines[:].set_visible(False)
    return figure


def roc(test: Mapping[str, Any]) -> Figure:
    """One class against the rest, with the area under each curve."""
    figure, axes = _canvas(6, 5)
    drawn = {name: curve for name, curve in test["roc"].items() if curve["auc"] is not None}
    for name, curve in drawn.items():
        axes.plot(curve["fpr"], curve["tpr"], linewidth=1.2, label=f"{_label(name)} ({curve['auc']:.4f})")
    axes.plot([0, 1], [0, 1], color=STOPPED, linewidth=1, linestyle="--")
    axes.set(xlabel="false positive rate", ylabel="true positive rate", title="ROC, one class against the rest (area)")
    if 0 < len(drawn) <= MAX_LEGEND:
        axes.legend(loc="lower right", fontsize=8, frameon=False)
    return figure


def _label(name: str) -> str:
    """A class's name as matplotlib can show it: a dollar sign would begin a formula, a letter that the font lacks is warned of."""
    has = get_font(findfont(FontProperties())).get_char_index
    return "".join(letter if has(ord(letter)) else "□" for letter in printable(name)[:20]).replace("$", r"\$")


def save(figure: Figure, path: Path) -> None:
    """Write a PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130, bbox_inches="tight")


def _canvas(width: float, height: float) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes
