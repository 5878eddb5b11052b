"""The cost of using a trained model.

That is its parameters, multiply-adds and bytes on disk, and the time that an image takes.
"""

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
WARM_UPS = 3
BUDGET_S = 0.1
"""Seconds for the repetitions of one batch size, if these are at least `MIN_REPETITIONS`."""
MIN_REPETITIONS = 5
LIMIT_S = 2.0
"""Seconds that may be used at most to reach `MIN_REPETITIONS`.

A batch that alone takes longer is measured once.
"""
FOR_TRAINING = {"optimizer.safetensors", "state.json", "manifest.json"}
"""Files of a checkpoint that are not needed to use it."""


def cost(config: TrialConfig, dataset: Dataset, path: Path, *, device: str = "cpu") -> Cost:
    """Measure the costs of the model saved at `path`, in this process on this device.

    `inference` holds milliseconds per image (`time_per_image`) for each batch size: from images as
    uint8 in memory to predictions there, the scaling (or the features) and a GPU's transfers
    included. `parameters` and `multiply_adds` (of one image) are None for what is no network, which
    no GPU runs. For a trial with folds all numbers are those of the ensemble of its networks. Heads
    that are used in training alone count nowhere, not in `bytes` either.

    Raises:
        CheckpointError: the checkpoint is damaged.
    """
    task: Task = config.task.load()
    device = "cpu" if config.model.is_baseline else device
    with load_model(config, dataset, path, device=device) as saved:
        inference = {
            f"batch_{size}": time_per_image(saved.predict, task.examples(dataset, size))
            for size in BATCHES
        }
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
    """Return the number of weights that are in use once the network is trained."""
    return sum(
        weights.numel()
        for name, weights in network.named_parameters()
        if not name.startswith(for_training(network))
    )


def bytes_for_training(network: nn.Module) -> int:
    """Return the bytes, in a saved network, of the heads that are used in training alone."""
    return sum(
        values.nbytes
        for name, values in network.state_dict().items()
        if name.startswith(for_training(network))
    )


def for_training(network: nn.Module) -> tuple[str, ...]:
    """Return the prefixes of the names of weights that are used in training alone.

    A network says so itself (`families.Family.for_training`).
    """
    found: tuple[str, ...] = getattr(network, "for_training", ())
    return found


class Operations(TorchDispatchMode):
    """Sum of what torch counts as floating-point operations while this lasts.

    Torch's own counter imports its compiler for it, which takes longer than everything else that is
    measured here.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Return False: nothing is compiled here.

        Otherwise torch wraps `__torch_dispatch__` to keep its compiler out, and the wrapper is a
        part of the compiler.
        """
        return False

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Compute one operation, and count it."""
        found = operation(*args, **(kwargs or {}))
        if (count := flop_registry.get(operation.overloadpacket)) is not None:
            self.total += count(*args, **(kwargs or {}), out_val=found)
        return found


def multiply_adds(network: nn.Module, image: tuple[int, int, int]) -> int:
    """Return the number of multiplications, each with its addition, in one image's forward pass.

    Counted are convolutions, matrix products and attention: half of what torch counts as
    floating-point operations. Attention is computed step by step, since torch's faster paths are
    not counted.
    """
    place, fast = next(network.parameters()).device, torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), Operations() as counted:
            network(torch.zeros(1, *image, device=place))
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    return int(counted.total) // 2


def time_per_image(predict: Predict, images: Images) -> dict[str, float]:
    """Predict these images again and again, and return the time that one takes.

    Returns:
        `median_ms` and `p95_ms` (95th percentile) of an image's share of a batch's time, and over
        how many `repetitions`.
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
