"""How fast other libraries read batches of images: `ImageFolder`, LitData and WebDataset.

    PYTHON tests/bench/peers/load_images.py LOADER write|read IMAGES COPY [--workers N]
        [--batch N] [--passes N]

IMAGES is a folder of JPEG files in class folders, COPY the folder of what the library writes.
PYTHON is that of an environment with the library, as in `tests.bench.loading`; this file imports
nothing of the project. Each prints one line of JSON: the seconds of writing, or the images and the
seconds of each pass over all images, in batches of uint8 (images, channels, height, width).
"""

import argparse
import io
import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

SHARDS_OF = 500
"""Images in a tar file of WebDataset."""
CHUNK = "64MB"
"""The size of LitData's chunks, as in its documentation."""
SHUFFLED = 1000
"""Images in the buffer in which WebDataset shuffles."""


def files_of(folder: Path) -> list[tuple[Path, int]]:
    """Return the path and the class number of each image, in a random order."""
    classes = sorted(path.name for path in folder.iterdir())
    files = [
        (path, number) for number, name in enumerate(classes) for path in (folder / name).iterdir()
    ]
    return [files[row] for row in np.random.default_rng(0).permutation(len(files))]


def nothing(images: Path, copy: Path, workers: int) -> None:
    """Write nothing: the library reads the files themselves."""


def write_litdata(images: Path, copy: Path, workers: int) -> None:
    """Write chunks of JPEG files, which LitData copies as they are."""
    import litdata

    litdata.optimize(
        fn=litdata_sample,
        inputs=[(str(path), number) for path, number in files_of(images)],
        output_dir=str(copy),
        num_workers=workers,
        chunk_bytes=CHUNK,
    )


def litdata_sample(file: tuple[str, int]) -> dict[str, Any]:
    """Open an image: LitData stores the bytes of a JPEG file that was not changed."""
    path, number = file
    return {"image": Image.open(path), "class": number}


def write_webdataset(images: Path, copy: Path, workers: int) -> None:
    """Write tar files of JPEG files as they are."""
    import webdataset

    copy.mkdir(parents=True, exist_ok=True)
    pattern = f"{copy}/shard-%05d.tar"
    with webdataset.ShardWriter(pattern, maxcount=SHARDS_OF, verbose=0) as writer:
        for row, (path, number) in enumerate(files_of(images)):
            writer.write({"__key__": f"{row:08d}", "jpg": path.read_bytes(), "cls": number})


def read_imagefolder(images: Path, copy: Path, workers: int, batch: int) -> Iterable[Any]:
    """Return torchvision's loader, without a conversion to float."""
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import PILToTensor

    return torch.utils.data.DataLoader(
        ImageFolder(str(images), PILToTensor()),
        batch,
        shuffle=True,
        num_workers=workers,
        persistent_workers=True,
    )


def read_litdata(images: Path, copy: Path, workers: int, batch: int) -> Iterable[Any]:
    """Return LitData's loader."""
    import litdata

    loader: Iterable[Any] = litdata.StreamingDataLoader(
        litdata.StreamingDataset(str(copy), shuffle=True),
        batch_size=batch,
        num_workers=workers,
        persistent_workers=True,
    )
    return loader


def read_webdataset(images: Path, copy: Path, workers: int, batch: int) -> Iterable[Any]:
    """Return WebDataset's loader."""
    import webdataset

    shards = sorted(map(str, copy.glob("*.tar")))
    dataset = (
        webdataset.WebDataset(shards, shardshuffle=len(shards), empty_check=False)
        .shuffle(SHUFFLED)
        .to_tuple("jpg", "cls")
        .map_tuple(decoded, int)
        .batched(batch)
    )
    loader: Iterable[Any] = webdataset.WebLoader(
        dataset,
        batch_size=None,
        num_workers=min(workers, len(shards)),
        persistent_workers=True,
    )
    return loader


def decoded(file: bytes) -> Any:
    """Decode a JPEG file with Pillow, to uint8 (channels, height, width)."""
    return torch.from_numpy(np.array(Image.open(io.BytesIO(file)).convert("RGB"))).permute(2, 0, 1)


def images_in(batch: Any) -> int:
    """Return the number of images in a batch: a pair, or LitData's dict."""
    pixels = batch["image"] if isinstance(batch, dict) else batch[0]
    return len(pixels)


Write = Callable[[Path, Path, int], None]
Read = Callable[[Path, Path, int, int], Iterable[Any]]
LOADERS: dict[str, tuple[Write, Read]] = {
    "imagefolder": (nothing, read_imagefolder),
    "litdata": (write_litdata, read_litdata),
    "webdataset": (write_webdataset, read_webdataset),
}


def run() -> None:
    """Write or read once, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("loader", choices=LOADERS)
    parser.add_argument("action", choices=("write", "read"))
    parser.add_argument("images", type=Path)
    parser.add_argument("copy", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--passes", type=int, default=2)
    args = parser.parse_args()
    write, read = LOADERS[args.loader]
    start = time.perf_counter()
    if args.action == "write":
        write(args.images, args.copy, args.workers)
        print(json.dumps({"write_s": time.perf_counter() - start}))
        return
    loader = read(args.images, args.copy, args.workers, args.batch)
    counts, seconds = [], []
    for _ in range(args.passes):
        counts.append(sum(map(images_in, loader)))
        seconds.append(time.perf_counter() - start)
        start = time.perf_counter()
    print(json.dumps({"images": counts, "seconds": seconds}))


if __name__ == "__main__":
    run()
