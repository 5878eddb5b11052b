from unittest.mock import patch

import pytest
import torch

from trainables.fusion import planner
from trainables.fusion.planner import MARGIN, MEMBERS, SpeedComparison, TrainingPlan, choose


def plan(*arguments, measure=planner.measure_speeds, **options):
    with patch.object(planner, "measure_speeds", measure):
        return planner.plan(*arguments, **options)


@pytest.fixture
def faked():
    """A way to compare that says what it is told: the gain by the number of members. `asked` holds
    the numbers it was asked for.
    """

    class Faked:
        def __init__(self, gains, plain=100.0, noise=(1.0, 1.0, 1.0)):
            self.gains, self.plain, self.noise, self.asked = gains, plain, noise, []

        def __call__(self, config, dataset, device, members):
            self.asked.append(members)
            return SpeedComparison(
                plain=[self.plain] * 3,
                fused=[self.plain * self.gains[members] * noise for noise in self.noise],
            )

    return Faked


def gains(*values):
    """Of 2, 4, 8 ... members; the last holds for all that follow."""
    return {members: values[min(place, len(values) - 1)] for place, members in enumerate(MEMBERS)}


# The choice


def test_fused_is_chosen_where_it_is_faster(faked, make_config, make_dataset):
    found = plan(make_config(), make_dataset(), measure=faked(gains(1.5, 2.0, 3.0, 2.9)))
    assert (found.kind, found.members, found.gain) == ("fused", 8, pytest.approx(3.0))
    assert found.reason == "8 fused trials train 3.00 times as fast as one"
    assert found.measured["plain"] == 100
    assert found.measured["fused x8"] == pytest.approx(300)


@pytest.mark.parametrize("gain", [0.5, 0.98, 1.0, 1.02, 1.09])
def test_fused_is_not_chosen_without_a_clear_margin(gain, faked, make_config, make_dataset):
    found = plan(make_config(), make_dataset(), measure=faked(gains(gain)))
    assert (found.kind, found.members, found.gain) == ("plain", 1, 1.0)
    assert found.reason == "fusion is not clearly faster"


def test_one_round_that_says_otherwise_is_enough_to_stay_plain(faked, make_config, make_dataset):
    assert (
        plan(make_config(), make_dataset(), measure=faked(gains(1.3), noise=(1.0, 0.7, 1.0))).kind
        == "plain"
    )
    assert (
        plan(make_config(), make_dataset(), measure=faked(gains(1.3), noise=(1.0, 0.9, 1.0))).kind
        == "fused"
    )


def test_of_groups_that_are_equally_fast_the_smallest_is_chosen(faked, make_config, make_dataset):
    assert (
        plan(make_config(), make_dataset(), measure=faked(gains(1.5, 2.0, 2.01, 2.02))).members == 4
    )


def test_measuring_ends_when_the_gain_no_longer_grows(faked, make_config, make_dataset):
    measure = faked(gains(1.5, 1.4, 1.3))
    plan(make_config(), make_dataset(), measure=measure)
    assert measure.asked == [2, 4, 8]


def test_one_bad_measurement_does_not_end_it(faked, make_config, make_dataset):
    measure = faked(gains(0.9, 0.8, 2.0, 3.0, 4.0, 5.0))
    assert plan(make_config(), make_dataset(), measure=measure).members == 64
    assert measure.asked == list(MEMBERS)


@pytest.mark.parametrize(
    ("trials", "share", "largest"),
    [(64, 1.0, 64), (20, 1.0, 16), (64, 0.25, 16), (3, 1.0, 2), (8, 0.3, 2)],
)
def test_groups_are_no_larger_than_what_will_share_a_shape(
    trials, share, largest, faked, make_config, make_dataset
):
    measure = faked(gains(2, 3, 4, 5, 6, 7))
    assert (
        plan(make_config(), make_dataset(), trials=trials, share=share, measure=measure).members
        == largest
    )
    assert max(measure.asked) == largest


@pytest.mark.parametrize(("trials", "share"), [(1, 1.0), (0, 1.0), (64, 0.01)])
def test_nothing_is_measured_for_trials_that_do_not_meet(
    trials, share, faked, make_config, make_dataset
):
    measure = faked(gains(9))
    found = plan(make_config(), make_dataset(), trials=trials, share=share, measure=measure)
    assert (found.kind, found.reason, measure.asked) == (
        "plain",
        "too few of the trials that run at once have the same shape",
        [],
    )


