"""SSDLite: default boxes at six resolutions, each with a score for every class.

The method is SSD (Liu et al. 2016, "SSD: Single Shot MultiBox Detector"), with the light head of
MobileNetV2 (Sandler et al. 2018, section 6.2). Layers, default boxes, matching and losses are those
of torchvision's `ssdlite320_mobilenet_v3_large`.
"""

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.detection import ssdlite320_mobilenet_v3_large
from torchvision.ops import box_iou

from trainables.models.pretrained import MOMENTUM, Anatomy, Pretrainable

BOX_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
"""The factors of offsets of the centre (x, y) and of log sizes (width, height) in box codes."""
LARGEST_LOG_SIZE = math.log(1000 / 16)
"""Larger logarithms of relative sizes are cut off, as in torchvision's `BoxCoder`."""
SMALLEST_SIDE = 1.0
"""Boxes with a shorter side, in pixels, are not learned: the log of their size would diverge."""


def build(
    image: tuple[int, int, int],
    outputs: int,
    *,
    name: str,
    pretrained: bool,
    freeze: str,
    weights: str | None = None,
) -> nn.Module:
    """Build the network.

    Args:
        image: (channels, height, width) of the images; both sides are multiples of 32.
        outputs: the number of classes.
        name: torchvision's name of the network, of which there is only one.
        pretrained: True if pretrained weights of the backbone will be loaded.
        freeze: the frozen layers of the backbone (`Pretrainable`).
        weights: the path of pretrained weights, which is not used here.
    """
    return SsdLite(outputs, pretrained=pretrained, freeze=freeze)


class SteadyBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation that uses the running statistics where a batch has a single value.

    The last feature maps have a single cell, from which the statistics of a batch of one image
    cannot be computed: torch raises an error.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalise the channels of (batch, channels, height, width)."""
        if not self.training or input.shape[0] * input.shape[2] * input.shape[3] > 1:
            return super().forward(input)
        return functional.batch_norm(
            input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
        )


class SsdLite(Pretrainable):
    """The detector; its backbone, which includes four extra stages, may be pretrained."""

    part_name = "backbone"
    copies = 4
    """About how many default boxes fit an object; the task compares so many times more boxes."""
    backbone: nn.Module
    detector: Any
    shapes: Tensor

    def __init__(self, classes: int, *, pretrained: bool, freeze: str) -> None:
        detector = ssdlite320_mobilenet_v3_large(
            weights=None,
            weights_backbone=None,
            num_classes=classes + 1,  # class 0 is the background
            norm_layer=partial(SteadyBatchNorm2d, eps=0.001, momentum=0.03),
        )
        backbone, detector.backbone = detector.backbone, nn.Identity()
        # The published weights expect pixels from -1 to 1 (`forward`), not ImageNet's scaling.
        backbone.transform_input = pretrained
        for module in detector.head.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = MOMENTUM  # the head always starts with random weights
        super().__init__(
            backbone,
            Anatomy((), ("features.1.", "extra.")),
            pretrained=pretrained,
            freeze=freeze,
            detector=detector,
        )
        sizes = torch.stack(detector.anchor_generator._wh_pairs).clamp(max=1)
        self.register_buffer("shapes", sizes, persistent=False)

    def forward(self, images: Tensor, boxes: Tensor | None = None) -> Tensor:
        """Map images to candidates or, with boxes, to the two losses.

        Args:
            images: float32 (batch, channels, height, width).
            boxes: (batch, boxes, 6): left, top, right, bottom in pixels, the class number (-1 for a
                row that is no box), and 1 for a crowd.

        Returns:
            Candidates, (batch, candidates, 4 + classes), or losses, (2,): of the edges, and of the
            classes.
        """
        size = images.shape[2], images.shape[3]
        images = self.prepare(images)
        if self.pretrained and self.backbone.transform_input:
            images = (images * self.deviation + self.mean) * 2 - 1
        maps = list(self.backbone(images).values())
        outputs = {name: tensor.float() for name, tensor in self.detector.head(maps).items()}
        anchors = self.default_boxes(maps, size)
        if boxes is None:
            edges = decode(outputs["bbox_regression"], anchors, BOX_WEIGHTS)
            scores = outputs["cls_logits"].softmax(dim=-1)[..., 1:]
            return torch.cat([edges, scores], dim=-1)
        # Sums over many boxes need full precision.
        with torch.autocast(images.device.type, enabled=False):
            return self.losses(outputs, anchors, boxes.float())

    def default_boxes(self, maps: list[Tensor], size: tuple[int, int]) -> Tensor:
        """Return the default boxes in pixels, (boxes, 4), as torchvision's `DefaultBoxGenerator`.

        That one returns a copy for each image, which would fix the batch size of an export.

        Args:
            maps: the feature maps.
            size: (height, width) of the images.
        """
        device = maps[0].device
        levels = []
        for shapes, features in zip(self.shapes.to(device), maps, strict=True):
            y, x = (
                (torch.arange(count, device=device, dtype=torch.float32) + 0.5) / count
                for count in features.shape[2:]
            )
            cells = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], dim=-1)
            centres = cells.reshape(-1, 1, 2).expand(-1, len(shapes), 2)
            halves = (shapes / 2).expand_as(centres)
            levels.append(torch.cat([centres - halves, centres + halves], dim=-1).flatten(0, 1))
        height, width = size
        sides = torch.tensor([width, height, width, height], device=device)
        return torch.cat(levels) * sides

    def losses(self, outputs: dict[str, Tensor], anchors: Tensor, boxes: Tensor) -> Tensor:
        """Return the losses of the edges and of the classes, (2,), as torchvision's `SSD`.

        Args:
            outputs: torchvision's outputs of the head.
            anchors: the default boxes, (anchors, 4).
            boxes: as for `forward`.
        """
        targets, matches = training_targets(boxes), []
        for target in targets:
            if len(target["boxes"]):
                ious = box_iou(target["boxes"], anchors)
                matches.append(self.detector.proposal_matcher(ious))
            else:
                matches.append(torch.full_like(anchors[:, 0], -1, dtype=torch.long))
        losses = self.detector.compute_loss(targets, outputs, [anchors] * len(targets), matches)
        return torch.stack(list(losses.values()))


def training_targets(boxes: Tensor) -> list[dict[str, Tensor]]:
    """Convert boxes to torchvision's targets, without crowds, padding and boxes without an area.

    Args:
        boxes: (batch, boxes, 6), as for `SsdLite.forward`.
    """
    is_long = (boxes[..., 2:4] - boxes[..., :2] >= SMALLEST_SIDE).all(dim=-1)
    is_learned = (boxes[..., 4] >= 0) & (boxes[..., 5] == 0) & is_long
    return [
        {"boxes": own[rows, :4], "labels": own[rows, 4].long() + 1}
        for own, rows in zip(boxes, is_learned, strict=True)
    ]


def decode(codes: Tensor, anchors: Tensor, weights: tuple[float, float, float, float]) -> Tensor:
    """Apply box codes to anchors, as torchvision's `BoxCoder`, for any number of dimensions.

    Args:
        codes: weighted offsets of the centre in sides of the anchor, and weighted logarithms of
            the relative width and height, (..., 4).
        anchors: left, top, right, bottom, (..., 4), broadcast to the shape of `codes`.
        weights: the factor of each value in `codes`.

    Returns:
        Left, top, right, bottom, (..., 4).
    """
    sides = anchors[..., 2:] - anchors[..., :2]
    offsets = torch.stack([codes[..., 0] / weights[0], codes[..., 1] / weights[1]], dim=-1)
    logs = torch.stack([codes[..., 2] / weights[2], codes[..., 3] / weights[3]], dim=-1)
    centres = anchors[..., :2] + sides / 2 + offsets * sides
    halves = logs.clamp(max=LARGEST_LOG_SIZE).exp() * sides / 2
    return torch.cat([centres - halves, centres + halves], dim=-1)
