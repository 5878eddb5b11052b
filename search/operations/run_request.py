"""The request for a new search: the options of `python -m search.run`."""

from dataclasses import dataclass
from pathlib import Path

from cluster.runtime.session import LOCAL
from search.algorithms.registry import ALGORITHMS
from search.design.experiment import SURE
from search.journal.keeping import KEEP_HELP, NEEDED
from search.journal.store import Storage, own_path, storage
from search.operations.continuation import UsageLimits, min_gain_option, stop_at_chance_option
from search.operations.options import seed
from search.schedulers.registry import SCHEDULERS
from search.space import SearchSpace
from search.spaces.find import names
from search.tracking.uri import DEFAULT_TRACKING
from search.values.executors import (
    AUTO_COUNT,
    DEFAULT_EXECUTOR,
    EXECUTOR_HELP,
    count_or_auto,
)
from search.values.objectives import OBJECTIVE_HELP, value_of
from search.values.option import flag, group, option, repeated
from search.values.wording import DEFAULT_STORAGE
from trainables.catalog.datasets import DATASETS
from trainables.config import PRECISION_NAMES
from trainables.tasks import TASKS

SEARCHED, HOW, WHERE = "what is searched", "how", "where"
"""The headings in the help under which the options are grouped."""
METRICS = sorted({name for task in TASKS.values() for name in task.names})
METRIC_HELP = "; ".join(
    f"{task.name}: {', '.join(task.names)} (default: {task.primary.name})"
    for task in TASKS.values()
)


def named_data_sets() -> set[str]:
    """Return the names of the data sets that --data accepts without a path."""
    return {name for name, entry in DATASETS.items() if not (entry.is_own or entry.from_folder)}


FOLDERS = ", ".join(task.folder for task in TASKS.values())
"""The forms of folders that the tasks read."""
TASK_HELP = ", ".join(f"{task.name} ({task.folder})" for task in TASKS.values())


