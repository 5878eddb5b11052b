"""A trial from its config to its reports: the training loop, the checkpoints, and the outcome.

Every trial is run by `run_trial`. An interrupted trial continues from its newest valid checkpoint.
Besides checkpoints, a trial's folder has two files: `attempt` names the attempt that may write
there, and the process that trains keeps writing `heartbeat`.
"""

import json
import re
import shutil
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import torch

from trainables.catalog.models import MODELS
from trainables.checkpoints import checkpoint
from trainables.checkpoints.heartbeat import Heartbeat
from trainables.checkpoints.remembered import OUTPUT_CACHE
from trainables.checkpoints.warm_start import WARM_START_FILE, import_checkpoints
from trainables.config import TrialConfig, is_own_beginning
from trainables.datasets.arrays import Dataset
from trainables.disk import write_whole
from trainables.errors import ConfigError
from trainables.fusion.rounds import FusionRounds
from trainables.messages import EpochMetrics, Report, TrialRequest, WarmStart
from trainables.training.cross_validation import Folds
from trainables.training.loop import Training, Within
from trainables.training.world import World
from trainables.values import State

if TYPE_CHECKING:
    from trainables.baselines.base import Fitting

    AnyTraining = Training | Fitting | Folds

NEWEST_KEPT = 2
"""The number of newest checkpoints that are kept, so that a damaged one has a predecessor."""
WITHIN = "within"
"""The folder of the checkpoint within an epoch, in the trial's folder."""
WITHIN_S, WITHIN_SHARE = 60.0, 0.01
"""The least seconds between two saved states within an epoch, and the share of the time that saving
them may take.
"""
ATTEMPT = "attempt"
LEAVINGS = re.compile(r"\.(?:epoch-\d+|brought)(?:[.-](\d+))?(?:\.partial)?")
"""Matches the names of temporary folders; earlier versions did not add the attempt's number."""
RETRY_S = (1, 2, 5, 10)
"""The seconds to wait before each retry of a failed write; the last value is repeated."""


SHARED = "history", "folds", "has_checkpoints", "damaged", "warm_start"
"""The facts about earlier attempts that the first process sends to the others."""


class Superseded(RuntimeError):
    """A newer attempt at the same trial has started, and now writes in its folder."""


def run_trial(
    config: TrialConfig,
    dataset: Dataset,
    folder: Path,
    request: TrialRequest = TrialRequest(),  # noqa: B008 - it is frozen
    *,
    device: str = "cpu",
    world: World | None = None,
    node: str = "",
    together: FusionRounds | None = None,
) -> Iterator[Report]:
    """Train a config; after each epoch, save a checkpoint in `folder` and yield a report.

    An epoch whose loss is too large or not finite ends the trial as diverged; it is not saved, and
    its report has no metrics. A baseline is fitted once, on the CPU, which counts as an epoch. With
    folds, one network or classifier is trained for each.

    The best and the two newest checkpoints are kept and, for each milestone, the checkpoint of its
    epoch and the best one up to that epoch. If a checkpoint cannot be written, the trial waits.
    With several processes, each yields reports; the first process saves checkpoints, and chooses
    the one from which all processes continue.

    Args:
        dataset: the data; a test set is not used.
        folder: the trial's folder.
        request: where this attempt continues, and which checkpoints it keeps for other trials.
        device: "cpu", "cuda", "cuda:1" ...
        world: the processes that train the trial together; None for this process only.
        node: an identifier of this machine, written to the heartbeat.
        together: the rounds in which threads of this process train several trials as one; this
            trial must have joined them under its folder's name.

    Raises:
        Superseded: a newer attempt has started.
    """
    world = world or World()
    beat = None
    if world.rank == 0:
        beat = Heartbeat(folder, attempt=request.attempt, node=node, mirror=request.mirror)
    keeper = TrialCheckpoints(folder, config, world, beat, request)
    if device != "cpu" and together is None:
        # Another process on the same GPU may need the memory that this process's last trial used.
        torch.cuda.empty_cache()
    training = _begin(config, dataset, device, world, beat)
    yield from keeper.claim()
    if (state := keeper.restore()) is not None:
        training.load_state(state)
    if together is None:
        keeper.continue_within(training)
    pending = [epoch for epoch in keeper.history if epoch > request.known or epoch == config.epochs]
    if keeper.has_checkpoints or request.beginnings:
        warm_start = keeper.new_warm_start(training.epoch)
        yield Report(training.epoch, restored=keeper.damaged, begun=warm_start, more=bool(pending))
    epochs = _epochs(training, together, folder.name)
    if request.measures and world.rank == 0:
        epochs = _with_measures(epochs, training, dataset, request.measures)
    reports = _reports(training, keeper, pending, epochs)
    if request.with_cost and world.rank == 0:
        reports = _with_cost(reports, training, dataset, folder, device)
    yield from reports


