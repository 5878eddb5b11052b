"""A model of super-resolution loaded from its folder: enlarged images of any size."""

from typing import Any

from trainables.errors import ConfigError
from trainables.export.model import Answer, Model, as_text
from trainables.predictors.base import Images, encode_png
from trainables.tasks.super_resolution.predictor import size_of

MOST_PIXELS = 150_000_000
"""The maximum number of pixels of an enlarged image; Pillow refuses to open larger ones."""


class Enlarger(Model):
    """A trained model of super-resolution."""

    has_files = True

    @property
    def scale(self) -> int:
        """The factor by which height and width of images are enlarged."""
        scale: int = self._predictor.scale  # type: ignore[attr-defined]
        return scale

    @property
    def signature(self) -> tuple[Any, ...]:
        """The properties that must be equal for one model to replace another."""
        return (*super().signature, self.scale)

    def _fit(self, image: Images) -> Images:
        """Check that an image fits the model, and that the enlarged one is not too large.

        Raises:
            ConfigError: it does not fit, or is too large.
        """
        fitting, pixels = super()._fit(image), image.shape[0] * image.shape[1] * self.scale**2
        if pixels > MOST_PIXELS:
            raise ConfigError(
                f"an image of {image.shape[1]} x {image.shape[0]} pixels would have "
                f"{pixels // 1_000_000} million when it is enlarged {self.scale} times; at most "
                f"{MOST_PIXELS // 1_000_000} million are allowed. Cut it into parts."
            )
        return fitting

    def flaw_of(self, prediction: Images) -> str:
        """Check that an image is enlarged by the model's scale."""
        height, width, channels = self.image
        expected = self.scale * height, self.scale * width, channels
        if prediction.shape == expected:
            return ""
        return f"an image of shape {prediction.shape}. Expected {expected}"

    def answer(self, image: Images, prediction: Images) -> Answer:
        """Return an answer whose row has the new size, and whose file is the enlarged image."""
        return Answer(size_of(prediction), {f"_x{self.scale}.png": encode_png(prediction)})

    def plain(self, prediction: Images) -> Any:
        """Return an enlarged image for JSON: its PNG in base64, and its size."""
        return {"image": as_text(encode_png(prediction)), **size_of(prediction)}
