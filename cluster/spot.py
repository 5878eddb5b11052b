"""Warn Ray before a spot machine is taken away.

`python -m cluster.spot` runs beside Ray on every worker on AWS. The machine's metadata service
announces the end of the machine two minutes in advance. Ray then drains the node until that time:
it places no new work on the node, running work continues, and `draining_nodes()` lists the node for
callers that want to move work away in time. Ray itself moves no work, and does nothing at the
deadline. A node that is idle while it is drained leaves the cluster. On Kubernetes, Ray drains a
node when its pod is terminated.
"""

import argparse
import json
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cluster.cli import seconds
from cluster.errors import NotReady
from cluster.exit_codes import ExitCode

IMDS = "http://169.254.169.254"
"""The address of AWS's instance metadata service (IMDS), the same on every machine."""
NOTICE, INSTANCE = "/latest/meta-data/spot/instance-action", "/latest/meta-data/instance-id"
"""Paths of the metadata service: the spot notice, and the machine's instance id."""
POLL_S, TIMEOUT_S, PATIENCE_S, TOKEN_S = 5.0, 5.0, 300.0, 60
"""In seconds: the interval between requests to the metadata service, the time-out of a request, the
time for which a failing service is retried, and the lifetime of the service's token.
"""


@dataclass(frozen=True, kw_only=True)
class Notice:
    """A spot notice: the action (terminate, stop or hibernate), and its Unix time in seconds."""

    action: str
    time: float


def metadata(path: str, *, imds: str = IMDS) -> str | None:
    """Request a path from the machine's metadata service; None if it responds with 404.

    The request is authenticated by a new token, as version 2 of the service requires.

    Raises:
        OSError: the service does not respond, or refuses.
    """
    # Use no proxy, because the address is link-local.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    token_request = urllib.request.Request(
        f"{imds}/latest/api/token",
        method="PUT",
        headers={"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_S)},
    )
    with opener.open(token_request, timeout=TIMEOUT_S) as response:
        token = response.read().decode()
    try:
        with opener.open(
            urllib.request.Request(imds + path, headers={"X-aws-ec2-metadata-token": token}),
            timeout=TIMEOUT_S,
        ) as response:
            return str(response.read().decode())
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        raise


def notice(*, imds: str = IMDS) -> Notice | None:
    """Request this machine's spot notice; None if there is none.

    Raises:
        OSError: the metadata service does not respond, or refuses.
        ValueError: the notice cannot be parsed.
    """
    text = metadata(NOTICE, imds=imds)
    if text is None:
        return None
    try:
        fields = json.loads(text)
        return Notice(
            action=str(fields["action"]), time=datetime.fromisoformat(fields["time"]).timestamp()
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"the spot notice cannot be parsed: {text[:200]!r}") from error


def drain(address: str, instance: str, spot_notice: Notice) -> str:
    """Let Ray drain this machine's node until the notice's deadline, and return the node's id.

    Args:
        address: the address of the Ray head node, as HOST:PORT.
        instance: this machine's instance id.
        spot_notice: the reason and the deadline.

    Raises:
        NotReady: Ray does not respond, has no node on this machine, or refuses.
    """
    from ray.core.generated import autoscaler_pb2

    store = _control_store(address)
    node = _node_of(store, instance)
    reason = autoscaler_pb2.DRAIN_NODE_REASON_PREEMPTION  # type: ignore[attr-defined]
    try:
        accepted, refusal = store.drain_node(
            node,
            reason,
            f"spot notice: {spot_notice.action}",
            int(spot_notice.time * 1000),
            timeout=TIMEOUT_S,
        )
    except RuntimeError as error:
        raise NotReady(
            f"the spot notice could not be sent to Ray at {address} ({error})"
        ) from error
    if not accepted:
        raise NotReady(f"Ray refuses to drain this node ({refusal})")
    return node


def _control_store(address: str) -> Any:
    from ray._raylet import GcsClient  # type: ignore[attr-defined]

    try:
        return GcsClient(address=address)
    except RuntimeError as error:
        raise NotReady(f"Ray at {address} does not respond ({error})") from error


