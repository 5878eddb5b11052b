"""A segmentation network loaded from its folder: masks of images of any size."""

import base64
from pathlib import Path
from typing import Any

import numpy as np

from trainables.errors import ConfigError
from trainables.export.model import Answer, Model
from trainables.export.sessions import open_session
from trainables.predictors.base import ONNX, Images, encode_png
from trainables.tasks.segmentation.predictor import Mask, MaskPredictor, mask_png, overlay, row_of


class OnnxSegmentation(MaskPredictor):
    """A segmentation network that runs in ONNX Runtime, without torch and pandas."""

    def __init__(self, folder: Path, threads: int) -> None:
        session = open_session(folder / ONNX, threads)
        super().__init__(folder, lambda tiles: session.run(None, {"images": tiles})[0])


class Segmenter(Model):
    """A trained segmentation network."""

    onnx_predictor = OnnxSegmentation
    has_files = True

    def check(self) -> None:
        """Check that two images are answered with masks of their size, of class numbers.

        Raises:
            ConfigError: a mask has another size, or a number without a class.
        """
        height, width, _ = self.image
        for mask in self.predictions([np.zeros(self.image, np.uint8)] * 2):
            if mask.shape != (height, width) or mask.max() >= len(self.classes):
                raise ConfigError(
                    f"the model returned a mask of shape {mask.shape} with numbers up to "
                    f"{mask.max()}. Expected the shape ({height}, {width}) and class numbers from "
                    f"0 to {len(self.classes) - 1}."
                )

    def answers(self, images: list[Images]) -> list[Answer]:
        """Predict images: the row has the share of each class, the files are pictures.

        They are the mask, a PNG whose pixels are class numbers, and the image with the colours of
        the mask laid over it.
        """
        return [
            Answer(
                row_of(mask, self.classes),
                {"_mask.png": mask_png(mask), "_overlay.png": encode_png(overlay(image, mask))},
            )
            for image, mask in zip(images, self.predictions(images), strict=True)
        ]

    def rows(self, images: list[Images]) -> list[dict[str, Any]]:
        """Return the rows of the predictor's table; masks are text, as in `plain`."""
        return [
            row_of(mask, self.classes) | {"mask": as_text(mask)}
            for mask in self.predictions(images)
        ]

    def plain(self, prediction: Mask) -> Any:
        """Return a mask for JSON: its PNG in base64, and the share of each class."""
        shares = np.bincount(prediction.ravel(), minlength=len(self.classes)) / prediction.size
        return {
            "mask": as_text(prediction),
            "shares": dict(zip(self.classes, shares.tolist(), strict=True)),
        }


def as_text(mask: Mask) -> str:
    """Encode a mask as PNG in base64, as MLflow's server encodes the bytes in a table."""
    return base64.b64encode(mask_png(mask)).decode()
