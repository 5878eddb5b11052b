"""Faults from outside. With this folder on a command's PYTHONPATH each of its processes wraps parts
of `trainables` as it imports them.

`FAULTS_DIR/truth.jsonl` gets a line for every epoch that was trained, before anybody else hears of
it, with FAULTS_SESSION where that is set. `FAULTS_DIR/plan.json` says what goes wrong, and is read
again at each epoch:

    {"faults": [{"do": "raise", "trial": "t0002", "epoch": 3, "once": true}, ...],
     "played": {"epoch_s": 0.0}}

A fault without `trial` or `epoch` means any. `do` is one of

    before an epoch    sleep (seconds), raise (message), memory_error, allocate (share
                       of the machine's memory that is then in use; until it is killed),
                       stop (SIGSTOP), spoil (file; then SIGKILL), hold (until the plan has it
                       no more)
    after an epoch     metric (name, value), kill (SIGKILL: trained and not yet saved)
    in a save          full (no space left on device), rot (file; cut off once it is saved)
    in an evaluation on the validation part    refuse (message), lose (SIGKILL), hang
    in an evaluation on the test part          lose_tested (SIGKILL)

With `played` no torch is imported: `played.py` stands for the training, its threads and the
evaluation. FAULTS_CLOCK_S sets the wall clock of every Python process so many seconds off.
"""

import errno
import hashlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import math
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

HERE = Path(__file__).parent
NOW = {"trial": "", "folder": ""}
HELD = []


def plan():
    """Return what goes wrong, as it stands now."""
    try:
        return json.loads((Path(os.environ["FAULTS_DIR"]) / "plan.json").read_text())
    except FileNotFoundError:
        return {}


def due(*kinds, epoch):
    """The faults of these kinds that strike now; one that strikes once leaves its mark first, which
    no other process can leave again.
    """
    for fault in plan().get("faults", []):
        if (
            fault["do"] in kinds
            and fault.get("trial", NOW["trial"]) == NOW["trial"]
            and fault.get("epoch", epoch) == epoch
        ):
            name = hashlib.sha256(json.dumps(fault, sort_keys=True).encode()).hexdigest()[:12]
            try:
                (Path(os.environ["FAULTS_DIR"]) / f"struck-{fault['do']}-{name}").touch(
                    exist_ok=not fault.get("once")
                )
            except FileExistsError:
                continue
            yield fault


def born():
    """When this process started, in the kernel's ticks: another with its pid has another."""
    return int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])


def tell(**facts):
    """One line of truth, on disk before this returns."""
    session = {"session": os.environ["FAULTS_SESSION"]} if "FAULTS_SESSION" in os.environ else {}
    line = (
        json.dumps(
            {
                "trial": NOW["trial"],
                "pid": os.getpid(),
                "born": born(),
                "time_ns": time.time_ns(),
                **session,
                **facts,
            }
        )
        + "\n"
    )
    descriptor = os.open(
        Path(os.environ["FAULTS_DIR"]) / "truth.jsonl",
        os.O_CREAT | os.O_APPEND | os.O_WRONLY,
        0o600,
    )
    os.write(descriptor, line.encode())
    os.fsync(descriptor)
    os.close(descriptor)


def die(number):
    """Send this process a signal, and let nothing happen before it arrives."""
    os.kill(os.getpid(), number)
    time.sleep(1)


def fill(share):
    """Take memory until so large a share of the machine's is in use: others may give some back."""
    facts = dict(line.split()[:2] for line in Path("/proc/meminfo").read_text().splitlines())
    total, free = int(facts["MemTotal:"]), int(facts["MemAvailable:"])
    if (wanted := int(free - (1 - share) * total)) > 0:
        HELD.append(b"x" * (wanted * 1024))


def before(epoch):
    """Let strike what is due before an epoch is trained."""
    for fault in due(
        "sleep", "raise", "memory_error", "allocate", "stop", "spoil", "hold", epoch=epoch
    ):
        match fault["do"]:
            case "sleep":
                time.sleep(fault["seconds"])
            case "raise":
                raise RuntimeError(fault["message"])
            case "memory_error":
                raise MemoryError(fault["message"])
            case "allocate":
                while True:  # to take it, and for Ray to look, is seconds on a busy machine
                    fill(fault["share"])
                    time.sleep(0.05)
            case "stop":
                die(signal.SIGSTOP)
            case "hold":
                while fault in plan().get("faults", []):
                    time.sleep(0.05)
            case "spoil":
                newest = max(Path(NOW["folder"]).glob("epoch-*"))
                os.truncate(newest / fault["file"], 10)
                die(signal.SIGKILL)


