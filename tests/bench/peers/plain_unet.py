"""A U-Net in plain PyTorch, as one writes it by hand, trained for a given time.

    python -m tests.bench.peers.plain_unet FOLDER --minutes 30

It trains on the images that a search would train on, on random crops, and after each sixth of the
time predicts the whole validation images, which does not count. The weights that did best there
predict the test images. Prints both kinds of mean IoU: over the pixels of all images together, and
the mean over the images.
"""

import argparse
import copy
import time

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from trainables.config import DataConfig
from trainables.datasets.arrays import Part
from trainables.datasets.load import load

Counts = NDArray[np.int64]
"""Pixels by true and predicted class, (classes, classes)."""
VALIDATIONS = 6
BATCH = 16


def block(inputs: int, outputs: int) -> nn.Sequential:
    """Return two convolutions, each with batch normalisation."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(),
        nn.Conv2d(outputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(),
    )  # fmt: skip


class UNet(nn.Module):
    """The network of Ronneberger et al. 2015 with padding: any size that 2 ** depth divides."""

    def __init__(self, channels: int, classes: int, width: int, depth: int) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(depth + 1)]
        self.down = nn.ModuleList(
            block(*pair) for pair in zip([channels, *widths], widths, strict=False)
        )
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * few, few, 2, 2) for few in widths[:-1])
        self.join = nn.ModuleList(block(2 * few, few) for few in widths[:-1])
        self.last = nn.Conv2d(width, classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return a number for each class and pixel."""
        levels = []
        values = images
        for number, part in enumerate(self.down):
            values = part(values if number == 0 else functional.max_pool2d(values, 2))
            levels.append(values)
        for number in reversed(range(len(self.up))):
            values = torch.cat([levels[number], self.up[number](values)], 1)
            values = self.join[number](values)
        return self.last(values)


def crop(part: Part, row: int, side: int, draw: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Return a random square of an image and of its mask, flipped at random."""
    image, mask = part.images[row], part.targets[row]
    missing = [max(0, side - size) for size in mask.shape]
    if any(missing):
        image = np.pad(image, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="edge")
        mask = np.pad(mask, ((0, missing[0]), (0, missing[1])), constant_values=255)
    top, left = (int(draw.integers(size - side + 1)) for size in mask.shape)
    image, mask = (values[top : top + side, left : left + side] for values in (image, mask))
    for axis in (0, 1):
        if draw.random() < 0.5:
            image, mask = np.flip(image, axis), np.flip(mask, axis)
    pixels = torch.from_numpy(image.copy()).permute(2, 0, 1).float() / 255
    return pixels, torch.from_numpy(mask.astype(np.int64))


@torch.inference_mode()
def evaluate(net: UNet, part: Part, classes: int, step: int) -> tuple[float, float]:
    """Return the mean IoU over all pixels, and the mean of that of each image."""
    net.eval()
    counts: list[Counts] = []
    for image, mask in zip(part.images, part.targets, strict=True):
        missing = [-size % step for size in mask.shape]
        filled = np.pad(image, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="edge")
        pixels = torch.from_numpy(filled).permute(2, 0, 1)[None].float() / 255
        said = net(pixels)[0].argmax(0).numpy()[: mask.shape[0], : mask.shape[1]]
        counted = mask != 255
        pairs = mask[counted].astype(np.int64) * classes + said[counted]
        counts.append(np.bincount(pairs, minlength=classes**2).reshape(classes, classes))
    return mean_iou(sum(counts)), float(np.mean([mean_iou(each) for each in counts]))


def mean_iou(counts: Counts) -> float:
    """Return the mean over the classes that occur of intersection over union."""
    hits = np.diag(counts)
    unions = counts.sum(0) + counts.sum(1) - hits
    return float(np.mean(hits[unions > 0] / unions[unions > 0]))


def main() -> None:
    """Train, and print what each validation and the test gave."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    data = load(DataConfig(name="folder", task="segmentation", root=args.folder))
    classes = len(data.classes)
    torch.manual_seed(args.seed)
    draw = np.random.default_rng(args.seed)
    net = UNet(data.train.shape[-1], classes, args.width, args.depth)
    optimizer = torch.optim.Adam(net.parameters(), 0.001)
    best, state = -1.0, copy.deepcopy(net.state_dict())
    crops = 0
    for validation in range(1, VALIDATIONS + 1):
        net.train()
        ends = time.monotonic() + args.minutes * 60 / VALIDATIONS
        while time.monotonic() < ends:
            rows = draw.integers(len(data.train), size=BATCH)
            pairs = [crop(data.train, int(row), args.side, draw) for row in rows]
            images, masks = (torch.stack(each) for each in zip(*pairs, strict=True))
            optimizer.zero_grad()
            functional.cross_entropy(net(images), masks, ignore_index=255).backward()
            optimizer.step()
            crops += BATCH
        pooled, by_image = evaluate(net, data.val, classes, 2**args.depth)
        minutes = args.minutes * validation / VALIDATIONS
        print(
            f"{minutes:.1f} min, {crops} crops: {pooled:.4f}, by image {by_image:.4f}", flush=True
        )
        if pooled > best:
            best, state = pooled, copy.deepcopy(net.state_dict())
    net.load_state_dict(state)
    pooled, by_image = evaluate(net, data.test, classes, 2**args.depth)
    print(f"test of the best: {pooled:.4f}, by image {by_image:.4f}")


if __name__ == "__main__":
    main()
