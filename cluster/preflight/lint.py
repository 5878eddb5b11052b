"""Report unsafe settings in a cluster's file for `ray up` (AWS, fixed hosts) or for a RayJob.

The rules are applied to the parsed file only. Most of them guard against a default of Ray: ssh that
is open to the whole internet, full rights over EC2 and S3 for the head, a nightly build of Ray on
every node, and machines that are stopped instead of terminated.
"""

import re
from collections.abc import Iterator
from typing import Any

from cluster.definition import Config
from cluster.secrets import KEY

EVERYWHERE = {"0.0.0.0/0", "::/0"}
"""The networks that include every address, in IPv4 and IPv6."""
LOOPBACK = {"127.0.0.1", "localhost", "::1"}
TOKEN_FILE = "~/.ray/auth_token"

SECRETS = {
    "an AWS access key": re.compile(r"\b(AKIA|ASIA)[0-9A-Z]{16}\b"),
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY"),
    "a password in an address": re.compile(r"://[^/\s:@]+:[^/\s@$]+@"),
    "a secret": re.compile(
        r"(?i)\b\w*(secret|password|passwd|auth_token|secret_access_key)\w*\s*[=:]\s*['\"]?[^\s'\"$~/;{}()]{8,}"
    ),
}
"""Patterns that match secrets, by the description that a message uses for them."""
PIP_INSTALL = re.compile(r"\bpip3? install\s+([^;&|]+)")
RAY_PIN = re.compile(r"\bray(?:\[[\w,]*\])?==([\w.]+)|rayproject/ray:([\d.]+)")
"""Matches a pinned version of Ray: a requirement (first group) or an image (second group)."""
NAMES_A_FILE = ("-r", "--requirement", "-c", "--constraint", "--python", "--find-links", "--target")
"""The options of pip whose value is the next word. That word is not a requirement."""
COMMANDS = (
    "initialization_commands",
    "setup_commands",
    "head_setup_commands",
    "worker_setup_commands",
    "head_start_ray_commands",
    "worker_start_ray_commands",
)
"""The entries of a cluster's file that contain shell commands."""


def problems(config: Config) -> list[str]:
    """Describe each unsafe setting in one line, with its remedy; empty if there is none."""
    if str(config.get("apiVersion", "")).startswith("ray.io/"):
        return [*_open_networks(config), *_secrets(config), *_kubernetes(config)]
    lines = [
        *_open_networks(config),
        *_secrets(config),
        *_start_commands(config),
        *_token_file(config),
        *_versions(config),
    ]
    return lines + (list(_aws(config)) if _at(config, "provider", "type") == "aws" else [])


def open_doors(permissions: list[Any], where: str) -> list[str]:
    """Describe each inbound rule of a security group that is too open.

    From outside the group, only ssh may be allowed, and not from the whole internet.

    Args:
        permissions: the rules, in the form of EC2's `IpPermissions`.
        where: the group's name in messages.
    """
    lines = []
    for rule in permissions:
        sources = [
            _at(source, "CidrIp") or _at(source, "CidrIpv6")
            for source in [*_list(_at(rule, "IpRanges")), *_list(_at(rule, "Ipv6Ranges"))]
        ]
        ssh = (_at(rule, "IpProtocol"), _at(rule, "FromPort"), _at(rule, "ToPort")) == (
            "tcp",
            22,
            22,
        )
        if everywhere := sorted(EVERYWHERE & set(map(str, sources))):
            lines.append(
                f"{where} allows access from the whole internet ({', '.join(everywhere)}). "
                "Allow only your own network, for example 203.0.113.7/32."
            )
        elif sources and not ssh:
            port = _at(rule, "FromPort") or "any"
            lines.append(
                f"{where} opens more than ssh (port {port}) to {', '.join(map(str, sources))}. "
                "Open only port 22, and connect to the cluster through ssh."
            )
    return lines


