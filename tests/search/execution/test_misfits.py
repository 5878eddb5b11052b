"""Searches with a Ray that some patches do not fit."""

import subprocess
import sys
from pathlib import Path

import pytest

from search.journal.result import SearchResult

pytestmark = pytest.mark.ray

SEARCH = """
import sys
from cluster.runtime.patches import Patch
from search.run import main

Patch.misfit = lambda patch: f"Ray has no {{patch.target}}" if {condition} else ""
options = ["--trials", "2", "--scheduler", "fifo", "--no-cache", "--name", "s"]
sys.exit(main(["--space", "smoke", *options]))
"""


def search_where(condition: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    """Search in a process where the patches of which the condition is true do not fit."""
    return subprocess.run(
        [sys.executable, "-c", SEARCH.format(condition=condition)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.long
def test_a_search_depends_on_no_patch_that_may_be_skipped(tmp_path: Path) -> None:
    done = search_where("not patch.is_needed", tmp_path)
    assert done.returncode == 0, done.stderr
    skipped = [line for line in done.stderr.splitlines() if line.startswith("Ray has no ")]
    assert len(set(skipped)) == len(skipped) == 9
    trials = SearchResult.read(tmp_path / "searches" / "s").trials
    assert {trial.outcome for trial in trials.values()} == {"completed"}


def test_without_a_needed_patch_no_search_begins(tmp_path: Path) -> None:
    done = search_where("patch.target == 'ray:kill'", tmp_path)
    assert done.returncode == 4, done.stderr
    assert done.stderr.splitlines()[-1].startswith(
        "error: Ray has no ray:kill, so a patch that every search needs cannot be applied. "
        "Install a tested version of Ray (2.56 to "
    )
    assert not (tmp_path / "searches" / "s").exists()
