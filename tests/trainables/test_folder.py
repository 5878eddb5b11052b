"""Folders of images as people have them, good and bad."""

import os
import re
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from trainables.config import DataConfig
from trainables.datasets.images import SUFFIXES, decode
from trainables.datasets.load import load
from trainables.datasets.registry import DATASETS
from trainables.errors import DataError


def decoded(root, **values):
    return DATASETS["folder"].load(DataConfig(name="folder", root=str(root), **values))


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


def test_each_sub_folder_is_a_class_and_images_keep_their_common_size(two):
    found = decoded(two)
    assert found.classes == ("cat", "dog")
    assert found.test is None
    assert found.train.images.shape == (10, 8, 9, 3)
    assert found.train.labels.tolist() == [0] * 5 + [1] * 5
    assert loaded(two).image == (3, 8, 9)


def test_pixels_are_those_of_the_files(two):
    expected = [np.asarray(Image.open(path).convert("RGB")) for name in ("cat", "dog") for path in sorted((two / name).iterdir())]
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
            Image.new("RGB", (6, 5), (number, 50, 90)).convert(mode).save(tmp_path / name / f"{number}.{'tif' if mode == 'CMYK' else 'png'}")
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


@pytest.mark.parametrize("suffix", sorted(SUFFIXES))
def test_every_allowed_format_is_read_also_with_its_suffix_in_capitals(suffix, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(3):
            Image.new("RGB", (6, 5), (200, 50, 90)).save(tmp_path / name / f"{number}{suffix if number else suffix.upper()}")
    found = decoded(tmp_path)
    assert found.train.images.shape == (6, 5, 6, 3)
    np.testing.assert_allclose(found.train.images.mean(axis=(0, 1, 2)), [200, 50, 90], atol=4)


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
    assert found.train.labels.tolist() == [0] * 7 + [1] * 5


def test_a_relative_root_is_read(two, monkeypatch):
    monkeypatch.chdir(two.parent)
    assert decoded("images").fingerprint == decoded(two).fingerprint


def test_odd_names_of_classes_and_files_are_read(tmp_path, write_images):
    for name in ("größe 1", "b'\"[x]"):
        for path in write_images(tmp_path / name, 3):
            path.rename(path.with_name(f"é {path.name}"))
    assert set(loaded(tmp_path).classes) == {"größe 1", "b'\"[x]"}


# EXIF


def turned(path, orientation, upright):
    """Save `upright` as a camera held otherwise does: turned, with a tag that says how to turn it back."""
    back = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}[orientation]
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


def test_turned_and_upright_photographs_of_one_size_keep_it(tmp_path):
    upright = np.full((5, 8, 3), 90, dtype=np.uint8)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        turned(tmp_path / name / "0.jpg", 6, upright)
        turned(tmp_path / name / "1.jpg", 8, upright)
        Image.fromarray(upright).save(tmp_path / name / "2.jpg")
    assert decoded(tmp_path).train.images.shape == (6, 5, 8, 3)


def exif_of(kind, value):
    """An EXIF block that holds an orientation of this type (2 is text, 3 a number, 7 anything) and these four bytes."""
    return b"Exif\0\0II*\0" + struct.pack("<IHHHI4sI", 8, 1, 0x0112, kind, 1 if kind == 3 else 4, value, 0)


@pytest.mark.parametrize(
    "exif", [exif_of(3, b"\0\0\0\0"), exif_of(3, b"\x09\0\0\0"), exif_of(2, b"six\0"), exif_of(7, b"\6\0\0\0")], ids=["0", "9", "text", "bytes"]
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
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(bytes(100)))
        + chunk(b"IEND", b"")
    )


