"""Check that everything is ready for `ray up`, and afterwards for a search.

    python -m cluster.check cluster/onprem.yaml --storage s3://BUCKET --tracking http://HOST:5000

All problems are reported at once, one line each. FILE is read as `ray up` reads it. Fixed hosts
(`provider: {type: local}`) are checked over ssh, all at the same time. The machines of a cloud are
started on demand, so the account is checked instead, and the head if it is running. Parts that
cannot be checked are reported as "not checked". Exit codes: 0 if all is well, 2 for a mistake in
the file or the command, 4 if something is not ready.
"""

import argparse
import os
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from cluster import definition
from cluster.cli import Parser, error_line, expand_path, file_argument, say
from cluster.exit_codes import ExitCode
from cluster.guard import guarded
from cluster.preflight import account, findings, lint, probe, remote, schema
from cluster.preflight.findings import MISTAKE, Finding
from cluster.preflight.probe import ERROR, OK, UNCHECKED
from cluster.submit import environment_of

MAX_AT_ONCE = 64
ACTIVATES = re.compile(r"(?:\bsource|(?<![\w/])\.)\s+[\w./~$-]+/activate\b|\bexport PATH=[^;&|]+")
"""Matches the part of a shell command that puts the programs of an environment on the PATH."""
RAY_IN_A_FOLDER = re.compile(r"([\w./~$-]+)/ray start\b")
"""Matches a `ray start` that is called by its path; the group is the folder."""


def command(args: argparse.Namespace) -> int:
    """Run all checks, print the findings, and return the exit code."""
    config = definition.mapping(args.file)
    early_findings = [*check_file(args.file, config), *check_options(args)]
    unique_findings = findings.merge_duplicates(
        [
            *early_findings,
            *check_machines(
                without_malformed_entries(config),
                args.storage,
                args.tracking,
                environment_of(args.env),
            ),
        ]
    )
    errors = [finding for finding in unique_findings if finding.level in (ERROR, MISTAKE)]
    for finding in unique_findings:
        if finding not in errors:
            say(str(finding))
    for finding in errors:
        sys.stderr.write(error_line(finding.text))
    if any(finding.level == MISTAKE for finding in errors):
        return ExitCode.USAGE
    return ExitCode.NOT_READY if errors else 0


def check_file(path: Path, config: Mapping[str, Any]) -> Iterator[Finding]:
    """Check the file against Ray's schema and the list of unsafe settings (`lint`)."""
    if not schema.is_kubernetes(config):
        if wrong := schema.problems(path, config):
            yield from (Finding(MISTAKE, line) for line in wrong)
        else:
            yield Finding(OK, "ray up accepts the file")
    unsafe = lint.problems(dict(config))
    yield from (Finding(MISTAKE, line) for line in unsafe)
    if not unsafe:
        yield Finding(OK, "the file contains no unsafe setting")


def without_malformed_entries(config: Mapping[str, Any]) -> definition.Config:
    """Copy the config without the entries that have a wrong type.

    The schema check has already reported those; the other checks run on the rest.
    """
    forms: dict[str, type] = dict.fromkeys(
        ("provider", "auth", "docker", "file_mounts", "available_node_types"), dict
    )
    forms |= {key: list for key in config if str(key).endswith("_commands")}
    entries: definition.Config = {
        key: value for key, value in config.items() if isinstance(value, forms.get(key, object))
    }
    kinds = {
        name: kind
        for name, kind in entries.get("available_node_types", {}).items()
        if isinstance(kind, dict)
    }
    return entries | ({"available_node_types": kinds} if kinds else {})


