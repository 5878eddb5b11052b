"""Events a second that become durable, by how many arrive together: python -m tests.bench.durable.

In a folder on the disk, and in a bucket of a real server on this machine, whose answers may be
delayed (`--latency-ms`). A bucket gets one request for all events that arrive together.
"""

import argparse
import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from cluster.storage.bucket import Bucket, _client
from search.journal.bucket_log import JournalCopy
from search.journal.events import Epoch, Started
from search.journal.journal import Journal
from tests.bench.replay import said
from tests.support.services import seaweedfs

TOGETHER = (1, 4, 16, 64, 256)
LEAST = 200
"""The minimum number of events for a measurement."""


def speed(journal: Journal, together: int) -> float:
    """Return the events a second that are written so many at a time."""
    journal.append(Started())
    groups = max(8, LEAST // together)
    began = time.perf_counter()
    for group in range(groups):
        with journal.group():
            for number in range(together):
                epoch = group * together + number + 1
                journal.add(Epoch("t0001", epoch, said(epoch, 0.5, is_last=False).metrics))
    seconds = time.perf_counter() - began
    journal.close()
    return groups * together / seconds


def main() -> None:
    """Measure the disk, and the bucket with each latency."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--latency-ms", type=float, nargs="*", default=[0, 20])
    parser.add_argument("--storage", type=Path, default=Path.cwd(), help="a folder on a real disk")
    args = parser.parse_args()
    print(
        "| events at once | the disk |"
        + "".join(f" bucket, +{ms:g} ms |" for ms in args.latency_ms)
    )
    print("|---" * (2 + len(args.latency_ms)) + "|")
    put = Bucket.put
    with TemporaryDirectory(dir=args.storage) as scratch, seaweedfs(Path(scratch) / "s3") as server:
        folder = Path(scratch)
        os.environ.update(server.environment)
        _client.cache_clear()
        for together in TOGETHER:
            speeds = [speed(Journal(folder / f"disk-{together}"), together)]
            for latency in args.latency_ms:

                def delayed(place: Bucket, content: bytes, *words: object, **more: object) -> str:
                    time.sleep(latency / 1000)  # noqa: B023 - called before the next value
                    return put(place, content, *words, **more)  # type: ignore[arg-type]

                Bucket.put = delayed  # type: ignore[assignment, method-assign]
                name = f"bucket-{latency:g}-{together}"
                journal = Journal(folder / name)
                journal.copy = JournalCopy(Bucket.of(f"s3://{server.bucket}/{name}")).append
                speeds.append(speed(journal, together))
            row = " | ".join(f"{each:,.0f}" for each in speeds)
            print(f"| {together} | {row} |", flush=True)


if __name__ == "__main__":
    main()
