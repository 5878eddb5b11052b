"""A search by another metric than accuracy: people and programs are told its values."""

import io
import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from cluster.errors import Refused
from search.design.experiment import Experiment
from search.facts.importance import importance
from search.facts.metric import interval, least_score
from search.facts.standing import SearchStanding, standing_json
from search.facts.summary import json_selection, json_summary
from search.facts.trials import deviation
from search.journal.events import Evaluated, Tested, from_json
from search.journal.journal import Event, read
from search.journal.result import SearchResult, TrialResult
from search.journal.store import Home
from search.operations.promote import Promotion
from search.operations.refine import refuse_few
from search.tracking.note import markdown_summary
from search.trained.description import model_figures, tags
from search.views.base import Finished
from search.views.live import Display
from search.views.outcome import print_selection, print_summary
from search.views.page.comparison import parallel, pareto
from search.views.page.curves import search_curves, trial_curves, worst_shown
from search.views.page.page import render
from search.views.standing import standing_lines, trials_table
from search.views.text.labels import interval_text, strategy_text, with_article
from search.views.text.sentences import quicker_text, selection_sentences
from search.views.text.tables import front_table, models_table
from search.views.text.verdict import tiles
from tests.support.played import OpenDriver, changed, evaluation, play, report
from tests.support.reports import verdict_texts, words
from tests.support.stories import story_lines
from trainables.catalog.entries import Metric
from trainables.catalog.models import MODELS
from trainables.config import TrialConfig
from trainables.messages import Report
from trainables.tasks import TASKS
from trainables.tasks.classification.entry import ENTRY as CLASSIFICATION

TRACKING = {"tracking_uri": "sqlite:///m.db", "experiment_id": "1", "parent_run_id": "r"}
VALUES = {
    "macro_f1": {0.001: 0.5, 0.01: 0.8, 0.1: 0.3},
    "log_loss": {0.001: 1.0, 0.01: 0.4, 0.1: 2.0},
}
"""Each metric by learning rate; accuracy is highest with 0.1."""


@dataclass
class Searched:
    """A played search, with what it is by."""

    experiment: Experiment
    result: SearchResult
    metric: Metric

    @property
    def best(self) -> TrialResult:
        """The best trial, which there is."""
        assert self.result.best is not None
        return self.result.best

    @property
    def events(self) -> list[Event]:
        """The journal."""
        return read(self.experiment.folder / "journal.jsonl")


def on_test_part(metric: Metric) -> dict[str, Any]:
    """An evaluation on the test part."""
    found = {"name": metric.name, "value": 0.4321, "low": 0.3456, "high": 0.5678}
    return {**evaluation()["val"], "images": 4, "metric": found}


def trained(metric: Metric, config: TrialConfig, epoch: int) -> Report:
    """What a worker says after an epoch: longer is a little better, by both metrics."""
    gain = 0.01 * epoch
    value = VALUES[metric.name][config.optimizer.lr] + metric.score(gain)
    said = report(
        epoch,
        0.6 + config.optimizer.lr + gain / 10,
        "completed" if epoch == config.epochs else None,
    )
    by_metric = {metric.key: value, metric.error_key: 0.04 / 1.959964}
    return replace(said, metrics=said.metrics | by_metric)


@pytest.fixture(params=list(VALUES))
def searched(
    request: pytest.FixtureRequest, experiment: Experiment, open_driver: OpenDriver
) -> Searched:
    """Nine trials by a metric, stopped by asha, with a test."""
    metric = CLASSIFICATION.metric(request.param)
    mine = changed(
        experiment,
        base=experiment.base.override({"metric": metric.name}),
        objectives=(),
        scheduler="asha",
    )
    driver = play(open_driver(mine), lambda config, epoch: trained(metric, config, epoch), slots=9)
    best = driver.result.best
    assert best is not None
    driver.journal.append(Evaluated(trial=best.trial, epoch=best.best_epoch, **evaluation()))
    driver.journal.append(
        Tested(trial=best.trial, epoch=best.best_epoch, test=on_test_part(metric))
    )
    return Searched(mine, driver.result, metric)


