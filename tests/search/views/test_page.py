"""The report's page of searches as large, as odd and as unfinished as they come.

And the page as a browser shows it.
"""

import base64
import hashlib
import itertools
import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from matplotlib.figure import Figure
from optuna.trial import FrozenTrial

from search.design.experiment import Experiment
from search.facts.answer import decision, evidence
from search.facts.importance import MIN_TRIALS, importance
from search.facts.selection import finalists
from search.journal.events import Resumed, from_json
from search.journal.journal import Event
from search.journal.result import DATA_REPORT, IMPROVEMENT, SearchResult
from search.journal.store import DECISION
from search.space import Cases, Choice, Float, Int, SearchSpace
from search.views.page import page, quality
from search.views.page.curves import best_so_far, search_curves, within
from search.views.page.data import section, twins
from search.views.page.figures import MAX_HINTS, canvas, picture
from search.views.page.page import render
from search.views.page.sections import failures, mistakes, stops, weakest
from search.views.text.sentences import GONE_ON, selection_sentences
from search.views.text.verdict import percent
from tests.support.browser import look
from tests.support.played import changed, evaluation, started_event
from tests.support.reports import LONG, SCRIPT, evaluated, select, verdict_texts, words
from tests.trainables.inspection.test_report import with_masks
from trainables.config import TrialConfig
from trainables.inspection.leaks import EXACT
from trainables.inspection.leaks import Image as DataImage
from trainables.inspection.report import DataReport, Match
from trainables.tasks.classification.entry import ENTRY as CLASSIFICATION

NAMES = (SCRIPT, LONG, "$\\frac{x}{", "\x1b[2J ☃ 猫")
BEGAN_MS = 1_795_000_000_000
SPACE = SearchSpace(
    {
        "model.name": Choice("table2", "deep_cnn", "svm"),
        "optimizer.lr": Cases(
            Float(1e-4, 1e-1, log=True, when={"model.name": "table2"}),
            Float(1e-3, 1.0, log=True, when={"model.name": "deep_cnn"}),
        ),
        "model.layers": Int(4, 9, when={"model.name": "deep_cnn"}),
        "batch_size": Choice(32, 64, when={"model.name": ("table2", "deep_cnn")}),
    },
    base={"epochs": 9},
)


def failure(name: str, number: int) -> dict[str, Any]:
    """Return the end of a trial that diverged, or failed."""
    kind = {"kind": "error"} if number % 10 == 7 else {}
    outcome = "failed" if kind else "diverged"
    return {"trial": name, "outcome": outcome, "reason": f"boom <b>{number}</b> of $x$\n", **kind}


