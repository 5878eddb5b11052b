"""The acting part of a search's page: what can be asked of it now, and what would come of that."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute

from search.decisions.steering import Reply, Standing, is_selecting, preview_request, reply_to
from search.design.experiment import NAME, Experiment
from search.journal.events import Requested
from search.journal.requests import (
    EXTEND,
    PAUSE,
    STOP,
    DriverRequest,
    Unreadable,
    ask,
    asker,
    waiting_requests,
)
from search.journal.result import SearchResult, moment
from search.journal.store import Home, home
from search.values.message import message_of
from search.views.web.forms.children import Asker
from search.views.web.forms.launch import Launched, Launcher, command_line, refusal_of
from search.views.web.forms.verbs import FORMS, VerbForm, button_name, verb_words, with_button_names
from search.views.web.pages.started import title_of
from search.views.web.site import Site
from search.views.web.words import stand
from trainables.errors import ConfigError

NAV = None
SHOWN = 8
"""The most requests, and commands that were started here, that are shown."""
EVENTS = ("steer-changed", "now-changed")
"""The events on which a page loads all of the acting part again, or what can be asked now."""
OPTIONS = ("trials", "budget", "concurrency")
"""The options of an extension, by the fields of its form."""


def routes(site: Site) -> list[BaseRoute]:
    """Return the routes of requests, and of what else can be done with a search."""
    asker, launcher = Asker(), Launcher(site.place)
    site.ending.append(asker.end)

    async def show(request: Request) -> Response:
        return await steer_page(request, site, launcher)

    async def news(request: Request) -> Response:
        """Answer with what was asked, and what came of it, as a part."""
        facts = await steered(site, launcher, request.path_params["name"])
        answer = site.render(request, "steer_news.html", steered=facts)
        if changed := facts.changed(request.query_params.get("seen", "")):
            answer.headers["HX-Trigger"] = ", ".join(changed)
        return answer

    async def now(request: Request) -> Response:
        facts = await steered(site, launcher, request.path_params["name"])
        chosen = request.query_params.get("trial", "")
        return site.render(request, "steer_now.html", steered=facts, chosen=chosen)

    async def foresee(request: Request) -> Response:
        name, given = request.path_params["name"], dict(request.query_params)
        told = await run_in_threadpool(preview_of, site, name, given)
        text = told.message.render(button_name)
        return site.render(request, "steer_foreseen.html", told=told, text=text)

    async def request_it(request: Request, form: FormData) -> Response:
        name, given = request.path_params["name"], texts(form)
        told = await run_in_threadpool(post_request, site, name, given)
        if "hx-request" not in request.headers:
            return await steer_page(request, site, launcher, told)
        answer = site.render(request, "steer_asked.html", said=told)
        answer.headers["HX-Trigger"] = "asked"
        return answer

    return [
        site.shows("/searches/{name}/steer", show),
        site.shows("/searches/{name}/steer/news", news),
        site.shows("/searches/{name}/steer/now", now),
        site.hints("/searches/{name}/foreseen", foresee),
        site.changes("/searches/{name}/ask", request_it),
        *verb_routes(site, asker, launcher),
    ]


def verb_routes(site: Site, asker: Asker, launcher: Launcher) -> list[BaseRoute]:
    """Return the routes of verbs that go on from a search: what they do and cost, and the start."""

    async def show(request: Request) -> Response:
        return verb_page(request, site, dict(request.query_params))

    async def cost(request: Request) -> Response:
        name, verb = request.path_params["name"], verb_of(request)
        words = verb_words(verb, name, dict(request.query_params), site)
        lines = await cost_lines(asker, site, name, verb, words)
        return site.render(
            request, "verb_cost.html", lines=lines, command=command_line(verb, words)
        )

    async def start(request: Request, form: FormData) -> Response:
        name, verb, given = request.path_params["name"], verb_of(request), texts(form)
        await asker.end()
        try:
            words = verb_words(verb, name, given, site)
        except ConfigError as error:
            return verb_page(request, site, given, str(error))
        back = f"/searches/{name}/next/{verb}"
        started = await run_in_threadpool(launcher.start, verb, name, words, back)
        if refused := await refusal_of(started):
            return verb_page(request, site, given, refused)
        return RedirectResponse(f"/started/{started.id}", 303)

    return [
        site.shows("/searches/{name}/next/{verb}", show),
        site.hints("/searches/{name}/cost/{verb}", cost),
        site.changes("/searches/{name}/next/{verb}", start),
    ]


def texts(form: FormData) -> dict[str, str]:
    """Return the fields of a form that are text."""
    return {name: value for name, value in form.items() if isinstance(value, str)}


def verb_of(request: Request) -> str:
    """Return the verb that an address names.

    Raises:
        HTTPException: there is no such verb.
    """
    verb = str(request.path_params["verb"])
    if verb not in FORMS:
        raise HTTPException(404, "there is no such page.")
    return verb


def verb_page(request: Request, site: Site, given: Mapping[str, str], error: str = "") -> Response:
    """Return the page of a verb, with what is filled in, and why that was refused."""
    name = verb_of(request)
    return site.render(
        request,
        "verb.html",
        400 if error else 200,
        search=request.path_params["name"],
        name=name,
        verb=FORMS[name],
        values={field.option: given.get(field.option, "") for field in FORMS[name].fields},
        error=with_button_names(error),
    )


async def cost_lines(
    asker: Asker, site: Site, search: str, verb: str, words: list[str]
) -> list[str]:
    """Describe in lines what a verb would do and cost.

    Raises:
        ConfigError: it would be refused.
    """
    if verb == "resume":
        return await run_in_threadpool(resume_lines, site, search, words)
    if not FORMS[verb].tells_cost:
        return []
    told = await asker.ask(f"search.{verb}", ["--dry-run", *words])
    told.check()
    lines = map(str.strip, [*told.notes, *told.out.splitlines()])
    return [with_button_names(line) for line in lines if line]


def resume_lines(site: Site, search: str, words: list[str]) -> list[str]:
    """Describe in lines how far a search is, and what more trials would cost."""
    result, _ = result_and_holder(site, search)
    lines = [f"{result.ended} of {len(result.trials)} trials that were begun have ended."]
    given = FORMS["resume"].parser().parse_args(words)
    if given.trials is not None:
        experiment = Experiment.from_description(search, result.started.experiment, site.place)
        asked = DriverRequest.now(EXTEND, trials=str(given.trials))
        told = reply_to(asked, experiment, result, Standing(is_live=True))
        lines.append(f"{told.message.render(button_name)}.")
        lines += [f"It costs {told.cost}."] if told.cost else []
    return lines


def result_and_holder(site: Site, name: str) -> tuple[SearchResult, str]:
    """Read a search and the driver that runs it; the driver is empty for none.

    Raises:
        JournalError: there is no such search.
    """
    return SearchResult.kept_in(home_or_404(site, name))


def home_or_404(site: Site, name: str) -> Home:
    """Return the place of a search.

    Raises:
        HTTPException: no search may have this name.
    """
    if not NAME.fullmatch(name):
        raise HTTPException(404, "there is no search of this name.")
    return home(site.place, name)


@dataclass(frozen=True)
class Action:
    """A request that a button sends, with a preview of the driver's reply."""

    action: str
    title: str
    preview: Reply

    @property
    def text(self) -> str:
        """The preview, as a sentence of the page."""
        text = self.preview.message.render(button_name)
        return f"{text[:1].upper()}{text[1:]}"


