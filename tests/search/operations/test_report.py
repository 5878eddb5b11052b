import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from search.design.experiment import Experiment
from search.facts.answer import reference_rows
from search.facts.summary import json_summary, models
from search.journal.events import Evaluated, Selected, Selecting, Tested
from search.journal.result import SearchResult, Selection, TrialResult
from search.journal.store import Home
from search.report import main
from search.space import Choice, SearchSpace
from search.tracking.note import markdown_summary
from search.values.statistics import Expected
from search.values.wording import durations
from search.views.base import Finished
from search.views.outcome import print_summary, side_by_side
from search.views.page.page import render
from search.views.text.labels import primary_text
from search.views.text.tables import MODEL_COLUMNS, models_table
from tests.support.played import OpenDriver, changed, evaluation, good_lr_wins, play, report
from tests.support.reports import select, verdict_texts
from trainables.config import TrialConfig

TEST = {
    "images": 4,
    "accuracy": 0.75,
    "macro": {"precision": 0.8, "recall": 0.75, "f1": 0.77, "auc": 0.9},
    "per_class": {
        "<script>alert(1)</script>": {"precision": 0.8, "recall": 0.7, "f1": 0.7, "images": 2},
        "b": {"precision": 0.8, "recall": 0.8, "f1": 0.8, "images": 2},
    },
    "confusion_matrix": [[1, 1], [0, 2]],
    "classes": ["<script>alert(1)</script>", "b"],
    "roc": {
        "<script>alert(1)</script>": {"auc": 0.9, "fpr": [0, 0, 1], "tpr": [0, 1, 1]},
        "b": {"auc": None, "fpr": [], "tpr": []},
    },
}


@pytest.fixture
def result(experiment: Experiment, open_driver: OpenDriver) -> SearchResult:
    """Nine played trials, three of them diverged, and a test."""

    def train(config: TrialConfig, epoch: int) -> dict[str, object]:
        return (
            report(epoch, 0, "diverged", "loss is inf")
            if config.optimizer.lr == 0.1
            else good_lr_wins(config, epoch)
        )

    space = SearchSpace(
        experiment.space.domains,
        base=experiment.space.base,
        reference={"optimizer.lr": 0.001, "epochs": 6, "model.layers": 5},
        reference_title="the book's",
    )
    driver = play(open_driver(changed(experiment, space=space, scheduler="asha")), train)
    best = driver.result.best
    assert best is not None
    driver.journal.append(Tested(trial=best.trial, epoch=best.best_epoch, test=TEST))
    return driver.result


def test_the_page_needs_nothing_beside_it_and_escapes_names(result: SearchResult) -> None:
    page = render(result)
    assert not re.findall(r'(?:src|srcset|href)="(?!data:|#)', page)
    assert "default-src 'none'" in page
    assert "<script>alert" not in page
    assert "&lt;script&gt;" in page
    shown = re.findall(r'alt="([^"]+)"', page)
    assert [alt.partition(":")[0] for alt in shown] == [
        "Validation accuracy by epoch, one line per trial",
        "Validation accuracy of each trial in turn, and the best so far",
        f"Loss and validation accuracy of {result.best.trial} by epoch",  # type: ignore[union-attr]
        "Parallel coordinates",
        "Confusion matrix",
        "ROC curves, one class against the rest",
    ]
    assert page.count("data:image/svg+xml;base64,") == 2 * len(shown)
    assert len(page) < 5_000_000


def test_control_characters_and_formulas_in_names_are_shown_as_text(result: SearchResult) -> None:
    odd = "$\\frac{\x1b[2J$ ünï ☃ 猫"
    text = json.dumps(TEST).replace("<script>alert(1)</script>", json.dumps(odd)[1:-1])
    result.tested = replace(result.tested, test=json.loads(text))  # type: ignore[type-var]
    result.trials["t0001"].reason = "\x1b]0;title\x07"
    page = render(result)
    assert not [letter for letter in page if letter != "\n" and not letter.isprintable()]
    assert r"\x1b[2J$ ünï ☃ 猫" in page


def test_the_page_shows_every_trial_the_best_first(result: SearchResult) -> None:
    rows = re.findall(r'<tr[^>]*><th scope="row">(t\d{4})</th>', render(result))
    assert rows[0] == result.best.trial  # type: ignore[union-attr]
    assert sorted(rows) == sorted(result.trials)


