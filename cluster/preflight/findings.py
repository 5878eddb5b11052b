"""Turn the reports of the machines into findings about the cluster, equal ones merged."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cluster.preflight.lint import COMMANDS, RAY_PIN
from cluster.preflight.probe import ERROR, OK, UNCHECKED
from cluster.preflight.remote import Visit
from cluster.versions import TRIED

MISTAKE = "mistake"
"""The level of an error that is in the file itself."""

HERE = "here"
MAX_AHEAD_S = 5
MAX_NAMED = 8
"""The maximum number of machines named if all is well; those with a problem are all named."""

INSTALLS = re.compile(r"\b(pip3?|uv|conda) (\S+ )*(install|sync)\b")
Seen = Mapping[str, Any]


@dataclass(frozen=True)
class Finding:
    """One line of the answer."""

    level: str
    what: str
    remedy: str = ""
    places: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The machines, the observation and the remedy, in one line."""
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
    """Merge equal findings from several machines into one that names all of them."""
    found: dict[tuple[str, str, str], Finding] = {}
    for one in findings:
        key = one.level, one.what, one.remedy
        before = found.get(key)
        found[key] = (
            replace(
                one,
                places=(
                    *before.places,
                    *(place for place in one.places if place not in before.places),
                ),
            )
            if before
            else one
        )
    return list(found.values())


def judge(config: Mapping[str, Any], here: Seen, visits: Sequence[Visit]) -> Iterator[Finding]:
    """Yield all findings about machines, ours included; the first visit is the head's."""
    reached = [one for one in visits if one.seen]
    for one in visits:
        yield (
            Finding(OK, "ssh lets us in", "", (one.host,))
            if one.seen
            else Finding(ERROR, one.problem, one.remedy, (one.host,))
        )
    if not here["rsync"] or not all(one.seen["rsync"] for one in reached):
        lacking = [
            *([] if here["rsync"] else [HERE]),
            *(one.host for one in reached if not one.seen["rsync"]),
        ]
        yield Finding(
            ERROR,
            "rsync is not installed, which ray up copies files with",
            "Install it.",
            tuple(lacking),
        )
    yield from versions(config, here, reached)
    yield from clocks(reached)
    for one in reached:
        yield gpus(config, one, is_head=one is visits[0])
    yield from tokens(config, here, visits)
    for place, seen in [(HERE, here), *((one.host, one.seen) for one in reached)]:
        for level, what, remedy in seen["lines"]:
            yield Finding(level, what, remedy, (place,))


