"""Actions on the page of a search, with previews of their effect.

While the search runs, a person can send requests to its driver, such as pause or stop. Otherwise, a
person can start a command that continues from the search, such as resume or select. The name of
such a command is called a verb here.
"""

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
"""Maximum number of requests, and of started commands, that the page lists."""
EVENTS = ("steer-changed", "now-changed")
"""The htmx events on which a page reloads the whole panel (the first event), or only the possible
requests (the second).
"""
NO_MESSAGE = Message()
OPTIONS = ("trials", "budget", "concurrency")
"""The options of `extend`, which are also the names of the form's fields."""


def routes(site: Site) -> list[BaseRoute]:
    """Build the routes of requests to a search, and of the verbs that continue from a search."""
    asker, launcher = Asker(), Launcher(site.place)
    site.ending.append(asker.end)

    async def show(request: Request) -> Response:
        return await steer_page(request, site, launcher)

    async def news(request: Request) -> Response:
        """Render the requests and their replies as a part of the page."""
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
    """Build the routes for the form, the cost and the start of each verb in `FORMS`."""

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
    """Return the values of a form's text fields by name, without uploaded files."""
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
    """Render the form of a verb.

    Args:
        request: the request, whose path names the search and the verb.
        site: the objects that all pages share.
        values: the values of the form's fields.
        error: the reason of a refusal; empty if there was none.
    """
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
    """Describe the effect and the cost of a verb in lines; empty if they cannot be estimated.

    Args:
        asker: runs the verb with `--dry-run`.
        site: the objects that all pages share.
        verb: the verb.
        request: the options of the verb.

    Raises:
        ConfigError: the verb would refuse these options.
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
    """Describe the progress of a search and the cost of additional trials, in lines."""
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
    """Read a search; return its result and the name of the driver that runs it, or ""."""
    return SearchResult.kept_in(home_or_404(site, name))


def home_or_404(site: Site, name: str) -> Home:
    """Return the storage of a search, even if the search does not exist.

    Raises:
        HTTPException: this is not a valid name of a search.
    """
    if not NAME.fullmatch(name):
        raise HTTPException(
            404,
            f"'{name[:80]}' is not a valid name of a search, which has at most 64 letters, "
            "digits, '_', '.' and '-'.",
        )
    return home(site.place, name)


@dataclass(frozen=True)
class Action:
    """A button that sends a request, with a preview of the driver's reply."""

    action: str
    """The action of the request, such as `pause`."""
    title: str
    """The text of the button."""
    preview: Reply

    @property
    def text(self) -> str:
        """The preview as a sentence, in which commands are replaced by the names of buttons."""
        text = self.preview.message.render(button_name)
        return f"{text[:1].upper()}{text[1:]}"


@dataclass(frozen=True)
class ActionsPanel:
    """The contents of the panel with the actions on a search."""

    name: str
    """The name of the search."""
    is_live: bool
    """True if a driver runs the search."""
    stand: str
    """The state of the search, a value of `Stage`."""
    actions: list[Action]
    trials: list[tuple[str, str]]
    """The trials that can be stopped, as (name, progress)."""
    verbs: list[tuple[str, VerbForm]]
    """The verbs that can continue from the search now."""
    waiting: list[str]
    """The requests without a reply, as texts."""
    answers: list[str]
    """The requests with their replies, as texts, the latest first."""
    started: list[tuple[Launched, str, str]]
    """The commands that pages have started, the latest first, each with a title and a state."""

    @classmethod
    def of(
        cls,
        site: Site,
        launcher: Launcher,
        result: SearchResult,
        holder: str,
        pending: Sequence[DriverRequest | Unreadable],
    ) -> "ActionsPanel":
        """Build the panel of a search.

        Args:
            site: the objects that all pages share.
            launcher: finds the commands that pages have started.
            result: the result of the search.
            holder: the name of the driver that runs the search; empty if there is none.
            pending: the requests in the storage, which may have a reply by now.
        """
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
        """Hashes of the panel's structure and of the possible requests, joined by a dot."""
        whole = self.is_live, [name for name, _ in self.verbs]
        now = [action.text for action in self.actions], [name for name, _ in self.trials]
        return f"{short(whole)}.{short(now)}"

    def changed(self, fingerprint: str) -> list[str]:
        """Return the htmx event (`EVENTS`) for an open page whose panel has another fingerprint.

        The result is a list with one event, or an empty list if nothing has changed. The contents
        of form fields do not affect the fingerprint, so that a form is not replaced while a person
        fills it in.

        Args:
            fingerprint: the fingerprint of the panel on the open page.
        """
        pairs = zip(fingerprint.split("."), self.fingerprint.split("."), EVENTS, strict=False)
        return [event for was, now, event in pairs if was != now][:1]

    @property
    def is_moving(self) -> bool:
        """True while a request waits for its reply, or a command that a page has started runs."""
        return bool(self.waiting) or any(launched.is_running for launched, *_ in self.started)


