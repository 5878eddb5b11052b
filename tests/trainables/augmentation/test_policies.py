"""Augmentation policies: the same operations as torchvision's, drawn for each image."""

import math
import re

import pytest
import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as vision

from trainables.augmentation import augment as module
from trainables.augmentation import policies
from trainables.augmentation.augment import draw
from trainables.augmentation.policies import POLICIES, change, ranges_of
from trainables.config import POLICY_NAMES, AugmentConfig

SHAPES = ((1, 12, 12), (3, 16, 16), (3, 10, 17))
PAIRED = {
    "identity": lambda image, magnitude: image,
    "shear_x": lambda image, magnitude: sheared(image, [math.atan(magnitude), 0]),
    "shear_y": lambda image, magnitude: sheared(image, [0, math.atan(magnitude)]),
    "translate_x": lambda image, magnitude: shifted(image, [int(magnitude), 0]),
    "translate_y": lambda image, magnitude: shifted(image, [0, int(magnitude)]),
    "rotate": lambda image, magnitude: vision.rotate(image, angle=magnitude),
    "brightness": lambda image, magnitude: vision.adjust_brightness(image, 1 + magnitude),
    "color": lambda image, magnitude: vision.adjust_saturation(image, 1 + magnitude),
    "contrast": lambda image, magnitude: vision.adjust_contrast(image, 1 + magnitude),
    "sharpness": lambda image, magnitude: vision.adjust_sharpness(image, 1 + magnitude),
    "posterize": lambda image, magnitude: vision.posterize(image, round(magnitude)),
    "solarize": vision.solarize,
    "autocontrast": lambda image, magnitude: vision.autocontrast(image),
    "equalize": lambda image, magnitude: vision.equalize(image),
}
"""Torchvision's function for each operation, called as its policies call it."""


def sheared(image: Tensor, radians: list[float]) -> Tensor:
    degrees = [math.degrees(angle) for angle in radians]
    return vision.affine(
        image, angle=0.0, translate=[0, 0], scale=1.0, shear=degrees, center=[0, 0]
    )


def shifted(image: Tensor, pixels: list[int]) -> Tensor:
    return vision.affine(image, angle=0.0, translate=pixels, scale=1.0, shear=[0.0, 0.0])


def random_images(count: int, shape: tuple[int, int, int]) -> Tensor:
    """Images of 8 bits as floats, in the memory layout of a training."""
    generator = torch.Generator().manual_seed(4)
    pixels = torch.randint(256, (count, *shape), generator=generator) / 255
    return pixels.contiguous(memory_format=torch.channels_last)


def augmented(images: Tensor, policy: str, seed: int = 0) -> Tensor:
    config = AugmentConfig(policy=policy)
    generator = torch.Generator().manual_seed(seed)
    (drawn,) = draw(config, 1, len(images), generator, images.device)
    return module.augment(images, config, drawn)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", PAIRED)
def test_an_operation_gives_what_torchvision_gives(name: str, shape: tuple[int, int, int]) -> None:
    limit = max(map(abs, ranges_of("trivial", *shape[1:])[name]))
    magnitudes = torch.linspace(1, limit, 8) if name == "posterize" else torch.rand(8) * limit
    if name in ("brightness", "color", "contrast", "sharpness") or "_" in name or name == "rotate":
        magnitudes *= torch.tensor([1, -1] * 4)
    images = random_images(8, shape)
    changed = change(name, images, magnitudes)
    expected = torch.stack(
        [
            PAIRED[name](image, magnitude)
            for image, magnitude in zip(images, magnitudes.tolist(), strict=True)
        ]
    )
    # Where a place is between two pixels, rounding decides which of them is taken.
    different = ((changed - expected).abs() > 1e-5).float().mean()
    assert different <= (0.02 if name.startswith(("shear", "rotate")) else 0)


@pytest.mark.parametrize(
    ("policy", "theirs", "levels"),
    [
        ("trivial", v2.TrivialAugmentWide._AUGMENTATION_SPACE, 31),
        ("randaugment", v2.RandAugment._AUGMENTATION_SPACE, 31),
        ("augmix", v2.AugMix._PARTIAL_AUGMENTATION_SPACE, 10),
    ],
    ids=["trivial", "randaugment", "augmix"],
)
def test_a_policy_has_torchvisions_operations_and_magnitudes(policy, theirs, levels) -> None:
    ours = ranges_of(policy, 32, 40)
    names = {re.sub("(?<=[a-t])(?=[XY])", "_", name).lower(): name for name in theirs}
    assert set(names) - {"auto_contrast"} == set(ours)
    for name, their_name in names.items():
        magnitudes = theirs[their_name][0](levels, 32, 40)
        if magnitudes is None:
            assert ours[name] == (0, 0)
        else:
            expected = torch.linspace(*ours[name], levels)
            expected = expected.round() if name == "posterize" else expected
            assert torch.allclose(expected, magnitudes.float(), atol=1e-5), name


