"""The patches to Tune, without Ray: handles are played."""

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock, Mock

import pytest
import ray
from ray.air.execution._internal.actor_manager import RayActorManager
from ray.air.execution._internal.event_manager import RayEventManager
from ray.tune.execution.tune_controller import TuneController
from ray.tune.progress_reporter import TrialProgressCallback
from ray.tune.utils.callback import _create_default_callbacks

from cluster.runtime import lean, session
from cluster.runtime.patches import Patch
from cluster.runtime.session import ENVIRONMENT
from search.design.experiment import Experiment
from search.execution import tune_patches
from search.execution.job import Job
from search.execution.pool import Member, Shared, Workers
from search.execution.tune import SAME_DEATH_S, DriverCallback, NoProgress
from search.execution.tune_patches import patch_tune
from search.journal.journal import read
from tests.support.played import OpenDriver, report
from trainables.messages import TrialRequest

ROOT = Path(__file__).parents[3]
PACKAGES = ("search", "trainables", "cluster")
ALL_PATCHES = (
    *tune_patches.PATCHES,
    *lean.PATCHES,
    *lean.FOR_ONE_WORKER,
    *lean.FOR_RAY_TRAIN,
    session.END_PATCH,
    session.SIGNAL_PATCH,
)
NEEDED = {
    "RayActorManager._actor_task_failed",
    "RayActorManager._cleanup_actor",
    "RayActorManager._schedule_tracked_actor_task",
    "RayActorManager.next",
    "Trial.handle_error",
    "TuneController._maybe_reuse_cached_actor",
    "TuneController._schedule_trial_reset",
    "_ActorClassCache.get",
    "kill",
}


def function_of(patch: Patch) -> str:
    return patch.target.partition(":")[2]


@pytest.mark.parametrize("patch", ALL_PATCHES, ids=function_of)
def test_each_patch_fits_the_ray_that_is_installed_and_says_what_it_gains(patch: Patch) -> None:
    assert patch.misfit() == ""
    assert re.search(r"\d m?s\b|`test_", patch.gain)


def test_no_function_is_patched_twice() -> None:
    for_a_session = (lean.FOR_ONE_WORKER, lean.FOR_RAY_TRAIN)
    for others in for_a_session:  # a session has one of the two
        patches = [patch for patch in ALL_PATCHES if patch not in others]
        assert len({patch.target for patch in patches}) == len(patches)
    assert len({patch.target for patch in ALL_PATCHES}) == 18


def test_a_search_needs_only_some_patches() -> None:
    assert {function_of(patch) for patch in ALL_PATCHES if patch.is_needed} == NEEDED


def test_patches_are_applied_in_one_place() -> None:
    assert [
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
        if "patch.object(" in path.read_text()
    ] == ["cluster/runtime/patches.py"]


def test_each_test_that_a_patch_names_exists() -> None:
    tests = {
        name
        for file in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", file.read_text(), re.M)
    }
    named = {name for patch in ALL_PATCHES for name in re.findall(r"`(test_\w+)`", patch.gain)}
    assert named <= tests


def test_tune_adds_no_callbacks_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """They would write a file for every trial, and keep it."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    silent = NoProgress()
    assert _create_default_callbacks([silent]) == [silent]


def test_a_trial_whose_process_died_is_not_asked_for_its_last_report() -> None:
    """The process may have been killed for its memory, an error that Tune does not expect there."""

    class Dead:
        @property
        def last_result(self) -> dict[str, Any]:
            raise ray.exceptions.OutOfMemoryError("killed")

    def tell(callback: TrialProgressCallback) -> None:
        for told in (callback.on_trial_error, callback.on_trial_complete):
            told(iteration=0, trials=[], trial=Dead())  # type: ignore[arg-type]

    with pytest.raises(ray.exceptions.OutOfMemoryError):
        tell(TrialProgressCallback())
    tell(NoProgress())


def test_to_kill_a_place_in_a_shared_worker_is_to_stop_its_trial(
    experiment: Experiment, open_driver: OpenDriver
) -> None:
    """Tune kills what does not stop in time; the neighbours live on, and Ray, which knows no such
    handle, is not asked.
    """
    process = SimpleNamespace(stop=SimpleNamespace(remote=Mock()))
    member = Member(Shared(process))
    with patch_tune(Mock(), open_driver(experiment)):
        ray.kill(member)
    (place,) = process.stop.remote.call_args.args
    assert place in member.worker.taken


@pytest.mark.parametrize(
    ("is_local", "active", "given_back"), [(False, 1, True), (False, 0, False), (True, 1, False)]
)
def test_a_place_that_belongs_to_another_search_is_given_back_at_once(
    is_local: bool,
    active: int,
    given_back: bool,
    experiment: Experiment,
    open_driver: OpenDriver,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Tune keeps a process for the next trial; on a cluster it is not kept when this search may
    start none now.
    """
    driver, flushed = open_driver(experiment, slots=1), list[bool]()
    driver.active = {f"t{number}" for number in range(active)}
    monkeypatch.setattr(
        TuneController,
        "_cleanup_cached_actors",
        lambda self, force_all=False: flushed.append(force_all),
    )
    with patch_tune(Mock(is_local=is_local), driver):
        TuneController._cleanup_cached_actors(Mock())
    assert flushed == [given_back]


