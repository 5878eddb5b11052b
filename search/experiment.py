"""A whole search as one frozen value, checked before any machine starts."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from cluster.cli import LONGEST_S, is_whole
from cluster.runtime.resources import Demand
from cluster.secrets import masked
from search.algorithms.registry import ALGORITHMS
from search.budget import Budget
from search.journal.store import TRIALS, Home, Storage, home
from search.objectives import ACCURACY
from search.objectives import check as check_objectives
from search.schedulers.registry import SCHEDULERS
from search.space import Choice, Params, SearchSpace
from trainables.catalog.models import MODELS
from trainables.config import TrialConfig
from trainables.datasets.arrays import Dataset
from trainables.errors import ConfigError, unknown

DEFAULT_TRIALS = 30
MAX_GRID, MAX_SHUFFLED = 10_000, 200_000
"""The points of a grid that a search takes without being told how many trials to start; and those
that it puts in order to take some of them.
"""
SURE = 0.8
"""How sure a search is, unless it is told otherwise."""
DECIDING = ("algorithm", "scheduler", "max_epochs", "grace", "sure", "objectives", "seed", "device")
PLACE = ("min_gain", "address", "concurrency", "hang_timeout", "fuse", "cache")
"""What decides a search's course, and what only says where and, beside its budget, how long it
runs.
"""
AUTO_DEVICE = "auto"
"""The device of a search that will ask its cluster: a GPU a process where there are any, else the
CPU.
"""
FUSE_NAMES, MAX_FUSED = ("auto", "off", "measure"), 64
MAX_COUNT = 10**9
"""More of anything than a search can have."""
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """Everything that decides what a search does. `space` and `base` already hold the user's
    settings.

    Raises:
        ConfigError: at birth, for what can be known without the data.
    """

    name: str
    space_name: str
    space: SearchSpace
    base: TrialConfig
    algorithm: str = "bayes"
    scheduler: str = "asha"
    trials: int | None = None
    max_epochs: int | None = None
    grace: int | None = None
    """The first rung at which trials wait for each other; None: the scheduler's own."""
    sure: float = SURE
    """How sure to be that the best is not among the trials that are stopped."""
    objectives: tuple[str, ...] = (ACCURACY,)
    """What is looked for: accuracy, and what is to be low beside it."""
    seed: int = 0
    storage: Storage = Path("searches")
    tracking: str = "sqlite:///mlflow.db"
    address: str = "local"
    concurrency: int | None = None
    demand: Demand = field(default_factory=Demand)
    device: str = "cpu"
    fuse: str = "auto"
    """How many trials of one shape a worker trains as one network: a number, `off`, `measure`, or
    `auto`, which measures on GPUs alone.
    """
    download: bool = False
    """Whether the data set, and weights to begin with, are fetched where they are missing, here and
    on the machines that train.
    """
    cache: bool = True
    """Whether trials begin with what earlier searches in the same storage have trained."""
    sealed: bool = False
    """Leave the test part closed at the search's end: a selection opens it."""
    budget: Budget = field(default_factory=Budget)
    min_gain: float = 0.0
    """No further trial is started once the rest is expected to gain fewer points of validation
    accuracy.
    """
    hang_timeout: float = 600
    space_source: str = ""
    """How the space was named on the command line, and, in `settings`, what was set beside."""
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise ConfigError(
                f"a name may use A-Z a-z 0-9 . _ - (1 to 64, not first . or -); got '{self.name[:80]}' (--name)."
            )
        if self.algorithm not in ALGORITHMS:
            raise ConfigError(unknown("algorithm", self.algorithm, ALGORITHMS))
        if self.scheduler not in SCHEDULERS:
            raise ConfigError(unknown("scheduler", self.scheduler, SCHEDULERS))
        for option, value in (
            ("--trials", self.trials),
            ("--max-epochs", self.max_epochs),
            ("--grace", self.grace),
            ("--concurrency", self.concurrency),
            ("--workers", self.demand.workers),
        ):
            if value is not None and value < 1:
                raise ConfigError(f"{option} must be >= 1 (got {value}).")
            if value is not None and value > MAX_COUNT:
                raise ConfigError(f"{option} must be at most {MAX_COUNT:,} (got {value:.3g}).")
        if self.fuse not in FUSE_NAMES and not (
            is_whole(self.fuse) and 2 <= int(self.fuse) <= MAX_FUSED
        ):
            raise ConfigError(
                f"--fuse must be {', '.join(FUSE_NAMES)} or a number from 2 to {MAX_FUSED} (got '{self.fuse[:80]}')."
            )
        if self.fuse not in ("auto", "off") and self.demand.workers > 1:
            raise ConfigError(
                f"--fuse {self.fuse} with --workers {self.demand.workers}: a fused trial trains in one process. Leave one of them out."
            )
        self._check_folds()
        self.budget.check(
            replace(self.demand, gpus=1) if self.device == AUTO_DEVICE else self.demand
        )
        if not 0 <= self.sure < 1:
            raise ConfigError(
                f"--sure must be from 0, as cheap as can be, to below 1 (got {self.sure:g})."
            )
        if not 0 <= self.min_gain < 100:
            raise ConfigError(
                f"--min-gain must be from 0 to below 100 points (got {self.min_gain:g})."
            )
        if not 0 < self.hang_timeout <= LONGEST_S:
            raise ConfigError(
                f"--hang-timeout must be > 0 seconds and at most {LONGEST_S:,} (got {self.hang_timeout:g})."
            )
        if not 0 < self.demand.cpus < math.inf or not 0 <= self.demand.gpus < math.inf:
            raise ConfigError(
                f"--cpus-per-trial must be > 0 and --gpus-per-trial >= 0 (got {self.demand.cpus:g} and {self.demand.gpus:g})."
            )
        self._check_gpus()
        if self.algorithm == "grid":
            self._check_grid()
        if (choice := self.space.domains.get("model.name")) is not None:
            known = {
                name
                for model in choice.values or ()
                if model in MODELS
                for name in MODELS[model].options
            }
            for path in self.space.base:
                if model_option(path) not in ("", "name", *known):
                    raise ConfigError(
                        f"no model of this search has an option '{model_option(path)}'. Known: {', '.join(sorted(known))}."
                    )
        self._check_objectives()

    def _check_gpus(self) -> None:
        gpus, workers = self.demand.gpus, self.demand.workers
        if gpus > 1:
            remedy = f"For trials on several, use --workers {max(2, math.ceil(gpus) * workers)} --gpus-per-trial 1."
            raise ConfigError(
                f"--gpus-per-trial {gpus:g}: a process trains on one GPU, or a part of it. {remedy}"
            )
        if workers > 1 and 0 < gpus < 1:
            remedy = "Use --gpus-per-trial 1, or one worker."
            raise ConfigError(
                f"--gpus-per-trial {gpus:g} with --workers {workers}: workers of one trial cannot share a GPU. {remedy}"
            )

    def _check_folds(self) -> None:
        if (folds := self.base.data.folds) is None:
            return
        for option, value, given in (
            ("--fuse", self.fuse, self.fuse not in ("auto", "off")),
            ("--workers", self.demand.workers, self.demand.workers > 1),
        ):
            if given:
                raise ConfigError(
                    f"--folds {folds} with {option} {value}: the folds of a trial are trained in turn, by one process. Leave one of them out."
                )

    def _check_objectives(self) -> None:
        """Beside the objectives themselves: every trial's config."""
        check_objectives(self.objectives)
        if len(self.objectives) > 1 and self.min_gain:
            raise ConfigError(
                f"--min-gain {self.min_gain:g} with --objective {','.join(self.objectives)}: it is of accuracy alone. Leave one of them out."
            )
        baseline = next(
            (config.model.name for config in self.edges if config.model.is_baseline), ""
        )
        if "parameters" in self.objectives and baseline:
            raise ConfigError(
                f"--objective parameters: {baseline} has none. Use latency, or search networks alone."
            )

    def _check_grid(self) -> None:
        size = self.space.size
        if size is None:
            next(self.space.points())
        elif size > MAX_GRID and self.trials is None:
            raise ConfigError(
                f"{self.space_name} has {size:,} grid points (limit {MAX_GRID:,}). Use --trials N or --algorithm random."
            )
        elif size > MAX_SHUFFLED:
            raise ConfigError(
                f"{self.space_name} has {size:,} grid points, too many to be put in order (limit {MAX_SHUFFLED:,}). Use --algorithm random."
            )

    @cached_property
    def has_networks(self) -> bool:
        """Whether any trial may be a network: baselines are fitted on the CPU."""
        return any(not config.model.is_baseline for config in self.edges)

    @property
    def demand_with_gpu(self) -> Demand:
        """What a trial asks for if each of its processes has a GPU to itself."""
        return replace(self.demand, gpus=1.0)

    def on_device(self, *, gpus: bool) -> Self:
        """This search with its device chosen, if that was left open: the GPU where its networks
        find one, else the CPU.
        """
        if self.device != AUTO_DEVICE:
            return self
        if gpus and self.has_networks:
            return replace(self, device="cuda", demand=self.demand_with_gpu)
        return replace(self, device="cpu")

    @cached_property
    def home(self) -> Home:
        """Where everything of this search is kept."""
        return home(self.storage, self.name)

    @property
    def folder(self) -> Path:
        """The driver's folder of it."""
        return self.home.folder

    def trial_folder(self, trial: str) -> Path:
        """A trial's folder in that."""
        return (self.folder / TRIALS / trial).absolute()

    def config(self, params: Params) -> TrialConfig:
        """The trial that these params describe, its epochs capped.

        Raises:
            ConfigError: they describe nonsense.
        """
        name = params.get("model.name")
        options = MODELS[name].options if name in MODELS else ()
        of_model = {
            path: value for path, value in self.space.base.items() if model_option(path) in options
        }
        config = self.base.override({**of_model, **params})
        return (
            config.override({"epochs": min(config.epochs, self.max_epochs)})
            if self.max_epochs
            else config
        )

    @cached_property
    def edges(self) -> list[TrialConfig]:
        """The trials at the space's edges, for checks before the start: made once, for there may be
        thousands.
        """
        return [self.config(params) for params in self.space.edges()]

    @cached_property
    def planned_trials(self) -> int:
        """How many trials will be started, if nothing ends the search before."""
        size = self.space.size
        if self.algorithm == "grid" and size is not None:
            return min(self.trials or size, size)
        if not any(self.space.edges()):
            return 1  # nothing is searched: each trial would be the same
        wanted = self.trials or self.space.trials or DEFAULT_TRIALS
        return wanted if size is None else min(wanted, size)

    @cached_property
    def horizon(self) -> int:
        """The most epochs that any trial may have."""
        return max(config.epochs for config in self.edges)

    def fitting(self, dataset: Dataset) -> tuple[Self, list[str]]:
        """This search without the batch sizes that are larger than the training part, and without
        the models that cannot take these images, or so many workers, whatever else is searched; and
        a line for each.
        """
        fitting, left_out = self._with_batches(dataset)
        fitting, models_left_out = fitting._with_models(dataset)
        return fitting, left_out + models_left_out

    def _with_batches(self, dataset: Dataset) -> tuple[Self, list[str]]:
        choice = self.space.domains.get("batch_size")
        if not isinstance(choice, Choice):
            return self, []
        unfit = [
            size
            for size in choice.options
            if isinstance(size, int) and size > dataset.least_trained
        ]
        if not unfit or len(unfit) == len(choice.options):
            return self, []
        note = f"note: left out: batch_size {', '.join(map(str, unfit))}, for which there are too few images ({_trained(dataset)})"
        return replace(self, space=self.space.without("batch_size", unfit)), [note]

    def _with_models(self, dataset: Dataset) -> tuple[Self, list[str]]:
        choice = self.space.domains.get("model.name")
        if not isinstance(choice, Choice):
            return self, []
        problems: dict[str, list[str]] = {name: [] for name in choice.options}
        for params, config in zip(self.space.edges(), self.edges, strict=True):
            if (name := params.get("model.name")) is not None:
                problems[name].append(
                    size_problem(config, dataset) or alone_problem(config, self.demand.workers)
                )
        unfit = {name: found[0] for name, found in problems.items() if found and all(found)}
        if not unfit or len(unfit) == len(problems):
            return self, []
        return replace(self, space=self.space.without("model.name", unfit)), [
            f"note: left out: {problem}" for problem in unfit.values()
        ]

    def problems(self, dataset: Dataset) -> Iterator[str]:
        """What cannot work with this data, each problem once."""
        seen = set()
        for config in self.edges:
            for problem in fit_problems(config, dataset, self.demand.workers):
                if problem not in seen:
                    seen.add(problem)
                    yield problem

    def describe(self) -> dict[str, Any]:
        """Plain values, for the journal."""
        plain = {
            name: getattr(self, name)
            for name in (*DECIDING, *PLACE, "sealed", "space_source", "settings")
        }
        if plain.pop("objectives") != (ACCURACY,):
            plain["objectives"] = list(self.objectives)
        if self.download:
            plain["download"] = True
        space = {"name": self.space_name, **self.space.describe()}
        demand = {
            "cpus_per_trial": self.demand.cpus,
            "gpus_per_trial": self.demand.gpus,
            "workers": self.demand.workers,
        }
        plain["tracking"] = (
            "" if masked(self.tracking) != self.tracking else absolute(self.tracking)
        )
        return {
            **plain,
            **self.budget.describe(),
            **demand,
            "trials": self.planned_trials,
            "horizon": self.horizon,
            "space": space,
            "base": self._base_from_anywhere.to_dict(),
        }

    @property
    def _base_from_anywhere(self) -> TrialConfig:
        """The base, its data found from any folder."""
        return (
            self.base.override({"data.root": str(Path(self.base.data.root).absolute())})
            if self.base.data.root
            else self.base
        )

    @classmethod
    def from_description(cls, name: str, description: dict[str, Any], storage: Storage) -> Self:
        """The experiment that `describe` described, but for `tracking`.

        Raises:
            ConfigError: this version of the code takes it for nonsense.
        """
        plain = {
            key: description[key]
            for key in (
                *DECIDING,
                *PLACE,
                "sealed",
                "space_source",
                "settings",
                "trials",
                "download",
            )
            if key in description
        }
        if "sure" not in plain:  # of an earlier version, whose first rung was the first epoch
            plain |= {"sure": 0.0, "grace": plain.get("grace") or 1}
        plain["objectives"] = tuple(plain.get("objectives", (ACCURACY,)))
        return cls(
            name=name,
            space_name=description["space"]["name"],
            space=SearchSpace.from_description(description["space"]),
            base=TrialConfig.from_dict(description["base"]),
            storage=storage,
            budget=Budget.of(description),
            # More than one GPU a process was taken once; all but one of them lay idle.
            demand=Demand(
                cpus=description["cpus_per_trial"],
                gpus=min(1, description["gpus_per_trial"]),
                workers=description["workers"],
            ),
            **plain,
        )


