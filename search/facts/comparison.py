"""The comparison of searches: which one is best, and which differences are larger than noise."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from search.design.experiment import PLACE
from search.facts.data import source_text
from search.facts.metric import interval
from search.journal.result import SearchResult, TrialResult
from search.values.nested import flatten
from search.values.statistics import bounds_of, compare
from trainables.statistics import difference_bounds

SPLIT = ("val_fraction", "test_fraction", "split_seed", "val_limit", "folds")
"""The values of a config's `data` that determine which images are the validation set.

The option to remove copies is not among them, because the fingerprint of the data depends on the
removed copies.
"""
ELSEWHERE = (*PLACE, "tracking", "space", "space_source", "settings", "horizon", "cache", "base")
"""The values of an experiment that are not listed as settings, because they are compared in other
rows or do not affect the result.
"""
TESTED_RATE = 0.04
"""The nominal error rate of all contrasts together; with it, the actual error rate is below 5 %.

The two rates differ, because the assumptions of the tests hold only approximately.
`tests/bench/rates/compare.py` measures the actual rate.
"""


@dataclass(frozen=True)
class Contender:
    """A search's best trial, and the cost of the search."""

    name: str
    outcome: str
    metric: str
    """The name of the metric that ranks the search's trials."""
    trial: str
    """The search's best trial; empty before the first epoch.

    Then `value`, `low` and `high` are None, too.
    """
    value: float | None
    low: float | None
    """The lower end of the 95 % confidence interval of `value`; None if not known.

    `high` is the upper end. The interval is not corrected for the choice of the best trial.
    """
    high: float | None
    expected: float | None
    """The expected value of the network that `search.select` chose; None before a selection."""
    trials: int
    epochs: int
    wall_s: float
    train_s: float
    space: str
    data: str
    fingerprint: str


@dataclass(frozen=True)
class Contrast:
    """The comparison of a search with the leader, the best search with the same metric."""

    name: str
    leader: str
    by: str
    """The basis of the comparison: `seeds` or `folds` (paired), `images` (unpaired), or `nothing`.

    It is `nothing` if the two searches are not comparable.
    """
    difference: float | None = None
    """The leader's score minus the other search's; None if the two are not comparable."""
    is_beyond_noise: bool | None = None
    low: float | None = None
    """The lower end of the confidence interval of `difference`; None if the contrast is paired.

    `high` is the upper end. All intervals of a comparison hold simultaneously.
    """
    high: float | None = None
    p: float | None = None
    """The p-value of a paired contrast, as in `search.values.statistics.Comparison`, but also
    corrected for `candidates`; None if the contrast is unpaired.
    """
    candidates: int | None = None
    """The number of trainings from which the leader's best one was chosen by the compared values.

    The best of many trainings is partly lucky. Therefore the error rate is divided by their number
    (Bonferroni), so that the result holds no matter which of them was chosen.
    """
    note: str = ""
    """The basis in words, or the reason why there is none."""


@dataclass(frozen=True)
class Compared:
    """The result of a comparison of several searches."""

    metric: str
    """The name of the first group's metric."""
    searches: list[Contender]
    contrasts: list[Contrast]
    params: dict[str, list[Any]]
    """The values in which the best trials differ, by dotted path.

    Each list has one value per search, which is None if its trial does not have the path.
    """
    settings: dict[str, list[Any]]
    """The settings in which the searches differ, by name; each list has one value per search."""


def compare_searches(results: Sequence[SearchResult]) -> Compared:
    """Compare two or more searches.

    Searches with the same task and metric form a group, and are compared with the best search of
    the group. For each further group, one contrast states that the best search of this group is not
    comparable with the best search of the first group.

    Args:
        results: searches with different names.
    """
    groups = dict[tuple[str, str], list[SearchResult]]()
    for result in results:
        groups.setdefault((result.task.title, result.metric.name), []).append(result)
    contrasts, (first, *other_leaders) = [], [max(group, key=_score) for group in groups.values()]
    for leader, group in zip((first, *other_leaders), groups.values(), strict=True):
        rivals = [result for result in group if result is not leader]
        contrasts += [_contrast(leader, rival, len(group)) for rival in rivals]
    return Compared(
        first.metric.name,
        [_contender(result) for result in results],
        contrasts
        + [_contrast(first, other_leader, len(results)) for other_leader in other_leaders],
        _differing([_values(result.best) for result in results]),
        _differing(_shared_values([_settings(result) for result in results])),
    )