def _at(value: Any, *keys: str) -> Any:
    """Look up nested keys; None if a key is missing or an intermediate value is not a mapping.

    Values of a wrong type are reported by the schema check.
    """
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _mapping(value: Any) -> Config:
    return {str(name): inner for name, inner in value.items()} if isinstance(value, dict) else {}


def _strings(value: Any, where: str = "") -> Iterator[tuple[str, str]]:
    """Yield (path, text) for each text in the file; the path is its keys, joined by dots.

    An element of a list has the path of the list.
    """
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _strings(inner, f"{where}.{key}" if where else str(key))
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner, where)
    elif isinstance(value, str):
        yield where, value


def _open_networks(config: Config) -> Iterator[str]:
    for where, text in _strings(config):
        for network in sorted(EVERYWHERE):
            # The rules of a security group are checked as a whole, by `open_doors`.
            if network in text and not where.startswith("provider.security_group."):
                yield (
                    f"{where} allows access from the whole internet ({network}). "
                    "Allow only your own network, for example 203.0.113.7/32."
                )


def _secrets(config: Config) -> Iterator[str]:
    """Yield a line for each text that contains a secret; the line never contains the secret."""
    for where, text in _strings(config):
        for what, pattern in SECRETS.items():
            if pattern.search(text):
                yield (
                    f"{where} contains {what}, but the file may be copied and shared. "
                    "Use an instance profile, or refer to a file or secret that contains it."
                )
                break
    if _at(config, "provider", "aws_credentials"):
        yield (
            "provider.aws_credentials contains credentials. Remove it: ray up uses your own "
            "login, and the nodes use their instance profile."
        )


def _commands(config: Config, name: str) -> list[str]:
    return [str(command) for command in _list(config.get(name))]


def _start_commands(config: Config) -> Iterator[str]:
    for who in ("head", "worker"):
        name = f"{who}_start_ray_commands"
        commands = _commands(config, name)
        starts = [command for command in commands if "ray start" in command]
        if not starts:
            yield (
                f"{name} does not start Ray, so Ray would use its default commands, which do not "
                "require a token. Copy the commands from cluster/cluster.yaml."
            )
        earlier = [
            each
            for part in ("setup_commands", f"{who}_setup_commands")
            for each in _commands(config, part)
        ]
        for command in starts:
            yield from _start_command(
                command, name, [*earlier, *commands[: commands.index(command)]]
            )


def _start_command(command: str, name: str, earlier: list[str]) -> Iterator[str]:
    before, _, options = command.partition("ray start")
    if not re.search(r"\bRAY_AUTH_MODE=['\"]?token\b", before):
        yield (
            f"{name} starts Ray without a token. "
            "Put 'export RAY_AUTH_MODE=token;' before 'ray start'."
        )
    elif not re.search(r"chmod (0?600|go=|go-rwx)", " ".join([*earlier, before])):
        yield (
            f"{name} leaves the token readable by every user of the machine. "
            f"Put 'chmod 600 {TOKEN_FILE};' before 'ray start'."
        )
    host = re.search(r"--dashboard-host[= ]['\"]?([^\s'\";]+)", options)
    if host and host[1] not in LOOPBACK:
        yield (
            f"{name} opens the dashboard on {host[1]}. Use --dashboard-host=127.0.0.1, and "
            "connect to it through ssh ('ray dashboard FILE')."
        )
    if (
        "--head" in options
        and "--disable-usage-stats" not in options
        and "RAY_USAGE_STATS_ENABLED=0" not in before
    ):
        yield (
            f"{name} lets Ray send usage statistics to its developers. "
            "Add --disable-usage-stats to 'ray start --head'."
        )


def _token_file(config: Config) -> Iterator[str]:
    if not any("auth_token" in str(remote) for remote in _mapping(config.get("file_mounts"))):
        yield (
            "file_mounts does not copy a token to the nodes. Create one with 'ray get-auth-token "
            f"--generate', and add '{TOKEN_FILE}: {TOKEN_FILE}'."
        )