def _epochs(
    training: "AnyTraining", together: FusionRounds | None, trial: str
) -> Iterator[EpochMetrics]:
    """Train the remaining epochs; with `together`, networks are fused across trials."""
    if together is not None and isinstance(training, Training):
        return together.epochs(trial, training)
    if together is not None:
        # Baselines and folds are never fused; the other trials must not wait for this one.
        together.leave(trial)
    return training.epochs()


def _reports(
    training: "AnyTraining",
    keeper: "TrialCheckpoints",
    pending: list[int],
    epochs: Iterator[EpochMetrics],
) -> Iterator[Report]:
    """Yield reports of the `pending` epochs, which are trained already; then train the others."""
    for epoch in pending:
        yield _report_of(
            EpochMetrics(epoch, keeper.history[epoch], keeper.folds.get(epoch, [])),
            training,
            more=epoch != pending[-1],
        )
    for metrics in epochs:
        if metrics.diverged:
            keeper.remove_within()
            yield Report(metrics.epoch, outcome="diverged", reason=metrics.diverged)
            return
        yield from keeper.keep(training, metrics)
        yield _report_of(metrics, training)


def _report_of(metrics: EpochMetrics, training: "AnyTraining", *, more: bool = False) -> Report:
    """Build the report of an epoch; that of the last epoch has the outcome `completed`."""
    outcome = "completed" if metrics.epoch == training.config.epochs else None
    return Report(
        metrics.epoch,
        metrics.values,
        outcome=outcome,
        precision=training.precision,
        folds=metrics.folds,
        more=more,
    )


def _with_cost(
    reports: Iterator[Report], training: "AnyTraining", dataset: Dataset, folder: Path, device: str
) -> Iterator[Report]:
    """Yield the reports, and add the cost of using the classifier to the first one with metrics.

    The cost is measured on the checkpoint that was just saved. If that fails, the report states the
    reason, and training continues.
    """
    from trainables.evaluation.cost import cost  # imported here because few trials need it

    for report in reports:
        if report.metrics:
            try:
                measured = cost(
                    training.config,
                    dataset,
                    folder / checkpoint.name(training.epoch),
                    device=device,
                )
            # Networks may raise any error here, and none of them is a reason to stop the trial.
            except Exception as error:  # noqa: BLE001
                measured = {"unknown": f"{type(error).__name__}: {error}"}
            yield replace(report, cost=measured)
            break
        yield report
    yield from reports


def _with_measures(
    epochs: Iterator[EpochMetrics],
    training: "AnyTraining",
    dataset: Dataset,
    measures: Sequence[str],
) -> Iterator[EpochMetrics]:
    """Yield the epochs, and add further measurements, whose time counts as part of the epoch.

    They are added before the checkpoint is saved, so that a trial that continues from it has them.

    Raises:
        ValueError: with folds, there are no images that no network was trained on.
    """
    # Imported here because SciPy's filters take time, and few trials need them.
    from trainables.robustness.measure import EpochMeasurements

    if isinstance(training, Folds):
        raise ValueError(f"{', '.join(measures)} cannot be measured with folds")
    measurements = EpochMeasurements(measures, training.config, dataset)
    for metrics in epochs:
        if metrics.diverged:
            yield metrics
            continue
        start = time.perf_counter()
        values = metrics.values | measurements.measure(training)
        values["time/epoch_s"] += time.perf_counter() - start
        yield replace(metrics, values=values)