def training(
    name: str, number: int, height: float, last: int
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the events of a trial whose accuracy grows towards a height; ASHA stops it at 3."""
    for epoch in range(1, last + 1):
        accuracy = height * (1 - math.exp(-epoch))
        metrics = {
            "train/loss": 1.0,
            "val/loss": 1 - accuracy,
            "val/accuracy": accuracy,
            "lr": 0.001,
            "time/epoch_s": 0.25,
        }
        yield "epoch", {"trial": name, "epoch": epoch, "metrics": metrics}
    if last == 3:
        why = {"by": "asha", "reason": "0.5000 at epoch 3, below 0.6000"}
        grounds = {"rung": 3, "cutoff": 0.6, "rivals": 9}
        yield "stopped", {"trial": name, "epoch": 3, **why, **grounds}
    outcome = "stopped" if last == 3 else "completed"
    yield "ended", {"trial": name, "outcome": outcome, "reason": ""}
    measured = evaluation()
    measured["cost"]["inference"]["batch_1"]["median_ms"] = 0.5 + number % 7
    yield "evaluated", {"trial": name, "epoch": last, **measured}


def events(
    experiment: Experiment, trials: int, classes: tuple[str, ...] = ("a", "b")
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the events of a played search.

    A fifth of its trials diverges or fails, ASHA stops some, the best one is tested.
    """
    searched = changed(
        experiment,
        space=SPACE,
        algorithm="random",
        scheduler="asha",
        trials=trials or 1,
        base=TrialConfig().override({"epochs": 9}),
    )
    facts = {**started_event(), "began_ms": BEGAN_MS, "experiment": searched.describe()}
    yield (
        "started",
        {"name": "played", **facts, "data": {**facts["data"], "classes": list(classes)}},
    )
    generator, best = np.random.default_rng(0), (0.0, "")
    for number in range(1, trials + 1):
        name, params = f"t{number:04d}", SPACE.sample(generator)
        yield (
            "suggested",
            {"trial": name, "params": params, "config": searched.config(params).to_dict()},
        )
        yield "running", {"trial": name, "attempt": 1}
        if number % 10 in (3, 7):
            yield "ended", failure(name, number)
            continue
        height = (
            0.95
            - 0.1 * (math.log10(params.get("optimizer.lr", 0.01)) + 2) ** 2 / 4
            - 0.02 * generator.random()
        )
        last = 1 if params["model.name"] == "svm" else 3 if number % 3 else 9
        yield from training(name, number, height, last)
        best = max(best, (height * (1 - math.exp(-last)), name))
    if best[1]:
        test = {
            name: value
            for name, value in evaluated(classes).items()
            if name not in ("wrong", "bins")
        }
        yield "tested", {"trial": best[1], "epoch": 9, "test": test, "by": "search.run"}


def played(
    experiment: Experiment, trials: int, classes: tuple[str, ...] = ("a", "b")
) -> SearchResult:
    """Return what the events add up to."""
    told = events(experiment, trials, classes)
    result = SearchResult()
    for number, (kind, data) in enumerate(told, 1):
        result.apply(
            Event(number, BEGAN_MS + 100 * number, from_json(kind, json.loads(json.dumps(data))))
        )
    best = result.best
    if best is not None:
        result.tested = replace(result.tested, epoch=best.best_epoch)  # type: ignore[type-var]
    return result


def keep(result: SearchResult, folder: Path, classes: tuple[str, ...]) -> Path:
    """Write what the best trial's worker would have."""
    assert result.best is not None
    own = folder / "trials" / result.best.trial / "evidence"
    own.mkdir(parents=True)
    (own / "test.json").write_text(json.dumps(evaluated(classes)))
    return folder


def test_the_page_of_odd_names_escapes_them_and_shows_the_images(
    experiment: Experiment, tmp_path: Path
) -> None:
    result = played(experiment, 30, NAMES)
    page = render(result, keep(result, tmp_path, NAMES))
    assert "<script>alert" not in page
    assert not [letter for letter in page if letter != "\n" and not letter.isprintable()]
    assert page.count("data:image/webp;base64,") == 12
    assert page.count("data:image/svg+xml;base64,") == 2 * 9
    assert f"{LONG}</b> 90.0%" in page
    assert "Missing" not in page
    assert "boom &lt;b&gt;" in page


@pytest.mark.parametrize(("gain", "words_"), [(0.1, "400 about 80%"), (0.004, "about 70% only")])
def test_what_more_labels_would_bring_is_told_and_drawn(
    experiment: Experiment, gain: float, words_: str
) -> None:
    result = played(experiment, 9)
    assert "More labels?" not in verdict_texts(result)
    assert "What more labels would bring" not in render(result)
    trial = result.ranking[1]
    assert trial.evaluated is not None
    curve = {
        "images": 100,
        "sizes": [12, 25, 50, 100],
        "accuracies": [0.4, 0.5, 0.6, 0.7],
        "validated": 33,
        "forecasts": [
            {"times": times, "low": likely - 0.1, "likely": likely, "high": likely + 0.1}
            for times, likely in ((1, 0.7), (1.5, 0.7), (2, 0.7 + gain / 2), (4, 0.7 + gain))
        ],
    }
    trial.evaluated = replace(trial.evaluated, val={**trial.evaluated.val, "more_labels": curve})
    text = verdict_texts(result)["More labels?"]
    assert text.startswith(
        f"With 200 training images instead of 100, {trial.config['model']['name']} would classify "
        f"about {0.7 + gain / 2:.0%} of new images correctly ("
    )
    assert words_ in text
    page = render(result)
    assert '<a href="#labels">More labels</a>' in page
    assert "the chance of the 33 validation images" in page
    assert "100 images: 0.7000" in page


@pytest.mark.parametrize("spoilt", ["absent", "{", "[]", '{"images": 3}'])
def test_a_page_without_the_workers_files_says_what_is_missing(
    experiment: Experiment, tmp_path: Path, spoilt: str
) -> None:
    result = played(experiment, 30)
    if spoilt != "absent":
        assert result.best is not None
        (
            keep(result, tmp_path, ("a", "b"))
            / "trials"
            / result.best.trial
            / "evidence"
            / "test.json"
        ).write_text(spoilt)
    said = words(render(result, tmp_path))
    assert "Missing: the reliability diagram" in said
    assert "Missing: the file with these images" in said


def test_a_search_of_an_earlier_version_has_a_page() -> None:
    old = Path(__file__).parents[2] / "fixtures" / "search-v1"
    said = words(render(SearchResult.read(old), old))
    assert "Found deep_cnn with lr 0.003432, batch_size 32 (trial t0001)." in said
    assert "it has not been evaluated in detail" in said
    assert "The test images are sealed: nothing has been measured on them." in said


def test_an_improvements_page_says_what_was_decided(experiment: Experiment, tmp_path: Path) -> None:
    result = played(replace(experiment, sealed=True), 5)
    result.started.experiment["space"]["name"] = IMPROVEMENT
    result.openings.clear()
    result.tested = None
    said = verdict_texts(result, decision(tmp_path))
    assert "search.improve compares the best one with the champion" in said["On new images"]
    assert "Decided" not in said
    lines = ["t1 is best", "  old test images: equal", "not better: nothing changed"]
    (tmp_path / DECISION).write_text(json.dumps({"text": lines}))
    said = verdict_texts(result, decision(tmp_path))
    assert next(iter(said.items())) == ("Decided", "t1 is best; not better: nothing changed")
    assert said["On new images"] == "old test images: equal"
    (tmp_path / DECISION).write_text("[]")
    assert decision(tmp_path) == decision(None) == []


@pytest.mark.parametrize("trials", [0, 1, 2])
def test_small_searches_have_a_page(experiment: Experiment, trials: int) -> None:
    said = words(render(played(experiment, trials)))
    assert f"proposed {trials} trial{'s' if trials != 1 else ''}" in said


def test_no_tick_stands_between_two_epochs_also_where_there_is_one(experiment: Experiment) -> None:
    result = played(experiment, 2)
    for trial in result.trials.values():
        trial.epochs = {1: trial.epochs[1]}
    (axes,) = search_curves(result).axes
    low, high = axes.get_xlim()
    assert [tick for tick in axes.get_xticks() if low <= tick <= high] == [1]


def test_a_search_that_stopped_nothing_says_so(experiment: Experiment) -> None:
    result = played(experiment, 30)
    for trial in result.trials.values():
        trial.outcome = "completed" if trial.outcome == "stopped" else trial.outcome
    said = words(render(result))
    assert "stopped early count" not in said
    assert "ASHA stopped none (" in said
    result.trials = {
        name: trial for name, trial in result.trials.items() if trial.outcome == "completed"
    }
    assert "None: no trial was stopped, and none failed." in words(render(result))


def test_trials_that_are_held_are_called_so_in_text_and_picture(experiment: Experiment) -> None:
    result = played(experiment, 30)
    stopped = [trial for trial in result.trials.values() if trial.outcome == "stopped"]
    for trial in stopped:
        trial.outcome = "held"
    said = words(render(result))
    assert f"ASHA stopped none and {len(stopped)} are held (" in said
    assert f"{len(stopped)} held: the search ended while they waited at a rung" in said
    (legend,) = search_curves(result).legends
    assert "held" in [text.get_text() for text in legend.get_texts()]


def test_a_selection_that_has_not_come_to_its_end_has_a_page(experiment: Experiment) -> None:
    result = played(experiment, 30)
    select(result)
    assert result.selection is not None
    result.selection.verdict = None
    assert "The selection has not finished: 1 training so far." in words(render(result))


def test_a_mistakes_file_is_named_where_it_is_known(experiment: Experiment, tmp_path: Path) -> None:
    result = played(experiment, 3)
    assert result.best is not None
    told = keep(result, tmp_path, ("a", "b")) / f"trials/{result.best.trial}/evidence/test.json"
    test = json.loads(told.read_text())
    test["wrong"][0]["name"] = "test/a/cat 1.png"
    told.write_text(json.dumps(test))
    page = render(result, tmp_path)
    assert page.count("test/a/cat 1.png") == 2
    assert 'alt="test image 1"' in page


def test_beside_a_mistake_stands_its_twin_of_another_class(
    experiment: Experiment, tmp_path: Path
) -> None:
    one, other = (
        DataImage("test", row, f"test/{kind}/{row}.png", kind)
        for row, kind in enumerate(("cat", "dog"))
    )
    report = DataReport(
        name="folder",
        root="pets",
        task="classification",
        fingerprint="f00d",
        classes=("cat", "dog"),
        images={"train": 4, "test": 2},
        counts={"train": (2, 2), "test": (1, 1)},
        shape=(8, 8, 3),
        matches=(Match(EXACT, other, one),),
    )
    result = played(experiment, 3)
    assert result.best is not None
    told = keep(result, tmp_path, ("a", "b"))
    told = told / f"trials/{result.best.trial}/evidence/test.json"
    test = json.loads(told.read_text())
    test["wrong"][0]["name"] = other.name
    told.write_text(json.dumps(test))
    (tmp_path / DATA_REPORT).write_text(json.dumps(report.to_json()))
    page = render(result, tmp_path)
    assert f"Shows the same picture as {one.name}, which is cat: check both." in page
    assert twins(tmp_path) == {
        other.name: [f"{one.name}, which is cat"],
        one.name: [f"{other.name}, which is dog"],
    }
    assert "Check these: one picture, two classes" in section(tmp_path)
    (tmp_path / DATA_REPORT).write_text("{")
    assert twins(tmp_path) == {}
    assert twins(None) == {}


def test_of_many_classes_tables_of_the_worst_stand_for_the_confusion_matrix() -> None:
    classes = tuple(f"class {number}" for number in range(40))
    found = evaluated(classes)
    rows = weakest(found)
    recalls = [row["recall"] for row in found["per_class"].values()]
    assert len(rows) == len(mistakes(found)) == 15
    assert rows[0][3] == f"{min(recalls):.1%}"
    assert weakest(evaluated(("a", "b"))) == []


def test_a_search_of_baselines_alone_shows_the_best_so_far_and_no_empty_curves(
    experiment: Experiment,
) -> None:
    result = played(experiment, 9)
    for trial in result.trials.values():
        trial.config = {**trial.config, "model": {**trial.config["model"], "name": "svm"}}
    page = render(result)
    assert '<section id="curves"><h2>Best so far</h2>' in page
    assert "Learning curves" not in page
    assert "No network was tried: svm is the best of the baselines." in page


def test_the_best_so_far_never_gets_worse(experiment: Experiment) -> None:
    result = played(experiment, 30)
    (axes,) = best_so_far(result).axes
    _, step = axes.lines
    values = list(step.get_ydata())
    assert values == sorted(values)
    assert result.best is not None
    assert values[-1] == result.best.value


def test_a_pictures_values_lie_where_its_points_are_drawn(experiment: Experiment) -> None:
    result = played(experiment, 30)
    drawn = picture(lambda narrow: best_so_far(result, narrow), "")
    first = next(iter(result.trials.values()))
    (hint,) = (hint for hint in drawn.hints if hint.text.startswith(first.trial))
    dots = best_so_far(result).axes[0]
    assert f"{first.value:.4f}" in hint.text
    assert hint.left_percent / 100 == pytest.approx(dots.get_position().x0, abs=0.06)
    assert all(
        0 <= hint.left_percent <= 100 and 0 <= hint.top_percent <= 100 for hint in drawn.hints
    )


def test_the_pages_one_script_is_the_one_that_its_policy_allows(experiment: Experiment) -> None:
    page = render(played(experiment, 3))
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]+)"', page)
    assert "default-src 'none'" in policy
    assert f"script-src 'sha256-{digest}';" in policy


