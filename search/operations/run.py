"""python -m search.run --space table3: search for the best network and its training.

It runs on this machine or a cluster.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cluster.cli import Parser
from cluster.runtime.resources import Demand, local_gpus
from cluster.runtime.session import LOCAL
from search.algorithms.registry import ALGORITHMS
from search.cli import config_file
from search.cli.options import count_or_auto, json_option, seed
from search.cli.parser import HelpFormatter
from search.design.budget import Budget, budget_options
from search.design.experiment import AUTO_DEVICE, SURE, Experiment, base_of
from search.journal.keeping import KEEP_HELP, NEEDED
from search.journal.store import own_path, storage
from search.process.guard import guarded
from search.schedulers.asha import REDUCTION, rungs_for
from search.schedulers.registry import SCHEDULERS
from search.sessions.estimate import estimate_search
from search.sessions.new_search import run_search
from search.space import SearchSpace
from search.spaces.find import file_of, find, names
from search.tracking.uri import DEFAULT_TRACKING, default_uri
from search.values import secrets
from search.values.executors import AUTO_COUNT, DEFAULT_EXECUTOR, EXECUTOR_HELP
from search.values.objectives import COSTS, parse_objectives, value_of
from search.values.wording import DEFAULT_STORAGE
from search.views.terminal import Terminal, say
from trainables.catalog.datasets import DATASETS
from trainables.catalog.models import MODELS
from trainables.catalog.tasks import TASKS
from trainables.config import PRECISION_NAMES, ModelConfig, TrialConfig, parse_setting
from trainables.datasets.load import with_root
from trainables.errors import ConfigError, counted, is_text, unknown
from trainables.values import Params

MAX_NAME, MAX_TEXT = 255, 4000
"""Limits of file systems for texts that become names: bytes of a name, characters of a path."""


def parser() -> Parser:
    """Define the arguments of `python -m search.run`."""
    parser = Parser(prog="python -m search.run", description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument(
        "--config",
        type=own_path,
        metavar="FILE",
        help="a YAML file of these options, and of settings under 'set:'; "
        "what is said here wins over it",
    )
    what_options(parser)
    how_options(parser)
    where_options(parser)
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="print the plan and an estimate of the time; start nothing",
    )
    json_option(parser)
    return parser


def what_options(parser: Parser) -> None:
    """Add the options for the space, the data set, and the settings of all trials."""
    what = parser.add_argument_group("what is searched")
    what.add_argument(
        "--space",
        metavar="NAME",
        help=f"{', '.join(names())}, or your own: file.py:NAME, "
        "a SearchSpace or a function that returns one",
    )
    what.add_argument(
        "--data",
        default="digits",
        metavar="DATA",
        help=f"{', '.join(sorted(named_data_sets()))}, or folder:PATH (a sub-folder per class)",
    )
    data_options(what)
    what.add_argument(
        "--weights",
        type=own_path,
        metavar="PATH",
        help="begin with the weights in this file, a checkpoint, or a folder of files with "
        "torchvision's names (default: torchvision's, from its cache)",
    )
    what.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="settings",
        help="set a value of every trial (keys: trainables/config.py); fixes a searched key",
    )


def data_options(what: Any) -> None:
    """Add the options for the location of the images, and for how to read them."""
    what.add_argument(
        "--data-root",
        type=own_path,
        default=Path("data"),
        metavar="DIR",
        help="where torchvision's data sets lie",
    )
    what.add_argument(
        "--task",
        default="",
        metavar="NAME",
        choices=TASKS,
        help=f"what is to be learned of the images: {', '.join(TASKS)} "
        "(default: what the data set is for)",
    )
    what.add_argument(
        "--download",
        action="store_true",
        help="fetch the data set, and weights to begin with, if they are not there",
    )
    what.add_argument(
        "--skip-bad",
        action="store_true",
        help="leave unreadable images out, rather than refuse the folder",
    )


def how_options(parser: Parser) -> None:
    """Add the options for the strategy, the training and the budget."""
    how = parser.add_argument_group("how")
    strategy_options(how)
    training_options(how)
    budget_options(how)


def strategy_options(how: Any) -> None:
    """Add the options that decide which trials are started and stopped."""
    how.add_argument("--algorithm", default="bayes", metavar="NAME", help=", ".join(ALGORITHMS))
    how.add_argument("--scheduler", default="asha", metavar="NAME", help=", ".join(SCHEDULERS))
    how.add_argument(
        "--trials",
        type=int,
        metavar="N",
        help="trials to start (default: the space's own number; the whole grid with grid)",
    )
    how.add_argument("--max-epochs", type=int, metavar="N", help="cap of every trial's epochs")
    how.add_argument(
        "--grace",
        type=int,
        metavar="N",
        help="asha: the first rung, at which trials wait for each other "
        "(default: a hundredth of the epochs)",
    )
    how.add_argument(
        "--sure",
        type=float,
        default=SURE,
        metavar="P",
        help="asha: how sure to be that the best is not among the trials that are stopped, "
        f"from 0 to below 1 (default: {SURE:g}); 0 is the cheapest",
    )
    low = " and ".join(COSTS)
    how.add_argument(
        "--objective",
        metavar="NAMES",
        help=f"{value_of('METRIC')}, or after commas {low} too: "
        "what is good and costs little to use",
    )
    how.add_argument(
        "--metric",
        choices=sorted({name for task in TASKS.values() for name in task.names}),
        metavar="NAME",
        help="what trials are ranked, stopped and chosen by; "
        + "; ".join(
            f"{task.name}: {', '.join(task.names)} (default: {task.primary.name})"
            for task in TASKS.values()
        ),
    )


def training_options(how: Any) -> None:
    """Add the options for precision, folds, the seed and the test set."""
    how.add_argument(
        "--precision",
        choices=PRECISION_NAMES,
        metavar="NAME",
        help=f"{', '.join(PRECISION_NAMES)}; auto is the fastest here",
    )
    how.add_argument(
        "--folds",
        type=int,
        metavar="K",
        help="cross-validate: a trial is K networks, each validated on a fold that it has not seen",
    )
    how.add_argument(
        "--seed",
        type=seed,
        default=0,
        metavar="N",
        help="fixes suggestions, splits, weights and batch order",
    )
    how.add_argument(
        "--sealed",
        action="store_true",
        help="leave the test part closed at the search's end: search.select opens it",
    )


def where_options(parser: Parser) -> None:
    """Add the options for where a search runs and where it is stored."""
    where = parser.add_argument_group("where")
    storage_options(where)
    execution_options(where)
    machine_options(where)


def storage_options(where: Any) -> None:
    """Add the options for a search's name, storage, cache and tracking."""
    where.add_argument(
        "--name", metavar="NAME", help="the search's name (default: from space, data and time)"
    )
    where.add_argument(
        "--storage",
        type=storage,
        default=DEFAULT_STORAGE,
        metavar="PLACE",
        help="where everything is kept: a folder, or s3://BUCKET/PREFIX",
    )
    where.add_argument(
        "--no-cache",
        action="store_true",
        help="train anew what an earlier search in the same storage has trained alike",
    )
    where.add_argument(
        "--keep", default=NEEDED, metavar="WHAT", help=f"{KEEP_HELP} (default: {NEEDED})"
    )
    where.add_argument(
        "--tracking",
        metavar="URI",
        help=f"MLflow's tracking URI (default: $MLFLOW_TRACKING_URI, else {DEFAULT_TRACKING})",
    )


