"""Combines the best trials of a search to an ensemble, which may be the search's answer."""

from dataclasses import replace

from search.decisions.combining import find_members, is_answer
from search.decisions.driver import Driver
from search.execution.evaluation import Crew, Hung, Tick, await_answer, evaluate, job_of
from search.execution.failures import kind_of, reason_of
from search.execution.job import EvaluationReply
from search.journal.events import Pooled
from search.journal.result import TrialResult
from trainables.config import MEMBERS

ENSEMBLE = "ensemble"
"""The name of the first ensemble of a search; the second one is `ensemble-2`."""


def choose_ensemble(driver: Driver, workers: Crew, *, tick: Tick) -> None:
    """Combine the best trials, if the space allows it, and choose the ensemble or the best trial.

    If these trials were combined before, that ensemble is used again. If this fails, a note states
    the reason, and the best trial is the answer.

    Args:
        driver: the driver of the search, whose trials have ended and were evaluated.
        workers: the processes that evaluate.
        tick: called several times a second.
    """
    result, before = driver.result, driver.result.combined
    if driver.interrupted:
        return
    if before is None or result.is_ensemble_old:
        most, left_s = driver.experiment.space.combine, driver.evaluation_left_s
        if not (members := find_members(result, most, left_s)):
            if find_members(result, most):
                driver.journal.complain(
                    "note: the best trials were not combined to an ensemble, because the rest of "
                    "the budget is too short to test one"
                )
            return
        combined: Pooled | None = before
        is_lost = before is not None and before.trial in result.passed_over
        names = [member.trial for member in members]
        if before is None or before.members != names or is_lost:
            combined = _combine(driver, members, workers, tick)
        if combined is None:
            return
        driver.journal.append(combined)
    if result.ensemble is not None and result.ensemble in result.candidates:
        evaluate(driver, workers, [result.ensemble], [], slots=1, tick=tick)


def _combine(
    driver: Driver, members: list[TrialResult], workers: Crew, tick: Tick
) -> Pooled | None:
    """Let a worker combine trials; return None if it fails or the search is interrupted.

    The checkpoint of an ensemble that is not chosen is removed.
    """
    experiment, count = driver.experiment, len(driver.result.ensembles)
    name = f"{ENSEMBLE}-{count + 1}" if count else ENSEMBLE
    config = {**members[0].config, MEMBERS: [member.config for member in members]}
    job = job_of(experiment, replace(members[0], trial=name, config=config))
    jobs = [(job_of(experiment, trial), trial.best_epoch or 0) for trial in members]
    worker = workers.for_test()
    try:
        reply: EvaluationReply | None = await_answer(
            driver, workers, tick, worker, "combine", job, workers.dataset, jobs, 1
        )
    except (workers.broken, Hung) as error:
        reply = EvaluationReply(damaged=reason_of(error, kind_of(error)))
    if reply is None:
        return None
    if reply.damaged is not None:
        names = ", ".join(member.trial for member in members)
        driver.journal.complain(f"note: {names} were not combined: {reply.damaged}")
        return None
    is_chosen = is_answer(reply.found["gain"], reply.found["error"])
    if not is_chosen:
        experiment.home.drop(name, ["epoch-0001"])
    return Pooled(
        trial=name,
        members=[member.trial for member in members],
        config=config,
        is_chosen=is_chosen,
        **reply.found,
    )
