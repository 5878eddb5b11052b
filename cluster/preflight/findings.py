"""Turn the machines' reports into findings about the cluster, and merge duplicates."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cluster.preflight.lint import COMMANDS, RAY_PIN
from cluster.preflight.probe import ERROR, OK, UNCHECKED
from cluster.preflight.remote import Visit
from cluster.versions import TRIED_VERSIONS

MISTAKE = "mistake"
"""The level of an error that is in the file itself."""

HERE = "here"
MAX_AHEAD_S = 5
"""The largest accepted difference between two clocks, in seconds."""
MAX_NAMED = 8
"""A finding of the level `OK` lists at most this many machines. If there are more, it only states
their number.
"""

INSTALLS = re.compile(r"\b(pip3?|uv|conda) (\S+ )*(install|sync)\b")
"""Matches a command that installs Python packages."""
HostReport = Mapping[str, Any]
"""The report of `cluster.preflight.probe` on one machine."""


@dataclass(frozen=True)
class Finding:
    """The result of one check, which is printed as one line.

    `level` is `OK`, `ERROR`, `UNCHECKED` or `MISTAKE`. `places` are the names of the machines to
    which the finding applies.
    """

    level: str
    what: str
    remedy: str = ""
    places: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The machines, the observation and the remedy as one line, without the level."""
        names = (
            f"{len(self.places)} machines"
            if self.level == OK and len(self.places) > MAX_NAMED
            else ", ".join(self.places)
        )
        where = f"{names}: " if names else ""
        return f"{where}{self.what.rstrip('.')}{f'. {self.remedy}' if self.remedy else '.'}"

    def __str__(self) -> str:
        return f"{ERROR if self.level == MISTAKE else self.level}: {self.text}"


def merge_duplicates(findings: Iterable[Finding]) -> list[Finding]:
    """Merge findings that differ only in their machines; the merged one names all machines."""
    findings_by_key: dict[tuple[str, str, str], Finding] = {}
    for finding in findings:
        key = finding.level, finding.what, finding.remedy
        earlier = findings_by_key.get(key)
        findings_by_key[key] = (
            replace(
                finding,
                places=(
                    *earlier.places,
                    *(place for place in finding.places if place not in earlier.places),
                ),
            )
            if earlier
            else finding
        )
    return list(findings_by_key.values())


def judge(
    config: Mapping[str, Any], here: HostReport, visits: Sequence[Visit]
) -> Iterator[Finding]:
    """Yield all findings about this machine and the hosts.

    Args:
        config: the cluster's file.
        here: the probe's report on this machine.
        visits: the results for the hosts, the head first; empty if none was checked.
    """
    reached = [visit for visit in visits if visit.report]
    for visit in visits:
        yield (
            Finding(OK, "the login by ssh works", "", (visit.host,))
            if visit.report
            else Finding(ERROR, visit.problem, visit.remedy, (visit.host,))
        )
    if not here["rsync"] or not all(visit.report["rsync"] for visit in reached):
        lacking = [
            *([] if here["rsync"] else [HERE]),
            *(visit.host for visit in reached if not visit.report["rsync"]),
        ]
        yield Finding(
            ERROR,
            "rsync is not installed, but ray up needs it to copy files",
            "Install it.",
            tuple(lacking),
        )
    yield from versions(config, here, reached)
    yield from clocks(reached)
    for visit in reached:
        yield gpus(config, visit, is_head=visit is visits[0])
    yield from tokens(config, here, visits)
    for place, report in [(HERE, here), *((visit.host, visit.report) for visit in reached)]:
        for level, what, remedy in report["lines"]:
            yield Finding(level, what, remedy, (place,))