BAD = {
    "a text with an image's name": ("z.jpg", b"this is no image", "not an image"),
    "an empty file": ("z.png", b"", "not an image"),
    "random bytes": ("z.bmp", bytes(range(256)), "not an image"),
    "a GIF": ("z.png", "GIF", "not an image"),
    "a GIF with a JPEG's first bytes": ("z.jpg", b"\xff\xd8\xffGIF89a", "not an image"),
    "a PNG that ends after its signature": ("z.png", b"\x89PNG\r\n\x1a\n", "not an image"),
    "a RIFF that is a sound": ("z.webp", b"RIFF\x24\0\0\0WAVEfmt ", "not an image"),
    "a TIFF without a directory": ("z.tif", b"II*\0\xff\xff\xff\xff", "not an image"),
    "100 million pixels": ("z.png", png_of(10_000, 10_000), "100 million pixels (limit 50 million)"),
    "far more pixels": ("z.png", png_of(60_000, 60_000), "too many pixels (limit 50 million)"),
    "just too many pixels": ("z.png", png_of(51_000, 1_000), "51 million pixels (limit 50 million)"),
}


@pytest.mark.parametrize(("file", "content", "reason"), BAD.values(), ids=BAD)
def test_a_bad_file_is_refused_by_its_name_and_reason(file, content, reason, two):
    path = two / "dog" / file
    Image.new("RGB", (9, 8)).save(path, content) if isinstance(content, str) else path.write_bytes(content)
    with refused(f"1 unreadable image (first: dog/{file}: {reason}). Remove them, or leave them out with --skip-bad."):
        loaded(two)


@pytest.mark.parametrize("share", [0.5, 0.9])
@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "webp", "tif"])
def test_a_file_that_is_cut_off_is_refused(suffix, share, two):
    path = two / "dog" / f"z.{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (80, 90, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(
        DataError,
        match=rf"^1 unreadable image \(first: dog/z\.{suffix}: (the image is damaged or cut off|not an image)\)\. ",
    ):
        loaded(two)


def test_a_corrupt_image_is_refused(two):
    path = two / "cat" / "z.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (80, 90, 3), dtype=np.uint8)).save(path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 200] = bytes(200)
    path.write_bytes(content)
    with refused("1 unreadable image (first: cat/z.png: the image is damaged or cut off). Remove them, or leave them out with --skip-bad."):
        loaded(two)


def test_all_bad_files_are_counted_and_the_first_is_named(two):
    for name in ("cat/y.png", "dog/z.jpg", "cat/x.jpg"):
        (two / name).write_text("no image")
    with refused("3 unreadable images (first: cat/x.jpg: not an image). Remove them, or leave them out with --skip-bad."):
        loaded(two)


