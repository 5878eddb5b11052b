from pathlib import Path

import pytest

from cluster.storage.bucket import Bucket, StorageError, WriteConflict
from search.journal import bucket_log
from search.journal.bucket_log import JournalCopy
from search.journal.events import Finished, Started, Suggested
from search.journal.journal import FILE_NAME, DamagedJournal, Journal, TakenOver, read


def lines(count: int, first: int = 0) -> list[bytes]:
    return [f"line {number}\n".encode() for number in range(first, first + count)]


def test_what_was_added_is_read_in_order_whatever_the_pieces(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket_log, "PIECE", 20)
    copy = JournalCopy(bucket)
    assert copy.read() == b""
    for line in lines(10):
        copy.append(line)
    assert len(bucket.listing()) > 2
    again = JournalCopy(bucket)
    assert again.read() == b"".join(lines(10))
    for line in lines(10, 10):
        again.append(line)
    assert JournalCopy(bucket).read() == b"".join(lines(20))


@pytest.mark.parametrize("written", [1, 5], ids=["in the same piece", "in a new piece"])
def test_who_was_taken_over_adds_nothing_more(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, written: int
) -> None:
    monkeypatch.setattr(bucket_log, "PIECE", 30)
    old = JournalCopy(bucket)
    for line in lines(written):
        old.append(line)
    new = JournalCopy(bucket)
    new.read()
    new.append(b"new driver\n")
    with pytest.raises(WriteConflict):
        old.append(b"old driver\n")
    assert JournalCopy(bucket).read() == b"".join(lines(written)) + b"new driver\n"


def test_a_line_whose_answer_was_lost_is_not_added_twice(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = Bucket.put

    def put_and_lose(place: Bucket, *arguments: object, **options: object) -> str:
        put(place, *arguments, **options)  # type: ignore[arg-type]
        raise StorageError("the answer was lost")

    copy = JournalCopy(bucket)
    copy.append(b"1\n")
    with monkeypatch.context() as patched:
        patched.setattr(Bucket, "put", put_and_lose)
        with pytest.raises(StorageError):
            copy.append(b"2\n")
    copy.append(b"2\n")
    copy.append(b"3\n")
    assert JournalCopy(bucket).read() == b"1\n2\n3\n"


def test_a_piece_that_is_missing_is_told(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bucket_log, "PIECE", 1)
    copy = JournalCopy(bucket)
    for line in lines(3):
        copy.append(line)
    bucket.remove(["000002"])
    with pytest.raises(
        DamagedJournal, match=r"a piece of the journal in .* is missing \(found 000001, 000003"
    ):
        JournalCopy(bucket).read()


def test_nobody_hears_of_an_event_before_it_is_in_the_bucket(
    bucket: Bucket, tmp_path: Path
) -> None:
    copy, journal = JournalCopy(bucket), Journal(tmp_path)
    journal.copy = copy.append
    heard: list[tuple[str, bool]] = []
    journal.listeners.append(
        lambda event: heard.append(
            (event.kind, f'"{event.kind}"'.encode() in JournalCopy(bucket).read())
        )
    )
    journal.append(Started())
    journal.append(Finished("completed", ""))
    assert heard == [("started", True), ("finished", True)]
    assert JournalCopy(bucket).read() == (tmp_path / FILE_NAME).read_bytes()


def test_a_bucket_that_refuses_for_a_while_is_waited_for(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search.journal.journal.RETRY_S", (0.01,))
    said, copy, refusals = list[str](), JournalCopy(bucket), iter([True, True, False])
    journal = Journal(tmp_path, complain=said.append)

    def refuse_twice(line: bytes) -> None:
        if next(refusals, False):
            raise StorageError("s3://models: HTTP 503 SlowDown")
        copy.append(line)

    journal.copy = refuse_twice
    journal.append(Started())
    assert [event.kind for event in read(tmp_path / FILE_NAME)] == ["started"]
    assert JournalCopy(bucket).read() == (tmp_path / FILE_NAME).read_bytes()
    assert len(said) == 2
    assert "(s3://models: HTTP 503 SlowDown). The search waits, and continues when" in said[0]


def test_a_driver_that_was_taken_over_learns_it_from_the_bucket(
    bucket: Bucket, tmp_path: Path
) -> None:
    old, new = Journal(tmp_path / "old"), JournalCopy(bucket)
    old.copy = JournalCopy(bucket).append
    old.append(Started())
    new.read()
    new.append(b"resumed\n")
    with pytest.raises(TakenOver, match="another process has taken over this search"):
        old.append(Suggested(trial="t1", params={}, config={}))
