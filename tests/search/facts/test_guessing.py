"""A search's results beside guessing: nobody is told to be good who is no better than that."""

import io
import json
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import sklearn.metrics
from mlflow import MlflowClient
from PIL import Image
from rich.console import Console

from cluster.exit_codes import ExitCode
from search.facts.guessing import guess_figures
from search.facts.summary import json_summary
from search.journal.events import SessionStart, Started, Tested
from search.journal.guessing import (
    AgainstGuessing,
    Guessing,
    answer_against,
    is_answer_at_chance,
    is_tie,
)
from search.journal.result import SearchResult, TrialResult
from search.journal.store import Home
from search.operations import select
from search.operations.predict import _doubt_about
from search.operations.promote import refuse_at_chance
from search.preflight.changes import changes
from search.process.guard import NoBetterThanGuessing
from search.sessions.ending import exit_code
from search.tracking.note import markdown_summary
from search.trained.source import ModelSource
from search.views.page.curves import search_curves
from search.views.page.page import render
from search.views.standing import trials_table
from search.views.text.sentences import against_text, guessing_text
from search.views.text.story import beside_guessing
from search.views.text.tables import models_table
from tests.conftest import Command
from tests.support.played import evaluation, started_event
from tests.support.reports import verdict_texts
from trainables.catalog.guesses import Guess
from trainables.config import TrialConfig
from trainables.datasets.targets import Targets
from trainables.tasks.classification.entry import ENTRY as CLASSIFICATION
from trainables.tasks.classification.guesses import blind_error, expected_values, guesses_of
from trainables.tasks.metrics import SCORES
from trainables.tasks.super_resolution.entry import ENTRY as SUPER_RESOLUTION

DOGS, CATS = 40, 2
EXPERIMENT = {
    "space": {"name": "s", "domains": {"optimizer.lr": {}}, "reference": {}, "reference_title": ""},
    "algorithm": "random",
    "scheduler": "fifo",
    "trials": 1,
    "horizon": 9,
    "seed": 0,
    "gpus_per_trial": 0,
    "cpus_per_trial": 1,
    "workers": 1,
}


def guesses(dogs: int = DOGS, cats: int = CATS) -> list[Guess]:
    return guesses_of(("cat", "dog"), (6, 120), (cats, dogs), (cats, dogs))


def searched(
    *values: float, metric: str = "accuracy", error: float = 0.01, epochs: int = 1, **data: Any
) -> SearchResult:
    """A search whose trials reach these values, each in its last epoch."""
    config = TrialConfig(metric=metric).to_dict()
    key = CLASSIFICATION.metric(metric).key
    facts = {
        **started_event()["data"],
        "classes": ["cat", "dog"],
        "val": DOGS + CATS,
        "guesses": [asdict(guess) for guess in guesses()],
        **data,
    }
    experiment = {**EXPERIMENT, "base": config}
    result = SearchResult("x", Started(**{**started_event(), "data": facts}, experiment=experiment))
    result.sessions = []
    for number, value in enumerate(values):
        shown = {
            epoch: {
                "val/loss": 1.0,
                "val/accuracy": 0.1,
                "time/epoch_s": 1.0,
                key: value if epoch == epochs else 0.0,
                f"{key}_error": error,
            }
            for epoch in range(1, epochs + 1)
        }
        name = f"t{number}"
        result.trials[name] = TrialResult(
            name, {"optimizer.lr": 0.1}, config, "completed", epochs=shown, training_key=name
        )
    result.outcome = "completed"
    return result


def with_test(result: SearchResult, accuracy: float) -> SearchResult:
    """The same search, with the best trial's evaluation on the test part."""
    best = result.best
    assert best is not None
    assert best.best_epoch is not None
    test = {**evaluation()["val"], "images": 1000, "accuracy": accuracy}
    result.tested = Tested(best.trial, best.best_epoch, test)
    return result


# What guessing reaches


def test_always_saying_one_class_reaches_what_scikit_learn_measures_of_it() -> None:
    always, _, _ = guesses()
    truth, said = np.array([0] * CATS + [1] * DOGS), np.ones(CATS + DOGS, int)
    assert always.val["accuracy"] == sklearn.metrics.accuracy_score(truth, said)
    assert always.val["balanced_accuracy"] == sklearn.metrics.balanced_accuracy_score(truth, said)
    f1 = sklearn.metrics.f1_score(truth, said, average="macro", zero_division=0)
    assert always.val["macro_f1"] == pytest.approx(f1)
    assert "log_loss" not in always.val  # it is infinite
    assert (always.title, always.says) == ("always 'dog'", "dog")


