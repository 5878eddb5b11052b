"""Losses of segmentation, beside what is computed pixel by pixel."""

import math

import pytest
import torch
from torch.nn import functional

from trainables.tasks.segmentation.training import cross_entropy, dice, focal, loss

LOGITS = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
MASKS = torch.randint(0, 3, (2, 4, 5), generator=torch.Generator().manual_seed(1))
IGNORING = MASKS.clone()
IGNORING[0, :2] = 255
WEIGHTS = torch.tensor([0.5, 1.0, 3.0])


def test_cross_entropy_is_torchs_where_no_pixel_is_ignored() -> None:
    assert cross_entropy(LOGITS, MASKS).item() == pytest.approx(
        functional.cross_entropy(LOGITS, MASKS).item()
    )
    assert cross_entropy(LOGITS, MASKS, WEIGHTS).item() == pytest.approx(
        functional.cross_entropy(LOGITS, MASKS, WEIGHTS).item()
    )


@pytest.mark.parametrize("name", ["cross_entropy", "dice", "focal", "cross_entropy_dice"])
def test_ignored_pixels_have_no_influence(name: str) -> None:
    changed = LOGITS.clone()
    changed[0, :, :2] = 7 * torch.randn(3, 2, 5)
    first, second = (
        loss(name, logits, IGNORING, gamma=2.0, weights=WEIGHTS) for logits in (LOGITS, changed)
    )
    assert first.item() == pytest.approx(second.item())


@pytest.mark.parametrize("name", ["cross_entropy", "dice", "focal", "focal_dice"])
def test_a_batch_without_any_pixel_that_counts_gives_no_nan(name: str) -> None:
    logits = LOGITS.clone().requires_grad_()
    value = loss(name, logits, torch.full_like(MASKS, 255), gamma=2.0, weights=None)
    value.backward()
    assert math.isfinite(value.item())
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_focal_is_cross_entropy_at_0_and_less_for_easy_pixels_above() -> None:
    for weights in (None, WEIGHTS):
        assert focal(LOGITS, IGNORING, 0.0, weights).item() == pytest.approx(
            cross_entropy(LOGITS, IGNORING, weights).item()
        )
    sure = 10 * functional.one_hot(MASKS, 3).permute(0, 3, 1, 2).float()
    assert focal(sure, MASKS, 2.0) < 1e-6 * cross_entropy(sure, MASKS)


def test_dice_counts_only_classes_that_occur() -> None:
    masks = torch.zeros(1, 2, 2, dtype=torch.long)
    masks[0, 0, 0] = 1
    sure = 50 * functional.one_hot(masks, 3).permute(0, 3, 1, 2).float()
    assert dice(sure, masks).item() == pytest.approx(0, abs=1e-6)
    # All pixels are predicted as class 0: its coefficient is 2 * 3 / (4 + 3), that of class 1 is 0.
    all_first = torch.zeros(1, 3, 2, 2)
    all_first[:, 0] = 50
    assert dice(all_first, masks).item() == pytest.approx(1 - (6 / 7) / 2)


def test_a_sum_is_the_sum() -> None:
    both, first, second = (
        loss(name, LOGITS, MASKS, gamma=2.0, weights=None).item()
        for name in ("cross_entropy_dice", "cross_entropy", "dice")
    )
    assert both == pytest.approx(first + second)