def _versions(config: Config) -> Iterator[str]:
    for name in COMMANDS:
        for command in _commands(config, name):
            yield from _unpinned_packages(command, name)
    pins = {
        first or second for _, text in _strings(config) for first, second in RAY_PIN.findall(text)
    }
    if len(pins) > 1:
        yield (
            f"the file installs different versions of Ray ({', '.join(sorted(pins))}). "
            "Pin one version: nodes with different versions cannot form a cluster."
        )
    for where, text in _strings(config.get("docker"), "docker"):
        if where.endswith("image") and _is_floating(text):
            yield (
                f"{where} '{text}' is not pinned to a version. Use a tag with a version, for "
                "example rayproject/ray:2.60.0-py311-gpu."
            )


def _unpinned_packages(command: str, name: str) -> Iterator[str]:
    """Yield a line for each requirement without `==` in a `pip install` command.

    Words that are options, or values of the options in `NAMES_A_FILE`, are not requirements.
    """
    for requirements in PIP_INSTALL.findall(command):
        words = [word.strip("'\"") for word in requirements.split()]
        for before, word in zip(["", *words], words, strict=False):
            if "==" not in word and not word.startswith("-") and before not in NAMES_A_FILE:
                yield (
                    f"{name} installs the latest version of '{word}', which may change any day. "
                    f"Pin a version: '{word}==...'."
                )


def _is_floating(image: str) -> bool:
    tag = image.rpartition("/")[2].partition(":")[2]
    return "@sha256:" not in image and (
        not tag or any(word in tag for word in ("latest", "nightly"))
    )


def _aws(config: Config) -> Iterator[str]:
    types, head = _mapping(config.get("available_node_types")), str(config.get("head_node_type"))
    if _at(config, "provider", "cache_stopped_nodes") is not False:
        yield (
            "provider.cache_stopped_nodes is not false, so ray down would only stop the machines, "
            "and their disks would cost money. Set it to false."
        )
    if "setup_commands" not in config:
        yield (
            "setup_commands is missing, so Ray's default commands would install its nightly build "
            "for another Python. Copy the commands from cluster/cluster.yaml."
        )
    yield from open_doors(
        _list(_at(config, "provider", "security_group", "IpPermissions")),
        "provider.security_group",
    )
    names_by_problem: dict[str, list[str]] = {}
    for name, node_type in types.items():
        for problem in _aws_node(_mapping(_at(node_type, "node_config"))):
            names_by_problem.setdefault(problem, []).append(name)
    yield from (f"{', '.join(names)}: {problem}" for problem, names in names_by_problem.items())
    if head in types:
        yield from _aws_head(types[head], head)
    for name in [name for name in types if name != head]:
        if (profile := _profile(types[name])) and profile == _profile(types.get(head)):
            yield (
                f"{name}: the workers have the head's instance profile, which may start machines. "
                "Use a separate profile for workers."
            )


def _profile(node_type: Any) -> str:
    profile = _at(node_type, "node_config", "IamInstanceProfile")
    return str(_at(profile, "Name") or _at(profile, "Arn") or "")


def _aws_node(node: Config) -> Iterator[str]:
    groups, image = _list(node.get("SecurityGroupIds")), str(node.get("ImageId", ""))
    if not groups:
        yield (
            "SecurityGroupIds is missing, so Ray would create a group that opens ssh to the whole "
            "internet. Enter the group that cluster/aws/stack.yaml creates."
        )
    for group in groups:
        if not re.fullmatch(r"sg-[0-9a-f]{8,17}", str(group)):
            yield (
                f"'{group}' is not the id of a security group. "
                "Enter the stack's SecurityGroup, for example sg-0123456789abcdef0."
            )
    if not re.fullmatch(r"ami-[0-9a-f]{8,17}", image):
        yield (
            f"ImageId '{image}' is not the id of an image. Enter the stack's Image, for example "
            "ami-0123456789abcdef0. Ray's default image is years old."
        )
    if not _profile({"node_config": node}):
        yield (
            "IamInstanceProfile is missing, so Ray would give the head full rights over EC2 and "
            "S3, and workers none. Enter the profiles that cluster/aws/stack.yaml creates."
        )
    if _at(node, "MetadataOptions", "HttpTokens") != "required":
        yield (
            "IMDSv2 is not required: any program on the node could fetch its credentials. "
            "Set MetadataOptions: {HttpTokens: required}."
        )
    disks = _list(node.get("BlockDeviceMappings"))
    if not disks or not all(_at(disk, "Ebs", "Encrypted") is True for disk in disks):
        yield "a disk is not encrypted. Set BlockDeviceMappings with Ebs: {Encrypted: true}."


