"""The options of segmentation; no torch is imported."""

from dataclasses import dataclass

from trainables.fields import Options, name_of, number

LOSS_NAMES = ("cross_entropy", "dice", "focal", "cross_entropy_dice", "focal_dice")


@dataclass(frozen=True, kw_only=True)
class SegmentationOptions(Options):
    """The options of training for segmentation."""

    loss: str = name_of("cross_entropy_dice", "task.loss", LOSS_NAMES)
    """The loss to minimise; of two, the sum (`trainables.tasks.segmentation_losses`)."""
    focal_gamma: float = number(2.0, low=0)
    """The exponent of the focal loss: the higher, the less do easy pixels count."""
    turns: bool = False
    """True to turn crops by a random multiple of 90 degrees, as suits images without an upside."""