def execution_options(where: Any) -> None:
    """Add the options for the executor, the cluster, and the number of trials at once."""
    where.add_argument(
        "--address", default=LOCAL, metavar="ADDRESS", help="local, or a running Ray cluster"
    )
    where.add_argument(
        "--executor",
        default=DEFAULT_EXECUTOR,
        metavar="NAME",
        help=EXECUTOR_HELP,
    )
    where.add_argument(
        "--concurrency",
        type=count_or_auto,
        default=AUTO_COUNT,
        metavar="N",
        help="trials at once; auto: one a processor (--cpus-per-trial), or a GPU",
    )
    where.add_argument(
        "--fuse",
        default="auto",
        metavar="N",
        help="trials of one shape that a worker trains as one network: "
        "2 to 64, off, measure (try what is fastest), or auto: measure on a GPU, else off",
    )


def machine_options(where: Any) -> None:
    """Add the options for a trial's resources, and the time after which it counts as hanging."""
    where.add_argument(
        "--cpus-per-trial",
        type=float,
        default=1,
        metavar="X",
        help="CPUs of each worker of a trial",
    )
    where.add_argument(
        "--gpus-per-trial",
        type=float,
        metavar="X",
        help="GPUs of each worker of a trial; a fraction shares one (default: 1 on cuda, else 0)",
    )
    where.add_argument(
        "--workers",
        type=int,
        default=1,
        metavar="N",
        help="processes that train one trial together",
    )
    where.add_argument(
        "--hang-timeout",
        type=float,
        default=600,
        metavar="SECONDS",
        help="a trial that makes no step for so long is killed and tried again",
    )
    where.add_argument(
        "--device",
        default="auto",
        choices=("cpu", "cuda", "auto"),
        help="auto: a GPU for each worker of a trial if this machine, or the cluster, has any",
    )


