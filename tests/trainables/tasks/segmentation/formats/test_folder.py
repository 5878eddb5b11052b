"""Folders of images with masks as people have them, good and bad."""

import re

import numpy as np
import pytest
from PIL import Image

from trainables.config import DataConfig
from trainables.datasets import sources
from trainables.datasets.arrays import Ragged
from trainables.datasets.load import load, read, with_root
from trainables.errors import DataError
from trainables.inspection.leaks import load_clean, load_inspected
from trainables.tasks.segmentation import reading as folder

COUNT = 10
COLOURS = ((0, 0, 0), (128, 0, 0), (0, 64, 128))


def config_of(root, **values):
    return DataConfig(name="folder", root=str(root), task="segmentation", **values)


def decoded(root, **values):
    return sources.decode(config_of(root, **values))


def refused(text):
    return pytest.raises(DataError, match=f"^{re.escape(text)}$")


def coloured(mask):
    return np.array(COLOURS, np.uint8)[mask]


def with_palette(mask):
    image = Image.fromarray(mask, "L").convert("P")
    image.putdata(mask.ravel().tolist())
    image.putpalette([level for number in range(256) for level in (number, 255 - number, 7)])
    return image


@pytest.fixture
def fill(tmp_path, pair, write):
    """Write pairs to paths with a placeholder for the number, and return their root."""

    def make(image="images/{}.png", mask="masks/{}.png", *, classes=2, change=None, numbers=COUNT):
        for number in range(numbers) if isinstance(numbers, int) else numbers:
            pixels, own = pair(number, classes)
            write(tmp_path / image.format(number), pixels)
            write(tmp_path / mask.format(number), own if change is None else change(own))
        return tmp_path

    return make


@pytest.fixture
def same(pair):
    """Check that a part has the pairs of these numbers."""

    def check(part, classes=2, numbers=range(COUNT)):
        pairs = [pair(number, classes) for number in numbers]
        assert len(part) == len(pairs)
        for image, mask, (pixels, own) in zip(part.images, part.targets, pairs, strict=True):
            assert np.array_equal(image, pixels)
            assert mask.dtype == np.uint8
            assert np.array_equal(mask, own)

    return check


# Where masks are


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("images/{}.png", "masks/{}.png"),
        ("images/{}.png", "labels/{}.png"),
        ("images/{}.png", "annotations/{}.png"),
        ("img/{}.tif", "gt/{}.png"),
        ("images/{}.png", "masks/{}_mask.png"),
        ("data/images/{}.png", "data/masks/{}.png"),
        ("{}.png", "{}_mask.png"),
        ("{}.png", "{}_segmentation.png"),
        ("photos/{}.bmp", "photos/{}_label.png"),
        ("{}.bmp", "{}.png"),
        ("images/{}.png", "annotations/trimaps/{}.png"),
        ("input/{}.png", "truth/{}_segmentation.png"),
        ("{}_sat.png", "{}_mask.png"),
    ],
)
def test_each_form_is_recognised_and_read(image, mask, fill, same):
    root = fill(image, mask)
    assert with_root(DataConfig(), f"folder:{root}", "").task == "segmentation"
    whole = decoded(root)
    same(whole.train)
    assert whole.classes == ("background", "foreground")
    assert whole.test is None
    assert whole.val is None


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("{part}/images/{}.png", "{part}/masks/{}.png"),
        ("images/{part}/{}.png", "masks/{part}/{}.png"),
        ("{part}/{}.png", "{part}_labels/{}_L.png"),
        ("{part}_images/{}.png", "{part}_masks/{}.png"),
        ("{part}/{}.png", "{part}annot/{}.png"),
    ],
)
def test_parts_are_read_in_either_order(image, mask, fill, same):
    rows = {"train": range(4), "val": range(4, 7), "test": range(7, 10)}
    for part, numbers in rows.items():
        root = fill(image.replace("{part}", part), mask.replace("{part}", part), numbers=numbers)
    whole = decoded(root)
    for part, numbers in rows.items():
        same(whole.parts[part], numbers=numbers)


def test_a_test_set_without_masks_is_left_out_with_a_note(fill, pair, write, same):
    root = fill("train/images/{}.png", "train/masks/{}.png")
    write(root / "test/images/x.png", pair(50)[0])
    whole = read(config_of(root))
    same(whole.decoded.train)
    assert whole.decoded.test is None
    assert (
        "note: the test set has no masks. 1 image is left out, and another set is drawn from "
        in ("\n".join(whole.layout.remarks))
    )
    assert [file.path for file in whole.layout.left_out] == ["test/images/x.png"]


