"""The page of `search.monitor`: one HTML file with the answer and what it is seen by."""

import base64
import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from search.feedback.monitoring.findings import (
    ACCURACY,
    CALIBRATION,
    FEATURES,
    MIX,
    OUTPUTS,
    Check,
    Findings,
)
from search.feedback.monitoring.held_to import HeldTo
from search.feedback.monitoring.window import Kept, Window
from search.feedback.monitoring.words import earlier, facts, verdict
from search.views.page.templates import template
from trainables.export.image_features import shown
from trainables.export.reference import Reference

TEMPLATE = "monitor.html"
BINS, HEIGHT = 24, 60
VISIBLE = 30
"""The number of classes that are visible; the others are a click away."""
QUESTIONS = {
    FEATURES: "images",
    OUTPUTS: "answers",
    MIX: "class mix",
    ACCURACY: "accuracy",
    CALIBRATION: "calibration",
}
Values = NDArray[np.floating]


@dataclass(frozen=True)
class Tile:
    """A question with its answer."""

    title: str
    answer: str
    about: str
    changed: bool


@dataclass(frozen=True)
class Chart:
    """Two histograms of one quantity, as heights of their bars."""

    title: str
    low: str
    high: str
    before: list[float]
    now: list[float]


@dataclass(frozen=True)
class Example:
    """An image, with what was said of it."""

    data: str
    label: str
    probability: float


def render(found: Findings, reference: Reference, window: Window) -> str:
    """Return the page's text. Everything that comes from records and names is escaped."""
    return template(TEMPLATE).render(
        found=found,
        verdict=verdict(found),
        facts=facts(found),
        earlier=earlier(found, FEATURES),
        tiles=[tile(found, check) for check in found.checks],
        charts=charts(reference, window),
        shares=sorted(found.shares, key=lambda share: (not share.changed, -share.now)),
        largest=max((max(share.high, share.before) for share in found.shares), default=1.0) or 1.0,
        visible=VISIBLE,
        images=examples(found, reference, window),
    )


def tile(found: Findings, check: Check) -> Tile:
    """Return the answer of a test, as short as it gets."""
    if check.changed:
        return Tile(QUESTIONS[check.name], "changed", f"p {check.p:.2g}", changed=True)
    if check.is_enough:
        return Tile(QUESTIONS[check.name], "no change", f"p {check.p:.2g}", changed=False)
    held_to = f"too few {earlier(found, check.name)}"
    needed = f"{check.needed:,} needed" if check.needed else held_to
    return Tile(
        QUESTIONS[check.name], "too few to tell", f"{check.images:,}; {needed}", changed=False
    )


def charts(reference: Reference, window: Window) -> list[Chart]:
    """Return histograms of what people know images by, and of the confidence."""
    found, held = [], HeldTo.of(reference)
    if len(held.probabilities) and len(window.probabilities):
        confidence = (some.max(axis=1) for some in (held.probabilities, window.probabilities))
        found.append(chart("confidence", *confidence))
    if window.sample:
        before, now = (shown(some, reference.image[2]) for some in (held.features, window.features))
        found += [chart(title, before[title], now[title]) for title in before]
    return found


def chart(title: str, before: Values, now: Values) -> Chart:
    """Return two histograms on one scale; the hundredth on either side falls into the last bars."""
    both = np.concatenate([before, now])
    low, high = (float(end) for end in np.quantile(both, (0.005, 0.995)))
    high = high if high > low else low + 1
    heights = [
        np.histogram(np.clip(some, low, high), BINS, (low, high))[0] / len(some)
        for some in (before, now)
    ]
    most = max(float(one.max()) for one in heights)
    scaled = [[round(float(value) * HEIGHT / most, 2) for value in one] for one in heights]
    return Chart(title, f"{low:.2f}", f"{high:.2f}", *scaled)


def examples(found: Findings, reference: Reference, window: Window) -> list[Example]:
    """Return the images most unlike those they are held to, with what was said of them."""
    kept = {one.name: one for one in window.sample}
    answers = {one.image: one.probabilities for one in window.answers}
    return [
        Example(
            _webp(kept[name]),
            reference.classes[int(np.argmax(answers[name]))],
            max(answers[name]),
        )
        for name in found.unlike
    ]


def _webp(kept: Kept) -> str:
    pixels = kept.pixels[..., 0] if kept.pixels.shape[-1] == 1 else kept.pixels
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "WEBP", quality=90)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"
