"""A picture of a data set: a row of samples for each class, and pairs of copies."""

import io
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from trainables.datasets.arrays import Images, Part
from trainables.errors import counted, printable
from trainables.inspection.leaks import InspectedData
from trainables.inspection.matches import EXACT, NEAR
from trainables.inspection.report import DataReport
from trainables.inspection.words import image_text

SIDE, GAP, TEXT, LINE = 64, 6, 150, 16
"""The side of an image, the gap between images, the width of names and a line's height, in pixels.
"""
SAMPLES, MAX_CLASSES, MAX_PAIRS = 8, 30, 4
"""The maximum numbers of samples of a class, of classes, and of pairs of one kind and parts."""
WIDTH = TEXT + SAMPLES * (SIDE + GAP)
INK, PAPER = "#1f2933", "white"
Row = tuple[list[str], list[Images], list[str]]
"""The lines of text before the images of a row, the images, and the lines after them."""


def picture(report: DataReport, inspected: InspectedData) -> bytes:
    """Draw samples of each class, and below them pairs of copies; return the picture as PNG."""
    rows = [*_samples(report, inspected.dataset.train), *_pairs(report, inspected)]
    pitch = SIDE + GAP
    canvas = Image.new("RGB", (WIDTH, len(rows) * pitch), PAPER)
    draw = ImageDraw.Draw(canvas)
    for number, (before, images, behind) in enumerate(rows):
        end_x = TEXT + len(images) * pitch
        for column, image in enumerate(images):
            small = _fit_square(image)
            place = TEXT + column * pitch + (SIDE - small.width) // 2
            canvas.paste(small, (place, number * pitch + (SIDE - small.height) // 2))
        for x, limit, lines in ((0, TEXT - GAP, before), (end_x, WIDTH - end_x, behind)):
            for line, text in enumerate(lines):
                y = number * pitch + (SIDE - LINE * len(lines)) // 2 + line * LINE
                draw.text((x, y), _shorten(text, limit), fill=INK, font=_font())
    buffer = io.BytesIO()
    canvas.save(buffer, format="png")
    return buffer.getvalue()


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


def _samples(report: DataReport, train: Part) -> Iterator[Row]:
    """Yield a row for each of the first `MAX_CLASSES` classes; one row if there are no classes."""
    for number, name in enumerate(report.classes[:MAX_CLASSES] or ("training",)):
        rows = np.flatnonzero(train.targets == number) if report.classes else np.arange(len(train))
        if len(rows):
            yield [name], _images(train, rows[_spread(len(rows))].tolist()), []
    if (more := len(report.classes) - MAX_CLASSES) > 0:
        yield [f"and {counted(more, 'more class', 'more classes')}"], [], []


def _spread(count: int) -> Sequence[int]:
    """Return at most `SAMPLES` indices, evenly spread over `count` images."""
    return sorted({round(place) for place in np.linspace(0, count - 1, SAMPLES)})


def _images(part: Part, rows: Sequence[int]) -> list[Images]:
    return list(part.take(np.asarray(rows)).each())


def _pairs(report: DataReport, inspected: InspectedData) -> Iterator[Row]:
    """Yield a row for each of the first `MAX_PAIRS` pairs of the same kind and parts."""
    counts: Counter[tuple[str, str, str]] = Counter()
    for match in report.matches:
        group = (match.kind, match.image.part, match.same_as.part)
        counts[group] += 1
        if counts[group] > MAX_PAIRS:
            continue
        pair = (match.image, match.same_as)
        images = [_images(inspected.places.parts[image.part], [image.row])[0] for image in pair]
        names = [image_text(image) for image in pair]
        relation = {EXACT: "equal", NEAR: "nearly equal"}.get(match.kind, "mirrored")
        yield [relation, *(["left out"] if match.removed else [])], images, names


def _fit_square(image: Images) -> Image.Image:
    """Scale an image to fit into a square; small ones are enlarged without interpolation."""
    original = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    scale = SIDE / max(original.size)
    size = max(1, round(original.width * scale)), max(1, round(original.height * scale))
    small = max(original.size) <= SIDE // 2
    return original.resize(size, Image.Resampling.NEAREST if small else Image.Resampling.BILINEAR)
