"""The registry of models: networks, and baselines to compare them with.

This module does not import torch: a builder is imported when a model is built. To add a network,
write `build(image, classes, **options)` in a module of `trainables/models`, and list it in
`MODELS`; the conformance tests then include it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from trainables.catalog.entries import import_object

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class ModelEntry:
    """The facts about a model that are known before torch is imported."""

    builder: str
    """The builder, as `module:name`.

    A network's builder is a function of the image's (channels, height, width), the number of
    outputs (for classification the number of classes), and the options. A baseline's is a subclass
    of `trainables.baselines.base.Baseline`.
    """
    name: str = ""
    """The `name` argument of the builder, if it builds several networks; else empty."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """The options of `ModelConfig` that this model has, with their defaults."""
    min_side: int = 1
    """The smallest height and width of an image, in pixels, that the model accepts."""
    native_side: int = 0
    """The height and width, in pixels, of the images on which the published weights were trained.

    0 if there are no such weights.
    """
    multiple: int = 1
    """If above 1, images are resized to squares whose side is a multiple of this number.

    The option `patch`, if the model has it, is used instead.
    """
    weights: str = ""
    """The file name of torchvision's `DEFAULT` weights; empty if there are none."""
    source: str = ""
    """Torchvision's name of the network with which these weights were published.

    Empty if it is the model's own name, and not that of the encoder of a larger network.
    """
    tasks: tuple[str, ...] = ("classification",)
    """The tasks for which the model can be trained."""
    kind: str = "network"
    """`network` or `baseline`.

    A network is trained in epochs by gradient descent; a baseline is fitted once.
    """
    takes_class_weights: bool = True
    """False for a baseline that cannot weight classes."""
    method: str = ""
    """For a baseline: the words that follow its name in a sentence, such as `on ... features`."""
    fitted_by: str = ""
    """For a baseline whose model is a network with a fitted last layer: its class, `module:name`.

    Then `builder` builds the network of which all but the last layer is used.
    """
    fit_options: tuple[str, ...] = ()
    """The options of such a fit, which the builder of the network does not take."""
    extended_by: str = ""
    """A class, `module:name`, that adds images to the training set; empty if none does.

    `fit_options` has its options.
    """
    has_feature_map: bool = True
    """False for a network without a convolutional feature map near its outputs: a transformer."""
    max_classes: int | None = None
    """The largest number of classes that the model can predict; None if there is no limit."""

    def effective_size(
        self, image: tuple[int, int, int], options: Mapping[str, Any]
    ) -> tuple[int, int]:
        """Return the (height, width) of images, in pixels, after the network's own resizing.

        Args:
            image: (channels, height, width) of the images before this resizing.
            options: the model's options.
        """
        _, height, width = image
        if side := options.get("input_size") or (
            self.native_side if options.get("pretrained") else 0
        ):
            height = width = side
        if (multiple := options.get("patch") or self.multiple) > 1:
            height = width = -(-max(height, width) // multiple) * multiple
        return height, width

    def build(self, image: tuple[int, int, int], outputs: int, **options: Any) -> "nn.Module":
        """Build a freshly initialised network for images of (channels, height, width).

        Its input is float32 (batch, channels, height, width), and its output is in the form that
        its task expects: for classification logits, (batch, outputs).
        """
        name_option = {"name": self.name} if self.name else {}
        own = {option: options[option] for option in options if option not in self.fit_options}
        network: nn.Module = import_object(self.builder)(image, outputs, **name_option, **own)
        return network

    @property
    def has_network(self) -> bool:
        """True if the trained model is a network, which can be exported as one."""
        return self.kind == "network" or bool(self.fitted_by)

    @property
    def extension(self) -> Any:
        """The class that adds images to the training set (`PseudoLabels`); None if none does."""
        return import_object(self.extended_by) if self.extended_by else None

    @property
    def baseline(self) -> Any:
        """The class of a baseline (`trainables.baselines.base.Baseline`); imports scikit-learn."""
        return import_object(self.fitted_by or self.builder)


TRANSFER: dict[str, Any] = {
    "pretrained": False,
    "weights": None,
    "freeze": "nothing",
}
"""The options, with their defaults, of networks that can start with pre-trained weights."""


def family(
    name: str,
    weights: str,
    *,
    min_side: int = 1,
    native_side: int = 224,
    dropout: float | None = None,
    multiple: int = 1,
    has_feature_map: bool = True,
) -> ModelEntry:
    """Build the catalog entry of a torchvision network that classifies, and may be pre-trained.

    `dropout` is the network's default dropout rate; None if it has no dropout.
    """
    options = {**TRANSFER, "input_size": None, **({} if dropout is None else {"dropout": dropout})}
    return ModelEntry(
        builder=FAMILIES,
        name=name,
        options=options,
        min_side=min_side,
        native_side=native_side,
        multiple=multiple,
        has_feature_map=has_feature_map,
        weights=weights,
    )


def probe(network: ModelEntry) -> ModelEntry:
    """Build the catalog entry of a linear classifier on the features of a pretrained network."""
    return replace(
        network,
        source=network.name,
        options={"pretrained": True, "weights": None, "input_size": PROBE_SIDE, "c": 0.01},
        kind="baseline",
        fitted_by="trainables.probes.probe:LinearProbe",
        fit_options=("c",),
        method="on the features of a pretrained network",
    )


def spreading_probe(network: ModelEntry) -> ModelEntry:
    """Build the catalog entry of a probe that also learns from images without labels."""
    entry = probe(network)
    return replace(
        entry,
        options={**entry.options, "unlabelled": None, "neighbours": 30},
        fitted_by="trainables.probes.spreading:SpreadingProbe",
        fit_options=("c", "unlabelled", "neighbours"),
        method="on the features of a pretrained network, with labels spread to other images",
    )


def pseudo_labelled(network: ModelEntry) -> ModelEntry:
    """Build the catalog entry of a pretrained network that also trains on images without labels."""
    return replace(
        network,
        source=network.name,
        options={**network.options, "pretrained": True, "unlabelled": None, "neighbours": 30},
        extended_by="trainables.probes.pseudo_labels:PseudoLabels",
        fit_options=("unlabelled", "neighbours"),
    )


def segmenting(builder: str, encoder: str = "", weights: str = "", **options: Any) -> ModelEntry:
    """Build the catalog entry of a network with logits for each pixel.

    Args:
        builder: the builder in `trainables.models`, as `module:function`.
        encoder: torchvision's name of the encoder; empty for a network without one.
        weights: the file name of the encoder's weights.
        options: the network's other options, with their defaults.
    """
    return ModelEntry(
        builder=f"trainables.models.{builder}",
        name=encoder,
        options={**(TRANSFER if encoder else {}), **options},
        min_side=SEGMENTING_SIDE,
        weights=weights,
        source=encoder,
        tasks=("segmentation",),
    )


def enlarging(builder: str, **options: Any) -> ModelEntry:
    """Build the catalog entry of a network that enlarges images.

    Args:
        builder: the name of the builder in `trainables.models.upscaling`.
        options: the network's options, with their defaults.
    """
    return ModelEntry(
        builder=f"trainables.models.upscaling:{builder}",
        options=options,
        min_side=4,
        tasks=("super_resolution",),
    )


def detecting(builder: str, encoder: str = "", weights: str = "", **options: Any) -> ModelEntry:
    """Build the catalog entry of a network that finds objects.

    Args:
        builder: the builder in `trainables.models.detectors`, as `module:function`.
        encoder: torchvision's name of the encoder; empty for a network without one.
        weights: the file name of the encoder's weights.
        options: the network's other options, with their defaults.
    """
    return ModelEntry(
        builder=f"trainables.models.detectors.{builder}",
        name=encoder,
        options={**(TRANSFER if encoder else {}), **options},
        min_side=32,
        weights=weights,
        source=encoder,
        tasks=("detection",),
    )


FAMILIES = "trainables.models.families:build"

SEGMENTING_SIDE = 32
"""The smallest side, in pixels, for the networks of segmentation, and the divisor of all sides.

They halve their images up to five times.
"""

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos")
"""The baselines of super-resolution (`trainables.predictors.super_resolution.interpolate`)."""

PROBE_SIDE = 128
"""The default side of the images of a probe, in pixels; 224 takes three times as long."""
PROBED = ("mobilenet_v2", "squeezenet1_0", "resnet18", "efficientnet_b0", "resnet50")
"""The networks on whose features a linear classifier can be fitted."""
MOST_FEATURES = 2048
"""The largest number of features that one of these networks has."""

HAND_MADE = "on hand-made features"

MOBILENET_V2 = "mobilenet_v2-7ebf99e0.pth"
SQUEEZENET = "squeezenet1_0-b66bff10.pth"
RESNET18, RESNET50 = "resnet18-f37072fd.pth", "resnet50-11ad3fa6.pth"

MODELS: dict[str, ModelEntry] = {
    "table2": ModelEntry(
        builder="trainables.models.table2:build", options={"width": 32, "dropout": 0.0}, min_side=4
    ),
    "mnist_cnn": ModelEntry(
        builder="trainables.models.mnist_cnn:build",
        options={"width": 32, "dropout": 0.5},
        min_side=4,
    ),
    "deep_cnn": ModelEntry(
        builder="trainables.models.deep_cnn:build",
        options={"layers": 5, "filter_size": 3, "width": 16, "dropout": 0.25},
    ),
    "multi_scale": ModelEntry(
        builder="trainables.models.multi_scale:build",
        options={"width": 32, "dropout": 0.0},
        min_side=4,
    ),
    "alexnet": family("alexnet", "alexnet-owt-7be5be79.pth", min_side=63, dropout=0.5),
    "vgg11_bn": family("vgg11_bn", "vgg11_bn-6002323d.pth", min_side=32, dropout=0.5),
    "vgg16_bn": family("vgg16_bn", "vgg16_bn-6c64b313.pth", min_side=32, dropout=0.5),
    "resnet18": family("resnet18", RESNET18),
    "resnet50": family("resnet50", RESNET50),
    "googlenet": family("googlenet", "googlenet-1378be20.pth", min_side=15, dropout=0.2),
    "inception_v3": family(
        "inception_v3",
        "inception_v3_google-0cc3c7bd.pth",
        min_side=75,
        native_side=299,
        dropout=0.5,
    ),
    "densenet121": family("densenet121", "densenet121-a639ec97.pth", min_side=29, dropout=0.0),
    "efficientnet_b0": family(
        "efficientnet_b0", "efficientnet_b0_rwightman-7f5810bc.pth", dropout=0.2
    ),
    "mobilenet_v2": family("mobilenet_v2", MOBILENET_V2, dropout=0.2),
    "mobilenet_v3_small": family(
        "mobilenet_v3_small", "mobilenet_v3_small-047dcff4.pth", dropout=0.2
    ),
    "squeezenet1_0": family("squeezenet1_0", SQUEEZENET, min_side=21, dropout=0.5),
    "vit_b_16": family(
        "vit_b_16", "vit_b_16-c867db91.pth", dropout=0.0, multiple=16, has_feature_map=False
    ),
    "vit": ModelEntry(
        builder=FAMILIES,
        name="vit",
        has_feature_map=False,
        options={"patch": 4, "layers": 6, "width": 128, "dropout": 0.1, "input_size": None},
    ),
    "unet": segmenting("unet:build", depth=4, width=32, norm="batch"),
    "unet_mobilenet_v2": segmenting(
        "unet_decoder:build", "mobilenet_v2", MOBILENET_V2, width=16, norm="batch"
    ),
    "unet_squeezenet1_0": segmenting(
        "unet_decoder:build", "squeezenet1_0", SQUEEZENET, width=16, norm="batch"
    ),
    "unet_resnet18": segmenting("unet_decoder:build", "resnet18", RESNET18, width=16, norm="batch"),
    "unet_resnet34": segmenting(
        "unet_decoder:build", "resnet34", "resnet34-b627a593.pth", width=16, norm="batch"
    ),
    "lraspp_mobilenet_v2": segmenting("lraspp:build", "mobilenet_v2", MOBILENET_V2, width=128),
    "lraspp_mobilenet_v3_large": segmenting(
        "lraspp:build", "mobilenet_v3_large", "mobilenet_v3_large-5c1a4163.pth", width=128
    ),
    "enet": segmenting("enet:build", dropout=0.1),
    "fcn_resnet50": segmenting("dilated:fcn", "resnet50", RESNET50, dropout=0.1),
    "pspnet_resnet50": segmenting("dilated:pspnet", "resnet50", RESNET50, dropout=0.1),
    "deeplabv3_resnet50": segmenting("dilated:deeplabv3", "resnet50", RESNET50, dropout=0.5),
    "srcnn": enlarging("srcnn", width=64),
    "fsrcnn": enlarging("fsrcnn", width=48, layers=4),
    "espcn": enlarging("espcn", width=64),
    "edsr": enlarging("edsr", width=32, layers=4),
    "autoencoder": enlarging("autoencoder", width=32, depth=2),
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
    "svm": ModelEntry(
        builder="trainables.baselines.classification:SupportVectorMachine",
        options={"features": "hog", "c": 10.0, "gamma": 1.0},
        min_side=8,
        kind="baseline",
        method=HAND_MADE,
    ),
    "knn": ModelEntry(
        builder="trainables.baselines.classification:NearestNeighbours",
        options={"features": "hog", "neighbours": 5},
        min_side=8,
        kind="baseline",
        method=HAND_MADE,
        takes_class_weights=False,
    ),
    "tree": ModelEntry(
        builder="trainables.baselines.classification:DecisionTree",
        options={"features": "hog", "tree_depth": 12},
        min_side=8,
        kind="baseline",
        method=HAND_MADE,
    ),
    "otsu": ModelEntry(
        builder="trainables.baselines.segmentation:Otsu",
        kind="baseline",
        takes_class_weights=False,
        tasks=("segmentation",),
        method="with a threshold for each image",
        max_classes=2,
    ),
    "pixel_forest": ModelEntry(
        builder="trainables.baselines.segmentation:PixelForest",
        options={"trees": 20, "tree_depth": 16},
        kind="baseline",
        tasks=("segmentation",),
        method="on hand-made features of pixels",
    ),
    "blob_forest": ModelEntry(
        builder="trainables.baselines.detection:BlobForest",
        options={"trees": 30},
        min_side=8,
        kind="baseline",
        tasks=("detection",),
        takes_class_weights=False,
        method="on hand-made features of blobs",
    ),
}
MODELS |= {
    name: ModelEntry(
        builder="trainables.baselines.interpolation:Interpolation",
        kind="baseline",
        tasks=("super_resolution",),
        takes_class_weights=False,
        method="that has nothing to learn",
    )
    for name in INTERPOLATIONS
}
MODELS |= {f"probe_{name}": probe(MODELS[name]) for name in PROBED}
MODELS |= {f"spread_{name}": spreading_probe(MODELS[name]) for name in PROBED}
MODELS |= {f"pseudo_{name}": pseudo_labelled(MODELS[name]) for name in PROBED}
