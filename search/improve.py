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
import sys
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
from search import resume
from search.cli.continuation import change_option, overrides_of, place_options
from search.cli.options import HelpFormatter, json_option, place_option
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
from search.monitor import since
from search.preflight.prepare import prepare
from search.process.guard import guarded
from search.process.lifetime import command_start, leave
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
from search.values.secrets import refuse, refuse_in_uri
from search.views.terminal import Terminal, say
from trainables.disk import read_regular
from trainables.errors import ConfigError, counted
from trainables.export import reference
from trainables.values import Json

SAME_MS = 60_000
"""Two `--since` are the same that are no more than this apart."""
ORIGINS = "origins.json"
"""The file of an improvement's search with each new image's origin."""
FIRST = "first.json"
"""That with the old test images that the first champion of all rounds names right."""


TRY_CHALLENGER = Remedy("serve", options={"shadow": "challenger"}, start=Start.MODULE)
UNASKED = {
    "--anyway": "train on corrections that are probably wrong, too",
    "--challenger": "train even where no challenger can become the champion, for one to try",
}
"""The options by which it does what it refuses otherwise, with their help."""


def parser() -> Parser:
    """Return the parser of this command's options."""
    made = Parser(
        prog="python -m search.improve", description=__doc__, formatter_class=HelpFormatter
    )
    made.add_argument(
        "model", metavar="MODEL", help="models:/NAME@champion, models:/NAME/VERSION, or a search"
    )
    place_option(made)
    made.add_argument(
        "--from",
        dest="place",
        type=storage,
        required=True,
        metavar="PLACE",
        help="the records of what it met: a folder, or s3://BUCKET/PREFIX",
    )
    made.add_argument(
        "--name", metavar="NAME", help="the new search's name (default: from the model and images)"
    )
    made.add_argument(
        "--since",
        type=since,
        metavar="TIME",
        help="images are to be expected as those met since then: 90m, 12h, 1d, or 2026-11-28; "
        "search.monitor holds later ones to them (default: all; of more than 10,000 the latest)",
    )
    made.add_argument("--trials", type=int, default=CHALLENGERS, metavar="N", help="challengers")
    budget_options(made, "none", of="what the challengers may use", gain=False)
    made.add_argument(
        "--margin",
        type=float,
        default=100 * MARGIN,
        metavar="POINTS",
        help="a champion may not be worse by so many points on the old test images",
    )
    made.add_argument(
        "--register",
        metavar="NAME",
        help="the model's name in the registry (default: as it is, or the search's)",
    )
    made.add_argument(
        "--onnx",
        action=argparse.BooleanOptionalAction,
        help="register it as ONNX too (default: if the champion is)",
    )
    for name, text in UNASKED.items():
        made.add_argument(name, action="store_true", help=text)
    made.add_argument(
        "--dry-run",
        action="store_true",
        help="say which images would join, the plan, and what it takes to tell; start nothing",
    )
    change_option(made, "the code or a library")
    place_options(made, "as the champion's search")
    json_option(made)
    return made


def improve(args: argparse.Namespace) -> int:
    """Improve the model that the command line names; return the exit code.

    Raises:
        ConfigError, NotReady, Unavailable: an option, the records or the data are wrong, or
            something is not there.
        Refused: the corrections are not to be believed, or the champion's search is not what it
            was.
        LeaseHeld: another driver has one of the searches.
    """
    began = command_start()
    check_options(args)
    check_versions()
    if args.name is not None and home(args.storage, args.name).exists():
        return settle(args, home(args.storage, args.name))
    found, records = named_champion(args), Records.at(args.place)
    note = Terminal(stderr=True)
    say(note, f"the champion is {found.data.trial.trial} of {found.champion.search}")
    say(note, "reading the corrections and their images")
    if args.name is None and (begun := begun_with(args, found, records)) is not None:
        return settle(args, begun)
    gathered, suspected = examine_corrections(
        *(records, found, args.data_root, rounds_to(found, args.storage)),
        keep_doubted=args.anyway,
        note=partial(say, note),
    )
    for line in data_lines(gathered, suspected):
        say(note, line)
    refuse_few(gathered)
    name = args.name or name_of(found.champion, gathered)
    kept = home(args.storage, name)
    told = subject(args, found, gathered, suspected)
    if args.dry_run:
        return plan(args, found, gathered, told, name)
    if kept.exists():
        return settle(args, kept)
    refuse_hopeless(args, told, found, records)
    told = join(told, found, gathered, kept.folder / FOLDER)
    kept.keep(FOLDER)
    experiment = challengers(args, found, told, name, kept.read(FOLDER))
    prepared = prepare(experiment)
    for line in prepared.notes:
        say(note, line)
    opening = opening_line(prepared.experiment, budget_text(prepared.experiment))
    session = SessionPlan(
        "search.improve",
        started_event(prepared.experiment, prepared.dataset),
        advises=False,
        evidence={ORIGINS: json.dumps(asdict(told), indent=1).encode()},
    )
    set_aside_images(records, gathered)
    finished = run_session(prepared, note, began, opening, session)
    return finish(args, kept, finished.exit_code)


