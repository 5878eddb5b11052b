"""Common parts of all plots, drawn with matplotlib: canvas, layout, colours, text and tooltips.

Plots are saved as PNG files for MLflow and as SVG, wide and narrow, for the page.
"""

import base64
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.axis import XAxis, YAxis
from matplotlib.figure import Figure as PlainFigure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.gridspec import GridSpec
from matplotlib.lines import Line2D

from trainables.errors import printable

ANSWER, STRONG, SECOND, FAINT, INK = "#d55e00", "#0072b2", "#009e73", "#b4bdc7", "#3b4653"
"""Colours of the answer, of other data, of a second kind of data, of less important data, and of
text.

The first three are from the palette of Okabe and Ito, which colour-blind people can distinguish.
"""
MANY = 150
"""If there are more lines or points than this, they are rasterized inside the SVG, which keeps it
small and quick to display.
"""

MAX_HINTS = 600
"""Maximum number of tooltips on a picture."""

PIXELS = 140
"""Resolution of the rasterized parts, in pixels per inch. An inch is 96 CSS pixels."""

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
"""Settings of matplotlib. An SVG contains its text as text, and `$` does not start a formula."""

styled = rc_context(STYLE)
"""Decorator for every function that creates or saves a figure."""


Value = tuple[float, float, str]
"""A point with a tooltip, as (x, y, text); x and y are data coordinates."""


class Figure(PlainFigure):
    """A figure with tooltips."""

    def __init__(self, width: float, height: float) -> None:
        """Create an empty figure; width and height are in inches."""
        super().__init__(figsize=(width, height))
        self.pixels = PIXELS
        self.values: list[tuple[Axes, Iterable[Value]]] = []

    def tell(self, axes: Axes, across: float, up: float, text: str) -> None:
        """Add a tooltip at a point, whose x (`across`) and y (`up`) are data coordinates."""
        self.tell_each(axes, [(across, up, text)])

    def tell_each(self, axes: Axes, values: Iterable[Value]) -> None:
        """Add a tooltip at each of these points.

        `hints` consumes an iterator, but only until it has `MAX_HINTS` tooltips.
        """
        self.values.append((axes, values))

    def hints(self) -> "list[Hint]":
        """List the tooltips with their positions; call it after drawing, when the layout is final.

        Points outside their axes are left out, and so are all points after the first `MAX_HINTS`.
        """
        hints: list[Hint] = []
        for axes, (*point, text) in (
            (axes, value) for axes, values in self.values for value in values
        ):
            if len(hints) == MAX_HINTS:  # avoid an iteration over thousands of trials
                break
            across, up = axes.transData.transform(point)
            if axes.bbox.padded(1).contains(across, up):
                left_share, top_share = across / self.bbox.width, 1 - up / self.bbox.height
                hints.append(Hint(round(100 * left_share, 2), round(100 * top_share, 2), text))
        return hints


@dataclass(frozen=True)
class Hint:
    """A tooltip, at a position in percent of the picture's width and height."""

    left_percent: float
    top_percent: float
    text: str


Draw = Callable[[bool], Figure]
"""A function that draws for a phone (True) or a laptop (False)."""
WIDE, HALF, NARROW = 9.6, 4.7, 3.75
"""Widths in inches of the page, of half of it, and of a phone. An inch is 96 CSS pixels."""
EDGE, MARGIN, TICK, TEXT_LINE = 0.05, 0.17, 0.1, 0.22
"""Sizes in inches: the margin at the edges of a figure; the margin at the sides of axes without
labels, where a tick's label may protrude; a tick with the gap to its label; and the title of an
axis with its gap.
"""
LEGEND_LINE, LEGEND_PAD = 0.21, 0.14
"""Height in inches of a line of a legend, and total padding around its lines."""


@dataclass(frozen=True)
class Picture:
    """A figure on the page: data URLs of its images, and an alternative text."""

    wide: str
    narrow: str
    alt: str
    png: bytes = b""
    """The wide image as a PNG file; empty if it was not requested."""
    hints: Sequence[Hint] = ()
    """The tooltips of the wide image."""


