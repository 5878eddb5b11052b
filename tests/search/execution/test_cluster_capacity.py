"""Searches on real clusters of several nodes: how many trials run at once when machines join, are
lost, or belong to other searches too.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from tests.faults.harness import GRID, Search
from tests.support.nodes import Nodes, nodes
from tests.support.programs import needs

pytestmark = [pytest.mark.ray, pytest.mark.slow]

SLOW, FAST = 2.0, 0.02
TRIALS, LATER = 9, 5
ELSEWHERE = 'mount --make-rprivate / && mount -t tmpfs tmpfs "$0" && exec "$@"'
"""A command to which a folder is an empty one of its own."""


OTHER = """
import sys, ray
from cluster.runtime.fair_share import Shares, Use
ray.init(sys.argv[1], log_to_driver=False)
Shares().tell(Use(cpus=100))
sys.stdin.read()
"""


AUTOSCALER = {
    "cluster_name": "played",
    "max_workers": 2,
    "idle_timeout_minutes": 5,
    "upscaling_speed": 1.0,
    "provider": {
        "type": "fake_multinode",
        "disable_node_updaters": True,
        "disable_launch_config_check": True,
        "launch_multiple": True,
    },
    "available_node_types": {
        "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
        "worker": {
            "resources": {"CPU": 1, "object_store_memory": 100_000_000},
            "node_config": {},
            "max_workers": 2,
        },
    },
    "head_node_type": "ray.head.default",
    **{name: {} for name in ("auth", "docker", "file_mounts")},
    **{f"{when}setup_commands": [] for when in ("", "head_", "worker_")},
    **{
        name: []
        for name in (
            "initialization_commands",
            "head_start_ray_commands",
            "worker_start_ray_commands",
        )
    },
    **{name: [] for name in ("cluster_synced_files", "rsync_exclude", "rsync_filter")},
    "file_mounts_sync_continuously": False,
}
"""What Ray's autoscaler needs to start nodes as processes of this machine; the wheel lacks its own
example of that.
"""


class Played:
    """A cluster whose nodes play their trainings: no torch is imported, and how long an epoch takes
    may be changed at any time.
    """

    def __init__(self, folder: Path, cluster: Nodes) -> None:
        self.folder, self.cluster = folder, cluster
        self.nodes = Search(folder, "nodes")

    def epochs_take(self, seconds: float, *, held_from: int = TRIALS + 1) -> None:
        """Let every epoch take so long.

        Trials from this number on are held before their second epoch until this is called again: a
        search lasts until all that is waited for has happened, however busy the machine is.
        """
        held = (
            {"do": "hold", "trial": f"t{number:04}", "epoch": 2}
            for number in range(held_from, TRIALS + 1)
        )
        self.nodes.plan(*held, played={"epoch_s": seconds})

    def join(
        self,
        cpus: int = 1,
        *words: object,
        environment: dict[str, str] | None = None,
        **options: Any,
    ) -> "subprocess.Popen[bytes]":
        return self.cluster.start(
            cpus, *words, environment={**self.nodes.environment, **(environment or {})}, **options
        )

    @contextmanager
    def other_search(self) -> "Iterator[subprocess.Popen[bytes]]":
        """A driver that says it could use the whole cluster, and does nothing."""
        own = {**os.environ, **self.cluster.environment}
        process = subprocess.Popen(
            [sys.executable, "-c", OTHER, self.cluster.address],
            env=own,
            cwd=self.folder,
            stdin=subprocess.PIPE,
        )
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    def search(
        self, name: str, *words: object, environment: dict[str, str] | None = None
    ) -> Search:
        """Nine trials of three epochs, recorded beside those of other searches."""
        search = Search(self.folder, name, tracking=f"sqlite:///{self.folder}/mlflow.db")
        own = {**self.cluster.environment, **self.nodes.environment, **(environment or {})}
        return search.run(*GRID, "--address", self.cluster.address, *words, environment=own)


@pytest.fixture
def headless(tmp_path: Path, empty_database: Path) -> Iterator[Played]:
    """A cluster of which no node has started yet."""
    shutil.copy(empty_database, tmp_path)
    with nodes() as cluster:
        made = Played(tmp_path, cluster)
        made.epochs_take(SLOW, held_from=LATER)
        yield made


@pytest.fixture
def played(headless: Played) -> Played:
    """A cluster of one node with one CPU."""
    headless.join()
    return headless


def running(search: Search) -> list[set[str]]:
    """Return the trials that ran after each event."""
    now: set[str] = set()
    found = []
    for event in search.events():
        if event["event"] == "running":
            now = now | {event["trial"]}
        elif event["event"] in ("ended", "retried"):
            now = now - {event["trial"]}
        found.append(now)
    return found


def wait_for_at_once(search: Search, count: int) -> None:
    search.wait_until(
        lambda: len((running(search) or [set()])[-1]) == count, what=f"{count} trials at once"
    )


def runs(folder: Path, name: str) -> list[str]:
    """The names of a search's runs, below its own."""
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    found = client.search_runs(experiments)
    (parent,) = [run.info.run_id for run in found if run.info.run_name == name]
    return sorted(
        run.info.run_name for run in found if run.data.tags.get("mlflow.parentRunId") == parent
    )


