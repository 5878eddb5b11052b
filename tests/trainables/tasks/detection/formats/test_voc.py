"""Pascal VOC annotations as programs export them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from trainables.tasks.detection.reading import recognise

from .conftest import xml_of
from .helpers import boxes_of, decoded, layout_of, refusal

Make = Callable[..., Path]
DOG = ("dog", 1, 1, 10, 20)


@pytest.mark.parametrize("corner", [(0, 5), (5, 0), (5, 0.4)])
def test_a_box_that_begins_at_zero_moves_all_boxes(voc: Make, corner: tuple[float, float]) -> None:
    root = voc([DOG, ("dog", 4, 4, 4, 9)], [("dog", *corner, 20, 20)])
    train = decoded(root).train
    assert boxes_of(train, "JPEGImages/0.png") == [[1, 1, 10, 20, 0, 0]]
    assert boxes_of(train, "JPEGImages/1.png") == [
        [round(edge, 4) for edge in (*corner, 20, 20, 0, 0)]
    ]
    assert layout_of(root).form == (
        "Pascal VOC annotations (pixels are counted from 0, because a box begins at 0)"
    )


def test_a_negative_edge_moves_no_boxes(voc: Make) -> None:
    root = voc([DOG], [("dog", -3, 1, 20, 20)])
    assert boxes_of(decoded(root).train, "JPEGImages/0.png") == [[0, 0, 10, 20, 0, 0]]


def test_one_bad_annotation_file_does_not_decide(voc: Make) -> None:
    root = voc([DOG], [DOG], [DOG])
    (root / "Annotations" / "0.xml").write_text("<annotation>")
    assert recognise(root) == "it has Pascal VOC annotations"
    for number in range(3):
        (root / "Annotations" / f"{number}.xml").write_text("<html/>")
    assert recognise(root) == ""


def test_class_folders_with_annotations_remain_classes(voc: Make) -> None:
    voc([DOG], [DOG], place="dog", inner=False)
    root = voc([("Cat", *DOG[1:])], [("Cat", *DOG[1:])], place="cat", inner=False)
    assert recognise(root) == ""
    for number in range(2):
        (root / "cat" / f"{number}.xml").write_text(xml_of([DOG]))
    assert recognise(root) == "it has Pascal VOC annotations", "only one folder is a class"


def test_the_plural_of_entries(voc: Make) -> None:
    root = voc([DOG], [DOG])
    lists = root / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("0\n1\n8\n9\n")
    assert refusal(root) == (
        "2 entries of the lists in ImageSets/Main have no image (first: 8, 9). Add what is "
        "missing, or leave them out with --skip-bad."
    )
