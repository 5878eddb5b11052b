"""Patches to private parts of Ray Tune.

They are applied while Tune runs and removed afterwards. With them, Tune takes its worker processes
from our pool (`Workers`), and survives errors that kill such a process. Each function from
`hire_workers` on receives an original function and returns its replacement.

The times in `PATCHES` were measured on 2 virtual cores of a shared AMD EPYC machine, 2026-11-28;
each is the median of three runs.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import ray
from ray import tune

from cluster.runtime.patches import Patch, apply_patches
from search.decisions.driver import Driver
from search.execution.job import JOB, Handed
from search.execution.pool import Member, Worker, Workers
from search.journal.journal import JournalError

Errors = dict[str, Any]
"""Maps Tune's id of a failed trial to its error."""
Function = Callable[..., Any]


@dataclass
class PatchedSearch:
    """The parts of a running search that the patches use."""

    workers: Workers
    driver: Driver
    errors: Errors
    controller: Any = None
    """Tune's controller during a step; None outside of steps."""


class PlaceholderTrainable(tune.Trainable):
    """The trainable that is passed to Tune; `hire_workers` replaces its actors by our workers."""


class PooledActorClass(ray.actor.ActorClass):  # type: ignore[type-arg]
    """The actor class of `PlaceholderTrainable`.

    Instead of starting an actor, it returns a worker of the pool.
    """

    def __init__(self, workers: Workers, chosen: dict[str, Any] | None = None) -> None:
        self.workers, self.chosen = workers, chosen or {}

    def options(self, **options: Any) -> "PooledActorClass":
        """Return a copy of this actor class with these options, such as resources."""
        return PooledActorClass(self.workers, options)

    def remote(self, config: Handed, **more: Any) -> Worker:
        """Return a worker of the pool that has received the job of this config."""
        return self.workers.hire(config[JOB], self.chosen)


@contextmanager
def patch_tune(workers: Workers, driver: Driver) -> Iterator[Errors]:
    """Apply the patches on entry, and remove them on exit.

    Yields a dict to which the errors of failed trials are added while Tune runs.

    Raises:
        NotReady: a required patch does not fit this version of Ray.
    """
    search = PatchedSearch(workers, driver, {})
    with apply_patches(PATCHES, search):
        yield search.errors


def hire_workers(get: Function, search: PatchedSearch) -> Function:
    """Let Tune take workers from the pool as the actors of `PlaceholderTrainable`."""

    def get_or_hire(cache: Any, trainable: Any) -> Any:
        return (
            PooledActorClass(search.workers)
            if issubclass(trainable, PlaceholderTrainable)
            else get(cache, trainable)
        )

    return get_or_hire


def return_workers(let_go: Function, search: PatchedSearch) -> Function:
    """Let Tune return workers to the pool when it no longer needs them."""

    def let_go_and_return(manager: Any, tracked_actor: Any) -> None:
        actor, _ = manager._live_actors_to_ray_actors_resources[tracked_actor]
        let_go(manager, tracked_actor)
        search.workers.take_back(actor, over=search.driver.over)

    return let_go_and_return


def spare_neighbours(kill: Function, search: PatchedSearch) -> Function:
    """Let Tune stop only the trial, instead of killing the worker that it shares with others."""

    def kill_or_stop(actor: Any, **options: Any) -> None:
        if isinstance(actor, Member):
            actor.stop.remote()  # the other trials of the worker continue
        else:
            kill(actor, **options)

    return kill_or_stop


def keep_starting_workers(reuse: Function, search: PatchedSearch) -> Function:
    """Let a trial keep its worker while that worker starts.

    Without the patch, Tune would give the trial a worker that has become free, and kill the one
    that starts. A trial whose worker still waits for resources takes the free worker as before,
    since those resources may never become available.
    """

    def reuse_if_none_starts(controller: Any, trial: Any) -> bool:
        own = controller._trial_to_actor.get(trial)
        is_starting = (
            own is not None
            and trial not in controller._resetting_trials
            and controller._actor_manager.is_actor_started(own)
        )
        return not is_starting and bool(reuse(controller, trial))

    return reuse_if_none_starts


def reset_by_job(reset: Function, search: PatchedSearch) -> Function:
    """Let Tune send a worker only the job of its next trial, without Tune's own objects."""

    def schedule_reset(
        controller: Any, trial: Any, new_config: Handed, new_experiment_tag: str
    ) -> None:
        trial.set_experiment_tag(new_experiment_tag)
        trial.set_config(new_config)
        controller._resetting_trials.add(trial)
        controller._schedule_trial_task(
            trial=trial,
            method_name="reset",
            args=(new_config[JOB],),
            on_result=controller._on_trial_reset,
            on_error=controller._trial_task_failure,
        )

    return schedule_reset


