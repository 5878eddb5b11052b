"""The cost of using a trained model: parameters, multiply-adds, bytes, and time per image."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from trainables.config import TrialConfig
from trainables.datasets.arrays import Dataset, Images
from trainables.evaluation.evaluate import load_model
from trainables.messages import Cost
from trainables.tasks.base import Predict, Task

BATCHES = (1, 64)
"""The batch sizes that are timed."""
WARM_UPS = 3
"""The maximum number of warm-up batches before the measurement."""
BUDGET_S = 0.1
"""Each batch size is timed for this many seconds, and at least `MIN_REPETITIONS` times."""
MIN_REPETITIONS = 5
LIMIT_S = 2.0
"""The timing ends after this many seconds, even with fewer than `MIN_REPETITIONS` repetitions.

If the warm-up takes longer than that, its last batch is the only measurement.
"""
FOR_TRAINING = {"optimizer.safetensors", "state.json", "manifest.json"}
"""The files of a checkpoint that are not needed for predictions."""


def cost(config: TrialConfig, dataset: Dataset, path: Path, *, device: str = "cpu") -> Cost:
    """Measure the cost of using the model saved at `path`, in this process on `device`.

    In the result, `inference` has the milliseconds per image (`time_per_image`) for each batch
    size, from uint8 images in memory to predictions in memory. This includes the scaling (or the
    extraction of features), and transfers to and from a GPU. `parameters` and `multiply_adds` (of
    one image) are None for a baseline without a network. A baseline always runs on the CPU. For a
    trial with folds, and for an ensemble, all numbers are those of all networks together. Heads
    that are used only in training are never counted, not even in `bytes`.

    Raises:
        CheckpointError: the checkpoint is damaged.
    """
    task: Task = config.load_task()
    device = "cpu" if config.model.is_baseline and not config.members else device
    with load_model(config, dataset, path, device=device) as saved:
        inference = time_batches(saved.predict, task, dataset)
    files = (file for file in path.rglob("*") if file.is_file() and file.name not in FOR_TRAINING)
    return {
        "parameters": sum(map(parameters, saved.networks)) or None,
        "multiply_adds": sum(
            multiply_adds(network, task.targets.image(dataset)) for network in saved.networks
        )
        or None,
        "bytes": sum(file.stat().st_size for file in files)
        - sum(map(bytes_for_training, saved.networks)),
        "inference": inference,
        "precision": saved.precision,
        "device": torch.cuda.get_device_name(device)
        if torch.device(device).type == "cuda"
        else device,
        "threads": torch.get_num_threads(),
    }


def parameters(network: nn.Module) -> int:
    """Count the weights of a network, without those of heads that are used only in training."""
    return sum(
        weights.numel()
        for name, weights in network.named_parameters()
        if not name.startswith(for_training(network))
    )


def bytes_for_training(network: nn.Module) -> int:
    """Return the size of the saved weights of heads that are used only in training, in bytes."""
    return sum(
        values.nbytes
        for name, values in network.state_dict().items()
        if name.startswith(for_training(network))
    )


def for_training(network: nn.Module) -> tuple[str, ...]:
    """Return the name prefixes of weights that are used only in training; empty if there are none.

    A network lists them in its attribute `for_training` (`families.Family.for_training`).
    """
    prefixes: tuple[str, ...] = getattr(network, "for_training", ())
    return prefixes


class Operations(TorchDispatchMode):
    """Counts the floating-point operations inside a `with` block, by torch's formulas.

    Torch's own counter (`FlopCounterMode`) is not used: it imports torch's compiler, which takes
    longer than everything else that is measured here.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Return False, so that torch does not wrap `__torch_dispatch__`.

        The wrapper would import torch's compiler, only to disable it, although nothing is compiled
        here.
        """
        return False

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Run one operation, and add its count to `total`."""
        result = operation(*args, **(kwargs or {}))
        if (count := flop_registry.get(operation.overloadpacket)) is not None:
            self.total += count(*args, **(kwargs or {}), out_val=result)
        return result


def multiply_adds(network: nn.Module, image: tuple[int, int, int]) -> int:
    """Count the multiply-adds in the forward pass of one image.

    Only convolutions, matrix products and attention are counted. Their multiply-adds are half of
    the floating-point operations that torch counts. Torch has no formulas for its fast paths of
    attention, so they are disabled during the count.

    Args:
        network: the network, whose mode (training or evaluation) is not changed.
        image: (channels, height, width).
    """
    place, fast = next(network.parameters()).device, torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), Operations() as counted:
            network(torch.zeros(1, *image, device=place))
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    return int(counted.total) // 2


def time_batches(predict: Predict, task: Task, dataset: Dataset) -> dict[str, dict[str, float]]:
    """Measure the time per image (`time_per_image`) for each batch size, as `batch_SIZE`.

    With an input of fixed size, images are resized or cut one by one, so that only single
    images are timed.
    """
    sizes = BATCHES[:1] if task.has_fixed_input else BATCHES
    return {
        f"batch_{size}": time_per_image(predict, task.examples(dataset, size)) for size in sizes
    }


def time_per_image(predict: Predict, images: Images) -> dict[str, float]:
    """Predict these images repeatedly, and measure the time per image.

    Returns:
        `median_ms` and `p95_ms`, the median and the 95th percentile over the repetitions, where the
        time of a batch is divided by its number of images; and the number of `repetitions`.
    """
    spent, times = 0.0, list[float]()
    for _ in range(WARM_UPS):
        spent += (first := _seconds(predict, images))
        if spent > BUDGET_S:
            break
    spent = spent if spent > LIMIT_S else 0.0
    while spent < BUDGET_S or (len(times) < MIN_REPETITIONS and spent < LIMIT_S):
        times.append(_seconds(predict, images))
        spent += times[-1]
    each = 1000 * np.array(times or [first]) / len(images)
    return {
        "median_ms": float(np.median(each)),
        "p95_ms": float(np.percentile(each, 95)),
        "repetitions": len(each),
    }


def _seconds(predict: Predict, images: Images) -> float:
    start = time.perf_counter()
    predict(images)
    return time.perf_counter() - start
