import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from search.design.experiment import SURE
from search.schedulers import asha as rule
from search.schedulers.asha import COEFFICIENTS, FEATURES, Asha
from search.schedulers.base import NEW, Expected, Setting, TrialCourse
from search.schedulers.registry import SCHEDULERS
from search.schedulers.rungs import expected_epochs, rungs_for

STOPPING = ("halving", "hyperband", "median")
"""Schedulers by which a trial that was stopped does not continue."""


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


@pytest.mark.parametrize("name", STOPPING)
def test_a_trial_that_is_far_behind_is_stopped_with_a_reason(name: str) -> None:
    scheduler = SCHEDULERS[name](Setting(27))
    for number in range(12):
        scheduler.begin(f"t{number}", {}, f"t{number}")
        rung = next(
            (e for e in range(1, 28) if scheduler.on_epoch(f"t{number}", e, 1 - number / 20)), None
        )
    stop = scheduler.why("t11")
    assert stop.rung == rung
    assert stop.reason.count(f"at epoch {rung}") == 1
    assert stop.risk is None
    assert scheduler.choose(new=False) is None
    assert scheduler.choose(new=True) == NEW
    with pytest.raises(KeyError):
        scheduler.why("t0")


def test_halving_keeps_a_quarter_and_hyperband_looks_later_in_some_brackets() -> None:
    values = np.random.default_rng(0).random(400)
    rungs = {}
    for name in ("halving", "hyperband"):
        scheduler, stops = SCHEDULERS[name](Setting(64)), list[int]()
        for number, value in enumerate(values):
            scheduler.begin(f"t{number}", {}, f"t{number}")
            epochs = (
                epoch for epoch in range(1, 65) if scheduler.on_epoch(f"t{number}", epoch, value)
            )
            stops.append(next(epochs, 64))
        rungs[name] = np.array(stops)
    assert np.mean(rungs["halving"] > 1) == pytest.approx(0.25, abs=0.05)
    assert set(rungs["hyperband"]) == {1, 3, 9, 27, 64}
    assert np.mean(rungs["hyperband"] > 1) > 0.4


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


def test_a_plan_expects_more_epochs_the_surer_one_wants_to_be() -> None:
    assert 5 < expected_epochs(50, 50) < expected_epochs(50, 50, sure=0.95) < 20
    assert expected_epochs(3, 50, grace=5) == 3


def at_first_rung(asha: Asha, values: list[float]) -> None:
    """Let trials with these values come to the first rung and wait there."""
    for number, value in enumerate(values, 1):
        asha.begin(f"t{number}", {}, f"t{number}")
        assert asha.on_epoch(f"t{number}", asha.rungs[0], value)


def test_of_those_that_wait_the_best_goes_on_first() -> None:
    asha = Asha(Setting(27))
    at_first_rung(asha, [0.5, 0.4, 0.6])
    assert asha.choose(new=False) == "t3"
    asha.go_on("t3")
    asha.on_epoch("t3", 2, 0.61)
    asha.go_on("t3")
    assert asha.why("t1").reason.startswith("place 2 of 3 at epoch 1, forecast 2nd; ")


def played(
    curves: dict[str, list[float]],
    *,
    sure: float = SURE,
    error: float = 0.0,
    highest: float = math.inf,
    last_drop: int = 0,
) -> tuple[Asha, dict[str, int], list[str]]:
    """Play a search among these curves, one trial after another.

    Returns:
        The scheduler, the last epoch of each trial, and the trials in the order of training.
    """
    horizon = len(next(iter(curves.values())))
    asha = Asha(Setting(horizon, sure=sure, highest=highest))
    asha.error_of = lambda value: error  # type: ignore[method-assign]
    left, reached, order = list(curves), dict.fromkeys(curves, 0), list[str]()
    while (choice := asha.choose(new=bool(left))) is not None:
        if choice == NEW:
            choice = left.pop(0)
            asha.begin(choice, {}, choice, TrialCourse(horizon, last_drop))
        else:
            asha.go_on(choice)
        order.append(choice)
        for epoch in range(reached[choice] + 1, horizon + 1):
            reached[choice] = epoch
            if asha.on_epoch(choice, epoch, max(curves[choice][:epoch])):
                break
        else:
            asha.end(choice, "completed", max(curves[choice]))
    return asha, reached, order


