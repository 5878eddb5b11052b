"""A zoo of folders as people have them: what is said of each, and that none is silently wrong.

Each folder is made small. What is read is compared with an independent reading of the same files:
by tifffile, scikit-image or torchvision, or with the pixels that were drawn.
"""

import os
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.color
import skimage.io
import skimage.transform
import tifffile
import torch
from numpy.typing import NDArray
from PIL import Image
from torchvision.io import ImageReadMode, decode_image

from trainables.config import DataConfig
from trainables.datasets.images import READ
from trainables.datasets.layout import readable_suffixes
from trainables.datasets.load import load
from trainables.errors import DataError

# It is read here for comparison only. torchvision 0.29 warns that another library should do it.
pytestmark = pytest.mark.filterwarnings("ignore:The image decoding:DeprecationWarning")

Pixels = NDArray[Any]
HEIGHT, WIDTH = 8, 9
CLASSES = ("cat", "dog")


def drawn(number: int = 0, height: int = HEIGHT, width: int = WIDTH) -> Pixels:
    """A smooth colour image that no turning or mirroring leaves as it is."""
    y, x = np.mgrid[:height, :width] / [[[height]], [[width]]]
    image = np.stack([200 * x + 20, 180 * y + 30, 60 * (x + y) + 10 * (number % 12)], axis=-1)
    return image.astype(np.uint8)


def save(path: Path, image: Pixels | Image.Image, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    made = image if isinstance(image, Image.Image) else Image.fromarray(image)
    made.save(path, **options)
    return path


def fill(root: Path, *folders: str, count: int = 3, suffix: str = "png") -> None:
    """Write some images into each of these folders, all different."""
    for number, folder in enumerate(folders):
        for one in range(count):
            save(root / folder / f"{one}.{suffix}", drawn(count * number + one))


def write(root: Path, make: Callable[[Path, int], object], count: int = 3) -> None:
    """Have `make` write so many files of each class, from the file's path without a suffix."""
    for number in range(count * len(CLASSES)):
        path = root / CLASSES[number // count] / str(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        make(path, number)


def png(bits: int, kind: int, values: Pixels) -> bytes:
    """A PNG of any depth and kind of colour, which Pillow does not write."""

    def chunk(name: bytes, content: bytes) -> bytes:
        body = name + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    rows = b"".join(b"\0" + row.astype(f">u{bits // 8}").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], bits, kind, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


# Independent readings of a file, (height, width, channels) from 0 to 255


def by_torchvision(path: Path) -> Pixels:
    content = torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8)
    found = decode_image(content, ImageReadMode.RGB, apply_exif_orientation=True)
    return np.asarray((found[0] if found.ndim == 4 else found).permute(1, 2, 0))


def by_skimage(path: Path) -> Pixels:
    found = skimage.io.imread(path)
    return skimage.util.img_as_ubyte(found if found.ndim == 3 else found[..., None])


def on_white(path: Path) -> Pixels:
    """The colours of a transparent image as a page shows them."""
    content = torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8)
    found = np.asarray(decode_image(content, ImageReadMode.RGB_ALPHA).permute(1, 2, 0))
    return 255 * skimage.color.rgba2rgb(found)


def by_range(low: float, high: float) -> Callable[[Path], Pixels]:
    """A reading of values by tifffile (of PNG: scikit-image), whose range is that of all files."""

    def read(path: Path) -> Pixels:
        values = (tifffile.imread if path.suffix == ".tif" else skimage.io.imread)(path)
        return 255 * (values[..., None].astype(float) - low) / (high - low)

    return read


def by_tifffile(path: Path) -> Pixels:
    """The first page."""
    return tifffile.imread(path, key=0)


def by_drawing(path: Path) -> Pixels:
    return drawn(int(path.stem))


# The zoo


