"""A new search: from the request to its experiment, its estimate and its result."""

import math
import time
from dataclasses import replace
from pathlib import Path

from cluster.runtime.resources import Demand, local_gpus
from cluster.runtime.session import LOCAL
from search.design.budget import Budget
from search.design.experiment import AUTO_DEVICE, SURE, Experiment, base_of
from search.fetching.images import fetch, is_bucket
from search.journal.store import own_path
from search.operations.run_request import Reading, RunRequest, named_data_sets
from search.operations.time_left import choose_in_time_left
from search.schedulers.rungs import REDUCTION, rungs_for
from search.sessions.estimate import Estimate, estimate_search
from search.sessions.new_search import run_search
from search.space import SearchSpace
from search.spaces.find import default, file_of, find, names
from search.tracking.uri import default_uri
from search.values.evaluations import parse_evaluations
from search.values.objectives import parse_objectives
from search.views.base import Finished
from trainables.catalog.datasets import DATASETS
from trainables.catalog.models import MODELS
from trainables.config import ModelConfig, TrialConfig, parse_setting
from trainables.datasets.load import with_root
from trainables.errors import ConfigError, counted, unknown
from trainables.values import Params


def run(request: RunRequest, *, as_json: bool = False) -> Finished:
    """Run a new search until it ends, and print its result; with `as_json`, print JSON as well.

    If the search leaves time of its budget, a choice among its best trials follows
    (`choose_in_time_left`), except with `as_json`, since that prints one result.

    Raises:
        ConfigError: as in `experiment_of`, or a search with this name exists.
        NotReady, Unavailable: Ray, MLflow or a download is not available.
        LeaseHeld: another process starts a search with this name at the same time.
    """
    finished = run_search(experiment_of(request), as_json=as_json)
    return finished if as_json else choose_in_time_left(finished)


def estimate(request: RunRequest) -> tuple[Experiment, Estimate]:
    """Check a request as `run` does, and estimate the time of its search; start nothing.

    Returns:
        The experiment that the request describes, and its estimate.
    """
    experiment = experiment_of(request)
    return experiment, estimate_search(experiment)


def experiment_of(request: RunRequest) -> Experiment:
    """Build the experiment that a request describes, and check it.

    Raises:
        ConfigError: the request is invalid.
    """
    source, settings = data_source(request.data), settings_of(request)
    chosen = None if request.space is None else space_of(request.space)
    data = data_config(request.data, request.reading, request.seed)
    space, space_name, space_source = chosen or space_of(default(data.data.task, source))
    settings = with_weights(request.weights, space, settings)
    settings = with_groups(request.groups, with_unlabelled(request.unlabelled, space, settings))
    space = space.fixed(settings)
    if "model.name" not in settings:
        check_space(request, space, data)
    base = base_of(data, space)
    device, gpus = device_and_gpus(request)
    experiment = Experiment(
        name=default_name(space_name, source) if request.name is None else request.name,
        space_name=space_name,
        space=space,
        base=base,
        demand=Demand(cpus=request.cpus_per_trial, gpus=gpus, workers=request.workers),
        device=device,
        space_source=space_source,
        settings=settings,
        download=request.reading.download,
        cache=not request.no_cache,
        learn=not request.no_learn,
        concurrency=request.concurrency if isinstance(request.concurrency, int) else None,
        objectives=parse_objectives(request.objective, base.metric) if request.objective else (),
        evaluate=parse_evaluations(request.evaluate) if request.evaluate is not None else (),
        budget=Budget(request.limits.budget, request.limits.price),
        tracking=request.tracking or default_uri(),
        **{
            name: getattr(request, name)
            for name in (
                "algorithm",
                "scheduler",
                "trials",
                "max_epochs",
                "grace",
                "sure",
                "seed",
                "storage",
                "address",
                "executor",
                "keep",
                "min_gain",
                "stop_at_chance",
                "hang_timeout",
                "fuse",
                "sealed",
            )
        },
    )
    refuse_idle(experiment)
    return experiment