def check_options(options: argparse.Namespace) -> Iterator[Finding]:
    """Yield a finding for each mistake in the options, and for each check that they disable."""
    if not options.storage:
        yield Finding(UNCHECKED, "the storage (pass --storage s3://BUCKET/PREFIX to check it)")
    elif not options.storage.startswith("s3://"):
        yield Finding(
            UNCHECKED,
            (
                f"the storage '{options.storage}' (only buckets can be checked; "
                "a folder must be the same one on every host)"
            ),
        )
    elif not options.storage.removeprefix("s3://").partition("/")[0]:
        yield Finding(
            MISTAKE,
            f"--storage {options.storage} does not contain the name of a bucket",
            "Use s3://BUCKET/PREFIX.",
        )
    if not options.tracking:
        yield Finding(UNCHECKED, "MLflow (pass --tracking URI to check it)")
    elif not is_server(options.tracking):
        yield Finding(
            UNCHECKED,
            (
                f"MLflow ('{options.tracking.partition(':')[0]}:' is not the address of a server "
                "that every machine can reach)"
            ),
        )


def is_server(uri: str) -> bool:
    """True if the URI is the address of a server that all machines can share."""
    return uri.startswith(("http://", "https://"))


def check_machines(
    config: Mapping[str, Any], storage: str, tracking: str, environment: Mapping[str, str]
) -> list[Finding]:
    """Check this machine and, at the same time, the machines of the cluster.

    On AWS, the account is checked instead, and the head if it is running. The machines of other
    providers are not checked.

    Args:
        config: the cluster's file, without malformed entries.
        storage: the value of --storage; empty to skip the bucket.
        tracking: MLflow's address; empty to skip it.
        environment: variables from --env, set on every machine during the checks.
    """
    request = {**_request(config, storage, tracking), "environment": dict(environment)}
    with ThreadPoolExecutor(MAX_AT_ONCE) as pool:
        here = pool.submit(probe.collect, {**request, "token": findings.token_paths(config)[1]})
        hosts = fixed_hosts(config)
        if hosts and shutil.which("ssh") is None:
            return [
                Finding(ERROR, "ssh is not installed here", "Install it."),
                *findings.judge(config, here.result(), []),
            ]
        if hosts and (
            no_key := key_problem(str((config.get("auth") or {}).get("ssh_private_key") or ""))
        ):
            return [no_key, *findings.judge(config, here.result(), [])]
        if hosts:
            visits = [
                pool.submit(
                    remote.visit,
                    host,
                    _host_login(config),
                    {**request, "is_head": host == hosts[0]},
                )
                for host in hosts
            ]
            return list(findings.judge(config, here.result(), [visit.result() for visit in visits]))
        return _check_cloud(config, request, here, pool)


def _check_cloud(
    config: Mapping[str, Any],
    request: Mapping[str, Any],
    here: "Future[probe.Json]",
    pool: ThreadPoolExecutor,
) -> list[Finding]:
    provider = config.get("provider")
    kind = (
        "kubernetes"
        if schema.is_kubernetes(config)
        else provider.get("type")
        if isinstance(provider, dict)
        else None
    )
    if kind != "aws":
        return [
            Finding(
                UNCHECKED, f"the machines (those of provider '{kind}' cannot be checked from here)"
            ),
            *findings.judge(config, here.result(), []),
        ]
    state = pool.submit(account.collect, config).result()
    cloud_findings = [Finding(*line) for line in state.lines]
    if not state.head:
        cloud_findings.append(Finding(UNCHECKED, "the nodes (no running head was found)"))
        return [*cloud_findings, *findings.judge(config, here.result(), [])]
    head = remote.visit(state.head, _host_login(config), {**request, "is_head": True})
    cloud_findings.append(
        Finding(UNCHECKED, "the workers (they are started on demand; only the head is checked)")
    )
    return [*cloud_findings, *findings.judge(config, here.result(), [head])]


def fixed_hosts(config: Mapping[str, Any]) -> list[str]:
    """List the hosts of a file with fixed hosts, the head first; empty for a cloud's file."""
    provider = config.get("provider")
    if (
        not isinstance(provider, dict)
        or provider.get("type") != "local"
        or not provider.get("head_ip")
    ):
        return []
    return list(
        dict.fromkeys(
            map(
                str,
                [
                    provider.get("external_head_ip") or provider["head_ip"],
                    *(provider.get("worker_ips") or []),
                ],
            )
        )
    )