@dataclass(frozen=True)
class Animal:
    """A folder, and what is to be said of it."""

    make: Callable[[Path], object]
    said: tuple[str, ...] = ()
    """The lines before a search (`{root}` is the folder), or the problems if it is refused."""
    refused: bool = False
    read: Callable[[Path], Pixels] = by_torchvision
    within: float = 0
    """The largest difference of a pixel, of 255."""
    classes: tuple[str, ...] = CLASSES
    given: tuple[int, int] | None = None
    """The numbers of validation and test images that lie in parts of their own."""
    options: tuple[tuple[str, Any], ...] = ()
    names: int | None = None
    """The number of files that are read, where not every image in the folder is."""


ZOO: dict[str, Animal] = {}
PLAIN = ("cat", "dog")
PARTS = [f"{part}/{name}" for part in ("train", "val", "test") for name in PLAIN]


def in_parts(*parts: str) -> Callable[[Path], object]:
    return lambda root: fill(root, *(f"{part}/{name}" for part in parts for name in PLAIN))


def wrong(what: str, *files: str) -> Callable[[Path], object]:
    """A good folder, with these files beside what is good; `what` is in each."""

    def make(root: Path) -> None:
        fill(root, *PLAIN)
        for file in files:
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            (root / file).write_text(what)

    return make


for parts in (
    ("train", "val", "test"),
    ("Train", "VALID", "Test"),
    ("training_set", "validation_set", "test_set"),
    ("trainset", "val-data", "testing images"),
):
    ZOO[f"parts: {' '.join(parts)}"] = Animal(in_parts(*parts), given=(6, 6))
