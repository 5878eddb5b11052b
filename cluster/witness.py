"""Whether all nodes of a cluster are fit for a search: each is asked for the versions of its libraries, and whether it sees a folder, where a file
is written for it.
"""

import time
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.errors import NotReady
from cluster.versions import same

ANSWER_S = 60.0
SEEN_S, LOOK_S = 5.0, 0.2
"""How long a shared folder may take to show a new file."""


class Witness:
    """Asks each node once; nothing is asked of a single one."""

    def __init__(self, folder: Path | None, *, storage: object = None) -> None:
        """`storage` is what a person calls the place where the folder is; without a folder nodes are asked for their versions alone."""
        self.folder, self.storage, self.versions = folder, storage or folder, same()
        self.asked: dict[Any, str] = {}
        self.known = {ray.get_runtime_context().get_node_id()}
        self.probe = (folder or Path()).absolute() / f".probe-{uuid4().hex}"

    def ask(self, addresses: dict[str, str]) -> None:
        """Ask those of these nodes (id to address) that have not been; later, if the storage takes no file now."""
        new = {node: address for node, address in addresses.items() if node not in self.known}
        if not new:
            return
        try:
            if self.folder is not None:
                self.probe.write_text(self.probe.name)
        except OSError:
            return
        self.known |= new.keys()
        probe = str(self.probe) if self.folder is not None else None
        for node, address in new.items():
            there = NodeAffinitySchedulingStrategy(node, soft=False)
            asking = ray.remote(num_cpus=0, max_retries=0)(look).options(scheduling_strategy=there)
            self.asked[asking.remote(probe, SEEN_S)] = address

    def hear(self, timeout_s: float = 0) -> None:
        """What they say, as far as they have.

        Raises:
            NotReady: one of them does not see the folder, or has other versions than this machine.
        """
        if not self.asked:
            return
        answered, _ = ray.wait(list(self.asked), num_returns=len(self.asked), timeout=timeout_s)
        told = [(self.asked.pop(answer), *_said(answer)) for answer in answered]
        blind = sorted({address for address, is_seen, _ in told if not is_seen})
        others = sorted(
            {
                f"{address} has {name} {found}, and here is {self.versions[name]}"
                for address, _, versions in told
                for name, found in versions.items()
                if found != self.versions[name]
            }
        )
        if blind or others or not self.asked:
            self.end()
        if blind:
            remedy = "A cluster of several nodes needs --storage s3://bucket/prefix or a folder that all nodes mount under this path."
            raise NotReady(f"storage '{self.storage}' is not shared: node {', '.join(blind)} does not see it. {remedy}")
        if others:
            remedy = "Install cluster/requirements.txt on all of them."
            raise NotReady(f"the nodes of the cluster differ: {'; '.join(others)}. {remedy}")

    def end(self) -> None:
        """Leave no file."""
        with suppress(OSError):  # whoever cannot delete has not written either, or has lost the storage since
            self.probe.unlink()


def look(probe: str | None, patience_s: float) -> tuple[bool, dict[str, str]]:
    """Whether the file of this name, if there is one, comes to be seen here, and this machine's versions."""
    return probe is None or sees(probe, patience_s), same()


def sees(probe: str, patience_s: float) -> bool:
    """Whether this file, which holds its own name, comes to be seen here."""
    path, until = Path(probe), time.monotonic() + patience_s
    while True:
        try:
            if path.read_text() == path.name:
                return True
        except OSError:
            pass
        if time.monotonic() > until:
            return False
        time.sleep(LOOK_S)


def _said(answer: Any) -> tuple[bool, dict[str, str]]:
    try:
        is_seen, versions = ray.get(answer)
    except ray.exceptions.RayError:  # the node is gone again: nothing of it is needed
        return True, {}
    return bool(is_seen), dict(versions)
