"""python -m search.select NAME: choose among the best few trials of a search, and test the choice.

They are trained again with fresh seeds and compared, one is chosen, and the sealed test part is
opened for it.

The value that a search found its best trial with is too high: the best of many was lucky. This says
what to expect, and of which network. A selection that was cut off goes on when it is called again;
with other --top, --seeds or --alpha the race is judged anew, from the trainings there are.
"""

import argparse
import json
import signal
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from cluster.cli import Parser
from cluster.errors import Refused
from cluster.exit_codes import ExitCode
from search.cli.continuation import change_option, overrides_of, place_options
from search.cli.options import json_option, storage_option
from search.cli.parser import HelpFormatter
from search.cli.prompt import search_of
from search.decisions.driver import Driver
from search.decisions.selection import ALPHA, MIN_SEEDS, Candidate, decide
from search.design.budget import Budget
from search.design.experiment import Experiment
from search.execution.evaluation import Tick, evaluate, evaluate_chosen
from search.facts.trials import ms_per_image
from search.journal.events import Selecting, SessionStart
from search.journal.guessing import is_answer_at_chance
from search.journal.result import (
    SearchResult,
    TrialResult,
    furthest_of_each_training,
    is_other_race,
)
from search.preflight.changes import changes, facts_now
from search.preflight.overrides import apply_overrides
from search.preflight.prepare import prepare
from search.process.guard import guarded
from search.process.lifetime import command_start
from search.sessions.executor import Executor
from search.sessions.plan import SessionPlan
from search.sessions.session import opening_line, record_outcome, run_session
from search.values.message import Message, Remedy
from search.values.wording import changes_text, duration
from search.views.base import Finished
from search.views.terminal import Terminal, say
from trainables.checkpoints.lineage import training_key_of
from trainables.datasets.arrays import Dataset
from trainables.errors import ConfigError, counted

if TYPE_CHECKING:
    from search.decisions.selection_policy import SelectionPolicy

TOP, SEEDS, MAX_SEEDS = 5, 5, 100


def parser() -> Parser:
    """Define the arguments of `python -m search.select`."""
    parser = Parser(
        prog="python -m search.select", description=__doc__, formatter_class=HelpFormatter
    )
    storage_option(parser)
    parser.add_argument(
        "--top",
        type=int,
        metavar="N",
        help=f"how many of the best trials are candidates (default: as before, else {TOP})",
    )
    parser.add_argument(
        "--seeds",
        type=int,
        metavar="N",
        help=f"fresh seeds for each that stays in the race (default: as before, else {SEEDS})",
    )
    parser.add_argument(
        "--alpha",
        type=float,
        metavar="P",
        help=f"error rate of all comparisons together (default: as before, else {ALPHA})",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="say what it would train and how long, and end"
    )
    change_option(parser, "the data, the code or a library")
    place_options(parser, "as the search")
    json_option(parser)
    return parser


def select(args: argparse.Namespace) -> Finished | None:
    """Choose among the best trials of the search that the command line names; print the choice.

    Returns:
        The finished session; None for a dry run, which prints the candidates and the cost.
    """
    began = command_start()
    home = search_of(args)
    result = SearchResult.read(home.opened())
    recorded = Experiment.from_description(args.name, result.started.experiment, args.storage)
    unlimited = replace(recorded, budget=Budget(), fuse="off")
    experiment = apply_overrides(unlimited, overrides_of(args), result)
    refuse_unfinished(experiment, result)
    terms = terms_of(args, result)
    plan = SessionPlan(
        "search.select",
        terms,
        phases=choose,
        exit_code=exit_code,
        reuses_trainings=False,
        as_json=args.json,
    )
    if is_done(result, terms):
        opening = (
            f"{args.name}: chosen before, among the same candidates with the same seeds; "
            "nothing is left to do"
        )
        if args.dry_run:
            say(Terminal(stderr=True), opening)
            return None
        return record_outcome(experiment, result, plan, opening)
    planned = len(terms.candidates) * terms.seeds
    prepared = prepare(experiment, anew=False, trainings=planned)
    refuse_changed(args, result, facts_now(experiment, prepared))
    console, candidates = Terminal(stderr=True), terms.candidates
    if note := few_text(result, candidates, terms.top or 0):
        say(console, note)
    cost = cost_of(result, terms)
    if args.dry_run:
        text = f"{args.name}: {', '.join(candidates)} would be trained again: {cost}"
        print(json.dumps({"candidates": candidates, **asdict(cost)})) if args.json else print(text)
        return None
    say(console, str(cost))
    opening = opening_line(
        experiment, f"{', '.join(candidates)}, each with up to {terms.seeds} fresh seeds"
    )
    from search.decisions.selection_policy import SelectionPolicy

    plan = replace(plan, planned=planned, policy=SelectionPolicy)
    return run_session(prepared, console, began, opening, plan)


