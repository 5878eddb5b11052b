import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from search.design.experiment import SURE
from search.schedulers.asha import MIN_PROMOTED, Asha, beyond, mean_place, rungs_for
from search.schedulers.base import NEW, Expected, Setting
from search.schedulers.forecast import Forecaster
from search.schedulers.registry import SCHEDULERS
from search.space import Choice, Float, SearchSpace

SPACE = SearchSpace({"optimizer.lr": Float(0.001, 1.0, log=True)})


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_single_trial_is_trained_to_its_end(name: str) -> None:
    scheduler = SCHEDULERS[name](Setting(27))
    scheduler.begin("t1", {}, "t1")
    for epoch in range(1, 28):
        if scheduler.on_epoch("t1", epoch, 0.1):
            assert scheduler.choose(new=False) == "t1"
            scheduler.go_on("t1")
    scheduler.end("t1", "completed", 0.1)
    assert scheduler.choose(new=False) is None
    assert scheduler.ready == 0


def test_fifo_has_nobody_wait() -> None:
    scheduler = SCHEDULERS["fifo"](Setting(9))
    assert not any(
        scheduler.on_epoch(f"t{number}", epoch, 1 / number)
        for number in range(1, 20)
        for epoch in range(1, 10)
    )
    assert scheduler.choose(new=True) == NEW


@pytest.mark.parametrize(
    ("horizon", "first", "rungs"),
    [
        (1, 1, []),
        (2, 1, [1]),
        (3, 1, [1, 2]),
        (9, 1, [1, 2, 4]),
        (30, 1, [1, 2, 4, 8, 16]),
        (100, 1, [1, 2, 4, 8, 16, 32, 64]),
        (30, 5, [5, 10, 20]),
        (9, 10, []),
    ],
)
def test_each_rung_is_twice_the_one_before_and_the_last_is_well_below_the_end(
    horizon: int, first: int, rungs: list[int]
) -> None:
    assert rungs_for(horizon, first) == rungs
    assert Asha(Setting(horizon, grace=first)).rungs == rungs


def at_first_rung(asha: Asha, values: list[float]) -> None:
    """Let trials with these values come to the first rung and wait there."""
    for number, value in enumerate(values, 1):
        asha.begin(f"t{number}", {"optimizer.lr": 0.01}, f"t{number}")
        assert asha.on_epoch(f"t{number}", asha.rungs[0], value)


def test_of_those_that_wait_the_best_goes_on_first() -> None:
    asha = Asha(Setting(27, SPACE))
    at_first_rung(asha, [0.5, 0.4, 0.6])
    assert asha.choose(new=False) == "t3"
    asha.go_on("t3")
    assert asha.choose(new=False) == "t1"


def order_of(values: list[float], horizon: int = 64) -> list[str]:
    """Return the trials in the order of training, leg by leg, until all of these have begun.

    Each has its value from its first epoch on.
    """
    asha, left, reached, order = (
        Asha(Setting(horizon, SPACE)),
        [f"t{number}" for number in range(len(values))],
        dict[str, int](),
        [],
    )
    at = dict(zip(left, values, strict=True))
    while left:
        choice = asha.choose(new=True)
        assert choice is not None
        if choice == NEW:
            choice = left.pop(0)
            asha.begin(choice, {"optimizer.lr": 0.01}, choice)
        else:
            asha.go_on(choice)
        order.append(choice)
        for epoch in range(reached.get(choice, 0) + 1, horizon + 1):
            reached[choice] = epoch
            if asha.on_epoch(choice, epoch, at[choice]):
                break
        else:
            asha.end(choice, "completed", at[choice])
    return order


def test_new_trials_and_those_that_wait_are_in_turn_by_their_chance_for_an_epoch() -> None:
    """The leader of few is soon far ahead, and most epochs go into looking further."""
    values = np.random.default_rng(0).permutation(np.linspace(0.3, 0.9, 120)).tolist()
    order = order_of(values)
    begun = list(dict.fromkeys(order))
    ends = [
        [place for place, trial in enumerate(order) if trial == each][-1]
        for each in begun
        if order.count(each) == 7
    ]
    assert len(set(order[: min(ends)])) < 80, "long before all have begun, one has come to its end"
    assert 0.5 < len(begun) / len(order) < 0.85


def test_where_each_is_better_than_all_before_looking_further_is_worth_more() -> None:
    """By chance one in n is the best of n so far.

    An algorithm that proposes ever better trials may go on with that.
    """
    values = np.linspace(0.3, 0.9, 60).tolist()
    rising, mixed = (
        order_of(those) for those in (values, np.random.default_rng(1).permutation(values).tolist())
    )
    assert len(rising) - 60 < 0.7 * (len(mixed) - 60)


