"""Importance of each hyperparameter, by Optuna.

The study is rebuilt from the trials, whatever algorithm proposed them.

PED-ANOVA (Watanabe et al. 2023, "PED-ANOVA: Efficiently Quantifying Hyperparameter Importance in
Arbitrary Subspaces") asks how far a parameter's values differ between the best trials and all of
them; it can use parameters that only some trials have.
"""

import math
import warnings
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState

from search.journal.result import SearchResult, TrialResult

BEST_SHARE = 0.25
"""The share of the trials that count as the best."""
MIN_TRIALS = 10
"""With fewer trainings, the best quarter of them says nothing."""
RESAMPLES, MAX_DRAWN = 30, 20_000
"""The number of times that trainings are drawn anew, with replacement, to see how much depends on
chance; and the most trials that are drawn in all. If there are more, each drawing has fewer
trainings, and the bounds are narrowed to what full drawings would give.
"""

MOMENT = datetime(2000, 1, 1)
"""Any time: a finished trial must have begun and ended."""


class _Trials(InMemoryStorage):
    """Storage of a study that holds these very trials.

    `Study.add_trials` copies each trial twice, which takes longer than all else.
    """

    def __init__(self, trials: list[FrozenTrial]) -> None:
        super().__init__()
        self.trials = trials

    def get_all_trials(
        self,
        study_id: int,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        """Return all of them, not copied: they are finished, and nobody changes them."""
        return self.trials


@dataclass(frozen=True)
class _Point:
    """The parameters of a trial, as Optuna takes them, and its score."""

    params: dict[str, Any]
    distributions: dict[str, BaseDistribution]
    score: float

    def numbered(self, number: int) -> FrozenTrial:
        """Return it as a trial with this number: Optuna tells trials apart by their numbers."""
        return FrozenTrial(
            number=number,
            trial_id=number,
            state=TrialState.COMPLETE,
            value=self.score,
            datetime_start=MOMENT,
            datetime_complete=MOMENT,
            params=self.params,
            distributions=self.distributions,
            user_attrs={},
            system_attrs={},
            intermediate_values={},
        )


def get_ready(trials: int) -> None:
    """Import what this many trials will need."""
    if trials >= MIN_TRIALS:
        import optuna.importance  # noqa: F401


def importance(result: SearchResult) -> dict[str, tuple[float, ...]]:
    """Return the importance of each searched parameter with several values, the highest first.

    A parameter has its share of the total importance, the mean over drawing the trials anew, and
    the bounds between which nine in ten of these shares lie. Empty with too few trials, or where
    none is better than another.

    A training is drawn with all its lengths: they are not independent results, but tell what the
    number of epochs does.
    """
    trials = result.ranking
    trainings = _trainings(trials)
    if len(trainings) < MIN_TRIALS or len({trial.score for trial in trials}) < 2:
        return {}
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    domains = result.started.experiment["space"]["domains"]
    distributions = {
        path: known
        for path, domain in domains.items()
        if (known := _distribution(trials, path, domain)) is not None
    }
    if not distributions:
        return {}
    points = [[_point(trial, distributions) for trial in training] for training in trainings]
    generator = np.random.default_rng(0)
    affordable = MAX_DRAWN * len(points) // (RESAMPLES * len(trials))
    count = min(len(points), max(MIN_TRIALS, affordable))
    samples = [
        [point for row in generator.integers(0, len(points), count) for point in points[row]]
        for _ in range(RESAMPLES)
    ]
    drawn = [_shares(sample) for sample in samples]
    found = {
        path: _bounds([each.get(path, 0.0) for each in drawn], count / len(points))
        for path in distributions
    }
    return dict(sorted(found.items(), key=lambda pair: -pair[1][0]))


def _trainings(trials: Sequence[TrialResult]) -> list[list[TrialResult]]:
    """Return the trials in groups of one training each."""
    found: dict[str, list[TrialResult]] = {}
    for trial in trials:
        found.setdefault(trial.training_key or trial.trial, []).append(trial)
    return list(found.values())


def _bounds(shares: Sequence[float], drawn: float) -> tuple[float, ...]:
    """Return the mean of these shares and the bounds of nine in ten of them.

    `drawn` is the fraction of all trainings that was drawn each time. The bounds are drawn in by
    its square root, as the mean of more trainings varies less.
    """
    mean = float(np.mean(shares))
    return mean, *(
        mean + math.sqrt(drawn) * (float(bound) - mean)
        for bound in np.quantile(shares, (0.05, 0.95))
    )


def _distribution(
    trials: Sequence[TrialResult], path: str, domain: Mapping[str, Any]
) -> BaseDistribution | None:
    """Return a parameter's distribution for Optuna; None where all trials have one value."""
    values = [trial.params[path] for trial in trials if path in trial.params]
    seen = list(dict.fromkeys(values))
    if len(seen) < 2:
        return None
    cases = domain.get("cases", [domain])
    if any(case["kind"] == "Choice" for case in cases) or not all(
        _is_number(value) for value in seen
    ):
        return CategoricalDistribution([_plain(value) for value in seen])
    return FloatDistribution(
        min(seen), max(seen), log=min(seen) > 0 and any(case.get("log", False) for case in cases)
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _plain(value: Any) -> bool | int | float | str | None:
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _point(trial: TrialResult, distributions: dict[str, BaseDistribution]) -> _Point:
    mine = {path: found for path, found in distributions.items() if path in trial.params}
    params = {
        path: _plain(trial.params[path])
        if isinstance(found, CategoricalDistribution)
        else float(trial.params[path])
        for path, found in mine.items()
    }
    return _Point(params, mine, trial.score)


def _shares(points: Sequence[_Point]) -> dict[str, float]:
    """Return each parameter's share of the importance."""
    # Imports scikit-learn, which takes seconds; small searches need not wait for that.
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    trials = [point.numbered(number) for number, point in enumerate(points)]
    study = optuna.create_study(storage=_Trials(trials), direction="maximize")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return get_param_importances(
            study, evaluator=PedAnovaImportanceEvaluator(target_quantile=BEST_SHARE)
        )
