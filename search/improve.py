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
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from cluster.cli import Parser
from search import resume
from search.budget import Budget, budget_options
from search.cli.main import (
    HelpFormatter,
    began_ms,
    check_versions,
    guarded,
    json_option,
    leave,
    place_option,
)
from search.cli.overrides import change_option, place_options
from search.cli.secrets import refuse, refuse_in_uri
from search.experiment import NAME, Experiment
from search.feedback.learning.challengers import TRIALS, experiment_of
from search.feedback.learning.champion import Found, found_model
from search.feedback.learning.corrected import (
    CHOOSING,
    HELD,
    TRAINED,
    Gathered,
    set_aside,
)
from search.feedback.learning.decision import (
    CHAMPION,
    MARGIN,
    UNCHANGED,
    Candidate,
    Decision,
    best_of,
    needed,
)
from search.feedback.learning.examined import FEWEST, data_lines, examined, refuse_few
from search.feedback.learning.joining import FOLDER, About, Champion, about, aside, data_config
from search.feedback.learning.joining import write as write_joined
from search.feedback.learning.paired import Paired
from search.feedback.learning.trained import Trained
from search.feedback.records import Records
from search.journal.result import ENDED, SearchResult, checkpoint_of
from search.journal.store import Home, home, storage
from search.plan import make_plan
from search.preflight.prepare import prepare
from search.promote import config_of, dataset_of, description, exported_from, tags
from search.runner import SessionPlan, first_line, run_session, started
from search.tracking.model_registry import (
    ALIAS,
    CHALLENGER,
    Registered,
    Registry,
    check_name,
)
from search.views.terminal import Terminal, say
from trainables.errors import ConfigError
from trainables.values import Json