def played(
    curves: dict[str, list[float]],
    *,
    sure: float = 0.0,
    error: float = 0.0,
    highest: float = math.inf,
) -> tuple[Asha, dict[str, int]]:
    """Play a search among these curves, one trial after another; return how far each came too.

    `error` is the standard error of their values, none of which is above `highest`.
    """
    horizon = len(next(iter(curves.values())))
    asha, left, reached = (
        Asha(Setting(horizon, SPACE, sure=sure, highest=highest)),
        list(curves),
        dict.fromkeys(curves, 0),
    )
    asha.error_of = lambda value: error  # type: ignore[method-assign]
    while (choice := asha.choose(new=bool(left))) is not None:
        if choice == NEW:
            choice = left.pop(0)
            asha.begin(choice, {"optimizer.lr": 0.01}, choice)
        else:
            asha.go_on(choice)
        for epoch in range(reached[choice] + 1, horizon + 1):
            reached[choice] = epoch
            if asha.on_epoch(choice, epoch, max(curves[choice][:epoch])):
                break
        else:
            asha.end(choice, "completed", max(curves[choice]))
    return asha, reached


def test_where_the_order_is_clear_from_the_first_epoch_few_go_on() -> None:
    curves = {
        f"t{number}": [0.5 + number / 200 + epoch / 1000 for epoch in range(64)]
        for number in range(60)
    }
    _, reached = played(curves)
    assert reached["t59"] == 64
    assert sum(reached.values()) < 0.12 * 60 * 64


def test_where_the_order_is_made_late_more_go_on_for_longer() -> None:
    """The ends are the same, but the first eight epochs tell nothing.

    No rule can be sure of the best then, and this one sees that it must look at more.
    """
    generator, lost, spent = np.random.default_rng(0), 0, []
    for _ in range(10):
        luck = generator.random((60, 8))
        order = generator.permutation(60)
        ends = {
            f"t{number}": [0.5 + number / 200 + epoch / 1000 for epoch in range(64)]
            for number in range(60)
        }
        curves = {
            f"t{number}": [*(0.2 + 0.2 * luck[number]), *ends[f"t{number}"][8:]] for number in order
        }
        _, reached = played(curves, sure=SURE)
        lost += reached["t59"] < 64
        spent.append(sum(reached.values()) / (60 * 64))
    assert lost <= 3
    assert np.mean(spent) > 0.16


def late_orders(orders: int) -> Iterator[dict[str, list[float]]]:
    """Curves of sixty trials whose first eight epochs do not tell their ends; t59 is the best."""
    generator = np.random.default_rng(1)
    for _ in range(orders):
        luck = generator.random((60, 8))
        ends = {
            number: [0.5 + number / 200 + epoch / 1000 for epoch in range(8, 64)]
            for number in range(60)
        }
        yield {
            f"t{number}": [*(0.2 + 0.2 * luck[number]), *ends[number]]
            for number in generator.permutation(60)
        }


def test_the_surer_one_wants_to_be_the_more_go_on_and_the_less_is_risked() -> None:
    cheap, sure = ([played(curves, sure=sure) for curves in late_orders(20)] for sure in (0.0, 0.9))
    behind = [
        np.mean(
            [
                59 - max(int(trial[1:]) for trial in reached if reached[trial] == 64)
                for _, reached in searches
            ]
        )
        for searches in (cheap, sure)
    ]
    spent = [
        np.mean([sum(reached.values()) / (60 * 64) for _, reached in searches])
        for searches in (cheap, sure)
    ]
    assert behind[1] < 0.5 < behind[0]
    assert spent[0] < spent[1] < 0.6
    assert all(asha.risk is not None and asha.risk.chance <= 0.1 for asha, _ in sure)
    risked = [asha.risk for asha, _ in cheap if asha.risk is not None]
    assert np.mean([risk.chance for risk in risked]) > 0.15
    assert all(risk.epochs > 0 for risk in risked)
    for (_, reached), risk in zip(cheap, risked, strict=True):
        assert risk.new == pytest.approx(risk.epochs / (sum(reached.values()) + risk.epochs)), (
            "a new one is as likely as any to be the best"
        )


def test_the_chances_of_those_that_wait_at_a_rung_are_at_most_one_together() -> None:
    """However bright the outlook of each is: one alone can be the best."""
    for curves in late_orders(5):
        asha, reached = played(curves)
        by_rung: dict[int, float] = {}
        for trial, epochs in reached.items():
            if epochs < 64:
                stop = asha.why(trial)
                assert stop.risk is not None
                by_rung[epochs] = by_rung.get(epochs, 0.0) + stop.risk
        assert len(by_rung) > 1
        assert all(0 < chance < 1 for chance in by_rung.values()), by_rung


def test_of_those_that_cannot_be_told_apart_it_is_enough_to_keep_one() -> None:
    """Their values are noise by as much as they are told to be; half a point lies between ends."""
    generator, spent = np.random.default_rng(0), []
    for _ in range(5):
        rise = np.linspace(0, 0.2, 64) + generator.normal(size=(60, 64)) * 0.02
        curves = {
            f"t{number}": (0.3 + number / 200 + rise[number]).tolist()
            for number in generator.permutation(60)
        }
        spent.append(
            [
                sum(played(curves, sure=SURE, error=error)[1].values()) / (60 * 64)
                for error in (0.0, 0.02)
            ]
        )
    alone, with_error = np.mean(spent, axis=0)
    assert with_error < 0.9 * alone


