"""Check that all nodes of a cluster are fit for a search.

Each node is asked for the versions of its libraries, and whether it shares a folder: a file is
written there for the node, and the node answers by writing a file of its own, as trials will.
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
"""The time that a shared folder gets to show a new file, and the interval of the checks."""
BLIND, MUTE = "blind", "mute"
"""The answers of a node that does not see the file, or may not write beside it."""


class SharedFolderCheck:
    """A check that asks every node once, except the one that it runs on."""

    def __init__(self, folder: Path | None, *, storage: object = None) -> None:
        """Prepare the check, without asking anything yet.

        Args:
            folder: the folder that all nodes must share; without one they are asked for their
                versions alone.
            storage: the user's name for the place where the folder is, for messages.
        """
        self.folder, self.storage, self.versions = folder, storage or folder, same()
        self.asked: dict[Any, str] = {}
        self.may_write: set[str] = set()
        """The nodes that may have left a file."""
        self.written: dict[Path, tuple[str, float]] = {}
        """The files that nodes report as written, each with the node's address and the time until
        which this machine waits to see it.
        """
        self.known = {ray.get_runtime_context().get_node_id()}
        self.probe = (folder or Path()).absolute() / f".probe-{uuid4().hex}"

    def ask(self, addresses: dict[str, str]) -> None:
        """Ask those of these nodes (id to address) that have not been asked yet.

        If the storage takes no file now, nothing is asked until the next call.
        """
        new = {node: address for node, address in addresses.items() if node not in self.known}
        if not new:
            return
        try:
            if self.folder is not None:
                _write_its_name(self.probe)
        except OSError:
            return
        self.known |= new.keys()
        probe = str(self.probe) if self.folder is not None else None
        self.may_write |= new.keys() if probe is not None else set()
        for node, address in new.items():
            there = NodeAffinitySchedulingStrategy(node, soft=False)
            asking = ray.remote(num_cpus=0, max_retries=0)(look).options(scheduling_strategy=there)
            self.asked[asking.remote(probe, node, SEEN_S)] = address

    def hear(self, timeout_s: float = 0) -> None:
        """Evaluate the answers that have arrived.

        Raises:
            NotReady: a node does not share the folder, or has other versions than this machine.
        """
        if not self.asked and not self.written:
            return
        answered = (
            ray.wait(list(self.asked), num_returns=len(self.asked), timeout=timeout_s)[0]
            if self.asked
            else []
        )
        told = [(self.asked.pop(answer), *_said(answer)) for answer in answered]
        blind = sorted({address for address, said, _ in told if said == BLIND})
        self.written |= {
            self.probe.with_name(said): (address, time.monotonic() + SEEN_S)
            for address, said, _ in told
            if said not in ("", BLIND, MUTE)
        }
        mute = sorted(
            {address for address, said, _ in told if said == MUTE} | self._late(wait=timeout_s > 0)
        )
        others = sorted(
            {
                f"{address} has {name} {found}, and here is {self.versions[name]}"
                for address, _, versions in told
                for name, found in versions.items()
                if found != self.versions[name]
            }
        )
        if blind or mute or others or not (self.asked or self.written):
            self.end()
        remedy = (
            "A cluster of several nodes needs --storage s3://bucket/prefix or a folder that all "
            "nodes mount under this path."
        )
        if blind:
            raise NotReady(
                f"storage '{self.storage}' is not shared: "
                f"node {', '.join(blind)} does not see it. {remedy}"
            )
        if mute:
            raise NotReady(
                f"storage '{self.storage}' is not shared: "
                f"what node {', '.join(mute)} writes there is not seen here. {remedy}"
            )
        if others:
            remedy = "Install cluster/requirements.txt on all of them."
            raise NotReady(f"the nodes of the cluster differ: {'; '.join(others)}. {remedy}")

    def _late(self, *, wait: bool) -> set[str]:
        """Look for the files that nodes have written.

        Returns the addresses of the nodes whose file did not appear in time.
        """
        late = set[str]()
        while self.written:
            for path, (address, until) in list(self.written.items()):
                if not _holds_its_name(path) and time.monotonic() < until:
                    continue
                late |= set() if _holds_its_name(path) else {address}
                del self.written[path]
            if not wait:
                break
            time.sleep(LOOK_S)
        return late

    def end(self) -> None:
        """Remove all files of the check.

        Each is removed by its name, because a shared folder's listing may be out of date.
        """
        for path in (self.probe, *(_of_node(self.probe, node) for node in sorted(self.may_write))):
            # If this cannot delete, it has not written either, or has lost the storage since.
            with suppress(OSError):
                path.unlink()


def look(probe: str | None, node: str, patience_s: float) -> tuple[str, dict[str, str]]:
    """Run on a node: answer the file of this name, if one is given, and return the versions."""
    return answer(Path(probe), node, patience_s) if probe is not None else "", same()


def answer(probe: Path, node: str, patience_s: float) -> str:
    """Write a file beside one that holds its own name.

    Returns the new file's name, or the reason why there is none: `BLIND` or `MUTE`.
    """
    until = time.monotonic() + patience_s
    while not _holds_its_name(probe):
        if time.monotonic() > until:
            return BLIND
        time.sleep(LOOK_S)
    mine = _of_node(probe, node)
    try:
        _write_its_name(mine)
    except OSError:
        return MUTE
    if not probe.exists():  # the asking process has ended meanwhile, and removes nothing any more
        with suppress(OSError):
            mine.unlink()
    return mine.name


def _of_node(probe: Path, node: str) -> Path:
    """Return the path of the file by which this node answers."""
    return probe.with_name(f"{probe.name}-{node}")


def _write_its_name(path: Path) -> None:
    """Write a file that holds its own name, unless it does already.

    Others may write into a shared folder: a link that lies there under this name is not followed.

    Raises:
        OSError: it cannot be written, or something else has this name.
    """
    if path.is_symlink() or not _holds_its_name(path):
        with path.open("x") as file:
            file.write(path.name)


def _holds_its_name(path: Path) -> bool:
    try:
        return path.read_text() == path.name
    except OSError:
        return False


def _said(answer: Any) -> tuple[str, dict[str, str]]:
    try:
        said, versions = ray.get(answer)
    except ray.exceptions.RayError:  # the node is gone again: nothing of it is needed
        return "", {}
    return str(said), dict(versions)
