"""Improves a model with the images that people have corrected."""

import json
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from search.design.budget import Budget
from search.design.experiment import check_search_name
from search.feedback.learning.challengers import CHALLENGERS
from search.feedback.learning.champion import (
    ChampionModel,
    ChampionRequest,
    find_champion,
    load_champion,
)
from search.feedback.learning.corrected import set_aside_images
from search.feedback.learning.deciding import decide_outcome
from search.feedback.learning.decision import CHAMPION, MARGIN, requirement_lines
from search.feedback.learning.examined import data_lines, examine_corrections, refuse_few
from search.feedback.learning.joining import FOLDER, ImprovementInfo
from search.feedback.learning.new_improvement import (
    NewImprovement,
    budget_text,
    data_facts,
    name_of,
    new_improvement_info,
    refuse_hopeless,
)
from search.feedback.learning.registering import ChosenChallenger, register, registered_lines
from search.feedback.learning.rounds import (
    decision_facts,
    improvement_to_continue,
    info_of,
    is_settled,
    is_unchanged,
    rounds_to,
)
from search.feedback.records import Records
from search.journal.naming import resolve_name
from search.journal.result import ENDED, SearchResult, moment
from search.journal.store import DECISION, Home, Storage, home, storage
from search.operations.continuation import UsageLimits, Where, change_option
from search.operations.options import storage_option
from search.operations.records_options import records_option, since_option
from search.operations.resume import ResumeRequest, resume, used_up
from search.operations.resume import experiment_of as resumed_experiment
from search.operations.talk import SILENT, Talk
from search.preflight.prepare import prepare
from search.process.lifetime import CommandStart, command_start
from search.process.versions import check_versions
from search.sessions.estimate import estimate_search
from search.sessions.new_search import started_event
from search.sessions.plan import SessionPlan
from search.sessions.session import opening_line, run_session
from search.tracking.model_registry import ALIAS, CHALLENGER, check_name
from search.trained.source import REGISTERED
from search.values.option import flag, group, option, positional, switch
from search.values.secrets import refuse, refuse_in_uri
from search.views.terminal import Terminal
from trainables.errors import ConfigError
from trainables.values import Json

SAME_MS = 60_000
"""Two values of `--since` count as equal if they differ by at most this number of milliseconds.

A relative value such as `1d` depends on the time of the call.
"""
ORIGINS = "origins.json"
"""The file in an improvement's search that records the origin of each new image."""


@dataclass(frozen=True, kw_only=True)
class ImproveRequest:
    """The model to improve, the corrections, and the requirements for a new champion."""

    model: str = positional(
        "models:/NAME@champion, models:/NAME/VERSION, or a search", metavar="MODEL"
    )
    storage: Storage = storage_option()
    place: Storage = records_option("the records of the images that it received")
    name: str | None = option(
        "the new search's name (default: from the model and images)", metavar="NAME"
    )
    since: int | None = since_option(
        "the images received since then are the expected ones, with which search.monitor compares "
        "later images: 90m, 12h, 1d, or 2026-11-28 (default: all; of more than 10,000, the latest)"
    )
    trials: int = option("challengers", metavar="N", parse=int, default=CHALLENGERS)
    limits: UsageLimits = group(
        UsageLimits, of="what the challengers may use", default=" (default: none)"
    )
    margin: float = option(
        "a new champion must not be worse than the old one by this many points on the old test "
        "images",
        metavar="POINTS",
        parse=float,
        default=100 * MARGIN,
    )
    register: str | None = option(
        "the model's name in the registry (default: its current name, or the search's name)",
        metavar="NAME",
    )
    onnx: bool | None = switch("also register it as ONNX (default: if the champion is)")
    anyway: bool = flag("also train on corrections that are probably wrong")
    challenger: bool = flag(
        "train even if no challenger can become the champion, to get one to try"
    )
    allow_change: bool = change_option("the code or a library")
    where: Where = group(Where, before="as for the champion's search")

    @property
    def budget(self) -> Budget:
        """The budget of the challengers."""
        return Budget(self.limits.budget, self.limits.price)

    def champion_request(self) -> ChampionRequest:
        """Collect the options that identify the model to improve."""
        return ChampionRequest(
            model=self.model,
            storage=self.storage,
            overrides=self.where.overrides(self.limits),
            register=self.register or "",
        )


