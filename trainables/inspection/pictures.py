"""A picture of a data set: a row of samples for each class, and pairs of copies."""

import io
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from trainables.datasets.arrays import Images, Part
from trainables.datasets.splits import Rows
from trainables.datasets.targets import Colour, Targets
from trainables.errors import counted, printable
from trainables.inspection.leaks import InspectedData
from trainables.inspection.report import DataReport
from trainables.inspection.words import KINDS, image_text
from trainables.tasks import TASKS

SIDE, GAP, TEXT, LINE = 64, 6, 150, 16
"""The side of an image, the gap between images, the width of names and a line's height, in pixels.
"""
SAMPLES, MAX_CLASSES, MAX_PAIRS = 8, 30, 4
"""The maximum numbers of samples of a class, of classes, and of pairs of one kind and parts."""
LARGE_SIDE, LARGE_SAMPLES = 2 * SIDE + GAP, SAMPLES // 2
"""The side and the number of samples with masks, whose details would be lost in small ones."""
SWATCH = 10
"""The side of the square with the colour of a class, in pixels."""
WIDTH = TEXT + SAMPLES * (SIDE + GAP)
INK, PAPER = "#1f2933", "white"


@dataclass(frozen=True)
class PictureRow:
    """A row of the picture."""

    before: list[str]
    """The lines of text before the images."""
    images: list[Image.Image]
    """Thumbnails."""
    behind: Sequence[str] = ()
    """The lines of text after the images."""
    side: int = SIDE
    """The side of the square for each image, in pixels."""
    colour: Colour | None = None
    """The colour of the class, which is shown before its name."""


def picture(report: DataReport, inspected: InspectedData) -> bytes:
    """Draw samples of each class, and below them pairs of copies; return the picture as PNG."""
    rows = [*_samples(report, inspected.dataset.train), *_pairs(report, inspected)]
    canvas = Image.new("RGB", (WIDTH, sum(row.side + GAP for row in rows)), PAPER)
    top = 0
    for row in rows:
        _draw_row(canvas, row, top)
        top += row.side + GAP
    buffer = io.BytesIO()
    canvas.save(buffer, format="png")
    return buffer.getvalue()


def _draw_row(canvas: Image.Image, row: PictureRow, top: int) -> None:
    draw, start_x, end_x = ImageDraw.Draw(canvas), 0, TEXT
    for image in row.images:
        x, y = ((row.side - size) // 2 for size in image.size)
        canvas.paste(image, (end_x + x, top + y))
        end_x += row.side + GAP
    if row.colour is not None:
        y = top + (row.side - SWATCH) // 2
        draw.rectangle((0, y, SWATCH - 1, y + SWATCH - 1), fill=row.colour)
        start_x = SWATCH + GAP
    texts = ((start_x, TEXT - GAP - start_x, row.before), (end_x, WIDTH - end_x, row.behind))
    for x, limit, lines in texts:
        for line, text in enumerate(lines):
            y = top + (row.side - LINE * len(lines)) // 2 + line * LINE
            draw.text((x, y), _shorten(text, limit), fill=INK, font=_font())


@cache
def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return the font that matplotlib ships, without importing matplotlib.

    Pillow's own font has only ASCII; this one also has Latin, Greek and Cyrillic letters.
    """
    spec = find_spec("matplotlib")
    if spec is None or spec.origin is None:
        return ImageFont.load_default(11)
    fonts = Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf"
    return ImageFont.truetype(str(fonts / "DejaVuSans.ttf"), 11)


def _shorten(text: str, width: int) -> str:
    """Shorten a text to `width` pixels; its start is cut, because paths differ most at the end."""
    ending, font = printable(text), _font()
    if font.getlength(ending) <= width:
        return ending
    while ending and font.getlength("..." + ending) > width:
        ending = ending[1:]
    return "..." + ending


def _samples(report: DataReport, train: Part) -> Iterator[PictureRow]:
    """Yield a row for each of the first `MAX_CLASSES` classes; one row if there are no classes."""
    targets: Targets = TASKS[report.task].load_targets()
    if not report.classes:
        yield PictureRow(["training"], _thumbnails(train, _spread(np.arange(len(train)), SAMPLES)))
        return
    occurs = targets.occurrences(train, len(report.classes))
    colours = targets.class_colours(len(report.classes))
    side, samples = (LARGE_SIDE, LARGE_SAMPLES) if colours else (SIDE, SAMPLES)
    is_shown = np.zeros(len(train), bool)  # an image may have several classes
    for number, name in enumerate(report.classes[:MAX_CLASSES]):
        own = occurs[:, number]
        is_new = own & ~is_shown
        rows = _spread(np.flatnonzero(is_new if is_new.sum() >= samples else own), samples)
        is_shown[rows] = True
        if rows:
            images = _thumbnails(train, rows, side, targets)
            yield PictureRow([name], images, side=side, colour=colours[number] if colours else None)
    if (more := len(report.classes) - MAX_CLASSES) > 0:
        yield PictureRow([f"and {counted(more, 'more class', 'more classes')}"], [])


def _spread(rows: Rows, samples: int) -> list[int]:
    """Return at most `samples` of these rows, evenly spread."""
    places = {round(place) for place in np.linspace(0, len(rows) - 1, samples)} if len(rows) else ()
    return [int(rows[place]) for place in sorted(places)]


def _thumbnails(
    part: Part, rows: Sequence[int], side: int = SIDE, targets: Targets | None = None
) -> list[Image.Image]:
    """Shrink images one by one, because whole images may be large.

    With `targets`, which draw them, the targets of the images are drawn on them.
    """
    thumbnails = []
    for row in rows:
        single = part.take(np.array([row]))
        image = next(single.each())
        if targets is not None:
            image = targets.picture(image, single.targets[0], side)
        thumbnails.append(_fit_square(image, side))
    return thumbnails


def _pairs(report: DataReport, inspected: InspectedData) -> Iterator[PictureRow]:
    """Yield a row for each of the first `MAX_PAIRS` pairs of the same kind and parts."""
    counts: Counter[tuple[str, str, str]] = Counter()
    for match in report.matches:
        counts[match.group] += 1
        if counts[match.group] > MAX_PAIRS:
            continue
        pair = (match.image, match.same_as)
        images = [_thumbnails(inspected.places.parts[image.part], [image.row])[0] for image in pair]
        names = [image_text(image) for image in pair]
        marks = ["two classes"] * match.disagrees + ["left out"] * match.removed
        yield PictureRow([KINDS[match.kind], *marks], images, names)


def _fit_square(image: Images, side: int) -> Image.Image:
    """Scale an image to fit into a square; small ones are enlarged without interpolation."""
    original = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    scale = side / max(original.size)
    size = max(1, round(original.width * scale)), max(1, round(original.height * scale))
    small = max(original.size) <= side // 2
    return original.resize(size, Image.Resampling.NEAREST if small else Image.Resampling.BILINEAR)
