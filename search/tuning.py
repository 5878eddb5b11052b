"""Ray Tune's side of a search: it asks the driver's questions at the right moments and owns the slots.

Tune's searcher, scheduler and callback here hold no state of their own. Tune pickles what it is given; these come out of a pickle
empty, since a search is resumed from its journal and never from Tune's files.
"""

import json
import logging
import shutil
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import ray
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from cluster.errors import NotReady
from search.driver import Driver
from search.trial import Job, TrialWorker, evaluate_on_test, gate_name, make_job, train_on_workers
from trainables.datasets.arrays import Dataset

WAITING = {"node:__internal_head__": 0.001}
"""What a process asks for that only waits: a place on the head node, and no CPU of the trials'."""


def _nothing() -> None:
    return None


class Unpickled:
    """Comes out of a pickle as None."""

    def __reduce__(self) -> tuple[Callable[[], None], tuple[()]]:
        return _nothing, ()


class DriverSearcher(Unpickled, Searcher):
    """Asks the driver for the next trial."""

    def __init__(self, driver: Driver) -> None:
        super().__init__()
        self.driver = driver

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        """Nothing to set: the driver knows."""
        return True

    def suggest(self, trial_id: str) -> Job | str:  # type: ignore[override]
        """The next trial as a job."""
        suggestion = self.driver.suggest()
        if suggestion is None:
            return str(Searcher.FINISHED)
        trial, config = suggestion
        return make_job(trial, config, self.driver.experiment.trial_folder(trial))

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """The driver has heard it."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore."""


class DriverScheduler(Unpickled, FIFOScheduler):
    """Tells the driver of each report and stops the trial when it says so."""

    def __init__(self, driver: Driver) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.driver = driver

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """STOP when the trial is over. A trial on several workers is told through its gate, and ends by itself."""
        report = json.loads(result["report"])
        over = self.driver.report(trial.config["trial"], report)
        if self.driver.experiment.demand.workers == 1:
            return str(TrialScheduler.STOP if over else TrialScheduler.CONTINUE)
        if report["outcome"] is None:
            with suppress(ValueError):  # no gate, no workers behind it: the trial is dying, and `on_trial_error` will say so
                ray.get_actor(gate_name(trial.config["folder"])).decide.remote(report["epoch"], not over)
        return str(TrialScheduler.CONTINUE)


class DriverCallback(Unpickled, tune.Callback):
    """Tells the driver what happens to trials beside their reports."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """The trial has a slot."""
        self.driver.running(trial.config["trial"], host=trial.get_ray_actor_ip() or "")

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """The trial's process died, could not be started, or its own code raised."""
        text = trial.get_error()
        self.driver.fail(trial.config["trial"], str(text or "its process ended without a word"))


def tune_search(driver: Driver, dataset: Dataset, *, slots: int) -> None:
    """Run trials until the driver has no more, at most `slots` at once. The test part stays out of the trials' reach."""
    for name in ("ray.tune", "ray.train", "ray.air", "ray.data"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    scratch = (driver.experiment.folder / "ray").absolute()
    tuner = tune.Tuner(
        _trainable(driver, dataset.sealed),
        tune_config=tune.TuneConfig(
            search_alg=DriverSearcher(driver),
            scheduler=DriverScheduler(driver),
            num_samples=-1,
            max_concurrent_trials=slots,
            reuse_actors=driver.experiment.demand.workers == 1,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(scratch),
            verbose=0,
            callbacks=[DriverCallback(driver)],
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    )
    try:
        tuner.fit()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _trainable(driver: Driver, dataset: Dataset) -> Any:
    """What Tune runs for a trial, with its resources: a worker that stays, or a waiting process that leads several."""
    experiment = driver.experiment
    demand = experiment.demand
    if demand.workers == 1:
        ready = tune.with_parameters(TrialWorker, dataset=dataset, device=experiment.device, threads=max(1, int(demand.cpus)))
        return tune.with_resources(ready, {"cpu": demand.cpus, "gpu": demand.gpus})
    each = {"cpus": demand.cpus, "gpus": demand.gpus, "workers": float(demand.workers)}
    led = tune.with_parameters(train_on_workers, dataset=dataset, device=experiment.device, demand=each)
    return tune.with_resources(led, tune.PlacementGroupFactory([WAITING]))


def evaluate_best(driver: Driver, dataset: Dataset) -> None:
    """Open the test part for the best trial, once, in a worker, and write the evaluation to the journal.

    Raises:
        NotReady: the evaluation failed; the trials' own results are not touched by that.
    """
    best, experiment = driver.result.best, driver.experiment
    if best is None or best.best_epoch is None:
        return
    job = {"config": best.config, "folder": str(experiment.trial_folder(best.trial))}
    task = ray.remote(num_cpus=min(1, experiment.demand.cpus), num_gpus=experiment.demand.gpus)(evaluate_on_test)
    try:
        test = ray.get(task.remote(job, dataset, best.best_epoch, experiment.device))
    except ray.exceptions.RayError as error:
        raise NotReady(f"the best trial could not be tested ({str(error).strip().splitlines()[-1]}); its checkpoint is in {job['folder']}") from error
    driver.journal.append("tested", trial=best.trial, epoch=best.best_epoch, test=test)
