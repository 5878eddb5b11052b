"""One trial from its config to its reports: the loop, its checkpoints, and how it ended.

Every way to run a trial goes through here. A trial that was cut off goes on from its newest
checkpoint that verifies. Beside its checkpoints, a trial's folder holds `attempt`, the number of
the attempt that may write there, and `heartbeat`, touched at every step by the process that trains.
"""

import json
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import torch

from trainables.catalog.ranking import rank
from trainables.checkpoints import checkpoint
from trainables.checkpoints.heartbeat import Heartbeat
from trainables.checkpoints.lineage import WarmStartSource, begun_of, is_own_beginning
from trainables.checkpoints.remembered import MEMORY
from trainables.checkpoints.warm_start import BEGUN, BROUGHT, import_checkpoints
from trainables.config import TrialConfig
from trainables.datasets.arrays import Dataset
from trainables.errors import ConfigError
from trainables.fusion.rounds import FusionRounds
from trainables.messages import EpochMetrics, Report, WarmStart
from trainables.request import TrialRequest
from trainables.training.cross_validation import Folds
from trainables.training.loop import Training
from trainables.training.world import World
from trainables.values import State

if TYPE_CHECKING:
    from trainables.baselines.fitting import Fitting

    Trained = Training | Fitting | Folds

NEWEST_KEPT = 2
"""The newest checkpoints that are kept: one that is damaged has another before it."""
ATTEMPT = "attempt"
HOLDER = re.compile(r"[0-9]{1,9}(?= |$)")
"""The number in the file `attempt`."""
LEAVINGS = re.compile(
    rf"\.epoch-\d+(?:\.(?P<attempt>\d+))?{re.escape(checkpoint.PARTIAL)}"
    rf"|{re.escape(BROUGHT)}(?:-(?P<bringer>\d+))?"
)
"""Names of the half-written files of an attempt; earlier versions left out its number."""
RETRY_S = (1, 2, 5, 10)
"""The seconds to wait before each new try to save; the last holds for all that follow."""


class Superseded(RuntimeError):
    """A newer attempt at the same trial writes in its folder now."""


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
    """Train a config; after each epoch save a checkpoint under `folder` and yield a report.

    The checkpoint is on disk before the report is out.

    An epoch whose loss is not finite, or has blown up, ends the trial as diverged; it is not saved
    and has no metrics. A baseline is fitted, on the CPU, in what counts as its one epoch. With
    folds, all of this is of one network, or classifier, a fold. Kept are the checkpoint of the best
    epoch and the newest two, and of each milestone its own and the best until there. With several
    processes each yields; the first one saves, and decides from which checkpoint all go on. A disk
    that is full or refuses is waited for.

    Args:
        config: the trial.
        dataset: sealed or not; the test part is not looked at.
        folder: the trial's own.
        request: from where this attempt goes on, and what it leaves for others.
        device: "cpu", "cuda", "cuda:1" ...
        world: the processes that train it together.
        node: an identifier of this machine, for who watches the heartbeat.
        together: where other threads of this process train other trials; this one has joined under
            its folder's name.

    Raises:
        Superseded: a later attempt has begun.
    """
    world = world or World()
    beat = _heartbeat(folder, request, node) if world.rank == 0 else None
    keeper = TrialCheckpoints(folder, config, world, beat, request)
    if device != "cpu" and together is None:
        # What the process's last trial held, a neighbour on the card may need.
        torch.cuda.empty_cache()
    training = _begin(config, dataset, device, world, beat)
    yield from keeper.claim(request.beginnings)
    if (state := keeper.restore()) is not None:
        training.load_state(state)
    unheard = [epoch for epoch in keeper.history if epoch > request.known or epoch == config.epochs]
    if keeper.found or request.beginnings:
        yield Report(
            training.epoch,
            restored=keeper.damaged,
            begun=keeper.news(training.epoch, request.known),
            more=bool(unheard),
        )
    reports = _reports(training, keeper, unheard, _epochs(training, together, folder.name))
    yield from (
        _with_cost(reports, training, dataset, folder, device)
        if request.with_cost and world.rank == 0
        else reports
    )