def test_a_folder_of_nothing_but_bad_files_is_refused(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.png").write_text("no image")
    with refused("2 unreadable images (first: a/x.png: not an image). Remove them, or leave them out with --skip-bad."):
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
    done = subprocess.run([sys.executable, "-c", code], cwd=two.parent, capture_output=True, text=True, check=True)
    error, grown = done.stdout.splitlines()
    assert "dog/z.png: 144 million pixels (limit 50 million)" in error
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
    with refused("1 unreadable image (first: cat/y.png: not an image). Remove them, or leave them out with --skip-bad."):
        loaded(two)


def test_a_class_of_which_nothing_can_be_read_is_refused(two):
    for path in (two / "cat").iterdir():
        path.write_text("no image")
    with refused("class 'cat' has 0 images; each class needs a training, a validation and a test image. Add images or remove the class."):
        loaded(two, skip_bad=True)
    for path in (two / "dog").iterdir():
        path.write_text("no image")
    with refused("no image of the train part can be read."):
        loaded(two, skip_bad=True)


def test_a_link_that_leads_nowhere_is_unreadable_and_a_pipe_is_no_image(two):
    os.mkfifo(two / "cat" / "pipe.png")
    (two / "cat" / "folder.png").mkdir()
    assert len(DATASETS["folder"].files(DataConfig(name="folder", root=str(two)))) == 10
    (two / "dog" / "z.png").symlink_to("nowhere.png")
    with refused("1 unreadable image (first: dog/z.png: not an image). Remove them, or leave them out with --skip-bad."):
        loaded(two)


def test_control_characters_in_names_are_told_as_escapes(two, write_images):
    (two / "dog" / "\x1b[2J.png").write_text("no image")
    with refused(r"1 unreadable image (first: dog/\x1b[2J.png: not an image). Remove them, or leave them out with --skip-bad."):
        loaded(two)
    write_images(two / "emu\x1b[2J\n", 1)
    with pytest.raises(DataError, match=r"^class 'emu\\x1b\[2J\\n' has 1 image; "):
        loaded(two, skip_bad=True)


def test_a_class_whose_name_is_no_text_is_refused(two):
    (two / "\udcff").mkdir()
    with pytest.raises(DataError, match=r"^the name of class folder '.*\\udcff' is not UTF-8\. Rename it\.$"):
        loaded(two)


def test_a_file_whose_name_is_no_text_is_read(two):
    sorted((two / "cat").iterdir())[0].rename(two / "cat" / "\udcff.png")
    assert len(loaded(two).train) == 6


def test_a_name_that_is_too_long_is_refused():
    with refused(f"data set folder '{'a' * 300}' cannot be read (File name too long)."):
        loaded("a" * 300)


def test_a_missing_folder_is_refused(tmp_path):
    with refused(f"data set folder not found: '{tmp_path / 'none'}' (--data folder:PATH). Expected one sub-folder per class."):
        loaded(tmp_path / "none")


def test_a_folder_without_classes_is_refused(tmp_path, write_images):
    write_images(tmp_path, 3)
    with refused(f"no class folders in '{tmp_path}'. Expected one sub-folder per class, holding its images."):
        loaded(tmp_path)


def test_an_empty_class_folder_is_refused(two):
    (two / "emu").mkdir()
    (two / "emu" / "notes.txt").write_text("none yet")
    with refused(f"class folder '{two / 'emu'}' holds no images. Allowed: .bmp, .jpeg, .jpg, .png, .tif, .tiff, .webp."):
        loaded(two)


def test_one_class_alone_is_refused(tmp_path, write_images):
    write_images(tmp_path / "cat", 5)
    with refused("only one class found ('cat'). A classifier needs two or more."):
        loaded(tmp_path)


@pytest.mark.parametrize(("count", "images"), [(1, "1 image"), (2, "2 images")])
def test_a_class_with_too_few_images_is_refused(count, images, two, write_images):
    write_images(two / "emu", count)
    with refused(f"class 'emu' has {images}; each class needs a training, a validation and a test image. Add images or remove the class."):
        loaded(two)


def test_three_images_a_class_are_enough(tmp_path, write_images):
    for name in ("a", "b"):
        write_images(tmp_path / name, 3)
    dataset = loaded(tmp_path)
    assert [sorted(part.labels) for part in (dataset.train, dataset.val, dataset.test)] == [[0, 1]] * 3


def test_with_a_test_part_of_its_own_a_class_needs_two_images(tmp_path, write_images):
    for part in ("train", "test"):
        for name in ("a", "b"):
            write_images(tmp_path / part / name, 2)
    dataset = loaded(tmp_path)
    assert [len(part) for part in (dataset.train, dataset.val, dataset.test)] == [2, 2, 4]
    (tmp_path / "train" / "a").joinpath("RGB-9x8-0.png").unlink()
    with refused("class 'a' has 1 image; each class needs a training and a validation image. Add images or remove the class."):
        loaded(tmp_path)


def test_a_class_that_is_only_in_the_test_part_is_refused(tmp_path, write_images):
    for name in ("a", "b"):
        write_images(tmp_path / "train" / name, 3)
        write_images(tmp_path / "test" / name, 1)
    write_images(tmp_path / "test" / "c", 1)
    with refused(f"class 'c' is in '{tmp_path / 'test'}' but not in '{tmp_path / 'train'}'. Each class needs training images."):
        loaded(tmp_path)


def test_decoding_one_file_gives_the_size_and_mode_asked_for(two):
    path = sorted((two / "cat").iterdir())[0]
    assert decode(path, None, "RGB").shape == (8, 9, 3)
    assert decode(path, (4, 6), "L").shape == (6, 4, 1)
    with pytest.raises(DataError, match=r"^not an image$"):
        decode(two / "none.png", None, "L")