ORIGINS, IMPROVEMENT = "origins.json", "improvement.json"
"""The files of an improvement's search with each new image's origin, and with the decision."""


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
    made.add_argument("--trials", type=int, default=TRIALS, metavar="N", help="challengers")
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
    made.add_argument("--onnx", action="store_true", help="register it as ONNX too")
    made.add_argument(
        "--anyway", action="store_true", help="train on corrections that are probably wrong, too"
    )
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
        Held: another driver has one of the searches.
    """
    began = began_ms()
    check_options(args)
    check_versions()
    found = found_model(args)
    note = Terminal(stderr=True)
    say(note, f"the champion is {found.known.trial.trial} of {found.champion.search}")
    if args.name is not None and home(args.storage, args.name).exists():
        return settle(args, found, home(args.storage, args.name))
    records = Records.at(args.place)
    gathered, suspected = examined(records, found, args.data_root, anyway=args.anyway)
    for line in data_lines(gathered, suspected):
        say(note, line)
    refuse_few(gathered)
    name = args.name or name_of(found.champion, gathered)
    kept = home(args.storage, name)
    if args.dry_run:
        return plan(args, found, gathered, suspected, name)
    if kept.exists():
        return settle(args, found, kept)
    set_aside(records, gathered)
    told = join(found, gathered, suspected, args.place, kept.folder / FOLDER)
    kept.keep(FOLDER)
    experiment = challengers(args, found, told, name, kept.read(FOLDER))
    prepared = prepare(experiment)
    for line in prepared.notes:
        say(note, line)
    opening = first_line(prepared.experiment, budget_text(prepared.experiment))
    session = SessionPlan(
        "search.improve",
        started(prepared.experiment, prepared.dataset),
        evidence={ORIGINS: json.dumps(asdict(told), indent=1).encode()},
    )
    finished = run_session(prepared, note, began, opening, session)
    return finish(args, found, kept, finished.exit_code)


def check_options(args: argparse.Namespace) -> None:
    """Check what needs nothing but the command line.

    Raises:
        ConfigError: an option is out of its range.
    """
    if args.trials < 3:
        raise ConfigError(f"--trials must be >= 3 (got {args.trials}).")
    if not 0 < args.margin < 100:
        raise ConfigError(f"--margin must be > 0 and < 100 points (got {args.margin:g}).")
    if args.name is not None and not NAME.fullmatch(args.name):
        raise ConfigError(
            f"a name may use A-Z a-z 0-9 . _ - (1 to 64, not first . or -); got "
            f"'{args.name[:80]}' (--name)."
        )
    if args.register is not None:
        check_name(args.register)
        refuse("--register", args.register)
    refuse_in_uri(args.tracking or "")


def name_of(champion: Champion, gathered: Gathered) -> str:
    """Return the name of the search: the same for the same champion and images."""
    about_it = [
        champion.id,
        champion.trial,
        *sorted((one.image, one.label) for one in gathered.new),
    ]
    digest = hashlib.sha256(json.dumps(about_it).encode()).hexdigest()[:6]
    stem = re.sub("[^A-Za-z0-9._-]+", "-", champion.model).lstrip(".-")[:45]
    return f"{stem or 'model'}-improved-{digest}"


def join(found: Found, gathered: Gathered, suspected: float, place: object, folder: Path) -> About:
    """Write the joined data into a folder, unless they are there; return what they are about."""
    if (folder / "about.json").exists():
        return About.read(folder)
    warm, checkpoint = "", found.checkpoint
    if not found.known.config.model.is_baseline:
        manifest = (checkpoint / "manifest.json").read_bytes()
        warm = f"champion-{hashlib.sha256(manifest).hexdigest()[:8]}"
    told = about(found.champion, str(place), gathered, suspected, warm)
    folder.parent.mkdir(parents=True, exist_ok=True)
    write_joined(folder, told, found.known.dataset, gathered, checkpoint)
    return told


def challengers(
    args: argparse.Namespace, found: Found, told: About, name: str, folder: Path
) -> Experiment:
    """Return the search for a challenger on the joined data in a folder."""
    return experiment_of(
        name,
        found.known,
        data_config(found.known.config.data, folder),
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
        f"{count} challengers of up to {experiment.horizon} epochs: the champion trained on (2), "
        f"its config trained anew (1), a search around it ({count - 3}), in this order"
    )
    return f"{text}, within {within}" if within else text


def plan(
    args: argparse.Namespace, found: Found, gathered: Gathered, suspected: float, name: str
) -> int:
    """Print the plan of an improvement, and what would be needed to tell; return the exit code."""
    terminal = Terminal(stderr=args.json)
    with tempfile.TemporaryDirectory(prefix="improve-") as temporary:
        folder = Path(temporary) / FOLDER
        told = join(found, gathered, suspected, args.place, folder)
        experiment = challengers(args, found, told, name, folder)
        planned = make_plan(experiment)
        say(terminal, budget_text(experiment))
        for line in planned.lines(experiment):
            say(terminal, line)
    assert found.known.dataset.test is not None
    held, test = len(gathered.of(HELD)), len(found.known.dataset.test)
    for line in needed(held, test, args.margin / 100):
        say(terminal, line)
    if args.json:
        facts = data_facts(told) | {"name": name, "plan": planned.to_json() | {"data": None}}
        print(json.dumps(facts))
    return 0


def data_facts(told: About) -> Json:
    """Return what the corrections came to, as plain values."""
    left_out = [asdict(one) for one in told.left_out]
    return {
        "champion": asdict(told.champion),
        "images": {use: told.count(use) for use in FEWEST},
        "left_out": left_out,
        "suspected": told.suspected,
    }


def settle(args: argparse.Namespace, found: Found, kept: Home) -> int:
    """Go on with an improvement that was begun, to its decision; return the exit code."""
    name = kept.folder.name if isinstance(args.storage, Path) else str(kept).rpartition("/")[2]
    result = SearchResult.read(kept.opened())
    if not (kept.read(FOLDER) / "about.json").exists():
        raise ConfigError(f"the search '{name}' is no improvement. Use another --name.")
    if args.dry_run:
        say(Terminal(), f"{name} was begun ({result.outcome}); without --dry-run it goes on")
        return 0
    if IMPROVEMENT in kept.names():
        facts = json.loads(kept.read(IMPROVEMENT).read_text())
        return tell(args, facts, [f"{name} was decided before:", *facts["text"]])
    if result.outcome in ENDED and result.ranking:
        return finish(args, found, kept, 0)
    words = [name, "--storage", str(args.storage), "--data-root", str(kept.read(FOLDER))]
    words += [f"--budget={limit}" for limit in args.budget]
    words += ["--allow-change"] if args.allow_change else []
    finished = resume.resume(resume.parser().parse_args(words))
    return finish(args, found, kept, finished.exit_code)


def finish(args: argparse.Namespace, found: Found, kept: Home, code: int) -> int:
    """Decide, register what is to be registered, and say so; return the exit code.

    `code` is the search's.
    """
    result = SearchResult.read(kept.opened(files=True))
    if result.outcome not in ENDED or not result.ranking:
        return code
    folder = kept.read(FOLDER)
    told = About.read(folder)
    decision = decided(args, found, kept, result, folder)
    registered = None
    if decision.outcome != UNCHANGED:
        registered = register(args, found, kept, result, decision, told)
    facts = {
        "search": result.name,
        **decision.to_json(),
        "model": found.champion.model,
        "version": registered.version if registered else None,
        **data_facts(told),
        "text": [*decision.lines(), *registered_lines(registered, decision)],
    }
    kept.write(IMPROVEMENT, json.dumps(facts, indent=1).encode())
    return tell(args, facts, facts["text"])


def tell(args: argparse.Namespace, facts: Json, lines: Sequence[str]) -> int:
    """Print what became of an improvement; return the exit code."""
    console = Terminal(stderr=args.json)
    for line in lines:
        say(console, line)
    if args.json:
        print(json.dumps(facts))
    return 0


def registered_lines(registered: Registered | None, decision: Decision) -> list[str]:
    """Return where the challenger is registered, as lines of text."""
    if registered is None:
        return []
    before = f"; it was version {registered.before}" if registered.before else ""
    alias = ALIAS if decision.outcome == CHAMPION else CHALLENGER
    return [
        f"version {registered.version} of {registered.name} is models:/{registered.name}@{alias}"
        + (before if decision.outcome == CHAMPION else "")
    ]


def decided(
    args: argparse.Namespace, found: Found, kept: Home, result: SearchResult, folder: Path
) -> Decision:
    """Hold the best challenger against the champion."""
    parts, known = aside(folder), found.known
    trials = [trial for trial in result.ranking if not trial.is_freed]
    dataset = dataset_of(result, config_of(trials[0], folder))
    challengers = {
        trial.trial: Trained(
            config_of(trial, folder), dataset, kept.read(str(checkpoint_of(trial, Path())))
        )
        for trial in trials
    }
    candidates = [
        Candidate(
            trial.trial,
            trial.primary_value,
            float(challengers[trial.trial].rights(parts[CHOOSING]).mean()),
        )
        for trial in trials
    ]
    best = challengers[trial := best_of(candidates).trial]
    champion = Trained(known.config, known.dataset, found.checkpoint)
    assert dataset.test is not None
    on_new, on_old = champion.rights(parts[HELD]), champion.rights(dataset.test)
    return Decision(
        trial,
        tuple(candidates),
        Paired.of(on_new, best.rights(parts[HELD])),
        Paired.of(on_old, best.rights(dataset.test)),
        float(on_new.mean()),
        float(on_old.mean()),
        args.margin / 100,
        champion.ms_per_image(),
        best.ms_per_image(),
    )


def register(
    args: argparse.Namespace,
    found: Found,
    kept: Home,
    result: SearchResult,
    decision: Decision,
    told: About,
) -> Registered:
    """Register the challenger under the aliases that the decision gives it.

    Raises:
        NotReady, Refused: as `search.promote`; calling the command again goes on here.
    """
    chosen = result.trials[decision.trial]
    aliases = [CHALLENGER, *([ALIAS] if decision.outcome == CHAMPION else [])]
    registry = Registry(found.tracking, result, args.storage)
    with tempfile.TemporaryDirectory(prefix="promote-") as temporary:
        exported = exported_from(
            result,
            chosen.trial,
            config_of(chosen, kept.read(FOLDER)),
            kept.read(str(checkpoint_of(chosen, Path()))),
            Path(temporary) / "classifier",
            onnx=args.onnx,
        )
        text = "\n".join(
            [
                description(result, chosen, exported),
                "",
                f"It improves on {found.champion.trial} of the search {found.champion.search}, "
                f"with {told.count(TRAINED):,} corrected images: {'; '.join(decision.lines())}.",
            ]
        )
        improves = {"improves.version": found.champion.version} if found.champion.version else {}
        return registry.register(
            found.champion.model, exported, text, tags(result, chosen) | improves, aliases
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Read the command line, improve, and return the exit code (see `search.cli.main`)."""
    args = parser().parse_args(argv)
    return guarded(lambda: improve(args))


if __name__ == "__main__":
    leave(main(sys.argv[1:]))
