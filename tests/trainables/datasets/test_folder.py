"""Folders of images as people have them, good and bad."""

import os
import re
import shutil
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile

from trainables.config import DataConfig
from trainables.datasets import sources
from trainables.datasets.arrays import MAX_LEFT_OUT, LeftOut
from trainables.datasets.images import SUFFIXES, decode, header
from trainables.datasets.load import load
from trainables.datasets.names import NO_CLASS, key_of
from trainables.errors import DataError
from trainables.tasks.classification import reading as folder
from trainables.tasks.classification.parts import layout_of


def decoded(root, **values):
    return sources.decode(DataConfig(name="folder", root=str(root), **values))


def loaded(root, **values):
    return load(DataConfig(name="folder", root=str(root), **values))


def refused(text):
    return pytest.raises(DataError, match=f"^{re.escape(text)}$")


@pytest.fixture
def two(tmp_path, write_images):
    """Two classes of five colour images, 9 wide and 8 high."""
    for name in ("cat", "dog"):
        write_images(tmp_path / "images" / name, 5)
    return tmp_path / "images"


# What is read


def test_no_folder_is_not_the_working_folder(two, monkeypatch):
    monkeypatch.chdir(two)
    with refused("the data set has no folder (data.root is empty). Use --data folder:PATH."):
        loaded("")


def test_each_sub_folder_is_a_class_and_images_keep_their_common_size(two):
    found = decoded(two)
    assert found.classes == ("cat", "dog")
    assert found.test is None
    assert found.train.images.shape == (10, 8, 9, 3)
    assert found.train.targets.tolist() == [0] * 5 + [1] * 5
    assert loaded(two).image == (3, 8, 9)


def test_pixels_are_those_of_the_files(two):
    expected = [
        np.asarray(Image.open(path).convert("RGB"))
        for name in ("cat", "dog")
        for path in sorted((two / name).iterdir())
    ]
    assert np.array_equal(decoded(two).train.images, expected)


def test_train_and_test_folders_are_the_parts(tmp_path, write_images):
    for part, count in (("train", 6), ("test", 3)):
        for name in ("a", "b"):
            write_images(tmp_path / part / name, count)
    found = decoded(tmp_path)
    assert found.classes == ("a", "b")
    assert (len(found.train), len(found.test)) == (12, 6)
    dataset = loaded(tmp_path)
    assert np.array_equal(dataset.test.images, found.test.images)
    assert len(dataset.train) + len(dataset.val) == 12


def test_a_train_folder_alone_gives_its_test_part_away(tmp_path, write_images):
    for name in ("a", "b"):
        write_images(tmp_path / "train" / name, 10)
    dataset = loaded(tmp_path)
    assert dataset.classes == ("a", "b")
    assert [len(part) for part in (dataset.train, dataset.val, dataset.test)] == [12, 4, 4]


def test_grey_images_stay_one_channel(tmp_path, write_images):
    for name in ("a", "b"):
        write_images(tmp_path / name, 3, mode="L")
    assert loaded(tmp_path).image == (1, 8, 9)


def test_grey_and_colour_images_together_become_colour(tmp_path, write_images):
    (grey, *_) = write_images(tmp_path / "a", 3, mode="L")
    write_images(tmp_path / "b", 3, mode="RGB")
    found = decoded(tmp_path)
    assert found.train.images.shape[3] == 3
    assert np.array_equal(found.train.images[0], np.asarray(Image.open(grey).convert("RGB")))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK"])
