"""Continues a search that was cut off, from its journal and its trials' checkpoints."""

import shlex
from dataclasses import dataclass, replace
from functools import partial

from cluster.errors import Refused
from search.decisions.policy import MakePolicy
from search.decisions.refinement_policy import RefinementPolicy
from search.decisions.search_policy import SearchPolicy
from search.design.budget import Budget, Limit, shares_text
from search.design.experiment import Experiment, base_of
from search.journal.events import Resumed
from search.journal.journal import FILE_NAME
from search.journal.result import ENDED, NO_TIME, SearchResult
from search.journal.store import TRIALS, Home
from search.operations.continuation import (
    UsageLimits,
    Where,
    change_option,
    keep_option,
    min_gain_option,
    stop_at_chance_option,
)
from search.operations.options import SearchRequest, seed
from search.preflight.changes import changes, facts_now
from search.preflight.exports import check_exports
from search.preflight.overrides import Overrides, apply_overrides
from search.preflight.prepare import prepare
from search.preflight.warnings import idle_options
from search.process.lifetime import command_start
from search.sessions.plan import SessionPlan
from search.sessions.session import opening_line, record_outcome, run_session
from search.space import SearchSpace
from search.spaces.find import file_of, find, sha256_of
from search.values.message import Blank, Message, Remedy
from search.values.option import group, option
from search.values.wording import changes_text
from search.views.base import Finished
from search.views.terminal import Terminal, say
from trainables.errors import ConfigError, counted


@dataclass(frozen=True, kw_only=True)
class ResumeRequest(SearchRequest):
    """A search to continue, and the options that change."""

    allow_change: bool = change_option("the space, the data, the code or a library")
    trials: int | None = option(
        "total number of trials (default: as before)", metavar="N", parse=int
    )
    limits: UsageLimits = group(
        UsageLimits,
        of="what all sessions together may use (a new limit replaces those of its kind)",
        default=" (default: as before)",
    )
    min_gain: float | None = min_gain_option(None, " (default: as before)")
    stop_at_chance: int | None = stop_at_chance_option(None, " (default: as before)")
    where: Where = group(Where, before="as before")
    keep: str | None = keep_option()
    fuse: str | None = option("as for search.run (default: as before)", metavar="N")
    space: str | None = option("another space (default: as before)", metavar="NAME")
    seed: int | None = option(
        "another seed for the suggestions from now on (default: as before)",
        metavar="N",
        parse=seed,
    )

    def overrides(self) -> Overrides:
        """Collect the options that replace recorded values of the search."""
        return self.where.overrides(
            self.limits,
            keep=self.keep,
            fuse=self.fuse,
            min_gain=self.min_gain,
            stop_at_chance=self.stop_at_chance,
        )


def resume(request: ResumeRequest, *, as_json: bool = False, advises: bool = True) -> Finished:
    """Continue a search, and print the result.

    Args:
        request: the search, and the options that change.
        as_json: True to print the result as JSON, too.
        advises: True to suggest next commands at the end.

    Raises:
        NoSuchSearch: there is no such search.
        Refused: the space, the data, the code or a library has changed, and the request does not
            allow that.
    """
    began = command_start()
    home = request.home()
    # List the folders before reading the journal. A running driver writes a new trial's line before
    # it creates the folder, so in this order each listed folder has its line.
    trials = home.trials()
    result = SearchResult.read(home.opened())
    check_trials(home, trials, result)
    experiment = experiment_of(request, result)
    plan = SessionPlan("search.resume", Resumed(), as_json=as_json, advises=advises)
    console = Terminal(stderr=True)
    for line in idle_options(experiment):
        say(console, line)
    if is_done(result, experiment, request):
        opening = f"{request.name}: the search has finished; nothing is left to do"
        return record_outcome(experiment, result, plan, opening)
    check_budget(request, experiment, result)
    prepared = prepare(
        experiment,
        anew=request.space is not None,
        begins=bool(result.unfinished) or len(result.trials) < experiment.planned_trials,
    )
    experiment = prepared.experiment
    differences = changes(result.started, facts_now(experiment, prepared))
    if differences and not request.allow_change:
        raise Refused(changes_text(request.name, differences))
    if request.space is not None:
        with prepared.waiting.counting():
            check_exports(experiment.edges, prepared.dataset, partial(say, console))
    policy: MakePolicy = SearchPolicy
    if result.refinement is not None:
        policy = partial(RefinementPolicy, dataset=prepared.dataset)
    opening = opening_line(experiment, standing_text(experiment, result))
    space_sha256 = sha256_of(request.space) if request.space else None
    first = Resumed(changes=differences, space_sha256=space_sha256)
    plan = replace(plan, first_event=first, policy=policy)
    return run_session(prepared, console, began, opening, plan)


def standing_text(experiment: Experiment, result: SearchResult) -> str:
    """Describe how many trials have ended, how many continue, and how many wait at a rung."""
    waiting = sum(trial.outcome == "held" for trial in result.trials.values())
    waits = f", {waiting} {'waits' if waiting == 1 else 'wait'} at a rung" if waiting else ""
    cut_off = len(result.unfinished) - waiting
    go_on = "continues where it was" if cut_off == 1 else "continue where they were"
    ended = f"{result.ended} of {counted(experiment.planned_trials, 'trial')}"
    return (
        f"{ended} {'has' if result.ended == 1 else 'have'} ended, {cut_off} {go_on} cut off{waits}"
    )