def printed(console: Console) -> str:
    """Return what a console has printed, on one line."""
    return re.sub(r"\s+", " ", console.file.getvalue())  # type: ignore[attr-defined]


def ended(searched: Searched) -> Finished:
    return Finished(searched.experiment, searched.result, TRACKING, 0, 1.0)


def test_the_best_is_that_by_the_metric(searched: Searched) -> None:
    accurate = max(searched.result.trials.values(), key=lambda trial: trial.primary_value)
    assert searched.best.params["optimizer.lr"] == 0.01
    assert accurate.params["optimizer.lr"] == 0.1
    assert searched.best.primary_value < accurate.primary_value


def test_the_last_lines_tell_the_metric_then_accuracy(searched: Searched) -> None:
    console, title = Console(file=io.StringIO(), width=200), searched.metric.title
    best = searched.best
    print_summary(ended(searched), console)
    assert (
        f"val {title} {best.value:.4f} test {title} 0.4321 "
        f"val accuracy {best.primary_value:.4f} test accuracy 0.7500"
    ) in printed(console)
    assert (
        f" On new images: {best.trial} reaches {with_article(searched.metric)} of 0.4321 on the 4 "
        "test images (95% interval: 0.3456 to 0.5678), and classifies 75.0% of them correctly. "
    ) in printed(console)


def test_the_note_tells_the_metric(searched: Searched) -> None:
    title, best, note = searched.metric.title, searched.best, markdown_summary(searched.result)
    assert f", grid + asha, by {title}, seed 0." in note
    assert (
        f"Best: `{best.trial}`, validation {title} {best.value:.4f}, test {title} 0.4321, "
        f"validation accuracy {best.primary_value:.4f}."
    ) in note
    assert f"| epochs | val {title} | outcome |" in note
    assert re.search(rf"^\| {best.trial} .* \| {best.value:.4f} \|", note, re.MULTILINE)
    titles, first = models_table(searched.result)
    shared = [] if title == "macro F1" else ["macro F1"]
    assert (
        titles[:5]
        == ["model", "trial", f"val {title}", "val accuracy", *shared, "ms/image alone"][:5]
    )
    assert first[2:4] == [f"{best.value:.4f}", f"{best.primary_value:.4f}"]


def test_status_and_progress_tell_the_metric(searched: Searched) -> None:
    result, best = searched.result, searched.best
    console = Console(file=io.StringIO(), width=200, force_terminal=True)
    assert f"; best {best.value:.4f} ({best.trial})" in " ".join(
        standing_lines(SearchStanding("played", result))
    )
    console.print(trials_table(result))
    console.print(Display(result, 9, console)._table())
    assert printed(console).count(f"val {searched.metric.title}") == 2
    assert f"{best.value:.4f}" in printed(console)
    assert "accuracy" not in printed(console).replace("balanced accuracy", "")
    found: Any = standing_json(SearchStanding("played", result))
    assert (found["metric"], found["mode"]) == (searched.metric.name, searched.metric.mode)
    row = found["trials"][best.trial]
    assert (row["value"], row["val_accuracy"]) == (best.value, best.primary_value)


def test_the_story_of_a_trial_is_by_the_metric(searched: Searched) -> None:
    title, best = searched.metric.title, searched.best
    told = "\n".join(story_lines(searched.events, best.trial))
    assert re.search(
        rf"epoch {best.best_epoch}: val {title} {best.value:.4f}, its best, val accuracy "
        rf"{best.primary_value:.4f}, val loss",
        told,
    )
    assert f"tested on the test set: {title} 0.4321, accuracy 0.7500" in told
    rivals = next(
        text
        for name, trial in searched.result.trials.items()
        if trial.stop and "by " in (text := "\n".join(story_lines(searched.events, name)))
    )
    heading, *rows = rivals[rivals.rindex("trials that had reached it") :].splitlines()
    assert heading == f"trials that had reached it, by their {title} until then:"
    values = [
        float(row[1]) for line in rows if (row := re.search(r"\d+\. t\d{4} (\d\.\d{4})", line))
    ]
    assert len(values) > 2
    assert values == sorted(values, reverse=searched.metric.mode == "max")