def parallel(count: int = 60, seed: int = 0) -> dict[str, list[float]]:
    """Curves that never cross, in random order; the last by name is the best."""
    return {
        f"t{number}": [0.5 + number / 200 + epoch / 1000 for epoch in range(64)]
        for number in np.random.default_rng(seed).permutation(count)
    }


def late_orders(orders: int) -> Iterator[dict[str, list[float]]]:
    """Curves of sixty trials whose first eight epochs do not tell their ends; t59 is the best."""
    generator = np.random.default_rng(1)
    for _ in range(orders):
        luck = generator.random((60, 8))
        yield {
            name: [*(0.2 + 0.2 * luck[int(name[1:])]), *curve[8:]]
            for name, curve in parallel(seed=int(generator.integers(1000))).items()
        }


def test_where_the_order_is_clear_few_go_on_and_where_it_is_made_late_more_do() -> None:
    asha, reached, _ = played(parallel())
    assert reached["t59"] == 64
    clear = sum(reached.values())
    assert clear < 0.16 * 60 * 64
    assert asha.risk is not None
    assert 0 < asha.risk.chance <= 1 - SURE
    late = [sum(played(curves)[1].values()) for curves in late_orders(3)]
    assert np.mean(late) > 1.3 * clear


def test_the_surer_one_wants_to_be_the_more_go_on_and_the_less_is_risked() -> None:
    behind, spent = {}, {}
    for sure in (0.0, 0.7, 0.95):
        searches = [played(curves, sure=sure)[:2] for curves in late_orders(6)]
        ends = [max(int(trial[1:]) for trial in come if come[trial] == 64) for _, come in searches]
        behind[sure] = 59 - np.mean(ends)
        spent[sure] = np.mean([sum(come.values()) for _, come in searches])
        risks = [asha.risk for asha, _ in searches]
        assert all(risk is None or risk.chance <= max(1 - sure, 1e-9) for risk in risks)
        assert all(risk is None or risk.epochs > 0 for risk in risks)
    assert spent[0.0] < spent[0.7] < spent[0.95]
    assert behind[0.0] > behind[0.95]


def test_chances_add_up_to_one_until_a_trial_is_completed() -> None:
    asha = Asha(Setting(2))
    at_first_rung(asha, [0.3, 0.5, 0.5, 0.1])
    chances = asha.chances()[:4]
    assert chances.sum() == pytest.approx(1)
    assert chances[1] == pytest.approx(chances[2])
    assert chances[1] > chances[0] > chances[3] > 0
    asha.go_on("t2")
    asha.on_epoch("t2", 2, 0.6)
    asha.end("t2", "completed", 0.6)
    chances = asha.chances()[:4]
    assert chances[1] == 0
    assert 0 < chances.sum() < 1


def test_new_trials_and_those_that_wait_are_in_turn_by_their_chance_for_an_epoch() -> None:
    """The leader of few is soon far ahead, and most epochs go into looking further."""
    _, reached, order = played(parallel(120))
    first = min(place for place, trial in enumerate(order) if order[: place + 1].count(trial) == 7)
    assert len(set(order[:first])) < 80, "long before all have begun, one has come to its end"
    assert 0.4 < len(reached) / len(order) < 0.95


def test_where_each_is_better_than_all_before_looking_further_is_worth_more() -> None:
    """An algorithm that proposes ever better trials may go on with that."""
    rising = dict(sorted(parallel().items(), key=lambda item: int(item[0][1:])))
    continued = []
    for curves in (rising, parallel()):
        _, _, order = played(curves)
        last_new = max(order.index(trial) for trial in curves)
        continued.append(last_new - 59)
    assert continued[0] < 0.7 * continued[1]


