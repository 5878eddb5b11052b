"""The page *Data*: a report on a folder of images, or on one of the named data sets."""

from collections.abc import Mapping
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from cluster.errors import NotReady
from search.preflight.adapting import NETWORKS
from search.spaces.find import adaptive
from search.web.forms.children import Asker
from search.web.forms.folders import Listing, allowed, listing
from search.web.forms.look import DataPreview
from search.web.forms.new_search import FOLDER, NewSearchForm
from search.web.site import Site
from trainables.catalog.datasets import DATASETS
from trainables.catalog.weights import cached
from trainables.errors import ConfigError
from trainables.inspection.report import DataReport, Match
from trainables.inspection.words import (
    class_table,
    contradictions,
    facts,
    headline,
    image_text,
    picture_title,
    warnings,
)
from trainables.tasks import TASKS

NAV = ("Data", "/data")
LOOK = "search.web.forms.look"
PRETRAINED = ("transfer", "probe")
"""The spaces whose networks all begin with pretrained weights."""
VISIBLE = 30
"""Number of classes that are visible at first; a click shows the others."""


def routes(site: Site) -> list[BaseRoute]:
    """Build the routes of the page, and of the report, which a child process computes."""
    asker = Asker()
    site.ending.append(asker.end)

    async def show(request: Request) -> Response:
        try:
            search_form = await run_in_threadpool(form_from_address, request.query_params, site)
        except ConfigError as error:
            return await choose(request, site, "/data", str(error))
        if not search_form.data:
            return await choose(request, site, "/data")
        return site.render(request, "data.html", search_form=search_form, part="data_waiting.html")

    async def report(request: Request) -> Response:
        """Render the report as a page or, for htmx, as a part of one.

        This takes seconds, since the data is inspected.
        """
        search_form = NewSearchForm.of(request.query_params)
        words = await run_in_threadpool(search_form.look_words, site)
        output = await asker.ask(LOOK, words)
        try:
            output.check()
        except (ConfigError, NotReady) as error:
            return refused(request, site, search_form, str(error))
        part = "data_report.html"
        page = part if "hx-request" in request.headers else "data.html"
        context = report_context(DataPreview.of(output.out), search_form)
        is_brief = "brief" in request.query_params
        return site.render(
            request, page, search_form=search_form, part=part, brief=is_brief, **context
        )

    return [site.shows("/data", show), site.hints("/data/report", report)]


def refused(request: Request, site: Site, search_form: NewSearchForm, text: str) -> Response:
    """Render the reason why data cannot be used.

    For htmx, the response is a part of a page, with buttons that may help.
    """
    is_part = "hx-request" in request.headers
    page = "data_refused.html" if is_part else "refused.html"
    facts = {"search_form": search_form, "tasks": TASKS.values()} if is_part else {}
    return site.render(request, page, 400, text=text, **facts)


def form_from_address(params: Mapping[str, str], site: Site) -> NewSearchForm:
    """Read the form from a URL query.

    In the query, `folder` is the path of a folder of images that a person has typed. It takes
    precedence over `data`.
    """
    search_form = NewSearchForm.of(params)
    if "folder" in params:
        path = allowed(params["folder"].strip(), site.data_root)
        return NewSearchForm({**search_form.values, "data": f"{FOLDER}{path}"})
    if search_form.data:
        search_form.check_data(site)
    return search_form


async def choose(request: Request, site: Site, then: str, refused: str = "") -> Response:
    """Render the page on which a person chooses the images of a search.

    Args:
        request: the request, which may name the folder to list (`at`).
        site: the objects that all pages share.
        then: the path of the next page, to which the forms of this page lead.
        refused: the reason of a refusal; empty if there was none.
    """
    at = request.query_params.get("at", "")
    folder, trouble = await run_in_threadpool(open_listing, at, site)
    error = refused or trouble
    return site.render(
        request,
        "choose.html",
        400 if error else 200,
        then=then,
        listing=folder,
        error=error,
        typed=request.query_params.get("folder", ""),
        folders=[task.folder for task in TASKS.values()],
        data_sets=[
            (name, entry.description)
            for name, entry in sorted(DATASETS.items())
            if entry.description
        ],
        prefix=FOLDER,
    )


def open_listing(at: str, site: Site) -> tuple[Listing | None, str]:
    """List the folder with the path `at`; without a path, the site's root or the home folder.

    Returns:
        The listing and an empty text, or None and the text of an error.
    """
    try:
        root = site.data_root
        return listing(allowed(at or str(root or "~"), root), root), ""
    except ConfigError as error:
        return None, str(error)


def report_context(preview: DataPreview, search_form: NewSearchForm) -> dict[str, Any]:
    """Collect the variables for the template of the report."""
    report = preview.report
    task = TASKS[report.task]
    space, has_weights = search_form.space(task), not set(NETWORKS).isdisjoint(cached())
    is_adaptive = adaptive(space) is not None
    gets_weights = has_weights or not {"download", "weights"}.isdisjoint(search_form.values)
    resizes = is_adaptive or space in PRETRAINED
    titles, *rows = class_table(report) or [[]]
    remarks = dict.fromkeys([*warnings(report), *report.remarks])
    lines = sorted((in_words(line) for line in remarks), key=lambda line: line[0] != "warning")
    matched = sum(count.images for count in report.match_counts)
    return {
        "headline": headline(report),
        "remarks": lines,
        "titles": titles,
        "rows": rows,
        "class_count": len(report.classes),
        "visible": VISIBLE,
        "facts": facts(report),
        "picture": preview.picture,
        "picture_title": picture_title(report),
        "counted": report.unit.capitalize(),
        "contradictions": contradictions(report),
        "matches": [match_row(match) for match in report.matches],
        "matched": matched,
        "left_out": [(omitted.path, omitted.reason) for omitted in report.left_out],
        "left_out_count": report.left_out_count,
        "leads_to_weights": (
            preview.few_photographs
            and space not in PRETRAINED
            and not (is_adaptive and gets_weights)
        ),
        "has_weights": has_weights,
        "is_large": is_large(report) and not (resizes or task.load_targets().fills_up),
    }


def in_words(line: str) -> tuple[str, str]:
    """Split a line into its kind (`warning`, or `note` by default) and its text."""
    kind, colon, text = line.partition(": ")
    return (kind, text) if colon and kind in ("warning", "note") else ("note", line)


def match_row(match: Match) -> tuple[str, str, str, str]:
    """Build a table row about an image that shows the same picture as an earlier one."""
    removed = "yes" if match.removed else ""
    return image_text(match.image), match.kind, image_text(match.same_as), removed


def is_large(report: DataReport) -> bool:
    """True if the images are so large that networks without pretrained weights train slowly."""
    return min(report.shape[:2]) > 96
