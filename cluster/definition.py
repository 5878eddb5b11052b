"""Read a cluster's file, the one that `ray up` also reads: its hosts and how to reach them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cluster.cli import expand_path
from cluster.errors import Mistake

ROOT = Path(__file__).parent.parent
"""The project's folder. Relative paths in a cluster's file are relative to it."""

Config = dict[str, Any]
"""A cluster's file, or a mapping in it, as parsed from YAML."""


@dataclass(frozen=True, kw_only=True)
class Definition:
    """The entries of a cluster's file that the verbs need.

    The file of a cluster in a cloud names no hosts, so `head` and `workers` are empty there.
    """

    path: Path
    name: str
    provider: str
    head: str
    workers: tuple[str, ...]
    user: str
    key: Path | None
    proxy_command: str = ""
    least_workers: int
    """Number of workers that are started even if no job runs."""
    content: Config

    @property
    def is_local(self) -> bool:
        """True if the hosts are fixed and reached by ssh."""
        return self.provider == "local"

    @property
    def hosts(self) -> tuple[str, ...]:
        """The head, followed by the workers."""
        return (self.head, *self.workers)


def read(path: Path) -> Definition:
    """Read a cluster's file.

    Raises:
        Mistake: the file is missing, is not YAML, lacks a required entry, or describes fixed hosts
            that cannot work (see `_check_local`).
    """
    content = mapping(path)
    provider = _section(content, "provider", path)
    auth = _section(content, "auth", path)
    required = {
        "cluster_name": content.get("cluster_name"),
        "provider.type": provider.get("type"),
        "auth.ssh_user": auth.get("ssh_user"),
    }
    if missing := [entry for entry, value in required.items() if not value]:
        raise Mistake(
            f"{path} does not define a cluster, because it lacks {', '.join(missing)}. "
            "See cluster/onprem.yaml for an example."
        )
    key = expand_path(str(auth["ssh_private_key"])) if auth.get("ssh_private_key") else None
    definition = Definition(
        path=path.absolute(),
        name=str(content["cluster_name"]),
        provider=str(provider["type"]),
        head=str(provider.get("external_head_ip") or provider.get("head_ip") or ""),
        workers=tuple(map(str, provider.get("worker_ips") or ())),
        user=str(auth["ssh_user"]),
        key=key,
        proxy_command=str(auth.get("ssh_proxy_command") or ""),
        least_workers=_least_workers(content),
        content=content,
    )
    if definition.is_local:
        _check_local(definition)
    return definition


def mapping(path: Path) -> Config:
    """Load a YAML file whose top level is a mapping.

    Raises:
        Mistake: the file cannot be read, is not YAML, or is not a mapping.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        raise Mistake(
            f"{path} cannot be read ({error.strerror}). "
            "Pass a YAML file that defines a cluster, for example cluster/onprem.yaml."
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise Mistake(f"{path} is not valid YAML ({' '.join(str(error).split())}).") from error
    if not isinstance(content, dict):
        raise Mistake(
            f"{path} does not contain a YAML mapping. "
            "Pass a YAML file that defines a cluster, for example cluster/onprem.yaml."
        )
    return content


def _section(content: Config, name: str, path: Path) -> Config:
    part = content.get(name) or {}
    if not isinstance(part, dict):
        raise Mistake(f"{path}: {name} must be a mapping (got '{part}').")
    return part


def _least_workers(content: Config) -> int:
    """Number of workers that are started even if no job runs."""
    if content["provider"]["type"] == "local":
        workers = len(content["provider"].get("worker_ips") or ())
        return min(workers, int(content.get("min_workers", workers)))
    kinds = content.get("available_node_types") or {}
    return sum(
        int(kind.get("min_workers", 0))
        for name, kind in kinds.items()
        if name != content.get("head_node_type")
    )


def _check_local(definition: Definition) -> None:
    """Check a file with fixed hosts.

    Raises:
        Mistake: there are problems; the error's text has one line for each.
    """
    problems = []
    if not definition.head:
        problems.append("provider: head_ip is missing")
    if not definition.workers:
        problems.append("provider: worker_ips must list at least one host")
    if definition.head in definition.workers or len(set(definition.workers)) < len(
        definition.workers
    ):
        problems.append("provider: a host is listed twice")
    if definition.key is None:
        problems.append(
            "auth: ssh_private_key is missing. The head needs a key without a passphrase to "
            "start the workers."
        )
    elif not definition.key.is_file():
        problems.append(
            f"the ssh key '{definition.key}' does not exist. "
            f"Create it with: ssh-keygen -t ed25519 -N '' -f {definition.key}"
        )
    for source in (definition.content.get("file_mounts") or {}).values():
        place = expand_path(str(source))
        if not (ROOT / place).exists() and place.name != "auth_token":
            problems.append(
                f"file_mounts: '{source}' does not exist (relative paths start in {ROOT})"
            )
    if problems:
        raise Mistake("\n".join(f"{definition.path}: {problem}" for problem in problems))
