"""COCO annotations, compared with masks that were drawn in another way."""

import json

import numpy as np
import pytest

from trainables.config import DataConfig
from trainables.datasets import sources
from trainables.datasets.load import with_root
from trainables.errors import DataError
from trainables.tasks.segmentation.formats.coco import decode_runs, decompress_runs

HEIGHT, WIDTH = 14, 18
CATEGORIES = [{"id": 7, "name": "car"}, {"id": 3, "name": "road"}]


def runs_of(mask):
    """Return the run lengths of a mask, down the columns, beginning with those outside."""
    values = mask.T.ravel()
    ends = np.flatnonzero(np.diff(values)) + 1
    lengths = np.diff([0, *ends, len(values)]).tolist()
    return [0, *lengths] if values[0] else lengths


def compressed(lengths):
    """Compress run lengths as `rleToString` of pycocotools does."""
    text = ""
    for place, length in enumerate(lengths):
        value = length - lengths[place - 2] if place > 2 else length
        while True:
            bits, value = value & 31, value >> 5
            is_last = value == (-1 if bits & 16 else 0)
            text += chr(48 + bits + (0 if is_last else 32))
            if is_last:
                break
    return text


def rectangle(left, top, right, bottom):
    return [left, top, right, top, right, bottom, left, bottom]


@pytest.fixture
def annotate(tmp_path, pair, write):
    """Write images, and annotations with these shapes, each as (category, segmentation)."""

    def make(*shapes, name="annotations.json", count=4, folder="images"):
        for number in range(count):
            write(tmp_path / folder / f"{number}.png", pair(number)[0])
        images = [
            {"id": number + 50, "file_name": f"{number}.png", "height": HEIGHT, "width": WIDTH}
            for number in range(count)
        ]
        annotations = [
            {"id": place, "image_id": 50, "category_id": category, "segmentation": shape}
            for place, (category, shape) in enumerate(shapes)
        ]
        content = {"images": images, "annotations": annotations, "categories": CATEGORIES}
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(json.dumps(content))
        return tmp_path

    return make


def decoded(root, **values):
    return sources.decode(DataConfig(name="folder", root=str(root), task="segmentation", **values))


def test_polygons_and_runs_are_drawn_and_later_shapes_cover_earlier_ones(annotate):
    blob = np.zeros((HEIGHT, WIDTH), bool)
    blob[6:12, 1:4] = blob[0, 0] = True
    corner = np.zeros((HEIGHT, WIDTH), bool)
    corner[10:, 15:] = True
    root = annotate(
        (3, [rectangle(2, 1, 9, 8), rectangle(12, 2, 14, 4)]),
        (7, [rectangle(5, 3, 7, 12)]),
        (3, {"size": [HEIGHT, WIDTH], "counts": runs_of(blob)}),
        (7, {"size": [HEIGHT, WIDTH], "counts": compressed(runs_of(corner))}),
    )
    expected = np.zeros((HEIGHT, WIDTH), np.uint8)
    expected[1:8, 2:9] = expected[2:4, 12:14] = 1
    expected[3:12, 5:7] = 2
    expected[blob] = 1
    expected[corner] = 2
    assert with_root(DataConfig(), f"folder:{root}", "").task == "segmentation"
    whole = decoded(root)
    assert whole.classes == ("background", "road", "car")
    assert np.array_equal(whole.train.targets[0], expected)
    assert not whole.train.targets[1:].any()


def test_a_slanted_polygon_has_the_pixels_whose_centres_are_inside(annotate):
    triangle = [(1.0, 1.0), (15.3, 3.1), (6.2, 12.7)]
    root = annotate((3, [[value for corner in triangle for value in corner]]))
    down, across = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    sides = [
        (x2 - x1) * (down - y1) - (y2 - y1) * (across - x1)
        for (x1, y1), (x2, y2) in zip(triangle, triangle[1:] + triangle[:1], strict=True)
    ]
    assert np.array_equal(decoded(root).train.targets[0], np.all(np.array(sides) > 0, axis=0))


def test_compressed_runs_are_those_of_other_programs():
    generator = np.random.default_rng(3)
    for _ in range(20):
        mask = generator.random((40, 70)) < generator.random() ** 3
        lengths = runs_of(mask.astype(np.uint8))
        assert decompress_runs(compressed(lengths)) == lengths
        assert np.array_equal(decode_runs(compressed(lengths), (40, 70)), mask)


def test_the_file_names_the_part(annotate):
    annotate((3, [rectangle(2, 1, 9, 8)]), name="annotations/instances_train2017.json", folder="a")
    root = annotate(
        (3, [rectangle(2, 1, 9, 8)]), name="annotations/instances_val2017.json", count=2, folder="b"
    )
    for number in range(2):
        (root / "a" / f"{number}.png").unlink()
    with pytest.raises(DataError, match="can be several files, or are listed twice"):
        decoded(root)


def test_images_of_a_part_are_those_in_its_folder(annotate):
    annotate((3, [rectangle(2, 1, 9, 8)]), name="instances_train.json", folder="images/train")
    root = annotate((7, [rectangle(2, 1, 9, 8)]), name="instances_val.json", folder="images/val")
    whole = decoded(root)
    assert {name: part.targets.max() for name, part in whole.parts.items()} == {
        "train": 1,
        "val": 2,
    }


def test_files_that_are_missing_are_named(annotate):
    root = annotate((3, [rectangle(2, 1, 9, 8)]))
    (root / "images/2.png").unlink()
    (root / "images/3.png").rename(root / "images/other.png")
    with pytest.raises(DataError) as error:
        decoded(root)
    assert "2 masks have no image (first: 2.png, 3.png)" in str(error.value)
    assert "1 image has no entry in the annotations (first: images/other.png)" in str(error.value)


def test_annotations_of_another_size_are_named(annotate, write):
    root = annotate((3, [rectangle(2, 1, 9, 8)]))
    write(root / "images/1.png", np.zeros((20, 30, 3), np.uint8))
    with pytest.raises(DataError, match=r"images/1\.png: 18 x 14 instead of 30 x 20"):
        decoded(root)


def test_damaged_annotations_are_named(annotate):
    root = annotate((3, [rectangle(2, 1, 9, 8)]), (9, [rectangle(2, 1, 9, 8)]))
    with pytest.raises(
        DataError, match=r"^'annotations\.json' cannot be read as COCO .*KeyError: 9"
    ):
        decoded(root)
    root = annotate((3, {"size": [HEIGHT, WIDTH], "counts": [3, 4]}))
    with pytest.raises(DataError, match=r"a shape in its annotations is damaged .*images/0\.png"):
        decoded(root)


def test_boxes_alone_are_not_segmentation(tmp_path, annotate):
    root = annotate()
    assert with_root(DataConfig(), f"folder:{root}", "").task == "classification"