def test_the_class_mix_reaches_what_many_random_guesses_do() -> None:
    _, mix, _ = guesses()
    generator = np.random.default_rng(0)
    truth, shares = np.array(([0] * CATS + [1] * DOGS) * 2000), (6 / 126, 120 / 126)
    said = generator.choice(2, len(truth), p=shares)
    assert mix.val["accuracy"] == pytest.approx((truth == said).mean(), abs=0.005)
    f1 = sklearn.metrics.f1_score(truth, said, average="macro")
    assert mix.val["macro_f1"] == pytest.approx(f1, abs=0.01)
    assert mix.val["balanced_accuracy"] == 0.5
    chances = np.tile(shares, (len(truth), 1))
    assert mix.val["log_loss"] == pytest.approx(sklearn.metrics.log_loss(truth, chances))


UNLIKE = guesses_of(("cat", "dog"), (40, 360), (150, 150), (180, 120))
"""Guesses where nine in ten training images are dogs, and as many cats are met afterwards."""


def test_guesses_know_the_class_mix_of_the_very_images_that_they_are_held_against() -> None:
    dog, cat, mix, even = UNLIKE
    titles = ["always 'dog'", "always 'cat'", "class mix", "guessing all classes equally often"]
    assert [guess.title for guess in UNLIKE] == titles
    assert even.val == even.test == {"worst_group_accuracy": 0.5}
    assert (dog.val["accuracy"], cat.test["accuracy"]) == (0.5, 0.6)
    assert mix.val["macro_f1"] == mix.test["macro_f1"] == 0.5
    assert mix.val["log_loss"] == pytest.approx(np.log(2))
    shares = np.array([0.6, 0.4])
    assert mix.test["log_loss"] == pytest.approx(-(shares * np.log(shares)).sum())


@pytest.mark.parametrize("metric", [metric.name for metric in CLASSIFICATION.metrics])
@pytest.mark.parametrize("counts", [(150, 150), (180, 120), (5, 0, 95), (1,) * 10, (400, 3, 30)])
def test_no_constant_answer_is_better_than_the_best_guess(
    metric: str, counts: tuple[int, ...]
) -> None:
    """One class, equal shares as with balanced class weights, or any other mix."""
    names = [str(number) for number in range(len(counts))]
    train = [90, *[10] * (len(counts) - 1)]
    score = CLASSIFICATION.metric(metric).score
    guesses = guesses_of(names, train, counts, counts)
    best = max(score(guess.val[metric]) for guess in guesses if metric in guess.val)
    generator = np.random.default_rng(0)
    others = [*np.eye(len(counts)), *generator.dirichlet(np.ones(len(counts)), 500)]
    for shares in [*others, np.full(len(counts), 1 / len(counts)), np.array(train) / sum(train)]:
        reached = expected_values(shares.tolist(), counts)
        assert metric not in reached or score(reached[metric]) <= best + 1e-12


@pytest.mark.parametrize(
    ("metric", "value"), [("log_loss", np.log(2)), ("macro_f1", 0.5), ("balanced_accuracy", 0.5)]
)
def test_equal_shares_for_all_are_a_guess_whatever_the_training_images_mix(
    metric: str, value: float
) -> None:
    """As a network without signal answers that was trained with balanced class weights."""
    data = {"val": 300, "guesses": [asdict(guess) for guess in UNLIKE]}
    assert is_answer_at_chance(searched(value, metric=metric, error=1e-3, **data))


