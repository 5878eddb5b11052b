"""Adversarial attacks on a classifier, each bounded in every pixel (the L-infinity norm).

Images are floats from 0 to 1, before any scaling, (count, height, width, channels). The changed
images are not rounded to 8 bits. Random numbers come from a seed for each image, so that the result
for an image does not depend on the other images of its batch.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from trainables.robustness.stress_tests import AttackBudget

Classify = Callable[[Tensor], Tensor]
"""Maps images to class probabilities, (count, classes), and can be differentiated."""

SQUARE_SHARE = 0.8
"""The share of the pixels that the first squares of `square` cover."""
HALVINGS = np.array([10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000]) / 10_000
"""After these shares of the steps, the squares of `square` have half the area (section 3.2)."""
TINY = 1e-300
"""A probability below which a logarithm is not taken; the smallest double is 2e-308."""


def classifier_of(module: nn.Module) -> Classify:
    """Return a differentiable function of a module from 8-bit images to class probabilities.

    It is computed in single precision, also if the network was trained in half precision: the
    gradients of a rounded network would be too coarse for an attack.

    Args:
        module: a `ProbabilityModel`, or an ensemble of them. It also accepts floats from 0 to 255.
    """

    def classify(images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, enabled=False):
            probabilities: Tensor = module(images * 255)
        return probabilities

    return classify


def attack(
    classify: Classify, images: Tensor, classes: Tensor, budget: AttackBudget, seeds: Sequence[int]
) -> Tensor:
    """Change images within a budget, so that they are classified wrongly.

    Images that are classified wrongly without any change stay as they are.

    Args:
        classify: the classifier.
        images: float32 (count, height, width, channels), from 0 to 1.
        classes: the true classes, (count,).
        budget: the method and its limits.
        seeds: a seed for each image.

    Returns:
        The changed images.
    """
    changed = images.clone()
    rows = torch.nonzero(_is_right(classify, images, classes)).flatten()
    if budget.epsilon > 0 and len(rows):
        chosen_seeds = [seeds[row] for row in rows.tolist()]
        method = _search_squares if budget.method == "square" else _climb
        changed[rows] = method(classify, images[rows], classes[rows], budget, chosen_seeds)
    return changed


def _is_right(classify: Classify, images: Tensor, classes: Tensor) -> Tensor:
    with torch.no_grad():
        return classify(images).argmax(dim=1) == classes


def _ascent(
    classify: Classify, images: Tensor, classes: Tensor, *, by_margin: bool = False
) -> tuple[Tensor, Tensor]:
    """Return the sign of a loss's gradient in each pixel, and whether each image is right.

    The loss is the cross-entropy or, with `by_margin`, the negative margin (`_margins`).
    """
    with torch.enable_grad():
        images = images.detach().requires_grad_()
        probabilities = classify(images)
        logs = probabilities.clamp_min(TINY).log()
        own = logs.gather(1, classes[:, None]).squeeze(1)
        loss = -_margins_of(logs, classes) if by_margin else -own
        (gradient,) = torch.autograd.grad(loss.sum(), images)
    return gradient.sign(), probabilities.detach().argmax(dim=1) == classes


def _within(changed: Tensor, images: Tensor, epsilon: float) -> Tensor:
    """Move values back into the allowed range around the images, and into 0 to 1."""
    return changed.clamp(images - epsilon, images + epsilon).clamp(0, 1)


def _climb(
    classify: Classify, images: Tensor, classes: Tensor, budget: AttackBudget, seeds: Sequence[int]
) -> Tensor:
    """Take steps along the gradient's sign.

    `fgsm` takes a single one of size `epsilon` from the image (Goodfellow et al. 2015), `pgd` many
    small ones from random starts (Madry et al. 2018). The first start of `pgd`, the third and so on
    ascend the cross-entropy, the others the margin to the most probable other class (Carlini and
    Wagner 2017): if a network is unsure, its cross-entropy grows most along ways on which no other
    class wins. An image that is classified wrongly is not changed any more.
    """
    result, remaining = images.clone(), torch.arange(len(images), device=images.device)
    sources = [np.random.default_rng(seed) for seed in seeds]
    for number in range(budget.restarts):
        if not len(remaining):
            break
        clean, labels = images[remaining], classes[remaining]
        changed = clean.clone()
        if budget.method == "pgd":
            shape = tuple(clean.shape[1:])
            noise = np.stack([sources[row].uniform(-1, 1, shape) for row in remaining.tolist()])
            start = torch.from_numpy(noise).to(clean)
            changed = _within(clean + budget.epsilon * start, clean, budget.epsilon)
        active = torch.arange(len(clean), device=images.device)
        for _ in range(budget.steps):
            signs, is_right = _ascent(
                classify, changed[active], labels[active], by_margin=number % 2 == 1
            )
            active, signs = active[is_right], signs[is_right]
            if not len(active):
                break
            moved = changed[active] + budget.step_size * signs
            changed[active] = _within(moved, clean[active], budget.epsilon)
        result[remaining] = changed
        remaining = remaining[_is_right(classify, changed, labels)]
    return result


def _search_squares(
    classify: Classify, images: Tensor, classes: Tensor, budget: AttackBudget, seeds: Sequence[int]
) -> Tensor:
    """Search with random squares, without gradients (Andriushchenko et al. 2020, algorithms 1, 3).

    A step sets a square of each channel to its lower or upper limit, and stays if the margin of the
    true class falls. It is simplified: unlike in the authors' code, squares that change nothing are
    not drawn again. If it succeeds more often than `pgd`, the network hides its gradients.
    """
    _, height, width, channels = images.shape
    sources = [np.random.default_rng(seed) for seed in seeds]
    stripes = np.stack([source.choice([-1.0, 1.0], (1, width, channels)) for source in sources])
    draws = np.stack([source.random((budget.steps, 2 + channels)) for source in sources])
    start = torch.from_numpy(stripes).to(images)
    changed = _within(images + budget.epsilon * start, images, budget.epsilon)
    margins = _margins(classify, changed, classes)
    for number in range(1, budget.steps):
        active = torch.nonzero(margins > 0).flatten()
        if not len(active):
            break
        share = SQUARE_SHARE / 2 ** int((number / budget.steps > HALVINGS).sum())
        side = max(1, min(round((share * height * width) ** 0.5), height, width))
        draw = torch.from_numpy(draws[active.cpu().numpy(), number]).to(images)
        area = _squares(draw[:, :2], side, height, width)
        signs = torch.where(draw[:, 2:] < 0.5, -1.0, 1.0)[:, None, None]
        clean = images[active]
        candidates = torch.where(area, clean + budget.epsilon * signs, changed[active])
        candidates = _within(candidates, clean, budget.epsilon)
        new_margins = _margins(classify, candidates, classes[active])
        is_better = new_margins < margins[active]
        changed[active[is_better]] = candidates[is_better]
        margins[active[is_better]] = new_margins[is_better]
    return changed


def _squares(draws: Tensor, side: int, height: int, width: int) -> Tensor:
    """Return a mask of a square in each image, (count, height, width, 1).

    Args:
        draws: numbers from 0 to 1 that decide on row and column, (count, 2).
        side: the side of the squares.
        height: the images' height.
        width: the images' width.
    """
    masks = []
    for draw, size in zip(draws.unbind(dim=1), (height, width), strict=True):
        start = (draw * (size - side + 1)).floor()[:, None]
        places = torch.arange(size, device=draws.device)
        masks.append((places >= start) & (places < start + side))
    return (masks[0][:, :, None] & masks[1][:, None])[..., None]


def _margins(classify: Classify, images: Tensor, classes: Tensor) -> Tensor:
    """Return the log-probability of the true class minus the highest of the other classes."""
    with torch.no_grad():
        return _margins_of(classify(images).clamp_min(TINY).log(), classes)


def _margins_of(logs: Tensor, classes: Tensor) -> Tensor:
    own = logs.gather(1, classes[:, None]).squeeze(1)
    return own - logs.scatter(1, classes[:, None], -torch.inf).max(dim=1).values
