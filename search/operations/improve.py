"""python -m search.improve MODEL --from PLACE: learn from the images that people have corrected.

MODEL is a registered model (models:/NAME@champion) or a search, whose answer is then the champion.
PLACE, a folder or s3://BUCKET/PREFIX, holds the records of what it met. Corrected images join its
training part; its validation and test part stay as they are. Challengers are trained, the best is
held against the champion by paired tests, on the old test images and on new images that nothing
was trained on, and becomes the champion only if it is better on the new and not worse on the old.
An improvement that was cut off goes on when it is called again.
"""

import argparse
import hashlib
import json
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cluster.cli import Parser
from cluster.errors import Refused
from cluster.storage.bucket import Bucket
from search.cli.continuation import change_option, overrides_of, place_options
from search.cli.options import json_option, place_option
from search.cli.parser import HelpFormatter, add_option
from search.cli.prompt import resolve_or_ask
from search.design.budget import Budget, budget_options
from search.design.experiment import Experiment, check_search_name
from search.feedback.learning.challengers import CHALLENGERS, challenger_experiment
from search.feedback.learning.champion import (
    ChampionModel,
    ChampionRequest,
    find_champion,
    load_champion,
)
from search.feedback.learning.corrected import (
    HELD_OUT,
    MIN_NEW_IMAGES,
    SELECTION,
    TRAINING,
    CorrectedImages,
    set_aside_images,
)
from search.feedback.learning.decision import (
    CHAMPION,
    MARGIN,
    UNCHANGED,
    Decision,
    FirstChampion,
    ScoredChallenger,
    best_challenger,
    luck_of,
    obstacles,
    requirement_lines,
)
from search.feedback.learning.examined import data_lines, examine_corrections, refuse_few
from search.feedback.learning.expected import expected_images, trained_image_names
from search.feedback.learning.joining import (
    FOLDER,
    INFO_FILE,
    ChampionIdentity,
    ImprovementInfo,
    improvement_info,
    joined_data_config,
    load_set_aside,
    unseen_corrections,
)
from search.feedback.learning.joining import write_folder as write_joined
from search.feedback.learning.paired import PairedComparison
from search.feedback.learning.trained import LoadedCheckpoint
from search.feedback.monitoring.held_to import MIN_TESTED
from search.feedback.records import Records
from search.journal.result import ENDED, PAGE, SearchResult, moment
from search.journal.store import DECISION, Home, Storage, home, searches_in, storage
from search.operations.continuation import UsageLimits, Where
from search.operations.records_options import since
from search.operations.resume import ResumeRequest, resume, used_up
from search.operations.resume import experiment_of as resumed_experiment
from search.preflight.prepare import prepare
from search.process.guard import guarded
from search.process.lifetime import command_start
from search.process.versions import check_versions
from search.sessions.estimate import estimate_search
from search.sessions.new_search import started_event
from search.sessions.plan import SessionPlan
from search.sessions.session import opening_line, run_session
from search.tracking.model_registry import (
    ALIAS,
    CHALLENGER,
    ONNX,
    Registered,
    Registry,
    check_name,
    origin_of,
)
from search.trained.description import describe_model, tags
from search.trained.export import config_of, dataset_of, export_for_registry, local_checkpoint
from search.trained.source import REGISTERED
from search.values.message import Message, Remedy, Start
from search.values.option import Option, OptionKind
from search.values.secrets import refuse, refuse_in_uri
from search.views.terminal import Terminal, say
from trainables.disk import read_regular
from trainables.errors import ConfigError, counted
from trainables.export import reference
from trainables.values import Json

SAME_MS = 60_000
"""Two values of `--since` count as equal if they differ by at most this time, since relative ones
(`1d`) depend on the time of the call.
"""
ORIGINS = "origins.json"
"""The file in an improvement's search that records the origin of each new image."""
FIRST = "first.json"
"""The file that records which old test images the first champion of all rounds predicts correctly.
"""


TRY_CHALLENGER = Remedy("serve", options={"shadow": "challenger"}, start=Start.MODULE)
UNASKED = {
    "--anyway": "train on corrections that are probably wrong, too",
    "--challenger": "train even where no challenger can become the champion, for one to try",
}
"""Options that allow something that is refused by default, with their help texts."""


