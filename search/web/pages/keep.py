"""The pages that export the trials of a search, remove its checkpoints, or delete the search."""

import io

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute

from search.facts.trials import trial_table
from search.journal.journal import JournalError
from search.journal.keeping import ANSWER, NEEDED
from search.journal.lease import LeaseHeld
from search.journal.store import Home
from search.operations.clean import clean_search, removable_of, size_of
from search.operations.delete import DeleteRequest, delete, deletion_of
from search.operations.deletion import deletion_lines
from search.views.csv_output import Rows
from search.views.removable_table import removable_rows
from search.web.access import HEADERS
from search.web.forms.launch import Launcher
from search.web.pages.steer import home_or_404, result_and_holder
from search.web.site import Site
from trainables.machine import size_text

NAV = None
KEEPS = {
    NEEDED: "Keep what the search may continue from",
    ANSWER: "Keep only the answer",
}
Choice = tuple[str, str, str, list[tuple[str, int, str, str]]]
"""A value of `--keep`, its description, the size of the checkpoints that it would remove, and table
rows about these checkpoints (`removable_rows`).
"""


def routes(site: Site) -> list[BaseRoute]:
    """Build the routes of the table of trials, the removal of checkpoints, and the deletion."""
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
            raise HTTPException(400, "choose what to keep.")
        notes = list[str]()
        size = await run_in_threadpool(
            clean_search, home_or_404(site, name), site.place, keep, notes.append
        )
        notes.append(f"{size_text(size)} of checkpoints were removed.")
        return await clean_page(request, site, " ".join(notes))

    async def before_delete(request: Request) -> Response:
        name = request.path_params["name"]
        deletion_lines = await run_in_threadpool(going, site, name)
        return site.render(request, "delete.html", search=name, lines=deletion_lines)

    async def remove(request: Request, form: FormData) -> Response:
        if not form.get("sure"):
            raise HTTPException(400, "nothing was deleted. Confirm the deletion with the checkbox.")
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
    """Format the trials of a search as CSV, like `search.export`."""
    result, _ = result_and_holder(site, name)
    trials, text = trial_table(result), io.StringIO()
    rows = Rows(text, trials.columns)
    for row in trials.rows:
        rows.write(row)
    return text.getvalue()


async def clean_page(request: Request, site: Site, message: str = "") -> Response:
    """Render the page about removable checkpoints.

    `message` says which checkpoints were just removed; it is empty if none were.
    """
    name = request.path_params["name"]
    choices = await run_in_threadpool(choices_of, site, name)
    return site.render(request, "clean.html", search=name, choices=choices, message=message)


def choices_of(site: Site, name: str) -> list[Choice]:
    """Find the removable checkpoints for each value of `--keep`.

    Raises:
        LeaseHeld: a driver is running the search.
    """
    result, holder = result_and_holder(site, name)
    if holder:
        raise LeaseHeld(
            f"the checkpoints of '{name}' cannot be removed while the search is running. Wait "
            "until the search ends, or stop it."
        )
    home = home_or_404(site, name)
    removable = {keep: removable_of(result, home, site.place, keep) for keep in KEEPS}
    return [
        (keep, KEEPS[keep], size_text(size_of(trials)), removable_rows(trials))
        for keep, trials in removable.items()
    ]


def going(site: Site, name: str) -> list[str]:
    """Describe in lines what the deletion of a search removes, and what remains.

    Raises:
        JournalError: there is no such search.
        LeaseHeld: a driver is running the search.
    """
    if holder := _existing_home(site, name).holder():
        raise LeaseHeld(
            f"the search '{name}' cannot be deleted, because it is being run by {holder}. Stop the "
            "search first."
        )
    deletion = deletion_of(DeleteRequest(name=name, storage=site.place))
    what, where, *further_lines = [line.strip() for line in deletion_lines(deletion)]
    return [f"{what} {where}", *further_lines]


def removed(site: Site, name: str) -> None:
    """Delete a search and its runs in MLflow.

    Raises:
        JournalError: there is no such search.
    """
    _existing_home(site, name)
    delete(DeleteRequest(name=name, storage=site.place))


def _existing_home(site: Site, name: str) -> Home:
    """Return the storage of a search that exists, even if its journal is damaged.

    Raises:
        JournalError: there is no such search.
    """
    home = home_or_404(site, name)
    if not home.names():
        raise JournalError(f"there is no search '{name}' in the storage of this server.")
    return home
