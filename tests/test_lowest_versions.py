"""The lowest versions of libraries that `pyproject.toml` allows, in an environment of their own."""

import json
import os
import re
import shutil
import subprocess
import sysconfig
import tomllib
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.versions import numbers
from search.journal.result import SearchResult

pytestmark = [pytest.mark.slow(150), pytest.mark.ray]

ROOT = Path(__file__).parent.parent
VERSIONS = """
import json, sys
from importlib.metadata import version
print(json.dumps({name: version(name) for name in sys.argv[1:]}))
"""


def bounds() -> dict[str, str]:
    """Return the lower bound of each library that the project needs."""
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found = [re.split(r"(?:\[.*\])?>=|,", one) for one in project["dependencies"]]
    return {name: low for name, low, *_ in found}


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give a Python that has the lowest versions, and of what those need what this one has.

    It fails where pip reaches no package index: `make setup` needs one too.
    """
    folder = tmp_path_factory.mktemp("lowest")
    venv.create(folder, with_pip=True)
    found = folder / "bin" / "python"
    here = sysconfig.get_path("purelib")
    own = sysconfig.get_path("purelib", vars={"base": str(folder)})
    (Path(own) / "this.pth").write_text(here)
    pins = [f"{name}=={low}" for name, low in bounds().items()]
    # What is imported is compiled then; all of it would be half the time.
    quick = ["--quiet", "--disable-pip-version-check", "--no-compile"]
    try:
        done = subprocess.run(
            [found, "-m", "pip", "install", *quick, *pins],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            pytest.fail(
                "pip could not install the lowest versions. As `make setup` it needs a package "
                "index; if that can be reached, a lower bound in pyproject.toml is wrong:\n"
                + done.stderr
            )
        yield found
    finally:
        shutil.rmtree(folder)  # 600 MB


def test_the_lowest_versions_are_tried(python: Path) -> None:
    """Those of the environment that the tests run in would be found otherwise."""
    done = subprocess.run(
        [python, "-c", VERSIONS, *bounds()], capture_output=True, text=True, check=True
    )
    found = {name: numbers(version) for name, version in json.loads(done.stdout).items()}
    lows = {name: numbers(low) for name, low in bounds().items()}
    assert {name: version[: len(lows[name])] for name, version in found.items()} == lows
    assert not any(any(version[len(lows[name]) :]) for name, version in found.items())


@pytest.mark.parametrize("executor", ["inline", "tune"])
def test_a_search_trains_with_the_lowest_versions(
    executor: str, python: Path, tmp_path: Path
) -> None:
    words = ["--space", "smoke", "--trials", "2", "--no-cache", "--name", "s"]
    done = subprocess.run(
        [python, "-m", "search.run", *words, "--executor", executor],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    trials = SearchResult.read(tmp_path / "searches" / "s").trials
    assert {name: trial.outcome for name, trial in trials.items()} == {
        "t0001": "completed",
        "t0002": "completed",
    }