def test_json_has_the_metric_beside_accuracy(searched: Searched) -> None:
    best = searched.best
    found = json_summary(searched.result, tracking={}, home=Home(Path("s")), wall_s=1.0)
    assert (found["metric"], found["mode"]) == (searched.metric.name, searched.metric.mode)
    assert found["best"]["trial_id"] == best.trial
    assert (found["best"]["value"], found["best"]["val_accuracy"]) == (
        best.value,
        best.primary_value,
    )
    assert (found["best"]["test_value"], found["best"]["test_accuracy"]) == (0.4321, 0.75)
    assert found["models"][0]["value"] == best.value
    chosen = json_selection(searched.result, tracking={}, home=Home(Path("s")))
    assert (chosen["metric"], chosen["test_value"]) == (searched.metric.name, None)
    best.best[searched.metric.deviation_key] = 0.01
    best.config = {**best.config, "data": {**best.config["data"], "folds": 5}}
    assert deviation(best) == {"value_std": 0.01, "folds": 5}


def test_the_page_tells_the_metric_and_accuracy_beside_it(searched: Searched) -> None:
    title, best, said = searched.metric.title, searched.best, verdict_texts(searched.result)
    assert f" best by {title}?" in said["Asked"]
    assert (
        f"It reaches a {title} of {best.value:.4f} on the 50 validation images, and "
        f"classifies {100 * best.primary_value:.1f}% of them correctly, after epoch "
        f"{best.best_epoch} of "
    ) in said["Found"]
    extreme = "highest" if searched.metric.mode == "max" else "lowest"
    bounds = interval(best, 50)
    assert (bounds is None) == (title == "log loss")
    assert said["How sure"].startswith(
        "With only 50 images, the true {} may lie between {:.4f} and {:.4f} (95% interval).".format(
            title, *bounds
        )
        if bounds is not None
        else f"The true {title} cannot be estimated from 50 images."
    )
    assert f"It is also the {extreme} of" in said["How sure"]
    assert said["On new images"].startswith(
        f"{best.trial} reaches a {title} of 0.4321 on the 4 test images (95% interval: 0.3456 to "
        "0.5678), and classifies 75.0% of them correctly. They influenced no choice."
    )
    assert tiles(searched.result)[:3] == [
        (f"validation {title}", f"{best.value:.4f}", "50 images"),
        (f"test {title}", "0.4321", "4 unseen images"),
        ("test accuracy", "75.0%", "of the same images"),
    ]
    page = render(searched.result)
    assert f"val {title} outcome" in words(page)
    assert f'title="the epoch of the {extreme} {title}"' in page
    assert f"The epoch with the {extreme} validation {title} is marked" in page
    assert f'alt="Validation {title} by epoch, one line per trial"' in page
    assert f'alt="Loss and validation {title} of {best.trial} by epoch"' in page
    assert f"· by {title} ·" in words(page)
    assert "validation accuracy" not in page.lower()


def leave_behind(searched: Searched) -> None:
    """Make the last of the ranking worse than all others."""
    for metrics in searched.result.ranking[-1].epochs.values():
        metrics[searched.metric.key] -= searched.metric.score(0.25)


def test_the_curves_show_the_best_where_low_is_good(searched: Searched) -> None:
    leave_behind(searched)
    result, best = searched.result, searched.best
    axes = search_curves(result).axes[0]
    low, high = axes.get_ylim()
    assert low < high
    assert low < best.value < high
    assert axes.get_ylabel() == f"validation {searched.metric.title}"
    values = list(best.epochs.values())
    assert [line.get_ydata().tolist() for line in axes.lines if line.get_zorder() == 4] == [  # type: ignore[union-attr]
        [metrics[searched.metric.key] for metrics in values]
    ]
    assert worst_shown(result) == (low if searched.metric.mode == "max" else high)
    worst = result.ranking[-1].value
    assert not low < worst < high
    own = trial_curves(best).axes[1]
    assert own.get_ylabel() == f"validation {searched.metric.title}"
    assert own.lines[-1].get_ydata() == [best.value]


