"""All checks of a search before any machine starts."""

import platform
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from uuid import uuid4

from cluster.cli import is_whole
from cluster.errors import NotReady
from cluster.runtime.resources import Resources, local_gpus, slots
from cluster.runtime.session import LOCAL, check_address
from cluster.storage.bucket import Bucket, StorageError
from search.decisions.timing import WaitingTime
from search.design.experiment import Experiment
from search.fetching.images import at_hand, spent_s
from search.journal.events import SessionStart
from search.journal.journal import FILE_NAME
from search.preflight.adapting import adapted, complete
from search.preflight.disk import check_memory, check_room
from search.preflight.first_step import few_photographs
from search.preflight.memory import check_trials
from search.preflight.shadows import shadows_here
from search.preflight.warnings import notes
from search.process.versions import check_versions
from search.space import Choice
from search.tracking.uri import check_tracking
from search.values.message import Message, Remedy
from trainables.catalog.datasets import DATASETS
from trainables.datasets.arrays import Dataset
from trainables.errors import ConfigError
from trainables.inspection.leaks import InspectedData, load_inspected
from trainables.inspection.report import DataReport, report_of
from trainables.inspection.words import warnings
from trainables.machine import processors
from trainables.progress import step


@dataclass(frozen=True)
class Prepared:
    """A search that has passed all checks, with its data.

    `experiment` lacks the searched values that do not fit the data; `notes` list them.
    """

    experiment: Experiment
    inspection: InspectedData
    """The data set, and the copies of images that were found in it."""
    report: DataReport
    local: Resources
    notes: list[str]
    weights: dict[str, str] = field(default_factory=dict)
    """Maps the name of each file of pretrained weights, and each folder of images without labels,
    to its digest."""
    waiting: WaitingTime = field(default_factory=WaitingTime)
    """The time spent on loading the data, and on checking the weights and the exports."""

    @property
    def dataset(self) -> Dataset:
        """The data of the search, without removed copies."""
        return self.inspection.dataset


def prepare(
    experiment: Experiment,
    *,
    anew: bool = True,
    begins: bool = True,
    trainings: int | None = None,
) -> Prepared:
    """Check everything that can be checked before a machine starts.

    This includes the data, the space, the storage, MLflow, the cluster, the devices and, if new
    trials will start, the pretrained weights.

    Args:
        experiment: the search.
        anew: True if the search starts, or continues in another space. Only then is its space
            adapted to the data, and are networks left out if their weights are missing.
        begins: True if new trials will start.
        trainings: the number of trainings for which the storage needs space; None for the planned
            trials.

    Raises:
        ConfigError: the search cannot work; the message has a line for each problem.
        NotReady: something outside of the search is missing, such as disk space or MLflow.
        Unavailable: the files of the data or the weights are missing.
    """
    check_versions()
    experiment = experiment.reading(at_hand(experiment.base.data))
    local, weights = needed_resources(experiment), dict[str, str]()
    with (waiting := WaitingTime(spent_s())).counting():
        inspection = load_inspected(experiment.base.data, download=experiment.download)
        report = report_of(inspection, experiment.base.data)
    dataset = inspection.dataset
    with waiting.counting():
        experiment, adapting_notes = adapted(experiment, dataset) if anew else (experiment, [])
    experiment, left_out = experiment.fitting(dataset)
    problems = list(experiment.problems(dataset))
    if problems:
        raise ConfigError("\n".join(problems))
    with step("checking MLflow and the storage"):
        check_address(experiment.address)
        check_tracking(experiment.tracking)
        check_storage(experiment)
        check_room(experiment, dataset, trainings)
    inspection = in_reach(inspection, is_local=experiment.address == LOCAL)
    dataset = inspection.dataset
    with waiting.counting():
        if begins:
            experiment, weights, weight_notes = check_weights(experiment, dataset, anew=anew)
            left_out += weight_notes
    local, memory_notes = check_trials(experiment, dataset, local)
    if begins:
        unlabelled_notes, digests = check_unlabelled(experiment)
        adapting_notes, weights = [*adapting_notes, *unlabelled_notes], weights | digests
    if anew:
        experiment, early_notes = complete(experiment, dataset)
        adapting_notes = [*early_notes, *adapting_notes]
    about_data = [*adapting_notes, *left_out, *memory_notes, *warnings(report)]
    about_data += notes(experiment, dataset)
    all_notes = warnings_first([*platform_notes(), *shadows_here(), *about_data])
    return Prepared(experiment, inspection, report, local, all_notes, weights, waiting)


def in_reach(inspection: InspectedData, *, is_local: bool) -> InspectedData:
    """Return the data with its images in memory if other machines must get them (not `is_local`).

    They cannot read a file of this machine.

    Raises:
        NotReady: there is not enough memory.
    """
    check_memory(inspection.dataset, is_local=is_local)
    return inspection if is_local else replace(inspection, dataset=inspection.dataset.in_memory)


def warnings_first(lines: Iterable[str]) -> list[str]:
    """Return lines for the user with the warnings at the beginning."""
    return sorted(lines, key=lambda line: not line.startswith("warning"))


def platform_notes() -> Iterator[str]:
    """Yield a note if this platform is not Linux, the only one on which this program is tested."""
    if (system := platform.system()) != "Linux":
        yield (
            "note: this program was tested only on Linux, and this machine runs "
            f"{system or 'another system'}"
        )


