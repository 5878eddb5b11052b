"""Checks that the networks of a search fit into this machine's memory, and how many at once."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from cluster.errors import NotReady
from cluster.runtime.resources import Resources
from cluster.runtime.session import LOCAL
from search.design.experiment import Experiment
from search.preflight.disk import memory
from search.values.executors import DEFAULT_EXECUTOR
from trainables.catalog.models import MODELS
from trainables.config import TrialConfig
from trainables.datasets.arrays import Dataset
from trainables.memory import gigabytes

AMPLE, AMPLE_FOR_FAMILIES = 10**9, 6 * 10**9
"""With this many free bytes for each trial, and `AMPLE_FOR_PIXEL` beside, nothing is counted; the
second number is for models of torchvision.
"""
AMPLE_FOR_PIXEL = 8_000
"""Bytes for each pixel of a batch, in 2,000 feature maps of full size."""
RAY_BYTES = 10**9
"""The bytes that Ray's own processes take and that are kept free for all else, together."""
MAX_COUNTED = 64
"""The number of networks that are counted; of more, those whose options are the largest."""


@dataclass(frozen=True)
class TrialMemory:
    """The memory of the trial that takes most, and how many of it the machine has room for."""

    needed: int
    """Bytes of its process at most, as estimated."""
    free: int
    """Bytes that are there for all trials."""
    config: TrialConfig
    """That trial's."""
    wanted: int
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
"""The share of an estimate that a trial takes at least: measured were 0.8 to 1.1 of it."""


def trial_memory(
    experiment: Experiment, dataset: Dataset, wanted: int, *, exactly: bool = False
) -> TrialMemory | None:
    """Return the memory of the trial that takes most, if so many are to run at once here.

    None where there is ample, unless it is wanted `exactly`, where nothing is known of this
    machine's, and for trials of a cluster or on GPUs, whose memory is not this one.
    """
    images = memory(dataset)
    if experiment.address != LOCAL or experiment.device != "cpu" or images.free is None:
        return None
    alone = experiment.executor == DEFAULT_EXECUTOR
    free = max(0, images.free - (images.needed + RAY_BYTES if alone else 0))
    largest = _largest(experiment.edges)
    if not exactly and free >= wanted * max(_ample(config, dataset) for config in largest):
        return None
    from trainables.evaluation.memory import training_bytes

    needed, _, config = max(
        (training_bytes(config, dataset), -number, config) for number, config in enumerate(largest)
    )
    return TrialMemory(needed, free, config, wanted)


def _largest(edges: Iterable[TrialConfig]) -> list[TrialConfig]:
    """Return a config of each network, that with the largest batch."""
    found: dict[object, TrialConfig] = {}
    for config in edges:
        if config.batch_size >= found.setdefault(config.model, config).batch_size:
            found[config.model] = config
    return sorted(found.values(), key=_options, reverse=True)[:MAX_COUNTED]


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
    """Check that trials fit into memory; return the part of the machine that is used, and notes.

    It is less than the whole where fewer fit at once than there are processors for, unless the user
    has said how many.

    Raises:
        NotReady: not one fits.
    """
    demand = experiment.demand
    wanted = min(local.room(demand) // demand.workers, experiment.planned_trials)
    wanted = max(1, min(wanted, experiment.most_at_once or wanted))
    found = trial_memory(experiment, dataset, wanted * demand.workers)
    if found is None or found.fits >= found.wanted:
        return local, []
    if SURELY * found.needed * demand.workers > found.free:
        raise NotReady(f"{found}. Use {REMEDY}, or another machine.")
    fits = max(1, found.fits // demand.workers)
    if experiment.concurrency is not None:
        return local, [
            f"warning: {found}: {wanted} at once, as --concurrency says, may be too many. Use "
            f"--concurrency {fits}, or {REMEDY}."
        ]
    note = f"note: {fits} instead of {wanted} trials at once: {found}. For more: {REMEDY}."
    if found.fits < demand.workers:
        note = f"warning: it may not fit, also with one trial at once: {found}. Use {REMEDY}."
    return replace(local, cpus=fits * demand.cpus * demand.workers), [note]