@pytest.mark.parametrize("starts", [True, False])
def test_a_trial_takes_a_free_worker_unless_its_own_is_starting(
    starts: bool, experiment: Experiment, open_driver: OpenDriver
) -> None:
    """Tune would end the one that starts: a machine that has joined could wait forever."""
    trial, own = Mock(), Mock()
    controller = MagicMock(
        _trial_to_actor={trial: own}, _actor_to_trial={own: trial}, _resetting_trials=set()
    )
    controller._actor_manager.is_actor_started.return_value = starts
    with patch_tune(Mock(), open_driver(experiment)):
        reused = TuneController._maybe_reuse_cached_actor(controller, trial)
    assert (reused, controller._remove_actor.called) == (not starts, not starts)


def let_arrive(
    monkeypatch: pytest.MonkeyPatch,
    results: list[str],
    handle: Callable[[str], None],
    *,
    first: Callable[[], None],
) -> Any:
    """Let a step of Tune do `first` and then find these results; return its stand-in manager."""
    events = RayEventManager()
    manager = SimpleNamespace(_actor_task_events=events)
    for result in results:
        events._tracked_futures[result] = (handle, None)  # type: ignore[index]

    def take_one(self: Any, timeout: float | None = None) -> bool:
        first()
        return True

    def step(self: Any) -> None:
        RayActorManager.next(manager, 0.1)  # type: ignore[arg-type]

    monkeypatch.setattr(RayActorManager, "next", take_one)
    monkeypatch.setattr(TuneController, "step", step)
    monkeypatch.setattr(ray, "wait", lambda futures, num_returns, timeout: (sorted(futures), []))
    monkeypatch.setattr(ray, "get", lambda future: future)
    return manager