def _heartbeat(folder: Path, request: TrialRequest, node: str) -> Heartbeat:
    return Heartbeat(folder, attempt=request.attempt, node=node, mirror=request.mirror)


def _reports(
    training: "Trained",
    keeper: "TrialCheckpoints",
    unheard: list[int],
    epochs: Iterator[EpochMetrics],
) -> Iterator[Report]:
    """Yield the reports of epochs trained earlier, then of those that are trained now and saved."""
    for epoch in unheard:
        yield _told(
            EpochMetrics(epoch, keeper.history[epoch], keeper.folds.get(epoch, [])),
            training,
            more=epoch != unheard[-1],
        )
    for trained in epochs:
        if trained.diverged:
            yield Report(trained.epoch, outcome="diverged", reason=trained.diverged)
            return
        yield from keeper.keep(training, trained)
        yield _told(trained, training)


def _told(trained: EpochMetrics, training: "Trained", *, more: bool = False) -> Report:
    """Return an epoch's report; that of the last epoch ends the trial."""
    outcome = "completed" if trained.epoch == training.config.epochs else None
    return Report(
        trained.epoch,
        trained.values,
        outcome=outcome,
        precision=training.precision,
        folds=trained.folds,
        more=more,
    )


def _with_cost(
    reports: Iterator[Report], training: "Trained", dataset: Dataset, folder: Path, device: str
) -> Iterator[Report]:
    """Yield the reports, with the classifier's cost of use in that of the first epoch.

    It is measured on the checkpoint as saved now. If it cannot be measured, the report says why,
    and training goes on without it.
    """
    from trainables.evaluation.cost import cost  # most trials do not need it

    for report in reports:
        if report.metrics:
            try:
                measured = cost(
                    training.config,
                    dataset,
                    folder / checkpoint.name(training.epoch),
                    device=device,
                )
            # Any network may fail in any way here; the trial is trained all the same.
            except Exception as error:  # noqa: BLE001
                measured = {"unknown": f"{type(error).__name__}: {error}"}
            yield replace(report, cost=measured)
            break
        yield report
    yield from reports


def _begin(
    config: TrialConfig, dataset: Dataset, device: str, world: World, beat: Heartbeat | None
) -> "Trained":
    """Build what is to be trained, or fitted: with folds, one of it for each."""
    if config.data.folds is not None or dataset.folds is not None:
        return Folds(
            config, dataset, partial(_begin_one, config, device=device, world=world, beat=beat)
        )
    return _begin_one(config, dataset, device=device, world=world, beat=beat)


def _begin_one(
    config: TrialConfig, dataset: Dataset, *, device: str, world: World, beat: Heartbeat | None
) -> "Training | Fitting":
    """Build one network to train, or one classifier to fit."""
    if not config.model.is_baseline:
        return Training(config, dataset, device=device, world=world, on_step=beat)
    # scikit-image and scikit-learn take a second to import, for which networks need not wait.
    from trainables.baselines.fitting import Fitting

    return Fitting(config, dataset, on_step=beat)


def _epochs(
    training: "Trained", together: FusionRounds | None, trial: str
) -> Iterator[EpochMetrics]:
    """Return the epochs that are left, fused with those of other trials where there are any."""
    if together is not None and isinstance(training, Training):
        return together.epochs(trial, training)
    if together is not None:
        # Baselines and folds are trained by themselves; the other trials' networks must not wait.
        together.leave(trial)
    return training.epochs()


