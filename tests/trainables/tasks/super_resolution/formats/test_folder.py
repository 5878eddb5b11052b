"""Folders of photographs as people have them, good and bad."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from trainables.config import DataConfig
from trainables.datasets import sources
from trainables.datasets.arrays import Decoded, Images, Ragged
from trainables.datasets.load import Whole, divide, load, read, with_root
from trainables.errors import ConfigError, DataError
from trainables.inspection.leaks import load_clean
from trainables.tasks.super_resolution.reducing import cut_to_multiple, reduce, scale_of

COUNT = 10


def config_of(root: Path, **values: Any) -> DataConfig:
    return DataConfig(name="folder", root=str(root), task="super_resolution", **values)


def decoded(root: Path, **values: Any) -> Decoded:
    return sources.decode(config_of(root, **values))


def photograph(number: int, height: int = 70, width: int = 90) -> Images:
    """A smooth pattern in colour with some noise."""
    generator = np.random.default_rng(number)
    down, across = np.mgrid[:height, :width] / generator.uniform(4, 12, (2, 1, 1))
    waves = 127 + 90 * np.sin(down + generator.uniform(0, 6)) * np.cos(across)
    noisy = waves[..., None] + generator.normal(0, 6, (height, width, 3))
    return noisy.clip(0, 255).astype(np.uint8)


def save(image: Images, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image.squeeze()).save(path)


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    """Ten photographs of mixed sizes in a folder."""
    for number in range(COUNT):
        save(photograph(number, 64 + number, 81 - number), tmp_path / f"{number}.png")
    return tmp_path


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Ten photographs with small copies that are three times smaller."""
    for number in range(COUNT):
        large = cut_to_multiple(photograph(number), 3)
        save(large, tmp_path / "HR" / f"{number:04}.png")
        save(reduce(large, 3) // 2, tmp_path / "LR" / f"{number:04}x3.png")
    return tmp_path


def test_small_copies_are_made_of_photographs(flat: Path) -> None:
    part = decoded(flat).train
    assert isinstance(part.images, Ragged)
    for number, (small, large) in enumerate(zip(part.images, part.targets, strict=True)):
        original = photograph(number, 64 + number, 81 - number)
        assert np.array_equal(large, cut_to_multiple(original, 2))
        assert np.array_equal(small, reduce(large, 2))
    assert part.names == tuple(f"{number}.png" for number in range(COUNT))


def test_a_reduced_image_keeps_its_mean_and_loses_no_more_than_it_must() -> None:
    flat_image = np.full((24, 36, 3), 77, np.uint8)
    assert (reduce(flat_image, 3) == 77).all()
    stripes = np.zeros((24, 24, 1), np.uint8)
    stripes[:, ::2] = 255
    assert reduce(stripes, 2)[2:-2, 2:-2].std() < 3, "antialiased: stripes become grey"


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_scale_is_that_of_the_config(flat: Path, scale: int) -> None:
    dataset = load(config_of(flat, scale=scale, image_size=12))
    for part in (dataset.train, dataset.val, dataset.test):
        assert part is not None
        for small, large in zip(part.images, part.targets, strict=True):
            assert large.shape[:2] == (scale * small.shape[0], scale * small.shape[1])
    assert dataset.image == (3, 12, 12)


def test_each_scale_has_its_own_entry_in_the_cache(flat: Path) -> None:
    first = read(config_of(flat, scale=2)).decoded
    assert read(config_of(flat, scale=4)).decoded.fingerprint != first.fingerprint
    assert read(config_of(flat, scale=2)).decoded.fingerprint == first.fingerprint


def test_pairs_are_read_as_they_are(pairs: Path) -> None:
    assert sources.recognise_task("folder", str(pairs)) == "super_resolution"
    part = decoded(pairs, scale=3).train
    assert np.array_equal(part.targets[0], cut_to_multiple(photograph(0), 3))
    assert np.array_equal(part.images[0], reduce(part.targets[0], 3) // 2)
    assert part.names is not None
    assert part.names[0] == "HR/0000.png"


def test_a_folder_of_photographs_alone_may_be_meant_for_anything(flat: Path) -> None:
    assert sources.recognise_task("folder", str(flat)) == "classification"
    assert with_root(DataConfig(), f"folder:{flat}", "", "super_resolution").root == str(flat)


def test_a_changed_small_copy_is_read_anew(pairs: Path) -> None:
    before = read(config_of(pairs, scale=3)).decoded
    save(reduce(cut_to_multiple(photograph(0), 3), 3), pairs / "LR" / "0000x3.png")
    assert read(config_of(pairs, scale=3)).decoded.fingerprint != before.fingerprint


def test_parts_are_those_of_the_folders(pairs: Path) -> None:
    for title in ("train", "test"):
        (pairs / title).mkdir()
    (pairs / "HR").rename(pairs / "train" / "HR")
    (pairs / "LR").rename(pairs / "train" / "LR")
    large = cut_to_multiple(photograph(99), 3)
    save(large, pairs / "test" / "HR" / "a.png")
    save(reduce(large, 3), pairs / "test" / "LR" / "a.png")
    parts = decoded(pairs, scale=3).parts
    assert {title: len(part) for title, part in parts.items()} == {"train": COUNT, "test": 1}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            lambda root: (root / "LR" / "0003x3.png").unlink(),
            "1 image in HR/ or LR/ has no partner of the same name (first: HR/0003.png). Add the "
            "partners, or leave out such images with --skip-bad.",
        ),
        (
            lambda root: save(np.zeros((10, 10, 3), np.uint8), root / "LR" / "0003x3.png"),
            "1 small copy has not 1/3 of the size of the large image, rounded down (first: "
            "HR/0003.png: 90 x 69 and 10 x 10). Correct them, or leave them out with --skip-bad.",
        ),
        (
            lambda root: save(np.zeros((33, 60, 3), np.uint8), root / "HR" / "0003.png"),
            "1 photograph is too small: the shorter side must have at least 48 pixels for "
            "data.scale 3 (first: HR/0003.png: 60 x 33). Remove them, or leave them out with "
            "--skip-bad.",
        ),
        (
            lambda root: (root / "HR" / "0003.png").write_bytes(b"no image"),
            "1 image cannot be read (first: HR/0003.png: the file is not an image). Remove it, or "
            "leave it out with --skip-bad.",
        ),
        (
            lambda root: (root / "LR" / "0003x3.png").write_bytes(b"no image"),
            "1 image cannot be read (first: HR/0003.png: its small copy LR/0003x3.png cannot be "
            "read: the file is not an image). Remove it, or leave it out with --skip-bad.",
        ),
        (
            lambda root: save(np.zeros((69, 90, 3), np.uint8), root / "HR" / "0003.bmp"),
            "2 images differ only in their suffixes (first: HR/0003.bmp, HR/0003.png), so that "
            "their partners are not clear. Keep one of each name.",
        ),
    ],
    ids=["alone", "size", "small", "damaged", "damaged copy", "doubled"],
)
def test_bad_images_are_named_or_left_out(pairs: Path, change: Any, reason: str) -> None:
    change(pairs)
    with pytest.raises(DataError, match=f"^{re.escape(reason)}$"):
        decoded(pairs, scale=3)
    if "suffixes" in reason:
        return
    rest = decoded(pairs, scale=3, skip_bad=True)
    assert len(rest.train) == COUNT - 1
    dataset = load(config_of(pairs, scale=3, skip_bad=True))
    assert any("0003" in entry.path for entry in dataset.left_out)


