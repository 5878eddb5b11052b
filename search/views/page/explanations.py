"""The page of explained predictions: each image beside its map, and the map of the feature space.

The page is a single file; the pictures are written beside it too.
"""

import base64
import colorsys
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from search.values.explanation import ExplainedImage, ExplanationReport
from search.views.page.templates import template
from search.views.text.explanations import (
    LEGEND,
    check_text,
    class_text,
    faithful_text,
    summary_lines,
)
from trainables.catalog.explanations import METHODS
from trainables.errors import counted

TEMPLATE = "explanations.html"
PLANE, MARGIN = 600, 10
"""The side of the map of features, and its margin, in units of the drawing."""
GOLDEN = 0.618034
"""The step of hues between classes: the golden ratio, which keeps any number of them apart."""


@dataclass(frozen=True)
class _Point:
    """A validation image on the map of features."""

    x: float
    y: float
    colour: str
    title: str
    is_mistake: bool


def write(report: ExplanationReport, folder: Path) -> None:
    """Write the page and the pictures of a report to a folder, which is created if necessary.

    The pictures are `NUMBER-image.png` and `NUMBER-map.png`.
    """
    folder.mkdir(exist_ok=True)
    for number, image in enumerate(report.images, 1):
        (folder / f"{number:03}-image.png").write_bytes(image.picture)
        (folder / f"{number:03}-map.png").write_bytes(image.overlay)
    points = _points(report)
    page = template(TEMPLATE).render(
        title=f"What {report.trial} of {report.search} looks at",
        summary=summary_lines(report),
        legend=LEGEND,
        method=METHODS[report.method].title,
        images=[_card(image) for image in report.images],
        points=points,
        colours=[(name, _colour(number)) for number, name in enumerate(report.classes)],
        plane=PLANE,
        mapped=counted(len(points), "validation image"),
        mistakes=counted(sum(point.is_mistake for point in points), "mistake"),
        unread=report.unread,
    )
    partial = report.page.with_name(f".{report.page.name}.{uuid4().hex[:8]}")
    partial.write_text(page, encoding="utf-8")
    partial.replace(report.page)


def _card(image: ExplainedImage) -> dict[str, object]:
    """Return the values of an image in the template."""
    return {
        "name": image.name,
        "class": class_text(image),
        "is_mistake": image.is_mistake,
        "picture": _inline(image.picture),
        "overlay": _inline(image.overlay),
        "faithful": faithful_text(image),
        "is_faithful": image.explanation.is_faithful,
        "check": check_text(image),
        "passed": image.explanation.depends_on_weights,
        "similar": [
            (neighbour.name, neighbour.class_name, neighbour.similarity, _inline(neighbour.picture))
            for neighbour in image.similar
        ],
    }


def _inline(picture: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(picture).decode()}"


def _points(report: ExplanationReport) -> list[_Point]:
    """Return the points of the map, mistakes last, so that they are not covered."""
    mapped = report.feature_map
    if mapped is None:
        return []
    points = []
    for (x, y), true, guess in zip(mapped.points, mapped.classes, mapped.guesses, strict=True):
        title = report.classes[true]
        if true != guess:
            title = f"{title}, predicted as {report.classes[guess]}"
        points.append(
            _Point(
                x=round(MARGIN + x * (PLANE - 2 * MARGIN), 1),
                y=round(MARGIN + y * (PLANE - 2 * MARGIN), 1),
                colour=_colour(int(true)),
                title=title,
                is_mistake=bool(true != guess),
            )
        )
    return sorted(points, key=lambda point: point.is_mistake)


def _colour(number: int) -> str:
    """Return the colour of a class; neighbouring numbers also differ in lightness."""
    lightness = (0.42, 0.6)[number % 2]
    channels = colorsys.hls_to_rgb(number * GOLDEN % 1, lightness, 0.75)
    return "#" + "".join(f"{round(255 * channel):02x}" for channel in channels)
