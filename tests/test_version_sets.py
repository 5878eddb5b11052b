"""The lowest and the newest versions that `pyproject.toml` allows, each in its own environment."""

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

from cluster.versions import TRIED_VERSIONS, numbers
from search.journal.result import SearchResult

pytestmark = [pytest.mark.slow(600), pytest.mark.ray, pytest.mark.versions]

ROOT = Path(__file__).parent.parent
VERSIONS = """
import json, sys
from importlib.metadata import version
print(json.dumps({name: version(name) for name in sys.argv[1:]}))
"""
PROMISES = {
    "the patches": ["tests/search/execution/test_tune_patches.py"],
    "both executors": [
        "tests/search/execution/test_inline.py::test_both_executors_come_to_the_same_journal"
    ],
    "a kill and a resume": [
        "tests/faults/test_interruptions.py::test_a_killed_driver_loses_nothing"
    ],
    "promotion": [
        "tests/search/operations/test_promote.py::test_from_the_command_line",
        "tests/search/operations/test_promote.py::test_a_baseline_is_used_without_this_project_too",
    ],
    "stored baselines": ["tests/trainables/baselines", "tests/trainables/probes"],
    "fusion and precision": [
        "tests/trainables/fusion",
        "tests/trainables/training/test_precision.py",
    ],
}
"""The tests that each set has to pass: they use private parts of libraries, or their files."""


def lowest() -> dict[str, str]:
    """The lower bound of each library that the project needs."""
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    bounds = [re.split(r"(?:\[.*\])?>=|,", line) for line in project["dependencies"]]
    return {name: low for name, low, *_ in bounds}


def newest() -> dict[str, str]:
    """The last release line of each library that has an upper bound."""
    return {name: f"{tried.last}.*" for name, tried in TRIED_VERSIONS.items()}


SETS = {"lowest": lowest, "newest": newest}


@pytest.fixture(scope="module", params=SETS)
def versions(request: pytest.FixtureRequest) -> dict[str, str]:
    """The versions of a set, as pip takes them."""
    return SETS[request.param]()


@pytest.fixture(scope="module")
def python(versions: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A Python with the versions of a set; all other libraries are those of this environment.

    It fails where pip reaches no package index: `make setup` needs one too.
    """
    folder = tmp_path_factory.mktemp("set")
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    here = sysconfig.get_path("purelib")
    own = sysconfig.get_path("purelib", vars={"base": str(folder)})
    (Path(own) / "this.pth").write_text(here)
    pins = [f"{name}=={version}" for name, version in versions.items()]
    # What is imported is compiled then; all of it would be half the time.
    quick = ["--quiet", "--disable-pip-version-check", "--no-compile"]
    try:
        done = subprocess.run(
            [python, "-m", "pip", "install", *quick, *pins],
            # The machine may have constraints of its own, which would contradict those of the set.
            env={**os.environ, "PIP_CONSTRAINT": os.devnull},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            pytest.fail(
                "pip could not install the versions. As `make setup` it needs a package index; if "
                "that can be reached, a bound in pyproject.toml is wrong:\n" + done.stderr
            )
        yield python
    finally:
        shutil.rmtree(folder)  # 600 MB, or 6 GB with torch's libraries for GPUs


def environment() -> dict[str, str]:
    """The environment variables with which another Python finds this project."""
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def test_the_versions_of_the_set_are_tried(python: Path, versions: dict[str, str]) -> None:
    """Those of the environment that the tests run in would be found otherwise."""
    done = subprocess.run(
        [python, "-c", VERSIONS, *versions], capture_output=True, text=True, check=True
    )
    installed = {name: numbers(version) for name, version in json.loads(done.stdout).items()}
    pinned = {name: numbers(version) for name, version in versions.items()}
    assert {name: version[: len(pinned[name])] for name, version in installed.items()} == pinned
    assert not any(
        any(version[len(pinned[name]) :])
        for name, version in installed.items()
        if not versions[name].endswith(".*")
    )


@pytest.mark.parametrize("executor", ["inline", "tune"])
def test_a_search_trains_with_the_versions_of_the_set(
    executor: str, python: Path, tmp_path: Path
) -> None:
    words = [
        "--space",
        "smoke",
        "--trials",
        "2",
        "--scheduler",
        "fifo",
        "--no-cache",
        "--name",
        "s",
    ]
    done = subprocess.run(
        [python, "-m", "search.run", *words, "--executor", executor],
        cwd=tmp_path,
        env=environment(),
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


@pytest.mark.parametrize("promise", PROMISES)
def test_the_versions_of_the_set_keep(promise: str, python: Path) -> None:
    # Libraries of other versions warn of each other, which is no error of ours.
    options = ["-W", "default", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [python, "-m", "pytest", *options, *PROMISES[promise]],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