ZOO["parts: seg_train dev seg_test"] = Animal(
    in_parts("seg_train", "dev", "seg_test"),
    (
        "note: judging by names and classes, 'dev' is the validation set, 'seg_test' is the test "
        "set, 'seg_train' is the training set.",
    ),
    given=(6, 6),
)
ZOO["parts: twice the same folder"] = Animal(
    in_parts("train/train", "test/test"),
    (
        ("note: 'train/train' is read, because it is the only folder with images in 'train'."),
        "note: 'test/test' is read, because it is the only folder with images in 'test'.",
    ),
    given=(None, 6),
)
ZOO["parts: two for training"] = Animal(
    in_parts("train", "training", "test"),
    (
        "'{root}' has two folders for the training set, 'train' and 'training'. Keep only one of "
        "them. To read all folders as classes, put them into '{root}/train'.",
    ),
    refused=True,
)
ZOO["parts: a test part without classes"] = Animal(
    lambda root: fill(root, "train/cat", "train/dog", "test", count=4),
    (
        "note: 'test' has no class folders, so a test set is drawn from the training images.",
        "warning: 4 images are left out, because only images in class folders are read (first: "
        "test/0.png).",
    ),
    names=8,
)
ZOO["parts: training images without classes"] = Animal(
    lambda root: fill(root, "train", "test/cat", "test/dog"),
    (
        "there are no class folders in '{root}/train'. Expected one sub-folder per class with its "
        "images.",
    ),
    refused=True,
)
ZOO["parts: two of a kind, numbered"] = Animal(
    in_parts("train_1", "train_2"),
    (
        "'train_1', 'train_2' and so on are read as the classes, but each contains the same "
        "folders, for example 'cat' and 'dog'. If those are the classes, put all images of a class "
        "into one folder. If the outer folders are a training and a test set, name them 'train' "
        "and 'test'.",
    ),
    refused=True,
)
ZOO["parts: within each class"] = Animal(
    lambda root: fill(root, "cat/train", "cat/val", "cat/test", "dog/Train", "dog/val", "dog/test"),
    ("note: each class folder is divided into these sets: training, validation, test.",),
    given=(6, 6),
)
ZOO["parts: within one class alone"] = Animal(
    lambda root: fill(root, "cat/train", "cat/test", "dog"),
    (
        "'cat' in '{root}' is divided into training, validation or test images, but 'dog' is not, "
        "or also has other images. Divide all classes in the same way, or divide none of them.",
    ),
    refused=True,
)
ZOO["parts: in each of two folders"] = Animal(
    in_parts("one/train", "one/test", "two/train", "two/test"),
    (
        "'{root}' is not divided into training and test sets, but these folders in it are: "
        "'one', 'two'. Choose one of them: --data folder:{root}/one",
    ),
    refused=True,
)
ZOO["parts: beside classes"] = Animal(
    lambda root: fill(root, "cat", "dog", "test"),
    (
        "'test' in '{root}' has the name of a training, validation or test set, but 'cat' beside "
        "looks like a class. If it is a set, move 'cat' and all other classes into 'train'. To "
        "read all folders as classes, put them into '{root}/train'.",
    ),
    refused=True,
)
ZOO["parts: a class is spelled otherwise, another is new"] = Animal(
    lambda root: fill(root, "train/Dog", "train/cat", "val/dog", "val/cat", "val/emu"),
    (
        "class 'dog' has validation images (first: val/dog/0.png) but no training images. "
        "'Dog' has some: use the same name for both.",
        "class 'emu' has validation images (first: val/emu/0.png) but no training images. "
        "Each class needs training images.",
    ),
    refused=True,
)
ZOO["parts: one in another"] = Animal(
    in_parts("train/train", "train/val", "test"),
    (
        "'train' is the training set, but it is itself divided into training, validation or test "
        "sets. Put the folders of all sets directly into '{root}'.",
    ),
    refused=True,
)
ZOO["parts: one among the classes of another"] = Animal(
    in_parts("train", "train/val", "test"),
    (
        "'train/val' is next to the classes, but contains folders with the same names (first: "
        "'train/val/cat'). If it is a training, validation or test set, move it out of there.",
    ),
    refused=True,
)
ZOO["parts and classes that are links"] = Animal(
    lambda root: (
        fill(root.parent, "cats", "dogs"),
        [(root / part).mkdir() for part in ("train", "test")],
        [
            (root / part / name).symlink_to(root.parent / f"{name}s")
            for part in ("train", "test")
            for name in PLAIN
        ],
    ),
    given=(None, 6),
    names=12,
)
ZOO["one folder too high"] = Animal(
    lambda root: (
        fill(root, "flowers/flowers/cat", "flowers/flowers/dog"),
        fill(root, "__MACOSX/flowers/cat"),
    ),
    (
        "note: 'flowers/flowers' is read, because it is the only folder with images in '{root}'.",
        "note: 1 hidden or system file is left out (first: __MACOSX).",
    ),
    names=6,
)
ZOO["one folder too high, in parts"] = Animal(
    in_parts("flowers/train", "flowers/test"),
    ("note: 'flowers' is read, because it is the only folder with images in '{root}'.",),
    given=(None, 6),
)
ZOO["one folder too low"] = Animal(
    lambda root: fill(root.parent, root.name, "dog"),
    (
        "there are no class folders in '{root}'. Expected one sub-folder per class with its "
        "images. The parent folder looks like a data set: pass --data folder:{parent}",
    ),
    refused=True,
)
ZOO["photographs in a folder where somebody works"] = Animal(
    lambda root: (
        fill(root.parent, root.name, "screenshots"),
        (root.parent / "train.py").write_text("x"),
    ),
    (
        "there are no class folders in '{root}'. Expected one sub-folder per class with its "
        "images. To learn to enlarge these images, use --task super_resolution.",
    ),
    refused=True,
)
ZOO["a folder of what is not sorted yet"] = Animal(
    lambda root: fill(root, "cat", "dog", "to_sort"),
    (
        "warning: 'to_sort' is read as a class. If its images are not sorted yet, move it out of "
        "the folder.",
    ),
    classes=("cat", "dog", "to_sort"),
)
ZOO["nothing but an archive and a table"] = Animal(
    lambda root: [(root / name).write_text("x") for name in ("labels.csv", "images.zip")],
    (
        "there are no class folders in '{root}'. Expected one sub-folder per class with its "
        "images. "
        "'labels.csv' is not read: put the images of each class into a folder with its name. "
        "'images.zip' is not read: unpack it.",
    ),
    refused=True,
)
ZOO["folders in classes"] = Animal(
    lambda root: fill(root, "cat/2024", "cat/2025/may", "dog"), names=9
)
ZOO["the same folders in each class"] = Animal(
    lambda root: fill(root, "cat/left", "cat/right", "dog/left", "dog/right"),
    (
        "warning: 'cat', 'dog' and so on are read as the classes, but each contains the same "
        "folders, for example 'left' and 'right'. If those are the classes, put all images of a "
        "class into one folder.",
    ),
)
ZOO["classes once more in one of them"] = Animal(
    lambda root: fill(root, "cat", "dog", "old/cat", "old/dog"),
    (
        "warning: 'old' is next to the classes, but contains folders with the same names (first: "
        "'old/cat'). It is read as a class.",
    ),
    classes=("cat", "dog", "old"),
)
ZOO["classes that differ in case alone"] = Animal(
    lambda root: fill(root, "Dog", "cat", "dog"),
    (
        "warning: 'Dog' and 'dog' are read as different classes. If they are the same class, put "
        "their images into one folder.",
    ),
    classes=("Dog", "cat", "dog"),
)
ZOO["what systems leave"] = Animal(
    wrong("x", "cat/._0.png", "cat/.DS_Store", "dog/Thumbs.db", "Desktop.ini", "@eaDir/0.png"),
    ("note: 5 hidden or system files are left out (first: @eaDir).",),
    names=6,
)
ZOO["an empty class"] = Animal(
    lambda root: (fill(root, *PLAIN), (root / "emu").mkdir()),
    ("warning: 1 class folder is left out, because no images were found there (first: emu).",),
)
ZOO["one class beside empty ones"] = Animal(
    lambda root: (fill(root, "cat"), (root / "dog").mkdir(), (root / "emu").mkdir()),
    (
        f"2 folders contain no images (first: dog). Supported formats: {readable_suffixes()}.",
        "only one class was found ('cat'). A classifier needs at least two.",
    ),
    refused=True,
)
ZOO["files beside the images"] = Animal(
    lambda root: (
        wrong("x", "notes.txt", "cat/a.xml", "cat/0.psd")(root),
        fill(root, "."),
    ),
    (
        "warning: 1 image is not read: 1 .psd (first: cat/0.psd). Convert them to PNG or JPEG.",
        f"note: 2 files are not read: 1 .txt, 1 .xml (first: cat/a.xml). Supported "
        f"formats: {readable_suffixes()}.",
        "warning: 3 images are left out, because only images in class folders are read (first: "
        "0.png).",
    ),
    names=6,
)
ZOO["everything wrong at once"] = Animal(
    lambda root: (
        fill(root, "train/cat", "train/dog", "val/cat", "val/emu"),
        fill(root, "train/fox", count=1),
        [
            (root / "train/cat" / name).write_text(content)
            for name, content in (("a.png", ""), ("b.png", "text"), ("c.png", "text"))
        ],
    ),
    (
        "class 'emu' has validation images (first: val/emu/0.png) but no training images. "
        "Each class needs training images.",
        "1 image cannot be read (first: train/cat/a.png: the file is empty). Remove it, or leave "
        "it out with --skip-bad.",
        "2 images cannot be read (first: train/cat/b.png: the file is not an image). Remove them, "
        "or leave them out with --skip-bad.",
        "class 'fox' has 1 image; each class needs a training and a test image. Add images or "
        "remove the class.",
    ),
    refused=True,
)

