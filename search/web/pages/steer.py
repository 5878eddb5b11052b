"""Actions on a search's page: possible requests and verbs, with previews of their effect."""

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
from search.facts.standing import SearchStanding
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
from search.operations.options import SearchRequest
from search.operations.resume import ResumeRequest
from search.values.message import Message, message_of
from search.values.option import words_of
from search.web.forms.children import Asker
from search.web.forms.launch import Launched, Launcher, command_line, refusal_of
from search.web.forms.verbs import FORMS, VerbForm, button_name, verb_request, with_button_names
from search.web.pages.started import title_of
from search.web.site import Site
from trainables.errors import ConfigError

NAV = None
MAX_LISTED = 8
"""Maximum number of requests, and of started commands, on the page."""
EVENTS = ("steer-changed", "now-changed")
"""Events on which a page reloads the whole panel, or only the possible requests."""
NO_MESSAGE = Message()
OPTIONS = ("trials", "budget", "concurrency")
"""Options of an extension, which are also names of the form's fields."""


def routes(site: Site) -> list[BaseRoute]:
    """Routes of requests to a search, and of the verbs that continue from it."""
    asker, launcher = Asker(), Launcher(site.place)
    site.ending.append(asker.end)

    async def show(request: Request) -> Response:
        return await steer_page(request, site, launcher)

    async def news(request: Request) -> Response:
        """Render the requests and their replies, as a part of the page."""
        facts = await panel_of(site, launcher, request.path_params["name"])
        answer = site.render(request, "steer_news.html", panel=facts)
        if changed := facts.changed(request.query_params.get("seen", "")):
            answer.headers["HX-Trigger"] = ", ".join(changed)
        return answer

    async def now(request: Request) -> Response:
        facts = await panel_of(site, launcher, request.path_params["name"])
        chosen = request.query_params.get("trial", "")
        return site.render(request, "steer_now.html", panel=facts, chosen=chosen)

    async def foresee(request: Request) -> Response:
        name, params = request.path_params["name"], dict(request.query_params)
        reply = await run_in_threadpool(preview_of, site, name, params)
        text = reply.message.render(button_name)
        return site.render(request, "steer_foreseen.html", reply=reply, text=text)

    async def request_it(request: Request, form: FormData) -> Response:
        name, values = request.path_params["name"], texts(form)
        outcome = await run_in_threadpool(post_request, site, name, values)
        if "hx-request" not in request.headers:
            return await steer_page(request, site, launcher, outcome)
        answer = site.render(request, "steer_asked.html", message=outcome)
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
    """Routes of verbs that continue from a search: the form, the cost, the start."""

    async def show(request: Request) -> Response:
        return verb_page(request, site, dict(request.query_params))

    async def cost(request: Request) -> Response:
        name, verb = request.path_params["name"], verb_of(request)
        verb_options = verb_request(verb, name, dict(request.query_params), site)
        lines = await cost_lines(asker, site, verb, verb_options)
        command = command_line(verb, words_of(verb_options))
        return site.render(request, "verb_cost.html", lines=lines, command=command)

    async def start(request: Request, form: FormData) -> Response:
        name, verb, values = request.path_params["name"], verb_of(request), texts(form)
        await asker.end()
        try:
            words = words_of(verb_request(verb, name, values, site))
        except ConfigError as error:
            return verb_page(request, site, values, message_of(error))
        back = f"/searches/{name}/next/{verb}"
        started = await run_in_threadpool(launcher.start, verb, name, words, back)
        if refused := await refusal_of(started):
            return verb_page(request, site, values, refused)
        return RedirectResponse(f"/started/{started.id}", 303)

    return [
        site.shows("/searches/{name}/next/{verb}", show),
        site.hints("/searches/{name}/cost/{verb}", cost),
        site.changes("/searches/{name}/next/{verb}", start),
    ]


def texts(form: FormData) -> dict[str, str]:
    """Values of a form's text fields, by name; uploaded files are left out."""
    return {name: value for name, value in form.items() if isinstance(value, str)}


def verb_of(request: Request) -> str:
    """Read the verb from the path of a URL.

    Raises:
        HTTPException: there is no such verb.
    """
    verb = str(request.path_params["verb"])
    if verb not in FORMS:
        raise HTTPException(404, "there is no such page.")
    return verb


