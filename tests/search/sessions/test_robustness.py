"""`--evaluate`: from the option to the journal, the report and `--json`."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from search.design.experiment import Experiment
from search.facts.summary import json_summary
from search.journal.events import Stressed
from search.journal.journal import Event
from search.journal.result import SearchResult
from search.sessions.estimate import Estimate, estimate_search
from search.space import Choice, SearchSpace
from search.values.evaluations import parse_evaluations
from search.views.page.page import render
from search.views.text.robustness import comparison_rows, robustness_lines
from tests.search.conftest import Inline
from tests.search.views.test_page import played
from trainables.errors import ConfigError
from trainables.robustness.stress_tests import PUBLISHED, predictions_of

CORRUPTED = {
    "images": 500,
    "clean": 0.8,
    "accuracy": 0.61,
    "error": 0.01,
    "low": 0.59,
    "high": 0.63,
    "table": {name: [0.7, 0.65, 0.6, 0.55, 0.5] for name in PUBLISHED}
    | {"fog": [0.6, 0.5, 0.4, 0.3, 0.2]},
}
LIMITS = {"steps": 20, "restarts": 2}
ATTACKED = {
    "images": 500,
    "clean": 0.8,
    "table": [
        {"method": "pgd", "epsilon": 2 / 255, **LIMITS, "accuracy": 0.3},
        {"method": "square", "epsilon": 2 / 255, **LIMITS, "accuracy": 0.4},
        {"method": "pgd", "epsilon": 8 / 255, **LIMITS, "accuracy": 0.1},
        {"method": "square", "epsilon": 8 / 255, **LIMITS, "accuracy": 0.0},
    ],
    "masked": [8 / 255],
}


@pytest.fixture
def result(experiment: Experiment) -> SearchResult:
    evaluated = played(replace(experiment, evaluate=("corruptions", "adversarial")), 12)
    for name, summary in (("corruptions", CORRUPTED), ("adversarial", ATTACKED)):
        stress(evaluated, evaluated.ranking[0].trial, name, summary)
    return evaluated


def stress(result: SearchResult, trial: str, name: str, summary: dict[str, Any]) -> None:
    epoch = result.trials[trial].best_epoch or 0
    event = Stressed.from_json(Stressed(trial, epoch, name, summary).to_json())
    result.apply(Event(999, 1_795_000_900_000, event))


def test_names_are_separated_by_commas() -> None:
    assert parse_evaluations("adversarial, corruptions") == ("adversarial", "corruptions")


@pytest.mark.parametrize("text", ["", "noise", "corruptions,corruptions", "corruptions,"])
def test_other_names_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=f"must be corruptions or adversarial.*got '{text}'"):
        parse_evaluations(text)


def test_it_is_recorded_with_the_search(experiment: Experiment) -> None:
    assert "evaluate" not in experiment.describe()
    evaluated = replace(experiment, evaluate=("corruptions",))
    again = Experiment.from_description("played", evaluated.describe(), experiment.storage)
    assert again.evaluate == ("corruptions",)


def test_attacks_need_a_network(experiment: Experiment) -> None:
    baselines = SearchSpace({"model.name": Choice("svm", "tree")})
    with pytest.raises(
        ConfigError,
        match=r"--evaluate adversarial cannot be used with svm, which has no network, and thus no "
        r"gradients\. Use --evaluate corruptions, or also search networks.",
    ):
        replace(experiment, space=baselines, evaluate=("corruptions", "adversarial"))
    assert replace(experiment, space=baselines, evaluate=("corruptions",))
    mixed = SearchSpace({"model.name": Choice("svm", "deep_cnn")})
    assert replace(experiment, space=mixed, evaluate=("adversarial",))


@pytest.mark.slow
def test_the_estimate_of_a_search_counts_its_evaluations(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With steps of equal times, so that only the predictions differ."""
    monkeypatch.setattr(
        "trainables.evaluation.estimate.epochs_seconds", lambda configs, *_, **__: [8.0] * 3
    )
    monkeypatch.setattr("trainables.robustness.measure.corruption_seconds", lambda _: 0.01)
    space = SearchSpace({"optimizer.lr": Choice(0.01, 0.1, 1.0)})
    plain = replace(experiment, space=space, tracking=f"sqlite:///{tmp_path}/mlflow.db")
    objectives = ("val_accuracy", "corruption_accuracy")
    without, corrupted, both, measured = (
        estimate_search(search)
        for search in (
            plain,
            replace(plain, evaluate=("corruptions",)),
            replace(plain, evaluate=("corruptions", "adversarial"), objectives=objectives),
            replace(plain, objectives=objectives),
        )
    )
    images, validation = without.data["train"], without.data["val"]
    image_s = 8.0 / (3 * images + validation)
    tested = min(500, validation)
    assert without.evaluate_s == 0
    assert corrupted.evaluate_s == pytest.approx(tested * (76 * image_s + 75 * 0.01))
    assert corrupted.seconds - without.seconds == pytest.approx(0.7 * corrupted.evaluate_s)
    assert both.evaluate_s > 2 * tested * predictions_of("adversarial") * image_s / 2
    assert measured.epoch_s == pytest.approx(8.0 + tested * image_s)
    (line,) = evaluate_lines(corrupted, replace(plain, evaluate=("corruptions",)))
    assert re.fullmatch(r"  of this about .* for --evaluate corruptions of the answer", line)
    (line,) = evaluate_lines(both, replace(plain, evaluate=("adversarial",), objectives=objectives))
    assert line.endswith("for each further trial of the Pareto front, within the budget of time")
    assert evaluate_lines(without, plain) == []


