"""A process that follows a model's alias, and fetches each new version.

    python -m search.serving.watch MODEL

MODEL is a `WatchedModel` as JSON. This is a separate process because MLflow's client and torch take
seconds and memory to import, which the processes that answer requests cannot spare. For each
version, the process prints a `FetchedModel` as a line of JSON. If the first fetch fails, it prints
the error to stderr and exits with an error code. If a later fetch fails, it prints the error and
tries again; an error that repeats is printed only once.
"""

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from cluster.errors import NotReady
from search.journal.store import storage
from search.process.guard import guarded
from search.process.versions import check_versions
from search.serving.messages import FetchedModel, WatchedModel
from search.trained.source import ModelSource
from trainables.errors import ConfigError, printable


def source_of(model: WatchedModel) -> ModelSource:
    """Convert a watched model to a `ModelSource`, which can be fetched."""
    return ModelSource(
        name=model.source,
        storage=storage(model.storage),
        trial=model.trial,
        tracking=model.tracking,
        data_root=None if model.data_root is None else Path(model.data_root),
    )


def fetch_version(model: WatchedModel, version: str) -> FetchedModel:
    """Fetch a version into a new folder, which no other fetch uses.

    Args:
        model: the model.
        version: the number of a registered version; empty for the model of a search.
    """
    Path(model.into).mkdir(parents=True, exist_ok=True)
    parent = Path(tempfile.mkdtemp(dir=model.into))
    try:
        folder = _fetch_into(model, version, parent / (version or "model"))
    except BaseException:
        shutil.rmtree(parent, ignore_errors=True)
        raise
    return FetchedModel(str(folder), version)


def _fetch_into(model: WatchedModel, version: str, into: Path) -> Path:
    source = source_of(model)
    return source.at_version(version).download(into) if version else source.fetch(into)


def fetch_and_report(model: WatchedModel, version: str) -> None:
    """Fetch a version, and report it on stdout as a line of JSON."""
    print(json.dumps(asdict(fetch_version(model, version))), flush=True)


def current_version(model: WatchedModel) -> str:
    """Query the current version of the source; empty for a model of a search."""
    return source_of(model).current_version()


def watch(model: WatchedModel) -> int:
    """Fetch the model, then each new version of its alias, until the parent process exits."""
    check_versions()
    parent, trouble = os.getppid(), ""
    last = current_version(model)
    fetch_and_report(model, last)
    while model.moves and os.getppid() == parent:
        time.sleep(model.poll_s)
        try:
            version = current_version(model)
            if version != last:
                fetch_and_report(model, version)
                last = version
            trouble = ""
        except (ConfigError, NotReady, OSError) as error:
            if str(error) != trouble:
                with suppress(OSError):  # stderr may be closed
                    sys.stderr.write(
                        f"note: {printable(str(error))} The current version stays in use.\n"
                    )
            trouble = str(error)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run `watch`, and return the exit code (`ExitCode`)."""
    (text,) = sys.argv[1:] if argv is None else argv
    return guarded(lambda: watch(WatchedModel(**json.loads(text))))


if __name__ == "__main__":
    raise SystemExit(main())
