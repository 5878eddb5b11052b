"""The conversion of a network to a torch.export program, from pixels to raw predictions.

It is apart from `export`, because a search checks it before it starts, without an evaluation.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trainables.config import TrialConfig
from trainables.datasets.arrays import Dataset
from trainables.errors import ConfigError
from trainables.tasks.base import Task
from trainables.tasks.pixels import Pixels

IMAGES_CHECKED = 3
"""The number of images that an untrained network predicts, unlike that of the export's example."""


def inputs_of(task: Task, dataset: Dataset, batch: int) -> Tensor:
    """Return a batch of inputs of the task's module, by which it is exported."""
    inputs = task.module_inputs(dataset, min(batch, len(dataset.val)))
    return torch.from_numpy(np.ascontiguousarray(inputs))


def program_of(module: nn.Module, task: Task, pixels: Tensor) -> Any:
    """Convert `module` to a torch.export program.

    It accepts any batch size. It accepts images of any size if the task does, unless its
    input is fixed.
    """
    is_free = task.any_size and not task.has_fixed_input
    free = ("batch", "height", "width") if is_free else ("batch",)
    axes = {axis: torch.export.Dim(name, min=1) for axis, name in enumerate(free)}
    return torch.export.export(module, (pixels[[0, -1]],), dynamic_shapes=(axes,))


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress the warnings of torch's exporters about their own code."""
    with warnings.catch_warnings(action="ignore"):
        yield


def check_exportable(config: TrialConfig, dataset: Dataset) -> bool:
    """Check that the network of a config can be exported, before it is trained.

    A new network is exported to memory, and the program predicts a few images. This takes one to
    two seconds of CPU time, and another three for the first network of a process.

    Returns:
        False if this was not found out, because the network cannot be built or cannot predict here:
        its trials then fail at once, with their own errors.

    Raises:
        ConfigError: the network cannot be exported, or the program's predictions have another
            shape than the network's.
    """
    task: Task = config.load_task()
    own = dataset if dataset.folds is None else dataset.fold(1, config.seed)
    with torch.random.fork_rng(devices=[]), torch.no_grad(), quiet():
        try:
            network = task.network(config.model, own)
            pixels = Pixels(own.val, own, config, torch.device("cpu"))
            module = task.module(network, pixels).eval()
            inputs = inputs_of(task, own, IMAGES_CHECKED)
            expected = tuple(module(inputs).shape)
        except Exception:  # noqa: BLE001 - the code of a network may raise anything
            return False
        try:
            shape = tuple(program_of(module, task, inputs).module()(inputs).shape)
        except MemoryError:  # the machine that trains may have more
            return False
        # The exporter runs the code of the network, which may raise anything.
        except Exception as error:
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise ConfigError(_not_exportable(config, reason.rstrip("."))) from error
    if shape != expected:
        reason = f"it returns the shape {shape} instead of {expected}"
        raise ConfigError(_not_exportable(config, reason))
    return True


def _not_exportable(config: TrialConfig, reason: str) -> str:
    """Return the message that the network of a config cannot be exported for this reason."""
    return (
        f"'{config.model.name}' cannot be exported, so that it could be trained but not used: "
        f"{reason}. Leave this model out of the space, or choose others with --set model.name=NAME."
    )