def test_where_leaders_have_equals_the_best_may_stand_further_behind() -> None:
    curves = {
        f"t{number}": [0.5 + number / 200 + epoch / 1000 for epoch in range(64)]
        for number in range(60)
    }
    risks = [played(curves, error=error)[0].risk for error in (0.0, 0.001, 0.008)]
    alone, apart, tied = (risk.chance for risk in risks if risk is not None)
    assert apart == pytest.approx(alone, rel=0.01)
    assert tied > 1.3 * alone


def with_beginners(*, begin: bool) -> dict[str, list[float]]:
    """Curves of sixty trials, half of which show nothing at first; then they lead, or go on so."""
    early = {
        f"early{number}": [0.4 + number / 200 + epoch / 1000 for epoch in range(64)]
        for number in range(30)
    }
    late = {
        f"late{number}": [0.1, *([0.7 + number / 200 if begin else 0.1] * 63)]
        for number in range(30)
    }
    return early | late


def test_of_many_that_have_hardly_begun_some_go_on_to_show_what_becomes_of_such() -> None:
    _, reached = played(with_beginners(begin=True), sure=SURE)
    assert max(reached[trial] for trial in reached if trial.startswith("late")) == 64
    _, reached = played(with_beginners(begin=False), sure=SURE)
    assert sum(reached[trial] > 1 for trial in reached if trial.startswith("late")) == 4
    _, reached = played(with_beginners(begin=False), sure=SURE, highest=0.6)
    assert sum(reached[trial] > 1 for trial in reached if trial.startswith("late")) == 0, (
        "one has come to the highest value that there is"
    )
    _, reached = played(with_beginners(begin=True), sure=0.0)
    assert max(reached[trial] for trial in reached if trial.startswith("late")) == 1


def test_beginners_that_fail_are_tried_no_oftener_than_others() -> None:
    """Thirty of sixty are beginners, and each of these fails as soon as it is trained on."""
    asha, tried = Asha(Setting(64, SPACE, sure=SURE)), []
    at_first_rung(asha, [0.1] * 30 + [0.5 + number / 100 for number in range(30)])
    while (trial := asha.choose(new=False)) is not None:
        asha.go_on(trial)
        if asha.reached[trial] == 1 and int(trial[1:]) <= 30:
            tried.append(trial)
            asha.end(trial, "diverged", 0.1)
            continue
        for epoch in range(asha.reached[trial] + 1, 65):
            if asha.on_epoch(trial, epoch, 0.5 + int(trial[1:]) / 100 + epoch / 1000):
                break
        else:
            asha.end(trial, "completed", 0.6 + int(trial[1:]) / 100)
    assert len(tried) == 4


def test_an_outlier_hides_no_beginners() -> None:
    """Of loss, that is: of 63 trials, 30 are where they began, and one has exploded."""
    for worst in (-2.3, -4.0, -30.0):
        forecaster = Forecaster(SPACE, 2, 1)
        for number in range(63):
            forecaster.begin(f"t{number}", {"optimizer.lr": 0.01})
            forecaster.hear(f"t{number}", 0, -2.3 if number < 30 else -0.5 - number / 100)
        forecaster.hear("t62", 0, worst)
        assert {f"t{number}" for number in range(30)} <= forecaster.beginners(0)
        assert len(forecaster.beginners(0)) <= 31


def test_where_all_rise_alike_those_behind_have_not_begun_to_learn() -> None:
    generator = np.random.default_rng(0)
    ends = 0.3 + 0.5 * generator.random(100) ** 3
    rising = 1 - np.exp(-np.arange(1, 101) / 20)
    curves = {f"t{number}": (end * rising).tolist() for number, end in enumerate(ends)}
    asha, _ = played(curves, sure=SURE)
    gone_on = asha.forecaster.beginners(0) & asha.promoted[0]
    assert len(asha.forecaster.beginners(0)) > 40
    assert len(gone_on) <= 8


def tried_of(late: list[list[float]], **options: float) -> list[int]:
    """Return how far each of these is trained on among forty that learn at once and better.

    None is too risky to stop: those that go on do so to show what becomes of such.
    """
    curves = {
        f"early{number}": [0.4 + number / 200 + epoch / 1000 for epoch in range(64)]
        for number in range(40)
    }
    curves |= {f"late{number}": curve for number, curve in enumerate(late)}
    _, reached = played(curves, sure=0.01, **options)
    return [epochs for trial, epochs in reached.items() if trial.startswith("late")]


AT_ONCE, LATER, NEVER = [0.1] + [0.4] * 63, [0.1] * 2 + [0.41] * 62, [0.1] * 64
"""Curves of beginners at the first rung: they are none at the next, at the one after, or never."""


