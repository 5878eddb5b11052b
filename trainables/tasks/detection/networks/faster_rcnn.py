"""Faster R-CNN: proposals of objects, each of which a second head classifies and corrects.

See Ren et al. 2015, "Faster R-CNN". Layers and losses are those of torchvision's
`fasterrcnn_mobilenet_v3_large_320_fpn`. Torchvision's own way from features to boxes has operators
of its own, which an exported program could not use without torchvision, and shapes that depend on
values. The one here has neither.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_320_fpn
from torchvision.models.detection.image_list import ImageList

from trainables.models.pretrained import Anatomy, Pretrainable, frozen_modules
from trainables.tasks.detection.networks.ssd import BOX_WEIGHTS, decode, training_targets
from trainables.tasks.detection.selection import are_visible

SUREST_ANCHORS = 300
"""The number of anchors of an image, the surest of all levels, that may become proposals."""
PROPOSALS = 100
"""The number of proposals of an image that the second head classifies."""
PROPOSAL_OVERLAP = 0.7
"""The intersection over union above which a proposal hides another (Ren et al., section 3.3)."""
SMALLEST_SIDE = 1e-3
"""Proposals with a shorter side, in pixels, are dropped, as in torchvision."""
MOST_CANDIDATES = 300
"""The number of candidates of an image: pairs of a proposal and a class, the surest of them."""
TRAINED_PROPOSALS = 128
"""The number of proposals of an image from which the second head learns.