def named_champion(args: argparse.Namespace) -> ChampionModel:
    """Find the model that MODEL names; ask if the name of its search is mistyped."""
    if not args.model.startswith(REGISTERED):
        args.model = resolve_or_ask(args.model, args.storage)
    return find_champion(champion_request(args))


def champion_request(args: argparse.Namespace) -> ChampionRequest:
    """Collect the options that say which model is improved."""
    return ChampionRequest(
        model=args.model,
        storage=args.storage,
        overrides=overrides_of(args),
        register=args.register or "",
    )


def check_options(args: argparse.Namespace) -> None:
    """Check what needs nothing but the command line.

    Raises:
        ConfigError: an option is out of its range.
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


def name_of(champion: ChampionIdentity, gathered: CorrectedImages) -> str:
    """Return the name of the search: the same for the same champion and images."""
    about_it = [
        champion.id,
        champion.trial,
        *sorted((one.image, one.label) for one in gathered.new),
    ]
    return stem_of(champion) + hashlib.sha256(json.dumps(about_it).encode()).hexdigest()[:6]


def stem_of(champion: ChampionIdentity) -> str:
    """Return what the names of a model's improvements begin with."""
    stem = re.sub("[^A-Za-z0-9._-]+", "-", champion.model).lstrip(".-")[:45]
    return f"{stem or 'model'}-improved-"


def begun_with(args: argparse.Namespace, found: ChampionModel, records: Records) -> Home | None:
    """Return the improvement that this call goes on with, or tells of; None if it is a new one.

    That is one of this champion, from this place, that has no decision yet, or could not register
    it; or the one that made this champion, if nothing was corrected since.
    """
    champion = found.champion
    for name in searches_in(args.storage):
        kept = home(args.storage, name)
        if not name.startswith(stem_of(champion)) or is_settled(facts_in(kept)):
            continue
        if FOLDER in kept.names():
            told = about_of(kept)
            same = (told.champion.id, told.champion.trial) == (champion.id, champion.trial)
            if same and told.place == str(args.place):
                return kept
    if FOLDER not in found.home.names() or (told := about_of(found.home)).place != str(args.place):
        return None
    return None if unseen_corrections(told, records.corrections().values()) else found.home


def about_of(kept: Home) -> ImprovementInfo:
    """Return what an improvement is about, of its folder that alone."""
    return ImprovementInfo.read(kept.read(f"{FOLDER}/{INFO_FILE}").parent)


def subject(
    args: argparse.Namespace, found: ChampionModel, gathered: CorrectedImages, suspected: float
) -> ImprovementInfo:
    """Return what an improvement is about."""
    warm = ""
    if not found.data.config.model.is_baseline:
        manifest = (found.checkpoint / "manifest.json").read_bytes()
        warm = f"champion-{hashlib.sha256(manifest).hexdigest()[:8]}"
    told = improvement_info(found.champion, str(args.place), gathered, suspected, warm)
    return replace(told, since_ms=args.since or 0)


