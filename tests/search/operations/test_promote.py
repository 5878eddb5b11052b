"""From a search to a registered model, and to its use in a process that has nothing of this
project.
"""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from PIL import Image

from search import promote, status, sync
from search.decisions.driver import Driver
from search.design.experiment import Experiment
from search.journal.events import (
    Concluded,
    Ended,
    Epoch,
    Running,
    Selected,
    Selecting,
    Started,
    Suggested,
    Tested,
)
from search.journal.journal import Journal
from search.journal.lease import Lease
from search.journal.result import PAGE, SearchResult, checkpoint_of
from search.space import Choice, SearchSpace
from search.tracking.model_registry import Registered, Registry
from search.values.statistics import Expected
from search.views.page.page import write
from tests.conftest import Command
from tests.search.conftest import Inline
from tests.support.pages import block
from tests.support.played import evaluation, started_event
from trainables.catalog import entries
from trainables.catalog.entries import DECODING
from trainables.config import TrialConfig
from trainables.datasets.arrays import Dataset
from trainables.datasets.load import load
from trainables.evaluation.evaluate import predictions
from trainables.predictors.base import at_temperature
from trainables.tasks.calibration import fit_temperature
from trainables.trial import run_trial

Search = Callable[..., SearchResult]
TEST = {**evaluation()["val"], "accuracy": 0.6875, "per_class": {}}

IN_A_FRESH_PROCESS = """
import sys

class Nowhere:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("search", "trainables", "cluster"):
            raise ImportError(name)

sys.meta_path.insert(0, Nowhere())
import json
import numpy as np

images = np.load(sys.argv[1])
# README
tables = [table, model.predict(np.repeat(np.repeat(images, 3, axis=3), 2, axis=1)), \
model.predict(images[:1])]
alone = np.ascontiguousarray(images[0, :, :, 0])  # grey, or the first channel
tables.append(model.predict([alone, np.repeat(images[1], 2, axis=0)]))
tables.append(model.predict(alone[None]))
# PASTED
try:
    model.predict(images / 255)
except ValueError as error:
    print(error)
print(json.dumps([table.to_dict("split") for table in tables]))
"""


def facts_of(dataset: Dataset, config: TrialConfig) -> dict[str, Any]:
    """Return what a search's first event says of its data."""
    return {
        "classes": list(dataset.classes),
        "image": dataset.image,
        "fingerprint": dataset.fingerprint,
        "name": config.data.name,
        "root": config.data.root,
        **({"decoding": DECODING} if config.data.name == "folder" else {}),
    }


@pytest.fixture
def searched(tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch) -> Search:
    """Train a small search to its end in this process and write it to MLflow."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    torch.set_num_threads(1)

    def make(
        model: str = "deep_cnn",
        *,
        finish: bool = True,
        synced: bool = True,
        test: bool = False,
        **base: Any,
    ) -> SearchResult:
        config = TrialConfig().override(
            {"model.name": model, "epochs": 1, "data.train_limit": 300, "precision": "fp32", **base}
        )
        space = SearchSpace({"optimizer.lr": Choice(0.001, 0.01)}, base={"epochs": 1})
        named = Experiment(
            name="small",
            space_name="two",
            space=space,
            base=config,
            algorithm="grid",
            scheduler="fifo",
            storage=tmp_path / "searches",
        )
        experiment = replace(named, tracking=database)
        journal = Journal(experiment.folder)
        driver = Driver(experiment, journal)
        dataset = load(config.data)
        event = started_event()
        journal.append(
            Started(
                name="small",
                experiment=experiment.describe(),
                **{**event, "data": {**event["data"], **facts_of(dataset, config)}},
            )
        )
        while (suggestion := driver.suggest()) is not None:
            driver.running(suggestion[0])
            for report in run_trial(suggestion[1], dataset, experiment.trial_folder(suggestion[0])):
                driver.report(suggestion[0], report)
        best = driver.result.best
        assert best is not None
        if test:
            journal.append(
                Tested(trial=best.trial, epoch=best.best_epoch, test=TEST, passed_over={})
            )
        if finish:
            driver.finish()
        journal.close()
        if synced:
            assert sync.main(["small"]) == 0
        return driver.result

    return make


def client() -> MlflowClient:
    """Of the working directory's MLflow."""
    return MlflowClient(f"sqlite:///{Path.cwd()}/mlflow.db")


