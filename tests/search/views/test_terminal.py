"""Text that reaches a terminal."""

import io
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from cluster.cli import error_line
from search.design.experiment import Experiment
from search.list import main as listed
from search.views.terminal import Terminal, say
from tests.support.played import OpenDriver, play

ODD = {
    "an escape sequence": ("a\x1b[2Jb", r"a\x1b[2Jb"),
    "a line end": ("a\nerror: b\r", r"a\nerror: b\r"),
    "a right-to-left override": ("a\u202egnp.b", r"a\u202egnp.b"),
    "a name that is no text": ("a\udcff", r"a\udcff"),
    "letters of the world": ("ünï ☃ 猫 [red]x[/red] C:\\", "ünï ☃ 猫 [red]x[/red] C:\\"),
}


@pytest.mark.parametrize(("text", "shown"), ODD.values(), ids=ODD)
@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_line_is_shown_as_it_is_without_control_characters(
    text: str, shown: str, is_terminal: bool
) -> None:
    console = Console(file=io.StringIO(), force_terminal=is_terminal, width=5)
    say(console, text)
    assert console.file.getvalue() == shown + "\n"  # type: ignore[attr-defined]


@pytest.mark.parametrize(("text", "shown"), ODD.values(), ids=ODD)
def test_an_error_is_one_line(text: str, shown: str) -> None:
    assert error_line(text) == f"error: {shown}\n"


def test_a_name_in_a_table_is_whole_where_the_output_is_no_terminal(
    open_driver: OpenDriver,
    experiment: Experiment,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)  # which would be heeded, and pytest's workers have
    name = "flowers-improved-again-" + "0123456789" * 4
    play(open_driver(replace(experiment, name=name)))
    assert listed(["--storage", str(experiment.storage)]) == 0
    title, line = capsys.readouterr().out.splitlines()
    assert name in line
    assert len(title) < 200, "nothing is filled up to the whole width"


def test_an_error_repeats_no_password() -> None:
    assert (
        error_line("no answer from http://me:hunter2@host")
        == "error: no answer from http://***@host\n"
    )


@pytest.mark.parametrize("verb", [["status", "played"], ["why", "played", "t0001"]])
def test_a_reader_that_goes_away_is_no_mistake_of_ours(
    verb: list[str], open_driver: OpenDriver, experiment: Experiment
) -> None:
    play(open_driver(experiment))
    assert (
        printed_to_nobody(f"search.{verb[0]}", *verb[1:], "--storage", str(experiment.storage))
        == 141
    )


def printed_to_nobody(module: str, *words: str) -> int:
    """The exit code of a verb whose output goes into a pipe that nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        return subprocess.run(
            [sys.executable, "-m", module, *words],
            stdout=writing,
            stderr=subprocess.DEVNULL,
            check=False,
        ).returncode
    finally:
        os.close(writing)


def test_a_search_whose_words_nobody_reads_goes_on() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb", buffering=0) as nobody:
        console = Terminal(stderr=True, file=io.TextIOWrapper(nobody, write_through=True))
        say(console, "trial t0001 failed")
        say(console, "trial t0002 failed")
        assert console.quiet


def test_an_output_that_cannot_be_written_is_a_line(
    open_driver: OpenDriver, experiment: Experiment
) -> None:
    play(open_driver(experiment))
    with Path("/dev/full").open("w") as full:
        words = [
            sys.executable,
            "-m",
            "search.status",
            "played",
            "--json",
            "--storage",
            str(experiment.storage),
        ]
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 4
    assert done.stderr.startswith(
        "error: the operating system reported an error: [Errno 28] No space left on device; the "
        "details are in "
    )
