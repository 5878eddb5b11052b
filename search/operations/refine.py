"""python -m search.refine NAME: go on with a search that has come to its end, in rounds.

Each round searches a space made from what was observed so far. Where a parameter's effect is clear,
its range is narrowed to what is around the best, or new values are put between the old ones; where
the best lies at an edge, the range is widened beyond it, and that is said. It ends with the first
round whose gain is within noise. All trials are the search's own. A refinement that was cut off
goes on when it is called again, or with search.resume.
"""

import argparse
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial

from cluster.cli import Parser
from cluster.errors import Refused
from search.cli.continuation import change_option, keep_option, overrides_of, place_options
from search.cli.options import json_option, storage_option
from search.cli.parser import HelpFormatter
from search.cli.prompt import search_of
from search.decisions.refinement_policy import RefinementPolicy, next_space
from search.design.budget import budget_options
from search.design.experiment import Experiment
from search.journal.events import RefinementTerms, Resumed
from search.journal.result import SearchResult
from search.operations.select import refuse_unfinished
from search.preflight.changes import changes, facts_now
from search.preflight.overrides import apply_overrides
from search.preflight.prepare import Prepared, prepare
from search.process.guard import guarded
from search.process.lifetime import command_start
from search.sessions.plan import SessionPlan
from search.sessions.session import opening_line, run_session
from search.values.message import Message, Remedy
from search.values.wording import changes_text
from search.views.base import Finished
from search.views.terminal import Terminal, say
from trainables.errors import ConfigError, counted

ROUNDS, MIN_TRIALS = 5, 6
MIN_COMPARED = 2
"""The minimum number of trials of a search that can be refined."""


def parser() -> Parser:
    """Define the arguments of `python -m search.refine`."""
    parser = Parser(
        prog="python -m search.refine", description=__doc__, formatter_class=HelpFormatter
    )
    storage_option(parser)
    parser.add_argument(
        "--trials",
        type=int,
        metavar="N",
        help="new trials a round (default: as before, else a third of the search's, "
        f"at least {MIN_TRIALS})",
    )
    parser.add_argument(
        "--rounds",
        type=int,
        metavar="N",
        help=f"rounds at most (default: as before, else {ROUNDS})",
    )
    budget_options(parser, "none", of="what may be used from now on", gain=False)
    change_option(parser, "the data, the code or a library")
    place_options(parser, "as the search")
    keep_option(parser)
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="print what the next round would change; start nothing",
    )
    json_option(parser)
    return parser


def refine(args: argparse.Namespace) -> Finished | None:
    """Refine the search that the command line names, and print the result.

    A refinement that was interrupted is continued.

    Returns:
        The finished session; None for a dry run, which prints the next round's changes.

    Raises:
        Refused: the data, the code or a library has changed, and --allow-change is not given.
    """
    began = command_start()
    home = search_of(args)
    result = SearchResult.read(home.opened())
    recorded = apply_overrides(
        Experiment.from_description(args.name, result.started.experiment, args.storage),
        overrides_of(args),
        result,
    )
    goes_on = result.refinement is not None and not (result.refinement.is_over and result.is_over)
    if not goes_on:
        refuse_unfinished(recorded, result)
    refuse_few(recorded, result)
    terms = terms_of(args, result if goes_on else None, len(result.trials))
    experiment = experiment_of(args, recorded, result, goes_on=goes_on)
    prepared = prepare(experiment, anew=False, trainings=terms.rounds * terms.trials)
    differences = changes(result.started, facts_now(recorded, prepared))
    if differences and not args.allow_change:
        raise Refused(changes_text(args.name, differences))
    console = Terminal(stderr=not args.dry_run)
    if args.dry_run:
        for line in plan(prepared, result, terms):
            say(console, line)
        return None
    opening = opening_line(prepared.experiment, f"{known_text(result)}; {terms_text(terms)}")
    # The process may have ended between the end of the last round and that of the search.
    is_settled = goes_on and result.refinement is not None and result.refinement.is_over
    first = Resumed(changes=differences, refining=None if is_settled else terms)
    return run_session(
        prepared,
        console,
        began,
        opening,
        SessionPlan(
            "search.refine",
            first,
            policy=partial(RefinementPolicy, dataset=prepared.dataset),
            as_json=args.json,
        ),
    )


