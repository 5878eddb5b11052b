"""Steps of long work, at a terminal and without one."""

import io
import os
import pty
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from search.views import steps
from search.views.steps import StepDisplay, show_steps
from trainables import progress
from trainables.progress import step, watched_by


class Watching:
    """A watcher that notes what it receives."""

    def __init__(self) -> None:
        self.events: list[tuple[object, ...]] = []

    def begin(self, text: str, total: int | None) -> int:
        self.events.append(("begin", text, total))
        return len(self.events)

    def advance(self, number: int) -> None:
        self.events.append(("advance", number))

    def end(self, number: int) -> None:
        self.events.append(("end", number))


def test_a_watcher_receives_the_steps_while_it_watches() -> None:
    watcher = Watching()
    with step("nobody sees this", 1) as advance:
        advance()
    with watched_by(watcher), step("decoding", 2) as advance:
        advance()
    with step("nobody sees this either"):
        pass
    assert watcher.events == [("begin", "decoding", 2), ("advance", 1), ("end", 1)]


def test_a_step_that_fails_ends() -> None:
    watcher = Watching()
    with pytest.raises(KeyError), watched_by(watcher), step("decoding"):
        raise KeyError
    assert watcher.events[-1] == ("end", 1)


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Iterator[StepDisplay]:
    """A display that shows steps at once, instead of in a moment."""
    monkeypatch.setattr(steps, "AFTER_S", 0)
    display = StepDisplay()
    yield display
    display.close()


def lines(display: StepDisplay) -> list[str]:
    """Return the lines that are shown, as soon as the display has begun."""
    if display._timer is not None:
        display._timer.join()
    return (
        [] if display._progress is None else [task.description for task in display._progress.tasks]
    )


def test_each_open_step_has_a_line(shown: StepDisplay) -> None:
    first = shown.begin("reading [bold]x[/bold]\x1b", None)
    assert lines(shown) == ["reading [bold]x[/bold]\\x1b"]
    second = shown.begin("decoding", 1200)
    for _ in range(3):
        shown.advance(second)
    assert lines(shown) == ["reading [bold]x[/bold]\\x1b", "decoding: 3 of 1,200"]
    shown.end(second)
    assert lines(shown) == ["reading [bold]x[/bold]\\x1b"]
    shown.end(first)
    shown.advance(first)  # by a thread that has not heard of the end
    assert lines(shown) == []


def test_a_step_that_is_over_in_a_moment_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "AFTER_S", 3600)
    display = StepDisplay()
    number = display.begin("reading", 1)
    timer = display._timer
    assert timer is not None
    display.advance(number)
    display.end(number)
    timer.join()  # it was cancelled
    assert display._progress is None


def test_threads_advance_the_same_step(shown: StepDisplay) -> None:
    number = shown.begin("decoding", 400)
    threads = [
        threading.Thread(target=lambda: [shown.advance(number) for _ in range(100)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert lines(shown) == ["decoding: 400 of 400"]


@pytest.mark.parametrize("stream", [io.StringIO(), None], ids=["a file", "closed"])
def test_without_a_terminal_nobody_watches(
    stream: io.StringIO | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr", stream)
    with show_steps():
        assert progress._watchers == []


SHOWN = """
import sys
from search.views import steps
from trainables.progress import step
steps.AFTER_S = 0
with steps.show_steps(), step("decoding images", 7) as advance:
    advance()
    sys.stdin.readline()
    print("the result")
"""


def test_at_a_terminal_stderr_shows_the_step_and_stdout_has_the_result_alone() -> None:
    """The program waits for a line of input, which it gets when the step is on the terminal."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", SHOWN],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm"},
    ) as process:
        os.close(theirs)
        seen = b""
        while b"decoding images: 1 of 7" not in seen:
            seen += os.read(ours, 4096)
        out, _ = process.communicate(b"\n")
    os.close(ours)
    assert out == b"the result\n"