class TrialCheckpoints:
    """The checkpoints of a trial: saves one attempt's and finds those of earlier ones."""

    def __init__(
        self,
        folder: Path,
        config: TrialConfig,
        world: World,
        beat: Heartbeat | None,
        request: TrialRequest,
    ) -> None:
        self.folder, self.config, self.world, self.beat = folder, config, world, beat
        self.attempt, self.mirror = request.attempt, request.mirror
        self.milestones = request.milestones
        self.history: dict[int, dict[str, float]] = {}
        self.folds: dict[int, list[dict[str, float]]] = {}
        self.found, self.damaged = False, list[str]()
        self.unfit = set[int]()
        """Epochs whose checkpoints were there when this attempt began, and cannot be used."""
        self.begun: WarmStart | None = None
        self.claimed = False
        self.mark = f"{request.attempt} {uuid4().hex[:8]}"
        """The content of the file `attempt` while this attempt may write.

        The number alone does not tell attempts apart: a driver that is killed before it has heard
        that an attempt runs gives its number out again.
        """

    def claim(self, beginnings: Sequence[WarmStartSource]) -> Iterator[Report]:
        """Make this the attempt that may write here, and fetch the checkpoints to go on from.

        These are what earlier attempts have kept, or those of the longest of `beginnings` where
        that is longer.
        """
        yield from self._insist(0, self._claim)
        if self.mirror is not None:
            yield from self._insist(0, partial(self.mirror.pull, self.folder))
        if beginnings or self.attempt > 1:
            yield from self._insist(0, partial(self._adopt, beginnings))

    def _adopt(self, beginnings: Sequence[WarmStartSource]) -> None:
        self._check_claim()
        is_known = bool(checkpoint.saved(self.folder))
        begun, wrong = import_checkpoints(
            beginnings,
            self.folder,
            self.config,
            self.beat,
            attempt=self.attempt,
            still_ours=self._check_claim,
        )
        self.damaged += [line for line in wrong if line not in self.damaged]
        if self.mirror is None:
            self.begun = begun or (begun_of(_text(self.folder / BEGUN)) if is_known else None)
            return
        if begun is not None:
            self._check_claim()
            self.mirror.write(BEGUN, json.dumps(vars(begun)))
        if beginnings:
            self.mirror.push(
                self.folder,
                {path.name for path in checkpoint.saved(self.folder)},
                self._check_claim,
            )
        self.begun = begun or (begun_of(self.mirror.read(BEGUN)) if is_known else None)

    def news(self, epoch: int, known: int) -> WarmStart | None:
        """Return the warm start of a trial that goes on after this epoch, as its report gives it.

        None if there is none, or if the search, which knows of the epochs until `known`, has heard
        of it.
        """
        if self.begun is None or min(epoch, self.begun.epoch) <= known:
            return None
        return replace(self.begun, epoch=min(epoch, self.begun.epoch))

    def restore(self) -> State | None:
        """Return the state to go on from, or None to begin anew.

        It is that of the newest checkpoint of this config that verifies. Only the first process
        reads it, and every process gets what that has found: if each read for itself, one whose
        disk fails or lags would go on from another epoch than the others.
        """
        state = self._newest_whole() if self.world.rank == 0 else None
        found = (state, self.history, self.folds, self.found, self.damaged, self.begun)
        state, self.history, self.folds, self.found, self.damaged, self.begun = (
            self.world.from_first(found)
        )
        return state

    def _newest_whole(self) -> State | None:
        for path in reversed(checkpoint.saved(self.folder)):
            self.found = True
            try:
                state = checkpoint.load(path)
                if is_own_beginning(
                    TrialConfig.from_dict(state["extra"].get("config", {})),
                    state["epoch"],
                    self.config,
                ):
                    self.history = {
                        int(epoch): metrics for epoch, metrics in state["extra"]["history"].items()
                    }
                    self.folds = {
                        int(epoch): each for epoch, each in state["extra"].get("folds", {}).items()
                    }
                    return state
                self.damaged.append(f"{path.name} is of another configuration")
            except (checkpoint.CheckpointError, ConfigError) as error:
                self.damaged.append(str(error))
            self.unfit.add(checkpoint.epoch_of(path))
        return None

    def keep(self, training: "Trained", trained: EpochMetrics) -> Iterator[Report]:
        """Save a checkpoint of this epoch, and remove those that are no longer needed."""
        self.history[trained.epoch] = trained.values
        self.folds |= {trained.epoch: trained.folds} if trained.folds else {}
        best = self._best_until(trained.epoch)
        extra = {
            "metrics": trained.values,
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
                attempt=self.attempt,
                still_ours=self._check_claim,
            )
            self.unfit.discard(trained.epoch)
            passed = [milestone for milestone in self.milestones if milestone <= trained.epoch]
            wanted = {
                best,
                *range(trained.epoch - NEWEST_KEPT + 1, trained.epoch + 1),
                *passed,
                *map(self._best_until, passed),
            }
            # Whole checkpoints of later epochs stay: another attempt has written them.
            checkpoint.remove(
                self.folder,
                ({*range(trained.epoch)} | self.unfit) - wanted,
                still_ours=self._check_claim,
            )
            if self.mirror is not None:
                if self.beat is not None:
                    self.beat()
                self.mirror.push(
                    self.folder, {checkpoint.name(epoch) for epoch in wanted}, self._check_claim
                )

        yield from self._insist(trained.epoch, save)
        if (
            isinstance(training, Training)
            and (outputs := training.validated) is not None
            and outputs.epoch == trained.epoch == best
        ):
            MEMORY.keep(self.folder.name, self.folder / checkpoint.name(best), outputs)
            training.validated = None

    def _best_until(self, last: int) -> int:
        """Return the best epoch of those until this one."""
        return max(
            (epoch for epoch in self.history if epoch <= last),
            key=lambda epoch: (*rank(self.history[epoch], self.config.ranked_by), -epoch),
        )

    def _insist(self, epoch: int, write: Callable[[], object]) -> Iterator[Report]:
        """Have the first process write until it succeeds.

        Until then all processes report alike that they wait. Waiting counts as a heartbeat.
        """
        tries = 0
        while refused := self._refused(write):
            if self.beat is not None:
                self.beat()
            yield Report(epoch, waiting=refused)
            time.sleep(RETRY_S[min(tries, len(RETRY_S) - 1)])
            tries += 1

    def _refused(self, write: Callable[[], object]) -> str:
        """Return the reason that the first process could not write; empty if it could."""
        reason = ""
        if self.world.rank == 0:
            try:
                write()
            except OSError as error:
                reason = f"{self.folder} cannot be written ({error.strerror or error})"
        failed = self.world.sum(torch.tensor([float(bool(reason))], device=self.world.device)) > 0
        return reason or ("another process waits for its storage" if failed else "")

    def _claim(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.mirror is not None or (self.folder / ATTEMPT).exists():
            self._check_claim()
        self._write_claim()
        self.claimed = True
        for left in self.folder.glob(".*"):
            # An earlier attempt that still writes there meets an OSError. A newer attempt may have
            # begun while this one was stalled: what it writes is left alone.
            found = LEAVINGS.fullmatch(left.name)
            if found and int(found["attempt"] or found["bringer"] or 0) <= self.attempt:
                shutil.rmtree(left, ignore_errors=True)

    def _write_claim(self) -> None:
        if self.mirror is not None:
            self.mirror.write(ATTEMPT, self.mark)
        else:
            checkpoint.write_whole(self.folder / ATTEMPT, self.mark)

    def _check_claim(self) -> None:
        """Check that no newer attempt writes here.

        An older attempt that was stalled in its own claim may have written its number over ours,
        which is then put right.

        Raises:
            Superseded: a newer attempt has begun.
        """
        holder = (
            (self.folder / ATTEMPT).read_text()
            if self.mirror is None
            else self.mirror.read(ATTEMPT) or ""
        )
        # Earlier versions wrote the number alone.
        number = HOLDER.match(holder)
        newest = int(number[0]) if number else 0
        if newest > self.attempt:
            raise Superseded(
                f"attempt {newest} of this trial has begun; attempt {self.attempt} writes no more"
            )
        if self.claimed and holder != self.mark:
            if newest == self.attempt:
                raise Superseded(
                    f"attempt {newest} of this trial has begun again; this process writes no more"
                )
            self._write_claim()


def _text(path: Path) -> str | None:
    """Return the text of a small file; None if it is not there."""
    try:
        return path.read_text()
    except FileNotFoundError:
        return None
