"""Render the page of `search.monitor`: one HTML file with the test results and the evidence."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from search.feedback.monitoring.accuracy import ACCURACY
from search.feedback.monitoring.class_mix import MIX
from search.feedback.monitoring.findings import Check, Findings
from search.feedback.monitoring.held_to import ReferenceSet
from search.feedback.monitoring.outputs import OUTPUTS
from search.feedback.monitoring.window import Window
from search.feedback.monitoring.words import earlier_images, facts, verdict
from search.views.page.templates import template
from trainables.export.reference import Reference

TEMPLATE = "monitor.html"
BINS, HEIGHT = 24, 60
"""Number of bars in a histogram, and the height of the highest one in the page's units."""
VISIBLE = 30
"""Number of classes that are visible at first; a click shows the others."""
QUESTIONS = {OUTPUTS: "answers", MIX: "class mix", ACCURACY: "accuracy"}
Values = NDArray[np.floating]


@dataclass(frozen=True)
class MonitorTile:
    """The result of a test in a few words."""

    title: str
    answer: str
    detail: str
    changed: bool


@dataclass(frozen=True)
class MonitorChart:
    """Two histograms of the same quantity: for the reference's images, and for new ones."""

    title: str
    low: str
    high: str
    """The ends of the horizontal axis, as texts."""
    before: list[float]
    now: list[float]
    """The heights of the bars; the highest of both histograms is `HEIGHT`."""


def render(findings: Findings, reference: Reference, window: Window) -> str:
    """Render the page as HTML; names and texts from records are escaped."""
    return template(TEMPLATE).render(
        findings=findings,
        verdict=verdict(findings),
        facts=facts(findings),
        earlier=earlier_images(findings, OUTPUTS),
        tiles=[tile(findings, check) for check in findings.checks],
        charts=charts(reference, window),
        shares=sorted(findings.shares, key=lambda share: (not share.changed, -share.now)),
        largest=max((max(share.high, share.before) for share in findings.shares), default=1.0)
        or 1.0,
        visible=VISIBLE,
    )


def tile(findings: Findings, check: Check) -> MonitorTile:
    """Summarise the result of a test in a few words."""
    if check.changed:
        return MonitorTile(QUESTIONS[check.name], "changed", f"p {check.p:.2g}", changed=True)
    if check.is_enough:
        return MonitorTile(QUESTIONS[check.name], "no change", f"p {check.p:.2g}", changed=False)
    few = f"too few {earlier_images(findings, check.name)}"
    if check.needed is not None:
        few = f"{check.images:,} of {check.needed:,} required"
    return MonitorTile(QUESTIONS[check.name], "too few images", few, changed=False)


def charts(reference: Reference, window: Window) -> list[MonitorChart]:
    """Build the histograms of the confidence; none if there are no images to compare."""
    before, now = ReferenceSet.of(reference).probabilities, window.probabilities
    if not (len(before) and len(now)):
        return []
    return [chart("confidence", before.max(axis=1), now.max(axis=1))]


def chart(title: str, before: Values, now: Values) -> MonitorChart:
    """Build two histograms on one scale; the first and the last bar include extreme values."""
    pooled = np.concatenate([before, now])
    # A few extreme values would otherwise squeeze all others into a few bars.
    low, high = (float(end) for end in np.quantile(pooled, (0.005, 0.995)))
    high = high if high > low else low + 1
    heights = [
        np.histogram(np.clip(values, low, high), BINS, (low, high))[0] / len(values)
        for values in (before, now)
    ]
    most = max(float(bars.max()) for bars in heights)
    scaled = [[round(float(value) * HEIGHT / most, 2) for value in bars] for bars in heights]
    return MonitorChart(title, f"{low:.2f}", f"{high:.2f}", *scaled)