def refuse_hopeless(
    args: argparse.Namespace, told: ImprovementInfo, found: ChampionModel, records: Records
) -> None:
    """Check that a challenger can become the champion, or that none is asked to.

    Raises:
        Refused: none can, whatever it is trained to.
    """
    reasons = obstacles(*told_by(args, told, found, records))
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


def told_by(
    args: argparse.Namespace, told: ImprovementInfo, found: ChampionModel, records: Records
) -> tuple[int, int, float, float]:
    """Return what a decision rests on: the arguments of `requirement_lines` and `obstacles`."""
    assert found.data.dataset.test is not None
    test = len(found.data.dataset.test)
    return len(told.fair_rows()), test, args.margin / 100, told.alpha(records.deciding_images())


def join(
    told: ImprovementInfo, found: ChampionModel, gathered: CorrectedImages, folder: Path
) -> ImprovementInfo:
    """Write the joined data into a folder, unless they are there; return what they are about."""
    if (folder / INFO_FILE).exists() and (there := ImprovementInfo.read(folder)).is_same_as(told):
        return there
    folder.parent.mkdir(parents=True, exist_ok=True)
    write_joined(folder, told, found.data.dataset, gathered, found.checkpoint)
    return told


def challengers(
    args: argparse.Namespace, found: ChampionModel, told: ImprovementInfo, name: str, folder: Path
) -> Experiment:
    """Return the search for a challenger on the joined data in a folder."""
    return challenger_experiment(
        name,
        found.data,
        joined_data_config(found.data.config.data, folder, len(found.data.dataset.val)),
        told.warm_start,
        trials=args.trials,
        budget=Budget(tuple(args.budget), args.price),
    )


def budget_text(experiment: Experiment) -> str:
    """Return what the challengers are, and how the budget is shared."""
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
    found: ChampionModel,
    gathered: CorrectedImages,
    told: ImprovementInfo,
    name: str,
) -> int:
    """Print the plan of an improvement, and what would be needed to tell; return the exit code."""
    terminal = Terminal(stderr=args.json)
    with tempfile.TemporaryDirectory(prefix="improve-") as temporary:
        folder = Path(temporary) / FOLDER
        join(told, found, gathered, folder)
        experiment = challengers(args, found, told, name, folder)
        estimate = estimate_search(experiment)
        say(terminal, budget_text(experiment))
        for line in estimate.lines(experiment):
            say(terminal, line)
    for line in requirement_lines(*told_by(args, told, found, Records.at(args.place))):
        say(terminal, line)
    if args.json:
        facts = data_facts(told) | {"name": name, "plan": estimate.to_json() | {"data": None}}
        print(json.dumps(facts))
    return 0


def data_facts(told: ImprovementInfo) -> Json:
    """Return what the corrections came to, as plain values."""
    left_out = [asdict(one) for one in told.left_out]
    return {
        "champion": asdict(told.champion),
        "images": {use: told.count(use) for use in MIN_NEW_IMAGES},
        "left_out": left_out,
        "suspected": told.suspected,
    }


def settle(args: argparse.Namespace, kept: Home) -> int:
    """Go on with an improvement that was begun, to its decision; return the exit code."""
    name = kept.folder.name if isinstance(args.storage, Path) else str(kept).rpartition("/")[2]
    result = SearchResult.read(kept.opened())
    if FOLDER not in kept.names():
        raise ConfigError(f"the search '{name}' is no improvement. Use another --name.")
    if args.dry_run:
        say(Terminal(), f"{name} was begun ({result.outcome}); without --dry-run it goes on")
        return 0
    if (facts := facts_in(kept)) is not None and is_settled(facts):
        return tell(args, facts, [f"{name} was decided before:", *facts["text"]])
    for line in not_heeded(args, about_of(kept)):
        say(Terminal(stderr=True), line)
    words = [name, "--storage", str(args.storage), "--data-root", str(kept.read(FOLDER))]
    words += [f"--budget={limit}" for limit in args.budget]
    words += [f"--price={args.price}"] if args.price else []
    words += ["--allow-change"] if args.allow_change else []
    on = resume.parser().parse_args(words)
    if facts is not None or (
        result.outcome in ENDED and result.ranking and not may_go_on(on, result)
    ):
        return finish(args, kept, 0)
    return finish(args, kept, resume.resume(on, advises=False).exit_code)


