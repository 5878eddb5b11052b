"""Leaks across parts, and what is removed because of them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.trainables.inspection.test_copies import as_jpeg, photographs
from trainables.config import DataConfig
from trainables.datasets.arrays import Dataset, Part
from trainables.datasets.load import load
from trainables.errors import DataError
from trainables.inspection.leaks import inspect_data, load_inspected
from trainables.inspection.report import DataReport, report_of
from trainables.inspection.words import warnings

FOLDER = DataConfig(name="folder", root="/data")


def named(images: np.ndarray, title: str) -> Part:
    names = tuple(f"{title}/{row}.png" for row in range(len(images)))
    return Part(images, np.arange(len(images)) % 2, names)


@pytest.fixture
def dataset() -> Dataset:
    """24 training, 12 validation and 12 test images of two classes in turn."""
    images = photographs(48, side=32)
    parts = named(images[:24], "train"), named(images[24:36], "val"), named(images[36:], "test")
    return Dataset("folder", ("cat", "dog"), *parts, "f00d")


def reported(dataset: Dataset, config: DataConfig = FOLDER) -> DataReport:
    return report_of(inspect_data(dataset, config), config)


def test_data_without_leaks_stay_as_they_are(dataset: Dataset) -> None:
    assert inspect_data(dataset, FOLDER).dataset is dataset


def test_copies_stay_in_training_alone_and_that_is_told(dataset: Dataset) -> None:
    assert dataset.test is not None
    dataset.test.images[2] = dataset.train.images[4]
    dataset.val.images[5] = as_jpeg(dataset.train.images[7])
    looked = inspect_data(dataset, FOLDER)
    left = looked.dataset
    assert left.test is not None
    assert (len(left.train), len(left.val), len(left.test)) == (24, 11, 11)
    assert "test/2.png" not in (left.test.names or ())
    assert left.fingerprint != dataset.fingerprint
    told = list(warnings(report_of(looked, FOLDER)))
    keeps = "(--set data.leaks=keep keeps them)"
    assert told[:2] == [
        "warning: 1 of 12 test images is a copy of a training image (first: test/2.png = "
        f"train/4.png): it is left out of the test set {keeps}.",
        "warning: 1 of 12 validation images is nearly equal to a training image (first: val/5.png "
        f"~ train/7.png): it is left out of the validation set {keeps}.",
    ]


def test_a_copy_of_a_validation_image_is_not_tested_on(dataset: Dataset) -> None:
    assert dataset.test is not None
    dataset.test.images[0] = dataset.val.images[6]
    left = inspect_data(dataset, FOLDER).dataset
    assert left.test is not None
    assert (len(left.val), len(left.test)) == (12, 11)


@pytest.mark.parametrize("leaks", ["clean", "together", "keep"])
def test_equal_test_images_of_several_classes_are_not_tested_on(
    dataset: Dataset, leaks: str
) -> None:
    assert dataset.test is not None
    # Images of an odd row are dogs; 4 has the class of 2, but equals the dog as well.
    for row in (3, 4):
        dataset.test.images[row] = dataset.test.images[2]
    dataset.val.images[3] = dataset.val.images[2]
    config, is_clean = replace(FOLDER, leaks=leaks), leaks == "clean"
    looked = inspect_data(dataset, config)
    left, report = looked.dataset, report_of(looked, config)
    assert left.test is not None
    gone = set(dataset.test.names or ()) - set(left.test.names or ())
    assert gone == ({"test/2.png", "test/3.png", "test/4.png"} if is_clean else set())
    assert len(left.val) == 12
    assert report.removed == ({"test": 3} if is_clean else {})
    marked = {match.image.name for match in report.matches if match.removed}
    assert marked == ({"test/3.png", "test/4.png"} if is_clean else set())
    told = (
        "warning: 3 test images with an equal test image of another class are left out of the test "
        "set (--set data.leaks=together keeps them)."
    )
    assert (told in list(warnings(report))) is is_clean


def test_a_near_copy_of_a_training_image_does_not_hide_a_contradiction(dataset: Dataset) -> None:
    """Of the two, the one with the class of the training image is left out as its copy."""
    assert dataset.test is not None
    dataset.test.images[1] = as_jpeg(dataset.train.images[0])
    dataset.test.images[2] = dataset.test.images[1]
    looked = inspect_data(dataset, FOLDER)
    assert looked.dataset.test is not None
    gone = set(dataset.test.names or ()) - set(looked.dataset.test.names or ())
    assert gone == {"test/1.png", "test/2.png"}
    assert len(looked.removed_images) == 2


def test_leaks_are_kept_on_request_and_told(dataset: Dataset) -> None:
    assert dataset.test is not None
    dataset.test.images[:2] = dataset.train.images[:2]
    keeping = replace(FOLDER, leaks="keep")
    assert inspect_data(dataset, keeping).dataset is dataset
    told = list(warnings(reported(dataset, keeping)))
    assert told[0] == (
        "warning: 2 of 12 test images are copies of training images "
        "(first: test/0.png = train/0.png)."
    )


def test_published_data_stay_as_they_are(dataset: Dataset) -> None:
    dataset.val.images[0] = dataset.train.images[0]
    assert inspect_data(dataset, DataConfig(name="cifar10")).dataset is dataset


def test_a_near_copy_of_another_class_stays_and_is_told(dataset: Dataset) -> None:
    dataset.val.images[5] = as_jpeg(dataset.train.images[6])
    looked = inspect_data(dataset, FOLDER)
    assert looked.dataset is dataset
    assert (
        "warning: 1 image has a different class from a nearly equal image "
        "(first: val/5.png ~ train/6.png, 'dog' and 'cat'). "
        "Check these images: at most one of the two classes is correct."
    ) in warnings(report_of(looked, FOLDER))


def test_with_folds_no_picture_is_there_twice(dataset: Dataset) -> None:
    dataset.train.images[[8, 9]] = dataset.train.images[2]
    folded = replace(dataset, val=dataset.train, folds=3)
    left = inspect_data(folded, FOLDER).dataset
    assert left.val is left.train
    assert len(left.train) == 22


def test_a_part_of_nothing_but_copies_is_refused(dataset: Dataset) -> None:
    assert dataset.test is not None
    dataset.test.images[:] = dataset.train.images[:12]
    with pytest.raises(DataError, match="every image of the test set is a copy") as refused:
        inspect_data(dataset, FOLDER)
    assert "--set data.leaks=keep" in str(refused.value)


@pytest.mark.parametrize("beside", ["mirrored", "of another class"])
def test_a_likeness_in_training_does_not_hide_a_copy_of_a_validation_image(
    beside: str, dataset: Dataset
) -> None:
    assert dataset.test is not None
    dataset.test.images[0] = dataset.val.images[6]
    picture = dataset.val.images[6]
    if beside == "mirrored":
        dataset.train.images[0] = picture[:, ::-1]
    else:
        dataset.train.images[1] = as_jpeg(picture)
    left = inspect_data(dataset, FOLDER).dataset
    assert left.test is not None
    assert "test/0.png" not in (left.test.names or ())


def test_a_part_of_which_little_is_left_is_told(dataset: Dataset) -> None:
    assert dataset.test is not None
    dataset.test.images[:8] = dataset.train.images[:8]
    told = list(warnings(reported(dataset)))
    assert any(line.startswith("warning: more than half of the test set") for line in told)


SCENES, FRAMES = 24, 5


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two classes, with twelve scenes each of five nearly equal frames."""
    folder = tmp_path_factory.mktemp("film")
    for scene, picture in enumerate(photographs(SCENES, side=32)):
        place = folder / ("cat" if scene % 2 else "dog")
        place.mkdir(exist_ok=True)
        for frame in range(FRAMES):
            changed = (picture * (1 - frame / 100)).astype(np.uint8)
            Image.fromarray(changed).save(place / f"{scene:02}-{frame}.png")
    return folder