def test_beginners_that_are_few_are_tried_where_those_of_the_rung_before_have_begun() -> None:
    assert tried_of([AT_ONCE] * 10 + [LATER] * 4)[10:] == [4] * 4
    assert max(tried_of([NEVER] * 10 + [LATER] * 4)) == 2
    assert max(tried_of([AT_ONCE] + [NEVER] * 9 + [LATER] * 4)) == 2, "one may be luck"


def test_a_beginner_that_begins_two_rungs_later_has_begun_too() -> None:
    assert tried_of([AT_ONCE] * 5 + [LATER] * 20)[5:] == [4] * 20
    assert sum(epochs > 1 for epochs in tried_of([AT_ONCE] * 5 + [NEVER] * 20)[5:]) < 12


def test_noise_is_no_beginning() -> None:
    small = [[0.1] + [0.2] * 63] * 30
    assert tried_of(small) == [2] * 30
    assert sum(epochs > 1 for epochs in tried_of(small, error=0.06)) == 4


def test_while_trials_go_on_by_their_places_no_chance_is_computed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It takes half of a decision's time."""
    judged = []
    monkeypatch.setattr(Forecaster, "outlooks", lambda *given: judged.append(given))
    values = np.random.default_rng(0).permutation(np.linspace(0.3, 0.9, 60)).tolist()
    assert len(order_of(values)) > 60
    assert not judged


def test_what_is_expected_is_known_before_anybody_asks_for_a_chance() -> None:
    asha = Asha(Setting(64, SPACE))
    at_first_rung(asha, [0.3, 0.4, 0.5, 0.6])
    for number in (2, 3, 4):
        asha.go_on(f"t{number}")
        asha.on_epoch(f"t{number}", 2, 0.4 + number / 10)
    assert asha.expected.keys() == {"t1", "t2", "t3", "t4"}
    assert asha.expected["t1"].mean > 0.3


def test_where_none_can_be_better_none_is_too_risky_to_stop() -> None:
    curves = next(late_orders(1))
    highest = max(map(max, curves.values()))
    asha, reached = played(curves, sure=0.99)
    assert asha.risk is not None
    at_the_top, reached_less = played(curves, sure=0.99, highest=highest)
    assert max(max(curves[trial][:epochs]) for trial, epochs in reached_less.items()) == highest
    assert at_the_top.risk is None
    assert sum(reached_less.values()) < sum(reached.values())


@pytest.mark.parametrize("mean", [1.5, 4, 20])
def test_the_best_may_stand_further_behind_than_few_leaders_show(mean: float) -> None:
    chances = beyond(np.arange(2000), mean)
    assert chances[0] == 1
    assert np.all(np.diff(chances) < 0)
    assert chances.sum() == pytest.approx(1.25 * mean + 0.5, rel=0.05)
    assert chances[round(8 * mean)] > 10 * (1 - 1 / mean) ** round(8 * mean)


def test_where_the_order_is_clear_to_be_sure_costs_little() -> None:
    curves = {
        f"t{number}": [0.5 + number / 200 + epoch / 1000 for epoch in range(64)]
        for number in range(60)
    }
    spent = [sum(played(curves, sure=sure)[1].values()) for sure in (0.0, 0.8)]
    assert spent[1] < 1.25 * spent[0]


def test_who_waits_is_expected_to_catch_up_where_curves_run_together() -> None:
    """Forty trainings on their way to nearly one end.

    Those behind gain more than those that went on, and their outlook knows.
    """
    forecaster, generator = Forecaster(SPACE, 2), np.random.default_rng(0)
    starts = np.sort(generator.uniform(0.5, 0.8, 40))[::-1]
    ends = 0.85 + 0.1 * (starts - 0.5) + generator.normal(size=40) * 0.005
    for number, (start, end) in enumerate(zip(starts, ends, strict=True)):
        forecaster.begin(f"t{number}", {"optimizer.lr": 0.01})
        forecaster.hear(f"t{number}", 0, 0.3)
        forecaster.hear(f"t{number}", 1, float(start))
        if number < 20:
            forecaster.hear(f"t{number}", 2, float(end))
    forecasts = forecaster.forecasts()
    none, outlook = forecaster.outlooks(noise=0.001)
    assert none is None, "nobody waits there"
    assert outlook is not None
    numbers = [int(trial[1:]) for trial in outlook.trials]
    assert sorted(numbers) == list(range(40))
    behind = np.argsort(numbers)[20:]
    forecast = np.array([forecasts[1][f"t{number}"] for number in range(20, 40)])
    wrong = [np.abs(ends[20:] - means).mean() for means in (outlook.means[behind], forecast)]
    assert wrong[0] < 0.01 < 0.03 < wrong[1]
    assert np.all(np.diff(outlook.deviations[behind]) > 0), (
        "the further from those that went on, the less is known"
    )
    chances = outlook.chances(float(ends[:20].max()))
    assert all(0 < chances[f"t{number}"] < 0.2 for number in range(20, 40))


