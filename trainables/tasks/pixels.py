"""A part of a data set on a device, as uint8, scaled (and augmented) one batch at a time."""

import threading
import warnings
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from trainables.config import TrialConfig
from trainables.datasets.arrays import Arrays, Dataset, Part, PartSubset, Ragged
from trainables.tasks.augment import augment

MOVING = threading.Lock()
ARRAYS_KEPT = 4
RESIDENT: dict[tuple[int, str], tuple[NDArray[Any], Tensor]] = {}
"""Images and targets of the training and the validation part on a GPU.

The keys are the id of the array that they came from, and the device. The array is kept beside them,
so that no other array gets its id.
"""


class Pixels:
    """A part of a data set on a device, whose batches come scaled, and augmented if asked."""

    def __init__(
        self, part: Part, dataset: Dataset, config: TrialConfig, device: torch.device
    ) -> None:
        whole = part.whole if isinstance(part, PartSubset) else part
        self.images, self.targets = resident(whole.images, device), resident(whole.targets, device)
        self.rows = torch.from_numpy(part.rows).to(device) if isinstance(part, PartSubset) else None
        """The rows of a selection's images in the whole part; None for other parts."""
        self.device, self.image, self.augment = device, dataset.image, config.augment
        wanted = "unit" if config.model.pretrained else config.data.scaling
        self.mean, self.deviation = (value.to(device) for value in scaling(wanted, dataset))
        self.mean255, self.deviation255 = 255 * self.mean, 255 * self.deviation

    def __len__(self) -> int:
        return len(self.targets if self.rows is None else self.rows)

    @property
    def all_targets(self) -> Tensor:
        """The targets of all images, where they are one array."""
        targets: Tensor = self.targets if self.rows is None else self.targets[self.rows]
        return targets

    def whole_rows(self, rows: Tensor) -> Tensor:
        """Return the rows in the whole part, on the device, of these rows of a selection."""
        rows = rows.to(self.device)
        return rows if self.rows is None else self.rows[rows]

    def batch(self, rows: Tensor, changes: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the images and targets of these rows, where they are one array each.

        Args:
            rows: which images of the part.
            changes: what was drawn for their augmentation; None for none.

        Returns:
            Images, float32 (batch, channels, height, width), scaled, and targets, (batch, ...).
        """
        rows = self.whole_rows(rows)
        if changes is None or not self.augment.is_on:
            return self.scale(self.images[rows]), self.targets[rows]
        return self.normalise(augment(units(self.images[rows]), self.augment, changes)), (
            self.targets[rows]
        )

    def scale(self, images: Tensor) -> Tensor:
        """Scale images as the config says.

        Args:
            images: uint8 (batch, height, width, channels), on the device.

        Returns:
            float32 (batch, channels, height, width).
        """
        return floats(images).sub_(self.mean255).div_(self.deviation255)

    def normalise(self, images: Tensor) -> Tensor:
        """Scale images whose pixels count from 0 to 1, in place."""
        return images.sub_(self.mean).div_(self.deviation)


def floats(images: Tensor) -> Tensor:
    """Return images, uint8 (batch, height, width, channels), with the channels in front.

    In memory a batch lies as convolutions read it, channels last.
    """
    return images.permute(0, 3, 1, 2).float()


def units(images: Tensor) -> Tensor:
    """Return the same with pixels from 0 to 1."""
    return floats(images).div_(255)


def scaling(name: str, dataset: Dataset) -> tuple[Tensor, Tensor]:
    """Return what to subtract from pixels and to divide them by, (channels, 1, 1) each.

    Pixels from 0 to 1 then come out as the config wants (`name` is its `scaling`).
    """
    channels = dataset.image[0]
    if name == "standard":
        mean, deviation = (torch.from_numpy(value) for value in dataset.channel_statistics)
    else:
        shift, spread = {"unit": (0.0, 1.0), "symmetric": (0.5, 0.5)}[name]
        mean, deviation = torch.full((channels,), shift), torch.full((channels,), spread)
    return mean.view(-1, 1, 1), deviation.view(-1, 1, 1)


def resident(values: Arrays, device: torch.device) -> Any:
    """Return the array, or the buffer of ragged ones, on the device.

    On a CPU that is the array's own memory. On a GPU it stays for the process's next trials, until
    other data come.
    """
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
    """Return a tensor over the array's own memory.

    That may be read-only, as in Ray's object store: the tensor is never written to.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)
