"""What all pictures share: canvas, colours, text; as PNG files for MLflow and as SVG, wide and
narrow, for the page. By matplotlib.
"""

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.axis import XAxis, YAxis
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.gridspec import GridSpec
from matplotlib.lines import Line2D

from trainables.errors import printable

ANSWER, STRONG, SECOND, FAINT, INK = "#d55e00", "#0072b2", "#009e73", "#b4bdc7", "#3b4653"
"""The answer, the rest, a second kind, what matters less, and text: of the colours of Okabe and
Ito, which colour-blind people tell apart.
"""
MANY = 150
"""More lines than these are drawn as pixels inside the SVG, which stays small and quick."""

PIXELS = 140
"""An inch, of what is drawn as pixels."""

STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "report",
    "text.parse_math": False,
    "font.size": 9.5,
    "axes.titlesize": 10,
    "axes.labelsize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#8c97a4",
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#e7ebef",
    "grid.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "legend.handlelength": 1.4,
    "figure.dpi": 72,
}
"""Text stays text, and a dollar sign begins no formula."""

styled = rc_context(STYLE)
"""Decorates whatever makes or writes a figure."""

Draw = Callable[[bool], Figure]
"""Draws for a phone (True) or a laptop."""
WIDE, HALF, NARROW = 9.6, 4.7, 3.75
"""Widths in inches: of the page, of half of it, of a phone's screen; one inch is 96 of a browser's
pixels.
"""
EDGE, MARGIN, TICK, TEXT_LINE = 0.05, 0.17, 0.1, 0.22
"""Inches that stay free at a figure's edges, and on the open sides of axes, where a tick's label
may stand out; of a tick with the gap to its label, and of an axis' name with its gap.
"""
LEGEND_LINE, LEGEND_PAD = 0.21, 0.14
"""Inches that a legend takes for a line, and around all."""


@dataclass(frozen=True)
class Picture:
    """A figure as the page holds it: addresses with the image inside them, and what it shows in
    words.
    """

    wide: str
    narrow: str
    alt: str
    png: bytes = b""
    """The wide one as a file."""


def picture(draw: Draw, alt: str, *, as_file: bool = False) -> Picture:
    """Draw for both widths, and for a file if that is wanted."""
    wide = draw(False)
    return Picture(_inline(wide), _inline(draw(True)), alt, png(wide) if as_file else b"")


@styled
def _inline(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", dpi=PIXELS, metadata={"Date": None, "Creator": None})
    return (
        "data:image/svg+xml;base64,"
        + base64.b64encode(
            buffer.getvalue().replace(b"'DejaVu Sans'", b"system-ui, 'DejaVu Sans'")
        ).decode()
    )


@styled
def png(figure: Figure) -> bytes:
    """A figure as a PNG file holds it."""
    buffer = io.BytesIO()
    figure.savefig(
        buffer, format="png", dpi=130, pil_kwargs={"compress_level": 1}
    )  # a sixth larger, in a fourth less time
    return buffer.getvalue()


def save(drawn: bytes, path: Path) -> None:
    """Write a picture into a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(drawn)


def canvas(width: float, height: float, *, rows: int = 1, columns: int = 1) -> tuple[Figure, Any]:
    """A figure and its axes; sizes in inches."""
    figure = Figure(figsize=(width, height))
    return figure, figure.subplots(rows, columns)


def arranged(figure: Figure, handles: Sequence[Line2D] = (), columns: int = 1) -> Figure:
    """Place the axes so that their labels have room, below a legend of these handles.

    Matplotlib's own layouts draw each figure once more to measure it, which takes longer than to
    draw it. Here the font alone is asked, for the labels' lengths.
    """
    lines, grid = -(-len(handles) // columns), cast("GridSpec", figure.axes[0].get_gridspec())
    if handles:
        figure.legend(handles=handles, loc="upper left", bbox_to_anchor=(0, 1), ncols=columns)
    width, height = map(float, figure.get_size_inches())
    lefts, bottoms = [0.0] * grid.ncols, [0.0] * grid.nrows
    top = height - max(MARGIN, LEGEND_LINE * lines + (LEGEND_PAD if lines else 0))
    for axes in figure.axes:
        row, column = _cell(axes)
        lefts[column] = max(lefts[column], _room(axes.yaxis))
        bottoms[row] = max(bottoms[row], _room(axes.xaxis))
        if row == 0 and axes.yaxis.get_major_formatter().get_offset():  # the power of ten above
            top -= TEXT_LINE
    widths = _shares(width - sum(lefts) - grid.ncols * MARGIN, grid.get_width_ratios())
    heights = _shares(top - sum(bottoms) - (grid.nrows - 1) * MARGIN, grid.get_height_ratios())
    for axes in figure.axes:
        row, column = _cell(axes)
        left = sum(lefts[: column + 1]) + sum(widths[:column]) + column * MARGIN
        bottom = top - sum(heights[: row + 1]) - sum(bottoms[:row]) - row * MARGIN
        box = (left / width, bottom / height, widths[column] / width, heights[row] / height)
        axes.set_position(box)
    return figure


def _cell(axes: Axes) -> tuple[int, int]:
    """Row and column of its figure's grid."""
    spec: Any = axes.get_subplotspec()
    return spec.rowspan.start, spec.colspan.start


def _shares(whole: float, ratios: Any) -> list[float]:
    """Divide a length in these ratios."""
    return [whole * ratio / sum(ratios) for ratio in ratios]


def _room(axis: XAxis | YAxis) -> float:
    """The inches that an axis' ticks and labels take outside."""
    room, extents = EDGE, [0.0]
    for text in axis.get_ticklabels():
        if shown := text.get_text():
            is_across = (axis.axis_name == "x") == (text.get_rotation() == 0)
            size = float(text.get_fontsize())
            extents.append(1.2 * size / 72 if is_across else length(shown, size))
    room += max(extents) + (TICK if max(extents) else 0)
    return room + (TEXT_LINE if axis.label.get_text() else 0)


def length(text: str, size: float, *, bold: bool = False) -> float:
    """The inches that a line of text takes at this size in points."""
    font = get_font(findfont(FontProperties(weight="bold" if bold else "normal")))
    font.set_size(size, 72)
    font.set_text(text)
    return float(font.get_width_height()[0] / 64 / 72)


def label(name: str, most: int = 16) -> str:
    """A name as a picture can show it: not too long, and with a box for a letter that the font
    lacks, of which matplotlib would warn.
    """
    has = get_font(findfont(FontProperties())).get_char_index
    text = printable(name)
    return "".join(
        letter if has(ord(letter)) else "□"
        for letter in (text if len(text) <= most else text[: most - 1] + "…")
    )
