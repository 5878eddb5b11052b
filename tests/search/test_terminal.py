"""What reaches a terminal."""

import io

import pytest
from rich.console import Console

from search.terminal import error_line, say

ODD = {
    "an escape sequence": ("a\x1b[2Jb", r"a\x1b[2Jb"),
    "a line end": ("a\nerror: b\r", r"a\nerror: b\r"),
    "a right-to-left override": ("a\u202egnp.b", r"a\u202egnp.b"),
    "a name that is no text": ("a\udcff", r"a\udcff"),
    "letters of the world": ("ünï ☃ 猫 [red]x[/red] C:\\", "ünï ☃ 猫 [red]x[/red] C:\\"),
}


@pytest.mark.parametrize(("text", "shown"), ODD.values(), ids=ODD)
@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_line_is_shown_as_it_is_without_control_characters(text: str, shown: str, is_terminal: bool) -> None:
    console = Console(file=io.StringIO(), force_terminal=is_terminal, width=5)
    say(console, text)
    assert console.file.getvalue() == shown + "\n"  # type: ignore[attr-defined]


@pytest.mark.parametrize(("text", "shown"), ODD.values(), ids=ODD)
def test_an_error_is_one_line(text: str, shown: str) -> None:
    assert error_line(text) == f"error: {shown}\n"


def test_an_error_repeats_no_password() -> None:
    assert error_line("no answer from http://me:hunter2@host") == "error: no answer from http://***@host\n"
