"""The facts on which an adaptive space depends: the images, the weights, and the time."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

MEASURED_SIDE = 64
"""The height and width of the images, in pixels, for which the time of networks is measured.

For networks that do not resize images, it is measured for the images as they are.
"""


@dataclass(frozen=True, kw_only=True)
class Circumstances:
    """The facts that are known before a search starts.

    The defaults stand for data that is not known yet: they leave no model out, and everything in
    the space is valid for any data.
    """

    side: int = MEASURED_SIDE
    """The larger one of the height and the width of the images, in pixels."""
    are_photographs: bool = True
    can_flip: bool = False
    """True if mirroring an image does not change its class."""
    weights: Collection[str] | None = None
    """The networks whose pretrained weights are available; None for all networks."""
    has_unlabelled: bool = True
    """True if there are images without labels to learn from, too."""
    time_s: float | None = None
    """The seconds that each slot has for training; None without a budget of time."""
    epoch_s: Callable[[str], float] = field(default=lambda name: 0.0)
    """Measures the seconds of an epoch of a network, with training and validation, or of a fit.

    Networks that resize images do so to `MEASURED_SIDE`. The result is 0 if it cannot be measured.
    """

    def has_weights(self, name: str) -> bool:
        """True if the pretrained weights of a network are available."""
        return self.weights is None or name in self.weights

    def epochs(self, name: str, side: int | None, share: float, most: int) -> int:
        """Return the number of epochs, up to `most`, for which a share of the time is enough.

        Args:
            name: the model; a baseline has one epoch.
            side: the height and width to which it resizes images; None if it does not.
            share: a share of `time_s`.
            most: the result if there is no limit of time, or if the network was not measured.
        """
        if self.time_s is None or not (epoch_s := self.epoch_s(name)):
            return most
        if side is not None:
            epoch_s *= (side / MEASURED_SIDE) ** 2  # the work is proportional to the pixels
        return min(most, int(share * self.time_s / epoch_s))
