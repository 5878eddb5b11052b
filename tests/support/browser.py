"""A page as Chromium shows it, asked over its DevTools protocol."""

import asyncio
import base64
import itertools
import os
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
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
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


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


async def _look(page: Path, width: int, picture: Path | None, port: int) -> Shown:
    async with aiohttp.ClientSession() as session:
        targets = await (await session.get(f"http://127.0.0.1:{port}/json")).json()
        address = next(
            target["webSocketDebuggerUrl"] for target in targets if target["type"] == "page"
        )
        async with session.ws_connect(address, max_msg_size=0) as socket:
            return await _ask(socket, page, width, picture)


async def _ask(socket: Any, page: Path, width: int, picture: Path | None) -> Shown:
    numbers, heard = itertools.count(1), list[dict[str, Any]]()

    async def until(found: Any) -> dict[str, Any]:
        while True:
            message = await asyncio.wait_for(socket.receive_json(), 120)
            heard.append(message)
            if found(message):
                return message

    async def call(method: str, **params: Any) -> dict[str, Any]:
        number = next(numbers)
        await socket.send_json({"id": number, "method": method, "params": params})
        answer = await until(lambda message: message.get("id") == number)
        result: dict[str, Any] = answer["result"]
        return result

    for domain in ("Page", "Network", "Runtime", "Log"):
        await call(f"{domain}.enable")
    await call(
        "Emulation.setDeviceMetricsOverride",
        width=width,
        height=850,
        deviceScaleFactor=2 if width < 500 else 1,
        mobile=width < 500,
    )
    await call("Performance.enable")
    await call("Page.navigate", url=page.absolute().as_uri())
    await until(lambda message: message.get("method") == "Page.loadEventFired")
    metrics = {
        one["name"]: one["value"] for one in (await call("Performance.getMetrics"))["metrics"]
    }
    value = (
        await call("Runtime.evaluate", expression=ASKED, awaitPromise=True, returnByValue=True)
    )["result"]["value"]
    if picture is not None:
        height = (await call("Page.getLayoutMetrics"))["cssContentSize"]["height"]
        for number, top in enumerate(range(0, int(height), PIECE)):
            clip = {
                "x": 0,
                "y": top,
                "width": width,
                "height": min(PIECE, height - top),
                "scale": 1,
            }
            shot = await call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
            picture.with_stem(f"{picture.stem}-{number:02}").write_bytes(
                base64.b64decode(shot["data"])
            )
    return Shown(
        metrics["ProcessTime"],
        value["width"],
        _messages(heard),
        _requests(heard, page),
        value["wanting"],
    )


def _messages(heard: list[dict[str, Any]]) -> list[str]:
    kinds = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
    return [str(message["params"]) for message in heard if message.get("method") in kinds]


def _requests(heard: list[dict[str, Any]], page: Path) -> list[str]:
    asked = [
        message["params"]["request"]["url"]
        for message in heard
        if message.get("method") == "Network.requestWillBeSent"
    ]
    return [
        address
        for address in asked
        if not address.startswith("data:") and address != page.absolute().as_uri()
    ]


def look(page: Path, width: int, profile: Path, *, picture: Path | None = None) -> Shown:
    """Open a page in a fresh browser at this width in CSS pixels.

    Below 500 the browser acts as a phone with two device pixels to each.

    Args:
        profile: a folder for the browser's files.
        picture: where to write PNGs of the whole page, piece by piece: `page.png` becomes
            `page-00.png`, `page-01.png` ...
    """
    program = browser()
    assert program is not None
    environment = {**os.environ, "HOME": str(profile)}
    running = subprocess.Popen(
        [program, *WORDS, f"--user-data-dir={profile}", "about:blank"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment,
    )
    try:
        told, until = profile / "DevToolsActivePort", time.monotonic() + START_S
        while not told.exists() or not told.read_text().strip():
            assert running.poll() is None, "the browser did not start"
            assert time.monotonic() < until, "the browser did not answer"
            time.sleep(0.05)
        return asyncio.run(_look(page, width, picture, int(told.read_text().split()[0])))
    finally:
        running.terminate()
        running.wait()