def parser() -> Parser:
    """Define the arguments of `python -m search.improve`."""
    parser = Parser(
        prog="python -m search.improve", description=__doc__, formatter_class=HelpFormatter
    )
    parser.add_argument(
        "model", metavar="MODEL", help="models:/NAME@champion, models:/NAME/VERSION, or a search"
    )
    place_option(parser)
    parser.add_argument(
        "--from",
        dest="place",
        type=storage,
        required=True,
        metavar="PLACE",
        help="the records of what it met: a folder, or s3://BUCKET/PREFIX",
    )
    parser.add_argument(
        "--name", metavar="NAME", help="the new search's name (default: from the model and images)"
    )
    since_option = Option(
        field="since",
        name="since",
        kind=OptionKind.VALUE,
        help="images are to be expected as those met since then: 90m, 12h, 1d, or 2026-11-28; "
        "search.monitor holds later ones to them (default: all; of more than 10,000 the latest)",
        metavar="TIME",
        parse=since,
    )
    add_option(parser, since_option)
    parser.add_argument("--trials", type=int, default=CHALLENGERS, metavar="N", help="challengers")
    budget_options(parser, "none", of="what the challengers may use", gain=False)
    parser.add_argument(
        "--margin",
        type=float,
        default=100 * MARGIN,
        metavar="POINTS",
        help="a champion may not be worse by so many points on the old test images",
    )
    parser.add_argument(
        "--register",
        metavar="NAME",
        help="the model's name in the registry (default: as it is, or the search's)",
    )
    parser.add_argument(
        "--onnx",
        action=argparse.BooleanOptionalAction,
        help="register it as ONNX too (default: if the champion is)",
    )
    for name, text in UNASKED.items():
        parser.add_argument(name, action="store_true", help=text)
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="say which images would join, the plan, and what it takes to tell; start nothing",
    )
    change_option(parser, "the code or a library")
    place_options(parser, "as the champion's search")
    json_option(parser)
    return parser


def improve(args: argparse.Namespace) -> int:
    """Improve the model that the command line names, and return the exit code.

    An improvement that was started before is continued or reported (see `settle`).
    """
    began = command_start()
    check_options(args)
    check_versions()
    if args.name is not None and home(args.storage, args.name).exists():
        return settle(args, home(args.storage, args.name))
    champion_model, records = named_champion(args), Records.at(args.place)
    note = Terminal(stderr=True)
    say(
        note,
        f"the champion is {champion_model.data.trial.trial} of {champion_model.champion.search}",
    )
    say(note, "reading the corrections and their images")
    if (
        args.name is None
        and (begun_home := improvement_to_continue(args, champion_model, records)) is not None
    ):
        return settle(args, begun_home)
    corrections, suspected = examine_corrections(
        *(records, champion_model, args.data_root, rounds_to(champion_model, args.storage)),
        keep_doubted=args.anyway,
        note=partial(say, note),
    )
    for line in data_lines(corrections, suspected):
        say(note, line)
    refuse_few(corrections)
    name = args.name or name_of(champion_model.champion, corrections)
    search_home = home(args.storage, name)
    info = new_improvement_info(args, champion_model, corrections, suspected)
    if args.dry_run:
        return plan(args, champion_model, corrections, info, name)
    if search_home.exists():
        return settle(args, search_home)
    refuse_hopeless(args, info, champion_model, records)
    info = join(info, champion_model, corrections, search_home.folder / FOLDER)
    search_home.keep(FOLDER)
    experiment = challengers(args, champion_model, info, name, search_home.read(FOLDER))
    prepared = prepare(experiment)
    for line in prepared.notes:
        say(note, line)
    opening = opening_line(prepared.experiment, budget_text(prepared.experiment))
    session = SessionPlan(
        "search.improve",
        started_event(prepared.experiment, prepared.dataset),
        advises=False,
        evidence={ORIGINS: json.dumps(asdict(info), indent=1).encode()},
    )
    set_aside_images(records, corrections)
    finished = run_session(prepared, note, began, opening, session)
    return finish(args, search_home, finished.exit_code)


