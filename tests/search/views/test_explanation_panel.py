"""The report's section on explained predictions, and its file next to the journal."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from search.journal.store import EXPLANATIONS
from search.values.explanation import ExplainedImage, ExplanationReport
from search.views.page.explanation_panel import (
    FIELDS,
    MOST_CORRECT,
    MOST_MISTAKES,
    encode,
    section,
)
from search.views.page.page import render
from tests.search.views.test_page import played
from tests.support.reports import SCRIPT, words
from trainables.explanations.explain import Explanation


def explanation(*, is_faithful: bool) -> Explanation:
    """Return an explanation that passes the check of the weights."""
    return Explanation(
        number=1, probability=0.8, values=np.zeros((4, 4)), insertion=0.7, deletion=0.1,
        random_score=0.2, is_faithful=is_faithful, correlation=0.1, redrawn_score=0.0,
        depends_on_weights=True,
    )  # fmt: skip


def explained_images() -> tuple[ExplainedImage, ...]:
    """Return six mistakes, followed by five correct predictions."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(buffer, "PNG")
    return tuple(
        ExplainedImage(
            name=f"{SCRIPT}{number}.png",
            class_name="ant",
            true_class="bee" if number < 6 else "ant",
            explanation=explanation(is_faithful=number != 0),
            picture=buffer.getvalue(),
            overlay=buffer.getvalue(),
        )
        for number in range(11)
    )


@pytest.fixture
def report(tmp_path: Path) -> ExplanationReport:
    return ExplanationReport(
        search="s", trial="t0001", model="table2", method="occlusion", classes=("ant", "bee"),
        images=explained_images(), unread=(), page=tmp_path / "index.html", feature_map=None,
    )  # fmt: skip


def test_the_section_shows_mistakes_and_correct_predictions(
    report: ExplanationReport, tmp_path: Path
) -> None:
    (tmp_path / EXPLANATIONS).write_bytes(encode(report))
    shown = section(tmp_path, "t0001")
    assert shown.count("<li>") == MOST_MISTAKES + MOST_CORRECT
    assert shown.count("(mistake)") == MOST_MISTAKES
    assert shown.count("data:image/webp;base64,UklGR") == 2 * (MOST_MISTAKES + MOST_CORRECT)
    assert shown.count("NOT faithful") == 1
    assert "ant 80.0%, in truth bee" in shown
    assert "occlusion of t0001 (table2)" in shown
    assert SCRIPT not in shown


def test_explanations_of_another_trial_are_not_shown(
    report: ExplanationReport, tmp_path: Path
) -> None:
    (tmp_path / EXPLANATIONS).write_bytes(encode(report))
    assert section(tmp_path, "t0002") == ""
    assert section(None, "t0001") == ""
    assert section(tmp_path / "empty", "t0001") == ""


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"trial": "t0001"}'])
def test_a_damaged_file_is_named(content: str, tmp_path: Path) -> None:
    (tmp_path / EXPLANATIONS).write_text(content)
    assert f"{EXPLANATIONS}, the explained predictions, cannot be read" in section(
        tmp_path, "t0001"
    )


def test_the_report_has_the_section_and_a_link_to_it(experiment: object, tmp_path: Path) -> None:
    result = played(experiment, 3)  # type: ignore[arg-type]
    assert result.chosen is not None
    assert "What it looks at" not in words(render(result, tmp_path, pictures={}))
    document = {"trial": result.chosen.trial, **dict.fromkeys(FIELDS, "")}
    (tmp_path / EXPLANATIONS).write_text(json.dumps(document))
    page = render(result, tmp_path, pictures={})
    assert 'href="#explained"' in page
    assert 'id="explained"' in page
