"""Adapts the space of a search to its data, to the available weights, and to its budget of time."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from search.design.experiment import Experiment, base_of, size_problem
from search.preflight.first_step import are_photographs
from search.process.lifetime import command_start
from search.spaces.circumstances import MEASURED_SIDE, Circumstances
from search.spaces.find import adaptive
from search.values.executors import EXECUTORS
from trainables.catalog.datasets import DATASETS
from trainables.catalog.models import MODELS
from trainables.catalog.weights import cached, in_folder
from trainables.config import TrialConfig
from trainables.datasets.arrays import Dataset

ENDS = 2.9
"""The time from now to the first training, and from the last one to the end, as a multiple of the
time that the executor takes to start (`search.decisions.timing`).
"""
LEAST_SHARE = 0.4
"""At least this share of the remaining budget of time counts as time for training."""


def adapted(experiment: Experiment, dataset: Dataset) -> tuple[Experiment, list[str]]:
    """Return a search with its space adapted, if it is an adaptive space, and notes about it.

    The user's settings (`--set`) are applied to the adapted space too.
    """
    adapt = adaptive(experiment.space_source)
    if adapt is None:
        return experiment, []
    facts = circumstances(experiment, dataset)
    space = adapt(facts).fixed(experiment.settings)
    fitted = replace(experiment, space=space, base=base_of(experiment.base, space))
    if "model.name" not in space.domains:
        return fitted, []
    notes = [tried_text(fitted)]
    if facts.are_photographs and facts.weights is not None and not facts.weights:
        notes.append(
            "note: no pretrained weights are available, which usually make a large difference for "
            "photographs. --download fetches them; --weights FOLDER uses files of your own."
        )
    return fitted, notes


def tried_text(experiment: Experiment) -> str:
    """Name the models of a search in a line, with the sizes of their images and their epochs."""
    configs: dict[str, list[TrialConfig]] = {}
    for config in experiment.edges:
        configs.setdefault(config.model.name, []).append(config)
    models = (f"{name}{_extent_text(some)}" for name, some in configs.items())
    return f"note: the space {experiment.space_name} tries here: {', '.join(models)}."


def _extent_text(configs: Sequence[TrialConfig]) -> str:
    """Format the sizes of images and the numbers of epochs of a model, in brackets."""
    sides = [config.model.input_size for config in configs if config.model.input_size]
    epochs = [config.epochs for config in configs if not config.model.is_baseline]
    parts = [
        f"{_range_text(values)} {unit}"
        for values, unit in ((sides, "pixels"), (epochs, "epochs"))
        if values
    ]
    return f" ({', '.join(parts)})" if parts else ""


def _range_text(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return str(low) if low == high else f"{low} to {high}"


def circumstances(experiment: Experiment, dataset: Dataset) -> Circumstances:
    """Collect the facts on which an adaptive space depends."""
    return Circumstances(
        side=max(dataset.image[1:]),
        are_photographs=are_photographs(dataset.train),
        can_flip=DATASETS[experiment.base.data.name].flip,
        weights=available_weights(experiment),
        has_unlabelled="model.unlabelled" in experiment.settings,
        time_s=training_time(experiment),
        epoch_s=cache(lambda name: epoch_seconds(name, experiment, dataset)),
    )


def available_weights(experiment: Experiment) -> Collection[str] | None:
    """Return the networks whose weights are available; None if each has to be tried.

    Each has to be tried if weights may be downloaded, or if the user names a file instead of a
    folder.
    """
    if (place := experiment.settings.get("model.weights")) is None:
        return None if experiment.download else cached()
    folder = Path(str(place))
    if not folder.is_dir():
        return None
    return [
        name for name, entry in MODELS.items() if entry.weights and in_folder(folder, name).exists()
    ]


def training_time(experiment: Experiment) -> float | None:
    """Estimate the seconds of training that the budget leaves; None without a budget of time."""
    if (limit := experiment.budget.time) is None:
        return None
    left_s = max(0.0, limit.amount - command_start().ago_s)
    return max(LEAST_SHARE * left_s, left_s - ENDS * EXECUTORS[experiment.executor].start_s)


def epoch_seconds(name: str, experiment: Experiment, dataset: Dataset) -> float:
    """Measure the seconds of an epoch of a network with the default settings of the search.

    The result is 0 on a GPU, which this process does not use, and if the images are too small.
    """
    if experiment.device != "cpu":
        return 0.0
    resizing = {"model.input_size": MEASURED_SIDE} if "input_size" in MODELS[name].options else {}
    config = experiment.base.override({"model.name": name, **resizing})
    if size_problem(config, dataset):
        return 0.0
    from trainables.evaluation.estimate import epochs_seconds  # imports torch

    threads = max(1, int(experiment.demand.cpus))
    (seconds,) = epochs_seconds([config], dataset, threads=threads)
    return seconds / experiment.demand.workers
