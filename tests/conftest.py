"""Fixtures and hooks that all tests share."""

import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from importlib import import_module
from pathlib import Path

import pytest
from filelock import FileLock

# Read as numpy, scipy and torch are loaded, here and in what tests start. By default each process
# has a thread for every core, and several processes' threads wait for each other by spinning.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from mlflow import MlflowClient
from sqlalchemy import Engine, event

from cluster.storage.bucket import Bucket, _client
from tests.again import pytest_addoption as pytest_addoption  # hooks of this file too
from tests.again import pytest_sessionfinish as pytest_sessionfinish
from tests.support.programs import needs, skip_lines
from tests.support.shortcut import write_marked_images

Command = Callable[..., subprocess.CompletedProcess[str]]
MakeOnce = Callable[[str, Callable[[Path], object]], Path]

SLOW_S, FAST_S = 15, 0.2
"""The seconds that a slow test takes if its mark gives none, and those of any other test."""


@pytest.hookimpl(
    wrapper=True
)  # before xdist, which puts the group into the test's name, and after it, to see that it did
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Generator[None, None, None]:
    """Give each test to a group that one process runs, and begin with the slowest.

    So the processes end together: files with many tests do not come last. A file is a group: its
    tests share what they start. Slow tests that share nothing are groups of their own.
    """
    weights: Counter[str] = Counter()
    groups: dict[pytest.Item, str] = {}
    for item in items:
        slow = item.get_closest_marker("slow")
        own = item.get_closest_marker("xdist_group")
        group = item.nodeid.partition("::")[0] + (" slow" if slow else "")
        if own is not None:
            group += f" {own.args[0]}"
        elif slow and not _shares(item):
            group = item.nodeid
        groups[item] = re.sub(r"[^\w/.]+", "-", group)
        weights[groups[item]] += (slow.args[0] if slow.args else SLOW_S) if slow else FAST_S
    items.sort(key=lambda item: (-weights[groups[item]], groups[item]))
    for item in items:
        item.own_markers = [mark for mark in item.own_markers if mark.name != "xdist_group"]
        item.add_marker(pytest.mark.xdist_group(groups[item]))
    yield
    if "PYTEST_XDIST_WORKER" in os.environ and not all("@" in item.nodeid for item in items):
        raise pytest.UsageError(
            "this pytest and this pytest-xdist do not keep groups of tests together: "
            "install those of constraints.txt"
        )


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test that opens a page where no browser is installed."""
    if item.get_closest_marker("browser"):
        needs("chromium")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what was skipped, and why."""
    reports = terminalreporter.stats.get("skipped", [])
    if lines := list(skip_lines(report.longrepr for report in reports)):
        terminalreporter.section("what was skipped")
        for line in lines:
            terminalreporter.write_line(line)


def _shares(item: pytest.Item) -> bool:
    """Return whether a test uses something that its file makes once for several tests."""
    file = item.nodeid.partition("::")[0]
    made = item._fixtureinfo.name2fixturedefs.values()
    return any(
        one.scope == "module" and one.baseid == file for definitions in made for one in definitions
    )


@pytest.fixture(scope="session", autouse=True)
def hasty_disk() -> Iterator[None]:
    """Wait for no disk: what tests write need not outlast the machine, only killed processes.

    Most of a played search would be such waits. Processes that a test starts wait as ever.
    """

    def hasten(connection: object, record: object) -> None:
        if isinstance(connection, sqlite3.Connection):
            connection.execute("PRAGMA synchronous = OFF")

    event.listen(Engine, "connect", hasten)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "fsync", lambda descriptor: None)
        yield
    event.remove(Engine, "connect", hasten)


@pytest.fixture(scope="session")
def make_once(tmp_path_factory: pytest.TempPathFactory) -> MakeOnce:
    """Make a folder of this name and its content, once for all test processes; return it."""
    own = tmp_path_factory.getbasetemp()
    shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own

    def make(name: str, fill: Callable[[Path], object]) -> Path:
        folder, done = shared / name, shared / f"{name}.made"
        with FileLock(shared / f"{name}.lock"):
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)  # the process that began it failed
                folder.mkdir()
                fill(folder)
                done.touch()
        return folder

    return make


@pytest.fixture(scope="session")
def empty_database(make_once: MakeOnce) -> Path:
    """Make an MLflow database without runs; copying it saves the seconds that migrations take."""

    def fill(folder: Path) -> None:
        MlflowClient(f"sqlite:///{folder}/mlflow.db").search_experiments()

    return make_once("empty-database", fill) / "mlflow.db"


@pytest.fixture
def database(tmp_path: Path, empty_database: Path) -> str:
    """Return the address of an MLflow database without runs in this test's folder."""
    shutil.copy(empty_database, tmp_path)
    return f"sqlite:///{tmp_path}/mlflow.db"


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """Run `python -m MODULE ...` in a folder of its own, as a user would.

    Returns its output and its exit code.
    """

    def run(
        module: str, *arguments: object, timeout: float = 900
    ) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-m", module, *map(str, arguments)]
        return subprocess.run(
            words, cwd=tmp_path, capture_output=True, text=True, timeout=timeout, check=False
        )

    return run


@pytest.fixture
def call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Do the same as `command` in this process, for calls that end before they start a process."""

    def run(module: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        words = list(map(str, arguments))
        monkeypatch.chdir(tmp_path)
        capsys.readouterr()
        try:
            code = import_module(module).main(words)
        except SystemExit as ended:  # argparse's
            code = ended.code
        said = capsys.readouterr()
        return subprocess.CompletedProcess(words, code, said.out, said.err)

    return run


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """Provide an empty place in a bucket that moto simulates.

    It is for tests of how a bucket is used, not of a service.
    """
    from moto import mock_aws

    for name, value in {
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    with mock_aws():
        _client.cache_clear()
        place = Bucket.of("s3://models/searches")
        place._client.create_bucket(Bucket=place.name)
        yield place
    _client.cache_clear()


@pytest.fixture
def marked_images(tmp_path: Path) -> tuple[Path, Path]:
    """A folder of 80 cats and 60 dogs with a mark, red for most cats, and the file of groups."""
    generator = np.random.default_rng(0)
    labels = np.repeat([0, 1], [80, 60])
    images = generator.integers(0, 128, (140, 8, 8), np.uint8) + (60 * labels)[:, None, None]
    folder, groups = tmp_path / "marked", tmp_path / "groups.csv"
    write_marked_images(
        folder, groups, images.astype(np.uint8), labels, ("cat", "dog"), agreement=0.8, side=2
    )
    return folder, groups
