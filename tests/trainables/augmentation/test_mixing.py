"""Mixed images and labels: as the papers define them, and as torch computes their loss."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from trainables.augmentation.augment import MIX_VALUES, MixedPairs, augment, boxes, draw, mix
from trainables.config import AugmentConfig
from trainables.tasks.metrics import WithAuxiliary, losses

MIXUP, CUTMIX = AugmentConfig(mix="mixup"), AugmentConfig(mix="cutmix")


def drawn_for(config: AugmentConfig, count: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    (drawn,) = draw(config, 1, count, generator, torch.device("cpu"))
    return drawn[-MIX_VALUES:]


def test_mixup_averages_images_by_their_shares() -> None:
    images = torch.rand(3, 2, 4, 5)
    drawn = torch.tensor([[2.0, 0, 1], [0.25, 1, 0.5], [0, 0, 0], [0, 0, 0]])
    mixed, pairs = mix(images, MIXUP, drawn)
    assert torch.allclose(mixed[0], 0.25 * images[0] + 0.75 * images[2])
    assert torch.equal(mixed[1], images[1])
    assert torch.allclose(mixed[2], (images[2] + images[1]) / 2)
    assert pairs.partners.tolist() == [2, 0, 1]
    assert pairs.shares.tolist() == [0.25, 1, 0.5]


def test_cutmix_replaces_a_box_by_that_of_the_partner() -> None:
    images = torch.stack([torch.zeros(3, 8, 8), torch.ones(3, 8, 8)])
    drawn = torch.tensor([[1.0, 0], [0.75, 0.75], [0.5, 0.0], [0.5, 0.99]])
    mixed, pairs = mix(images, CUTMIX, drawn)
    box = torch.zeros(8, 8)
    box[2:6, 2:6] = 1  # sqrt(1 - 0.75) of 8 pixels, around row 4 and column 4
    assert torch.equal(mixed[0], box.expand(3, 8, 8))
    box = torch.zeros(8, 8)
    box[0:2, 5:8] = 1  # around row 0 and column 7, cut off at the border
    assert torch.equal(mixed[1], 1 - box.expand(3, 8, 8))
    assert pairs.shares.tolist() == [1 - 16 / 64, 1 - 6 / 64]


def test_a_box_covers_nothing_or_all_at_the_ends() -> None:
    places = torch.full((2, 2), 0.5)
    masks = boxes(torch.tensor([1.0, 0.0]), places, 7, 9)
    assert (masks[0].sum(), masks[1].sum()) == (0, 63)


@pytest.mark.parametrize(
    ("config", "alpha"), [(MIXUP, 0.2), (CUTMIX, 1.0)], ids=["mixup", "cutmix"]
)
def test_shares_have_the_papers_distribution_unless_the_config_says_another(
    config: AugmentConfig, alpha: float
) -> None:
    for set_alpha, used in ((None, alpha), (4.0, 4.0)):
        chosen = AugmentConfig(mix=config.mix, mix_alpha=set_alpha)
        partners, shares, *places = drawn_for(chosen, 20_000)
        assert sorted(partners.tolist()) == list(range(20_000))
        assert float(shares.mean()) == pytest.approx(0.5, abs=0.01)
        assert float(shares.var()) == pytest.approx(1 / (4 * (2 * used + 1)), rel=0.03)
        assert all(float(place.mean()) == pytest.approx(0.5, abs=0.01) for place in places)


@pytest.mark.parametrize("config", [MIXUP, CUTMIX], ids=["mixup", "cutmix"])
def test_the_seed_determines_the_pairs(config: AugmentConfig) -> None:
    first, again, different = (drawn_for(config, 16, seed) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, different)


def soft_labels(labels: Tensor, pairs: MixedPairs, classes: int) -> Tensor:
    own, second = (
        functional.one_hot(each, classes).float() for each in (labels, labels[pairs.partners])
    )
    return pairs.shares[:, None] * own + (1 - pairs.shares[:, None]) * second


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_is_the_cross_entropy_to_the_mixed_labels(smoothing: float) -> None:
    logits, labels = torch.randn(6, 3), torch.tensor([0, 1, 2, 1, 0, 0])
    pairs = MixedPairs(torch.tensor([3, 5, 0, 1, 2, 4]), torch.rand(6))
    minimised, reported = losses(logits, labels, smoothing=smoothing, pairs=pairs)
    soft = soft_labels(labels, pairs, 3)
    expected = -(soft * logits.log_softmax(dim=1)).sum(dim=1).mean()
    smooth = (1 - smoothing) * soft + smoothing / 3
    assert float(reported) == pytest.approx(float(expected))
    assert float(minimised) == pytest.approx(
        float(-(smooth * logits.log_softmax(dim=1)).sum(dim=1).mean())
    )


def test_each_image_of_a_pair_has_its_own_weight() -> None:
    logits, labels = torch.randn(4, 3), torch.tensor([0, 1, 2, 1])
    weights = torch.tensor([0.5, 1.0, 3.0])
    pairs = MixedPairs(torch.tensor([2, 0, 3, 1]), torch.rand(4))
    minimised, reported = losses(logits, labels, weights[labels], pairs=pairs)
    expected = functional.cross_entropy(
        logits, soft_labels(labels, pairs, 3), weight=weights, reduction="none"
    ).mean()
    assert float(minimised) == pytest.approx(float(expected))
    assert float(reported) != pytest.approx(float(expected))


def test_smoothing_is_minimised_and_the_plain_loss_is_reported() -> None:
    logits, labels = torch.randn(5, 4), torch.tensor([0, 1, 2, 3, 0])
    minimised, reported = losses(logits, labels, smoothing=0.1)
    logs = logits.log_softmax(dim=1)
    plain = -logs[torch.arange(5), labels].mean()
    assert float(reported) == pytest.approx(float(plain))
    assert float(minimised) == pytest.approx(float(0.9 * plain - 0.1 * logs.mean()))


def test_auxiliary_heads_learn_from_the_same_labels() -> None:
    logits, labels = torch.randn(4, 3), torch.tensor([0, 1, 2, 1])
    pairs = MixedPairs(torch.tensor([2, 0, 3, 1]), torch.rand(4))
    options = {"smoothing": 0.1, "pairs": pairs}
    single, _ = losses(logits, labels, **options)
    both, reported = losses(WithAuxiliary(logits, (logits,), 0.3), labels, **options)
    assert float(both) == pytest.approx(1.3 * float(single))
    assert float(reported) == pytest.approx(float(losses(logits, labels, pairs=pairs)[1]))


def test_numbers_for_mixing_follow_those_of_the_other_changes() -> None:
    plain = AugmentConfig(crop=2, jitter=0.2, policy="trivial")
    mixed = replace(plain, mix="mixup")
    generators = [torch.Generator().manual_seed(3) for _ in range(2)]
    (without,), (with_pairs,) = (
        draw(config, 1, 8, generator, torch.device("cpu"))
        for config, generator in zip((plain, mixed), generators, strict=True)
    )
    assert len(with_pairs) == len(without) + MIX_VALUES
    assert torch.equal(with_pairs[:-MIX_VALUES], without)
    assert with_pairs[-MIX_VALUES].sum() == 28
    images = torch.rand(8, 3, 8, 8)
    assert torch.equal(augment(images, plain, without), augment(images, mixed, with_pairs))
    drawn = draw(AugmentConfig(policy="trivial"), 1, 8, torch.Generator(), torch.device("cpu"))[0]
    changed = augment(images, AugmentConfig(crop=2, jitter=0.2), with_pairs)
    policy = AugmentConfig(policy="trivial")
    numbers = with_pairs[-MIX_VALUES - len(drawn) : -MIX_VALUES]
    assert torch.equal(augment(images, plain, without), augment(changed, policy, numbers))
