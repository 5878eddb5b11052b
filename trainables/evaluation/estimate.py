"""Estimates made before a training: its memory, the seconds of an epoch, the bytes of a checkpoint.

The memory and the operations of a network are counted on torch's `meta` device. Tensors on this
device have a shape but no data, so that nothing is computed: counting is fast for networks of any
size, and deterministic.

The time is extrapolated from a few measured steps or, for a baseline, from a fit to a sample. No
measurement takes much time or memory: the first step has two images, and the next ones as many as
the limits allow. A network that exceeds the limits even with two images is not measured. Its time
is extrapolated from the most similar measured network, in proportion to the operations of a
forward pass.
"""

import math
import time
import weakref
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._pytree import tree_leaves

from trainables.baselines.base import load_baseline
from trainables.catalog.models import MODELS
from trainables.catalog.networks import MOST_FEATURES
from trainables.config import ModelConfig, TrialConfig
from trainables.datasets.arrays import Dataset
from trainables.evaluation.cost import Operations
from trainables.machine import free_memory
from trainables.progress import Advance, step
from trainables.tasks.metrics import MetricAverage
from trainables.training.loop import Training, eval_batch, generator_for
from trainables.training.precision import has_bf16
from trainables.training.process import prepare

PROCESS_BYTES = 400 << 20
"""The memory of a process that has imported torch but does not train yet, in bytes."""
MOMENTS = {"sgd": 1}
"""The number of values that an optimizer stores for each weight; 2 if it is not listed (Adam)."""
FEATURE_COPIES = 3
"""The number of copies of all features during the fit of a probe."""
SLACK = 1.5
"""A factor on the memory of a batch's activations that allows for the layers' working memory."""
HALF = 0.55
"""The memory of a batch's activations in bfloat16, as a share of that in float32."""
MANY = 256
"""The number of images in the batch whose memory is counted."""


@dataclass(frozen=True)
class NetworkSize:
    """The memory and the operations of a network."""

    weights: int
    learning: int
    """The number of weights that are trained, because they are not frozen."""
    trained_image: float
    """The bytes per image, in float32, that are kept from the forward to the backward pass."""
    tested_image: float
    """The peak memory of a forward pass without gradients, in bytes per image."""
    work: float
    """The number of floating-point operations in the forward pass of one image."""


class _Counter(Operations):
    """Measures the peak memory of new tensors, in bytes, and counts the operations."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = self._now = 0
        self._alive: dict[int, int] = {}
        """The size of each live storage, in bytes."""

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Run one operation, and count the storages that it creates."""
        results = super().__torch_dispatch__(operation, types, args, kwargs)
        for tensor in tree_leaves(results):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage())
        return results

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self._alive:
            self._alive[key] = storage.nbytes()
            self._now += storage.nbytes()
            self.peak = max(self.peak, self._now)
            weakref.finalize(storage, self._drop, key)

    def _drop(self, key: int) -> None:
        self._now -= self._alive.pop(key)


@cache
def size_of(model: ModelConfig, image: tuple[int, int, int], outputs: int) -> NetworkSize:
    """Measure the memory and the operations of a new network.

    If it cannot run on the `meta` device, only the numbers of weights are known, and the other
    results are 0.

    Args:
        model: the model's config.
        image: (channels, height, width).
        outputs: the number of the network's outputs.
    """
    with torch.device("meta"):
        network = MODELS[model.name].build(image, outputs, **model.options)
    each = list(network.parameters())
    trained, work = _measure_pass(network, image, train=True)
    tested, _ = _measure_pass(network, image, train=False)
    return NetworkSize(
        sum(tensor.numel() for tensor in each),
        sum(tensor.numel() for tensor in each if tensor.requires_grad),
        trained,
        tested,
        work,
    )


def _measure_pass(
    network: nn.Module, image: tuple[int, int, int], *, train: bool
) -> tuple[float, float]:
    """Return the peak bytes and the operations of a forward pass, per image.

    Both are 0 if the network cannot run on the `meta` device.
    """
    network.train(train)
    try:
        with torch.set_grad_enabled(train), _fused_attention(), _Counter() as counted:
            outputs = network(torch.zeros(MANY, *image, device="meta"))
            del outputs
    # A network may raise anything here, for example because it reads the values of a tensor.
    except Exception:  # noqa: BLE001
        return 0.0, 0.0
    return counted.peak / MANY, counted.total / MANY