def named_champion(args: argparse.Namespace) -> ChampionModel:
    """Find the model that MODEL names; if a search's name is mistyped, ask the user."""
    if not args.model.startswith(REGISTERED):
        args.model = resolve_or_ask(args.model, args.storage)
    return find_champion(champion_request(args))


def champion_request(args: argparse.Namespace) -> ChampionRequest:
    """Collect the options that identify the model to improve."""
    return ChampionRequest(
        model=args.model,
        storage=args.storage,
        overrides=overrides_of(args),
        register=args.register or "",
    )


def check_options(args: argparse.Namespace) -> None:
    """Check the values of the options.

    Raises:
        ConfigError: --trials or --margin is out of its range.
    """
    if args.trials < 3:
        raise ConfigError(f"--trials must be >= 3 (got {args.trials}).")
    if not 0 < args.margin < 100:
        raise ConfigError(f"--margin must be > 0 and < 100 points (got {args.margin:g}).")
    if args.name is not None:
        check_search_name(args.name)
    if args.register is not None:
        check_name(args.register)
        refuse("--register", args.register)
    refuse_in_uri(args.tracking or "")


def name_of(champion: ChampionIdentity, corrections: CorrectedImages) -> str:
    """Default name of the improvement's search; it depends only on the champion and the images."""
    about_it = [
        champion.id,
        champion.trial,
        *sorted((correction.image, correction.label) for correction in corrections.new),
    ]
    return name_stem(champion) + hashlib.sha256(json.dumps(about_it).encode()).hexdigest()[:6]


def name_stem(champion: ChampionIdentity) -> str:
    """Beginning of the default names of a model's improvements."""
    stem = re.sub("[^A-Za-z0-9._-]+", "-", champion.model).lstrip(".-")[:45]
    return f"{stem or 'model'}-improved-"


def improvement_to_continue(
    args: argparse.Namespace, champion_model: ChampionModel, records: Records
) -> Home | None:
    """Find the improvement that this call continues or reports; None to start a new one.

    It is an improvement of this champion from the records in the same place whose decision has not
    been made or carried out. Otherwise, it is the improvement that produced this champion, if there
    have been no new corrections since.
    """
    champion = champion_model.champion
    for name in searches_in(args.storage):
        search_home = home(args.storage, name)
        if not name.startswith(name_stem(champion)) or is_settled(facts_in(search_home)):
            continue
        if FOLDER in search_home.names():
            info = info_of(search_home)
            same = (info.champion.id, info.champion.trial) == (champion.id, champion.trial)
            if same and info.place == str(args.place):
                return search_home
    if FOLDER not in champion_model.home.names() or (
        info := info_of(champion_model.home)
    ).place != str(args.place):
        return None
    return None if unseen_corrections(info, records.corrections().values()) else champion_model.home


def info_of(search_home: Home) -> ImprovementInfo:
    """Read the info of an improvement; in a bucket, only this file is downloaded."""
    return ImprovementInfo.read(search_home.read(f"{FOLDER}/{INFO_FILE}").parent)


def new_improvement_info(
    args: argparse.Namespace,
    champion_model: ChampionModel,
    corrections: CorrectedImages,
    suspected: float,
) -> ImprovementInfo:
    """Describe the new improvement.

    Args:
        args: the command line.
        champion_model: the champion.
        corrections: the corrected images, by use.
        suspected: the estimated share of wrong corrections.
    """
    warm = ""
    if not champion_model.data.config.model.is_baseline:
        manifest = (champion_model.checkpoint / "manifest.json").read_bytes()
        warm = f"champion-{hashlib.sha256(manifest).hexdigest()[:8]}"
    info = improvement_info(champion_model.champion, str(args.place), corrections, suspected, warm)
    return replace(info, since_ms=args.since or 0)