@dataclass(frozen=True)
class SelectionCost:
    """Upper bounds of what a selection has left to train.

    Candidates that are clearly worse drop out early, which saves trainings.
    """

    trainings: int
    epochs: int
    seconds: float
    """Estimate from the speed and concurrency with which the search trained these candidates."""

    def __str__(self) -> str:
        return (
            f"at most {counted(self.trainings, 'training')} and {counted(self.epochs, 'epoch')}, "
            f"about {duration(self.seconds)} at the search's pace; fewer where candidates drop out"
        )


def cost_of(result: SearchResult, terms: Selecting) -> SelectionCost:
    """Estimate the remaining cost of a selection if no further candidate drops out."""
    repeats = result.selection.repeats.values() if result.selection is not None else ()
    trainings, epochs, seconds = 0, 0, 0.0
    for name in terms.candidates:
        trial = result.trials[name]
        before = [repeat for repeat in repeats if repeat.repeat_of == name][: terms.seeds]
        length, trained_epochs = trial.config["epochs"], [len(repeat.epochs) for repeat in before]
        remaining_epochs = max(0, terms.seeds * length - sum(trained_epochs))
        trainings += terms.seeds - sum(count >= length for count in trained_epochs)
        epochs += remaining_epochs
        seconds += remaining_epochs * trial.train_s / max(1, len(trial.epochs))
    return SelectionCost(trainings, epochs, seconds / max(1, result.started.slots))


def refuse_unfinished(experiment: Experiment, result: SearchResult) -> None:
    """Check that the search has ended, and has at least one ranked trial.

    Raises:
        Refused: the search has not ended, or has no ranked trial.
    """
    if not result.is_over:
        holder = experiment.home.holder()
        raise Refused(
            Message(
                f"the search '{experiment.name}' has not come to its end ({result.outcome}). ",
                f"{holder} runs it now: " if holder else "Go on with it first: ",
                Remedy("status" if holder else "resume", experiment.name, experiment.storage),
            )
        )
    if not result.ranking:
        raise Refused(
            Message(
                f"no trial of '{experiment.name}' counts: there is nothing to choose among. "
                "The reasons: ",
                Remedy("status", experiment.name, experiment.storage),
            )
        )


def refuse_changed(args: argparse.Namespace, result: SearchResult, now: SessionStart) -> None:
    """Check that nothing has changed that affects the selection, unless --allow-change is given.

    The data and weights must be those of the search. If the selection was started before,
    everything must be as at its start.

    Args:
        args: the command line.
        result: the search.
        now: the present facts.

    Raises:
        Refused: something has changed.
    """
    before: SessionStart = replace(now, data=result.started.data, weights=result.started.weights)
    if result.selection is not None:
        before = result.selection.started
    differences = changes(before, now)
    if differences and not args.allow_change:
        raise Refused(changes_text(args.name, differences))


def terms_of(args: argparse.Namespace, result: SearchResult) -> Selecting:
    """Choose the terms of the selection: the candidates, the seeds of each, and the error rate.

    Options that are not given have the values of the search's last selection, if there is one.

    Raises:
        ConfigError: --top, --seeds or --alpha is out of its range.
    """
    before = result.selection.started if result.selection is not None else None
    top, seeds, alpha = (getattr(args, name) for name in ("top", "seeds", "alpha"))
    if seeds is None:
        seeds = before.seeds if before is not None else SEEDS
    if alpha is None:
        alpha = before.alpha if before is not None else ALPHA
    if top is not None and top < 1:
        raise ConfigError(f"--top must be >= 1 (got {top}).")
    if not MIN_SEEDS <= seeds <= MAX_SEEDS:
        raise ConfigError(
            f"--seeds must be {MIN_SEEDS} to {MAX_SEEDS} (got {seeds}): "
            "one alone says nothing of chance."
        )
    if not 0 < alpha < 1:
        raise ConfigError(f"--alpha must be > 0 and < 1 (got {alpha:g}).")
    default_top = (before.top or len(before.candidates)) if before is not None else TOP
    few = top or default_top
    candidates = (
        before.candidates
        if before is not None and top is None and not result.is_selection_old
        else [trial.trial for trial in best_few(result, few)]
    )
    return Selecting(candidates=candidates, seeds=seeds, alpha=alpha, top=few)


