"""Checks, before any machine starts, of everything that a search needs."""

import platform
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from uuid import uuid4

from cluster.cli import is_whole
from cluster.errors import NotReady
from cluster.runtime.resources import Resources, local_gpus, slots
from cluster.runtime.session import LOCAL, check_address
from cluster.storage.bucket import Bucket, StorageError
from search.decisions.timing import Waiting
from search.design.experiment import Experiment
from search.journal.events import SessionStart
from search.journal.journal import FILE_NAME
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
from trainables.inspection.leaks import Looked, load_looked
from trainables.inspection.report import DataReport, report_of
from trainables.inspection.words import warnings
from trainables.processors import processors


@dataclass(frozen=True)
class Prepared:
    """Everything that a search needs, checked.

    `experiment` is without what cannot work with the data, of which `notes` tell.
    """

    experiment: Experiment
    looked: Looked
    """The data, looked through for copies."""
    report: DataReport
    local: Resources
    notes: list[str]
    weights: dict[str, str] = field(default_factory=dict)
    """A digest of each file of weights with which trials are to begin, by its name."""
    waiting: Waiting = field(default_factory=Waiting)
    """The time that it took to have the data, and those files."""

    @property
    def dataset(self) -> Dataset:
        """The data to search with."""
        return self.looked.dataset


def prepare(
    experiment: Experiment,
    *,
    anew: bool = True,
    begins: bool = True,
    trainings: int | None = None,
) -> Prepared:
    """Check everything that can be checked before a machine starts.

    That is data, space, storage, MLflow, cluster, devices and, where trials are to begin, the
    weights with which they do.

    Args:
        anew: whether the search begins, or continues in another space; otherwise no network is
            left out for want of weights.
        begins: whether trials are to begin.
        trainings: the number that the storage needs room for; None: as many as there will be
            trials.

    Raises:
        ConfigError: with a line for each problem.
        NotReady: something outside is missing.
        Unavailable: the data's files are.
    """
    check_versions()
    local = wanted_resources(experiment)
    waiting, weights = Waiting(), dict[str, str]()
    with waiting.counted():
        looked = load_looked(experiment.base.data, download=experiment.download)
        report = report_of(looked, experiment.base.data)
    dataset = looked.dataset
    experiment, left_out = experiment.fitting(dataset)
    problems = list(experiment.problems(dataset))
    if problems:
        raise ConfigError("\n".join(problems))
    check_address(experiment.address)
    check_tracking(experiment.tracking)
    check_storage(experiment)
    check_room(experiment, dataset, trainings)
    check_memory(dataset)
    with waiting.counted():
        if begins:
            experiment, weights, of_weights = check_weights(experiment, dataset, anew=anew)
            left_out += of_weights
    local, of_memory = check_trials(experiment, dataset, local)
    about_data = [*left_out, *of_memory, *warnings(report), *notes(experiment, dataset)]
    said = [*platform_notes(), *shadows_here(), *about_data]
    return Prepared(experiment, looked, report, local, said, weights, waiting)


def platform_notes() -> Iterator[str]:
    """Yield a line on a platform where no test has run."""
    if (system := platform.system()) != "Linux":
        yield f"note: this program was tried on Linux alone; here is {system or 'another system'}"


def check_weights(
    experiment: Experiment, dataset: Dataset, *, anew: bool
) -> tuple[Experiment, dict[str, str], list[str]]:
    """Check that the weights with which networks are to begin are there and fit.

    Those that are not there are fetched, if the user has said so. Of several networks, those
    without weights are left out where `anew` is true (see `prepare`).

    Returns:
        The search without those, a digest of each file by its name, and notes.

    Raises:
        ConfigError: they do not fit, or are not there.
        Unavailable: they could not be fetched.
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
    # A model that also begins from nothing cannot be left out for want of weights.
    needed = {config.model.name for config in experiment.edges if not config.model.pretrained}
    is_choice = isinstance(experiment.space.domains.get("model.name"), Choice)
    if not anew:
        raise checked.error_of(experiment.name)
    if not checked.digests or not is_choice or checked.missing.keys() & needed:
        raise checked.error()
    return experiment.without_models(checked.missing), checked.digests, checked.notes


def wanted_resources(experiment: Experiment) -> Resources:
    """Return what a local session needs.

    That is this machine, or more logical CPUs where the user asks for more trials at once.

    Raises:
        NotReady: not one trial fits on this machine.
    """
    have = Resources(cpus=processors(), gpus=local_gpus())
    if experiment.address != LOCAL:
        return have
    slots(have, experiment.demand)
    sharing = int(experiment.fuse) if is_whole(experiment.fuse) else 1
    wanted = (
        (experiment.concurrency or 0)
        // sharing
        * experiment.demand.cpus
        * experiment.demand.workers
    )
    return Resources(cpus=max(have.cpus, wanted), gpus=have.gpus)


def refuse_taken(experiment: Experiment) -> None:
    """Check that there is no search of this name.

    Raises:
        ConfigError: there is one.
    """
    home = experiment.home
    try:
        names, is_file = home.names(), home.folder.is_file()
    except StorageError:
        raise
    except OSError:  # a folder that cannot be read, on which `check_storage` reports
        return
    if FILE_NAME in names or is_file:
        raise ConfigError(
            Message(
                f"a search named '{experiment.name}' is in '{experiment.storage}' already. "
                "Use another --name, or go on with it: ",
                Remedy("resume", experiment.name, experiment.storage),
            )
        )
    if names:
        raise ConfigError(
            f"'{home}' holds {names[0]}, but no {FILE_NAME}: bring that back from a copy "
            "and resume, or use another --name."
        )


def check_storage(experiment: Experiment) -> None:
    """Check that the search's storage can be written to.

    Raises:
        NotReady: that fails.
    """
    if isinstance(experiment.storage, Bucket):
        return experiment.storage.check()
    probe = experiment.storage / f".probe-{uuid4().hex}"
    try:
        is_new = not experiment.storage.exists()
        experiment.storage.mkdir(parents=True, exist_ok=True)
        probe.touch(exist_ok=False)  # others may write here: no link of theirs is followed
        probe.unlink()
        if is_new:
            experiment.storage.rmdir()
    except OSError as error:
        raise NotReady(
            f"storage '{experiment.storage}' is not writable ({error.strerror}). Use "
            "another --storage."
        ) from error


def data_facts(experiment: Experiment, dataset: Dataset) -> dict[str, object]:
    """Return what the journal says of the data set."""
    decoding = DATASETS[experiment.base.data.name].decoding
    guesses = experiment.base.task.load_targets().guesses(dataset)
    return {
        "name": dataset.name,
        "root": str(Path(experiment.base.data.root).absolute())
        if experiment.base.data.root
        else "",
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
    """Describe the search and what it was prepared with, as the journal has it of every session."""
    removed = int(prepared.looked.removed.sum())
    return SessionStart(
        experiment=experiment.describe(),
        data=data_facts(experiment, prepared.dataset) | ({"removed": removed} if removed else {}),
        weights=prepared.weights,
    )