def test_the_darkest_lines_are_the_best_trials(searched: Searched) -> None:
    leave_behind(searched)
    figure = parallel(searched.result)
    drawn, bar = figure.axes[0].collections[0], figure.axes[1]
    values = np.array(drawn.get_array())
    drawn.update_scalarmappable()
    lightness = drawn.cmap(drawn.norm(values))[:, :3].sum(axis=1)
    assert values[-1] == pytest.approx(searched.best.value), "the best is drawn last"
    assert lightness[-1] == lightness.min() < lightness[0] == lightness.max()
    beyond = "less" if searched.metric.mode == "max" else "more"
    assert re.search(
        rf"validation {searched.metric.title} \(\d\.\d+ or {beyond}: palest\)", bar.get_ylabel()
    )


def with_costs(searched: Searched, latency: dict[float, float]) -> None:
    """Have every trial's cost known, by its learning rate, and low latency wanted."""
    experiment = searched.result.started.experiment
    experiment["objectives"] = [f"val_{searched.metric.name}", "latency"]
    for trial in searched.result.trials.values():
        found = evaluation()
        found["cost"]["inference"]["batch_1"]["median_ms"] = latency[trial.params["optimizer.lr"]]
        trial.evaluated = Evaluated(trial.trial, trial.best_epoch or 0, **found)


def test_the_front_is_by_the_metric(searched: Searched) -> None:
    with_costs(searched, {0.1: 0.5, 0.001: 1.0, 0.01: 2.0})
    best, title = searched.best, searched.metric.title
    titles, *rows = front_table(searched.result)
    assert titles[2] == f"val {title}"
    assert [searched.result.trials[row[0]].params["optimizer.lr"] for row in rows] == [
        0.01,
        0.001,
        0.1,
    ]
    figure = pareto(searched.result)
    axes = figure.axes[0]
    low, high = axes.get_ylim()
    assert axes.get_ylabel() == f"validation {title}"
    assert low < best.value < high
    front = next(line for line in axes.lines if line.get_drawstyle() == "steps-post")
    heights = list(front.get_ydata())  # type: ignore[arg-type]
    assert heights == sorted(heights, reverse=searched.metric.mode == "min")
    assert heights[-1] == best.value
    page = render(searched.result)
    assert f"{title[0].upper()}{title[1:]} and time" in page
    assert f"Validation {title} against the time that one image takes" in page
    assert "no other is at least as good and costs no more" in page
    assert "as accurate" not in page
    assert strategy_text(searched.result.started.experiment) == (
        f"grid + asha, by {title}, for low latency too"
    )


def test_a_quicker_trial_is_as_good_as_far_as_the_images_tell(searched: Searched) -> None:
    with_costs(searched, {0.1: 0.5, 0.001: 1.0, 0.01: 2.0})
    assert not quicker_text(searched.result)
    # Where no interval is known, as of log loss, a worse trial is never called as good.
    is_known = interval(searched.best, 50) is not None
    least = searched.metric.score(least_score(searched.best, 50) - (0 if is_known else 1e-6))
    near = next(t for t in searched.result.ranking if t.params["optimizer.lr"] == 0.1)
    near.best[searched.metric.key] = least
    assert str(quicker_text(searched.result)) == is_known * (
        f"{near.trial} needs 25% of the time that {searched.best.trial} needs, and is as good "
        f"as far as 50 images can tell. To use {near.trial}: python -m search.promote "
        f"{searched.result.name} --trial {near.trial}"
    )