def test_before_a_late_drop_of_the_learning_rate_places_say_less() -> None:
    spent = [sum(played(parallel(), last_drop=drop)[1].values()) for drop in (0, 40)]
    assert spent[1] > spent[0]


def test_networks_that_stay_at_chance_share_their_places_and_cost_little() -> None:
    never = {f"never{number}": [0.1] * 64 for number in range(30)}
    asha, reached, _ = played(parallel(30) | never)
    spent = [epochs for trial, epochs in reached.items() if trial.startswith("never")]
    assert sum(spent) < 0.05 * 60 * 64
    stops = {asha.why(trial) for trial in never}
    assert len(stops) == len({stop.rung for stop in stops}), "one place and risk at each rung"


def test_where_none_can_be_better_none_is_too_risky_to_stop() -> None:
    curves = next(late_orders(1))
    highest = max(map(max, curves.values()))
    _, reached, _ = played(curves, sure=0.99)
    at_the_top, reached_less, _ = played(curves, sure=0.99, highest=highest)
    assert max(max(curves[trial][:epochs]) for trial, epochs in reached_less.items()) == highest
    assert at_the_top.risk is None
    assert sum(reached_less.values()) < sum(reached.values())


def test_what_is_expected_is_told_of_those_that_have_not_come_to_their_end() -> None:
    asha, reached, _ = played(parallel())
    expected = asha.expected
    assert set(expected) == {trial for trial, epochs in reached.items() if epochs < 64}
    wrong = [one.mean - (0.563 + int(trial[1:]) / 200) for trial, one in expected.items()]
    assert np.mean(np.abs(wrong)) < 0.02
    assert all(one.deviation > 0 for one in expected.values())


def test_who_waits_is_expected_to_catch_up_where_curves_run_together() -> None:
    asha, generator = Asha(Setting(4)), np.random.default_rng(0)
    starts = np.sort(generator.uniform(0.5, 0.8, 40))[::-1]
    ends = 0.85 + 0.1 * (starts - 0.5)
    for number, (start, end) in enumerate(zip(starts, ends, strict=True)):
        asha.begin(f"t{number}", {}, f"t{number}")
        for epoch, value in ((1, 0.3), (2, float(start))):
            asha.on_epoch(f"t{number}", epoch, value)
            if number < 20 or epoch == 1:
                asha.go_on(f"t{number}")
        if number < 20:
            asha.on_epoch(f"t{number}", 4, float(end))
            asha.end(f"t{number}", "completed", float(end))
    expected = asha.expected
    gains = [expected[f"t{number}"].mean - starts[number] for number in range(20, 40)]
    assert np.mean(gains) > (ends - starts)[:20].mean() + 0.05


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


def test_why_a_trial_waits_is_told_with_its_place_and_its_chance() -> None:
    asha = Asha(Setting(64))
    at_first_rung(asha, [number / 100 for number in range(40)])
    asha.go_on("t39")
    asha.on_epoch("t39", 2, 0.5)
    why = asha.why("t1")
    assert (why.rung, why.rivals) == (1, 40)
    assert why.risk is not None
    assert 0 <= why.risk < 0.05
    assert why.reason.startswith("place 40 of 40 at epoch 1, forecast 40th; ")
    assert why.reason.endswith(" chance to be the best")
    middle = asha.why("t22")
    assert middle.risk is not None
    assert middle.risk > why.risk


def test_a_rung_that_is_gone_is_no_trouble() -> None:
    """The trials of the search have become shorter since.

    The journal tells of a trial that waited, and went on, where there is no rung now.
    """
    asha = Asha(Setting(9))
    asha.begin("t1", {}, "t1")
    assert not asha.on_epoch("t1", 16, 0.5)
    assert "does not exist any more" in asha.why("t1").reason
    asha.go_on("t1")
    assert asha.choose(new=False) is None


