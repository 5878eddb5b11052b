import errno
import io
import json
import math
import os
import pickle
import stat
from pathlib import Path
from typing import Any

import pytest

from search.journal import journal as journal_module
from search.journal.events import Ended, Epoch, Finished, Resumed, Started, Suggested
from search.journal.journal import (
    DamagedJournal,
    Event,
    Journal,
    JournalError,
    Tail,
    TakenOver,
    Unwritten,
    read,
)

ENDED = Ended("t1", "completed", "")
LAST = Finished("completed", "")
NEW = Suggested(trial="t1", params={}, config={})


def test_a_line_that_is_completed_while_it_is_read_is_not_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path / "s")
    for data in (NEW, ENDED):
        journal.append(data)
    journal.close()
    content = journal.path.read_bytes()
    begun, rest = content[:-20], content[-20:]
    journal.path.write_bytes(begun)

    class Growing(io.BufferedReader):
        """A file whose last line its writer completes as soon as the beginning was read."""

        def __next__(self) -> bytes:
            line = super().__next__()
            if not line.endswith(b"\n"):
                journal.path.write_bytes(begun + rest)
            return line

    def open_growing(path: Path) -> Growing:
        return Growing(io.FileIO(path))

    monkeypatch.setattr(journal_module, "open_regular", open_growing)
    assert [event.kind for event in read(journal.path)] == ["suggested"]
    assert journal.path.read_bytes() == content
    assert [event.kind for event in read(journal.path)] == ["suggested", "ended"]


def test_what_is_appended_is_read_back_in_order(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "s")
    journal.append(Suggested(trial="t1", params={"optimizer.lr": "ünï ☃\u2028"}, config={}))
    journal.append(ENDED)
    events = read(journal.path)
    assert [(event.number, event.kind) for event in events] == [(1, "suggested"), (2, "ended")]
    assert events[0].data.params == {"optimizer.lr": "ünï ☃\u2028"}
    assert events[0].time_ms <= events[1].time_ms
    journal.close()


def test_an_event_is_on_disk_before_anybody_hears_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = []
    journal = Journal(tmp_path / "s")
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: (fsync(descriptor), order.append("synced")))
    journal.listeners.append(lambda event: order.append(f"heard {len(read(journal.path))}"))
    journal.append(Started())
    assert order == ["synced", "heard 1"]
    journal.close()


def test_only_the_owner_can_read(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "s")
    assert stat.S_IMODE(journal.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(journal.path.parent.stat().st_mode) == 0o700
    journal.close()


def test_a_second_search_of_the_same_name_is_refused(tmp_path: Path) -> None:
    Journal(tmp_path / "s").close()
    with pytest.raises(JournalError, match=r"named 's' already exists in .*"):
        Journal(tmp_path / "s")


def test_nan_never_reaches_the_journal(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "s")
    with pytest.raises(ValueError, match="Out of range float"):
        journal.append(Epoch("t1", 1, {"val/loss": math.nan}))
    journal.close()
    assert read(journal.path) == []


def test_a_last_line_cut_off_by_a_crash_is_left_out(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "s")
    journal.append(Started())
    journal.append(LAST)
    journal.close()
    whole = journal.path.read_bytes()
    journal.path.write_bytes(whole[:-10])
    assert [event.kind for event in read(journal.path)] == ["started"]


@pytest.mark.parametrize("damage", ["garbage\n", '{"n": 2}\n', "[]\n", "\n"])
def test_damage_in_the_middle_is_never_passed_over(tmp_path: Path, damage: str) -> None:
    line = Event(1, 0, Started()).to_line()
    path = tmp_path / "journal.jsonl"
    path.write_text(line + damage + line)
    with pytest.raises(JournalError, match=r"journal\.jsonl:2 is damaged"):
        read(path)


@pytest.mark.parametrize("damage", [b"\xff\xfe\n", Event(5, 0, ENDED).to_line().encode()])
def test_bytes_that_are_no_text_and_lines_that_are_missing_are_damage(
    tmp_path: Path, damage: bytes
) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(Event(1, 0, Started()).to_line().encode() + damage)
    with pytest.raises(DamagedJournal, match=r"journal\.jsonl:2 is damaged"):
        read(path)


def test_a_search_that_is_not_there_is_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="no search at"):
        read(tmp_path / "none" / "journal.jsonl")


