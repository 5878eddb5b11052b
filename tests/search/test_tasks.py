"""Three small tasks go through whole searches: what the protocol of tasks promises, holds.

Each is its file, its predictor's and its line in the catalog (`tests/support/tasks`).
"""

import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from mlflow import MlflowClient, pyfunc

import search.api
import search.promote
import search.resume
import search.run
import search.select
import search.status
import search.why
from search.journal.result import SearchResult
from tests.support.tasks import boxes, registered, resolution, segmentation
from trainables.config import DataConfig, TrialConfig
from trainables.datasets.arrays import Part, Ragged, join_parts
from trainables.datasets.load import load, with_root
from trainables.errors import ConfigError
from trainables.evaluation.evaluate import evaluate
from trainables.tasks import TASKS

ROOT = Path(__file__).parents[2]
SPACE = """
from search.space import Choice, Float, SearchSpace
space = SearchSpace(
    {{"optimizer.lr": Float(3e-3, 1e-2, log=True), "batch_size": Choice(8, 16)}},
    base={{"model.name": "{name}", "epochs": {epochs}{more}}},
    trials=4,
)
"""
TOYS = {
    "segmentation": (segmentation, 8, ', "augment.flip": True, "augment.crop": 2', 0.8),
    "boxes": (boxes, 16, "", 0.2),
    "resolution": (resolution, 8, ', "augment.flip": True', 14.0),
}
"""By name: the module, the epochs, what else its space sets, and what the best at least reaches."""


class Searched:
    """A search of a toy task: of three trials, resumed to four, selected and promoted."""

    def __init__(self, toy: ModuleType, home: Path) -> None:
        self.toy, self.home = toy, home
        self.name, self.task = toy.NAME, toy.TASK
        self.folder = home / "searches" / toy.NAME
        self.tracking = f"sqlite:///{home}/mlflow.db"
        self.place = ["--storage", str(home / "searches")]

    @property
    def result(self) -> SearchResult:
        return SearchResult.read(self.folder)


@pytest.fixture(scope="module", params=TOYS)
def searched(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    empty_database: Path,
) -> Iterator[Searched]:
    toy, epochs, more, _ = TOYS[request.param]
    home = tmp_path_factory.mktemp(toy.NAME)
    shutil.copy(empty_database, home)
    space = home / "space.py"
    space.write_text(SPACE.format(name=toy.NAME, epochs=epochs, more=more))
    made = Searched(toy, home)
    how = ["--scheduler", "asha", "--grace", "2", "--executor", "inline", "--device", "cpu"]
    with registered(toy):

        def ask(verb: ModuleType, *words: str) -> None:
            place = ["--storage", str(home / "searches"), "--tracking", made.tracking]
            assert verb.main([*words, *place]) == 0, verb.__name__

        start = ["--space", str(space), "--data", toy.NAME, "--name", toy.NAME, "--seed", "1"]
        ask(search.run, *start, *how, "--trials", "3")
        ask(search.resume, toy.NAME, "--trials", "4")
        ask(search.select, toy.NAME, "--top", "2", "--seeds", "2")
        ask(search.promote, toy.NAME)
        yield made


def test_it_is_ranked_by_its_own_metric_and_learns(searched: Searched) -> None:
    result = searched.result
    least = next(least for toy, *_, least in TOYS.values() if toy is searched.toy)
    assert (result.outcome, len(result.trials)) == ("completed", 4)
    assert result.metric == searched.task.primary
    assert result.best is not None
    assert result.best.value == max(trial.value for trial in result.ranking) > least


def test_asha_decides_by_its_metric(searched: Searched) -> None:
    events = (searched.folder / "journal.jsonl").read_text().splitlines()
    by_asha = [found for line in events if (found := json.loads(line)).get("by") == "asha"]
    assert {found["event"] for found in by_asha} >= {"held"}


def test_its_evaluation_has_an_interval_around_its_value(searched: Searched) -> None:
    for trial in searched.result.ranking:
        found = trial.evaluation.val["metric"]
        assert found["name"] == searched.task.primary.name
        assert found["value"] == pytest.approx(trial.value, abs=2e-3)
        assert found["low"] < found["value"] < found["high"]


def test_nobody_speaks_of_accuracy(searched: Searched, capsys: pytest.CaptureFixture[str]) -> None:
    assert search.status.main([searched.name, *searched.place]) == 0
    assert search.why.main([searched.name, "t0001", *searched.place]) == 0
    said = capsys.readouterr().out + (searched.folder / "report.html").read_text(encoding="utf-8")
    assert searched.task.primary.title in said
    words = ("accuracy", "classifies", "classified", "classify ", "confusion", "correctly")
    assert not [word for word in words if word in said]


