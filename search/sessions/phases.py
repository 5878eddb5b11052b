"""The phases of a search: training, evaluation, and the test of the best trial."""

from contextlib import suppress

from search.decisions.driver import Driver
from search.execution.evaluation import Tick, evaluate_best, evaluate_trials
from search.journal.keeping import (
    ALL,
    NEEDED,
    can_free_failed_at_once,
    find_removable,
    freed_event,
    remove,
    totals_by_kind,
)
from search.sessions.combining import choose_ensemble
from search.sessions.executor import Executor
from search.sessions.robustness import evaluate_robustness
from search.values.message import Remedy
from trainables.datasets.arrays import Dataset
from trainables.machine import size_text


def run_phases(
    driver: Driver, dataset: Dataset, executor: Executor, *, by: str, tick: Tick
) -> None:
    """Train the trials of a search, evaluate each, test the answer, and remove checkpoints.

    The answer is the best trial, or an ensemble of the best ones.

    With `--evaluate`, the answer is also evaluated on corrupted or attacked images.

    Args:
        driver: the driver of the search.
        dataset: the data set, with its test set.
        executor: trains and evaluates.
        by: the verb that runs the phases, recorded when the test set is used.
        tick: called several times a second.
    """
    ticked = dropping_failed(driver, tick)
    executor.train(driver, tick=ticked)
    driver.look()
    while not (driver.over or driver.active):  # a request has added trials at the last moment
        executor.train(driver, tick=ticked)
        driver.look()
    driver.settle()
    driver.has_trained = True
    evaluate_trials(driver, executor.crew, slots=driver.slots, tick=tick)
    choose_ensemble(driver, executor.crew, tick=tick)
    evaluate_best(driver, dataset, executor.crew, by=by, tick=tick)
    evaluate_robustness(driver, executor.crew, tick=tick)
    drop_unneeded(driver)


def dropping_failed(driver: Driver, tick: Tick) -> Tick:
    """Extend `tick` to also remove the checkpoints of trials that failed and are not retried.

    If the removal fails, it is repeated at the end of the search. `tick` is returned unchanged with
    `--keep all`, and if the number of epochs is searched: then another trial may continue from a
    failed one.
    """
    experiment, journal = driver.experiment, driver.journal
    if experiment.keep == ALL or not can_free_failed_at_once(experiment.space):
        return tick
    freed_trials = set[str]()

    def ticked() -> None:
        tick()
        failed = {trial.trial for trial in driver.result.failed} - freed_trials
        freed_trials.update(failed)
        if not failed:
            return
        with suppress(OSError):
            if checkpoints := find_removable(driver.result, experiment.home, NEEDED, among=failed):
                journal.append(freed_event(checkpoints, NEEDED))
                remove(experiment.home, checkpoints)

    return ticked


def drop_unneeded(driver: Driver) -> None:
    """Remove the checkpoints that the search no longer needs, and print their number.

    If the removal fails, a note recommends `search.clean`.
    """
    home, journal = driver.experiment.home, driver.journal
    if driver.experiment.keep == ALL or driver.interrupted:
        return
    try:
        if not (checkpoints := find_removable(driver.result, home, NEEDED)):
            return
        journal.append(freed_event(checkpoints, NEEDED))
        remove(home, checkpoints)
    except OSError as error:
        later = Remedy("clean", driver.experiment.name, driver.experiment.storage)
        journal.complain(
            "note: checkpoints of stopped trials could not be removed "
            f"({error.strerror or error}). To remove them later: {later}"
        )
        return
    kinds = totals_by_kind(checkpoints)
    titles = " and ".join(kind.counted(count) for kind, (count, _) in kinds.items())
    journal.complain(
        f"note: the checkpoints of {titles} were removed "
        f"({size_text(sum(size for _, size in kinds.values()))}). To keep them, use --keep all."
    )