def test_what_is_expected_is_told_of_those_that_have_not_come_to_their_end() -> None:
    asha, reached = played(
        {
            f"t{number}": [0.5 + number / 200 + epoch / 1000 for epoch in range(64)]
            for number in range(60)
        }
    )
    expected = asha.expected
    assert set(expected) == {trial for trial, epochs in reached.items() if epochs < 64}
    wrong = [one.mean - (0.563 + int(trial[1:]) / 200) for trial, one in expected.items()]
    assert np.mean(np.abs(wrong)) < 0.01


@pytest.mark.parametrize(
    ("mean", "deviation", "about"),
    [(0.5, 0.0, 0.6), (0.8, 0.0, 0.8), (0.8, 0.01, 0.8), (0.75, 9.0, 0.75)],
)
def test_a_draw_lies_between_what_is_reached_and_what_there_is(
    mean: float, deviation: float, about: float
) -> None:
    generator = np.random.default_rng(0)
    drawn = [Expected(mean, deviation, 4.0).draw(generator, 0.6, 0.9) for _ in range(200)]
    assert all(0.6 <= one <= 0.9 for one in drawn)
    assert np.mean(drawn) == pytest.approx(about, abs=0.015)


def test_with_too_few_that_went_on_there_is_no_outlook() -> None:
    forecaster = Forecaster(SPACE, 1)
    for number in range(10):
        forecaster.begin(f"t{number}", {"optimizer.lr": 0.01})
        forecaster.hear(f"t{number}", 0, number / 10)
        if number > 6:
            forecaster.hear(f"t{number}", 1, 0.9)
    assert forecaster.outlooks(noise=0.0) == [None]


def test_neighbours_tell_what_is_to_come() -> None:
    """Small rates are slow and end best.

    A slow one is forecast above a fast one as soon as its neighbours have shown it.
    """
    asha = Asha(Setting(4, SPACE))
    for number in range(20):
        slow = number % 2 == 0
        rate = (0.002 if slow else 0.5) * (1 + number / 100)
        asha.begin(f"t{number}", {"optimizer.lr": rate}, f"t{number}")
        asha.on_epoch(f"t{number}", 1, (0.4 if slow else 0.5) + number / 1000)
        if number < 12:
            asha.go_on(f"t{number}")
            asha.on_epoch(f"t{number}", 2, (0.9 if slow else 0.55) + number / 1000)
    (first, _) = asha.forecaster.forecasts()
    assert min(first[f"t{number}"] for number in (12, 14, 16, 18)) > max(
        first[f"t{number}"] for number in (13, 15, 17, 19)
    )


def forecaster_of(ends: Callable[[float, float], float]) -> Forecaster:
    """Forty trainings with random values and steps before; the first half has come to its end."""
    forecaster, generator = Forecaster(SearchSpace({}), 2), np.random.default_rng(0)
    for number in range(40):
        forecaster.begin(f"t{number}", {})
        value, step = float(generator.uniform(0.2, 0.8)), float(generator.uniform(0, 0.1))
        forecaster.hear(f"t{number}", 0, value - step)
        forecaster.hear(f"t{number}", 1, value)
        if number < 20:
            forecaster.hear(f"t{number}", 2, ends(value, step))
    return forecaster


def test_of_beginners_nothing_is_known_yet() -> None:
    """Of twelve at the lowest value, three have begun at the next rung and ended well, and three
    are still beginners there.
    """
    found = []
    for early in (0, 2):
        forecaster = Forecaster(SearchSpace({}), 2, early)
        for number in range(20):
            forecaster.begin(f"t{number}", {})
            forecaster.hear(f"t{number}", 0, 0.1 if number < 12 else 0.5)
        for number in (0, 1, 2, *range(12, 18)):
            forecaster.hear(f"t{number}", 1, 0.6)
            forecaster.hear(f"t{number}", 2, 0.9)
        for number in (3, 4, 5):
            forecaster.hear(f"t{number}", 1, 0.1)
        found.append(forecaster.forecasts()[0]["t11"])
        assert forecaster.beginners(0) == {f"t{number}" for number in range(12)}
        assert forecaster.beginners(1) == {"t3", "t4", "t5"}
    assert found[0] < 0.8
    assert found[1] == pytest.approx(0.9, abs=0.02)


def late_forecast(
    *late: float,
    early: int = 3,
    others: int = 4,
    later: float = 0.6,
    end: float | None = None,
    worst: Sequence[float] = (0.0,),
) -> float:
    """Return the forecast of a trial with these values, at the last of these rungs.

    It is its last rung, or it came to its end with that value.

    Ten trials learn at once, and others have begun by the second rung; all of these come to 0.48
    at their end, the others by way of `later` at the fourth rung. One more has the `worst` values.
    """
    forecaster = Forecaster(SearchSpace({}), 4, early)
    curves: dict[str, Sequence[float]] = {
        **{f"at once{number}": [0.3, 0.4, 0.45, 0.47, 0.48] for number in range(10)},
        **{f"other{number}": [0.01, 0.25, 0.42, later, 0.48] for number in range(others)},
        "late": late,
        "worst": worst,
    }
    for trial, curve in curves.items():
        forecaster.begin(trial, {})
        for level, value in enumerate(curve):
            forecaster.hear(trial, level, value)
    if end is not None:
        forecaster.hear("late", 4, end)
    assert not early or "late" in forecaster.late_starters(len(late) - 1)
    return forecaster.forecasts()[len(late) - 1]["late"]


