"""The page of `search.monitor`: one HTML file with the answer and what it is seen by."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from search.feedback.monitoring.accuracy import ACCURACY
from search.feedback.monitoring.class_mix import MIX
from search.feedback.monitoring.findings import Check, Findings
from search.feedback.monitoring.held_to import HeldTo
from search.feedback.monitoring.outputs import OUTPUTS
from search.feedback.monitoring.window import Window
from search.feedback.monitoring.words import earlier, facts, verdict
from search.views.page.templates import template
from trainables.export.reference import Reference

TEMPLATE = "monitor.html"
BINS, HEIGHT = 24, 60
VISIBLE = 30
"""The number of classes that are visible; the others are a click away."""
QUESTIONS = {OUTPUTS: "answers", MIX: "class mix", ACCURACY: "accuracy"}
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


def render(found: Findings, reference: Reference, window: Window) -> str:
    """Return the page's text. Everything that comes from records and names is escaped."""
    return template(TEMPLATE).render(
        found=found,
        verdict=verdict(found),
        facts=facts(found),
        earlier=earlier(found, OUTPUTS),
        tiles=[tile(found, check) for check in found.checks],
        charts=charts(reference, window),
        shares=sorted(found.shares, key=lambda share: (not share.changed, -share.now)),
        largest=max((max(share.high, share.before) for share in found.shares), default=1.0) or 1.0,
        visible=VISIBLE,
    )


def tile(found: Findings, check: Check) -> Tile:
    """Return the answer of a test, as short as it gets."""
    if check.changed:
        return Tile(QUESTIONS[check.name], "changed", f"p {check.p:.2g}", changed=True)
    if check.is_enough:
        return Tile(QUESTIONS[check.name], "no change", f"p {check.p:.2g}", changed=False)
    few = f"too few {earlier(found, check.name)}"
    if check.needed is not None:
        few = f"{check.images:,}; {check.needed:,} needed"
    return Tile(QUESTIONS[check.name], "too few to tell", few, changed=False)


def charts(reference: Reference, window: Window) -> list[Chart]:
    """Return the histograms of the confidence."""
    before, now = HeldTo.of(reference).probabilities, window.probabilities
    if not (len(before) and len(now)):
        return []
    return [chart("confidence", before.max(axis=1), now.max(axis=1))]


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
