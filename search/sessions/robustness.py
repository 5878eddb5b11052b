"""The evaluations of `--evaluate`: the answer of a search on corrupted and attacked images."""

from search.decisions.driver import Driver
from search.execution.evaluation import Crew, Hung, Tick, await_answer, job_of
from search.execution.failures import kind_of, reason_of
from search.journal.events import Stressed
from search.journal.pareto import front
from search.journal.result import TrialResult
from trainables.progress import step
from trainables.robustness.stress_tests import STRESS_TESTS, summarise_tests
from trainables.values import Evaluation


class Unmeasured(RuntimeError):
    """A test of an evaluation has no result; the message is the reason."""


def evaluate_robustness(driver: Driver, workers: Crew, *, tick: Tick) -> None:
    """Carry out the evaluations of `--evaluate` that are missing, and write them to the journal.

    The answer of the search is evaluated, even if the time budget is used up, and within the budget
    also each trial on the Pareto front. If an evaluation fails, a note states the reason.

    Args:
        driver: the driver, whose trials have been evaluated.
        workers: the processes that evaluate.
        tick: called several times a second.
    """
    result = driver.result
    if not driver.experiment.evaluate or result.chosen is None:
        return
    answer = result.chosen
    for trial in [answer, *(trial for trial in front(result) if trial is not answer)]:
        for evaluation in driver.experiment.evaluate:
            if driver.interrupted or (trial is not answer and driver.out_of_time):
                return
            if evaluation in trial.robustness:
                continue
            try:
                _evaluate(driver, trial, evaluation, workers, tick)
            except Unmeasured as error:
                driver.journal.complain(
                    f"note: {trial.trial} has no result of --evaluate {evaluation}: {error}"
                )


def _evaluate(
    driver: Driver, trial: TrialResult, evaluation: str, workers: Crew, tick: Tick
) -> None:
    """Carry out one evaluation of a trial, unless the search is interrupted meanwhile.

    Each test is a call of its own, so that a signal or the hang timeout need not wait for all.

    Raises:
        Unmeasured: a test failed.
    """
    tests = STRESS_TESTS[evaluation]
    results: dict[str, Evaluation] = {}
    with step(f"{trial.trial}: {evaluation}", len(tests)) as advance:
        for test in tests:
            outcome = _measure(driver, trial, test, workers, tick)
            if outcome is None:
                return
            results[test] = outcome
            advance()
            if "reason" in outcome:
                break
    summary = summarise_tests(evaluation, results, driver.experiment.base.task.primary)
    driver.journal.append(Stressed(trial.trial, trial.best_epoch or 0, evaluation, summary))


def _measure(
    driver: Driver, trial: TrialResult, test: str, workers: Crew, tick: Tick
) -> Evaluation | None:
    """Return the result of one test; None if the search is interrupted.

    Raises:
        Unmeasured: the test failed.
    """
    job = job_of(driver.experiment, trial)
    try:
        reply = await_answer(
            driver,
            workers,
            tick,
            workers.for_test(),
            "stress",
            job,
            workers.dataset,
            trial.best_epoch or 0,
            test,
        )
    except (workers.broken, Hung) as error:
        raise Unmeasured(reason_of(error, kind_of(error))) from error
    if reply is None or driver.interrupted:
        return None
    if reply.damaged is not None:
        raise Unmeasured(reply.damaged)
    result: Evaluation = reply.found
    return result
