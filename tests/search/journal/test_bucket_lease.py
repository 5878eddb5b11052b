import json
import os
import socket
import threading
from typing import Any

import pytest

from cluster.storage.bucket import Bucket, StorageError
from search.journal import bucket_lease
from search.journal.bucket_lease import BucketLease, _here, holder_in
from search.journal.lease import FILE_NAME, LeaseHeld


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bucket_lease, "BEAT_S", 0.05)


def lease(bucket: Bucket, **options: Any) -> BucketLease:
    return BucketLease(bucket, "mine", **{"patience_s": 0.3, **options})


def leave_lock(bucket: Bucket, **holder: Any) -> None:
    bucket.put(
        json.dumps(
            {"host": "far", "pid": 7, "boot": "another", "token": "t", "beat": 3, **holder}
        ).encode(),
        FILE_NAME,
    )


def test_a_second_driver_is_refused_and_told_who_holds_it(bucket: Bucket) -> None:
    with lease(bucket):
        assert (
            holder_in(bucket.get(FILE_NAME)) == f"process {os.getpid()} on {socket.gethostname()}"
        )
        with (
            pytest.raises(
                LeaseHeld,
                match=f"the search 'mine' is being run by process {os.getpid()} "
                f"on {socket.gethostname()}",
            ),
            lease(bucket, patience_s=100),
        ):
            pass
    assert holder_in(bucket.get(FILE_NAME)) == ""
    with lease(bucket):
        pass


def test_a_holder_that_stands_still_is_waited_for_and_taken_over(bucket: Bucket) -> None:
    leave_lock(bucket)
    said: list[str] = []
    with lease(bucket, say=said.append):
        assert holder_in(bucket.get(FILE_NAME)).startswith(f"process {os.getpid()} on")
    assert said == [
        "the search was last run by process 7 on far; waiting 0.3 s to check whether "
        "that process is still alive"
    ]


def test_a_holder_of_this_machine_that_is_dead_is_not_waited_for(bucket: Bucket) -> None:
    leave_lock(bucket, **{**vars(_here()), "pid": 2**22 + 1})
    said: list[str] = []
    with lease(bucket, say=said.append, patience_s=100):
        assert said == []


def test_a_process_of_another_container_of_this_machine_is_not_taken_for_dead(
    bucket: Bucket,
) -> None:
    leave_lock(bucket, **{**vars(_here()), "processes": "pid:[1]", "pid": 2**22 + 1})
    said: list[str] = []
    with lease(bucket, say=said.append):
        assert len(said) == 1


def test_one_that_was_taken_over_learns_it_and_leaves_the_lock_alone(bucket: Bucket) -> None:
    heard = threading.Event()
    with lease(bucket) as held:
        leave_lock(bucket)
        while not held.other_driver():
            heard.wait(0.01)
        assert held.other_driver() == "process 7 on far"
    assert holder_in(bucket.get(FILE_NAME)) == "process 7 on far"


def test_a_storage_that_refuses_for_a_while_costs_the_lease_nothing(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    put, refusals = Bucket.put, 3
    went_on = threading.Event()

    def refuse(place: Bucket, *arguments: Any, **options: Any) -> str:
        nonlocal refusals
        refusals -= 1
        if refusals >= 0:
            put(place, *arguments, **options) if refusals == 0 else None  # the last answer is lost
            raise StorageError("HTTP 503")
        went_on.set()
        return put(place, *arguments, **options)

    with lease(bucket) as held:
        monkeypatch.setattr(Bucket, "put", refuse)
        assert went_on.wait(600)
        assert held.other_driver() == ""
    assert holder_in(bucket.get(FILE_NAME)) == ""


def test_it_is_let_go_although_the_storage_refuses_now_and_then(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    put, refusals = Bucket.put, 0

    def refuse(place: Bucket, *arguments: Any, **options: Any) -> str:
        nonlocal refusals
        refusals -= 1
        if refusals >= 0:
            raise StorageError("HTTP 503")
        return put(place, *arguments, **options)

    monkeypatch.setattr(bucket_lease, "BEAT_S", 60)
    with lease(bucket):
        monkeypatch.setattr(Bucket, "put", refuse)
        refusals = 2
    assert holder_in(bucket.get(FILE_NAME)) == ""


def test_of_two_who_take_over_at_once_one_is_refused(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_lock(bucket)
    outcomes: list[str] = []
    start, put, one_at_a_time = threading.Barrier(2), Bucket.put, threading.Lock()

    def put_whole(*arguments: Any, **options: Any) -> str:
        with one_at_a_time:  # moto looks at the condition and puts in two steps
            return put(*arguments, **options)

    monkeypatch.setattr(Bucket, "put", put_whole)

    def take() -> None:
        start.wait()
        try:
            with lease(bucket, patience_s=2):
                outcomes.append("held")
                while len(outcomes) < 2:
                    threading.Event().wait(0.01)
        except LeaseHeld:
            outcomes.append("refused")

    both = [threading.Thread(target=take) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert sorted(outcomes) == ["held", "refused"]
