"""What the patches to Tune do, without Ray: handles are played."""

import inspect
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
import ray
from ray.tune.execution.tune_controller import TuneController

from search.experiment import Experiment
from search.seats import books_short, hired
from search.tuning import SAME_DEATH_S, DriverCallback
from search.workers import Member, Shared
from tests.search.conftest import OpenDriver


def test_to_kill_a_place_in_a_shared_worker_is_to_stop_its_trial(experiment: Experiment, open_driver: OpenDriver) -> None:
    """Tune kills what does not stop in time; the neighbours live on, and Ray, which knows no such handle, is not asked."""
    process = SimpleNamespace(stop=SimpleNamespace(remote=Mock()))
    member = Member(Shared(process))
    with hired(Mock(), open_driver(experiment)):
        ray.kill(member)
    (place,) = process.stop.remote.call_args.args
    assert place in member.worker.taken


def test_tune_forgets_trials_that_are_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes through its list at every step: of ten thousand trials the last would take longer than the first."""
    controller: Any = SimpleNamespace(
        _trials=["done", "runs", "failed"], _stopped_trials={"done"}, _failed_trials={"failed"}, _trials_to_cache={"done", "runs"}
    )
    assert all(f"self.{name}" in inspect.getsource(TuneController.__init__) for name in vars(controller))  # Tune's own names, not ours
    monkeypatch.setattr(TuneController, "step", lambda controller: None)
    with books_short():
        TuneController.step(controller)
    assert (controller._trials, controller._stopped_trials, controller._failed_trials) == (["runs"], set(), set())
    assert controller._trials_to_cache == {"runs"}


@pytest.mark.parametrize(("shared", "kinds"), [(True, ["memory", "lost", "lost", "memory"]), (False, ["memory"] * 4)])
def test_a_shared_workers_death_of_memory_counts_once(
    shared: bool, kinds: list[str], experiment: Experiment, open_driver: OpenDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each death halves how many trials run at once; a worker that eight trials share dies once."""
    now = iter([100.0, 100.0, 100.1, 100.1, 100.2, 100.2, 100.3 + SAME_DEATH_S, 100.3 + SAME_DEATH_S])
    callback = DriverCallback(open_driver(experiment), {}, lambda: None, shared=shared)
    monkeypatch.setattr("search.tuning.time", SimpleNamespace(monotonic=lambda: next(now)))
    error: Any = ray.exceptions.OutOfMemoryError("Task was killed due to the node running low on memory.")
    assert [callback._kind(error) for _ in range(4)] == kinds
