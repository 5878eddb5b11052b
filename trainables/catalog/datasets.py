"""The registry of data sets: those of all tasks, and the user's own folders, which any task reads.

The module of a data set is imported only when its data is loaded. To add a data set, write
`load(config, *, download)` and `files(config)` in a module, and list it in the entry of its task.
"""

from dataclasses import replace

from trainables.catalog.entries import DatasetEntry
from trainables.tasks import TASKS

DATASETS: dict[str, DatasetEntry] = {
    name: replace(entry, tasks=(task.name,))
    for task in TASKS.values()
    for name, entry in task.datasets.items()
} | {
    "folder": DatasetEntry(
        module="",
        tasks=tuple(task.name for task in TASKS.values() if task.reader),
        readers={task.name: task.reader for task in TASKS.values() if task.reader},
        flip=True,
        from_folder=True,
    )
}
