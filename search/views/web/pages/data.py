"""The page *Data*: what a folder of images, or a data set by name, holds and lacks."""

from collections.abc import Mapping
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from cluster.errors import NotReady
from search.run import named_data_sets
from search.views.web.forms.children import Asker
from search.views.web.forms.folders import Listing, allowed, listing
from search.views.web.forms.look import Seen
from search.views.web.forms.wanted import FOLDER, Wanted
from search.views.web.site import Site
from trainables.catalog.weights import cached
from trainables.errors import ConfigError
from trainables.inspection.matches import Match
from trainables.inspection.report import DataReport
from trainables.inspection.words import class_table, facts, headline, image_text, warnings

NAV = ("Data", "/data")
LOOK = "search.views.web.forms.look"
VISIBLE = 30
"""The number of classes that are visible; the others are a click away."""


def routes(site: Site) -> list[BaseRoute]:
    """Return the page's routes."""
    asker = Asker()
    site.ending.append(asker.end)

    async def show(request: Request) -> Response:
        try:
            wanted = await run_in_threadpool(asked_for, request.query_params, site)
        except ConfigError as error:
            return await choose(request, site, "/data", str(error))
        if not wanted.data:
            return await choose(request, site, "/data")
        return site.render(request, "data.html", wanted=wanted, part="data_waiting.html")

    async def report(request: Request) -> Response:
        """Answer with the report, which takes seconds: a part of a page, or all of one."""
        wanted = Wanted.of(request.query_params)
        words = await run_in_threadpool(wanted.look_words, site)
        told = await asker.ask(LOOK, words)
        try:
            told.check()
        except (ConfigError, NotReady) as error:
            return refused(request, site, wanted, str(error))
        part = "data_report.html"
        page = part if "hx-request" in request.headers else "data.html"
        told_of = shown(Seen.of(told.out), wanted)
        is_brief = "brief" in request.query_params
        return site.render(request, page, wanted=wanted, part=part, brief=is_brief, **told_of)

    return [site.shows("/data", show), site.hints("/data/report", report)]


def refused(request: Request, site: Site, wanted: Wanted, text: str) -> Response:
    """Return why data cannot be used, and what the form has against it."""
    is_part = "hx-request" in request.headers
    page = "data_refused.html" if is_part else "refused.html"
    facts = {"wanted": wanted} if is_part else {}
    return site.render(request, page, 400, text=text, **facts)


def asked_for(given: Mapping[str, str], site: Site) -> Wanted:
    """Return what an address asks for, with a folder that was typed as its data.

    Raises:
        ConfigError: the folder may not be named here, or is none.
    """
    wanted = Wanted.of(given)
    if "folder" in given:
        path = allowed(given["folder"].strip(), site.data_root)
        return Wanted({**wanted.values, "data": f"{FOLDER}{path}"})
    if wanted.data:
        wanted.check_data(site)
    return wanted


async def choose(request: Request, site: Site, then: str, refused: str = "") -> Response:
    """Return the page on which images are chosen, which leads to `then`."""
    at = request.query_params.get("at", "")
    found, trouble = await run_in_threadpool(looked_through, at, site)
    error = refused or trouble
    return site.render(
        request,
        "choose.html",
        400 if error else 200,
        then=then,
        listing=found,
        error=error,
        typed=request.query_params.get("folder", ""),
        data_sets=[
            (name, DATASET_WORDS[name]) for name in sorted(named_data_sets() & DATASET_WORDS.keys())
        ],
        prefix=FOLDER,
    )


DATASET_WORDS = {
    "digits": "1,797 handwritten digits, 8 x 8 pixels: here already, and searched in a minute",
    "mnist": "70,000 handwritten digits, 28 x 28 pixels",
    "fashion_mnist": "70,000 pieces of clothing, 28 x 28 pixels, grey",
    "cifar10": "60,000 small photographs in ten classes, 32 x 32 pixels",
}


def looked_through(at: str, site: Site) -> tuple[Listing | None, str]:
    """Return the folder that is looked through, and why it is none; empty names the first one."""
    try:
        root = site.data_root
        return listing(allowed(at or str(root or "~"), root), root), ""
    except ConfigError as error:
        return None, str(error)


def shown(seen: Seen, wanted: Wanted) -> dict[str, Any]:
    """Return what the report's template shows."""
    report = seen.report
    titles, *rows = class_table(report) if report.counts else [[]]
    said = dict.fromkeys([*warnings(report), *report.remarks])
    lines = sorted((in_words(line) for line in said), key=lambda line: line[0] != "warning")
    matched = sum(count.images for count in report.match_counts)
    return {
        "headline": headline(report),
        "said": lines,
        "titles": titles,
        "rows": rows,
        "visible": VISIBLE,
        "facts": facts(report),
        "picture": seen.picture,
        "matches": [match_row(match) for match in report.matches],
        "matched": matched,
        "left_out": [(one.path, one.reason) for one in report.left_out],
        "left_out_count": report.left_out_count,
        "leads_to_transfer": seen.few_photographs and wanted.space != "transfer",
        "has_weights": bool(cached()),
        "is_large": is_large(report) and wanted.space != "transfer",
    }


def in_words(line: str) -> tuple[str, str]:
    """Return a line's kind, `warning` or `note`, and its text."""
    kind, colon, text = line.partition(": ")
    return (kind, text) if colon and kind in ("warning", "note") else ("note", line)


def match_row(match: Match) -> tuple[str, str, str, str]:
    """Return two images that show one picture, as a row of text."""
    removed = "yes" if match.removed else ""
    return image_text(match.image), match.kind, image_text(match.same_as), removed


def is_large(report: DataReport) -> bool:
    """Return whether networks that learn from nothing take long on images of this size."""
    return min(report.shape[:2]) > 96
