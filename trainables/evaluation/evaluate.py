"""Predictions with the model of a checkpoint, and their evaluation on a part of the data set."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from trainables.baselines.base import Fitted, load_baseline
from trainables.catalog.models import MODELS
from trainables.checkpoints import checkpoint
from trainables.checkpoints.remembered import OUTPUT_CACHE
from trainables.config import TrialConfig
from trainables.datasets.arrays import Dataset, Images, Part, PartSubset
from trainables.errors import counted
from trainables.tasks.base import Predict, Predictions, Task, in_batches
from trainables.tasks.pixels import Pixels
from trainables.training.loop import autocast, eval_batch, on_device, put_weights
from trainables.values import Evaluation, State

FEATURE_BATCH = 256
"""The number of images whose features are computed at once."""


@dataclass(frozen=True)
class TrainedModel:
    """The model of a checkpoint, ready for predictions.

    For a trial with folds it is the ensemble of all its networks, which together were trained on
    every image outside the test set. A config with `members` is the ensemble of these trainings.
    """

    predict: Predict
    networks: list[nn.Module]
    """All networks of the model, which take scaled images; empty for most baselines."""
    precision: str
    """The precision of the model's training and predictions: `fp32`, `bf16` or `fp16`.

    Empty without networks. Several networks predict in that of the first one.
    """
    module: nn.Module | None = None
    """Maps pixels to raw predictions (`Task.module`); None without networks."""
    members: tuple[nn.Module, ...] = ()
    """The module of each single network, in the order of `networks`."""


class _Member(NamedTuple):
    """One of the networks, or fits of a baseline, of a checkpoint."""

    config: TrialConfig
    dataset: Dataset
    """The data of its training; with folds, those of its fold."""
    state: State


class _PartPredictions(NamedTuple):
    """The predictions of a part."""

    parts: list[Part]
    """The part that each network predicts; with folds, it may be that network's fold."""
    each: list[Predictions]
    """The predictions of each network for its part."""
    whole: Predictions
    """The predictions for the whole part."""
    fitted: Sequence[Fitted] = ()
    """The fits of a baseline; empty for networks."""


def check(path: Path) -> None:
    """Check that the checkpoint at `path` is complete and undamaged.

    Raises:
        CheckpointError: the checkpoint is incomplete or damaged.
    """
    checkpoint.verify(path)


def evaluate(
    config: TrialConfig, dataset: Dataset, part: Part, path: Path, *, device: str = "cpu"
) -> Evaluation:
    """Load the checkpoint at `path`, and measure its predictions for `part`.

    Returns:
        The task's evaluation (`Task.evaluate`). That of several networks also has `members`. These
        are the primary metric of each network on the part that it predicts (a list, under the
        metric's name), and the `mean` and sample standard deviation (`std`) of these values. That
        of a single baseline on the validation set has its `Baseline.further_evaluation`, too.

    Raises:
        CheckpointError: the checkpoint is damaged.
    """
    task: Task = config.load_task()
    predicted = _predict(config, task, dataset, part, path, device)
    evaluation = task.evaluate(predicted.whole, part, dataset, config.ranked_by)
    if dataset.folds is None and not config.members:
        if config.model.is_baseline and part is dataset.val:
            (fitted,) = predicted.fitted
            evaluation |= load_baseline(config).further_evaluation(fitted, dataset)
        return evaluation
    member_values = [
        task.value(answers, own)
        for own, answers in zip(predicted.parts, predicted.each, strict=True)
    ]
    members = {
        task.entry.primary.name: member_values,
        "mean": fmean(member_values),
        "std": stdev(member_values),
    }
    return {**evaluation, "members": members}


def brief(config: TrialConfig, evaluation: Evaluation) -> Evaluation:
    """Shorten an evaluation on the validation set for the journal (`Task.brief`)."""
    task: Task = config.load_task()
    return task.brief(evaluation)


def plain(config: TrialConfig, evaluation: Evaluation) -> Evaluation:
    """Remove pictures and other bulky values from an evaluation (`Task.plain`)."""
    task: Task = config.load_task()
    return task.plain(evaluation)


