"""How much each hyperparameter mattered, by Optuna: the study is rebuilt from the trials, whatever
algorithm proposed them.

PED-ANOVA (Watanabe et al. 2023, "PED-ANOVA: Efficiently Quantifying Hyperparameter Importance in
Arbitrary Subspaces") asks how far a parameter's values differ between the best trials and all of
them; it takes parameters that only some trials have.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, create_trial

from search.journal.result import SearchResult, TrialResult

BEST_SHARE = 0.25
"""Which of the trials are called the best."""
MIN_TRIALS = 10
"""With fewer trainings, a quarter of them says nothing."""
RESAMPLES, MAX_DRAWN = 30, 20_000
"""How often as many trainings are drawn anew, with replacement, to see how much depends on chance;
and the most that are drawn in all. Of more, each drawing has fewer, and the bounds are drawn in as
far as all of them would.
"""


def get_ready(trials: int) -> None:
    """Import what so many trials will take."""
    if trials >= MIN_TRIALS:
        import optuna.importance  # noqa: F401


def importance(result: SearchResult) -> dict[str, tuple[float, ...]]:
    """Of each searched parameter with several values, the most important first: its share of the
    importance of all, the mean over drawing the trials anew, and between which bounds nine in ten
    of these shares lie. Empty of too few trials, or where none is better than another.

    A training is drawn with all its lengths: they are not several pieces of luck, but tell what
    their number of epochs does.
    """
    trials = result.ranking
    trainings = _trainings(trials)
    if len(trainings) < MIN_TRIALS or len({trial.accuracy for trial in trials}) < 2:
        return {}
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    domains = result.started["experiment"]["space"]["domains"]
    distributions = {
        path: known
        for path, domain in domains.items()
        if (known := _distribution(trials, path, domain)) is not None
    }
    if not distributions:
        return {}
    frozen = [[_frozen(trial, distributions) for trial in training] for training in trainings]
    generator, count = (
        np.random.default_rng(0),
        min(len(frozen), max(MIN_TRIALS, MAX_DRAWN * len(frozen) // (RESAMPLES * len(trials)))),
    )
    samples = [
        [trial for row in generator.integers(0, len(frozen), count) for trial in frozen[row]]
        for _ in range(RESAMPLES)
    ]
    drawn = [_shares(sample) for sample in samples]
    found = {
        path: _bounds([each.get(path, 0.0) for each in drawn], count / len(frozen))
        for path in distributions
    }
    return dict(sorted(found.items(), key=lambda pair: -pair[1][0]))


def _trainings(trials: Sequence[TrialResult]) -> list[list[TrialResult]]:
    """The trials of each training."""
    found: dict[str, list[TrialResult]] = {}
    for trial in trials:
        found.setdefault(trial.training_key or trial.trial, []).append(trial)
    return list(found.values())


def _bounds(shares: Sequence[float], drawn: float) -> tuple[float, ...]:
    """The mean of these shares and the bounds of nine in ten, when this part of all trainings was
    drawn each time: a mean of so many times more varies less by the root of that.
    """
    mean = float(np.mean(shares))
    return mean, *(
        mean + math.sqrt(drawn) * (float(bound) - mean)
        for bound in np.quantile(shares, (0.05, 0.95))
    )


def _distribution(
    trials: Sequence[TrialResult], path: str, domain: Mapping[str, Any]
) -> BaseDistribution | None:
    """What Optuna is told of a parameter; None where all trials have one value."""
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


def _frozen(trial: TrialResult, distributions: dict[str, BaseDistribution]) -> FrozenTrial:
    mine = {path: found for path, found in distributions.items() if path in trial.params}
    params = {
        path: _plain(trial.params[path])
        if isinstance(found, CategoricalDistribution)
        else float(trial.params[path])
        for path, found in mine.items()
    }
    return create_trial(params=params, distributions=mine, value=trial.accuracy)


def _shares(trials: Sequence[FrozenTrial]) -> dict[str, float]:
    """Each parameter's share."""
    from optuna.importance import (
        PedAnovaImportanceEvaluator,
        get_param_importances,
    )  # scikit-learn: seconds, which small searches need not wait

    study = optuna.create_study(direction="maximize")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        study.add_trials(trials)
        return get_param_importances(
            study, evaluator=PedAnovaImportanceEvaluator(target_quantile=BEST_SHARE)
        )
