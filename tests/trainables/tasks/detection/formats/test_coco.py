"""COCO annotations as programs export them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trainables.tasks.detection.formats.layout import ImageMatcher, place
from trainables.tasks.detection.reading import recognise

from .helpers import boxes_of, decoded, layout_of, names_by_part, refusal

Make = Callable[..., Path]
ROW = [3, [1, 2, 3, 4]]


def change(path: Path, make: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads(path.read_text())
    make(content)
    path.write_text(json.dumps(content))


def rename(path: Path, *names: str) -> None:
    """Replace the names of the images in a file."""

    def make(content: dict[str, Any]) -> None:
        for image, name in zip(content["images"], names, strict=True):
            image["file_name"] = name

    change(path, make)


# Recognition


@pytest.mark.parametrize("folder", ["images/", ""])
def test_images_in_several_folders_are_recognised(coco: Make, folder: str) -> None:
    root = coco([ROW], [ROW], [ROW])
    places = [f"{folder}day/0.png", f"{folder}night/1.png", f"{folder}night/2.png"]
    for number, name in enumerate(places):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.move(root / "images" / f"{number}.png", root / name)
    rename(root / "annotations.json", *[name.removeprefix("images/") for name in places])
    assert recognise(root) == "'annotations.json' has boxes"
    assert names_by_part(layout_of(root)) == {"train": places}


def test_a_stray_folder_changes_nothing(coco: Make, draw: Callable[..., None]) -> None:
    root = coco([ROW], [ROW], file="train/_annotations.coco.json", folder="train")
    draw(root / "stray" / "x.png")
    assert recognise(root) == "'_annotations.coco.json' has boxes"
    for number in range(3):
        draw(root / "stray" / f"x{number}.png")
    assert recognise(root) == "", "most images are not in the annotations"


def test_class_folders_with_annotations_remain_classes(coco: Make) -> None:
    root = coco([ROW], [ROW])
    for number, name in enumerate(("Cat", "dog")):
        (root / name).mkdir()
        shutil.move(root / "images" / f"{number}.png", root / name)
    rename(root / "annotations.json", "Cat/0.png", "dog/1.png")
    assert recognise(root) == ""
    change(root / "annotations.json", lambda content: content["categories"].pop(0))
    assert recognise(root) == "'annotations.json' has boxes", "only one folder is a category"


def test_damaged_annotations_of_several_folders_are_reported(
    coco: Make, draw: Callable[..., None]
) -> None:
    root = coco([ROW], [ROW])
    draw(root / "images" / "a" / "x.png")
    path = root / "annotations.json"
    path.write_text(path.read_text()[:-1])
    assert recognise(root) == "'annotations.json' has boxes"


# Parts


def test_the_name_of_a_single_file_is_no_part(coco: Make) -> None:
    root = coco([ROW], [ROW], file="flower_test_set.json")
    assert list(layout_of(root).parts) == ["train"]
    (root / "flower_test_set.json").rename(root / "flower_train.json")
    assert list(layout_of(root).parts) == ["train"]
    coco([ROW], file="flower_test.json", folder="more")
    rename(root / "flower_test.json", "more/0.png")
    rename(root / "flower_train.json", "images/0.png", "images/1.png")
    assert list(layout_of(root).parts) == ["train", "test"]


# Paths


@pytest.mark.parametrize(
    "form",
    [
        "../../label-studio/data/upload/1/{}",
        "/data/upload/1/{}",
        "C:\\me\\images\\{}",
        "me/pets/images/{}",
        "../images/{}",
        "./images/{}",
    ],
)
def test_paths_of_other_machines(coco: Make, form: str) -> None:
    root = coco([ROW], [ROW])
    rename(root / "annotations.json", form.format("0.png"), form.format("1.png"))
    assert boxes_of(decoded(root).train, "images/1.png") == [[1, 2, 4, 6, 0, 0]]


def test_the_longest_ending_of_a_path_decides(tmp_path: Path) -> None:
    names = ["a/0.png", "b/0.png", "b/c/0.png", "train/1.png", "2.png", "b/images/0.png"]
    matcher = ImageMatcher(place([tmp_path / name for name in names], tmp_path))

    def match(file: str, part: str = "", folder: str = ".") -> list[str]:
        paths = matcher.match(file, (tmp_path / folder,), part)
        return [path.relative_to(tmp_path).as_posix() for path in paths]

    assert match("x/c/0.png") == ["b/c/0.png"]
    assert match("../b/0.png", folder="x") == ["b/0.png"]
    assert match("0.png") == ["a/0.png", "b/0.png", "b/c/0.png", "b/images/0.png"]
    assert match("0.png", folder="b") == ["b/0.png"]
    assert match("images/0.png") == ["b/images/0.png"]
    assert match("a/2.png") == [], "it is missing from a folder that exists"
    assert match("val/1.png") == [], "the image of another set"
    assert match("train2017/1.png") == match("up/1.png") == ["train/1.png"]
    assert match("") == match("..") == match("up/") == []


# Ids


@pytest.mark.parametrize("noun", ["images", "categories"])
def test_equal_ids_are_refused(coco: Make, noun: str) -> None:
    root = coco([ROW], [ROW])

    def make(content: dict[str, Any]) -> None:
        for each in content[noun]:
            each["id"] = 3
        for annotation in content["annotations"]:
            annotation["image_id"] = content["images"][0]["id"]

    change(root / "annotations.json", make)
    assert refusal(root) == (
        f"'annotations.json' has 2 {noun} with the id 3, but ids must be different. Export it "
        "again, for example one file for each part."
    )


def test_several_entries_without_an_image(coco: Make) -> None:
    root = coco(*[[ROW]] * 4)
    (root / "images" / "2.png").unlink()
    (root / "images" / "3.png").unlink()
    assert refusal(root) == (
        "2 entries of the annotations have no image (first: 2.png, 3.png). Add what is missing, or "
        "leave them out with --skip-bad."
    )
