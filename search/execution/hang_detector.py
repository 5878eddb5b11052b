"""Detection of trials that hang.

A trial whose process makes no step for too long is killed, and so is tried again.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import psutil
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from trainables.checkpoints.heartbeat import Beat, last_beats

EVERY_S = 1.0
HELD_UP_S = 9.0
"""A look that comes so many seconds later than it was due means that this process was held up
itself, and with it the trials that report to it.
"""


class Watch:
    """A watch over running trials; `look` may be called as often as one likes.

    The clocks of other machines do not matter: what counts is how long a heartbeat stays the same.
    """

    def __init__(
        self,
        timeout_s: float,
        *,
        beats: Callable[[list[Path]], list[Beat | None]] = last_beats,
        every_s: float = EVERY_S,
        clock: Callable[[], float] = time.monotonic,
        kill: Callable[[int, str], None] | None = None,
    ) -> None:
        """Take `beats`, which gives the last heartbeat of the trial in each of these folders.

        It is asked every `every_s` seconds.
        """
        self.timeout_s, self.beats, self.every_s, self.clock, self.kill = (
            timeout_s,
            beats,
            every_s,
            clock,
            kill or kill_process,
        )
        self.killed: dict[str, str] = {}
        """The reason for each trial that was killed and whose end has not been reported yet."""
        self._seen: dict[Path, tuple[Beat, float]] = {}
        self._looked = -every_s

    def look(self, attempts: Mapping[Path, int]) -> None:
        """Kill each of these trials that has made no step for too long.

        `attempts` gives the attempt number of each trial's folder.
        """
        gap = self.clock() - self._looked
        if gap < self.every_s:
            return
        self._looked = self.clock()
        unseen = gap if gap > HELD_UP_S + self.every_s else 0.0
        self._seen = {
            folder: (beat, since + unseen)
            for folder, (beat, since) in self._seen.items()
            if folder in attempts
        }
        for (folder, attempt), beat in zip(
            attempts.items(), self.beats(list(attempts)), strict=True
        ):
            if beat is None:  # nothing is known of it now: its time begins anew
                self._seen.pop(folder, None)
                continue
            if beat.attempt != attempt:
                continue
            before, since = self._seen.get(folder, (None, 0.0))
            if beat != before:
                self._seen[folder] = (beat, self.clock())
            elif self.clock() - since > self.timeout_s and folder.name not in self.killed:
                self.killed[folder.name] = f"it made no step for {self.timeout_s:g} s"
                self.kill(beat.pid, beat.node)


def kill_process(pid: int, node: str) -> None:
    """Kill a process on a node of the cluster."""
    if node == ray.get_runtime_context().get_node_id():
        _kill(pid)
    else:
        there = NodeAffinitySchedulingStrategy(node, soft=False)
        ray.remote(num_cpus=0)(_kill).options(scheduling_strategy=there).remote(pid)


def _kill(pid: int) -> None:
    """Kill this process, but only if it is one of Ray's workers.

    The pid comes from a file, and may have passed to another process since.
    """
    with suppress(psutil.Error, ValueError):
        process = psutil.Process(pid)
        if "".join(process.cmdline()[:1]).startswith("ray::"):
            process.kill()
