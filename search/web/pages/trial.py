"""The page of a trial: its parameters, its curves, its story, and its files."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from search.design.experiment import NAME
from search.facts.metric import interval
from search.facts.parameters import param_text, value_text
from search.facts.standing import Stage
from search.facts.trials import state_reason
from search.journal.journal import FILE_NAME, read_about
from search.journal.result import FAILED, SearchResult, TrialResult
from search.journal.store import TRIALS
from search.values.nested import flatten
from search.views.text.labels import figure_text, interval_text
from search.views.text.story import beside_guessing, story_of
from search.web.access import HEADERS
from search.web.charts import of_trial
from search.web.feed import Behind, Followed
from search.web.site import Site
from search.web.stream import streamed
from trainables.config import MEMBERS

NAV = None
EVIDENCE = "evidence"
MAX_FILES, MAX_BYTES = 200, 200_000
"""Maximum number of files that are listed, and maximum number of bytes of a file that are shown."""
PNG = b"\x89PNG\r\n\x1a\n"
CLOCK = 9
"""Width in characters of the time at the beginning of each line of a trial's story."""


@dataclass(frozen=True)
class File:
    """A file that is stored for a trial, such as its evaluation."""

    name: str
    """The path relative to the folder of the trial's stored files (`EVIDENCE`)."""
    path: Path
    size: int
    """The size in bytes."""


def routes(site: Site) -> list[BaseRoute]:
    """Build the routes of the page, its stream of events, its charts' data, and its files."""

    async def show(request: Request) -> Response:
        followed, name = await _search_and_trial(site, request)
        return await run_in_threadpool(_page, site, request, followed, name)

    async def events(request: Request) -> Response:
        followed, name = await _search_and_trial(site, request)

        def make(result: SearchResult) -> str:
            trial = _trial_or_behind(result, name)
            part = site.text("trial_now.html", **_facts(followed.name, result, trial))
            stands = {"stand": trial.outcome, "version": followed.version}
            return json.dumps({"parts": {"now": part}, **stands})

        return streamed(request, site.feed, followed, ("trial", name), make)

    async def chart(request: Request) -> Response:
        followed, name = await _search_and_trial(site, request)
        return site.json(await run_in_threadpool(_chart, followed, name))

    async def file(request: Request) -> Response:
        followed, name = await _search_and_trial(site, request)
        return await run_in_threadpool(_file, site, request, followed, name)

    address = "/searches/{name}/trials/{trial}"
    return [
        site.shows(address, show),
        site.shows(f"{address}/events", events),
        site.shows(f"{address}/chart", chart),
        site.shows(f"{address}/files/{{file:path}}", file),
    ]


async def _search_and_trial(site: Site, request: Request) -> tuple[Followed, str]:
    """Find the search and the trial that the path of a URL names; return the trial's name.

    Raises:
        HTTPException: the search has no such trial.
    """
    followed = await site.feed.follow(request.path_params["name"])
    name = request.path_params["trial"]
    if not NAME.fullmatch(name) or followed.result.find(name) is None:
        raise HTTPException(404, f"the search '{followed.name}' has no trial '{name[:80]}'.")
    return followed, name


def _trial_or_behind(result: SearchResult, name: str) -> TrialResult:
    """Find a trial by name.

    Raises:
        Behind: the journal was replaced by one without this trial.
    """
    trial = result.find(name)
    if trial is None:
        raise Behind(
            f"trial {name} no longer exists, because the search was started again. Open the page "
            "of the search."
        )
    return trial


def _chart(followed: Followed, name: str) -> str:
    """Collect the data of the trial's charts, as JSON."""
    with followed.reading() as result:
        return json.dumps({"number": followed.number, **of_trial(_trial_or_behind(result, name))})


def _page(site: Site, request: Request, followed: Followed, name: str) -> Response:
    """Render the page.

    For the story of the trial, only the events that may concern it are read from the journal.
    """
    events, files = read_about(followed.home.opened() / FILE_NAME, name), _files(followed, name)
    with followed.reading() as result:
        trial = _trial_or_behind(result, name)
        past_events = [event for event in events if event.number <= followed.number]
        story = [
            (line[:CLOCK].strip(), line[CLOCK:].rstrip())
            for line in story_of(past_events, name, followed.history)
        ]
        return site.render(
            request,
            "trial.html",
            **_facts(followed.name, result, trial),
            version=followed.version,
            is_over=trial.ended_ms > 0 and followed.standing.stage is Stage.OVER,
            params=[(path, value_text(trial, path)) for path in trial.params],
            config=[
                (path, param_text(value))
                for path, value in flatten(trial.config)
                if path != MEMBERS
            ],
            story=story,
            guessing=beside_guessing(result, name),
            files=files,
        )


def _facts(search: str, result: SearchResult, trial: TrialResult) -> dict[str, Any]:
    """Collect the variables for the template of the page's changing part."""
    images, metric = result.images, trial.metric
    tiles = [("state", trial.outcome, f"attempt {trial.attempt}" if trial.attempt > 1 else "")]
    if trial.epochs:
        value = figure_text(trial) if trial.outcome not in FAILED else "no valid result"
        note = interval_text(interval(trial, images))
        note += "" if trial.members else f", at epoch {trial.best_epoch}"
        tiles.insert(0, (f"validation {metric.title}", value, note))
    if trial.members:
        tiles.append(("networks", f"{len(trial.members)}", "whose probabilities are averaged"))
    else:
        tiles += [
            ("epochs", f"{len(trial.epochs)}", f"of {trial.config.get('epochs', 0)}"),
            ("training", f"{trial.train_s:.1f} s", "of training and validation"),
        ]
    return {
        "search": search,
        "trial": trial,
        "tiles": tiles,
        "why": state_reason(trial),
        "is_best": result.best is trial,
    }


def _files(followed: Followed, name: str) -> list[File]:
    """List the stored files of a trial; symbolic links and files below them are skipped."""
    folder = followed.home.read(f"{TRIALS}/{name}/{EVIDENCE}")
    own = folder.parents[2].resolve() / TRIALS / name / EVIDENCE
    paths = [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.resolve() == own / path.relative_to(folder)
    ]
    return [
        File(path.relative_to(folder).as_posix(), path, path.stat().st_size)
        for path in paths[:MAX_FILES]
    ]


def _file(site: Site, request: Request, followed: Followed, name: str) -> Response:
    """Send a stored file: a PNG image as it is, any other file as text on a page.

    Raises:
        HTTPException: there is no such file.
    """
    file_name = request.path_params["file"]
    stored_file = next((entry for entry in _files(followed, name) if entry.name == file_name), None)
    if stored_file is None:
        raise HTTPException(404, "there is no such file.")
    with stored_file.path.open("rb") as file:
        content = file.read(MAX_BYTES if not stored_file.name.endswith(".png") else 20 * MAX_BYTES)
    if content.startswith(PNG):
        return Response(content, headers={**HEADERS, "Content-Type": "image/png"})
    return site.render(
        request,
        "file.html",
        search=followed.name,
        trial=name,
        name=stored_file.name,
        text=content[:MAX_BYTES].decode("utf-8", "replace"),
        is_cut=stored_file.size > MAX_BYTES,
        size=stored_file.size,
    )
