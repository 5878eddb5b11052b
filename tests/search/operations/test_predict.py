"""Images from a folder, the command line or stdin to classes, in a table, CSV or JSON."""

import csv
import io
import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import binomtest

from search.api import load, run
from search.journal.naming import NoSuchSearch
from search.operations.predict import Files, FolderAccuracy, Predictions, PredictRequest, predict
from search.values.statistics import share_interval
from search.views.predictions import abstained_text, accuracy_lines, answered_text
from tests.conftest import Command
from trainables.checkpoints import checkpoint
from trainables.config import TrialConfig
from trainables.datasets.load import load as load_data
from trainables.errors import ConfigError
from trainables.export import kept
from trainables.export.export import write
from trainables.export.model import FileAnswer, Model
from trainables.predictors.base import DESCRIPTION
from trainables.training.loop import Training


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds a network for digits, trained for a moment."""
    folder = tmp_path_factory.mktemp("exported")
    torch.set_num_threads(1)
    changes = {"model.name": "deep_cnn", "epochs": 1, "precision": "fp32", "data.train_limit": 40}
    config = TrialConfig().override(changes)
    dataset = load_data(config.data)
    training = Training(config, dataset)
    list(training.epochs())
    saved = checkpoint.save(folder / "saved", training.state(), {})
    write(config, dataset, saved, folder / "model")
    return folder / "model"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder with five images in two folders, and files that are none."""
    generator = np.random.default_rng(0)
    for name in ("b/1.png", "b/2.jpg", "a/3.png", "10.png", "9.png"):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 256, (20, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    for name in ("notes.txt", "._9.png", "__MACOSX/8.png", ".hidden/7.png"):
        path = tmp_path / "images" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("no image")
    return tmp_path / "images"


ORDER = ["images/10.png", "images/9.png", "images/a/3.png", "images/b/1.png", "images/b/2.jpg"]


def test_a_folder_gives_its_images_by_name_and_counts_what_is_none(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(images.parent)
    files = Files(["images"])
    assert list(files) == ORDER
    assert (files.skipped, files.first_skipped) == (1, "images/notes.txt")


def answered(file: str, name: str) -> FileAnswer:
    return FileAnswer(file, {"class": name, "probability": 0.9, "margin": 0.8})


@pytest.fixture
def sorted_images(tmp_path: Path) -> Path:
    for name in ("cat/1.png", "cat/more/2.png", "dog/3.png", "dog/4.png", ".hidden/5.png"):
        (tmp_path / "sorted" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "sorted" / name).touch()
    return tmp_path / "sorted"


def test_class_folders_tell_the_accuracy_with_its_interval_and_that_of_each_class(
    sorted_images: Path,
) -> None:
    accuracy = FolderAccuracy.over([str(sorted_images)], ["cat", "cow", "dog"])
    said = {"cat/1.png": "cat", "cat/more/2.png": "dog", "dog/3.png": "dog", "dog/4.png": "dog"}
    taken = [accuracy.take(answered(str(sorted_images / one), said[one])) for one in said]
    assert [one.values["true_class"] for one in taken] == ["cat", "cat", "dog", "dog"]
    assert accuracy.take(FileAnswer(str(sorted_images / "x.png"), error="no image")).values == {}
    low, high = binomtest(3, 4).proportion_ci(0.96)
    lines = accuracy_lines(accuracy.images, accuracy.right, accuracy.bounds)
    assert list(lines) == [
        f"accuracy 0.7500 (95 % interval {low:.4f} to {high:.4f}): 3 of 4 images according to "
        "their folders",
        "  cat: 0.5000 (1 of 2)",
        "  dog: 1.0000 (2 of 2)",
        "note: a model is better on images that it was trained on than on others",
    ]


def test_images_from_which_the_model_abstains_are_counted_apart(sorted_images: Path) -> None:
    accuracy = FolderAccuracy.over([str(sorted_images)], ["cat", "dog"])
    for file, label, reason in (
        ("cat/1.png", "cat", ""),
        ("cat/more/2.png", "dog", "uncertain"),
        ("dog/3.png", "dog", "unlike"),
        ("dog/4.png", "dog", ""),
    ):
        row = answered(str(sorted_images / file), label)
        judged = {"answer": label, "abstained": bool(reason), "reason": reason}
        accuracy.take(replace(row, values={**row.values, **judged}))
    assert (sum(accuracy.right.values()), accuracy.answers, accuracy.right_answers) == (3, 2, 2)
    low, high = share_interval(1.0, 2)
    assert answered_text(2, 2, accuracy.answer_bounds) == (
        f"accuracy of the answers 1.0000 (95 % interval {low:.4f} to {high:.4f}): 2 of 2 images "
        "from which the model did not abstain"
    )
    assert abstained_text({"unlike": 1, "uncertain": 3}, 40) == (
        "abstained from 4 of 40 images: 3 uncertain, 1 unlike"
    )


def test_other_folders_say_nothing_of_what_images_show(sorted_images: Path) -> None:
    for paths, classes in (
        ([str(sorted_images)], ["cat", "cow"]),
        ([str(sorted_images / "dog")], ["cat", "dog"]),
        ([str(sorted_images / "dog" / "3.png"), "-", "none"], ["cat", "dog"]),
        ([str(sorted_images)], []),
    ):
        accuracy = FolderAccuracy.over(paths, classes)
        answer = answered(str(sorted_images / "dog" / "3.png"), "dog")
        assert accuracy.take(answer) is answer
        assert accuracy.images == {}


def test_what_lies_beside_the_class_folders_does_not_count(sorted_images: Path) -> None:
    accuracy = FolderAccuracy.over([str(sorted_images)], ["cat", "dog"])
    beside = accuracy.take(answered(str(sorted_images / "6.png"), "dog"))
    assert beside.values["true_class"] is None
    assert accuracy.images == {}


def test_the_summary_counts_abstentions_and_has_the_accuracy_of_the_answers(
    exported: Path, images: Path, tmp_path: Path, call: Command
) -> None:
    for name in ("a", "b"):
        (images / name).rename(images / {"a": "3", "b": "7"}[name])
    rows = list(
        csv.DictReader(
            io.StringIO(call("search.predict", str(exported), str(images), "--csv").stdout)
        )
    )
    least = sorted(float(row["probability"]) for row in rows)[2]
    model = shutil.copytree(exported, tmp_path / "careful")
    about = json.loads((model / DESCRIPTION).read_text())
    promises = {"promises": {"least_probability": least}}
    (model / DESCRIPTION).write_text(json.dumps(about | promises))
    done = call("search.predict", str(model), str(images), "--json")
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert sum(row["abstained"] for row in told) == 2
    assert "abstained from 2 of 5 images: 2 uncertain" in done.stderr
    known = [row for row in told if row["true_class"] and not row["abstained"]]
    right = sum(row["answer"] == row["true_class"] for row in known)
    expected = f"{right} of {len(known)} image{'s' * (len(known) > 1)} from which"
    assert not known or expected in done.stderr


def test_the_true_class_is_a_column_and_a_field_and_the_accuracy_is_told(
    exported: Path, images: Path, call: Command
) -> None:
    for name in ("a", "b"):
        (images / name).rename(images / {"a": "3", "b": "7"}[name])
    words = [str(exported), str(images)]
    found = call("search.predict", *words, "--csv")
    rows = list(csv.DictReader(io.StringIO(found.stdout)))
    assert [row["true_class"] for row in rows] == ["", "", "3", "7", "7"]
    right = sum(row["class"] == row["true_class"] for row in rows)
    assert f"accuracy {right / 3:.4f} (95 % interval " in found.stderr
    told = [
        json.loads(line) for line in call("search.predict", *words, "--json").stdout.splitlines()
    ]
    assert [one["true_class"] for one in told] == [None, None, "3", "7", "7"]
    assert [one["class"] for one in told] == [row["class"] for row in rows]


def test_links_are_followed_once_and_folders_that_cannot_be_read_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    far, near = tmp_path / "far", tmp_path / "near"
    for folder in (far, near, near / "closed"):
        folder.mkdir()
    (far / "a.png").touch()
    (far / "back").symlink_to(near)
    (near / "link").symlink_to(far)
    scandir = os.scandir

    def refusing(path: str) -> object:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    files = Files([str(near)])
    assert list(files) == [str(near / "link" / "a.png")]
    assert [error.filename for error in files.unread] == [str(near / "closed")]


def test_paths_keep_their_order_and_come_from_stdin_too(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(images.parent)
    monkeypatch.setattr("sys.stdin", io.StringIO("images/b\n\nno such file\n"))
    assert list(Files(["images/9.png", "-", "images/9.png"])) == [
        "images/9.png",
        "images/b/1.png",
        "images/b/2.jpg",
        "no such file",
        "images/9.png",
    ]


def test_csv_says_what_the_model_says(exported: Path, images: Path, call: Command) -> None:
    done = call("search.predict", exported, "images", "--csv", "out.csv")
    assert (done.returncode, done.stdout) == (0, "")
    assert (
        "note: skipped 1 file with an unsupported suffix (first: images/notes.txt)" in done.stderr
    )
    assert "5 images, " in done.stderr
    assert done.stderr.endswith("; written to out.csv\n")
    rows = list(csv.DictReader((images.parent / "out.csv").read_text().splitlines()))
    model = load(exported)
    chances = np.sort(model.probabilities(ORDER), axis=1)
    assert [row["file"] for row in rows] == ORDER
    assert [row["class"] for row in rows] == model.predict(ORDER)
    for column, values in (
        ("probability", chances[:, -1]),
        ("margin", chances[:, -1] - chances[:, -2]),
    ):
        assert [float(row[column]) for row in rows] == pytest.approx(values.tolist(), abs=1e-6)


def test_a_path_that_does_not_exist_is_refused_before_the_model_is_loaded(
    images: Path, call: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "search.operations.predict.load_model", lambda *words, **more: pytest.fail("it was loaded")
    )
    done = call("search.predict", "any", "image", "--csv", "out.csv")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "error: there is no file or folder 'image'. Did you mean 'images'? Pass image files or "
        "folders that contain images.\n"
    )


def test_what_cannot_be_read_is_named_and_the_rest_goes_on(
    exported: Path, images: Path, call: Command
) -> None:
    done = call("search.predict", exported, "images/notes.txt", "images/9.png", "none", "--json")
    assert done.returncode == 3
    first, second, third = (json.loads(line) for line in done.stdout.splitlines())
    assert first == {"file": "images/notes.txt", "error": "the file is not an image"}
    assert (second["file"], third["error"]) == ("images/9.png", "is not a file")
    assert "not read: none: is not a file\n" in done.stderr
    assert "1 image, " in done.stderr
    assert "2 not read" in done.stderr


def test_a_table_is_printed_for_people(exported: Path, images: Path, call: Command) -> None:
    titles, *lines = call("search.predict", exported, "images").stdout.splitlines()
    assert titles.split() == ["file", "class", "probability", "margin"]
    assert [line.split()[0] for line in lines] == ORDER


def test_python_gets_the_answers_and_then_their_numbers(exported: Path, images: Path) -> None:
    request = PredictRequest(name=str(exported), paths=(str(images), "no such file"))
    predictions = predict(request)
    answers = list(predictions)
    assert [answer.file for answer in answers] == [
        *(str(images.parent / file) for file in ORDER),
        "no such file",
    ]
    assert [answer.values["class"] for answer in answers[:-1]] == load(exported).predict(
        [answer.file for answer in answers[:-1]]
    )
    assert (predictions.images, predictions.unread, predictions.files.skipped) == (5, 1, 1)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["images/notes.txt"], "no readable image was found in images/notes.txt"),
        (["images/9.png", "--csv", "images/10.png"], "--csv 'images/10.png' must end in .csv"),
        (
            ["images", "--json", "--csv"],
            "--csv and --json cannot be combined. Leave one of them out.",
        ),
    ],
)
def test_what_cannot_be_is_refused(
    words: list[str], line: str, exported: Path, images: Path, call: Command
) -> None:
    before = (images / "10.png").read_bytes()
    done = call("search.predict", exported, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"error: {line}" in done.stderr
    assert (images / "10.png").read_bytes() == before


@pytest.mark.parametrize(
    ("paths", "out", "line"),
    [
        (["photos"], "photos", "--out 'photos' is in 'photos'"),
        (["photos"], "photos/masks", "--out 'photos/masks' is in 'photos'"),
        (["a.png", "photos/a.png"], "masks", "would be written to the same file, 'masks/a'"),
        (["photos", "more"], "masks", "'photos/a.png' and 'more/a.jpg' would be written"),
    ],
)
def test_where_predictions_are_written_is_checked_before_the_model_is_loaded(
    paths: list[str],
    out: str,
    line: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    for file in ("a.png", "photos/a.png", "photos/b.png", "more/a.jpg"):
        Path(file).parent.mkdir(exist_ok=True)
        Path(file).touch()
    request = PredictRequest(name="none", paths=tuple(paths), out=Path(out))
    with pytest.raises(ConfigError, match=re.escape(line)):
        predict(request)


def test_a_large_jpeg_is_decoded_as_in_the_training(exported: Path, tmp_path: Path) -> None:
    from trainables.datasets.images import decode

    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (1000, 1200), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "large.jpg")
    wanted = decode(tmp_path / "large.jpg", (8, 8), "L")
    assert (load(exported).pixels(tmp_path / "large.jpg") == wanted).all()


def test_another_task_gives_the_columns_of_its_table(exported: Path) -> None:
    model: Any = Model(exported, "it")
    model._predictor.rows = lambda images: [{"boxes": len(images)}]
    assert model.rows([np.zeros((8, 8, 1), np.uint8)]) == [{"boxes": 1}]


def test_only_a_model_of_classes_is_right_or_wrong_about_folders(exported: Path) -> None:
    """The table of another task has columns of its own, although its targets may have classes."""
    model = load(exported)
    assert model.image_classes == model.classes
    assert Model(exported, "it").image_classes == []


def test_a_searchs_model_is_exported_once_and_again_when_its_checkpoint_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    changes = {"epochs": 1, "data.train_limit": 40, "precision": "fp32"}
    options = {"algorithm": "random", "scheduler": "fifo", "executor": "inline", "quiet": True}
    run(space="smoke", trials=1, name="one", set=changes, tracking=database, **options)
    pixels = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 1), dtype=np.uint8)
    first = load("one").probabilities(pixels)

    def refused(*given: object, **options: object) -> None:
        raise AssertionError("exported anew")

    monkeypatch.setattr("trainables.export.export.write", refused)
    np.testing.assert_array_equal(load("one").probabilities(pixels), first)
    (manifest,) = Path("searches/one/trials/t0001").glob("*/manifest.json")
    manifest.write_text(manifest.read_text() + " ")
    with pytest.raises(AssertionError, match="exported anew"):
        load("one")


