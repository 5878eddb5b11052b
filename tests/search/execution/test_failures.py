"""Kinds of failures, from the errors that Ray raises."""

import ray.exceptions
import ray.train
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError
from ray.train.v2.api.exceptions import PreemptionError
from ray.train.v2.api.preemption import PreemptionInfo

from search.execution.failures import LOST, RAY_ERROR, innermost, kind_of
from search.execution.worker import NodeLeaves
from search.journal.journal import Unwritten

RESET = RuntimeError(
    "[gloo/transport/tcp/pair.cc:537] Read error [127.0.0.1]:25481: Connection reset by peer. GLHF!"
)
DIED = WorkerHealthCheckFailedError(
    "A worker health check failed.", ray.exceptions.ActorDiedError()
)


def of_workers(*failures: Exception) -> ray.exceptions.RayTaskError:
    """The error of a trial whose workers ended so."""
    cause = ray.train.WorkerGroupError(
        "Training failed due to worker errors:", dict(enumerate(failures))
    )
    return ray.exceptions.RayTaskError("train", "a traceback", cause).as_instanceof_cause()


def test_what_is_known_by_name_is_what_ray_raises() -> None:
    assert issubclass(getattr(ray.exceptions, RAY_ERROR), Exception)
    for name in LOST:
        assert issubclass(getattr(ray.exceptions, name), ray.exceptions.RayError)


def test_a_trial_is_lost_with_one_of_its_workers() -> None:
    """Its other workers raise, as their peer is gone; that is not the trial's own fault."""
    assert kind_of(of_workers(RESET, DIED)) == "lost"


def test_a_worker_that_is_cut_off_before_the_death_of_its_peer_is_known_is_lost() -> None:
    assert kind_of(of_workers(RESET)) == "lost"


def test_a_worker_that_raises_fails_its_trial_also_when_its_peer_is_cut_off_by_it() -> None:
    assert kind_of(of_workers(RESET, ValueError("no such luck"))) == "error"


def test_a_worker_without_memory_is_of_memory() -> None:
    assert kind_of(of_workers(RESET, MemoryError("out of memory"))) == "memory"


def test_a_trial_whose_node_is_gone_before_its_worker_starts_is_lost() -> None:
    assert (
        kind_of(
            ray.exceptions.ActorUnschedulableError(
                "The node specified via NodeAffinitySchedulingStrategy doesn't exist any more"
            )
        )
        == "lost"
    )


def test_a_trial_that_leaves_its_node_has_moved() -> None:
    error = ray.exceptions.RayTaskError(
        "train", "a traceback", NodeLeaves("its machine is about to be taken away")
    ).as_instanceof_cause()
    assert kind_of(error) == "moved"
    taken = PreemptionError(PreemptionInfo(deadline_ms=None, preempted_node_to_ranks={"node": [1]}))
    assert (
        kind_of(ray.exceptions.RayTaskError("train", "a traceback", taken).as_instanceof_cause())
        == "moved"
    )


def test_a_connection_that_a_single_process_loses_is_an_error() -> None:
    """Its own code has opened it."""
    assert kind_of(ConnectionResetError("Connection reset by peer")) == "error"


def test_what_the_journal_raised_is_told_as_it_is() -> None:
    """Not what made it raise that: who only hears of a full disk does not know that the search was
    broken off.
    """
    refused = Unwritten("the journal cannot be written")
    refused.__cause__ = OSError("No space left on device")
    wrapped = RuntimeError("Tune's callback failed")
    wrapped.__cause__ = refused
    assert innermost(wrapped) is refused
    assert innermost(refused.__cause__) is refused.__cause__