def _score(result: SearchResult) -> float:
    return result.best.score if result.best is not None else -np.inf


def _contender(result: SearchResult) -> Contender:
    best = result.best
    low, high = (best is not None and interval(best, result.images)) or (None, None)
    verdict = result.selection.verdict if result.selection is not None else None
    return Contender(
        name=result.name,
        outcome=result.outcome,
        metric=result.metric.name,
        trial="" if best is None else best.trial,
        value=None if best is None else best.value,
        low=low,
        high=high,
        expected=None if verdict is None else verdict.expected.mean,
        trials=len(result.trials),
        epochs=result.epochs_trained,
        wall_s=result.wall_s,
        train_s=result.train_s,
        space=result.started.experiment["space"]["name"],
        data=source_text(result.started.data),
        fingerprint=result.started.data["fingerprint"],
    )


def _contrast(leader: SearchResult, rival: SearchResult, count: int) -> Contrast:
    """Compare a search with the leader.

    Args:
        leader: the best search of the group.
        rival: the other search.
        count: the number of searches in the comparison, for the correction.
    """
    if reason := _incomparable(leader, rival):
        return Contrast(rival.name, leader.name, "nothing", note=reason)
    is_same = _images(leader) == _images(rival)
    if is_same and (contrast := _paired(leader, rival, count)) is not None:
        return contrast
    return _by_images(leader, rival, count, is_same=is_same)


def _incomparable(leader: SearchResult, rival: SearchResult) -> str:
    """Explain why two searches cannot be compared; empty if they can."""
    if leader.best is None or rival.best is None:
        return "it has no result yet"
    if leader.task != rival.task:
        return f"different tasks: {leader.task.title} and {rival.task.title}"
    if leader.metric != rival.metric:
        return f"different metrics: {leader.metric.title} and {rival.metric.title}"
    if _source(leader) != _source(rival):
        return "different data: values on different images cannot be compared"
    return ""


def _source(result: SearchResult) -> list[Any]:
    """Identify the images of a search, regardless of the size to which they were decoded.

    The number of images includes removed copies, because the split determines how many are removed.
    """
    data = result.started.data
    images = data["train"] + data["val"] + data["test"] + data.get("removed", 0)
    return [data["name"], data.get("bucket") or data["root"], data["classes"], images]


def _images(result: SearchResult) -> list[Any]:
    """Collect the values that determine the images of the validation set, and the images' size."""
    data = result.started.experiment["base"].get("data", {})
    return [
        result.started.data["fingerprint"],
        result.images,
        *(data.get(name) for name in SPLIT),
    ]


def _paired(leader: SearchResult, rival: SearchResult, count: int) -> Contrast | None:
    """Compare two searches by a paired test over seeds, or else over folds.

    None unless both have at least two seeds or folds in common.
    """
    for by, title, values in (
        ("seeds", "fresh seeds of search.select", _seeds),
        ("folds", "folds", _folds),
    ):
        leader_values, rival_values = values(leader), values(rival)
        shared_keys = [key for key in leader_values if key in rival_values]
        if len(shared_keys) < 2 or (by == "folds" and len(leader_values) != len(rival_values)):
            continue
        metric = leader.metric
        scores = np.array(
            [
                [metric.score(row[key]) for key in shared_keys]
                for row in (leader_values, rival_values)
            ]
        )
        ahead, behind = leader, rival
        if scores[1].mean() > scores[0].mean():
            scores, ahead, behind = scores[::-1], rival, leader
        images = leader.steps / (len(shared_keys) if by == "folds" else 1)
        candidates = _chosen_from(ahead) if by == "seeds" else _candidates(ahead, behind)
        # Any ordered pair of searches might have been compared: count * (count - 1).
        comparison = compare(scores, count * (count - 1) * candidates, candidates, images=images)[
            1
        ][1]
        return Contrast(
            behind.name,
            ahead.name,
            by,
            comparison.difference,
            comparison.p < TESTED_RATE,
            p=comparison.p,
            candidates=candidates,
            note=f"paired over {len(shared_keys)} {title}",
        )
    return None


def _candidates(result: SearchResult, rival: SearchResult) -> int:
    """Count the trainings from which a search's best was chosen.

    A training with more epochs than the rival's best training counts several times, because the
    best of more epochs is luckier.
    """
    assert rival.best is not None
    epochs = len(rival.best.epochs)
    return sum(math.ceil(len(trial.epochs) / epochs) for trial in result.distinct)


