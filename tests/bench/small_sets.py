"""Makes small data sets of many kinds, as folders of classes, from a few published ones.

    python -m tests.bench.small_sets --cifar10 FOLDER --others FOLDER --out FOLDER

The first folder has CIFAR-10 as `train/CLASS` and `test/CLASS`. The second has `MNIST/raw`, the
blood cells of BCCD (`bccd`), images and masks of nuclei (`nuclei`), and photographs (`photos`).
"""

import argparse
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torchvision.datasets import MNIST

SIDE = 64
VEHICLES = ("airplane", "automobile", "ship", "truck")
Pixels = NDArray[np.uint8]
Labelled = tuple[str, Pixels]
"""A class and an image, as (height, width) or (height, width, 3)."""


def write(images: Iterator[Labelled], folder: Path) -> None:
    """Write images as PNG files of folders of classes."""
    for number, (label, pixels) in enumerate(images):
        place = folder / label
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(place / f"{number:05d}.png")


def subset(source: Path, out: Path, sizes: dict[str, int], name: Callable[[str], str]) -> None:
    """Copy the same number of images of each class, and name the classes anew."""
    for part, size in sizes.items():
        classes = sorted(folder for folder in (source / part).iterdir() if folder.is_dir())
        for folder in classes:
            place = out / part / name(folder.name)
            place.mkdir(parents=True, exist_ok=True)
            for path in sorted(folder.iterdir())[: size // len(classes)]:
                shutil.copy(path, place / f"{folder.name}-{path.name}")


def digits_of_mnist(root: Path, part: str, size: int) -> Iterator[Labelled]:
    """Yield images of MNIST."""
    images = MNIST(root, train=part == "train")
    for row in np.random.default_rng(0).permutation(len(images))[:size]:
        yield str(int(images.targets[row])), images.data[row].numpy()


def coloured(digits: Iterator[Labelled], photographs: list[Pixels]) -> Iterator[Labelled]:
    """Yield digits in a random colour on a patch of a photograph."""
    generator = np.random.default_rng(0)
    for label, digit in digits:
        ink = digit[..., np.newaxis] / 255
        colour = generator.integers(0, 256, 3)
        patch = crop(photographs[generator.integers(len(photographs))], len(digit), generator)
        yield label, (patch * (1 - ink) + colour * ink).astype(np.uint8)


def crop(image: Pixels, side: int, generator: np.random.Generator) -> Pixels:
    """Return a random square of an image."""
    top, left = (int(generator.integers(length - side)) for length in image.shape[:2])
    return image[top : top + side, left : left + side]


def cells(root: Path, each: int) -> Iterator[Labelled]:
    """Yield crops of blood cells: the same number of each kind."""
    boxes: dict[str, list[Any]] = {}
    for path in sorted((root / "Annotations").glob("*.xml")):
        for found in ElementTree.parse(path).findall("object"):
            corners = ("xmin", "ymin", "xmax", "ymax")
            box = [int(float(found.findtext(f"bndbox/{corner}", "0"))) for corner in corners]
            if min(box[2] - box[0], box[3] - box[1]) >= 8:
                boxes.setdefault(found.findtext("name", ""), []).append((path.stem, box))
    for label, places in boxes.items():
        for row in np.random.default_rng(0).permutation(len(places))[:each]:
            stem, box = places[row]
            (path,) = (root / "JPEGImages").glob(f"{stem}.*")
            yield label, np.asarray(Image.open(path).convert("RGB").crop(box))


def places(photographs: list[Pixels], classes: int, each: int) -> Iterator[Labelled]:
    """Yield squares of photographs; the class is the photograph."""
    generator = np.random.default_rng(0)
    for number, photograph in enumerate(photographs[:classes]):
        for _ in range(each):
            yield f"photograph{number:02d}", crop(photograph, SIDE, generator)


def crowded(root: Path, size: int) -> Iterator[Labelled]:
    """Yield squares of microscope images; the class is the number of nuclei: none, few, many."""
    generator = np.random.default_rng(0)
    paths = sorted((root / "images").iterdir())
    for row in generator.integers(len(paths), size=size):
        image = np.asarray(Image.open(paths[row]).convert("RGB"))
        (mask_path,) = (root / "masks").glob(f"{paths[row].stem}.*")
        mask = np.asarray(Image.open(mask_path))
        both = crop(np.dstack([image, mask]), SIDE, generator)
        count = len(np.unique(both[..., 3])) - 1
        yield ("few", "some", "many")[(count > 2) + (count > 6)], both[..., :3].astype(np.uint8)


def main() -> None:
    """Write all data sets."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cifar10", type=Path, required=True)
    parser.add_argument("--others", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    paths = sorted(path for path in (args.others / "photos").iterdir() if path.suffix == ".webp")
    photographs = [np.asarray(Image.open(path).convert("RGB")) for path in paths]
    for name, size in (("objects-few", 500), ("objects", 3000)):
        subset(args.cifar10, args.out / name, {"train": size, "test": 1000}, str)
    subset(
        args.cifar10,
        args.out / "vehicles-or-animals",
        {"train": 1000, "test": 1000},
        lambda label: "vehicle" if label in VEHICLES else "animal",
    )
    for part, size in (("train", 2000), ("test", 1000)):
        digits = digits_of_mnist(args.others, part, size)
        write(digits, args.out / "handwritten-digits" / part)
        digits = digits_of_mnist(args.others, part, size)
        write(coloured(digits, photographs), args.out / "coloured-digits" / part)
    write(cells(args.others / "bccd", 300), args.out / "blood-cells")
    write(places(photographs, 20, 60), args.out / "photographed-places")
    write(crowded(args.others / "nuclei", 1200), args.out / "crowded-nuclei")


if __name__ == "__main__":
    main()