def versions(
    config: Mapping[str, Any], here: HostReport, reached: Sequence[Visit]
) -> Iterator[Finding]:
    """Yield the findings about the versions of Python and Ray.

    Ray refuses a node unless its versions of Python and Ray are exactly those of the head. This
    machine may have a different version of Python, because jobs are sent to the head as files.
    """
    pins = {
        first or second for command in _texts(config) for first, second in RAY_PIN.findall(command)
    } - {here["ray"]}
    if pins:
        yield Finding(
            ERROR,
            f"the file installs Ray {', '.join(sorted(pins))}, but this machine has {here['ray']}",
            "Use the same version in both places.",
        )
    if here["ray"] is not None and not (tried := TRIED_VERSIONS["ray"]).has(here["ray"]):
        what = f"this program was not tested with Ray {here['ray']}, only with {tried}"
        yield Finding(
            ERROR, what, f"Install a tested version: pip install 'ray{tried.bounds}'.", (HERE,)
        )
    bare = tuple(visit.host for visit in reached if visit.report["ray"] is None)
    if bare and any(
        INSTALLS.search(str(command))
        for command in commands(
            config, "setup_commands", "head_setup_commands", "worker_setup_commands"
        )
    ):
        yield Finding(
            UNCHECKED,
            "the version of Ray (it is not installed yet; the file's setup commands install it)",
            "",
            bare,
        )
    elif bare:
        yield Finding(
            ERROR,
            "Ray is not installed, or not on the PATH of a login shell",
            f"Install it: pip install 'ray[default]=={here['ray']}'.",
            bare,
        )
    yield from _version_differences(here, [visit for visit in reached if visit.host not in bare])


def _version_differences(here: HostReport, comparable: Sequence[Visit]) -> Iterator[Finding]:
    """Compare the hosts' versions of Python and Ray; for Ray, include this machine."""
    for name, key in (("Python", "python"), ("Ray", "ray")):
        places: dict[str, list[str]] = {here[key]: [HERE]} if key == "ray" else {}
        for visit in comparable:
            places.setdefault(visit.report[key], []).append(visit.host)
        if len(places) > 1:
            groups = "; ".join(
                f"{version} on {', '.join(hosts)}".replace("on here", "here")
                for version, hosts in places.items()
            )
            first = next(iter(places))
            yield Finding(
                ERROR,
                f"the versions of {name} differ: {groups}",
                f"Install the same version of {name} on all machines, for example {first}.",
            )
        elif comparable:
            yield Finding(
                OK, f"{name} {next(iter(places))}", "", tuple(next(iter(places.values())))
            )


def clocks(reached: Sequence[Visit]) -> Iterator[Finding]:
    """Yield the findings about the hosts' clocks.

    The error of a measured difference is at most half of the round trip (`clock_error_s`). So a
    clock is reported as wrong only if the difference exceeds `MAX_AHEAD_S` by more than this error.
    """
    for visit in reached:
        off = abs(visit.ahead_s)
        if off - visit.clock_error_s > MAX_AHEAD_S:
            direction = "ahead of" if visit.ahead_s > 0 else "behind"
            what = (
                f"the clock is {off:.0f} s {direction} this machine's "
                f"(at most {MAX_AHEAD_S} s are allowed)"
            )
            remedy = "Synchronize both clocks by NTP: timedatectl set-ntp true."
            yield Finding(ERROR, what, remedy, (visit.host,))
        elif visit.clock_error_s > MAX_AHEAD_S:
            yield Finding(
                UNCHECKED,
                (
                    f"the clock (a response takes {2 * visit.clock_error_s:.0f} s, which is too "
                    "slow to compare clocks)"
                ),
                "",
                (visit.host,),
            )
        else:
            yield Finding(
                OK, f"the clock is within {MAX_AHEAD_S} s of this machine's", "", (visit.host,)
            )


def gpus(config: Mapping[str, Any], visit: Visit, *, is_head: bool) -> Finding:
    """Check that a host has the number of GPUs that the file declares for it."""
    count, source, expected_count = visit.report["gpus"], *gpus_in_file(config, is_head=is_head)
    if expected_count > (count or 0):
        plural = "s" * ((count or 0) > 1)
        what = f"{count or 'no'} GPU{plural} found, but {source} declares {expected_count:g}"
        return Finding(
            ERROR,
            what,
            "Install NVIDIA's driver so that 'nvidia-smi -L' lists all GPUs, or correct the file.",
            (visit.host,),
        )
    if count is None and visit.report["has_card"]:
        return Finding(
            ERROR,
            "an NVIDIA GPU was found, but its driver is not usable: nvidia-smi is missing or does "
            "not respond",
            "Install the driver.",
            (visit.host,),
        )
    return Finding(
        OK,
        f"{count} GPU{'s' * (count > 1)} found" if count else "no GPU found, and none is required",
        "",
        (visit.host,),
    )