def promoted(*words: str) -> ModelVersion:
    """The champion after a promotion."""
    assert promote.main(["small", *words]) == 0
    name = words[words.index("--model") + 1] if "--model" in words else "small"
    return client().get_model_version_by_alias(name, "champion")


def used_elsewhere(name: str, images: Any, folder: Path, pasted: str = "") -> list[dict[str, Any]]:
    """What a process without this project gets from the model, as the README loads it: of these
    images, of the same as RGB and twice as high, of the first alone, of a list of two sizes, and of
    the first as grey without an axis of channels; and, of floats, one line. `pasted` is run before
    that.
    """
    np.save(folder / "images.npy", images)
    script = folder / "use.py"
    readme = block("python", "load_model(").replace("NAME", name).replace("///", f"///{folder}/")
    script.write_text(IN_A_FRESH_PROCESS.replace("# README", readme).replace("# PASTED", pasted))
    empty = folder / "empty"
    empty.mkdir(exist_ok=True)
    words = [sys.executable, "-I", str(script), str(folder / "images.npy")]
    environment = {"PATH": "", "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false", "HOME": str(empty)}
    done = subprocess.run(
        words, cwd=empty, env=environment, capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(
        r"images must be a uint8 array .* \(got float64 \(.*\)\)\. Scale the pixels to 0 to 255 .*",
        done.stdout.splitlines()[-2],
    )
    tables: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return tables


def expected(result: SearchResult, folder: Path) -> tuple[Any, Any, tuple[str, ...]]:
    """The validation images, the checkpoint's calibrated probabilities of them, the classes."""
    chosen = result.chosen
    assert chosen is not None
    config = TrialConfig.from_dict(chosen.config)
    dataset = load(config.data)
    path = checkpoint_of(chosen, folder / "searches" / "small")
    chances = predictions(config, dataset, dataset.val, path)
    temperature = fit_temperature(chances, dataset.val.targets)
    return dataset.val.images, at_temperature(temperature, chances), dataset.classes


def check_use(version: ModelVersion, result: SearchResult, folder: Path, pasted: str = "") -> None:
    """A process without this project gets the checkpoint's probabilities."""
    images, chances, classes = expected(result, folder)
    same, colour, single, sizes, grey = used_elsewhere(version.name, images[:20], folder, pasted)
    assert len(sizes["data"]) == 2
    assert sizes["data"][0][2:] == pytest.approx(grey["data"][0][2:], abs=1e-6)
    assert (
        same["columns"]
        == colour["columns"]
        == ["class", "probability", *(f"probability of {name}" for name in classes)]
    )
    assert np.array([row[2:] for row in same["data"]]) == pytest.approx(chances[:20], abs=1e-5)
    assert [row[0] for row in same["data"]] == [
        classes[number] for number in chances[:20].argmax(axis=1)
    ]
    assert [row[1] for row in same["data"]] == pytest.approx(chances[:20].max(axis=1), abs=1e-5)
    assert len(colour["data"]) == 20
    assert single["data"] == same["data"][:1] or single["data"][0][2:] == pytest.approx(
        chances[0], abs=1e-5
    )


@pytest.mark.slow
def test_the_champion_is_described_and_can_be_used_without_this_project(
    searched: Search, tmp_path: Path, capsys: Any
) -> None:
    result = searched(test=True)
    version = promoted("--onnx", "--json")
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (summary["name"], summary["version"], summary["uri"]) == (
        "small",
        "1",
        "models:/small@champion",
    )
    assert summary["onnx_difference"] < 1e-4
    assert result.chosen is not None
    times = [
        summary[kind][f"batch_{size}"]["median_ms"]
        for kind in ("inference", "onnx_inference")
        for size in (1, 64)
    ]
    told = [
        f"validation accuracy | {result.chosen.primary_value:.4f} in the search",
        "test accuracy | 0.6875",
        "data set **digits**",
        "search **small**",
        result.chosen.trial,
        "| pixels | float32",
    ]
    assert [
        text
        for text in (*told, *(f"{time:.3g}" for time in times))
        if text not in version.description
    ] == []
    assert version.tags == {
        "search.name": "small",
        "search.id": "1d",
        "search.trial": result.chosen.trial,
        "search.onnx": "true",
    }
    parent = client().get_run(version.run_id)
    assert parent.data.tags["search.role"] == "search"
    assert parent.info.status == "FINISHED"
    check_use(version, result, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["svm", "tree"])
def test_a_baseline_is_used_without_this_project_too(
    model: str, searched: Search, tmp_path: Path
) -> None:
    result = searched(model, **{"optimizer.lr": 0.01})
    version = promoted()
    assert (
        "is not a network: loading it requires scikit-image, scikit-learn and skops"
        in version.description
    )
    check_use(version, result, tmp_path)


@pytest.mark.slow
def test_classes_may_have_any_name(searched: Search, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for name in ("class", "<script>alert(1)</script>"[:17], 60 * "x", "a | b\n\x1b[2J", "ü"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(8):
            Image.fromarray(generator.integers(0, 256, (12, 9, 3), dtype=np.uint8)).save(
                tmp_path / "images" / name / f"{number}.png"
            )
    result = searched(
        **{
            "data.name": "folder",
            "data.root": str(tmp_path / "images"),
            "data.train_limit": None,
            "batch_size": 8,
        }
    )
    version = promoted("--model", "any name")
    assert "\x1b" not in version.description
    images, _, classes = expected(result, tmp_path)
    (same, *_) = used_elsewhere("any name", images[:, :, :, :1], tmp_path)
    assert same["columns"] == [
        "class",
        "probability",
        *(f"probability of {name}" for name in classes),
    ]
    assert {row[0] for row in same["data"]} <= set(classes)


@pytest.mark.slow
def test_to_promote_again_adds_a_version_and_moves_the_alias(searched: Search, capsys: Any) -> None:
    searched()
    assert promoted().version == 1
    capsys.readouterr()
    assert promoted().version == 2
    assert (
        "version 2 of small; version 1, the previous champion, is kept." in capsys.readouterr().out
    )
    assert sorted(
        int(found.version) for found in client().search_model_versions("name = 'small'")
    ) == [1, 2]


@pytest.mark.slow
def test_another_trial_than_the_answer_is_promoted_on_demand(searched: Search, capsys: Any) -> None:
    result = searched(test=True)
    assert result.best is not None
    other = next(name for name in result.trials if name != result.best.trial)
    version = promoted("--trial", other)
    assert version.tags["search.trial"] == other
    assert "the test set was not used for it" in version.description, (
        "what was tested is the best one"
    )
    assert promote.main(["small", "--trial", "t9"]) == 2
    assert (
        "--trial 't9': the search 'small' has no trial of this name with a result."
        in capsys.readouterr().err
    )
    assert promoted().tags["search.trial"] == result.best.trial


@pytest.mark.slow
def test_what_a_selection_chose_is_promoted_with_what_is_expected_of_it(
    searched: Search, tmp_path: Path
) -> None:
    """And not the search's best trial, nor its test."""
    result = searched("tree", test=True)
    assert result.best is not None
    journal, _ = Journal.reopen(tmp_path / "searches" / "small")
    config = TrialConfig.from_dict(result.best.config).override({"seed": 7})
    name, (training,) = (
        f"{result.best.trial}-s1",
        run_trial(
            config,
            load(config.data),
            tmp_path / "searches" / "small" / "trials" / f"{result.best.trial}-s1",
        ),
    )
    expected = Expected(mean=0.71234, low=0.6, high=0.83, std=0.01, seeds=3)
    journal.append(
        Selecting(candidates=[result.best.trial], seeds=3, alpha=0.05, slots=1, began_ms=1)
    )
    journal.append(
        Suggested(trial=name, params={}, config=config.to_dict(), repeat_of=result.best.trial)
    )
    journal.append(Running(trial=name, attempt=1))
    journal.append(Epoch(trial=name, epoch=1, metrics=training.metrics))
    journal.append(Ended(trial=name, outcome="completed", reason=""))
    assert promote.main(["small"]) == 5  # it goes on, or was cut off
    journal.append(
        Selected(result.best.trial, name, result.best.trial, expected, 0.7, [], 0.05, 0.95)
    )
    journal.append(
        Tested(by="search.select", trial=name, epoch=1, test={**TEST, "accuracy": 0.625})
    )
    journal.append(Concluded(outcome="completed", reason=""))
    journal.close()
    version = promoted()
    assert version.tags["search.trial"] == name
    assert f"training {name} of the selection" in version.description
    assert (
        f"validation accuracy | {training.metrics['val/accuracy']:.4f} in the selection; "
    ) in version.description
    assert (
        "expected value | 0.7123, 95 % interval 0.6000 to 0.8300, from 3 fresh seeds"
        in version.description
    )
    assert "test accuracy | 0.6250" in version.description


def test_what_cannot_be_promoted_is_said_in_one_line(
    searched: Search, tmp_path: Path, capsys: Any
) -> None:
    """Each with its exit code, and MLflow as it was."""
    result = searched("tree", synced=False)
    folder = tmp_path / "searches" / "small"
    assert result.chosen is not None

    def refused(*words: str, name: str = "small") -> tuple[int, str]:
        capsys.readouterr()
        code = promote.main([name, *words])
        (line,) = (
            line
            for line in capsys.readouterr().err.splitlines()
            if not line.startswith("exporting ")
        )
        return code, line

    code, line = refused(name="nowhere")
    assert (code, "nowhere" in line) == (2, True)
    code, line = refused("--model", "a/b")
    assert (code, "the name of a model must have 1 to 128 letters" in line) == (2, True)
    code, line = refused("--model", "hf_" + 30 * "x")
    assert (code, "looks like a credential" in line, "xxx" in line) == (2, True, False)
    code, line = refused("--tracking", "http://u:hunter2@127.0.0.1:9/")
    assert (code, "hunter2" in line) == (2, False)
    code, line = refused("--tracking", "http://127.0.0.1:9/")
    assert (code, "cannot be reached" in line) == (4, True)
    code, line = refused()
    assert (
        code,
        "has no run of the search 'small'. Write the search to MLflow first: " in line,
        "search.sync small" in line,
    ) == (4, True, True)
    assert sync.main(["small"]) == 0
    code, line = refused("--onnx")
    assert (code, "'tree' cannot be exported to ONNX, because it is not a network" in line) == (
        2,
        True,
    )
    with Lease(folder):
        code, line = refused()
    assert (code, "is being run by process" in line) == (5, True)
    (checkpoint_of(result.chosen, folder) / "classifier.skops").write_bytes(b"")
    code, line = refused()
    assert (
        code,
        f"trial {result.chosen.trial} cannot be promoted" in line,
        "is damaged" in line,
    ) == (5, True, True)
    assert client().search_registered_models() == []


def test_a_search_that_was_cut_off_is_resumed_first(searched: Search, capsys: Any) -> None:
    searched("tree", finish=False)
    assert promote.main(["small"]) == 5
    assert "was cut off before it finished. Continue it first: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("is_decoded_otherwise", "told"),
    [
        (False, "the images of the search 'small' have changed since it was started"),
        (
            True,
            ("images of more than 8 bits differently). Use the version that ran the search"),
        ),
    ],
)
def test_images_that_have_changed_are_told(
    is_decoded_otherwise: bool,
    told: str,
    searched: Search,
    tmp_path: Path,
    capsys: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("a", "b"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(5):
            Image.fromarray(np.full((9, 9), 20 * number + ord(name), dtype=np.uint8)).save(
                tmp_path / "images" / name / f"{number}.png"
            )
    searched(
        "tree",
        **{"data.name": "folder", "data.root": str(tmp_path / "images"), "data.train_limit": None},
    )
    shutil.copy(tmp_path / "images" / "a" / "0.png", tmp_path / "images" / "a" / "9.png")
    if is_decoded_otherwise:
        monkeypatch.setattr(entries, "DECODING", DECODING + 1)
    assert promote.main(["small"]) == 5
    assert told in capsys.readouterr().err


@pytest.mark.promise
@pytest.mark.slow
def test_from_the_command_line(inline: Inline, command: Command, tmp_path: Path) -> None:
    """A real search, its model, and the model's use as the README and as the command say it."""
    words = ("--space", "smoke", "--name", "small", "--trials", 2, "--max-epochs", 2)
    searched, _ = inline("run", *words)
    assert searched.returncode == 0
    done = command("search.promote", "small")
    assert (done.returncode, len(done.stderr.splitlines())) == (0, 1), done.stderr
    assert "-m search.serve models:/small@champion --tracking sqlite:///" in done.stdout
    version = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db").get_model_version_by_alias(
        "small", "champion"
    )
    (use,) = [line for line in done.stdout.splitlines() if line.startswith("  use it: ")]
    loaded = 'assert type(model).__name__ == "PyFuncModel"'
    pasted = f"del model; {use.removeprefix('  use it: ')}; {loaded}"
    check_use(version, SearchResult.read(tmp_path / "searches" / "small"), tmp_path, pasted)


@pytest.mark.slow
def test_promises_are_recorded_and_shown(searched: Search, tmp_path: Path, capsys: Any) -> None:
    """In the journal, `status --json`, the report and MLflow, with how often they were set."""
    searched("svm", test=True)
    folder = tmp_path / "searches" / "small"
    write(SearchResult.read(folder), folder, folder / PAGE)
    words = ("--max-error", "8%", "--coverage", "90%", "--by-class", "--json")
    version = promoted(*words)
    output = capsys.readouterr()
    summary = json.loads(output.out.splitlines()[-1])
    assert (summary["earlier_promises"], "promises were already" in output.err) == (0, False)
    assert "report: searches/small/report.html" in output.out

    result = SearchResult.read(folder)
    (registration,) = result.registrations
    opening = result.openings[-1]
    assert opening.promises == ("--max-error 8%", "--coverage 90% --by-class")
    assert str(opening).endswith(
        f"by search.promote --max-error 8% --coverage 90% --by-class for {registration.event.trial}"
    )
    assert (registration.event.model, registration.event.version) == ("small", "1")
    assert registration.event.promises == {"max_error": 0.08, "coverage": 0.9, "by_class": True}
    assert registration.event.reliability == summary["reliability"]

    assert status.main(["small", "--json"]) == 0
    (shown,) = json.loads(capsys.readouterr().out)["registered"]
    assert shown["reliability"]["max_error"]["threshold"] > 0

    page = (folder / PAGE).read_text()
    assert "How far its probabilities and answers can be trusted" in page
    facts = summary["reliability"]["max_error"]
    assert f"a probability of at least {facts['threshold']:.4g}" in page
    assert page.count('alt="Reliability diagram as') == 2

    run = client().get_run(version.run_id)
    assert run.data.tags["registered"] == f"{registration.event.trial} as version 1 of small"
    assert run.data.metrics["registered/answered"] == facts["answered"] / facts["images"]
    stored = [file.path for file in client().list_artifacts(version.run_id, "registered/small-1")]
    assert [Path(path).name for path in sorted(stored)] == [
        "calibration_after.png",
        "calibration_before.png",
        "reliability.json",
    ]

    before = run.data.metrics
    assert sync.main(["small"]) == 0  # nothing is written twice
    assert client().get_run(version.run_id).data.metrics == before
    capsys.readouterr()
    promoted("--max-error", "9%", "--json")
    output = capsys.readouterr()
    assert json.loads(output.out.splitlines()[-1])["earlier_promises"] == 1
    assert "promises were already set on these test images (1 time, last" in output.err
    page = (folder / PAGE).read_text()
    assert "Thresholds were chosen on these test images 2 times" in page
    assert "version 2 of small" in page


@pytest.mark.slow
def test_a_model_is_promoted_from_a_folder_that_cannot_be_written(
    searched: Search, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched("tree")

    def refuse(self: Journal, data: Any) -> None:
        raise OSError("Read-only file system")

    monkeypatch.setattr(Journal, "append", refuse)
    assert promoted().version == 1
    assert "could not be written (Read-only file system)" in capsys.readouterr().err


@pytest.mark.slow
def test_a_search_that_was_resumed_during_the_export_is_promoted_all_the_same(
    searched: Search, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched("tree")
    register = Registry.set_aliases

    def resumed(registry: Registry, name: str, version: str) -> Registered:
        leases.enter_context(Lease(tmp_path / "searches" / "small"))
        return register(registry, name, version)

    monkeypatch.setattr(Registry, "set_aliases", resumed)
    with ExitStack() as leases:
        assert promoted().version == 1
    assert "The report does not show this promotion" in capsys.readouterr().err