def _aws_head(node_type: Any, name: str) -> Iterator[str]:
    if _at(node_type, "resources", "CPU") != 0:
        yield (
            f"{name}: trials would run on the head, next to Ray's own processes. "
            "Set resources: {CPU: 0}."
        )
    if _at(node_type, "node_config", "InstanceMarketOptions", "MarketType") == "spot":
        yield (
            f"{name}: the head is a spot instance. If it is reclaimed, the whole cluster is lost. "
            "Remove InstanceMarketOptions."
        )


def _kubernetes(config: Config) -> Iterator[str]:
    cluster = _at(config, "spec", "rayClusterSpec") or _at(config, "spec")
    head, workers = _at(cluster, "headGroupSpec"), _list(_at(cluster, "workerGroupSpecs"))
    if _at(cluster, "authOptions", "mode") != "token":
        yield "rayClusterSpec.authOptions does not require a token. Set authOptions: {mode: token}."
    if (kind := _at(head, "serviceType") or "ClusterIP") != "ClusterIP":
        yield (
            f"headGroupSpec.serviceType {kind} makes the head reachable from outside. "
            "Use ClusterIP, and connect with 'kubectl port-forward'."
        )
    if str(_at(head, "rayStartParams", "num-cpus")) != "0":
        yield 'headGroupSpec: trials would run on the head. Set rayStartParams: {num-cpus: "0"}.'
    for where, group in [
        ("headGroupSpec", head),
        *((str(_at(group, "groupName")), group) for group in workers),
    ]:
        yield from _pod(_mapping(_at(group, "template", "spec")), where)
    if submitter := _at(config, "spec", "submitterPodTemplate", "spec"):
        yield from _pod(_mapping(submitter), "submitterPodTemplate")
    versions = {
        first or second for _, text in _strings(config) for first, second in RAY_PIN.findall(text)
    } | {str(_at(cluster, "rayVersion"))}
    if len(versions) > 1:
        yield (
            "the images and rayVersion have different versions of Ray "
            f"({', '.join(sorted(versions))}). Use the same version everywhere."
        )


def _pod(pod: Config, where: str) -> Iterator[str]:
    if pod.get("hostNetwork"):
        yield (
            f"{where} uses the host's network, to which network policies do not apply. "
            "Remove hostNetwork."
        )
    for container in [*_list(pod.get("initContainers")), *_list(pod.get("containers"))]:
        context = {
            **_mapping(pod.get("securityContext")),
            **_mapping(_at(container, "securityContext")),
        }
        if (
            context.get("runAsNonRoot") is not True
            or context.get("privileged")
            or context.get("allowPrivilegeEscalation") is not False
        ):
            yield (
                f"{where} may run as root. Set securityContext: {{runAsNonRoot: "
                f"true}} and, in the container, {{allowPrivilegeEscalation: false}}."
            )
        if _is_floating(image := str(_at(container, "image") or "")):
            yield (
                f"{where}: the image '{image}' is not pinned to a version. "
                "Use a tag with a version."
            )
        for variable in _list(_at(container, "env")):
            if KEY.search(str(_at(variable, "name"))) and _at(variable, "value"):
                yield (
                    f"{where}: the file contains the value of {variable['name']}. "
                    "Use valueFrom: {secretKeyRef: ...}."
                )