def test_a_network_is_held_against_a_baseline_by_the_metric(searched: Searched) -> None:
    other = next(t for t in searched.result.ranking if t.params["optimizer.lr"] == 0.001)
    for trial in searched.result.trials.values():
        if trial.params["optimizer.lr"] == 0.001:
            trial.config = {**trial.config, "model": {**trial.config["model"], "name": "svm"}}
    best, metric = searched.best, searched.metric
    less = "less" if metric.mode == "max" else "more"
    assert verdict_texts(searched.result)["A network?"].startswith(
        f"Yes: the best network (deep_cnn) reaches {best.value:.4f}, svm on hand-made features "
        f"{other.value:.4f}: {abs(best.value - other.value):.4f} {less}, beyond the noise of 50 "
        "images."
    )
    other.best[metric.error_key] = 1.0
    assert verdict_texts(searched.result)["A network?"].startswith("Not clearly: ")


def test_a_network_that_was_stopped_early_is_not_said_to_be_worse_for_good(
    searched: Searched,
) -> None:
    result, metric = searched.result, searched.metric
    leader = searched.best.trial
    for trial in result.trials.values():
        is_leader = trial.trial == leader
        model = "svm" if is_leader else "deep_cnn"
        trial.config = {**trial.config, "model": {**trial.config["model"], "name": model}}
        for metrics in trial.epochs.values():
            metrics[metric.error_key] = 1e-9
    text = verdict_texts(result)["A network?"]
    network = next(t for t in result.ranking if t.config["model"]["name"] == "deep_cnn")
    assert text.startswith("No: the best network (deep_cnn) reaches ")
    longer = network.reached + 5
    network.config = {**network.config, "epochs": longer}
    assert verdict_texts(result)["A network?"].startswith(
        "Not in the epochs that it had: the best network (deep_cnn) reaches "
        f"{network.value:.4f} within {network.reached} of {longer} epochs, svm on "
    )


def test_the_words_on_a_network_are_those_of_the_task(searched: Searched) -> None:
    result = searched.result
    assert result.task.baselines in verdict_texts(result)["A network?"]
    with_baselines = {
        task
        for model in MODELS.values()
        for task in model.tasks
        if model.kind == "baseline" and task in TASKS
    }
    assert {name for name, task in TASKS.items() if task.baselines} == with_baselines
    for model in MODELS.values():
        assert bool(model.method) == (model.kind == "baseline")


def finalists(best: str) -> list[dict[str, Any]]:
    """The rows of a verdict: another trial than the best, and the best, which it is tied with."""
    row = {
        "candidate": best,
        "model": "deep_cnn",
        "search_value": 0.5,
        "mean": 0.45,
        "std": 0.01,
        "seeds": 2,
        "accuracies": [0.44, 0.46],
        "difference": 0.0,
        "p": 1.0,
        "state": "tied",
        "reason": "",
        "ms_per_image": 2.0,
    }
    return [{**row, "candidate": "t0009", "state": "chosen", "ms_per_image": 1.0}, row]


@pytest.fixture
def selected(searched: Searched) -> Searched:
    """The search after a selection, which chose another than the best and tested it."""
    result, metric, best = searched.result, searched.metric, searched.best
    expected = {"mean": 0.45, "low": 0.44, "high": 0.46, "std": 0.01, "seeds": 2}
    name = "t0009-s1"
    training = trained(metric, TrialConfig.from_dict(best.config), 1)
    for number, (kind, data) in enumerate(
        (
            (
                "selecting",
                {"candidates": [best.trial], "seeds": 2, "alpha": 0.05, "began_ms": 1, "slots": 1},
            ),
            (
                "suggested",
                {
                    "trial": name,
                    "params": best.params,
                    "config": best.config,
                    "repeat_of": "t0009",
                    "seed": 7,
                },
            ),
            ("epoch", {"trial": name, "epoch": 1, "metrics": training.metrics}),
            (
                "selected",
                {
                    "candidate": "t0009",
                    "leader": best.trial,
                    "trial": name,
                    "level": 0.95,
                    "alpha": 0.05,
                    "expected": expected,
                    "search_value": 0.5,
                    "rows": finalists(best.trial),
                },
            ),
            (
                "tested",
                {"trial": name, "epoch": 1, "test": on_test_part(metric), "by": "search.select"},
            ),
            ("concluded", {"outcome": "completed", "reason": ""}),
        )
    ):
        told = from_json(kind, json.loads(json.dumps(data)))
        result.apply(Event(10**6 + number, 10**6 + number, told))
    return searched


