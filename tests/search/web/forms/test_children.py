"""Questions that other processes answer: one at a time, bounded, and ended with their asker."""

import asyncio
import signal
import subprocess
import sys
from asyncio.subprocess import Process
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from starlette.exceptions import HTTPException

from cluster.errors import NotReady
from search.web.forms import children
from search.web.forms.children import NEWER, Asker, start_process

FOREVER = ("http.server", ["0", "--bind", "127.0.0.1"])


def test_a_newer_question_ends_the_older() -> None:
    async def both() -> None:
        asker, before = Asker(), set(psutil.Process().children())
        older = asyncio.create_task(asker.ask(*FOREVER))
        while not asker.is_asking:
            await asyncio.sleep(0.01)
        (process,) = set(psutil.Process().children()) - before
        newer = await asker.ask("platform", [])
        assert newer.code == 0
        assert "Linux" in newer.out
        with pytest.raises(HTTPException, match=NEWER):
            await older
        assert not process.is_running() or process.status() == psutil.STATUS_ZOMBIE

    asyncio.run(both())


def test_a_question_ends_with_the_server() -> None:
    """Its process says where it listens, and is gone when the asker's process ends."""
    code = (
        "import asyncio\n"
        "from search.web.forms.children import Asker\n"
        "async def main():\n"
        f"    asking = asyncio.create_task((asker := Asker()).ask(*{FOREVER!r}))\n"
        "    while not asker.is_asking:\n"
        "        await asyncio.sleep(0.01)\n"
        "    print(asker._running.pid, flush=True)\n"
        "    raise SystemExit\n"
        "asyncio.run(main())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    with suppress(psutil.NoSuchProcess):
        psutil.Process(int(done.stdout)).wait(timeout=600)


def test_of_questions_that_come_together_one_process_answers_the_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun: list[str] = []

    async def start(module: str, words: Sequence[str], outcome: Path | None) -> Process:
        begun.append(module)
        return await start_process(module, words, outcome)

    monkeypatch.setattr(children, "start_process", start)

    async def together() -> list[Any]:
        asker = Asker()
        asked = [asker.ask(*FOREVER) for _ in range(4)]
        return await asyncio.gather(*asked, asker.ask("platform", []), return_exceptions=True)

    *older, newest = asyncio.run(together())
    assert [str(one.detail) for one in older] == [NEWER] * 4
    assert newest.code == 0
    assert begun == ["http.server", "platform"]


def test_an_asker_that_is_ended_leaves_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[Process] = []

    async def start(module: str, words: Sequence[str], outcome: Path | None) -> Process:
        begun.append(await start_process(module, words, outcome))
        return begun[-1]

    monkeypatch.setattr(children, "start_process", start)

    async def ended() -> None:
        asker = Asker()
        asked = asyncio.create_task(asker.ask(*FOREVER))
        await asyncio.sleep(0)  # it starts its process now
        await asker.end()
        with pytest.raises(HTTPException, match=NEWER):
            await asked

    asyncio.run(ended())
    assert [one.returncode for one in begun] == [-signal.SIGKILL]


def test_an_answer_that_does_not_come_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "LIMIT_S", 0.5)
    with pytest.raises(NotReady, match=r"took more than 0\.5 s"):
        asyncio.run(Asker().ask(*FOREVER))


def test_an_answer_that_is_too_large_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "MAX_BYTES", 100)
    with pytest.raises(NotReady, match="larger than 100 bytes"):
        asyncio.run(Asker().ask("this", []))
