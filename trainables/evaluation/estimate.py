"""Estimates of what a training, or a baseline's fit, will cost.

They are seconds per epoch, from a few measured steps, and bytes per checkpoint.

No measurement is long or large: a step is taken with two images first, and with no more than the
time allows then. A network of which even that would take too much is not trained at all: its time
is that of the one measured that is most like it, by the operations of a forward pass.
"""

import math
import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace

import torch

from trainables.catalog.models import MODELS
from trainables.config import ModelConfig, TrialConfig
from trainables.datasets.arrays import Dataset
from trainables.evaluation.memory import size_for, training_bytes
from trainables.memory import free_memory
from trainables.tasks.metrics import MetricAverage
from trainables.training.loop import Training, generator_for
from trainables.training.process import prepare

STEPS = 2
FIRST = 2
"""Images of the first step: batch normalisation needs two."""
VALIDATION_SHARE = 1 / 3
"""A forward pass takes about a third of a training step's time."""
BOX_S = 3.0
"""Seconds that the steps of one network, or the fits of one baseline, may take."""
LONG_S = 0.5
"""A step of so many seconds varies so little that one of it is enough."""
STEP_S = 5.0
"""Seconds that a step with two images is expected to take at most, or it is not taken."""
ALL_S = 90.0
"""After this many seconds no further network is measured."""
MOST_BYTES = 4 * 10**9
"""Bytes that a network may take that is measured, and no more than half of what is free."""
BATCH_BYTES = 10**9
"""Bytes of a batch that is measured."""
MOST_MEASURED = 14
"""The number of networks that are measured; others are like one of these."""


@dataclass(frozen=True)
class Times:
    """Seconds of a training step: `step_s` for any batch, and `image_s` for each of its images.

    `work` is the operations of an image's forward pass; 0 where they are not known.
    """

    step_s: float
    image_s: float
    work: float = 0.0

    def like(self, work: float) -> "Times":
        """Return the times of a network of so many operations that is otherwise like this one."""
        share = work / self.work if work and self.work else 1.0
        return Times(self.step_s, self.image_s * share, work)

    def epoch_s(self, batch: int, dataset: Dataset) -> float:
        """Return the seconds of an epoch of one network: training, and validation."""
        count = len(dataset.train)
        steps = math.ceil(count / min(batch, count))
        return self.step_s * steps + self.image_s * (count + VALIDATION_SHARE * len(dataset.val))


def epochs_seconds(
    configs: Sequence[TrialConfig], dataset: Dataset, *, device: str = "cpu", threads: int = 1
) -> list[float]:
    """Estimate the seconds of one epoch of each config.

    An epoch is training and validation, of all folds if there are any.

    Networks that differ in nothing but their training are measured once, and at most
    `MOST_MEASURED` of them: those whose work stands evenly between the least and the most.

    On a CPU with one thread it is the processor's time that counts: what else runs on the machine
    hardly changes it.
    """
    prepare(threads)
    one = dataset.of_one_network()
    alike: dict[Hashable, TrialConfig] = {}
    for config in configs:
        known = alike.setdefault(_kind(config), config)
        if config.batch_size > known.batch_size:
            alike[_kind(config)] = config
    works = {
        kind: 0.0 if config.model.is_baseline else size_for(config, one).work
        for kind, config in alike.items()
    }
    clock = time.thread_time if device == "cpu" and threads == 1 else time.perf_counter
    baselines, networks = (
        sorted(
            (kind for kind, config in alike.items() if config.model.is_baseline is wanted),
            key=works.__getitem__,
        )
        for wanted in (True, False)
    )
    fits = _fits(_spread(baselines), alike, one)
    steps = _measured(_spread(networks), alike, works, one, device, clock)
    folds = dataset.folds or 1
    return [
        folds
        * (
            _nearest(fits, baselines, _kind(config))
            if config.model.is_baseline
            else _most_like(steps, works[_kind(config)]).epoch_s(config.batch_size, one)
        )
        for config in configs
    ]


def _kind(config: TrialConfig) -> Hashable:
    """Return a key that configs share whose steps, or fits, take equally long for one image."""
    if config.model.is_baseline:
        return config.model.name, config.model.options["features"]
    # A rate of dropout changes nothing of that, but none does.
    model = replace(config.model, dropout=None)
    return model, config.model.dropout == 0, config.augment, config.precision