# Formats

ZOO["GIF, moving"] = Animal(
    lambda root: write(
        root,
        lambda path, number: save(
            path.with_suffix(".gif"),
            Image.fromarray(drawn(number)).quantize(64),
            save_all=True,
            append_images=[Image.fromarray(drawn(number)[::-1]).quantize(64)],
        ),
    ),
    ("note: only the first page or frame of 6 files is read (first: cat/0.gif).",),
    read=by_torchvision,
)
ZOO["WebP, moving"] = Animal(
    lambda root: write(
        root,
        lambda path, number: save(
            path.with_suffix(".webp"),
            drawn(number),
            save_all=True,
            lossless=True,
            append_images=[Image.fromarray(drawn(number)[::-1])],
        ),
    ),
    ("note: only the first page or frame of 6 files is read (first: cat/0.webp).",),
    read=by_drawing,
)
ZOO["TIFF of several pages"] = Animal(
    lambda root: write(
        root,
        lambda path, number: tifffile.imwrite(
            path.with_suffix(".tif"),
            np.stack([drawn(number), drawn(number)[::-1]]),
            photometric="rgb",
        ),
    ),
    ("note: only the first page or frame of 6 files is read (first: cat/0.tif).",),
    read=by_tifffile,
)
ZOO["AVIF"] = Animal(
    lambda root: write(
        root,
        lambda path, number: save(
            path.with_suffix(".avif"), drawn(number), quality=100, subsampling="4:4:4"
        ),
    ),
    read=by_drawing,
    within=6,
)
ZOO["a portable pixmap"] = Animal(
    lambda root: write(root, lambda path, number: save(path.with_suffix(".ppm"), drawn(number))),
    read=by_drawing,
)
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40)
ZOO["HEIC, without its library"] = Animal(
    lambda root: (fill(root, *PLAIN), (root / "cat" / "9.heic").write_bytes(HEIC)),
    (
        "warning: 1 image is not read: 1 .heic (first: cat/9.heic). To read .heic "
        "files, run `pip install pillow-heif`; convert other formats to PNG or JPEG.",
    ),
    names=6,
)
ZOO["HEIC that says it is JPEG, without its library"] = Animal(
    lambda root: (fill(root, *PLAIN), (root / "cat" / "9.jpg").write_bytes(HEIC)),
    (
        "1 image cannot be read (first: cat/9.jpg: the file is a HEIC photograph; to read it, run "
        "`pip install pillow-heif`). Remove it, or leave it out with "
        "--skip-bad.",
    ),
    refused=True,
)
ZOO["JPEG"] = Animal(
    lambda root: write(
        root, lambda path, number: save(path.with_suffix(".JPG"), drawn(number), quality=95)
    ),
    read=by_torchvision,
    within=2,
)
ZOO["CMYK in JPEG"] = Animal(
    lambda root: write(
        root,
        lambda path, number: save(
            path.with_suffix(".jpg"), Image.fromarray(drawn(number)).convert("CMYK"), quality=100
        ),
    ),
    read=by_drawing,
    within=6,
)


