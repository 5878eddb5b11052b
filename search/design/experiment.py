"""The description of a whole search as one frozen value, checked before any machine starts."""

import math
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Self

from cluster.cli import LONGEST_S, is_whole
from cluster.runtime.resources import Demand
from cluster.secrets import redact
from search.algorithms.registry import ALGORITHMS
from search.design.budget import Budget
from search.design.lesson import Lesson, lessons_in
from search.journal.keeping import KEEP, NEEDED
from search.journal.store import TRIALS, Home, Storage, home
from search.schedulers.registry import SCHEDULERS
from search.space import Choice, SearchSpace
from search.values.evaluations import check_evaluations
from search.values.executors import DEFAULT_EXECUTOR, EXECUTORS
from search.values.objectives import OBJECTIVES, value_of
from search.values.objectives import check as check_objectives
from trainables.catalog.models import MODELS
from trainables.config import DataConfig, TrialConfig
from trainables.datasets.arrays import Dataset
from trainables.errors import ConfigError, counted, shortened, unknown
from trainables.robustness.stress_tests import ATTACKED, CORRUPTED
from trainables.values import Json, Params

DEFAULT_TRIALS = 30
MAX_GRID, MAX_SHUFFLED = 10_000, 200_000
"""Maximum sizes of a grid, in points.

`MAX_GRID` applies to a search without `--trials`, which tries all points. `MAX_SHUFFLED` applies to
a search with `--trials`: it tries only some points, but shuffles all of them.
"""
SURE = 0.88
"""Default of `--sure`."""
DECIDING = ("algorithm", "scheduler", "max_epochs", "grace", "sure", "objectives", "seed", "device")
PLACE = (
    "min_gain",
    "stop_at_chance",
    "address",
    "concurrency",
    "hang_timeout",
    "fuse",
    "cache",
    "executor",
    "keep",
)
"""The fields in `DECIDING` influence the decisions of a search; those in `PLACE` do not.

The fields in `PLACE` determine where, how and for how long the search runs, and which files stay.
"""
AUTO_DEVICE = "auto"
"""The device of a search whose cluster is not known yet; `Experiment.on_device` replaces it.

It becomes one GPU per process if the cluster has GPUs, otherwise the CPU.
"""
FUSE_NAMES, MAX_FUSED = ("auto", "off", "measure"), 64
MAX_COUNT = 10**9
"""The maximum of every count on the command line, far above the counts of any real search."""
UMLAUTS = {"ß": "ss", "ä": "ae", "ö": "oe", "ü": "ue", "Ä": "Ae", "Ö": "Oe", "Ü": "Ue"}
"""Letters that are usually written as two."""
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")


def check_search_name(name: str) -> None:
    """Check that a name is valid for a search.

    Raises:
        ConfigError: the name is not valid.
    """
    if not NAME.fullmatch(name):
        raise ConfigError(
            "--name must have 1 to 64 of the characters A-Z a-z 0-9 . _ - and must not start with "
            f". or - (got '{name[:80]}'{_similar_name(name)})."
        )