def refuse_hopeless(
    args: argparse.Namespace, info: ImprovementInfo, champion_model: ChampionModel, records: Records
) -> None:
    """Check that a challenger can become the champion, unless --challenger is given.

    Raises:
        Refused: no challenger could become the champion, no matter how good it is.
    """
    reasons = obstacles(*decision_terms(args, info, champion_model, records))
    if not reasons or args.challenger:
        return
    lines = "\n".join(f"  {line}" for line in reasons)
    raise Refused(
        Message(
            "no challenger can become the champion: nothing was started. With --challenger they "
            "are trained all the same, and the best is at most a challenger, to try with ",
            TRY_CHALLENGER,
            f".\n{lines}",
        )
    )


def decision_terms(
    args: argparse.Namespace, info: ImprovementInfo, champion_model: ChampionModel, records: Records
) -> tuple[int, int, float, float]:
    """Collect the arguments of `requirement_lines` and `obstacles`.

    Returns:
        The number of held-out new images that are fair to the champion, the number of old test
        images, the margin as a share, and the error rate of the test on new images.
    """
    assert champion_model.data.dataset.test is not None
    test = len(champion_model.data.dataset.test)
    return len(info.fair_rows()), test, args.margin / 100, info.alpha(records.deciding_images())


def join(
    info: ImprovementInfo, champion_model: ChampionModel, corrections: CorrectedImages, folder: Path
) -> ImprovementInfo:
    """Write the joined data set to a folder, unless it is there already; return its info."""
    if (folder / INFO_FILE).exists() and (there := ImprovementInfo.read(folder)).is_same_as(info):
        return there
    folder.parent.mkdir(parents=True, exist_ok=True)
    write_joined(folder, info, champion_model.data.dataset, corrections, champion_model.checkpoint)
    return info


def challengers(
    args: argparse.Namespace,
    champion_model: ChampionModel,
    info: ImprovementInfo,
    name: str,
    folder: Path,
) -> Experiment:
    """Build the experiment that trains the challengers on the joined data set in `folder`."""
    return challenger_experiment(
        name,
        champion_model.data,
        joined_data_config(
            champion_model.data.config.data, folder, len(champion_model.data.dataset.val)
        ),
        info.warm_start,
        trials=args.trials,
        budget=Budget(tuple(args.budget), args.price),
    )


def budget_text(experiment: Experiment) -> str:
    """Describe the challengers in the order of their training, and the limits of the budget."""
    count = experiment.planned_trials
    if count == 1:
        return "the champion's config fitted anew"
    within = " and ".join(map(str, experiment.budget.limits))
    text = (
        f"{count} challengers of up to {counted(experiment.horizon, 'epoch')}: the champion "
        f"trained on (2), its config trained anew (1), a search around it ({count - 3}), in "
        "this order"
    )
    return f"{text}, within {within}" if within else text


def plan(
    args: argparse.Namespace,
    champion_model: ChampionModel,
    corrections: CorrectedImages,
    info: ImprovementInfo,
    name: str,
) -> int:
    """Print the plan of an improvement and the requirements for a new champion (--dry-run).

    Returns:
        The exit code.
    """
    terminal = Terminal(stderr=args.json)
    with tempfile.TemporaryDirectory(prefix="improve-") as temporary:
        folder = Path(temporary) / FOLDER
        join(info, champion_model, corrections, folder)
        experiment = challengers(args, champion_model, info, name, folder)
        estimate = estimate_search(experiment)
        say(terminal, budget_text(experiment))
        for line in estimate.lines(experiment):
            say(terminal, line)
    for line in requirement_lines(
        *decision_terms(args, info, champion_model, Records.at(args.place))
    ):
        say(terminal, line)
    if args.json:
        facts = data_facts(info) | {"name": name, "plan": estimate.to_json() | {"data": None}}
        print(json.dumps(facts))
    return 0


def data_facts(info: ImprovementInfo) -> Json:
    """Summarise the champion and the corrections as JSON-compatible values."""
    left_out = [asdict(image) for image in info.left_out]
    return {
        "champion": asdict(info.champion),
        "images": {use: info.count(use) for use in MIN_NEW_IMAGES},
        "left_out": left_out,
        "suspected": info.suspected,
    }


