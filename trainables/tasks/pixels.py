"""A part of a data set on a device, as uint8, which is scaled and augmented batch by batch."""

import threading
import warnings
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from trainables.augmentation.augment import augment
from trainables.config import TrialConfig
from trainables.datasets.arrays import Arrays, Dataset, Part, PartSubset, Ragged
from trainables.on_disk import ImagesOnDisk

MOVING = threading.Lock()
"""The lock that is held while `RESIDENT` is read or changed."""
ARRAYS_KEPT = 4
"""The maximum number of arrays in `RESIDENT`: images and targets of two parts."""
RESIDENT: dict[tuple[int, str], tuple[NDArray[Any], Tensor]] = {}
"""The images and targets of the training and the validation set on a GPU.

The keys are the id of the original array, and the device. The original array is stored too, so that
no other array can get the same id.
"""


class Pixels:
    """A part of a data set on a device, from which scaled and augmented batches are built."""

    def __init__(
        self, part: Part, dataset: Dataset, config: TrialConfig, device: torch.device
    ) -> None:
        whole = part.whole if isinstance(part, PartSubset) else part
        self.images: Any
        """A tensor on the device, `Ragged` images, or `ImagesOnDisk`; `_images_at` returns some."""
        self.images, self.targets = resident(whole.images, device), resident(whole.targets, device)
        self.rows = torch.from_numpy(part.rows).to(device) if isinstance(part, PartSubset) else None
        """The rows of a `PartSubset` in the whole part; None for other parts."""
        self.device, self.image, self.augment = device, dataset.image, config.augment
        self.dataset, self.smoothing = dataset, config.train.smoothing
        self.groups = dataset.group_numbers(part)
        """The number of each image's group, (images,), or -1; None if there are no groups."""
        scaling_name = "unit" if config.model.pretrained else config.data.scaling
        self.mean, self.deviation = (value.to(device) for value in scaling(scaling_name, dataset))
        self.mean255, self.deviation255 = 255 * self.mean, 255 * self.deviation

    def __len__(self) -> int:
        return len(self.targets if self.rows is None else self.rows)

    @property
    def all_targets(self) -> Tensor:
        """The targets of all images of the part, which must be one array."""
        targets: Tensor = self.targets if self.rows is None else self.targets[self.rows]
        return targets

    def whole_rows(self, rows: Tensor) -> Tensor:
        """Convert rows of this part to rows of the whole part, on the device."""
        rows = rows.to(self.device)
        return rows if self.rows is None else self.rows[rows]

    def batch(self, rows: Tensor, changes: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the images and targets of these rows; each must be one array.

        Args:
            rows: the images' rows in the part, (batch,).
            changes: the numbers drawn for their augmentation; None for no augmentation.

        Returns:
            Scaled images, float32 (batch, channels, height, width), and targets, (batch, ...).
        """
        rows = self.whole_rows(rows)
        images, targets = self._images_at(rows), self.targets[rows]
        if changes is None or not self.augment.is_on:
            return self.scale(images), targets
        return self.normalise(augment(units(images), self.augment, changes)), targets

    def _images_at(self, rows: Tensor) -> Tensor:
        """Return the images at these rows of the whole part, on the device."""
        if not isinstance(self.images, ImagesOnDisk):
            images: Tensor = self.images[rows]
            return images
        return torch.from_numpy(self.images[rows.cpu().numpy()]).to(self.device)

    def expect(self, rows: Tensor) -> None:
        """Begin to read the images of these rows, which are needed soon, from the disk."""
        if isinstance(self.images, ImagesOnDisk):
            self.images.expect(self.images.rows[self.whole_rows(rows).cpu().numpy()])

    def scale(self, images: Tensor) -> Tensor:
        """Apply the config's scaling to images.

        Args:
            images: uint8 (batch, height, width, channels), on the device.

        Returns:
            float32 (batch, channels, height, width).
        """
        return floats(images).sub_(self.mean255).div_(self.deviation255)

    def normalise(self, images: Tensor) -> Tensor:
        """Apply the config's scaling to images with pixels from 0 to 1, in place."""
        return images.sub_(self.mean).div_(self.deviation)


def floats(images: Tensor) -> Tensor:
    """Convert uint8 (batch, height, width, channels) to float32 (batch, channels, height, width).

    In memory the channels stay last, which is the layout that convolutions need.
    """
    return images.permute(0, 3, 1, 2).float()


def units(images: Tensor) -> Tensor:
    """Convert images as `floats` does, and divide pixels by 255, to values from 0 to 1."""
    return floats(images).div_(255)


def scaling(name: str, dataset: Dataset) -> tuple[Tensor, Tensor]:
    """Return the shift and the divisor of a scaling for pixels from 0 to 1, (channels, 1, 1) each.

    `name` is the scaling's name in the config (`data.scaling`).
    """
    channels = dataset.image[0]
    if name == "standard":
        mean, deviation = (torch.from_numpy(value) for value in dataset.channel_statistics)
    else:
        shift, spread = {"unit": (0.0, 1.0), "symmetric": (0.5, 0.5)}[name]
        mean, deviation = torch.full((channels,), shift), torch.full((channels,), spread)
    return mean.view(-1, 1, 1), deviation.view(-1, 1, 1)


def resident(values: Arrays, device: torch.device) -> Any:
    """Return the array as a tensor on the device; `Ragged` arrays get such a tensor as buffer.

    `ImagesOnDisk` stay as they are, since they do not fit into memory.

    On a CPU the tensor shares the array's memory. On a GPU it is kept for the next trials of the
    process, until other data sets replace it.
    """
    if isinstance(values, ImagesOnDisk):
        return values
    if isinstance(values, Ragged):
        return Ragged(resident(values.buffer, device), values.shapes)
    if device.type == "cpu":
        return shared_tensor(values)
    key = id(values), str(device)
    with MOVING:
        if key not in RESIDENT:
            while len(RESIDENT) >= ARRAYS_KEPT:
                RESIDENT.pop(next(iter(RESIDENT)))
            RESIDENT[key] = values, shared_tensor(values).to(device)
        return RESIDENT[key][1]


def shared_tensor(array: NDArray[Any]) -> Tensor:
    """Return a tensor that shares the array's memory; do not write to it.

    The memory may be read-only, as in Ray's object store.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)