def _similar_name(name: str) -> str:
    """Suggest a valid name, with other characters replaced; empty if nothing is left of it."""
    for letter, letters in UMLAUTS.items():
        name = name.replace(letter, letters)
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    similar = re.sub(r"[^A-Za-z0-9_]+", "-", plain).strip("-")[:64]
    return f"; for example '{similar}'" if NAME.fullmatch(similar) else ""


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A complete description of a search, with the user's settings applied to `space` and `base`.

    Raises:
        ConfigError: at construction, if a value is not valid. Checks that need the data are in
            `problems`.
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
    """The first rung, in epochs; None for the scheduler's default."""
    sure: float = SURE
    """The required probability that no stopped trial would have become the best one."""
    objectives: tuple[str, ...] = ()
    """The metric, then names of `OBJECTIVES`; by default only the metric."""
    evaluate: tuple[str, ...] = ()
    """The further evaluations of the search's answer, keys of `STRESS_TESTS`."""
    seed: int = 0
    storage: Storage
    tracking: str = "sqlite:///mlflow.db"
    address: str = "local"
    concurrency: int | None = None
    demand: Demand = field(default_factory=Demand)
    device: str = "cpu"
    fuse: str = "auto"
    """How many trials with networks of the same shape a worker trains as one fused network.

    A number, `off`, `measure` (to measure which number is the fastest), or `auto` (to measure only
    on GPUs).
    """
    executor: str = DEFAULT_EXECUTOR
    """The name of the executor, which runs trainings and evaluations (`EXECUTORS`)."""
    download: bool = False
    """True to download a missing data set and missing pretrained weights.

    It applies to the driver's machine and to the machines that train.
    """
    cache: bool = True
    """True if trials may continue trainings of earlier searches in the same storage."""
    learn: bool = True
    """True if an adaptive space tries settings early that did well in earlier searches."""
    lessons: tuple[Lesson, ...] = ()
    """The settings that are tried early for this reason."""
    keep: str = NEEDED
    """The checkpoints that stay when the search ends, one of `KEEP`."""
    sealed: bool = False
    """True if the search does not use the test set, so that only a selection uses it."""
    budget: Budget = field(default_factory=Budget)
    min_gain: float = 0.0
    """The minimum gain, in points (hundredths) of the metric, that is worth further trials.

    No further trial is started once the expected gain of the remaining trials is below this value.
    """
    stop_at_chance: int = 0
    """The number of trials after which no further one is started if the best one only guesses.

    0 to start all of them.
    """
    hang_timeout: float = 600
    space_source: str = ""
    """The value of `--space`."""
    outside: int = 0
    """The number of earlier trials outside this space, which do not use up its points."""
    settings: Params = field(default_factory=dict)
    """The values of `--set`, by dotted path."""

    def __post_init__(self) -> None:
        check_search_name(self.name)
        if self.algorithm not in ALGORITHMS:
            raise ConfigError(unknown("algorithm", self.algorithm, ALGORITHMS))
        if self.scheduler not in SCHEDULERS:
            raise ConfigError(unknown("scheduler", self.scheduler, SCHEDULERS))
        if self.keep not in KEEP:
            raise ConfigError(unknown("value of --keep", self.keep, KEEP))
        self._check_counts()
        self._check_executor()
        self._check_fuse()
        self._check_folds()
        self._check_task()
        self.budget.check(
            replace(self.demand, gpus=1) if self.device == AUTO_DEVICE else self.demand
        )
        self._check_amounts()
        self._check_gpus()
        if self.algorithm == "grid":
            self._check_grid()
        self._check_model_options()
        self._check_objectives()

    def _check_counts(self) -> None:
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
                raise ConfigError(
                    f"{option} must be at most {MAX_COUNT:,} (got {shortened(value)})."
                )

    def _check_executor(self) -> None:
        if self.executor not in EXECUTORS:
            raise ConfigError(unknown("executor", self.executor, EXECUTORS))
        if not EXECUTORS[self.executor].is_sequential:
            return
        for option, value, is_set, instead in (
            ("--address", self.address, self.address != "local", "local"),
            ("--workers", self.demand.workers, self.demand.workers > 1, "1"),
            ("--fuse", self.fuse, self.fuse not in ("auto", "off"), "off"),
            ("--concurrency", self.concurrency, (self.concurrency or 1) > 1, "auto"),
        ):
            if is_set:
                raise ConfigError(
                    f"--executor {self.executor} cannot be combined with {option} {value}, because "
                    "this executor trains one trial after another in this process. Use "
                    f"{option} {instead}, or --executor {DEFAULT_EXECUTOR}."
                )

    @property
    def most_at_once(self) -> int | None:
        """The number of trials that may run at once; None if only the machines limit it."""
        return 1 if EXECUTORS[self.executor].is_sequential else self.concurrency

    def _check_task(self) -> None:
        task = self.base.task
        if self.demand.workers > 1:
            task.require("workers", f"--workers {self.demand.workers}")
        if is_whole(self.fuse):
            task.require("fuse", f"--fuse {self.fuse}")
        if self.evaluate:
            check_evaluations(self.evaluate)
            task.require("robustness", f"--evaluate {','.join(self.evaluate)}")

    def _check_fuse(self) -> None:
        if self.fuse not in FUSE_NAMES and not (
            is_whole(self.fuse) and 2 <= int(self.fuse) <= MAX_FUSED
        ):
            raise ConfigError(
                f"--fuse must be {', '.join(FUSE_NAMES)} or a whole number from 2 to "
                f"{MAX_FUSED} (got '{self.fuse[:80]}')."
            )
        if self.fuse not in ("auto", "off") and self.demand.workers > 1:
            raise ConfigError(
                f"--fuse {self.fuse} cannot be combined with --workers {self.demand.workers}, "
                "because fused trials train in one process. Remove one of the two options."
            )

    def _check_amounts(self) -> None:
        if not 0 <= self.sure < 1:
            raise ConfigError(
                f"--sure must be a probability of at least 0 and below 1 (got {self.sure:g})."
            )
        if not 0 <= self.min_gain < 100:
            raise ConfigError(
                f"--min-gain must be at least 0 and below 100 points (got {self.min_gain:g})."
            )
        if self.stop_at_chance < 0:
            raise ConfigError(
                f"--stop-at-chance must be at least 0 trials (got {self.stop_at_chance})."
            )
        if not 0 < self.hang_timeout <= LONGEST_S:
            raise ConfigError(
                f"--hang-timeout must be > 0 seconds and at most {LONGEST_S:,} "
                f"(got {self.hang_timeout:g})."
            )
        if not 0 < self.demand.cpus < math.inf or not 0 <= self.demand.gpus < math.inf:
            raise ConfigError(
                "--cpus-per-trial must be > 0, --gpus-per-trial must be >= 0, and both must be "
                f"finite (got {self.demand.cpus:g} and {self.demand.gpus:g})."
            )

    def _check_model_options(self) -> None:
        if (choice := self.space.domains.get("model.name")) is None:
            return
        options = {
            name
            for model in choice.values or ()
            if model in MODELS
            for name in MODELS[model].options
        }
        for path in self.space.base:
            if model_option(path) not in ("", "name", *options):
                raise ConfigError(
                    f"no model of this search has the option '{model_option(path)}'. Known "
                    f"options: {', '.join(sorted(options))}."
                )

    def _check_gpus(self) -> None:
        gpus, workers = self.demand.gpus, self.demand.workers
        if gpus > 1:
            remedy = (
                "To train each trial on several GPUs, use "
                f"--workers {max(2, math.ceil(gpus) * workers)} --gpus-per-trial 1."
            )
            raise ConfigError(
                f"--gpus-per-trial must be at most 1 (got {gpus:g}), because a process trains on "
                f"one GPU or a part of it. {remedy}"
            )
        if workers > 1 and 0 < gpus < 1:
            remedy = "Use --gpus-per-trial 1, or --workers 1."
            raise ConfigError(
                f"--gpus-per-trial {gpus:g} cannot be combined with --workers {workers}, because "
                f"the workers of one trial cannot share a GPU. {remedy}"
            )

    def _check_folds(self) -> None:
        if (folds := self.base.data.folds) is None:
            return
        if self.evaluate:
            raise ConfigError(
                f"--evaluate {','.join(self.evaluate)} cannot be combined with --folds {folds}, "
                "because there are no validation images that no network was trained on. Remove one "
                "of the two options."
            )
        for option, value, is_set in (
            ("--fuse", self.fuse, self.fuse not in ("auto", "off")),
            ("--workers", self.demand.workers, self.demand.workers > 1),
        ):
            if is_set:
                raise ConfigError(
                    f"--folds {folds} cannot be combined with {option} {value}, because one "
                    "process trains the folds of a trial in turn. Remove one of the two options."
                )

    def _check_objectives(self) -> None:
        """Set the default objective, and check the objectives.

        This also validates the configs at the space's edges, since it builds them (`edges`).
        """
        if not self.objectives:
            object.__setattr__(self, "objectives", (value_of(self.base.metric),))
        check_objectives(self.objectives, self.base.metric)
        self._check_capabilities()
        if len(self.objectives) > 1 and self.min_gain:
            raise ConfigError(
                f"--min-gain {self.min_gain:g} cannot be combined with --objective "
                f"{','.join(self.objectives)}, because a minimum gain is possible only if "
                f"{self.base.ranked_by.title} is the only objective. Remove one of the two options."
            )
        baseline = next(
            (
                config.model.name
                for config in self.edges
                if not MODELS[config.model.name].has_network
            ),
            "",
        )
        if "parameters" in self.objectives and baseline:
            raise ConfigError(
                f"--objective parameters cannot be used with {baseline}, which has no parameters "
                "to count. Use the objective latency, or search only networks."
            )
        if ATTACKED in self.evaluate and not any(
            MODELS[config.model.name].has_network for config in self.edges
        ):
            raise ConfigError(
                f"--evaluate {ATTACKED} cannot be used with {baseline}, which has no network, and "
                f"thus no gradients. Use --evaluate {CORRUPTED}, or also search networks."
            )

    def _check_capabilities(self) -> None:
        """Check that the task and the folds allow the objectives besides the metric."""
        for name in self.objectives[1:]:
            if capability := OBJECTIVES[name].capability:
                self.base.task.require(capability, f"--objective {name}")
            if OBJECTIVES[name].is_measured and self.base.data.folds is not None:
                raise ConfigError(
                    f"--objective {name} cannot be combined with --folds {self.base.data.folds}, "
                    "because there are no validation images that no network was trained on. Remove "
                    "one of the two options."
                )

    def _check_grid(self) -> None:
        size = self.space.size
        if size is None:
            next(self.space.points())
        elif size > MAX_GRID and self.trials is None:
            raise ConfigError(
                f"the space '{self.space_name}' has {size:,} grid points (limit {MAX_GRID:,}). "
                "Use --trials N or --algorithm random."
            )
        elif size > MAX_SHUFFLED:
            raise ConfigError(
                f"the space '{self.space_name}' has {size:,} grid points, which are too many to "
                f"shuffle (limit {MAX_SHUFFLED:,}). Use --algorithm random."
            )

    @cached_property
    def has_networks(self) -> bool:
        """True if any trial may be a network, which can use a GPU; baselines use only the CPU."""
        return any(not config.model.is_baseline for config in self.edges)

    @property
    def demand_with_gpu(self) -> Demand:
        """The demand of a trial if each of its processes has its own GPU."""
        return replace(self.demand, gpus=1.0)

    def on_device(self, *, gpus: bool) -> Self:
        """Return this search with `AUTO_DEVICE` replaced by a device.

        It is the GPU if the cluster has `gpus` and any trial may be a network, otherwise the CPU.
        """
        if self.device != AUTO_DEVICE:
            return self
        if gpus and self.has_networks:
            return replace(self, device="cuda", demand=self.demand_with_gpu)
        return replace(self, device="cpu")

    @cached_property
    def home(self) -> Home:
        """Access to the files of this search in its storage."""
        return home(self.storage, self.name)

    @property
    def folder(self) -> Path:
        """The local folder of this search on the driver's machine."""
        return self.home.folder

    def trial_folder(self, trial: str) -> Path:
        """Return the absolute path of a trial's folder in the driver's folder."""
        return (self.folder / TRIALS / trial).absolute()

    def config(self, params: Params) -> TrialConfig:
        """Build the config of the trial with these params, with at most `max_epochs` epochs.

        Raises:
            ConfigError: the params do not make a valid config.
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
        """The configs at the space's edges, for checks before the search starts.

        They are cached, because there may be thousands of them.
        """
        return [self.config(params) for params in self.space.edges()]

    @cached_property
    def planned_trials(self) -> int:
        """The number of trials that the search has unless it ends early."""
        most = self.most_trials
        if self.algorithm == "grid" and most is not None:
            return min(self.trials or most, most)
        count = self.trials or self.space.trials or DEFAULT_TRIALS
        return count if most is None else min(count, most)

    @cached_property
    def most_trials(self) -> int | None:
        """The maximum number of trials, since no point is tried twice; None without a limit."""
        if not any(self.space.edges()):
            return 1 + self.outside  # Nothing is searched: all trials would be the same.
        size = self.space.size
        return None if size is None else size + self.outside

    @property
    def capped(self) -> str:
        """The reason why fewer trials are planned than `--trials` requests; empty if none."""
        if self.trials is None or self.planned_trials >= self.trials:
            return ""
        points = self.planned_trials - self.outside
        text = (
            f"--trials {self.trials} is too many: the space has {counted(points, 'point')}, and "
            "each is tried once. The search has "
            f"{counted(self.planned_trials, 'trial')} in total"
        )
        if not self.outside:
            return text
        return f"{text}, including {counted(self.outside, 'trial')} of other spaces"

    @cached_property
    def horizon(self) -> int:
        """The maximum number of epochs of any trial."""
        return max(config.epochs for config in self.edges)

    def fitting(self, dataset: Dataset) -> tuple[Self, list[str]]:
        """Return this search without values that cannot work with the data, and notes about them.

        Such values are batch sizes above the size of the training set, and models that fail with
        every combination of the other values: the images are too small for them, or several workers
        cannot train them together. If no value of a parameter works, all stay, and `problems`
        reports them.
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
            if isinstance(size, int) and size > least_samples(self.base, dataset)
        ]
        if not unfit or len(unfit) == len(choice.options):
            return self, []
        note = (
            f"note: batch_size {', '.join(map(str, unfit))} was left out, because there are only "
            f"{_trained(dataset)}"
        )
        return replace(self, space=self.space.without("batch_size", unfit)), [note]

    def _with_models(self, dataset: Dataset) -> tuple[Self, list[str]]:
        choice = self.space.domains.get("model.name")
        if not isinstance(choice, Choice):
            return self, []
        problems: dict[str, list[str]] = {name: [] for name in choice.options}
        for params, config in zip(self.space.edges(), self.edges, strict=True):
            if (name := params.get("model.name")) is not None:
                problems[name].append(
                    size_problem(config, dataset) or workers_problem(config, self.demand.workers)
                )
        unfit = {name: texts[0] for name, texts in problems.items() if texts and all(texts)}
        if not unfit or len(unfit) == len(problems):
            return self, []
        return self.without_models(unfit), [
            f"note: a model was left out: {problem}" for problem in unfit.values()
        ]

    def reading(self, data: DataConfig) -> Self:
        """Return this search with another place of the same images."""
        return replace(self, base=replace(self.base, data=data))

    def without_models(self, names: Collection[str]) -> Self:
        """Return this search without some of its models."""
        return replace(self, space=self.space.without("model.name", names))

    def problems(self, dataset: Dataset) -> Iterator[str]:
        """Yield the reasons why trials cannot work with this data, without duplicates.

        All batch sizes that are too large are combined into one reason.
        """
        sizes = dict.fromkeys(
            config.batch_size
            for config in self.edges
            if not config.model.is_baseline and config.batch_size > least_samples(config, dataset)
        )
        together = {
            _too_large_text([size], dataset): _too_large_text(sizes, dataset) for size in sizes
        }
        yielded = set()
        for config in self.edges:
            for text in fit_problems(config, dataset, self.demand.workers):
                problem = together.get(text, text)
                if problem not in yielded:
                    yielded.add(problem)
                    yield problem

    def describe(self) -> Json:
        """Describe the experiment as JSON values, for the journal."""
        plain = {
            name: getattr(self, name)
            for name in (*DECIDING, *PLACE, "sealed", "space_source", "settings")
        }
        if self.executor == DEFAULT_EXECUTOR:
            del plain["executor"]
        if self.keep == NEEDED:
            del plain["keep"]
        if len(plain.pop("objectives")) > 1:
            plain["objectives"] = list(self.objectives)
        if self.evaluate:
            plain["evaluate"] = list(self.evaluate)
        if self.download:
            plain["download"] = True
        if not self.learn:
            plain["learn"] = False
        if self.lessons:
            plain["lessons"] = [lesson.to_json() for lesson in self.lessons]
        if self.outside:
            plain["outside"] = self.outside
        space = {"name": self.space_name, **self.space.describe()}
        demand = {
            "cpus_per_trial": self.demand.cpus,
            "gpus_per_trial": self.demand.gpus,
            "workers": self.demand.workers,
        }
        plain["tracking"] = (
            "" if redact(self.tracking) != self.tracking else absolute(self.tracking)
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
        """The base with an absolute data root, valid from any folder."""
        return (
            self.base.override({"data.root": str(Path(self.base.data.root).absolute())})
            if self.base.data.root
            else self.base
        )

    @classmethod
    def from_description(cls, name: str, description: Json, storage: Storage) -> Self:
        """Create an experiment from a description by `describe`; `tracking` has its default.

        Raises:
            ConfigError: the description is not valid in this version.
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
                "learn",
                "outside",
            )
            if key in description
        }
        if "sure" not in plain:  # In earlier versions, the first rung was the first epoch.
            plain |= {"sure": 0.0, "grace": plain.get("grace") or 1}
        plain["objectives"] = tuple(plain.get("objectives", ()))
        plain["evaluate"] = tuple(description.get("evaluate", ()))
        return cls(
            name=name,
            space_name=description["space"]["name"],
            space=SearchSpace.from_description(description["space"]),
            base=TrialConfig.from_dict(description["base"]),
            storage=storage,
            budget=Budget.of(description),
            lessons=tuple(lessons_in(description)),
            # Earlier versions accepted several GPUs per process, and used only one of them.
            demand=Demand(
                cpus=description["cpus_per_trial"],
                gpus=min(1, description["gpus_per_trial"]),
                workers=description["workers"],
            ),
            **plain,
        )


def base_of(defaults: TrialConfig, space: SearchSpace) -> TrialConfig:
    """Return the defaults, overridden by the settings that a space has for all trials.

    A task that the space names replaces that of the defaults, with a model for it. If the space
    searches the model, settings of model options are left out, because they depend on the model of
    each trial; `Experiment.config` adds them.
    """
    searched = "model.name" in space.domains
    if (task := space.base.get("data.task", defaults.data.task)) != defaults.data.task:
        defaults = defaults.on(replace(defaults.data, task=task))
    return defaults.override(
        {path: value for path, value in space.base.items() if not (searched and model_option(path))}
    )


def model_option(path: str) -> str:
    """Return the model option that a dotted path names; empty if it names something else."""
    return path.removeprefix("model.") if path.startswith("model.") else ""


def absolute(tracking: str) -> str:
    """Make the path in a tracking URI absolute.

    Only a relative SQLite path changes. `%` and `?` in the path of the working directory, which are
    special in a URI, become `%25` and `%3F`.
    """
    path = tracking.removeprefix("sqlite:///")
    if path == tracking or path.startswith("/"):
        return tracking
    here = str(Path.cwd()).replace("%", "%25").replace("?", "%3F")
    return f"sqlite:///{here}/{path}"


def fit_problems(config: TrialConfig, dataset: Dataset, workers: int) -> Iterator[str]:
    """Yield the reasons why this config cannot train on this data.

    `workers` is the number of processes that share a trial.
    """
    yield from (
        _baseline_problems(config, dataset, workers)
        if config.model.is_baseline
        else _batch_problems(config, dataset, workers)
    )
    if problem := size_problem(config, dataset):
        yield problem
    if config.model.options.get("unlabelled", "") is None:
        yield (
            f"{config.model.name} learns from images without labels, too. Name their folder with "
            "--unlabelled FOLDER, or use another model."
        )


def size_problem(config: TrialConfig, dataset: Dataset) -> str:
    """Return an error message if the images are too small for the model; empty if they are not."""
    model = MODELS[config.model.name]
    image = config.task.load_targets().image(dataset)
    height, width = model.effective_size(image, config.model.options)
    if min(height, width) >= model.min_side:
        return ""
    path = "model.input_size" if "input_size" in model.options else "data.image_size"
    remedy = f"Use --set {path}={model.min_side} or another model."
    return (
        f"{config.model.name} needs images of at least {model.min_side} x {model.min_side} pixels "
        f"(got {width} x {height}). {remedy}"
    )


def workers_problem(config: TrialConfig, workers: int) -> str:
    """Return an error message if several workers cannot train this config; empty if they can."""
    if workers == 1:
        return ""
    if MODELS[config.model.name].extended_by:
        return (
            f"{config.model.name} learns from images without labels, whose classes one process "
            f"determines (got --workers {workers}). Remove --workers, or use another model."
        )
    if not config.model.is_baseline:
        return ""
    return (
        f"{config.model.name} is a baseline, and a baseline is fitted by one process "
        f"(got --workers {workers}). Remove --workers, or use a network."
    )


def _batch_problems(config: TrialConfig, dataset: Dataset, workers: int) -> Iterator[str]:
    if problem := workers_problem(config, workers):
        yield problem
    if config.batch_size < 2 * workers:
        remedy = "Use a larger batch_size or fewer --workers."
        yield (
            f"batch_size {config.batch_size} must be at least {2 * workers}, because each of "
            f"{workers} workers needs 2 images of a batch. {remedy}"
        )
    if config.batch_size > least_samples(config, dataset):
        yield _too_large_text([config.batch_size], dataset)


def least_samples(config: TrialConfig, dataset: Dataset) -> int:
    """Return the smallest number of samples that a network of this config sees in an epoch."""
    per_image: int = config.task.load_targets().samples_per_image(dataset)
    return dataset.least_trained * per_image


def _too_large_text(sizes: Iterable[int], dataset: Dataset) -> str:
    """Compose the error message that these batch sizes are too large for the data."""
    return (
        f"batch_size {', '.join(map(str, sizes))} exceeds the {_trained(dataset)}. "
        "Use a smaller one with --set batch_size=N, or add images."
    )


def _baseline_problems(config: TrialConfig, dataset: Dataset, workers: int) -> Iterator[str]:
    if problem := workers_problem(config, workers):
        yield problem
    most = MODELS[config.model.name].max_classes
    if most is not None and len(dataset.classes) > most:
        yield (
            f"{config.model.name} predicts at most {most} classes, and {dataset.name} has "
            f"{len(dataset.classes)}. Use another model with --set model.name=NAME."
        )
    options = config.model.options
    neighbours = options.get("neighbours", 1)
    if "unlabelled" not in options and neighbours > dataset.least_trained:
        yield (
            f"model.neighbours {neighbours} exceeds the {_trained(dataset)}. "
            "Use a smaller value, or add images."
        )


def _trained(dataset: Dataset) -> str:
    """Format the number of images on which a network is trained."""
    return f"{dataset.least_trained} training images" + (
        f" ({dataset.folds} folds)" if dataset.folds else ""
    )