def test_images_of_several_sizes_keep_them(tmp_path, pair, write):
    for number in range(COUNT):
        pixels, mask = pair(number, height=12 + number)
        write(tmp_path / f"images/{number}.png", pixels)
        write(tmp_path / f"masks/{number}.png", mask)
    whole = decoded(tmp_path, image_size=64)
    assert isinstance(whole.train.images, Ragged)
    assert isinstance(whole.train.targets, Ragged)
    for number, (image, mask) in enumerate(
        zip(whole.train.images, whole.train.targets, strict=True)
    ):
        assert np.array_equal(image, pair(number, height=12 + number)[0])
        assert np.array_equal(mask, pair(number, height=12 + number)[1])


# How masks are read


def remarks(whole):
    return "\n".join(whole.remarks)


@pytest.mark.parametrize(
    ("change", "reading"),
    [
        (lambda mask: mask * 255, "background (0) and foreground (255)"),
        (lambda mask: Image.fromarray(mask * 255).convert("1"), "foreground (255)"),
        (lambda mask: np.stack([mask * 255] * 3, axis=-1), "foreground (255)"),
        (lambda mask: mask.astype(np.uint16) * 301, "(all other numbers), because"),
        (lambda mask: mask, "masks are read as class numbers."),
    ],
)
def test_two_classes_are_read_from_any_numbers(change, reading, fill, same):
    whole = decoded(fill(change=change))
    same(whole.train)
    assert whole.classes == ("background", "foreground")
    assert reading in remarks(whole)


def test_a_palette_is_read_as_numbers_and_its_border_is_ignored(fill, pair):
    def bordered(mask):
        mask = mask.copy()
        mask[:, 0] = 255
        return with_palette(mask)

    whole = decoded(fill(classes=3, change=bordered))
    assert whole.classes == ("class 0", "class 1", "class 2")
    for number, mask in enumerate(whole.train.targets):
        assert (mask[:, 0] == 255).all()
        assert np.array_equal(mask[:, 1:], pair(number, 3)[1][:, 1:])
    assert "note: 5.56 % of the training pixels have the value 255: ignored." in whole.remarks
    assert "also those with a palette" in remarks(whole)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("classes.csv", "name,r,g,b\nsky,0,0,0\nroad,128,0,0\ncar,0,64,128\n"),
        ("class_dict.csv", "sky,0,0,0\nroad, 128, 0, 0\ncar,0,64,128\n"),
        (
            "labelmap.txt",
            "# label:color_rgb:parts:actions\nsky:0,0,0::\nroad:128,0,0::\ncar:0,64,128::\n",
        ),
    ],
)
def test_colours_are_looked_up_in_a_table(name, text, fill, same):
    root = fill(classes=3, change=coloured)
    (root / name).write_text(text)
    whole = decoded(root)
    assert whole.classes == ("sky", "road", "car")
    same(whole.train, classes=3)


def test_a_palette_is_read_by_colour_if_there_is_a_table(fill, same):
    def permuted(mask):
        image = Image.fromarray(2 - mask).convert("P")
        image.putdata((2 - mask).ravel().tolist())
        image.putpalette([level for colour in reversed(COLOURS) for level in colour])
        return image

    root = fill(classes=3, change=permuted)
    (root / "labelmap.txt").write_text("sky:0,0,0::\nroad:128,0,0::\ncar:0,64,128::\n")
    same(decoded(root).train, classes=3)


def test_names_are_those_of_a_file(fill, same):
    root = fill(classes=3)
    (root / "classes.txt").write_text("sky\nroad\ncar\n")
    whole = decoded(root)
    assert whole.classes == ("sky", "road", "car")
    same(whole.train, classes=3)


def test_sixteen_bits_are_class_numbers_if_classes_have_names(fill, same):
    root = fill(classes=3, change=lambda mask: mask.astype(np.uint16))
    (root / "classes.txt").write_text("sky\nroad\ncar\n")
    same(decoded(root).train, classes=3)