@contextmanager
def _fused_attention() -> Iterator[None]:
    """Make attention use torch's fused operator on the `meta` device too.

    On this device torch computes attention step by step, with matrices of (tokens, tokens). The
    kernels of CPUs and GPUs do not store these matrices, which would be a quarter of the counted
    memory of a vision transformer. Torch has no setting for this.
    """
    plain = functional.scaled_dot_product_attention

    def fused(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        **options: Any,
    ) -> Tensor:
        """Compute `scaled_dot_product_attention`, if possible with the fused operator."""
        is_meta = query.device.type == "meta" and query.dim() == 4
        if not is_meta or attn_mask is not None or options.get("enable_gqa"):
            return plain(query, key, value, attn_mask, dropout_p, is_causal, **options)
        attend = torch.ops.aten._scaled_dot_product_flash_attention
        attended: Tensor = attend(query, key, value, dropout_p, is_causal)[0]
        return attended

    functional.scaled_dot_product_attention = fused  # type: ignore[assignment]
    try:
        yield
    finally:
        functional.scaled_dot_product_attention = plain


def size_for(config: TrialConfig, dataset: Dataset) -> NetworkSize:
    """Measure the network of a config for this data set (`size_of`)."""
    targets = config.task.load_targets()
    return size_of(config.model, targets.image(dataset), targets.width(dataset))


def training_bytes(config: TrialConfig, dataset: Dataset) -> int:
    """Return an upper bound on the memory of a process that trains this config, in bytes.

    The images are not counted, because all processes of a machine share them, unless a model adds
    others to the training set. For a baseline without a network, the result is only the memory of
    the process before the fit.
    """
    if not MODELS[config.model.name].has_network:
        return PROCESS_BYTES
    size = size_for(config, dataset)
    if config.model.is_baseline:
        predicted = eval_batch(config, dataset, torch.device("cpu")) * size.tested_image
        features = FEATURE_COPIES * 4 * MOST_FEATURES * dataset.least_trained
        return PROCESS_BYTES + 4 * size.weights + round(SLACK * predicted) + features
    moments = MOMENTS.get(config.optimizer.name, 2)
    is_half = config.precision == "bf16" or (config.precision == "auto" and has_bf16())
    copies = 2 if config.train.ema else 1
    state_bytes = 4 * (copies * size.weights + size.learning * (1 + moments))
    state_bytes += 2 * size.weights * is_half
    per_image: int = config.task.load_targets().samples_per_image(dataset)
    batch = min(config.batch_size, dataset.least_trained * per_image)
    tested = min(eval_batch(config, dataset, torch.device("cpu")), len(dataset.val))
    images = max(batch * size.trained_image, tested * size.tested_image)
    activations = round(images * SLACK * (HALF if is_half else 1))
    needed = PROCESS_BYTES + state_bytes + activations
    if (extension := MODELS[config.model.name].extension) is not None:
        # The model adds images to the training set, which exists twice while it does.
        count, *shape = dataset.train.shape
        needed += 2 * (count + extension(config).count) * math.prod(shape)
    return needed


STEPS = 2
FIRST = 2
"""The number of images in the first step; batch normalisation needs at least two."""
VALIDATION_SHARE = 1 / 3
"""The time of an image in validation, as a share of its time in training.

A forward pass takes about a third of the time of a training step.
"""
BOX_S = 3.0
"""The maximum number of seconds for the steps of one network, or for the fits of one baseline."""
LONG_S = 0.5
"""If a step with two images takes longer than this, a step with a whole batch is timed only once.

The time of long steps varies little.
"""
STEP_S = 5.0
"""A network is not measured if its step with two images is expected to take longer than this."""
ALL_S = 90.0
"""No further network is measured after this many seconds."""
MOST_BYTES = 4 * 10**9
"""The maximum memory of a measured network, in bytes; half of the free memory if that is less."""
BATCH_BYTES = 10**9
"""The maximum memory of the activations of a measured batch, in bytes."""
MOST_MEASURED = 14
"""The maximum number of networks that are measured; the others are extrapolated."""


