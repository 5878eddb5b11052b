"""`Job`, the description of a trial for a worker on any machine, and the reply to an evaluation."""

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cluster.storage.bucket import StorageError
from trainables.disk import write_whole
from trainables.messages import Cost, TrialRequest
from trainables.values import Evaluation, Json

JOB = "job"
Handed = dict[str, Any]
"""The config of a trial in Tune: its job, under `JOB`, and entries that Tune adds."""
WAITS = (1, 2, 5, 10, 30, 60)
"""Seconds to wait before the first, second, ... retry of a failed access to the storage."""


@dataclass(frozen=True)
class Job:
    """The description of a trial for a worker; it can be pickled and sent to any machine."""

    trial: str
    config: Json
    """The trial's `TrialConfig`, as a dict."""
    folder: str
    """The folder of the trial's checkpoints; if the storage is a bucket, their address there."""
    request: TrialRequest
    """The parameters of this attempt, such as its number and the storage of its checkpoints."""
    download: bool = False
    """True if missing pretrained weights may be downloaded."""


@dataclass(frozen=True)
class EvaluationReply:
    """A worker's reply: the evaluation or the cost of a checkpoint, or the reason of a failure."""

    found: Evaluation = field(default_factory=dict)
    """The part of the evaluation that the journal records; empty if nothing was evaluated."""
    cost: Cost = field(default_factory=Cost)
    remembered: frozenset[str] = frozenset()
    """The trials whose validation outputs the worker has cached; only in the reply of `get_ready`.
    """
    damaged: str | None = None
    """The fault of the checkpoint, or the error of the worker; None on success."""
    died: bool = False
    """True if the worker died before it replied."""
    hung: bool = False
    """True if the worker did not reply within the hang timeout."""


@contextmanager
def checkpoint_in(job: Job, epoch: int) -> Iterator[Path]:
    """Yield the local path of the checkpoint that a trial saved after this epoch.

    A checkpoint in a bucket is downloaded to a temporary folder, which is removed on exit.

    Raises:
        StorageError: the bucket cannot be read, even after the retries of `patiently`.
    """
    name = f"epoch-{epoch:04d}"
    if (mirror := job.request.mirror) is None:
        yield Path(job.folder) / name
        return
    with tempfile.TemporaryDirectory(prefix="checkpoint-") as folder:
        patiently(lambda: mirror.pull(Path(folder), only=name))
        yield Path(folder) / name


def patiently(call: Callable[[], object]) -> None:
    """Make a call to the storage; while it fails, retry it after the pauses in `WAITS`.

    Raises:
        StorageError: the last retry failed, too.
    """
    for wait in WAITS:
        try:
            call()
            return
        except StorageError:
            time.sleep(wait)
    call()


def keep(job: Job, name: str, evaluation: Evaluation) -> None:
    """Store an evaluation as JSON in the folder `evidence` next to the trial's checkpoints."""
    if (mirror := job.request.mirror) is not None:
        patiently(lambda: mirror.write(f"evidence/{name}", json.dumps(evaluation)))
        return
    file = Path(job.folder) / "evidence" / name
    file.parent.mkdir(exist_ok=True)
    write_whole(file, json.dumps(evaluation))
