"""The pages by which a search is taken along as a table, made smaller, or deleted."""

import io

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute

from search.clean import clean_search
from search.cli.csv_output import Rows
from search.delete import delete, deletion_of, lines
from search.export import trial_table
from search.journal.journal import JournalError
from search.journal.keeping import ANSWER, NEEDED, find_removable, totals_by_kind
from search.journal.lease import LeaseHeld
from search.journal.naming import refuse_cut_off
from search.journal.store import Home
from search.views.web.access import HEADERS
from search.views.web.forms.launch import Launcher
from search.views.web.pages.steer import found, kept
from search.views.web.site import Site
from trainables.memory import size_text

NAV = None
KEEPS = {
    NEEDED: "Keep what the search may go on from",
    ANSWER: "Keep the answer alone",
}
Choice = tuple[str, str, str, list[tuple[str, int, str, str]]]
"""What is kept, that in words, the bytes that would go, and these by kind."""


def routes(site: Site) -> list[BaseRoute]:
    """Return the pages' routes."""
    launcher = Launcher(site.place)

    async def table(request: Request) -> Response:
        name = request.path_params["name"]
        text = await run_in_threadpool(lambda: csv_of(site, name))
        kind = {"Content-Type": "text/csv; charset=utf-8"}
        sent = {"Content-Disposition": f'attachment; filename="{name}.csv"'}
        return Response(text, headers={**HEADERS, **kind, **sent})

    async def before_clean(request: Request) -> Response:
        return await clean_page(request, site)

    async def clean(request: Request, form: FormData) -> Response:
        name, keep = request.path_params["name"], str(form.get("keep", ""))
        if keep not in KEEPS:
            raise HTTPException(400, "say what is to be kept.")
        notes = list[str]()
        size = await run_in_threadpool(
            clean_search, found(site, name), site.place, keep, notes.append
        )
        notes.append(f"{size_text(size)} of checkpoints were removed.")
        return await clean_page(request, site, " ".join(notes))

    async def before_delete(request: Request) -> Response:
        name = request.path_params["name"]
        told = await run_in_threadpool(going, site, name)
        return site.render(request, "delete.html", search=name, lines=told)

    async def remove(request: Request, form: FormData) -> Response:
        if not form.get("sure"):
            raise HTTPException(400, "nothing was deleted: say that you are sure.")
        name = request.path_params["name"]
        await run_in_threadpool(removed, site, name)
        await run_in_threadpool(launcher.forget, name)
        return RedirectResponse("/", 303)

    return [
        site.shows("/searches/{name}/trials.csv", table),
        site.shows("/searches/{name}/clean", before_clean),
        site.changes("/searches/{name}/clean", clean),
        site.shows("/searches/{name}/delete", before_delete),
        site.changes("/searches/{name}/delete", remove),
    ]


def csv_of(site: Site, name: str) -> str:
    """Return a search's trials as CSV, as `search.export` writes them.

    Raises:
        JournalError: there is no such search.
    """
    result, _ = kept(site, name)
    made, text = trial_table(result), io.StringIO()
    rows = Rows(text, made.columns)
    for row in made.rows:
        rows.write(row)
    return text.getvalue()


async def clean_page(request: Request, site: Site, said: str = "") -> Response:
    """Return the page on what can be removed, and what was."""
    name = request.path_params["name"]
    choices = await run_in_threadpool(choices_of, site, name)
    return site.render(request, "clean.html", search=name, choices=choices, said=said)


def choices_of(site: Site, name: str) -> list[Choice]:
    """Return what would go, for each choice of what is kept.

    Raises:
        JournalError: there is no such search.
        LeaseHeld: a driver has the search.
        Refused: it was cut off.
    """
    result, holder = kept(site, name)
    if holder:
        raise LeaseHeld(f"the search '{name}' runs now. Wait for its end, or stop it first.")
    refuse_cut_off(result, site.place)
    made = []
    for keep, words in KEEPS.items():
        goes = find_removable(result, found(site, name), keep)
        kinds = [
            (kind.title, trials, size_text(size), kind.lost)
            for kind, (trials, size) in totals_by_kind(goes).items()
        ]
        made.append((keep, words, size_text(sum(one.size for one in goes)), kinds))
    return made


def going(site: Site, name: str) -> list[str]:
    """Return what goes where a search is deleted, and what stays, in lines.

    Raises:
        JournalError: there is no such search.
        LeaseHeld: a driver has it.
        NotReady, OSError: MLflow or the storage refuses.
    """
    place: Home = found(site, name)
    if not place.names():
        raise JournalError(f"there is no search '{name}' here.")
    if holder := place.holder():
        raise LeaseHeld(f"the search '{name}' is being run by {holder}. Stop it first.")
    what, where, *others = [line.strip() for line in lines(deletion_of(site.place, name))]
    return [f"{what} {where}", *others]


def removed(site: Site, name: str) -> None:
    """Delete a search, with its runs in MLflow.

    Raises:
        JournalError, LeaseHeld, NotReady, OSError: as `going`.
    """
    place: Home = found(site, name)
    if not place.names():
        raise JournalError(f"there is no search '{name}' here.")
    with place.lease():
        delete(place, deletion_of(site.place, name))