def test_who_has_diverged_stands_in_nobodys_way() -> None:
    asha = Asha(Setting(27))
    at_first_rung(asha, [0.5, 0.4, 0.9, 0.8, 0.7, 0.6])
    for trial in ("t3", "t4", "t5", "t6"):
        asha.end(trial, "diverged", 0.9)
    assert asha.choose(new=False) == "t1"
    assert asha.why("t1").rivals == 2
    assert asha.why("t1").reason.startswith("place 1 of 2")


def test_trials_that_differ_in_their_epochs_alone_count_once() -> None:
    """Three lengths of each of 20 trainings stand as the trainings would alone."""
    asha, alone = Asha(Setting(27)), Asha(Setting(27))
    for number in range(20):
        alone.begin(f"t{number}", {}, f"t{number}")
        alone.on_epoch(f"t{number}", 1, number / 20)
        for length in (9, 18, 27):
            asha.begin(f"t{number} {length}", {}, f"t{number}", TrialCourse(length))
            asha.on_epoch(f"t{number} {length}", 1, number / 20)
    assert asha.chances()[:20] == pytest.approx(alone.chances()[:20])
    assert asha.why("t0 9").rivals == 20
    assert alone.choose(new=False) == "t19"
    for length in (9, 18, 27):
        assert asha.choose(new=False) == f"t19 {length}", "its epochs are another one's too"
        asha.go_on(f"t19 {length}")
    for length in (9, 18, 27):
        asha.on_epoch(f"t19 {length}", 2, 0.97)
    assert asha.why("t19 9").reason.startswith("place 1 of 1 at epoch 2")


def test_a_trial_whose_relative_ends_before_its_next_rung_waits_for_its_own_chance() -> None:
    asha = Asha(Setting(32))
    asha.begin("short", {}, "t1", TrialCourse(9))
    asha.begin("long", {}, "t1", TrialCourse(32))
    for trial in ("short", "long"):
        for epoch in (1, 2, 4, 8):
            asha.on_epoch(trial, epoch, epoch / 100)
            if trial == "short" or epoch < 8:
                asha.go_on(trial)
    assert list(asha.standings.covered()) == []
    asha.on_epoch("short", 9, 0.09)
    asha.end("short", "completed", 0.09)
    assert list(asha.standings.covered()) == []
    assert asha.standings.waits[0]
    assert asha.chances()[0] > 0


def test_the_end_of_a_shorter_trial_is_not_that_of_its_training() -> None:
    asha = Asha(Setting(30))
    ends = asha.standings.values[-1:]
    for length in (3, 30):
        asha.begin(f"t1 {length}", {}, "t1", TrialCourse(length))
    for epoch in (1, 2, 3):
        asha.on_epoch("t1 3", epoch, epoch / 10)
    asha.end("t1 3", "completed", 0.3)
    ends = asha.standings.values[-1]
    assert ends[0] == 0.3
    for epoch in range(1, 5):
        asha.on_epoch("t1 30", epoch, epoch / 10)
    assert np.isnan(ends[0])
    asha.begin("t1 2", {}, "t1", TrialCourse(2))
    asha.on_epoch("t1 2", 2, 0.2)
    asha.end("t1 2", "completed", 0.2)
    assert np.isnan(ends[0]), "it is known to come further"
    asha.end("t1 2", "failed", 0.2)
    assert asha.standings.values[0, 0] == 0.1, "others of it may go on"


def test_what_a_network_costs_may_be_known_late() -> None:
    """From then on the training stands where it would have stood from the beginning."""
    places = []
    for is_asked in (True, False):
        asha = Asha(Setting(16))
        for number in range(6):
            asha.begin(f"t{number}", {}, f"t{number}")
            if number < 5:
                asha.cost(f"t{number}", (5.0 + number,))
            for epoch in (1, 2, 4):
                asha.on_epoch(f"t{number}", epoch, 0.9 - number / 10 + epoch / 100)
                if is_asked:
                    asha.choose(new=False)
                if epoch < 4:
                    asha.go_on(f"t{number}")
        asha.begin("longer", {}, "t5")
        asha.cost("longer", (1.0,))
        places.append([asha.why(f"t{number}").reason for number in range(6)])
    assert places[0] == places[1]
    assert places[0][5] == "place 1 of 6 at epoch 4 (all objectives count)", "it is the cheapest"
    assert places[0][4].startswith("place 5 of 6"), "four are better and cost less"