def give_up_places(flush: Function, search: PatchedSearch) -> Function:
    """On a cluster, let Tune release idle actors immediately while the search is at its limit.

    Without the patch, Tune would keep an idle actor, whose resources other searches need.
    """

    def flush_or_all(controller: Any, force_all: bool = False) -> None:
        workers, driver = search.workers, search.driver
        is_full = not workers.is_local and len(driver.active) >= driver.at_once
        flush(controller, force_all=force_all or is_full)

    return flush_or_all


def step_together(step: Function, search: PatchedSearch) -> Function:
    """Let the events of a step share one write to the journal, and remove finished trials.

    Tune checks the whole list of trials at every step.
    """

    def step_and_forget(controller: Any) -> None:
        search.controller = controller
        try:
            with search.driver.journal.group():
                step(controller)
        finally:
            search.controller = None
        if over := controller._stopped_trials | controller._failed_trials:
            controller._trials = [trial for trial in controller._trials if trial not in over]
            for trials in (
                controller._trials_to_cache,
                controller._stopped_trials,
                controller._failed_trials,
            ):
                trials -= over

    return step_and_forget


def take_all_results(take_one: Function, search: PatchedSearch) -> Function:
    """Let Tune handle all results that have arrived, instead of one in each step.

    Trials that were proposed in this step are written to the journal first: Tune starts them here.
    When a trial stops, its worker gets another one at once, since Tune keeps a single idle worker.
    """

    def refill(active: int) -> None:
        if search.controller is not None and len(search.driver.active) < active:
            search.controller._maybe_update_trial_queue()
            search.controller._maybe_add_actors()

    def take_all(manager: Any, timeout: float | None = None) -> bool:
        search.driver.journal.commit()
        active = len(search.driver.active)
        if not take_one(manager, timeout):
            return False
        refill(active)
        events, end = manager._actor_task_events, time.monotonic() + TOGETHER_S
        futures = list(events.get_futures())
        ready, _ = ray.wait(futures, num_returns=len(futures), timeout=0) if futures else ([], [])
        for future in ready:
            if time.monotonic() > end:
                break
            if future in events._tracked_futures:  # an earlier result may have discarded it
                active = len(search.driver.active)
                events.resolve_future(future)
                refill(active)
        return True

    return take_all


def send_when_on_disk(send: Function, search: PatchedSearch) -> Function:
    """Let a worker receive its next task only when the decision for it is in the journal."""

    def send_later(
        manager: Any,
        tracked_actor_task: Any,
        method_name: str,
        *,
        args: Any = None,
        kwargs: Any = None,
        _return_future: bool = False,
    ) -> Any:
        journal, actor = search.driver.journal, tracked_actor_task._tracked_actor
        options = {"args": args, "kwargs": kwargs}
        if _return_future:
            with suppress(JournalError):  # the next write raises it again, and workers stop first
                journal.commit()
            return send(manager, tracked_actor_task, method_name, **options, _return_future=True)

        def send_if_alive() -> None:
            if actor in manager._live_actors_to_ray_actors_resources:
                send(manager, tracked_actor_task, method_name, **options)

        journal.when_on_disk(send_if_alive)
        return tracked_actor_task

    return send_later


def fail_the_trial_alone(fail: Function, search: PatchedSearch) -> Function:
    """Let Tune treat every death of a trial's process as the failure of that trial only.

    Tune expects a `RayActorError`. If Ray's memory monitor has killed the process, Ray raises an
    error of another class, which Tune treats as an internal error: it aborts the whole search.
    """

    def fail_by_death(manager: Any, tracked_actor_task: Any, exception: Exception) -> None:
        if not isinstance(exception, ray.exceptions.RayActorError | ray.exceptions.RayTaskError):
            exception = ray.exceptions.RayActorError(
                error_msg=f"{type(exception).__name__}: {exception}"
            )
        fail(manager, tracked_actor_task, exception)

    return fail_by_death


def keep_errors(handle: Function, search: PatchedSearch) -> Function:
    """Store the error of each failed trial in `search.errors`."""

    def handle_and_keep(trial: Any, exc: Any = None) -> None:
        search.errors[trial.trial_id] = exc
        handle(trial, exc)

    return handle_and_keep


def count_no_callbacks(tag: Function, search: PatchedSearch) -> Function:
    """Keep Tune from counting callbacks for usage statistics, which are off."""
    return lambda callbacks: None