@dataclass(frozen=True, kw_only=True)
class Reading:
    """The location of the images, and how they are read."""

    data_root: Path = option(
        "the folder of torchvision's data sets", metavar="DIR", parse=own_path, default=Path("data")
    )
    task: str = option(
        f"the task to learn: {TASK_HELP} (default: the task of the data set)",
        metavar="NAME",
        choices=TASKS,
        default="",
    )
    download: bool = flag("download the data set and the initial weights if they are missing")
    skip_bad: bool = flag("leave unreadable images out instead of refusing the folder")


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """A new search: what is searched, how, and where."""

    space: str | SearchSpace | None = option(
        f"{', '.join(names())}, or your own: file.py:NAME, "
        "a SearchSpace or a function that returns one (default: auto for images in classes, "
        "table3 for digits, else the space with the name of the task)",
        metavar="NAME",
        section=SEARCHED,
    )
    """The space; None for the default of the data (`search.spaces.find.default`). Python code may
    pass a `SearchSpace`, which is stored in the journal."""
    data: str = option(
        f"{', '.join(sorted(named_data_sets()))}, folder:PATH ({FOLDERS}), or s3://BUCKET/PREFIX "
        "(such a folder in Amazon S3 or a compatible store, which is copied here first)",
        metavar="DATA",
        default="digits",
        section=SEARCHED,
    )
    reading: Reading = group(Reading, section=SEARCHED)
    weights: Path | None = option(
        "start from the weights in this file, which may be a checkpoint, or in a folder of files "
        "that are named as in torchvision (default: torchvision's, from its cache)",
        metavar="PATH",
        parse=own_path,
        section=SEARCHED,
    )
    unlabelled: Path | None = option(
        "learn from the images without labels in this folder, too (--space auto, or models "
        "spread_* and pseudo_*)",
        metavar="FOLDER",
        parse=own_path,
        section=SEARCHED,
    )
    groups: Path | None = option(
        "a CSV file with the columns image and one for each attribute, such as sex or camera: "
        "results are also shown for groups of images with the same attributes",
        metavar="FILE",
        parse=own_path,
        section=SEARCHED,
    )
    settings: tuple[str, ...] = repeated(
        "set a value for every trial (keys: trainables/config.py); a searched key is fixed to it",
        name="set",
        metavar="KEY=VALUE",
        section=SEARCHED,
    )

    algorithm: str = option(", ".join(ALGORITHMS), metavar="NAME", default="bayes", section=HOW)
    scheduler: str = option(", ".join(SCHEDULERS), metavar="NAME", default="asha", section=HOW)
    trials: int | None = option(
        "number of trials to start (default: the space's own number; the whole grid with grid)",
        metavar="N",
        parse=int,
        section=HOW,
    )
    max_epochs: int | None = option(
        "maximum number of epochs of a trial", metavar="N", parse=int, section=HOW
    )
    grace: int | None = option(
        "asha: the epoch of the first rung, at which trials wait for each other (default: a "
        "hundredth of the epochs)",
        metavar="N",
        parse=int,
        section=HOW,
    )
    sure: float = option(
        "asha: the required probability that the best trial is not among the stopped ones, at "
        f"least 0 and below 1 (default: {SURE:g}); 0 is the cheapest",
        metavar="P",
        parse=float,
        default=SURE,
        section=HOW,
    )
    objective: str | None = option(
        f"{value_of('METRIC')}; add one or two after commas to find the models that are best in "
        f"several ways: {OBJECTIVE_HELP}",
        metavar="NAMES",
        section=HOW,
    )
    evaluate: str | None = option(
        "corruptions, adversarial, or both after a comma: at the end, also measure the answer on "
        "corrupted images (15 corruptions at 5 severities) or under adversarial attacks",
        metavar="NAMES",
        section=HOW,
    )
    metric: str | None = option(
        f"the metric by which trials are ranked, stopped and chosen; {METRIC_HELP}",
        metavar="NAME",
        choices=METRICS,
        section=HOW,
    )
    precision: str | None = option(
        f"{', '.join(PRECISION_NAMES)}; auto is the fastest here",
        metavar="NAME",
        choices=PRECISION_NAMES,
        section=HOW,
    )
    folds: int | None = option(
        "cross-validate: each trial trains K networks, each validated on a fold that it was not "
        "trained on",
        metavar="K",
        parse=int,
        section=HOW,
    )
    seed: int = option(
        "random seed of the suggestions, splits, weights and batch order",
        metavar="N",
        parse=seed,
        default=0,
        section=HOW,
    )
    sealed: bool = flag(
        "do not use the test set at the end of the search, but only in search.select", section=HOW
    )
    limits: UsageLimits = group(
        UsageLimits, section=HOW, of="what all sessions together may use", default=""
    )
    min_gain: float = min_gain_option(0, section=HOW)
    stop_at_chance: int = stop_at_chance_option(0, section=HOW)

    name: str | None = option(
        "the search's name (default: from space, data and time)", metavar="NAME", section=WHERE
    )
    storage: Storage = option(
        "where searches are stored: a folder, or s3://BUCKET/PREFIX",
        metavar="PLACE",
        parse=storage,
        default=DEFAULT_STORAGE,
        section=WHERE,
    )
    no_cache: bool = flag(
        "train again what an earlier search in the same storage has already trained", section=WHERE
    )
    no_learn: bool = flag(
        "with --space auto: do not begin with settings that did well in earlier searches",
        section=WHERE,
    )
    keep: str = option(
        f"{KEEP_HELP} (default: {NEEDED})", metavar="WHAT", default=NEEDED, section=WHERE
    )
    tracking: str | None = option(
        f"MLflow's tracking URI (default: $MLFLOW_TRACKING_URI, else {DEFAULT_TRACKING})",
        metavar="URI",
        section=WHERE,
    )
    address: str = option(
        "local, or a running Ray cluster", metavar="ADDRESS", default=LOCAL, section=WHERE
    )
    executor: str = option(EXECUTOR_HELP, metavar="NAME", default=DEFAULT_EXECUTOR, section=WHERE)
    concurrency: int | str = option(
        "number of trials at once; auto: one per processor (--cpus-per-trial) or per GPU",
        metavar="N",
        parse=count_or_auto,
        default=AUTO_COUNT,
        section=WHERE,
    )
    fuse: str = option(
        "number of trials of the same shape that a worker trains as one network: 2 to 64, off, "
        "measure (try which is fastest), or auto: measure on a GPU, else off",
        metavar="N",
        default="auto",
        section=WHERE,
    )
    cpus_per_trial: float = option(
        "CPUs of each worker of a trial", metavar="X", parse=float, default=1, section=WHERE
    )
    gpus_per_trial: float | None = option(
        "GPUs of each worker of a trial; with a fraction, trials share one (default: 1 on cuda, "
        "else 0)",
        metavar="X",
        parse=float,
        section=WHERE,
    )
    workers: int = option(
        "number of processes that train one trial together",
        metavar="N",
        parse=int,
        default=1,
        section=WHERE,
    )
    hang_timeout: float = option(
        "kill and retry a trial that makes no step for this long",
        metavar="SECONDS",
        parse=float,
        default=600,
        section=WHERE,
    )
    device: str = option(
        "auto: a GPU for each worker of a trial if this machine, or the cluster, has one",
        choices=("cpu", "cuda", "auto"),
        default="auto",
        section=WHERE,
    )