def best_few(result: SearchResult, count: int) -> list[TrialResult]:
    """Choose the candidates: the best trials, at most `count`, one for each training.

    Trials that differ only in length or seed are one training, represented by the trial with the
    most epochs. Trials that were waiting at a rung or training when the budget ended the search are
    included; those with a damaged checkpoint are not.
    """
    candidates: dict[str, TrialResult] = {}
    for trial in furthest_of_each_training(
        [trial for trial in result.ranking if trial.trial not in result.passed_over]
    ):
        if len(candidates) == count:
            break
        candidates.setdefault(training_key_of({**trial.config, "seed": 0}) or trial.trial, trial)
    return list(candidates.values())


def few_text(result: SearchResult, candidates: Sequence[str], top: int) -> str:
    """Explain why there are fewer candidates than --top requests; empty if there are enough."""
    ranked = [trial for trial in result.ranking if trial.trial not in result.passed_over]
    if len(candidates) >= top:
        return ""
    if len(ranked) > len(candidates):
        why = (
            f"the {len(ranked)} trials that count are {counted(len(candidates), 'training')} "
            "(trials that differ in length or seed alone are one)"
        )
    else:
        why = f"of the search's {counted(len(result.trials), 'trial')} no more count"
    return f"note: {len(candidates)} candidate{'s' * (len(candidates) != 1)}, not {top}: {why}"


def is_done(result: SearchResult, terms: Selecting) -> bool:
    """True if a selection with these terms is complete, and its choice was tested.

    False if a candidate dropped out because of a failure: it may be temporary.
    """
    selection = result.selection
    if selection is None or selection.outcome != "completed" or not selection.is_tested:
        return False
    failed = selection.failed & set(terms.candidates)
    return not failed and not is_other_race(selection.started, terms)


def choose(driver: Driver, dataset: Dataset, executor: Executor, *, by: str, tick: Tick) -> None:
    """Run the race between the candidates, evaluate the survivors, choose one, and test it.

    Args:
        driver: the driver, whose policy is a `SelectionPolicy`.
        dataset: the data set.
        executor: trains and evaluates.
        by: unused, but a parameter of all phases (`SessionPlan.phases`).
        tick: called regularly during the work.

    Raises:
        Refused: no candidate is left at the end of the race.
    """
    from search.decisions.selection_policy import SelectionPolicy

    policy = driver.policy
    assert isinstance(policy, SelectionPolicy)
    executor.train(driver, tick=tick)
    if driver.interrupted:
        return
    if not policy.race.alive:
        raise Refused(
            "no candidate is left: "
            f"{'; '.join(f'{name} ({reason})' for name, reason in policy.race.out.items())}"
        )
    crew = executor.crew
    driver.has_trained = True
    evaluate(driver, crew, list(policy.best.values()), [], slots=driver.slots, tick=tick)
    say_chosen(driver, policy)
    evaluate_chosen(driver, policy, dataset, crew, tick=tick)


def say_chosen(driver: Driver, policy: "SelectionPolicy") -> None:
    """Write the verdict to the journal, unless it is there already.

    If the selection was interrupted, no verdict is written, because a measurement may be missing.
    """
    verdict, before = (
        decide(policy.race, candidate_facts(policy), policy.metric),
        policy.selection.verdict,
    )
    is_known = before is not None and replace(before, trial=verdict.trial) == verdict
    if not driver.interrupted and not is_known:
        driver.journal.append(verdict)


def candidate_facts(policy: "SelectionPolicy") -> dict[str, Candidate]:
    """Collect the facts about each candidate that are not results of the race.

    The time per image was measured in this session, for one candidate at a time.
    """
    best, facts = policy.best, {}
    for name in policy.race.candidates:
        trial = policy.result.trials[name]
        training = best.get(name)
        facts[name] = Candidate(
            model=trial.config["model"]["name"],
            search_value=trial.value,
            ms_per_image=ms_per_image(training) if training is not None else None,
            best=training.trial if training is not None else "",
        )
    return facts


def exit_code(result: SearchResult, signals: list[int], troubles: list[str]) -> int:
    """Choose the exit code of a selection's session (see `ExitCode`).

    Args:
        result: the search with its selection.
        signals: the numbers of the signals that were received.
        troubles: the problems with MLflow that were not resolved.
    """
    selection = result.selection
    if signals or (selection is not None and selection.outcome == "interrupted"):
        return 128 + (signals[0] if signals else signal.SIGINT)
    if selection is not None and selection.outcome == "completed" and not selection.is_tested:
        return ExitCode.REFUSED
    if troubles:
        return ExitCode.NOT_READY
    is_done = selection is not None and selection.outcome == "completed"
    return ExitCode.AT_CHANCE if is_done and is_answer_at_chance(result) else 0


def command(args: argparse.Namespace) -> int:
    """Select a trial, and return the exit code; 0 for a dry run."""
    finished = select(args)
    return 0 if finished is None else finished.exit_code


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, select, and return the exit code (see `ExitCode`)."""
    args = parser().parse_args(argv)
    return guarded(lambda: command(args))
