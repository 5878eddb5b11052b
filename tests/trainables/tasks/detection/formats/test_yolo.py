"""Label files of YOLO and Darknet as programs export them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from trainables.tasks.detection.reading import recognise

from .helpers import boxes_of, decoded, layout_of, names_by_part, refusal

Make = Callable[..., Path]
BOX = "0 0.5 0.5 0.5 0.4\n"


def test_key_points_are_no_polygons(yolo: Make) -> None:
    points = " ".join(["0.9 0.9 2"] * 17)
    root = yolo(f"0 0.5 0.5 0.5 0.4 {points}\n", BOX)
    (root / "data.yaml").write_text("names: [person]\nkpt_shape: [17, 3]\n")
    train = decoded(root).train
    assert boxes_of(train, "images/0.png") == [[10, 9, 30, 21, 0, 0]]
    assert boxes_of(train, "images/1.png") == [[10, 9, 30, 21, 0, 0]]
    assert recognise(root) == "'data.yaml' names classes for boxes"
    (root / "labels" / "1.txt").write_text("0 0.5 0.5 0.5 0.4 0.1 0.1\n")
    assert (
        "labels/1.txt: line 1 has 7 values instead of 56: class x y width height and 51 values of "
        "key points"
    ) in refusal(root)


@pytest.mark.parametrize("shape", ["17", "[17]", "[a, 3]", "[-1, 3]"])
def test_other_shapes_of_key_points_are_ignored(yolo: Make, shape: str) -> None:
    root = yolo(BOX, BOX)
    (root / "data.yaml").write_text(f"names: [person]\nkpt_shape: {shape}\n")
    assert layout_of(root).classes == ("person",)


@pytest.mark.parametrize("file", ["data.yaml", "classes.txt"])
def test_equal_names_are_refused(yolo: Make, file: str) -> None:
    root = yolo(BOX, BOX)
    (root / file).write_text("names: [car, car]\n" if file == "data.yaml" else "car\ncar\n")
    assert refusal(root) == (
        f"'{file}' has 2 classes with the name 'car', but names must be different. Rename them, or "
        "use one number in the label files."
    )


def test_names_stay_texts(yolo: Make) -> None:
    root = yolo(BOX, BOX)
    (root / "data.yaml").write_text("names: {0: on, 1: off, 3: 1.10}\n")
    assert layout_of(root).classes == ("on", "off", "class 2", "1.10")
    (root / "data.yaml").write_text("names: [yes, no, 07, ~]\n")
    assert layout_of(root).classes == ("yes", "no", "07", "~")


def test_tags_run_no_code(yolo: Make) -> None:
    root = yolo(BOX, BOX)
    marker = root / "marker"
    (root / "data.yaml").write_text(f"names: !!python/object/apply:os.mkdir ['{marker}']\n")
    assert layout_of(root).classes == (str(marker),)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (
            b'names: [cat]\npath: "C:\\data\\x"\n',
            "'data.yaml' cannot be parsed: line 2: found unknown escape character 'd'. Correct "
            "the line; write a path with \\ between single quotes.",
        ),
        (b"names: [\n", "'data.yaml' cannot be parsed: line 2: expected the node content"),
        (b"a: 1\nb: \0\n", "line 2: it has a character that is not allowed"),
        pytest.param(b"[" * 900, "it is nested too deeply", id="nested"),
        (
            "names:\n- K\u00e4fer\n".encode("latin-1"),
            "'data.yaml' cannot be read: line 2 is not UTF-8. Save the file as UTF-8 text.",
        ),
    ],
)
def test_a_damaged_description_is_refused(yolo: Make, content: bytes, text: str) -> None:
    root = yolo(BOX, BOX, images="", labels="")
    (root / "data.yaml").write_bytes(content)
    assert recognise(root) == "it has YOLO label files"
    message = refusal(root)
    assert text in message
    assert "\n" not in message


def test_which_yaml_file_must_be_readable(yolo: Make) -> None:
    root = yolo(BOX, BOX)
    (root / "pets.yml").write_text("names: [")
    assert "'pets.yml' cannot be parsed: line 1" in refusal(root)
    (root / "model.yaml").write_text("names: [cat]")
    assert layout_of(root).classes == ("cat",), "another file is the description"


# Darknet


def darknet(yolo: Make, first: str, second: str) -> Path:
    """Write the archive that CVAT exports as `YOLO 1.1`, with its images."""
    yolo(BOX, BOX, images=first, labels=first)
    root = yolo(BOX, images=second, labels=second, start=2)
    (root / "obj.names").write_text("cat\ndog\n")
    return root


@pytest.mark.parametrize(
    ("first", "second", "part"),
    [
        ("obj_train_data", "obj_valid_data", "val"),
        ("obj_Train_data", "obj_Validation_data", "val"),
        ("obj_Train_data", "obj_Test_data", "test"),
    ],
)
@pytest.mark.parametrize("lists", ["no file", "training list", "missing lists"])
def test_the_folders_of_darknet_are_parts(
    yolo: Make, first: str, second: str, part: str, lists: str
) -> None:
    root = darknet(yolo, first, second)
    if lists != "no file":
        (root / "obj.data").write_text(
            "classes = 2\ntrain = data/train.txt\nnames = data/obj.names\nbackup = backup/\n"
        )
    if lists == "training list":
        (root / "train.txt").write_text(f"data/{first}/0.png\ndata/{first}/1.png\n")
    layout = layout_of(root)
    assert names_by_part(layout) == {
        "train": [f"{first}/0.png", f"{first}/1.png"],
        part: [f"{second}/2.png"],
    }
    assert layout.classes == ("cat", "dog")
    assert recognise(root) == (
        "it has YOLO label files" if lists == "no file" else "'obj.data' names classes for boxes"
    )
    assert not layout.problems


def test_the_lists_of_darknet(yolo: Make) -> None:
    root = yolo(*[BOX] * 3, images="data/obj", labels="data/obj")
    data = root / "data"
    (data / "obj.data").write_text(
        "classes= 1\ntrain  = data/train.txt\nvalid  = data/test.txt\nnames = data/pets.names\n"
    )
    (data / "pets.names").write_text("cat\n")
    (data / "train.txt").write_text("data/obj/0.png\ndata/obj/1.png\n")
    (data / "test.txt").write_text("data/obj/2.png\n")
    layout = layout_of(root)
    assert names_by_part(layout) == {
        "train": ["data/obj/0.png", "data/obj/1.png"],
        "val": ["data/obj/2.png"],
    }
    assert layout.classes == ("cat",)
    assert {"obj.data", "pets.names", "train.txt"} <= {path.name for path in layout.files}
    (data / "test.txt").write_text("data/obj/2.png\ndata/obj/8.png\ndata/obj/9.png\n")
    assert refusal(root) == (
        "2 entries of the lists have no image (first: data/data/obj/8.png, data/data/obj/9.png). "
        "Add what is missing, or leave them out with --skip-bad."
    )
    (data / "pets.names").unlink()
    (data / "test.txt").write_text("data/obj/2.png\n")
    layout = layout_of(root)
    assert layout.classes == ("class 0",)
    assert "note: no file names the classes ('data.yaml' or 'classes.txt')." in layout.notes


# Recognition


@pytest.mark.parametrize("first", ["\n", "0 20 30 40 50\n", "1 2 3\n"])
def test_one_bad_label_file_does_not_decide(yolo: Make, first: str) -> None:
    root = yolo(first, BOX, BOX)
    assert recognise(root) == "it has YOLO label files"


def test_a_description_with_label_files_decides(yolo: Make) -> None:
    root = yolo(*["0 20 30 40 50\n"] * 30, images="", labels="")
    assert recognise(root) == ""
    (root / "data.yaml").write_text("names: [cat]\n")
    assert recognise(root) == "'data.yaml' names classes for boxes"
    for number in range(30):
        (root / f"{number}.txt").write_text("a cat on a mat\n")
    assert recognise(root) == "", "captions"


@pytest.mark.parametrize("source", ["data.yaml", "classes.txt"])
def test_class_folders_with_label_files_remain_classes(yolo: Make, source: str) -> None:
    yolo(BOX, BOX, images="Cat", labels="Cat")
    root = yolo(BOX, BOX, images="dog", labels="dog", start=2)
    (root / source).write_text("names: [cat, dog]" if source == "data.yaml" else "cat\ndog\n")
    assert recognise(root) == ""
    (root / source).write_text("names: [cat, mouse]" if source == "data.yaml" else "cat\nmouse\n")
    assert recognise(root) != ""
