import math

import pytest
import torch

from trainables.augmentation import augment as module
from trainables.augmentation.augment import draw
from trainables.config import AugmentConfig

EACH = {
    "rotation": AugmentConfig(rotation=30),
    "scale": AugmentConfig(scale=0.3),
    "crop": AugmentConfig(crop=2),
    "flip": AugmentConfig(flip=True),
    "jitter": AugmentConfig(jitter=0.4),
}
ALL = AugmentConfig(rotation=30, scale=0.3, crop=2, flip=True, jitter=0.4)
each_change = pytest.mark.parametrize("config", EACH.values(), ids=EACH)
each_shape = pytest.mark.parametrize(
    "shape", [(1, 12, 12), (3, 12, 12), (1, 10, 17), (3, 17, 10)], ids=str
)


def augment(
    images: torch.Tensor, config: AugmentConfig, generator: torch.Generator
) -> torch.Tensor:
    """A batch changed by what is drawn for it alone."""
    (drawn,) = draw(config, 1, len(images), generator, images.device)
    return module.augment(images, config, drawn)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_images(count: int, shape: tuple[int, int, int]) -> torch.Tensor:
    return torch.rand(count, *shape, generator=generator(99))


def spots(count: int, shape: tuple[int, int], at: tuple[int, int]) -> torch.Tensor:
    """Equal black images with one white 3 x 3 spot centred on `at`, (row, column)."""
    images = torch.zeros(count, 1, *shape)
    images[:, :, at[0] - 1 : at[0] + 2, at[1] - 1 : at[1] + 2] = 1
    return images


