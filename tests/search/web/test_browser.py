"""The pages in Chromium: at any width, by script or without, with nothing on the console."""

import asyncio
import time
from pathlib import Path

import pytest

from search.design.experiment import Experiment
from search.journal.events import Resumed
from search.journal.journal import Journal
from search.journal.lease import Lease
from search.web.access import TOKEN
from tests.search.web.conftest import make_hostile
from tests.support.asgi import listening
from tests.support.browser import Tab, browse
from tests.support.played import OpenDriver, play
from tests.support.site import Visitor

PAGES = ("/", "/searches/played", "/searches/played/trials/t0001", "/compare", "/searches/nosuch")
HIDE = """(is => {
  Object.defineProperty(document, "hidden", {value: is, configurable: true});
  document.dispatchEvent(new Event("visibilitychange"));
})(%s)"""
"""A script that has the page take itself for one that nobody sees, or that somebody does."""
CHARTS = "document.querySelectorAll('.uplot').length"


@pytest.mark.browser
@pytest.mark.slow
def test_pages_fit_a_phone_and_hear_of_an_epoch(
    tmp_path: Path, open_driver: OpenDriver, experiment: Experiment
) -> None:
    """No sideways scrolling, message or request elsewhere; an epoch arrives, a table is sorted.

    Nobody watches for a page that is not seen.
    """
    driver = play(open_driver(experiment), events=30)
    visitor = Visitor(tmp_path)

    async def steps(tab: Tab) -> None:
        await tab.open(f"{address}/?{TOKEN}={visitor.site.access.token}", 1280)
        for path in PAGES:
            for width, dark in ((390, True), (1280, False)):
                await tab.open(f"{address}{path}", width, dark=dark)
                assert await tab.value("document.documentElement.scrollWidth") <= width, path
        await tab.open(f"{address}/searches/played", 1280)
        await tab.wait_for(f"{CHARTS} === 3")
        play(driver, events=34)
        await tab.wait_for("/finished epoch/.test(document.getElementById('newest').textContent)")
        watchers = visitor.site.feed._followed["played"].watchers
        await tab.value(HIDE % "true")
        while watchers:
            await asyncio.sleep(0.05)
        play(driver, events=35)
        await tab.value(HIDE % "false")
        while not watchers:
            await asyncio.sleep(0.05)
        dark = {"name": "prefers-color-scheme", "value": "dark"}
        await tab.call("Emulation.setEmulatedMedia", features=[dark])
        await tab.value("document.getElementById('sort-trial').click()")
        await tab.wait_for("location.search === '?sort=trial'")
        rows = "document.querySelector('#rows tbody th').textContent"
        await tab.wait_for(f"{rows} === 't0001'")
        assert await tab.value(f"{CHARTS} === 3"), "the charts stay"
        missing = [one for one in tab.messages if "nosuch" in one]
        assert [one for one in tab.messages if one not in missing] == []
        assert {one.partition("/")[0] for one in tab.requests} == {"http:"}
        assert all(one.startswith(address) for one in tab.requests)
        await tab.call("Emulation.setScriptExecutionDisabled", value=True)
        await tab.open(f"{address}/searches/played?q=t0002", 390)
        await tab.call("Emulation.setScriptExecutionDisabled", value=False)
        assert await tab.value("document.querySelectorAll('#rows tbody tr').length") == 1
        make_hostile(experiment.folder)
        for path in PAGES[:3]:
            await tab.open(f"{address}{path}", 390)
            assert await tab.value("document.documentElement.scrollWidth") <= 390, path

    with Lease(experiment.folder), listening(visitor.app) as address:
        browse(tmp_path / "browser", steps)
        visitor.site.feed.end()


@pytest.mark.browser
@pytest.mark.slow
def test_a_page_of_what_is_over_stays_until_it_is_taken_up_again(
    tmp_path: Path, played: Experiment
) -> None:
    """A driver that comes or goes changes what one can do; the page is loaded anew when one has
    begun a session.
    """
    visitor = Visitor(tmp_path)
    is_live = "document.getElementById('steer-now') !== null"
    has_verbs = "document.querySelector('#steer .button.main') !== null"

    async def steps(tab: Tab) -> None:
        await tab.open(f"{address}/?{TOKEN}={visitor.site.access.token}", 1280)
        with Lease(played.folder):
            await tab.open(f"{address}/searches/played", 1280)
            await tab.wait_for(is_live)
            await tab.value("window.isTheSame = true")
        await tab.wait_for(f"{has_verbs} && !({is_live})")
        with Lease(played.folder):
            await tab.wait_for(is_live)
            assert await tab.value("window.isTheSame === true")
            journal, _ = Journal.reopen(played.folder)
            journal.append(Resumed(slots=2, began_ms=time.time_ns() // 1_000_000))
            await tab.until(lambda message: message.get("method") == "Page.loadEventFired")
            await tab.wait_for("/^Running/.test(document.querySelector('.stand').textContent)")
            journal.close()

    with listening(visitor.app) as address:
        browse(tmp_path / "browser", steps)
        visitor.site.feed.end()
