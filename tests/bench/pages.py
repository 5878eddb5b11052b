"""What the web pages cost, and how soon they tell: python -m tests.bench.pages [MEASUREMENT ...].

On played journals, in Chromium: `soon`, how long after a journal's write a finished epoch is on the
page; `large`, how long a search of 1,000 trials of 100 epochs takes to open and to update; `many`,
how long a list of 500 searches takes; `twenty`, what twenty open pages take of the machine; `day`,
what a day's search leaves in memory. Without a browser: `huge`, how long the server takes to answer
with each page of a search of 5,000 trials of 30 epochs, and `search.report` to draw its report,
with the memory of both. All of them without a name.
"""

import argparse
import asyncio
import math
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import numpy as np
import psutil

from search.design.experiment import Experiment
from search.journal.events import Ended, Epoch, EventData, Finished, Running, Started, Suggested
from search.journal.journal import FILE_NAME, Event
from search.journal.lease import Lease
from search.space import Choice, Float, SearchSpace
from search.web.access import TOKEN
from tests.support.browser import Tab, browse
from tests.support.played import report, started_event
from trainables.config import TrialConfig

GIVEN = "0123456789abcdef"
"""The token of the servers that are started here."""
UPDATES, PAIRS, TURN_S = 30, 6, 8.0


class Played:
    """A journal that is written as fast as it can be, or as slowly as is wanted."""

    def __init__(self, place: Path, name: str, trials: int, epochs: int) -> None:
        """Begin a search of so many trials of so many epochs."""
        space = SearchSpace(
            {
                "optimizer.lr": Float(1e-4, 0.1, log=True),
                "batch_size": Choice(16, 32, 64, 128),
                "model.filter_size": Choice(3, 5, 7),
            },
            base={"model.name": "deep_cnn"},
        )
        base = TrialConfig(epochs=epochs).override(space.base)
        self.experiment = Experiment(
            name=name,
            space_name="played",
            space=space,
            base=base,
            algorithm="random",
            scheduler="fifo",
            storage=place,
            trials=trials,
        )
        self.trials, self.epochs, self.number = trials, epochs, 0
        self.folder = place / name
        self.folder.mkdir(parents=True)
        self.random = random.Random(1)
        self._file = (self.folder / FILE_NAME).open("ab", buffering=0)
        first = started_event()
        first["data"] |= {"val": 10_000, "train": 50_000}
        self.write(Started(name=name, experiment=self.experiment.describe(), **first))

    def write(self, *data: EventData) -> int:
        """Write events, and return the Unix time of the last in milliseconds."""
        lines = []
        for one in data:
            self.number += 1
            at = time.time_ns() // 1_000_000
            lines.append(Event(self.number, at, one).to_line().encode())
        self._file.write(b"".join(lines))
        return at

    def begun(self, number: int) -> tuple[EventData, ...]:
        """Return the events with which a trial begins."""
        params = {
            "optimizer.lr": 10 ** self.random.uniform(-4, -1),
            "batch_size": self.random.choice((16, 32, 64, 128)),
            "model.filter_size": self.random.choice((3, 5, 7)),
        }
        config = self.experiment.base.override(params).to_dict()
        name = name_of(number)
        suggested = Suggested(trial=name, stem=name, params=params, config=config)
        return suggested, Running(name, 1, "here")

    def epoch(self, number: int, epoch: int) -> Epoch:
        """Return an epoch of a trial."""
        accuracy = 0.9 - 0.4 / (1 + number % 17) * math.exp(-epoch / 20)
        value = accuracy + self.random.gauss(0, 0.004)
        return Epoch(name_of(number), epoch, report(epoch, value).metrics)

    def whole(self, number: int) -> list[EventData]:
        """Return all events of a trial."""
        epochs = [self.epoch(number, epoch) for epoch in range(1, self.epochs + 1)]
        return [*self.begun(number), *epochs, Ended(name_of(number), "completed", "")]


def name_of(number: int) -> str:
    return f"t{number:04}"


@contextmanager
def served(place: Path) -> Iterator[tuple[str, psutil.Process]]:
    """Serve the pages; yield their address and the process."""
    command = [sys.executable, "-m", "search.ui", "--storage", str(place), "--port", "0"]
    running = subprocess.Popen(
        [*command, "--no-browser", "--token", GIVEN], stdout=subprocess.PIPE, text=True
    )
    try:
        assert running.stdout is not None
        said = running.stdout.readline()
        yield said[said.index("http://") :].partition("/?")[0], psutil.Process(running.pid)
    finally:
        running.terminate()
        running.wait()


async def opened(tab: Tab, address: str, path: str) -> float:
    """Open a page, first the list of all; return the seconds until all its charts are there."""
    await tab.open(f"{address}/?{TOKEN}={GIVEN}", 1280)
    begun = time.monotonic()
    await tab.open(f"{address}{path}", 1280)
    await tab.wait_for("document.querySelectorAll('.uplot').length >= 3")
    return time.monotonic() - begun