def versions(config: Mapping[str, Any], here: Seen, reached: Sequence[Visit]) -> Iterator[Finding]:
    """Yield the findings about the versions of Python and Ray.

    Ray refuses a node whose Python or Ray is not exactly the head's. This machine may have another
    Python, because jobs go to the head as files.
    """
    pins = {
        first or second for command in _texts(config) for first, second in RAY_PIN.findall(command)
    } - {here["ray"]}
    if pins:
        yield Finding(
            ERROR,
            f"the file installs Ray {', '.join(sorted(pins))}, and here is {here['ray']}",
            "Make them equal.",
        )
    if here["ray"] is not None and not (tried := TRIED["ray"]).holds(here["ray"]):
        what = f"Ray {here['ray']} was never tried with this program; tried: {tried}"
        yield Finding(ERROR, what, f"Install it: pip install 'ray{tried.bounds}'.", (HERE,))
    bare = tuple(one.host for one in reached if one.seen["ray"] is None)
    if bare and any(
        INSTALLS.search(str(command))
        for command in commands(
            config, "setup_commands", "head_setup_commands", "worker_setup_commands"
        )
    ):
        yield Finding(
            UNCHECKED,
            "the version of Ray (none there yet; the file's set-up commands install it)",
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
    comparable = [one for one in reached if one.host not in bare]
    for name, key in (("Python", "python"), ("Ray", "ray")):
        places: dict[str, list[str]] = {here[key]: [HERE]} if key == "ray" else {}
        for one in comparable:
            places.setdefault(one.seen[key], []).append(one.host)
        if len(places) > 1:
            groups = "; ".join(
                f"{version} on {', '.join(hosts)}".replace("on here", "here")
                for version, hosts in places.items()
            )
            first = next(iter(places))
            yield Finding(
                ERROR,
                f"the versions of {name} differ: {groups}",
                f"Install {name} {first} everywhere, or another one everywhere and here.",
            )
        elif comparable:
            yield Finding(
                OK, f"{name} {next(iter(places))}", "", tuple(next(iter(places.values())))
            )


def clocks(reached: Sequence[Visit]) -> Iterator[Finding]:
    """Yield the findings about the hosts' clocks.

    A clock is only called wrong if it is so even when the whole round trip went into one direction.
    """
    for one in reached:
        off = abs(one.ahead_s)
        if off - one.unsure_s > MAX_AHEAD_S:
            direction = "ahead of" if one.ahead_s > 0 else "behind"
            what = (
                f"the clock is {off:.0f} s {direction} this machine's "
                f"(at most {MAX_AHEAD_S} s are well)"
            )
            yield Finding(ERROR, what, "Set both by NTP: timedatectl set-ntp true.", (one.host,))
        elif one.unsure_s > MAX_AHEAD_S:
            yield Finding(
                UNCHECKED, f"the clock (an answer takes {2 * one.unsure_s:.0f} s)", "", (one.host,)
            )
        else:
            yield Finding(
                OK, f"the clock is within {MAX_AHEAD_S} s of this machine's", "", (one.host,)
            )


def gpus(config: Mapping[str, Any], one: Visit, *, is_head: bool) -> Finding:
    """Report whether a host has the GPUs that Ray will be told it has."""
    count, source, wanted = one.seen["gpus"], *wanted_gpus(config, is_head=is_head)
    if wanted > (count or 0):
        what = f"{count or 'no'} GPU seen, and {source} says {wanted:g}"
        return Finding(
            ERROR,
            what,
            "Install NVIDIA's driver until 'nvidia-smi -L' lists them, or correct the file.",
            (one.host,),
        )
    if count is None and one.seen["has_card"]:
        return Finding(
            ERROR,
            "an NVIDIA card is there, but no driver: nvidia-smi is missing or does not answer",
            "Install the driver.",
            (one.host,),
        )
    return Finding(
        OK,
        f"{count} GPU{'s' * (count > 1)} seen" if count else "no GPU, and none asked for",
        "",
        (one.host,),
    )


def wanted_gpus(config: Mapping[str, Any], *, is_head: bool) -> tuple[str, float]:
    """Return the number of GPUs that the file states for a node, and the place where it does so.

    The place comes first in the tuple.
    """
    name = f"{'head' if is_head else 'worker'}_start_ray_commands"
    found = re.findall(r"--num-gpus[= ]['\"]?([\d.]+)", " ".join(commands(config, name)))
    if found:
        return name, max(map(float, found))
    head = (config.get("available_node_types") or {}).get(config.get("head_node_type"), {})
    return "head_node_type", float(head.get("resources", {}).get("GPU", 0) if is_head else 0)


def tokens(config: Mapping[str, Any], here: Seen, visits: Sequence[Visit]) -> Iterator[Finding]:
    """Yield the findings about the token.

    On this machine a token must exist before anything starts; on the hosts, once the cluster is up.
    """
    if "apiVersion" in config:  # KubeRay makes a secret of its own
        return
    there, local = token_paths(config)
    yield token(here["token"], local, HERE)
    head = visits[0].seen if visits else {}
    if not head:
        return
    if not head["is_up"]:
        yield Finding(UNCHECKED, "whether the cluster asks for its token (it is not up)")
        return
    for one in visits:
        if (
            one.seen
            and here["token"]
            and one.seen["token"]
            and one.seen["token"]["digest"] != here["token"]["digest"]
        ):
            yield Finding(
                ERROR,
                "Ray's token is another one than here",
                "Run ray up again, which copies it.",
                (one.host,),
            )
        elif one.seen:
            yield token(one.seen["token"], there, one.host)
    yield door(head["door"])


def token(found: Mapping[str, str] | None, path: str, place: str) -> Finding:
    """Judge one machine's token file."""
    if found is None:
        remedy = (
            (
                "cluster.up makes one; so does: ray get-auth-token --generate; "
                "chmod 600 ~/.ray/auth_token."
            )
            if place == HERE
            else "Run ray up again, which copies it."
        )
        return Finding(ERROR, f"no Ray token at {path}", remedy, (place,))
    if int(found["mode"], 8) & 0o077:
        return Finding(
            ERROR,
            f"Ray's token {path} is readable by others (mode {found['mode']})",
            f"Close it: chmod 600 {path}.",
            (place,),
        )
    return Finding(OK, f"Ray's token {path} is there, for its owner alone", "", (place,))


def door(status: int | None) -> Finding:
    """Judge the dashboard's answer to a request without a token, on a cluster that is up."""
    if status in (401, 403):
        return Finding(OK, "the cluster refuses whoever has no token")
    if status is None:
        return Finding(
            UNCHECKED,
            "whether the cluster asks for its token (its dashboard does not answer on the head)",
        )
    remedy = (
        "Put 'export RAY_AUTH_MODE=token;' before every 'ray start' in the file, "
        "and run ray up again."
    )
    return Finding(
        ERROR, f"the cluster takes jobs from anybody: no token is asked for (HTTP {status})", remedy
    )


def token_paths(config: Mapping[str, Any]) -> tuple[str, str]:
    """Return the token's path on the hosts, and its path here."""
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
    """Return the texts in the file that say what is installed."""
    docker = config.get("docker") or {}
    return [
        *commands(config, *(name for name in COMMANDS if name in config)),
        *(str(value) for key, value in docker.items() if str(key).endswith("image")),
    ]


def commands(config: Mapping[str, Any], *names: str) -> list[str]:
    """Return the commands under these keys."""
    return [str(command) for name in names for command in config.get(name) or []]