@dataclass(frozen=True, kw_only=True)
class Improvement:
    """The outcome of an improvement, or its state if its session ended before the decision."""

    name: str
    """The name of the improvement's search."""
    exit_code: int
    """The exit code of the search's session if there is no decision yet; otherwise 0."""
    decision: Json | None = None
    """The decision, as in the file `DECISION`; None if there is no decision yet."""
    lines: tuple[str, ...] = ()
    """The decision in lines of text."""

    @property
    def version(self) -> str | None:
        """The version of the improved model in the registry; None if it is not registered."""
        return None if self.decision is None else self.decision["version"]


@dataclass(frozen=True, kw_only=True)
class ImprovementPlan:
    """The plan of an improvement that has not been started, or that could continue."""

    name: str
    """The name of the improvement's search."""
    lines: tuple[str, ...]
    """The plan in lines of text: challengers, their cost, and requirements for a new champion."""
    facts: Json | None = None
    """The plan as JSON-compatible values; None if the improvement was started before."""


def improve(request: ImproveRequest, talk: Talk = SILENT) -> Improvement:
    """Train challengers on corrected images, and decide whether one becomes the champion.

    An improvement that was started before is continued or reported (see `settle`).

    Args:
        request: the model to improve, and the corrections.
        talk: receives notes on the champion, the corrections and the data.

    Raises:
        ConfigError: an option is out of its range, or the search is not an improvement.
        NoSuchSearch: the model is a search that does not exist.
        Refused: there are too few corrections, too many of them are probably wrong, or no
            challenger can become the champion.
    """
    began = command_start()
    improvement = begun_or_new(request, talk)
    if isinstance(improvement, Home):
        return settle(request, improvement, talk)
    if improvement.home.exists():
        return settle(request, improvement.home, talk)
    return start(request, improvement, began, talk)


def improvement_plan(request: ImproveRequest, talk: Talk = SILENT) -> ImprovementPlan:
    """Plan an improvement, and compute the requirements for a new champion; start nothing.

    Args:
        request: the model to improve, and the corrections.
        talk: receives notes on the champion and the corrections.

    Raises:
        ConfigError, NoSuchSearch: as in `improve`.
        Refused: there are too few corrections, or too many of them are probably wrong.
    """
    improvement = begun_or_new(request, talk)
    if isinstance(improvement, Home):
        name, result = name_in(request.storage, improvement), read_improvement(request, improvement)
        line = f"{name} has already started ({result.outcome}); without --dry-run, it continues"
        return ImprovementPlan(name=name, lines=(line,))
    info = improvement.info
    with tempfile.TemporaryDirectory(prefix="improve-") as temporary:
        folder = Path(temporary) / FOLDER
        improvement.join(folder)
        experiment = improvement.challengers(
            folder, info.warm_start, trials=request.trials, budget=request.budget
        )
        estimate = estimate_search(experiment)
    facts = {"name": improvement.name, "plan": estimate.to_json() | {"data": None}}
    return ImprovementPlan(
        name=improvement.name,
        lines=(
            budget_text(experiment),
            *estimate.lines(experiment),
            *requirement_lines(*improvement.requirements(request.margin / 100)),
        ),
        facts=data_facts(info) | facts,
    )


