"""Overlaps of boxes, and the selection of boxes that do not hide each other.

Shapes do not depend on values here, so that all of it can be exported, for any number of images.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

ROUNDS = 16
"""The number of rounds of `are_visible`."""
SAME = 0.55
"""The intersection over union above which boxes of several networks are fused."""


def overlaps(first: Tensor, second: Tensor) -> Tensor:
    """Return the intersection over union of each pair of boxes.

    Args:
        first: left, top, right, bottom, (..., boxes, 4).
        second: the same, (..., others, 4).

    Returns:
        (..., boxes, others).
    """
    low = torch.maximum(first[..., :, None, :2], second[..., None, :, :2])
    high = torch.minimum(first[..., :, None, 2:], second[..., None, :, 2:])
    shared = _area(torch.cat([low, high], dim=-1))
    return shared / (_area(first)[..., :, None] + _area(second)[..., None, :] - shared).clamp(
        min=1e-9
    )


def generalised_iou(first: Tensor, second: Tensor) -> Tensor:
    """Return the generalised IoU of boxes, (...), from -1 to 1 (Rezatofighi et al. 2019).

    Args:
        first: left, top, right, bottom, (..., 4).
        second: the same.
    """
    shared = _area(
        torch.cat(
            [torch.maximum(first, second)[..., :2], torch.minimum(first, second)[..., 2:]], dim=-1
        )
    )
    around = _area(
        torch.cat(
            [torch.minimum(first, second)[..., :2], torch.maximum(first, second)[..., 2:]], dim=-1
        )
    )
    union = _area(first) + _area(second) - shared
    return shared / union.clamp(min=1e-6) - (around - union) / around.clamp(min=1e-6)


def best_boxes(
    candidates: Tensor, size: tuple[int, int], most: int, overlap: float, *, copies: int = 1
) -> Tensor:
    """Select the surest candidates that no surer one of the same class hides.

    Args:
        candidates: (batch, candidates, 4 + classes).
        size: (height, width) of the images, to which boxes are cut.
        most: the maximum number of boxes of an image.
        overlap: the intersection over union above which a box hides another.
        copies: about how many candidates there are of each object. `copies * most` of them are
            compared, so that those of one object do not displace those of another.

    Returns:
        (batch, most, 6): left, top, right, bottom, score, class number, the surest first. Hidden
        boxes have the score 0.
    """
    edges, scores = candidates[..., :4], candidates[..., 4:]
    classes = scores.shape[2]
    top, at = scores.flatten(1).topk(min(copies * most, scores.shape[1] * classes), dim=1)
    numbers, own_rows = at % classes, torch.div(at, classes, rounding_mode="floor")
    boxes = edges.gather(1, own_rows[..., None].expand(-1, -1, 4))
    height, width = size
    limits = boxes.new_tensor([width, height, width, height])
    boxes = torch.minimum(boxes.clamp(min=0), limits)
    top = top * are_visible(boxes, numbers, overlap)
    rows = torch.cat([boxes, top[..., None], numbers[..., None].to(boxes.dtype)], dim=-1)
    if rows.shape[1] <= most:
        return rows
    surest = top.topk(most, dim=1).indices
    return rows.gather(1, surest[..., None].expand(-1, -1, rows.shape[2]))


def fuse_boxes(members: Sequence[Tensor]) -> Tensor:
    """Fuse the boxes that several networks find in the same images.

    Boxes of one class that overlap by more than `SAME` are around the same object. Their edges are
    averaged, weighted by their scores, and so are the scores, where a network without such a box
    counts as 0 (after "Weighted Boxes Fusion", Solovyev et al. 2021).

    Args:
        members: the result of `best_boxes` for each network.

    Returns:
        As many boxes in the same form.
    """
    joined = torch.cat(list(members), dim=1)
    count, each = joined.shape[1], members[0].shape[1]
    scores, order = joined[..., 4].topk(count, dim=1)
    joined = joined.gather(1, order[..., None].expand_as(joined))
    edges, numbers = joined[..., :4], joined[..., 5]
    is_same = (overlaps(edges, edges) > SAME) & (numbers[:, :, None] == numbers[:, None, :])
    support = is_same.to(edges.dtype) * scores[:, None, :]
    owners = torch.div(order, each, rounding_mode="floor")
    fused = torch.zeros_like(scores)
    for member in range(len(members)):
        own = support * (owners == member)[:, None, :].to(edges.dtype)
        fused = fused + own.amax(dim=2) / len(members)
    edges = support @ edges / support.sum(dim=2, keepdim=True).clamp(min=1e-9)
    fused = fused * are_visible(joined[..., :4], numbers.long(), SAME)
    boxes = torch.cat([edges, fused[..., None], numbers[..., None]], dim=-1)
    rows = fused.topk(each, dim=1).indices
    return boxes.gather(1, rows[..., None].expand(-1, -1, boxes.shape[2]))


def are_visible(boxes: Tensor, numbers: Tensor, overlap: float) -> Tensor:
    """Return 1 for boxes that non-maximum suppression keeps, else 0, (batch, boxes).

    A box is visible if no visible earlier box of its class hides it. Each round is right for
    chains that are longer by one (Cluster-NMS, Zheng et al. 2021, section 3.4); after `ROUNDS`
    rounds, it is exact unless more boxes than that hide each other in a row.

    Args:
        boxes: the surest first, (batch, boxes, 4).
        numbers: the class numbers, (batch, boxes).
        overlap: the intersection over union above which a box hides another.
    """
    hides = (overlaps(boxes, boxes) > overlap) & (numbers[:, :, None] == numbers[:, None, :])
    earlier = torch.ones_like(hides[0]).triu(1)
    chances = (hides & earlier).to(boxes.dtype)
    visible = torch.ones_like(boxes[..., 0])
    for _ in range(ROUNDS):
        visible = 1 - (chances * visible[:, :, None]).amax(dim=1)
    return visible


def _area(boxes: Tensor) -> Tensor:
    return (boxes[..., 2] - boxes[..., 0]).clamp(min=0) * (boxes[..., 3] - boxes[..., 1]).clamp(
        min=0
    )