def extreme(metric: Metric) -> str:
    return "highest" if metric.mode == "max" else "lowest"


def test_a_selections_choice_and_test_are_told_by_the_metric(selected: Searched) -> None:
    title, best = selected.metric.title, selected.best
    told = " ".join(map(str, selection_sentences(selected.result)))
    assert (
        f"Expect a validation {title} of 0.4500 from t0009 (95% interval: 0.4400 to 0.4600, from"
    ) in told
    assert f"{best.trial} had the {extreme(selected.metric)} mean; t0009 is as good" in told
    assert "reaches 0.4321 (95% interval: 0.3456 to 0.5678); accuracy 0.7500." in told
    console = Console(file=io.StringIO(), width=200)
    print_selection(ended(selected), console)
    assert f"Expect a validation {title} of 0.4500 from t0009" in printed(console)


def test_a_report_says_what_to_expect_of_a_selections_choice(selected: Searched) -> None:
    title = selected.metric.title
    assert (
        f"Trained again with 2 fresh seeds, t0009 reaches a validation {title} of 0.4500 on "
        "average (95% interval: 0.4400 to 0.4600), 0.0500 less than the 0.5000 that the "
        "search measured."
    ) in verdict_texts(selected.result)["How sure"]
    assert tiles(selected.result)[0] == (
        f"expected validation {title}",
        "0.4500",
        "mean of 2 fresh seeds",
    )
    assert "The candidates: value in the search" in render(selected.result)


def test_mlflows_note_and_json_have_a_selections_values(selected: Searched) -> None:
    result, metric = selected.result, selected.metric
    note = markdown_summary(result)
    assert f"expected validation {metric.title} 0.4500 (`selected/val_{metric.name}_mean`)" in note
    assert (
        f"The {extreme(metric)} of the search itself, partly by luck: `{selected.best.trial}`"
    ) in note
    assert json_selection(result, tracking={}, home=Home(Path("s")))["test_value"] == 0.4321


def test_importance_is_of_the_metric(
    experiment: Experiment, open_driver: OpenDriver, searched: Searched
) -> None:
    trials = {
        f"{name}-{number}": TrialResult(
            f"{name}-{number}", trial.params, trial.config, "completed", epochs=trial.epochs
        )
        for name, trial in searched.result.trials.items()
        for number in range(2)
    }
    searched.result.trials = trials
    assert next(iter(importance(searched.result))) == "optimizer.lr"
    for trial in trials.values():
        for metrics in trial.epochs.values():
            metrics[searched.metric.key] = 0.5
    assert importance(searched.result) == {}, "none is better than another, by the metric"


def test_a_promoted_network_has_the_figures_of_both(searched: Searched) -> None:
    times = {f"batch_{size}": {"median_ms": 0.5} for size in (1, 64)}
    exported: Any = SimpleNamespace(
        value=0.7,
        images=50,
        inference=times,
        requirements=("torch",),
        onnx_inference=None,
        onnx_difference=None,
        precision="fp32",
        difference=0.0,
        reliability={},
    )
    registered: Any = SimpleNamespace(name="small", version="1", uri="models:/small@champion")
    title, best = searched.metric.title, searched.best
    figures = model_figures(searched.result, best, exported)
    assert list(figures.items())[:4] == [
        (f"validation {title}", f"{best.value:.4f}"),
        (
            "validation accuracy",
            f"{best.primary_value:.4f} in the search; 0.7000 as promoted, on 50 images",
        ),
        (f"test {title}", "0.4321 on 4 images"),
        ("test accuracy", "0.7500 on 4 images"),
    ]
    assert tags(searched.result, best)["search.metric"] == searched.metric.name
    found = Promotion(
        result=searched.result, trial=best, exported=exported, registered=registered, tracking=""
    ).to_json()
    assert (found["metric"], found["mode"], found["value"], found["val_accuracy"]) == (
        searched.metric.name,
        searched.metric.mode,
        best.value,
        best.primary_value,
    )