def verb_page(
    request: Request, site: Site, values: Mapping[str, str], error: Message = NO_MESSAGE
) -> Response:
    """Render the form of a verb with its values and, after a refusal, the reason."""
    name = verb_of(request)
    return site.render(
        request,
        "verb.html",
        400 if error else 200,
        search=request.path_params["name"],
        name=name,
        verb=FORMS[name],
        values={field.option: values.get(field.option, "") for field in FORMS[name].fields},
        error=error.render(button_name),
    )


async def cost_lines(asker: Asker, site: Site, verb: str, request: SearchRequest) -> list[str]:
    """Describe in lines what a verb would do and cost; empty if that cannot be estimated.

    Raises:
        ConfigError: the verb would refuse it.
    """
    if isinstance(request, ResumeRequest):
        return await run_in_threadpool(resume_lines, site, request)
    if not FORMS[verb].tells_cost:
        return []
    output = await asker.ask(f"search.{verb}", ["--dry-run", *words_of(request)])
    output.check()
    lines = map(str.strip, [*output.notes, *output.out.splitlines()])
    return [with_button_names(line) for line in lines if line]


def resume_lines(site: Site, resume: ResumeRequest) -> list[str]:
    """Describe in lines the progress of a search, and the cost of additional trials."""
    result, _ = result_and_holder(site, resume.name)
    lines = [f"{result.ended} of {len(result.trials)} started trials have ended."]
    if resume.trials is not None:
        experiment = Experiment.from_description(resume.name, result.started.experiment, site.place)
        request = DriverRequest.now(EXTEND, trials=str(resume.trials))
        reply = reply_to(request, experiment, result, Standing(is_live=True))
        lines.append(f"{reply.message.render(button_name)}.")
        lines += [f"It costs {reply.cost}."] if reply.cost else []
    return lines


def result_and_holder(site: Site, name: str) -> tuple[SearchResult, str]:
    """Read a search, and the driver that runs it (empty if there is none)."""
    return SearchResult.kept_in(home_or_404(site, name))


def home_or_404(site: Site, name: str) -> Home:
    """Return the storage of a search, which need not exist.

    Raises:
        HTTPException: no search can have this name.
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
    """The panel of a search's page for requests and verbs."""

    name: str
    is_live: bool
    stand: str
    """The state of the search, a value of `Stage`."""
    actions: list[Action]
    trials: list[tuple[str, str]]
    """The trials that can be stopped, as (name, progress)."""
    verbs: list[tuple[str, VerbForm]]
    """The verbs that can continue from the search now."""
    waiting: list[str]
    """The requests without a reply."""
    answers: list[str]
    started: list[tuple[Launched, str, str]]
    """Commands that pages started, the latest first: each with a title and a state."""

    @classmethod
    def of(
        cls,
        site: Site,
        launcher: Launcher,
        result: SearchResult,
        holder: str,
        pending: Sequence[DriverRequest | Unreadable],
    ) -> "ActionsPanel":
        """Build the panel from a search, the driver that runs it, and the pending requests."""
        name = result.name
        requests = list(result.requests.values())[-MAX_LISTED:][::-1]
        return cls(
            name,
            bool(holder),
            SearchStanding(name, result, holder).stage.value,
            actions_of(result, holder, site) if holder else [],
            stoppable(result) if holder else [],
            [] if holder else [(verb, FORMS[verb]) for verb in verbs_for(result)],
            [waiting_text(request) for request in pending if request.id not in result.requests],
            [
                f"{moment(request.time_ms)}, {answered_text(request.request)}"
                for request in requests
            ],
            [
                (launched, title_of(launched), launched.state_line)
                for launched in launcher.of(name)[:MAX_LISTED]
            ],
        )

    @property
    def fingerprint(self) -> str:
        """Two hashes joined by a dot: of the whole panel, and of the possible requests."""
        whole = self.is_live, [name for name, _ in self.verbs]
        now = [action.text for action in self.actions], [name for name, _ in self.trials]
        return f"{short(whole)}.{short(now)}"

    def changed(self, fingerprint: str) -> list[str]:
        """The event for a page that has another fingerprint, in a list; empty for the same one.

        Form fields are in neither hash while the search runs, so that they are not replaced while a
        person fills them in.
        """
        pairs = zip(fingerprint.split("."), self.fingerprint.split("."), EVENTS, strict=False)
        return [event for was, now, event in pairs if was != now][:1]

    @property
    def is_moving(self) -> bool:
        """True while a request waits for its reply, or a command that a page has started runs."""
        return bool(self.waiting) or any(launched.is_running for launched, *_ in self.started)