def not_heeded(args: argparse.Namespace, told: ImprovementInfo) -> Iterator[str]:
    """Yield notes on options that are other ones than those with which an improvement began."""
    if str(args.place) != told.place:
        yield (
            f"note: this improvement learns from '{told.place}'; '{args.place}' is asked only for "
            "what its model is to expect"
        )
    if args.since is not None and abs(args.since - told.since_ms) > SAME_MS:
        since = f"--since {moment(told.since_ms)}" if told.since_ms else "no --since"
        yield f"note: --since is not heeded: this improvement began with {since}"


def may_go_on(args: argparse.Namespace, result: SearchResult) -> bool:
    """Return whether a search that its budget has ended is given a larger one."""
    if result.outcome != "budget" or not (args.budget or args.price):
        return False
    return resume.used_up(resume.experiment_of(args, result), result) is None


def facts_in(kept: Home) -> Json | None:
    """Return what was decided; None before that."""
    if DECISION not in kept.names():
        return None
    facts: Json = json.loads(read_regular(kept.read(DECISION)))
    return facts


def is_settled(facts: Json | None) -> bool:
    """Return whether all is done that an improvement has decided."""
    return facts is not None and (bool(facts["version"]) or is_unchanged(facts))


def is_unchanged(facts: Json) -> bool:
    """Return whether there is nothing to register."""
    return bool(facts["outcome"] == UNCHANGED)


def finish(args: argparse.Namespace, kept: Home, code: int) -> int:
    """Decide, register what is to be registered, and say so; return the exit code.

    What was decided is written first, so that a call that ends in between is gone on with.
    `code` is the search's.
    """
    result = SearchResult.read(kept.opened(files=True))
    if result.outcome not in ENDED or not result.ranking:
        return code
    folder = kept.read(FOLDER)
    told = ImprovementInfo.read(folder)
    # Not the one that MODEL names now, which may have followed while this was cut off.
    found = load_champion(champion_request(args), told.champion)
    facts = facts_in(kept)
    if facts is None:
        decision = decided(args, found, kept, result, told)
        facts = {
            "search": result.name,
            **decision.to_json(),
            "model": found.champion.model,
            "version": None,
            **data_facts(told),
            "text": decision.lines(),
        }
        kept.write(DECISION, json.dumps(facts, indent=1).encode())
    if not is_unchanged(facts):
        registered = register(args, found, kept, result, facts)
        facts["text"] += registered_lines(registered, facts)
        facts["outcome"] = CHAMPION if ALIAS in registered.aliases else CHALLENGER
        facts["version"] = registered.version
        kept.write(DECISION, json.dumps(facts, indent=1).encode())
    redraw(kept, result)
    return tell(args, facts, facts["text"])


def redraw(kept: Home, result: SearchResult) -> None:
    """Draw the search's page again, if there is one: it says now what was decided."""
    if PAGE not in kept.names():
        return
    from search.views.page.page import render  # which imports matplotlib

    kept.write(PAGE, render(result, kept.opened(files=True)).encode())


def tell(args: argparse.Namespace, facts: Json, lines: Sequence[str]) -> int:
    """Print what became of an improvement; return the exit code."""
    console = Terminal(stderr=args.json)
    for line in lines:
        say(console, line)
    if args.json:
        print(json.dumps(facts))
    return 0


def registered_lines(registered: Registered, facts: Json) -> list[str]:
    """Return where the challenger is registered, as lines of text."""
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


