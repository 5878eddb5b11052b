"""A small detector without anchors: a heat map of object centres, and the distances to four edges.

The heat map and its loss are those of CenterNet (Zhou et al. 2019, "Objects as Points", section
3). As in TTFNet (Liu et al. 2020, "Training-Time-Friendly Network for Real-Time Object Detection"),
each object teaches all cells around its centre the distances to its edges, by generalised IoU. By
that paper, this needs a tenth of CenterNet's epochs.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainables.models.encoders import ENCODERS, FeatureEncoder
from trainables.models.pretrained import Pretrainable
from trainables.tasks.detection.selection import generalised_iou

STRIDE = 4
"""The side of a cell of the heat map, in pixels."""
REGION = 0.54
"""The side of the region around the centre that an object teaches, as a share of its own side.

Its Gaussian has a standard deviation of a sixth of that (TTFNet, section 4).
"""
DISTANCE = 16.0
"""The distance to each edge, in pixels, for an output of 0."""
LARGEST_OUTPUT = 5.0
"""Larger outputs are cut off; the distance is then about 2,400 pixels."""
PRIOR = 0.01
"""The score of each cell at the start: nearly all cells are background (Lin et al. 2017)."""
BOX_WEIGHT = 5.0
"""The weight of the loss of boxes; that of the heat map has weight 1 (TTFNet, section 4)."""
AT_ONCE = 16
"""The number of boxes of each image that are drawn into the heat map at once."""


def build(
    image: tuple[int, int, int],
    outputs: int,
    *,
    name: str = "",
    width: int,
    pretrained: bool = False,
    freeze: str = "nothing",
    weights: str | None = None,
) -> nn.Module:
    """Build the network.

    Args:
        image: (channels, height, width) of the images; both sides are multiples of 32.
        outputs: the number of classes.
        name: the encoder, a key of `ENCODERS`; empty for a small one without published weights.
        width: the number of channels at a quarter of the resolution.
        pretrained: True if pretrained weights of the encoder will be loaded.
        freeze: the frozen layers of the encoder (`Pretrainable`).
        weights: the path of pretrained weights, which is not used here.
    """
    if not name:
        encoder = PlainEncoder(image[0], width)
        return CenterPoints(encoder, CenterHead(encoder.channels, outputs, width))
    head = CenterHead(ENCODERS[name].channels[1:], outputs, width)
    return PretrainedCenterPoints(name, head, pretrained=pretrained, freeze=freeze)


class PlainEncoder(nn.Module):
    """Convolutions that halve the resolution four times."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.channels = (width, 2 * width, 4 * width)
        self.stem = nn.Sequential(
            _convolution(channels, width // 2, 2), _convolution(width // 2, width, 2)
        )
        self.stages = nn.ModuleList(
            [
                nn.Sequential(_convolution(width, width), _convolution(width, width)),
                nn.Sequential(
                    _convolution(width, 2 * width, 2), _convolution(2 * width, 2 * width)
                ),
                nn.Sequential(
                    _convolution(2 * width, 4 * width, 2), _convolution(4 * width, 4 * width)
                ),
            ]
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        """Map images to features at 1/4, 1/8 and 1/16 of the resolution."""
        features, outputs = self.stem(images), []
        for stage in self.stages:
            features = stage(features)
            outputs.append(features)
        return outputs


class CenterHead(nn.Module):
    """Features of all resolutions, added up at the highest (Lin et al. 2017), with two outputs."""

    def __init__(self, channels: tuple[int, ...], classes: int, width: int) -> None:
        """Build the head.

        Args:
            channels: the number of channels of each feature map, each half as large as the last.
            classes: the number of classes.
            width: the number of the head's channels.
        """
        super().__init__()
        self.laterals = nn.ModuleList([nn.Conv2d(own, width, 1) for own in channels])
        self.smoothing = nn.ModuleList([_convolution(width, width) for _ in channels[1:]])
        scores, edges = nn.Conv2d(width, classes, 1), nn.Conv2d(width, 4, 1)
        for layer, bias in ((scores, math.log(PRIOR / (1 - PRIOR))), (edges, 0.0)):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.constant_(layer.bias, bias)  # type: ignore[arg-type]
        self.heat = nn.Sequential(_convolution(width, width), scores)
        self.edges = nn.Sequential(_convolution(width, width), edges)

    def forward(self, maps: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Return the logits of the heat map, (batch, classes, rows, columns), and the distances.

        Distances are (batch, 4, rows, columns), to the left, top, right and bottom edge in pixels.
        """
        features = self.laterals[-1](maps[-1])
        for number in range(len(maps) - 2, -1, -1):
            larger = functional.interpolate(features, scale_factor=2.0, mode="nearest")
            features = self.smoothing[number](larger + self.laterals[number](maps[number]))
        distances = self.edges(features).float().clamp(max=LARGEST_OUTPUT).exp() * DISTANCE
        return self.heat(features).float(), distances


class CenterNetwork(nn.Module):
    """The losses and the candidates of a network with a `CenterHead`."""

    def outputs(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the outputs of the head."""
        raise NotImplementedError

    def forward(self, images: Tensor, boxes: Tensor | None = None) -> Tensor:
        """Map images to candidates or, with boxes, to the two losses.

        Args:
            images: float32 (batch, channels, height, width).
            boxes: (batch, boxes, 6): left, top, right, bottom in pixels, the class number (-1 for a
                row that is no box), and 1 for a crowd.

        Returns:
            Candidates, (batch, candidates, 4 + classes), or losses, (2,): of the heat map, and of
            the edges.
        """
        heat, distances = self.outputs(images)
        if boxes is None:
            return candidates(heat.sigmoid(), distances)
        # Sums over many cells need full precision.
        with torch.autocast(images.device.type, enabled=False):
            return losses(heat, distances, boxes.float())


class CenterPoints(CenterNetwork):
    """A detector that is trained from nothing."""

    def __init__(self, encoder: PlainEncoder, head: CenterHead) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head

    def outputs(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the outputs of the head."""
        outputs: tuple[Tensor, Tensor] = self.head(self.encoder(images))
        return outputs


class PretrainedCenterPoints(CenterNetwork, Pretrainable):
    """A detector whose encoder is one of torchvision's, and may start with published weights."""

    part_name = "encoder"
    encoder: nn.Module
    head: nn.Module

    def __init__(self, name: str, head: CenterHead, *, pretrained: bool, freeze: str) -> None:
        Pretrainable.__init__(
            self,
            FeatureEncoder(name),
            ENCODERS[name].anatomy,
            pretrained=pretrained,
            freeze=freeze,
            head=head,
        )

    def outputs(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the outputs of the head."""
        maps = self.encoder(self.prepare(images))
        outputs: tuple[Tensor, Tensor] = self.head(maps[1:])
        return outputs


def candidates(heat: Tensor, distances: Tensor) -> Tensor:
    """Return a candidate for each cell, with score 0 for classes that are stronger beside it.

    Args:
        heat: scores, (batch, classes, rows, columns).
        distances: to the edges in pixels, (batch, 4, rows, columns).
    """
    scores = heat * (heat == functional.max_pool2d(heat, 3, 1, 1))
    x, y = _centres(heat)
    x1, y1, x2, y2 = distances.unbind(dim=1)
    boxes = torch.stack([x - x1, y - y1, x + x2, y + y2], dim=1)
    return torch.cat([boxes, scores], dim=1).flatten(2).transpose(1, 2)


def losses(heat: Tensor, distances: Tensor, boxes: Tensor) -> Tensor:
    """Return the loss of the heat map and `BOX_WEIGHT` times that of the edges, (2,).

    Args:
        heat: logits, (batch, classes, rows, columns).
        distances: to the edges in pixels, (batch, 4, rows, columns).
        boxes: as for `CenterNetwork.forward`.
    """
    truth, teachers, weights, ignored = _lessons(heat, boxes)
    score = heat.sigmoid()
    # The focal loss of CenterNet: cells near a centre are punished less (equation 1).
    near = functional.logsigmoid(heat) * (1 - score) ** 2
    far = functional.logsigmoid(-heat) * score**2 * (1 - truth) ** 4
    count = (truth == 1).sum().clamp(min=1)
    is_counted = ~ignored[:, None] | (truth == 1)
    heat_loss = -(torch.where(truth == 1, near, far) * is_counted).sum() / count
    x, y = _centres(heat)
    x1, y1, x2, y2 = distances.unbind(dim=1)
    predicted = torch.stack([x - x1, y - y1, x + x2, y + y2], dim=-1)
    batch = torch.arange(len(boxes), device=boxes.device)[:, None, None]
    own_boxes = boxes[batch, teachers.clamp(min=0), :4]
    wrong = 1 - generalised_iou(predicted, own_boxes)
    edge_loss = (wrong * weights).sum() / weights.sum().clamp(min=1e-6)
    return torch.stack([heat_loss, BOX_WEIGHT * edge_loss])


def _lessons(heat: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return for each cell how near it is to a centre of each class, and which box it learns.

    Returns:
        The heat map to learn, (batch, classes, rows, columns); the row of the box whose edges a
        cell learns, (batch, rows, columns), of several the smallest, -1 for none; the weight of
        that, (batch, rows, columns), 0 for none; and the cells within crowds, which are ignored.
    """
    rows, columns = heat.shape[2:]
    truth = torch.zeros_like(heat)
    smallest = torch.full_like(heat[:, 0], torch.inf)
    teachers, weights = torch.full_like(smallest, -1, dtype=torch.long), torch.zeros_like(smallest)
    ignored = torch.zeros_like(smallest, dtype=torch.bool)
    y, x = (torch.arange(count, device=heat.device) for count in (rows, columns))
    x_pixels, y_pixels = _centres(heat)
    for first in range(0, boxes.shape[1], AT_ONCE):
        some = boxes[:, first : first + AT_ONCE, :, None, None]
        x1, y1, x2, y2, number, crowd = some.unbind(dim=2)
        is_crowd = (number >= 0) & (crowd > 0)
        is_within = (x_pixels >= x1) & (x_pixels < x2) & (y_pixels >= y1) & (y_pixels < y2)
        ignored |= (is_crowd & is_within).any(dim=1)
        is_box = (number >= 0) & (crowd == 0)
        width, height = (
            ((x2 - x1) / STRIDE).clamp(min=1),
            ((y2 - y1) / STRIDE).clamp(min=1),
        )
        across = x - ((x1 + x2) / 2 / STRIDE).floor().clamp(0, columns - 1)
        down = y[:, None] - ((y1 + y2) / 2 / STRIDE).floor().clamp(0, rows - 1)
        near = torch.exp(-18 * ((across / (REGION * width)) ** 2 + (down / (REGION * height)) ** 2))
        is_taught = (across.abs() <= REGION * width / 2) & (down.abs() <= REGION * height / 2)
        near = near * (is_taught & is_box)
        rows_of_classes = number.long().clamp(min=0).expand_as(near)
        truth = truth.scatter_reduce(1, rows_of_classes, near, "amax")
        area = torch.where(near > 0, width * height, torch.inf)
        least, row = area.min(dim=1)
        is_new = least < smallest
        # Each object has about the same weight, which grows slowly with its area (TTFNet, eq. 5).
        share = near / near.sum(dim=(2, 3), keepdim=True).clamp(min=1e-6)
        own_weights = (share * (1 + width * height).log()).gather(1, row[:, None])[:, 0]
        smallest = torch.where(is_new, least, smallest)
        teachers = torch.where(is_new, row + first, teachers)
        weights = torch.where(is_new, own_weights, weights)
    return truth, teachers, weights, ignored


def _centres(heat: Tensor) -> tuple[Tensor, Tensor]:
    """Return the middle of each cell in pixels: x, (columns,), and y, (rows, 1)."""
    rows, columns = heat.shape[-2:]
    y, x = (
        (torch.arange(count, device=heat.device, dtype=torch.float32) + 0.5) * STRIDE
        for count in (rows, columns)
    )
    return x, y[:, None]


def _convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )
