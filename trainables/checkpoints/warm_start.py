"""Warm starts: a trial begins with what another has trained.

The other's checkpoints are brought into the trial's folder, and it goes on from there. These are
two checkpoints, or one that is both: the newest that is not beyond the trial's own end, and the
best until there. `begun.json` beside them says which training they are the beginning of; it is
written before the first of them is there.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from trainables.checkpoints import checkpoint
from trainables.checkpoints.lineage import WarmStartSource, is_own_beginning
from trainables.config import TrialConfig
from trainables.disk import sync
from trainables.errors import ConfigError
from trainables.messages import WarmStart

BEGUN = "begun.json"
BROUGHT = ".brought"
"""The prefix of the folder, beside the checkpoints, for what an attempt has brought.

Its content is not known to be whole yet.
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
    """Bring the longest whole beginning into a trial's folder, if it is longer than what is there.

    Otherwise nothing changes.

    Args:
        beginnings: trials that have trained the beginning of this one.
        folder: the trial's own.
        config: the trial.
        beat: called before each try, which takes a while where checkpoints are large.
        attempt: the number of the attempt that brings; each has a folder of its own for what it
            brings.
        still_ours: raises where a newer attempt has begun meanwhile; called before anything is put
            in its place.

    Returns:
        The warm start, and what is wrong with longer beginnings, a line each. If the trial began
            with none: None, and what is wrong with all.
    """
    brought = folder / f"{BROUGHT}-{attempt}"
    own, history = _own(folder)
    wrong: list[str] = []
    absent: list[str] = []
    try:
        for epoch, beginning in _longest_first(beginnings, config, absent):
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
                    f"{beginning}: {checkpoint.name(epoch)} cannot be brought here "
                    f"({error.strerror or error})"
                )
                continue
            begun = WarmStart(beginning.search, beginning.trial, epoch)
            still_ours()
            checkpoint.write_whole(folder / BEGUN, json.dumps(vars(begun)))
            _put_in_place(brought, names, still_ours)
            return begun, wrong
    finally:
        shutil.rmtree(brought, ignore_errors=True)
    return None, absent + wrong


def _put_in_place(brought: Path, names: Sequence[str], still_ours: Callable[[], object]) -> None:
    """Make what was brought the trial's own, such that it outlives a power cut."""
    for path in brought.rglob("*"):
        sync(path)
    for name in names:
        still_ours()
        shutil.rmtree(brought.parent / name, ignore_errors=True)
        (brought / name).rename(brought.parent / name)
    sync(brought.parent)


def _longest_first(
    beginnings: Sequence[WarmStartSource], config: TrialConfig, absent: list[str]
) -> Iterator[tuple[int, WarmStartSource]]:
    """Yield the checkpoints from which the trial can go on, latest epoch first.

    `absent` gets a line for each beginning that has none.
    """
    found: list[tuple[int, WarmStartSource]] = []
    for beginning in beginnings:
        try:
            epochs = [
                epoch
                for name in _names(beginning)
                if 0 < (epoch := _epoch(name)) <= min(config.epochs, beginning.epoch)
            ]
        except OSError as error:
            absent.append(
                f"{beginning}: its checkpoints cannot be listed ({error.strerror or error})"
            )
            continue
        if not epochs:
            absent.append(
                f"{beginning}: no checkpoint up to epoch "
                f"{min(config.epochs, beginning.epoch)} is there"
            )
        found += [(epoch, beginning) for epoch in epochs]
    yield from sorted(found, key=lambda one: -one[0])


def _names(beginning: WarmStartSource) -> list[str]:
    if beginning.mirror is not None:
        return beginning.mirror.names()
    return [path.name for path in checkpoint.saved(Path(beginning.folder))]


def _own(folder: Path) -> tuple[int, dict[str, dict[str, float]]]:
    """Return the epoch that the trial has reached by itself, and its metrics until there.

    The metrics are those in the newest checkpoint that can be read, if there is one.
    """
    paths = checkpoint.saved(folder)
    for path in reversed(paths):
        with suppress(checkpoint.CheckpointError, KeyError, TypeError, ValueError):
            return _epoch(paths[-1].name), dict(checkpoint.about(path)["history"])
    return max((_epoch(path.name) for path in paths), default=0), {}


def _has_same_metrics(
    history: dict[str, dict[str, float]], own: dict[str, dict[str, float]]
) -> bool:
    """Return whether the epochs that the trial has trained itself came out the same."""
    return all(
        _values(history[epoch]) == _values(metrics)
        for epoch, metrics in own.items()
        if epoch in history
    )


def _values(metrics: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if not name.startswith("time/")}


def _bring(
    beginning: WarmStartSource,
    epoch: int,
    place: Path,
    config: TrialConfig,
    own: dict[str, dict[str, float]],
) -> list[str]:
    """Bring the checkpoint of this epoch, and the best one until then, into a place of their own.

    Return their names, that of this epoch last.

    Raises:
        CheckpointError: one is damaged, not there any more, or of another training.
    """
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    last = checkpoint.name(epoch)
    _copy(beginning, last, place)
    about = checkpoint.about(place / last)
    try:
        is_ours = is_own_beginning(TrialConfig.from_dict(about["config"]), epoch, config)
        best = checkpoint.name(int(about["best_epoch"]))
        has_same_metrics = _has_same_metrics(about["history"], own)
    except (
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        OverflowError,
        RecursionError,
        ConfigError,
    ) as error:
        raise checkpoint.CheckpointError(f"{last} is of another version ({error})") from error
    if not is_ours:
        raise checkpoint.CheckpointError(f"{last} is of another configuration")
    if not has_same_metrics:
        raise checkpoint.CheckpointError(
            f"{last} has other values for the first epochs than were trained here"
        )
    if best == last:
        return [last]
    _copy(beginning, best, place)
    checkpoint.verify(place / best)
    return [best, last]


def _copy(beginning: WarmStartSource, name: str, place: Path) -> None:
    """Copy one checkpoint.

    On one disk the copy takes no space of its own: its files are links, which is safe because
    nobody writes into a checkpoint that is there.
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
    except OSError:  # another disk, or one that knows no links
        shutil.copy2(source, target)


def _epoch(name: str) -> int:
    number = name.removeprefix("epoch-")
    return int(number) if number.isdecimal() and number.isascii() else 0