def test_a_turned_mask_is_turned_upright_like_its_image(tmp_path, pair, write):
    turned = Image.Exif()
    turned[0x0112] = 6
    for number in range(COUNT):
        pixels, mask = pair(number)
        for kind, array in (("images", pixels), ("masks", mask)):
            (tmp_path / kind).mkdir(exist_ok=True)
            Image.fromarray(array).save(tmp_path / kind / f"{number}.png", exif=turned)
    whole = decoded(tmp_path)
    assert np.array_equal(whole.train.images[0], np.rot90(pair(0)[0], -1))
    assert np.array_equal(whole.train.targets[0], np.rot90(pair(0)[1], -1))


# What is wrong


def test_images_without_masks_and_masks_without_images_are_named(fill):
    root = fill()
    for number in (1, 2, 3, 4):
        (root / f"masks/{number}.png").unlink()
    (root / "images/7.png").unlink()
    with refused(
        "4 images have no mask (first: images/1.png, images/2.png, images/3.png). Add what is "
        "missing, or leave them out with --skip-bad.\n"
        "1 mask has no image (first: masks/7.png). Add what is missing, or leave them out with "
        "--skip-bad."
    ):
        decoded(root)
    whole = read(config_of(root, skip_bad=True))
    assert len(whole.decoded.train) == 5
    assert len(whole.layout.left_out) == 5


def test_a_mask_of_another_size_is_named(fill, write):
    root = fill()
    write(root / "masks/3.png", np.ones((9, 11), np.uint8))
    with refused(
        "1 mask has another size than its image (first: masks/3.png: 11 x 9 instead of "
        "18 x 14). Correct the size, or leave out such images with --skip-bad."
    ):
        decoded(root)
    assert len(decoded(root, skip_bad=True).train) == COUNT - 1


def test_numbers_without_names_are_named(fill):
    root = fill(classes=4)
    (root / "classes.txt").write_text("sky\nroad\n")
    with refused(
        "6 masks have class numbers above 1, because 'classes.txt' names 2 classes (first: "
        "masks/1.png, masks/2.png, masks/4.png: 3). Add names, or correct the masks."
    ):
        decoded(root)


def test_levels_of_grey_are_not_taken_for_classes(fill):
    with pytest.raises(
        DataError, match=r"^the masks have 3 of the class numbers 0 to 200: 0, 100,"
    ):
        decoded(fill(classes=3, change=lambda mask: mask * 100))


def test_masks_of_one_class_are_refused_before_training(fill):
    root = fill(change=lambda mask: mask * 0)
    with refused(
        "every pixel of the 10 training masks is of class 'background', so there is nothing to "
        "learn. Check that the masks were saved with their values."
    ):
        load(config_of(root))


def test_a_colour_that_is_not_in_the_table_is_named_with_the_nearest(fill, write, pair):
    root = fill(classes=3, change=coloured)
    (root / "classes.csv").write_text("name,r,g,b\nsky,0,0,0\nroad,128,0,0\ncar,0,64,128\n")
    other = coloured(pair(2, 3)[1])
    other[0, 0] = 120, 3, 1
    write(root / "masks/2.png", other)
    with refused(
        "1 mask has colours that are not in 'classes.csv' (first: masks/2.png: (120, 3, 1); the "
        "most similar colour is that of 'road' (128, 0, 0)). Add the colour to the table, or "
        "correct the masks."
    ):
        decoded(root)


def test_colours_without_a_table_are_refused(fill):
    with pytest.raises(DataError, match=r"^10 masks are in colour, but no table .*classes\.csv"):
        decoded(fill(classes=3, change=coloured))


def test_jpeg_masks_are_refused(fill):
    root = fill(mask="masks/{}.jpg")
    with pytest.raises(DataError, match=r"^10 masks are JPEG files, whose compression changes"):
        decoded(root)


def test_damaged_images_and_masks_are_named_or_left_out(fill, same):
    root = fill()
    for name in ("images/0.png", "masks/1.png"):
        (root / name).write_bytes((root / name).read_bytes()[:60])
    with pytest.raises(DataError) as error:
        decoded(root)
    first, second = str(error.value).splitlines()
    assert first.startswith("1 image cannot be read: ")
    assert "(first: images/0.png)" in first
    assert second.startswith("1 mask cannot be read: ")
    assert "(first: masks/1.png)" in second
    whole = decoded(root, skip_bad=True)
    same(whole.train, numbers=range(2, COUNT))
    assert whole.skipped == 2
    assert [file.path for file in whole.left_out] == ["images/0.png", "images/1.png"]