@pytest.mark.parametrize("counts", [(10, 10), (40, 2), (30, 20, 10), (90, 5, 5), (20,) * 8])
def test_the_error_without_signal_is_the_largest_that_blind_networks_have(
    counts: tuple[int, ...],
) -> None:
    """Every network answers by a taste of its own, and by one feature or several."""
    generator, classes = np.random.default_rng(0), len(counts)
    labels = np.repeat(np.arange(classes), counts)
    worst = dict.fromkeys(("balanced_accuracy", "auc"), 0.0)
    for network in range(4):
        taste, slopes = generator.normal(size=(2, classes)) * [[network // 2], [1]]
        values: dict[str, list[float]] = {name: [] for name in worst}
        for _ in range(300):
            drawn = generator.normal(size=(len(labels), 1 if network % 2 else classes))
            chances = np.exp(taste + drawn * slopes)
            chances /= chances.sum(axis=1, keepdims=True)
            for name, each in values.items():
                each.append(SCORES[name](labels, chances).value)
        worst = {name: max(worst[name], float(np.std(each))) for name, each in values.items()}
    largest = blind_error(counts)
    for name, spread in worst.items():
        assert 0.75 * largest[name] < spread < 1.15 * largest[name]  # 300 draws know it to 4 %


def test_a_task_without_classes_has_no_guesses() -> None:
    assert Targets().guesses(None) == []  # type: ignore[arg-type]


def test_without_a_test_part_there_is_nothing_to_say_of_it() -> None:
    found = guesses_of(("cat", "dog"), (6, 120), (2, 40), (0, 0))
    assert [guess.test for guess in found] == [{}, {}, {}]


# Who is better


@pytest.mark.parametrize(
    ("right", "images", "above"),
    [
        (40 / 42, 42, False),  # what guessing reaches
        (41 / 42, 42, False),  # one image more
        (42 / 42, 42, False),  # all of them: both cats may be luck where one image in 21 is a cat
        (0.952, 1000, False),
        (0.975, 1000, True),
        (0.5, 1000, False),
    ],
)
def test_a_trial_is_better_than_guessing_by_more_than_noise(
    right: float, images: int, above: bool
) -> None:
    result = searched(right, val=images)
    assert is_answer_at_chance(result) is not above
    found = answer_against(result)
    assert found is not None
    assert found.part == "validation"
    assert (found.low > 0) is above


def test_the_best_of_many_looks_must_be_better_by_more() -> None:
    assert not is_answer_at_chance(searched(0.975, val=1000))
    assert is_answer_at_chance(searched(*[0.975] + [0.9] * 20, epochs=50, val=1000))


def test_the_lengths_of_one_training_are_looked_at_once() -> None:
    result = searched(0.975, 0.97, 0.96, epochs=5)
    for trial in result.trials.values():
        trial.training_key = "same"
    guessing = Guessing.of(result)
    assert guessing is not None
    assert guessing.looks == 5


@pytest.mark.parametrize(("test", "above"), [(0.953, False), (0.99, True)])
def test_the_test_part_decides_where_it_was_opened(test: float, above: bool) -> None:
    for value in (0.96, 1.0):
        found = answer_against(with_test(searched(value, val=5000), test))
        assert found is not None
        assert (found.part, found.looks, found.is_above) == ("test", 1, above)


def test_a_trial_below_the_guess_on_the_validation_set_is_at_chance_whatever_its_test() -> None:
    found = answer_against(with_test(searched(0.9, val=5000), 0.99))
    assert found is not None
    assert (found.part, found.is_above) == ("validation", False)
    assert found.difference == pytest.approx(0.9 - 0.952, abs=0.01)
    tie = answer_against(with_test(searched(found.guessed, val=5000), 0.99))
    assert tie is not None
    assert (tie.part, tie.is_above) == ("test", True)


@pytest.mark.parametrize(
    ("metric", "value", "above"),
    [
        ("balanced_accuracy", 0.9, True),
        ("balanced_accuracy", 0.75, False),  # nor here
        ("macro_f1", 0.9, True),
        ("macro_f1", 0.75, False),
        ("log_loss", 0.1, True),
        ("log_loss", 0.19, False),
        ("auc", 0.75, False),  # two images of a class say little, whatever error was reported
    ],
)
def test_other_metrics_are_judged_by_their_own_error(
    metric: str, value: float, above: bool
) -> None:
    assert is_answer_at_chance(searched(value, metric=metric, error=0.01)) is not above


def test_a_journal_of_an_earlier_version_tells_nothing_of_guessing(tmp_path: Path) -> None:
    result = searched(0.952, 0.952)
    del result.started.data["guesses"]
    assert Guessing.of(result) is None
    assert not is_answer_at_chance(result)
    assert (guessing_text(result), guess_figures(result)) == ("", {})
    assert beside_guessing(result, "t0") == ""
    refuse_at_chance(result, result.trials["t0"], tmp_path)


def test_the_same_data_with_guesses_are_no_change() -> None:
    old, new = (SessionStart(data={"fingerprint": "f", **more}) for more in ({}, {"guesses": [1]}))
    assert changes(old, new) == []


# What is said of it


def test_trials_at_chance_are_said_to_be_everywhere(tmp_path: Path) -> None:
    result = searched(40 / 42, 40 / 42)
    said = (
        "No better than guessing: always predicting 'dog' reaches 95.2% accuracy on the 42 "
        "validation images, t0 95.2%."
    )
    assert is_tie(result)
    tie = "Both trials tie at 95.2%, so none is better than another."
    assert guessing_text(result) == f"{said} {tie}"
    assert verdict_texts(result)["Guessing"] == f"{said} {tie}"
    assert f"{said} {tie}" in markdown_summary(result)
    assert "| 0.9524 | completed, at chance |" in markdown_summary(result)
    assert beside_guessing(result, "t0") == said
    console = Console(file=io.StringIO(), width=200)
    console.print(trials_table(result))
    assert console.file.getvalue().count("completed, at chance") == 2  # type: ignore[attr-defined]


def test_better_than_guessing_is_said_with_how_much_at_least() -> None:
    text = guessing_text(with_test(searched(0.99, 0.98), 0.99))
    assert text == (
        "Better than guessing: always predicting 'dog' reaches 95.2% accuracy on the 1,000 test "
        "images, t0 99.0%, at least 3.07 points better (error rate 5%)."
    )


def test_the_table_of_models_ends_with_the_ways_to_guess() -> None:
    result = searched(0.99, 0.98)
    result.trials["t1"] = replace(
        result.trials["t1"],
        config=TrialConfig().override({"model.name": "svm"}).to_dict(),
    )
    titles, *rows = models_table(result)
    assert [row[titles.index("model")] for row in rows] == [
        "deep_cnn",
        "svm",
        "always 'dog'",
        "class mix",
    ]
    assert rows[2][titles.index("val accuracy")] == "0.9524"
    assert rows[2][titles.index("trial")] == ""


def test_the_curves_have_a_line_for_guessing_and_its_value() -> None:
    figure = search_curves(searched(0.99, 0.98, epochs=3))
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "always 'dog': 0.952" in texts
    levels = [line.get_ydata()[0] for line in figure.axes[0].lines if line.get_linestyle() == ":"]
    assert levels == [pytest.approx(40 / 42)]


def test_json_has_the_comparison_with_its_interval(tmp_path: Path) -> None:
    result = with_test(searched(0.99), 0.99)
    result.sessions = result.current_sessions = []
    found = json_summary(result, tracking={}, home=Home(tmp_path), wall_s=1.0)
    told = json.loads(json.dumps(found["above_chance"]))
    assert told["above"] is True
    assert told["part"] == "test"
    assert told["low"] < told["difference"] < told["high"]
    assert told["difference"] == pytest.approx(0.99 - 40 / 42)
    assert [guess["says"] for guess in found["guesses"]] == ["dog", "", ""]


def test_mlflow_has_the_best_guess_by_the_metric_and_by_accuracy() -> None:
    assert guess_figures(searched(0.6, metric="macro_f1")) == {
        "guess/val_macro_f1": 0.5,
        "guess/val_accuracy": pytest.approx(40 / 42),
        "guess/test_macro_f1": 0.5,
        "guess/test_accuracy": pytest.approx(40 / 42),
    }


# What follows


def test_the_exit_code_of_a_search_that_found_nothing_is_its_own() -> None:
    assert exit_code(with_test(searched(0.95), 0.95), [], []) == ExitCode.AT_CHANCE == 6
    assert exit_code(with_test(searched(0.99), 0.99), [], []) == 0
    assert exit_code(with_test(searched(0.95), 0.95), [], ["MLflow is away"]) == 4
    assert select.exit_code(searched(0.95), [], []) == 0  # there is no selection


def test_a_model_at_chance_is_not_promoted(tmp_path: Path) -> None:
    result = searched(40 / 42, 39 / 42)
    with pytest.raises(NoBetterThanGuessing) as refused:
        refuse_at_chance(result, result.trials["t1"], tmp_path)
    assert str(refused.value).startswith(
        "t1 is no better than always predicting 'dog': the trial reaches 0.9286, and guessing "
        "reaches 0.9524 of the 42 validation images. To register the trial anyway: "
    )
    assert str(refused.value).endswith(f"search.promote x --storage {tmp_path} --trial t1 --anyway")
    good = with_test(searched(0.99), 0.99)
    refuse_at_chance(good, good.trials["t0"], tmp_path)


# 200 dogs and 8 cats


@pytest.fixture
def dogs_and_cats(tmp_path: Path) -> Path:
    """Grey images: cats are a little brighter than dogs in the middle, which few images show."""
    generator = np.random.default_rng(0)
    for name, count, bright in (("cat", 8, 60), ("dog", 200, 0)):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for number in range(count):
            pixels = generator.integers(60, 140, (8, 8))
            pixels[2:6, 2:6] += bright
            image = Image.fromarray(pixels.astype(np.uint8))
            image.save(tmp_path / "pets" / name / f"{number}.png")
    return tmp_path / "pets"


def options(folder: Path, database: str, *more: str) -> list[str]:
    return [
        *("--space", "smoke", "--data", f"folder:{folder}", "--executor", "inline"),
        *("--device", "cpu", "--no-cache", "--scheduler", "fifo", "--tracking", database, *more),
    ]


def test_a_search_that_only_says_dog_is_told_and_not_promoted(
    call: Command, dogs_and_cats: Path, database: str, tmp_path: Path
) -> None:
    words = ("--name", "pets", "--trials", "1", "--set", "epochs=1", "--set", "optimizer.lr=1e-6")
    found = call("search.run", *options(dogs_and_cats, database, *words))
    assert found.returncode == ExitCode.AT_CHANCE
    assert "--set train.class_weights=balanced" in found.stderr
    assert "No better than guessing: always predicting 'dog' reaches 95.2% accuracy" in found.stdout
    result = SearchResult.read(tmp_path / "searches" / "pets")
    assert is_answer_at_chance(result)
    assert "at chance" in render(result)
    client = MlflowClient(database)
    (parent,) = client.search_runs(
        [one.experiment_id for one in client.search_experiments()],
        "tags.`search.role` = 'search'",
    )
    assert parent.data.tags["above_chance"] == "false"
    assert parent.data.metrics["guess/val_accuracy"] == pytest.approx(40 / 42)
    refused = call("search.promote", "pets", "--tracking", database)
    assert refused.returncode == ExitCode.AT_CHANCE
    assert "no better than always predicting 'dog'" in refused.stderr
    assert call("search.resume", "pets", "--tracking", database).returncode == ExitCode.AT_CHANCE


def test_with_class_weights_a_search_finds_cats(
    call: Command, dogs_and_cats: Path, database: str, tmp_path: Path
) -> None:
    words = ("--name", "pets", "--trials", "1", "--set", "epochs=8", "--set", "optimizer.lr=3e-3")
    by = ("--metric", "balanced_accuracy", "--set", "train.class_weights=balanced")
    found = call("search.run", *options(dogs_and_cats, database, *words, *by))
    assert "train.class_weights" not in found.stderr  # it is not offered to who has it
    test = SearchResult.read(tmp_path / "searches" / "pets").test
    assert all(test["per_class"][name]["recall"] > 0.5 for name in ("cat", "dog"))


@pytest.mark.parametrize(
    ("value", "low", "told"),
    [
        (
            1.2,
            0.9,
            "Better than bicubic enlargement: on the 16 test images, t0001 is 1.20 dB better, at "
            "least 0.90 dB (error rate 5%).",
        ),
        (
            0.2,
            -0.1,
            "No better than bicubic enlargement: on the 16 test images, t0001 is 0.20 dB better, "
            "which may be luck (error rate 5%).",
        ),
        (
            -0.3,
            -0.6,
            "No better than bicubic enlargement: on the 16 test images, t0001 is 0.30 dB worse.",
        ),
    ],
)
def test_a_method_that_learns_nothing_is_named(value: float, low: float, told: str) -> None:
    guess = Guess.from_json(asdict(Guess("", {"gain": 0.0}, method="bicubic enlargement")))
    comparison = AgainstGuessing(
        guess=guess,
        metric=SUPER_RESOLUTION.primary,
        part="test",
        images=16,
        value=value,
        guessed=0.0,
        low=low,
        high=2.0,
        looks=1,
    )
    assert against_text(comparison, "t0001") == told
    assert guess.title == guess.doing == "bicubic enlargement"


@pytest.mark.parametrize("is_above", [True, False])
def test_predict_warns_of_an_answer_that_is_no_better_than_guessing(
    is_above: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    low = 0.9 if is_above else -0.1
    comparison = AgainstGuessing(
        guess=Guess("", {"gain": 0.0}, method="bicubic enlargement"),
        metric=SUPER_RESOLUTION.primary,
        part="test",
        images=3,
        value=1.0 if is_above else -0.07,
        guessed=0.0,
        low=low,
        high=2.0,
        looks=1,
    )
    answer = SimpleNamespace(chosen=SimpleNamespace(trial="t0002"))
    monkeypatch.setattr(SearchResult, "read", lambda folder: answer)
    monkeypatch.setattr("search.operations.predict.answer_against", lambda result: comparison)
    doubt = _doubt_about(ModelSource(name="larger", storage=tmp_path))
    told = "No better than bicubic enlargement: on the 3 test images, t0002 is 0.07 dB worse."
    assert doubt == ("" if is_above else told)
