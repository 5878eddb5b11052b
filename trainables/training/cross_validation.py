"""A trial's cross-validation: one network for each fold, trained in turn, an epoch at a time.

Therefore the metrics of each epoch are means over the folds. All networks start from the same
random weights, which the config's seed determines; only their images differ.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from statistics import fmean, stdev
from typing import TYPE_CHECKING

from trainables.catalog.entries import Metric
from trainables.config import TrialConfig
from trainables.datasets.arrays import Dataset
from trainables.messages import EpochMetrics
from trainables.training.loop import Training
from trainables.values import State

if TYPE_CHECKING:
    from trainables.baselines.base import Fitting


class Folds:
    """The networks of a trial's folds, used in place of one `Training`.

    It has the part of `Training`'s interface that a trial needs: epochs, and a state to save and
    restore.
    """

    def __init__(
        self,
        config: TrialConfig,
        dataset: Dataset,
        begin: "Callable[[Dataset], Training | Fitting]",
    ) -> None:
        """Start a training for each fold.

        Args:
            config: the trial's config.
            dataset: the data set, divided into folds.
            begin: builds the training, or the fit, for the data of one fold.

        Raises:
            ValueError: the data set and the config have different numbers of folds.
        """
        if dataset.folds is None or dataset.folds != config.data.folds:
            raise ValueError(
                f"a trial with {config.data.folds} folds cannot be trained on data with "
                f"{dataset.folds or 'no'} folds"
            )
        self.trainings = [
            begin(dataset.fold(number, config.seed)) for number in range(1, dataset.folds + 1)
        ]
        self.config, self.device, self.precision = (
            config,
            self.trainings[0].device,
            self.trainings[0].precision,
        )

    @property
    def epoch(self) -> int:
        """The last epoch that all folds have finished."""
        return self.trainings[-1].epoch

    @property
    def epochs_done(self) -> float:
        """The mean number of epochs that the folds have done, with the shares of current ones."""
        return fmean(training.epochs_done for training in self.trainings)

    def epochs(self) -> Iterator[EpochMetrics]:
        """Train from the current epoch to `config.epochs`, and yield each epoch's metrics."""
        while self.epoch < self.config.epochs:
            yield self.next_epoch()

    def next_epoch(self) -> EpochMetrics:
        """Train one epoch of each fold.

        If a fold diverges, the folds after it are not trained.
        """
        epoch, trained = self.epoch + 1, list[EpochMetrics]()
        for training in self.trainings:
            trained.append(training.next_epoch())
            if trained[-1].diverged:
                break
        return combine_folds(epoch, [each.values for each in trained], self.config.task.metrics)

    def state(self) -> State:
        """Return everything that determines the next epoch."""
        return {"epoch": self.epoch, "folds": [training.state() for training in self.trainings]}

    def load_state(self, state: State) -> None:
        """Restore a state that `state` returned, to continue from it."""
        for training, own in zip(self.trainings, state["folds"], strict=True):
            training.load_state(own)
        self.precision = self.trainings[0].precision


def combine_folds(
    epoch: int, folds: list[dict[str, float]], metrics: Iterable[Metric]
) -> EpochMetrics:
    """Combine the metrics of an epoch's folds.

    The result has the means over the folds, the sum of `time/epoch_s`, and for each of the task's
    `metrics` the sample standard deviation (n - 1 degrees of freedom; 0 for a single fold).
    """
    values = {name: fmean(each[name] for each in folds) for name in folds[0]}
    for metric in metrics:
        if metric.key in values:
            each_fold = [each[metric.key] for each in folds]
            values[metric.deviation_key] = _deviation(each_fold)
        if metric.error_key in values:  # the folds' images are independent: variances add up
            errors = [each[metric.error_key] for each in folds]
            values[metric.error_key] = math.hypot(*errors) / len(folds)
        if metric.freedom_key in values:  # 0 (unknown) if it is 0 for any fold
            freedoms = [each[metric.freedom_key] for each in folds]
            values[metric.freedom_key] = sum(freedoms) if all(freedoms) else 0.0
    values["time/epoch_s"] = sum(each["time/epoch_s"] for each in folds)
    return EpochMetrics(epoch, values, folds)


def _deviation(values: list[float]) -> float:
    """Return the sample standard deviation: 0 for a single value, NaN if a value is not finite."""
    if len(values) < 2:
        return 0.0
    return stdev(values) if all(map(math.isfinite, values)) else math.nan
