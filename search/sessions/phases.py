"""The phases of a search: training, evaluation, and the test of the best trial."""

from contextlib import suppress

from search.decisions.driver import Driver
from search.design.commands import verb
from search.execution.evaluation import Tick, evaluate_best, evaluate_trials
from search.journal.keeping import ALL, NEEDED, by_kind, freed, goes_at_once, removable, remove
from search.sessions.executor import Executor
from trainables.datasets.arrays import Dataset
from trainables.memory import size_text


def search_through(
    driver: Driver, dataset: Dataset, executor: Executor, *, by: str, tick: Tick
) -> None:
    """Run a search: its trials, the evaluation of each, and the best one's test."""
    ticked = dropping_failed(driver, tick)
    executor.train(driver, tick=ticked)
    driver.look()
    while not (driver.over or driver.active):  # somebody asked for more at the last moment
        executor.train(driver, tick=ticked)
        driver.look()
    driver.settle()
    driver.has_trained = True
    evaluate_trials(driver, executor.crew, slots=driver.slots, tick=tick)
    evaluate_best(driver, dataset, executor.crew, by=by, tick=tick)
    drop_unneeded(driver)


def dropping_failed(driver: Driver, tick: Tick) -> Tick:
    """Return a tick that also removes the checkpoints of trials that have failed for good.

    What cannot be removed now is tried again at the search's end.
    """
    experiment, journal = driver.experiment, driver.journal
    if experiment.keep == ALL or not goes_at_once(experiment.space):
        return tick
    known = set[str]()

    def ticked() -> None:
        tick()
        failed = {trial.trial for trial in driver.result.failed} - known
        known.update(failed)
        if not failed:
            return
        with suppress(OSError):
            if found := removable(driver.result, experiment.home, NEEDED, among=failed):
                journal.append(freed(found, NEEDED))
                remove(experiment.home, found)

    return ticked


def drop_unneeded(driver: Driver) -> None:
    """Remove the checkpoints that nothing of the search needs any more, and say so.

    What cannot be removed now is left for `search.clean`.
    """
    home, journal = driver.experiment.home, driver.journal
    if driver.experiment.keep == ALL or driver.interrupted:
        return
    try:
        if not (found := removable(driver.result, home, NEEDED)):
            return
        journal.append(freed(found, NEEDED))
        remove(home, found)
    except OSError as error:
        journal.complain(
            "note: checkpoints of stopped trials could not be removed "
            f"({error.strerror or error}). Later: {verb('clean', driver.experiment)}"
        )
        return
    kinds = by_kind(found)
    titles = " and ".join(kind.counted(count) for kind, (count, _) in kinds.items())
    journal.complain(
        f"note: the checkpoints of {titles} were removed "
        f"({size_text(sum(size for _, size in kinds.values()))}); --keep all keeps them"
    )