def short(value: object) -> str:
    """A short hash of a value."""
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
    """The verbs that can continue from a search that is not running, the most likely first."""
    if not result.is_over:
        return ["resume"]
    if is_selecting(result):
        return ["select"]
    return ["select", "promote", "refine", "resume"]


def waiting_text(request: DriverRequest | Unreadable) -> str:
    """Describe a request that has no reply yet."""
    if isinstance(request, Unreadable):
        return f"something that cannot be read ({request.reason})"
    return f"{request.by} asks to {request_text(request.action, request.trial, request.options)}"


def answered_text(request: Requested) -> str:
    """Describe a request and the driver's reply to it."""
    refused = "refused: " if request.is_refused else ""
    request_words = request_text(request.action, request.trial, request.options)
    return with_button_names(f"{request.by} asked to {request_words}: {refused}{request.answer}")


def request_text(action: str, trial: str, options: Mapping[str, Any]) -> str:
    """Format a request as `stop t0003` or `extend: trials +5`."""
    changes = [
        f"{name} {' '.join(map(str, value)) if isinstance(value, list) else value}"
        for name, value in options.items()
    ]
    what = f"{action} {trial}" if trial else action.replace("stop", "stop the search")
    return f"{what}: {', '.join(changes)}" if changes else what


def request_from_form(fields: Mapping[str, str], by: str = "") -> DriverRequest:
    """Build a request from the fields of a form.

    Raises:
        ConfigError: a value is not allowed, or all are empty.
    """
    action = fields.get("action", "")
    if action != EXTEND:
        return DriverRequest.now(action, by=by, trial=fields.get("trial", "").strip())
    values = {name: fields.get(name, "").strip() for name in OPTIONS}
    count = values["concurrency"]
    if count and not (count.isascii() and count.isdecimal() and len(count) < 9):
        raise ConfigError(
            f"the number of trials at once must be a whole number (got '{count[:40]}')."
        )
    if not any(values.values()):
        raise ConfigError("enter a number of trials, a time, or a number of trials at once.")
    return DriverRequest.now(
        EXTEND,
        by=by,
        trials=values["trials"],
        budget=tuple(values["budget"].split()),
        concurrency=int(count) if count else None,
    )


def preview_of(site: Site, name: str, fields: Mapping[str, str]) -> Reply:
    """Preview the driver's reply to the request of a form; it may be a refusal."""
    try:
        request = request_from_form(fields)
    except ConfigError as error:
        return Reply(message_of(error), is_refused=True)
    result, holder = result_and_holder(site, name)
    return preview_request(request, result, holder, site.place)


def post_request(site: Site, name: str, fields: Mapping[str, str]) -> str:
    """Send a form's request to a search, and return the expected reply.

    Raises:
        ConfigError: the request would be refused.
        OSError: the storage cannot be read or written.
    """
    request = request_from_form(fields, by=f"{asker()} (page)")
    result, holder = result_and_holder(site, name)
    reply = preview_request(request, result, holder, site.place)
    text = reply.message.render(button_name)
    if reply.is_refused:
        raise ConfigError(text)
    ask(home_or_404(site, name), request)
    return text


async def panel_of(site: Site, launcher: Launcher, name: str) -> ActionsPanel:
    """Collect the contents of the panel of actions.

    Raises:
        JournalError: there is no such search.
        NotReady: it is being prepared.
        OSError: the storage cannot be read.
    """
    followed = await site.feed.follow(name)

    def collect() -> ActionsPanel:
        # Reading requests from a bucket takes time, so it happens before the search is locked.
        pending = waiting_requests(followed.home)
        with followed.reading() as result:
            return ActionsPanel.of(site, launcher, result, followed.holder, pending)

    return await run_in_threadpool(collect)


async def steer_page(
    request: Request, site: Site, launcher: Launcher, message: str = ""
) -> Response:
    """Render the panel of actions, as a part of the search's page or as a page of its own."""
    facts = await panel_of(site, launcher, request.path_params["name"])
    page = "steer_part.html" if "hx-request" in request.headers else "steer_page.html"
    return site.render(request, page, panel=facts, message=message, chosen="")