def short(value: object) -> str:
    """Compute a short hash of a value: 12 hexadecimal digits."""
    return hashlib.sha256(repr(value).encode()).hexdigest()[:12]


def actions_of(result: SearchResult, holder: str, site: Site) -> list[Action]:
    """List the requests to a running search that have a button: pause and stop."""
    return [
        Action(
            action, title, preview_request(DriverRequest.now(action), result, holder, site.place)
        )
        for action, title in ((PAUSE, "Pause"), (STOP, "Stop the search"))
    ]


def stoppable(result: SearchResult) -> list[tuple[str, str]]:
    """List the trials that can be stopped, each with its name and its progress.

    They have not ended, and no earlier request stops them.
    """
    return [
        (trial.trial, f"{trial.trial}: {trial.outcome}, epoch {trial.reached}")
        for trial in result.trials.values()
        if not trial.ended_ms and trial.stop_request is None
    ]


def verbs_for(result: SearchResult) -> list[str]:
    """List the verbs that can continue from a search that is not running.

    The most likely choice comes first.
    """
    if not result.is_over:
        return ["resume"]
    if is_selecting(result):
        return ["select"]
    return ["select", "promote", "refine", "resume"]


def waiting_text(request: DriverRequest | Unreadable) -> str:
    """Describe a request that has no reply yet, in words."""
    if isinstance(request, Unreadable):
        return f"something that cannot be read ({request.reason})"
    return f"{request.by} asks to {request_text(request.action, request.trial, request.options)}"


def answered_text(request: Requested) -> str:
    """Describe a request and the driver's reply to it, in words."""
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
    """Build a request to a driver from the fields of a form.

    Args:
        fields: the values of the form.
        by: the person who sends the request; empty for a preview.

    Raises:
        ConfigError: a value is not allowed, or all values are empty.
    """
    action = fields.get("action", "")
    if action != EXTEND:
        return DriverRequest.now(action, by=by, trial=fields.get("trial", "").strip())
    values = {name: fields.get(name, "").strip() for name in OPTIONS}
    count = values["concurrency"]
    if count and not (count.isascii() and count.isdecimal() and len(count) < 9):
        raise ConfigError(
            f"the number of trials at once must be a whole number of at least 1 (got "
            f"'{count[:40]}')."
        )
    if not any(values.values()):
        raise ConfigError(
            "enter at least one value: the number of trials, the time, or the number of trials "
            "at once."
        )
    return DriverRequest.now(
        EXTEND,
        by=by,
        trials=values["trials"],
        budget=tuple(values["budget"].split()),
        concurrency=int(count) if count else None,
    )


def preview_of(site: Site, name: str, fields: Mapping[str, str]) -> Reply:
    """Predict the driver's reply to the request in a form; the reply may be a refusal."""
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
    """Collect the contents of the panel of actions on a search.

    Raises:
        JournalError: there is no such search.
        NotReady: the search is being prepared, and its journal has no event yet.
        OSError: the storage cannot be read.
    """
    followed = await site.feed.follow(name)

    def collect() -> ActionsPanel:
        # The requests are read before the search is locked, since a bucket takes time to respond.
        pending = waiting_requests(followed.home)
        with followed.reading() as result:
            return ActionsPanel.of(site, launcher, result, followed.holder, pending)

    return await run_in_threadpool(collect)


async def steer_page(
    request: Request, site: Site, launcher: Launcher, message: str = ""
) -> Response:
    """Render the panel of actions: for htmx as a part of the search's page, else as a page.

    `message` is shown on the page, such as the expected reply to a request.
    """
    facts = await panel_of(site, launcher, request.path_params["name"])
    page = "steer_part.html" if "hx-request" in request.headers else "steer_page.html"
    return site.render(request, page, panel=facts, message=message, chosen="")