def ycck(path: Path, number: int) -> None:
    """Save as Adobe does: brightness and colour of the inks, and black, all of it inverted."""
    inks = np.asarray(Image.fromarray(255 - drawn(number)).convert("YCbCr"))
    planes = np.dstack([255 - inks, np.zeros((HEIGHT, WIDTH), np.uint8)])
    save(path.with_suffix(".jpg"), Image.fromarray(planes, "CMYK"), quality=100)
    content = bytearray(path.with_suffix(".jpg").read_bytes())
    content[content.index(b"Adobe") + 11] = 2
    path.with_suffix(".jpg").write_bytes(content)


ZOO["YCCK in JPEG"] = Animal(lambda root: write(root, ycck), read=by_drawing, within=6)
ZOO["a suffix that lies, in capitals, or none"] = Animal(
    lambda root: write(
        root,
        lambda path, number: save(
            path.with_suffix((".jpg", ".PNG", "")[number % 3]), drawn(number), format="PNG"
        ),
    ),
)
ZOO["a palette, transparent in places"] = Animal(
    lambda root: write(
        root,
        lambda path, number: save(
            path.with_suffix(".png"),
            Image.fromarray(drawn(number)).quantize(16),
            transparency=number,
        ),
    ),
    ("note: 6 images are partly transparent; the background is made white (first: cat/0.png).",),
    read=on_white,
    within=1,
)
ZOO["black on nothing"] = Animal(
    lambda root: write(
        root,
        lambda path, number: save(
            path.with_suffix(".png"),
            np.dstack([np.zeros((HEIGHT, WIDTH, 3), np.uint8), drawn(number)[..., :1]]),
        ),
    ),
    ("note: 6 images are partly transparent; the background is made white (first: cat/0.png).",),
    read=on_white,
    within=1,
)
ZOO["white on nothing"] = Animal(
    lambda root: write(
        root,
        lambda path, number: save(
            path.with_suffix(".png"),
            np.dstack([np.full((HEIGHT, WIDTH, 3), 255, np.uint8), drawn(number)[..., :1]]),
        ),
    ),
    (
        "warning: 6 transparent images are completely white on a white background (first: "
        "cat/0.png).",
    ),
    read=on_white,
    within=1,
)
ZOO["grey on nothing"] = Animal(
    lambda root: write(
        root,
        lambda path, number: save(
            path.with_suffix(".png"), Image.fromarray(drawn(number)[..., :2], "LA")
        ),
    ),
    ("note: 6 images are partly transparent; the background is made white (first: cat/0.png).",),
    read=lambda path: on_white(path)[..., :1],
    within=1,
)
ZOO["one bit"] = Animal(
    lambda root: write(
        root,
        lambda path, number: save(
            path.with_suffix(".png"), Image.fromarray(drawn(number)[..., 0] > 99)
        ),
    ),
    read=by_skimage,
)
ZOO["12 bits in 16, PNG"] = Animal(
    lambda root: write(
        root,
        lambda path, number: save(
            path.with_suffix(".png"), np.linspace(0, 4095, 72).astype(np.uint16).reshape(8, 9)
        ),
    ),
    ("note: all 16-bit images are scaled together: values from 0 to 4095 become 0 to 255.",),
    read=by_range(0, 4095),
    within=1,
)
ZOO["floats in TIFF"] = Animal(
    lambda root: write(
        root,
        lambda path, number: tifffile.imwrite(
            path.with_suffix(".tif"),
            np.linspace(-1, number + 1, 72, dtype=np.float32).reshape(8, 9),
        ),
    ),
    ("note: all floating-point images are scaled together: values from -1 to 6 become 0 to 255.",),
    read=by_range(-1, 6),
    within=1,
)
ZOO["floats that are no numbers"] = Animal(
    lambda root: write(
        root,
        lambda path, number: tifffile.imwrite(
            path.with_suffix(".tif"),
            np.where(np.eye(8, 9) * (number == 1), np.nan, np.linspace(0, 1, 9)).astype(np.float32),
        ),
    ),
    (
        "1 image cannot be read (first: cat/1.tif: the image contains NaN or infinite values). "
        "Remove it, or leave it out with --skip-bad.",
    ),
    refused=True,
)
ZOO["16-bit colour"] = Animal(
    lambda root: write(
        root,
        lambda path, number: path.with_suffix(".png").write_bytes(
            png(16, 2, 257 * drawn(number).astype(np.uint16))
        ),
    ),
    read=by_drawing,
)
ZOO["12 bits in 16-bit colour, among others"] = Animal(
    lambda root: (
        fill(root, *PLAIN),
        (root / "cat" / "9.png").write_bytes(png(16, 2, 16 * drawn().astype(np.uint16))),
    ),
    (
        "only the upper 8 bits of the 16-bit colour images are read (first: cat/9.png), and their "
        "largest value is 12 of 255. Convert the images to 8 bits, scaled by their own range.",
    ),
    refused=True,
)
ZOO["8 bits beside floats"] = Animal(
    lambda root: (
        fill(root, *PLAIN),
        tifffile.imwrite(root / "cat" / "9.tif", np.ones((HEIGHT, WIDTH), np.float32)),
    ),
    (
        "the images have different pixel types: 8-bit (6 images, first: cat/0.png) and "
        "floating-point (1 image, first: cat/9.tif). Their brightness cannot be compared. Convert "
        "all images to the same type, for example to 8 bits.",
    ),
    refused=True,
)