@pytest.mark.slow
def test_a_thousand_trials_of_a_hundred_classes_are_a_small_page(
    experiment: Experiment, tmp_path: Path
) -> None:
    classes = tuple(f"class {number}" for number in range(100))
    result = played(experiment, 1000, classes)
    page = render(result, keep(result, tmp_path, classes))
    assert len(page) < 5_000_000
    assert page.partition("<details>")[2].count('<th scope="row">t') > 0
    assert len(re.findall(r'<th scope="row">t\d{4}</th>', page)) == 1000


def test_the_verdict_of_a_selection_speaks_of_the_expected_value(experiment: Experiment) -> None:
    result = played(experiment, 30)
    select(result)
    said = verdict_texts(result)
    first, second, third = result.selection.started.candidates  # type: ignore[union-attr]
    assert (
        f"{first} classifies 90.0% of the validation images correctly on average (95% interval: "
        "89.3% to 90.7%), 5.0 points less than the 95.0%" in said["How sure"]
    )
    assert f"{second} is as good according to paired tests (error rate 5%)" in said["How sure"]
    assert f"{third} is clearly worse." in said["How sure"]
    assert "opened 2 times, first on 2026-11-18" in said["On new images"]
    assert f"by search.select for {first}-s1" in said["On new images"]
    page = render(result)
    assert "<script>alert" not in page
    assert "0.9000 ± 0.0100" in page
    assert "selection 77" in words(page)