def test_trivial_shifts_small_images_by_at_most_their_side() -> None:
    ranges = ranges_of("trivial", 8, 12)
    assert (ranges["translate_x"], ranges["translate_y"]) == ((0, 12), (0, 8))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("policy", POLICIES)
def test_a_policy_changes_each_image_by_its_own_numbers(
    policy: str, shape: tuple[int, int, int]
) -> None:
    images = random_images(1, shape).repeat(64, 1, 1, 1)
    changed = augmented(images, policy)
    assert changed.shape == images.shape
    assert 0 <= changed.min() <= changed.max() <= 1
    assert torch.isfinite(changed).all()
    assert len({tuple(image.flatten().tolist()) for image in changed}) > 32
    assert torch.equal(images, random_images(1, shape).repeat(64, 1, 1, 1)), "unchanged"


@pytest.mark.parametrize("policy", POLICIES)
def test_an_image_depends_on_its_own_numbers_only(policy: str) -> None:
    config, images = AugmentConfig(policy=policy), random_images(16, (3, 8, 8))
    (drawn,) = draw(config, 1, 16, torch.Generator().manual_seed(0), images.device)
    together = module.augment(images, config, drawn)
    alone = torch.cat(
        [module.augment(images[n : n + 1], config, drawn[:, n : n + 1]) for n in range(16)]
    )
    assert torch.allclose(together, alone, atol=1e-6)


@pytest.mark.parametrize("policy", POLICIES)
def test_the_seed_determines_the_result(policy: str) -> None:
    images = random_images(16, (3, 8, 8))
    first, again, different = (augmented(images, policy, seed) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, different)


def test_trivial_draws_operations_levels_and_signs_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = {}

    def recording(images: Tensor, names: list[str], numbers: Tensor, magnitudes: Tensor) -> Tensor:
        drawn.update(names=names, numbers=numbers, magnitudes=magnitudes)
        return images

    monkeypatch.setattr(policies, "apply", recording)
    augmented(torch.zeros(14_000, 1, 4, 4), "trivial")
    counts = drawn["numbers"].bincount()
    assert len(counts) == 14
    assert (counts - 1000).abs().max() < 120
    angles = drawn["magnitudes"][drawn["numbers"] == drawn["names"].index("rotate")]
    assert len(angles.abs().unique()) == 31
    assert 0.4 < (angles < 0).float().mean() < 0.6
    assert drawn["magnitudes"][drawn["numbers"] == drawn["names"].index("solarize")].min() >= 0


def test_augmix_averages_the_image_with_its_chains() -> None:
    images = random_images(4, (3, 8, 8))
    numbers, policy = POLICIES["augmix"]
    values = torch.rand(numbers, 4, generator=torch.Generator().manual_seed(3))
    names = list(ranges_of("augmix", 8, 8))
    weights = -(1 - values[3:6]).log()
    mixed = torch.zeros_like(images)
    for row in range(4):
        for chain in range(3):
            changed = images[row : row + 1]
            for step in range(1 + int(values[chain, row] * 3)):
                operation, level, sign = values[6 + 9 * chain + 3 * step :, row][:3].tolist()
                name = names[int(operation * len(names))]
                low, high = ranges_of("augmix", 8, 8)[name]
                magnitude = low + (high - low) * int(level * 3) / 9
                if sign < 0.5 and name.startswith(("shear", "translate", "rotate")):
                    magnitude = -magnitude
                changed = change(name, changed, torch.tensor([magnitude]))
            mixed[row] += weights[chain, row] / weights[:, row].sum() * changed[0]
    share = values[-1].view(-1, 1, 1, 1)
    assert torch.allclose(policy(images, values), share * images + (1 - share) * mixed, atol=1e-5)


def test_every_name_of_the_config_is_a_policy() -> None:
    assert ("none", *POLICIES) == POLICY_NAMES
