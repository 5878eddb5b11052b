"""The entry of segmentation: the class of each pixel. No torch is imported."""

from dataclasses import dataclass
from typing import Any

from trainables.catalog.entries import UNIT, DatasetEntry, Metric, ModelEntry, TaskEntry
from trainables.catalog.networks import MOBILENET_V2, RESNET18, RESNET50, SQUEEZENET, with_encoder
from trainables.fields import Options, name_of, number

LOSS_NAMES = ("cross_entropy", "dice", "focal", "cross_entropy_dice", "focal_dice")


@dataclass(frozen=True, kw_only=True)
class SegmentationOptions(Options):
    """The options of training for segmentation."""

    loss: str = name_of("cross_entropy_dice", "task.loss", LOSS_NAMES)
    """The loss to minimise; of two, the sum (`training`)."""
    focal_gamma: float = number(2.0, low=0)
    """The exponent of the focal loss: the higher, the less do easy pixels count."""
    turns: bool = False
    """True to turn crops by a random multiple of 90 degrees, as suits images without an upside."""


SEGMENTING_SIDE = 32
"""The smallest side, in pixels, for the networks, and the divisor of all sides.

They halve their images up to five times.
"""


def segmenting(builder: str, *encoder: str, **options: Any) -> ModelEntry:
    """Build the catalog entry of a network with logits for each pixel (`with_encoder`)."""
    module = "encoder_networks" if encoder else "networks"
    name = f"trainables.tasks.segmentation.{module}:{builder}"
    return with_encoder(name, SEGMENTING_SIDE, *encoder, **options)


MODELS: dict[str, ModelEntry] = {
    "unet": segmenting("UNet", depth=4, width=32, norm="batch"),
    "unet_mobilenet_v2": segmenting(
        "unet_on_encoder", "mobilenet_v2", MOBILENET_V2, width=16, norm="batch"
    ),
    "unet_squeezenet1_0": segmenting(
        "unet_on_encoder", "squeezenet1_0", SQUEEZENET, width=16, norm="batch"
    ),
    "unet_resnet18": segmenting("unet_on_encoder", "resnet18", RESNET18, width=16, norm="batch"),
    "unet_resnet34": segmenting(
        "unet_on_encoder", "resnet34", "resnet34-b627a593.pth", width=16, norm="batch"
    ),
    "lraspp_mobilenet_v2": segmenting("lraspp", "mobilenet_v2", MOBILENET_V2, width=128),
    "lraspp_mobilenet_v3_large": segmenting(
        "lraspp", "mobilenet_v3_large", "mobilenet_v3_large-5c1a4163.pth", width=128
    ),
    "enet": segmenting("enet", dropout=0.1),
    "fcn_resnet50": segmenting("fcn", "resnet50", RESNET50, dropout=0.1),
    "pspnet_resnet50": segmenting("pspnet", "resnet50", RESNET50, dropout=0.1),
    "deeplabv3_resnet50": segmenting("deeplabv3", "resnet50", RESNET50, dropout=0.5),
    "otsu": ModelEntry(
        builder="trainables.tasks.segmentation.baselines:Otsu",
        kind="baseline",
        takes_class_weights=False,
        method="with a threshold for each image",
        max_classes=2,
    ),
    "pixel_forest": ModelEntry(
        builder="trainables.tasks.segmentation.baselines:PixelForest",
        options={"trees": 20, "tree_depth": 16},
        kind="baseline",
        method="on hand-made features of pixels",
    ),
}

DATASETS = {
    "scenes": DatasetEntry(
        description=(
            "350 drawn scenes, 64 x 64 pixels, with masks of their digits: already installed"
        ),
        module="trainables.tasks.segmentation.scenes",
        has_files=False,
        flip=True,
    )
}

ENTRY = TaskEntry(
    name="segmentation",
    title="segmentation",
    implementation="trainables.tasks.segmentation.training:Segmentation",
    predictor="trainables.tasks.segmentation.predictor",
    targets="trainables.tasks.segmentation.targets:MaskTargets",
    model="trainables.tasks.segmentation.model:Segmenter",
    goal="give each pixel of {data} its class ({classes} classes) best",
    output="masks",
    committee="the probabilities of each pixel's classes are the mean of those of",
    columns="the share of each class, and `mask`, a PNG whose pixels are class numbers",
    accepts=(
        "Pass images as a list of uint8 NumPy arrays (height, width, channels) of any height and "
        "width, with as many channels as the training images had. They are predicted at their own "
        "size, tile by tile, so that memory does not grow with their size."
    ),
    baselines=(
        "The space segmentation_zoo also has a threshold for each image, and a random forest on "
        "hand-made features of pixels."
    ),
    metrics=(
        Metric(name="iou", title="mean IoU", limits=UNIT, is_primary=True),
        Metric(name="dice", title="mean Dice", limits=UNIT),
        Metric(
            name="pixel_accuracy",
            title="pixel accuracy",
            limits=UNIT,
            in_percent=True,
        ),
        Metric(name="boundary_f1", title="boundary F1", limits=UNIT),
    ),
    can=frozenset({"augment", "balance", "folds", "workers", "half", "onnx"}),
    reader="trainables.tasks.segmentation.reading",
    folder="images with masks",
    options_class=SegmentationOptions,
    models=MODELS,
    datasets=DATASETS,
)