def default_name(space_name: str, source: str) -> str:
    """Return the name of a search without --name, from its space, its data and the time."""
    return f"{space_name}-{source}-{time.strftime('%Y%m%d-%H%M%S')}"


def refuse_idle(experiment: Experiment) -> None:
    """Check that --grace and --sure have an effect in a new search, if they are given.

    Raises:
        ConfigError: one of them has no effect, because of another option or the number of epochs.
    """
    sure = f"--sure {experiment.sure:g}" if experiment.sure != SURE else ""
    grace = f"--grace {experiment.grace}" if experiment.grace is not None else ""
    is_idle = grace if experiment.scheduler == "fifo" else ""
    if experiment.scheduler != "asha" and (option := is_idle or sure):
        raise ConfigError(
            f"{option} has no effect with --scheduler {experiment.scheduler}. "
            "Leave one of them out."
        )
    if sure and len(experiment.objectives) > 1:
        raise ConfigError(
            f"{sure} cannot be combined with --objective {','.join(experiment.objectives)}, "
            f"because --sure applies only to {experiment.base.ranked_by.title}. Leave one of them "
            "out."
        )
    longest = experiment.horizon
    if experiment.grace is not None and not rungs_for(longest, experiment.grace):
        most = int(longest / math.sqrt(REDUCTION))  # `rungs_for` drops rungs after it
        remedy = f"Use --grace {most} or less, or no --grace." if most else "Leave --grace out."
        raise ConfigError(
            f"{grace} leaves no rung before the end of the longest trial "
            f"({counted(longest, 'epoch')}), so no trial would be stopped. {remedy}"
        )


def space_of(space: str | SearchSpace) -> tuple[SearchSpace, str, str]:
    """Load a space, and return (space, name, source).

    The source is the value of --space, with an absolute path. It is empty for a `SearchSpace` that
    was created in Python; a resume reads such a space from the journal.
    """
    if isinstance(space, SearchSpace):
        return space, "own", ""
    return find(space), Path(space.partition(":")[0]).stem, absolute_source(space)


def data_source(data: str) -> str:
    """Return the source that --data names: a data set's name, or "folder", also for a bucket.

    Raises:
        ConfigError: there is no such data set, or the folder's path is missing.
    """
    if is_bucket(data):
        return "folder"
    source, _, path = data.partition(":")
    if data and source not in DATASETS and Path(data).is_dir():
        raise ConfigError(f"'{data}' is a folder. Use --data folder:{data}.")
    if data and source not in DATASETS and Path(data).is_file():
        raise ConfigError(
            f"'{data}' is a file. Use --data folder:PATH with the path of a folder of images."
        )
    if source == "folder" and not path:
        raise ConfigError(
            f"--data '{data}' does not contain the path of a folder. Use --data folder:PATH."
        )
    if source != "folder" and data not in named_data_sets():
        raise ConfigError(
            unknown("data set", data, named_data_sets() | {"folder:PATH", "s3://BUCKET/PREFIX"})
        )
    return source


def settings_of(request: RunRequest) -> Params:
    """Collect the settings from --set, --precision, --folds and --metric, by dotted path.

    Raises:
        ConfigError: an option and --set contradict each other.
    """
    settings = dict(parse_setting(text) for text in request.settings)
    for option, path, value in (
        ("--precision", "precision", request.precision),
        ("--folds", "data.folds", request.folds),
        ("--metric", "metric", request.metric),
    ):
        if value is not None and settings.setdefault(path, value) != value:
            raise ConfigError(
                f"{option} {value} and --set {path}={settings[path]} contradict each other. Leave "
                "one of them out."
            )
    return settings


