"""The entry of detection: boxes around objects. No torch is imported."""

from dataclasses import dataclass
from typing import Any

from trainables.catalog.entries import UNIT, DatasetEntry, Metric, ModelEntry, TaskEntry
from trainables.catalog.networks import MOBILENET_V2, RESNET18, SQUEEZENET, with_encoder
from trainables.fields import Options, number


@dataclass(frozen=True, kw_only=True)
class DetectionOptions(Options):
    """The options of finding objects in images."""

    most_boxes: int = number(100, low=1, high=1000)
    """The maximum number of boxes that are found in an image; COCO's figures are for 100."""
    overlap: float = number(0.6, low=0, high=1)
    """Of two boxes of the same class whose intersection over union exceeds this, the one with the
    lower score is left out.
    """


def detecting(builder: str, *encoder: str, **options: Any) -> ModelEntry:
    """Build the catalog entry of a network that finds objects; the arguments as `with_encoder`."""
    return with_encoder(f"trainables.tasks.detection.networks.{builder}", 32, *encoder, **options)


MODELS: dict[str, ModelEntry] = {
    "center_points": detecting("center_points:build", width=32),
    "center_points_mobilenet_v2": detecting(
        "center_points:build", "mobilenet_v2", MOBILENET_V2, width=64
    ),
    "center_points_squeezenet1_0": detecting(
        "center_points:build", "squeezenet1_0", SQUEEZENET, width=64
    ),
    "center_points_resnet18": detecting("center_points:build", "resnet18", RESNET18, width=64),
    "ssdlite_mobilenet_v3_large": detecting(
        "ssd:build",
        "ssdlite320_mobilenet_v3_large",
        "ssdlite320_mobilenet_v3_large_coco-a79551df.pth",
    ),
    "faster_rcnn_mobilenet_v3_large": detecting(
        "faster_rcnn:build",
        "fasterrcnn_mobilenet_v3_large_320_fpn",
        "fasterrcnn_mobilenet_v3_large_320_fpn-907ea3f9.pth",
    ),
    "blob_forest": ModelEntry(
        builder="trainables.tasks.detection.baselines:BlobForest",
        options={"trees": 30},
        min_side=8,
        kind="baseline",
        takes_class_weights=False,
        method="on hand-made features of blobs",
    ),
}

DATASETS = {
    "digit_scenes": DatasetEntry(
        description="400 drawn scenes, 96 x 96 pixels, with boxes around digits: already installed",
        module="trainables.tasks.detection.scenes",
        has_files=False,
        flip=True,
    )
}

ENTRY = TaskEntry(
    name="detection",
    title="detection",
    implementation="trainables.tasks.detection.training:Detection",
    predictor="trainables.tasks.detection.predictor",
    targets="trainables.tasks.detection.targets:BoxTargets",
    model="trainables.tasks.detection.model:ObjectDetector",
    goal="find the objects in the images of {data} ({classes} classes) best",
    output="boxes",
    committee="boxes around the same object are combined from those of",
    columns=(
        "the number of objects of each class that are found at the model's working point, and "
        "`boxes as JSON`, with the `box` (left, top, right, bottom in pixels), `class` and "
        "`score` of every one"
    ),
    accepts=(
        "Pass images as a list of uint8 NumPy arrays (height, width, channels) of any height and "
        "width, with as many channels as the training images had. The model resizes them, and "
        "boxes refer to the pixels of the images that were passed."
    ),
    baselines=(
        "The spaces detection and detection_zoo also have a random forest on hand-made features of "
        "blobs."
    ),
    metrics=(
        # Detectors compute no loss of validation images.
        Metric(
            name="map",
            title="mAP50-95",
            limits=UNIT,
            is_primary=True,
            loss="train/loss",
        ),
        Metric(name="map50", title="mAP50", limits=UNIT, loss="train/loss"),
    ),
    terms={
        "IoU": (
            "The intersection of two boxes over their union: 1 for equal boxes, 0 for boxes beside "
            "each other."
        ),
        "AP50": (
            "Average precision: the mean precision over all values of recall, where a box is right "
            "if its IoU with an object of its class is at least 0.5."
        ),
        "mAP50-95": (
            "The mean of average precision over the classes, and over ten thresholds of IoU from "
            "0.5 to 0.95: it also rates how exactly boxes fit."
        ),
        "precision, recall of boxes": (
            "Of the boxes with at least this score, the share that is around an object of their "
            "class; of the objects, the share that is found."
        ),
        "missed, background": (
            "Objects around which there is no box; boxes that are around no object."
        ),
    },
    can=frozenset({"augment", "folds", "workers", "half", "onnx"}),
    reader="trainables.tasks.detection.reading",
    folder="images with boxes",
    options_class=DetectionOptions,
    models=MODELS,
    datasets=DATASETS,
)
