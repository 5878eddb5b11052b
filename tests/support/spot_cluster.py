"""A cluster in which one node is told of its end, as a spot machine or as a pod.

It prints the outcome, and must run in a process of its own.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
from ray.cluster_utils import Cluster
from ray.exceptions import GetTimeoutError
from ray.util.placement_group import placement_group, placement_group_table, remove_placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.spot import draining_nodes
from tests.support.imds import metadata_service

PATIENCE_S = 400


def node_on(cluster: Cluster, instance: str) -> str:
    """Start a node as `ray up` does on an instance of that name."""
    os.environ["RAY_CLOUD_INSTANCE_ID"] = instance
    return str(cluster.add_node(num_cpus=2).node_id)


def wait(condition: Callable[[], Any], what: str) -> Any:
    end = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < end, what
        time.sleep(0.1)
    return found


def alive() -> list[str]:
    return [node["NodeID"] for node in ray.nodes() if node["Alive"]]


@ray.remote(num_cpus=1)
class Work:
    def answer(self) -> str:
        return "still here"


def placed(patience_s: float = PATIENCE_S) -> str | None:
    """Return the node that a placement group of one CPU gets, or None if it waits."""
    group = placement_group([{"CPU": 1}])
    try:
        ray.get(group.ready(), timeout=patience_s)
        return str(placement_group_table(group)["bundles_to_node_id"][0])
    except GetTimeoutError:
        remove_placement_group(group)
        return None


def machine(cluster: Cluster) -> dict[str, Any]:
    """Play a spot machine beside another one.

    Its notice comes through the metadata service and `cluster.spot`.
    """
    leaves, stays = node_on(cluster, "i-leaves"), node_on(cluster, "i-stays")
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    wait(lambda: {leaves, stays} <= set(alive()), "nodes")
    work = Work.options(
        scheduling_strategy=NodeAffinitySchedulingStrategy(leaves, soft=False)
    ).remote()  # type: ignore[attr-defined]
    ray.get(work.answer.remote())
    with metadata_service("i-leaves") as service:
        service.failures = 1
        words = [
            sys.executable,
            "-m",
            "cluster.spot",
            "--address",
            cluster.address,
            "--metadata",
            service.url,
            "--poll",
            "0.1",
        ]
        watcher = subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        wait(lambda: service.failures == 0 and service.tokens, "a question")
        before = draining_nodes(), watcher.poll()
        end = int(time.time()) + 600
        service.tell(
            json.dumps(
                {
                    "action": "terminate",
                    "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(end)),
                }
            )
        )
        told = wait(draining_nodes, "a drained node")
        said, _ = watcher.communicate(timeout=PATIENCE_S)
    found = {
        "before": before,
        "told": told == {leaves: end},
        "said": said.splitlines(),
        "code": watcher.returncode,
        "working": ray.get(work.answer.remote()),
        "placed on the other": [placed() == stays, placed() == stays, placed(3)],
        "alive meanwhile": leaves in alive(),
    }
    ray.kill(work)
    wait(lambda: leaves not in alive(), "the idle node to leave")
    return found | {"leaving at last": draining_nodes(), "others": stays in alive()}


def pod(cluster: Cluster) -> dict[str, Any]:
    """Play a node as KubeRay starts it, `ray start --block`, whose pod is told to end: SIGTERM."""
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    before = set(alive())
    own = {"RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "110", "RAY_CLOUD_INSTANCE_ID": "pod"}
    words = [
        str(Path(sys.executable).with_name("ray")),
        "start",
        f"--address={cluster.address}",
        "--num-cpus=1",
        "--num-gpus=0",
        "--block",
    ]
    words += ["--min-worker-port=0", "--max-worker-port=0"]
    started = subprocess.Popen(
        [*words, "--dashboard-agent-listen-port=0"],
        env=os.environ | own,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    (node,) = wait(lambda: set(alive()) - before, "the pod's node")
    work = Work.options(
        scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)
    ).remote()  # type: ignore[attr-defined]
    ray.get(work.answer.remote())
    started.terminate()
    left = wait(draining_nodes, "a drained node")[node] - time.time()
    found = {"told": 0 < left <= 110, "working": ray.get(work.answer.remote())}
    ray.kill(work)
    return found | {
        "code": started.wait(PATIENCE_S),
        "gone": wait(lambda: node not in alive(), "the node to leave"),
    }


def main() -> None:
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}
    )
    try:
        print(json.dumps({"machine": machine, "pod": pod}[sys.argv[1]](cluster)))
    finally:
        ray.shutdown()
        cluster.shutdown()


if __name__ == "__main__":
    main()