def test_a_late_starter_is_forecast_as_late_starters_before_it_went_on() -> None:
    """They gained 0.35 in two rungs, which are left to it, and less by their end."""
    like_them, before = (0.0, 0.01, 0.25), late_forecast(0.0, 0.01, 0.25, early=0)
    assert before < 0.42
    assert late_forecast(*like_them) == pytest.approx(before + 4 / 4.5 * (0.6 - before), abs=0.01)


def test_a_late_starter_unlike_those_before_it_is_forecast_as_others() -> None:
    for values in ((0.0, 0.01, 0.12), (0.0, 0.01, 0.4)):
        assert late_forecast(*values) == pytest.approx(late_forecast(*values, early=0), abs=0.01)
    slower = late_forecast(0.0, 0.08, 0.25)
    assert slower < late_forecast(0.0, 0.01, 0.25) - 0.05
    further = 0.0, 0.07, 0.31
    assert late_forecast(*further) == pytest.approx(late_forecast(*further, early=0), abs=0.05)


def test_values_that_have_exploded_make_no_late_starters_alike() -> None:
    unlike, exploded = (0.0, 0.01, 0.12), (-1e4, -1e4, -1e2)
    alone = late_forecast(*unlike, early=0, worst=exploded)
    assert late_forecast(*unlike, worst=exploded) == pytest.approx(alone, abs=0.01)


def test_late_starters_that_gained_less_or_are_two_tell_nothing() -> None:
    like_them = 0.0, 0.01, 0.25
    for early in (0, 3):
        less = late_forecast(*like_them, early=early, later=0.3)
        assert less == pytest.approx(late_forecast(*like_them, early=0))
    two = late_forecast(*like_them, others=2)
    assert two == pytest.approx(late_forecast(*like_them, early=0, others=2))
    started_twice = 0.01, 0.1, 0.085, 0.25
    alone = late_forecast(*started_twice, early=0, others=2, end=0.26)
    with_others = late_forecast(*started_twice, others=2, end=0.26)
    assert with_others == pytest.approx(alone), "it is no third one itself"


def test_what_is_still_to_be_gained_follows_the_value_as_well_as_the_last_step() -> None:
    """All come to 0.9 and a little more if they have been fast."""
    forecasts = forecaster_of(lambda value, step: 0.9 + step / 2).forecasts()[1]
    assert max(abs(forecast - 0.925) for forecast in forecasts.values()) < 0.035


def test_the_more_forecasts_were_wrong_the_more_is_hoped_of_those_with_much_to_gain() -> None:
    luck = np.random.default_rng(1)
    right = forecaster_of(lambda value, step: 0.9)
    wrong = forecaster_of(lambda value, step: 0.9 + float(luck.normal(0, 0.1)))
    more = []
    for forecaster in (right, wrong):
        forecasts, hopes, values = (
            forecaster.forecasts()[1],
            forecaster.hopes()[1],
            forecaster.values[1],
        )
        gain = {trial: forecasts[trial] - values[trial] for trial in values}
        more.append([(hopes[trial] - forecasts[trial]) / gain[trial] for trial in values])
    assert max(more[0]) < 0.02
    assert min(more[1]) == pytest.approx(max(more[1]))
    assert 0.05 < min(more[1]) < 0.25


def test_those_too_many_to_be_forecast_tell_nothing_of_the_others() -> None:
    """Nine hundred trials that gain the same.

    A hundred of the worst have gone one rung on, where only the best are forecast.
    """
    forecaster, generator = Forecaster(SearchSpace({}), 3), np.random.default_rng(0)
    for number in range(900):
        forecaster.begin(f"t{number}", {})
        forecaster.hear(f"t{number}", 0, value := float(generator.uniform(0.5, 0.7)))
        if number < 600:
            forecaster.hear(f"t{number}", 1, value + 0.1)
    first = forecaster.forecasts()[0]
    best = sorted(first, key=first.__getitem__)[-100:]
    assert min(first[trial] for trial in best) > 0.7
    assert max(first[trial] - forecaster.values[0][trial] for trial in best) < 0.15


def test_leaders_from_the_middle_of_who_went_on_may_have_equals_behind_them() -> None:
    """Of thirteen that went on, those that lead now stood first, in the middle, or anywhere."""
    first, middle = list(range(1, 14)), [5, 6, 7, 1, 2, 3, 4, *range(8, 14)]
    assert mean_place(first, 3, is_next=True) == pytest.approx(1, abs=0.01)
    assert mean_place(middle, 3, is_next=True) == pytest.approx(8.4, abs=0.1)
    assert mean_place(middle, 3, is_next=False) == 5, "where others came later, none is cut off"
    assert mean_place([6, 7, 8, *range(1, 6), *range(9, 14)], 3, is_next=True) > 1000, (
        "it says nothing"
    )


