"""Ray Tune's side of a search: it asks the driver at the right moments, and owns the slots.

Tune's searcher, scheduler and callback here hold no state of their own. Tune pickles what it is
given; these come out of a pickle as None, since a search is resumed from its journal and never from
Tune's files.
"""

import logging
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Lock, Thread, Timer
from typing import Any

import ray
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.progress_reporter import TrialProgressCallback
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from cluster.cli import error_line
from cluster.errors import NotReady
from cluster.exit_codes import ExitCode
from cluster.runtime.session import LOCAL, dead_parts
from search.decisions.driver import Driver
from search.execution.data_parallel import gate_name, train_on_workers
from search.execution.failures import (
    innermost,
    keep_traceback,
    killed_for_memory,
    kind_of,
    last_line,
    reason_of,
)
from search.execution.hang_detector import Watch
from search.execution.job import JOB, Handed, Job
from search.execution.pool import Workers
from search.execution.tune_patches import Errors, PlaceholderTrainable, patch_tune
from search.execution.worker import TuneResult
from search.journal.journal import JournalError
from search.values.message import Remedy
from trainables.messages import decode_reports

Tick = Callable[[], None]
LAST_WORDS_S = 10
"""Seconds that Tune may take to end when Ray is gone."""
LOOK_S = 1.0
"""Seconds between two checks, in a thread of their own, whether Ray is alive."""
SAME_DEATH_S = 5.0
"""Trials that run out of memory within so many seconds shared a worker, or the machine."""
COLOURS = re.compile(r"\x1b\[[0-9;]*m")

WAITING = {"node:__internal_head__": 0.001}
"""The resources of a trial whose training holds its own elsewhere: a place on the head node, and
none of the CPUs that trials use.
"""


def _nothing() -> None:
    return None


def job_in(trial: Trial) -> Job:
    """Return the job that a trial of Tune's stands for."""
    job: Job = trial.config[JOB]
    return job


class Unpickled:
    """An object that comes out of a pickle as None."""

    def __reduce__(self) -> tuple[Callable[[], None], tuple[()]]:
        return _nothing, ()


class DriverSearcher(Unpickled, Searcher):
    """Tune's searcher: it asks the driver for the next trial."""

    def __init__(self, driver: Driver) -> None:
        super().__init__()
        self.driver = driver

    def set_search_properties(
        self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any
    ) -> bool:
        """Return True without setting anything: the driver knows these properties."""
        return True

    def suggest(self, trial_id: str) -> Handed | str | None:  # type: ignore[override]
        """Return the next trial as a job.

        None while any runs now, which may have to be tried again, or beside which a person may ask
        for more; `Searcher.FINISHED` if none will follow.
        """
        suggestion = self.driver.suggest()
        if suggestion is None:
            is_over = self.driver.over and not self.driver.active
            return str(Searcher.FINISHED) if is_over else None
        trial, config = suggestion
        folder = self.driver.experiment.home.place(trial).folder
        request, download = self.driver.handout(trial, config), self.driver.experiment.download
        return {JOB: Job(trial, config.to_dict(), folder, request, download)}

    def on_trial_complete(
        self, trial_id: str, result: TuneResult | None = None, error: bool = False
    ) -> None:
        """Do nothing: the driver has heard of it already."""

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: there is nothing to save."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing: there is nothing to restore."""


class DriverScheduler(Unpickled, FIFOScheduler):
    """Tune's scheduler: it tells the driver of each report, and stops trials as the driver decides.

    Where several reports come together, the answer to the last of them counts.
    """

    def __init__(self, driver: Driver) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.driver = driver

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: TuneResult) -> str:
        """Return STOP when the trial is over.

        A trial on several workers is told through its gate, and ends by itself.
        """
        if note := result.get("note", ""):
            self.driver.journal.complain(note)
        reports, job = decode_reports(result["reports"]), job_in(trial)
        over = [self.driver.report(job.trial, report) for report in reports][-1]
        if self.driver.experiment.demand.workers == 1:
            return str(TrialScheduler.STOP if over else TrialScheduler.CONTINUE)
        if reports[-1].outcome is None:
            # Without a gate there are no workers behind it: the trial is dying, and
            # `on_trial_error` will say so.
            with suppress(ValueError):
                ray.get_actor(gate_name(job)).decide.remote(result["number"], not over)
        return str(TrialScheduler.CONTINUE)