def test_two_searches_share_a_cluster_of_two_nodes(played: Played) -> None:
    """The first has both nodes, and gives one back once a trial ends after the second has begun.
    Both finish, each with its own runs.
    """
    played.join()
    first = played.search("first")
    wait_for_at_once(first, 2)
    second = played.search("second")
    second.wait_until(lambda: "searches share the cluster" in second.err)
    played.epochs_take(SLOW, held_from=TRIALS)
    second.wait_for_event("running")
    first.wait_for_event("slots", count=1)
    wait_for_at_once(first, 1)
    wait_for_at_once(second, 1)
    played.epochs_take(FAST)
    for search in (first, second):
        done = search.finish()
        assert done.code == 0, done.err
        assert done.summary["trials"] == {"completed": 9}
        assert runs(played.folder, search.name) == [f"t000{number}" for number in range(1, 10)]
    assert "2 searches share the cluster; this search will run 1 trial at once" in second.err
    assert second.events("started")[0]["slots"] == 1


def slots(search: Search) -> list[int]:
    return [event["count"] for event in search.events("slots")]


def test_a_search_grows_with_its_cluster_and_a_lost_node_costs_no_epoch(played: Played) -> None:
    """A node joins, and a second trial runs. Another search takes its share until it is killed. The
    node is lost, and its trial goes on elsewhere.
    """
    search = played.search("grown")
    wait_for_at_once(search, 1)
    node = played.join()
    wait_for_at_once(search, 2)
    with played.other_search():
        search.wait_until(lambda: slots(search) == [2, 1], what="a share for the other")
    search.wait_until(lambda: slots(search) == [2, 1, 2], what="the share of one that was killed")
    wait_for_at_once(search, 2)
    played.cluster.lose(node)
    search.wait_for_event("retried", kind="lost")
    search.wait_until(lambda: slots(search) == [2, 1, 2, 1], what="one node fewer")
    played.epochs_take(FAST)
    done = search.finish()
    assert done.code == 0, done.err
    assert done.summary["trials"] == {"completed": 9}
    trained = sorted((event["trial"], event["epoch"]) for event in search.events("epoch"))
    assert trained == [(f"t000{number}", epoch) for number in range(1, 10) for epoch in range(1, 4)]
    assert len(search.events("retried")) == 1
    assert (
        len(played.nodes.truth()) - 27 <= 1
    )  # the epoch that was cut off, if any, was trained again