@dataclass(frozen=True)
class Times:
    """The time of a training step: `step_s` seconds, and another `image_s` for each of its images.

    `work` is the number of floating-point operations of an image's forward pass; 0 if it is
    unknown.
    """

    step_s: float
    image_s: float
    work: float = 0.0

    def like(self, work: float) -> "Times":
        """Extrapolate to a network whose forward pass has `work` operations per image.

        If either number of operations is unknown (0), the times stay the same.
        """
        share = work / self.work if work and self.work else 1.0
        return Times(self.step_s, self.image_s * share, work)

    def epoch_s(self, config: TrialConfig, dataset: Dataset) -> float:
        """Return the seconds of an epoch of one network, with training and validation."""
        targets = config.task.load_targets()
        count: int = len(dataset.train) * targets.samples_per_image(dataset)
        if (extension := MODELS[config.model.name].extension) is not None:
            count += extension(config).count
        steps = math.ceil(count / min(config.batch_size, count))
        validated: int = len(dataset.val) * targets.inputs_per_image(dataset)
        return self.step_s * steps + self.image_s * (count + VALIDATION_SHARE * validated)


def epochs_seconds(
    configs: Sequence[TrialConfig], dataset: Dataset, *, device: str = "cpu", threads: int = 1
) -> list[float]:
    """Estimate the seconds of one epoch of each config, with training and validation.

    With folds, an epoch includes the networks of all folds. Configs that differ only in settings
    without influence on the time per image are measured once. At most `MOST_MEASURED` networks are
    measured, evenly spread by their operations.

    On a CPU with one thread, processor time is measured, which hardly depends on other processes.
    """
    prepare(threads)
    fold = dataset.of_one_network()
    alike: dict[Hashable, TrialConfig] = {}
    for config in configs:
        largest = alike.setdefault(_kind(config), config)
        if config.batch_size > largest.batch_size:
            alike[_kind(config)] = config
    # Operations serve to compare networks: those of a single one need not be counted.
    works = {
        kind: size_for(config, fold).work
        if MODELS[config.model.name].has_network and len(alike) > 1
        else 0.0
        for kind, config in alike.items()
    }
    clock = time.thread_time if device == "cpu" and threads == 1 else time.perf_counter
    baselines, networks = (
        sorted(
            (kind for kind, config in alike.items() if config.model.is_baseline is is_baseline),
            key=works.__getitem__,
        )
        for is_baseline in (True, False)
    )
    fits: dict[Hashable, float] = {}
    count = len(_spread(baselines)) + len(_spread(networks))
    with step("measuring the time of models", count) as advance:
        for kind in _spread(baselines):
            fits[kind] = load_baseline(alike[kind]).fit_seconds(fold, box_s=BOX_S)
            advance()
        spread = [(alike[kind], works[kind]) for kind in _spread(networks)]
        measured = _measure_networks(spread, fold, device, clock, advance)

    def epoch_s(config: TrialConfig) -> float:
        """Extrapolate from the most similar baseline or network."""
        kind = _kind(config)
        if config.model.is_baseline:
            place = baselines.index(kind)
            return fits[min(fits, key=lambda fitted: abs(baselines.index(fitted) - place))]
        work = max(works[kind], 1)
        nearest = min(measured, key=lambda times: abs(math.log(work / max(times.work, 1))))
        return nearest.like(works[kind]).epoch_s(config, fold)

    return [(dataset.folds or 1) * epoch_s(config) for config in configs]


def _kind(config: TrialConfig) -> Hashable:
    """Return a key that configs share if their steps, or fits, take the same time per image."""
    if config.model.is_baseline:
        return replace(config.model, c=None, gamma=None, neighbours=None, tree_depth=None)
    # All dropout rates take the same time, except that 0 is faster.
    model = replace(config.model, dropout=None)
    extra = config.train.ema > 0, config.train.adversarial > 0
    return model, config.model.dropout == 0, config.augment, extra, config.precision


