"""What a user meets is as recorded: command lines, texts, JSON, journals, reports and pages.

`tests/support/recorded.py` says how to record again.
"""

import re
import sys
from pathlib import Path

import pytest

from tests.support.recorded import (
    FACES,
    GROUPS,
    RECORDED_IN,
    VERB_NAMES,
    commands_in,
    difference,
    recorded_texts,
)

MAX_BYTES = 1_500_000


@pytest.mark.parametrize("group", ["commands", "searches", "pages"])
def test_it_is_as_recorded(group: str) -> None:
    assert not (differs := difference(group, GROUPS[group]())), differs


def test_the_answers_are_as_recorded(empty_database: Path) -> None:
    assert not (differs := difference("answers", GROUPS["answers"](empty_database))), differs


def test_the_help_is_as_recorded() -> None:
    """In another Python than that of the recording its lines may break elsewhere."""
    is_laid_out = sys.version_info[:2] == RECORDED_IN
    differs = difference("help", GROUPS["help"](), ignores_layout=not is_laid_out)
    assert not differs, differs


def test_no_command_imports_more_than_recorded() -> None:
    recorded = recorded_texts("imports")
    for path, text in GROUPS["imports"]().items():
        more = sorted(set(text.split()) - set(recorded[path].split()))
        assert not more, (
            f"{path}: imported besides, which makes the command slower to start: {more}. If it has "
            "to be, or if a module has moved: python -m tests.support.recorded imports"
        )


def test_every_option_has_a_recorded_command_line() -> None:
    for verb in VERB_NAMES:
        options = set(re.findall(r"--[a-z][a-z-]*", usage_of(verb))) - {"--help"}
        words = set(recorded_texts("commands")[f"commands/{verb}.txt"].replace("=", " ").split())
        assert sorted(options - words) == [], verb


def usage_of(verb: str) -> str:
    return (FACES / "help" / f"{verb}.txt").read_text(encoding="utf-8").partition("\n\n")[0]


def test_every_recording_answers_commands() -> None:
    for group in ("commands", "answers", "pages"):
        assert all(commands_in(text) for text in recorded_texts(group).values())


def test_the_recordings_are_small_and_name_no_machine() -> None:
    texts = [text for group in GROUPS for text in recorded_texts(group).values()]
    assert sum(map(len, texts)) < MAX_BYTES
    for text in texts:
        assert not re.search(r"(?:/|%2F)(?:home|root|tmp|usr|var)(?:/|%2F)|site-packages", text)
