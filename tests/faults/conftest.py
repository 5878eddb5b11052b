"""Searches and servers for the fault tests; whatever a test starts is gone when it ends."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import MakeOnce
from tests.faults.harness import GRID, Done, Search, Server

OpenSearch = Callable[..., Search]


@pytest.fixture(scope="module")
def open_search(
    tmp_path_factory: pytest.TempPathFactory, empty_database: Path
) -> Iterator[OpenSearch]:
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
def undisturbed(make_once: MakeOnce, empty_database: Path) -> tuple[Search, Done]:
    """The tiny grid without any fault: what every disturbed one must come to."""

    def fill(folder: Path) -> None:
        shutil.copy(empty_database, folder)
        search = Search(folder)
        try:
            done = search.run(*GRID).finish()
        finally:
            search.end()
        (folder / "done.json").write_text(json.dumps(asdict(done)))

    folder = make_once("undisturbed", fill)
    return Search(folder), Done(**json.loads((folder / "done.json").read_text()))