def experiment_of(args: argparse.Namespace) -> Experiment:
    """Build the experiment that the command line describes, and check it."""
    source = data_source(args.data)
    settings = settings_of(args)
    space, space_name, space_source = space_of(args.space)
    settings = with_weights(args.weights, space, settings)
    space = space.fixed(settings)
    base = base_of(data_config(args, args.data), space)
    device, gpus = device_and_gpus(args)
    experiment = Experiment(
        name=args.name
        if args.name is not None
        else f"{space_name}-{source}-{time.strftime('%Y%m%d-%H%M%S')}",
        space_name=space_name,
        space=space,
        base=base,
        demand=Demand(cpus=args.cpus_per_trial, gpus=gpus, workers=args.workers),
        device=device,
        space_source=space_source,
        settings=settings,
        download=args.download,
        cache=not args.no_cache,
        concurrency=None if args.concurrency == AUTO_COUNT else args.concurrency,
        objectives=parse_objectives(args.objective, base.metric) if args.objective else (),
        budget=Budget(tuple(args.budget), args.price),
        tracking=args.tracking or default_uri(),
        **{
            name: getattr(args, name)
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
                "hang_timeout",
                "fuse",
                "sealed",
            )
        },
    )
    refuse_idle(experiment)
    return experiment


def refuse_idle(experiment: Experiment) -> None:
    """Check that --grace and --sure have an effect in a new search, if they are given.

    Raises:
        ConfigError: one of them has no effect, because of another option or the number of epochs.
    """
    sure = f"--sure {experiment.sure:g}" if experiment.sure != SURE else ""
    grace = f"--grace {experiment.grace}" if experiment.grace is not None else ""
    if experiment.scheduler != "asha" and (option := grace or sure):
        raise ConfigError(
            f"{option} with --scheduler {experiment.scheduler}: it is for asha. "
            "Leave one of them out."
        )
    if sure and len(experiment.objectives) > 1:
        raise ConfigError(
            f"{sure} with --objective {','.join(experiment.objectives)}: it is of "
            f"{experiment.base.ranked_by.title} alone. Leave one of them out."
        )
    longest = experiment.horizon
    if experiment.grace is not None and not rungs_for(longest, experiment.grace):
        most = int(longest / math.sqrt(REDUCTION))  # later rungs are dropped (`rungs_for`)
        remedy = f"Use at most {most}, or leave it out." if most else "Leave it out."
        raise ConfigError(
            f"{grace}: no rung is left before the end of the longest trial, which has "
            f"{counted(longest, 'epoch')}, so that none would be stopped. {remedy}"
        )


