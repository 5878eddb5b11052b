"""Searches side by side: what differs, and whether it is beyond noise."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from cluster.storage.bucket import Bucket
from search.design.experiment import Experiment
from search.facts.comparison import Compared, compare_searches
from search.journal.events import Selected, Selecting
from search.journal.journal import FILE_NAME
from search.journal.result import SearchResult, Selection, TrialResult
from search.values.statistics import Expected
from search.views.comparison_table import comparison_rows, contrast_sentence
from tests.conftest import Command
from tests.support.played import OpenDriver, changed, play, report
from trainables.config import TrialConfig
from trainables.messages import Report
from trainables.statistics import difference_bounds

Played = Callable[..., SearchResult]


def constant(accuracy: float, folds: list[float] | None = None) -> Callable[..., Report]:
    """A training whose accuracy is the same in each epoch, or the mean of these folds."""

    def train(config: TrialConfig, epoch: int) -> Report:
        told = report(epoch, accuracy, "completed" if epoch == config.epochs else None)
        if folds is not None:
            told = replace(told, folds=[{**told.metrics, "val/accuracy": one} for one in folds])
        return told

    return train


@pytest.fixture
def search(open_driver: OpenDriver, experiment: Experiment) -> Played:
    """Plays a search of this name, in which every trial reaches this accuracy."""

    def make(
        name: str,
        accuracy: float,
        *,
        images: int = 1000,
        folds: list[float] | None = None,
        data: dict[str, Any] | None = None,
        **options: Any,
    ) -> SearchResult:
        driver = open_driver(changed(experiment, name=name, **options))
        driver.result.started.data.update(val=images, **(data or {}))
        return play(driver, constant(accuracy, folds)).result

    return make


def said(found: Compared, result: SearchResult) -> str:
    (contrast,) = found.contrasts
    return contrast_sentence(contrast, result.metric)


@pytest.mark.parametrize(
    ("accuracy", "is_beyond", "words"),
    [(0.70, True, "10.00 points behind a: beyond noise"), (0.79, False, "within noise")],
)
def test_on_images_a_difference_is_held_against_both_standard_errors(
    accuracy: float, is_beyond: bool, words: str, search: Played
) -> None:
    better, worse = search("a", 0.80), search("b", accuracy)
    found = compare_searches([worse, better])
    (contrast,) = found.contrasts
    assert (contrast.name, contrast.leader, contrast.by) == ("b", "a", "images")
    assert contrast.is_beyond_noise is is_beyond
    assert words in said(found, better)
    assert "on the same 1,000 validation images" in said(found, better)


def test_over_folds_of_the_same_split_the_difference_is_paired(search: Played) -> None:
    """One that is better in each fold is, though the folds differ more than the searches do."""
    folds = [0.60, 0.75, 0.80, 0.90, 0.95]
    better = search("a", 0.80, folds=folds)
    worse = search("b", 0.78, folds=[one - 0.02 - one / 1000 for one in folds])
    (contrast,) = compare_searches([better, worse]).contrasts
    assert (contrast.by, contrast.is_beyond_noise) == ("folds", True)
    assert contrast.p is not None
    assert contrast.p < 0.01
    assert contrast.note == "paired over 5 folds"


def test_searches_of_which_the_split_decides_how_many_copies_go_are_compared(
    search: Played,
) -> None:
    better = search("a", 0.80, data={"removed": 3})
    worse = search("b", 0.70, images=998, data={"removed": 5})
    (contrast,) = compare_searches([better, worse]).contrasts
    assert (contrast.by, contrast.difference) == ("images", pytest.approx(0.10))


def selected(result: SearchResult, values: dict[int, float]) -> SearchResult:
    """Give a search a selection whose choice has these values, by seed."""
    assert result.best is not None
    name = result.best.trial
    repeats = {}
    for number, (seed, value) in enumerate(values.items(), 1):
        made = TrialResult(f"{name}-s{number}", {}, {**result.best.config, "seed": seed})
        made.repeat_of, made.outcome = name, "completed"
        made.epochs = {1: report(1, value).metrics}
        repeats[made.trial] = made
    terms = Selecting(candidates=[name], seeds=len(values), alpha=0.05, slots=1, began_ms=1)
    expected = Expected(0.5, 0.4, 0.6, 0.1, len(values))
    verdict = Selected(name, f"{name}-s1", name, expected, 0.5, [], 0.05, 0.95)
    result.selection = Selection(terms, [], repeats, verdict=verdict)
    result.current_sessions = result.selection.sessions
    return result


def test_fresh_seeds_are_paired_by_seed_and_not_by_their_place(search: Played) -> None:
    better = selected(search("a", 0.80), {1: 0.60, 2: 0.70, 3: 0.80, 4: 0.90})
    worse = selected(search("b", 0.78), {4: 0.879, 3: 0.78, 2: 0.681, 9: 0.1})
    (contrast,) = compare_searches([better, worse]).contrasts
    assert (contrast.by, contrast.note) == ("seeds", "paired over 3 fresh seeds of search.select")
    assert contrast.difference == pytest.approx(0.02)


def test_selections_with_other_seeds_are_compared_by_their_images(search: Played) -> None:
    better = selected(search("a", 0.80), {1: 0.60, 2: 0.70})
    worse = selected(search("b", 0.78), {3: 0.58, 4: 0.68})
    assert compare_searches([better, worse]).contrasts[0].by == "images"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"data": {"root": "/elsewhere"}}, "different data"),
        ({"data": {"removed": 3}}, "different data"),
        ({"data": {"classes": ["a", "b", "c"]}}, "different data"),
        ({"metric": "macro_f1"}, "different metrics: accuracy and macro F1"),
    ],
)
def test_what_cannot_be_compared_is_said(
    changes: dict[str, Any], reason: str, search: Played, experiment: Experiment
) -> None:
    better = search("a", 0.80)
    options = {key: value for key, value in changes.items() if key != "metric"}
    worse = search("b", 0.70, **options)
    if "metric" in changes:
        worse.started.experiment["base"]["metric"] = changes["metric"]
        for trial in worse.trials.values():
            trial.config["metric"] = changes["metric"]
            for metrics in trial.epochs.values():
                metrics["val/macro_f1"] = 0.5
    found = compare_searches([better, worse])
    assert found.contrasts[0].by == "nothing"
    assert reason in said(found, better)


def test_searches_by_unlike_metrics_are_each_compared_among_their_own(search: Played) -> None:
    """A macro F1 of 0.9 leads no accuracy of 0.8."""
    results = [search("a", 0.80), search("b", 0.60), search("c", 0.80), search("d", 0.60)]
    for result in results[1::2]:
        result.started.experiment["base"]["metric"] = "macro_f1"
        for trial in result.trials.values():
            trial.config["metric"] = "macro_f1"
            for metrics in trial.epochs.values():
                metrics["val/macro_f1"] = 0.9 if result.name == "b" else 0.7
    found = compare_searches(results)
    pairs = [(one.leader, one.name, one.by) for one in found.contrasts]
    assert pairs == [("a", "c", "images"), ("b", "d", "images"), ("a", "b", "nothing")]
    assert [one.metric for one in found.searches] == ["accuracy", "macro_f1"] * 2
    _, (title, *cells), *_ = comparison_rows(found, results)
    assert (title, cells[1].endswith("0.9000 (macro F1)")) == ("best val", True)


def test_other_splits_of_the_same_images_are_compared_unpaired(search: Played) -> None:
    folds = [0.8, 0.8]
    better, worse = search("a", 0.80, folds=folds), search("b", 0.70, folds=folds)
    worse.started.experiment["base"]["data"]["split_seed"] = 7
    (contrast,) = compare_searches([better, worse]).contrasts
    assert contrast.by == "images"
    assert "not the same ones" in contrast.note


def test_what_differs_is_listed_and_what_does_not_is_not(
    search: Played, experiment: Experiment
) -> None:
    one = search("a", 0.80)
    two = search("b", 0.70, sure=0.5, base=experiment.base.override({"batch_size": 32}))
    found = compare_searches([one, two])
    assert found.params == {"batch_size": [experiment.base.batch_size, 32]}
    assert found.settings == {"sure": [experiment.sure, 0.5]}


def test_what_an_older_journal_does_not_hold_is_no_difference(search: Played) -> None:
    one, two = search("a", 0.80), search("b", 0.70, sure=0.5)
    del two.started.experiment["scheduler"]
    assert list(compare_searches([one, two]).settings) == ["sure"]


def test_a_search_without_a_result_is_told_too(
    search: Played, open_driver: OpenDriver, experiment: Experiment
) -> None:
    better = search("a", 0.80)
    empty = open_driver(changed(experiment, name="empty")).result
    found = compare_searches([empty, better])
    assert said(found, better) == "empty and a cannot be compared: it has no result yet."


def test_bounds_of_a_difference_are_farther_off_where_the_bounds_of_both_are() -> None:
    near = difference_bounds((0.8, 0.7), ((0.77, 0.74), (0.83, 0.66)))
    assert near == pytest.approx((0.1 - 0.05, 0.1 + 0.05))
    far = difference_bounds((0.8, 0.7), ((0.68, 0.74), (0.83, 0.66)))
    assert far[0] < 0 < near[0] < near[1] == far[1]


def with_candidates(result: SearchResult, count: int, *, epochs: int | None = None) -> SearchResult:
    """The best trial among so many trainings, all the others a little worse than it."""
    best = result.best
    assert best is not None
    result.trials = {best.trial: best}
    for number in range(1, count):
        length = epochs or len(best.epochs)
        made = replace(best, trial=f"o{number}", training_key=f"o{number}")
        made.epochs = {epoch: report(epoch, best.value - 1e-4).metrics for epoch in range(length)}
        result.trials[made.trial] = made
    return result


@pytest.mark.parametrize(
    ("leaders", "others", "is_beyond"), [(1, 1, True), (1, 300, True), (300, 1, False)]
)
@pytest.mark.parametrize("by", ["folds", "images"])
def test_the_best_of_many_has_to_be_better_by_more(
    by: str, leaders: int, others: int, is_beyond: bool, search: Played
) -> None:
    """The luck of the one that is behind is no reason to doubt that it is."""
    folds = [0.60, 0.75, 0.80, 0.90, 0.95] if by == "folds" else None
    worse_folds = folds and [
        one - lead for one, lead in zip(folds, [0.04, 0.06, 0.05, 0.03, 0.05], strict=True)
    ]
    better = with_candidates(search("a", 0.80, folds=folds), leaders)
    worse = with_candidates(search("b", 0.754, folds=worse_folds), others)
    (contrast,) = compare_searches([better, worse]).contrasts
    assert (contrast.by, contrast.leader, contrast.candidates) == (by, "a", leaders)
    assert contrast.is_beyond_noise is is_beyond
    assert (
        "corrected for the best of 300 trainings" in said(compare_searches([better, worse]), better)
    ) is (leaders == 300)


def test_longer_trainings_count_several_times_since_the_best_epoch_is_taken(
    search: Played,
) -> None:
    worse = with_candidates(search("b", 0.78), 1)
    length = len(worse.trials[next(iter(worse.trials))].epochs)
    better = with_candidates(search("a", 0.80), 5, epochs=3 * length)
    (contrast,) = compare_searches([better, worse]).contrasts
    assert contrast.candidates == 3 * 4 + len(better.best.epochs) // length  # type: ignore[union-attr]


def test_a_choice_among_many_by_their_fresh_seeds_has_to_be_better_by_more(search: Played) -> None:
    seeds = {1: 0.60, 2: 0.70, 3: 0.80, 4: 0.90}
    worse = selected(search("b", 0.78), {1: 0.57, 2: 0.66, 3: 0.77, 4: 0.84})
    found = []
    for count in (1, 20):
        better = selected(search(f"a{count}", 0.80), seeds)
        assert better.selection is not None
        better.selection.started.candidates.extend(f"o{number}" for number in range(1, count))
        (contrast,) = compare_searches([better, worse]).contrasts
        found.append((contrast.by, contrast.candidates, contrast.is_beyond_noise))
    assert found == [("seeds", 1, True), ("seeds", 20, False)]


def test_a_perfect_value_of_few_images_is_not_certain(search: Played) -> None:
    """Without bounds of its own, 20 right of 20 would have no error at all."""
    better, worse = search("a", 1.0, images=20), search("b", 0.8, images=20)
    for result in (better, worse):
        with_candidates(result, 1)
    assert compare_searches([better, worse]).contrasts[0].is_beyond_noise is False


def test_the_command_prints_a_table_or_json(
    search: Played, experiment: Experiment, call: Command
) -> None:
    search("first", 0.80)
    search("second", 0.70, seed=3)
    where = ("--storage", experiment.folder.parent)
    done = call("search.compare", "first", "second", *where)
    assert (done.returncode, done.stderr) == (0, "")
    assert "best val accuracy       0.8000            0.7000" in done.stdout
    assert "second is 10.00 points behind first" in done.stdout
    told = json.loads(call("search.compare", "first", "second", *where, "--json").stdout)
    assert [one["value"] for one in told["searches"]] == [0.8, 0.7]
    for words, line in (
        (["first"], "pass the names of at least two searches"),
        (["first", "first"], "at least two searches, each name only once"),
        (["first", "secnd"], "Did you mean 'second'?"),
    ):
        refused = call("search.compare", *words, *where)
        assert (refused.returncode, line in refused.stderr) == (2, True)


def test_searches_in_a_bucket_are_compared_too(
    search: Played,
    experiment: Experiment,
    bucket: Bucket,
    call: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(experiment.folder.parent / "cache"))
    for name, accuracy in (("first", 0.8), ("second", 0.7)):
        search(name, accuracy)
        content = (experiment.folder.parent / name / FILE_NAME).read_bytes()
        bucket.put(content, f"{name}/{FILE_NAME}/000001")
    done = call("search.compare", "first", "second", "--storage", bucket)
    assert (done.returncode, "points behind first" in done.stdout) == (0, True)
