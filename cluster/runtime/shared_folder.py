"""Check that all nodes of a cluster can run trials of a search.

Each node reports the versions of its libraries. To check the shared folder, this process writes a
file there. Each node that sees this file writes another one, as trials will do later.
"""

import time
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.errors import NotReady
from cluster.versions import shared_versions

ANSWER_S = 60.0
"""Time to wait for the answers of the nodes, in seconds."""
APPEAR_S, LOOK_S = 5.0, 0.2
"""The time within which a new file must appear in a shared folder, and the interval between checks,
in seconds.
"""
BLIND, MUTE = "blind", "mute"
"""The answers of a node that does not see our file, and of a node that cannot write next to it."""


class SharedFolderCheck:
    """A check that inspects each node once, except the node on which this process runs."""

    def __init__(self, folder: Path | None, *, storage: object = None) -> None:
        """Prepare the check, without inspecting a node yet.

        Args:
            folder: the folder that all nodes must share; None to check only their versions.
            storage: the name of the storage in messages; None for `folder`.
        """
        self.folder, self.storage, self.versions = folder, storage or folder, shared_versions()
        self.pending_tasks: dict[Any, str] = {}
        self.possible_writers: set[str] = set()
        """The ids of the nodes that may have written a file."""
        self.files: dict[Path, tuple[str, float]] = {}
        """The files that nodes have reported as written, each with the node's address and the
        deadline (`time.monotonic`) until which the file must be visible here.
        """
        self.checked_nodes = {ray.get_runtime_context().get_node_id()}
        self.probe = (folder or Path()).absolute() / f".probe-{uuid4().hex}"

    def ask(self, addresses: dict[str, str]) -> None:
        """Start to inspect the nodes that have not been inspected yet.

        If the folder cannot be written now, no inspection is started, and the next call tries
        again.

        Args:
            addresses: the addresses of all nodes, by node id.
        """
        new = {
            node: address for node, address in addresses.items() if node not in self.checked_nodes
        }
        if not new:
            return
        try:
            if self.folder is not None:
                _write_its_name(self.probe)
        except OSError:
            return
        self.checked_nodes |= new.keys()
        probe = str(self.probe) if self.folder is not None else None
        self.possible_writers |= new.keys() if probe is not None else set()
        for node, address in new.items():
            on_node = NodeAffinitySchedulingStrategy(node, soft=False)
            inspection = ray.remote(num_cpus=0, max_retries=0)(inspect_node).options(
                scheduling_strategy=on_node
            )
            self.pending_tasks[inspection.remote(probe, node, APPEAR_S)] = address

    def collect_answers(self, timeout_s: float = 0) -> None:
        """Evaluate the answers that have arrived.

        Args:
            timeout_s: the time to wait for further answers, in seconds.

        Raises:
            NotReady: a node does not share the folder, or has other versions than this machine.
        """
        if not self.pending_tasks and not self.files:
            return
        finished = (
            ray.wait(
                list(self.pending_tasks), num_returns=len(self.pending_tasks), timeout=timeout_s
            )[0]
            if self.pending_tasks
            else []
        )
        replies = [(self.pending_tasks.pop(task), *_reply_of(task)) for task in finished]
        blind = sorted({address for address, reply, _ in replies if reply == BLIND})
        self.files |= {
            self.probe.with_name(reply): (address, time.monotonic() + APPEAR_S)
            for address, reply, _ in replies
            if reply not in ("", BLIND, MUTE)
        }
        mute = sorted(
            {address for address, reply, _ in replies if reply == MUTE}
            | self._late(wait=timeout_s > 0)
        )
        differences = sorted(
            {
                f"{address} has {name} {version}, but this machine has {self.versions[name]}"
                for address, _, versions in replies
                for name, version in versions.items()
                if version != self.versions[name]
            }
        )
        if blind or mute or differences or not (self.pending_tasks or self.files):
            self.end()
        remedy = (
            "A cluster of several nodes needs --storage s3://bucket/prefix or a folder that all "
            "nodes mount under this path."
        )
        if blind:
            raise NotReady(
                f"storage '{self.storage}' is not shared: files that this machine writes "
                f"do not appear on these nodes: {', '.join(blind)}. {remedy}"
            )
        if mute:
            raise NotReady(
                f"storage '{self.storage}' is not shared: files that these nodes write "
                f"do not appear on this machine: {', '.join(mute)}. {remedy}"
            )
        if differences:
            raise NotReady(
                "the nodes of the cluster have different software versions: "
                f"{'; '.join(differences)}. Install cluster/requirements.txt on every node."
            )

    def _late(self, *, wait: bool) -> set[str]:
        """Look for the files that nodes have written.

        Args:
            wait: True to wait for each file until it appears or its deadline has passed.

        Returns:
            The addresses of the nodes whose file did not appear in time.
        """
        late = set[str]()
        while self.files:
            for path, (address, deadline) in list(self.files.items()):
                if not _has_own_name(path) and time.monotonic() < deadline:
                    continue
                late |= set() if _has_own_name(path) else {address}
                del self.files[path]
            if not wait:
                break
            time.sleep(LOOK_S)
        return late

    def end(self) -> None:
        """Remove all files of the check.

        They are removed by name, because the listing of a shared folder may be out of date.
        """
        for path in (
            self.probe,
            *(_of_node(self.probe, node) for node in sorted(self.possible_writers)),
        ):
            # Deletion fails if the file does not exist, or if the storage is not reachable now.
            with suppress(OSError):
                path.unlink()


def inspect_node(probe: str | None, node: str, patience_s: float) -> tuple[str, dict[str, str]]:
    """Inspect the node on which this function runs.

    Args:
        probe: path of the file that the node has to see; None to report only the versions.
        node: the node's id.
        patience_s: the time for which to wait for the file, in seconds.

    Returns:
        The result of `answer` (empty if `probe` is None), and the versions of the libraries.
    """
    return answer(Path(probe), node, patience_s) if probe is not None else "", shared_versions()


def answer(probe: Path, node: str, patience_s: float) -> str:
    """Wait until the file `probe` contains its own name, and write a file next to it.

    Returns:
        The new file's name, `BLIND` if `probe` does not appear within `patience_s`, or `MUTE` if
        the new file cannot be written.
    """
    deadline = time.monotonic() + patience_s
    while not _has_own_name(probe):
        if time.monotonic() > deadline:
            return BLIND
        time.sleep(LOOK_S)
    mine = _of_node(probe, node)
    try:
        _write_its_name(mine)
    except OSError:
        return MUTE
    if not probe.exists():  # the check has already ended, and will not remove our file
        with suppress(OSError):
            mine.unlink()
    return mine.name


def _of_node(probe: Path, node: str) -> Path:
    """Path of the file with which this node answers."""
    return probe.with_name(f"{probe.name}-{node}")


def _write_its_name(path: Path) -> None:
    """Create a file that contains its own name, unless it exists already.

    Other users may write into a shared folder, so a symbolic link of this name is not followed.

    Raises:
        OSError: the file cannot be written, or something else has this name.
    """
    if path.is_symlink() or not _has_own_name(path):
        with path.open("x") as file:
            file.write(path.name)


def _has_own_name(path: Path) -> bool:
    try:
        return path.read_text() == path.name
    except OSError:
        return False


def _reply_of(task: Any) -> tuple[str, dict[str, str]]:
    try:
        reply, versions = ray.get(task)
    except ray.exceptions.RayError:  # the node has left the cluster, so it needs no check
        return "", {}
    return str(reply), dict(versions)