def space_of(space: str | SearchSpace) -> tuple[SearchSpace, str, str]:
    """Load a space; return it with its name and its source.

    The source is the absolute text for --space. It is empty for a `SearchSpace` that was created in
    Python, which a resume reads from the journal.
    """
    if isinstance(space, SearchSpace):
        return space, "own", ""
    return find(space), Path(space.partition(":")[0]).stem, absolute_source(space)


def named_data_sets() -> set[str]:
    """The names of the data sets that --data accepts without a path."""
    return {name for name, entry in DATASETS.items() if not (entry.is_own or entry.from_folder)}


def data_source(data: str) -> str:
    """The source part of --data: the data set's name, or "folder".

    Raises:
        ConfigError: there is no such data set, or the folder's path is missing.
    """
    source, _, path = data.partition(":")
    if data and source not in DATASETS and Path(data).is_dir():
        raise ConfigError(f"'{data}' is a folder: use --data folder:{data}.")
    if source == "folder" and not path:
        raise ConfigError(f"'{data}' names no folder: use --data folder:PATH.")
    if source != "folder" and data not in named_data_sets():
        raise ConfigError(unknown("data set", data, named_data_sets() | {"folder:PATH"}))
    return source


def settings_of(args: argparse.Namespace) -> Params:
    """Collect the settings from --set, --precision, --folds and --metric, by dotted path.

    Raises:
        ConfigError: an option and --set contradict each other.
    """
    settings = dict(parse_setting(text) for text in args.settings)
    for option, path, value in (
        ("--precision", "precision", args.precision),
        ("--folds", "data.folds", args.folds),
        ("--metric", "metric", args.metric),
    ):
        if value is not None and settings.setdefault(path, value) != value:
            raise ConfigError(
                f"{option} {value} and --set {path}={settings[path]}: leave one of them out."
            )
    return settings


def data_config(args: argparse.Namespace, data: str) -> TrialConfig:
    """Build the default config on a data set, with the options for its root, task and split.

    Args:
        args: the command line; its seed also decides the split.
        data: the value of --data.
    """
    base = TrialConfig().override(
        {"seed": args.seed, "data.split_seed": args.seed, "data.skip_bad": args.skip_bad}
    )
    # The digits are part of scikit-learn, and have no folder.
    root = "" if data_source(data) == "digits" else str(args.data_root)
    return base.on(with_root(base.data, data, root, task=args.task))


def with_weights(weights: Path | None, space: SearchSpace, settings: Params) -> Params:
    """Add the settings for --weights to the settings.

    These are `model.weights`, the absolute path, and `model.pretrained`, unless that is searched.

    Args:
        weights: the value of --weights; `model.weights` in `settings` takes precedence. Without
            both, the settings are returned unchanged.
        space: the search space.
        settings: the settings by dotted path.

    Raises:
        ConfigError: the file does not exist, no network of the space can start from weights, or
            `model.pretrained` is false.
    """
    try:
        path = own_path(settings["model.weights"]) if settings.get("model.weights") else weights
    except argparse.ArgumentTypeError as error:
        raise ConfigError(f"--set model.weights: {error}.") from error
    if path is None:
        return settings
    if not path.exists():
        raise ConfigError(
            f"--weights '{path}' not found. Name a file, a checkpoint, or a folder of files "
            "with torchvision's names."
        )
    names = (
        space.domains["model.name"].values
        if "model.name" in space.domains
        else [space.base.get("model.name", ModelConfig().name)]
    )
    if not any(
        "pretrained" in MODELS[name].options
        for name in [settings.get("model.name"), *(names or ())]
        if name in MODELS
    ):
        raise ConfigError(
            f"--weights: no model of '{', '.join(names or ())}' can begin with weights. "
            "Use --space transfer or --space zoo."
        )
    begins = {} if "model.pretrained" in space.domains else {"model.pretrained": True}
    if settings.get("model.pretrained", True) is not True:
        raise ConfigError(
            "weights to begin with, and model.pretrained=false: leave one of them out."
        )
    return {**begins, **settings, "model.weights": str(path.absolute())}


