"""Warm starts: a trial reuses the epochs that another trial has trained.

At most two checkpoints of the other trial are copied into the trial's folder. The first is the
newest one whose epoch is not above the trial's own number of epochs; the trial continues from it.
The second is the best one up to that epoch, if this is a different checkpoint. `begun.json` in the
trial's folder names the other trial; it is written before the first checkpoint is moved there.
"""

import json
import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from trainables.checkpoints import checkpoint
from trainables.config import TrialConfig, is_own_beginning
from trainables.disk import sync, write_whole
from trainables.messages import WarmStart, WarmStartSource

WARM_START_FILE = "begun.json"
BROUGHT = ".brought"
"""The prefix of a temporary folder in the trial's folder.

An attempt copies checkpoints to it, and verifies them there.
"""


def import_checkpoints(
    beginnings: Sequence[WarmStartSource],
    folder: Path,
    config: TrialConfig,
    beat: Callable[[], None] | None = None,
    *,
    attempt: int = 1,
    still_ours: Callable[[], object] = lambda: None,
) -> tuple[WarmStart | None, list[str]]:
    """Copy checkpoints of another trial into `folder`, so that this trial can continue from them.

    The checkpoints of all trials in `beginnings` are tried, latest epoch first, until one is
    undamaged. A checkpoint is used only if its epoch is later than the trial's own latest one.

    Args:
        beginnings: trials that have trained the first epochs of this one.
        folder: the trial's folder.
        config: the trial's config.
        beat: called before each attempt to copy, which takes a while if checkpoints are large.
        attempt: the number of this attempt, which has its own temporary folder.
        still_ours: called before anything is moved to its final place; raises if a newer attempt
            has started in the meantime.

    Returns:
        The warm start, or None if nothing was copied; and messages that state why other
            checkpoints could not be used.
    """
    brought = folder / f"{BROUGHT}-{attempt}"
    own, history = _own_progress(folder)
    candidates, absent = _candidates(beginnings, config)
    wrong: list[str] = []
    try:
        for epoch, beginning in candidates:
            if epoch <= own:
                break
            if beat is not None:
                beat()
            try:
                names = _bring(beginning, epoch, brought, config, history)
            except checkpoint.CheckpointError as error:
                wrong.append(f"{beginning}: {error}")
                continue
            except OSError as error:
                wrong.append(
                    f"{beginning}: {checkpoint.name(epoch)} cannot be copied "
                    f"({error.strerror or error})"
                )
                continue
            warm_start = WarmStart(beginning.search, beginning.trial, epoch)
            still_ours()
            write_whole(folder / WARM_START_FILE, json.dumps(vars(warm_start)))
            _put_in_place(brought, names, still_ours)
            return warm_start, wrong
    finally:
        shutil.rmtree(brought, ignore_errors=True)
    return None, absent + wrong


def _put_in_place(brought: Path, names: Sequence[str], still_ours: Callable[[], object]) -> None:
    """Move the copied checkpoints into the trial's folder, synced to survive a power loss."""
    for path in brought.rglob("*"):
        sync(path)
    for name in names:
        still_ours()
        shutil.rmtree(brought.parent / name, ignore_errors=True)
        (brought / name).rename(brought.parent / name)
    sync(brought.parent)


def _candidates(
    beginnings: Sequence[WarmStartSource], config: TrialConfig
) -> tuple[list[tuple[int, WarmStartSource]], list[str]]:
    """Return the epoch and source of each checkpoint that the trial can use, latest epoch first.

    The second result has a message for each source without such a checkpoint.
    """
    candidates: list[tuple[int, WarmStartSource]] = []
    absent: list[str] = []
    for beginning in beginnings:
        last = min(config.epochs, beginning.epoch)
        try:
            if beginning.mirror is not None:
                names = beginning.mirror.names()
            else:
                paths = checkpoint.list_checkpoints(Path(beginning.folder))
                names = [path.name for path in paths]
        except OSError as error:
            absent.append(
                f"{beginning}: its checkpoints cannot be listed ({error.strerror or error})"
            )
            continue
        epochs = [epoch for epoch in map(checkpoint.epoch_of, names) if 0 < epoch <= last]
        if not epochs:
            absent.append(f"{beginning}: there is no checkpoint up to epoch {last}")
        candidates += [(epoch, beginning) for epoch in epochs]
    return sorted(candidates, key=lambda candidate: -candidate[0]), absent


def _own_progress(folder: Path) -> tuple[int, dict[str, dict[str, float]]]:
    """Return the epoch that the trial itself has reached, and its metrics by epoch.

    The metrics are read from the newest undamaged checkpoint; they are empty if there is none.
    """
    paths = checkpoint.list_checkpoints(folder)
    newest = checkpoint.epoch_of(paths[-1].name) if paths else 0
    for path in reversed(paths):
        with suppress(checkpoint.CheckpointError, KeyError, TypeError, ValueError):
            return newest, dict(checkpoint.read_extra(path)["history"])
    return newest, {}


def _bring(
    beginning: WarmStartSource,
    epoch: int,
    place: Path,
    config: TrialConfig,
    own: dict[str, dict[str, float]],
) -> list[str]:
    """Copy the checkpoint of this epoch, and the best one up to it, into `place`; verify both.

    Returns:
        The names of the copied checkpoints; the last is that of this epoch.

    Raises:
        CheckpointError: a checkpoint is damaged or missing, or belongs to another training.
    """
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    last = checkpoint.name(epoch)
    _copy(beginning, last, place)
    extra = checkpoint.read_extra(place / last)
    try:
        is_ours = is_own_beginning(TrialConfig.from_dict(extra["config"]), epoch, config)
        best = checkpoint.name(int(extra["best_epoch"]))
        history = extra["history"]
        has_same_metrics = all(
            _without_times(history[number]) == _without_times(metrics)
            for number, metrics in own.items()
            if number in history
        )
    # A checkpoint of another version may contain anything.
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        raise checkpoint.CheckpointError(
            f"{last} was written by another version of this program ({error})"
        ) from error
    if not is_ours:
        raise checkpoint.CheckpointError(f"{last} belongs to another configuration")
    if not has_same_metrics:
        raise checkpoint.CheckpointError(
            f"the metrics of the first epochs in {last} differ from the metrics of this trial"
        )
    if best == last:
        return [last]
    _copy(beginning, best, place)
    checkpoint.verify(place / best)
    return [best, last]


def _without_times(metrics: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if not name.startswith("time/")}


def _copy(beginning: WarmStartSource, name: str, place: Path) -> None:
    """Copy one checkpoint.

    On the same disk the copy takes no space, because its files are hard links. This is safe because
    complete checkpoints never change.
    """
    if beginning.mirror is not None:
        beginning.mirror.pull(place, only=name)
        return
    try:
        shutil.copytree(
            Path(beginning.folder) / name, place / name, copy_function=_link, symlinks=True
        )
    except shutil.Error as error:
        raise OSError(str(error.args[0][0][2])) from error


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # the target is on another disk, or the disk has no hard links
        shutil.copy2(source, target)