def test_images_of_every_mode_are_read(mode, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(3):
            Image.new("RGB", (6, 5), (number, 50, 90)).convert(mode).save(
                tmp_path / name / f"{number}.{'tif' if mode == 'CMYK' else 'png'}"
            )
    assert loaded(tmp_path).image == (1 if mode in ("1", "L", "LA") else 3, 5, 6)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_of_grey_are_brought_to_eight(suffix, tmp_path):
    levels = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(3):
            Image.fromarray(levels).save(tmp_path / name / f"{number}.{suffix}")
    image = decoded(tmp_path).train.images[0]
    assert image.shape == (8, 8, 1)
    np.testing.assert_allclose(image[..., 0], levels / 257, atol=1)


def write_deep(root, images, suffix="tif"):
    """Write two classes of images with these values, in turn."""
    for number, values in enumerate(images):
        path = root / "ab"[number % 2] / f"{number}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values).save(path)


def ramps(low, high, kind, count=6):
    """Images that grow from `low` to `high`, the first of them dark, the last bright."""
    values = np.linspace(low, high, 64 * count).reshape(count, 8, 8)
    return values.astype(kind)


DEEP = {
    "12 bits in 16": (
        "png",
        ramps(0, 4095, np.uint16),
        "all 16-bit images are scaled together: values from 0 to 4095",
    ),
    "a scanner's": (
        "tif",
        ramps(31000, 33000, np.uint16),
        "all 16-bit images are scaled together: values from 31000 to 33000",
    ),
    "whole numbers with a sign": (
        "tif",
        ramps(-1024, 3071, np.int32),
        "all 32-bit images are scaled together: values from -1024 to 3071",
    ),
    "floats to 1": (
        "tif",
        ramps(0, 1, np.float32),
        "all floating-point images are scaled together: values from 0 to 1",
    ),
    "small floats": (
        "tif",
        ramps(-2e-3, 5e-3, np.float32),
        "all floating-point images are scaled together: values from -0.002 to 0.005",
    ),
}


@pytest.mark.parametrize(("suffix", "images", "told"), DEEP.values(), ids=DEEP)
def test_images_of_more_than_8_bits_are_scaled_by_the_range_of_all_together(
    suffix, images, told, tmp_path
):
    write_deep(tmp_path, images, suffix)
    found = decoded(tmp_path)
    order = [0, 2, 4, 1, 3, 5]
    assert found.train.images.shape == (6, 8, 8, 1)
    shares = (images[order].astype(float) - images.min()) / (
        float(images.max()) - float(images.min())
    )
    np.testing.assert_allclose(found.train.images[..., 0], 255 * shares, atol=1)
    assert len(np.unique(found.train.images)) > 200
    assert found.remarks == (f"note: {told} become 0 to 255.",)
    assert found.value_range == (pytest.approx(images.min()), pytest.approx(images.max()))


def test_values_that_change_together_are_another_data_set(tmp_path):
    """The pixels are the same then, their meaning is not."""
    write_deep(tmp_path / "one", ramps(0, 100, np.float32))
    write_deep(tmp_path / "two", 2 * ramps(0, 100, np.float32))
    one, two = loaded(tmp_path / "one"), loaded(tmp_path / "two")
    assert np.array_equal(one.train.images, two.train.images)
    assert one.fingerprint != two.fingerprint


def test_the_range_is_cached_with_the_images(tmp_path):
    write_deep(tmp_path, ramps(0, 4095, np.uint16))
    first, second = loaded(tmp_path), loaded(tmp_path)
    assert first.remarks == second.remarks != ()
    assert first.value_range == second.value_range == (0, 4095)
    assert first.fingerprint == second.fingerprint


def test_outliers_that_leave_few_levels_are_told(tmp_path):
    images = np.tile(ramps(0, 100, np.float32), (1, 40, 40))
    images[0, 0, 0] = 10_000
    write_deep(tmp_path, images)
    (told, warned) = decoded(tmp_path).remarks
    assert told.startswith(
        "note: all floating-point images are scaled together: values from 0 to 10000"
    )
    assert warned.startswith(
        "warning: 99.9 % of their pixels lie within 4 of the 256 levels: "
        "a few outliers stretch the range."
    )


def test_kinds_of_images_that_do_not_compare_are_refused(tmp_path, write_images):
    write_deep(tmp_path, ramps(0, 4095, np.uint16))
    write_images(tmp_path / "b", 2, mode="L")
    text = (
        "the images have different pixel types: 16-bit (6 images, first: a/0.tif) and 8-bit (2 "
        "images, first: b/L-9x8-0.png). Their brightness cannot be compared."
    )
    with refused(f"{text} Convert all images to the same type, for example to 8 bits."):
        loaded(tmp_path)


def test_all_of_16_bits_goes_together_with_8_bits(tmp_path):
    levels = ramps(0, 65535, np.uint16)
    write_deep(tmp_path, levels)
    Image.fromarray(np.full((8, 8), 77, np.uint8)).save(tmp_path / "b" / "x.png")
    found = decoded(tmp_path)
    assert np.array_equal(found.train.images[:3, ..., 0], levels[::2] // 257)
    assert (found.train.images[-1] == 77).all()
    assert found.remarks == (
        "note: there are 6 16-bit images and 1 8-bit image. Values from 0 to 65535 become 0 to "
        "255, and the 8-bit images are unchanged.",
    )


def test_values_that_are_no_numbers_are_unreadable(tmp_path):
    images = ramps(0, 1, np.float32, 8)
    images[3, 2, 2] = np.nan
    write_deep(tmp_path, images)
    with refused(
        "1 image cannot be read (first: b/3.tif: the image contains NaN or infinite values). "
        "Remove it, or leave it out with --skip-bad."
    ):
        loaded(tmp_path)
    assert loaded(tmp_path, skip_bad=True).value_range == (0, 1)


def test_images_of_one_value_are_refused(tmp_path):
    write_deep(tmp_path, np.full((6, 8, 8), 7, np.uint16))
    with refused(
        "every pixel of the 16-bit images has the value 7, so the images cannot be distinguished. "
        "Check that they were saved with their values."
    ):
        loaded(tmp_path)


def test_dark_16_bit_colour_images_are_refused(two):
    """Pillow gives their upper 8 bits alone."""
    for path in two.rglob("*.png"):
        path.write_bytes(colour_png(np.random.default_rng(1).integers(0, 4096, (8, 9, 3))))
    with refused(
        "only the upper 8 bits of the 16-bit colour images are read (first: cat/RGB-9x8-0.png), "
        "and their largest value is 15 of 255. "
        "Convert the images to 8 bits, scaled by their own range."
    ):
        loaded(two)


def test_bright_16_bit_colour_images_are_read(two):
    values = np.random.default_rng(1).integers(0, 65536, (8, 9, 3))
    for path in two.rglob("*.png"):
        path.write_bytes(colour_png(values))
    assert np.array_equal(decoded(two).train.images[0], values // 256)


def colour_png(values):
    """A PNG with 16 bits a value, which Pillow does not write."""

    def chunk(kind, content):
        return (
            struct.pack(">I", len(content))
            + kind
            + content
            + struct.pack(">I", zlib.crc32(kind + content))
        )

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("mode", "shape"), [("LA", (6, 8, 8, 1)), ("RGBA", (6, 8, 8, 3)), ("P", (6, 8, 8, 3))]
)
def test_what_is_transparent_becomes_white_and_is_told(mode, shape, tmp_path):
    """A black drawing on nothing would else be black on black."""
    alpha = np.zeros((8, 8), np.uint8)
    alpha[2:4] = 255
    for number in range(6):
        drawing = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
        drawing.putalpha(Image.fromarray(alpha))
        path = tmp_path / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        if mode == "P":
            flat = Image.fromarray((alpha == 0).astype(np.uint8), "P")
            flat.putpalette([0, 0, 0] * 256)
            flat.save(path, transparency=1)
        else:
            drawing.convert(mode).save(path)
    found = decoded(tmp_path)
    assert found.train.images.shape == shape
    assert (found.train.images == np.where(alpha, 0, 255)[None, ..., None]).all()
    assert found.remarks == (
        "note: 6 images are partly transparent; the background is made white (first: a/0.png).",
    )


@pytest.mark.parametrize("suffix", sorted(SUFFIXES))
def test_every_allowed_format_is_read_also_with_its_suffix_in_capitals(suffix, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(3):
            made = Image.new("RGB", (6, 5), (200, 50, 90))
            # Of the portable formats two have no colour.
            made = made.convert({".pgm": "L", ".pbm": "1"}.get(suffix, "RGB"))
            made.save(tmp_path / name / f"{number}{suffix if number else suffix.upper()}")
    found = decoded(tmp_path)
    expected = np.asarray(made.convert("RGB" if found.train.shape[3] == 3 else "L"))
    assert found.train.images.shape[:3] == (6, 5, 6)
    np.testing.assert_allclose(
        found.train.images, np.broadcast_to(expected.reshape(5, 6, -1), found.train.shape), atol=4
    )


def test_images_of_several_sizes_become_224_square(tmp_path, write_images):
    write_images(tmp_path / "a", 3, size=(9, 8))
    write_images(tmp_path / "b", 3, size=(8, 9))
    assert loaded(tmp_path).image == (3, 224, 224)


@pytest.mark.parametrize(("size", "shape"), [((224, 10), (3, 10, 224)), ((225, 10), (3, 224, 224))])
def test_a_common_size_is_kept_up_to_224_a_side(size, shape, tmp_path, write_images):
    for name in ("a", "b"):
        write_images(tmp_path / name, 3, size=size)
    assert loaded(tmp_path).image == shape


def test_image_size_resizes_each_image(two):
    (first, *_) = sorted((two / "cat").iterdir())
    expected = np.asarray(Image.open(first).resize((5, 5), Image.Resampling.BILINEAR))
    assert np.array_equal(decoded(two, image_size=5).train.images[0], expected)


def test_sub_folders_of_a_class_belong_to_it_and_other_files_are_left(two, write_images):
    write_images(two / "cat" / "from 2024", 2)
    write_images(two / ".thumbnails", 2)
    (two / "cat" / "notes.txt").write_text("not an image")
    (two / "readme.md").write_text("not a class")
    (two / "dog" / ".hidden.png").write_bytes(b"left by an editor")
    found = decoded(two)
    assert found.classes == ("cat", "dog")
    assert found.train.targets.tolist() == [0] * 7 + [1] * 5


def test_a_relative_root_is_read(two, monkeypatch):
    monkeypatch.chdir(two.parent)
    assert decoded("images").fingerprint == decoded(two).fingerprint


def test_odd_names_of_classes_and_files_are_read(tmp_path, write_images):
    for name in ("größe 1", "b'\"[x]"):
        for path in write_images(tmp_path / name, 3):
            path.rename(path.with_name(f"é {path.name}"))
    assert set(loaded(tmp_path).classes) == {"größe 1", "b'\"[x]"}


# Parts, and what is left out


def write_parts(root, write_images, **counts):
    for part, count in counts.items():
        for name in ("a", "b"):
            write_images(root / part / name, count)


@pytest.mark.parametrize(
    "names",
    [
        ("train", "val", "test"),
        ("Train", "VALID", "Test"),
        ("training_set", "validation_set", "test-set"),
        ("training", "validation", "testing"),
    ],
)
def test_a_given_validation_part_is_the_validation_part(names, tmp_path, write_images):
    write_parts(tmp_path, write_images, **dict(zip(names, (6, 2, 3), strict=True)))
    found, dataset = decoded(tmp_path), loaded(tmp_path)
    assert found.classes == ("a", "b")
    assert [len(part) for part in (dataset.train, dataset.val, dataset.test)] == [12, 4, 6]
    assert np.array_equal(dataset.val.images, found.val.images)
    assert np.array_equal(dataset.train.images, found.train.images)
    again = loaded(tmp_path)
    assert again.fingerprint == dataset.fingerprint == found.fingerprint
    assert np.array_equal(again.val.images, dataset.val.images)


def test_a_test_part_that_is_not_given_is_drawn_beside_a_given_validation_part(
    tmp_path, write_images
):
    write_parts(tmp_path, write_images, train=10, val=3)
    dataset = loaded(tmp_path)
    assert [len(part) for part in (dataset.train, dataset.val, dataset.test)] == [16, 6, 4]
    assert np.array_equal(dataset.val.images, decoded(tmp_path).val.images)


def test_what_validates_is_not_what_tests(tmp_path, write_images):
    """The same files under another part's name are another data set."""
    write_parts(tmp_path, write_images, train=4, val=3)
    first = loaded(tmp_path).fingerprint
    (tmp_path / "val").rename(tmp_path / "test")
    assert loaded(tmp_path).fingerprint != first


def test_folds_take_in_a_given_validation_part(tmp_path, write_images):
    write_parts(tmp_path, write_images, train=6, val=3, test=2)
    dataset = loaded(tmp_path, folds=3)
    assert [len(part) for part in (dataset.train, dataset.val, dataset.test)] == [18, 18, 4]
    assert dataset.remarks == (
        "note: the images of the data set's own validation set are divided among the folds too.",
    )
    assert loaded(tmp_path, folds=3, train_limit=12).train.targets.sum() == 6


def test_a_given_validation_part_is_limited_too_and_that_is_told(tmp_path, write_images):
    write_parts(tmp_path, write_images, train=6, val=8)
    dataset = loaded(tmp_path, val_limit=4)
    assert dataset.val.targets.tolist() == [0, 0, 1, 1]
    assert dataset.remarks == (
        "note: only 4 of the 16 validation images are used (--set data.val_limit=16 uses all of "
        "them).",
    )
    assert len(dataset.train) + len(dataset.test) == 12


def test_a_class_of_trains_is_a_class(tmp_path, write_images):
    for name in ("bus", "car", "train"):
        write_images(tmp_path / name, 3)
    assert loaded(tmp_path).classes == ("bus", "car", "train")


def test_folders_beside_parts_that_are_clear_are_left_out_and_told(tmp_path, write_images):
    write_parts(tmp_path, write_images, train=6, test=3)
    write_images(tmp_path / "masks", 3)
    dataset = loaded(tmp_path)
    assert dataset.classes == ("a", "b")
    assert dataset.remarks == (
        "note: 1 folder is left out, because only the training, validation and test folders are "
        "read (first: masks).",
    )


AMBIGUOUS = {
    "no training part": (
        ("val/a", "val/b", "test/a", "test/b"),
        "{root} has 'test' and 'val' but no 'train'. Name the folder of the training set 'train'.",
    ),
    "two of a kind": (
        ("train/a", "Training/a"),
        "{root} has two folders for the training set, 'Training' and 'train'. Keep only one of "
        "them.",
    ),
    "classes and a test part": (
        ("a", "b", "test"),
        "'test' in {root} has the name of a training, validation or test set, but 'a' beside "
        "looks like a class. If it is a set, move 'a' and all other classes into 'train'.",
    ),
    "classes and a part": (
        ("a", "train/a", "train/b"),
        "'train' in {root} has the name of a training, validation or test set, but 'a' beside "
        "looks like a class. If it is a set, move 'a' and all other classes into 'train'.",
    ),
}


@pytest.mark.parametrize(("folders", "text"), AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_what_may_be_a_part_or_a_class_is_refused(folders, text, tmp_path, write_images):
    for name in folders:
        write_images(tmp_path / name, 3)
    remedy = f"To read all folders as classes, put them into '{tmp_path / 'train'}'."
    with refused(f"{text.format(root=repr(str(tmp_path)))} {remedy}"):
        loaded(tmp_path)


def test_in_a_part_each_folder_is_a_class_whatever_its_name(tmp_path, write_images):
    for name in ("bus", "train", "val"):
        write_images(tmp_path / "train" / name, 3)
    assert loaded(tmp_path).classes == ("bus", "train", "val")


def test_what_is_not_read_is_counted_and_named(two, write_images):
    for name in ("b.xml", "a.xml", "notes", "x.psd"):
        (two / "cat" / name).write_bytes(b"not read")
    write_images(two, 1)
    write_images(two.parent / "elsewhere", 2)
    (two / "dog" / "more").symlink_to(two.parent / "elsewhere")
    formats = ", ".join(sorted(SUFFIXES))
    assert (
        loaded(two).remarks
        == loaded(two).remarks
        == (
            "warning: 1 image is not read: 1 .psd (first: cat/x.psd). Convert them to PNG or JPEG.",
            "note: 3 files are not read: 2 .xml, 1 without a suffix (first: cat/a.xml). "
            f"Supported formats: {formats}.",
            "warning: 1 image is left out, because only images in class folders are read (first: "
            "RGB-9x8-0.png).",
            "note: 1 linked folder is left out (first: dog/more). A link may replace the folder of "
            "a class or of a training, validation or test set, but not a folder inside a class, "
            "and must not lead back into the data.",
        )
    )
    (two / "cat" / "c.xml").write_bytes(b"not read")
    assert "4 files are not read" in loaded(two).remarks[1]


# EXIF


def turned(path, orientation, upright):
    """Save `upright` as a camera held otherwise does: turned, with a tag that says how to turn it
    back.
    """
    back = {
        3: Image.Transpose.ROTATE_180,
        6: Image.Transpose.ROTATE_90,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(upright).transpose(back).save(path, exif=exif)


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_images_are_turned_upright_as_their_exif_tag_says(orientation, suffix, tmp_path):
    upright = np.random.default_rng(0).integers(0, 256, (5, 8, 3), dtype=np.uint8)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(3):
            turned(tmp_path / name / f"{number}.{suffix}", orientation, upright)
    found = decoded(tmp_path)
    assert found.train.images.shape == (6, 5, 8, 3)
    assert all(np.array_equal(image, upright) for image in found.train.images)


@pytest.mark.parametrize("behind", [False, True])
def test_a_png_is_turned_wherever_its_exif_stands_and_not_decoded_for_it(
    behind, tmp_path, monkeypatch
):
    upright = np.random.default_rng(0).integers(0, 256, (5, 8, 3), dtype=np.uint8)
    turned(tmp_path / "x.png", 6, upright)
    if behind:
        content = (tmp_path / "x.png").read_bytes()
        start = content.index(b"eXIf") - 4
        end = start + 12 + int.from_bytes(content[start : start + 4], "big")
        last = content.index(b"IEND") - 4
        (tmp_path / "x.png").write_bytes(
            content[:start] + content[end:last] + content[start:end] + content[last:]
        )
    assert np.array_equal(decode(tmp_path / "x.png", None, "RGB"), upright)
    if not behind:
        monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: pytest.fail("decoded"))
    assert header(tmp_path / "x.png").size == (8, 5)


def test_a_photograph_is_decoded_small_and_close_to_what_it_is(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (15, 20, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((2000, 1500), Image.Resampling.BICUBIC).save(
        tmp_path / "x.jpg", quality=95
    )
    whole = np.asarray(Image.open(tmp_path / "x.jpg").resize((224, 224), Image.Resampling.BILINEAR))
    np.testing.assert_allclose(
        decode(tmp_path / "x.jpg", (224, 224), "RGB"), whole.astype(float), atol=4
    )


@pytest.mark.parametrize("size", [(1200, 800), (224, 300), (1300, 1000)])
def test_a_smaller_photograph_is_decoded_whole(size, tmp_path):
    Image.fromarray(
        np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    ).save(tmp_path / "x.jpg")
    side = 32 if size[0] * size[1] < 1_000_000 else 300
    whole = Image.open(tmp_path / "x.jpg").resize((side, side), Image.Resampling.BILINEAR)
    assert np.array_equal(decode(tmp_path / "x.jpg", (side, side), "RGB"), np.asarray(whole))


def test_turned_and_upright_photographs_of_one_size_keep_it(tmp_path):
    upright = np.full((5, 8, 3), 90, dtype=np.uint8)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        turned(tmp_path / name / "0.jpg", 6, upright)
        turned(tmp_path / name / "1.jpg", 8, upright)
        Image.fromarray(upright).save(tmp_path / name / "2.jpg")
    assert decoded(tmp_path).train.images.shape == (6, 5, 8, 3)


def exif_of(kind, value):
    """An EXIF block that holds an orientation of this type (2 is text, 3 a number, 7 anything) and
    these four bytes.
    """
    return b"Exif\0\0II*\0" + struct.pack(
        "<IHHHI4sI", 8, 1, 0x0112, kind, 1 if kind == 3 else 4, value, 0
    )


@pytest.mark.parametrize(
    "exif",
    [
        exif_of(3, b"\0\0\0\0"),
        exif_of(3, b"\x09\0\0\0"),
        exif_of(2, b"six\0"),
        exif_of(7, b"\6\0\0\0"),
    ],
    ids=["0", "9", "text", "bytes"],
)
def test_an_orientation_that_makes_no_sense_is_ignored(exif, two):
    Image.new("RGB", (9, 8)).save(two / "cat" / "odd.jpg", exif=exif)
    assert decoded(two).train.images.shape == (11, 8, 9, 3)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_a_broken_exif_block_is_ignored_or_refused_by_the_files_name(suffix, two):
    path = two / "cat" / f"z.{suffix}"
    Image.new("RGB", (9, 8)).save(path, exif=b"Exif\0\0no TIFF at all")
    try:
        found = decoded(two)
    except DataError as error:
        text = str(error)
    else:
        text = f"cat/z.{suffix}" if found.train.images.shape == (11, 8, 9, 3) else ""
    assert f"cat/z.{suffix}" in text


# What is refused


def png_of(width, height):
    """A tiny, valid PNG header that claims this size, with next to no pixels behind it."""

    def chunk(kind, content):
        return (
            struct.pack(">I", len(content))
            + kind
            + content
            + struct.pack(">I", zlib.crc32(kind + content))
        )

    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(bytes(100)))
        + chunk(b"IEND", b"")
    )


BAD = {
    "a text with an image's name": ("z.jpg", b"this is no image", "the file is not an image"),
    "an empty file": ("z.png", b"", "the file is empty"),
    "random bytes": ("z.bmp", bytes(range(256)), "the file is not an image"),
    "an icon": ("z.png", "ICO", "the file is not an image"),
    "a GIF with a JPEG's first bytes": (
        "z.jpg",
        b"\xff\xd8\xffGIF89a",
        "the JPEG file is damaged or of an unsupported kind",
    ),
    "a PNG that ends after its signature": (
        "z.gif",
        b"\x89PNG\r\n\x1a\n",
        "the PNG file is damaged or of an unsupported kind",
    ),
    "a RIFF that is a sound": ("z.webp", b"RIFF\x24\0\0\0WAVEfmt ", "the file is not an image"),
    "a TIFF without a directory": (
        "z.tif",
        b"II*\0\xff\xff\xff\xff",
        "the TIFF file is damaged or of an unsupported kind",
    ),
    "100 million pixels": (
        "z.png",
        png_of(10_000, 10_000),
        "the image has 100 million pixels (at most 50 million are allowed)",
    ),
    "far more pixels": (
        "z.png",
        png_of(60_000, 60_000),
        "the image has too many pixels (at most 50 million are allowed)",
    ),
    "just too many pixels": (
        "z.png",
        png_of(51_000, 1_000),
        "the image has 51 million pixels (at most 50 million are allowed)",
    ),
}


@pytest.mark.parametrize(("file", "content", "reason"), BAD.values(), ids=BAD)
def test_a_bad_file_is_refused_by_its_name_and_reason(file, content, reason, two):
    path = two / "dog" / file
    Image.new("RGB", (9, 8)).save(path, content) if isinstance(content, str) else path.write_bytes(
        content
    )
    with refused(
        f"1 image cannot be read (first: dog/{file}: {reason}). Remove it, "
        "or leave it out with --skip-bad."
    ):
        loaded(two)


@pytest.mark.parametrize("share", [0.5, 0.9])
@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "webp", "tif", "gif", "avif", "ppm"])
def test_a_file_that_is_cut_off_is_refused(suffix, share, two):
    path = two / "dog" / f"z.{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (80, 90, 3), dtype=np.uint8)).save(
        path
    )
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(
        DataError,
        match=(
            rf"^1 image cannot be read \(first: dog/z\.{suffix}: "
            r"(the image is|the \w+ file is) damaged or "
        ),
    ):
        loaded(two)


def test_a_corrupt_image_is_refused(two):
    path = two / "cat" / "z.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (80, 90, 3), dtype=np.uint8)).save(
        path
    )
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 200] = bytes(200)
    path.write_bytes(content)
    with refused(
        "1 image cannot be read (first: cat/z.png: the image is damaged or cut off). Remove it, "
        "or leave it out with --skip-bad."
    ):
        loaded(two)


