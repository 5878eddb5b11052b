"""The report's section on explained predictions, and the file from which it is rendered.

`search.explain` writes the file next to the journal, with pictures and with the texts of the
verdicts, so that the report needs neither the data set nor torch.
"""

import base64
import json
from collections.abc import Sequence
from pathlib import Path

from jinja2 import UndefinedError
from markupsafe import Markup

from search.journal.store import EXPLANATIONS
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
from trainables.disk import read_regular
from trainables.values import Json

SECTION = "explanation_panel.html"
FIELDS = ("method", "summary", "legend", "images")
"""The fields of the file that the template shows."""
MOST_MISTAKES, MOST_CORRECT = 4, 4
"""The number of mistakes, and of correct predictions, in the report."""
DAMAGED = Markup(
    '<section id="explained"><h2>What it looks at</h2>\n'
    f'<p class="note">{EXPLANATIONS}, the explained predictions, cannot be read. Write it again '
    "with search.explain.</p></section>"
)


def encode(report: ExplanationReport) -> bytes:
    """Encode the part of explained predictions that the report of the search shows, as JSON."""
    document = {
        "trial": report.trial,
        "method": METHODS[report.method].title,
        "summary": summary_lines(report),
        "legend": LEGEND,
        "images": [_card(image) for image in _choose_images(report.images)],
    }
    return json.dumps(document, indent=1).encode()


def _choose_images(images: Sequence[ExplainedImage]) -> list[ExplainedImage]:
    mistakes = [image for image in images if image.is_mistake]
    correct = [image for image in images if not image.is_mistake]
    return mistakes[:MOST_MISTAKES] + correct[:MOST_CORRECT]


def _card(image: ExplainedImage) -> Json:
    from trainables.explanations.pictures import to_webp

    return {
        "name": image.name,
        "class": class_text(image),
        "is_mistake": image.is_mistake,
        "picture": base64.b64encode(to_webp(image.picture)).decode(),
        "overlay": base64.b64encode(to_webp(image.overlay)).decode(),
        "faithful": faithful_text(image),
        "is_faithful": image.explanation.is_faithful,
        "check": check_text(image),
        "passed": image.explanation.depends_on_weights,
    }


def section(folder: Path | None, answer: str) -> Markup:
    """Render the section from the file in a search's folder.

    If the file cannot be read, the section says so.

    Args:
        folder: the search's folder; None to read nothing.
        answer: the trial whose model the report is about.

    Returns:
        The section; empty if there is no file, or if it explains another trial.
    """
    if folder is None:
        return Markup()
    try:
        document = json.loads(read_regular(folder / EXPLANATIONS))
        if document["trial"] != answer:
            return Markup()
        return Markup(template(SECTION).render({name: document[name] for name in FIELDS}))
    except FileNotFoundError:
        return Markup()
    except (OSError, ValueError, KeyError, TypeError, UndefinedError):
        return DAMAGED