def decided(
    args: argparse.Namespace,
    found: ChampionModel,
    kept: Home,
    result: SearchResult,
    told: ImprovementInfo,
) -> Decision:
    """Hold the best challenger against the champion."""
    folder, known = kept.read(FOLDER), found.data
    parts, fair, records = (
        load_set_aside(folder),
        told.fair_rows(),
        Records.at(told_place(args, told)),
    )
    if is_fair := len(fair) >= MIN_NEW_IMAGES[HELD_OUT]:
        parts[HELD_OUT] = parts[HELD_OUT].take(np.array(fair))
    alpha = told.alpha(records.deciding_images(), result.started.id)
    trials = [trial for trial in result.ranking if not trial.is_freed]
    dataset = dataset_of(result, config_of(result, trials[0], folder))
    challengers = {
        trial.trial: LoadedCheckpoint(
            config_of(result, trial, folder), dataset, local_checkpoint(kept, trial)
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
    champion = LoadedCheckpoint(known.config, known.dataset, found.checkpoint)
    assert dataset.test is not None
    on_new, on_old = (
        champion.correct_predictions(parts[HELD_OUT]),
        champion.correct_predictions(dataset.test),
    )
    old = best.correct_predictions(dataset.test)
    if records.info is not None:  # the records may be gone
        held = [one["image"] for one in told.images if one["use"] == HELD_OUT]
        rows = fair if is_fair else range(len(held))
        records.note_deciding_images(result.started.id, [held[row] for row in rows])
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
        first=first_beside(args, found, kept, on_old, old),
    )


def told_place(args: argparse.Namespace, told: ImprovementInfo) -> Path | Bucket:
    """Return the place of the records that an improvement began with."""
    place: Path | Bucket = args.place if str(args.place) == told.place else storage(told.place)
    return place


def first_beside(
    args: argparse.Namespace,
    found: ChampionModel,
    kept: Home,
    champion: NDArray[np.bool_],
    challenger: NDArray[np.bool_],
) -> FirstChampion | None:
    """Return the first champion beside the challenger; None if the champion is the first.

    Which old test images it names right is kept beside each improvement, since its search may be
    deleted. Of improvements by versions that did not keep it, the first that is still there counts.

    Args:
        args: the command line.
        found: the champion.
        kept: the improvement.
        champion: which of the old test images it names right.
        challenger: which of them the challenger does.
    """
    name, rights = f"{found.champion.trial} of {found.champion.search}", champion
    if FIRST in found.home.names():
        facts = json.loads(read_regular(found.home.read(FIRST)))
        name, rights = facts["name"], np.array([one == "1" for one in facts["rights"]])
    elif (rounds := rounds_to(found, args.storage)) and home(
        args.storage, (begun := rounds[0].champion).search
    ).exists():
        name, rights = (
            f"{begun.trial} of {begun.search}",
            tested(load_champion(champion_request(args), begun)),
        )
    facts = {"name": name, "rights": "".join(map(str, rights.astype(int)))}
    kept.write(FIRST, json.dumps(facts).encode())
    if rights is champion:
        return None
    return FirstChampion(name, PairedComparison.of(rights, challenger), float(rights.mean()))


def tested(found: ChampionModel) -> NDArray[np.bool_]:
    """Return which of the old test images a champion names right."""
    known = found.data
    assert known.dataset.test is not None
    return LoadedCheckpoint(known.config, known.dataset, found.checkpoint).correct_predictions(
        known.dataset.test
    )


def register(
    args: argparse.Namespace,
    found: ChampionModel,
    kept: Home,
    result: SearchResult,
    facts: Json,
) -> Registered:
    """Register the challenger, unless it is, and give it the aliases that were decided.

    Raises:
        NotReady, Refused: as `search.promote`; calling the command again goes on here.
    """
    chosen, champion = result.trials[facts["challenger"]], found.champion
    aliases = [CHALLENGER, *([ALIAS] if facts["outcome"] == CHAMPION else [])]
    registry = Registry(found.tracking, result, args.storage)
    own = tags(result, chosen)
    version = registry.version_with(champion.model, own)
    if not version:
        version = registered_as(args, found, kept, result, facts, registry)
    over = {"search.id": champion.id, "search.trial": champion.trial}
    return registry.set_aliases(champion.model, version, aliases, over)


def registered_as(
    args: argparse.Namespace,
    found: ChampionModel,
    kept: Home,
    result: SearchResult,
    facts: Json,
    registry: Registry,
) -> str:
    """Export the challenger and register it, without an alias; return its version."""
    chosen = result.trials[facts["challenger"]]
    with tempfile.TemporaryDirectory(prefix="promote-") as temporary:
        exported = export_for_registry(
            result,
            kept,
            chosen,
            kept.read(FOLDER),
            Path(temporary) / "classifier",
            onnx=is_wanted_as_onnx(args, found),
        )
        facts["watched"] = add_expected(args, kept, result, luck_of(facts), exported.folder)
        text = "\n".join(
            [
                describe_model(result, chosen, exported),
                "",
                f"It improves on {found.champion.trial} of the search {found.champion.search}, "
                f"with {facts['images'][TRAINING]:,} corrected images: {'; '.join(facts['text'])}.",
            ]
        )
        improves = {"improves.version": found.champion.version} if found.champion.version else {}
        return registry.register(
            found.champion.model, exported, text, tags(result, chosen) | improves
        )


def add_expected(
    args: argparse.Namespace, kept: Home, result: SearchResult, luck: float, folder: Path
) -> Json:
    """Add what an exported challenger is expected to meet to its reference; return facts on it.

    `luck` is by how much its accuracy on the images held out is likely too high.
    """
    from trainables.export.predictor import Predictor  # which imports pandas

    joined = kept.read(FOLDER)
    held, told = reference.read(folder), ImprovementInfo.read(joined)
    rounds = rounds_of(told, args.storage)
    assert held is not None  # it has just been exported
    met = expected_images(
        Predictor(folder).predictions,
        held,
        Records.at(args.place),
        told,
        load_set_aside(joined)[HELD_OUT],
        trained_image_names(rounds),
        result.started_ms,  # of the first session
        luck,
    )
    reference.add(folder, met)
    first = rounds[0].champion.search
    return {
        "met": len(met.probabilities),
        "labelled": len(met.targets),
        "trained": len(met.trained),
        "lost": "" if home(args.storage, first).exists() else first,
    }


def rounds_to(found: ChampionModel, storage: Storage) -> list[ImprovementInfo]:
    """Return the improvements that led to a champion, the first one first."""
    return rounds_of(about_of(found.home), storage) if FOLDER in found.home.names() else []


def rounds_of(told: ImprovementInfo, storage: Storage) -> list[ImprovementInfo]:
    """Return the improvements that led to this one, and this one last, as far as they are kept."""
    found, seen = [told], set[str]()
    while (name := found[0].champion.search) not in seen:
        seen.add(name)
        kept = home(storage, name)
        if not kept.exists() or FOLDER not in kept.names():
            break
        found.insert(0, about_of(kept))
    return found


def watched_text(watched: Json) -> str:
    """Return what later images will be held to, as clauses."""
    text = held_to_text(watched)
    if lost := watched["lost"]:
        text += (
            f"; {lost} is gone: if it was an improvement, the images that it learned from count "
            "as new"
        )
    return text


def held_to_text(watched: Json) -> str:
    """Return what later images will be held to, as a clause."""
    if not watched["met"]:
        return (
            "search.monitor holds what it meets to the old validation images: of what was met "
            "before, too few were kept that were not trained on"
        )
    known = f"{watched['labelled']:,} of known class that it was not trained on"
    if watched["labelled"] < MIN_TESTED:
        known = (
            f"nothing: {counted(watched['labelled'], 'image')} of known class held out stand for "
            f"all, {MIN_TESTED} are needed (correct those that search.label shows, whatever it "
            "says)"
        )
    images = counted(watched["met"], "image")
    return f"search.monitor holds what it meets to {images} met before, and its accuracy to {known}"


def is_wanted_as_onnx(args: argparse.Namespace, found: ChampionModel) -> bool:
    """Return whether the challenger is registered as ONNX too."""
    if args.onnx is not None or not found.champion.version:
        return bool(args.onnx)
    return ONNX in origin_of(found.source, found.tracking).tags


def main(argv: Sequence[str] | None = None) -> int:
    """Read the command line, improve, and return the exit code (`ExitCode`)."""
    args = parser().parse_args(argv)
    return guarded(lambda: improve(args))


if __name__ == "__main__":
    leave(main(sys.argv[1:]))