def test_a_place_counts_those_that_dominate() -> None:
    generator = np.random.default_rng(0)
    values, costs = generator.integers(0, 8, 40) / 10, generator.integers(0, 5, (40, 2))
    asha = Asha(Setting(8))
    for number in range(40):
        asha.begin(f"t{number}", {}, f"t{number}")
        asha.cost(f"t{number}", tuple(map(float, costs[number])))
        asha.on_epoch(f"t{number}", 1, float(values[number]))
    asha.end("t7", "diverged", 0.0)
    others = [number for number in range(40) if number != 7]
    for number in others:
        dominators = sum(
            values[other] >= values[number]
            and (costs[other] <= costs[number]).all()
            and (values[other] > values[number] or (costs[other] < costs[number]).any())
            for other in others
        )
        equals = sum(
            values[other] == values[number] and (costs[other] == costs[number]).all()
            for other in others
        )
        assert asha.standings.places[0, number] == 1 + dominators + (equals - 1) / 2


@pytest.mark.parametrize("seed", range(6))
def test_a_scheduler_asked_on_the_way_finds_the_same_as_one_asked_once(seed: int) -> None:
    """What is kept between decisions is what would be computed again."""
    generator = np.random.default_rng(seed)
    asked, calls = Asha(Setting(16)), list[tuple[str, tuple[object, ...]]]()

    def call(name: str, *arguments: object) -> None:
        getattr(asked, name)(*arguments)
        calls.append((name, arguments))

    epochs: dict[str, int] = {}
    for _ in range(150):
        choice = generator.choice(["begin", "train", "end"], p=[0.3, 0.65, 0.05])
        names = [trial for trial in epochs if epochs[trial] < 16]
        if choice == "begin" or not names:
            epochs[f"t{len(epochs)}"] = 0
            call("begin", f"t{len(epochs) - 1}", {}, f"t{len(epochs) - 1}")
        elif choice == "end":
            trial = str(generator.choice(names))
            epochs[trial] = 99
            call("end", trial, str(generator.choice(["diverged", "stopped"])), 0.0)
        else:
            trial = str(generator.choice(names))
            call("go_on", trial)
            epochs[trial] = next(end for end in (1, 2, 4, 8, 16) if end > epochs[trial])
            call("on_epoch", trial, epochs[trial], round(float(generator.random()), 1))
            if epochs[trial] == 16:
                call("end", trial, "completed", round(float(generator.random()), 1))
        if generator.random() < 0.3:
            asked.choose(new=False)
            once = Asha(Setting(16))
            for name, arguments in calls:
                getattr(once, name)(*arguments)
            assert once.chances() == pytest.approx(asked.chances())
            assert once.expected == asked.expected


def test_the_table_of_the_package_has_each_coefficient_and_where_it_comes_from() -> None:
    table = json.loads(Path(rule.__file__).with_name("coefficients.json").read_text("utf-8"))
    assert tuple(COEFFICIENTS) == FEATURES
    assert len(table["data"]) == 6
    assert table["states"] > 1000
    assert {row["sure"] for row in table["left_out"]} == {0.7, 0.88, 0.95}
    assert all(f"    {name}  " in str(rule.__doc__) for name in FEATURES)


def test_a_better_chance_by_each_of_the_main_features_is_worth_more() -> None:
    assert COEFFICIENTS["order"] > 0
    assert COEFFICIENTS["forecast"] > 0
    assert COEFFICIENTS["order before"] <= 0
