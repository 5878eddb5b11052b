import pytest

from trainables.checkpoints.lineage import (
    HORIZON_FREE,
    is_own_beginning,
    parse_warm_start,
    training_key,
)
from trainables.training.optimizers import SCHEDULES


def test_schedules_that_do_not_look_at_the_horizon_are_those_that_are_named():
    assert set(HORIZON_FREE) == set(SCHEDULES) - {"cosine"}


@pytest.mark.parametrize("schedule", HORIZON_FREE)
def test_trainings_of_other_lengths_have_one_stem(schedule, make_config):
    short, long = (make_config(optimizer__schedule=schedule, epochs=epochs) for epochs in (1, 9))
    assert training_key(short) == training_key(long)


def test_with_a_schedule_that_ends_with_the_training_they_have_not(make_config):
    short, same, long = (
        make_config(optimizer__schedule="cosine", epochs=epochs) for epochs in (1, 1, 9)
    )
    assert training_key(short) == training_key(same) != training_key(long)


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 1},
        {"optimizer__lr": 0.5},
        {"batch_size": 9},
        {"model__width": 5},
        {"precision": "bf16"},
        {"data__split_seed": 1},
        {"data__train_limit": 9},
        {"augment__rotation": 5.0},
    ],
)
def test_what_decides_a_training_makes_another_stem(other, make_config):
    assert training_key(make_config()) != training_key(make_config(**other))


def test_what_does_not_decide_it_makes_none(make_config):
    """A model's default is as good as the same value given, and where the images lie is told by
    their fingerprint.
    """
    plain = make_config(model__name="deep_cnn")
    assert training_key(plain) == training_key(
        make_config(model__name="deep_cnn", model__layers=plain.model.options["layers"])
    )
    assert training_key(plain) == training_key(
        make_config(model__name="deep_cnn", data__root="/elsewhere")
    )


def test_a_training_is_the_beginning_of_a_longer_one_as_far_as_both_go(make_config):
    short, long = make_config(epochs=3), make_config(epochs=9)
    assert is_own_beginning(short, 3, long)
    assert is_own_beginning(long, 3, short)
    assert not is_own_beginning(long, 4, short)
    assert not is_own_beginning(make_config(epochs=3, seed=1), 3, long)


@pytest.mark.parametrize("text", [None, "", "{", "[]", '{"search": "s"}'])
def test_what_says_nothing_of_a_beginning_is_none(text):
    assert parse_warm_start(text) is None
