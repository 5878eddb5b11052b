"""The groups of a folder's images (`data.groups`): read, checked, and part of the fingerprint."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from trainables.config import DataConfig
from trainables.datasets import joined
from trainables.datasets.corrections import LEAVE_OUT, append_correction, corrections_path
from trainables.datasets.load import load, read
from trainables.errors import ConfigError, DataError


@pytest.fixture
def marked(marked_images: tuple[Path, Path]) -> DataConfig:
    folder, groups = marked_images
    return DataConfig(name="folder", root=str(folder), groups=str(groups))


def test_each_image_has_its_group_in_every_part(marked: DataConfig) -> None:
    dataset = load(marked)
    assert dataset.attributes is not None
    assert dataset.attributes.groups == (("green",), ("red",))
    assert dataset.test is not None
    for part in (dataset.train, dataset.val, dataset.test):
        numbers = dataset.group_numbers(part)
        is_red = np.asarray(part.images)[:, 0, 0, 0] > 200
        assert numbers is not None
        assert np.array_equal(numbers, is_red.astype(int))
    assert [line for line in dataset.remarks if "groups" in line] == [
        "note: 2 groups by mark; the smallest, mark=green, has 64 images."
    ]


def test_folds_have_groups_too(marked: DataConfig) -> None:
    fold = load(replace(marked, folds=2)).fold(1, 0)
    numbers = fold.group_numbers(fold.val)
    assert numbers is not None
    assert set(numbers) == {0, 1}


def test_the_fingerprint_depends_on_the_groups(marked: DataConfig) -> None:
    plain = load(DataConfig(name="folder", root=marked.root))
    grouped = load(marked)
    assert plain.attributes is None
    path = Path(marked.groups)
    path.write_text(path.read_text().replace("red", "rot"))
    renamed = load(marked)
    path.write_text(path.read_text().replace("rot", "green", 1))
    changed = load(marked)
    fingerprints = [each.fingerprint for each in (plain, grouped, changed)]
    assert len(set(fingerprints)) == 3
    assert renamed.fingerprint == grouped.fingerprint


def test_an_image_that_is_left_out_later_may_be_in_the_file(marked: DataConfig) -> None:
    name = (load(marked).train.names or ())[0]
    append_correction(corrections_path(Path(marked.root)), name, name.split("/")[0], LEAVE_OUT)
    assert name not in (load(marked).train.names or ())


def test_the_fingerprint_depends_on_the_groups_beside_labels_that_were_only_confirmed(
    marked: DataConfig,
) -> None:
    name = (load(marked).train.names or ())[0]
    append_correction(corrections_path(Path(marked.root)), name, *[name.split("/")[0]] * 2)
    before = load(marked).fingerprint
    path = Path(marked.groups)
    path.write_text(path.read_text().replace("red", "green", 1))
    assert before != load(marked).fingerprint


def test_an_image_without_a_group_is_refused(marked: DataConfig) -> None:
    path = Path(marked.groups)
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")
    with pytest.raises(DataError, match="has no line for 1 image of the data set"):
        load(marked)


def test_a_published_data_set_has_no_groups(marked: DataConfig) -> None:
    with pytest.raises(DataError, match="cannot be used for 'digits', whose images are not files"):
        load(DataConfig(name="digits", groups=marked.groups))


def test_only_classified_images_have_groups(marked: DataConfig) -> None:
    with pytest.raises(ConfigError, match="cannot be used for segmentation"):
        DataConfig(name="folder", task="segmentation", groups=marked.groups)


def test_images_that_were_recorded_later_have_no_group(marked: DataConfig, tmp_path: Path) -> None:
    whole = read(marked)
    train = whole.decoded.train
    names = ("recorded/new.png", *(train.names or ())[1:])
    joined.write(tmp_path / "joined", replace(whole.decoded, train=replace(train, names=names)))
    dataset = load(replace(marked, name="joined", root=str(tmp_path / "joined")))
    parts = (dataset.train, dataset.val, dataset.test)
    numbers = np.concatenate([dataset.group_numbers(part) for part in parts if part is not None])
    assert Counter(numbers.tolist())[-1] == 1
    assert len(numbers) == 140
