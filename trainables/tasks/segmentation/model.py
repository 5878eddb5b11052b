"""A segmentation network loaded from its folder: masks of images of any size."""

from typing import Any

import numpy as np

from trainables.export.model import Answer, Model, as_text
from trainables.predictors.base import Images, encode_png
from trainables.tasks.segmentation.predictor import Mask, mask_png, overlay, shares_of


class Segmenter(Model):
    """A trained segmentation network."""

    has_files = True

    def flaw_of(self, prediction: Mask) -> str:
        """Check that a mask has the size of its image, and class numbers."""
        height, width, _ = self.image
        if prediction.shape == (height, width) and prediction.max() < len(self.classes):
            return ""
        return (
            f"a mask of shape {prediction.shape} with numbers up to {prediction.max()}. Expected "
            f"the shape ({height}, {width}) and class numbers from 0 to {len(self.classes) - 1}"
        )

    def answer(self, image: Images, prediction: Mask) -> Answer:
        """Return an answer whose row has the share of each class, and whose files are pictures.

        They are the mask, a PNG whose pixels are class numbers, and the image with the colours of
        the mask laid over it.
        """
        picture = encode_png(overlay(image, prediction))
        return Answer(
            shares_of(prediction, self.classes),
            {"_mask.png": mask_png(prediction), "_overlay.png": picture},
        )

    def plain(self, prediction: Mask) -> Any:
        """Return a mask for JSON: its PNG in base64, and the share of each class."""
        shares = np.bincount(prediction.ravel(), minlength=len(self.classes)) / prediction.size
        return {
            "mask": as_text(mask_png(prediction)),
            "shares": dict(zip(self.classes, shares.tolist(), strict=True)),
        }