def _spread(kinds: Sequence[Hashable]) -> list[Hashable]:
    """Select at most `MOST_MEASURED` kinds, evenly spread, including the first and the last."""
    count = min(MOST_MEASURED, len(kinds))
    return [kinds[round(place * (len(kinds) - 1) / max(1, count - 1))] for place in range(count)]


def _measure_networks(
    networks: Iterable[tuple[TrialConfig, float]],
    dataset: Dataset,
    device: str,
    clock: Callable[[], float],
    advance: Advance,
) -> list[Times]:
    """Measure these networks, given with their operations, which must be in ascending order.

    The first is always measured. The others are skipped if they need too much memory, and the
    measurement stops before a network that would take too much time.
    """
    measured: list[Times] = []
    began = time.monotonic()
    limit = min(MOST_BYTES, free_memory() // 2)
    for config, work in networks:
        advance()
        if measured:
            step_s = FIRST * measured[-1].like(work).image_s
            if step_s > STEP_S or time.monotonic() - began > ALL_S:
                break
            if training_bytes(config.override({"batch_size": FIRST}), dataset) > limit:
                continue
        measured.append(_times(config, dataset, device, clock, work))
    return measured


def _times(
    config: TrialConfig,
    dataset: Dataset,
    device: str,
    clock: Callable[[], float],
    work: float,
) -> Times:
    """Measure a network's steps with two images, and with as many images as the limits allow."""
    training = Training(config, dataset, device=device)
    means = MetricAverage("loss", device=training.device)
    generator = generator_for(config.seed, "estimate", 0)

    def step_s(size: int) -> float:
        start = clock()
        (changes,) = training.task.draw(config.augment, 1, size, generator, training.device)
        training.step(torch.arange(size) % len(training.train), changes, means)
        means.means("train")
        return clock() - start

    training.wrapped.train()
    most = min(config.batch_size, training.samples)
    first = min(FIRST, most)
    step_s(first)  # warm-up: the first step allocates memory and chooses kernels
    least_s = step_s(first)
    steps = 1 + (1 if least_s > LONG_S else STEPS)
    image_bytes = max(1.0, size_for(config, dataset).trained_image)
    fits = min(BOX_S / steps / least_s * first, BATCH_BYTES / image_bytes)
    size = min(most, max(2 * first, int(fits)))
    if size == first:
        return Times(0.0, least_s / first, work)
    full_s = min([step_s(size) for _ in range(steps)][1:])
    # For short steps, the time of two images is imprecise, and may be too long. Therefore at least
    # half of the larger step's time is attributed to its images.
    image_s = max((full_s - least_s) / (size - first), full_s / size / 2)
    return Times(max(0.0, full_s - size * image_s), image_s, work)


def checkpoint_bytes(
    config: ModelConfig, image: tuple[int, int, int], outputs: int, *, images: int = 0
) -> int:
    """Estimate the size of a checkpoint of this model, in bytes.

    A network's checkpoint has its weights, its buffers and Adam's two moments of each weight, as
    float32; none of these are allocated for the estimate. A probe's has no moments. For another
    baseline, the result is an upper bound for a fit to `images` training images.
    """
    if not MODELS[config.name].has_network:
        baseline = MODELS[config.name].baseline
        most: int = baseline.most_bytes(config.options, image, outputs, images)
        return most
    weights, buffers = _numbers(_shape_of(config), image, outputs)
    return 4 * ((1 if config.is_baseline else 3) * weights + buffers)


def _shape_of(config: ModelConfig) -> ModelConfig:
    """Return a model without options that do not change the number of its weights."""
    entry = MODELS[config.name]
    has_positions = entry.multiple > 1 or "patch" in entry.options
    side = config.input_size if has_positions else None
    return replace(config, weights=None, freeze=None, input_size=side)


@cache
def _numbers(config: ModelConfig, image: tuple[int, int, int], outputs: int) -> tuple[int, int]:
    """Count the weights and the values in buffers of a network; a search asks for many alike."""
    with torch.device("meta"):
        network = MODELS[config.name].build(image, outputs, **config.options)
    weights, buffers = (
        sum(tensor.numel() for tensor in tensors)
        for tensors in (network.parameters(), network.buffers())
    )
    return weights, buffers