def predictions(
    config: TrialConfig, dataset: Dataset, part: Part, path: Path, *, device: str = "cpu"
) -> Predictions:
    """Predict a part of the data set with the model saved at `path`.

    The predictions are computed in the precision of the training. `dataset` determines the scaling
    of pixels. Several networks predict images as their ensemble; with folds, an image of the folds
    is predicted only by the network that was not trained on it.
    """
    task: Task = config.load_task()
    return _predict(config, task, dataset, part, path, device).whole


def _parts_of_networks(config: TrialConfig, dataset: Dataset, part: Part) -> list[Part]:
    """Return the part that each network predicts.

    With folds, this is each fold's validation set if `part` is divided among the folds, and
    otherwise the whole part.
    """
    if dataset.folds is None:
        return [part] * (len(config.members) or 1)
    if part is dataset.train or (
        len(part) == len(dataset.train) and part.fingerprint == dataset.train.fingerprint
    ):
        return [fold.val for fold in _data_of_networks(config, dataset)]
    return [part] * dataset.folds


def _predict(
    config: TrialConfig, task: Task, dataset: Dataset, part: Part, path: Path, device: str
) -> _PartPredictions:
    """Predict a part with each network of a checkpoint, and with their ensemble."""
    parts = _parts_of_networks(config, dataset, part)
    if config.model.is_baseline and not config.members:
        # `predict_part` may use cached features; `load_model` would compute them again.
        baseline = load_baseline(config)
        fitted = [
            baseline.restore(member.state, dataset) for member in _load(config, dataset, path)
        ]
        each = [
            baseline.predict_part(classifier, own, dataset)
            for own, classifier in zip(parts, fitted, strict=True)
        ]
        whole = _combine(task, parts, each)
        if whole is None:
            whole = baseline.predict(fitted, task.given(part), dataset)
        return _PartPredictions(parts, each, whole, fitted)
    if (
        torch.device(device).type == "cpu"
        and (outputs := OUTPUT_CACHE.outputs(path, config, parts[0])) is not None
    ):
        whole = task.from_outputs(outputs)
        return _PartPredictions(parts, [whole], whole)
    with load_model(config, dataset, path, device=device) as saved:
        size = eval_batch(config, dataset, torch.device(device))
        each = [
            task.predict(member, task.given(own), size, device, dataset)
            for own, member in zip(parts, saved.members, strict=True)
        ]
        whole = _combine(task, parts, each)
        if whole is None:
            whole = in_batches(saved.predict, task.given(part), size)
        return _PartPredictions(parts, each, whole)


def _combine(task: Task, parts: list[Part], each: list[Predictions]) -> Predictions | None:
    """Combine the predictions of several networks for a whole part.

    If all networks predict the same part, the task combines the predictions, or the result is None
    (`Task.combine`). If each predicts one fold of the part, the predictions are joined in the order
    of the part's rows.
    """
    if len(each) == 1:
        return each[0]
    if all(part is parts[0] for part in parts):
        return task.combine(each)
    rows = np.concatenate([part.rows for part in parts if isinstance(part, PartSubset)])
    places = np.argsort(rows, kind="stable")
    if all(isinstance(some, np.ndarray) for some in each):
        return np.concatenate(each)[places]
    whole = [prediction for some in each for prediction in some]
    return [whole[place] for place in places]


