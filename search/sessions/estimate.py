"""An estimate of a search before it starts (`--dry-run`): its trials, epochs, time and cost.

To compute an estimate, Ray is not started, and nothing is recorded.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import fmean

import numpy as np

from cluster.runtime.resources import Resources, slots
from cluster.runtime.session import LOCAL
from search.design.budget import device_of
from search.design.experiment import AUTO_DEVICE, Experiment
from search.facts.data import source_text
from search.preflight.memory import trial_memory
from search.preflight.prepare import data_facts, prepare
from search.schedulers.rungs import expected_epochs
from search.values.executors import EXECUTORS
from search.values.objectives import measured_keys
from search.values.wording import duration, durations
from search.views.text.labels import classes_text, parts_text, strategy_text
from trainables.config import TrialConfig, training_key
from trainables.datasets.arrays import Dataset
from trainables.errors import counted
from trainables.inspection.report import DataReport
from trainables.machine import Load
from trainables.on_disk import Encoded, images_per_second
from trainables.progress import step
from trainables.robustness.stress_tests import CORRUPTED, predictions_of
from trainables.values import Json

MAX_SAMPLED = 200
"""The maximum number of configurations that are measured; a larger number is sampled."""
LEAST, MOST = 0.7, 1.3
"""The actual time is usually between these multiples of the expected time.

