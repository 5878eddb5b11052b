"""Boxes that are moved with their images (`trainables.augmentation.augment`)."""

import torch
from torch import Tensor

from trainables.config import AugmentConfig

LEAST_SHARE = 0.3
"""A box of which less than this share of the area remains in the image is left out."""


def move_boxes(
    boxes: Tensor, config: AugmentConfig, drawn: Tensor, size: tuple[int, int]
) -> Tensor:
    """Move boxes by the affine transforms of their images.

    A turned box is the one around the ellipse within the original box: that around its corners
    would be too large for round objects (Kalra et al. 2021, "Towards Rotation Invariance in Object
    Detection").

    Args:
        boxes: (batch, boxes, 6), in pixels; the class number is -1 for a row that is no box.
        config: the enabled changes and their limits.
        drawn: the numbers of `trainables.augmentation.augment.draw`, (values per image, batch).
        size: (height, width) of the images.

    Returns:
        Boxes in the same form, cut to the image.
    """
    values = list(drawn.to(boxes))
    angle, factor = torch.zeros_like(boxes[:, 0, 0]), torch.ones_like(boxes[:, 0, 0])
    is_turned = bool(config.rotation or config.scale)
    if is_turned:
        angle, factor = values.pop(0), 1 + values.pop(0)
    mirror = torch.ones_like(angle)
    across, down = torch.zeros_like(angle), torch.zeros_like(angle)
    if is_turned or config.crop or config.flip:
        across, down = values.pop(0), values.pop(0)
        if not is_turned:
            limit = min(config.crop, max(size))
            across, down = across.clamp(-limit, limit), down.clamp(-limit, limit)
        if config.flip:
            mirror = torch.where(values.pop(0) > 0, -mirror, mirror)
    height, width = size
    x1, y1, x2, y2 = boxes[..., :4].unbind(dim=-1)
    x = (x1 + x2 - width) / 2 - across[:, None]
    y = (y1 + y2 - height) / 2 - down[:, None]
    cos, sin = (own[:, None] for own in (angle.cos(), angle.sin()))
    # The image at p comes from R p / factor + shift, with p mirrored before; this is the inverse.
    new_x = factor[:, None] * mirror[:, None] * (cos * x + sin * y) + width / 2
    new_y = factor[:, None] * (cos * y - sin * x) + height / 2
    half_width, half_height = (x2 - x1) / 2, (y2 - y1) / 2
    new_half_width = factor[:, None] * ((cos * half_width) ** 2 + (sin * half_height) ** 2).sqrt()
    new_half_height = factor[:, None] * ((sin * half_width) ** 2 + (cos * half_height) ** 2).sqrt()
    edges = torch.stack(
        [
            (new_x - new_half_width).clamp(0, width),
            (new_y - new_half_height).clamp(0, height),
            (new_x + new_half_width).clamp(0, width),
            (new_y + new_half_height).clamp(0, height),
        ],
        dim=-1,
    )
    whole = 4 * new_half_width * new_half_height
    inside = (edges[..., 2] - edges[..., 0]) * (edges[..., 3] - edges[..., 1])
    is_lost = inside < LEAST_SHARE * whole.clamp(min=1e-6)
    number = torch.where(is_lost, -1.0, boxes[..., 4])
    return torch.cat([edges, number[..., None], boxes[..., 5:]], dim=-1)