@pytest.mark.parametrize(
    ("task", "text"),
    [
        ("classification", "probabilities are the mean of those of 5 models, one trained for each"),
        ("segmentation", "the probabilities of each pixel's classes are the mean of those of 5"),
        ("super_resolution", "pixels are the mean of those of 5 models, one trained for each fold"),
        ("detection", "boxes around the same object are combined from those of 5 models"),
    ],
)
def test_a_committee_is_described_as_its_task_combines_it(
    searched: Searched, task: str, text: str
) -> None:
    best, entry = searched.best, TASKS[task]
    values = {**best.best, entry.primary.key: 0.5}
    config = {**best.config, "data": {**best.config["data"], "task": task, "folds": 5}}
    config["metric"] = entry.primary.name
    trial = TrialResult(best.trial, best.params, config, "completed", epochs={1: values})
    exported: Any = SimpleNamespace(
        value=None,
        inference={"batch_1": {"median_ms": 0.5}},
        requirements=("torch",),
        onnx_inference=None,
        precision="fp32",
        reliability={},
    )
    assert text in model_figures(searched.result, trial, exported)["committee"]


def test_a_refinement_is_of_the_metric_alone(searched: Searched) -> None:
    costly = changed(
        searched.experiment, objectives=(f"val_{searched.metric.name}", "latency"), scheduler="fifo"
    )
    with pytest.raises(Refused, match=f"a refinement can optimize only {searched.metric.title}"):
        refuse_few(costly, searched.result)


@pytest.mark.parametrize(
    ("name", "value", "error", "bounds"),
    [
        ("accuracy", 0.5, 9.0, (0.3491, 0.6509)),
        ("macro_f1", 0.97, 0.05, (0.8543, 1.0)),
        ("auc", 0.02, 0.05, (0.0, 0.1357)),
    ],
)
def test_an_interval_lies_within_what_the_metric_can_be(
    name: str, value: float, error: float, bounds: tuple[float, float]
) -> None:
    metric = CLASSIFICATION.metric(name)
    config = TrialConfig().override({"metric": name}).to_dict()
    metrics = {"val/loss": 1.0, metric.key: value, metric.error_key: error}
    trial = TrialResult("t0001", {}, config, epochs={1: metrics})
    assert interval(trial, 50) == pytest.approx(bounds, abs=1e-3)


@pytest.mark.parametrize(
    ("name", "reported"),
    [
        ("log_loss", {"error": 0.5, "freedom": 5000.0}),
        ("macro_f1", {"error": 0.05, "freedom": 9.0}),
        ("auc", {"error": 0.05, "freedom": 0.0}),
        ("auc", {}),
    ],
)
def test_an_interval_that_too_few_images_tell_is_not_known(
    name: str, reported: dict[str, float]
) -> None:
    metric = CLASSIFICATION.metric(name)
    config = TrialConfig().override({"metric": name}).to_dict()
    values = {f"{metric.key}_{what}": value for what, value in reported.items()}
    metrics = {"val/loss": 1.0, metric.key: 0.7, **values}
    trial = TrialResult("t0001", {}, config, epochs={1: metrics})
    assert interval(trial, 500) is None
    assert interval_text(None) == "95 % interval not known"
    assert least_score(trial, 500) == trial.score


def test_an_evaluation_without_an_interval_says_so(searched: Searched) -> None:
    tested = searched.result.tested
    assert tested is not None
    tested.test["metric"] |= {"low": None, "high": None, "error": 0.1}
    found = verdict_texts(searched.result)["On new images"]
    assert "of 0.4321 on the 4 test images (95% interval not known)" in found


def test_a_metric_has_its_article() -> None:
    assert [with_article(metric) for metric in CLASSIFICATION.metrics] == [
        "an accuracy",
        "a balanced accuracy",
        "a macro F1",
        "a log loss",
        "an AUC",
        "a worst-group accuracy",
    ]
