"""Checks that a search's checkpoints fit on the disk, and its images into memory."""

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
from trainables.machine import free_memory, gigabytes

CHECKPOINTS = 3
"""The number of checkpoints that a trial keeps: the one of its best epoch, and the latest two.

If the space also has smaller numbers of epochs, the trial keeps two more checkpoints for each of
them: one of this epoch, and one of the best epoch until then.
"""

AMPLE_ROOM, AMPLE_ROOM_FOR_FAMILIES = 10**9, 6 * 10**9
"""If this number of bytes per trial (and fold) is free, the required space is not computed. The
second number is for models of torchvision, the largest of which needs 5 * 10**9 bytes.
"""


@dataclass(frozen=True)
class DiskEstimate:
    """The number of bytes that the checkpoints of a search need, and the number of free bytes.

    All models are assumed to be trained equally often, in their largest form. `least` is the total
    size if each trial keeps one checkpoint, `needed` the total size of all that trials keep.
    """

    least: int
    needed: int
    free: int
    storage: Path

    def __str__(self) -> str:
        return (
            f"the checkpoints need about {gigabytes(self.least)} to {gigabytes(self.needed)}, and "
            f"storage '{self.storage}' has {gigabytes(self.free)} free. Use another --storage, or "
            "fewer --trials."
        )


def room(
    experiment: Experiment, dataset: Dataset, trainings: int | None = None
) -> DiskEstimate | None:
    """Estimate the disk space for checkpoints; None if there is ample space, or for a bucket.

    Args:
        experiment: the search.
        dataset: its data.
        trainings: the number of trainings; None for the planned trials.
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
    """Check that one checkpoint per training fits on the disk.

    If the disk becomes full later, the search waits for space. The arguments are those of `room`.

    Raises:
        NotReady: the checkpoints do not fit.
    """
    estimate = room(experiment, dataset, trainings)
    if estimate is not None and estimate.free < estimate.least:
        raise NotReady(str(estimate))


@dataclass(frozen=True)
class ImageMemory:
    """The memory that the images need and the free memory, in bytes."""

    needed: int
    free: int

    def holds(self, copies: int = 1) -> bool:
        """True if this number of copies of the images fits."""
        return copies * self.needed <= self.free

    def __str__(self) -> str:
        return (
            f"the images need {gigabytes(self.needed)} of memory in the training processes, and "
            f"{gigabytes(self.free)} is free. Use smaller images (--set data.image_size=N) "
            "or fewer images (--set data.train_limit=N)."
        )


def image_memory(dataset: Dataset, *, is_local: bool = True) -> ImageMemory:
    """Compute the memory for the training and validation images, which all processes share.

    Images that stay in their files need none, unless other machines must get them (not `is_local`):
    then this process needs a copy of all images, too.
    """
    parts = [dataset.train] if dataset.val is dataset.train else [dataset.train, dataset.val]
    if is_local:
        return ImageMemory(sum(part.memory for part in parts), free_memory())
    needed = sum(part.nbytes for part in parts)
    if dataset.train.is_on_disk:
        needed = 2 * needed + (0 if dataset.test is None else dataset.test.nbytes)
    return ImageMemory(needed, free_memory())


def check_memory(dataset: Dataset, *, is_local: bool) -> None:
    """Check that there is memory for one copy of the images, which all processes share.

    With `is_local`, images that stay in their files need none.

    Raises:
        NotReady: there is not enough memory.
    """
    images = image_memory(dataset, is_local=is_local)
    if not images.holds():
        raise NotReady(str(images))
