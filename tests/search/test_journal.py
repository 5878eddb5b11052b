import json
import math
import os
import stat
from pathlib import Path

import pytest

from search.journal import DamagedJournal, Event, Journal, JournalError, read


def test_what_is_appended_is_read_back_in_order(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "s")
    journal.append("suggested", trial="t1", params={"optimizer.lr": 0.1}, text="ünï ☃\u2028")
    journal.append("ended", trial="t1", outcome="completed", reason="")
    events = read(journal.path)
    assert [(event.number, event.kind) for event in events] == [(1, "suggested"), (2, "ended")]
    assert events[0].data["text"] == "ünï ☃\u2028"
    assert events[0].time_ms <= events[1].time_ms
    journal.close()


def test_an_event_is_on_disk_before_anybody_hears_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order = []
    journal = Journal(tmp_path / "s")
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: (fsync(descriptor), order.append("synced")))
    journal.listeners.append(lambda event: order.append(f"heard {len(read(journal.path))}"))
    journal.append("started")
    assert order == ["synced", "heard 1"]
    journal.close()


def test_only_the_owner_can_read(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "s")
    assert stat.S_IMODE(journal.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(journal.path.parent.stat().st_mode) == 0o700
    journal.close()


def test_a_second_search_of_the_same_name_is_refused(tmp_path: Path) -> None:
    Journal(tmp_path / "s").close()
    with pytest.raises(JournalError, match=r"named 's' is in .* already"):
        Journal(tmp_path / "s")


def test_nan_never_reaches_the_journal(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "s")
    with pytest.raises(ValueError, match="Out of range float"):
        journal.append("epoch", metrics={"val/loss": math.nan})
    journal.close()
    assert read(journal.path) == []


def test_a_last_line_cut_off_by_a_crash_is_left_out(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "s")
    journal.append("started")
    journal.append("finished")
    journal.close()
    whole = journal.path.read_bytes()
    journal.path.write_bytes(whole[:-10])
    assert [event.kind for event in read(journal.path)] == ["started"]


@pytest.mark.parametrize("damage", ["garbage\n", '{"n": 2}\n', "[]\n", "\n"])
def test_damage_in_the_middle_is_never_passed_over(tmp_path: Path, damage: str) -> None:
    line = Event(1, 0, "started", {}).to_line()
    path = tmp_path / "journal.jsonl"
    path.write_text(line + damage + line)
    with pytest.raises(JournalError, match=r"journal\.jsonl:2 is damaged"):
        read(path)


@pytest.mark.parametrize("damage", [b"\xff\xfe\n", Event(5, 0, "ended", {}).to_line().encode()])
def test_bytes_that_are_no_text_and_lines_that_are_missing_are_damage(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(Event(1, 0, "started", {}).to_line().encode() + damage)
    with pytest.raises(DamagedJournal, match=r"journal\.jsonl:2 is damaged"):
        read(path)


def test_a_search_that_is_not_there_is_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="no search at"):
        read(tmp_path / "none" / "journal.jsonl")


def test_a_line_is_plain_json() -> None:
    assert json.loads(Event(7, 8, "ended", {"trial": "t1"}).to_line()) == {
        "n": 7,
        "time_ms": 8,
        "event": "ended",
        "trial": "t1",
        "crc": "c84f4488",
    }
