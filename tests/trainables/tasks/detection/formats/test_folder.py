"""Folders of images with boxes as people have them, good and bad."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from trainables.datasets import sources
from trainables.datasets.arrays import Ragged
from trainables.datasets.load import load
from trainables.errors import DataError
from trainables.tasks.detection.reading import recognise
from trainables.tasks.detection.values import clean_boxes, iou

from .conftest import HEIGHT, WIDTH, xml_of
from .helpers import boxes_of, config_of, decoded, layout_of, refusal

Make = Callable[..., Path]
DOG = ("dog", 1, 1, 10, 20)
BOX = "0 0.5 0.5 0.5 0.4\n"


def notes_of(root: Path, **values: Any) -> list[str]:
    """Return all lines of a folder; the first is on the task."""
    layout = layout_of(root, **values)
    return [*layout.remarks, *sources.decode(config_of(root, **values), layout=layout).remarks]


# Pascal VOC


def test_voc_pixels_are_counted_from_one_and_difficult_objects_are_crowds(voc: Make) -> None:
    root = voc([DOG, ("cat", 5, 6, 40, 30, 1)], [])
    whole = decoded(root)
    assert whole.classes == ("cat", "dog")
    assert isinstance(whole.train.targets, Ragged)
    assert whole.train.images.shape == (2, HEIGHT, WIDTH, 3)
    assert boxes_of(whole.train, "JPEGImages/0.png") == [[0, 0, 10, 20, 1, 0], [4, 5, 40, 30, 0, 1]]
    assert boxes_of(whole.train, "JPEGImages/1.png") == []
    assert recognise(root) == "it has Pascal VOC annotations"
    assert notes_of(root) == [
        "note: the task is detection, because it has Pascal VOC annotations (--task overrides it).",
        "note: boxes are read from Pascal VOC annotations (pixels are counted from 1); 1 image has "
        "no object (first: JPEGImages/1.png).",
        "note: 1 box is marked as crowd or difficult, and neither evaluated nor taught as an "
        "object.",
    ]


def test_voc_lists_give_the_sets(voc: Make) -> None:
    root = voc(*[[DOG]] * 6)
    lists = root / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "trainval.txt").write_text("0\n1\n2\n3\n")
    assert list(layout_of(root).parts) == ["train"]
    for name, text in (("train", "0\n1 1\n"), ("val", "2\n3\n"), ("test", "4\n")):
        (lists / f"{name}.txt").write_text(text)
    layout = layout_of(root)
    assert {part: len(members) for part, members in layout.parts.items()} == {
        "train": 2,
        "val": 2,
        "test": 1,
    }
    assert lists / "val.txt" in layout.files
    assert root / "Annotations" / "0.xml" in layout.files
    assert (
        "note: 1 image is left out, being in none of the lists of the sets "
        "(first: JPEGImages/5.png)."
    ) in layout.remarks
    (lists / "test.txt").write_text("4\n1\n9\n")
    assert refusal(root).splitlines() == [
        "1 image is in several lists of ImageSets/Main (first: JPEGImages/1.png). Keep each in one "
        "list.",
        "1 entry of the lists in ImageSets/Main has no image (first: 9). Add what is missing, or "
        "leave it out with --skip-bad.",
    ]


def test_voc_files_beside_images_in_the_folders_of_sets(voc: Make) -> None:
    voc([DOG], [DOG], place="train", inner=False)
    root = voc([DOG], place="valid", inner=False)
    whole = decoded(root)
    assert whole.val is not None
    assert (len(whole.train), len(whole.val)) == (2, 1)
    assert whole.val.names == ("valid/0.png",)
    assert recognise(root)


def test_annotations_in_a_folder_of_another_name_are_matched_by_name(voc: Make) -> None:
    root = voc([DOG], [DOG])
    shutil.move(root / "Annotations", root / "x")
    (root / "annotations").mkdir()
    shutil.move(root / "x", root / "annotations" / "xmls")
    assert len(layout_of(root).raw_boxes) == 2


def test_images_without_annotations_and_bad_files_are_problems_or_left_out(voc: Make) -> None:
    root = voc(*[[DOG]] * 5)
    annotations = root / "Annotations"
    (annotations / "0.xml").unlink()
    (annotations / "1.xml").write_text("<annotation>")
    (annotations / "2.xml").write_text(
        '<!DOCTYPE x [<!ENTITY y SYSTEM "file:///etc/passwd">]><annotation/>'
    )
    (annotations / "lone.xml").write_text(xml_of([DOG]))
    assert refusal(root).splitlines() == [
        "1 image has no annotation file (first: JPEGImages/0.png). Add what is missing, or leave "
        "it out with --skip-bad.",
        "1 annotation file has no image (first: Annotations/lone.xml). Add what is missing, or "
        "leave it out with --skip-bad.",
        "2 annotation files cannot be read (first: Annotations/1.xml: it is not well-formed XML). "
        "Correct them, or leave out their images with --skip-bad.",
    ]
    layout = layout_of(root, skip_bad=True)
    assert [path.name for path in layout.paths] == ["3.png", "4.png"]
    assert layout.notes[1:] == [
        "warning: 1 image has no annotation file and is left out (first: JPEGImages/0.png).",
        "warning: 1 annotation file has no image and is left out (first: Annotations/lone.xml).",
        "warning: 2 annotation files cannot be read (first: Annotations/1.xml: it is not "
        "well-formed XML), and their images are left out.",
    ]
    reasons = {file.path: file.reason for file in layout.left_out}
    assert reasons["JPEGImages/2.png"] == (
        "its annotation file cannot be read: it has a DOCTYPE, entities or zero bytes"
    )
    assert len(decoded(root, skip_bad=True).train) == 2


@pytest.mark.parametrize(
    ("content", "detail"),
    [
        ("<html/>", "it has no <annotation>"),
        ("<annotation><object><name>x</name></object></annotation>", "an object has no <name> or"),
        (xml_of([("x", 1, "a", 2, 3)]), "a <bndbox> has not four numbers"),
        (xml_of([DOG]).encode("utf-16"), "zero bytes"),
    ],
)
def test_damaged_voc_files(voc: Make, content: str | bytes, detail: str) -> None:
    root = voc(*[[DOG]] * 2)
    path = root / "Annotations" / "1.xml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert detail in refusal(root)


def test_a_test_set_without_annotations_is_left_out(voc: Make, draw: Callable[..., None]) -> None:
    root = voc([DOG], [DOG], place="train")
    draw(root / "test" / "JPEGImages" / "a.png")
    layout = layout_of(root)
    assert list(layout.parts) == ["train"]
    assert layout.notes[1] == (
        "note: the test set has no annotations. 1 image is left out, and another set is drawn from "
        "the training images."
    )


def test_masks_beside_the_images_are_no_images(voc: Make, draw: Callable[..., None]) -> None:
    root = voc([DOG], [DOG])
    draw(root / "SegmentationClass" / "0.png")
    draw(root / "SegmentationObject" / "0.png")
    layout = layout_of(root)
    assert len(layout.paths) == 2
    assert layout.notes[1] == (
        "note: 2 images are left out, being not in the folder of images "
        "(first: SegmentationClass/0.png, SegmentationObject/0.png)."
    )


# Dirty boxes


def test_dirty_boxes_are_clipped_or_left_out_with_a_line_for_each_kind(voc: Make) -> None:
    root = voc(
        [DOG, ("dog", -3, 20, 8, 35), ("cat", 30, 20, 60, 30)],
        [DOG, ("dog", 9, 9, 5, 12), ("dog", 50, 3, 60, 9), ("dog", "nan", 1, 2, 2)],
        [DOG, ("dog", 4, 4, 4, 4), DOG, ("cat", *DOG[1:])],
        [DOG, ("dog", 1, 1, 10, 16), ("cat", 1, 1, 10, 16), ("dog", 20, 1, 40, 10)],
        [DOG, ("dog", 1, 1, 10, 19, 1), ("dog", 1, 1, 10, 20, 1)],
    )
    train = decoded(root).train
    assert boxes_of(train, "JPEGImages/0.png") == [
        [0, 0, 10, 20, 1, 0],
        [0, 19, 8, 30, 1, 0],
        [29, 19, 40, 30, 0, 0],
    ]
    assert [len(boxes) for boxes in train.targets] == [3, 1, 2, 4, 3]
    assert notes_of(root)[3:] == [
        "note: 2 boxes reach beyond their images and are clipped (first: Annotations/0.xml).",
        "warning: 4 boxes are invalid (empty, inverted, not finite or outside their images) and "
        "left out (first: Annotations/1.xml, Annotations/2.xml).",
        "warning: 1 box is a copy of another one (same class, IoU of at least 0.99) and left out "
        "(first: Annotations/2.xml).",
        "warning: 1 pair of boxes of the same class overlaps by more than 0.7 "
        "(first: Annotations/3.xml); remove one of each if they are around the same object.",
    ]


def test_copies_of_copies_are_left_out_and_compared_no_more() -> None:
    box = np.array([[0, 0, 100, 100, 0, 0]], float)
    larger, smaller = box.copy(), box.copy()
    larger[0, 2:4], smaller[0, 2] = 100.4, 90
    boxes = np.concatenate([box, larger, box, smaller])
    cleaned = clean_boxes(boxes, (200, 200))
    assert np.array_equal(cleaned.boxes, boxes[[0, 3]])
    assert (cleaned.doubled, cleaned.overlapping, cleaned.invalid, cleaned.clipped) == (2, 1, 0, 0)
    assert np.isclose(iou(boxes[0], boxes[3]), 0.9)
    assert clean_boxes(boxes[:0], (9, 9)).boxes.shape == (0, 6)
    rest = clean_boxes(np.array([[199.95, 0, 300, 9, 0, 0]]), (200, 200))
    assert rest.invalid == 1


def test_without_boxes_there_is_nothing_to_train_on(voc: Make) -> None:
    root = voc([("dog", 9, 9, 5, 5)], [("dog", *DOG[1:], 1)])
    assert refusal(root) == (
        "no training image has a box that can be used: 1 box is invalid. Check the annotations."
    )


def test_too_many_classes_are_refused(yolo: Make) -> None:
    root = yolo(BOX, "1000 0.5 0.5 0.1 0.1")
    assert refusal(root) == (
        "there are 1,001 classes in the label files; at most 1,000 are allowed."
    )
    (root / "classes.txt").write_text("".join(f"name {number}\n" for number in range(1001)))
    assert refusal(root) == ("there are 1,001 classes in 'classes.txt'; at most 1,000 are allowed.")


# Sizes


def test_images_are_resized_with_their_boxes(voc: Make, draw: Callable[..., None]) -> None:
    root = voc([DOG], [DOG])
    draw(root / "JPEGImages" / "1.png", 641, 200)
    train = decoded(root).train
    assert [image.shape for image in train.images] == [(30, 40, 3), (100, 320, 3)]
    assert boxes_of(train, "JPEGImages/1.png") == [[0, 0, 4.9922, 10, 0, 0]]
    assert notes_of(root)[-1] == (
        "note: 1 image is reduced to 320 pixels on the longer side (--set data.image_size=N for "
        "another length)."
    )
    train = decoded(root, image_size=80).train
    assert [image.shape for image in train.images] == [(60, 80, 3), (25, 80, 3)]
    assert boxes_of(train, "JPEGImages/0.png") == [[0, 0, 20, 40, 0, 0]]
    assert layout_of(root).resizes


def test_boxes_are_those_of_the_upright_image(
    voc: Make, yolo: Make, draw: Callable[..., None], tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    yolo(BOX)
    draw(tmp_path / "images" / "1.jpg", 40, 30, exif=exif)
    (tmp_path / "labels" / "1.txt").write_text("0 0.5 0.5 1 0.5")
    train = decoded(tmp_path).train
    assert [image.shape[:2] for image in train.images] == [(30, 40), (40, 30)]
    assert boxes_of(train, "images/1.jpg") == [[0, 10, 30, 30, 0, 0]]


def test_annotations_that_state_another_size_are_a_problem(coco: Make) -> None:
    root = coco([[7, [1, 2, 3, 4]]], [], size=(HEIGHT, WIDTH))
    assert refusal(root) == (
        "the annotations of 2 images state another size than they have, when upright (first: "
        "images/0.png, images/1.png: 30 x 40 instead of 40 x 30), so their boxes may be elsewhere. "
        "Correct them, or leave out such images with --skip-bad."
    )
    assert refusal(root, skip_bad=True) == (
        "no image of the training set can be used. Check its files."
    )


def test_unreadable_images_and_other_sizes_are_left_out_with_skip_bad(voc: Make) -> None:
    root = voc(*[[DOG]] * 4)
    (root / "JPEGImages" / "0.png").write_bytes(b"no image")
    (root / "Annotations" / "1.xml").write_text(xml_of([DOG], (99, 20)))
    (root / "Annotations" / "2.xml").write_text(xml_of([DOG], (WIDTH, HEIGHT)))
    whole = decoded(root, skip_bad=True)
    assert whole.train.names == ("JPEGImages/2.png", "JPEGImages/3.png")
    assert whole.train.targets.shape == (2, 1, 6), "boxes of equal number are one array"
    assert whole.skipped == 2
    assert [file.reason for file in whole.left_out] == [
        "cannot be read: the file is not an image",
        "its annotations state another size",
    ]
    assert whole.remarks[-1] == (
        "warning: 1 image is left out, because the annotations state another size."
    )
    assert "the annotations of 1 image state another size than it has" in refusal(root)
    (root / "Annotations" / "1.xml").write_text(xml_of([DOG], (0, 0)))
    assert "1 image cannot be read (first: JPEGImages/0.png" in refusal(root)


# COCO


def test_coco_boxes_crowds_and_categories(coco: Make) -> None:
    root = coco([[7, [1, 2, 3, 4]], [3, [0, 0, 20, 10], 1]], [], [[3, "x"], [7, [0, 0, 5, 5]]])
    whole = decoded(root)
    assert whole.classes == ("dog", "cat")
    assert boxes_of(whole.train, "images/0.png") == [[1, 2, 4, 6, 1, 0], [0, 0, 20, 10, 0, 1]]
    assert len(boxes_of(whole.train, "images/2.png")) == 1
    assert recognise(root) == "'annotations.json' has boxes"
    assert notes_of(root) == [
        "note: the task is detection, because 'annotations.json' has boxes (--task overrides it).",
        "note: boxes are read from COCO annotations; 1 image has no object (first: images/1.png).",
        "note: 1 box is marked as crowd or difficult, and neither evaluated nor taught as an "
        "object.",
        "warning: 1 box is invalid (empty, inverted, not finite or outside its image) and left "
        "out (first: images/2.png).",
    ]


def test_coco_parts_come_from_the_names_of_files_or_folders(coco: Make) -> None:
    row = [3, [1, 2, 3, 4]]
    coco([row], [row], file="annotations/instances_train2017.json", folder="train2017")
    coco([row], [row], file="annotations/person_keypoints_train2017.json", folder="train2017")
    root = coco([row], file="annotations/instances_val2017.json", folder="val2017")
    coco([], file="annotations/captions.json")
    layout = layout_of(root)
    assert recognise(root) == "'instances_train2017.json' has boxes"
    assert {
        part: [layout.name(path) for _, path in members] for part, members in layout.parts.items()
    } == {
        "train": ["train2017/0.png", "train2017/1.png"],
        "val": ["val2017/0.png"],
    }


def test_the_export_of_roboflow(coco: Make, draw: Callable[..., None]) -> None:
    above = [
        {"id": 0, "name": "pets", "supercategory": "none"},
        {"id": 1, "name": "cat", "supercategory": "pets"},
        {"id": 2, "name": "dog", "supercategory": "pets"},
    ]
    for part in ("train", "valid", "test"):
        coco(
            [[1, [1, 2, 3, 4]]],
            [[2, [1, 2, 30, 4]]],
            file=f"{part}/_annotations.coco.json",
            folder=part,
            categories=above,
        )
    root = coco(
        [[2, [5, 5, 5, 5]]], file="test/_annotations.coco.json", folder="test", categories=above
    )
    assert refusal(root) == (
        "1 image has no entry in the annotations (first: test/1.png). Add what is missing, or "
        "leave it out with --skip-bad."
    )
    (root / "test" / "1.png").unlink()
    whole = decoded(root)
    assert whole.classes == ("cat", "dog")
    assert [len(part) for part in whole.parts.values()] == [2, 2, 1]
    assert whole.test is not None
    assert boxes_of(whole.test, "test/0.png") == [[5, 5, 10, 10, 1, 0]]
    assert layout_of(root).notes[1] == (
        "note: the category 'pets' is left out, because it has no boxes, and all other categories "
        "belong to it."
    )


def test_coco_images_that_are_missing_or_ambiguous(coco: Make, draw: Callable[..., None]) -> None:
    row = [3, [1, 2, 3, 4]]
    root = coco(*[[row]] * 4)
    (root / "images" / "3.png").unlink()
    draw(root / "images" / "a" / "0.png")
    draw(root / "images" / "new.png")
    assert (
        refusal(root)
        .splitlines()[0]
        .startswith("1 image of the annotations can be several files, or is listed twice")
    )
    shutil.rmtree(root / "images" / "a")
    assert refusal(root).splitlines() == [
        "1 entry of the annotations has no image (first: 3.png). Add what is missing, or leave it "
        "out with --skip-bad.",
        "1 image has no entry in the annotations (first: images/new.png). Add what is missing, or "
        "leave it out with --skip-bad.",
    ]
    assert len(decoded(root, skip_bad=True).train) == 3


def test_damaged_coco_files_are_refused(coco: Make) -> None:
    root = coco([[99, [1, 2, 3, 4]]])
    assert refusal(root) == (
        "1 annotation in 'annotations.json' has the category 99, but 'categories' lists 3, 7. "
        "Correct the ids, or export the file again."
    )


def test_a_set_without_objects_is_kept_and_huge_numbers_are_invalid(coco: Make) -> None:
    coco([[3, [1, 2, 3, 4]], [3, [10**400, 0, 1, 1]]], file="train.json", folder="train")
    root = coco([], [], file="val.json", folder="val")
    whole = decoded(root)
    assert whole.val is not None
    assert whole.val.targets.shape == (2, 0, 6)
    assert len(whole.fingerprint) == 16
    assert whole.train.targets.shape == (1, 1, 6)


def test_categories_of_several_files_are_joined(coco: Make) -> None:
    row = [3, [1, 2, 3, 4]]
    coco([row], file="train/a.json", folder="train", categories=[{"id": 3, "name": "cat"}])
    root = coco([row], file="val/a.json", folder="val", categories=[{"id": 3, "name": "dog"}])
    whole = decoded(root)
    assert whole.classes == ("cat", "dog")
    assert whole.val is not None
    assert boxes_of(whole.val, "val/0.png")[0][4] == 1
    assert layout_of(root).notes[1] == (
        "note: the categories of the annotation files differ; all 2 of them are used."
    )


# YOLO


def test_yolo_folders_by_their_names(yolo: Make) -> None:
    root = yolo(BOX + "2 0.1 0.1 0.2 0.2\n", "", None, "1 0.5 0.5 1 1")
    whole = decoded(root)
    assert whole.classes == ("class 0", "class 1", "class 2")
    assert boxes_of(whole.train, "images/0.png") == [[10, 9, 30, 21, 0, 0], [0, 0, 8, 6, 2, 0]]
    assert [len(boxes) for boxes in whole.train.targets] == [2, 0, 0, 1]
    assert recognise(root) == "it has YOLO label files"
    assert notes_of(root) == [
        "note: the task is detection, because it has YOLO label files (--task overrides it).",
        "note: no file names the classes ('data.yaml' or 'classes.txt').",
        "note: boxes are read from YOLO label files; 2 images have no object (first: images/1.png, "
        "images/2.png).",
        "warning: 1 image has no label file (first: images/2.png); each is taken for an image "
        "without objects.",
    ]
    (root / "labels" / "classes.txt").write_text("a\nb\nc\n\n")
    assert decoded(root).classes == ("a", "b", "c")
    (root / "classes.txt").write_text("a\nb\n")
    assert refusal(root) == (
        "'classes.txt' and 'labels/classes.txt' name different classes. Keep only one of these "
        "files."
    )


def test_missing_label_files_are_named(yolo: Make) -> None:
    root = yolo(None, None)
    (root / "data.yaml").write_text("names: [cat, dog]\n")
    assert recognise(root) == "'data.yaml' names classes for boxes"
    assert refusal(root) == (
        "no image has a label file (expected for example '0.txt' in a folder 'labels', or beside "
        "the image). Add the label files, or name the folder that contains them."
    )


@pytest.mark.parametrize("form", ["{role}/{part}", "{part}/{role}", "{role}/{part}2017"])
def test_yolo_parts_by_the_names_of_folders(yolo: Make, form: str) -> None:
    root = Path()
    for part, texts in (("train", (BOX, BOX)), ("val", (BOX,)), ("test", (None,))):
        places = {role: form.format(role=role, part=part) for role in ("images", "labels")}
        root = yolo(*texts, **places)
    layout = layout_of(root)
    assert [len(members) for members in layout.parts.values()] == [2, 1]
    assert "note: the test set has no annotations." in layout.notes[-1], "not an empty set"


def test_the_description_names_classes_and_sets(yolo: Make) -> None:
    yolo(BOX, BOX, images="a/images", labels="a/labels")
    yolo(BOX, images="b/images", labels="b/labels")
    root = yolo(BOX, BOX, images="c/images", labels="c/labels")
    (root / "data.yaml").write_text(
        "path: /home/me/datasets/pets\ntrain: ../a/images\nval: [b/images]\ntest: test/images\n"
        "nc: 2\nnames: [cat, dog]\n"
    )
    layout = layout_of(root)
    assert recognise(root) == "'data.yaml' names classes for boxes"
    assert layout.classes == ("cat", "dog")
    assert {part: len(members) for part, members in layout.parts.items()} == {"train": 2, "val": 1}
    assert root / "data.yaml" in layout.files
    assert layout.notes[1:] == [
        "warning: 'data.yaml' names no images that are in the folder as the test set, so another "
        "set is drawn from the training images.",
        "note: 2 images are left out, being in none of the lists of the sets "
        "(first: c/images/0.png, c/images/1.png).",
    ]
    (root / "data.yaml").write_text("names:\n  0: cat\n  2: dog\ntrain: nowhere\n")
    assert layout_of_error(root) == (
        "'data.yaml' names no training images that are in the folder (train: nowhere). Correct the "
        "entry."
    )
    (root / "data.yaml").write_text("names:\n  0: cat\n  2: dog\ntrain: a\nval: a/images\n")
    layout = layout_of(root)
    assert layout.classes == ("cat", "class 1", "dog")
    assert list(layout.parts) == ["train"]
    assert "names the training images as the validation set" in layout.notes[1]


def layout_of_error(root: Path) -> str:
    with pytest.raises(DataError) as error:
        layout_of(root)
    return str(error.value)


def test_the_sets_of_lists(yolo: Make) -> None:
    root = yolo(*[BOX] * 5)
    (root / "sets.yml").write_text("names: [cat]\ntrain: train.txt\nval: val.txt\n")
    (root / "train.txt").write_text("./images/0.png\n/far/away/images/1.png\nimages/9.png\n")
    (root / "val.txt").write_text("images/2.png\nimages/0.png\n")
    assert refusal(root).splitlines() == [
        "1 image is in several sets of 'sets.yml' (first: images/0.png). Keep each in one set.",
        "1 entry of the lists has no image (first: images/9.png). Add what is missing, or leave it "
        "out with --skip-bad.",
    ]
    (root / "val.txt").write_text("images/2.png\n")
    layout = layout_of(root, skip_bad=True)
    assert [len(members) for members in layout.parts.values()] == [2, 1]
    assert root / "val.txt" in layout.files


def test_bad_label_files(yolo: Make) -> None:
    root = yolo(BOX, "5 0.5 0.5 0.1 0.1", "0 0.5 0.5 0.1", "x 0 0 0 0", "0 20 30 40 50", BOX)
    (root / "classes.txt").write_text("cat\ndog\n")
    (root / "labels" / "lone.txt").write_text(BOX)
    assert refusal(root).splitlines() == [
        "1 label file has no image (first: labels/lone.txt). Add what is missing, or leave it out "
        "with --skip-bad.",
        "1 annotation file has an unknown class number (first: labels/1.txt: line 1 has 5, but "
        "'classes.txt' names 2 classes). Correct it, or leave out its image with --skip-bad.",
        "2 annotation files cannot be read (first: labels/2.txt: line 1 has 4 values instead of 5: "
        "class x y width height). Correct them, or leave out their images with --skip-bad.",
        "1 annotation file has coordinates in pixels (first: labels/4.txt: line 1; they must be "
        "divided by the image's sides). Correct it, or leave out its image with --skip-bad.",
    ]
    assert decoded(root, skip_bad=True).train.names == ("images/0.png", "images/5.png")


def test_polygons_become_the_boxes_around_them(yolo: Make) -> None:
    root = yolo("0 0.25 0.5 0.75 0.5 0.5 1.0\n0 nan 0.5 0.5 0.5\n0 0.5 0.5 inf 0.1", BOX)
    assert boxes_of(decoded(root).train, "images/0.png") == [[10, 15, 30, 30, 0, 0]]


def test_images_of_equal_names_are_a_problem(yolo: Make, draw: Callable[..., None]) -> None:
    root = yolo(BOX, BOX)
    draw(root / "images" / "1.jpg")
    assert refusal(root) == (
        "1 image has the name of another one (first: images/1.png), so it is unclear which "
        "annotations belong to which image. Rename or remove them."
    )


@pytest.mark.parametrize(
    "text",
    [
        "names: {a: b}",
        "names: {.inf: b}",
        "names: {-1: b}",
        "names: [[a, b]]",
        "[1, 2]",
        "names: 3",
    ],
)
def test_files_that_name_no_classes_are_no_description(yolo: Make, text: str) -> None:
    root = yolo(BOX, BOX)
    (root / "data.yaml").write_text(text)
    assert layout_of(root).classes == ("class 0",)


# Recognition, and the way through the cache


def test_folders_of_other_tasks_are_not_recognised(
    coco: Make, yolo: Make, draw: Callable[..., None], tmp_path: Path
) -> None:
    classes, masks, shapes = (tmp_path / name for name in ("classes", "masked", "shapes"))
    for number in range(3):
        draw(classes / "cat" / f"{number}.png")
        draw(classes / "dog" / f"{number}.png")
        draw(masks / "images" / f"{number}.png")
        (masks / "masks").mkdir(exist_ok=True)
        Image.fromarray(np.eye(30, 40, dtype=np.uint8)).save(masks / "masks" / f"{number}.png")
        draw(shapes / "images" / f"{number}.png")
    (classes / "data.yaml").write_text("names: [cat, dog]\n")
    (classes / "cat" / "0.txt").write_text("a cat on a mat\n")
    (masks / "classes.txt").write_text("background\nforeground\n")
    (shapes / "annotations.json").write_text(
        '{"images": [], "annotations": [{"segmentation": []}], "categories": []}'
    )
    assert [recognise(root) for root in (classes, masks, shapes)] == [""] * 3
    assert recognise(tmp_path / "nowhere") == ""
    assert layout_of_error(masks).startswith("there are no images with boxes in ")
    assert sources.recognise_task("folder", str(masks)) == "segmentation"
    assert sources.recognise_task("folder", str(classes)) == "classification"


def test_annotations_of_images_in_class_folders_are_not_recognised(coco: Make) -> None:
    coco([[3, [1, 2, 3, 4]]], folder="cats")
    root = coco([[3, [1, 2, 3, 4]]], folder="dogs")
    assert recognise(root) == ""


def test_the_task_is_recognised(voc: Make) -> None:
    assert sources.recognise_task("folder", str(voc([DOG], [DOG]))) == "detection"


def test_images_and_boxes_come_back_from_the_cache(
    yolo: Make, draw: Callable[..., None], tmp_path: Path
) -> None:
    root = yolo(*[BOX, "", BOX + "0 0.1 0.1 0.1 0.1"] * 8)
    draw(root / "images" / "1.png", 33, 30)
    first, second = (load(config_of(root)) for _ in range(2))
    assert first.fingerprint == second.fingerprint
    assert first.remarks == second.remarks
    for before, after in zip(first.train.targets, second.train.targets, strict=True):
        assert np.array_equal(before, after)
    (root / "labels" / "1.txt").write_text("0 0.5 0.5 0.3 0.3")
    assert load(config_of(root)).fingerprint != first.fingerprint