def test_a_doubled_stem_is_named(fill, write, pair):
    root = fill()
    write(root / "images/3.bmp", pair(3)[0])
    with pytest.raises(DataError, match=r"^1 file of the same kind has the name of another one \("):
        decoded(root)


def test_masks_of_several_kinds_are_refused(fill):
    fill(numbers=range(4))
    root = fill(numbers=range(4, 10), change=lambda mask: mask.astype(np.uint16))
    with pytest.raises(DataError, match=r"different formats \(16-bit: 6 masks, 8-bit: 4 masks\)"):
        decoded(root)


def test_black_and_white_masks_among_class_numbers_are_refused(fill):
    fill(numbers=range(4), change=lambda mask: Image.fromarray(mask * 255).convert("1"))
    root = fill(numbers=range(4, 10), classes=3)
    with pytest.raises(DataError, match=r"^4 masks are black and white \(first: masks/0\.png, "):
        decoded(root)


def test_two_files_that_name_different_classes_are_refused(fill):
    root = fill()
    (root / "classes.txt").write_text("sky\nroad\n")
    (root / "classes.csv").write_text("sky,0,0,0\ncar,128,0,0\n")
    with refused(
        "'classes.csv' and 'classes.txt' name different classes. Keep only one of these files."
    ):
        decoded(root)


def test_images_in_and_beside_parts_are_refused(fill):
    fill("train/images/{}.png", "train/masks/{}.png")
    root = fill()
    with pytest.raises(
        DataError, match=r"has images in 'train', but also 10 images outside \(first: "
    ):
        decoded(root)


def test_a_damaged_table_is_named_with_its_line(fill):
    root = fill(classes=3, change=coloured)
    (root / "classes.csv").write_text("name,r,g,b\nsky,0,0,0\nroad,128,x\n")
    with pytest.raises(
        DataError, match=r"'classes\.csv', line 3: the colour of a class must be three"
    ):
        decoded(root)


def test_a_folder_without_masks_names_the_forms(tmp_path, write_images):
    for name in ("cat", "dog"):
        write_images(tmp_path / name, 3)
    with pytest.raises(DataError, match=r"^there are no images with masks in .*images/ and masks/"):
        decoded(tmp_path)


# Which task it is


def test_class_folders_are_classification(tmp_path, write_images):
    for name in ("mask", "no mask"):
        write_images(tmp_path / "train" / name, 3)
    assert folder.recognise(tmp_path) == ""
    assert with_root(DataConfig(), f"folder:{tmp_path}", "").task == "classification"
    assert folder.recognise(tmp_path / "missing") == ""


def test_photographs_are_no_masks(tmp_path, write):
    generator = np.random.default_rng(0)
    for kind in ("images", "labels"):
        for number in range(3):
            photograph = generator.integers(0, 256, (20, 20, 3), dtype=np.uint8)
            write(tmp_path / kind / f"{number}.png", photograph)
    assert with_root(DataConfig(), f"folder:{tmp_path}", "").task == "classification"


def test_the_task_option_overrides_the_content(fill):
    root = fill()
    config = with_root(DataConfig(), f"folder:{root}", "", task="classification")
    assert config.task == "classification"
    assert load(config).classes == ("images", "masks")


def test_the_start_says_the_task_and_why(fill):
    assert (
        "note: the task is segmentation, because 'masks' contains masks for the images in "
        "'images' (--task overrides it)."
    ) in load(config_of(fill())).remarks


# The cache


def test_a_changed_mask_is_read_again_and_a_changed_crop_is_not(fill, monkeypatch):
    root = fill()
    first = read(config_of(root))
    calls = []
    original = folder.load
    monkeypatch.setattr(
        folder, "load", lambda *args, **options: calls.append(args) or original(*args, **options)
    )
    again = read(config_of(root, image_size=64))
    assert again.decoded.fingerprint == first.decoded.fingerprint
    assert calls == []
    Image.fromarray(np.zeros((14, 18), np.uint8)).save(root / "masks/0.png")
    assert read(config_of(root)).decoded.train.targets[0].sum() == 0
    assert len(calls) == 1
    (root / "classes.txt").write_text("sky\ncar\n")
    assert read(config_of(root)).decoded.classes == ("sky", "car")


# Groups and copies