def settle(args: argparse.Namespace, search_home: Home) -> int:
    """Continue an improvement up to its decision, or report the earlier decision.

    Returns:
        The exit code.

    Raises:
        ConfigError: the search is not an improvement.
    """
    name = (
        search_home.folder.name
        if isinstance(args.storage, Path)
        else str(search_home).rpartition("/")[2]
    )
    result = SearchResult.read(search_home.opened())
    if FOLDER not in search_home.names():
        raise ConfigError(f"the search '{name}' is no improvement. Use another --name.")
    if args.dry_run:
        say(Terminal(), f"{name} was begun ({result.outcome}); without --dry-run it goes on")
        return 0
    if (facts := facts_in(search_home)) is not None and is_settled(facts):
        return print_outcome(args, facts, [f"{name} was decided before:", *facts["text"]])
    for line in ignored_options(args, info_of(search_home)):
        say(Terminal(stderr=True), line)
    continuation = ResumeRequest(
        name=name,
        storage=args.storage,
        allow_change=args.allow_change,
        limits=UsageLimits(budget=tuple(args.budget), price=args.price or None),
        where=Where(data_root=search_home.read(FOLDER)),
    )
    if facts is not None or (
        result.outcome in ENDED and result.ranking and not can_continue(continuation, result)
    ):
        return finish(args, search_home, 0)
    return finish(args, search_home, resume(continuation, advises=False).exit_code)


def ignored_options(args: argparse.Namespace, info: ImprovementInfo) -> Iterator[str]:
    """Yield a note for each option that is ignored, because the first call decides its value."""
    if str(args.place) != info.place:
        yield (
            f"note: this improvement learns from '{info.place}'; '{args.place}' is asked only for "
            "what its model is to expect"
        )
    if args.since is not None and abs(args.since - info.since_ms) > SAME_MS:
        since = f"--since {moment(info.since_ms)}" if info.since_ms else "no --since"
        yield f"note: --since is not heeded: this improvement began with {since}"


def can_continue(continuation: ResumeRequest, result: SearchResult) -> bool:
    """True if the search's budget is used up, and the continuation raises it."""
    limits = continuation.limits
    if result.outcome != "budget" or not (limits.budget or limits.price):
        return False
    return used_up(resumed_experiment(continuation, result), result) is None


def facts_in(search_home: Home) -> Json | None:
    """Read the decision from an improvement's search; None if none has been made."""
    if DECISION not in search_home.names():
        return None
    facts: Json = json.loads(read_regular(search_home.read(DECISION)))
    return facts


def is_settled(facts: Json | None) -> bool:
    """True if a decision was made, and its model is registered or there is none to register."""
    return facts is not None and (bool(facts["version"]) or is_unchanged(facts))


def is_unchanged(facts: Json) -> bool:
    """True if the decision was to register no model."""
    return bool(facts["outcome"] == UNCHANGED)


def finish(args: argparse.Namespace, search_home: Home, code: int) -> int:
    """Make the decision, register the challenger accordingly, and print the outcome.

    The decision is written before the registration, so that an interrupted call can resume.

    Args:
        args: the command line.
        search_home: the place of the improvement's search.
        code: the exit code of the search's session.

    Returns:
        `code` if the search has not ended or has no ranked trial, or else 0.
    """
    result = SearchResult.read(search_home.opened(files=True))
    if result.outcome not in ENDED or not result.ranking:
        return code
    folder = search_home.read(FOLDER)
    info = ImprovementInfo.read(folder)
    # MODEL may name another model now, if the alias has moved since the improvement was started.
    champion_model = load_champion(champion_request(args), info.champion)
    facts = facts_in(search_home)
    if facts is None:
        decision = decide_outcome(args, champion_model, search_home, result, info)
        facts = {
            "search": result.name,
            **decision.to_json(),
            "model": champion_model.champion.model,
            "version": None,
            **data_facts(info),
            "text": decision.lines(),
        }
        search_home.write(DECISION, json.dumps(facts, indent=1).encode())
    if not is_unchanged(facts):
        registered = register(args, champion_model, search_home, result, facts)
        facts["text"] += registered_lines(registered, facts)
        facts["outcome"] = CHAMPION if ALIAS in registered.aliases else CHALLENGER
        facts["version"] = registered.version
        search_home.write(DECISION, json.dumps(facts, indent=1).encode())
    redraw(search_home, result)
    return print_outcome(args, facts, facts["text"])