def test_on_a_cpu_a_large_network_is_not_even_measured(faked, make_config, make_dataset):
    measure = faked(gains(9))
    found = plan(
        make_config(model__name="table2", model__width=32), make_dataset(side=28), measure=measure
    )
    assert (found.kind, measure.asked) == ("plain", [])
    assert (
        found.reason == "the network needs 8.5 million operations per image, but on a CPU "
        "fusion is used only below 3 million"
    )


def test_what_cannot_be_fused_is_not_measured(faked, make_config, make_dataset, monkeypatch):
    monkeypatch.setattr(planner, "shape_of", lambda config: None)
    found = plan(make_config(), make_dataset(), measure=faked(gains(9)))
    assert (found.kind, found.reason) == ("plain", "'deep_cnn' has layers that cannot be fused")


def test_a_failed_allocation_ends_the_measuring(faked, make_config, make_dataset):
    measure = faked(gains(1.5, 2.0, 3.0))

    def up_to_four(config, dataset, device, members):
        if members > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return measure(config, dataset, device, members)

    found = plan(make_config(), make_dataset(), measure=up_to_four)
    assert (found.kind, found.members) == ("fused", 4)


def test_a_group_that_will_not_fit_is_not_tried(faked, make_config, make_dataset, monkeypatch):
    measure = faked(gains(1.5, 2.0, 3.0))
    monkeypatch.setattr(planner, "has_room", lambda device: len(measure.asked) < 2)
    assert plan(make_config(), make_dataset(), measure=measure).members == 4


@pytest.mark.parametrize(("held", "fits"), [(1, True), (40, True), (60, False)])
def test_room_is_for_twice_what_was_held(held, fits, monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (30, 200))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: held)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 60)
    assert planner.has_room("cuda") == fits
    assert planner.has_room("cpu")


# Several processes


def test_processes_are_chosen_where_they_are_faster(faked, make_config, make_dataset):
    found = plan(
        make_config(),
        make_dataset(),
        processes={1: 100.0, 4: 350.0, 8: 300.0},
        measure=faked(gains(2.0)),
    )
    assert (found.kind, found.members, found.gain) == ("processes", 4, pytest.approx(3.5))
    assert (
        found.reason
        == "4 processes train 3.50 times as fast as one; fused trials train 2.00 times as fast"
    )
    assert found.measured["processes x8"] == 300


def test_fused_is_chosen_where_processes_are_slower(faked, make_config, make_dataset):
    found = plan(
        make_config(), make_dataset(), processes={1: 100.0, 4: 350.0}, measure=faked(gains(4.0))
    )
    assert (found.kind, found.members) == ("fused", 2)


def test_plain_is_chosen_where_neither_is_faster(faked, make_config, make_dataset):
    assert (
        plan(
            make_config(), make_dataset(), processes={1: 100.0, 2: 105.0}, measure=faked(gains(0.9))
        ).kind
        == "plain"
    )


def test_processes_may_be_chosen_for_what_is_not_fused(make_config, make_dataset):
    config, dataset = make_config(model__name="table2", model__width=32), make_dataset(side=28)
    found = plan(config, dataset, processes={1: 100.0, 2: 190.0})
    assert (found.kind, found.members, found.gain) == ("processes", 2, pytest.approx(1.9))
    assert found.reason.endswith("but on a CPU fusion is used only below 3 million")
    assert plan(config, dataset, processes={2: 190.0}).kind == "plain"  # over what?
    assert plan(config, dataset).measured == {}


def test_nothing_measured_is_plain():
    assert choose({}, {}, "because") == TrainingPlan(kind="plain", measured={}, reason="because")


# Measured


def test_what_is_measured_is_all_there(make_config, make_dataset):
    found = planner.measure_speeds(make_config(), make_dataset(train=40), "cpu", 2)
    assert len(found.plain) == len(found.fused) == planner.ROUNDS
    assert all(rate > 0 for rate in (*found.plain, *found.fused))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "side"), [("deep_cnn", 8), ("mnist_cnn", 28)])
def test_a_real_measurement_never_chooses_what_is_slower(name, side, make_config, make_dataset):
    config, dataset = (
        make_config(model__name=name, batch_size=32, precision="fp32"),
        make_dataset(side=side, train=512),
    )
    found = plan(config, dataset, trials=16)
    assert found.kind in {"plain", "fused"}
    assert found.gain == 1 if found.kind == "plain" else found.gain >= MARGIN
    assert found.measured["plain"] > 0