TOGETHER_S = 0.1
"""The maximum seconds in which the results that have arrived are handled together."""
CONTROLLER = "ray.tune.execution.tune_controller:TuneController"
MANAGER = "ray.air.execution._internal.actor_manager:RayActorManager"
PATCHES = (
    Patch(
        "ray.tune.execution.class_cache:_ActorClassCache.get",
        ("self", "trainable_cls"),
        hire_workers,
        "Workers of this project, which take 3.3 s of CPU time and 313 MB to start. Tune's take "
        "5.3 s and 382 MB, and also need Ray's agents (`cluster.runtime.lean`).",
        is_needed=True,
    ),
    Patch(
        f"{MANAGER}._cleanup_actor",
        ("self", "tracked_actor"),
        return_workers,
        "Reused workers: one of them evaluates and tests, so that no other has to be started, "
        "which takes 3.3 s of CPU time; and places in shared workers become free.",
        is_needed=True,
    ),
    Patch(
        f"{CONTROLLER}._schedule_trial_reset",
        ("self", "trial", "new_config", "new_experiment_tag"),
        reset_by_job,
        "A next job that contains only what the worker needs. Tune adds objects for which each "
        "worker would import Ray Tune, Train and Data between its first and second trial: 1 s of "
        "CPU time and 97 MB.",
        is_needed=True,
    ),
    Patch(
        f"{CONTROLLER}._maybe_reuse_cached_actor",
        ("self", "trial"),
        keep_starting_workers,
        "Trials for machines that join. Without the patch, such a machine may never train if "
        "trials are shorter than the start of a worker: "
        "`test_a_trial_takes_a_free_worker_unless_its_own_is_starting`.",
        is_needed=True,
    ),
    Patch(
        "ray:kill",
        ("actor", "no_restart"),
        spare_neighbours,
        "A way to kill a place in a shared worker, for which Ray has no actor: "
        "`test_a_place_that_does_not_stop_in_time_breaks_no_search_off`.",
        is_needed=True,
    ),
    Patch(
        f"{MANAGER}._actor_task_failed",
        ("self", "tracked_actor_task", "exception"),
        fail_the_trial_alone,
        "The failure of only one trial, not of the search, if Ray's memory monitor kills a "
        "process: `test_a_trial_that_eats_the_machines_memory_falls_alone`.",
        is_needed=True,
    ),
    Patch(
        "ray.tune.experiment:Trial.handle_error",
        ("self", "exc"),
        keep_errors,
        "The error of a trial, which Tune writes only to a pickle and a text file, and this "
        "project reads no pickles: `test_a_trial_that_raises_fails_with_its_traceback`.",
        is_needed=True,
    ),
    Patch(
        f"{CONTROLLER}._cleanup_cached_actors",
        ("self", "force_all"),
        give_up_places,
        "Shorter waiting of other searches on the cluster for a place: "
        "`test_two_searches_share_a_cluster_of_two_nodes`.",
    ),
    Patch(
        f"{CONTROLLER}.step",
        ("self",),
        step_together,
        "One fsync, or one request to a bucket, for the events of all results that have arrived: "
        "with 64 of them 14,200 events a second instead of 265 on a disk whose fsync takes 4 ms, "
        "and 1,700 instead of 35 in a bucket that answers after 20 ms. And "
        "0.5 ms less per step with 1,000 ended trials, and 0.4 ms and 4.5 kB less for each of "
        "them at the end. For 1,000 trials of 100 epochs, that is half a minute.",
    ),
    Patch(
        f"{MANAGER}.next",
        ("self", "timeout"),
        take_all_results,
        "0.04 ms instead of 0.3 ms for each of 1,000 results that have arrived at once.",
        is_needed=True,
    ),
    Patch(
        f"{MANAGER}._schedule_tracked_actor_task",
        ("self", "tracked_actor_task", "method_name", "args", "kwargs", "_return_future"),
        send_when_on_disk,
        "Decisions in the journal before a worker hears of them, although several are written "
        "at once: `test_no_worker_hears_of_a_decision_that_is_not_on_disk`.",
        is_needed=True,
    ),
    Patch(
        "ray.air._internal.usage:tag_callbacks",
        ("callbacks",),
        count_no_callbacks,
        "A start without the count of callbacks, which imports MLflow before the first trial and "
        "not in parallel with it: 1.4 s of CPU time, as much as a whole search. "
        "`RAY_TUNE_CALLBACKS` would avoid the count, but creates callbacks without arguments, and "
        "ours need the driver.",
    ),
)