def _begin(
    config: TrialConfig, dataset: Dataset, device: str, world: World, beat: Heartbeat | None
) -> "AnyTraining":
    """Build the training of a network or baseline; with folds, the joint training of all folds."""

    def begin(data: Dataset) -> "Training | Fitting":
        if not config.model.is_baseline:
            if (extension := MODELS[config.model.name].extension) is not None:
                data = extension(config).added_to(data, beat)
            return Training(config, data, device=device, world=world, on_step=beat)
        # Imported here because scikit-image and scikit-learn take a second.
        from trainables.baselines.base import Fitting

        return Fitting(config, data, on_step=beat)

    has_folds = config.data.folds is not None or dataset.folds is not None
    training: AnyTraining = Folds(config, dataset, begin) if has_folds else begin(dataset)
    if beat is not None:
        # A weak reference, so that the memory of the training is free as soon as it ends.
        referred = weakref.ref(training)
        beat.epochs_done = lambda: getattr(referred(), "epochs_done", 0.0)
    return training


class TrialCheckpoints:
    """Saves the checkpoints of this attempt at a trial, and restores those of earlier ones."""

    def __init__(
        self,
        folder: Path,
        config: TrialConfig,
        world: World,
        beat: Heartbeat | None,
        request: TrialRequest,
    ) -> None:
        self.folder, self.config, self.world, self.beat = folder, config, world, beat
        self.request, self.mirror = request, request.mirror
        self.history: dict[int, dict[str, float]] = {}
        self.folds: dict[int, list[dict[str, float]]] = {}
        self.has_checkpoints, self.damaged = False, list[str]()
        self.unfit = set[int]()
        """Epochs whose checkpoints existed when this attempt started, but cannot be used."""
        self.warm_start: WarmStart | None = None
        self.claimed = False
        self.saved_s = time.monotonic()
        """The time of the last checkpoint, or of the begin of this attempt."""
        self.within_s = WITHIN_S
        """The seconds after which the state within an epoch is saved again."""
        self.mark = f"{request.attempt} {uuid4().hex[:8]}"
        """The content of the file `attempt` while this attempt may write.

        The number alone does not identify an attempt: a driver that is killed before it has
        recorded an attempt assigns the same number again.
        """

    def claim(self) -> Iterator[Report]:
        """Claim the trial's folder for this attempt, and fetch the checkpoints to continue from.

        These are the checkpoints of earlier attempts or, if a trial in `request.beginnings` has
        trained more epochs, those of the trial with the most. A report is yielded after each
        failure of the storage.

        Raises:
            Superseded: a newer attempt has started.
        """
        yield from self._retry_until_written(0, self._claim)
        if self.mirror is not None:
            yield from self._retry_until_written(0, partial(self.mirror.pull, self.folder))
        if self.request.beginnings or self.request.attempt > 1:
            yield from self._retry_until_written(0, self._adopt)

    def _adopt(self) -> None:
        self._check_claim()
        has_own = bool(checkpoint.list_checkpoints(self.folder))
        warm_start, wrong = import_checkpoints(
            self.request.beginnings,
            self.folder,
            self.config,
            self.beat,
            attempt=self.request.attempt,
            still_ours=self._check_claim,
        )
        self.damaged += [line for line in wrong if line not in self.damaged]
        if self.mirror is not None and warm_start is not None:
            self._check_claim()
            self.mirror.write(WARM_START_FILE, json.dumps(vars(warm_start)))
        if self.mirror is not None and self.request.beginnings:
            names = {path.name for path in checkpoint.list_checkpoints(self.folder)}
            self.mirror.push(self.folder, names, self._check_claim)
        self.warm_start = warm_start or (
            WarmStart.parse(self._read(WARM_START_FILE)) if has_own else None
        )

    def _read(self, name: str) -> str | None:
        """Read a small file of the trial's folder, or of its mirror; None if it is missing."""
        if self.mirror is not None:
            return self.mirror.read(name)
        try:
            return (self.folder / name).read_text()
        except FileNotFoundError:
            return None

    def new_warm_start(self, epoch: int) -> WarmStart | None:
        """Return the warm start to report for a trial that continues after `epoch`.

        None if the trial has no warm start, or if the driver already has the reports of all its
        epochs.
        """
        if self.warm_start is None:
            return None
        reused = min(epoch, self.warm_start.epoch)
        return replace(self.warm_start, epoch=reused) if reused > self.request.known else None

    def restore(self) -> State | None:
        """Return the state to continue from, or None to start from the beginning.

        This is the state of the newest valid checkpoint of this config. Only the first process
        reads it, and sends it to the others: if each process read it, a process whose disk fails or
        lags would continue from a different epoch.
        """
        state = self._newest_whole() if self.world.rank == 0 else None
        own_facts = {name: getattr(self, name) for name in SHARED}
        state, facts = self.world.from_first((state, own_facts))
        vars(self).update(facts)
        return state

    def _newest_whole(self) -> State | None:
        for path in reversed(checkpoint.list_checkpoints(self.folder)):
            self.has_checkpoints = True
            try:
                state = checkpoint.load(path)
                extra = state["extra"]
                config = TrialConfig.from_dict(extra.get("config", {}))
                if is_own_beginning(config, state["epoch"], self.config):
                    self.history = {int(epoch): own for epoch, own in extra["history"].items()}
                    self.folds = {int(epoch): own for epoch, own in extra.get("folds", {}).items()}
                    return state
                self.damaged.append(f"{path.name} belongs to another configuration")
            except (checkpoint.CheckpointError, ConfigError) as error:
                self.damaged.append(str(error))
            self.unfit.add(checkpoint.epoch_of(path.name))
        return None

    def continue_within(self, training: "AnyTraining") -> None:
        """Let a training save long epochs on the way, and continue within the one that was begun.

        This applies to a network that is trained alone, by one process, into a folder and not a
        bucket.
        """
        if self.mirror is not None or not isinstance(training, Training):
            return
        if training.world.size > 1:
            return
        if (place := self._restore_within(training.epoch + 1)) is not None:
            training.load_within(*place)
        training.pause = self.keep_within

    def keep_within(self, state: Callable[[], tuple[State, Within]]) -> None:
        """Save the state within an epoch, if enough time has passed since anything was saved.

        So of an epoch that takes hours, about a minute is lost, or more where saving is slow. If
        the files cannot be written, only this is lost: the epoch itself waits until it is saved.

        Raises:
            Superseded: a newer attempt has started.
        """
        start = time.monotonic()
        if start - self.saved_s < self.within_s:
            return
        current, within = state()
        extra = {"config": self.config.to_dict(), "within": asdict(within)}
        with suppress(OSError):
            self._check_claim()
            checkpoint.save(
                self.folder / WITHIN,
                current,
                extra,
                attempt=self.request.attempt,
                still_ours=self._check_claim,
            )
        self.saved_s = time.monotonic()
        self.within_s = max(WITHIN_S, (self.saved_s - start) / WITHIN_SHARE)

    def remove_within(self) -> None:
        """Remove the state within an epoch, which has ended."""
        if self.world.rank == 0:
            shutil.rmtree(self.folder / WITHIN, ignore_errors=True)

    def _restore_within(self, epoch: int) -> tuple[State, Within] | None:
        """Return the state within this epoch that an earlier attempt saved; None if there is none.

        A state that is damaged, or of another config, is as none.
        """
        try:
            state = checkpoint.load(self.folder / WITHIN / checkpoint.name(epoch))
            config = TrialConfig.from_dict(state["extra"]["config"])
            within = Within(**state["extra"]["within"])
        except (checkpoint.CheckpointError, ConfigError, KeyError, TypeError):
            return None
        return (state, within) if is_own_beginning(config, epoch, self.config) else None

    def keep(self, training: "AnyTraining", metrics: EpochMetrics) -> Iterator[Report]:
        """Save a checkpoint of this epoch, and remove those that are no longer needed.

        Writing is repeated until it succeeds; a report is yielded after each failure.

        Raises:
            Superseded: a newer attempt has started.
        """
        self.history[metrics.epoch] = metrics.values
        self.folds |= {metrics.epoch: metrics.folds} if metrics.folds else {}
        best = self._best_until(metrics.epoch)
        extra = {
            "metrics": metrics.values,
            "best_epoch": best,
            "history": self.history,
            "config": self.config.to_dict(),
        }
        extra |= {"folds": self.folds} if self.folds else {}

        def save() -> None:
            self._check_claim()
            checkpoint.save(
                self.folder,
                training.state(),
                extra,
                attempt=self.request.attempt,
                still_ours=self._check_claim,
            )
            self.saved_s = time.monotonic()
            self.remove_within()
            self.unfit.discard(metrics.epoch)
            passed = [
                milestone for milestone in self.request.milestones if milestone <= metrics.epoch
            ]
            kept_epochs = {
                best,
                *range(metrics.epoch - NEWEST_KEPT + 1, metrics.epoch + 1),
                *passed,
                *map(self._best_until, passed),
            }
            # Checkpoints of later epochs are not removed, because another attempt wrote them.
            checkpoint.remove(
                self.folder,
                ({*range(metrics.epoch)} | self.unfit) - kept_epochs,
                still_ours=self._check_claim,
            )
            if self.mirror is not None:
                if self.beat is not None:
                    self.beat()
                names = {checkpoint.name(epoch) for epoch in kept_epochs}
                self.mirror.push(self.folder, names, self._check_claim)

        yield from self._retry_until_written(metrics.epoch, save)
        if (
            isinstance(training, Training)
            and (outputs := training.validated) is not None
            and outputs.epoch == metrics.epoch == best
        ):
            OUTPUT_CACHE.keep(self.folder.name, self.folder / checkpoint.name(best), outputs)
            training.validated = None

    def _best_until(self, last: int) -> int:
        return max(
            (epoch for epoch in self.history if epoch <= last),
            key=lambda epoch: (*self.config.ranked_by.rank(self.history[epoch]), -epoch),
        )

    def _retry_until_written(self, epoch: int, write: Callable[[], object]) -> Iterator[Report]:
        """Call `write` in the first process, repeatedly until it succeeds.

        Until then, all processes report that they wait, and the first one sends heartbeats, so that
        the trial is not considered dead.
        """
        for tries in count():
            reason = ""
            if self.world.rank == 0:
                try:
                    write()
                except OSError as error:
                    self.remove_within()  # perhaps it takes the room that the checkpoint needs
                    reason = f"{self.folder} cannot be written ({error.strerror or error})"
            has_failed = torch.tensor([float(bool(reason))], device=self.world.device)
            if not self.world.sum(has_failed) > 0:
                return
            if self.beat is not None:
                self.beat()
            yield Report(
                epoch, waiting=reason or "another process is still waiting for the storage"
            )
            time.sleep(RETRY_S[min(tries, len(RETRY_S) - 1)])

    def _claim(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._check_claim()
        self._write_claim()
        self.claimed = True
        for leaving in self.folder.glob(".*"):
            # An earlier attempt that is still writing there gets an OSError. A newer attempt may
            # have started while this one was stalled; its files are not touched.
            match = LEAVINGS.fullmatch(leaving.name)
            if match and int(match[1] or 0) <= self.request.attempt:
                shutil.rmtree(leaving, ignore_errors=True)

    def _write_claim(self) -> None:
        if self.mirror is not None:
            self.mirror.write(ATTEMPT, self.mark)
        else:
            write_whole(self.folder / ATTEMPT, self.mark)

    def _check_claim(self) -> None:
        """Check that this attempt still holds the claim to the folder.

        An older attempt that was stalled while it claimed the folder may have overwritten our
        claim, which is then written again.

        Raises:
            Superseded: a newer attempt, or a later process with the same number, has the claim.
        """
        holder, attempt = self._read(ATTEMPT) or "", self.request.attempt
        # The number comes first; earlier versions wrote only the number.
        number = holder.partition(" ")[0].strip()
        newest = int(number) if number.isdecimal() else 0
        if newest > attempt:
            raise Superseded(
                f"attempt {newest} of this trial has started, so attempt {attempt} writes "
                "nothing more"
            )
        if self.claimed and holder != self.mark:
            if newest == attempt:
                raise Superseded(
                    f"attempt {newest} of this trial was started again, so this process writes "
                    "nothing more"
                )
            self._write_claim()