def test_the_scale_of_pairs_is_that_of_the_copies(pairs: Path) -> None:
    assert scale_of(decoded(pairs).train) == 3, "data.scale is not set"
    with pytest.raises(
        DataError, match=r"HR/ are 3 times .* is not data.scale 4. Set data.scale=3"
    ):
        decoded(pairs, scale=4)
    for number in range(COUNT):
        save(np.zeros((10, 15, 3), np.uint8), pairs / "LR" / f"{number:04}x3.png")
    with pytest.raises(DataError, match=r"are 6 times as large as those in LR/, which must be 2"):
        decoded(pairs)


def test_copies_for_several_scales_are_told_apart(pairs: Path) -> None:
    for number in range(COUNT):
        large = photograph(number, 72, 96)
        save(large, pairs / "HR" / f"{number:04}.png")
        for scale in (2, 3, 4):
            save(reduce(large, scale), pairs / "LR" / f"{number:04}x{scale}.png")
    for scale in (2, 4):
        layout = sources.find(config_of(pairs, scale=scale))
        assert layout is not None
        assert scale_of(decoded(pairs, scale=scale).train) == scale
        assert len(layout.left_out) == 2 * COUNT
        assert any("20 images left out: a small copy for another" in note for note in layout.notes)


def test_a_copy_of_the_same_name_is_preferred(pairs: Path) -> None:
    large = cut_to_multiple(photograph(50), 3)
    save(large, pairs / "HR" / "a.png")
    save(reduce(large, 3), pairs / "LR" / "a.png")
    save(np.zeros((23, 30, 3), np.uint8), pairs / "LR" / "a_x3.png")
    part = decoded(pairs, scale=3).train
    assert part.names is not None
    assert np.array_equal(part.images[part.names.index("HR/a.png")], reduce(large, 3))


