"""The networks whose output is one vector for each image; several tasks may list them.

A builder is imported when a model is built. To add a network, write `build(image, outputs,
**options)` in a module of `trainables/models`, and list it in `NETWORKS`; the conformance tests
then include it.
"""

from dataclasses import replace
from typing import Any

from trainables.catalog.entries import ModelEntry

MOBILENET_V2 = "mobilenet_v2-7ebf99e0.pth"
SQUEEZENET = "squeezenet1_0-b66bff10.pth"
RESNET18, RESNET50 = "resnet18-f37072fd.pth", "resnet50-11ad3fa6.pth"

PROBE_SIDE = 128
"""The default side of the images of a probe, in pixels; 224 takes three times as long."""
PROBED = ("mobilenet_v2", "squeezenet1_0", "resnet18", "efficientnet_b0", "resnet50")
"""The networks on whose features a linear classifier can be fitted."""
MOST_FEATURES = 2048
"""The largest number of features that one of these networks has."""

HAND_MADE = "on hand-made features"
"""The method of baselines in a sentence (`ModelEntry.method`)."""

FAMILIES = "trainables.models.families:build"

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


def with_encoder(
    builder: str, min_side: int, encoder: str = "", weights: str = "", **options: Any
) -> ModelEntry:
    """Build the catalog entry of a network that may contain a pre-trained encoder.

    Args:
        builder: the builder, as `module:function`.
        min_side: the smallest side of an image, in pixels.
        encoder: torchvision's name of the encoder; empty for a network without one.
        weights: the file name of the encoder's weights.
        options: the network's other options, with their defaults.
    """
    return ModelEntry(
        builder=builder,
        name=encoder,
        options={**(TRANSFER if encoder else {}), **options},
        min_side=min_side,
        weights=weights,
        source=encoder,
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
        extended_by="trainables.probes.spreading:PseudoLabels",
        fit_options=("unlabelled", "neighbours"),
    )


NETWORKS: dict[str, ModelEntry] = {
    "table2": ModelEntry(
        builder="trainables.models.paper:table2", options={"width": 32, "dropout": 0.0}, min_side=4
    ),
    "mnist_cnn": ModelEntry(
        builder="trainables.models.paper:mnist_cnn",
        options={"width": 32, "dropout": 0.5},
        min_side=4,
    ),
    "deep_cnn": ModelEntry(
        builder="trainables.models.paper:deep_cnn",
        options={"layers": 5, "filter_size": 3, "width": 16, "dropout": 0.25},
    ),
    "multi_scale": ModelEntry(
        builder="trainables.models.paper:multi_scale",
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
}


UNLABELLED_SHARE, MOST_UNLABELLED = 0.5, 4000
"""The share of the images without labels that are used, and the maximum number of images.

The classes of the others are less certain.
"""


def number_used(count: int) -> int:
    """Return the number of images that are used, of `count` without labels."""
    return min(MOST_UNLABELLED, max(1, round(UNLABELLED_SHARE * count)))