def test_the_page_of_a_search_without_an_epoch_says_so(
    experiment: Experiment, open_driver: OpenDriver
) -> None:
    driver = open_driver(experiment)
    driver.suggest()
    assert "No trial has finished an epoch" in render(driver.result)


def test_the_verb_writes_the_page_and_says_where(
    result: SearchResult, experiment: Experiment, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([experiment.name, "--storage", str(experiment.storage)]) == 0
    path = Path(capsys.readouterr().out.strip())
    assert path == experiment.folder / "report.html"
    assert "played" in path.read_text()


@pytest.mark.parametrize("name", ["none", "damaged"])
def test_the_verb_on_a_search_that_is_not_there_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert main([name, "--storage", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("error: there is no search at")


def test_a_damaged_journal_is_one_line_and_another_code(
    experiment: Experiment, result: SearchResult, capsys: pytest.CaptureFixture[str]
) -> None:
    path = experiment.folder / "journal.jsonl"
    path.write_text("garbage\n" + path.read_text())
    assert main([experiment.name, "--storage", str(experiment.storage)]) == 5
    assert "journal.jsonl:1 is damaged" in capsys.readouterr().err


def test_the_found_row_stands_beside_the_reference(result: SearchResult) -> None:
    (found, _, best), (paper, params, same) = reference_rows(result)
    assert (found, best) == ("found", result.best)
    assert (paper, params["model.layers"]) == ("the book's", 5)
    assert same is not None
    assert same.params == {"optimizer.lr": 0.001, "epochs": 6}


def test_a_users_own_images_have_no_row_of_a_papers(result: SearchResult) -> None:
    result.started.experiment["space_source"] = "table3"
    assert [title for title, _, _ in reference_rows(result)] == ["found", "the book's"]
    result.started = replace(result.started, data={**result.started.data, "name": "folder"})
    assert [title for title, _, _ in reference_rows(result)] == ["found"]
    result.started.experiment["space_source"] = "my_space.py:space"
    assert [title for title, _, _ in reference_rows(result)] == ["found", "the book's"]


def test_few_photographs_from_nothing_are_led_to_trained_weights(result: SearchResult) -> None:
    assert "Trained weights" not in verdict_texts(result)
    data = {**result.started.data, "few_photographs": True, "train": 240}
    result.started = replace(result.started, data=data)
    assert verdict_texts(result)["Trained weights"] == (
        "None were used. With so few photographs (240 to train on), networks that start from "
        "trained weights usually do much better: --space auto --download."
    )
    for trial in result.trials.values():
        trial.config = {**trial.config, "model": {**trial.config["model"], "pretrained": True}}
    assert "Trained weights" not in verdict_texts(result)


def test_after_a_selection_its_choice_stands_everywhere_and_the_highest_in_the_note(
    result: SearchResult,
) -> None:
    best, second = result.ranking[:2]
    terms = Selecting(candidates=[best.trial, second.trial], seeds=2, alpha=0.05)
    result.selection = Selection(terms, [])
    result.selection.repeats["s1"] = TrialResult(
        "s1",
        second.params,
        second.config,
        "completed",
        epochs=second.epochs,
        repeat_of=second.trial,
    )
    expected = Expected(mean=0.5104, low=0.4, high=0.6, std=0.1, seeds=2)
    result.selection.verdict = Selected(
        second.trial, "s1", second.trial, expected, second.primary_value, [], 0.05, 0.95
    )
    titles = [title for title, _, _ in reference_rows(result)]
    assert titles == ["chosen", "the book's"]
    assert reference_rows(result)[0][2] is result.selection.repeats["s1"]
    assert verdict_texts(result)["Chosen"].endswith(
        f"In the search itself, {best.trial} had the highest validation accuracy "
        f"({100 * best.value:.1f}%), partly by luck."
    )
    assert f'class="best"><th scope="row">{second.trial}</th>' in render(result)
    note = markdown_summary(result)
    assert (
        f"Chosen: `{second.trial}`, trained again as `s1`, expected validation accuracy 0.5104 "
        "(`selected/val_accuracy_mean`)."
    ) in note
    assert f"The highest of the search itself, partly by luck: `{best.trial}`" in note


@pytest.mark.parametrize("fixed", [{"optimizer.lr": 0.01}, {"model.layers": 10}])
def test_a_reference_that_was_not_trained_is_not_tried(
    experiment: Experiment, open_driver: OpenDriver, fixed: dict[str, object]
) -> None:
    """Fixing a key to another value than the reference's leaves no trial at the reference."""
    space = SearchSpace(
        experiment.space.domains,
        base=experiment.space.base,
        reference={"optimizer.lr": 0.001, "epochs": 6, "model.layers": 5},
    ).fixed(fixed)
    driver = play(
        open_driver(changed(experiment, space=space, base=experiment.base.override(space.base)))
    )
    assert reference_rows(driver.result)[1][2] is None


def test_an_epoch_cap_below_the_references_leaves_it_not_tried(
    experiment: Experiment, open_driver: OpenDriver
) -> None:
    space = SearchSpace({"epochs": Choice(3, 6)}, reference={"epochs": 6})
    driver = play(open_driver(changed(experiment, space=space, max_epochs=2)))
    assert reference_rows(driver.result)[1][2] is None


def test_epochs_that_were_capped_say_so(experiment: Experiment, open_driver: OpenDriver) -> None:
    space = SearchSpace({"epochs": Choice(3, 6), "optimizer.lr": Choice(0.01)})
    capped = changed(experiment, space=space, max_epochs=2)
    result = play(open_driver(capped)).result
    assert result.best is not None
    epochs = result.best.params["epochs"]
    assert re.search(rf"epochs +{epochs} \(capped at 2\)", said_at_the_end(result, capped))
    assert f"with epochs {epochs} (capped at 2), lr 0.01 (trial" in verdict_texts(result)["Found"]


@pytest.mark.parametrize(
    ("outcome", "text"), [("completed", "0.8997"), ("stopped", "0.8997 (stopped at epoch 2 of 20)")]
)
def test_an_accuracy_that_was_cut_short_says_so(outcome: str, text: str) -> None:
    epochs = {
        1: {"val/accuracy": 0.25, "val/loss": 2.0},
        2: {"val/accuracy": 0.8997, "val/loss": 1.0},
    }
    trial = TrialResult("t0001", {}, {"epochs": 20}, outcome, epochs=epochs)
    assert primary_text(trial) == text
    assert primary_text(replace(trial, epochs={})) == primary_text(None) == "not tried"


@pytest.fixture
def compared(experiment: Experiment, open_driver: OpenDriver) -> SearchResult:
    """Three played trials of each of two networks, one of which is better; the best of each is
    evaluated.
    """
    space = SearchSpace(
        {"model.name": Choice("table2", "deep_cnn"), "optimizer.lr": Choice(0.001, 0.01, 0.02)},
        base={"epochs": 2},
    )
    result = (
        driver := play(
            open_driver(
                changed(experiment, space=space, base=TrialConfig().override({"epochs": 2}))
            ),
            small_wins,
        )
    ).result
    for trial in result.best_of_models.values():
        driver.journal.append(Evaluated(trial=trial.trial, epoch=trial.best_epoch, **evaluation()))
    return result


def small_wins(config: TrialConfig, epoch: int) -> dict[str, object]:
    return report(
        epoch,
        0.5 + config.optimizer.lr + 0.1 * (config.model.name == "table2"),
        "completed" if epoch == config.epochs else None,
    )


def test_the_models_stand_side_by_side_the_best_first(compared: SearchResult) -> None:
    first, second = models(compared)
    assert (first["model"], second["model"]) == ("table2", "deep_cnn")
    assert first["trial_id"] == compared.best.trial  # type: ignore[union-attr]
    assert (first["val_accuracy"], second["val_accuracy"]) == (
        pytest.approx(0.62),
        pytest.approx(0.52),
    )
    assert first["macro_f1"] == 0.5
    assert (first["ms_per_image_batch_1"], first["ms_per_image_batch_64"]) == (1.5, 1.5 / 64)
    assert (first["parameters"], first["multiply_adds"], first["bytes"], first["train_s"]) == (
        1234567,
        7654321,
        4_940_000,
        0.5,
    )
    assert json_summary(compared, tracking={}, home=Home(Path("s")), wall_s=1.0)["models"] == [
        first,
        second,
    ]


def test_the_terminal_the_note_and_the_page_show_the_same_table(
    compared: SearchResult, experiment: Experiment
) -> None:
    titles, *rows = models_table(compared)
    assert [row[2:] for row in rows] == [
        [accuracy, "0.5000", "1.5", "0.0234", "1.23 M", "0.5"] for accuracy in ("0.6200", "0.5200")
    ]
    assert f"| {' | '.join(rows[1])} |" in markdown_summary(compared)
    page = render(compared)
    for row in (titles, *rows):
        assert re.search("".join(f"<t[hd][^>]*>{re.escape(cell)}</t[hd]>" for cell in row), page)
    printed = [line.split() for line in said_at_the_end(compared, experiment).splitlines()]
    heads = "model trial accuracy F1 alone of 64 weights train s"
    assert heads.split() in printed
    assert all(" ".join(row).split() in printed for row in rows)


def said_at_the_end(result: SearchResult, experiment: Experiment) -> str:
    tracking = {"tracking_uri": "sqlite:///m.db", "experiment_id": "1", "parent_run_id": "r"}
    console = Console(file=io.StringIO(), width=120)
    print_summary(Finished(experiment, result, tracking, 0, result.wall_s), console)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_a_selection_is_named_as_the_next_step_only_of_a_search_that_has_ended(
    compared: SearchResult, experiment: Experiment
) -> None:
    compared.outcome = "interrupted"
    assert "-m search.select" not in said_at_the_end(compared, experiment)
    assert "measures by how much, once the search has ended." in " ".join(render(compared).split())
    compared.outcome = "completed"
    assert "-m search.select" in (said := said_at_the_end(compared, experiment))
    assert f"-m search.ui --storage {experiment.storage}\n" in said
    assert "measures by how much." in " ".join(render(compared).split())


def test_what_a_selection_chose_is_said_again_when_its_search_is_resumed(
    compared: SearchResult, experiment: Experiment
) -> None:
    compared.started.experiment["sealed"] = True
    assert re.search("test accuracy +sealed", said_at_the_end(compared, experiment))
    select(compared)
    said = said_at_the_end(compared, experiment)
    assert "sealed" not in said
    assert compared.selection is not None
    trial = compared.selection.verdict.trial
    assert re.search(rf"chosen +{trial}, .*{trial}/epoch-0001", said)
    assert "Expect a validation accuracy of 0.9000" in said


def test_the_longest_names_and_numbers_fit_a_terminal_of_80_columns() -> None:
    longest = [
        "mobilenet_v3_small",
        "t9999",
        "0.9999",
        "0.9999",
        "0.0123",
        "0.0123",
        "0.0123 M",
        "12346",
    ]
    console = Console(file=io.StringIO(), width=80)
    model, trial, *others = (title for title, _ in MODEL_COLUMNS.values())
    console.print(side_by_side([[model, trial, "val accuracy", *others], longest]))
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert [*longest[:6], "0.0123", "M", "12346"] in [line.split() for line in printed.splitlines()]


def test_a_long_name_leaves_the_numbers_their_room() -> None:
    console = Console(file=io.StringIO(), width=80)
    titles = [title for title, _ in MODEL_COLUMNS.values()]
    console.print(side_by_side([titles, ["always 'breed-00-of-flower'", *6 * ["0.1234"]]]))
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert printed.splitlines()[-1].split()[-6:] == 6 * ["0.1234"]


def test_mlflows_links_open_its_view_of_trained_models(
    compared: SearchResult, experiment: Experiment
) -> None:
    said = said_at_the_end(compared, experiment)
    assert "#/experiments/1/runs/r?workflowType=machine_learning\n" in said
    assert "runs?workflowType=machine_learning&viewStateShareKey=models\n" in said


def test_one_model_that_was_not_measured_makes_no_table(result: SearchResult) -> None:
    assert models_table(result) == []
    page = render(result)
    assert "The best trial of each model" not in page + markdown_summary(result)
    assert page.count("Found, compared with what is known") == 1


def test_what_was_not_measured_is_left_empty(compared: SearchResult) -> None:
    worse = list(compared.best_of_models.values())[1]
    worse.cost.update(parameters=None, multiply_adds=None)
    assert [row[6] for row in models_table(compared)] == ["weights", "1.23 M", ""]
    worse.evaluated = None
    assert models_table(compared)[2][3:] == ["", "", "", "", "0.5"]


def test_a_model_whose_best_trial_lost_its_checkpoint_is_shown_by_its_next_best(
    compared: SearchResult,
) -> None:
    best, following = compared.ranking[:2]
    compared.tested = Tested(
        following.trial, following.best_epoch or 0, TEST, passed_over={best.trial: "damaged"}
    )
    assert models(compared)[0]["trial_id"] == following.trial


def test_the_page_shows_how_well_calibrated_the_best_trial_is(result: SearchResult) -> None:
    assert "calibration" not in render(result)
    weighted = {"precision": 0.1234, "recall": 0.75, "f1": 0.77, "auc": 0.9}
    test = {**TEST, "weighted": weighted, "ece": 0.0421}
    result.tested = replace(result.tested, test=test)  # type: ignore[type-var]
    page = render(result)
    assert "Expected calibration error 0.0421" in page
    assert "<td>weighted</td><td>4</td><td>0.1234</td>" in page


def test_the_note_holds_the_ten_best(result: SearchResult) -> None:
    note = markdown_summary(result)
    assert len(re.findall(r"^\| t\d{4} ", note, re.MULTILINE)) == min(10, len(result.ranking))
    assert "3 diverged" in note


def test_the_json_summary_has_every_promised_key(result: SearchResult) -> None:
    summary = json_summary(
        result,
        tracking={"tracking_uri": "u", "experiment_id": "1", "parent_run_id": "r"},
        home=Home(Path("s")),
        wall_s=result.wall_s,
    )
    assert summary.keys() == {
        "name",
        "data",
        "metric",
        "mode",
        "outcome",
        "best",
        "above_chance",
        "guesses",
        "trials",
        "epochs_trained",
        "epochs_taken_over",
        "wall_s",
        "train_s",
        "slots",
        "slot_efficiency",
        "budget",
        "mlflow",
        "journal",
        "passed_over",
        "models",
        "front",
        "risk",
        "requests",
    }
    assert summary["best"].keys() == {
        "trial_id",
        "params",
        "val_accuracy",
        "value",
        "test_accuracy",
        "test_value",
        "epoch",
        "checkpoint",
    }
    assert (
        summary["best"]["checkpoint"]
        == f"s/trials/{summary['best']['trial_id']}/epoch-{summary['best']['epoch']:04d}"
    )
    assert summary["best"]["test_accuracy"] == 0.75
    assert summary["train_s"] == pytest.approx(0.25 * summary["epochs_trained"])
    assert summary["slot_efficiency"] == pytest.approx(
        summary["train_s"] / (summary["wall_s"] * summary["slots"]), rel=0.01
    )


@pytest.mark.parametrize(
    ("out", "text"),
    [("none/page.html", "is in 'none', which is not a folder"), (".", "is a folder")],
)
def test_a_page_has_a_folder_to_be_in(
    out: str,
    text: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["mine", "--out", out]) == 2
    assert (
        capsys.readouterr().err
        == f"error: --out '{out}' {text}. Choose a file in an existing folder.\n"
    )


def test_a_search_without_a_result_says_how_to_ask_why(
    experiment: Experiment, open_driver: OpenDriver
) -> None:
    driver = play(
        open_driver(experiment),
        lambda config, epoch: report(epoch, outcome="failed", reason="no module named 'py'"),
    )
    out = io.StringIO()
    print_summary(
        Finished(
            experiment,
            driver.result,
            {"tracking_uri": "", "experiment_id": "", "parent_run_id": ""},
            3,
            1.0,
        ),
        Console(file=out),
    )
    assert re.search(
        rf"To see why: .*-m search\.why {experiment.name} --storage \S+ t0001\n",
        out.getvalue(),
    )


def test_a_range_whose_ends_are_written_alike_is_said_once() -> None:
    assert (durations(8.1, 8.4), durations(8, 90), durations(100, 7300)) == (
        "8 s",
        "8 s to 90 s",
        "100 s to 2 h",
    )