The estimate is uncertain because steps are measured while no other trial runs, and because it is
not known which trials will be stopped early.
"""
TRAINING_SHARE = 3
"""The time of an image in training, in predictions (`trainables.evaluation.estimate`)."""
BUSY = 0.2
"""If other programs use more than this share of the CPUs, a note reports it."""

PLAIN = (
    "trials",
    "epochs",
    "expected_epochs",
    "slots",
    "seconds",
    "most_seconds",
    "epoch_s",
    "device",
    "memory",
    "evaluate_s",
    "notes",
)
"""The fields of an estimate that `--json` prints as they are."""


@dataclass(frozen=True)
class Estimate:
    """An estimate of the trainings of a search, and of their time.

    Times are in seconds and extrapolated from a few measured steps of sampled configurations.
    """

    trials: int
    epochs: int
    """The number of epochs if no trial is stopped early."""
    expected_epochs: int
    """The number of epochs with early stopping, if each rung promotes its usual share of trials."""
    slots: int
    """The number of trials at once."""
    seconds: float
    """The lower estimate of the time, with the expected early stopping."""
    most_seconds: float
    """The upper estimate of the time, without early stopping."""
    epoch_s: float
    """The mean time of one epoch of one trial."""
    data: Json
    """The facts of the data set, as in the journal."""
    device: str = "cpu"
    """The device on which the steps were measured."""
    notes: tuple[str, ...] = ()
    report: DataReport | None = None
    memory: str = ""
    """A sentence on the memory of a trial; empty if it is not known."""
    evaluate_s: float = 0.0
    """The part of `seconds` and `most_seconds` for `--evaluate`, before their uncertainty.

    It is the evaluation of the answer, without further trials of the Pareto front. 0 if the
    predictions of the search's models were not timed.
    """

    def to_json(self) -> Json:
        """Return the estimate as JSON-compatible values, with the complete report on the data."""
        plain = {name: getattr(self, name) for name in PLAIN}
        return plain | {"data": None if self.report is None else self.report.to_json()}

    def lines(self, experiment: Experiment) -> list[str]:
        """Format the estimate as lines of text for the terminal."""
        stops = (
            ""
            if self.expected_epochs == self.epochs
            else f", about {self.expected_epochs:,} if each rung promotes its share"
        )
        times = durations(self.seconds, self.most_seconds)
        folds = experiment.base.data.folds
        return [
            (
                f"{experiment.name}: {experiment.space_name} on {source_text(self.data)}, "
                f"{strategy_text(experiment.describe())}"
            ),
            (
                f"  {classes_text(self.data)}{parts_text(self.data)} of "
                f"{' x '.join(map(str, self.data['image']))} (channels, height, width)"
            ),
            f"  {counted(self.trials, 'configuration')}, "
            f"{counted(self.epochs, 'epoch')} at most{stops}",
            *(
                [
                    (
                        f"  each in {folds} folds: {folds * self.trials:,} networks, "
                        f"{folds * self.epochs:,} epochs of one network at most"
                    )
                ]
                if folds
                else []
            ),
            f"  {counted(self.slots, 'trial')} at once on this machine ({self.device}), "
            f"about {times}",
            *self._evaluate_lines(experiment),
            *([f"  {self.memory}"] if self.memory else []),
            *self._budget_lines(experiment),
            *(
                [
                    f"  with --fuse {experiment.fuse}, more trials run at once, and trials of the "
                    "same shape train faster"
                ]
                if experiment.fuse not in ("auto", "off")
                else []
            ),
            *(f"  {note}" for note in self.notes),
            "  nothing was started",
        ]

    def _evaluate_lines(self, experiment: Experiment) -> list[str]:
        """Format a line on the time of `--evaluate`; an empty list without this option."""
        if not experiment.evaluate:
            return []
        option = f"--evaluate {','.join(experiment.evaluate)}"
        if not self.evaluate_s:
            return [f"  the time of {option} is not included, because baselines are not timed"]
        times = durations(LEAST * self.evaluate_s, MOST * self.evaluate_s)
        further = (
            ", and as long for each further trial of the Pareto front, within the budget of time"
            if len(experiment.objectives) > 1
            else ""
        )
        return [f"  of this about {times} for {option} of the answer{further}"]

    def _budget_lines(self, experiment: Experiment) -> list[str]:
        """Format lines on the epochs that the budget allows, and on the cost if a price is set."""
        budget, epochs, demand = experiment.budget, self.expected_epochs, experiment.demand
        if experiment.device == AUTO_DEVICE and (
            self.device != "cpu" or any(limit.of == "gpu" for limit in budget.limits)
        ):
            demand = experiment.demand_with_gpu
        takes = partial(budget.per_epoch, demand=demand, epoch_s=self.epoch_s, at_once=self.slots)
        lines, start_s = [], EXECUTORS[experiment.executor].start_s
        if budget.limits:
            bought, limit = min(
                (
                    max(0.0, limit.amount - start_s * (limit.of == "time")) / takes(limit.of),
                    str(limit),
                )
                for limit in budget.limits
            )
            if bought < epochs:
                epochs, trials = int(bought), int(bought * self.trials / self.expected_epochs)
                lines.append(
                    f"  the budget of {limit} buys about {epochs:,} of {self.expected_epochs:,} "
                    f"epochs ({trials:,} of {self.trials:,} configurations)"
                )
            else:
                lines.append(
                    f"  the budget is sufficient: {limit} is enough for about "
                    f"{int(bought):,} epochs"
                )
        if budget.price is not None:
            money, hours = epochs * takes("money"), epochs * takes("device") / 3600
            lines.append(
                f"  about {money:,.{2 if money >= 0.01 else 4}f} usd for {hours:.3g} "
                f"{device_of(demand)}-hours of training"
            )
        return lines


def estimate_search(experiment: Experiment) -> Estimate:
    """Check everything as `search.run` does, then measure a few training steps on this machine.

    Raises:
        ConfigError, NotReady, Unavailable: the search would fail with the same error.
    """
    from trainables.evaluation.estimate import epochs_seconds

    prepared = prepare(experiment)
    experiment, dataset, notes = prepared.experiment, prepared.dataset, list(prepared.notes)
    device, fitting = measured_on(experiment, prepared.local)
    if experiment.device == AUTO_DEVICE:
        notes.append(
            "note: a dry run does not contact the cluster: a search trains on the cluster's GPUs, "
            "if there are any"
        )
    elif device != experiment.device:
        notes.append(
            "note: a dry run does not contact the cluster: this machine does not have what the "
            "trials request, so the times were measured on the CPU"
        )
    trainings = _sample_trainings(experiment)
    trials, share = experiment.planned_trials, trainings.count / len(trainings.configs)
    load = Load()
    costs = epochs_seconds(
        trainings.configs, dataset, device=device, threads=max(1, int(experiment.demand.cpus))
    )
    notes += _busy_notes(load, device)
    lengths = [config.epochs for config in trainings.configs]
    expected = [_expected_epochs(experiment, epochs) for epochs in lengths]
    at_once = min(fitting, experiment.most_at_once or 10**6, trials)
    memory = trial_memory(experiment, dataset, at_once, exactly=True)
    each = share / experiment.demand.workers / at_once
    start_s = EXECUTORS[experiment.executor].start_s
    image_s = _prediction_seconds(trainings.configs, costs, dataset)
    evaluate_s = _evaluate_seconds(experiment, dataset, image_s)
    costs = [cost + _measured_seconds(experiment, dataset, image_s) for cost in costs]
    costs, decoding_notes = _with_decoding(costs, dataset, at_once, device)
    notes += decoding_notes
    expected_s, most_s = (
        sum(epochs * cost for epochs, cost in zip(counts, costs, strict=True))
        for counts in (expected, lengths)
    )
    return Estimate(
        trials,
        sum(lengths) if trainings.is_all else trials * experiment.horizon,
        round(share * sum(expected)),
        at_once,
        start_s + LEAST * (each * expected_s + evaluate_s),
        start_s + MOST * (each * most_s + evaluate_s),
        expected_s / sum(expected) / experiment.demand.workers,
        data_facts(experiment, dataset),
        device,
        tuple(notes),
        prepared.report,
        str(memory) if memory is not None else "",
        evaluate_s,
    )


def _prediction_seconds(
    configs: Sequence[TrialConfig], costs: Sequence[float], dataset: Dataset
) -> float:
    """Estimate the mean seconds in which a network predicts an image, from those of an epoch.

    A step of the training takes three times as long per image as a prediction. 0 without networks.
    """
    images = TRAINING_SHARE * len(dataset.train) + len(dataset.val)
    seconds = [
        cost / images
        for config, cost in zip(configs, costs, strict=True)
        if not config.model.is_baseline
    ]
    return fmean(seconds) if seconds else 0.0


def _evaluate_seconds(experiment: Experiment, dataset: Dataset, image_s: float) -> float:
    """Estimate the seconds of `--evaluate` for one trial; 0 if `image_s` is not known."""
    from trainables.robustness.measure import corruption_seconds, stress_rows

    if not experiment.evaluate or not image_s:
        return 0.0
    images = len(stress_rows(dataset, experiment.base.data.split_seed))
    each = sum(map(predictions_of, experiment.evaluate)) * image_s
    if CORRUPTED in experiment.evaluate:
        each += (predictions_of(CORRUPTED) - 1) * corruption_seconds(dataset)
    return images * each


def _measured_seconds(experiment: Experiment, dataset: Dataset, image_s: float) -> float:
    """Estimate the seconds in which objectives are measured after an epoch."""
    from trainables.robustness.measure import stress_rows

    measures = measured_keys(experiment.objectives)
    if not measures:
        return 0.0
    return len(measures) * len(stress_rows(dataset, experiment.base.data.split_seed)) * image_s


def _with_decoding(
    costs: Sequence[float], dataset: Dataset, at_once: int, device: str
) -> tuple[list[float], list[str]]:
    """Add the time of decoding to that of an epoch, if images are decoded whenever they are used.

    Args:
        costs: the seconds of an epoch of each training, without decoding.
        dataset: the data of the search.
        at_once: the number of trials at once, which share the processors.
        device: the device of the networks; on a GPU, decoding takes place at the same time.

    Returns:
        The seconds of an epoch of each training, and a note on the speed of decoding.
    """
    images = dataset.train.images
    if not isinstance(images, Encoded):
        return list(costs), []
    with step("measuring the speed of decoding"):
        speed = images_per_second(images)
    folds = dataset.folds
    count = len(dataset.train) * folds if folds else len(dataset.train) + len(dataset.val)
    decoding_s = count * at_once / speed
    note = (
        f"note: this machine decodes about {speed:,.0f} images a second (measured on a sample), so "
        f"that an epoch takes at least {duration(decoding_s)}, with {counted(at_once, 'trial')} at "
        "once."
    )
    combine = sum if device == "cpu" else max
    return [combine((cost, decoding_s)) for cost in costs], [note]


def _busy_notes(load: Load, device: str) -> list[str]:
    """Return a note if other programs used the CPUs during the measurement, else an empty list."""
    if (busy := load.of_others()) <= BUSY:
        return []
    times = load.slowdown()
    longer = f"; under the current load, it takes about {times:.0f} times as long"
    return [
        f"note: other programs used {100 * busy:.0f} % of the CPUs during the measurement. The "
        "times are for an otherwise idle machine"
        f"{longer if device == 'cpu' and times >= 2 else ''}."
    ]


@dataclass(frozen=True)
class _Trainings:
    """The trainings of a search, or a sample that represents them."""

    configs: Sequence[TrialConfig]
    count: int
    """The number of trainings that `configs` represent."""
    is_all: bool
    """True if `configs` are exactly the trainings of the search."""


def _sample_trainings(experiment: Experiment) -> _Trainings:
    """Return the trainings of a grid search, or a sample of at most `MAX_SAMPLED` trainings.

    The sample of other searches consists of the space's first points, followed by random ones.
    """
    generator = np.random.default_rng(experiment.seed)
    if whole := _grid(experiment):
        if len(whole) <= MAX_SAMPLED:
            return _Trainings(whole, len(whole), is_all=True)
        some = generator.choice(len(whole), MAX_SAMPLED, replace=False)
        return _Trainings([whole[number] for number in some], len(whole), is_all=False)
    space, trials = experiment.space, experiment.planned_trials
    params = [
        space.begin(number, generator) or space.sample(generator)
        for number in range(min(trials, MAX_SAMPLED))
    ]
    return _Trainings([experiment.config(values) for values in params], trials, is_all=False)


def measured_on(experiment: Experiment, here: Resources) -> tuple[str, int]:
    """Choose the device on which steps are measured, and the number of trials that fit at once.

    The device belongs to this machine. A search on a cluster may use another device, which this
    machine lacks.

    Raises:
        NotReady: the search runs on this machine, but not even one trial fits.
    """
    if experiment.address == LOCAL:
        return experiment.device, slots(here, experiment.demand)
    with_gpu = experiment.demand_with_gpu if experiment.device == AUTO_DEVICE else experiment.demand
    if (
        with_gpu.gpus
        and experiment.has_networks
        and (count := here.room(with_gpu) // with_gpu.workers)
    ):
        return "cuda", count
    return "cpu", max(1, here.room(replace(with_gpu, gpus=0)) // with_gpu.workers)


def _grid(experiment: Experiment) -> list[TrialConfig]:
    """Return every training of a complete grid search; empty for other searches.

    Trials that differ only in length are one training, represented by the longest.
    """
    if experiment.algorithm != "grid" or experiment.planned_trials != experiment.space.size:
        return []
    longest: dict[str, TrialConfig] = {}
    for config in map(experiment.config, experiment.space.points()):
        longest_yet = longest.setdefault(key := training_key(config), config)
        if config.epochs > longest_yet.epochs:
            longest[key] = config
    return list(longest.values())


def _expected_epochs(experiment: Experiment, epochs: int) -> float:
    """Return the expected number of epochs of a trial that is planned to train `epochs`.

    The scheduler asha stops some trials early; with others, the number is `epochs`.
    """
    return (
        expected_epochs(epochs, experiment.horizon, experiment.grace, experiment.sure)
        if experiment.scheduler == "asha"
        else epochs
    )