Torchvision's default is 512, for batches of two images on each GPU. The second head maps 12,544
features of each proposal to 1,024, so that its cost is proportional to this number.
"""
CELLS, SAMPLES = 7, 2
"""The pooled features of a box are CELLS x CELLS averages of SAMPLES x SAMPLES points each."""
CANONICAL_SIDE, CANONICAL_LEVEL = 224, 4
"""A box of this side is pooled at 1 / 2 ** CANONICAL_LEVEL (Lin et al. 2017, equation 1)."""


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
    return FasterRcnn(outputs, pretrained=pretrained, freeze=freeze)


class FasterRcnn(Pretrainable):
    """The detector; its backbone, which includes the feature pyramid, may be pretrained."""

    part_name = "backbone"
    backbone: nn.Module
    rpn: Any
    roi_heads: Any

    def __init__(self, classes: int, *, pretrained: bool, freeze: str) -> None:
        # Torchvision drops proposals with a score below 0.05, also in training. The second head of
        # a network that starts from random weights would then see no background for many steps.
        network = fasterrcnn_mobilenet_v3_large_320_fpn(
            weights=None,
            weights_backbone=None,
            num_classes=classes + 1,  # class 0 is the background
            rpn_score_thresh=0.0,
            box_batch_size_per_image=TRAINED_PROPOSALS,
        )
        last_stage = tuple(f"body.{layer}." for layer in (13, 14, 15, 16))
        super().__init__(
            network.backbone,
            Anatomy((), (*last_stage, "fpn.")),
            pretrained=pretrained,
            freeze=freeze,
            rpn=network.rpn,
            roi_heads=network.roi_heads,
        )
        if pretrained:
            # The published weights were trained with the constant statistics of ImageNet.
            for module in self.backbone.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.requires_grad_(False)
            self._frozen = list(frozen_modules(self.backbone))

    def forward(self, images: Tensor, boxes: Tensor | None = None) -> Tensor:
        """Map images to candidates or, with boxes, to the four losses.

        Args:
            images: float32 (batch, channels, height, width).
            boxes: (batch, boxes, 6): left, top, right, bottom in pixels, the class number (-1 for a
                row that is no box), and 1 for a crowd.

        Returns:
            Candidates, (batch, candidates, 4 + classes), or losses, (4,): of objectness, of the
            edges of proposals, of the classes, and of the final edges.
        """
        size = images.shape[2], images.shape[3]
        maps = self.backbone(self.prepare(images))
        if boxes is None:
            return self.candidates(list(maps.values()), size)
        # Sums over many boxes need full precision, and torchvision mixes the types of operands.
        with torch.autocast(images.device.type, enabled=False):
            maps = {name: features.float() for name, features in maps.items()}
            return self.losses(images, maps, boxes.float())

    def losses(self, images: Tensor, maps: dict[str, Tensor], boxes: Tensor) -> Tensor:
        """Return torchvision's four losses, (4,); the arguments are as for `forward`."""
        targets, sizes = training_targets(boxes), [tuple(images.shape[2:])] * len(images)
        proposals, losses = self.rpn(ImageList(images, sizes), maps, targets)
        _, final_losses = self.roi_heads(maps, proposals, sizes, targets)
        return torch.stack([*losses.values(), *final_losses.values()])

    def candidates(self, maps: list[Tensor], size: tuple[int, int]) -> Tensor:
        """Return the surest pairs of a proposal and a class, each with the score of that class.

        Args:
            maps: the feature maps of the backbone.
            size: (height, width) of the images.

        Returns:
            (batch, candidates, 4 + classes), with a single score above 0 in a row.
        """
        proposals, objectness = self.propose(maps, size)
        count = proposals.shape[1]
        # The last map, of the pyramid's pooling, has only proposals.
        features = pool(maps[:-1], proposals, size[0])
        features = self.roi_heads.box_head(features.flatten(0, 1))
        logits, codes = self.roi_heads.box_predictor(features)
        scores = logits.float().softmax(dim=-1)[:, 1:].unflatten(0, (-1, count))
        classes = scores.shape[2]
        scores = scores * (objectness > 0)[..., None]
        top, pairs = scores.flatten(1).topk(min(MOST_CANDIDATES, count * classes), dim=1)
        numbers, rows = pairs % classes, torch.div(pairs, classes, rounding_mode="floor")
        codes = codes.float().reshape(-1, count * (classes + 1), 4)
        codes = _select(codes, rows * (classes + 1) + numbers + 1)
        edges = decode(codes, _select(proposals, rows), BOX_WEIGHTS)
        is_own = numbers[..., None] == torch.arange(classes, device=numbers.device)
        return torch.cat([edges, top[..., None] * is_own], dim=-1)

    def propose(self, maps: list[Tensor], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Return the surest proposals that no surer one of the same level hides.

        Args:
            maps: the feature maps of the backbone.
            size: (height, width) of the images.

        Returns:
            Boxes within the image, (batch, proposals, 4), the surest first, and their objectness,
            (batch, proposals), which is 0 for hidden ones.
        """
        objectness, codes = self.rpn.head(maps)
        scores = torch.cat([level.permute(0, 2, 3, 1).flatten(1) for level in objectness], dim=1)
        codes = torch.cat(
            [level.unflatten(1, (-1, 4)).permute(0, 3, 4, 1, 2).flatten(1, 3) for level in codes],
            dim=1,
        )
        anchors, levels = self.anchors(maps, size)
        top, rows = scores.float().sigmoid().topk(min(SUREST_ANCHORS, len(anchors)), dim=1)
        boxes = decode(_select(codes, rows).float(), anchors[rows], (1.0, 1.0, 1.0, 1.0))
        height, width = size
        boxes = torch.minimum(boxes.clamp(min=0), boxes.new_tensor([width, height, width, height]))
        is_long = (boxes[..., 2:] - boxes[..., :2] >= SMALLEST_SIDE).all(dim=-1)
        top = top * is_long * are_visible(boxes, levels[rows], PROPOSAL_OVERLAP)
        top, rows = top.topk(min(PROPOSALS, top.shape[1]), dim=1)
        return _select(boxes, rows), top

    def anchors(self, maps: list[Tensor], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Return the anchors in pixels, (anchors, 4), and the level of each, (anchors,).

        They are those of torchvision's `AnchorGenerator`, which stores tensors in itself when it is
        called, and cannot be exported.

        Args:
            maps: the feature maps of the backbone.
            size: (height, width) of the images.
        """
        generator, device = self.rpn.anchor_generator, maps[0].device
        boxes, levels = [], []
        for level, features in enumerate(maps):
            rows, columns = features.shape[2:]
            shapes = generator.generate_anchors(
                generator.sizes[level], generator.aspect_ratios[level], device=device
            )
            y = torch.arange(rows, device=device, dtype=torch.float32) * (size[0] // rows)
            x = torch.arange(columns, device=device, dtype=torch.float32) * (size[1] // columns)
            places = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], dim=-1)
            boxes.append((places.repeat(1, 1, 2)[:, :, None] + shapes).reshape(-1, 4))
            levels.append(torch.full_like(boxes[-1][:, 0], level, dtype=torch.long))
        return torch.cat(boxes), torch.cat(levels)


def pool(maps: Sequence[Tensor], boxes: Tensor, height: int) -> Tensor:
    """Average the features within each box, as torchvision's `MultiScaleRoIAlign`.

    The points are interpolated bilinearly, so that the features of a box are the product of the
    map with a matrix for its rows and one for its columns. This needs a quarter of the memory of
    all points.

    Args:
        maps: feature maps, (batch, channels, rows, columns), the finest first. Torchvision uses
            the first ones, one for each power of two from the finest to the coarsest stride.
        boxes: left, top, right, bottom in pixels, (batch, boxes, 4).
        height: the height of the images.

    Returns:
        (batch, boxes, channels, CELLS, CELLS).
    """
    finest, coarsest = (round(math.log2(height / maps[end].shape[2])) for end in (0, -1))
    sides = boxes[..., 2:] - boxes[..., :2]
    # 1e-6 is torchvision's, against rounding errors at the limit between two levels.
    levels = (sides.prod(dim=-1).sqrt() / CANONICAL_SIDE).log2() + CANONICAL_LEVEL + 1e-6
    levels = levels.floor().clamp(finest, coarsest)
    pooled = list[Tensor]()
    for level, features in zip(range(finest, coarsest + 1), maps, strict=False):
        rows, columns = features.shape[2:]
        scaled = boxes / 2**level
        down = (
            _weights_of_cells(scaled[..., 1], scaled[..., 3], rows)
            * (levels == level)[..., None, None]
        )
        across = _weights_of_cells(scaled[..., 0], scaled[..., 2], columns)
        lines = torch.einsum("bnph,bchw->bnpcw", down.to(features.dtype), features)
        pooled.append(torch.einsum("bnpcw,bnqw->bncpq", lines, across.to(features.dtype)))
    return torch.stack(pooled).sum(dim=0)


def _weights_of_cells(low: Tensor, high: Tensor, count: int) -> Tensor:
    """Return the weight of each row (or column) of a map in each cell of a box.

    Args:
        low: the first edge of each box, in rows, (batch, boxes).
        high: the opposite edge.
        count: the number of rows.

    Returns:
        (batch, boxes, CELLS, count).
    """
    steps = torch.arange(CELLS * SAMPLES, device=low.device, dtype=low.dtype) + 0.5
    sides = (high - low).clamp(min=1)
    points = low[..., None] + sides[..., None] * steps / (CELLS * SAMPLES)
    # Points beyond the map count as 0, and those at its border as its outermost row.
    is_inside = (points >= -1) & (points <= count)
    points = points.clamp(0, count - 1)
    distances = (points[..., None] - torch.arange(count, device=low.device)).abs()
    weights: Tensor = (1 - distances).clamp(min=0) * is_inside[..., None]
    averages: Tensor = weights.unflatten(2, (CELLS, SAMPLES)).mean(dim=3)
    return averages


def _select(values: Tensor, rows: Tensor) -> Tensor:
    """Return these rows, (batch, rows), of values, (batch, many, 4)."""
    return values.gather(1, rows[..., None].expand(-1, -1, 4))
