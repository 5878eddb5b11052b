"""Adapts the space of a search to its data, to the available weights, and to its budget of time."""

from collections.abc import Collection
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
    notes = []
    if facts.are_photographs and not facts.weights and "model.name" in space.domains:
        notes.append(
            "note: no pretrained weights are available, which usually make a large difference for "
            "photographs. --download fetches them; --weights FOLDER uses files of your own."
        )
    return replace(experiment, space=space, base=base_of(experiment.base, space)), notes


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