def _spread(kinds: Sequence[Hashable]) -> list[Hashable]:
    """Return some of these evenly spread ones, the first and the last among them."""
    count = min(MOST_MEASURED, len(kinds))
    return [kinds[round(place * (len(kinds) - 1) / max(1, count - 1))] for place in range(count)]


def _fits(
    kinds: Iterable[Hashable], alike: dict[Hashable, TrialConfig], dataset: Dataset
) -> dict[Hashable, float]:
    """Return the seconds of a fit of each of these baselines."""
    if not (wanted := list(kinds)):
        return {}
    from trainables.baselines.fitting import fit_seconds

    return {kind: fit_seconds(alike[kind], dataset, box_s=BOX_S) for kind in wanted}


def _nearest(found: dict[Hashable, float], kinds: list[Hashable], kind: Hashable) -> float:
    """Return what was found of a kind, or of the nearest one in order."""
    place = kinds.index(kind)
    return found[min(found, key=lambda other: abs(kinds.index(other) - place))]


def _measured(
    kinds: Iterable[Hashable],
    alike: dict[Hashable, TrialConfig],
    works: dict[Hashable, float],
    dataset: Dataset,
    device: str,
    clock: Callable[[], float],
) -> list[Times]:
    """Return the times of these networks, that of the least work first.

    Those that would take too much time or memory are left out, except that there is one.
    """
    found: list[Times] = []
    began = time.monotonic()
    limit = min(MOST_BYTES, (free_memory() or 2 * MOST_BYTES) // 2)
    for kind in kinds:
        config, work = alike[kind], works[kind]
        step_s = FIRST * found[-1].like(work).image_s if found else 0.0
        if found and (step_s > STEP_S or time.monotonic() - began > ALL_S):
            break
        if found and training_bytes(config.override({"batch_size": FIRST}), dataset) > limit:
            continue
        found.append(_times(config, dataset, device, clock, work))
    return found


def _most_like(found: list[Times], work: float) -> Times:
    """Return the times of a network of this work, from those of the one that is nearest to it."""
    nearest = min(found, key=lambda one: abs(math.log(max(work, 1) / max(one.work, 1))))
    return nearest.like(work)


def _times(
    config: TrialConfig,
    dataset: Dataset,
    device: str,
    clock: Callable[[], float],
    work: float,
) -> Times:
    """Return the times of a network, from steps with two images and with as many as fit."""
    training = Training(config, dataset, device=device)
    means = MetricAverage("loss", device=training.device)
    generator = generator_for(config.seed, "estimate", 0)

    def step_s(size: int) -> float:
        """Return the time of a step."""
        start = clock()
        (changes,) = training.task.draw(config.augment, 1, size, generator, training.device)
        training.step(torch.arange(size), changes, means)
        means.means("train")
        return clock() - start

    training.wrapped.train()
    most = min(config.batch_size, len(dataset.train))
    first = min(FIRST, most)
    step_s(first)  # prepares what later ones use
    least_s = step_s(first)
    steps = 1 + (1 if least_s > LONG_S else STEPS)
    kept = max(1.0, size_for(config, dataset).trained_image)
    fits = min(BOX_S / steps / least_s * first, BATCH_BYTES / kept)
    size = min(most, max(2 * first, int(fits)))
    if size == first:
        return Times(0.0, least_s / first, work)
    full_s = min([step_s(size) for _ in range(steps)][1:])
    # What is measured of two images is rough where a step is short.
    image_s = max((full_s - least_s) / (size - first), full_s / size / 2)
    return Times(max(0.0, full_s - size * image_s), image_s, work)


def checkpoint_bytes(
    config: ModelConfig, image: tuple[int, int, int], outputs: int, *, images: int = 0
) -> int:
    """Return the bytes of a checkpoint of this model.

    They are weights, buffers and Adam's two moments of each weight, as float32; the network is
    built without memory for them. For a baseline they are the most that it keeps of so many
    training images.
    """
    if config.is_baseline:
        from trainables.baselines.fitting import most_bytes

        return most_bytes(config, image, outputs, images)
    with torch.device("meta"):
        network = MODELS[config.name].build(image, outputs, **config.options)
    weights, buffers = (
        sum(tensor.numel() for tensor in tensors)
        for tensors in (network.parameters(), network.buffers())
    )
    return 4 * (3 * weights + buffers)