def _node_of(store: Any, instance: str) -> str:
    """Look up the id of the Ray node that is alive on this machine.

    The instance ids of Ray's nodes are those of AWS, because `ray up` passes them to Ray.

    Raises:
        NotReady: Ray does not respond, or has no such node.
    """
    from ray.core.generated import gcs_pb2

    alive = gcs_pb2.GcsNodeInfo.GcsNodeState.ALIVE  # type: ignore[attr-defined]
    try:
        nodes = store.get_all_node_info(timeout=TIMEOUT_S).items()
    except RuntimeError as error:
        raise NotReady(f"Ray does not respond ({error})") from error
    for node, info in nodes:
        if info.instance_id == instance and info.state == alive:
            return str(node.hex())
    raise NotReady(f"Ray has no running node on the instance {instance}")


def draining_nodes() -> dict[str, float]:
    """Get the deadlines of the nodes that are being drained, by node id.

    Deadlines are Unix times in seconds; 0 if unknown. The calling process must have joined Ray.
    """
    import ray

    return {
        node: deadline / 1000
        for node, deadline in ray._private.state.state.get_draining_nodes().items()
    }


def watch(
    address: str, *, imds: str = IMDS, poll_s: float = POLL_S, say: Callable[[str], None] = print
) -> str:
    """Wait for a spot notice, without a time limit; then drain the node, and return its id.

    If Ray does not respond, the call is repeated until the time in the notice. If the metadata
    service fails, requests are repeated for `PATIENCE_S`.

    Args:
        address: the address of Ray's head, as HOST:PORT.
        imds: the URL of the metadata service.
        poll_s: the interval between requests, in seconds.
        say: prints one line for each event.

    Raises:
        NotReady: the metadata service, or Ray after a notice, did not respond within these times.
    """
    last_answer = time.monotonic()
    while True:
        try:
            instance, spot_notice = metadata(INSTANCE, imds=imds), notice(imds=imds)
            last_answer = time.monotonic()
            if spot_notice is not None:
                remaining_s = spot_notice.time - time.time()
                say(
                    f"spot notice: AWS will {spot_notice.action} the instance {instance} in "
                    f"{remaining_s:.0f} s"
                )
                return _drain_in_time(address, str(instance), spot_notice, poll_s, say)
        except (OSError, ValueError) as error:
            if time.monotonic() - last_answer > PATIENCE_S:
                raise NotReady(
                    f"spot notices cannot be read from the metadata service at {imds} ({error}). "
                    "Check that this machine is an instance of AWS EC2."
                ) from error
            say(f"spot notices could not be read from the metadata service ({error}); trying again")
        time.sleep(poll_s)


def _drain_in_time(
    address: str, instance: str, spot_notice: Notice, poll_s: float, say: Callable[[str], None]
) -> str:
    while True:
        try:
            node = drain(address, instance, spot_notice)
        except NotReady as error:
            if time.time() > spot_notice.time:
                raise
            say(f"{error}; trying again")
            time.sleep(min(poll_s, 1))
        else:
            say(f"node {node} is draining")
            return node


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line, watch for a notice, and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m cluster.spot",
        description="Notify Ray when this spot machine is about to be reclaimed.",
    )
    parser.add_argument(
        "--address",
        required=True,
        metavar="HOST:PORT",
        help="the address of Ray's head, as passed to 'ray start --address'",
    )
    parser.add_argument(
        "--metadata",
        default=IMDS,
        metavar="URL",
        help="the URL of the machine's metadata service (default: %(default)s)",
    )
    parser.add_argument(
        "--poll",
        type=seconds,
        default=POLL_S,
        metavar="SECONDS",
        help="the interval between two requests to it (default: %(default)s)",
    )
    options = parser.parse_args(arguments)
    try:
        watch(
            options.address,
            imds=options.metadata,
            poll_s=options.poll,
            say=lambda line: print(line, flush=True),
        )
    except NotReady as error:
        print(f"error: {error}", file=sys.stderr)
        return ExitCode.NOT_READY
    except KeyboardInterrupt:
        print("stopped by Ctrl-C", file=sys.stderr)
        return ExitCode.INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