def absolute_source(space: str) -> str:
    """Make the path in a space's source absolute, so that a resume finds it from any folder."""
    file = file_of(space)
    return f"{file[0].absolute()}:{file[1]}" if file is not None else space


def device_and_gpus(args: argparse.Namespace) -> tuple[str, float]:
    """Choose the device of all trials, and the number of GPUs of each of a trial's workers.

    Returns:
        "cpu" or "cuda", and the number; `AUTO_DEVICE` and 0 if they depend on the cluster, which
        is not connected yet.

    Raises:
        ConfigError: --device and --gpus-per-trial contradict each other.
    """
    if args.device == "cpu" and args.gpus_per_trial:
        raise ConfigError(
            f"--gpus-per-trial {args.gpus_per_trial:g} with --device cpu. "
            "Use --device cuda, or leave --gpus-per-trial out."
        )
    device = args.device
    if device == "auto":
        if args.gpus_per_trial is None and args.address != LOCAL:
            return AUTO_DEVICE, 0.0
        device = (
            "cuda"
            if args.gpus_per_trial or (args.gpus_per_trial is None and local_gpus())
            else "cpu"
        )
    if device == "cuda" and args.gpus_per_trial == 0:
        raise ConfigError(
            "--gpus-per-trial 0 with --device cuda. "
            "A fraction such as 0.25 lets trials share a GPU."
        )
    return device, (args.gpus_per_trial or 1.0) if device == "cuda" else 0.0


def command(args: argparse.Namespace) -> int:
    """Print the plan, or run the search and print the result; return the exit code."""
    experiment = experiment_of(args)
    if args.dry_run:
        terminal, estimate = Terminal(stderr=args.json), estimate_search(experiment)
        for line in estimate.lines(experiment):
            say(terminal, line)
        if args.json:
            sys.stdout.write(json.dumps(estimate.to_json()) + "\n")
        return 0
    return run_search(experiment, as_json=args.json).exit_code


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line and its config file; exit with code 2 if --space is missing.

    Options of the command line take precedence over the config file, which precedes the defaults.
    """
    args = options_of(list(sys.argv[1:] if argv is None else argv))
    if args.space is None:
        parser().error("the following arguments are required: --space")
    return args


def options_of(words: list[str]) -> argparse.Namespace:
    """Parse the options like `arguments`, but --space may be missing (it is None)."""
    args = parser().parse_args(words)
    refuse_unfit_text(args)
    if args.config is not None:
        command_line, args = (
            args,
            parser().parse_args([*config_file.words(args.config, parser()), *words]),
        )
        args.budget = command_line.budget or args.budget
        refuse_unfit_text(args)
    return args


def refuse_unfit_text(args: argparse.Namespace) -> None:
    """Check that the texts of the options can and may be stored.

    Raises:
        ConfigError: a text looks like a credential, is not UTF-8, or is longer than a path or file
            name can be.
    """
    texts = [
        (f"--{name.replace('_', '-')}", str(value))
        for name, value in vars(args).items()
        if isinstance(value, str | Path)
    ]
    for name, text in [*texts, *((text.partition("=")[0], text) for text in args.settings)]:
        if not is_text(text):
            raise ConfigError(f"{name} is not UTF-8 (got {text!r}).")
        if len(text) > MAX_TEXT or any(len(part.encode()) > MAX_NAME for part in text.split("/")):
            raise ConfigError(f"{name} is too long (limit {MAX_NAME} bytes a name).")
        if name == "--tracking":
            secrets.refuse_in_uri(text)
        secrets.refuse(name, text)


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, run the search, and return the exit code (see `ExitCode`)."""
    return guarded(lambda: command(arguments(argv)))
