"""Corrections next to a folder of images: how they are stored, applied and refused."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainables.config import DataConfig
from trainables.datasets.corrections import (
    COLUMNS,
    LEAVE_OUT,
    append_correction,
    corrections_path,
    read_corrections,
)
from trainables.datasets.load import load
from trainables.errors import DataError


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """Twelve images of each of two classes, in three parts."""
    generator = np.random.default_rng(0)
    for number in range(24):
        part, name = ("train", "val", "test")[number % 3], ("cat", "dog")[number // 12]
        path = tmp_path / "pets" / part / name / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (8, 8), np.uint8)).save(path)
    return tmp_path / "pets"


def config_of(folder: Path) -> DataConfig:
    return DataConfig(name="folder", root=str(folder))


def write(folder: Path, *lines: str) -> Path:
    path = corrections_path(folder)
    path.write_text("\n".join([",".join(COLUMNS), *lines]) + "\n")
    return path


def test_the_last_decision_on_an_image_counts(tmp_path: Path) -> None:
    path = corrections_path(tmp_path / "pets")
    assert path == tmp_path / "pets.corrections.csv"
    assert read_corrections(path) == {}
    append_correction(path, 'a, "b".png', "cat", "dog")
    append_correction(path, "c.png", "cat", "cat")
    append_correction(path, "c.png", "cat", "")
    append_correction(path, 'a, "b".png', "cat", LEAVE_OUT)
    (decision,) = read_corrections(path).values()
    assert (decision.image, decision.corrected) == ('a, "b".png', LEAVE_OUT)
    assert len(path.read_text().splitlines()) == 5


def test_a_name_with_a_carriage_return_is_read_again(tmp_path: Path) -> None:
    path = corrections_path(tmp_path / "pets")
    append_correction(path, "a/b\rc.png", "cat", "dog")
    append_correction(path, "d.png", "cat", "dog")
    assert list(read_corrections(path)) == ["a/b\rc.png", "d.png"]


def test_a_line_without_an_end_is_not_continued(tmp_path: Path) -> None:
    path = write(tmp_path / "pets", "a.png,cat,dog,now")
    path.write_text(path.read_text().rstrip("\n"))
    append_correction(path, "b.png", "cat", "dog")
    assert list(read_corrections(path)) == ["a.png", "b.png"]


def test_corrections_are_applied_and_change_the_fingerprint(pets: Path) -> None:
    before = load(config_of(pets))
    path = corrections_path(pets)
    append_correction(path, "train/cat/0.png", "cat", "cat")
    confirmed = load(config_of(pets))
    assert confirmed.fingerprint == before.fingerprint
    append_correction(path, "train/cat/3.png", "cat", "dog")
    append_correction(path, "test/dog/14.png", "dog", LEAVE_OUT)
    after = load(config_of(pets))
    assert after.fingerprint != before.fingerprint
    assert before.test is not None
    assert after.train.names is not None
    assert after.test is not None
    labels = dict(zip(after.train.names, after.train.targets.tolist(), strict=True))
    assert (labels["train/cat/3.png"], labels["train/cat/0.png"]) == (1, 0)
    assert len(after.test) == len(before.test) - 1
    assert "test/dog/14.png" not in (after.test.names or ())
    assert [line for line in after.remarks if "corrections.csv" in line] == [
        f"note: '{path}' corrects 1 label, leaves 1 image out, and confirms 1 label."
    ]
    assert [file.path for file in after.left_out] == ["test/dog/14.png"]
    assert not list(pets.rglob("*.csv"))


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("train/cat/99.png,cat,dog,now", "'train/cat/99.png', which is not an image"),
        ("train/cat/3.png,cat,bird,now", "unknown class 'bird'. Known: cat, dog, leave out."),
        ("train/cat/3.png,dog,cat,now", "the label 'dog', but the image's label is 'cat' now"),
        ("train/cat/3.png,cat", "line 2 of '.*' has 2 values, but must have image,label"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_line(pets: Path, line: str, why: str) -> None:
    write(pets, line)
    with pytest.raises(DataError, match=why) as raised:
        load(config_of(pets))
    assert "\n" not in str(raised.value)


def test_another_file_with_this_name_is_refused(pets: Path) -> None:
    corrections_path(pets).write_text("file,species\na.png,cat\n")
    with pytest.raises(DataError, match=r"line 1 of .* has the columns 'file,species'"):
        load(config_of(pets))


def test_a_set_is_not_emptied(pets: Path) -> None:
    names = [path.relative_to(pets) for path in pets.glob("val/*/*")]
    write(pets, *(f"{name},{name.parent.name},{LEAVE_OUT},now" for name in names))
    with pytest.raises(DataError, match="every image of the validation set is left out"):
        load(config_of(pets))
