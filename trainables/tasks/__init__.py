"""The registry of tasks: a folder here with an `entry`, listed in `NAMES`.

docs/structure.md lists the files of a task. No torch is imported.
"""

from collections.abc import Mapping
from typing import Any

from trainables.catalog.entries import TaskEntry, import_object

NAMES = ("classification", "segmentation", "super_resolution", "detection")

TASKS: dict[str, TaskEntry] = {
    name: import_object(f"trainables.tasks.{name}.entry:ENTRY") for name in NAMES
}


def task_name(values: Mapping[str, Any]) -> str:
    """Return the name of the task in the values of a `DataConfig`, or of an `about.json`."""
    name: str = values.get("task") or next(name for name in TASKS if TASKS[name].is_implied)
    return name