def test_a_candidate_whose_first_training_failed_has_a_row_without_figures(
    experiment: Experiment,
) -> None:
    result = played(experiment, 30)
    select(result)
    assert result.selection is not None
    nothing = {
        "mean": None,
        "std": None,
        "seeds": 0,
        "accuracies": [],
        "difference": None,
        "p": None,
        "ms_per_image": None,
    }
    failed = {"candidate": "t0030", "state": "failed", "reason": "t0030-s1 diverged: loss is inf"}
    rows = result.selection.verdict.rows  # type: ignore[union-attr]
    rows.append(replace(rows[-1], **nothing, **failed))
    assert finalists(result)[-1].low is None
    assert "t0030: t0030-s1 diverged: loss is inf" in words(render(result))


def test_of_a_search_that_has_gone_on_the_choice_is_said_to_be_older(
    experiment: Experiment,
) -> None:
    result = played(experiment, 30)
    select(result)
    assert str(GONE_ON) not in verdict_texts(result)["How sure"]
    assert GONE_ON not in selection_sentences(result)
    result.apply(Event(10_000, BEGAN_MS + 10**6, Resumed(began_ms=BEGAN_MS + 10**6, slots=2)))
    assert verdict_texts(result)["How sure"].endswith(str(GONE_ON))
    assert selection_sentences(result)[-1] == GONE_ON


