"""A user's own space, which is loaded from a file."""

import os
import sys
from pathlib import Path

import pytest

from search.spaces.find import find

SPACE = (
    "from search.space import Choice, SearchSpace\nspace = SearchSpace({{'epochs': Choice({})}})\n"
)


def test_a_file_is_read_as_it_is_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python compares a compiled file with its source by the time in seconds, and by the size."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    path = tmp_path / "own.py"
    for epochs in (3, 7):
        path.write_text(SPACE.format(epochs))
        os.utime(path, (1, 1))
        assert find(f"{path}:space").domains["epochs"].values == (epochs,)
    assert list(tmp_path.iterdir()) == [path]
