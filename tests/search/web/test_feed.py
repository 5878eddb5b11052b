"""Searches as pages follow them: read once and on, in a folder and in a bucket, bounded."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.storage.bucket import Bucket
from search.design.experiment import Experiment
from search.journal.bucket_log import JournalCopy
from search.journal.events import Ended, Resumed, Running
from search.journal.journal import FILE_NAME, DamagedJournal, Journal, JournalError
from search.journal.lease import Lease
from search.journal.result import SearchResult
from search.journal.store import BucketHome
from search.web import feed as feed_module
from search.web.feed import Behind, Feed, Followed, SearchGone
from search.web.slow import Slow
from search.web.stream import _Stream
from tests.support.played import OpenDriver, play

BUSY_S = 600
"""How long a busy machine may take for what must come."""


def of(experiment: Experiment) -> Followed:
    return Followed(experiment.storage, experiment.name)


def test_what_is_followed_is_what_is_read_whole(played: Experiment) -> None:
    followed = of(played)
    assert followed.look()
    whole = SearchResult.read(played.folder)
    assert followed.result.trials == whole.trials
    assert followed.course is not None
    best = max(trial.value for trial in whole.ranking)
    assert (followed.course.records[-1].value, followed.course.epochs) == (best, 54)
    assert not followed.look(), "nothing is new"


def test_new_lines_alone_are_read_and_told(open_driver: OpenDriver, experiment: Experiment) -> None:
    driver, followed = play(open_driver(experiment), events=6), of(experiment)
    with Lease(experiment.folder):
        followed.look()
        number, version = followed.number, followed.version
        play(driver, events=12)
        assert followed.look()
        points, trials = followed.since(number)
        assert [one.number for one in points] == sorted(one.number for one in points)
        assert all(one.number > number for one in points)
        assert len(points) + len(trials) > 0
        assert followed.version > version
        assert followed.since(followed.number) == ([], [])


def test_a_search_whose_driver_is_gone_is_shown_as_cut_off(
    open_driver: OpenDriver, experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_module, "HOLDER_S", 0)
    driver, followed = play(open_driver(experiment), events=6), of(experiment)
    with Lease(experiment.folder):
        followed.look()
        assert "running" in followed.result.counts
    assert followed.look(), "though no line was written"
    assert "running" not in followed.result.counts
    driver.journal.append(Resumed(slots=1, began_ms=1))
    driver.journal.append(Running("t0001", 2, "here"))
    with Lease(experiment.folder):
        followed.look()
        assert followed.result.trials["t0001"].outcome == "running"


def test_a_failed_trial_gives_its_record_back(played: Experiment) -> None:
    followed = of(played)
    followed.look()
    assert followed.course is not None
    best = followed.course.records[-1]
    journal, _ = Journal.reopen(played.folder)
    journal.append(Ended(best.trial, "diverged", "it is NaN"))
    journal.close()
    followed.look()
    assert best.trial not in {record.trial for record in followed.course.records}
    assert followed.result.best is not None
    assert followed.course.records[-1].value == followed.result.best.value


def test_another_search_of_the_same_name_is_read_anew(played: Experiment) -> None:
    followed = of(played)
    followed.look()
    path = played.folder / FILE_NAME
    few = path.read_bytes().splitlines(keepends=True)[:4]
    path.unlink()
    path.write_bytes(b"".join(few))
    followed.look()
    assert followed.number == 4
    assert len(followed.points) < 4


def test_a_search_that_is_gone_or_damaged_says_so(played: Experiment) -> None:
    followed = of(played)
    followed.look()
    path = played.folder / FILE_NAME
    path.write_bytes(path.read_bytes() + b"nonsense\n")
    with pytest.raises(DamagedJournal):
        followed.look()
    path.unlink()
    with pytest.raises(JournalError, match="there is no search 'played'"):
        followed.look()


def test_in_a_bucket_the_last_pieces_alone_are_fetched(
    played: Experiment, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search.journal.bucket_log.PIECE", 2000)
    monkeypatch.setattr(BucketHome, "holder", lambda home: "somebody")
    lines = (played.folder / FILE_NAME).read_bytes().splitlines(keepends=True)
    copy = JournalCopy(bucket / "played" / FILE_NAME)
    for line in lines[:-3]:
        copy.append(line)
    followed = Followed(bucket, "played")
    followed.look()
    assert followed.number == len(lines) - 3
    fetched, get = list[str](), Bucket.get

    def counted(self: Bucket, part: str = "") -> object:
        fetched.append(part)
        return get(self, part)

    monkeypatch.setattr(Bucket, "get", counted)
    for line in lines[-3:]:
        copy.append(line)
    followed.look()
    assert followed.number == len(lines)
    assert len([part for part in fetched if part.isdigit()]) <= 2, "of dozens of pieces"


def test_who_is_too_far_behind_begins_anew(
    played: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_module, "MAX_POINTS", 5)
    followed = of(played)
    followed.look()
    assert len(followed.points) < 10
    assert followed.since(followed.points[0].number)
    with pytest.raises(Behind):
        followed.since(1)
    with pytest.raises(Behind):
        followed.since(10**6)


async def next_of(told: AsyncIterator[bytes], kind: str) -> str:
    async for one in told:
        if f"event: {kind}\n".encode() in one:
            return one.decode()
    raise AssertionError(f"no {kind}")


def test_a_page_hears_of_an_epoch_and_goes_on_from_there(
    open_driver: OpenDriver, experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_module, "LOOK_S", 0.01)
    driver = play(open_driver(experiment), events=8)

    async def watch(feed: Feed) -> None:
        followed = await feed.follow("played")
        number, made = followed.number, followed.view("parts")

        def stream(after: int) -> AsyncIterator[bytes]:
            stream = _Stream(followed, made, lambda result: "{}", after, followed.version)
            return stream.events(feed)

        told = stream(number)
        await anext(told)
        play(driver, events=12)
        first = await next_of(told, "epochs")
        points = json.loads(first.partition("data: ")[2])["points"]
        assert all(value is not None for point in points for value in point)
        last = int(first.partition("id: ")[2].partition("\n")[0])
        assert last > number
        again = stream(last)
        await anext(again)
        play(driver, events=16)
        later = json.loads((await next_of(again, "epochs")).partition("data: ")[2])["points"]
        assert not {tuple(one[:2]) for one in points} & {tuple(one[:2]) for one in later}
        feed.end()
        for one in (told, again):
            assert b"reset" not in b"".join([piece async for piece in one]), "they end"
        assert not followed.watchers
        assert followed.task is None

    with Lease(experiment.folder):
        asyncio.run(watch(Feed(experiment.storage)))


def test_a_page_of_before_the_date_was_set_back_gets_its_parts(played: Experiment) -> None:
    async def watch(feed: Feed) -> None:
        followed = await feed.follow("played")
        seen = followed.version + 10**9
        told = _Stream(followed, followed.view("x"), lambda result: "{}", 0, seen).events(feed)
        await next_of(told, "parts")
        await told.aclose()  # type: ignore[attr-defined]

    asyncio.run(asyncio.wait_for(watch(Feed(played.storage)), BUSY_S))


def test_parts_are_made_once_for_all_who_show_the_same(played: Experiment) -> None:
    made = list[int]()

    def make(result: SearchResult) -> str:
        made.append(len(result.trials))
        return "{}"

    async def watch(feed: Feed) -> None:
        followed = await feed.follow("played")
        every = [_Stream(followed, followed.view("x"), make, 0, 0).events(feed) for _ in range(20)]
        await asyncio.gather(*(next_of(one, "parts") for one in every))
        for one in every:
            await one.aclose()  # type: ignore[attr-defined]

    asyncio.run(watch(Feed(played.storage)))
    assert made == [9]


async def all_of(feed: Feed, followed: Followed) -> bytes:
    """Return all that a page is sent until its stream ends by itself."""
    stream = _Stream(followed, followed.view("x"), lambda result: "{}", followed.number, 10**15)
    return b"".join([piece async for piece in stream.events(feed)])


@pytest.mark.parametrize("is_seen_by", ["the watcher", "another page"])
def test_a_search_that_is_deleted_while_shown_ends_its_pages(
    is_seen_by: str, played: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_module, "LOOK_S", 0.01 if is_seen_by == "the watcher" else 60)

    async def watch(feed: Feed) -> None:
        followed = await feed.follow("played")
        page = asyncio.create_task(all_of(feed, followed))
        while not followed.watchers:
            await asyncio.sleep(0)
        (played.folder / FILE_NAME).unlink()
        if is_seen_by == "another page":
            with pytest.raises(SearchGone):
                await feed.follow("played")
        assert b"event: gone" in await asyncio.wait_for(page, BUSY_S)
        assert feed._followed == {}

    asyncio.run(watch(Feed(played.storage)))


def test_a_search_that_is_damaged_while_shown_is_told_of_once(
    played: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_module, "LOOK_S", 0.01)
    monkeypatch.setattr(feed_module, "BUCKET_LOOK_S", 0.01)
    looks, look = list[str](), Followed.look

    def counted(self: Followed) -> bool:
        looks.append(self.name)
        return look(self)

    async def watch(feed: Feed) -> None:
        followed = await feed.follow("played")
        version = followed.version
        async with feed.watching(followed) as woken:
            path = played.folder / FILE_NAME
            path.write_bytes(path.read_bytes() + b"nonsense\n")
            with pytest.raises(DamagedJournal):
                await feed.follow("played")
            await asyncio.wait_for(woken.wait(), BUSY_S)
            looked = len(looks)
            while len(looks) < looked + 3:
                await asyncio.sleep(0.01)
            assert "damaged" in followed.trouble
            assert followed.version == version + 1

    monkeypatch.setattr(Followed, "look", counted)
    asyncio.run(watch(Feed(played.storage)))


def test_a_search_that_is_begun_anew_while_shown_is_asked_for_anew(played: Experiment) -> None:
    async def watch(feed: Feed) -> None:
        followed = await feed.follow("played")
        page = asyncio.create_task(all_of(feed, followed))
        while not followed.watchers:
            await asyncio.sleep(0)
        followed._begin()
        for one in followed.watchers:
            one.set()
        assert b"event: reset" in await asyncio.wait_for(page, BUSY_S)

    asyncio.run(watch(Feed(played.storage)))


def test_a_report_is_not_that_of_an_earlier_search_of_the_same_name(played: Experiment) -> None:
    slow, first, other = Slow(lambda one: one.result.started.id), of(played), of(played)

    async def both() -> list[str]:
        return [await slow.of(first), await slow.of(first), await slow.of(other)]

    for one in (first, other):
        one.look()
    other.result.started = replace(other.result.started, id="another")
    assert asyncio.run(both()) == ["1d", "1d", "another"]


def test_what_nobody_looks_at_is_forgotten(
    played: Experiment, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def look(feed: Feed) -> Followed:
        return await feed.follow("played")

    feed = Feed(played.storage)
    first = asyncio.run(look(feed))
    assert asyncio.run(look(feed)) is first
    monkeypatch.setattr(feed_module, "KEEP_S", 0)
    assert asyncio.run(look(feed)) is not first