def _chosen_from(result: SearchResult) -> int:
    assert result.selection is not None
    return len(result.selection.started.candidates)


def _seeds(result: SearchResult) -> dict[int, float]:
    """Collect the values of the chosen candidate by seed; empty without a current selection."""
    selection = result.selection
    if selection is None or selection.verdict is None or result.is_selection_old:
        return {}
    return {
        int(trial.config["seed"]): trial.value
        for trial in selection.repeats.values()
        if trial.repeat_of == selection.verdict.candidate and trial.outcome == "completed"
    }


def _folds(result: SearchResult) -> dict[int, float]:
    """Collect the values of the best trial at its best epoch by fold; empty without folds."""
    best = result.best
    if best is None or best.best_epoch is None:
        return {}
    folds = best.folds.get(best.best_epoch, ())
    return {number: metrics[best.metric.key] for number, metrics in enumerate(folds)}


def _by_images(leader: SearchResult, rival: SearchResult, count: int, *, is_same: bool) -> Contrast:
    """Compare two searches by the confidence bounds of their validation values (unpaired).

    Args:
        leader: the best search of the group.
        rival: the other search.
        count: the number of searches in the comparison, for the correction.
        is_same: True if both have the same validation set.
    """
    best, behind = leader.best, rival.best
    assert best is not None
    assert behind is not None
    candidates = _candidates(leader, rival)
    # The interval is two-sided. It is corrected for all pairs of searches, since any of them might
    # have been compared.
    tail = TESTED_RATE / 2 / math.comb(count, 2)
    lucky, unlucky = tail / candidates, tail / _candidates(rival, leader)
    low, high = difference_bounds(
        (best.score, behind.score),
        (
            (_bound(leader, lucky, is_lower=True), _bound(rival, lucky, is_lower=False)),
            (_bound(leader, unlucky, is_lower=False), _bound(rival, unlucky, is_lower=True)),
        ),
    )
    note = (
        f"unpaired: both on the same {leader.images:,} validation images, but the predictions for "
        "each image are not stored"
        if is_same
        else f"unpaired: on {leader.images:,} and {rival.images:,} validation images, which are not"
        " the same ones, or not of the same size"
    )
    return Contrast(
        rival.name,
        leader.name,
        "images",
        best.score - behind.score,
        low > 0,
        low,
        high,
        candidates=candidates,
        note=note,
    )


def _bound(result: SearchResult, error_rate: float, *, is_lower: bool) -> float:
    """Return a one-sided confidence bound of the score of a search's best trial."""
    assert result.best is not None
    metric, metrics = result.metric, result.best.best
    scores = map(metric.score, bounds_of(metric, metrics, result.images, error_rate))
    return min(scores) if is_lower else max(scores)


def _values(best: TrialResult | None) -> dict[str, Any]:
    """Collect the values of a trial's config and params by dotted path; empty for None.

    Values that `_settings` collects are left out.
    """
    if best is None:
        return {}
    told_as_settings = ("data.", "seed", "metric")
    return {
        path: value for path, value in flatten(best.config) if not path.startswith(told_as_settings)
    } | best.params


def _settings(result: SearchResult) -> dict[str, Any]:
    """Collect the settings of a search by name, except its domains and those in `ELSEWHERE`."""
    experiment = result.started.experiment
    options = {name: value for name, value in experiment.items() if name not in ELSEWHERE}
    data = {f"data.{path}": value for path, value in flatten(experiment["base"].get("data", {}))}
    commit = result.started.provenance.get("git.commit", "")
    return {
        "space": experiment["space"]["name"],
        **options,
        **{path: value for path, value in data.items() if path != "data.root"},
        "slots": result.started.slots,
        "code": commit[:10],
    }


def _shared_values(all_settings: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Keep only the settings that all searches have.

    A setting that is missing in a journal of an earlier version is not a difference.
    """
    return [
        {
            name: value
            for name, value in settings.items()
            if all(name in other_settings for other_settings in all_settings)
        }
        for settings in all_settings
    ]


def _differing(mappings: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Collect the names whose values are not all equal, with one value per mapping."""
    rows = {
        name: [mapping.get(name) for mapping in mappings]
        for mapping in mappings
        for name in mapping
    }
    return {
        name: values for name, values in rows.items() if any(value != values[0] for value in values)
    }