def test_why_a_trial_waits_is_told_with_its_risk() -> None:
    asha = Asha(Setting(64, SPACE))
    at_first_rung(asha, [number / 100 for number in range(40)])
    assert asha.why("t1").risk is None
    asha.go_on("t39")
    asha.on_epoch("t39", 2, 0.5)
    why = asha.why("t1")
    assert (why.rung, why.rivals) == (1, 40)
    assert why.risk is not None
    assert 0 <= why.risk < 0.01
    assert "forecast 40th of 40 at epoch 1" in why.reason
    assert asha.why("t40").reason == "forecast 1st of 40 at epoch 1; others train first"
    middle = asha.why("t22")
    assert middle.risk is not None
    assert middle.risk > why.risk


def test_at_least_a_few_go_on_from_each_rung() -> None:
    curves = {f"t{number}": [number / 100] * 64 for number in range(40)}
    asha, reached = played(curves)
    assert all(len(values) >= MIN_PROMOTED for values in asha.forecaster.values)
    assert reached["t39"] == 64


def test_trials_without_a_rung_of_their_own_and_odd_params_are_no_trouble() -> None:
    space = SearchSpace(
        {
            "optimizer.name": Choice("adam", "sgd"),
            "optimizer.momentum": Float(0.5, 0.9, when={"optimizer.name": "sgd"}),
            "epochs": Choice(3, 30),
        }
    )
    asha = Asha(Setting(30, space))
    for number in range(12):
        params = (
            {"optimizer.name": "sgd", "optimizer.momentum": 0.6}
            if number % 2
            else {"optimizer.name": "adam"}
        )
        asha.begin(f"t{number}", {**params, "epochs": 3 if number % 3 else 7}, f"t{number}")
        assert asha.on_epoch(f"t{number}", 1, number / 20)
        if number % 4 == 0:
            asha.go_on(f"t{number}")
            asha.end(f"t{number}", "completed" if number else "failed", 0.9)
    assert asha.choose(new=False) is not None


def test_a_rung_that_is_gone_is_no_trouble() -> None:
    """The trials of the search have become shorter since.

    The journal tells of a trial that waited, and went on, where there is no rung now.
    """
    asha = Asha(Setting(9, SPACE))
    asha.begin("t1", {"optimizer.lr": 0.01}, "t1")
    assert not asha.on_epoch("t1", 16, 0.5)
    assert "is none any more" in asha.why("t1").reason
    asha.go_on("t1")
    assert asha.promoted == [set(), set(), set()]


def test_who_has_diverged_stands_in_nobodys_way() -> None:
    asha = Asha(Setting(27, SPACE))
    at_first_rung(asha, [0.5, 0.4, 0.9, 0.8, 0.7, 0.6])
    for trial in ("t3", "t4", "t5", "t6"):
        asha.end(trial, "diverged", 0.9)
    assert asha.choose(new=False) == "t1"
    assert asha.why("t1").rivals == 2


def test_trials_that_differ_in_their_epochs_alone_count_once() -> None:
    """Three lengths of each of 20 trainings.

    As many trainings go on from a rung as if there were one length of each.
    """
    asha, alone = Asha(Setting(27, SPACE)), Asha(Setting(27, SPACE))
    for number in range(20):
        alone.begin(f"t{number}", {"optimizer.lr": 0.01}, f"t{number}")
        alone.on_epoch(f"t{number}", 1, number / 20)
        for length in (9, 18, 27):
            asha.begin(
                f"t{number} {length}", {"optimizer.lr": 0.01, "epochs": length}, f"t{number}"
            )
            asha.on_epoch(f"t{number} {length}", 1, number / 20)
    gone: list[list[str]] = []
    for scheduler in (alone, asha):
        gone.append([])
        while (trial := scheduler.choose(new=False)) is not None:
            scheduler.go_on(trial)
            gone[-1].append(trial)
    assert len(gone[1]) == 3 * len(gone[0])
    assert [trial.split()[0] for trial in gone[1][::3]] == gone[0]
    for scheduler, names in ((alone, [""]), (asha, [f" {length}" for length in (9, 18, 27)])):
        for number in range(14, 20):
            for name in names:
                scheduler.on_epoch(f"t{number}{name}", 2, number / 20)
    assert alone.risk is not None
    assert asha.risk is not None
    assert 0 < asha.risk.chance == pytest.approx(alone.risk.chance), "what is risked is a training"
    assert asha.why("t0 9").rivals == 20