def test_each_finalist_has_the_interval_of_its_mean(experiment: Experiment) -> None:
    """The interval is Student's.

    It is 2.776 standard errors for five seeds, with what rounding to one of 50 images adds; the
    chosen one's is what the selection said.
    """
    result = played(experiment, 30)
    select(result)
    chosen, tied, dropped = finalists(result)
    assert (chosen.low, chosen.high) == (0.893, 0.907)
    assert (chosen.difference, chosen.p, tied.difference, tied.p) == (
        None,
        None,
        0.01,
        0.3,
    )
    reach = 2.7764 * math.hypot(0.02, 1 / (50 * 12**0.5)) / 5**0.5
    assert (tied.low, tied.high) == (
        pytest.approx(0.89 - reach, abs=1e-5),
        pytest.approx(0.89 + reach, abs=1e-5),
    )
    assert dropped.low == pytest.approx(
        0.8 - 12.7062 * math.hypot(0.01, 1 / (50 * 24**0.5)), abs=1e-4
    )


def test_a_share_is_said_as_precisely_as_its_images_tell() -> None:
    assert (percent(0.97771, 359), percent(0.97771, 5000)) == ("97.8%", "97.77%")


def test_what_was_stopped_and_what_failed_is_counted_by_reason(experiment: Experiment) -> None:
    result = played(experiment, 100)
    ((by, where, number, _, reason),) = stops(result)
    assert (by, where, int(number)) == (
        "asha",
        "epoch 3",
        sum(trial.outcome == "stopped" for trial in result.trials.values()),
    )
    assert reason.startswith("0.5000 at epoch 3")
    assert {kind: int(number) for kind, number, _, _ in failures(result)} == {
        "diverged": 10,
        "failed (error)": 10,
    }