def scenes_of(part: Part | None) -> set[str]:
    assert part is not None
    return {name.split("/")[1][:2] for name in part.names or ()}


def test_frames_of_a_scene_are_drawn_into_one_part(film: Path) -> None:
    config = DataConfig(name="folder", root=str(film))
    looked = load_inspected(config)
    parts = (looked.dataset.train, looked.dataset.val, looked.dataset.test)
    scenes = [scenes_of(part) for part in parts]
    assert sum(map(len, scenes)) == SCENES, "no scene is in two parts"
    assert [len(part) for part in parts if part] == [80, 20, 20]
    assert np.bincount(looked.dataset.val.targets).tolist() == [10, 10]
    assert not looked.removed.any()
    told = (
        "note: 120 images, in 24 groups, are copies or near copies of each other. Each group is in "
        "only one of the drawn sets."
    )
    assert told in looked.dataset.remarks
    again = load_inspected(config).dataset
    assert (again.train.names, again.fingerprint) == (
        looked.dataset.train.names,
        looked.dataset.fingerprint,
    )


def test_a_part_far_from_the_size_that_was_asked_for_is_told(film: Path) -> None:
    asked = load_inspected(DataConfig(name="folder", root=str(film), test_fraction=0.04)).dataset
    assert len(asked.test) == 10
    assert (
        "note: the test set has 10 images instead of 5, because it contains every class and no "
        "group of copies is divided."
    ) in asked.remarks
    sixth = DataConfig(name="folder", root=str(film), test_fraction=1 / 6, val_fraction=1 / 6)
    assert not any(" instead of " in told for told in load_inspected(sixth).dataset.remarks)


