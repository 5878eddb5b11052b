"""Chooses among the best few trials of a search, and tests the choice."""

import math
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from cluster.errors import Refused
from cluster.exit_codes import ExitCode
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
from search.operations.continuation import UsageLimits, Where, change_option
from search.operations.options import SearchRequest
from search.preflight.changes import changes, facts_now
from search.preflight.overrides import Overrides, apply_overrides
from search.preflight.prepare import Prepared, prepare
from search.process.lifetime import CommandStart, command_start
from search.sessions.averaging import choose_average
from search.sessions.executor import Executor
from search.sessions.plan import SessionPlan
from search.sessions.robustness import evaluate_robustness
from search.sessions.session import opening_line, record_outcome, run_session
from search.values.message import Message, Remedy
from search.values.option import group, option
from search.values.wording import changes_text, duration
from search.views.base import Finished
from search.views.terminal import Terminal, say
from trainables.config import training_key_of
from trainables.datasets.arrays import Dataset
from trainables.errors import ConfigError, counted

if TYPE_CHECKING:
    from search.decisions.selection_policy import SelectionPolicy

TOP, SEEDS, MAX_SEEDS = 5, 5, 100


@dataclass(frozen=True, kw_only=True)
class SelectRequest(SearchRequest):
    """A search to select from, and the terms of the selection: candidates, seeds, error rate."""

    top: int | None = option(
        f"number of candidates, which are the best trials (default: as before, else {TOP})",
        metavar="N",
        parse=int,
    )
    seeds: int | None = option(
        "number of fresh seeds for each candidate that is not dropped (default: as before, else "
        f"{SEEDS})",
        metavar="N",
        parse=int,
    )
    alpha: float | None = option(
        f"error rate of all comparisons together (default: as before, else {ALPHA})",
        metavar="P",
        parse=float,
    )
    allow_change: bool = change_option("the data, the code or a library")
    where: Where = group(Where, before="as for the search")

    def overrides(self) -> Overrides:
        """Collect the options that replace recorded values of the search."""
        return self.where.overrides(UsageLimits())


@dataclass(frozen=True)
class SelectionCost:
    """Upper bounds on the remaining cost of a selection.

    Candidates that are clearly worse drop out early, which saves trainings.
    """

    trainings: int
    epochs: int
    seconds: float
    """Estimated from the speed and concurrency with which the search trained these candidates.

    The last trainings may leave some of the slots idle.
    """

    def __str__(self) -> str:
        return (
            f"at most {counted(self.trainings, 'training')} and {counted(self.epochs, 'epoch')}, "
            f"about {duration(self.seconds)} at the search's pace; fewer if candidates are dropped"
        )


@dataclass(frozen=True, kw_only=True)
class SelectionPreview:
    """A selection that has not been started: its candidates, and its cost."""

    name: str
    """The name of the search."""
    candidates: list[str]
    cost: SelectionCost | None
    """The remaining cost; None if the same selection was completed before."""
    note: str = ""
    """The reason why there are fewer candidates than requested; empty if there are enough."""

    def __str__(self) -> str:
        if self.cost is None:
            return done_text(self.name)
        return f"{self.name}: {', '.join(self.candidates)} would be trained again: {self.cost}"


@dataclass(frozen=True, kw_only=True)
class RequestedSelection:
    """A selection with its terms, and the search that it selects from."""

    result: SearchResult
    experiment: Experiment
    terms: Selecting

    @property
    def planned(self) -> int:
        """The maximum number of trainings."""
        return len(self.terms.candidates) * self.terms.seeds


def select(
    request: SelectRequest,
    *,
    as_json: bool = False,
    began: CommandStart | None = None,
    limit_s: float = math.inf,
) -> Finished:
    """Choose among the best trials of a search, and print the choice.

    Args:
        request: the search, and the terms of the selection.
        as_json: True to print the choice as JSON, too.
        began: the start of the selection; None for that of the command.
        limit_s: the seconds after which the selection is interrupted, if it has not been made.

    Raises:
        NoSuchSearch: there is no such search.
        Refused: the search has not ended, or the data, the code or a library has changed, and the
            request does not allow that.
        ConfigError: a term is out of its range.
    """
    began = began or command_start()
    selection = requested_selection(request)
    experiment, result, terms = selection.experiment, selection.result, selection.terms
    plan = SessionPlan(
        "search.select",
        terms,
        planned=selection.planned,
        phases=partial(choose, until_s=began.clock_s + limit_s),
        exit_code=exit_code,
        reuses_trainings=False,
        as_json=as_json,
    )
    if is_done(result, terms):
        return record_outcome(experiment, result, plan, done_text(request.name))
    prepared = prepare_selection(request, selection)
    console, candidates = Terminal(stderr=True), terms.candidates
    if note := few_text(result, candidates, terms.top or 0):
        say(console, note)
    say(console, str(cost_of(result, terms)))
    opening = opening_line(
        experiment, f"{', '.join(candidates)}, each with up to {terms.seeds} fresh seeds"
    )
    from search.decisions.selection_policy import SelectionPolicy

    plan = replace(plan, policy=SelectionPolicy)
    return run_session(prepared, console, began, opening, plan)