def test_a_line_is_plain_json() -> None:
    assert json.loads(Event(7, 8, ENDED).to_line()) == {
        "n": 7,
        "time_ms": 8,
        "event": "ended",
        "trial": "t1",
        "outcome": "completed",
        "reason": "",
        "crc": "b41af61d",
    }


def test_a_journal_is_gone_on_with_after_a_crash_in_the_middle_of_a_line(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "s")
    journal.append(Started())
    journal.append(NEW)
    journal.close()
    whole = journal.path.read_bytes()
    journal.path.write_bytes(whole[:-10])
    again, events = Journal.reopen(tmp_path / "s")
    assert [event.kind for event in events] == ["started"]
    again.append(Resumed())
    again.close()
    assert [(event.number, event.kind) for event in read(journal.path)] == [
        (1, "started"),
        (2, "resumed"),
    ]


def test_a_flipped_digit_is_damage_although_it_is_still_json(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    line = Event(1, 0, Epoch("t1", 1, {"val/accuracy": 0.5})).to_line()
    path.write_text(line.replace("0.5", "0.9"))
    with pytest.raises(
        DamagedJournal, match=r"journal\.jsonl:1 is damaged \(the line.s checksum"
    ) as told:
        read(path)
    assert "backup. Without its first line, the journal cannot be used." in str(told.value)
    assert "head" not in str(told.value)
    path.write_text(Event(1, 0, ENDED).to_line() + line.replace('"n": 1', '"n": 2'))
    with pytest.raises(
        DamagedJournal, match=r"journal\.jsonl:2 .*lines before line 2 \('head -n 1'\)"
    ):
        read(path)


def test_every_flipped_bit_is_found(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    line = Event(1, 0, ENDED).to_line().encode()
    for place in range(len(line) - 1):
        for bit in range(8):
            flipped = bytearray(line)
            flipped[place] ^= 1 << bit
            path.write_bytes(bytes(flipped) + Event(2, 0, LAST).to_line().encode())
            with pytest.raises(DamagedJournal):
                read(path)


def test_a_pickle_is_no_journal(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(pickle.dumps({"n": 1}) + b"\n")
    with pytest.raises(DamagedJournal):
        read(path)


def test_a_full_disk_is_waited_for_and_leaves_no_half_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    journal = Journal(tmp_path / "s", complain=said.append)
    journal.append(Started())
    pwrite, refusals = os.pwrite, [1, 1, 1]

    def sometimes_full(descriptor: int, content: bytes, place: int) -> int:
        if refusals:
            refusals.pop()
            pwrite(descriptor, content[:5], place)
            raise OSError(errno.ENOSPC, "No space left on device")
        return pwrite(descriptor, content, place)

    monkeypatch.setattr(os, "pwrite", sometimes_full)
    monkeypatch.setattr(journal_module, "RETRY_S", (0,))
    journal.append(NEW)
    journal.close()
    assert [event.kind for event in read(journal.path)] == ["started", "suggested"]
    assert len(said) == 2
    assert "No space left on device" in said[0]
    assert "can be written again" in said[1]


def test_a_driver_that_was_replaced_writes_no_more(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "s")
    journal.other_driver = lambda: "process 7 on other"
    with pytest.raises(TakenOver, match="process 7 on other has taken over this search"):
        journal.append(Started())
    journal.close()
    assert read(journal.path) == []


def test_lines_of_another_driver_are_not_written_over(tmp_path: Path) -> None:
    """Its lease was taken over unseen: by a machine whose locks do not reach this one, while this
    one was stopped.
    """
    old = Journal(tmp_path / "s")
    old.append(Started())
    new, _ = Journal.reopen(tmp_path / "s")
    new.append(Resumed())
    with pytest.raises(TakenOver, match="has lines that this process did not write"):
        old.append(NEW)
    new.append(LAST)
    assert [event.kind for event in read(new.path)] == ["started", "resumed", "finished"]
    old.close()
    new.close()


def test_a_driver_that_waited_for_its_disk_cuts_off_nothing_of_its_successor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its network was away in the midst of a line; meanwhile another driver has come, written, and
    gone.
    """
    monkeypatch.setattr(journal_module, "RETRY_S", (0,))
    old = Journal(tmp_path / "s")
    old.append(Started())
    pwrite = os.pwrite

    def cut_off(descriptor: int, content: bytes, place: int) -> int:
        pwrite(descriptor, content[:5], place)
        monkeypatch.undo()
        new, _ = Journal.reopen(tmp_path / "s")
        new.append(Resumed())
        new.close()
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "pwrite", cut_off)
    with pytest.raises(TakenOver, match="has lines that this process did not write"):
        old.append(NEW)
    old.close()
    assert [event.kind for event in read(old.path)] == ["started", "resumed"]


def test_a_lease_that_cannot_be_read_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "RETRY_S", (0,))
    journal, refusals = Journal(tmp_path / "s"), [OSError(errno.EIO, "Input/output error")]

    def other() -> str:
        if refusals:
            raise refusals.pop()
        return ""

    journal.other_driver = other
    journal.append(Started())
    journal.close()
    assert [event.kind for event in read(journal.path)] == ["started"]


@pytest.mark.parametrize("call", ["pwrite", "fsync"])
def test_a_signal_in_the_midst_of_a_line_breaks_off_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """A long line is being written; the shorter last one must not leave its end behind."""
    journal, heard = Journal(tmp_path / "s"), list[str]()
    journal.listeners.append(lambda event: heard.append(event.kind))
    plain = getattr(os, call)

    def signalled(*arguments: Any) -> Any:
        result = plain(*arguments)
        journal.break_off()
        return result

    monkeypatch.setattr(os, call, signalled)
    with pytest.raises(KeyboardInterrupt):
        journal.append(
            Suggested(trial="t1", params={"optimizer.lr": 0.1, "batch_size": 64}, config={})
        )
    monkeypatch.undo()
    journal.append(LAST)
    assert [event.kind for event in read(journal.path)] == heard == ["suggested", "finished"]
    with pytest.raises(KeyboardInterrupt):
        journal.break_off()
    journal.close()


def test_a_line_that_was_refused_after_it_was_written_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path / "s")
    journal.patient = False

    def refused(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", refused)
    with pytest.raises(Unwritten, match=r"cannot be written \(Input/output error\)"):
        journal.append(Suggested(trial="t1", params={"optimizer.lr": 0.1}, config={}))
    monkeypatch.undo()
    journal.append(LAST)
    journal.close()
    assert [event.kind for event in read(journal.path)] == ["finished"]


def test_a_tail_reads_each_event_once_and_no_half_line(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "s")
    tail = Tail(journal.path)
    assert tail.new() == []
    first, second = (
        journal.append(Started()),
        journal.append(NEW),
    )
    assert tail.new() == [first, second]
    with journal.path.open("a") as file:
        file.write('{"n": 3')
    assert tail.new() == []
    journal.path.write_bytes(journal.path.read_bytes()[:-7])
    third = journal.append(LAST)
    assert tail.new() == [third]
    journal.close()


def test_who_wants_to_end_at_once_does_not_wait_for_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int, content: bytes, place: int) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    journal = Journal(tmp_path / "s")
    journal.patient = False
    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(JournalError, match=r"cannot be written \(No space left on device\)"):
        journal.append(LAST)
    journal.close()


def test_half_a_surrogate_pair_in_a_reason_is_written_as_a_replacement(tmp_path: Path) -> None:
    """A file's name that is no UTF-8 comes to Python so."""
    journal = Journal(tmp_path / "s")
    told = journal.append(
        Ended(trial="t1", outcome="failed", reason="no such file: 'b\udce4r.png'")
    )
    journal.close()
    (event,) = read(journal.path)
    assert told == event
    assert event.data.reason == "no such file: 'b\ufffdr.png'"


def test_how_much_of_a_half_written_line_was_cut_off_is_known(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "s")
    journal.append(ENDED)
    journal.close()
    whole, _ = Journal.reopen(tmp_path / "s")
    assert whole.cut_off == 0
    whole.close()
    with journal.path.open("ab") as file:
        file.write(b'{"n": 2, "ti')
    again, events = Journal.reopen(tmp_path / "s")
    assert (again.cut_off, len(events)) == (12, 1)
    again.close()