@pytest.fixture
def slides(tmp_path, pair, write):
    """Six slides of four tiles each."""
    for number in range(24):
        pixels, mask = pair(number)
        write(tmp_path / f"images/slide {number // 4}/{number}.png", pixels)
        write(tmp_path / f"masks/slide {number // 4}/{number}.png", mask)
    return tmp_path


def slides_of(part):
    return {name.split("/")[1] for name in part.names}


@pytest.mark.parametrize("leaks", ["together", "keep"])
def test_tiles_of_a_sub_folder_stay_in_one_set(leaks, slides):
    for config in (config_of(slides, leaks=leaks), config_of(slides, leaks=leaks)):  # and cached
        dataset = load_clean(config)
        sets = [slides_of(part) for part in (dataset.train, dataset.val, dataset.test)]
        assert sum(map(len, sets)) == len(set.union(*sets)) == 6
        assert "6 sub-folders, which are groups" in "\n".join(dataset.remarks)


def test_groups_in_several_given_sets_are_named(fill):
    for part in ("train", "test"):
        for slide in ("a", f"of {part}"):
            root = fill(f"{part}/images/{slide}/{{}}.png", f"{part}/masks/{slide}/{{}}.png")
    remarks = "\n".join(read(config_of(root)).layout.remarks)
    assert "warning: 1 group has images in several sets (first: a)." in remarks


def test_groups_are_those_of_a_table(fill):
    root = fill()
    lines = [f"{number}.png,{number % 5}" for number in range(COUNT)]
    (root / "groups.csv").write_text("\n".join(["file,group", *lines]))
    dataset = load(config_of(root))
    groups = [
        {int(name.split("/")[1].removesuffix(".png")) % 5 for name in part.names}
        for part in (dataset.train, dataset.val, dataset.test)
    ]
    assert sum(map(len, groups)) == len(set.union(*groups)) == 5


def test_a_table_of_groups_names_only_images(fill):
    root = fill()
    (root / "groups.csv").write_text("0.png,a\nnobody.png,b\n")
    with pytest.raises(DataError, match=r"names 1 file that is not among .*\(first: nobody\.png\)"):
        load(config_of(root))


def test_too_few_groups_are_divided_with_a_warning(fill):
    root = fill()
    lines = [f"{number}.png,{number % 2}" for number in range(COUNT)]
    (root / "groups.csv").write_text("\n".join(lines))
    dataset = load(config_of(root))
    assert "warning: 2 groups cannot be divided into 3 sets" in "\n".join(dataset.remarks)


def test_nearly_equal_images_are_in_one_set(tmp_path, write):
    generator = np.random.default_rng(1)
    for number in range(12):
        coarse = generator.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        image = np.asarray(Image.fromarray(coarse).resize((48, 48), Image.Resampling.BILINEAR))
        for copy in range(2):
            mask = np.zeros((48, 48), np.uint8)
            mask[5 : 20 + number + copy] = 1
            write(
                tmp_path / f"images/{number}-{copy}.png",
                (image * (1 - 0.02 * copy)).astype(np.uint8),
            )
            write(tmp_path / f"masks/{number}-{copy}.png", mask)
    inspected = load_inspected(config_of(tmp_path))
    dataset = inspected.dataset
    sets = [
        {name.split("/")[1].split("-")[0] for name in part.names}
        for part in (dataset.train, dataset.val, dataset.test)
    ]
    assert len(inspected.pairs) == 12
    assert sum(map(len, sets)) == len(set.union(*sets))


# Sizes in training


def test_images_smaller_than_the_crop_are_allowed(fill):
    root = fill()
    assert load(config_of(root)).image == (3, 32, 32)
    assert load(config_of(root, image_size=64)).image == (3, 64, 64)
    with pytest.raises(
        DataError, match=r"^data\.image_size 50 is not a multiple of 32.*32 or 64\."
    ):
        load(config_of(root, image_size=50))


@pytest.mark.parametrize(
    ("size", "side"), [((64, 96), None), ((100, 100), 128), ((256, 300), 224), ((64, 256), 64)]
)
def test_large_images_of_one_size_are_cut(size, side, tmp_path, pair, write):
    for number in range(4):
        pixels, mask = pair(number, height=size[0], width=size[1])
        write(tmp_path / f"images/{number}.png", pixels)
        write(tmp_path / f"masks/{number}.png", mask)
    assert load(config_of(tmp_path)).side == side