def data_config(data: str, reading: Reading, seed: int) -> TrialConfig:
    """Build the default config for training on a data set; images in a bucket are fetched.

    Args:
        data: the value of --data.
        reading: the root folder, the task, and whether unreadable images are skipped.
        seed: the seed, which also decides the split.
    """
    base = TrialConfig().override(
        {"seed": seed, "data.split_seed": seed, "data.skip_bad": reading.skip_bad}
    )
    root = str(reading.data_root) if DATASETS[data_source(data)].has_files else ""
    source = f"folder:{fetch(data)}" if is_bucket(data) else data
    config = with_root(base.data, source, root, task=reading.task)
    return base.on(replace(config, bucket=data if is_bucket(data) else ""))


def with_weights(weights: Path | None, space: SearchSpace, settings: Params) -> Params:
    """Add the settings for --weights to the settings.

    The added settings are `model.weights`, an absolute path, and `model.pretrained`, unless the
    space searches the latter.

    Args:
        weights: the value of --weights; `model.weights` in `settings` takes precedence. If both
            are missing, the settings are returned unchanged.
        space: the search space.
        settings: the settings by dotted path.

    Raises:
        ConfigError: the file does not exist, no network of the space can start from weights, or
            `model.pretrained` is false.
    """
    try:
        path = own_path(settings["model.weights"]) if settings.get("model.weights") else weights
    except ConfigError as error:
        raise ConfigError(f"--set model.weights: {error}.") from error
    if path is None:
        return settings
    if not path.exists():
        raise ConfigError(
            f"--weights '{path}' does not exist. Pass a file of weights, a checkpoint, or a "
            "folder with files of weights that are named as in torchvision."
        )
    names = model_names(space, settings)
    if not any("pretrained" in MODELS[name].options for name in names):
        raise ConfigError(
            "--weights cannot be used, because no model of this space can start from trained "
            f"weights ({', '.join(names)}). Use --space auto, transfer or zoo, or one of the "
            "task with pretrained networks."
        )
    begins = {} if "model.pretrained" in space.domains else {"model.pretrained": True}
    if settings.get("model.pretrained", True) is not True:
        raise ConfigError(
            "initial weights (--weights) and model.pretrained=false contradict each other. Leave "
            "one of them out."
        )
    return {**begins, **settings, "model.weights": str(path.absolute())}


def with_unlabelled(unlabelled: Path | None, space: SearchSpace, settings: Params) -> Params:
    """Add the setting for --unlabelled, `model.unlabelled`, as an absolute path.

    Args:
        unlabelled: the value of --unlabelled; `model.unlabelled` in `settings` takes precedence. If
            both are missing, the settings are returned unchanged.
        space: the search space.
        settings: the settings by dotted path.

    Raises:
        ConfigError: it is not a folder, or no model of the space uses images without labels.
    """
    try:
        setting = settings.get("model.unlabelled")
        path = own_path(setting) if setting else unlabelled
    except ConfigError as error:
        raise ConfigError(f"--set model.unlabelled: {error}.") from error
    if path is None:
        return settings
    if not path.is_dir():
        raise ConfigError(f"--unlabelled '{path}' is not a folder. Use a folder of images.")
    if not any("unlabelled" in MODELS[name].options for name in model_names(space, settings)):
        raise ConfigError(
            "--unlabelled cannot be used, because no model of this space learns from images "
            "without labels. To classify images, use --space auto, or --set "
            "model.name=spread_mobilenet_v2."
        )
    return {**settings, "model.unlabelled": str(path.absolute())}


def with_groups(groups: Path | None, settings: Params) -> Params:
    """Add the setting for --groups, `data.groups`, as an absolute path.

    Args:
        groups: the value of --groups; `data.groups` in `settings` takes precedence. If both are
            missing, the settings are returned unchanged.
        settings: the settings by dotted path.

    Raises:
        ConfigError: it is not a file.
    """
    try:
        path = own_path(settings["data.groups"]) if settings.get("data.groups") else groups
    except ConfigError as error:
        raise ConfigError(f"--set data.groups: {error}.") from error
    if path is None:
        return settings
    if not path.is_file():
        raise ConfigError(
            f"--groups '{path}' is not a file. Pass a CSV file with the columns image and one for "
            "each attribute."
        )
    return {**settings, "data.groups": str(path.absolute())}


