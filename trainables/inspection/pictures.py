"""One picture of a data set: a row of samples a class, and pairs of images that are copies."""

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
from trainables.inspection.leaks import Looked
from trainables.inspection.matches import EXACT, NEAR
from trainables.inspection.report import DataReport
from trainables.inspection.words import image_text

SIDE, GAP, TEXT, LINE = 64, 6, 150, 16
"""Pixels: of an image's side, between images, of the names' column and of a line of text."""
SAMPLES, MAX_CLASSES, MAX_PAIRS = 8, 30, 4
"""The most samples of a class, classes, and pairs of a kind in two parts."""
WIDTH = TEXT + SAMPLES * (SIDE + GAP)
INK, PAPER = "#1f2933", "white"
Row = tuple[list[str], list[Images], list[str]]
"""The lines before a row's images, the images, and the lines behind them."""


def picture(report: DataReport, looked: Looked) -> bytes:
    """Return samples of each class, and below them pairs of copies, as the content of a PNG."""
    rows = [*_samples(report, looked.dataset.train), *_pairs(report, looked)]
    high = SIDE + GAP
    canvas = Image.new("RGB", (WIDTH, len(rows) * high), PAPER)
    draw = ImageDraw.Draw(canvas)
    for number, (before, images, behind) in enumerate(rows):
        left = TEXT + len(images) * high
        for column, image in enumerate(images):
            small = _fitted(image)
            place = TEXT + column * high + (SIDE - small.width) // 2
            canvas.paste(small, (place, number * high + (SIDE - small.height) // 2))
        for x, limit, lines in ((0, TEXT - GAP, before), (left, WIDTH - left, behind)):
            for line, text in enumerate(lines):
                y = number * high + (SIDE - LINE * len(lines)) // 2 + line * LINE
                draw.text((x, y), _shortened(text, limit), fill=INK, font=_font())
    buffer = io.BytesIO()
    canvas.save(buffer, format="png")
    return buffer.getvalue()


@cache
def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return the font that matplotlib ships, which is not imported for it.

    Pillow's own has ASCII only; this one also has the letters of Latin, Greek and Cyrillic scripts.
    """
    found = find_spec("matplotlib")
    if found is None or found.origin is None:
        return ImageFont.load_default(11)
    fonts = Path(found.origin).parent / "mpl-data" / "fonts" / "ttf"
    return ImageFont.truetype(str(fonts / "DejaVuSans.ttf"), 11)


def _shortened(text: str, width: int) -> str:
    """Return the end of a text that fits into so many pixels; what differs most is at the end."""
    shown, font = printable(text), _font()
    if font.getlength(shown) <= width:
        return shown
    while shown and font.getlength("..." + shown) > width:
        shown = shown[1:]
    return "..." + shown


def _samples(report: DataReport, train: Part) -> Iterator[Row]:
    """Yield a row for each of the first classes; one of all where the targets are no classes."""
    for number, name in enumerate(report.classes[:MAX_CLASSES] or ("training",)):
        rows = np.flatnonzero(train.targets == number) if report.classes else np.arange(len(train))
        if len(rows):
            yield [name], _images(train, rows[_spread(len(rows))].tolist()), []
    if (more := len(report.classes) - MAX_CLASSES) > 0:
        yield [f"and {counted(more, 'more class', 'more classes')}"], [], []


def _spread(count: int) -> Sequence[int]:
    """Return the places of at most `SAMPLES` of so many images, evenly spread."""
    return sorted({round(place) for place in np.linspace(0, count - 1, SAMPLES)})


def _images(part: Part, rows: Sequence[int]) -> list[Images]:
    return list(part.take(np.asarray(rows)).each())


def _pairs(report: DataReport, looked: Looked) -> Iterator[Row]:
    """Yield a row for each of some pairs that show the same picture, a few of each kind."""
    shown: Counter[tuple[str, str, str]] = Counter()
    for match in report.matches:
        group = (match.kind, match.image.part, match.same_as.part)
        shown[group] += 1
        if shown[group] > MAX_PAIRS:
            continue
        pair = (match.image, match.same_as)
        images = [_images(looked.places.parts[one.part], [one.row])[0] for one in pair]
        names = [image_text(one) for one in pair]
        told = {EXACT: "equal", NEAR: "nearly equal"}.get(match.kind, "mirrored")
        yield [told, *(["left out"] if match.removed else [])], images, names


def _fitted(image: Images) -> Image.Image:
    """Return an image that fits into a square; a small one is enlarged pixel by pixel."""
    made = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    scale = SIDE / max(made.size)
    size = max(1, round(made.width * scale)), max(1, round(made.height * scale))
    small = max(made.size) <= SIDE // 2
    return made.resize(size, Image.Resampling.NEAREST if small else Image.Resampling.BILINEAR)
