"""Questions that other processes answer: one at a time, bounded, and ended with their asker."""

import asyncio
import subprocess
import sys
from contextlib import suppress

import psutil
import pytest
from starlette.exceptions import HTTPException

from cluster.errors import NotReady
from search.views.web.forms import children
from search.views.web.forms.children import NEWER, Asker

FOREVER = ("http.server", ["0", "--bind", "127.0.0.1"])


def test_a_newer_question_ends_the_older() -> None:
    async def both() -> None:
        asker = Asker()
        older = asyncio.create_task(asker.ask(*FOREVER))
        while not asker.is_asking:
            await asyncio.sleep(0.01)
        (process,) = psutil.Process().children()
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
        "from search.views.web.forms.children import Asker\n"
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
        psutil.Process(int(done.stdout)).wait(timeout=60)


def test_an_answer_that_does_not_come_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "LIMIT_S", 0.5)
    with pytest.raises(NotReady, match=r"no answer within 0\.5 s"):
        asyncio.run(Asker().ask(*FOREVER))


def test_an_answer_that_is_too_large_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "MAX_BYTES", 100)
    with pytest.raises(NotReady, match="too large"):
        asyncio.run(Asker().ask("this", []))
