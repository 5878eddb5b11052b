"""Checks that trials fit into the memory of this machine, and limits their number at once."""

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
from trainables.machine import gigabytes

AMPLE, AMPLE_FOR_FAMILIES = 10**9, 6 * 10**9
"""If this number of bytes per trial is free, plus `AMPLE_FOR_PIXEL` for each pixel of a batch, the
required memory is not computed. The second number is for models of torchvision.
"""
AMPLE_FOR_PIXEL = 8_000
"""Additional bytes per pixel of a batch, enough for 2,000 float32 feature maps of full size."""
RAY_BYTES = 10**9
"""The number of bytes that are reserved for Ray's own processes and all other needs."""
MAX_COUNTED = 64
"""The maximum number of networks whose memory is computed.

If there are more, only those with the largest sum of numeric options are considered.
"""


@dataclass(frozen=True)
class TrialMemory:
    """The memory of the trial that needs the most, and the number of such trials that fit."""

    needed: int
    """An upper estimate of the memory that the trial's process needs, in bytes."""
    free: int
    """The memory that is available to all trials together, in bytes."""
    config: TrialConfig
    """The config of the trial."""
    at_once: int
    """The number of trials that would run at once."""

    @property
    def fits(self) -> int:
        """The number of such trials that fit at once."""
        return self.free // self.needed

    @property
    def remedy(self) -> str:
        """The advice that reduces the memory of a trial; a probe has batches of its own size."""
        if self.config.model.is_baseline:
            return "smaller images (--set model.input_size=N)"
        return "smaller batches (--set batch_size=N) or smaller images (--set data.image_size=N)"

    def __str__(self) -> str:
        batch = f" with batch size {self.config.batch_size}"
        return (
            f"a trial of {self.config.model.name}"
            f"{'' if self.config.model.is_baseline else batch} needs up to about "
            f"{gigabytes(self.needed)} of memory, and {gigabytes(self.free)} is free"
        )


SURELY = 0.75
"""A trial needs at least this share of its estimate; measured trials needed 0.8 to 1.1 times it."""


def trial_memory(
    experiment: Experiment, dataset: Dataset, count: int, *, exactly: bool = False
) -> TrialMemory | None:
    """Estimate the memory of the largest trial, for `count` trials at once on this machine.

    None if there is ample memory (unless `exactly`), or if the trials run on a cluster or on GPUs.
    """
    images = image_memory(dataset)
    if experiment.address != LOCAL or experiment.device != "cpu":
        return None
    alone = experiment.executor == DEFAULT_EXECUTOR
    free = max(0, images.free - (images.needed + RAY_BYTES if alone else 0))
    largest = _largest(experiment.edges, dataset)
    if not exactly:  # to count the bytes of a network exactly takes up to half a second
        largest = [config for config in largest if free < count * _ample(config, dataset)]
    if not largest:
        return None
    from trainables.evaluation.estimate import training_bytes

    needed, _, config = max(
        (training_bytes(config, dataset), -number, config) for number, config in enumerate(largest)
    )
    return TrialMemory(needed, free, config, count)


def _largest(edges: Iterable[TrialConfig], dataset: Dataset) -> list[TrialConfig]:
    """For each network, return its config with the most pixels in a batch.

    If there are several, it is one in which no layer is frozen. Batches of an evaluation have about
    equally many pixels at any size (`eval_batch`), so smaller images hardly need more memory. There
    are at most `MAX_COUNTED` configs.
    """
    largest: dict[object, tuple[tuple[int, bool], TrialConfig]] = {}
    for config in edges:
        network = replace(config.model, input_size=None, freeze=None)
        height, width = _input_size(config, dataset)
        pixels = config.batch_size * height * width, config.model.freeze in (None, "nothing")
        if network not in largest or pixels >= largest[network][0]:
            largest[network] = pixels, config
    configs = [config for _, config in largest.values()]
    return sorted(configs, key=sum_of_options, reverse=True)[:MAX_COUNTED]


def sum_of_options(config: TrialConfig) -> float:
    """Return the sum of the numeric options of a config's network, by which its size is judged."""
    return sum(value for value in config.model.options.values() if isinstance(value, int | float))


def _input_size(config: TrialConfig, dataset: Dataset) -> tuple[int, int]:
    """Return the (height, width), in pixels, of the images that a config's network sees."""
    image = config.task.load_targets().image(dataset)
    return MODELS[config.model.name].effective_size(image, config.model.options)


def _ample(config: TrialConfig, dataset: Dataset) -> int:
    """Return a generous upper bound on the memory of a trial with this config, in bytes."""
    if not MODELS[config.model.name].has_network:
        return AMPLE
    height, width = _input_size(config, dataset)
    families = AMPLE_FOR_FAMILIES if MODELS[config.model.name].weights else AMPLE
    return families + AMPLE_FOR_PIXEL * height * width * config.batch_size


def check_trials(
    experiment: Experiment, dataset: Dataset, local: Resources
) -> tuple[Resources, list[str]]:
    """Check that trials fit into memory.

    Returns:
        The resources to use, and notes for the user. The number of CPUs is reduced if fewer trials
        fit into memory than onto the CPUs, unless the user has set --concurrency.

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
        raise NotReady(f"{estimate}. Use {estimate.remedy}, or a machine with more memory.")
    fits = max(1, estimate.fits // demand.workers)
    if experiment.concurrency is not None:
        return local, [
            f"warning: {count} trials at once may be too many: {estimate}. Use "
            f"--concurrency {fits}, or {estimate.remedy}."
        ]
    note = (
        f"note: {fits} instead of {count} trials run at once: {estimate}. To run more, use "
        f"{estimate.remedy}."
    )
    if estimate.fits < demand.workers:
        note = (
            f"warning: the memory may be too small even for one trial at once: {estimate}. "
            f"Use {estimate.remedy}."
        )
    return replace(local, cpus=fits * demand.cpus * demand.workers), [note]