def test_a_search_of_a_version_that_dropped_copies_draws_as_it_did(film: Path) -> None:
    config = DataConfig(name="folder", root=str(film), leaks="drop")
    drawn = load(config)
    assert scenes_of(drawn.train) & scenes_of(drawn.val)
    with pytest.raises(DataError, match="every image of the validation set is a copy"):
        load_inspected(config)
    kept = load_inspected(replace(config, leaks="keep")).dataset
    assert (kept.train.names, kept.fingerprint) == (drawn.train.names, drawn.fingerprint)
    assert (
        load_inspected(replace(config, leaks="together")).dataset.fingerprint != drawn.fingerprint
    )


def test_without_copies_parts_are_drawn_image_by_image(tmp_path: Path) -> None:
    for row, picture in enumerate(photographs(40, side=32)):
        (tmp_path / str(row % 2)).mkdir(exist_ok=True)
        Image.fromarray(picture).save(tmp_path / str(row % 2) / f"{row}.png")
    config = DataConfig(name="folder", root=str(tmp_path))
    found, drawn = load_inspected(config).dataset, load(config)
    assert (found.train.names, found.fingerprint) == (drawn.train.names, drawn.fingerprint)
    assert found.remarks == drawn.remarks


def test_a_class_of_fewer_scenes_than_parts_is_drawn_image_by_image(film: Path) -> None:
    few = film.parent / "few"
    for path in sorted(film.glob("*/*.png")):
        if path.parent.name == "dog" or path.name < "04":
            (few / path.parent.name).mkdir(parents=True, exist_ok=True)
            (few / path.parent.name / path.name).hardlink_to(path)
    looked = load_inspected(DataConfig(name="folder", root=str(few)))
    parts = {"train": looked.dataset.train, "val": looked.dataset.val, "test": looked.dataset.test}
    dogs = [
        {name[4:6] for name in (part and part.names) or () if name.startswith("dog")}
        for part in parts.values()
    ]
    assert sum(map(len, dogs)) == SCENES / 2
    assert looked.removed.any(), "the cats of the two scenes stay in training alone"


def test_no_fold_divides_a_scene(film: Path) -> None:
    config = DataConfig(name="folder", root=str(film), folds=3)
    looked = load_inspected(config)
    assert not looked.removed.any()
    for number in (1, 2, 3):
        fold = looked.dataset.fold(number, seed=0)
        assert not scenes_of(fold.train) & scenes_of(fold.val)
        assert set(fold.val.targets) == {0, 1}
    report = report_of(looked, config)
    assert not [line for line in warnings(report) if "nearly equal" in line]