def selection_cost(request: SelectRequest) -> SelectionPreview:
    """Estimate the cost of a selection, after the same checks as in `select`; start nothing.

    Raises:
        NoSuchSearch, Refused, ConfigError: as in `select`.
    """
    selection = requested_selection(request)
    result, terms = selection.result, selection.terms
    if is_done(result, terms):
        return SelectionPreview(name=request.name, candidates=terms.candidates, cost=None)
    prepare_selection(request, selection)
    return SelectionPreview(
        name=request.name,
        candidates=terms.candidates,
        cost=cost_of(result, terms),
        note=few_text(result, terms.candidates, terms.top or 0),
    )


def requested_selection(request: SelectRequest) -> RequestedSelection:
    """Read a search that has ended, and choose the terms of a selection from it.

    Raises:
        NoSuchSearch: there is no such search.
        Refused: the search has not ended, or has no ranked trial.
        ConfigError: a term is out of its range.
    """
    result = SearchResult.read(request.home().opened())
    recorded = Experiment.from_description(request.name, result.started.experiment, request.storage)
    unlimited = replace(recorded, budget=Budget(), fuse="off")
    experiment = apply_overrides(unlimited, request.overrides(), result)
    refuse_unfinished(experiment, result)
    return RequestedSelection(result=result, experiment=experiment, terms=terms_of(request, result))


def prepare_selection(request: SelectRequest, selection: RequestedSelection) -> Prepared:
    """Load the data of a selection, and check everything that it needs.

    Raises:
        Refused: something has changed that the request does not allow.
    """
    experiment = selection.experiment
    prepared = prepare(experiment, anew=False, trainings=selection.planned)
    refuse_changed(request, selection.result, facts_now(experiment, prepared))
    return prepared


def done_text(name: str) -> str:
    """State that the requested selection was completed before."""
    return (
        f"{name}: already chosen, from the same candidates with the same seeds; nothing is left "
        "to do"
    )


def cost_of(result: SearchResult, terms: Selecting) -> SelectionCost:
    """Estimate the remaining cost of a selection if no further candidate drops out."""
    repeats = result.selection.repeats.values() if result.selection is not None else ()
    trainings, epochs, seconds, longest_s = 0, 0, 0.0, 0.0
    for name in terms.candidates:
        trial = result.trials[name]
        before = [repeat for repeat in repeats if repeat.repeat_of == name][: terms.seeds]
        length, trained_epochs = trial.config["epochs"], [len(repeat.epochs) for repeat in before]
        remaining_epochs = max(0, terms.seeds * length - sum(trained_epochs))
        trainings += terms.seeds - sum(count >= length for count in trained_epochs)
        epochs += remaining_epochs
        epoch_s = trial.train_s / max(1, len(trial.epochs))
        seconds += remaining_epochs * epoch_s
        longest_s = max(longest_s, min(length, remaining_epochs) * epoch_s)
    slots = max(1, result.started.slots)
    whole_rounds_s = math.ceil(trainings / slots) * longest_s
    return SelectionCost(trainings, epochs, max(seconds / slots, whole_rounds_s))


def refuse_unfinished(experiment: Experiment, result: SearchResult) -> None:
    """Check that the search has ended, and has at least one ranked trial.

    Raises:
        Refused: the search has not ended, or has no ranked trial.
    """
    if not result.is_over:
        holder = experiment.home.holder()
        raise Refused(
            Message(
                f"the search '{experiment.name}' is still running (on {holder}). Watch its "
                "progress: "
                if holder
                else f"the search '{experiment.name}' was interrupted before it had finished. "
                "Continue it first: ",
                Remedy("status" if holder else "resume", experiment.name, experiment.storage),
            )
        )
    if not result.ranking:
        raise Refused(
            Message(
                f"every trial of '{experiment.name}' failed, diverged or ended before its first "
                "epoch, so there is nothing to choose from. To see the reasons: ",
                Remedy("status", experiment.name, experiment.storage),
            )
        )