def test_json_has_its_metric_by_name(
    searched: Searched, capsys: pytest.CaptureFixture[str]
) -> None:
    assert search.status.main([searched.name, "--json", *searched.place]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["metric"] == searched.task.primary.name
    trial = searched.result.trials["t0001"]
    assert told["trials"]["t0001"][f"val_{told['metric']}"] == trial.value


def test_the_page_shows_what_its_evaluation_holds(searched: Searched) -> None:
    test = searched.result.chosen_test
    page = (searched.folder / "report.html").read_text(encoding="utf-8")
    for table in test.get("tables", []):
        assert f"<h3>{table['title']}</h3>" in page
    written = json.loads(
        (searched.folder / "trials" / searched.result.chosen.trial / "evidence" / "test.json")  # type: ignore[union-attr]
        .read_text()
    )
    assert written["pictures"]
    assert all(entry["webp"] in page for entry in written["pictures"])
    assert "pictures" not in test  # the journal is no place for them


def test_mlflow_has_its_metric_and_no_other_tasks(searched: Searched) -> None:
    client = MlflowClient(searched.tracking)
    title = f"space-{searched.name}-{searched.task.name}"
    experiment = client.get_experiment_by_name(title)
    assert experiment is not None
    key = f"best/val_{searched.task.primary.name}"
    assert experiment.tags["mlflow.experiment.primaryMetric.name"] == key
    runs = client.search_runs([experiment.experiment_id])
    values = {run.data.metrics[key] for run in runs if key in run.data.metrics}
    assert searched.result.best.value in values  # type: ignore[union-attr]
    told = {name for run in runs for name in run.data.metrics}
    assert not told & {"best/val_accuracy", "val/accuracy", "eval/accuracy", "test/accuracy"}


def test_what_is_promoted_needs_no_part_of_the_project(
    searched: Searched, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = searched.result.chosen
    assert chosen is not None
    config = TrialConfig.from_dict(chosen.config)
    task, dataset = config.load_task(), load(config.data)
    path = searched.folder / "trials" / chosen.trial / f"epoch-{chosen.best_epoch:04d}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", searched.tracking)
    served = pyfunc.load_model(f"models:/{searched.name}@champion")
    images = task.given(dataset.val)
    told = served.predict(images if isinstance(images, np.ndarray) else list(images))
    assert len(told) == len(dataset.val)
    model = search.api.load(
        searched.name, storage=searched.home / "searches", tracking=searched.tracking
    )
    found = model.predict(images if isinstance(images, np.ndarray) else list(images))
    value = evaluate(config, dataset, dataset.val, path)[searched.task.primary.name]
    assert task.value(found, dataset.val) == pytest.approx(value, abs=1e-3)


def test_the_table_of_trials_names_its_metric(searched: Searched) -> None:
    found = search.api.result(searched.name, storage=searched.home / "searches")
    column = found.trials[f"val_{searched.task.primary.name}"]
    assert column.tolist() == [trial.value for trial in searched.result.trials.values()]


@pytest.mark.parametrize(
    ("toy", "asked", "told"),
    [
        (
            segmentation,
            {"data.folds": 3},
            "data.folds cannot be used for outlines: the predictions",
        ),
        (boxes, {"augment.flip": True}, "augment cannot be used for boxes: no augmentation also"),
        (boxes, {"precision": "bf16"}, "precision=bf16 cannot be used for boxes: its targets"),
        (
            boxes,
            {"model.name": "table2"},
            "the model 'table2' supports classification, but not boxes",
        ),
        (boxes, {"metric": "accuracy"}, "unknown metric of boxes 'accuracy'"),
    ],
)
def test_what_a_task_lacks_is_refused(toy: ModuleType, asked: dict, told: str) -> None:
    with registered(toy):
        config = TrialConfig().on(with_root(DataConfig(), toy.NAME, ""))
        with pytest.raises(ConfigError, match=told):
            config.override(asked)


@pytest.mark.parametrize("option", ["--workers", "--fuse"])
def test_trials_that_a_task_cannot_share_are_refused(
    option: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with registered(boxes):
        space = tmp_path / "space.py"
        space.write_text(SPACE.format(name=boxes.NAME, epochs=2, more=""))
        how = ["--data", boxes.NAME, "--storage", str(tmp_path), option, "2", "--dry-run"]
        assert search.run.main(["--space", str(space), *how]) == 2
    assert f"{option} 2 cannot be used for boxes: its" in capsys.readouterr().err


def test_a_data_set_that_has_no_such_targets_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with registered(segmentation):
        place = ["--storage", str(tmp_path), "--data", "digits", "--dry-run"]
        assert search.run.main(["--space", "smoke", "--task", "outlines", *place]) == 2
    told = "the data set 'digits' has no targets for outlines (--task). It supports: "
    assert told in capsys.readouterr().err


def test_a_search_for_a_task_that_is_gone_is_told(
    searched: Searched, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = TASKS.pop(searched.task.name)
    try:
        assert search.status.main([searched.name, *searched.place]) != 0
    finally:
        TASKS[entry.name] = entry
    told = (
        f"the search is for '{entry.name}', a task that this version of the program does not know"
    )
    assert told in capsys.readouterr().err


def test_images_of_mixed_sizes_are_predicted_each_in_its_own(searched: Searched) -> None:
    if searched.toy is not segmentation:
        return
    dataset = load(TrialConfig.from_dict(searched.result.best.config).data)  # type: ignore[union-attr]
    model = search.api.load(
        searched.name, storage=searched.home / "searches", tracking=searched.tracking
    )
    images = list(dataset.val.images)
    assert len({image.shape for image in images}) > 5
    assert [found.shape[1:] for found in model.predict(images)] == [
        image.shape[:2] for image in images
    ]


def ragged(*shapes: tuple[int, int]) -> Ragged:
    return Ragged.of(np.full((*shape, 3), number, np.uint8) for number, shape in enumerate(shapes))


@pytest.mark.parametrize("first", [np.zeros((2, 4, 4, 3), np.uint8), ragged((4, 4), (5, 5))])
def test_parts_of_mixed_sizes_are_joined(first: object) -> None:
    boxes_of_each = Ragged.of([np.ones((1, 4)), np.ones((3, 4))])
    whole = join_parts(Part(first, boxes_of_each), Part(ragged((6, 7), (4, 4)), boxes_of_each))
    assert [image.shape[:2] for image in whole.each()][2:] == [(6, 7), (4, 4)]
    assert [len(own) for own in whole.take(np.array([1, 2])).targets] == [3, 1]


def test_a_selection_is_as_sharp_in_any_unit(searched: Searched) -> None:
    result = searched.result
    error = result.best.error(result.images)  # type: ignore[union-attr]
    steps = 1 / max(2 * error / math.sqrt(result.images), 1 / result.images)
    if searched.task.primary.unit:
        steps = math.sqrt(result.images) / (2 * error)
    assert result.steps == pytest.approx(steps)


def test_images_that_do_not_fit_a_model_are_refused_in_a_line(searched: Searched) -> None:
    model = search.api.load(
        searched.name, storage=searched.home / "searches", tracking=searched.tracking
    )
    with pytest.raises(
        ConfigError, match=r"images must have .* as the training images did \(got 9 x 5"
    ):
        model.predict(np.zeros((1, 9, 5, 2), np.uint8))
    with pytest.raises(
        ConfigError, match=r"does not return class probabilities of images\. Use predict\(\)"
    ):
        model.probabilities(np.zeros((1, 9, 5, 1), np.uint8))
    assert model.predict([]) == []


IN_EVERY_PROCESS = """
from tests.support.tasks import segmentation as toy
from trainables.catalog.datasets import DATASETS
from trainables.catalog.models import MODELS
from trainables.tasks import TASKS

TASKS[toy.TASK.name], DATASETS[toy.NAME], MODELS[toy.NAME] = toy.TASK, toy.DATASET, toy.MODEL
"""
"""A sitecustomize.py, which Python runs as it starts."""


@pytest.mark.usefixtures("database")
@pytest.mark.ray
@pytest.mark.slow
def test_workers_of_rays_train_for_another_task(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(IN_EVERY_PROCESS)
    space = tmp_path / "space.py"
    space.write_text(SPACE.format(name=segmentation.NAME, epochs=2, more=""))
    told = ["--tracking", f"sqlite:///{tmp_path}/mlflow.db", "--storage", str(tmp_path), "--json"]
    how = ["--space", str(space), "--data", segmentation.NAME, "--trials", "2", "--device", "cpu"]
    done = subprocess.run(
        [sys.executable, "-m", "search.run", *how, "--name", "discs", "--concurrency", "2", *told],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
    )
    assert done.returncode == 0, done.stderr
    best = json.loads(done.stdout)["best"]
    assert 0 < best["val_iou"] <= 1
    assert "val_accuracy" not in best