def redraw(search_home: Home, result: SearchResult) -> None:
    """Write the search's HTML report again, if there is one, because it shows the decision."""
    if PAGE not in search_home.names():
        return
    from search.views.page.page import render  # imported late, because it imports matplotlib

    search_home.write(PAGE, render(result, search_home.opened(files=True)).encode())


def print_outcome(args: argparse.Namespace, facts: Json, lines: Sequence[str]) -> int:
    """Print the outcome of an improvement as lines, or as JSON with --json; return exit code 0."""
    console = Terminal(stderr=args.json)
    for line in lines:
        say(console, line)
    if args.json:
        print(json.dumps(facts))
    return 0


def registered_lines(registered: Registered, facts: Json) -> list[str]:
    """Describe the registered version and its aliases, and how to use it, in lines."""
    name, before = registered.name, registered.before
    line = f"version {registered.version} of {name} is models:/{name}@{registered.aliases[-1]}"
    if watched := facts.get("watched"):
        line += f"; {watched_text(watched)}"
    if facts["outcome"] != CHAMPION:
        return [line]
    if ALIAS in registered.aliases:
        return [f"{line}; it was version {before}" if before else line]
    promote = Remedy(
        "promote",
        facts["search"],
        options={"trial": facts["challenger"], "model": name},
        start=Start.MODULE,
    )
    return [
        f"{line} alone: the champion is version {before} by now, beside which it was not held. "
        f"Try it with {TRY_CHALLENGER}, or make it the champion yourself: {promote}"
    ]


def decide_outcome(
    args: argparse.Namespace,
    champion_model: ChampionModel,
    search_home: Home,
    result: SearchResult,
    info: ImprovementInfo,
) -> Decision:
    """Compare the best challenger with the champion, decide, and note the used images."""
    folder, data = search_home.read(FOLDER), champion_model.data
    parts, fair, records = (
        load_set_aside(folder),
        info.fair_rows(),
        Records.at(records_place(args, info)),
    )
    if is_fair := len(fair) >= MIN_NEW_IMAGES[HELD_OUT]:
        parts[HELD_OUT] = parts[HELD_OUT].take(np.array(fair))
    alpha = info.alpha(records.deciding_images(), result.started.id)
    trials = [trial for trial in result.ranking if not trial.is_freed]
    dataset = dataset_of(result, config_of(result, trials[0], folder))
    challengers = {
        trial.trial: LoadedCheckpoint(
            config_of(result, trial, folder), dataset, local_checkpoint(search_home, trial)
        )
        for trial in trials
    }
    candidates = [
        ScoredChallenger(
            trial.trial,
            trial.primary_value,
            float(challengers[trial.trial].correct_predictions(parts[SELECTION]).mean()),
        )
        for trial in trials
    ]
    best = challengers[trial := best_challenger(candidates).trial]
    champion = LoadedCheckpoint(data.config, data.dataset, champion_model.checkpoint)
    assert dataset.test is not None
    on_new, on_old = (
        champion.correct_predictions(parts[HELD_OUT]),
        champion.correct_predictions(dataset.test),
    )
    old = best.correct_predictions(dataset.test)
    if records.info is not None:  # the records may have been deleted
        held_out_images = [image["image"] for image in info.images if image["use"] == HELD_OUT]
        rows = fair if is_fair else range(len(held_out_images))
        records.note_deciding_images(result.started.id, [held_out_images[row] for row in rows])
    return Decision(
        trial,
        tuple(candidates),
        PairedComparison.of(on_new, best.correct_predictions(parts[HELD_OUT])),
        PairedComparison.of(on_old, old),
        float(on_new.mean()),
        float(on_old.mean()),
        args.margin / 100,
        champion.ms_per_image(),
        best.ms_per_image(),
        alpha,
        len(fair),
        is_fair=is_fair,
        first=compare_first_champion(args, champion_model, search_home, on_old, old),
    )


