"""A model of detection loaded from its folder: boxes around the objects in images of any size."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np

from trainables.export.model import Answer, Model
from trainables.predictors.base import Images, encode_png
from trainables.tasks.detection.predictor import (
    CLASS_FOUND,
    SCORE,
    Detections,
    as_json,
    counts_of,
    draw_boxes,
    objects_in,
)

COCO_FILE = "detections.json"
LEAST_PICTURE = 480
"""Smaller images are enlarged in pictures, so that labels do not cover them, in pixels."""


class ObjectDetector(Model):
    """A trained model of detection."""

    has_files = True

    @property
    def threshold(self) -> float:
        """The score from which on a box is taken for an object."""
        threshold: float = self._predictor.threshold  # type: ignore[attr-defined]
        return threshold

    def objects(self, images: Any) -> list[Detections]:
        """Return the boxes in each image that are objects at the model's working point.

        Args:
            images: in any form that `Model.predict` accepts.

        Returns:
            For each image float64 (objects, 6): left, top, right and bottom in pixels, score, class
            number.
        """
        return [objects_in(boxes, self.threshold) for boxes in self.predict(images)]

    def flaw_of(self, prediction: Detections) -> str:
        """Check that boxes are within their image, and have class numbers."""
        height, width, _ = self.image
        edges, numbers = prediction[:, :4], prediction[:, CLASS_FOUND]
        is_inside = (edges >= 0).all() and (edges <= [width, height, width, height]).all()
        is_sound = is_inside and (numbers < len(self.classes)).all()
        return "" if is_sound else "boxes outside the image or without a class"

    def answer(self, image: Images, prediction: Detections) -> Answer:
        """Return an answer whose row has the number of objects of each class.

        The file is a picture of them. The record has the boxes, for a file of all images in COCO's
        form (`joint_files`).
        """
        objects = objects_in(prediction, self.threshold)
        numbers = objects[:, CLASS_FOUND].astype(int)
        labels = [
            f"{self.classes[number]} {score:.2f}"
            for number, score in zip(numbers.tolist(), objects[:, SCORE].tolist(), strict=True)
        ]
        times = max(1, LEAST_PICTURE // max(image.shape[:2]))
        enlarged = image.repeat(times, axis=0).repeat(times, axis=1)
        picture = encode_png(draw_boxes(enlarged, times * objects[:, :4], numbers, labels))
        height, width, _ = image.shape
        return Answer(
            counts_of(objects, self.classes),
            {"_boxes.png": picture},
            {"width": width, "height": height, "boxes": objects.tolist()},
        )

    def joint_files(self, records: dict[str, Any]) -> dict[str, bytes]:
        """Return a file in COCO's form with the objects of all images, by its name.

        Args:
            records: the record of each image's answer, by the image's path.
        """
        images, annotations = list[dict[str, Any]](), list[dict[str, Any]]()
        for number, (path, record) in enumerate(records.items(), 1):
            size = {"width": record["width"], "height": record["height"]}
            images.append({"id": number, "file_name": path, **size})
            for x1, y1, x2, y2, score, own_class in record["boxes"]:
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": number,
                        "category_id": int(own_class) + 1,
                        "bbox": [round(edge, 2) for edge in (x1, y1, x2 - x1, y2 - y1)],
                        "area": round((x2 - x1) * (y2 - y1), 2),
                        "iscrowd": 0,
                        "score": round(score, 4),
                    }
                )
        categories = [{"id": number, "name": name} for number, name in enumerate(self.classes, 1)]
        content = {"images": images, "categories": categories, "annotations": annotations}
        return {COCO_FILE: json.dumps(content).encode()}

    @classmethod
    def drawing(cls, plain: Any) -> Callable[[Images, int], Images] | None:
        """Return a function that draws the boxes of `plain` on their image."""
        if not (isinstance(plain, dict) and "boxes" in plain):
            return None
        names, boxes = list(plain["counts"]), plain["boxes"]
        return lambda image, step: draw_boxes(
            image,
            np.array([each["box"] for each in boxes]).reshape(-1, 4) / step,
            np.array([names.index(each["class"]) for each in boxes], int),
            [f"{each['class']} {each['score']:.2f}" for each in boxes],
        )

    def plain(self, prediction: Detections) -> Any:
        """Return the objects for JSON: their boxes, and the number of each class."""
        objects = objects_in(prediction, self.threshold)
        return {
            "boxes": as_json(objects, self.classes),
            "counts": counts_of(objects, self.classes),
        }
