"""The facts on which an adaptive space depends: the images, the weights, and the time."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from trainables.values import Params

MEASURED_SIDE = 64
"""The height and width of the images, in pixels, for which the time of networks is measured.

For networks that do not resize images, it is measured for the images as they are.
"""


def unknown_time(name: str) -> float:
    """Return 0: the time of an epoch is not known."""
    return 0.0


@dataclass(frozen=True, kw_only=True)
class Circumstances:
    """The facts that are known before a search starts.

    The defaults stand for data that is not known yet: everything in the space is then valid for any
    data, and no kind of model is left out.
    """

    images: int = 1_000
    """The number of images on which a network is trained."""
    side: int = MEASURED_SIDE
    """The larger one of the height and the width of the images, in pixels."""
    are_photographs: bool = True
    can_flip: bool = False
    """True if mirroring an image does not change its class."""
    weights: Collection[str] | None = None
    """The networks whose pretrained weights are available; None for all networks."""
    unlabelled: int = 1
    """The number of images without labels."""
    fixed: Params = field(default_factory=dict)
    """The user's settings, by dotted path."""
    time_s: float | None = None
    """The seconds that each slot has for training; None without a budget of time."""
    epoch_s: Callable[[str], float] = unknown_time
    """Measures the seconds of an epoch of a network, with training and validation, or of a fit.

    Networks that resize images do so to `MEASURED_SIDE`. The result is 0 if it cannot be measured.
    """
    cpu_epoch_s: Callable[[str], float] = unknown_time
    """The same on the CPU, on which the features of probes are computed."""

    def has_weights(self, name: str) -> bool:
        """True if the pretrained weights of a network are available."""
        return self.weights is None or name in self.weights

    def epochs(
        self, epoch_s: float, side: int | None, share: float, limits: tuple[int, int]
    ) -> int:
        """Return the number of epochs for which a share of the time is enough.

        Args:
            epoch_s: the measured seconds of an epoch; 0 if they are not known.
            side: the height and width to which images are resized; None if they are not.
            share: a share of `time_s`.
            limits: the smallest and the largest number of epochs. The result is 0 if the time is
                too short for the smallest one, and the largest if there is no limit of time.
        """
        least, most = limits
        if self.time_s is None or not epoch_s:
            return most
        if side is not None:
            epoch_s *= (side / MEASURED_SIDE) ** 2  # the work is proportional to the pixels
        epochs = min(most, int(share * self.time_s / epoch_s))
        return epochs if epochs >= least else 0