@contextmanager
def load_model(
    config: TrialConfig, dataset: Dataset, path: Path, *, device: str = "cpu"
) -> Iterator[TrainedModel]:
    """Load the model saved at `path`, for use inside the `with` block.

    Inside the block, gradients are disabled, and autocast caches the weights in the network's
    precision, so that they are converted only once.

    Raises:
        CheckpointError: the checkpoint is damaged.
    """
    members = _load(config, dataset, path)
    task: Task = config.load_task()
    place = torch.device(device)
    if members[0].config.model.is_baseline and not config.members:
        baseline = load_baseline(config)
        fitted = [baseline.restore(member.state, dataset) for member in members]
        networks = baseline.networks(fitted)
        if not networks:
            yield TrainedModel(lambda images: baseline.predict(fitted, images, dataset), [], "")
            return
    else:
        networks = [_network(member) for member in members]
    networks = [on_device(network, place) for network in networks]
    modules = [
        task.module(network, Pixels(own.val, own, of_member, place)).eval()
        for network, (of_member, own, _) in zip(networks, members, strict=True)
    ]
    is_single = dataset.folds is None and not config.members
    module = modules[0] if is_single else task.ensemble(modules).eval()
    precision = members[0].state.get("precision", "fp32")
    with torch.no_grad(), autocast(precision, place):
        yield TrainedModel(
            lambda images: task.predict(module, images, max(1, len(images)), device, dataset),
            networks,
            precision,
            module,
            tuple(modules),
        )


def _network(member: _Member) -> nn.Module:
    """Build the network of a member, which may be that of a baseline, with its weights."""
    config, dataset, state = member
    if config.model.is_baseline:
        baseline = load_baseline(config)
        (network,) = baseline.networks([baseline.restore(state, dataset)])
        return network
    task: Task = config.load_task()
    network = task.network(config.model, dataset)
    put_weights(network, config, state)
    return network


def _load(config: TrialConfig, dataset: Dataset, path: Path) -> list[_Member]:
    """Load the networks or classifiers of a checkpoint: one, or those of all folds or members.

    Raises:
        ValueError: the checkpoint has another number of them than the config or the data.
    """
    saved = checkpoint.load(path)
    states: list[State] = saved.get("folds", [saved])
    if config.members:
        configs = config.members
        return [
            _Member(of_member, dataset, state)
            for of_member, state in zip(configs, states, strict=True)
        ]
    if len(states) != (dataset.folds or 1) or ("folds" in saved) != (dataset.folds is not None):
        folds = f"divided into {dataset.folds} folds" if dataset.folds else "not divided into folds"
        raise ValueError(
            f"{path} contains {counted(len(states), 'network')}, but the data are {folds}. "
            f"Load the data with the checkpoint's config."
        )
    data = _data_of_networks(config, dataset)
    return [_Member(config, own, state) for own, state in zip(data, states, strict=True)]


def _data_of_networks(config: TrialConfig, dataset: Dataset) -> list[Dataset]:
    if dataset.folds is None:
        return [dataset]
    return [dataset.fold(number, config.seed) for number in range(1, dataset.folds + 1)]


def features_of(
    config: TrialConfig, dataset: Dataset, path: Path, images: Images
) -> NDArray[np.float64]:
    """Compute the inputs of the last dense layer of the model saved at `path`, (images, features).

    With folds, they are those of the first network. For a network without dense layers, the result
    has its log-probabilities instead; for a baseline without a network, its hand-made features.

    Args:
        config: the config of the model's trial.
        dataset: the data set of the training, which determines the scaling of pixels.
        path: the checkpoint.
        images: uint8 (images, height, width, channels), in the size of the data set's images.

    Raises:
        CheckpointError: the checkpoint is damaged.
    """
    if not MODELS[config.model.name].has_network:
        from trainables.baselines.features import compute_features, kinds_of

        kinds = kinds_of(config.model.options["features"])
        return np.hstack([compute_features(images, kind) for kind in kinds]).astype(np.float64)
    last_inputs: list[torch.Tensor] = []
    answers = []
    with load_model(config, dataset, path) as saved:
        dense = [part for part in saved.networks[0].modules() if isinstance(part, nn.Linear)]
        for last in dense[-1:]:
            last.register_forward_pre_hook(
                lambda _, inputs: last_inputs.append(inputs[0].flatten(1).cpu())
            )
        for first in range(0, len(images), FEATURE_BATCH):
            answers.append(saved.predict(images[first : first + FEATURE_BATCH]))
    if last_inputs:
        features: NDArray[np.float64] = torch.cat(last_inputs).double().numpy()
    else:  # no dense layer: use the log-probabilities
        features = np.log(np.maximum(np.concatenate(answers), 1e-6))
    return features
