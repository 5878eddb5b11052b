"""Events that are written at once."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.storage.bucket import Bucket
from search.journal.bucket_log import JournalCopy
from search.journal.events import Ended, Epoch, Finished, Started
from search.journal.journal import Journal, TakenOver, Unwritten, read

FIRST, SECOND = Epoch("t1", 1, {"val/loss": 1.0}), Ended("t1", "completed", "")
LAST = Finished("completed", "")


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """A journal with its first line."""
    journal = Journal(tmp_path / "s")
    journal.append(Started())
    yield journal
    journal.close()


@pytest.fixture
def syncs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The descriptors that are synced from now on."""
    fsync, synced = os.fsync, list[int]()
    monkeypatch.setattr(os, "fsync", lambda file: (fsync(file), synced.append(file)))
    return synced


def kinds(journal: Journal) -> list[str]:
    return [event.kind for event in read(journal.path)]


def test_events_of_a_group_share_one_write(journal: Journal, syncs: list[int]) -> None:
    order: list[str] = []
    journal.owner = lambda event: order.append(f"owner of {event.number}, {len(kinds(journal))}")
    journal.listeners.append(lambda event: order.append(f"heard {event.number} of {len(syncs)}"))
    with journal.group():
        for data in (FIRST, SECOND):
            event = journal.add(data)
        journal.when_on_disk(lambda: order.append("done"))
        assert (kinds(journal), event.number, syncs) == (["started"], 3, [])
    assert order == ["owner of 2, 1", "owner of 3, 1", "heard 2 of 1", "heard 3 of 1", "done"]
    assert kinds(journal) == ["started", "epoch", "ended"]
    assert journal.size == journal.path.stat().st_size
    journal.append(LAST)
    assert [event.number for event in read(journal.path)] == [1, 2, 3, 4]


def test_outside_a_group_each_event_is_on_disk_at_once(journal: Journal, syncs: list[int]) -> None:
    done: list[int] = []
    for data in (FIRST, SECOND):
        journal.add(data)
        journal.when_on_disk(lambda: done.append(len(kinds(journal))))
    assert (len(syncs), done) == (2, [2, 3])


def test_what_waits_for_a_group_is_done_in_order_and_once(journal: Journal) -> None:
    done: list[str] = []
    with journal.group():
        journal.when_on_disk(lambda: done.append("nothing to wait for"))
        journal.add(FIRST)
        journal.when_on_disk(lambda: done.append("first"))
        with journal.group():  # within another one it changes nothing
            journal.add(SECOND)
        journal.when_on_disk(lambda: done.append("second"))
        assert done == ["nothing to wait for"]
        journal.commit()
        assert done == ["nothing to wait for", "first", "second"]
        assert len(kinds(journal)) == 3
    assert len(done) == 3


def test_an_appended_event_comes_after_those_of_the_group(
    journal: Journal, syncs: list[int]
) -> None:
    with journal.group():
        journal.add(FIRST)
        journal.append(LAST)
        assert kinds(journal) == ["started", "epoch", "finished"]
        journal.add(SECOND)
        assert [event.kind for event in journal.events()] == [
            "started",
            "epoch",
            "finished",
            "ended",
        ]
    assert len(syncs) == 3


def test_another_thread_waits_for_nobody(journal: Journal) -> None:
    """So that the watchdog can write last words while the thread of the group hangs."""
    with journal.group():
        journal.add(FIRST)
        other = threading.Thread(target=lambda: journal.add(LAST))
        other.start()
        other.join(10)
        assert kinds(journal) == ["started", "epoch", "finished"]


def test_a_group_that_breaks_off_is_written_and_not_acted_on(journal: Journal) -> None:
    done: list[str] = []

    def break_off() -> None:
        with journal.group():
            journal.add(FIRST)
            journal.when_on_disk(lambda: done.append("sent"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        break_off()
    assert (kinds(journal), done) == (["started", "epoch"], [])
    with journal.group():
        journal.add(SECOND)
    assert (kinds(journal), done) == (["started", "epoch", "ended"], [])


def test_one_call_that_fails_does_not_keep_others_from_being_made(journal: Journal) -> None:
    done: list[str] = []

    def fail() -> None:
        raise ZeroDivisionError

    def write() -> None:
        with journal.group():
            journal.add(FIRST)
            for call in (lambda: done.append("a"), fail, lambda: done.append("b")):
                journal.when_on_disk(call)

    with pytest.raises(ZeroDivisionError):
        write()
    assert done == ["a", "b"]


def test_a_group_of_a_driver_that_was_taken_over_is_not_acted_on(
    journal: Journal, tmp_path: Path
) -> None:
    done: list[str] = []

    def be_taken_over() -> None:
        with journal.group():
            journal.add(FIRST)
            journal.when_on_disk(lambda: done.append("sent"))
            other, _ = Journal.reopen(tmp_path / "s")
            other.append(LAST)
            other.close()

    with pytest.raises(TakenOver, match="has taken over"):
        be_taken_over()
    assert (kinds(journal), done) == (["started", "finished"], [])


def test_a_signal_while_a_group_is_written_breaks_off_after_it(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[str] = []
    journal.listeners.append(lambda event: heard.append(event.kind))
    fsync = os.fsync

    def signalled(file: int) -> None:
        fsync(file)
        monkeypatch.undo()
        journal.break_off()

    def write() -> None:
        with journal.group():
            journal.add(FIRST)
            journal.add(SECOND)
            monkeypatch.setattr(os, "fsync", signalled)

    with pytest.raises(KeyboardInterrupt):
        write()
    assert kinds(journal) == ["started", "epoch", "ended"]
    assert heard == ["epoch", "ended"]


def test_a_group_that_a_full_disk_refused_is_written_later(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal.patient = False
    pwrite = os.pwrite

    def write_some(file: int, content: bytes, place: int) -> int:
        pwrite(file, content[: len(content) // 2], place)
        raise OSError(28, "No space left on device")

    def write() -> None:
        with journal.group():
            journal.add(FIRST)
            journal.add(SECOND)
            monkeypatch.setattr(os, "pwrite", write_some)

    with pytest.raises(Unwritten, match="No space left"):
        write()
    monkeypatch.undo()
    journal.append(LAST)
    assert kinds(journal) == ["started", "epoch", "ended", "finished"]


def test_a_group_that_was_cut_off_leaves_its_first_events(journal: Journal, tmp_path: Path) -> None:
    """Each could have been the last one anyway."""
    with journal.group():
        journal.add(FIRST)
        journal.add(SECOND)
    content = journal.path.read_bytes()
    journal.path.write_bytes(content[:-10])
    again, events = Journal.reopen(tmp_path / "s")
    assert [event.kind for event in events] == ["started", "epoch"]
    assert again.cut_off > 0
    again.append(SECOND)
    again.close()
    assert kinds(journal) == ["started", "epoch", "ended"]


def test_a_group_is_one_request_to_a_bucket(
    bucket: Bucket, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy, requests, put = JournalCopy(bucket), list[bytes](), Bucket.put
    copy.append(journal.path.read_bytes())
    journal.copy = copy.append

    def count(place: Bucket, content: bytes, *arguments: object, **options: object) -> str:
        requests.append(content)
        return put(place, content, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Bucket, "put", count)
    with journal.group():
        for epoch in range(1, 101):
            journal.add(Epoch("t1", epoch, {"val/loss": 1.0}))
    assert len(requests) == 1
    assert JournalCopy(bucket).read() == journal.path.read_bytes()
    assert len(kinds(journal)) == 101
