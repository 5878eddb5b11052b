"""The folder of an improvement: the joined data, the champion, and where images are from."""

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from cluster.storage.bucket import Bucket
from search.feedback.learning.corrected import (
    HELD_OUT,
    SELECTION,
    TRAINING,
    CorrectedImages,
    ExcludedImage,
    NewImage,
)
from search.feedback.learning.joining import (
    FOLDER,
    INFO_FILE,
    ChampionIdentity,
    ImprovementInfo,
    doubted_images,
    improvement_info,
    joined_data_config,
    joined_labels,
    load_set_aside,
    unseen_corrections,
    write_folder,
)
from search.feedback.records import EARLIER, Correction
from search.journal.store import home
from trainables.config import DataConfig
from trainables.datasets.arrays import Dataset
from trainables.datasets.load import load
from trainables.errors import DataError
from trainables.inspection.leaks import load_clean

PETS = ChampionIdentity("pets", "3", "pets", "1d", "t0001")


def new(number: int, use: str) -> NewImage:
    pixels = np.full((8, 8, 1), number, np.uint8)
    return NewImage(f"{number:064d}", str(number % 10), pixels, 20 + number, "page", number, use)


GATHERED = CorrectedImages(
    tuple(
        new(number, use) for number, use in enumerate([TRAINING] * 3 + [SELECTION] * 2 + [HELD_OUT])
    ),
    (ExcludedImage("f" * 64, "3", "shows a test image", "test image 4 (3)"),),
)


@pytest.fixture
def dataset() -> Dataset:
    return load(DataConfig(train_limit=100))