def model_names(space: SearchSpace, settings: Params) -> list[str]:
    """Return the names of the models that a search may train; unknown ones are left out."""
    searched = space.domains.get("model.name")
    default_name = space.base.get("model.name", ModelConfig().name)
    names = [default_name] if searched is None else list(searched.values or ())
    if (fixed := settings.get("model.name")) in MODELS:
        return [fixed]
    return [name for name in names if name in MODELS]


def check_space(request: RunRequest, space: SearchSpace, config: TrialConfig) -> None:
    """Check that a space is for the task of the data.

    A space that names a task decides which one is learned, if the data has targets for it.

    Args:
        request: the request, whose settings are those of the space too.
        space: the space.
        config: the default config for the data.

    Raises:
        ConfigError: the space is for another task, or none of its models is for this one.
    """
    requested, possible = request.reading.task, DATASETS[config.data.name].tasks
    task = space.base.get("data.task", config.data.task)
    if task in ([requested] if requested else possible) and _has_model_for(task, space):
        return
    source = f"--space {request.space}" if isinstance(request.space, str) else "the space"
    suited = ", ".join(names(config.data.task))
    fitting = [
        "folder:PATH" if entry.from_folder else name
        for name, entry in DATASETS.items()
        if task in entry.tasks and not entry.is_own
    ]
    remedies = [
        *([f"--data {' or '.join(fitting)}"] if fitting and task not in possible else []),
        f"one of these spaces: {suited}" if suited else "a space of your own",
        *(["another --task"] if len(possible) > 1 else []),
    ]
    raise ConfigError(
        f"{source} cannot be used for {config.task.title}, the task of the data set "
        f"'{request.data}'. Use {', or '.join(remedies)}."
    )


def _has_model_for(task: str, space: SearchSpace) -> bool:
    """True if a space has a model for a task, or leaves the choice of the model to the task.

    Unknown models count too: they are refused by a message of their own.
    """
    searched = space.domains.get("model.name")
    models = searched.values if searched else [space.base.get("model.name")]
    return any(name not in MODELS or task in MODELS[name].tasks for name in models or [None])


def absolute_source(space: str) -> str:
    """Make the path in a space's source absolute, so that a resume in any folder finds the file."""
    file = file_of(space)
    return f"{file[0].absolute()}:{file[1]}" if file is not None else space


def device_and_gpus(request: RunRequest) -> tuple[str, float]:
    """Choose the device of all trials, and the number of GPUs for each worker of a trial.

    Returns:
        "cpu" or "cuda", and the number of GPUs; `AUTO_DEVICE` and 0 if they depend on a cluster,
        since the cluster is not connected yet.

    Raises:
        ConfigError: --device and --gpus-per-trial contradict each other.
    """
    if request.device == "cpu" and request.gpus_per_trial:
        raise ConfigError(
            f"--gpus-per-trial {request.gpus_per_trial:g} contradicts --device cpu. Use --device "
            "cuda, or leave --gpus-per-trial out."
        )
    device = request.device
    if device == "auto":
        if request.gpus_per_trial is None and request.address != LOCAL:
            return AUTO_DEVICE, 0.0
        device = (
            "cuda"
            if request.gpus_per_trial or (request.gpus_per_trial is None and local_gpus())
            else "cpu"
        )
    if device == "cuda" and request.gpus_per_trial == 0:
        raise ConfigError(
            "--gpus-per-trial 0 contradicts --device cuda. Use a number above 0, such as 0.25 to "
            "let four trials share a GPU, or use --device cpu."
        )
    return device, (request.gpus_per_trial or 1.0) if device == "cuda" else 0.0
