"""The page *New search*: a form with the settings of a search, and its estimated duration."""

import json

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute

from search.journal.store import home
from search.schedulers.registry import SCHEDULERS
from search.spaces.find import find, names, purpose
from search.values.option import words_of
from search.values.wording import durations
from search.web.forms.children import Asker, ProcessOutput
from search.web.forms.launch import Launched, Launcher, refusal_of
from search.web.forms.new_search import FIELDS, NewSearchForm
from search.web.pages.data import choose, form_from_address
from search.web.site import Site
from trainables.catalog.entries import Metric
from trainables.errors import ConfigError
from trainables.robustness.stress_tests import ATTACKED, CORRUPTED
from trainables.values import Json

NAV = ("New search", "/new")
# The key of a default is empty, so that this choice adds no option to the command line.
ALGORITHM_WORDS = {
    "": "learn from the earlier trials (bayes)",
    "gp": "the same with a Gaussian process, for few settings (gp)",
    "grid": "every combination (grid)",
    "random": "at random (random)",
}
EVALUATION_WORDS = {
    "": "is not measured",
    CORRUPTED: "on corrupted images (corruptions)",
    ATTACKED: "under attacks (adversarial)",
    f"{CORRUPTED},{ATTACKED}": "both",
}
SIZES = {
    "": "as they are, up to 224 x 224",
    "128": "128 x 128",
    "64": "64 x 64: a twelfth of the work",
    "32": "32 x 32",
}
CROP_SIZES = {
    "": "by the size of the images, up to 224 x 224",
    "224": "224 x 224",
    "128": "128 x 128",
    "64": "64 x 64",
    "32": "32 x 32",
}
"""The sizes for tasks that train on crops; images are not resized."""
LONG_S = 3600
"""Expected duration in seconds above which the plan suggests how to shorten the search."""
OPENING = (
    *("space", "name", "trials", "max_epochs", "budget"),
    *("download", "weights", "unlabelled", "groups", "image_size"),
)
"""Fields of the form that are visible at first; a click shows the others."""


def routes(site: Site) -> list[BaseRoute]:
    """Build the routes of the form, of its check, of the plan, and of the start."""
    asker, launcher = Asker(), Launcher(site.place)
    site.ending.append(asker.end)

    async def show(request: Request) -> Response:
        try:
            search_form = await run_in_threadpool(form_from_address, request.query_params, site)
        except ConfigError as error:
            return await choose(request, site, "/new", str(error))
        if not search_form.data:
            return await choose(request, site, "/new")
        return await form_page(request, site, search_form)

    async def checked(request: Request) -> Response:
        """Check the form; render the equivalent command line, and a placeholder for the plan."""
        search_form = NewSearchForm.of(request.query_params)
        command = await run_in_threadpool(search_form.command, site)
        return site.render(request, "new_checked.html", command=command, search_form=search_form)

    async def plan(request: Request) -> Response:
        search_form = NewSearchForm.of(request.query_params)
        options = await run_in_threadpool(search_form.request, site)
        output = await asker.ask("search.run", [*words_of(options), "--dry-run", "--json"])
        output.check()
        return site.render(request, "new_plan.html", **plan_context(output))

    async def start(request: Request, form: FormData) -> Response:
        search_form = NewSearchForm.of(form)
        await asker.end()
        try:
            started = await run_in_threadpool(started_by, search_form, site, launcher)
        except ConfigError as error:
            return await form_page(request, site, search_form, str(error))
        if refused := await refusal_of(started):
            return await form_page(request, site, search_form, str(refused))
        return RedirectResponse(f"/started/{started.id}", 303)

    return [
        site.shows("/new", show),
        site.hints("/new/checked", checked),
        site.hints("/new/plan", plan),
        site.changes("/new", start),
    ]


async def form_page(
    request: Request, site: Site, search_form: NewSearchForm, error: str = ""
) -> Response:
    """Render the form with its values.

    `error` is the reason of a refusal; it is empty if there was none.
    """
    task = await run_in_threadpool(search_form.task, site)
    space = search_form.space(task)
    suited = names(task.name)
    own = find(space) if space in suited else None
    takes_crops = task.load_targets().fills_up
    return site.render(
        request,
        "new.html",
        400 if error else 200,
        search_form=search_form,
        values={name: search_form.values.get(name, "") for name in FIELDS},
        error=error,
        space=space,
        spaces=[(name, purpose(name)) for name in suited],
        trials=None if own is None else own.trials,
        metrics=[
            ("" if metric.is_primary else metric.name, metric_words(metric))
            for metric in task.metrics
        ],
        evaluations=EVALUATION_WORDS.items() if "robustness" in task.can else (),
        algorithms=ALGORITHM_WORDS.items(),
        schedulers=[
            ("" if name == "asha" else name, f"{scheduler.summary} ({name})")
            for name, scheduler in SCHEDULERS.items()
        ],
        sizes=(CROP_SIZES if takes_crops else SIZES).items(),
        size_title="Size of the crops in training" if takes_crops else "Image size",
        has_more=bool(search_form.values.keys() - {*OPENING, "data"}),
    )


def metric_words(metric: Metric) -> str:
    """Return a metric's title; that of the primary one says that it is the usual one."""
    return f"{metric.title} (usual)" if metric.is_primary else metric.title


def started_by(search_form: NewSearchForm, site: Site, launcher: Launcher) -> Launched:
    """Start the search that a form describes.

    Raises:
        ConfigError: there is already a search with this name, or a value is not allowed.
    """
    back = f"/new?{search_form.query}"
    search_form.request(site)
    search_form = search_form.with_name(site)
    name = search_form.values["name"]
    if home(site.place, name).exists():
        raise ConfigError(f"there is already a search named '{name}'. Choose another name.")
    return launcher.start("run", name, words_of(search_form.request(site)), back)


def plan_context(output: ProcessOutput) -> Json:
    """Collect the variables for the plan's template from the output of `search.run --dry-run`."""
    plan = json.loads(output.out.splitlines()[-1])
    # The page has its own recommendation of pretrained weights for few photographs.
    lines = [line for line in output.notes[2:-1] if "--space transfer" not in line]
    return {
        "takes": durations(plan["seconds"], plan["most_seconds"]),
        "trials": plan["trials"],
        "epochs": plan["expected_epochs"],
        "device": plan["device"],
        "slots": plan["slots"],
        "lines": lines,
        "is_long": plan["seconds"] > LONG_S,
    }
