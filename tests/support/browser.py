"""A page as Chromium shows it, asked over its DevTools protocol."""

import asyncio
import base64
import itertools
import os
import subprocess
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import aiohttp

from tests.support.programs import path_of

Found = TypeVar("Found")
START_S = 120
PIECE = 1800
"""Height of a piece of a screenshot in CSS pixels; a long page does not fit into a single one."""
WORDS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
    "--no-first-run",
)


def browser() -> str | None:
    """Return the browser's path, if there is one."""
    path = path_of("chromium")
    return str(path) if path else None


@dataclass
class Shown:
    """The result of showing a page at one width."""

    load_s: float
    """Seconds of processor time until the page was loaded; wall-clock time would depend on the
    other load of the machine.
    """
    scroll_width: int
    messages: list[str] = field(default_factory=list)
    """Messages of the console, and errors."""
    requests: list[str] = field(default_factory=list)
    """Addresses that were asked for, except the page's own and those inside it."""
    wanting: list[str] = field(default_factory=list)
    """Images that were not shown."""


ASKED = """(async () => {
    for (const image of document.images) { image.loading = 'eager'; }
    await Promise.all([...document.images].map(image => image.decode().catch(() => {})));
    return {width: document.documentElement.scrollWidth,
            wanting: [...document.images]
                .filter(image => !image.naturalWidth).map(image => image.alt)};
})()"""


class Tab:
    """A page in a browser, over its DevTools protocol."""

    def __init__(self, socket: Any) -> None:
        self._socket, self._numbers = socket, itertools.count(1)
        self._heard = list[dict[str, Any]]()

    async def until(self, found: Callable[[dict[str, Any]], bool]) -> None:
        """Wait for a message of the browser."""
        while True:
            message = await asyncio.wait_for(self._socket.receive_json(), 120)
            self._heard.append(message)
            if found(message):
                return

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Return the result of a method of the protocol."""
        number = next(self._numbers)
        await self._socket.send_json({"id": number, "method": method, "params": params})
        await self.until(lambda message: message.get("id") == number)
        result: dict[str, Any] = self._heard[-1]["result"]
        return result

    async def open(self, address: str, width: int, *, dark: bool = False) -> None:
        """Open a page at this width in CSS pixels and wait until it is loaded.

        Below 500 the browser acts as a phone with two device pixels to each.
        """
        for domain in ("Page", "Network", "Runtime", "Log", "Performance"):
            await self.call(f"{domain}.enable")
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=850,
            deviceScaleFactor=2 if width < 500 else 1,
            mobile=width < 500,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.call("Emulation.setEmulatedMedia", features=[scheme])
        await self.call("Page.navigate", url=address)
        await self.until(lambda message: message.get("method") == "Page.loadEventFired")

    async def value(self, expression: str) -> Any:
        """Return the value of JavaScript, of a promise when it is kept."""
        found = await self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    async def wait_for(self, expression: str) -> None:
        """Wait until JavaScript is true."""
        await self.value(
            "new Promise(done => { const look = () => "
            f"({expression}) ? done() : setTimeout(look, 5); look(); }})"
        )

    async def press(self, key: str) -> None:
        """Press a key: a letter, a digit, or as `KeyboardEvent.key` calls it."""
        texts = {"text": "\r" if key == "Enter" else key} if len(key) == 1 or key == "Enter" else {}
        await self.call("Input.dispatchKeyEvent", type="keyDown", key=key, **texts)
        await self.call("Input.dispatchKeyEvent", type="keyUp", key=key)

    async def shoot(self, picture: Path) -> None:
        """Write PNGs of the whole page, piece by piece: `page.png` becomes `page-00.png` ..."""
        size = (await self.call("Page.getLayoutMetrics"))["cssContentSize"]
        for number, top in enumerate(range(0, int(size["height"]), PIECE)):
            height = min(PIECE, size["height"] - top)
            clip = {"x": 0, "y": top, "width": size["width"], "height": height, "scale": 1}
            shot = await self.call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
            picture.with_stem(f"{picture.stem}-{number:02}").write_bytes(
                base64.b64decode(shot["data"])
            )

    @property
    def messages(self) -> list[str]:
        """Messages of the console, and errors."""
        return _messages(self._heard)

    @property
    def requests(self) -> list[str]:
        """Addresses that were asked for, except those of data."""
        return _requests(self._heard)


def browse(profile: Path, steps: Callable[[Tab], Awaitable[Found]]) -> Found:
    """Return what comes of steps in a fresh browser.

    Args:
        profile: a folder for the browser's files.
        steps: what is done in its tab.
    """
    program = browser()
    assert program is not None
    running = subprocess.Popen(
        [program, *WORDS, f"--user-data-dir={profile}", "about:blank"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "HOME": str(profile)},
    )
    try:
        told, until = profile / "DevToolsActivePort", time.monotonic() + START_S
        while not told.exists() or not told.read_text().strip():
            assert running.poll() is None, "the browser did not start"
            assert time.monotonic() < until, "the browser did not answer"
            time.sleep(0.05)
        return asyncio.run(_in_tab(int(told.read_text().split()[0]), steps))
    finally:
        running.terminate()
        running.wait()


async def _in_tab(port: int, steps: Callable[[Tab], Awaitable[Found]]) -> Found:
    async with aiohttp.ClientSession() as session:
        async with asyncio.timeout(START_S):
            address = await _address(session, port)
        async with session.ws_connect(address, max_msg_size=0) as socket:
            return await steps(Tab(socket))


async def _address(session: aiohttp.ClientSession, port: int) -> str:
    """Return the address of the browser's page, which may come after the port that tells of it."""
    while True:
        targets = await (await session.get(f"http://127.0.0.1:{port}/json")).json()
        for target in targets:
            if target["type"] == "page":
                return str(target["webSocketDebuggerUrl"])
        await asyncio.sleep(0.05)


def _messages(heard: list[dict[str, Any]]) -> list[str]:
    kinds = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
    return [str(message["params"]) for message in heard if message.get("method") in kinds]


def _requests(heard: list[dict[str, Any]]) -> list[str]:
    asked = [
        message["params"]["request"]["url"]
        for message in heard
        if message.get("method") == "Network.requestWillBeSent"
    ]
    return [address for address in asked if not address.startswith("data:")]


def look(page: Path, width: int, profile: Path, *, picture: Path | None = None) -> Shown:
    """Open a file's page in a fresh browser; see `Tab.open`.

    Args:
        page: the file.
        width: in CSS pixels.
        profile: a folder for the browser's files.
        picture: where to write PNGs of it; see `Tab.shoot`.
    """
    address = page.absolute().as_uri()

    async def steps(tab: Tab) -> Shown:
        await tab.open(address, width)
        metrics = (await tab.call("Performance.getMetrics"))["metrics"]
        value = await tab.value(ASKED)
        if picture is not None:
            await tab.shoot(picture)
        return Shown(
            next(one["value"] for one in metrics if one["name"] == "ProcessTime"),
            value["width"],
            tab.messages,
            [asked for asked in tab.requests if asked != address],
            value["wanting"],
        )

    return browse(profile, steps)
