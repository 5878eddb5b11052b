"""Chooses the trials of an ensemble, and between the ensemble and the best trial.

With few validation images the best trial is the best partly by luck. The mean of the probabilities
of several trials that are about as good is then better on new images than the best of them, and
than any other rule that chooses one of them (`tests.bench.ensembles`, docs/benchmarks.md).
"""

import math

from search.decisions.timing import Model, model_of
from search.journal.guessing import is_answer_at_chance
from search.journal.result import SearchResult, TrialResult
from trainables.catalog.models import MODELS
from trainables.config import TrialConfig
from trainables.errors import ConfigError

FEW_IMAGES = 1000
"""From this number of validation images on, the best trial is the answer."""
CLOSE = 2.0
"""The largest distance of a member from the best trial, in standard errors of its value."""
BEHIND = 1.0
"""The most that the answer may be behind its best member, in standard errors of the difference."""


def find_members(result: SearchResult, most: int, left_s: float = math.inf) -> list[TrialResult]:
    """Return the trials to combine, the best first; empty if no ensemble should be made.

    They are the best trial and others with networks and checkpoints, one for each training. If the
    best trial has no network, it is better alone. Only classifiers that are better than guessing,
    and ranked by accuracy on few validation images, are combined.

    Args:
        result: a search whose trials have ended.
        most: the largest number of members (`SearchSpace.combine`).
        left_s: the seconds that remain for the evaluation and the test of the ensemble. Trials
            whose networks would take longer, together with those of better ones, are left out.
    """
    best = result.best
    if (
        most < 2
        or best is None
        or not _has_network(best)
        or result.images >= FEW_IMAGES
        or "average" not in result.task.can
        or not result.metric.is_primary
        or result.further_objectives
        or is_answer_at_chance(result)
    ):
        return []
    least = best.score - CLOSE * best.error(result.images)
    rivals = [
        trial
        for trial in result.distinct
        if trial is not best
        and (not trial.training_key or trial.training_key != best.training_key)
        and trial.score >= least
        and trial.trial not in result.passed_over
        and _has_network(trial)
    ]
    members = _fitting(result, [best, *rivals], left_s)[:most]
    return members if len(members) > 1 and members[0] is best else []


def is_answer(gain: float, error: float) -> bool:
    """True if an ensemble is the answer.

    Args:
        gain: its accuracy on the validation images minus that of its best member. That member was
            chosen by these images, so that it is ahead by luck, too.
        error: the standard error of the gain.
    """
    return gain >= -BEHIND * error


def _fitting(result: SearchResult, trials: list[TrialResult], left_s: float) -> list[TrialResult]:
    """Return the trials, the best first, whose networks together predict all images in the time."""
    if left_s == math.inf:
        return trials
    tested = 0 if result.is_sealed else result.started.data["test"] or 0
    images = result.images + int(tested)
    image_s: dict[Model, float] = {}
    for trial in result.trials.values():
        if times := trial.cost.get("inference"):
            image_s[model_of(trial)] = times.get("batch_64", times["batch_1"])["median_ms"] / 1000
    fitting: list[TrialResult] = []
    for trial in trials:
        seconds = images * image_s.get(model_of(trial), math.inf)
        if seconds <= left_s:
            fitting.append(trial)
            left_s -= seconds
    return fitting


def _has_network(trial: TrialResult) -> bool:
    """True if a trial has a network with a checkpoint, which this version can load."""
    if trial.is_freed:
        return False
    try:
        config = TrialConfig.from_dict(trial.config)
    except ConfigError:
        return False
    return MODELS[config.model.name].has_network and config.data.folds is None
