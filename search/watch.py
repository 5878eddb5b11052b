"""Watches over running trials: one whose process makes no step for too long is killed, and so comes to be tried again."""

import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from trainables.heartbeat import last_beat

EVERY_S = 1.0


class Watch:
    """Look as often as you like. Clocks of other machines do not matter: what counts is how long a heartbeat stays the same."""

    def __init__(self, timeout_s: float, *, clock: Callable[[], float] = time.monotonic, kill: Callable[[int, str], None] | None = None) -> None:
        self.timeout_s, self.clock, self.kill = timeout_s, clock, kill or kill_process
        self.killed: dict[str, str] = {}
        """Why each trial was killed whose end has not come yet."""
        self._seen: dict[str, tuple[int, float]] = {}
        self._looked = -EVERY_S

    def look(self, folders: Mapping[str, Path]) -> None:
        """Kill each of these trials (name to folder) that has made no step since long."""
        if self.clock() - self._looked < EVERY_S:
            return
        self._looked = self.clock()
        self._seen = {trial: seen for trial, seen in self._seen.items() if trial in folders}
        for trial, folder in folders.items():
            beat = last_beat(folder)
            touched = beat[0] if beat else 0
            before, since = self._seen.get(trial, (None, 0.0))
            if touched != before:
                self._seen[trial] = (touched, self.clock())
            elif beat and self.clock() - since > self.timeout_s and trial not in self.killed:
                self.killed[trial] = f"it made no step for {self.timeout_s:g} s"
                self.kill(beat[1], beat[2])


def kill_process(pid: int, node: str) -> None:
    """Kill a process on a node of the cluster."""
    if node == ray.get_runtime_context().get_node_id():
        _kill(pid)
    else:
        there = NodeAffinitySchedulingStrategy(node, soft=False)
        ray.remote(num_cpus=0)(_kill).options(scheduling_strategy=there).remote(pid)


def _kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