def test_the_end_of_a_shorter_trial_is_not_that_of_its_training() -> None:
    asha = Asha(Setting(30, SPACE))
    for length in (3, 30):
        asha.begin(f"t1 {length}", {"optimizer.lr": 0.01}, "t1")
    for epoch in (1, 2, 3):
        asha.on_epoch("t1 3", epoch, epoch / 10)
    asha.end("t1 3", "completed", 0.3)
    assert asha.forecaster.values[-1] == {"t1": 0.3}
    for epoch in range(1, 5):
        asha.on_epoch("t1 30", epoch, epoch / 10)
    assert asha.forecaster.values[-1] == {}
    asha.begin("t1 2", {"optimizer.lr": 0.01}, "t1")
    asha.on_epoch("t1 2", 2, 0.2)
    asha.end("t1 2", "completed", 0.2)
    assert asha.forecaster.values[-1] == {}, "it is known to come further"
    asha.end("t1 2", "failed", 0.2)
    assert "t1" in asha.forecaster.values[0], "others of it may go on"


def told_at_random(generator: np.random.Generator, rungs: int) -> Iterator[tuple[str, Any]]:
    """Yield calls that a forecaster may get.

    Among them are equal values, values that are told again and with another value, and values that
    are taken back. Half are low, so that many are beginners, and many of these are none further on.
    """
    begun = 0
    for kind in generator.choice(
        ["begin", "hear", "unhear", "forget"], 200, p=[0.12, 0.8, 0.06, 0.02]
    ):
        if kind == "begin" or not begun:
            yield "begin", (f"t{begun}", {"optimizer.lr": float(10 ** -generator.uniform(0, 3))})
            begun += 1
            continue
        trial, level = f"t{generator.integers(begun)}", int(generator.integers(rungs + 1))
        value = float(generator.random() * generator.choice([0.2, 1.0]))
        value = round(value, int(generator.choice([1, 5])))
        yield (
            kind,
            {"hear": (trial, level, value), "unhear": (trial, level), "forget": (trial,)}[kind],
        )


def found(forecaster: Forecaster, noise: float) -> list[Any]:
    outlooks = forecaster.outlooks(noise)
    plain = [
        one and (one.trials, one.means.tolist(), one.deviations.tolist(), one.freedom)
        for one in outlooks
    ]
    return [
        forecaster.forecasts(),
        forecaster.hopes(),
        plain,
        forecaster.expected(),
        [forecaster.ordered(level) for level in range(len(forecaster.values))],
    ]


@pytest.mark.parametrize("seed", range(12))
def test_a_forecaster_asked_on_the_way_finds_the_same_as_one_asked_once(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search.schedulers.forecast.MAX_FORECAST", 256 if seed % 2 else 8)
    generator, rungs = np.random.default_rng(seed), 1 + seed % 4
    early = rungs - 1
    asked, told = Forecaster(SPACE, rungs, early), []
    for kind, what in told_at_random(generator, rungs):
        getattr(asked, kind)(*what)
        told.append((kind, what))
        if generator.random() < 0.3:
            asked.forecasts()
        if generator.random() < 0.3:
            once, noise = Forecaster(SPACE, rungs, early), float(generator.choice([0.0, 0.01]))
            for one, those in told:
                getattr(once, one)(*those)
            assert found(asked, noise) == found(once, noise)


def test_a_lower_value_than_any_before_changes_who_is_a_beginner_further_on() -> None:
    asked, once, generator = *(Forecaster(SPACE, 3, 3) for _ in range(2)), np.random.default_rng(0)
    told = [
        (f"t{number}", level, float(value))
        for number in range(8)
        for level, value in enumerate(np.sort(generator.uniform(0.2, 0.9, 4 if number < 4 else 3)))
    ]
    told += [("slow", 0, 0.2), ("slow", 1, 0.25), ("slow", 2, 0.3)]
    for forecaster in (asked, once):
        for trial in dict.fromkeys(trial for trial, *_ in told):
            forecaster.begin(trial, {"optimizer.lr": 0.01})
        for one in told:
            forecaster.hear(*one)
    asked.forecasts()
    assert "slow" in asked.beginners(2)
    for forecaster in (asked, once):
        for trial in ("low", "lower"):
            forecaster.begin(trial, {"optimizer.lr": 0.01})
            forecaster.hear(trial, 0, 0.0)
    assert "slow" not in asked.beginners(2)
    assert asked.forecasts() == once.forecasts()


def test_what_a_network_costs_may_be_known_late() -> None:
    """It could be measured only with the second length of a training.

    From then on the training stands where it would have stood from the beginning.
    """
    places = []
    for is_asked in (True, False):
        asha = Asha(Setting(16, SPACE))
        for number in range(6):
            asha.begin(f"t{number}", {"optimizer.lr": 0.01}, f"t{number}")
            if number < 5:
                asha.cost(f"t{number}", (5.0 + number,))
            for epoch in (1, 2, 4):
                asha.on_epoch(f"t{number}", epoch, 0.9 - number / 10 + epoch / 100)
                if is_asked:
                    asha.choose(new=False)
                if epoch < 4:
                    asha.go_on(f"t{number}")
        asha.begin("longer", {"optimizer.lr": 0.01}, "t5")
        asha.cost("longer", (1.0,))
        places.append(asha.why("t5").reason)
    assert places[0] == places[1]
    assert "forecast 3rd of 6" in places[0], "that by front, in turn with those by value"