def begun_or_new(request: ImproveRequest, talk: Talk) -> Home | NewImprovement:
    """Find the improvement that this request continues, or examine the corrections for a new one.

    Returns:
        The place of the existing improvement's search in its storage, or the new improvement.

    Raises:
        Refused: there are too few corrections for a new improvement.
    """
    check_request(request)
    check_versions()
    if request.name is not None and (search_home := home(request.storage, request.name)).exists():
        return search_home
    if not request.model.startswith(REGISTERED):
        resolve_name(request.model, request.storage)
    champion_model = find_champion(request.champion_request())
    records, champion = Records.at(request.place), champion_model.champion
    talk.note(f"the champion is {champion_model.data.trial.trial} of the search {champion.search}")
    talk.note("reading the corrections and their images")
    if (
        request.name is None
        and (begun_home := improvement_to_continue(champion_model, records, str(request.place)))
        is not None
    ):
        return begun_home
    corrections, suspected = examine_corrections(
        *(records, champion_model, request.where.data_root, rounds_to(champion_model)),
        keep_doubted=request.anyway,
        note=talk.note,
    )
    for line in data_lines(corrections, suspected):
        talk.note(line)
    refuse_few(corrections)
    name = request.name or name_of(champion, corrections)
    return NewImprovement(
        name=name,
        home=home(request.storage, name),
        champion_model=champion_model,
        records=records,
        corrections=corrections,
        info=new_improvement_info(
            champion_model, str(request.place), corrections, suspected, request.since or 0
        ),
    )


def check_request(request: ImproveRequest) -> None:
    """Check the values of the options.

    Raises:
        ConfigError: --trials or --margin is out of its range.
    """
    if request.trials < 3:
        raise ConfigError(f"--trials must be >= 3 (got {request.trials}).")
    if not 0 < request.margin < 100:
        raise ConfigError(
            f"--margin must be > 0 and < 100 percentage points (got {request.margin:g})."
        )
    if request.name is not None:
        check_search_name(request.name)
    if request.register is not None:
        check_name(request.register)
        refuse("--register", request.register)
    refuse_in_uri(request.where.tracking or "")


def start(
    request: ImproveRequest, improvement: NewImprovement, began: CommandStart, talk: Talk
) -> Improvement:
    """Train the challengers of a new improvement, and decide whether one becomes the champion.

    Args:
        request: the model to improve, and the corrections.
        improvement: the new improvement.
        began: the time at which the command started.
        talk: receives notes on the data.
    """
    search_home = improvement.home
    if not request.challenger:
        refuse_hopeless(improvement, request.margin / 100)
    info = improvement.join(search_home.folder / FOLDER)
    search_home.keep(FOLDER)
    experiment = improvement.challengers(
        search_home.read(FOLDER), info.warm_start, trials=request.trials, budget=request.budget
    )
    prepared = prepare(experiment)
    for line in prepared.notes:
        talk.note(line)
    opening = opening_line(prepared.experiment, budget_text(prepared.experiment))
    session = SessionPlan(
        "search.improve",
        started_event(prepared.experiment, prepared.dataset),
        advises=False,
        evidence={ORIGINS: json.dumps(asdict(info), indent=1).encode()},
    )
    set_aside_images(improvement.records, improvement.corrections)
    finished = run_session(prepared, Terminal(stderr=True), began, opening, session)
    return finish(request, search_home, finished.exit_code)


def name_in(place: Storage, search_home: Home) -> str:
    """Return the name of the search at `search_home`, which is in the storage `place`."""
    if isinstance(place, Path):
        return search_home.folder.name
    return str(search_home).rpartition("/")[2]


def read_improvement(request: ImproveRequest, search_home: Home) -> SearchResult:
    """Read the search of an improvement that was started before.

    Raises:
        ConfigError: the search is not an improvement.
    """
    result = SearchResult.read(search_home.opened())
    if FOLDER not in search_home.names():
        name = name_in(request.storage, search_home)
        raise ConfigError(
            f"the search '{name}' already exists, but was not started by search.improve. Use "
            "another --name."
        )
    return result