def refuse_few(experiment: Experiment, result: SearchResult) -> None:
    """Check that a search can be refined: it needs trials, searched parameters and one objective.

    Raises:
        Refused: the search has several objectives, no searched parameter, or fewer than
            `MIN_COMPARED` distinct trials.
    """
    if len(experiment.objectives) > 1:
        remedy = "Start another search with a space of your own."
        raise Refused(
            f"'{experiment.name}' looks for {', '.join(experiment.objectives)}: "
            f"a refinement would be of {result.metric.title} alone. {remedy}"
        )
    if not experiment.space.domains:
        raise Refused(f"'{experiment.name}' searches nothing: no parameter has a range.")
    if len(result.distinct) < MIN_COMPARED:
        lengths = (
            " (those that differ in length alone are one)"
            if len(result.ranking) >= MIN_COMPARED
            else ""
        )
        raise Refused(
            Message(
                f"only {len(result.distinct)} trial of '{experiment.name}' counts{lengths}: "
                "there is nothing to compare. More: ",
                Remedy(
                    "resume",
                    experiment.name,
                    experiment.storage,
                    options={"trials": len(result.trials) + MIN_TRIALS},
                ),
            )
        )


def terms_of(
    args: argparse.Namespace, earlier: SearchResult | None, trial_count: int
) -> RefinementTerms:
    """Choose the maximum number of rounds, and the number of new trials in each.

    Args:
        args: the command line, whose --rounds and --trials take precedence.
        earlier: the search whose interrupted refinement is continued, and which provides the
            defaults; None for a new refinement.
        trial_count: the number of trials of the search; a new refinement's rounds have a third of
            it by default.

    Raises:
        ConfigError: one of them is below 1.
    """
    before = RefinementTerms(ROUNDS, max(MIN_TRIALS, round(trial_count / 3)))
    if earlier is not None and earlier.refinement is not None:
        before = earlier.refinement.terms
    terms = RefinementTerms(
        before.rounds if args.rounds is None else args.rounds,
        before.trials if args.trials is None else args.trials,
    )
    for name, value in asdict(terms).items():
        if value < 1:
            raise ConfigError(f"--{name} must be >= 1 (got {value}).")
    return terms


def experiment_of(
    args: argparse.Namespace, recorded: Experiment, result: SearchResult, *, goes_on: bool
) -> Experiment:
    """Build the experiment of the refinement.

    It uses the Bayesian algorithm. With --budget it has its own limits, which start now. Otherwise
    a new refinement, or one that its budget has ended, has no limits.

    Args:
        args: the command line.
        recorded: the experiment in the journal.
        result: the search.
        goes_on: whether an interrupted refinement is continued.
    """
    experiment = replace(
        recorded if goes_on else replace(recorded, algorithm="bayes", trials=len(result.trials)),
        min_gain=0.0,
    )
    if args.budget:
        own = replace(experiment.budget, limits=tuple(args.budget))
        return replace(experiment, budget=own.from_now(result, experiment.demand))
    return (
        experiment
        if goes_on and result.outcome != "budget"
        else replace(experiment, budget=replace(experiment.budget, limits=()))
    )


def terms_text(terms: RefinementTerms) -> str:
    """Describe the terms, such as "up to 5 rounds of 8 trials"."""
    return (
        f"up to {terms.rounds} round{'s' * (terms.rounds != 1)} of {counted(terms.trials, 'trial')}"
    )


def known_text(result: SearchResult) -> str:
    """Describe the number of trials so far, such as "24 trials are known"."""
    count = len(result.trials)
    return f"{counted(count, 'trial')} {'is' if count == 1 else 'are'} known"


def plan(prepared: Prepared, result: SearchResult, terms: RefinementTerms) -> list[str]:
    """Describe how the next round would change the space, in lines; nothing is started."""
    experiment = prepared.experiment
    _, space_changes = next_space(experiment, prepared.dataset, result)
    title = f"{experiment.name}: {known_text(result)}; {terms_text(terms)}. The next would change:"
    return [title, *(f"  {change.text}" for change in space_changes), "  nothing was started"]


def command(args: argparse.Namespace) -> int:
    """Refine the search, and return the exit code; 0 for a dry run."""
    finished = refine(args)
    return 0 if finished is None else finished.exit_code


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, refine, and return the exit code (see `ExitCode`)."""
    args = parser().parse_args(argv)
    return guarded(lambda: command(args))
