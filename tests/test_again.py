import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.again import main
from tests.support.programs import PACKAGES, reason_for, skip_lines

ROOT = Path(__file__).parents[1]

FLAKY = """
import pathlib

def test_that_passes_alone():
    seen = pathlib.Path("seen")
    was_there = seen.exists()
    seen.touch()
    assert was_there, "the first time"
"""
BROKEN = """
def test_that_fails():
    assert False, "each time"
"""


def pytest_in(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """Run pytest with this project's hooks on the tests of a folder."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.again", "-n", "2", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


UNREADABLE = "raise RuntimeError('each time')"


@pytest.mark.parametrize(
    ("text", "code", "word"),
    [(FLAKY, 0, "flaky"), (BROKEN, 1, "failed again"), (UNREADABLE, 1, "failed again")],
    ids=["flaky", "broken", "unreadable"],
)
def test_a_test_that_fails_is_tried_again(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    text: str,
    code: int,
    word: str,
) -> None:
    (tmp_path / "test_it.py").write_text(text)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "failed").touch()  # an earlier part of the tests may have written it
    done = pytest_in(tmp_path, "--again-later=failed")
    assert done.returncode == 0, done.stdout
    monkeypatch.chdir(tmp_path)
    assert main(["failed"]) == code
    said = capsys.readouterr().out
    assert f"{word}: test_it.py" in said
    assert said.count("the first time" if code == 0 else "each time") >= 1


def test_without_the_option_a_failure_is_red(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(BROKEN)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    assert pytest_in(tmp_path).returncode == 1


def test_many_failures_are_not_tried_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "failed"
    file.write_text("".join(f'{{"test": "test_{n}", "output": ""}}\n' for n in range(21)))
    assert main([str(file)]) == 1
    assert "21 tests failed: too many" in capsys.readouterr().out


def test_what_was_skipped_is_a_line_a_program() -> None:
    reasons: list[object] = [
        ("a.py", 1, f"Skipped: {reason_for(['rsync', 'sshd'])}"),
        ("b.py", 2, f"Skipped: {reason_for(['rsync'])}"),
        ("c.py", 3, "Skipped: needs a GPU"),
    ]
    assert list(skip_lines(reasons)) == [
        "rsync is not installed: 2 tests (Debian: rsync)",
        "sshd is not installed: 1 test (Debian: openssh-server)",
        "needs a GPU: 1 test",
    ]


def test_each_program_that_a_test_needs_has_its_package() -> None:
    import re

    for path in (ROOT / "tests").rglob("*.py"):
        for words in re.findall(r"\bneeds\(([^)]*)\)", path.read_text()):
            assert set(re.findall(r'"([^"]+)"', words)) <= PACKAGES.keys(), path
