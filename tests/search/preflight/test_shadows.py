"""Files of the user's that hide a library's module are named before the start."""

import sys
from pathlib import Path

import pytest

from search.preflight.shadows import put_libraries_first, shadows, shadows_here


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """A folder on the path with a module, a package, and a folder that is neither."""
    folder = tmp_path / "site-packages"
    (folder / "skthing").mkdir(parents=True)
    (folder / "skthing" / "__init__.py").touch()
    (folder / "py.py").touch()
    (folder / "data").mkdir()
    return folder


def test_files_that_hide_a_module_are_found(tmp_path: Path, library: Path) -> None:
    here = tmp_path / "here"
    (here / "skthing").mkdir(parents=True)
    (here / "skthing" / "__init__.py").touch()
    (here / "data").mkdir()
    for name in (
        "py.py",
        "random.py",
        "spaces.py",
        "test.py",
        "search.py",
        "my-notes.py",
        "notes.txt",
    ):
        (here / name).touch()
    assert shadows(here, ["", str(here), str(library)]) == ["py.py", "random.py", "skthing/"]
    assert shadows(here, [str(here)]) == ["random.py"]
    assert shadows(tmp_path / "none", [str(library)]) == []


def test_the_line_names_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert list(shadows_here()) == []
    (tmp_path / "queue.py").touch()
    (line,) = shadows_here()
    assert line.startswith(
        "warning: queue.py in the working directory hides a module of the same name from libraries"
    )


def test_libraries_come_first_only_where_something_hides_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", str(tmp_path), "/usr/lib/somewhere"])
    put_libraries_first()
    assert sys.path == ["", str(tmp_path), "/usr/lib/somewhere"]
    (tmp_path / "queue.py").touch()
    put_libraries_first()
    assert sys.path == ["/usr/lib/somewhere", ""]