def settle(request: ImproveRequest, search_home: Home, talk: Talk) -> Improvement:
    """Continue an improvement up to its decision, or report the earlier decision.

    Raises:
        ConfigError: the search is not an improvement.
    """
    name = name_in(request.storage, search_home)
    result = read_improvement(request, search_home)
    facts = decision_facts(search_home)
    if facts is not None and is_settled(facts):
        lines = (f"{name} has already been decided:", *facts["text"])
        return Improvement(name=name, exit_code=0, decision=facts, lines=lines)
    for line in ignored_options(request, info_of(search_home)):
        talk.note(line)
    limits = request.limits
    continuation = ResumeRequest(
        name=name,
        storage=request.storage,
        allow_change=request.allow_change,
        limits=replace(limits, price=limits.price or None),
        where=Where(data_root=search_home.read(FOLDER)),
    )
    if facts is not None or (
        result.outcome in ENDED and result.ranking and not can_continue(continuation, result)
    ):
        return finish(request, search_home, 0)
    return finish(request, search_home, resume(continuation, advises=False).exit_code)


def ignored_options(request: ImproveRequest, info: ImprovementInfo) -> Iterator[str]:
    """Yield a note for each option that is ignored, because the first call has set its value."""
    if str(request.place) != info.place:
        yield (
            f"note: this improvement learns from '{info.place}'; '{request.place}' is only used "
            "for the images that its model should expect"
        )
    if request.since is not None and abs(request.since - info.since_ms) > SAME_MS:
        since = f"--since {moment(info.since_ms)}" if info.since_ms else "no --since"
        yield f"note: --since has no effect, because this improvement started with {since}"


def can_continue(continuation: ResumeRequest, result: SearchResult) -> bool:
    """True if the budget ended the search, and the continuation has a larger one."""
    limits = continuation.limits
    if result.outcome != "budget" or not (limits.budget or limits.price):
        return False
    return used_up(resumed_experiment(continuation, result), result) is None


def finish(request: ImproveRequest, search_home: Home, exit_code: int) -> Improvement:
    """Decide about the best challenger, and register it unless the champion stays unchanged.

    The decision is written before the registration, so that an interrupted call can resume.

    Args:
        request: the model to improve, and the corrections.
        search_home: the place of the improvement's search.
        exit_code: the exit code of the search's session. The improvement has the same exit code if
            the search has not ended, or has no ranked trial.
    """
    result = SearchResult.read(search_home.opened(files=True))
    if result.outcome not in ENDED or not result.ranking:
        return Improvement(name=result.name, exit_code=exit_code)
    folder = search_home.read(FOLDER)
    info = ImprovementInfo.read(folder)
    # `request.model` may name another model than at the start, if its alias has moved since then.
    champion_model = load_champion(request.champion_request(), info.champion)
    facts = decision_facts(search_home)
    if facts is None:
        facts = decide(request, champion_model, search_home, result, info)
        search_home.write(DECISION, json.dumps(facts, indent=1).encode())
    if not is_unchanged(facts):
        challenger = ChosenChallenger(
            champion_model=champion_model,
            home=search_home,
            result=result,
            facts=facts,
            place=request.place,
            onnx=request.onnx,
        )
        registered = register(challenger)
        facts["text"] += registered_lines(registered, facts)
        facts["outcome"] = CHAMPION if ALIAS in registered.aliases else CHALLENGER
        facts["version"] = registered.version
        search_home.write(DECISION, json.dumps(facts, indent=1).encode())
    from search.views.page.page import redraw  # imported late, because it imports matplotlib

    redraw(search_home, result)
    return Improvement(name=result.name, exit_code=0, decision=facts, lines=tuple(facts["text"]))


def decide(
    request: ImproveRequest,
    champion_model: ChampionModel,
    search_home: Home,
    result: SearchResult,
    info: ImprovementInfo,
) -> Json:
    """Compare the challengers with the champion, and return the decision as JSON-compatible values.

    The value of `version` is None; `finish` sets it.
    """
    decision = decide_outcome(
        request.champion_request(),
        champion_model,
        search_home,
        result,
        info,
        records=Records.at(records_place(request, info)),
        margin=request.margin / 100,
    )
    return {
        "search": result.name,
        **decision.to_json(),
        "model": champion_model.champion.model,
        "version": None,
        **data_facts(info),
        "text": decision.lines(),
    }


def records_place(request: ImproveRequest, info: ImprovementInfo) -> Storage:
    """Return the storage of the records with which the improvement was started."""
    return request.place if str(request.place) == info.place else storage(info.place)