def refuse_changed(request: SelectRequest, result: SearchResult, now: SessionStart) -> None:
    """Check that nothing has changed that affects the selection, unless the request allows it.

    The data and weights must be those of the search. If the selection was started before,
    everything must be as it was then.

    Args:
        request: the requested selection.
        result: the search.
        now: the facts of a session that would start now.

    Raises:
        Refused: something has changed.
    """
    before: SessionStart = replace(now, data=result.started.data, weights=result.started.weights)
    if result.selection is not None:
        before = result.selection.started
    differences = changes(before, now)
    if differences and not request.allow_change:
        raise Refused(changes_text(request.name, differences))


def terms_of(request: SelectRequest, result: SearchResult) -> Selecting:
    """Choose the terms of the selection: the candidates, the seeds of each, and the error rate.

    Options that are not passed default to the values of the search's last selection, if any.

    Raises:
        ConfigError: --top, --seeds or --alpha is out of its range.
    """
    before = result.selection.started if result.selection is not None else None
    top, seeds, alpha = request.top, request.seeds, request.alpha
    if seeds is None:
        seeds = before.seeds if before is not None else SEEDS
    if alpha is None:
        alpha = before.alpha if before is not None else ALPHA
    if top is not None and top < 1:
        raise ConfigError(f"--top must be >= 1 (got {top}).")
    if not MIN_SEEDS <= seeds <= MAX_SEEDS:
        raise ConfigError(
            f"--seeds must be a whole number from {MIN_SEEDS} to {MAX_SEEDS} (got {seeds})."
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
            "(trials that differ only in length or seed count once)"
        )
    else:
        why = (
            f"no more of the search's {counted(len(result.trials), 'trial')} have a result that "
            "counts"
        )
    return f"note: {len(candidates)} candidate{'s' * (len(candidates) != 1)}, not {top}: {why}"


def is_done(result: SearchResult, terms: Selecting) -> bool:
    """True if a selection with these terms is complete, and its choice was tested.

    False if a candidate dropped out because of a failure, since the failure may be temporary.
    """
    selection = result.selection
    if selection is None or selection.outcome != "completed" or not selection.is_tested:
        return False
    failed = selection.failed & set(terms.candidates)
    return not failed and not is_other_race(selection.started, terms)


def choose(
    driver: Driver,
    dataset: Dataset,
    executor: Executor,
    *,
    by: str,
    tick: Tick,
    until_s: float = math.inf,
) -> None:
    """Run the race between the candidates, evaluate those that remain, choose one, and test it.

    The race is described in `search.decisions.selection`. The average of the chosen candidate's
    trainings may take the place of its best one.

    Args:
        driver: the driver, whose policy is a `SelectionPolicy`.
        dataset: the data set.
        executor: trains and evaluates.
        by: unused, but a parameter of all phases (`SessionPlan.phases`).
        tick: called regularly during the work.
        until_s: the time by `time.monotonic` until which the trainings must have ended.

    Raises:
        Refused: no candidate is left at the end of the race.
    """
    from search.decisions.selection_policy import SelectionPolicy

    policy = driver.policy
    assert isinstance(policy, SelectionPolicy)

    def watch() -> None:
        tick()
        if time.monotonic() > until_s:
            driver.close("interrupted", "the budget of time is used up")

    executor.train(driver, tick=watch)
    if driver.interrupted:
        return
    if not policy.race.alive:
        raise Refused(
            "no candidate is left in the selection, because all were dropped: "
            f"{'; '.join(f'{name} ({reason})' for name, reason in policy.race.out.items())}"
        )
    crew = executor.crew
    driver.has_trained = True
    evaluate(driver, crew, list(policy.best.values()), [], slots=driver.slots, tick=tick)
    say_chosen(driver, policy)
    choose_average(driver, policy, crew, tick=tick)
    evaluate_chosen(driver, policy, dataset, crew, tick=tick)
    evaluate_robustness(driver, crew, tick=tick)


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
    """Return the facts about each candidate that are not results of the race.

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
