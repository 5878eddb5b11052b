"""How fast batches of images come from the disk, in random order, ours beside other libraries.

    python -m tests.bench.loading [--images 20000] [--folder FOLDER] [--peers PYTHON]
        [--repetitions 3] [--batch 64]

Makes a folder of JPEG files of 224 x 224 pixels in 100 classes, unless it is there: random squares
of scikit-learn's two photographs, resized, half of them mirrored, at quality 85. Each loader first
writes what it needs (ours: the decoded file, or the checked list of files), and then reads all
images twice, by as many processes or threads as there are processors, without a network. Pages of
the files are dropped from the system's cache before the first of these passes, as far as the system
allows. Our passes are in random order over all images; LitData and WebDataset shuffle within chunks
and a buffer. All give uint8 pixels.

`--peers` is the Python of an environment with `litdata` and `webdataset`; without it they are left
out. They must not be installed into the project's environment:

    PACKAGES=$(.venv/bin/python -c "import site; print(site.getsitepackages()[0])")
    python -m venv /tmp/venv-loading
    echo $PACKAGES > $(echo /tmp/venv-loading/lib/python3.*/site-packages)/project.pth
    /tmp/venv-loading/bin/pip install litdata webdataset

Prints a Markdown table: medians of the repetitions, with their range.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

from tests.bench.table import machine, progress
from trainables.config import DataConfig
from trainables.datasets import cache
from trainables.datasets.load import load
from trainables.machine import processors
from trainables.on_disk import ImagesOnDisk

SIDE, CLASSES, QUALITY, LEAST_SIDE = 224, 100, 85, 112
"""The side of the images, their classes, their quality, and the least side of a square."""
OURS = {"mapped": "ours, decoded in a file", "encoded": "ours, decoded whenever used"}
PEERS = {
    "imagefolder": "torchvision's ImageFolder, DataLoader",
    "litdata": "LitData",
    "webdataset": "WebDataset",
}
ACTIONS = ("write", "read")
SCRIPT = Path(__file__).with_name("peers") / "load_images.py"


def make(folder: Path, count: int) -> None:
    """Make the images that are missing in the folder."""
    photographs = [Image.fromarray(pixels) for pixels in load_sample_images().images]

    def write(number: int) -> None:
        path = folder / f"{number % CLASSES:03d}" / f"{number:07d}.jpg"
        if path.exists():
            return
        generator = np.random.default_rng(number)
        photograph = photographs[number % len(photographs)]
        side = int(generator.integers(LEAST_SIDE, min(photograph.size) + 1))
        left, top = (int(generator.integers(0, length - side + 1)) for length in photograph.size)
        square = photograph.crop((left, top, left + side, top + side)).resize((SIDE, SIDE))
        if generator.random() < 0.5:
            square = square.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        square.save(path, quality=QUALITY)

    for number in range(CLASSES):
        (folder / f"{number:03d}").mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(processors()) as pool:
        list(pool.map(write, range(count)))


def load_on_disk(loader: str, folder: Path) -> ImagesOnDisk:
    """Load the training images so that they stay on the disk, on a machine of any size."""
    setattr(cache, "is_large", lambda size: True)  # noqa: B010 - not exported, for mypy
    if loader == "encoded":
        setattr(cache, "free_memory", lambda: 0)  # noqa: B010
        os.environ["IMAGE_CACHE_GB"] = "0"
    else:
        os.environ["IMAGE_CACHE_GB"] = "1000"
    dataset = load(DataConfig(name="folder", root=str(folder), val_fraction=0.01))
    images = dataset.train.images
    assert isinstance(images, ImagesOnDisk)
    assert type(images).__name__ == loader.capitalize()
    return images


def read(images: ImagesOnDisk, batch: int, passes: int) -> dict[str, Any]:
    """Read all images in random order, the next batch expected, as a training does."""
    seconds = []
    for number in range(passes):
        start = time.perf_counter()
        order = np.random.default_rng(number).permutation(len(images))
        batches = [order[first : first + batch] for first in range(0, len(order), batch)]
        for here, ahead in zip(batches, [*batches[1:], None], strict=True):
            if ahead is not None:
                images.expect(images.rows[ahead])
            images[here]
        seconds.append(time.perf_counter() - start)
    return {"images": [len(images)] * passes, "seconds": seconds}


def run_ours(args: argparse.Namespace) -> None:
    """Write or read with one of our loaders, and print the figures as JSON."""
    loader, action = args.ours
    start = time.perf_counter()
    images = load_on_disk(loader, args.folder)
    loaded_s = time.perf_counter() - start
    figures = {"write_s": loaded_s} if action == "write" else read(images, args.batch, args.passes)
    print(json.dumps(figures))


def forget(folder: Path) -> None:
    """Drop the pages of all files of a folder from the system's cache."""
    os.sync()
    for path in folder.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


