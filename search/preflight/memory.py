"""Checks that the networks of a search fit into this machine's memory, and how many at once."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from cluster.errors import NotReady
from cluster.runtime.resources import Resources
from cluster.runtime.session import LOCAL
from search.design.experiment import Experiment
from search.preflight.disk import image_memory
from search.values.executors import DEFAULT_EXECUTOR
from trainables.catalog.models import MODELS
from trainables.config import TrialConfig
from trainables.datasets.arrays import Dataset
from trainables.memory import gigabytes

AMPLE, AMPLE_FOR_FAMILIES = 10**9, 6 * 10**9
"""If this many bytes per trial are free, and `AMPLE_FOR_PIXEL` in addition, nothing is computed.
The second number is for models of torchvision.
"""
AMPLE_FOR_PIXEL = 8_000
"""The bytes per pixel of a batch, enough for 2,000 feature maps of full size."""
RAY_BYTES = 10**9
"""The bytes that are reserved for Ray's own processes and everything else."""
MAX_COUNTED = 64
"""The maximal number of networks that are computed: those with the largest options."""


@dataclass(frozen=True)
class TrialMemory:
    """The memory of the largest trial, and the number of such trials that fit."""

    needed: int
    """An upper estimate of the bytes of its process."""
    free: int
    """The bytes that all trials together may use."""
    config: TrialConfig
    """The config of the trial."""
    at_once: int
    """The number of trials that would run at once."""

    @property
    def fits(self) -> int:
        """The number of such trials that fit at once."""
        return self.free // self.needed

    def __str__(self) -> str:
        batch = f" with batch size {self.config.batch_size}"
        return (
            f"a trial of {self.config.model.name}"
            f"{'' if self.config.model.is_baseline else batch} takes up to about "
            f"{gigabytes(self.needed)} of memory, {gigabytes(self.free)} are free"
        )


REMEDY = "smaller batches (--set batch_size=N) or images (--set data.image_size=N)"
SURELY = 0.75
"""A trial takes at least this share of the estimate; 0.8 to 1.1 of it were measured."""


def trial_memory(
    experiment: Experiment, dataset: Dataset, count: int, *, exactly: bool = False
) -> TrialMemory | None:
    """Estimate the memory of the largest trial, if `count` trials are to run at once here.

    None if there is plenty (unless `exactly`), if this machine's memory is not known, and for
    trials on a cluster or on GPUs.
    """
    images = image_memory(dataset)
    if experiment.address != LOCAL or experiment.device != "cpu" or images.free is None:
        return None
    alone = experiment.executor == DEFAULT_EXECUTOR
    free = max(0, images.free - (images.needed + RAY_BYTES if alone else 0))
    largest = _largest(experiment.edges)
    if not exactly and free >= count * max(_ample(config, dataset) for config in largest):
        return None
    from trainables.evaluation.memory import training_bytes

    needed, _, config = max(
        (training_bytes(config, dataset), -number, config) for number, config in enumerate(largest)
    )
    return TrialMemory(needed, free, config, count)


def _largest(edges: Iterable[TrialConfig]) -> list[TrialConfig]:
    """Return one config per network: the one with the largest batch."""
    largest_batch: dict[object, TrialConfig] = {}
    for config in edges:
        if config.batch_size >= largest_batch.setdefault(config.model, config).batch_size:
            largest_batch[config.model] = config
    return sorted(largest_batch.values(), key=_options, reverse=True)[:MAX_COUNTED]


def _options(config: TrialConfig) -> float:
    return sum(value for value in config.model.options.values() if isinstance(value, int | float))


def _ample(config: TrialConfig, dataset: Dataset) -> int:
    """Return bytes that are more than enough for a trial of this config."""
    if config.model.is_baseline:
        return AMPLE
    _, height, width = config.task.load_targets().image(dataset)
    height, width = MODELS[config.model.name].effective_size(
        (1, height, width), config.model.options
    )
    families = AMPLE_FOR_FAMILIES if MODELS[config.model.name].weights else AMPLE
    return families + AMPLE_FOR_PIXEL * height * width * config.batch_size


def check_trials(
    experiment: Experiment, dataset: Dataset, local: Resources
) -> tuple[Resources, list[str]]:
    """Check that trials fit into memory; return the resources to use, and notes.

    The resources are reduced if fewer trials fit at once than there are processors for, unless the
    user has set their number.

    Raises:
        NotReady: not even one trial fits.
    """
    demand = experiment.demand
    count = min(local.room(demand) // demand.workers, experiment.planned_trials)
    count = max(1, min(count, experiment.most_at_once or count))
    estimate = trial_memory(experiment, dataset, count * demand.workers)
    if estimate is None or estimate.fits >= estimate.at_once:
        return local, []
    if SURELY * estimate.needed * demand.workers > estimate.free:
        raise NotReady(f"{estimate}. Use {REMEDY}, or another machine.")
    fits = max(1, estimate.fits // demand.workers)
    if experiment.concurrency is not None:
        return local, [
            f"warning: {estimate}: {count} at once, as --concurrency says, may be too many. Use "
            f"--concurrency {fits}, or {REMEDY}."
        ]
    note = f"note: {fits} instead of {count} trials at once: {estimate}. For more: {REMEDY}."
    if estimate.fits < demand.workers:
        note = f"warning: it may not fit, also with one trial at once: {estimate}. Use {REMEDY}."
    return replace(local, cpus=fits * demand.cpus * demand.workers), [note]
