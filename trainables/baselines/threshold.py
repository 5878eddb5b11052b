"""The result of fitting Otsu's threshold to masks."""

from sklearn.base import BaseEstimator

SIDES = ("bright", "dark", "smaller")
"""The sides of a threshold that may be foreground; `smaller` has fewer pixels of the image."""
LEAST_ACCURACY, MOST_ACCURACY = 0.501, 0.999
"""The limits of `OtsuThreshold.accuracy`.

The predicted class must be the more probable one, and a loss must be finite.
"""


class OtsuThreshold(BaseEstimator):  # type: ignore[misc]
    """A threshold for each image, and the side of it that is foreground."""

    def __init__(self, *, side: str, accuracy: float) -> None:
        """Store the result of a fit.

        Args:
            side: the foreground, one of `SIDES`.
            accuracy: the share of the training pixels that were predicted correctly. It is the
                probability of the predicted class.
        """
        self.side, self.accuracy = side, accuracy

    @property
    def is_sound(self) -> bool:
        """True if the values are allowed."""
        return (
            self.side in SIDES
            and type(self.accuracy) is float
            and LEAST_ACCURACY <= self.accuracy <= MOST_ACCURACY
        )