def after(metrics):
    """The truth about a trained epoch, and what strikes after it. Returns the metrics that the
    trial goes on with.
    """
    for fault in due("metric", epoch=metrics.epoch):
        metrics = replace(metrics, values={**metrics.values, fault["name"]: float(fault["value"])})
    diverged = bool(metrics.diverged) or not all(map(math.isfinite, metrics.values.values()))
    tell(epoch=metrics.epoch, diverged=diverged, val_accuracy=metrics.values["val/accuracy"])
    for _ in due("kill", epoch=metrics.epoch):
        die(signal.SIGKILL)
    return metrics


def wrap_loop(module):
    """Every epoch of a `Training` tells the truth; of several processes that train one trial, the
    first one does.
    """
    train = module.Training.next_epoch

    def next_epoch(self):
        if self.world.rank:
            return train(self)
        before(self.epoch + 1)
        return after(train(self))

    module.Training.next_epoch = next_epoch


def wrap_run(module):
    """Remember whose training this process runs."""
    run_trial = module.run_trial

    def wrapped(config, dataset, folder, *args, **options):
        NOW.update(trial=folder.name, folder=str(folder))
        yield from run_trial(config, dataset, folder, *args, **options)

    module.run_trial = wrapped


def wrap_checkpoint(module):
    """A disk that is full when a checkpoint is saved, or that forgets what was saved."""
    save = module.save

    def wrapped(folder, state, *args, **options):
        for _ in due("full", epoch=state["epoch"]):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
        path = save(folder, state, *args, **options)
        for fault in due("rot", epoch=state["epoch"]):
            os.truncate(path / fault["file"], 10)
        return path

    module.save = wrapped


def wrap_evaluate(module):
    """An evaluation that raises, that its process dies of, or that does not end."""
    evaluate = module.evaluate

    def wrapped(config, dataset, part, path, **options):
        kinds = ("lose", "refuse", "hang") if dataset.test is None else ("lose_tested",)
        NOW.update(trial=path.parent.name, folder=str(path.parent))
        for fault in due(*kinds, epoch=int(path.name[-4:])):
            if fault["do"] in ("lose", "lose_tested"):
                die(signal.SIGKILL)
            if fault["do"] == "hang":
                time.sleep(3600)
            raise RuntimeError(fault["message"])
        return evaluate(config, dataset, part, path, **options)

    module.evaluate = wrapped


WRAPPERS = {
    "trainables.training.loop": wrap_loop,
    "trainables.trial": wrap_run,
    "trainables.checkpoints.checkpoint": wrap_checkpoint,
    "trainables.evaluation.evaluate": wrap_evaluate,
}
PLAYED = {"trainables.trial", "trainables.training.process", "trainables.evaluation.evaluate"}


class Finder(importlib.abc.MetaPathFinder):
    """Finds the modules named above as Python does, and changes them once they are loaded."""

    def find_spec(self, name, path, target=None):
        """A spec for our modules, None for all others."""
        if name in PLAYED and "played" in plan():
            return importlib.util.spec_from_file_location(name, HERE / "played.py")
        if (
            name not in WRAPPERS
            or (spec := importlib.machinery.PathFinder.find_spec(name, path)) is None
        ):
            return None
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            WRAPPERS[name](module)

        spec.loader.exec_module = exec_module
        return spec


def set_clock(seconds):
    """A wall clock that is off."""
    now, now_ns = time.time, time.time_ns
    time.time = lambda: now() + seconds
    time.time_ns = lambda: now_ns() + seconds * 10**9


if "FAULTS_CLOCK_S" in os.environ:
    set_clock(int(os.environ["FAULTS_CLOCK_S"]))
if "FAULTS_DIR" in os.environ:
    sys.meta_path.insert(0, Finder())