@dataclass(frozen=True)
class ActionsPanel:
    """The part of a search's page from which the search is steered."""

    name: str
    is_live: bool
    stand: str
    """Where the search stands, as `words.stand`."""
    actions: list[Action]
    trials: list[tuple[str, str]]
    """The trials that can be stopped: name, and how far they are."""
    verbs: list[tuple[str, VerbForm]]
    """The verbs that go on from the search as it is now."""
    waiting: list[str]
    """The requests that nobody has answered yet."""
    answered: list[str]
    started: list[tuple[Launched, str, str]]
    """The verbs that were started here, the last first: a title and a state for each."""

    @classmethod
    def of(
        cls,
        site: Site,
        launcher: Launcher,
        result: SearchResult,
        holder: str,
        asked: Sequence[DriverRequest | Unreadable],
    ) -> "ActionsPanel":
        """Build it for a search, its driver, and the requests in its folder."""
        name = result.name
        answered = list(result.requests.values())[-SHOWN:][::-1]
        return cls(
            name,
            bool(holder),
            stand(result, holder),
            actions_of(result, holder, site) if holder else [],
            stoppable(result) if holder else [],
            [] if holder else [(one, FORMS[one]) for one in verbs_for(result)],
            [waiting_text(one) for one in asked if one.id not in result.requests],
            [f"{moment(one.time_ms)}, {answered_text(one.request)}" for one in answered],
            [(one, title_of(one), one.state_line) for one in launcher.of(name)[:SHOWN]],
        )

    @property
    def seen(self) -> str:
        """A text that is another where all of it is, and one where what can be asked now is."""
        whole = self.is_live, [name for name, _ in self.verbs]
        now = [action.text for action in self.actions], [name for name, _ in self.trials]
        return f"{short(whole)}.{short(now)}"

    def changed(self, seen: str) -> list[str]:
        """Return the events by which a page is told what is no longer as it saw it.

        What somebody is filling in stays: it is in neither of them while the search runs.
        """
        pairs = zip(seen.split("."), self.seen.split("."), EVENTS, strict=False)
        return [event for was, now, event in pairs if was != now][:1]

    @property
    def is_moving(self) -> bool:
        """True while an answer is waited for, or something that was started here runs."""
        return bool(self.waiting) or any(one.is_running for one, *_ in self.started)


