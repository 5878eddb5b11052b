"""What all tests share."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """Run `python -m MODULE ...` in a folder of its own, as a user would, and return what it printed and its exit code."""

    def run(module: str, *arguments: object, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-m", module, *map(str, arguments)]
        return subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=timeout, check=False)

    return run