@pytest.fixture
def folder(tmp_path: Path, dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    checkpoint = tmp_path / "epoch-0001"
    checkpoint.mkdir()
    (checkpoint / "manifest.json").write_text("{}")
    made = tmp_path / "joined"
    write_folder(
        made,
        improvement_info(PETS, "met", GATHERED, 0.02, "champion-1"),
        dataset,
        GATHERED,
        checkpoint,
    )
    return made


def joined(folder: Path) -> DataConfig:
    return joined_data_config(
        DataConfig(train_limit=100, val_fraction=0.3, val_limit=5), folder, 359
    )


def test_new_images_join_the_training_part_alone(folder: Path, dataset: Dataset) -> None:
    found = load_clean(joined(folder))
    assert len(found.train) == 100 + 3
    assert np.array_equal(found.train.images[:100], dataset.train.images)
    assert np.array_equal(found.train.images[100:], [new(n, TRAINING).pixels for n in range(3)])
    assert found.train.targets[100:].tolist() == [0, 1, 2]
    assert found.classes == dataset.classes
    assert found.fingerprint != dataset.fingerprint


def test_the_validation_and_the_test_part_stay_to_the_pixel(folder: Path, dataset: Dataset) -> None:
    found = load_clean(joined(folder))
    for now, before in ((found.val, dataset.val), (found.test, dataset.test)):
        assert now is not None
        assert before is not None
        assert np.array_equal(now.images, before.images)
        assert np.array_equal(now.targets, before.targets)


def test_what_was_set_aside_is_in_no_part_of_the_data(folder: Path) -> None:
    parts = load_set_aside(folder)
    assert [part.targets.tolist() for part in (parts[SELECTION], parts[HELD_OUT])] == [[3, 4], [5]]
    found = load_clean(joined(folder))
    known = {image.tobytes() for part in (found.train, found.val) for image in part.images}
    assert not known & {image.tobytes() for part in parts.values() for image in part.images}


def test_the_origin_of_each_image_is_kept(folder: Path) -> None:
    told = ImprovementInfo.read(folder)
    assert told.champion == PETS
    assert told.images[4] == {
        "image": f"{4:064d}",
        "label": "4",
        "use": SELECTION,
        "corrected_ms": 24,
        "by": "page",
        "seen_ms": 4,
        "is_aside": False,
        "is_fair": False,
    }
    assert told.left_out == GATHERED.left_out
    assert [told.count(use) for use in (TRAINING, SELECTION, HELD_OUT)] == [3, 2, 1]
    assert (folder / told.warm_start / "manifest.json").exists()


def test_the_time_since_which_images_are_to_be_expected_is_kept_and_new(folder: Path) -> None:
    told = ImprovementInfo.read(folder)
    later = replace(told, since_ms=5)
    assert not later.is_same_as(told)
    (folder / INFO_FILE).write_text(json.dumps(asdict(later)))
    assert ImprovementInfo.read(folder) == later
    facts = asdict(told)
    del facts["since_ms"]  # as an earlier version has written it
    (folder / INFO_FILE).write_text(json.dumps(facts))
    assert ImprovementInfo.read(folder) == told


def held(*images: str, is_aside: bool = False) -> ImprovementInfo:
    facts = [
        {"image": one, "label": "3", "use": HELD_OUT, "is_aside": is_aside, "is_fair": True}
        for one in images
    ]
    return ImprovementInfo(PETS, "met", tuple(facts), (), 0.0, "")


def test_images_held_out_are_spent_by_a_decision_alone() -> None:
    told = held("a", "b", is_aside=True)
    # An improvement that was deleted before it had decided has noted nothing.
    assert told.alpha({EARLIER: set()}) == 0.05
    assert told.alpha({EARLIER: set(), "1d": {"a"}}) == 0.025
    # Nor does its own decision count, which is made again where it was cut off.
    assert told.alpha({EARLIER: set(), "1d": {"a", "b"}}, "1d") == 0.05
    # Two improvements that began at once: the second to decide has these images no more.
    assert held("a", "b").alpha({EARLIER: set(), "1d": {"a", "b"}}, "2d") == 0
    # By an earlier version, which did not note it, all that was set aside may have decided.
    assert told.alpha({EARLIER: {"a", "b"}}) == 0
    assert held("a", "b").alpha({EARLIER: {"a", "b"}}) == 0.05


def test_a_training_image_whose_label_was_wrong_gives_way(dataset: Dataset, tmp_path: Path) -> None:
    again = replace(GATHERED, replaced=(3,))
    write_folder(
        tmp_path / "joined", improvement_info(PETS, "met", again, 0, ""), dataset, again, tmp_path
    )
    found = load_clean(joined(tmp_path / "joined"))
    assert len(found.train) == 99 + 3
    assert np.array_equal(found.train.images[:3], dataset.train.images[:3])
    assert np.array_equal(found.train.images[3:99], dataset.train.images[4:])


def test_how_images_of_more_than_8_bits_are_read_is_kept(dataset: Dataset, tmp_path: Path) -> None:
    deep = replace(dataset, value_range=(0, 4095))
    write_folder(
        tmp_path / "joined",
        improvement_info(PETS, "met", GATHERED, 0, ""),
        deep,
        GATHERED,
        tmp_path,
    )
    assert load_clean(joined(tmp_path / "joined")).value_range == (0, 4095)


def test_what_joined_and_what_was_doubted_is_known_in_later_rounds() -> None:
    known = new(7, TRAINING)
    before = GATHERED.without_doubted({GATHERED.new[0].image: "90 % likely"})
    first = improvement_info(PETS, "met", before, 0, "")
    assert joined_labels([first]) == {f"{n:064d}": str(n) for n in (1, 2)}
    doubted = GATHERED.new[0]
    assert doubted_images([first], [doubted, known]) == [doubted.image]
    # Corrected again, it is believed; and by an earlier version it was not noted which it was.
    assert doubted_images([first], [replace(doubted, corrected_ms=99)]) == []
    assert doubted_images([first], [replace(doubted, label="9")]) == []
    old = replace(first, left_out=tuple(replace(one, corrected_ms=0) for one in first.left_out))
    assert doubted_images([old], [doubted]) == [doubted.image]


def test_a_doubted_correction_that_is_confirmed_is_unseen() -> None:
    doubted = GATHERED.new[0]
    info = improvement_info(
        PETS, "met", GATHERED.without_doubted({doubted.image: "90 % likely"}), 0, ""
    )
    corrections = [
        Correction(image.image, image.label, image.corrected_ms, "label") for image in GATHERED.new
    ]
    assert unseen_corrections(info, corrections) == []
    again = replace(corrections[0], time_ms=corrections[0].time_ms + 1)
    assert unseen_corrections(info, [again, *corrections[1:]]) == [again]
    other = replace(corrections[1], label="9")
    assert unseen_corrections(info, [other]) == [other]


def test_joined_data_can_be_joined_again(folder: Path, dataset: Dataset, tmp_path: Path) -> None:
    first = load_clean(joined(folder))
    more = CorrectedImages(
        tuple(new(n, use) for n, use in ((50, TRAINING), (51, SELECTION), (52, HELD_OUT)))
    )
    write_folder(
        tmp_path / "second", improvement_info(PETS, "met", more, 0, ""), first, more, tmp_path
    )
    found = load_clean(joined_data_config(joined(folder), tmp_path / "second", len(first.val)))
    assert len(found.train) == 104
    assert np.array_equal(found.val.images, dataset.val.images)


def test_it_is_kept_in_a_bucket_too(folder: Path, bucket: Bucket, tmp_path: Path) -> None:
    kept = home(bucket, "better")
    shutil.copytree(folder, kept.folder / FOLDER)
    kept.keep(FOLDER)
    shutil.rmtree(kept.folder)
    again = home(bucket, "better").read(FOLDER)
    assert ImprovementInfo.read(again) == ImprovementInfo.read(folder)
    assert len(load_clean(joined(again)).train) == 103


def test_a_changed_or_missing_file_is_told(folder: Path) -> None:
    entry = json.loads((folder / "entry.json").read_text())
    (folder / "entry.json").write_text(json.dumps(entry | {"fingerprint": "other"}))
    with pytest.raises(DataError, match="cannot be read"):
        load_clean(joined(folder))
    (folder / "entry.json").unlink()
    with pytest.raises(DataError, match="or pass its new path with --data-root"):
        load_clean(joined(folder))
