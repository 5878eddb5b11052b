"""Detection of trials that hang.

If the heartbeat of a trial has not changed for too long, the trial's process is killed. The driver
then retries the trial.
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
"""Default seconds between two checks."""
HELD_UP_S = 9.0
"""If a check is late by more than this number of seconds, this process itself was blocked, and so
were the trials that report to it. That time does not count towards their timeout.
"""


class Watch:
    """Kills running trials whose heartbeat does not change; call `look` as often as convenient.

    The time without a change is measured with the clock of this process, so the clocks of other
    machines need not agree with it.
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
        """Start without known heartbeats.

        Args:
            timeout_s: the seconds without a new heartbeat after which a trial is killed.
            beats: given the folders of trials, returns the last heartbeat of each; None for a trial
                without a heartbeat.
            every_s: the minimal seconds between two calls of `beats`.
            clock: returns the time in seconds.
            kill: kills a process, given its pid and its node; by default `kill_process`.
        """
        self.timeout_s, self.beats, self.every_s, self.clock, self.kill = (
            timeout_s,
            beats,
            every_s,
            clock,
            kill or kill_process,
        )
        self.killed: dict[str, str] = {}
        """Maps a killed trial to the reason, until its failure has been reported."""
        self._seen: dict[Path, tuple[Beat, float]] = {}
        self._looked = -every_s

    def look(self, attempts: Mapping[Path, int]) -> None:
        """Kill each running trial whose heartbeat has not changed within the timeout.

        Heartbeats of earlier attempts are ignored.

        Args:
            attempts: maps the folder of each running trial to the number of its current attempt.
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
            if beat is None:  # the heartbeat cannot be read now, so the timeout starts again
                self._seen.pop(folder, None)
                continue
            if beat.attempt != attempt:
                continue
            before, since = self._seen.get(folder, (None, 0.0))
            if beat != before:
                self._seen[folder] = (beat, self.clock())
            elif self.clock() - since > self.timeout_s and folder.name not in self.killed:
                self.killed[folder.name] = f"it did not complete a step within {self.timeout_s:g} s"
                self.kill(beat.pid, beat.node)


def kill_process(pid: int, node: str) -> None:
    """Kill a worker process of Ray, given its pid and the id of its node."""
    if node == ray.get_runtime_context().get_node_id():
        _kill(pid)
    else:
        there = NodeAffinitySchedulingStrategy(node, soft=False)
        ray.remote(num_cpus=0)(_kill).options(scheduling_strategy=there).remote(pid)


def _kill(pid: int) -> None:
    """Kill the process with this pid if it is a worker of Ray.

    The pid comes from a file, and may belong to an unrelated process by now.
    """
    with suppress(psutil.Error, ValueError):
        process = psutil.Process(pid)
        if "".join(process.cmdline()[:1]).startswith("ray::"):
            process.kill()