def records_place(args: argparse.Namespace, info: ImprovementInfo) -> Path | Bucket:
    """The place of the records from which the improvement was started."""
    place: Path | Bucket = args.place if str(args.place) == info.place else storage(info.place)
    return place


def compare_first_champion(
    args: argparse.Namespace,
    champion_model: ChampionModel,
    search_home: Home,
    champion: NDArray[np.bool_],
    challenger: NDArray[np.bool_],
) -> FirstChampion | None:
    """Compare the challenger with the first champion of all rounds; None if that is the champion.

    Each improvement stores which old test images the first champion predicts correctly, because
    that champion's search may be deleted. If an earlier version did not store them, the champion of
    the earliest improvement that still exists counts as the first.

    Args:
        args: the command line.
        champion_model: the champion.
        search_home: the place of the improvement's search.
        champion: shape (old test images,); True where the champion's prediction is correct.
        challenger: the same for the challenger.
    """
    name, rights = f"{champion_model.champion.trial} of {champion_model.champion.search}", champion
    if FIRST in champion_model.home.names():
        facts = json.loads(read_regular(champion_model.home.read(FIRST)))
        name, rights = facts["name"], np.array([digit == "1" for digit in facts["rights"]])
    elif (rounds := rounds_to(champion_model, args.storage)) and home(
        args.storage, (first_champion := rounds[0].champion).search
    ).exists():
        name, rights = (
            f"{first_champion.trial} of {first_champion.search}",
            correct_on_test_images(load_champion(champion_request(args), first_champion)),
        )
    facts = {"name": name, "rights": "".join(map(str, rights.astype(int)))}
    search_home.write(FIRST, json.dumps(facts).encode())
    if rights is champion:
        return None
    return FirstChampion(name, PairedComparison.of(rights, challenger), float(rights.mean()))


def correct_on_test_images(champion_model: ChampionModel) -> NDArray[np.bool_]:
    """For each old test image, True if the champion's prediction is correct; one-dimensional."""
    champion_data = champion_model.data
    assert champion_data.dataset.test is not None
    return LoadedCheckpoint(
        champion_data.config, champion_data.dataset, champion_model.checkpoint
    ).correct_predictions(champion_data.dataset.test)


def register(
    args: argparse.Namespace,
    champion_model: ChampionModel,
    search_home: Home,
    result: SearchResult,
    facts: Json,
) -> Registered:
    """Register the challenger, unless it is registered already, and set its aliases.

    If this fails, the next call of the command continues here.
    """
    chosen, champion = result.trials[facts["challenger"]], champion_model.champion
    aliases = [CHALLENGER, *([ALIAS] if facts["outcome"] == CHAMPION else [])]
    registry = Registry(champion_model.tracking, result, args.storage)
    own = tags(result, chosen)
    version = registry.version_with(champion.model, own)
    if not version:
        version = export_and_register(args, champion_model, search_home, result, facts, registry)
    over = {"search.id": champion.id, "search.trial": champion.trial}
    return registry.set_aliases(champion.model, version, aliases, over)


def export_and_register(
    args: argparse.Namespace,
    champion_model: ChampionModel,
    search_home: Home,
    result: SearchResult,
    facts: Json,
    registry: Registry,
) -> str:
    """Export the challenger, and register it without an alias; return its version.

    Side effect: sets `facts["watched"]`, the result of `add_expected`.
    """
    chosen = result.trials[facts["challenger"]]
    with tempfile.TemporaryDirectory(prefix="promote-") as temporary:
        exported = export_for_registry(
            result,
            search_home,
            chosen,
            search_home.read(FOLDER),
            Path(temporary) / "classifier",
            onnx=is_wanted_as_onnx(args, champion_model),
        )
        facts["watched"] = add_expected(args, search_home, result, luck_of(facts), exported.folder)
        text = "\n".join(
            [
                describe_model(result, chosen, exported),
                "",
                f"It improves on {champion_model.champion.trial} of the search "
                f"{champion_model.champion.search}, with {facts['images'][TRAINING]:,} corrected "
                f"images: {'; '.join(facts['text'])}.",
            ]
        )
        improves = (
            {"improves.version": champion_model.champion.version}
            if champion_model.champion.version
            else {}
        )
        return registry.register(
            champion_model.champion.model, exported, text, tags(result, chosen) | improves
        )