def check_weights(
    experiment: Experiment, dataset: Dataset, *, anew: bool
) -> tuple[Experiment, dict[str, str], list[str]]:
    """Check that the pretrained weights exist and fit the models.

    Missing weights are downloaded if the user allows it. If `anew` (see `prepare`), networks whose
    weights are missing are left out, as long as other networks remain.

    Returns:
        The search without these networks, a mapping from file names to digests, and notes.

    Raises:
        ConfigError: weights are missing or do not fit, and their networks cannot be left out.
        Unavailable: the download failed.
    """
    models = {config.model for config in experiment.edges if config.model.pretrained}
    if not models:
        return experiment, {}, []
    from trainables.models.weights import check_all  # imports torch

    first = {(model.name, model.weights, model.input_size): model for model in models}
    targets = experiment.base.task.load_targets()
    checked = check_all(
        sorted(first.values(), key=lambda model: (model.name, model.input_size or 0)),
        targets.image(dataset),
        targets.width(dataset),
        download=experiment.download,
    )
    if not checked.missing:
        return experiment, checked.digests, checked.notes
    # A model that is also trained from scratch must not be left out: it works without weights.
    needed = {config.model.name for config in experiment.edges if not config.model.pretrained}
    is_choice = isinstance(experiment.space.domains.get("model.name"), Choice)
    if not anew:
        raise checked.error_of(experiment.name)
    if not checked.digests or not is_choice or checked.missing.keys() & needed:
        raise checked.error()
    return experiment.without_models(checked.missing), checked.digests, checked.notes


def check_unlabelled(experiment: Experiment) -> tuple[list[str], dict[str, str]]:
    """Check the folders of images without labels.

    Returns:
        A note on each folder, and a digest of its files by its path; both empty if none is used.

    Raises:
        ConfigError: a folder cannot be read, or has no images.
    """
    settings = {config.model.unlabelled for config in experiment.edges}
    if not (folders := sorted(folder for folder in settings if folder is not None)):
        return [], {}
    from trainables.probes.unlabelled import UnlabelledFolder  # imports Pillow

    data = experiment.base.data
    listed = {folder: UnlabelledFolder(Path(folder), data) for folder in folders}
    notes = [images.check() for images in listed.values()]
    return notes, {folder: images.digest for folder, images in listed.items()}


def needed_resources(experiment: Experiment) -> Resources:
    """Return the resources of this machine, as they are passed to a local session of Ray.

    If --concurrency requires more CPUs than the machine has, the required number is returned.

    Raises:
        NotReady: the search is local, and not even one trial fits on this machine.
    """
    have = Resources(cpus=processors(), gpus=local_gpus())
    if experiment.address != LOCAL:
        return have
    slots(have, experiment.demand)
    sharing = int(experiment.fuse) if is_whole(experiment.fuse) else 1
    cpus = (
        (experiment.concurrency or 0)
        // sharing
        * experiment.demand.cpus
        * experiment.demand.workers
    )
    return Resources(cpus=max(have.cpus, cpus), gpus=have.gpus)


def refuse_existing(experiment: Experiment) -> None:
    """Refuse the name of an existing search.

    Raises:
        ConfigError: a search with this name exists, or its folder has files but no journal.
        StorageError: the bucket cannot be read.
    """
    home = experiment.home
    try:
        names, is_file = home.names(), home.folder.is_file()
    except StorageError:
        raise
    except OSError:  # the folder cannot be read; `check_storage` reports this
        return
    if FILE_NAME in names or is_file:
        raise ConfigError(
            Message(
                f"a search named '{experiment.name}' already exists in '{experiment.storage}'. "
                "Use another --name, or continue it: ",
                Remedy("resume", experiment.name, experiment.storage),
            )
        )
    if names:
        raise ConfigError(
            f"'{home}' contains {names[0]}, but no {FILE_NAME}. Restore {FILE_NAME} from a backup "
            "and resume the search, or use another --name."
        )


def check_storage(experiment: Experiment) -> None:
    """Check that the storage can be written to.

    Raises:
        NotReady: the storage is not writable.
    """
    if isinstance(experiment.storage, Bucket):
        return experiment.storage.check()
    probe = experiment.storage / f".probe-{uuid4().hex}"
    try:
        is_new = not experiment.storage.exists()
        experiment.storage.mkdir(parents=True, exist_ok=True)
        probe.touch(exist_ok=False)  # do not follow a symlink that another user has created
        probe.unlink()
        if is_new:
            experiment.storage.rmdir()
    except OSError as error:
        raise NotReady(
            f"storage '{experiment.storage}' is not writable ({error.strerror}). Use "
            "another --storage."
        ) from error


def data_facts(experiment: Experiment, dataset: Dataset) -> dict[str, object]:
    """Describe the data set as JSON-compatible values, for the journal."""
    decoding = DATASETS[experiment.base.data.name].decoding
    guesses = experiment.base.task.load_targets().guesses(dataset)
    return {
        "name": dataset.name,
        "root": str(Path(experiment.base.data.root).absolute())
        if experiment.base.data.root
        else "",
        **({"bucket": bucket} if (bucket := experiment.base.data.bucket) else {}),
        "classes": list(dataset.classes),
        "image": list(dataset.image),
        "train": len(dataset.train),
        "val": len(dataset.val),
        "test": len(dataset.test) if dataset.test else 0,
        "fingerprint": dataset.fingerprint,
        **({"folds": dataset.folds} if dataset.folds else {}),
        **({"decoding": decoding} if decoding else {}),
        **({"few_photographs": True} if few_photographs(experiment.base.task, dataset) else {}),
        **({"guesses": [asdict(guess) for guess in guesses]} if guesses else {}),
    }


def session_facts(experiment: Experiment, prepared: Prepared) -> SessionStart:
    """Create the first event of a session; set only the experiment, the data and the weights."""
    removed = len(prepared.inspection.removed_images)
    return SessionStart(
        experiment=experiment.describe(),
        data=data_facts(experiment, prepared.dataset) | ({"removed": removed} if removed else {}),
        weights=prepared.weights,
    )