def base_of(defaults: TrialConfig, space: SearchSpace) -> TrialConfig:
    """The defaults, with what a space sets for all trials. What it sets of a model that is searched
    comes with the model (`Experiment.config`).
    """
    searched = "model.name" in space.domains
    return defaults.override(
        {path: value for path, value in space.base.items() if not (searched and model_option(path))}
    )


def model_option(path: str) -> str:
    """The model's option that a path names; empty if it names something else."""
    return path.removeprefix("model.") if path.startswith("model.") else ""


def absolute(tracking: str) -> str:
    """A tracking URI that means the same from any folder; what has a meaning of its own in a URI is
    written as `%25` and `%3F`.
    """
    path = tracking.removeprefix("sqlite:///")
    if path == tracking or path.startswith("/"):
        return tracking
    here = str(Path.cwd()).replace("%", "%25").replace("?", "%3F")
    return f"sqlite:///{here}/{path}"


def fit_problems(config: TrialConfig, dataset: Dataset, workers: int) -> Iterator[str]:
    """Why this config cannot train on this data, shared among so many workers."""
    yield from (
        _baseline_problems(config, dataset, workers)
        if config.model.is_baseline
        else _batch_problems(config, dataset, workers)
    )
    if problem := size_problem(config, dataset):
        yield problem