async def figures(tab: Tab) -> dict[str, float]:
    """Return what the browser says of its work and memory."""
    found = (await tab.call("Performance.getMetrics"))["metrics"]
    return {one["name"]: one["value"] for one in found}


HEARD = """(() => {
    window.heard = [];
    const newest = document.getElementById('newest');
    new MutationObserver(() => {
        const text = newest.textContent;
        requestAnimationFrame(() => window.heard.push([text, Date.now()]));
    }).observe(newest, {childList: true, characterData: true, subtree: true});
})()"""


def soon(place: Path) -> None:
    """Tell how long a finished epoch takes from the journal to the page."""
    search = Played(place, "soon", 20, 100)
    search.write(*search.begun(1), search.epoch(1, 1))

    async def watched(tab: Tab) -> list[float]:
        await opened(tab, address, "/searches/soon")
        await tab.value(HEARD)
        written = {}
        for epoch in range(2, 102):
            await asyncio.sleep(search.random.uniform(0.2, 0.6))
            written[f"t0001 finished epoch {epoch}:"] = search.write(search.epoch(1, epoch))
        await asyncio.sleep(2)
        heard = await tab.value("window.heard")
        return [
            at - wrote
            for told, wrote in written.items()
            for text, at in heard
            if text.startswith(told)
        ]

    with Lease(search.folder), served(place) as (address, _):
        waits = browse(place / "browser", watched)
    print(
        f"soon: {len(waits)} of 100 epochs seen, {statistics.median(waits):.0f} ms after the "
        f"journal's write (median), {max(waits):.0f} ms at worst"
    )


def large(place: Path) -> None:
    """Tell how long a large search takes to open, for the first time and again, and to update."""
    search = Played(place, "large", 1001, 100)
    for number in range(1, 1001):
        search.write(*search.whole(number))
    search.write(*search.begun(1001))

    async def seen(tab: Tab) -> tuple[float, float, float, float, int]:
        first = await opened(tab, address, "/searches/large")
        again = await opened(tab, address, "/searches/large")
        rows = await tab.value("document.querySelectorAll('#rows tbody tr').length")
        await tab.value(
            "window.long = [0]; new PerformanceObserver(list => list.getEntries().forEach("
            "one => window.long.push(one.duration))).observe({entryTypes: ['longtask']})"
        )
        before = await figures(tab)
        for epoch in range(1, UPDATES + 1):
            search.write(search.epoch(1001, epoch))
            await asyncio.sleep(1)
        took = (await figures(tab))["TaskDuration"] - before["TaskDuration"]
        return first, again, took / UPDATES, await tab.value("Math.max(...window.long)"), rows

    with Lease(search.folder), served(place) as (address, _):
        first, again, update, longest, rows = browse(place / "browser", seen)
    print(
        f"large: {search.number:,} events; opened with its charts in {first:.2f} s at first, "
        f"{again:.2f} s again; {rows} rows in the page; an update takes the browser "
        f"{1000 * update:.0f} ms in all (mean of {UPDATES}), {longest:.0f} ms at worst at a time"
    )


def many(place: Path) -> None:
    """Tell how long a list of many searches takes, for the first time and again."""
    for number in range(500):
        search = Played(place, f"search-{number:03}", 20, 10)
        for trial in range(1, 21):
            search.write(*search.whole(trial))

    async def seen(tab: Tab) -> list[float]:
        waits = []
        for _ in range(3):
            begun = time.monotonic()
            await tab.open(f"{address}/?{TOKEN}={GIVEN}", 1280)
            waits.append(time.monotonic() - begun)
        return waits

    with served(place) as (address, _):
        first, *again = browse(place / "browser", seen)
    print(f"many: 500 searches are listed in {first:.2f} s at first, {min(again):.2f} s again")


def twenty(place: Path) -> None:
    """Tell what twenty open pages take of the machine, and of a search's speed beside it."""
    search = Played(place, "twenty", 200, 200)
    for number in range(1, 101):
        search.write(*search.whole(number))
    search.write(*search.begun(101))

    async def read(session: aiohttp.ClientSession, address: str) -> None:
        after = f"after={search.number}&seen=0"
        async with session.get(f"{address}/searches/twenty/events?{after}") as answer:
            async for _ in answer.content:
                pass

    async def measured(address: str, server: psutil.Process) -> tuple[list[float], list[float]]:
        used, speeds = list[float](), list[float]()
        jar = aiohttp.CookieJar(unsafe=True)
        async with aiohttp.ClientSession(cookie_jar=jar) as session:
            await session.get(f"{address}/?{TOKEN}={GIVEN}")
            epoch = 0
            for turn in range(2 * PAIRS):
                pages = [
                    asyncio.create_task(read(session, address)) for _ in range(20 * (turn % 2))
                ]
                await asyncio.sleep(1)
                begun, cpu, done = time.monotonic(), sum(server.cpu_times()[:2]), 0
                while time.monotonic() < begun + TURN_S:
                    epoch += 1
                    done += await asyncio.to_thread(trained)
                    search.write(search.epoch(101, epoch))
                took = time.monotonic() - begun
                speeds.append(done / took)
                used.append((sum(server.cpu_times()[:2]) - cpu) / took)
                for page in pages:
                    page.cancel()
                await asyncio.gather(*pages, return_exceptions=True)
        return used, speeds

    with Lease(search.folder), served(place) as (address, server):
        used, speeds = asyncio.run(measured(address, server))
    ratios = [with_ / without for without, with_ in zip(speeds[::2], speeds[1::2], strict=True)]
    cores = os.cpu_count() or 1
    print(
        f"twenty: the server takes {100 * statistics.median(used[1::2]) / cores:.2f} % of "
        f"{cores} cores, {100 * statistics.median(used[::2]) / cores:.2f} % with no page open; the "
        f"search is {100 * (statistics.median(ratios) - 1):+.2f} % as fast (median of {PAIRS} "
        f"pairs, {100 * (min(ratios) - 1):+.1f} to {100 * (max(ratios) - 1):+.1f} %)"
    )