class DriverCallback(Unpickled, tune.Callback):
    """Tune's callback: it tells the driver what happens to trials besides their reports."""

    def __init__(self, driver: Driver, errors: Errors, tick: Tick, *, shared: bool) -> None:
        self.driver, self.errors, self.tick, self.shared = driver, errors, tick, shared
        self.narrowed = -SAME_DEATH_S
        home = driver.experiment.home
        self.watch = Watch(
            driver.experiment.hang_timeout + home.beats_late_s,
            beats=home.beats,
            every_s=home.beats_every_s,
        )
        self.last_words = RayWatchdog(driver)

    def on_step_begin(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Look after the trials and Ray itself, several times a second.

        Raises:
            NotReady: a part of Ray died.
        """
        self.tick()
        if dead := dead_parts():
            self.last_words.start(lost(dead))
            raise NotReady(lost(dead))
        running = (
            trial
            for name in self.driver.active
            if (trial := self.driver.trials[name]).outcome == "running" and not trial.wait_reason
        )
        self.watch.look(
            {self.driver.experiment.trial_folder(trial.trial): trial.attempt for trial in running}
        )

    def on_trial_start(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Tell the driver that the trial has a slot."""
        host = ""
        with suppress(ray.exceptions.RayError):  # it died; Tune will hear of that
            host = trial.get_ray_actor_ip() or ""
        self.driver.running(job_in(trial).trial, host=host)

    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """Tell the driver that the trial failed.

        Its process died or could not be started, or its own code raised.
        """
        job, error = job_in(trial), self.errors.pop(trial.trial_id, None)
        name, attempt = job.trial, job.request.attempt
        hung = self.watch.killed.pop(name, "")
        # It was held, and failed on its way out: its next attempt is not to blame.
        if attempt != self.driver.attempt(name):
            return
        if hung:
            self.driver.fail(name, "hung", hung)
            return
        kind = self._kind(error)
        traceback = (
            ""
            if kind == "moved" or killed_for_memory(error)
            else keep_traceback(
                self.driver.experiment.home,
                name,
                attempt,
                COLOURS.sub("", str(error)),
            )
        )
        self.driver.fail(name, kind, reason_of(error, kind), traceback=traceback)

    def _kind(self, error: Any) -> str:
        """Return the kind of a failure, as `kind_of`, with one exception.

        Of trials that shared a worker which was killed for its memory, one counts as out of memory
        and the others as lost.
        """
        kind = kind_of(error)
        if self.shared and killed_for_memory(error):
            since, self.narrowed = time.monotonic() - self.narrowed, time.monotonic()
            return "lost" if since < SAME_DEATH_S else kind
        return kind


class NoProgress(TrialProgressCallback):
    """Prints nothing about trials and keeps none.

    If Tune is given no callback of this kind it adds one, which keeps every trial, and asks the
    process of a trial that has failed for a report: if Ray's memory monitor has killed that, Tune
    breaks the whole search off.
    """

    def on_trial_result(self, *arguments: Any, **info: Any) -> None:
        """Do nothing."""

    def on_trial_error(self, *arguments: Any, **info: Any) -> None:
        """Do nothing."""

    def on_trial_complete(self, *arguments: Any, **info: Any) -> None:
        """Do nothing."""


def lost(dead: list[str]) -> str:
    """Return a sentence that says that these parts of Ray died."""
    return f"Ray's {' and '.join(dead)} died; what was done so far is kept"


class RayWatchdog:
    """A watchdog that ends the process if Ray is gone and Tune does not end.

    Without it Ray would end the process after a minute, without a message.
    """

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.timer: Timer | None = None
        self.over, self.lock = Event(), Lock()

    def watch(self) -> None:
        """Check from another thread that Ray is alive: Tune may be waiting for it within a step."""
        Thread(target=self._look, daemon=True).start()

    def _look(self) -> None:
        while not self.over.wait(LOOK_S):
            if dead := dead_parts():
                return self.start(lost(dead))

    def start(self, reason: str) -> None:
        """Start the timer after which the process ends."""
        with self.lock:
            if self.timer is None and not self.over.is_set():
                self.timer = Timer(LAST_WORDS_S, self.say, [reason])
                self.timer.start()

    def cancel(self) -> None:
        """Stop the watchdog: Tune has ended by itself."""
        self.over.set()
        with self.lock:
            if self.timer is not None:
                self.timer.cancel()

    def say(self, reason: str) -> None:
        """Bring the journal to its end, tell the user, and end the process."""
        self.driver.close("lost", reason)
        self.driver.journal.patient = False
        with suppress(JournalError):
            self.driver.finish()
        experiment = self.driver.experiment
        go_on = Remedy("resume", experiment.name, experiment.storage)
        sys.stderr.write(error_line(f"{reason}. Go on with: {go_on}"))
        sys.stderr.flush()
        os._exit(ExitCode.NOT_READY)


def tune_search(driver: Driver, workers: Workers, *, slots: int, tick: Tick) -> None:
    """Run trials until the driver has no more, never more than `slots` at once.

    `tick` is called several times a second. The test part stays out of the trials' reach.

    Raises:
        NotReady: Ray itself broke off; what was done is in the journal.
    """
    for name in ("ray.tune", "ray.train", "ray.air", "ray.data"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with scratch(driver) as folder, patch_tune(workers, driver) as errors:
        callback = DriverCallback(driver, errors, tick, shared=workers.members > 1)
        tuner = tune.Tuner(
            _trainable(driver, workers),
            tune_config=tune.TuneConfig(
                search_alg=DriverSearcher(driver),
                scheduler=DriverScheduler(driver),
                num_samples=-1,
                max_concurrent_trials=slots,
                reuse_actors=driver.experiment.demand.workers == 1,
            ),
            run_config=tune.RunConfig(
                name="tune",
                storage_path=str(folder),
                verbose=0,
                callbacks=[callback, NoProgress()],
                progress_reporter=tune.CLIReporter(),  # in a notebook Tune would add an output
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        )
        callback.last_words.watch()
        try:
            tuner.fit()
        except (ray.exceptions.RayError, tune.TuneError, ConnectionError) as error:
            first = innermost(error)
            if not isinstance(first, ray.exceptions.RayError | tune.TuneError | OSError):
                raise first from error
            raise NotReady(
                f"Ray broke off ({last_line(first)}); what was done so far is kept"
            ) from error
        finally:
            callback.last_words.cancel()


@contextmanager
def scratch(driver: Driver) -> Iterator[Path]:
    """Give a folder for Tune's own files, which nobody reads.

    It is on this machine, or where all nodes of a cluster see it.
    """
    experiment = driver.experiment
    own = experiment.address == LOCAL or not experiment.home.is_shared
    folder = (
        Path(tempfile.mkdtemp(prefix="search-")) if own else (experiment.folder / "ray").absolute()
    )
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _trainable(driver: Driver, workers: Workers) -> Any:
    """The trainable that Tune runs for a trial, with its resources.

    That is a worker that stays, or a waiting process that leads several workers.
    """
    experiment, demand = driver.experiment, workers.demand
    if demand.workers == 1:
        resources = (
            {"cpu": demand.cpus, "gpu": demand.gpus}
            if workers.members == 1
            else tune.PlacementGroupFactory([WAITING])
        )
        return tune.with_resources(PlaceholderTrainable, resources)
    each = {"cpus": demand.cpus, "gpus": demand.gpus, "workers": float(demand.workers)}
    led = tune.with_parameters(
        train_on_workers, dataset=[workers.dataset], device=experiment.device, demand=each
    )
    return tune.with_resources(led, tune.PlacementGroupFactory([WAITING]))
