"""The page's section on the data, rendered from the report that is stored with the search.

Searches of earlier versions have no such report, so their pages do not have this section.
"""

import base64
import json
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from markupsafe import Markup

from search.journal.result import DATA_PICTURE, DATA_REPORT
from search.views.page.templates import template
from trainables.disk import read_regular
from trainables.errors import counted, printable
from trainables.inspection.pictures import WIDTH
from trainables.inspection.report import DataReport, Match
from trainables.inspection.words import (
    KINDS,
    chance_text,
    class_table,
    contradictions,
    facts,
    headline,
    image_text,
    label_headline,
    pair_lines,
    picture_title,
    warnings,
)

SECTION, ALONE = "data.html", "data_alone.html"
"""The template of the section, and the template of a page with only this section."""
DAMAGED = (
    '<section id="data"><h2>The data</h2>\n'
    f'<p class="note">{DATA_REPORT}, the report on the data, cannot be read.</p></section>'
)
VISIBLE_CLASSES = 30
"""Number of classes that are visible at first; a click shows the others."""


def section(folder: Path | None) -> Markup:
    """Render the section from the report in a search's folder; empty if there is no report.

    If the report cannot be read, the section says so.
    """
    try:
        report = DataReport.from_json(json.loads(_read(folder, DATA_REPORT)))
    except FileNotFoundError:
        return Markup()
    except (OSError, ValueError, KeyError, TypeError):
        return Markup(DAMAGED)
    try:
        picture = _read(folder, DATA_PICTURE)
    except OSError:
        picture = b""
    return render_section(report, picture)


def twins(folder: Path | None) -> dict[str, list[str]]:
    """Return, for each image file, texts on the files with the same picture but another class.

    Empty if there is no readable report.
    """
    contradicting: dict[str, list[str]] = {}
    with suppress(OSError, ValueError, KeyError, TypeError):  # `section` reports the error
        report = DataReport.from_json(json.loads(_read(folder, DATA_REPORT)))
        for first, label, second, second_label in contradictions(report):
            contradicting.setdefault(first, []).append(f"{second}, which is {second_label}")
            contradicting.setdefault(second, []).append(f"{first}, which is {label}")
    return contradicting


def _read(folder: Path | None, name: str) -> bytes:
    if folder is None:
        raise FileNotFoundError(name)
    return read_regular(folder / name)


def render_section(report: DataReport, picture: bytes) -> Markup:
    """Render a report as a section of the page, with its picture (a PNG) embedded."""
    titles, *rows = class_table(report) or [[]]
    matched = sum(count.images for count in report.match_counts)
    remarks = dict.fromkeys([*warnings(report), *report.remarks])
    filled = template(SECTION).render(
        headline=headline(report),
        remarks=sorted(remarks, key=lambda line: not line.startswith("warning")),
        titles=titles,
        rows=rows,
        visible=VISIBLE_CLASSES,
        facts=facts(report),
        picture=_inline(picture),
        picture_title=picture_title(report),
        width=WIDTH,
        contradictions=contradictions(report),
        matches=[_row(match) for match in report.matches],
        matched=counted(matched, "image"),
        more_matches=matched > len(report.matches),
        left_out=[(omitted.path, omitted.reason) for omitted in report.left_out],
        left_out_count=counted(report.left_out_count, "file"),
        labels=_labels(report),
    )
    return Markup(filled)


def _labels(report: DataReport) -> dict[str, object] | None:
    """Return the values of the section on labels; None if wrong labels were not looked for."""
    if report.labels is None:
        return None
    return {
        "headline": label_headline(report.labels),
        "pairs": list(pair_lines(report.labels)),
        "suspicious": [
            {
                "picture": f"data:image/webp;base64,{suspect.webp}",
                "name": image_text(suspect.image),
                "label": printable(suspect.image.label),
                "suggested": printable(suspect.suggested),
                "chance": chance_text(suspect),
            }
            for suspect in report.labels.suspicious
        ],
    }


def _row(match: Match) -> tuple[str, str, str, str]:
    removed = "yes" if match.removed else ""
    return image_text(match.image), KINDS[match.kind], image_text(match.same_as), removed


def _inline(picture: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(picture).decode()}" if picture else ""


def write_alone(report: DataReport, picture: bytes, path: Path) -> None:
    """Write a page with only this section to `path`, atomically."""
    page = template(ALONE).render(title=headline(report), section=render_section(report, picture))
    partial = path.with_name(f".{path.name}.{uuid4().hex[:8]}")
    partial.write_text(page, encoding="utf-8")
    partial.replace(path)
