"""A process that looks where a model is, and fetches each new version of it.

    python -m search.serving.watch QUESTION

MLflow's client and torch take seconds and memory, which the processes that answer requests do not
have to spare. Each version that it has fetched is a line on stdout, a `Fetched`; the first trouble
is its exit code and a line on stderr, each later one a line on stderr, once.
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
from search.api import prepared, tracking_uri
from search.process.guard import guarded
from search.process.versions import check_versions
from search.serving.messages import Fetched, Question
from search.tracking.model_registry import fetch, version_at
from trainables.errors import ConfigError, printable


def fetched(question: Question, version: str) -> Fetched:
    """Bring a version into a folder of its own, which no other look at it shares."""
    Path(question.into).mkdir(parents=True, exist_ok=True)
    own = Path(tempfile.mkdtemp(dir=question.into))
    try:
        found = _fetched(question, version, own / (version or "model"))
    except BaseException:
        shutil.rmtree(own, ignore_errors=True)
        raise
    return Fetched(str(found), version)


def _fetched(question: Question, version: str, into: Path) -> Path:
    if version:
        into.mkdir()
        source = f"models:/{question.registered}/{version}"
        return fetch(source, tracking_uri(question.tracking), into)
    return prepared(
        question.source,
        into,
        trial=question.trial,
        storage=question.storage,
        data_root=question.data_root,
    )


def bring(question: Question, version: str) -> None:
    """Bring a version, and say so."""
    print(json.dumps(asdict(fetched(question, version))), flush=True)


def version_now(question: Question) -> str:
    """Return the version that is wanted now; empty if it has no number."""
    if not question.source.startswith("models:"):
        return ""
    return version_at(question.source, tracking_uri(question.tracking))


def watch(question: Question) -> int:
    """Fetch the model, then each version to which its alias moves, as long as somebody listens."""
    check_versions()
    parent, trouble = os.getppid(), ""
    last = version_now(question)
    bring(question, last)
    while question.moves and os.getppid() == parent:
        time.sleep(question.poll_s)
        try:
            version = version_now(question)
            if version != last:
                bring(question, version)
                last = version
            trouble = ""
        except (ConfigError, NotReady, OSError) as error:
            if str(error) != trouble:
                with suppress(OSError):  # whether anybody reads it changes nothing
                    sys.stderr.write(f"note: {printable(str(error))} The version in use stays.\n")
            trouble = str(error)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Watch, and return the exit code (`process.exit_codes`)."""
    (text,) = sys.argv[1:] if argv is None else argv
    return guarded(lambda: watch(Question(**json.loads(text))))


if __name__ == "__main__":
    raise SystemExit(main())