def experiment_of(request: ResumeRequest, result: SearchResult) -> Experiment:
    """Build the experiment that the journal describes, with the changes of the request.

    Raises:
        ConfigError: --trials is given for a refined search.
    """
    name, place = request.name, request.storage
    experiment = Experiment.from_description(name, result.started.experiment, place)
    space = space_of(request, experiment, result)
    if request.trials is not None and result.refinement is not None:
        refine = Remedy("refine", name, place, options={"trials": Blank("N")})
        raise ConfigError(
            Message(
                f"--trials cannot be used, because '{name}' has been refined. Set the number of "
                "trials of each round with ",
                refine,
                ".",
            )
        )
    new_values = {
        field: value
        for field in ("trials", "seed")
        if (value := getattr(request, field)) is not None
    }
    if request.space is not None:
        params = [trial.params for trial in result.trials.values()]
        new_values["outside"] = sum(space.valid_values(values) != values for values in params)
    changed = replace(
        experiment,
        space=space,
        space_source=request.space or experiment.space_source,
        base=base_of(experiment.base, space),
        **new_values,
    )
    return apply_overrides(changed, request.overrides(), result)


def space_of(request: ResumeRequest, experiment: Experiment, result: SearchResult) -> SearchSpace:
    """Return the space that the request names, or else the one in the journal.

    The journal has the space with which the search was started, for example without the models
    whose weights were not available. A user's own file is executed only if the request names it: a
    journal is data, and must not decide which code runs.

    Raises:
        Refused: the space is read from the journal, but the user's file has changed since.
    """
    if request.space is not None:
        return find(request.space).fixed(experiment.settings)
    source, recorded = experiment.space_source, result.started.space_sha256
    # After a refinement, the space in the journal differs from the one in the file.
    file = file_of(source) if result.refinement is None else None
    if file is not None and recorded and file[0].is_file() and sha256_of(source) != recorded:
        remedy = (
            f"Undo the change, or pass --space {shlex.quote(source)} to see what has changed. To "
            "continue with the change, also pass --allow-change."
        )
        raise Refused(f"the space file '{file[0]}' has changed since the search read it. {remedy}")
    return experiment.space


def check_trials(home: Home, trials: list[str], result: SearchResult) -> None:
    """Check that the journal has a line for the folder of every trial.

    The line is written before the folder is created, so a folder without a line means that the end
    of the journal has been lost.

    Args:
        home: the search's place in the storage.
        trials: the names of the trials' folders, listed before the journal was read.
        result: the search, from the journal.

    Raises:
        Refused: a folder has no line.
    """
    lost = [name for name in trials if name.startswith("t") and result.find(name) is None]
    if lost:
        remedy = (
            f"Restore the journal from a backup, or remove {', '.join(lost)} from "
            f"'{home}/{TRIALS}' to repeat the lost trainings."
        )
        raise Refused(
            f"the end of '{home}/{FILE_NAME}' is missing: '{home}/{TRIALS}' contains {lost[0]}, "
            f"which the journal does not mention. {remedy}"
        )


def is_done(result: SearchResult, experiment: Experiment, request: ResumeRequest) -> bool:
    """True if nothing is left to do: no training, evaluation, test, or HTML report.

    Something is left, for example, if the request asks for more trials, or changes the budget or
    the --min-gain or --stop-at-chance that ended the search.
    """
    used_up = result.outcome == "budget" or NO_TIME in result.unevaluated
    has_new_limits = bool(request.limits.budget or request.limits.price)
    trials, most = request.trials or 0, experiment.most_trials
    more = result.unfinished or len(result.trials) < (trials if most is None else min(trials, most))
    more = (
        more
        or (used_up and has_new_limits)
        or (
            result.outcome == "gain"
            and (request.min_gain is not None or request.stop_at_chance is not None)
        )
        or (result.outcome == "stopped" and len(result.trials) < experiment.planned_trials)
    )
    return (
        result.outcome in ENDED
        and result.is_tested
        and not result.passed_over
        and (result.is_drawn or not result.best)
        and not more
    )


def check_budget(request: ResumeRequest, experiment: Experiment, result: SearchResult) -> None:
    """Check that the budget allows further epochs, if training is all that is left to do.

    Raises:
        ConfigError: the budget that ended the search is used up.
    """
    # Evaluations that were skipped for lack of time do not count: there is no time now either.
    only_training_left = (
        result.outcome == "budget"
        and result.is_tested
        and result.is_drawn
        and not result.passed_over
        and not result.unevaluated.keys() - {NO_TIME}
    )
    if only_training_left and (limit := used_up(experiment, result)) is not None:
        used = shares_text(experiment.budget.shares(result, experiment.demand))
        more = Remedy("resume", request.name, request.storage, options={"budget": Blank("LIMIT")})
        raise ConfigError(
            Message(
                f"the budget of {limit} is used up: all sessions together used {used}. To "
                "continue with a larger budget: ",
                more,
            )
        )


def used_up(experiment: Experiment, result: SearchResult) -> Limit | None:
    """Return the limit that allows no further epoch; None if every limit allows one.

    A new time limit allows an epoch only if it is larger than the one that ended the search:
    training stops before the limit is reached, to leave time for the evaluation.

    Args:
        experiment: the experiment with its present limits.
        result: a search that was ended by its budget.
    """
    if (
        limit := experiment.budget.spent(result, experiment.demand, wall_s=result.wall_s, ahead=0)
    ) is not None:
        return limit
    before, now = Budget.of(result.started.experiment), experiment.budget.time
    ended_by = before.spent(result, experiment.demand, wall_s=result.wall_s, ahead=0) or before.time
    return (
        now
        if now is not None
        and ended_by is not None
        and ended_by.of == "time"
        and now.amount <= ended_by.amount
        else None
    )
