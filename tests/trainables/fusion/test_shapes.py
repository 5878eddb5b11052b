import pytest

from trainables.config import TrialConfig
from trainables.fusion.shapes import cost_key, same_shape_fraction, shape_key
from trainables.fusion.stack import shape_of


def test_the_share_is_that_of_the_group_one_is_in():
    assert same_shape_fraction(list("aaaa")) == 1
    assert same_shape_fraction(list("aabb")) == 0.5
    assert same_shape_fraction(list("abc")) == pytest.approx(1 / 3)
    assert same_shape_fraction(list("aaab")) == pytest.approx((3 * 0.75 + 0.25) / 4)
    assert same_shape_fraction(list("")) == 0


def test_what_cannot_be_fused_is_alone():
    assert same_shape_fraction([None] * 4) == 0.25
    assert same_shape_fraction(["a", "a", None, None]) == pytest.approx((2 * 0.5 + 2 * 0.25) / 4)


def test_what_is_each_trials_own_does_not_change_its_shape(make_config):
    configs = [
        make_config(
            optimizer__lr=0.1 / (n + 1),
            seed=n,
            epochs=n + 1,
            model__dropout=0.1 * n,
            optimizer__schedule="cosine",
        )
        for n in range(5)
    ]
    assert (
        len({shape_key(config) for config in configs})
        == len({shape_of(config) for config in configs})
        == 1
    )


@pytest.mark.parametrize(
    "change",
    [
        {"model__layers": 8},
        {"model__width": 8},
        {"batch_size": 16},
        {"optimizer__name": "sgd"},
        {"precision": "bf16"},
    ],
    ids=str,
)
def test_what_is_common_makes_the_shape(change, make_config):
    assert shape_key(make_config(**change)) != shape_key(make_config())


def test_trials_of_one_network_cost_the_same_however_they_were_trained(make_config):
    configs = [
        make_config(
            optimizer__lr=0.1 / (n + 1),
            seed=n,
            epochs=n + 1,
            batch_size=8 + n,
            model__dropout=0.1 * n,
        )
        for n in range(5)
    ]
    configs.append(make_config(optimizer__name="sgd", augment__crop=1))
    assert len({cost_key(config, "fp32") for config in configs}) == 1
    known = {"model.name": "googlenet", "model.pretrained": True}
    frozen = [
        TrialConfig().override({**known, "model.freeze": freeze})
        for freeze in ("nothing", "backbone", "all_but_last_stage")
    ]
    assert len({cost_key(config, "fp32") for config in frozen}) == 1


def test_another_network_other_images_and_another_precision_cost_something_else(make_config):
    configs = [
        make_config(**change)
        for change in (
            {},
            {"model__layers": 8},
            {"model__name": "table2"},
            {"data__image_size": 16},
        )
    ]
    assert (
        len({cost_key(config, "fp32") for config in configs} | {cost_key(configs[0], "bf16")}) == 5
    )