def trained() -> int:
    """Compute for about half a second, and return how much was done."""
    generator, done, begun = np.random.default_rng(0), 0, time.monotonic()
    one = generator.normal(size=(300, 300))
    while time.monotonic() < begun + 0.5:
        one = np.tanh(one @ one.T / 300)
        done += 1
    return done


def day(place: Path) -> None:
    """Tell what a day's search leaves in the memory of the server and of an open page."""
    trials, epochs = 2000, 30
    search = Played(place, "day", trials, epochs)
    search.write(*search.whole(1))

    async def seen(tab: Tab) -> list[tuple[int, float, float, int]]:
        await opened(tab, address, "/searches/day")
        found = []
        for number in range(2, trials + 1):
            search.write(*search.whole(number))
            await asyncio.sleep(0.03)
            if number % (trials // 5) == 0:
                await asyncio.sleep(3)
                await tab.call("HeapProfiler.collectGarbage")
                told = await figures(tab)
                heap, nodes = told["JSHeapUsedSize"] / 1e6, int(told["Nodes"])
                found.append((number, server.memory_info().rss / 1e6, heap, nodes))
        return found

    with Lease(search.folder), served(place) as (address, server):
        found = browse(place / "browser", seen)
    for number, server_mb, page_mb, nodes in found:
        print(
            f"day: after {number:,} trials ({number * epochs:,} epochs) the server has "
            f"{server_mb:.0f} MB, the page {page_mb:.1f} MB of objects and {nodes:,} nodes"
        )


def huge(place: Path) -> None:
    """Measure the server's pages and the report of a search with 150,000 epochs."""
    trials, epochs = 5000, 30
    search = Played(place, "huge", trials, epochs)
    for number in range(1, trials + 1):
        search.write(*search.whole(number))
    search.write(Finished("completed", ""))
    pages = {
        "list": "/",
        "search": "/searches/huge",
        "charts": "/searches/huge/charts",
        "trial": f"/searches/huge/trials/{name_of(trials // 2)}",
    }

    async def fetch(address: str) -> dict[str, list[float]]:
        jar = aiohttp.CookieJar(unsafe=True)
        seconds: dict[str, list[float]] = {name: [] for name in pages}
        async with aiohttp.ClientSession(cookie_jar=jar) as session:
            await session.get(f"{address}/missing?{TOKEN}={GIVEN}")
            for name, path in (pair for _ in range(4) for pair in pages.items()):
                begun = time.monotonic()
                async with session.get(f"{address}{path}") as answer:
                    assert answer.status == 200, answer.status
                    await answer.read()
                seconds[name].append(time.monotonic() - begun)
        return seconds

    with served(place) as (address, server):
        empty_mb = server.memory_info().rss / 1e6
        seconds = asyncio.run(fetch(address))
        server_mb = server.memory_info().rss / 1e6
    for name, (first, *again) in seconds.items():
        print(f"huge: the page '{name}' in {first:.2f} s at first, {max(again):.2f} s later")
    print(f"huge: the server has {server_mb:.0f} MB, {empty_mb:.0f} MB before")
    command = [sys.executable, "-m", "search.report", "huge", "--storage", str(place)]
    begun = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    took = time.monotonic() - begun
    peak_mb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e3
    print(f"huge: the report in {took:.1f} s, with {peak_mb:.0f} MB at most")


MEASUREMENTS = {one.__name__: one for one in (soon, large, many, twenty, day, huge)}


def main() -> int:
    """Measure what is named, or all."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.pages", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *MEASUREMENTS], metavar="MEASUREMENT")
    names = parser.parse_args().names or list(MEASUREMENTS)
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", flush=True)
    for name in names:
        with tempfile.TemporaryDirectory() as place:
            MEASUREMENTS[name](Path(place))
        sys.stdout.flush()
    print(f"load {os.getloadavg()[0]:.1f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
