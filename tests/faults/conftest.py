"""Searches and servers for the fault tests; whatever a test starts is gone when it ends."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from tests.faults.harness import GRID, Done, Search, Server

OpenSearch = Callable[..., Search]


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database without runs: to copy it saves the seconds that its migrations take."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture(scope="module")
def open_search(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Iterator[OpenSearch]:
    """Makes searches, each in a folder of its own with an MLflow database of its own."""
    with ExitStack() as stack:

        def make(*, folder: Path | None = None, **options: Any) -> Search:
            where = folder or tmp_path_factory.mktemp("search")
            if not (where / "mlflow.db").exists():
                shutil.copy(empty_database, where / "mlflow.db")
            search = Search(where, **options)
            stack.callback(search.end)
            return search

        yield make


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Iterator[Server]:
    """An MLflow server that is up. A test may kill it and start it again."""
    folder = tmp_path_factory.mktemp("server")
    running = Server(folder, Path(shutil.copy(empty_database, folder)))
    try:
        yield running.start()
    finally:
        running.kill()


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Iterator[tuple[Search, Done]]:
    """The tiny grid without any fault: what every disturbed one must come to."""
    folder = tmp_path_factory.mktemp("undisturbed")
    shutil.copy(empty_database, folder)
    search = Search(folder)
    try:
        yield search, search.run(*GRID).finish()
    finally:
        search.end()