def test_an_autoscaler_is_asked_for_all_machines_at_once_and_waited_for(
    headless: Played, tmp_path: Path
) -> None:
    """Ray's own autoscaler, from no machine for trials to two. There never come more, and a trial
    that none would be large enough for is refused.
    """
    file = tmp_path / "ray_bootstrap_config.yaml"
    provider = {**AUTOSCALER["provider"], "gcs_address": headless.cluster.address}
    file.write_text(json.dumps({**AUTOSCALER, "provider": provider}))
    own = {
        "HOME": str(tmp_path),
        "RAY_FAKE_CLUSTER": "1",
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        "RAY_enable_autoscaler_v2": "0",
    }
    headless.join(0, f"--autoscaling-config={file}", environment=own)
    refused = headless.search("large", "--cpus-per-trial", 2, environment=own).finish()
    assert refused.code == 4
    assert (
        "one trial needs 2 CPUs and 0 GPUs, but "
        "the cluster can have at most 2 CPUs and 0 GPUs on 3 machines, and each process must fit "
        "on a single machine" in refused.err
    )
    search = headless.search("patient", environment=own)
    search.wait_until(
        lambda: max(map(len, running(search)), default=0) == 2, what="two trials at once"
    )
    headless.epochs_take(FAST)
    done = search.finish()
    assert done.code == 0, done.err
    assert (
        "waiting for machines: one trial needs 1 CPU and 0 GPUs, but "
        "the cluster has 1 machine with 0 CPUs" in done.err
    )
    logs = "".join(
        path.read_text()
        for path in headless.cluster.folder.glob("r/session_latest/logs/monitor.log")
    )
    queued = re.findall(r"Queue (\d+) new nodes for launch", logs)
    assert queued[:1] == ["2"], "both at once; a node that is lost under load is replaced by one"


@pytest.mark.cluster
def test_a_folder_that_one_node_does_not_see_is_refused(played: Played) -> None:
    """Needs root: to the second node the folder is another one, by a mount that only it has. A
    search that runs when the node joins stops, and may be resumed; one that begins after that
    leaves nothing behind.
    """
    storage = played.folder / "searches"
    storage.mkdir()
    needs("unshare")
    before = ("unshare", "-m", "sh", "-c", ELSEWHERE, str(storage))
    if subprocess.run([*before, "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs root, to hide a folder from a node")
    first = played.search("first")
    wait_for_at_once(first, 1)
    played.join(before=before)
    done = first.finish()
    assert first.events()[-1]["outcome"] == "lost"
    second = played.search("second").finish()
    for found in (done, second):
        assert found.code == 4
        (line,) = [line for line in found.err.splitlines() if line.startswith("error:")]
        assert line.startswith(
            f"error: storage '{storage}' is not shared: files that this machine writes do not "
            "appear on these nodes: "
        )
        assert line.endswith(
            ". A cluster of several nodes needs --storage s3://bucket/prefix "
            "or a folder that all nodes mount under this path."
        )
    assert [path.name for path in storage.iterdir()] == ["first"]


DRAIN = """
import sys, time, ray
from ray._raylet import GcsClient
from ray.core.generated import autoscaler_pb2
ray.init(sys.argv[1], log_to_driver=False)
(node,) = (one["NodeID"] for one in ray.nodes() if one["Alive"] and one["Resources"].get("away"))
print(GcsClient(address=sys.argv[1]).drain_node(node, \
autoscaler_pb2.DRAIN_NODE_REASON_PREEMPTION, "notice", int((time.time() + 120) * 1000)))
"""


def test_a_node_that_is_about_to_be_taken_away_loses_its_trial_after_an_epoch(
    headless: Played,
) -> None:
    """After a spot notice the trial goes on elsewhere, and no epoch is trained twice."""
    headless.join(0)
    going = headless.join(1, "--resources", '{"away": 1}')
    headless.epochs_take(SLOW, held_from=1)
    search = headless.search("s", "--concurrency", "1", environment=headless.cluster.environment)
    search.wait_for_event("epoch")
    headless.join(1)
    own = {**os.environ, **headless.cluster.environment}
    done = subprocess.run(
        [sys.executable, "-c", DRAIN, headless.cluster.address],
        env=own,
        cwd=headless.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "True" in done.stdout, done.stderr
    headless.epochs_take(SLOW)
    search.wait_for_event("retried", kind="moved")
    headless.epochs_take(FAST)
    headless.cluster.lose(going)
    ended = search.finish()
    assert ended.code == 0, ended.err
    assert [event["kind"] for event in search.events("retried")] == ["moved"]
    trained = [(line["trial"], line["epoch"]) for line in headless.nodes.truth()]
    assert len(trained) == len(set(trained)) == 27
