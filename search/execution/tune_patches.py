"""Patches to private parts of Ray Tune, where its own ways do not suit a search.

They are applied while Tune runs and taken off afterwards. With them Tune takes its processes from
our `Workers`, and survives errors that those processes die of.

The times were measured on 2 virtual cores of an AMD EPYC that others used too, 2026-11-28; medians
of three.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import ray
from ray import tune

from cluster.runtime.patches import Patch, apply_patches
from search.decisions.driver import Driver
from search.execution.job import JOB, Handed
from search.execution.pool import Member, Worker, Workers

Errors = dict[str, Any]
"""The error that each failed trial ended with, by Tune's trial id."""
Function = Callable[..., Any]


class PatchedSearch(NamedTuple):
    """The parts of a running search that the patches use."""

    workers: Workers
    driver: Driver
    errors: Errors


class PlaceholderTrainable(tune.Trainable):
    """A trainable that stands for a `TrialWorker` in Tune's own lists."""


class PooledActorClass(ray.actor.ActorClass):  # type: ignore[type-arg]
    """The actor class that Tune sees for `PlaceholderTrainable`.

    Instead of starting an actor, it hands out a worker of the pool.
    """

    def __init__(self, workers: Workers, chosen: dict[str, Any] | None = None) -> None:
        self.workers, self.chosen = workers, chosen or {}

    def options(self, **options: Any) -> "PooledActorClass":
        """Return the same actor class, with these resources."""
        return PooledActorClass(self.workers, options)

    def remote(self, config: Handed, **more: Any) -> Worker:
        """Return a worker that has this job."""
        return self.workers.hire(config[JOB], self.chosen)


@contextmanager
def patch_tune(workers: Workers, driver: Driver) -> Iterator[Errors]:
    """Apply the patches, and yield the errors of trials as they fail.

    Raises:
        NotReady: a needed patch does not fit.
    """
    search = PatchedSearch(workers, driver, {})
    with apply_patches(PATCHES, search):
        yield search.errors


def hire_workers(get: Function, search: PatchedSearch) -> Function:
    """Have Tune take its actors for `PlaceholderTrainable` from the pool."""

    def get_or_hire(cache: Any, trainable: Any) -> Any:
        return (
            PooledActorClass(search.workers)
            if issubclass(trainable, PlaceholderTrainable)
            else get(cache, trainable)
        )

    return get_or_hire


def return_workers(let_go: Function, search: PatchedSearch) -> Function:
    """Have Tune give workers back to the pool."""

    def let_go_and_return(manager: Any, tracked_actor: Any) -> None:
        actor, _ = manager._live_actors_to_ray_actors_resources[tracked_actor]
        let_go(manager, tracked_actor)
        search.workers.take_back(actor, over=search.driver.over)

    return let_go_and_return


def spare_neighbours(kill: Function, search: PatchedSearch) -> Function:
    """Have Tune end the trial, and not the worker, where several trials share a worker."""

    def kill_or_stop(actor: Any, **options: Any) -> None:
        if isinstance(actor, Member):
            actor.stop.remote()  # its neighbours live on
        else:
            kill(actor, **options)

    return kill_or_stop


def keep_starting_workers(reuse: Function, search: PatchedSearch) -> Function:
    """Have a trial whose worker is starting keep it.

    Tune would give it one that has become free, and end the one that starts. A trial that still
    waits for a place takes what becomes free: there may be no other place any more.
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
    """Have Tune hand a trial's job, and nothing else, to the worker that the trial was given."""

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
    """On a cluster, have Tune give a place that no trial of this search may use now to others.

    Tune would keep one for later.
    """

    def flush_or_all(controller: Any, force_all: bool = False) -> None:
        workers, driver = search.workers, search.driver
        is_full = not workers.is_local and len(driver.active) >= driver.at_once
        flush(controller, force_all=force_all or is_full)

    return flush_or_all


def forget_finished_trials(step: Function, search: PatchedSearch) -> Function:
    """Have Tune forget each trial that is over: it goes through its list at every step."""

    def step_and_forget(controller: Any) -> None:
        step(controller)
        if over := controller._stopped_trials | controller._failed_trials:
            controller._trials = [trial for trial in controller._trials if trial not in over]
            for trials in (
                controller._trials_to_cache,
                controller._stopped_trials,
                controller._failed_trials,
            ):
                trials -= over

    return step_and_forget


