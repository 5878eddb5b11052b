"""Check a cluster's file against Ray's own schema and rules.

`ray up` itself reports some of these problems only while it is starting the cluster.
"""

import importlib.util
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cluster import definition
from cluster.errors import Mistake


def is_kubernetes(config: Mapping[str, Any]) -> bool:
    """True if the file is for KubeRay (a RayJob or RayCluster)."""
    return str(config.get("apiVersion", "")).startswith("ray.io/")


def problems(path: Path, config: Mapping[str, Any]) -> list[str]:
    """Describe each entry that `ray up` would refuse, or that would make it fail later.

    Rules beyond the schema are checked only if the file conforms to the schema.

    Returns:
        One line for each problem; empty if there is none.
    """
    import jsonschema  # type: ignore[import-untyped]

    package = importlib.util.find_spec("ray")
    assert package is not None
    assert package.origin is not None
    schema = json.loads(
        (Path(package.origin).parent / "autoscaler" / "ray-schema.json").read_text()
    )
    is_local = (
        isinstance(config.get("provider"), dict) and config["provider"].get("type") == "local"
    )
    errors = sorted(
        jsonschema.Draft7Validator(schema).iter_errors(_filled_in(config, is_local=is_local)),
        key=lambda error: error.json_path,
    )
    lines = [
        (
            f"{error.json_path.removeprefix('$').removeprefix('.') or 'the file'}: "
            f"{error.message[:300]}."
        )
        for error in errors
    ]
    if lines:
        return lines
    lines = list(_fixed_host_problems(config) if is_local else _node_type_problems(config))
    try:
        definition.read(path)
    except Mistake as error:
        lines += str(error).splitlines()
    return lines


def _filled_in(config: Mapping[str, Any], *, is_local: bool) -> definition.Config:
    """Copy the file's content in the form that Ray validates against its schema.

    Before `ray up` validates the file, it removes some entries and fills in others.
    """
    kinds = config.get("available_node_types")
    if is_local or not isinstance(kinds, dict):
        return {
            key: value for key, value in config.items() if not (is_local and key == "min_workers")
        }
    return {
        **config,
        "available_node_types": {
            name: {"resources": {}, **kind} if isinstance(kind, dict) else kind
            for name, kind in kinds.items()
        },
    }


def _fixed_host_problems(config: Mapping[str, Any]) -> Iterator[str]:
    for key in ("available_node_types", "head_node_type", "head_node", "worker_nodes"):
        if config.get(key):
            yield f"{key} is not allowed for fixed hosts. Remove it."


def _node_type_problems(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield the problems in the node types of a file whose machines are started on demand."""
    kinds, head = config.get("available_node_types"), config.get("head_node_type")
    if not isinstance(kinds, dict) or not all(isinstance(kind, dict) for kind in kinds.values()):
        yield (
            "available_node_types is missing or is not a mapping. "
            "Copy it from cluster/cluster.yaml."
        )
        return
    if head not in kinds:
        yield (
            f"head_node_type is '{head}'. It must be one of available_node_types: "
            f"{', '.join(kinds)}."
        )
    least, most = (
        sum(kind.get("min_workers", 0) for kind in kinds.values()),
        config.get("max_workers", 2),
    )
    if least > most:
        yield (
            f"max_workers is {most}, but the node types' min_workers add up to {least}. "
            "Increase max_workers."
        )