def figures_of(words: list[str], copy: Path) -> dict[str, Any]:
    """Run a loader in a process of its own, whose cache is in `copy`; return its figures."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(copy)}
    done = subprocess.run(words, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    figures: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return figures


def measure(loader: str, args: argparse.Namespace) -> dict[str, float]:
    """Let a loader write, and read twice; return the seconds and the images a second."""
    with tempfile.TemporaryDirectory(dir=args.scratch) as name:
        copy = Path(name) / "copy"
        sizes = ["--batch", str(args.batch), "--passes", str(args.passes)]
        if loader in OURS:
            own = [sys.executable, "-m", "tests.bench.loading", "--folder", str(args.folder)]
            commands = [[*own, *sizes, "--ours", loader, action] for action in ACTIONS]
        else:
            python = sys.executable if loader == "imagefolder" else args.peers
            places = [str(args.folder), str(copy), *sizes, "--workers", str(processors())]
            commands = [[python, str(SCRIPT), loader, action, *places] for action in ACTIONS]
        forget(args.folder)
        written = figures_of(commands[0], copy)
        size = sum(path.stat().st_size for path in copy.rglob("*")) if copy.exists() else 0
        forget(args.folder)
        forget(copy)
        figures = figures_of(commands[1], copy)
    speeds = [
        count / seconds
        for count, seconds in zip(figures["images"], figures["seconds"], strict=True)
    ]
    return {
        "write_s": written["write_s"],
        "GB": size / 1e9,
        "images": figures["images"][0],
        "first": speeds[0],
        "later": speeds[-1],
    }


def spread(values: list[float], digits: int = 0) -> str:
    """Format the median, with the range in brackets."""
    middle, low, high = (
        f"{value:,.{digits}f}" for value in (statistics.median(values), min(values), max(values))
    )
    return middle if len(values) == 1 else f"{middle} ({low} to {high})"


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--folder", type=Path, default=Path("/tmp/bench-loading"))
    parser.add_argument("--scratch", type=Path, help="a folder for what the loaders write")
    parser.add_argument("--peers", help="the Python with litdata and webdataset")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--passes", type=int, default=2)
    parser.add_argument("--ours", nargs=2, metavar=("LOADER", "ACTION"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.folder = args.folder.absolute()
    if args.ours:
        run_ours(args)
        return
    folder = args.folder / str(args.images)
    progress(f"making {args.images:,} images in {folder} ...")
    make(folder, args.images)
    args.folder = folder
    titles = {**OURS, **PEERS}
    if args.peers is None:
        titles = {name: title for name, title in titles.items() if name in (*OURS, "imagefolder")}
    figures: dict[str, list[dict[str, float]]] = {name: [] for name in titles}
    for repetition in range(args.repetitions):
        for name in titles:
            progress(f"{repetition + 1}/{args.repetitions} {titles[name]} ...")
            figures[name].append(measure(name, args))
    total = sum(path.stat().st_size for path in folder.rglob("*.jpg")) / 1e9
    print(f"{machine()}; {args.images:,} images, {total:.2f} GB, batches of {args.batch}\n")
    print("| | writes, s | GB | images/s, first pass | images/s, later |\n|---|---|---|---|---|")
    for name, title in titles.items():
        columns = {key: [run[key] for run in figures[name]] for key in figures[name][0]}
        print(
            f"| {title} | {spread(columns['write_s'], 1)} | {columns['GB'][0]:.2f} "
            f"| {spread(columns['first'])} | {spread(columns['later'])} |"
        )


if __name__ == "__main__":
    main()
