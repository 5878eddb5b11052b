"""Adapts the space of a search to its data, to the available weights, and to its budget of time."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from search.decisions.timing import EVALUATION_SHARE, LEAVING_SHARE
from search.design.experiment import Experiment, base_of, model_option, size_problem
from search.preflight.first_step import are_photographs
from search.preflight.lessons import with_lessons
from search.process.lifetime import command_start
from search.space import SearchSpace
from search.spaces.auto import MODELS_TRIED, MOST_LABELS
from search.spaces.circumstances import MEASURED_SIDE, Circumstances, unknown_time
from search.spaces.find import adaptive
from search.values.executors import EXECUTORS
from trainables.catalog.datasets import DATASETS
from trainables.catalog.models import MODELS
from trainables.catalog.weights import cached, in_folder
from trainables.config import ModelConfig, TrialConfig
from trainables.datasets.arrays import Dataset
from trainables.errors import ConfigError
from trainables.values import Params

NETWORKS = tuple(dict.fromkeys(MODELS[name].source or name for name in MODELS_TRIED))
"""The networks of adaptive spaces, of which some have published weights."""
BATCH = 16
"""The number of images in a step that is measured."""
LEAST_SHARE = 0.4
"""At least this share of the remaining budget of time counts as time for training."""


def adapted(experiment: Experiment, dataset: Dataset) -> tuple[Experiment, list[str]]:
    """Return a search with its space adapted, if it is an adaptive space, and notes about it.

    The user's settings (`--set`) are applied to the adapted space too.

    Raises:
        ConfigError: a setting cannot be used in the adapted space.
    """
    adapt = adaptive(experiment.space_source)
    if adapt is None:
        return replace(experiment, lessons=()), []
    facts = circumstances(experiment, dataset)
    space, settings = adapt(facts), dict(experiment.settings)
    notes = list(weights_notes(facts))
    if facts.unlabelled and facts.images > MOST_LABELS and "model.name" not in settings:
        del settings["model.unlabelled"]
        notes.append(
            f"note: --unlabelled is not used: beside {facts.images:,} labelled images, others add "
            "nothing."
        )
    space = space.fixed(usable_settings(settings, space, facts))
    base = base_of(experiment.base, space)
    return replace(experiment, space=space, base=base, lessons=()), notes


def weights_notes(facts: Circumstances) -> Iterator[str]:
    """Yield a note if most images are photographs, but no pretrained weights are available."""
    if facts.are_photographs and facts.weights is not None and not facts.weights:
        yield (
            "note: no pretrained weights are available, which usually make a large difference for "
            "photographs. --download fetches them; --weights FOLDER uses files of your own."
        )


def usable_settings(settings: Params, space: SearchSpace, facts: Circumstances) -> Params:
    """Return the settings that apply to an adapted space.

    If the time is too short for all networks with pretrained weights, `model.weights` is left out.

    Raises:
        ConfigError: no model of the space has another option that the user has set.
    """
    has_no_weights = facts.weights is not None and not facts.weights
    if settings.get("model.weights") is not None and has_no_weights:
        files = [MODELS[name].weights for name in NETWORKS if MODELS[name].weights]
        raise ConfigError(
            f"'{settings['model.weights']}' has none of the files that --space auto can use "
            f"({', '.join(files)})."
        )
    names = space.domains["model.name"].values or ()
    options = {option for name in names for option in MODELS[name].options}
    unused = [path for path in settings if model_option(path) not in ("", "name", *options)]
    for path in [path for path in unused if path != "model.weights"]:
        reason = (
            "no pretrained weights are available. Use --download, or --weights FOLDER"
            if has_no_weights
            else "the time is too short for the models that have it. Use a larger --budget"
            if facts.time_s is not None
            else f"none of the models that suit these images has it ({', '.join(names)})"
        )
        option = "--unlabelled" if path == "model.unlabelled" else f"--set {path}"
        raise ConfigError(f"{option} cannot be used with --space auto here: {reason}.")
    return {path: value for path, value in settings.items() if path not in unused}


def complete(experiment: Experiment, dataset: Dataset) -> tuple[Experiment, list[str]]:
    """Return an adapted search whose models are known to work with its last points, and notes.

    Unless the user declines it (`--no-learn`), settings that did well in earlier searches are among
    the first. Other searches stay as they are.
    """
    if adaptive(experiment.space_source) is None:
        return experiment, []
    notes = [tried_text(experiment)]
    if experiment.learn:
        experiment, lesson_notes = with_lessons(experiment, dataset)
        notes += lesson_notes
    return experiment, notes


def tried_text(experiment: Experiment) -> str:
    """Name the models of a search in a line, with the sizes of their images and their epochs."""
    configs: dict[str, list[TrialConfig]] = {}
    for config in experiment.edges:
        configs.setdefault(config.model.name, []).append(config)
    models = (f"{name}{_extent_text(some)}" for name, some in configs.items())
    return f"note: {experiment.space_name} tries {', '.join(models)}."


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
    """Collect the facts on which an adaptive space depends.

    Times are measured on the CPU only, because this process does not use other devices.
    """
    on_cpu = cache(lambda name: epoch_seconds(name, experiment, dataset))
    return Circumstances(
        images=dataset.least_trained,
        side=max(dataset.image[1:]),
        are_photographs=are_photographs(dataset.train),
        can_flip=DATASETS[experiment.base.data.name].flip,
        weights=available_weights(experiment),
        unlabelled=count_unlabelled(experiment),
        fixed=experiment.settings,
        time_s=training_time(experiment),
        epoch_s=on_cpu if experiment.device == "cpu" else unknown_time,
        cpu_epoch_s=on_cpu,
    )


def available_weights(experiment: Experiment) -> Collection[str] | None:
    """Return the networks whose weights are available; None if each has to be tried.

    Each has to be tried if weights may be downloaded, or if the user names a file or a checkpoint
    instead of a folder of files.
    """
    if (place := experiment.settings.get("model.weights")) is None:
        return None if experiment.download else sorted({*cached()} & {*NETWORKS})
    folder = Path(str(place))
    if not folder.is_dir() or (folder / "manifest.json").exists():
        return None
    return [name for name in NETWORKS if MODELS[name].weights and in_folder(folder, name).exists()]


def count_unlabelled(experiment: Experiment) -> int:
    """Count the images without labels that are used; 0 if the user has named none.

    Raises:
        ConfigError: their folder cannot be read, or has no images.
    """
    if (folder := experiment.settings.get("model.unlabelled")) is None:
        return 0
    from trainables.probes.unlabelled import UnlabelledFolder

    return len(UnlabelledFolder(Path(str(folder)), experiment.base.data).paths)


def training_time(experiment: Experiment) -> float | None:
    """Estimate the seconds of training that the budget leaves; None without a budget of time.

    The executor starts before, and the end takes a multiple of that time (`Timing`).
    """
    if (limit := experiment.budget.time) is None:
        return None
    left_s = max(0.0, limit.amount - command_start().ago_s)
    around_s = (1 + EVALUATION_SHARE + LEAVING_SHARE) * EXECUTORS[experiment.executor].start_s
    return max(LEAST_SHARE * left_s, left_s - around_s)


def epoch_seconds(name: str, experiment: Experiment, dataset: Dataset) -> float:
    """Measure the seconds of an epoch of a network, or of the fit of a baseline, on the CPU.

    Its options have their defaults. The numbers have 32 bits, because the choice of a faster format
    would have to be measured too. The result is 0 if the images are too small.
    """
    side = MEASURED_SIDE if "input_size" in MODELS[name].options else None
    model = ModelConfig(name=name, input_size=side)
    config = replace(experiment.base, model=model, precision="fp32", batch_size=BATCH)
    if size_problem(config, dataset):
        return 0.0
    from trainables.evaluation.estimate import epochs_seconds  # imports torch

    threads = max(1, int(experiment.demand.cpus))
    (seconds,) = epochs_seconds([config], dataset, threads=threads)
    return seconds / experiment.demand.workers
