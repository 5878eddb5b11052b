"""Patches to inner parts of Ray Tune (ray 2.60), where its own ways do not suit a search.

They are applied while Tune runs and taken off afterwards. With them Tune takes its processes from
our `Workers`, and survives errors that those processes die of. Each is here for what it buys,
measured with and without it, or for a test that fails without it:

| patch | what it buys, and how that is known |
|---|---|
| `TuneController._cleanup_cached_actors` | On a cluster, a place that this search may not use now
  is given back at once. Fails without: `test_two_searches_share_a_cluster_of_two_nodes` |
| `TuneController._maybe_reuse_cached_actor` | A trial whose worker is starting keeps it. Without,
  a machine that joins may never train, where trials are shorter than a worker's start. Fails
  without: `test_a_trial_takes_a_free_worker_unless_its_own_is_starting` |
| `TuneController._schedule_trial_reset` | A worker is handed its next job alone. Tune adds objects
  for which each worker would import Ray Tune, Train and Data: 1 s of a processor and 97 MB, between
  its first trial and its second |
| `TuneController.step` | A trial that is over is forgotten: 0.5 ms a step for 1,000 of them, and
  0.4 ms and 4.5 kB each at the end. In 1,000 trials of 100 epochs that is half a minute |
| `_ActorClassCache.get` | Workers are ours: 3.3 s of a processor and 313 MB to start one, beside
  5.3 s and 382 MB for one of Tune's, which also needs Ray's agents (`cluster.runtime.lean`) |
| `RayActorManager._cleanup_actor` | Workers come back: one evaluates and tests, and no other is
  started for it, which takes 3.3 s of a processor; places in shared workers become free |
| `RayActorManager._actor_task_failed` | A process that Ray's memory monitor killed is one trial's
  failure, and not the search's. Fails without:
  `test_a_trial_that_eats_the_machines_memory_falls_alone` |
| `Trial.handle_error` | The error itself, which Tune writes only to a pickle and a text; no pickle
  is read here. Fails without: `test_a_trial_that_raises_fails_with_its_traceback` |
| `ray.kill` | A place in a worker that trials share may be killed: it is no actor of Ray's. Fails
  without: `test_a_place_that_does_not_stop_in_time_breaks_no_search_off` |
| `usage.tag_callbacks` | Kinds of callbacks are not counted for usage statistics, which are off. To
  count them imports MLflow, 1.4 s of a processor, before the first trial and not beside it; a whole
  search takes as much. `RAY_TUNE_CALLBACKS` would avoid the count, but makes callbacks from
  nothing, and ours need the driver |

Measured on 2 virtual cores of an AMD EPYC that others used too, 2026-11-28; medians of three.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import ray
from ray import tune
from ray.air._internal import usage
from ray.air.execution._internal.actor_manager import RayActorManager
from ray.tune.execution.class_cache import _ActorClassCache
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial

from search.decisions.driver import Driver
from search.execution.job import JOB, Handed
from search.execution.pool import Member, Worker, Workers

Errors = dict[str, Any]
"""The error that each failed trial ended with, by Tune's trial id."""


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


def reset_by_job(
    controller: TuneController, trial: Trial, new_config: Handed, new_experiment_tag: str
) -> None:
    """Hand a trial's job, without more, to the worker that it was given."""
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


@contextmanager
def use_worker_pool(workers: Workers, driver: Driver) -> Iterator[None]:
    """Have Tune take its actors for `PlaceholderTrainable` from the workers, and give them back.

    A trial whose worker is starting keeps it: Tune would give it one that has become free, and end
    the one that starts. A trial that still waits for a place takes what becomes free: there may be
    no other place any more. On a cluster, a place that no trial of this search may take now is
    given back at once, so that others can have it: Tune would keep one for later.
    """
    let_go: Callable[..., None] = RayActorManager._cleanup_actor
    get: Callable[..., Any] = _ActorClassCache.get
    reuse: Callable[..., bool] = TuneController._maybe_reuse_cached_actor
    flush: Callable[..., None] = TuneController._cleanup_cached_actors
    kill = ray.kill

    def get_or_hire(cache: Any, trainable: Any) -> Any:
        return (
            PooledActorClass(workers)
            if issubclass(trainable, PlaceholderTrainable)
            else get(cache, trainable)
        )

    def let_go_and_return(manager: RayActorManager, tracked_actor: Any) -> None:
        actor, _ = manager._live_actors_to_ray_actors_resources[tracked_actor]
        let_go(manager, tracked_actor)
        workers.returned(actor, over=driver.over)

    def kill_or_leave(actor: Any, **options: Any) -> None:
        if isinstance(actor, Member):
            actor.stop.remote()  # its neighbours live on
        else:
            kill(actor, **options)

    def reuse_if_none(controller: TuneController, trial: Trial) -> bool:
        own = controller._trial_to_actor.get(trial)
        is_starting = (
            own is not None
            and trial not in controller._resetting_trials
            and controller._actor_manager.is_actor_started(own)
        )
        return not is_starting and reuse(controller, trial)

    def flush_or_all(controller: TuneController, force_all: bool = False) -> None:
        flush(
            controller,
            force_all=force_all or (not workers.is_local and len(driver.active) >= driver.at_once),
        )

    with (
        patch.object(TuneController, "_cleanup_cached_actors", flush_or_all),
        patch.object(TuneController, "_schedule_trial_reset", reset_by_job),
        patch.object(ray, "kill", kill_or_leave),
        patch.object(usage, "tag_callbacks", lambda callbacks: None),
        patch.object(_ActorClassCache, "get", get_or_hire),
        patch.object(RayActorManager, "_cleanup_actor", let_go_and_return),
        patch.object(TuneController, "_maybe_reuse_cached_actor", reuse_if_none),
    ):
        yield


@contextmanager
def drop_finished_trials() -> Iterator[None]:
    """Have Tune forget each trial that is over: it goes through its list at every step."""
    step: Callable[..., None] = TuneController.step

    def step_and_forget(controller: TuneController) -> None:
        step(controller)
        if over := controller._stopped_trials | controller._failed_trials:
            controller._trials = [trial for trial in controller._trials if trial not in over]
            for kept in (
                controller._trials_to_cache,
                controller._stopped_trials,
                controller._failed_trials,
            ):
                kept -= over

    with patch.object(TuneController, "step", step_and_forget):
        yield


@contextmanager
def capture_trial_errors() -> Iterator[Errors]:
    """Have Tune treat each death of a trial's process as that trial's failure, and keep the errors.

    Yields the errors by Tune's trial id.

    Tune expects Ray's `RayActorError`; a process that Ray's memory monitor has killed comes with an
    error of another class, which Tune takes for a bug of its own and breaks the whole search off.
    """
    errors: Errors = {}
    failed, handle = RayActorManager._actor_task_failed, Trial.handle_error

    def failed_by_death(
        manager: RayActorManager, tracked_actor_task: Any, exception: Exception
    ) -> None:
        if not isinstance(exception, ray.exceptions.RayActorError | ray.exceptions.RayTaskError):
            exception = ray.exceptions.RayActorError(
                error_msg=f"{type(exception).__name__}: {exception}"
            )
        failed(manager, tracked_actor_task, exception)

    def handle_and_keep(trial: Trial, exc: Any = None) -> None:
        errors[trial.trial_id] = exc
        handle(trial, exc)

    with (
        patch.object(RayActorManager, "_actor_task_failed", failed_by_death),
        patch.object(Trial, "handle_error", handle_and_keep),
    ):
        yield errors
