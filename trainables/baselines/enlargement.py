"""The result of fitting an interpolation to photographs."""

from sklearn.base import BaseEstimator

from trainables.config import SCALES


class Enlargement(BaseEstimator):  # type: ignore[misc]
    """The factor by which an interpolation enlarges images."""

    def __init__(self, *, scale: int) -> None:
        """Store the result of a fit; `scale` is one of `SCALES`."""
        self.scale = scale

    @property
    def is_sound(self) -> bool:
        """True if the value is allowed."""
        return type(self.scale) is int and self.scale in SCALES
