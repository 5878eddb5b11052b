"""The verb that looks at data, and what a search keeps of it."""

import json
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient
from PIL import Image

from search.journal.journal import FILE_NAME, read
from search.journal.result import SearchResult
from search.operations.data import DataRequest, config_of
from search.operations.run import experiment_of
from search.operations.run_request import RunRequest
from search.views.page.data import section
from search.views.page.page import render
from tests.conftest import Command


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """30 images of two classes in three parts; two of the test images are copies."""
    generator = np.random.default_rng(0)
    for number in range(30):
        part = ("train", "train", "train", "val", "test")[number % 5]
        path = tmp_path / "pets" / part / ("cat", "dog")[number // 5 % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (8, 8), np.uint8)).save(path)
    for number in (0, 10):
        copied = tmp_path / "pets" / "train" / "cat" / f"{number}.png"
        (tmp_path / "pets" / "test" / "cat" / f"<b>{number}.png").write_bytes(copied.read_bytes())
    return tmp_path / "pets"


@pytest.mark.parametrize("prefix", ["", "folder:"])
def test_a_folder_is_reported_on(call: Command, pets: Path, prefix: str) -> None:
    done = call("search.data", f"{prefix}{pets}")
    assert (done.returncode, done.stderr) == (0, "")
    assert "warning: 2 of 8 test images are copies of training images" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_a_data_set_that_has_a_name_is_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "digits").mkdir()
    monkeypatch.chdir(tmp_path)
    assert config_of(DataRequest(data="digits")).name == "digits"


def test_the_seed_divides_the_images_as_in_a_search() -> None:
    of_search = RunRequest(space="table3", data="digits", seed=3)
    of_data = DataRequest(data="digits", seed=3)
    assert config_of(of_data) == experiment_of(of_search).base.data
    assert config_of(of_data).split_seed == 3


def test_the_report_as_json(call: Command, pets: Path) -> None:
    done = call("search.data", pets, "--json", "--set", "data.leaks=keep")
    told = json.loads(done.stdout)["data"]
    assert told["images"] == {"train": 18, "val": 6, "test": 8}
    assert [count["images"] for count in told["match_counts"]] == [2]


def test_a_page_of_the_data_alone(call: Command, pets: Path, tmp_path: Path) -> None:
    call("search.data", pets, "--out", tmp_path / "data.html")
    page = (tmp_path / "data.html").read_text()
    assert "data:image/png;base64," in page
    assert "test/cat/&lt;b&gt;0.png" in page
    assert "<b>" not in page


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["./nowhere"], "data set folder not found: 'nowhere'"),
        (["minst"], "unknown data set 'minst'"),
        (["digits", "--set", "epochs=3"], "--set epochs is not a setting of the data"),
        (
            ["digits", "--out", "no/where.html"],
            "--out 'no/where.html' must be a file in an existing folder",
        ),
    ],
)
def test_what_cannot_be_looked_at_is_refused(call: Command, words: list[str], said: str) -> None:
    done = call("search.data", *words)
    assert done.returncode == 2
    assert said in done.stderr


def test_built_in_data_have_a_report(call: Command) -> None:
    done = call("search.data", "digits")
    assert "1,797 images in 10 classes (1,079 training, 359 validation, 359 test)" in done.stdout
    assert "none found (nearly equal images were not searched for: " in done.stdout.replace(
        "\n                ", " "
    )


def test_a_dry_run_tells_of_the_data_as_json(call: Command, pets: Path) -> None:
    words = ("--space", "baselines", "--data", f"folder:{pets}", "--set", "model.name=knn")
    done = call("search.run", *words, "--dry-run", "--json")
    told = json.loads(done.stdout)
    assert told["trials"] > 0
    assert told["data"]["counts"]["test"] == [3, 3]
    assert done.stderr.count("copies of training images") == 1


def test_a_search_keeps_its_report(
    call: Command, pets: Path, tmp_path: Path, database: str
) -> None:
    """The page, MLflow and the result as JSON have it."""
    words = ("--space", "baselines", "--set", "model.name=knn", "--trials", 1, "--name", "tiny")
    done = call(
        *("search.run", "--data", f"folder:{pets}", "--executor", "inline", "--json"),
        *(*words, "--tracking", database),
    )
    assert done.stderr.count("copies of training images") == 1
    told, home = json.loads(done.stdout), tmp_path / "searches" / "tiny"
    assert told["data"] == json.loads((home / "data.json").read_text())
    assert told["data"]["images"] == {"train": 18, "val": 6, "test": 6}
    result = SearchResult.read(home)
    assert result.started.data["removed"] == 2
    page = render(result, home)
    assert '<section id="data">' in page
    assert "2 of 8 test images are copies of training images" in page
    client, run = MlflowClient(database), told["mlflow"]["parent_run_id"]
    (logged,) = client.get_run(run).inputs.dataset_inputs
    assert (logged.dataset.name, logged.dataset.digest) == (
        "folder pets",
        told["data"]["fingerprint"],
    )
    assert {"data.json", "data.png"} <= {file.path for file in client.list_artifacts(run)}


def test_a_report_that_was_not_kept_is_kept_by_the_next_session(
    call: Command, pets: Path, tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*given: object) -> bytes:
        raise OSError(28, "No space left on device")

    words = ("--space", "baselines", "--set", "model.name=knn", "--trials", 1, "--name", "tiny")
    with monkeypatch.context() as patched:
        patched.setattr("search.sessions.session.picture", full)
        call(
            *("search.run", "--data", f"folder:{pets}", "--executor", "inline"),
            *(*words, "--tracking", database),
        )
    home = tmp_path / "searches" / "tiny"
    assert not (home / "data.png").exists()
    call("search.resume", "tiny", "--trials", 2)
    assert json.loads((home / "data.json").read_text())["counts"]["train"] == [9, 9]
    files = [event.data.file for event in read(home / FILE_NAME) if event.kind == "evidence"]
    assert {"data.json", "data.png"} <= set(files)


def test_a_search_of_an_earlier_version_has_no_such_section(tmp_path: Path) -> None:
    assert section(None) == section(tmp_path) == ""


def test_a_damaged_report_is_told_of_on_the_page(tmp_path: Path) -> None:
    (tmp_path / "data.json").write_text('{"half":')
    assert "data.json, the report on the data, cannot be read" in section(tmp_path)