def test_no_worker_hears_of_a_decision_that_is_not_on_disk(
    experiment: Experiment, open_driver: OpenDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two results arrive at once: both are written, and only then do the workers go on. One of
    them has died meanwhile.
    """
    driver, order = open_driver(experiment), list[object]()
    names = [suggestion[0] for _ in range(3) if (suggestion := driver.suggest()) is not None]
    lives, dies, leaves = names

    def lines() -> int:
        return len(read(driver.journal.path))

    def send(
        self: Any,
        tracked_actor_task: Any,
        method_name: str,
        *,
        args: Any = None,
        kwargs: Any = None,
        _return_future: bool = False,
    ) -> None:
        order.append((method_name, tracked_actor_task._tracked_actor, lines()))

    def tell(name: str, method: str, **options: bool) -> None:
        driver.running(name)
        task: Any = SimpleNamespace(_tracked_actor=name)
        RayActorManager._schedule_tracked_actor_task(
            manager, task, method, args=(), kwargs={}, **options
        )

    def handle(name: str) -> None:
        tell(name, "train")
        order.append(f"handled {name}")
        manager._live_actors_to_ray_actors_resources.discard(dies)

    manager = let_arrive(monkeypatch, [lives, dies], handle, first=lambda: order.append("next"))
    manager._live_actors_to_ray_actors_resources = set(names)
    monkeypatch.setattr(RayActorManager, "_schedule_tracked_actor_task", send)
    before = lines()
    with patch_tune(Mock(), driver):
        TuneController.step(Mock(_stopped_trials=set(), _failed_trials=set()))
        sent = ("train", lives, before + 2)
        assert order == ["next", f"handled {lives}", f"handled {dies}", sent]
        with driver.journal.group():  # who waits for the answer gets it, after what was decided
            tell(leaves, "stop", _return_future=True)
        assert order[4:] == [("stop", leaves, before + 3)]


def test_a_worker_gets_its_next_trial_before_the_next_result_is_handled(
    experiment: Experiment, open_driver: OpenDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tune keeps a single idle worker: of trials that stop together the others would be lost."""
    driver, order = open_driver(experiment, slots=3), list[str]()
    names = [suggestion[0] for _ in range(3) if (suggestion := driver.suggest()) is not None]
    for name in names:
        driver.running(name)

    def stop(name: str) -> None:
        order.append(f"{name} stops")
        driver.report(name, report(1, outcome="completed"))

    let_arrive(monkeypatch, names[1:], stop, first=lambda: stop(names[0]))
    controller = Mock(_stopped_trials=set(), _failed_trials=set())
    controller._maybe_update_trial_queue = lambda: order.append("propose")
    controller._maybe_add_actors = lambda: order.append("use the worker")
    with patch_tune(Mock(), driver):
        TuneController.step(controller)
    assert order == [
        line for name in names for line in (f"{name} stops", "propose", "use the worker")
    ]


def test_workers_that_trials_share_come_and_go_with_the_cluster(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Fewer: the fullest stays, the other takes no more trials and ends with its last. More: one
    counts once it is up; where it never finds a place, it ends, so that a trial that waits in it is
    tried again elsewhere.
    """
    killed: list[Any] = []
    monkeypatch.setattr(ray, "kill", killed.append)
    monkeypatch.setattr(ray, "wait", lambda refs, timeout: (up & set(refs), []))
    a, b, c, d = (
        SimpleNamespace(
            name=name, get_current_ip_pid=SimpleNamespace(remote=lambda name=name: name)
        )
        for name in "abcd"
    )
    up, new = set[str](), iter((Shared(c), Shared(d)))
    workers: Any = SimpleNamespace(
        members=2,
        count=2,
        shared=[Shared(a), Shared(b)],
        teams=None,
        _new_shared=lambda: next(new),
    )
    workers._end_leaving = lambda: Workers._end_leaving(workers)
    last, *_ = Member(workers.shared[0]), Member(workers.shared[1]), Member(workers.shared[1])
    assert Workers.resize(workers, 1) == 1
    assert ([shared.leaving for shared in workers.shared], killed) == ([True, False], [])
    Workers.take_back(workers, last, over=False)
    assert ([shared.process for shared in workers.shared], killed) == ([b], [a])
    assert Workers.resize(workers, 3) == 1
    up.add("c")
    assert Workers.resize(workers, 3) == 2
    Member(workers.shared[2])
    assert Workers.resize(workers, 2) == 2
    assert ([shared.process for shared in workers.shared], killed) == ([b, c], [a, d])


def test_tune_forgets_trials_that_are_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes through its list at every step: of ten thousand trials the last would take longer
    than the first.
    """
    controller: Any = SimpleNamespace(
        _trials=["done", "runs", "failed"],
        _stopped_trials={"done"},
        _failed_trials={"failed"},
        _trials_to_cache={"done", "runs"},
    )
    assert all(
        f"self.{name}" in inspect.getsource(TuneController.__init__) for name in vars(controller)
    )  # Tune's own names, not ours
    monkeypatch.setattr(TuneController, "step", lambda self: None)
    with patch_tune(Mock(), MagicMock()):
        TuneController.step(controller)
    assert (controller._trials, controller._stopped_trials, controller._failed_trials) == (
        ["runs"],
        set(),
        set(),
    )
    assert controller._trials_to_cache == {"runs"}


@pytest.mark.parametrize(
    ("shared", "kinds"), [(True, ["memory", "lost", "lost", "memory"]), (False, ["memory"] * 4)]
)
def test_a_shared_workers_death_of_memory_counts_once(
    shared: bool,
    kinds: list[str],
    experiment: Experiment,
    open_driver: OpenDriver,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each death halves how many trials run at once; a worker that eight trials share dies once."""
    now = iter(
        [100.0, 100.0, 100.1, 100.1, 100.2, 100.2, 100.3 + SAME_DEATH_S, 100.3 + SAME_DEATH_S]
    )
    callback = DriverCallback(open_driver(experiment), {}, lambda: None, shared=shared)
    monkeypatch.setattr("search.execution.tune.time", SimpleNamespace(monotonic=lambda: next(now)))
    error: Any = ray.exceptions.OutOfMemoryError(
        "Task was killed due to the node running low on memory."
    )
    assert [callback._kind(error) for _ in range(4)] == kinds


def test_a_late_failure_is_not_that_of_the_next_attempt(
    experiment: Experiment, open_driver: OpenDriver
) -> None:
    """A trial on several workers that was held winds down for seconds, in which it may have been
    handed out again.
    """
    driver = open_driver(experiment)
    suggested = driver.suggest()
    assert suggested is not None
    name = suggested[0]
    driver.running(name)
    driver.fail(name, "lost", "its process was lost")
    assert driver.suggest() is not None
    driver.running(name)
    callback = DriverCallback(driver, {}, lambda: None, shared=False)
    callback.watch.killed[name] = "it made no step"
    for attempt, outcome in ((1, "running"), (2, "failed")):
        job = Job(name, {}, "", TrialRequest(attempt=attempt))
        trial: Any = SimpleNamespace(trial_id=f"{attempt}", config={"job": job})
        callback.on_trial_error(0, [], trial)
        assert driver.trials[name].outcome == outcome
        assert not callback.watch.killed, "who was killed was the attempt that failed"
