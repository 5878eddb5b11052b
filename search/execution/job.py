"""A job: all that a worker needs to know of a trial, on whatever machine the worker is.

And what a worker answers that evaluates one.
"""

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cluster.storage.bucket import StorageError
from trainables.messages import Cost
from trainables.request import TrialRequest
from trainables.values import Evaluation, Json

JOB = "job"
Handed = dict[str, Any]
"""A trial's config to Tune: its job, under `JOB`, and what Tune adds to it."""
WAITS = (1, 2, 5, 10, 30, 60)
"""Seconds that an evaluation waits for the storage before each new try."""


@dataclass(frozen=True)
class Job:
    """A trial as a worker gets it: plain values, which may cross to other machines."""

    trial: str
    config: Json
    """A `TrialConfig` as a dict."""
    folder: str
    """The folder of its checkpoints; with a mirror the place in the bucket."""
    request: TrialRequest
    download: bool = False
    """True if weights to begin with may be fetched."""


@dataclass(frozen=True)
class EvaluationReply:
    """A worker's answer: what it found of a trial's checkpoint, or why it found nothing."""

    found: Evaluation = field(default_factory=dict)
    cost: Cost = field(default_factory=Cost)
    remembered: frozenset[str] = frozenset()
    """Of a worker that has got ready: the trials whose evaluation takes next to no time there."""
    damaged: str | None = None
    """The fault of the checkpoint, or of the worker; None if all is well."""
    died: bool = False
    """True if the worker died."""
    hung: bool = False
    """True if the worker gives no answer."""


@contextmanager
def checkpoint_in(job: Job, epoch: int) -> Iterator[Path]:
    """Give the path of a trial's checkpoint of this epoch, for as long as it is used.

    It is brought to this machine first if it is kept in a bucket.
    """
    name = f"epoch-{epoch:04d}"
    if (mirror := job.request.mirror) is None:
        yield Path(job.folder) / name
        return
    with tempfile.TemporaryDirectory(prefix="checkpoint-") as folder:
        patiently(lambda: mirror.pull(Path(folder), only=name))
        yield Path(folder) / name


def patiently(call: Callable[[], object]) -> None:
    """Make a call that needs the storage, and repeat it while the storage refuses.

    Raises:
        StorageError: it still refuses after the last wait (`WAITS`).
    """
    for wait in WAITS:
        try:
            call()
            return
        except StorageError:
            time.sleep(wait)
    call()


def keep(job: Job, name: str, evaluation: Evaluation) -> None:
    """Write a whole evaluation beside the trial's checkpoints."""
    from trainables.checkpoints.checkpoint import write_whole

    if (mirror := job.request.mirror) is not None:
        patiently(lambda: mirror.write(f"evidence/{name}", json.dumps(evaluation)))
        return
    file = Path(job.folder) / "evidence" / name
    file.parent.mkdir(exist_ok=True)
    write_whole(file, json.dumps(evaluation))
