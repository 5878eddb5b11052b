"""The report on a data set: its facts, their way through JSON, and the words."""

import io
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.trainables.inspection.test_copies import photographs
from trainables.config import DataConfig
from trainables.datasets.arrays import Dataset, Part
from trainables.datasets.load import load
from trainables.inspection.leaks import InspectedData, inspect_data
from trainables.inspection.pictures import GAP, LARGE_SIDE, SIDE, _font, _samples, picture
from trainables.inspection.report import MAX_MATCHES, DataReport, report_of
from trainables.inspection.words import contradictions, headline, lines, warnings
from trainables.tasks.segmentation.predictor import palette


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pets in three parts: leaks, a class too small, files that are no images."""
    images = photographs(60, side=40)
    for number in range(60):
        part = ("train", "train", "train", "val", "test")[number % 5]
        path = tmp_path / "pets" / part / ("cat", "dog")[number // 5 % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images[number]).save(path)
    train = tmp_path / "pets" / "train"
    Image.fromarray(images[0]).save(tmp_path / "pets" / "test" / "dog" / "copy.png")
    (train / "cow").mkdir()
    for number in range(3):
        Image.fromarray(photographs(3, side=40, seed=9)[number]).save(
            train / "cow" / f"{number}.png"
        )
    (train / "cat" / "notes.txt").write_text("seen")
    return tmp_path / "pets"


def looked_at(folder: Path) -> tuple[InspectedData, DataReport]:
    config = DataConfig(name="folder", root=str(folder))
    looked = inspect_data(load(config), config)
    return looked, report_of(looked, config)


def test_the_facts_of_a_folder(folder: Path) -> None:
    _, report = looked_at(folder)
    assert report.classes == ("cat", "cow", "dog")
    assert report.counts == {"train": (18, 3, 18), "val": (6, 0, 6), "test": (6, 0, 6)}
    assert report.removed == {"test": 1}
    assert report.small_classes == {"cow": 3}
    assert report.missing == {"val": ("cow",), "test": ("cow",)}
    assert [one.path for one in report.left_out] == ["train/cat/notes.txt"]
    assert report.files is not None
    assert report.files.sizes == {"40 x 40": 64}
    assert [(match.image.name, match.same_as.name) for match in report.matches] == [
        ("test/dog/copy.png", "train/cat/0.png")
    ]


def test_a_report_survives_the_way_through_json(folder: Path) -> None:
    _, report = looked_at(folder)
    later = json.loads(json.dumps(report.to_json())) | {"of a later version": 1}
    assert DataReport.from_json(later) == report
    undecodable = replace(report, root="/caf\udce9")  # a folder's name need not be UTF-8
    assert DataReport.from_json(json.loads(json.dumps(undecodable.to_json()))) == undecodable


def test_all_that_is_wrong_is_said_at_once(folder: Path) -> None:
    _, report = looked_at(folder)
    said = "\n".join(warnings(report))
    for text in (
        "1 of 13 test images is a copy of a training image",
        "1 image has a different class from an equal image",
        "the validation set has no image of class 'cow'",
        "the test set has no image of class 'cow'",
        "1 class of 3 has fewer than 10 training images (fewest: 'cow', 3)",
        "an accuracy of 0.9 is known to within ±17.7 points on 12 validation images",
    ):
        assert text in said


def test_one_picture_of_two_classes_is_listed_by_file_with_advice(folder: Path) -> None:
    """Also where many other copies agree on their class."""
    copies = folder / "train" / "cat" / "0.png"
    for number in range(3 * MAX_MATCHES):
        (folder / "train" / "cat" / f"a{number:03}.png").write_bytes(copies.read_bytes())
    (folder / "train" / "dog" / "z.png").write_bytes(copies.read_bytes())
    _, report = looked_at(folder)
    files = {name for one, _, other, _ in contradictions(report) for name in (one, other)}
    assert {"train/dog/z.png", "test/dog/copy.png"} <= files
    said = "\n".join(lines(report))
    assert "Check these images: at most one of the two classes is correct." in " ".join(
        said.split()
    )
    assert "check these pairs, which show the same picture but differ in class:" in said
    assert "train/dog/z.png ('dog') and train/cat/" in said


def test_a_class_whose_every_validation_image_is_a_copy_is_told(folder: Path) -> None:
    for number in range(12):
        image = folder / "val" / "cat" / f"{5 * number + 3}.png"
        if image.exists():
            copied = sorted((folder / "train" / "cat").glob("*.png"))[number]
            image.write_bytes(copied.read_bytes())
    _, report = looked_at(folder)
    assert report.removed["val"] == 6
    assert "warning: the validation set has no image of 2 classes ('cat', 'cow')." in warnings(
        report
    )


def test_the_whole_report_fits_a_terminal(folder: Path) -> None:
    _, report = looked_at(folder)
    told = lines(report)
    assert max(map(len, told)) <= 80
    assert "cow           3           0     0" in told
    assert "  test/dog/copy.png = train/cat/0.png" in told


def test_the_picture_has_a_row_for_each_class_and_pair(folder: Path) -> None:
    looked, report = looked_at(folder)
    with Image.open(io.BytesIO(picture(report, looked))) as drawn:
        assert drawn.height // SIDE == 4


def test_control_characters_in_names_do_not_reach_the_terminal() -> None:
    images = photographs(12, side=32)
    parts = [
        Part(images[first : first + 4], np.arange(4) % 2, tuple(f"\x1b[2J{i}" for i in range(4)))
        for first in (0, 4, 8)
    ]
    parts[2].images[0] = parts[0].images[0]
    dataset = Dataset("folder", ("\x1b[2J", "b"), *parts, "f00d")
    config = DataConfig(name="folder", root="/data", leaks="keep")
    assert "\x1b" not in "".join(lines(report_of(inspect_data(dataset, config), config)))


@pytest.mark.parametrize(
    ("name", "source"), [("folder", "folder flowers: 12 images"), ("mnist", "mnist: 12 images")]
)
def test_the_headline_names_the_data_set_rather_than_the_folder_of_its_files(
    name: str, source: str
) -> None:
    parts = [Part(photographs(4, side=32), np.arange(4) % 2) for _ in range(3)]
    config = DataConfig(name=name, root="/data/flowers", leaks="keep")
    inspected = inspect_data(Dataset(name, ("a", "b"), *parts, "f00d"), config)
    assert headline(report_of(inspected, config)).startswith(source)


@pytest.mark.parametrize(("images", "expected"), [(100, 0.059), (1000, 0.0187), (10_000, 0.00588)])
def test_a_larger_part_is_more_precise(folder: Path, images: int, expected: float) -> None:
    report = replace(looked_at(folder)[1], images={"train": 9, "val": images, "test": 0})
    assert report.precision("val") == pytest.approx(expected, rel=0.02)
    assert report.precision("test") == 0


def test_files_whose_suffix_is_a_number_are_one_format(folder: Path) -> None:
    for place, one in enumerate(sorted((folder / "train" / "cat").glob("*.png"))):
        one.rename(one.with_name(f"scan.{place:04}"))
    _, report = looked_at(folder)
    assert report.files is not None
    assert report.files.formats == {".png": 46, "without a suffix": 18}


def test_with_folds_copies_within_the_test_part_are_no_warning(folder: Path) -> None:
    copied = folder / "test" / "cat" / "again.png"
    copied.write_bytes((folder / "test" / "cat" / "4.png").read_bytes())
    config = DataConfig(name="folder", root=str(folder), folds=2)
    (folder / "train" / "cow").rename(folder.parent / "cow")
    report = report_of(inspect_data(load(config), config), config)
    assert ("test", "test") in {(count.part, count.same_as) for count in report.match_counts}
    assert "copy of a test image" not in "\n".join(warnings(report))


@pytest.mark.parametrize("letter", "ßéœłčōΩЖ")
def test_the_pictures_font_has_the_letters_of_european_languages(letter: str) -> None:
    missing = bytes(_font().getmask("\uffff"))
    assert bytes(_font().getmask(letter)) != missing


def with_masks(folder: Path) -> tuple[InspectedData, DataReport]:
    """Thirty scenes with masks; the last class is in three of them, and a corner is ignored."""
    images = photographs(30, side=40)
    for number, image in enumerate(images):
        mask = np.zeros((40, 40), np.uint8)
        mask[:10] = 1 if number % 10 else 2
        mask[-4:, :10] = 255
        for name, pixels in (("images", image), ("masks", mask)):
            (folder / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    (folder / "classes.txt").write_text("ground\nleaf\nfruit\n")
    config = DataConfig(name="folder", root=str(folder), task="segmentation")
    inspected = inspect_data(load(config), config)
    return inspected, report_of(inspected, config)


def test_of_masks_pixels_are_counted(tmp_path: Path) -> None:
    _, report = with_masks(tmp_path)
    train = report.pixels["train"]
    images = report.images["train"]
    assert report.classes == ("ground", "leaf", "fruit")
    assert report.counts == {}
    assert (train.pixels[0], train.ignored) == (images * (30 * 40 - 40), images * 40)
    assert sum(train.pixels) + train.ignored == images * 1600
    assert train.images[0] == images == train.images[1] + train.images[2]
    assert sum(part.images[2] for part in report.pixels.values()) == 3
    assert report.majority == ("ground", pytest.approx(29 / 39))
    assert "fruit" in report.small_classes
    assert DataReport.from_json(json.loads(json.dumps(report.to_json()))) == report


def test_masks_are_told_in_pixels_and_nothing_of_accuracy(tmp_path: Path) -> None:
    _, report = with_masks(tmp_path)
    text = "\n".join(lines(report))
    assert max(map(len, text.splitlines())) <= 80
    assert "ground" in text
    assert re.search(r"ground +74.4 % in \d+ images", text)
    assert "ignored         2.5 % of the training pixels belong to no class" in text
    assert "1 class of 3 has fewer than 10 training images (fewest: 'fruit'" in text
    assert "accuracy" not in text
    assert "--space transfer" not in text


def test_masks_are_laid_over_the_samples(tmp_path: Path) -> None:
    inspected, report = with_masks(tmp_path)
    drawn = np.asarray(Image.open(io.BytesIO(picture(report, inspected))))
    assert drawn.shape[0] == 3 * (LARGE_SIDE + GAP)
    colours = palette()
    for number in range(3):
        swatch = drawn[number * (LARGE_SIDE + GAP) + LARGE_SIDE // 2, 2]
        assert swatch.tolist() == colours[3 * number : 3 * number + 3]
    first, second, _ = _samples(report, inspected.dataset.train)
    assert {image.tobytes() for image in first.images}.isdisjoint(
        image.tobytes() for image in second.images
    )
