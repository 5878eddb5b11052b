"""The registry of models: those of all tasks, each with the tasks that list it."""

from dataclasses import replace

from trainables.catalog.entries import ModelEntry
from trainables.tasks import TASKS

MODELS: dict[str, ModelEntry] = {
    name: replace(entry, tasks=tuple(own.name for own in TASKS.values() if name in own.models))
    for task in TASKS.values()
    for name, entry in task.models.items()
}
