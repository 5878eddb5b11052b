import pytest

from search.schedulers.asha import Asha
from search.schedulers.registry import SCHEDULERS


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_single_trial_is_never_stopped(name: str) -> None:
    scheduler = SCHEDULERS[name](27)
    assert all(scheduler.on_epoch("t1", epoch, 0.1) is None for epoch in range(1, 28))


def test_fifo_stops_nothing() -> None:
    scheduler = SCHEDULERS["fifo"](9)
    assert all(scheduler.on_epoch(f"t{number}", epoch, 1 / number) is None for number in range(1, 20) for epoch in range(1, 10))


@pytest.mark.parametrize(("horizon", "rungs"), [(1, []), (3, [1]), (6, [1, 3]), (9, [1, 3]), (30, [3, 9, 27]), (100, [10, 30, 90])])
def test_rungs_start_at_a_tenth_and_end_before_the_horizon(horizon: int, rungs: list[int]) -> None:
    assert list(Asha(horizon).rungs) == rungs


def test_asha_keeps_the_top_third_at_a_rung_and_says_why_it_stops() -> None:
    asha = Asha(9, grace=1)
    values = [0.5, 0.4, 0.6, 0.3, 0.6, 0.55]
    stops = [asha.on_epoch(f"t{number}", 1, value) for number, value in enumerate(values)]
    assert [stop is None for stop in stops] == [True, False, True, False, True, False]
    stop = stops[-1]
    assert stop is not None
    assert (stop.rung, stop.cutoff, stop.rivals) == (1, 0.6, 6)
    assert "0.5500 at epoch 1, below 0.6000" in stop.reason


def test_asha_compares_at_rungs_only() -> None:
    asha = Asha(9, grace=3)
    asha.on_epoch("good", 3, 0.9)
    assert asha.on_epoch("bad", 2, 0.1) is None
    assert asha.on_epoch("bad", 3, 0.1) is not None
    assert asha.on_epoch("bad", 4, 0.1) is None
