"""What all pictures share: canvas, colours, text; as PNG files for MLflow and as SVG, wide and narrow, for the page. By matplotlib."""

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font

from trainables.errors import printable

ANSWER, STRONG, SECOND, FAINT, INK = "#d55e00", "#0072b2", "#009e73", "#b4bdc7", "#3b4653"
"""The answer, the rest, a second kind, what matters less, and text: of the colours of Okabe and Ito, which colour-blind people tell apart."""
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
"""Widths in inches: of the page, of half of it, of a phone's screen; one inch is 96 of a browser's pixels."""


@dataclass(frozen=True)
class Picture:
    """A figure as the page holds it: addresses with the image inside them, and what it shows in words."""

    wide: str
    narrow: str
    alt: str


def picture(draw: Draw, alt: str) -> Picture:
    """Draw for both widths."""
    return Picture(_inline(draw(False)), _inline(draw(True)), alt)


@styled
def _inline(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", dpi=PIXELS, metadata={"Date": None, "Creator": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue().replace(b"'DejaVu Sans'", b"system-ui, 'DejaVu Sans'")).decode()


@styled
def save(figure: Figure, path: Path) -> None:
    """Write a PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def canvas(width: float, height: float, *, rows: int = 1, columns: int = 1) -> tuple[Figure, Any]:
    """A figure and its axes; sizes in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns)


def label(name: str, most: int = 16) -> str:
    """A name as a picture can show it: not too long, and with a box for a letter that the font lacks, of which matplotlib would warn."""
    has = get_font(findfont(FontProperties())).get_char_index
    text = printable(name)
    return "".join(letter if has(ord(letter)) else "□" for letter in (text if len(text) <= most else text[: most - 1] + "…"))