def add_expected(
    args: argparse.Namespace, search_home: Home, result: SearchResult, luck: float, folder: Path
) -> Json:
    """Add the images that an exported challenger is expected to receive to its reference.

    `search.monitor` compares later images with them.

    Args:
        args: the command line.
        search_home: the place of the improvement's search.
        result: the improvement's search.
        luck: by how much the challenger's accuracy on the held-out images is probably too high
            (`luck_of`).
        folder: the folder of the exported challenger.

    Returns:
        The numbers of these images: all ("met"), those with a known class ("labelled") and those
        trained on ("trained"); "lost" names the first champion's search if it no longer exists.
    """
    from trainables.export.predictor import Predictor  # imported late, because it imports pandas

    joined = search_home.read(FOLDER)
    old_reference, info = reference.read(folder), ImprovementInfo.read(joined)
    rounds = rounds_of(info, args.storage)
    assert old_reference is not None  # it has just been exported
    expected = expected_images(
        Predictor(folder).predictions,
        old_reference,
        Records.at(args.place),
        info,
        load_set_aside(joined)[HELD_OUT],
        trained_image_names(rounds),
        result.started_ms,  # the start of the first session
        luck,
    )
    reference.add(folder, expected)
    first = rounds[0].champion.search
    return {
        "met": len(expected.probabilities),
        "labelled": len(expected.targets),
        "trained": len(expected.trained),
        "lost": "" if home(args.storage, first).exists() else first,
    }


def rounds_to(champion_model: ChampionModel, storage: Storage) -> list[ImprovementInfo]:
    """Read the improvements that led to a champion, oldest first; empty for an original model."""
    return (
        rounds_of(info_of(champion_model.home), storage)
        if FOLDER in champion_model.home.names()
        else []
    )


def rounds_of(info: ImprovementInfo, storage: Storage) -> list[ImprovementInfo]:
    """Read the improvements that led to this one, oldest first, as far back as they still exist.

    The last element is `info` itself.
    """
    rounds, names = [info], set[str]()
    while (name := rounds[0].champion.search) not in names:
        names.add(name)
        search_home = home(storage, name)
        if not search_home.exists() or FOLDER not in search_home.names():
            break
        rounds.insert(0, info_of(search_home))
    return rounds


def watched_text(watched: Json) -> str:
    """Describe the images with which later ones will be compared, and a lost first search."""
    text = held_to_text(watched)
    if lost := watched["lost"]:
        text += (
            f"; {lost} is gone: if it was an improvement, the images that it learned from count "
            "as new"
        )
    return text


def held_to_text(watched: Json) -> str:
    """Describe the images with which `search.monitor` will compare later ones, in a clause."""
    if not watched["met"]:
        return (
            "search.monitor holds what it meets to the old validation images: of what was met "
            "before, too few were kept that were not trained on"
        )
    labelled_text = f"{watched['labelled']:,} of known class that it was not trained on"
    if watched["labelled"] < MIN_TESTED:
        labelled_text = (
            f"nothing: {counted(watched['labelled'], 'image')} of known class held out stand for "
            f"all, {MIN_TESTED} are needed (correct those that search.label shows, whatever it "
            "says)"
        )
    images = counted(watched["met"], "image")
    return (
        f"search.monitor holds what it meets to {images} met before, and its accuracy to "
        f"{labelled_text}"
    )


def is_wanted_as_onnx(args: argparse.Namespace, champion_model: ChampionModel) -> bool:
    """True if the challenger should also be registered as ONNX: as --onnx says, or the champion."""
    if args.onnx is not None or not champion_model.champion.version:
        return bool(args.onnx)
    return ONNX in origin_of(champion_model.source, champion_model.tracking).tags


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, improve the model, and return the exit code (see `ExitCode`)."""
    args = parser().parse_args(argv)
    return guarded(lambda: improve(args))