def size_problem(config: TrialConfig, dataset: Dataset) -> str:
    """Why the images are too small for this config's model; empty if they are not."""
    model = MODELS[config.model.name]
    height, width = model.seen(dataset.image, config.model.options)
    if min(height, width) >= model.min_side:
        return ""
    remedy = f"Use --set {'model.input_size' if 'input_size' in model.options else 'data.image_size'}={model.min_side} or another model."
    return f"{config.model.name} needs images of at least {model.min_side} x {model.min_side} pixels (got {width} x {height}). {remedy}"


def alone_problem(config: TrialConfig, workers: int) -> str:
    """Why so many workers cannot train this config together; empty if they can."""
    if workers == 1 or not config.model.is_baseline:
        return ""
    return f"{config.model.name} is a baseline, which is fitted by one process (got --workers {workers}). Leave --workers out, or take a network."


def _batch_problems(config: TrialConfig, dataset: Dataset, workers: int) -> Iterator[str]:
    if config.batch_size < 2 * workers:
        remedy = "Use a larger batch_size or fewer --workers."
        yield f"batch_size {config.batch_size} < {2 * workers}: each of {workers} workers needs 2 images of a batch. {remedy}"
    if config.batch_size > dataset.least_trained:
        yield f"batch_size {config.batch_size} > {_trained(dataset)}. Fix a smaller one with --set batch_size=N, or add images."


def _baseline_problems(config: TrialConfig, dataset: Dataset, workers: int) -> Iterator[str]:
    if problem := alone_problem(config, workers):
        yield problem
    neighbours = config.model.options.get("neighbours", 1)
    if neighbours > dataset.least_trained:
        yield f"model.neighbours {neighbours} > {_trained(dataset)}. Use a smaller one, or add images."


def _trained(dataset: Dataset) -> str:
    """On how many images a network is trained, in words."""
    return f"{dataset.least_trained} training images" + (
        f" ({dataset.folds} folds)" if dataset.folds else ""
    )