def key_problem(name: str) -> Finding | None:
    """Check the file of an ssh key, without connecting to a host.

    The key must not have a passphrase, because `ray up` copies it to the head, which uses it to
    reach the workers.

    Args:
        name: the path of the key, as in the cluster's file; empty if the file names no key.

    Returns:
        The problem; None if there is no problem or no key.
    """
    path = expand_path(name)
    if not name:
        return None
    if not path.is_file():
        return Finding(UNCHECKED, f"the hosts (the ssh key {name} does not exist)")
    if path.stat().st_mode & 0o077:
        return Finding(
            ERROR,
            f"the ssh key {name} is readable by others, so ssh will not use it",
            f"Make it private: chmod 600 {name}.",
        )
    result = subprocess.run(
        ["ssh-keygen", "-y", "-P", "", "-f", path],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=10,
        check=False,
    )
    if result.returncode and "passphrase" in result.stderr:
        return Finding(
            ERROR,
            f"the ssh key {name} has a passphrase, which cannot be entered when ssh is used here",
            f"Create a key without a passphrase: ssh-keygen -t ed25519 -N '' -f {name}-2.",
        )
    return None


def _request(config: Mapping[str, Any], storage: str, tracking: str) -> probe.Json:
    """Build the request that every machine receives; it contains no secret."""
    starts = " ".join(findings.commands(config, "head_start_ray_commands"))
    return {
        "storage": storage if re.match("s3://[^/]", storage) else "",
        "tracking": _without_login(tracking) if is_server(tracking) else "",
        "nonce": secrets.token_hex(16),
        "token": findings.token_paths(config)[0],
        "gcs_port": _port(starts, "--port", 6379),
        "dashboard_port": _port(starts, "--dashboard-port", 8265),
    }


def _port(command: str, option: str, default: int) -> int:
    match = re.search(rf"(?<!\S){option}[= ]['\"]?(\d+)", command)
    return int(match[1]) if match else default


def _without_login(uri: str) -> str:
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _host_login(config: Mapping[str, Any]) -> remote.HostLogin:
    auth, docker = config.get("auth") or {}, config.get("docker") or {}
    starts = findings.commands(config, "head_start_ray_commands")
    before = [text for command in starts for text in ACTIVATES.findall(command)]
    before += [
        f'export PATH="{folder.replace("~", "$HOME", 1)}:$PATH"'
        for command in starts
        for folder in RAY_IN_A_FOLDER.findall(command)
    ]
    return remote.HostLogin(
        cluster=str(config.get("cluster_name") or ""),
        user=str(auth.get("ssh_user") or "ubuntu"),
        key=str(auth.get("ssh_private_key") or _rays_key(config)),
        proxy_command=str(auth.get("ssh_proxy_command") or ""),
        container=str(docker.get("container_name") or "") if docker.get("image") else "",
        before="".join(f"{text}; " for text in dict.fromkeys(before)),
    )


def _rays_key(config: Mapping[str, Any]) -> str:
    """Path of the key that `ray up` creates on AWS if the file names none.

    It is empty if there is no such key, or no region in the file.
    """
    region = (config.get("provider") or {}).get("region")
    return (
        next(
            map(str, sorted(Path("~/.ssh").expanduser().glob(f"ray-autoscaler_*{region}.pem"))), ""
        )
        if region
        else ""
    )


def parser() -> argparse.ArgumentParser:
    """Define the arguments of `python -m cluster.check`."""
    parser = Parser(
        prog="python -m cluster.check",
        description="Check that everything is ready for a cluster, and for a search on it.",
    )
    file_argument(parser)
    parser.add_argument(
        "--storage", default="", metavar="s3://BUCKET/PREFIX", help="where searches will be stored"
    )
    parser.add_argument(
        "--tracking",
        default=os.environ.get("MLFLOW_TRACKING_URI", ""),
        metavar="URI",
        help="the address of the MLflow server (default: $MLFLOW_TRACKING_URI)",
    )
    parser.add_argument(
        "--env",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an option that cluster.submit will be given too, for example AWS_ENDPOINT_URL=...",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, run the checks, and return the exit code."""
    args = parser().parse_args(argv)
    return guarded(lambda: command(args))


if __name__ == "__main__":
    raise SystemExit(main())