def test_the_parameter_that_decides_is_the_most_important_and_the_shares_add_up(
    experiment: Experiment,
) -> None:
    shares = importance(played(experiment, 200))
    assert next(iter(shares)) == "optimizer.lr"
    assert set(shares) == set(SPACE.domains)
    assert sum(share for share, _, _ in shares.values()) == pytest.approx(1)
    assert all(low <= high for _, low, high in shares.values())
    assert importance(played(experiment, 9)) == {}


def in_lengths(result: SearchResult) -> SearchResult:
    """The same search, when each of its trainings was tried in three lengths."""
    for trial in list(result.trials.values()):
        for copy in ("a", "b"):
            result.trials[trial.trial + copy] = replace(trial, trial=trial.trial + copy)
    return result


def test_trials_are_given_to_optuna_without_copies(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = played(experiment, 40)
    without_copies = importance(result)
    copied: list[FrozenTrial] = []

    def create_study(storage: Any, direction: str) -> optuna.Study:
        study = new_study(direction=direction)
        study.add_trials(storage.trials)
        copied.extend(study.trials)
        return study

    new_study = optuna.create_study
    monkeypatch.setattr(optuna, "create_study", create_study)
    assert importance(result) == without_copies
    assert len(copied) >= 30 * MIN_TRIALS

    monkeypatch.setattr(optuna, "create_study", new_study)
    monkeypatch.setattr(optuna.Study, "add_trial", lambda *_: pytest.fail("a trial is copied"))
    assert importance(result) == without_copies


def test_lengths_of_one_training_do_not_make_importance_surer(experiment: Experiment) -> None:
    once, thrice = (
        importance(played(experiment, 30)),
        importance(in_lengths(played(experiment, 30))),
    )
    widths = [sum(high - low for _, low, high in shares.values()) for shares in (once, thrice)]
    assert widths[1] > 0.8 * widths[0]
    assert importance(in_lengths(played(experiment, 9))) == {}


def test_of_more_trials_than_can_be_drawn_some_are(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bounds are those of all trials, as near as fewer tell."""
    monkeypatch.setattr("search.facts.importance.MAX_DRAWN", 100)
    few = importance(played(experiment, 150))
    assert all(0 <= low <= share <= high <= 1 for share, low, high in few.values())


def test_lengths_of_one_training_are_counted_once_in_words(experiment: Experiment) -> None:
    once, thrice = (
        verdict_texts(result)["How sure"]
        for result in (played(experiment, 30), in_lengths(played(experiment, 30)))
    )
    assert "other trainings lie in that range" in once
    assert thrice == once


def test_folds_are_told_as_mean_and_deviation(experiment: Experiment) -> None:
    result = played(experiment, 30)
    best = result.best
    assert best is not None
    for metrics in best.epochs.values():
        metrics["val/accuracy_std"] = 0.0123
    best.config = {**best.config, "data": {**best.config["data"], "folds": 5}}
    found = verdict_texts(result)["Found"]
    assert "(mean ± 1.2% over 5 folds)" in found
    assert "the mean probabilities of 5 such models, one trained for each fold" in found
    assert f"{best.primary_value:.4f} ± 0.0123" in render(result)


def crowded(figure: Figure) -> list[str]:
    """Return the parts of a figure that leave it or lie upon another part.

    Each part is taken with its labels, as matplotlib measures them; half a point is no matter.
    """
    figure.draw_without_rendering()  # type: ignore[no-untyped-call]
    parts = [*figure.axes, *figure.legends]
    boxes = [part.get_tightbbox().padded(-0.5) for part in parts]
    wrong = [
        f"{part} leaves"
        for part, box in zip(parts, boxes, strict=True)
        if min(box.min) < 0 or any(box.max > figure.bbox.max)
    ]
    return wrong + [
        f"{parts[one]}, {parts[other]}"
        for one, other in itertools.combinations(range(len(parts)), 2)
        if boxes[one].overlaps(boxes[other])
    ]


@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize(
    "names", [NAMES, tuple(f"class {number}" for number in range(24))], ids=["odd", "many"]
)
def test_all_labels_have_room(
    experiment: Experiment,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    names: tuple[str, ...],
    narrow: bool,
) -> None:
    result = played(experiment, 30, names)
    drawn: list[Callable[[bool], Figure]] = []
    monkeypatch.setattr(page, "picture", lambda draw, alt, **options: drawn.append(draw))
    shown = evidence(result, keep(result, tmp_path, names))
    select(result)
    pictures = page.of_search(result) | page.of_training(result) | page.of_answer(shown)
    assert len(drawn) == len(pictures) >= 8
    assert {name: crowded(draw(narrow)) for name, draw in zip(pictures, drawn, strict=True)} == {
        name: [] for name in pictures
    }


@pytest.mark.browser
@pytest.mark.parametrize(
    ("trials", "classes"),
    [
        pytest.param(
            1000,
            tuple(f"class {number}" for number in range(100)),
            id="large",
            marks=pytest.mark.slow(30),
        ),
        pytest.param(30, NAMES, id="odd"),
    ],
)
def test_a_browser_shows_the_page_on_a_laptop_and_on_a_phone(
    experiment: Experiment, tmp_path: Path, trials: int, classes: tuple[str, ...]
) -> None:
    """It needs no network and no scrolling to the side, and every picture is there."""
    result = played(experiment, trials, classes)
    if trials < 1000:
        select(result)
    page = tmp_path / "report.html"
    page.write_text(render(result, keep(result, tmp_path, classes)))
    for width in (1280, 390):
        shown = look(page, width, tmp_path / f"profile-{width}")
        assert shown.scroll_width <= width
        assert (shown.messages, shown.requests, shown.wanting) == ([], [], [])


@pytest.mark.browser
def test_the_pixels_of_each_class_fit_a_phone(experiment: Experiment, tmp_path: Path) -> None:
    _, report = with_masks(tmp_path / "cells")
    report = replace(
        report,
        pixels={
            part: replace(counts, images=tuple(1000 * number for number in counts.images))
            for part, counts in report.pixels.items()
        },
    )
    (tmp_path / DATA_REPORT).write_text(json.dumps(report.to_json()))
    file = tmp_path / "report.html"
    file.write_text(render(played(experiment, 3), tmp_path))
    shown = look(file, 390, tmp_path / "profile")
    assert shown.scroll_width <= 390
    assert (shown.messages, shown.wanting) == ([], [])


def test_an_axis_ends_where_the_metric_ends() -> None:
    accuracy = CLASSIFICATION.primary
    assert within(accuracy, 0.5, 1.075) == [0.5, pytest.approx(1.0115)]
    assert within(accuracy, -0.2, 0.4) == [pytest.approx(-0.012), 0.4]
    loss = next(one for one in CLASSIFICATION.metrics if one.name == "log_loss")
    assert within(loss, 0.5, 7.0) == [0.5, 7.0]


def test_names_of_classes_take_the_room_that_there_is() -> None:
    names = ["leucocyte with nucleus", "erythrocyte"]
    found = {"confusion_matrix": [[3, 1], [0, 4]], "classes": names}
    (axes,) = quality.confusion(found).axes
    assert [text.get_text() for text in axes.get_yticklabels()][1] == "erythrocyte"
    assert len(axes.get_yticklabels()[0].get_text()) >= 20


def test_no_value_is_placed_on_a_picture_beyond_the_most_that_are_shown() -> None:
    figure, axes = canvas(4, 3)
    values = ((0.5, 0.5, str(number)) for number in range(10 * MAX_HINTS))
    figure.tell_each(axes, values)
    assert [hint.text for hint in figure.hints()] == [str(number) for number in range(MAX_HINTS)]
    assert next(values)[-1] == str(MAX_HINTS + 1)