def picture(draw: Draw, alt: str, *, as_file: bool = False) -> Picture:
    """Draw a figure in both widths; with `as_file`, also encode the wide one as a PNG file."""
    wide = draw(False)
    contents = _inline(wide), _inline(draw(True)), alt, png(wide) if as_file else b""
    return Picture(*contents, wide.hints())


@styled
def _inline(figure: Figure) -> str:
    buffer = io.BytesIO()
    metadata = {"Date": None, "Creator": None}
    figure.savefig(buffer, format="svg", dpi=figure.pixels, metadata=metadata)
    return (
        "data:image/svg+xml;base64,"
        + base64.b64encode(
            buffer.getvalue().replace(b"'DejaVu Sans'", b"system-ui, 'DejaVu Sans'")
        ).decode()
    )


@styled
def png(figure: Figure) -> bytes:
    """Encode a figure as a PNG file."""
    buffer = io.BytesIO()
    # Compression level 1 makes the file a sixth larger and saves a quarter of the time.
    figure.savefig(buffer, format="png", dpi=130, pil_kwargs={"compress_level": 1})
    return buffer.getvalue()


def save(drawn: bytes, path: Path) -> None:
    """Write a picture to a file; missing folders are created."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(drawn)


def canvas(width: float, height: float, *, rows: int = 1, columns: int = 1) -> tuple[Figure, Any]:
    """Create a figure and its axes; sizes are in inches."""
    figure = Figure(width, height)
    return figure, figure.subplots(rows, columns)


def arrange(figure: Figure, handles: Sequence[Line2D] = (), columns: int = 1) -> Figure:
    """Position the axes so that their labels fit, below a legend of these handles.

    The legend has `columns` columns. Matplotlib's own layout engines draw each figure an additional
    time to measure it, which takes longer than the drawing itself. Here only the lengths of the
    labels are measured.
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
        if (
            row == 0 and axes.yaxis.get_major_formatter().get_offset()
        ):  # the power of ten above the axis
            top -= TEXT_LINE
    widths = _shares(width - sum(lefts) - grid.ncols * MARGIN, grid.get_width_ratios())
    heights = _shares(top - sum(bottoms) - (grid.nrows - 1) * MARGIN, grid.get_height_ratios())
    for axes in figure.axes:
        row, column = _cell(axes)
        left_edge = sum(lefts[: column + 1]) + sum(widths[:column]) + column * MARGIN
        bottom = top - sum(heights[: row + 1]) - sum(bottoms[:row]) - row * MARGIN
        box = (left_edge / width, bottom / height, widths[column] / width, heights[row] / height)
        axes.set_position(box)
    return figure


def _cell(axes: Axes) -> tuple[int, int]:
    """Return the row and the column of these axes in their figure's grid."""
    spec: Any = axes.get_subplotspec()
    return spec.rowspan.start, spec.colspan.start


def _shares(whole: float, ratios: Any) -> list[float]:
    """Divide a length in proportion to these ratios."""
    return [whole * ratio / sum(ratios) for ratio in ratios]


def _room(axis: XAxis | YAxis) -> float:
    """Return the space in inches that an axis's ticks, labels and title need outside the axes."""
    room, extents = EDGE, [0.0]
    for text in axis.get_ticklabels():
        if label_text := text.get_text():
            is_across = (axis.axis_name == "x") == (text.get_rotation() == 0)
            size = float(text.get_fontsize())
            extents.append(1.2 * size / 72 if is_across else length(label_text, size))
    room += max(extents) + (TICK if max(extents) else 0)
    return room + (TEXT_LINE if axis.label.get_text() else 0)


def length(text: str, size: float, *, bold: bool = False) -> float:
    """Return the width of a line of text in inches; `size` is the font size in points."""
    font = get_font(findfont(FontProperties(weight="bold" if bold else "normal")))
    font.set_size(size, 72)
    font.set_text(text)
    return float(font.get_width_height()[0] / 64 / 72)


def label(name: str, most: int = 16) -> str:
    """Shorten a name to `most` characters for a plot.

    Characters that the font does not have are replaced by a box, since matplotlib would warn about
    them.
    """
    has = get_font(findfont(FontProperties())).get_char_index
    text = printable(name)
    return "".join(
        letter if has(ord(letter)) else "□"
        for letter in (text if len(text) <= most else text[: most - 1] + "…")
    )
