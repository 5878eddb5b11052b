"""The memory and the operations of a training, counted on torch's `meta` device.

Tensors on this device have a shape but no data, so that nothing is computed: counting is fast for
networks of any size, and deterministic.
"""

import math
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._pytree import tree_leaves

from trainables.catalog.models import MODELS
from trainables.catalog.networks import MOST_FEATURES
from trainables.config import ModelConfig, TrialConfig
from trainables.datasets.arrays import Dataset
from trainables.evaluation.cost import Operations
from trainables.training.loop import eval_batch
from trainables.training.precision import has_bf16

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
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        """Compute `scaled_dot_product_attention`, if possible with the fused operator."""
        is_plain = attn_mask is not None or enable_gqa or query.dim() != 4
        if is_plain or query.device.type != "meta":
            return plain(
                query,
                key,
                value,
                attn_mask,
                dropout_p,
                is_causal,
                scale=scale,
                enable_gqa=enable_gqa,
            )
        attend = torch.ops.aten._scaled_dot_product_flash_attention
        attended: Tensor = attend(query, key, value, dropout_p, is_causal)[0]
        return attended

    functional.scaled_dot_product_attention = fused
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
    own_images = _own_images_bytes(config, dataset)
    activations = round(images * SLACK * (HALF if is_half else 1))
    return PROCESS_BYTES + state_bytes + activations + own_images


def _own_images_bytes(config: TrialConfig, dataset: Dataset) -> int:
    """Return the size of the training set if a model adds images to it, twice while it does."""
    extension = MODELS[config.model.name].extension
    if extension is None:
        return 0
    count, *shape = dataset.train.shape
    total: int = 2 * (count + extension(config).count) * math.prod(shape)
    return total
