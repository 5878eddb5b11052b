"""Check a shared folder with simulated nodes.

`tests/search/execution/test_cluster_capacity.py` has real ones.
"""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from cluster.errors import NotReady
from cluster.runtime import shared_folder
from cluster.runtime.shared_folder import MUTE, SharedFolderCheck, answer

ADDRESSES = {"here": "10.0.0.1", "a": "10.0.0.2", "b": "10.0.0.3"}
Said = tuple[str, dict[str, str]]
Answer = Callable[[str, str, float], Said]


class Played:
    """A simulated Ray whose nodes answer at once; node `b` answers in a way of its own."""

    exceptions = ray.exceptions

    def __init__(self, b: Answer) -> None:
        self.b = b
        self.results: list[Said] = []

    def get_runtime_context(self) -> Any:
        """Return the context of the node `here`."""
        return SimpleNamespace(get_node_id=lambda: "here")

    def remote(self, **options: object) -> Any:
        """Return an object that makes a task of a function."""
        return lambda function: SimpleNamespace(
            options=lambda scheduling_strategy: SimpleNamespace(
                remote=self.on(scheduling_strategy.node_id, function)
            )
        )

    def on(self, node: str, function: Answer) -> Callable[..., int]:
        """Run a task on a node, and keep its result under its number."""

        def remote(probe: str, name: str, patience_s: float) -> int:
            self.results.append((self.b if node == "b" else function)(probe, name, patience_s))
            return len(self.results) - 1

        return remote

    def wait(
        self, tasks: list[Any], num_returns: int, timeout: float
    ) -> tuple[list[Any], list[Any]]:
        """Report that all tasks have ended."""
        return tasks, []

    def get(self, task: int) -> Said:
        """Return the task's result."""
        return self.results[task]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        shared_folder,
        "NodeAffinitySchedulingStrategy",
        lambda node, soft: SimpleNamespace(node_id=node),
    )
    monkeypatch.setattr(shared_folder, "APPEAR_S", 0.3)
    monkeypatch.setattr(shared_folder, "LOOK_S", 0.01)


def read_only(probe: str, node: str, patience_s: float) -> Said:
    """Play a node that may not write there."""
    path = Path(probe)
    path.with_name(f"{path.name}-{node}").mkdir()
    said = shared_folder.inspect_node(probe, node, patience_s)
    path.with_name(f"{path.name}-{node}").rmdir()
    return said


def own_folder(probe: str, node: str, patience_s: float) -> Said:
    """Play a node whose files stay its own, as in a copy of the folder."""
    return f"{Path(probe).name}-{node}", {}


def another_folder(probe: str, node: str, patience_s: float) -> Said:
    """Play a node that has another folder under this path."""
    return shared_folder.inspect_node(f"{probe}-none", node, patience_s)


def test_a_folder_that_all_share_is_left_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_folder, "ray", Played(shared_folder.inspect_node))
    one = SharedFolderCheck(tmp_path)
    one.ask(ADDRESSES)
    assert [path.name for path in tmp_path.iterdir() if path.name == one.probe.name]
    one.collect_answers(1)
    assert list(tmp_path.iterdir()) == []
    one.ask(ADDRESSES)
    assert list(tmp_path.iterdir()) == [], "nobody is asked twice"


@pytest.mark.parametrize(
    ("node", "words"),
    [
        (read_only, r"files that these nodes write do not appear on this machine: 10\.0\.0\.3\."),
        (own_folder, r"files that these nodes write do not appear on this machine: 10\.0\.0\.3\."),
        (
            another_folder,
            r"files that this machine writes do not appear on these nodes: 10\.0\.0\.3\.",
        ),
    ],
)
def test_a_node_that_does_not_share_it_both_ways_is_named(
    node: Answer, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trial there could not keep its checkpoints, or nobody would find them."""
    monkeypatch.setattr(shared_folder, "ray", Played(node))
    one = SharedFolderCheck(tmp_path, storage="/shared")
    one.ask(ADDRESSES)
    with pytest.raises(
        NotReady,
        match=(
            rf"^storage '/shared' is not shared: {words} A cluster of several nodes needs "
            r"--storage"
        ),
    ):
        one.collect_answers(1)
    assert list(tmp_path.iterdir()) == []


def test_who_only_looks_now_and_then_waits_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_folder, "APPEAR_S", 60)
    monkeypatch.setattr(shared_folder, "ray", Played(own_folder))
    one = SharedFolderCheck(tmp_path)
    one.ask(ADDRESSES)
    one.collect_answers()
    (late,) = one.files
    late.write_text(late.name)
    one.collect_answers()
    assert list(tmp_path.iterdir()) == []


def test_what_a_shared_folder_does_not_list_yet_is_removed_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_folder, "ray", Played(shared_folder.inspect_node))
    one = SharedFolderCheck(tmp_path)
    one.ask(ADDRESSES)
    with monkeypatch.context() as old:
        old.setattr(Path, "glob", lambda path, pattern: iter(()))
        one.collect_answers(1)
    assert list(tmp_path.iterdir()) == []


def test_a_node_that_answers_after_the_end_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe = tmp_path / ".probe-1"
    probe.write_text(probe.name)
    holds = shared_folder._has_own_name

    def holds_and_ends(path: Path) -> bool:
        found = holds(path)
        probe.unlink(missing_ok=True)
        return found

    monkeypatch.setattr(shared_folder, "_has_own_name", holds_and_ends)
    shared_folder.answer(probe, "a", 1)
    assert list(tmp_path.iterdir()) == []


def test_a_node_writes_through_no_link(tmp_path: Path) -> None:
    probe, mine = tmp_path / ".probe-1", tmp_path / "mine.txt"
    probe.write_text(probe.name)
    mine.write_text("precious")
    (tmp_path / ".probe-1-a").symlink_to(mine)
    assert answer(probe, "a", 0) == MUTE
    assert mine.read_text() == "precious"
