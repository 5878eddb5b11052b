"""The report's sections on trust and explanations, and the page of explanations, in a browser.

With axe, in light and dark, and at the widths of a phone and of a laptop.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from search.design.experiment import Experiment
from search.journal.events import Registration
from search.journal.store import EXPLANATIONS
from search.values.explanation import ExplanationReport
from search.views.page import explanations
from search.views.page.explanation_panel import encode
from search.views.page.page import render
from tests.search.views import test_trust as trust
from tests.search.views.test_explanation_panel import explained_images
from tests.search.views.test_page import keep, played
from tests.search.web.test_newcomer import IMPACTS, Newcomer
from tests.support.browser import browser
from trainables.explanations.examples import FeatureMap

playwright = pytest.importorskip("playwright.sync_api")
pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture
def visitor() -> Iterator[Newcomer]:
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(
            executable_path=browser(), args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield Newcomer(chromium.new_page(), "")
        chromium.close()


def explained(folder: Path, trial: str) -> ExplanationReport:
    generator = np.random.default_rng(0)
    mapped = FeatureMap(
        generator.random((40, 2)),
        generator.integers(0, 2, 40),
        generator.integers(0, 2, 40),
    )
    return ExplanationReport(
        search="s", trial=trial, model="table2", method="occlusion", classes=("ant", "bee"),
        images=explained_images(), unread=("no.png: not an image",),
        page=folder / "index.html", feature_map=mapped,
    )  # fmt: skip


def test_axe_finds_nothing_in_a_report_with_explanations_and_promises(
    experiment: Experiment, visitor: Newcomer, tmp_path: Path
) -> None:
    result = played(experiment, 12)
    assert result.best is not None
    keep(result, tmp_path, ("a", "b"))
    event = Registration(result.best.trial, "pets", "3", {"max_error": 0.05}, trust.facts())
    trust.registered(result, event, ["--max-error 5%"])
    (tmp_path / EXPLANATIONS).write_bytes(encode(explained(tmp_path, result.best.trial)))
    report = tmp_path / "report.html"
    report.write_text(render(result, tmp_path, pictures={}))
    visitor.page.goto(report.as_uri())
    assert visitor.page.locator("#explained img").count() == 16
    visitor.looks(IMPACTS)
    assert visitor.messages == []


def test_axe_finds_nothing_on_the_page_of_explanations(visitor: Newcomer, tmp_path: Path) -> None:
    report = explained(tmp_path / "page", "t0001")
    explanations.write(report, tmp_path / "page")
    visitor.page.goto(report.page.as_uri())
    visitor.looks(IMPACTS)
    assert visitor.messages == []