def short(value: object) -> str:
    """Return a short text that is another for another value."""
    return hashlib.sha256(repr(value).encode()).hexdigest()[:12]


def actions_of(result: SearchResult, holder: str, site: Site) -> list[Action]:
    """List the requests that a running search accepts from buttons."""
    return [
        Action(
            action, title, preview_request(DriverRequest.now(action), result, holder, site.place)
        )
        for action, title in ((PAUSE, "Pause"), (STOP, "Stop the search"))
    ]


def stoppable(result: SearchResult) -> list[tuple[str, str]]:
    """List the trials that have not ended, each with its name and its progress."""
    return [
        (trial.trial, f"{trial.trial}: {trial.outcome}, epoch {trial.reached}")
        for trial in result.trials.values()
        if not trial.ended_ms and trial.stop_request is None
    ]


def verbs_for(result: SearchResult) -> list[str]:
    """Return the verbs that go on from a search that does not run now, the likeliest first."""
    if not result.is_over:
        return ["resume"]
    if is_selecting(result):
        return ["select"]
    return ["select", "promote", "refine", "resume"]


def waiting_text(one: DriverRequest | Unreadable) -> str:
    """Describe a request that nobody has answered yet."""
    if isinstance(one, Unreadable):
        return f"something that cannot be read ({one.reason})"
    return f"{one.by} asks to {request_text(one.action, one.trial, one.options)}"


def answered_text(request: Requested) -> str:
    """Describe a request and the driver's reply to it."""
    refused = "refused: " if request.is_refused else ""
    wanted = request_text(request.action, request.trial, request.options)
    return with_button_names(f"{request.by} asked to {wanted}: {refused}{request.answer}")


def request_text(action: str, trial: str, options: Mapping[str, Any]) -> str:
    """Describe a request, as `stop t0003` or `extend: trials +5`."""
    given = [
        f"{name} {' '.join(map(str, value)) if isinstance(value, list) else value}"
        for name, value in options.items()
    ]
    what = f"{action} {trial}" if trial else action.replace("stop", "stop the search")
    return f"{what}: {', '.join(given)}" if given else what


def request_from_form(given: Mapping[str, str], by: str = "") -> DriverRequest:
    """Return the request that a form describes.

    Raises:
        ConfigError: it describes none.
    """
    action = given.get("action", "")
    if action != EXTEND:
        return DriverRequest.now(action, by=by, trial=given.get("trial", "").strip())
    values = {name: given.get(name, "").strip() for name in OPTIONS}
    count = values["concurrency"]
    if count and not (count.isascii() and count.isdecimal() and len(count) < 9):
        raise ConfigError(f"trials at once are a whole number (got '{count[:40]}').")
    if not any(values.values()):
        raise ConfigError("say how many trials, how long, or how many at once.")
    return DriverRequest.now(
        EXTEND,
        by=by,
        trials=values["trials"],
        budget=tuple(values["budget"].split()),
        concurrency=int(count) if count else None,
    )


def preview_of(site: Site, name: str, given: Mapping[str, str]) -> Reply:
    """Preview the reply to a request, which may refuse it."""
    try:
        asked = request_from_form(given)
    except ConfigError as error:
        return Reply(message_of(error), is_refused=True)
    result, holder = result_and_holder(site, name)
    return preview_request(asked, result, holder, site.place)


def post_request(site: Site, name: str, given: Mapping[str, str]) -> str:
    """Send a form's request to a search, and return the expected reply.

    Raises:
        ConfigError: it is refused.
        OSError: the storage refuses.
    """
    asked = request_from_form(given, by=f"{asker()} (page)")
    result, holder = result_and_holder(site, name)
    told = preview_request(asked, result, holder, site.place)
    text = told.message.render(button_name)
    if told.is_refused:
        raise ConfigError(text)
    ask(home_or_404(site, name), asked)
    return text


async def steered(site: Site, launcher: Launcher, name: str) -> ActionsPanel:
    """Read what the steering part of a search's page shows.

    Raises:
        JournalError: there is no such search.
        NotReady: it is being prepared.
        OSError: the storage refuses.
    """
    followed = await site.feed.follow(name)

    def made() -> ActionsPanel:
        # In a bucket this takes time, so it is done before all others wait.
        asked = waiting_requests(followed.home)
        with followed.reading() as result:
            return ActionsPanel.of(site, launcher, result, followed.holder, asked)

    return await run_in_threadpool(made)


async def steer_page(request: Request, site: Site, launcher: Launcher, said: str = "") -> Response:
    """Return the acting part of a search's page, or a page of it alone."""
    facts = await steered(site, launcher, request.path_params["name"])
    page = "steer_part.html" if "hx-request" in request.headers else "steer_page.html"
    return site.render(request, page, steered=facts, said=said, chosen="")
