"""Checkpoints put to use: their predictions, and how good these are on a part of the data."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

import numpy as np
import torch
from torch import nn

from trainables.checkpoints import checkpoint
from trainables.checkpoints.remembered import OUTPUT_CACHE
from trainables.config import TrialConfig
from trainables.datasets.arrays import Dataset, Part, PartSubset
from trainables.tasks.base import Predict, Predictions, Task
from trainables.tasks.pixels import Pixels
from trainables.training.loop import autocast, eval_batch, on_device, put_weights
from trainables.values import Evaluation, State


@dataclass(frozen=True)
class TrainedModel:
    """The model that a checkpoint holds, ready to be used.

    For a trial with folds it is an ensemble of all its networks: it has seen every image but the
    test part's.
    """

    predict: Predict
    networks: list[nn.Module]
    """Every network in it, as it was trained, for images that are scaled.

    Empty for what is no network.
    """
    precision: str
    """The precision in which it was trained, and computes: `fp32`, `bf16` or `fp16`."""
    module: nn.Module | None = None
    """The whole way from pixels to raw predictions; None for what is no network."""
    members: tuple[nn.Module, ...] = ()
    """The same of each network."""


def check(path: Path) -> None:
    """Check that the checkpoint at `path` is whole, before anything is opened for it.

    Raises:
        CheckpointError: it is damaged.
    """
    checkpoint.verify(path)


def evaluate(
    config: TrialConfig, dataset: Dataset, part: Part, path: Path, *, device: str = "cpu"
) -> Evaluation:
    """Load the checkpoint at `path` and measure it on `part`.

    Returns:
        The task's evaluation (`Task.evaluate`). With folds also `members`, how good each network is
        by itself: its primary metric (under its name, of each, on what it predicts), their `mean`
        and sample standard deviation `std`.

    Raises:
        CheckpointError: the checkpoint is damaged.
    """
    task: Task = config.task.load()
    parts = _parts_of_networks(config, dataset, part)
    each = _by_network(config, task, dataset, parts, path, device)
    found = task.evaluate(_combined(task, parts, each), part, dataset, config.ranked_by)
    if dataset.folds is None:
        return found
    alone = [task.value(said, own) for own, said in zip(parts, each, strict=True)]
    members = {task.entry.primary.name: alone, "mean": fmean(alone), "std": stdev(alone)}
    return {**found, "members": members}


def brief(config: TrialConfig, evaluation: Evaluation) -> Evaluation:
    """Return an evaluation of the validation part as the journal takes it for each trial."""
    task: Task = config.task.load()
    return task.brief(evaluation)


def plain(config: TrialConfig, evaluation: Evaluation) -> Evaluation:
    """Return an evaluation without what is only there to be looked at."""
    task: Task = config.task.load()
    return task.plain(evaluation)


def predictions(
    config: TrialConfig, dataset: Dataset, part: Part, path: Path, *, device: str = "cpu"
) -> Predictions:
    """Return what the network or baseline saved at `path` predicts of a part.

    They are computed in the precision that the network was trained in. `dataset` gives the scaling
    of pixels. With folds they are those of the ensemble of all networks; but for the data set's own
    training (and validation) part, each image's are those of the one network that has not seen it.
    """
    task: Task = config.task.load()
    parts = _parts_of_networks(config, dataset, part)
    return _combined(task, parts, _by_network(config, task, dataset, parts, path, device))


def _parts_of_networks(config: TrialConfig, dataset: Dataset, part: Part) -> list[Part]:
    """Return the part of which each network predicts, so that together they cover this part."""
    if dataset.folds is None:
        return [part]
    if part is dataset.train or (
        len(part) == len(dataset.train) and part.fingerprint == dataset.train.fingerprint
    ):
        return [fold.val for fold in _data_of_networks(config, dataset)]
    return [part] * dataset.folds


def _combined(task: Task, parts: list[Part], each: list[Predictions]) -> Predictions:
    """Return the predictions of the whole part.

    They combine what several networks give for one part, or are what a single one gives. Where the
    parts are folds, each network gives its own rows.
    """
    if len(each) == 1:
        return each[0]
    if all(part is parts[0] for part in parts):
        return task.combine(each)
    rows = np.concatenate([part.rows for part in parts if isinstance(part, PartSubset)])
    places = np.argsort(rows, kind="stable")
    if all(isinstance(some, np.ndarray) for some in each):
        return np.concatenate(each)[places]
    whole = [one for some in each for one in some]
    return [whole[place] for place in places]


def _by_network(
    config: TrialConfig,
    task: Task,
    dataset: Dataset,
    parts: list[Part],
    path: Path,
    device: str,
) -> list[Predictions]:
    """Return what each network of a checkpoint predicts of its part."""
    if config.model.is_baseline:
        # Imported here: networks need not wait the half second that scikit-image takes.
        from trainables.baselines import fitting

        # By the features that all trials share; `load_model` computes those of new images.
        fitted = [state["classifier"] for state in _states(dataset, path)]
        return [
            fitting.probabilities(config, dataset, part, own)
            for part, own in zip(parts, fitted, strict=True)
        ]
    if (
        torch.device(device).type == "cpu"
        and (known := OUTPUT_CACHE.outputs(path, config, parts[0])) is not None
    ):
        return [task.from_outputs(known)]
    with load_model(config, dataset, path, device=device) as saved:
        size = eval_batch(config, dataset, torch.device(device))
        return [
            task.predict(member, task.given(part), size, device)
            for part, member in zip(parts, saved.members, strict=True)
        ]


@contextmanager
def load_model(
    config: TrialConfig, dataset: Dataset, path: Path, *, device: str = "cpu"
) -> Iterator[TrainedModel]:
    """Load the model saved at `path`, to be used inside the `with` block.

    There its weights are converted to its precision once.

    Raises:
        CheckpointError: the checkpoint is damaged.
    """
    states = _states(dataset, path)
    if config.model.is_baseline:
        from trainables.baselines import fitting

        fitted = [state["classifier"] for state in states]
        yield TrainedModel(
            lambda images: fitting.probabilities_of_images(config, dataset, images, *fitted), [], ""
        )
        return
    task: Task = config.task.load()
    place = torch.device(device)
    networks, members = [], []
    for own, state in zip(_data_of_networks(config, dataset), states, strict=True):
        network = task.network(config.model, own)
        put_weights(network, config, state)
        networks.append(on_device(network, place))
        members.append(task.module(networks[-1], Pixels(own.val, own, config, place)).eval())
    module = task.ensemble(members).eval() if dataset.folds is not None else members[0]
    with torch.no_grad(), autocast(states[0]["precision"], place):
        yield TrainedModel(
            lambda images: task.decode(task.raw(module, images, device)),
            networks,
            states[0]["precision"],
            module,
            tuple(members),
        )


def _states(dataset: Dataset, path: Path) -> list[State]:
    """Return what a checkpoint holds of each network."""
    saved = checkpoint.load(path)
    states: list[State] = saved.get("folds", [saved])
    if len(states) != (dataset.folds or 1) or ("folds" in saved) != (dataset.folds is not None):
        raise ValueError(
            f"{path} holds {len(states)} networks, and the data are in "
            f"{dataset.folds or 'no'} folds: load them as its config says"
        )
    return states


def _data_of_networks(config: TrialConfig, dataset: Dataset) -> list[Dataset]:
    """Return the data that each network was trained on and validated with."""
    if dataset.folds is None:
        return [dataset]
    return [dataset.fold(number, config.seed) for number in range(1, dataset.folds + 1)]