def fail_the_trial_alone(fail: Function, search: PatchedSearch) -> Function:
    """Have Tune treat each death of a trial's process as the failure of that trial.

    Tune expects Ray's `RayActorError`; a process that Ray's memory monitor has killed comes with an
    error of another class, which Tune takes for a bug of its own and breaks the whole search off.
    """

    def fail_by_death(manager: Any, tracked_actor_task: Any, exception: Exception) -> None:
        if not isinstance(exception, ray.exceptions.RayActorError | ray.exceptions.RayTaskError):
            exception = ray.exceptions.RayActorError(
                error_msg=f"{type(exception).__name__}: {exception}"
            )
        fail(manager, tracked_actor_task, exception)

    return fail_by_death


def keep_errors(handle: Function, search: PatchedSearch) -> Function:
    """Keep the error of each trial that fails."""

    def handle_and_keep(trial: Any, exc: Any = None) -> None:
        search.errors[trial.trial_id] = exc
        handle(trial, exc)

    return handle_and_keep


def count_no_callbacks(tag: Function, search: PatchedSearch) -> Function:
    """Have Tune count no kinds of callbacks for usage statistics, which are off."""
    return lambda callbacks: None


CONTROLLER = "ray.tune.execution.tune_controller:TuneController"
MANAGER = "ray.air.execution._internal.actor_manager:RayActorManager"
PATCHES = (
    Patch(
        "ray.tune.execution.class_cache:_ActorClassCache.get",
        ("self", "trainable_cls"),
        hire_workers,
        "Workers are ours: 3.3 s of a processor and 313 MB to start one, beside 5.3 s and 382 MB "
        "for one of Tune's, which also needs Ray's agents (`cluster.runtime.lean`).",
        is_needed=True,
    ),
    Patch(
        f"{MANAGER}._cleanup_actor",
        ("self", "tracked_actor"),
        return_workers,
        "Workers come back: one evaluates and tests, and no other is started for it, which takes "
        "3.3 s of a processor; places in shared workers become free.",
        is_needed=True,
    ),
    Patch(
        f"{CONTROLLER}._schedule_trial_reset",
        ("self", "trial", "new_config", "new_experiment_tag"),
        reset_by_job,
        "A worker takes its next job. Tune adds objects to it for which each worker would import "
        "Ray Tune, Train and Data: 1 s of a processor and 97 MB, between its first trial and its "
        "second.",
        is_needed=True,
    ),
    Patch(
        f"{CONTROLLER}._maybe_reuse_cached_actor",
        ("self", "trial"),
        keep_starting_workers,
        "Without, a machine that joins may never train, where trials are shorter than a worker's "
        "start: `test_a_trial_takes_a_free_worker_unless_its_own_is_starting`.",
        is_needed=True,
    ),
    Patch(
        "ray:kill",
        ("actor", "no_restart"),
        spare_neighbours,
        "A place in a worker that trials share may be killed, though Ray has no such actor: "
        "`test_a_place_that_does_not_stop_in_time_breaks_no_search_off`.",
        is_needed=True,
    ),
    Patch(
        f"{MANAGER}._actor_task_failed",
        ("self", "tracked_actor_task", "exception"),
        fail_the_trial_alone,
        "A process that Ray's memory monitor killed is one trial's failure, and not the search's: "
        "`test_a_trial_that_eats_the_machines_memory_falls_alone`.",
        is_needed=True,
    ),
    Patch(
        "ray.tune.experiment:Trial.handle_error",
        ("self", "exc"),
        keep_errors,
        "The error itself, which Tune writes only to a pickle and a text; no pickle is read here: "
        "`test_a_trial_that_raises_fails_with_its_traceback`.",
        is_needed=True,
    ),
    Patch(
        f"{CONTROLLER}._cleanup_cached_actors",
        ("self", "force_all"),
        give_up_places,
        "Other searches on the cluster wait less for a place: "
        "`test_two_searches_share_a_cluster_of_two_nodes`.",
    ),
    Patch(
        f"{CONTROLLER}.step",
        ("self",),
        forget_finished_trials,
        "0.5 ms a step for 1,000 trials that are over, and 0.4 ms and 4.5 kB for each of them at "
        "the end. In 1,000 trials of 100 epochs that is half a minute.",
    ),
    Patch(
        "ray.air._internal.usage:tag_callbacks",
        ("callbacks",),
        count_no_callbacks,
        "To count them imports MLflow, 1.4 s of a processor, before the first trial and not beside "
        "it; a whole search takes as much. `RAY_TUNE_CALLBACKS` would avoid the count, but makes "
        "callbacks from nothing, and ours need the driver.",
    ),
)