def turned(path: Path, number: int) -> None:
    """Save an image as a camera does that is held, or mirrors, in this way."""
    back = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    exif = Image.Exif()
    exif[0x0112] = number % 7 + 2
    held = Image.fromarray(drawn(number)).transpose(back[number % 7 + 2])
    held.save(path.with_suffix(".png"), exif=exif)


ZOO["turned and mirrored by EXIF"] = Animal(
    lambda root: write(root, turned, count=4), read=by_drawing
)
ZOO["cut off"] = Animal(
    lambda root: (
        fill(root, *PLAIN),
        os.truncate(save(root / "cat" / "9.jpg", drawn(height=90, width=90)), 900),
    ),
    (
        "1 image cannot be read (first: cat/9.jpg: the image is damaged or cut off). Remove it, or "
        "leave it out with --skip-bad.",
    ),
    refused=True,
)
ZOO["cut off and empty, left out"] = Animal(
    lambda root: (
        wrong("", "dog/8.png")(root),
        os.truncate(save(root / "cat" / "9.png", drawn()), 80),
    ),
    names=6,
    options=(("skip_bad", True),),
)
ZOO["a line of 20,000 pixels"] = Animal(
    lambda root: (
        fill(root, *PLAIN),
        save(root / "dog" / "9.png", np.full((3, 20_000, 3), 90, np.uint8)),
    ),
    (
        "warning: 1 image is more than 8 times as long as wide, and distorted by resizing to 224 x "
        "224 pixels (first: dog/9.png, 20000 x 3).",
    ),
    read=lambda path: skimage.transform.resize(
        by_torchvision(path).astype(float), (224, 224), order=1, mode="edge", anti_aliasing=False
    ),
    within=1,
)