def test_images_beside_the_sets_are_left_out_with_a_warning(pairs: Path) -> None:
    save(photograph(0), pairs / "preview.png")
    save(photograph(1), pairs / "more" / "a.png")
    layout = sources.find(config_of(pairs, scale=3))
    assert layout is not None
    assert len(decoded(pairs, scale=3).train) == COUNT
    assert any("2 images left out: not in HR/ or LR/" in note for note in layout.notes)


def test_classes_with_these_names_are_classes(tmp_path: Path) -> None:
    for name in ("HR", "LR", "MR"):
        for number in range(4):
            save(photograph(number), tmp_path / name / f"{name}-{number}.png")
    assert sources.recognise_task("folder", str(tmp_path)) == "classification"


def test_both_images_of_a_pair_need_the_same_depth(pairs: Path) -> None:
    for path in (pairs / "LR").iterdir():
        grey = np.asarray(Image.open(path).convert("L")).astype(np.uint16) * 16
        Image.fromarray(grey).save(path)
    with pytest.raises(DataError, match=r"the images have different pixel types: 16-bit"):
        decoded(pairs, scale=3)


def test_crops_that_are_larger_than_an_image_are_told(flat: Path) -> None:
    for side, is_larger in ((64, True), (16, False), (64, True)):
        remarks = load(config_of(flat, image_size=side)).remarks
        told = [remark for remark in remarks if "smaller than the crops of 64 x 64" in remark]
        assert len(told) == is_larger, "also from the cache"
    with pytest.raises(DataError, match=r"image_size 30 is not a multiple of 4.* Use 28 or 32"):
        load(config_of(flat, image_size=30))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda root: None, "there are no images in"),
        (lambda root: save(photograph(1), root / "test" / "a.png"), "but no folder 'train'"),
    ],
)
def test_folders_without_training_images_are_refused(
    tmp_path: Path, make: Any, reason: str
) -> None:
    make(tmp_path)
    with pytest.raises(DataError, match=reason):
        decoded(tmp_path)


def test_the_scale_is_a_setting_of_this_task_alone() -> None:
    with pytest.raises(ConfigError, match=r"data.scale cannot be used for classification: its"):
        DataConfig(scale=3)
    with pytest.raises(ConfigError, match=r"data.scale must be >= 2 and <= 4 \(got 8\)"):
        DataConfig(name="photographs", task="super_resolution", scale=8)


def test_copies_of_a_photograph_are_in_one_set(flat: Path) -> None:
    for number in range(4):
        save(photograph(0, 64, 81), flat / f"copy-{number}.jpg")
    dataset = load_clean(config_of(flat))
    parts = [
        {name for name in part.names or () if name == "0.png" or name.startswith("copy")}
        for part in (dataset.train, dataset.val, dataset.test)
        if part is not None
    ]
    assert [len(names) for names in parts if names] == [5]


def test_the_quarters_of_an_embedded_photograph_are_in_one_set() -> None:
    config = DataConfig(name="photographs", task="super_resolution", image_size=48)
    whole = read(config).decoded
    assert len(whole.train) == 72
    assert whole.groups is not None
    assert min(min(image.shape[:2]) for image in whole.train.targets) >= 90
    dataset, numbers = divide(Whole(whole, None), config)
    assert (len(dataset.train), len(dataset.val)) == (48, 12)
    sets = np.split(whole.groups[numbers], [48, 60])
    assert [len(set(groups)) for groups in sets] == [12, 3, 3]
