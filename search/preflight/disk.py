"""Checks that the storage has room for a search's checkpoints, and memory for its images."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from cluster.errors import NotReady
from cluster.storage.bucket import Bucket
from search.decisions.shared_trainings import Relatives
from search.design.experiment import Experiment
from trainables.catalog.models import MODELS
from trainables.datasets.arrays import Dataset
from trainables.memory import free_memory, gigabytes

CHECKPOINTS = 3
"""Checkpoints that a trial keeps: its best epoch and the newest two. For each shorter length that
is searched, it also keeps the last one and the best one until there.
"""

AMPLE_ROOM, AMPLE_ROOM_FOR_FAMILIES = 10**9, 6 * 10**9
"""With this many free bytes for each trial, and each fold of it, nothing is computed; the second
number is for models of torchvision, whose largest network keeps five thousand million.
"""


@dataclass(frozen=True)
class DiskEstimate:
    """The bytes that a search's checkpoints need, and those that are free.

    Each model is taken to be tried equally often, in its largest form: `least` is for one
    checkpoint a trial, `needed` for all that it keeps.
    """

    least: int
    needed: int
    free: int
    storage: Path

    def __str__(self) -> str:
        sizes = (
            f"needs about {gigabytes(self.least)} to {gigabytes(self.needed)} for "
            f"checkpoints, {gigabytes(self.free)} are free"
        )
        return f"storage '{self.storage}' {sizes}. Use another --storage, or fewer --trials."


def room(
    experiment: Experiment, dataset: Dataset, trainings: int | None = None
) -> DiskEstimate | None:
    """Return the bytes that this many trainings need and that are free.

    None when there is ample room, as in a bucket.

    Args:
        trainings: their number; None stands for as many as there will be trials.
    """
    if isinstance(experiment.storage, Bucket):
        return None
    count = trainings or experiment.planned_trials
    place = experiment.storage.absolute()
    free = shutil.disk_usage(next(path for path in (place, *place.parents) if path.exists())).free
    configs = {config.model: config for config in experiment.edges}
    has_family = any(MODELS[model.name].weights for model in configs)
    ample = AMPLE_ROOM_FOR_FAMILIES if has_family else AMPLE_ROOM
    networks = dataset.folds or 1
    if free >= count * networks * ample:
        return None
    from trainables.evaluation.estimate import checkpoint_bytes

    largest: dict[str, int] = {}
    for model, config in configs.items():
        targets = config.task.load_targets()
        size = networks * checkpoint_bytes(
            model, targets.image(dataset), targets.width(dataset), images=dataset.least_trained
        )
        largest[model.name] = max(largest.get(model.name, 0), size)
    least = round(count * mean(largest.values()))
    milestones = max(len(Relatives(experiment).milestones(config)) for config in experiment.edges)
    return DiskEstimate(least, (CHECKPOINTS + 2 * milestones) * least, free, experiment.storage)


def check_room(experiment: Experiment, dataset: Dataset, trainings: int | None = None) -> None:
    """Check that one checkpoint a training will fit (`room`).

    A disk that becomes full later does not end a search: it waits for room.

    Raises:
        NotReady: they will not fit.
    """
    found = room(experiment, dataset, trainings)
    if found is not None and found.free < found.least:
        raise NotReady(str(found))


@dataclass(frozen=True)
class Memory:
    """The bytes that the images need, and those that are free.

    They are still to be copied into the memory that all processes of a machine share. `free` is
    None where that is not known.
    """

    needed: int
    free: int | None

    def holds(self, copies: int = 1) -> bool:
        """Return whether this many copies of the images fit, as far as is known."""
        return self.free is None or copies * self.needed <= self.free

    def __str__(self) -> str:
        sizes = (
            f"{gigabytes(self.needed)} of memory for the processes that train, "
            f"{gigabytes(self.free or 0)} are free"
        )
        return (
            f"the images need {sizes}. Use smaller ones (--set data.image_size=N) or fewer "
            "(--set data.train_limit=N)."
        )


def memory(dataset: Dataset) -> Memory:
    """Return what the images need of this machine's memory once they are loaded."""
    parts = [dataset.train] if dataset.val is dataset.train else [dataset.train, dataset.val]
    return Memory(sum(part.nbytes for part in parts), free_memory())


def check_memory(dataset: Dataset) -> None:
    """Check that there is memory for the images in the processes that train.

    Raises:
        NotReady: there is not enough memory.
    """
    found = memory(dataset)
    if not found.holds():
        raise NotReady(str(found))