def folder_of(root: Path, animal: Animal) -> Path:
    root = root / "folder"
    root.mkdir()
    animal.make(root)
    return root


def lines_of(animal: Animal, root: Path) -> tuple[str, ...]:
    return tuple(line.format(root=root, parent=root.parent) for line in animal.said)


READABLE = {name: animal for name, animal in ZOO.items() if not animal.refused}
REFUSED = {name: animal for name, animal in ZOO.items() if animal.refused}


def needs_no_heif(name: str) -> None:
    if "HEIC" in name and "HEIF" in READ:
        pytest.skip("pillow-heif is installed here")


def test_the_zoo_is_as_large_as_was_promised() -> None:
    assert len(ZOO) >= 30


@pytest.mark.parametrize("name", READABLE)
def test_a_folder_is_read_as_a_person_would_expect(name: str, tmp_path: Path) -> None:
    needs_no_heif(name)
    animal = ZOO[name]
    root = folder_of(tmp_path, animal)
    dataset = load(DataConfig(name="folder", root=str(root), **dict(animal.options)))
    assert dataset.remarks == lines_of(animal, root)
    assert dataset.classes == animal.classes
    parts = [part for part in (dataset.train, dataset.val, dataset.test) if part is not None]
    for part in parts:
        for image, label, file in zip(part.images, part.targets, part.names or (), strict=True):
            assert animal.classes[label] in Path(file).parts
            np.testing.assert_allclose(
                image, animal.read(root / file).astype(float), atol=animal.within, err_msg=file
            )
    if animal.given is not None:
        for wanted, part in zip(animal.given, (dataset.val, dataset.test), strict=True):
            assert wanted is None or len(part or ()) == wanted
    files = {path for path in root.rglob("*") if path.is_file()}
    assert sum(map(len, parts)) == (animal.names or len(files))


@pytest.mark.parametrize("name", REFUSED)
def test_a_folder_is_refused_with_all_that_is_wrong(name: str, tmp_path: Path) -> None:
    needs_no_heif(name)
    animal = ZOO[name]
    root = folder_of(tmp_path, animal)
    with pytest.raises(DataError) as caught:
        load(DataConfig(name="folder", root=str(root)))
    assert tuple(str(caught.value).splitlines()) == lines_of(animal, root)


def test_what_is_left_out_is_named_file_by_file(tmp_path: Path) -> None:
    root = folder_of(tmp_path, ZOO["cut off and empty, left out"])
    found = load(DataConfig(name="folder", root=str(root), skip_bad=True))
    assert [(one.path, one.reason) for one in found.left_out] == [
        ("cat/9.png", "cannot be read: the image is damaged or cut off"),
        ("dog/8.png", "cannot be read: the file is empty"),
    ]