def offsets(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Where each image's light lies, in pixels right of and below the image's centre."""
    height, width = images.shape[2:]
    weights = images.sum(dim=1)
    total = weights.sum(dim=(1, 2))
    x = (weights * (torch.arange(width) - (width - 1) / 2)).sum(dim=(1, 2)) / total
    y = (weights * (torch.arange(height) - (height - 1) / 2).view(-1, 1)).sum(dim=(1, 2)) / total
    return x, y


@each_shape
def test_nothing_changes_when_all_is_off(shape):
    images = random_images(5, shape)
    assert torch.equal(augment(images, AugmentConfig(), generator()), images)


@each_shape
@each_change
def test_equal_images_of_a_batch_come_out_different(config, shape):
    images = random_images(1, shape).repeat(16, 1, 1, 1)
    changed = augment(images, config, generator())
    assert changed.shape == images.shape
    assert changed.dtype == images.dtype
    assert any(not torch.equal(changed[0], other) for other in changed[1:])


@each_change
def test_equal_generators_give_equal_images_and_others_do_not(config):
    images = random_images(16, (3, 12, 12))
    first, again, other = (augment(images, config, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_only_the_given_generator_is_drawn_from():
    images = random_images(4, (3, 12, 12))
    state = torch.get_rng_state()
    first = augment(images, ALL, generator())
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(12345)
    assert torch.equal(augment(images, ALL, generator()), first)


def test_a_generator_goes_on_from_batch_to_batch():
    images, draws = random_images(4, (1, 12, 12)), generator()
    assert not torch.equal(augment(images, ALL, draws), augment(images, ALL, draws))


@each_change
def test_many_batches_are_drawn_as_one_after_the_other(config):
    one, all_at_once = generator(), draw(config, 3, 5, generator(), torch.device("cpu"))
    for drawn in all_at_once:
        assert torch.equal(drawn, draw(config, 1, 5, one, torch.device("cpu"))[0])


def test_the_images_given_are_left_as_they_are():
    images = random_images(4, (3, 12, 12))
    before = images.clone()
    augment(images, ALL, generator())
    assert torch.equal(images, before)


@each_shape
def test_flip_mirrors_about_half_and_leaves_the_rest(shape):
    images = random_images(400, shape)
    changed = augment(images, AugmentConfig(flip=True), generator())
    mirrored = torch.tensor(
        [
            torch.allclose(new, old.flip(-1), atol=1e-4)
            for new, old in zip(changed, images, strict=True)
        ]
    )
    kept = torch.tensor(
        [torch.allclose(new, old, atol=1e-4) for new, old in zip(changed, images, strict=True)]
    )
    assert torch.equal(mirrored, ~kept)
    assert 150 < mirrored.sum() < 250


@pytest.mark.parametrize("shape", [(31, 31), (21, 41), (41, 21)], ids=str)
@pytest.mark.parametrize("crop", [1, 4])
def test_a_shift_moves_pixels_by_at_most_crop_each_way(crop, shape):
    changed = augment(
        spots(300, shape, (shape[0] // 2, shape[1] // 2)), AugmentConfig(crop=crop), generator()
    )
    torch.testing.assert_close(
        changed.sum(dim=(1, 2, 3)), torch.full((300,), 9.0), rtol=1e-3, atol=1e-3
    )
    for offset in offsets(changed):
        assert offset.abs().max() <= crop + 1e-3
        assert offset.max() > 0.9 * crop
        assert offset.min() < -0.9 * crop


def test_shifts_along_both_sides_are_drawn_apart():
    x, y = offsets(augment(spots(300, (31, 31), (15, 15)), AugmentConfig(crop=4), generator()))
    assert abs(torch.corrcoef(torch.stack([x, y]))[0, 1]) < 0.2


@pytest.mark.parametrize("shape", [(41, 41), (31, 61), (61, 31)], ids=str)
def test_a_rotation_turns_by_at_most_the_angle_and_keeps_distances(shape):
    distance = min(shape) // 2 - 5
    x, y = offsets(
        augment(
            spots(300, shape, (shape[0] // 2, shape[1] // 2 + distance)),
            AugmentConfig(rotation=30),
            generator(),
        )
    )
    torch.testing.assert_close(
        torch.hypot(x, y), torch.full((300,), float(distance)), rtol=0.02, atol=0.1
    )
    angles = torch.atan2(y, x) * 180 / math.pi
    assert angles.abs().max() < 30.5
    assert angles.max() > 27
    assert angles.min() < -27


def test_a_rotated_image_that_is_not_square_is_not_sheared():
    spot = spots(50, (31, 61), (15, 40))
    corner = spots(50, (31, 61), (25, 30))
    (x, y), (corner_x, corner_y) = (
        offsets(augment(images, AugmentConfig(rotation=30), generator()))
        for images in (spot, corner)
    )
    torch.testing.assert_close(x * corner_x + y * corner_y, torch.zeros(50), atol=1.0, rtol=0)


@pytest.mark.parametrize("shape", [(41, 41), (31, 61)], ids=str)
def test_a_scaling_keeps_directions_and_stays_within_its_limit(shape):
    x, y = offsets(
        augment(
            spots(300, shape, (shape[0] // 2 + 8, shape[1] // 2 + 6)),
            AugmentConfig(scale=0.2),
            generator(),
        )
    )
    sizes = torch.hypot(x, y) / 10
    torch.testing.assert_close(y / x, torch.full((300,), 8 / 6), rtol=0.05, atol=0)
    assert 0.79 < sizes.min() < 0.85
    assert 1.15 < sizes.max() < 1.21


def test_what_comes_in_from_outside_is_black():
    changed = augment(torch.ones(100, 1, 10, 10), AugmentConfig(crop=5), generator())
    edges = torch.cat([changed[..., 0], changed[..., -1]], dim=-1)
    assert set(edges.unique().tolist()) == {0.0, 1.0}
    still = (changed == 1).all(dim=3).all(dim=2).all(dim=1)
    assert torch.equal(
        edges.amin(dim=(1, 2)) == 1,
        still
        | (changed[..., 0] == 1).all(dim=-1).all(dim=-1)
        & (changed[..., -1] == 1).all(dim=-1).all(dim=-1),
    )
    assert still.sum() <= 5  # a shift of nothing at all: one in 121


@each_shape
@pytest.mark.parametrize(
    "config",
    [*EACH.values(), AugmentConfig(jitter=0.99), ALL],
    ids=[*EACH, "strongest jitter", "all"],
)
def test_values_stay_between_black_and_white(config, shape):
    changed = augment(random_images(64, shape), config, generator())
    assert changed.isfinite().all()
    assert changed.min() >= 0
    assert changed.max() <= 1 + 1e-6


def test_jitter_brightens_and_darkens_within_its_limit():
    grey = torch.full((300, 1, 4, 4), 0.5)
    levels = augment(grey, AugmentConfig(jitter=0.2), generator()).mean(dim=(1, 2, 3))
    assert 0.4 - 1e-6 <= levels.min() < 0.42
    assert 0.58 < levels.max() <= 0.6 + 1e-6


def test_jitter_changes_contrast_within_its_limit():
    images = torch.tensor([0.4, 0.6]).repeat(2).view(1, 1, 2, 2).repeat(300, 1, 1, 1)
    changed = augment(images, AugmentConfig(jitter=0.2), generator())
    contrasts = (
        (changed.amax(dim=(1, 2, 3)) - changed.amin(dim=(1, 2, 3)))
        / changed.mean(dim=(1, 2, 3))
        / 0.4
    )
    assert 0.79 < contrasts.min() < 0.85
    assert 1.15 < contrasts.max() < 1.21


def test_jitter_changes_saturation_by_itself_within_its_limit():
    columns = (
        torch.tensor([[0.6, 0.4, 0.4], [0.5, 0.5, 0.5], [0.3, 0.3, 0.3]])
        .T.view(1, 3, 1, 3)
        .repeat(300, 1, 1, 1)
    )  # a red, a light and a dark grey
    changed = augment(columns, AugmentConfig(jitter=0.2), generator())[:, :, 0]
    colour, contrast = changed[:, 0, 0] - changed[:, 1, 0], changed[:, 0, 1] - changed[:, 0, 2]
    saturations = colour / contrast
    assert 0.79 < saturations.min() < 0.85
    assert 1.15 < saturations.max() < 1.21
    torch.testing.assert_close(changed[:, 0, 1:], changed[:, 2, 1:])


def test_saturation_keeps_the_brightness_that_the_eye_sees():
    blue = torch.tensor([0.4, 0.4, 0.8]).view(1, 3, 1, 1).repeat(200, 1, 4, 4)
    changed = augment(blue, AugmentConfig(jitter=0.1), generator())[:, :, 0, 0]
    seen = changed @ torch.tensor([0.299, 0.587, 0.114])
    assert seen.min() > 0.8 * 0.9 * seen.mean()
    assert seen.max() < 1.15 * seen.mean()


def test_a_shift_further_than_the_image_is_wide_costs_no_more_and_leaves_black():
    changed = augment(torch.ones(64, 1, 8, 6), AugmentConfig(crop=512), generator())
    assert changed.shape == (64, 1, 8, 6)
    assert (changed == 0).all(dim=(1, 2, 3)).sum() >= 60
