"""The composition root: what happens in a search, from top to bottom."""

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from rich.console import Console

from cluster.errors import NotReady
from cluster.resources import Resources, local_resources, slots
from cluster.session import LOCAL, check_address, session
from search.cli import NOT_READY, SOME_FAILED
from search.display import Display
from search.driver import Driver
from search.experiment import Experiment
from search.journal import FILE_NAME, VERSION, Journal
from search.notes import notes
from search.provenance import provenance
from search.report import figures
from search.result import SearchResult
from search.room import check_room
from search.summary import TOP
from search.terminal import say
from search.tracking import Tracker, check_tracking, masked
from trainables.datasets.arrays import Dataset
from trainables.datasets.load import load
from trainables.errors import ConfigError


@dataclass(frozen=True)
class Finished:
    """A search that came to its end: its result, where MLflow has it, and the exit code that tells the truth."""

    result: SearchResult
    journal: Path
    tracking: dict[str, str]
    exit_code: int


def prepare(experiment: Experiment, *, download: bool = False) -> tuple[Dataset, Resources]:
    """Everything that can be checked before a machine starts: data, space, storage, MLflow, cluster, devices.

    Raises:
        ConfigError: with a line for each problem.
        NotReady: something outside is missing.
        Unavailable: the data's files are.
    """
    local = wanted_resources(experiment)
    dataset = load(experiment.base.data, download=download)
    problems = list(experiment.problems(dataset))
    if problems:
        raise ConfigError("\n".join(problems))
    check_address(experiment.address)
    check_tracking(experiment.tracking)
    check_storage(experiment)
    check_room(experiment, dataset)
    return dataset, local


def wanted_resources(experiment: Experiment) -> Resources:
    """What a local session needs: this machine, or more logical CPUs where the user asks for more trials at once.

    Raises:
        NotReady: not one trial fits on this machine.
    """
    have = local_resources()
    if experiment.address != LOCAL:
        return have
    slots(have, experiment.demand)
    wanted = (experiment.concurrency or 0) * experiment.demand.cpus * experiment.demand.workers
    return Resources(cpus=max(have.cpus, wanted), gpus=have.gpus)


def check_storage(experiment: Experiment) -> None:
    """Write where the search will be kept.

    Raises:
        NotReady: that fails.
        ConfigError: a search of this name is there already.
    """
    probe = experiment.storage / f".probe-{os.getpid()}"
    try:
        if (experiment.folder / FILE_NAME).exists() or experiment.folder.is_file():
            raise ConfigError(f"a search named '{experiment.name}' is in '{experiment.storage}' already. Use another --name.")
        is_new = not experiment.storage.exists()
        experiment.storage.mkdir(parents=True, exist_ok=True)
        probe.write_text("")
        probe.unlink()
        if is_new:
            experiment.storage.rmdir()
    except OSError as error:
        raise NotReady(f"storage '{experiment.storage}' is not writable ({error.strerror}). Use another --storage.") from error


def run(experiment: Experiment, *, download: bool = False) -> Finished:
    """Run a search to its end.

    Raises:
        ConfigError, NotReady, Unavailable: as `prepare`, before anything starts.
    """
    began_ms = time.time_ns() // 1_000_000
    dataset, local = prepare(experiment, download=download)
    console = Console(stderr=True)
    begins = f"{experiment.name}: {experiment.planned_trials} trials of up to {experiment.horizon} epochs, in {experiment.folder}; starting Ray"
    for line in [*notes(experiment, dataset), begins]:
        say(console, line)
    troubles: list[str] = []
    tracker = Tracker(experiment.tracking)
    with session(experiment.address, local=local, dashboard=experiment.demand.workers > 1) as have:
        from search.tuning import evaluate_best, tune_search  # Ray and Tune are imported once nothing can be refused any more

        at_once = min(slots(have, experiment.demand), experiment.concurrency or 10**6, experiment.planned_trials)
        journal = Journal(experiment.folder)
        driver = Driver(experiment, journal)
        display = Display(driver.result, experiment.planned_trials, console)
        journal.listeners += [tracker, display]
        with display, interruptible(driver, display) as signals:
            journal.append("started", **started(experiment, dataset, at_once), began_ms=began_ms)
            try:
                tune_search(driver, dataset, slots=at_once)
                evaluate_best(driver, dataset)
            except KeyboardInterrupt:
                driver.close("interrupted", "stopped by SIGINT")
            except NotReady as error:
                troubles.append(str(error))
            except BaseException:
                driver.close("lost", "the search broke off")
                raise
            finally:
                wind_up(driver, tracker)
    if tracker.error:
        troubles.append(f"MLflow did not take everything ({tracker.error}). Nothing is lost: {journal.path} has it all.")
    for trouble in troubles:
        display.say(f"error: {trouble}")
    where = {"tracking_uri": masked(experiment.tracking), "experiment_id": tracker.experiment_id, "parent_run_id": tracker.parent_run_id}
    return Finished(driver.result, journal.path, where, exit_code(driver.result, signals, troubles))


