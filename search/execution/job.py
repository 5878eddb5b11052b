"""A job: all that a worker needs to know of a trial, on whatever machine the worker is.

It is a plain dict: `trial`, `config` (a `TrialConfig` as a dict), `folder` for checkpoints (with a
`bucket`: the place in it), `attempt` (attempt number, from 1), `known` (the last epoch that the
journal has), `beginnings` (trials that this one may warm-start from, since they have trained its
first epochs: `search`, `trial`, `epoch`, and where their checkpoints are), `milestones` (epochs at
which others of its kind end), `with_cost` (whether to measure what it costs to use) and `download`
(whether weights to begin with may be fetched).
"""

import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from cluster.storage.bucket import Bucket, StorageError
from cluster.storage.mirror import Mirror
from search.journal.store import BEATS, TRIALS
from trainables.checkpoints.lineage import WarmStartSource
from trainables.config import TrialConfig
from trainables.request import TrialRequest
from trainables.values import Evaluation

Job = dict[str, Any]

WAITS = (1, 2, 5, 10, 30, 60)
"""Seconds that an evaluation waits for the storage before each new try."""


def make_job(
    trial: str,
    config: TrialConfig,
    place: dict[str, Any],
    *,
    attempt: int,
    known: int,
    beginnings: Sequence[dict[str, Any]] = (),
    milestones: Sequence[int] = (),
    with_cost: bool = False,
    download: bool = False,
) -> Job:
    """Return the job of a trial; `place` is what `Home.place` gives."""
    about = {
        "attempt": attempt,
        "known": known,
        "beginnings": list(beginnings),
        "milestones": list(milestones),
        "with_cost": with_cost,
        "download": download,
    }
    return {"trial": trial, "config": config.to_dict(), **place, **about}


def beginnings_of(job: Job) -> list[WarmStartSource]:
    """Return the sources from which a job's trial may warm-start."""
    return [
        WarmStartSource(
            one["search"],
            one["trial"],
            one["folder"],
            one["epoch"],
            mirror_of(one) if one["bucket"] is not None else None,
        )
        for one in job["beginnings"]
    ]


def request_of(job: Job) -> TrialRequest:
    """Return what a job asks of its trial."""
    return TrialRequest(
        attempt=job["attempt"],
        known=job["known"],
        beginnings=beginnings_of(job),
        milestones=job["milestones"],
        with_cost=job["with_cost"],
        mirror=mirror_of(job),
    )


@contextmanager
def checkpoint_in(job: Job, epoch: int) -> Iterator[Path]:
    """Give the path of a trial's checkpoint of this epoch, for as long as it is used.

    It is brought to this machine first if it is kept in a bucket.
    """
    name = f"epoch-{epoch:04d}"
    if (mirror := mirror_of(job)) is None:
        yield Path(job["folder"]) / name
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


def keep(job: Job, name: str, found: Evaluation) -> None:
    """Write a whole evaluation beside the trial's checkpoints."""
    from trainables.checkpoints.checkpoint import write_whole

    if (mirror := mirror_of(job)) is not None:
        patiently(lambda: mirror.write(f"evidence/{name}", json.dumps(found)))
        return
    file = Path(job["folder"]) / "evidence" / name
    file.parent.mkdir(exist_ok=True)
    write_whole(file, json.dumps(found))


def mirror_of(job: Job) -> Mirror | None:
    """Return the mirror that keeps a job's trial in a bucket.

    None where the trial is kept in a folder that this machine sees.
    """
    if job.get("bucket") is None:
        return None
    bucket, trial = Bucket(**job["bucket"]), Path(job["folder"]).name
    return Mirror(bucket / TRIALS / trial, replace(bucket, quick=True) / BEATS / trial)