def gpus_in_file(config: Mapping[str, Any], *, is_head: bool) -> tuple[str, float]:
    """Name of the file's entry that declares a node's number of GPUs, and this number."""
    name = f"{'head' if is_head else 'worker'}_start_ray_commands"
    counts = re.findall(r"--num-gpus[= ]['\"]?([\d.]+)", " ".join(commands(config, name)))
    if counts:
        return name, max(map(float, counts))
    head = (config.get("available_node_types") or {}).get(config.get("head_node_type"), {})
    return "head_node_type", float(head.get("resources", {}).get("GPU", 0) if is_head else 0)


def tokens(
    config: Mapping[str, Any], here: HostReport, visits: Sequence[Visit]
) -> Iterator[Finding]:
    """Yield the findings about the token.

    This machine needs a token before the cluster is started. The hosts need it once the cluster is
    running.
    """
    if "apiVersion" in config:  # KubeRay creates its own secret
        return
    there, local = token_paths(config)
    yield token(here["token"], local, HERE)
    head = visits[0].report if visits else {}
    if not head:
        return
    if not head["is_up"]:
        yield Finding(
            UNCHECKED, "whether the cluster requires its token (the cluster is not running)"
        )
        return
    for visit in visits:
        if (
            visit.report
            and here["token"]
            and visit.report["token"]
            and visit.report["token"]["digest"] != here["token"]["digest"]
        ):
            yield Finding(
                ERROR,
                "Ray's token differs from the one on this machine",
                "Run ray up again to copy the token.",
                (visit.host,),
            )
        elif visit.report:
            yield token(visit.report["token"], there, visit.host)
    yield door(head["door"])


def token(file: Mapping[str, str] | None, path: str, place: str) -> Finding:
    """Judge one machine's token file.

    Args:
        file: the file's mode and digest, as the probe reports them; None if it cannot be read.
        path: the file's path, for the message.
        place: the name of the machine.
    """
    if file is None:
        remedy = (
            (
                "Run cluster.up, which creates a token, or: ray get-auth-token --generate; "
                "chmod 600 ~/.ray/auth_token."
            )
            if place == HERE
            else "Run ray up again to copy the token."
        )
        return Finding(ERROR, f"there is no Ray token at {path}", remedy, (place,))
    if int(file["mode"], 8) & 0o077:
        return Finding(
            ERROR,
            f"Ray's token {path} is readable by others (mode {file['mode']})",
            f"Make it private: chmod 600 {path}.",
            (place,),
        )
    return Finding(OK, f"only its owner can read Ray's token {path}", "", (place,))


def door(status: int | None) -> Finding:
    """Judge whether a running cluster requires its token.

    `status` is the HTTP status with which its dashboard responded to a request without a token;
    None if it did not respond.
    """
    if status in (401, 403):
        return Finding(OK, "the cluster refuses requests without a token")
    if status is None:
        return Finding(
            UNCHECKED,
            "whether the cluster requires its token (its dashboard on the head does not respond)",
        )
    remedy = (
        "Put 'export RAY_AUTH_MODE=token;' before every 'ray start' in the file, "
        "and run ray up again."
    )
    return Finding(
        ERROR,
        f"the cluster accepts jobs from anybody, because it requires no token (HTTP {status})",
        remedy,
    )


def token_paths(config: Mapping[str, Any]) -> tuple[str, str]:
    """The token's path on the hosts and on this machine, from `file_mounts` or by default."""
    mounts = config.get("file_mounts") or {}
    return next(
        (
            (str(there), str(local))
            for there, local in mounts.items()
            if str(there).endswith("auth_token")
        ),
        ("~/.ray/auth_token",) * 2,
    )


def _texts(config: Mapping[str, Any]) -> list[str]:
    """The file's commands and Docker images, which may pin a version of Ray."""
    docker = config.get("docker") or {}
    return [
        *commands(config, *(name for name in COMMANDS if name in config)),
        *(str(value) for key, value in docker.items() if str(key).endswith("image")),
    ]


def commands(config: Mapping[str, Any], *names: str) -> list[str]:
    """List the commands under these keys of the file; missing keys are skipped."""
    return [str(command) for name in names for command in config.get(name) or []]