def wind_up(driver: Driver, tracker: Tracker) -> None:
    """Leave the evidence, write the last line, and wait for MLflow to have it all. A step that fails does not keep the others from being done."""
    with ExitStack() as steps:
        steps.callback(tracker.close)
        steps.callback(driver.journal.close)
        steps.callback(driver.finish)
        steps.callback(draw, driver.result, driver.experiment.folder, tracker)
        steps.callback(driver.algorithm.save, driver.experiment.folder)


def started(experiment: Experiment, dataset: Dataset, at_once: int) -> dict[str, object]:
    """The journal's first event."""
    data = {
        "name": dataset.name,
        "root": experiment.base.data.root,
        "classes": list(dataset.classes),
        "image": list(dataset.image),
        "train": len(dataset.train),
        "val": len(dataset.val),
        "test": len(dataset.test) if dataset.test else 0,
        "fingerprint": dataset.fingerprint,
    }
    return {"version": VERSION, "name": experiment.name, "experiment": experiment.describe(), "data": data, "slots": at_once, "provenance": provenance()}


def draw(result: SearchResult, folder: Path, tracker: Tracker) -> None:
    """The pictures and the best trial's evidence, into the search's folder and to MLflow."""
    if result.best is None:
        return
    pictures = folder / "pictures"
    figures.save(figures.search_curves(result), pictures / "curves.png")
    tracker.add_artifacts("", pictures)
    for trial in result.ranking[:TOP]:
        own = folder / "trials" / trial.trial / "evidence"
        figures.save(figures.trial_curves(trial), own / "curves.png")
        if trial is result.best:
            _best_evidence(result, own)
            tracker.add_artifacts(trial.trial, folder / "trials" / trial.trial / f"epoch-{trial.best_epoch:04d}", "checkpoint")
        tracker.add_artifacts(trial.trial, own)


def _best_evidence(result: SearchResult, own: Path) -> None:
    best, test = result.best, result.tested.get("test")
    assert best is not None
    (own / "config.json").write_text(json.dumps(best.config, indent=1))
    if test:
        (own / "test.json").write_text(json.dumps(test, indent=1))
        figures.save(figures.confusion(test), own / "test_confusion.png")
        figures.save(figures.roc(test), own / "test_roc.png")


@contextmanager
def interruptible(driver: Driver, display: Display) -> Iterator[list[int]]:
    """A first Ctrl-C or SIGTERM lets each trial finish its epoch; a second Ctrl-C breaks off. Yields the signals that came."""
    came: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        came.append(number)
        if len(came) > 1:
            raise KeyboardInterrupt
        driver.close("interrupted", f"stopped by {signal.Signals(number).name}")
        display.say("stopping: each trial finishes its epoch (Ctrl-C again breaks off)")

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def exit_code(result: SearchResult, signals: list[int], troubles: list[str]) -> int:
    """What the process says at its end (see `search.cli`)."""
    if signals:
        return 128 + signals[0]
    if troubles:
        return NOT_READY
    return SOME_FAILED if result.failed or result.best is None else 0
