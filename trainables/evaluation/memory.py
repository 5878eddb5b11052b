"""The memory and the work of a training, counted on tensors that have sizes but no content.

Nothing is computed: a network of any size is counted in a moment, and always the same.
"""

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
from trainables.config import ModelConfig, TrialConfig
from trainables.datasets.arrays import Dataset
from trainables.evaluation.cost import Operations
from trainables.training.loop import eval_batch
from trainables.training.precision import has_bf16

PROCESS_BYTES = 400 << 20
"""Bytes that a process of torch takes before it trains."""
MOMENTS = {"sgd": 1}
"""The values that an optimizer keeps of each weight; of Adam's kind 2."""
SLACK = 1.5
"""The factor on what is kept of a batch that makes room for the layers' working memory."""
HALF = 0.55
"""The share of what float32 keeps of a batch that bfloat16 keeps."""
MANY = 256
"""Images of the batch on which it is counted."""


@dataclass(frozen=True)
class Size:
    """The memory and the work of a network, as far as its layers tell."""

    weights: int
    learning: int
    """Those of the weights that are trained."""
    trained_image: float
    """Bytes that are kept of an image, in float32, between its forward and backward pass."""
    tested_image: float
    """The most bytes that a forward pass alone holds at once of an image."""
    work: float
    """Floating-point operations of an image's forward pass."""


class _Counter(Operations):
    """The most bytes of tensors made within that live at once, beside the operations."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = self._now = 0
        self._alive: dict[int, int] = {}
        """The bytes of each storage that lives."""

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Compute the sizes of one operation's results, and count those that are new."""
        found = super().__torch_dispatch__(operation, types, args, kwargs)
        for tensor in tree_leaves(found):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage())
        return found

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
def size_of(model: ModelConfig, image: tuple[int, int, int], outputs: int) -> Size:
    """Return the size of a network for images (channels, height, width) and so many outputs.

    Of one that does not take tensors without content, nothing but its weights is known: the other
    numbers are 0.
    """
    with torch.device("meta"):
        network = MODELS[model.name].build(image, outputs, **model.options)
    each = list(network.parameters())
    trained, work = _passed(network, image, train=True)
    tested, _ = _passed(network, image, train=False)
    return Size(
        sum(tensor.numel() for tensor in each),
        sum(tensor.numel() for tensor in each if tensor.requires_grad),
        trained,
        tested,
        work,
    )


def _passed(network: nn.Module, image: tuple[int, int, int], *, train: bool) -> tuple[float, float]:
    """Return the bytes and the operations of each image of a forward pass."""
    network.train(train)
    try:
        with torch.set_grad_enabled(train), _fused_attention(), _Counter() as counted:
            outputs = network(torch.zeros(MANY, *image, device="meta"))
            del outputs
    # A network may do anything here, such as look at values.
    except Exception:  # noqa: BLE001
        return 0.0, 0.0
    return counted.peak / MANY, counted.total / MANY


@contextmanager
def _fused_attention() -> Iterator[None]:
    """Keep torch from computing attention step by step, as it does without a device.

    A processor's or a GPU's way keeps no matrices of tokens by tokens, which are a quarter of what
    a vision transformer would seem to take. Torch offers nothing to choose it for such tensors.
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
        """Return what `scaled_dot_product_attention` returns."""
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
        found: Tensor = attend(query, key, value, dropout_p, is_causal)[0]
        return found

    functional.scaled_dot_product_attention = fused
    try:
        yield
    finally:
        functional.scaled_dot_product_attention = plain


def size_for(config: TrialConfig, dataset: Dataset) -> Size:
    """Return the size of this config's network for these images."""
    targets = config.task.load_targets()
    return size_of(config.model, targets.image(dataset), targets.width(dataset))


def training_bytes(config: TrialConfig, dataset: Dataset) -> int:
    """Return the most memory, in bytes, that the process which trains this config takes.

    The images, which all processes of a machine share, are not counted. Of a baseline it is what
    every process takes.
    """
    if config.model.is_baseline:
        return PROCESS_BYTES
    size = size_for(config, dataset)
    moments = MOMENTS.get(config.optimizer.name, 2)
    is_half = config.precision == "bf16" or (config.precision == "auto" and has_bf16())
    kept = 4 * (size.weights + size.learning * (1 + moments)) + 2 * size.weights * is_half
    batch = min(config.batch_size, dataset.least_trained)
    tested = min(eval_batch(config, dataset, torch.device("cpu")), len(dataset.val))
    images = max(batch * size.trained_image, tested * size.tested_image)
    return PROCESS_BYTES + kept + round(images * SLACK * (HALF if is_half else 1))
