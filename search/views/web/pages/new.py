"""The page *New search*: images, what to try on them, what it would cost, and the start."""

import json

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute

from search.journal.store import home
from search.spaces.find import find, names, purpose
from search.values.wording import durations
from search.views.web.forms.children import Asker, ProcessOutput
from search.views.web.forms.launch import Launched, Launcher, refusal_of
from search.views.web.forms.wanted import FIELDS, NewSearchForm
from search.views.web.pages.data import asked_for, choose
from search.views.web.site import Site
from trainables.catalog.tasks import CLASSIFICATION
from trainables.errors import ConfigError
from trainables.values import Json

NAV = ("New search", "/new")
# The usual choice is no option of the command line.
ALGORITHM_WORDS = {
    "": "learn from the trials before (bayes)",
    "gp": "the same by a Gaussian process, for few settings (gp)",
    "grid": "every combination (grid)",
    "random": "at random (random)",
}
SCHEDULER_WORDS = {
    "": "stop trials early that are behind (asha)",
    "fifo": "train each to its end (fifo)",
}
SIZES = {
    "": "as they are, up to 224 x 224",
    "128": "128 x 128",
    "64": "64 x 64: a twelfth of the work",
    "32": "32 x 32",
}
LONG_S = 3600
"""A search that takes longer is told how it would be quicker."""
OPENING = ("space", "name", "trials", "max_epochs", "budget", "download", "image_size")
"""The fields that are visible at once; the others are a click away."""


def routes(site: Site) -> list[BaseRoute]:
    """Return the page's routes."""
    asker, launcher = Asker(), Launcher(site.place)
    site.ending.append(asker.end)

    async def show(request: Request) -> Response:
        try:
            wanted = await run_in_threadpool(asked_for, request.query_params, site)
        except ConfigError as error:
            return await choose(request, site, "/new", str(error))
        if not wanted.data:
            return await choose(request, site, "/new")
        return form_page(request, site, wanted)

    async def checked(request: Request) -> Response:
        """Answer with the command line, and a place for the plan."""
        wanted = NewSearchForm.of(request.query_params)
        command = await run_in_threadpool(wanted.command, site)
        return site.render(request, "new_checked.html", command=command, wanted=wanted)

    async def plan(request: Request) -> Response:
        wanted = NewSearchForm.of(request.query_params)
        words = await run_in_threadpool(wanted.words, site)
        told = await asker.ask("search.run", [*words, "--dry-run", "--json"])
        told.check()
        return site.render(request, "new_plan.html", **planned(told))

    async def start(request: Request, form: FormData) -> Response:
        wanted = NewSearchForm.of(form)
        await asker.end()
        try:
            started = await run_in_threadpool(started_by, wanted, site, launcher)
        except ConfigError as error:
            return form_page(request, site, wanted, str(error))
        if refused := await refusal_of(started):
            return form_page(request, site, wanted, refused)
        return RedirectResponse(f"/started/{started.id}", 303)

    return [
        site.shows("/new", show),
        site.hints("/new/checked", checked),
        site.hints("/new/plan", plan),
        site.changes("/new", start),
    ]


def form_page(request: Request, site: Site, wanted: NewSearchForm, error: str = "") -> Response:
    """Return the form with what is filled in, and why that was refused."""
    own = find(wanted.space) if wanted.space in names() else None
    return site.render(
        request,
        "new.html",
        400 if error else 200,
        wanted=wanted,
        values={name: wanted.values.get(name, "") for name in FIELDS},
        error=error,
        spaces=[(name, purpose(name)) for name in names()],
        trials=None if own is None else own.trials,
        metrics=[(metric.name, metric.title) for metric in CLASSIFICATION.metrics],
        algorithms=ALGORITHM_WORDS.items(),
        schedulers=SCHEDULER_WORDS.items(),
        sizes=SIZES.items(),
        has_more=bool(wanted.values.keys() - {*OPENING, "data"}),
    )


def started_by(wanted: NewSearchForm, site: Site, launcher: Launcher) -> Launched:
    """Start the search that a form describes.

    Raises:
        ConfigError: a value is refused, or there is a search of that name.
    """
    back = f"/new?{wanted.query}"
    wanted.words(site)
    wanted = wanted.named()
    name = wanted.values["name"]
    if home(site.place, name).exists():
        raise ConfigError(f"there is a search named '{name}' already. Choose another name.")
    return launcher.start("run", name, wanted.words(site), back)


def planned(told: ProcessOutput) -> Json:
    """Return what the plan's template shows, of what `search.run --dry-run --json` has said."""
    plan = json.loads(told.out.splitlines()[-1])
    # The page says in its own words that few photographs had better begin with trained weights.
    lines = [one for one in told.notes[2:-1] if "--space transfer" not in one]
    return {
        "takes": durations(plan["seconds"], plan["most_seconds"]),
        "trials": plan["trials"],
        "epochs": plan["expected_epochs"],
        "device": plan["device"],
        "slots": plan["slots"],
        "lines": lines,
        "is_long": plan["seconds"] > LONG_S,
    }
