"""Requests where a search is kept: a folder, and a bucket."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from cluster.storage.bucket import Bucket
from search.journal.requests import (
    EXTEND,
    MAX_AT_ONCE,
    MAX_BYTES,
    PAUSE,
    STOP,
    DriverRequest,
    Inbox,
    Unreadable,
    ask,
    waiting_requests,
    withdraw,
)
from search.journal.store import REQUESTS, Home, home
from trainables.errors import ConfigError


@pytest.fixture(params=["folder", "bucket"])
def kept(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A place of a search, in each kind of storage."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    if request.param == "bucket":
        bucket: Bucket = request.getfixturevalue("bucket")
        return home(bucket, "s")
    (tmp_path / "s").mkdir()
    return home(tmp_path, "s")


def put(kept: Home, name: str, content: bytes) -> None:
    kept.ask(name, content)


def plain(**values: Any) -> bytes:
    told = {"id": "one", "action": STOP, "by": "ada@lab", "asked_ms": 1, **values}
    return json.dumps({name: value for name, value in told.items() if value is not None}).encode()


def test_what_is_asked_is_there_in_the_order_of_time_until_it_is_withdrawn(kept: Home) -> None:
    first = DriverRequest(id="0001-b", action=STOP, by="ada@lab", asked_ms=1, trial="t0001")
    second = DriverRequest(id="0002-a", action=EXTEND, by="bob (page)", asked_ms=2, budget=("+1h",))
    assert waiting_requests(kept) == []
    ask(kept, second)
    ask(kept, first)
    assert waiting_requests(kept) == [first, second]
    assert waiting_requests(kept, {"0001-b"}) == [second]
    withdraw(kept, "0001-b")
    withdraw(kept, "0001-b")
    assert waiting_requests(kept) == [second]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"{", "Expecting"),
        (b"[]", "it is not a JSON object (got list)"),
        (b"[" * 3000, "recursion|Expecting value"),  # Python 3.13 reads so many levels
        (b"\xff\xfe", "codec"),
        (plain(action="format"), "action must be one of stop, pause, extend"),
        (plain(action=None), "the field 'action' is missing"),
        (plain(asked_ms="now"), "asked_ms must be a Unix time in milliseconds"),
        (plain(asked_ms=True), "asked_ms must be a Unix time in milliseconds"),
        (plain(by=["ada"]), "by must be a text of at most 200 characters"),
        (plain(trial="t" * 1000), "trial must be a text of at most 64 characters"),
        (plain(trial=7), "trial must be a text of at most 64 characters"),
        (plain(trials="9"), "a request to stop accepts no options (got --trials)"),
        (plain(action=EXTEND, trials="-3"), "--trials must be"),
        (plain(action=EXTEND, trials=3), "--trials must be"),
        (plain(action=EXTEND, budget="1h"), "--budget must be"),
        (plain(action=EXTEND, budget=[1]), "--budget must be"),
        (plain(action=EXTEND, price=float("inf")), "--price must be"),
        (plain(action=EXTEND, concurrency=2.5), "--concurrency must be"),
        (plain(action=PAUSE, trial="t0001"), "a request to pause"),
        (
            plain(shell="rm"),
            "it has the field 'shell', which this version of the program does not know",
        ),
        (plain(id="two"), "the request's id differs from its file name"),
        (b" " * (MAX_BYTES + 1), "but at most 4,096 are allowed"),
    ],
)
def test_what_is_no_request_is_named_with_the_reason(
    tmp_path: Path, content: bytes, why: str
) -> None:
    (tmp_path / "s").mkdir()
    kept = home(tmp_path, "s")
    put(kept, "one.json", content)
    (found,) = waiting_requests(kept)
    assert isinstance(found, Unreadable)
    assert any(part in found.reason for part in why.split("|"))
    assert len(found.reason) <= 200


def test_a_bucket_tells_the_size_of_what_is_too_large_to_be_fetched(bucket: Bucket) -> None:
    kept = home(bucket, "s")
    put(kept, "one.json", b" " * (MAX_BYTES + 1))
    (found,) = waiting_requests(kept)
    assert isinstance(found, Unreadable)
    assert "4,097 bytes" in found.reason


def test_links_pipes_and_folders_are_no_requests_and_hold_nobody_up(tmp_path: Path) -> None:
    place = tmp_path / "s" / REQUESTS
    (place / "folder.json").mkdir(parents=True)
    os.mkfifo(place / "pipe.json")
    secret = tmp_path / "secret"
    secret.write_bytes(plain(id="link"))
    (place / "link.json").symlink_to(secret)
    found = waiting_requests(home(tmp_path, "s"))
    assert [one.id for one in found if isinstance(one, Unreadable)] == ["folder", "link", "pipe"]


def test_a_pipe_that_somebody_holds_open_is_no_request(tmp_path: Path) -> None:
    (tmp_path / "s" / REQUESTS).mkdir(parents=True)
    pipe = tmp_path / "s" / REQUESTS / "pipe.json"
    os.mkfifo(pipe)
    held = os.open(pipe, os.O_RDWR)
    try:
        (found,) = waiting_requests(home(tmp_path, "s"))
    finally:
        os.close(held)
    assert found == Unreadable("pipe", "it is not a regular file")


def test_the_folder_of_requests_may_be_no_link_to_other_files(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "one.json").write_bytes(plain())
    (tmp_path / "s" / REQUESTS).symlink_to(tmp_path / "project")
    kept, told = home(tmp_path, "s"), list[str]()
    with Inbox(kept, say=told.append) as inbox:
        inbox.look()
        assert inbox.next() is None
        inbox.mark_answered("one")
    assert (tmp_path / "project" / "one.json").exists()
    (line,) = told
    assert "cannot be read" in line
    with pytest.raises(OSError, match="director"):
        kept.drop_request("one.json")


def test_a_request_that_grows_while_it_is_looked_at_is_not_read_whole(kept: Home) -> None:
    put(kept, "one.json", b" " * 10**6)
    assert len(kept.request("one.json", MAX_BYTES + 1)) == MAX_BYTES + 1


def test_whatever_is_wrong_with_a_request_the_inbox_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "s").mkdir()
    kept, told, one = home(tmp_path, "s"), list[str](), DriverRequest.now(STOP, by="ada@lab")
    ask(kept, one)

    def fail(self: Home, request: str, most: int) -> bytes:
        raise AttributeError("a mistake")

    inbox = Inbox(kept, say=told.append)
    with monkeypatch.context() as patched:
        patched.setattr(Home, "request", fail)
        inbox.look()
        inbox.look()
    inbox.look()
    assert inbox.next() == one
    assert told == [
        "note: requests to stop, pause or extend this search cannot be read (a mistake). The "
        "search continues and tries again."
    ]


def test_the_folder_of_requests_is_open_to_whom_the_search_is(tmp_path: Path) -> None:
    for mode in (0o700, 0o2770):
        (tmp_path / f"{mode}").mkdir()
        (tmp_path / f"{mode}").chmod(mode)
        kept = home(tmp_path, f"{mode}")
        kept.open_for_requests()
        assert (kept.folder / REQUESTS).stat().st_mode & 0o7777 == mode
        kept.open_for_requests()


def test_what_cannot_be_removed_is_tried_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "s" / REQUESTS / "folder.json").mkdir(parents=True)
    kept, tried, drop = home(tmp_path, "s"), list[str](), Home.drop_request

    def counted(self: Home, request: str) -> None:
        tried.append(request)
        drop(self, request)

    monkeypatch.setattr(Home, "drop_request", counted)
    inbox = Inbox(kept)
    inbox.mark_answered("folder")
    inbox._drop()
    inbox._drop()
    assert tried == ["folder.json"]


def test_what_has_another_name_is_left_alone(kept: Home) -> None:
    for name in (".one.json.12345678", "one.txt", "-x.json", "a b.json"):
        put(kept, name, plain())
    assert waiting_requests(kept) == []


@pytest.mark.parametrize(
    "values",
    [
        {"action": EXTEND},
        {"action": STOP, "concurrency": 2},
        {"action": EXTEND, "trials": "0"},
        {"action": EXTEND, "trials": "+" + "9" * 12},
        {"action": EXTEND, "concurrency": 0},
        {"action": EXTEND, "price": -1.0},
        {"action": EXTEND, "budget": ("1h",) * 9},
    ],
)
def test_nothing_that_a_driver_would_not_read_is_asked(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        DriverRequest.now(**values)


def test_an_inbox_gives_out_each_request_once_and_removes_what_was_answered(kept: Home) -> None:
    before, later = (DriverRequest.now(PAUSE, by="ada@lab") for _ in range(2))
    ask(kept, before)
    with Inbox(kept) as inbox:
        ask(kept, later)
        inbox.look()
        inbox.look()
        assert inbox.is_from_before(before.id)
        assert not inbox.is_from_before(later.id)
        assert [inbox.next(), inbox.next(), inbox.next()] == [before, later, None]
        inbox.mark_answered(before.id)
    assert waiting_requests(kept) == [later]


def test_all_that_was_there_before_a_session_counts_so_however_late_it_is_read(
    tmp_path: Path,
) -> None:
    (tmp_path / "s").mkdir()
    kept = home(tmp_path, "s")
    many = [DriverRequest.now(PAUSE, by="ada@lab") for _ in range(MAX_AT_ONCE + 1)]
    for one in many:
        ask(kept, one)
    inbox = Inbox(kept)
    inbox.look()
    inbox.look()
    read = [one for _ in many if (one := inbox.next()) is not None]
    assert len(read) == len(many)
    assert all(inbox.is_from_before(one.id) for one in read)


def test_an_inbox_waits_for_a_storage_that_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "s").mkdir()
    kept = home(tmp_path, "s")
    one = DriverRequest.now(PAUSE, by="ada@lab")
    ask(kept, one)

    def refuse(self: Home) -> dict[str, int]:
        raise OSError("the disk is gone")

    with monkeypatch.context() as patched:
        patched.setattr(Home, "requests", refuse)
        inbox = Inbox(kept)
        inbox.look()
        assert inbox.next() is None
    inbox.look()
    assert inbox.next() == one
    assert inbox.is_from_before(one.id), "the look that failed saw nothing"