def test_all_bad_files_are_counted_and_the_first_is_named(two):
    for name in ("cat/y.png", "dog/z.jpg", "cat/x.jpg"):
        (two / name).write_text("no image")
    with refused(
        "3 images cannot be read (first: cat/x.jpg: the file is not an image). Remove them, "
        "or leave them out with --skip-bad."
    ):
        loaded(two)


def test_a_folder_of_nothing_but_bad_files_is_refused(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.png").write_text("no image")
    with refused(
        "2 images cannot be read (first: a/x.png: the file is not an image). Remove them, "
        "or leave them out with --skip-bad.\n"
        + "\n".join(
            f"class '{name}' has 1 image; each class needs a training, a validation and a test "
            "image. Add images or remove the class."
            for name in "ab"
        )
    ):
        loaded(tmp_path)


def test_nothing_is_cached_of_a_folder_that_is_refused(two, cache_home):
    (two / "cat" / "z.png").write_text("no image")
    with pytest.raises(DataError):
        loaded(two)
    assert not list(cache_home.rglob("*.npy"))


def test_a_large_image_is_refused_by_its_header_without_decoding_it(two, tmp_path):
    """17 kB of PNG that would be 430 MB of pixels."""
    path = two / "dog" / "z.png"
    Image.new("RGB", (12_000, 12_000)).save(path)
    code = (
        "import resource\n"
        "from trainables.config import DataConfig\n"
        "from trainables.datasets.load import load\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try: load(DataConfig(name='folder', root='images'))\n"
        "except ValueError as error: print(error)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=two.parent, capture_output=True, text=True, check=True
    )
    error, grown = done.stdout.splitlines()
    assert "dog/z.png: the image has 144 million pixels (at most 50 million are " in error
    assert int(grown) < 50_000
    assert done.stderr == ""


def test_unreadable_images_can_be_left_out_and_are_counted(two):
    readable = loaded(two)
    for name in ("cat/y.png", "dog/z.jpg"):
        (two / name).write_text("no image")
    found = loaded(two, skip_bad=True)
    assert found.skipped == 2
    assert found.fingerprint == readable.fingerprint
    assert loaded(two, skip_bad=True).skipped == 2


def test_what_was_loaded_leniently_is_still_refused_strictly(two):
    (two / "cat" / "y.png").write_text("no image")
    loaded(two, skip_bad=True)
    with refused(
        "1 image cannot be read (first: cat/y.png: the file is not an image). Remove it, "
        "or leave it out with --skip-bad."
    ):
        loaded(two)


def test_a_class_of_which_nothing_can_be_read_is_refused(two):
    for path in (two / "cat").iterdir():
        path.write_text("no image")
    with refused(
        "class 'cat' has 0 images; each class needs a training, a validation and a test image. "
        "Add images or remove the class."
    ):
        loaded(two, skip_bad=True)
    for path in (two / "dog").iterdir():
        path.write_text("no image")
    with refused("no image of the training set can be read. Check the files of this set."):
        loaded(two, skip_bad=True)


def test_a_link_that_leads_nowhere_is_unreadable_and_a_pipe_is_no_image(two):
    os.mkfifo(two / "cat" / "pipe.png")
    (two / "cat" / "folder.png").mkdir()
    assert len(layout_of(two).paths) == 10
    (two / "dog" / "z.png").symlink_to("nowhere.png")
    with refused(
        "1 image cannot be read (first: dog/z.png: the file is not an image). Remove it, "
        "or leave it out with --skip-bad."
    ):
        loaded(two)


def test_control_characters_in_names_are_told_as_escapes(two, write_images):
    (two / "dog" / "\x1b[2J.png").write_text("no image")
    with refused(
        r"1 image cannot be read (first: dog/\x1b[2J.png: the file is not an image). Remove it, "
        r"or leave it out with --skip-bad."
    ):
        loaded(two)
    write_images(two / "emu\x1b[2J\n", 1)
    with pytest.raises(DataError, match=r"^class 'emu\\x1b\[2J\\n' has 1 image; "):
        loaded(two, skip_bad=True)


def test_a_class_whose_name_is_no_text_is_refused(two):
    (two / "cat").rename(two / "\udcff")
    with pytest.raises(
        DataError,
        match=r"^the name of class folder '.*\\udcff' is not UTF-8\. Rename it\.\nonly one",
    ):
        loaded(two)


def test_a_file_whose_name_is_no_text_is_read(two):
    sorted((two / "cat").iterdir())[0].rename(two / "cat" / "\udcff.png")
    assert len(loaded(two).train) == 6


def test_a_name_that_is_too_long_is_refused():
    with refused(f"data set folder '{'a' * 300}' cannot be read (File name too long)."):
        loaded("a" * 300)


def test_a_folder_of_data_sets_is_warned_of(tmp_path):
    for place in ("pets/cat", "pets/dog", "trees/oak", "trees/elm", "trees/ash", "loose"):
        (tmp_path / place).mkdir(parents=True)
        for number in range(10):
            Image.new("RGB", (20, 20)).save(tmp_path / place / f"{number}.png")
    remarks = loaded(tmp_path).remarks
    (warning,) = [line for line in remarks if "is read as one class" in line]
    assert warning == (
        "warning: 'pets' is read as one class, but its images are in 2 folders (first: "
        "'pets/cat'), like those of most classes. If these folders are the classes, pass --data "
        f"folder:{tmp_path / 'pets'}."
    )


def test_stretched_images_are_told_of(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(10):
            size = (40, 20) if (name, number) == ("a", 2) else (40, 40)
            Image.new("RGB", size).save(tmp_path / name / f"{number}.png")
    notes = [line for line in loaded(tmp_path).remarks if "stretched" in line]
    assert notes == [
        "note: 1 image is stretched by more than half, because all are resized to 224 x 224 pixels "
        "(first: a/2.png)."
    ]


def test_a_missing_folder_is_refused(tmp_path):
    with refused(
        f"data set folder not found: '{tmp_path / 'none'}' (--data folder:PATH, or --data-root "
        "PATH if a search's folder was moved). Expected one sub-folder per class."
    ):
        loaded(tmp_path / "none")


def test_a_folder_whose_name_was_typed_half_is_suggested(tmp_path):
    for name in ("Blood 2026", "pets"):
        (tmp_path / name).mkdir()
    with pytest.raises(DataError, match="Did you mean 'Blood 2026'"):
        loaded(tmp_path / "blood")
    (tmp_path / "Blood old").mkdir()
    with pytest.raises(DataError) as refusal:
        loaded(tmp_path / "blood")
    assert "Did you mean" not in str(refusal.value), "two folders begin so"


def test_a_folder_without_classes_is_refused(tmp_path, write_images):
    write_images(tmp_path / "data" / "images", 3)
    with refused(
        f"there are no class folders in '{tmp_path / 'data' / 'images'}'. Expected one sub-folder "
        "per class with its images. To learn to enlarge these images, use --task super_resolution."
    ):
        loaded(tmp_path / "data" / "images")


@pytest.mark.parametrize(
    ("passed", "beside"), [("JPEGImages", "Annotations"), ("labels", "images"), ("masks", "img")]
)
def test_the_folder_above_is_named_if_annotations_are_next_to_images(
    passed, beside, tmp_path, write_images
):
    for name in (passed, beside):
        (tmp_path / "cells" / name).mkdir(parents=True)
    write_images(tmp_path / "cells" / passed, 3)
    with refused(
        f"there are no class folders in '{tmp_path / 'cells' / passed}'. Expected one sub-folder "
        f"per class with its images. '{beside}' is next to it: for images with boxes or masks, "
        f"pass the folder of both: --data folder:{tmp_path / 'cells'}"
    ):
        loaded(tmp_path / "cells" / passed)


def test_a_class_folder_whose_images_are_not_read_is_refused(two):
    (two / "emu").mkdir()
    (two / "emu" / "x.psd").write_bytes(b"not read")
    with refused(
        f"class folder '{two / 'emu'}' contains only images of unsupported formats: 1 .psd. "
        "Convert them to PNG or JPEG."
    ):
        loaded(two)


def test_one_class_alone_is_refused(tmp_path, write_images):
    write_images(tmp_path / "cat", 5)
    with refused("only one class was found ('cat'). A classifier needs at least two."):
        loaded(tmp_path)


@pytest.mark.parametrize(("count", "images"), [(1, "1 image"), (2, "2 images")])
def test_a_class_with_too_few_images_is_refused(count, images, two, write_images):
    write_images(two / "emu", count)
    with refused(
        f"class 'emu' has {images}; each class needs a training, a validation and a test image. "
        "Add images or remove the class."
    ):
        loaded(two)


def test_three_images_a_class_are_enough(tmp_path, write_images):
    for name in ("a", "b"):
        write_images(tmp_path / name, 3)
    dataset = loaded(tmp_path)
    assert [sorted(part.targets) for part in (dataset.train, dataset.val, dataset.test)] == [
        [0, 1]
    ] * 3


def test_with_a_test_part_of_its_own_a_class_needs_two_images(tmp_path, write_images):
    for part in ("train", "test"):
        for name in ("a", "b"):
            write_images(tmp_path / part / name, 2)
    dataset = loaded(tmp_path)
    assert [len(part) for part in (dataset.train, dataset.val, dataset.test)] == [2, 2, 4]
    (tmp_path / "train" / "a").joinpath("RGB-9x8-0.png").unlink()
    with refused(
        "class 'a' has 1 image; each class needs a training and a validation image. "
        "Add images or remove the class."
    ):
        loaded(tmp_path)


def test_a_class_that_is_only_in_the_test_part_is_refused(tmp_path, write_images):
    for name in ("a", "b"):
        write_images(tmp_path / "train" / name, 3)
        write_images(tmp_path / "test" / name, 1)
    write_images(tmp_path / "test" / "c", 1)
    with refused(
        "class 'c' has test images (first: test/c/RGB-9x8-0.png) but no training images. "
        "Each class needs training images."
    ):
        loaded(tmp_path)


def test_decoding_one_file_gives_the_size_and_mode_asked_for(two):
    path = sorted((two / "cat").iterdir())[0]
    assert decode(path, None, "RGB").shape == (8, 9, 3)
    assert decode(path, (4, 6), "L").shape == (6, 4, 1)
    with pytest.raises(DataError, match=r"^the file is not an image$"):
        decode(two / "none.png", None, "L")


# The file of each image


def files_of(part, root):
    """The pixels of the files that a part names."""
    return [np.asarray(Image.open(root / name)) for name in part.names]


def test_every_image_knows_its_file_in_every_part_and_from_the_cache(two, cache_home):
    (two / "cat" / "bad.png").write_text("no image")
    for _ in range(2):  # decoded, then from the cache
        dataset = loaded(two, skip_bad=True, train_limit=4)
        for part in (dataset.train, dataset.val, dataset.test):
            assert np.array_equal(part.images, files_of(part, two))
        assert dataset.train.names[0].startswith("cat/RGB-9x8-")
    assert list(cache_home.rglob("entry.json"))


def test_the_images_of_a_fold_know_their_files(tmp_path, write_images):
    write_parts(tmp_path, write_images, train=4, val=3, test=2)
    dataset = loaded(tmp_path, folds=3)
    fold = dataset.fold(1, 0)
    for part in (fold.train, fold.val, fold.val.take(np.array([1, 0]))):
        assert np.array_equal(part.images, files_of(part, tmp_path))


def test_a_relative_root_gives_the_same_names(two, monkeypatch):
    names = decoded(two).train.names
    monkeypatch.chdir(two)
    assert decoded(".").train.names == names


def test_each_file_left_out_is_named_with_its_reason(two, write_images):
    (two / "cat" / "notes.txt").write_text("not an image")
    (two / "dog" / "z\x1b.png").write_text("no image")
    write_images(two, 1)
    (two / "dog" / "more").symlink_to(two.parent)
    for _ in range(2):  # decoded, then from the cache
        assert loaded(two, skip_bad=True).left_out == (
            LeftOut("RGB-9x8-0.png", "not in a class folder"),
            LeftOut("cat/notes.txt", "not a supported image format"),
            LeftOut("dog/more", "a linked folder"),
            LeftOut("dog/z\\x1b.png", "cannot be read: the file is not an image"),
        )


@pytest.mark.parametrize(("readable", "is_refused"), [(198, False), (197, True)])
def test_up_to_one_unreadable_image_in_a_hundred_is_left_out(
    two, write_images, readable, is_refused
):
    source = two / "cat" / next(path.name for path in (two / "cat").iterdir())
    for number in range(readable - 10):
        shutil.copy(source, two / "cat" / f"copy{number}.png")
    for name in ("x", "y"):
        (two / "dog" / f"{name}.png").write_text("no image")
    if is_refused:
        with pytest.raises(DataError, match=r"^2 images cannot be read \(first: dog/x\.png: the"):
            loaded(two)
        return
    data = loaded(two)
    assert data.skipped == 2
    assert [each.path for each in data.left_out] == ["dog/x.png", "dog/y.png"]


def test_of_very_many_left_out_some_are_named_and_all_counted(two):
    for number in range(MAX_LEFT_OUT + 3):
        (two / "cat" / f"{number}.txt").touch()
    found = loaded(two)
    assert (len(found.left_out), found.left_out_count) == (MAX_LEFT_OUT, MAX_LEFT_OUT + 3)


@pytest.mark.parametrize("target", [".", "cat", "..", "/"])
def test_a_link_into_the_data_set_or_above_it_is_no_class(two, target):
    (two / "all").symlink_to(target)
    found = loaded(two)
    assert found.classes == ("cat", "dog")
    assert found.left_out == (LeftOut("all", "a linked folder"),)


def test_a_sub_folder_that_cannot_be_read_is_named(two, monkeypatch):
    def scandir(path, really=os.scandir):
        if path == two / "dog":
            raise PermissionError(13, "Permission denied", str(path))
        return really(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with refused(f"data set folder '{two / 'dog'}' cannot be read (Permission denied)."):
        loaded(two)


def test_the_folder_is_walked_once_a_load(two, monkeypatch):
    walked = []
    monkeypatch.setattr(folder, "layout_of", lambda root: (walked.append(root), layout_of(root))[1])
    loaded(two)
    loaded(two)
    assert len(walked) == 2


@pytest.mark.parametrize(
    ("name", "is_class"),
    [
        ("Unsorted", False),
        ("un-labelled", True),
        ("unlabeled images", False),
        ("New Folder (2)", False),
        ("new", False),
        ("newt", True),
        ("template", True),
        ("TODO", False),
        ("other", True),
    ],
)
def test_names_that_are_seldom_a_class(name, is_class):
    assert (NO_CLASS.fullmatch(key_of(name)) is None) == is_class


def test_a_folder_beside_folders_without_images_is_no_data_set(tmp_path):
    for name in ("photos", "screens"):
        (tmp_path / name).mkdir()
        Image.new("L", (8, 8)).save(tmp_path / name / "1.png")
    (tmp_path / "src").mkdir()
    with pytest.raises(DataError) as refused:
        layout_of(tmp_path / "photos")
    assert "folder above" not in str(refused.value)
