"""Importance of hyperparameters, computed by Optuna.

An Optuna study is built from the trials of a search, even if another algorithm proposed them.

PED-ANOVA (Watanabe et al. 2023, "PED-ANOVA: Efficiently Quantifying Hyperparameter Importance in
Arbitrary Subspaces") measures how much the distribution of a parameter's values differs between the
best trials and all trials. It supports parameters that only some trials have.
"""

import math
import sys
import warnings
from collections.abc import Container, Mapping, Sequence
from datetime import datetime
from itertools import count
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState

from search.journal.result import SearchResult, TrialResult

BEST_SHARE = 0.25
"""Share of the trials that count as the best ones."""
MIN_TRIALS = 10
"""Minimum number of trainings; with fewer, the best quarter is too small to show anything."""
RESAMPLES, MAX_DRAWN = 30, 20_000
"""Number of bootstrap samples, which measure the influence of chance, and maximum number of trials
in all samples together.

If full samples would exceed this maximum, each sample has fewer trainings than the search, and the
bounds are narrowed to those that full samples would have.
"""

MOMENT = datetime(2000, 1, 1)
"""An arbitrary time, because Optuna requires a start and an end for finished trials."""


class _Trials(InMemoryStorage):
    """Storage of an Optuna study that holds these trials without copying them.

    `Study.add_trials` copies each trial twice, which takes longer than everything else here.
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
        """Return the trials themselves, since finished trials are never modified."""
        return self.trials


def _import_evaluation() -> tuple[Any, Any]:
    """Import PED-ANOVA and the function that runs it, without scikit-learn.

    `optuna.importance` also imports scikit-learn's forests, which takes seconds. PED-ANOVA does not
    need them, and Optuna tolerates that scikit-learn is not installed. `None` in `sys.modules`
    makes the import fail in the same way.
    """
    modules: dict[str, Any] = sys.modules
    is_hidden = modules.setdefault("sklearn.ensemble", None) is None
    try:
        from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
    finally:
        if is_hidden:
            modules.pop("sklearn.ensemble", None)
    return PedAnovaImportanceEvaluator(target_quantile=BEST_SHARE), get_param_importances


EVALUATOR, get_param_importances = _import_evaluation()


def importance(result: SearchResult) -> dict[str, tuple[float, ...]]:
    """Compute the importance of each searched parameter that has several values, the highest first.

    Trials that are different lengths of one training are sampled together: they are not
    independent, but they show the effect of the number of epochs.

    Returns:
        For each parameter's path, the mean share of the total importance over the bootstrap
        samples, and the lower and the upper bound of the central 90 % of these shares. Empty with
        fewer than `MIN_TRIALS` trainings, or if all trials are equally good.
    """
    trials = result.ranking
    trainings = _trainings(trials)
    if len(trainings) < MIN_TRIALS or len({trial.score for trial in trials}) < 2:
        return {}
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    domains = result.started.experiment["space"]["domains"]
    distributions = {
        path: distribution
        for path, domain in domains.items()
        if (distribution := _distribution(trials, path, domain)) is not None
    }
    if not distributions:
        return {}
    numbers = count()
    frozen = [
        [_frozen_trial(trial, distributions, next(numbers)) for trial in training]
        for training in trainings
    ]
    generator = np.random.default_rng(0)
    affordable = MAX_DRAWN * len(trainings) // (RESAMPLES * len(trials))
    size = min(len(trainings), max(MIN_TRIALS, affordable))
    samples = [
        [trial for row in generator.integers(0, len(trainings), size) for trial in frozen[row]]
        for _ in range(RESAMPLES)
    ]
    drawn = [_shares(sample) for sample in samples]
    importances = {
        path: _bounds([each.get(path, 0.0) for each in drawn], size / len(trainings))
        for path in distributions
    }
    return dict(sorted(importances.items(), key=lambda pair: -pair[1][0]))


def _trainings(trials: Sequence[TrialResult]) -> list[list[TrialResult]]:
    """Group the trials that are different lengths of one training."""
    trainings: dict[str, list[TrialResult]] = {}
    for trial in trials:
        trainings.setdefault(trial.training_key or trial.trial, []).append(trial)
    return list(trainings.values())


def _bounds(shares: Sequence[float], drawn: float) -> tuple[float, ...]:
    """Return the mean of these shares, and the lower and the upper bound of their central 90 %.

    `drawn` is the number of trainings in a sample, as a fraction of all. The bounds are narrowed by
    its square root, because a share that is computed from more trainings varies less.
    """
    mean = float(np.mean(shares))
    return mean, *(
        mean + math.sqrt(drawn) * (float(bound) - mean)
        for bound in np.quantile(shares, (0.05, 0.95))
    )


def _distribution(
    trials: Sequence[TrialResult], path: str, domain: Mapping[str, Any]
) -> BaseDistribution | None:
    """Build a parameter's distribution for Optuna; None if all trials have the same value."""
    values = [trial.params[path] for trial in trials if path in trial.params]
    distinct = list(dict.fromkeys(values))
    if len(distinct) < 2:
        return None
    cases = domain.get("cases", [domain])
    if any(case["kind"] == "Choice" for case in cases) or not all(
        _is_number(value) for value in distinct
    ):
        return CategoricalDistribution([_plain(value) for value in distinct])
    return FloatDistribution(
        min(distinct),
        max(distinct),
        log=min(distinct) > 0 and any(case.get("log", False) for case in cases),
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _plain(value: Any) -> bool | int | float | str | None:
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _frozen_trial(
    trial: TrialResult, distributions: dict[str, BaseDistribution], number: int
) -> FrozenTrial:
    """Convert a trial to an Optuna trial; its `number` must be unique among the trials."""
    own_distributions = {
        path: distribution for path, distribution in distributions.items() if path in trial.params
    }
    params = {
        path: _plain(trial.params[path])
        if isinstance(distribution, CategoricalDistribution)
        else float(trial.params[path])
        for path, distribution in own_distributions.items()
    }
    return FrozenTrial(
        number=number,
        trial_id=number,
        state=TrialState.COMPLETE,
        value=trial.score,
        datetime_start=MOMENT,
        datetime_complete=MOMENT,
        params=params,
        distributions=own_distributions,
        user_attrs={},
        system_attrs={},
        intermediate_values={},
    )


def _shares(trials: list[FrozenTrial]) -> dict[str, float]:
    """Compute each parameter's share of the total importance, by path.

    The same trial may occur several times in `trials`.
    """
    study = optuna.create_study(storage=_Trials(trials), direction="maximize")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return dict(get_param_importances(study, evaluator=EVALUATOR))