def evaluate_lines(estimate: Estimate, search: Experiment) -> list[str]:
    return [line for line in estimate.lines(search) if "--evaluate" in line]


def test_the_end_of_a_search_has_a_sentence_on_each(result: SearchResult) -> None:
    corrupted, attacked = robustness_lines(result)
    name = result.ranking[0].trial
    assert corrupted == (
        f"{name} classifies 61.0% of corrupted images correctly (95 % interval 59.0% to 63.0%), "
        "and 80.0% of the same 500 images without corruptions; fog harms most (40.0%)."
    )
    assert attacked.startswith(
        f"{name} classifies 80.0% of 500 images correctly, and at most 30.0% (by up to 2/255) and "
        "0.0% (by up to 8/255) if an attacker changes each value of their pixels. "
    )
    assert "At 8/255, the attack without gradients is stronger than PGD" in attacked


def test_the_report_has_a_table_of_corruptions_and_one_of_attacks(result: SearchResult) -> None:
    page = render(result)
    section = page[page.index('id="robustness"') : page.index('id="stopped"')]
    assert section.index("fog") < section.index("gaussian noise")
    assert section.count('<th scope="row">') == 15
    assert "<td>30.0%</td><td>25.8% to 34.4%</td>" in section
    assert "of 500 validation images" in section.replace("share of", "of")
    assert '<a href="#robustness">' in page


def test_a_search_without_the_option_has_no_such_section(experiment: Experiment) -> None:
    page = render(played(experiment, 5))
    assert "robustness" not in page


def test_trials_of_the_front_are_compared_with_the_answer(result: SearchResult) -> None:
    assert comparison_rows(result) == []
    other = result.ranking[1].trial
    stress(result, other, "adversarial", {"reason": "svm has no network"})
    titles, *rows = comparison_rows(result)
    assert titles[-2:] == ["corrupted", "attacked"]
    assert [row[-2:] for row in rows] == [["61.0%", "0.0%"], ["", ""]]
    assert f"{other} cannot be attacked: svm has no network." in list(robustness_lines(result))
    assert "The answer, and the trials of the Pareto front" in render(result)


def test_an_evaluation_of_an_earlier_best_epoch_does_not_count(result: SearchResult) -> None:
    best = result.ranking[0]
    event = replace(best.stressed["corruptions"], epoch=99)
    result.apply(Event(1000, 1_795_000_900_001, event))
    assert [*best.robustness] == ["adversarial"]


def test_json_has_it_by_trial(result: SearchResult, experiment: Experiment, tmp_path: Path) -> None:
    summary = json_summary(result, tracking={}, home=experiment.home, wall_s=1.0)
    assert summary["robustness"][result.ranking[0].trial]["corruptions"]["accuracy"] == 0.61
    other = json_summary(played(experiment, 3), tracking={}, home=experiment.home, wall_s=1.0)
    assert "robustness" not in other


@pytest.mark.slow
def test_a_whole_search_evaluates_only_its_answer(inline: Inline) -> None:
    _, summary_line = inline(
        "run",
        *("--space", "smoke", "--data", "digits", "--trials", "2", "--name", "robust"),
        *("--set", "epochs=2", "--set", "data.train_limit=200", "--set", "data.val_limit=30"),
        *("--evaluate", "corruptions,adversarial"),
    )
    ((name, summary),) = summary_line["robustness"].items()
    assert name == summary_line["best"]["trial_id"]
    assert summary["corruptions"]["images"] == 30
    assert len(summary["adversarial"]["table"]) == 6