def test_a_disk_that_is_full_keeps_no_model(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def full(*given: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("shutil.copytree", full)
        kept.keep(exported, "key")
    assert not kept.fetch("key", tmp_path / "none")
    assert not list((tmp_path / "cache").rglob("partial-*"))
    kept.keep(exported, "key")
    assert kept.fetch("key", tmp_path / "copy")
    assert (tmp_path / "copy" / "about.json").read_text() == (exported / "about.json").read_text()


def test_no_picture_of_an_image_is_written_over_that_of_another(tmp_path: Path) -> None:
    answers = [
        FileAnswer(f"{tmp_path}/a.{suffix}", {}, {"_mask.png": b""}) for suffix in ("png", "jpg")
    ]
    made = Predictions(None, Files([str(tmp_path)]), FolderAccuracy([]), tmp_path / "out")  # type: ignore[arg-type]
    made._write_files(answers[0])
    with pytest.raises(ConfigError, match=r"a\.png' and '.*a\.jpg' would be written to the same"):
        made._write_files(answers[1])


def test_a_search_that_is_not_there_is_said_before_its_journal_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    request = PredictRequest(name="nosuch", paths=(str(tmp_path / "a.png"),), storage=tmp_path)
    with pytest.raises(NoSuchSearch, match="there is no search 'nosuch'"):
        predict(request)
