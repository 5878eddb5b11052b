"""The refinement of spaces, from observations with a planted best."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from search.decisions.space_refinement import Observation, is_geometric, narrow
from search.journal.events import Change
from search.space import Cases, Choice, Domain, Float, Int, SearchSpace
from trainables.config import TrialConfig
from trainables.errors import ConfigError
from trainables.values import Params

Value = Callable[[Params], float]


def refusal(params: Params, path: str) -> str:
    """Return the error of a config with these params."""
    try:
        TrialConfig().override(params)
    except ConfigError as error:
        return str(error)
    return ""


def after(
    domains: dict[str, Domain], value: Value, count: int, seed: int = 0, noise: float = 0.01
) -> tuple[SearchSpace, dict[str, Change]]:
    """The space after random trials, and the changes by path; NaN is a trial that diverged."""
    space, generator = SearchSpace(domains), np.random.default_rng(seed)
    params = [space.sample(generator) for _ in range(count)]
    values = np.array([value(one) for one in params]) + generator.normal(0, noise, count)
    values = np.where(np.isnan(values), -1, values)
    scores = [
        float(((one > values).sum() + ((one == values).sum() - 1) / 2) / (count - 1))
        for one in values
    ]
    found, changes = narrow(
        space,
        [Observation(*pair) for pair in zip(params, scores, strict=True)],
        params[int(values.argmax())],
        refusal,
    )
    assert found == SearchSpace(found.domains)  # which refuses nonsense at birth
    return found, {change.path: change for change in changes}


LR = Float(1e-5, 1e-1, log=True)
DROPOUT = Float(0.0, 0.7)


def hill(at: float) -> Value:
    """Best at this learning rate, and less by decades."""
    return lambda params: 0.9 - 0.1 * abs(math.log10(params["optimizer.lr"] / at))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("count", [14, 60])
def test_a_clear_best_inside_a_range_narrows_it_and_what_does_nothing_stays(
    count: int, seed: int
) -> None:
    space, changes = after(
        {"optimizer.lr": LR, "model.dropout": DROPOUT, "batch_size": Int(16, 256, log=True)},
        hill(1e-3),
        count,
        seed,
    )
    lr = space.domains["optimizer.lr"]
    assert isinstance(lr, Float)
    assert lr.log
    assert 1e-5 < lr.low < 1e-3 < lr.high < 1e-1
    assert math.log(lr.high / lr.low) >= 0.24 * math.log(1e4)
    assert changes["optimizer.lr"].kind == "narrowed"
    assert (
        f"1e-05 to 0.1 becomes {lr.low:.4g} to {lr.high:.4g}, around the best"
        in changes["optimizer.lr"].text
    )
    for path, domain in {"model.dropout": DROPOUT, "batch_size": Int(16, 256, log=True)}.items():
        new = space.domains[path]
        assert isinstance(new, Float | Int)
        assert new.high - new.low >= 0.5 * (domain.high - domain.low)


def test_a_clearer_effect_narrows_more() -> None:
    widths = []
    for noise in (0.001, 0.15):
        lr = after({"optimizer.lr": LR}, hill(1e-3), 60, noise=noise)[0].domains["optimizer.lr"]
        assert isinstance(lr, Float)
        widths.append(math.log10(lr.high / lr.low))
    assert widths[0] < 0.8 * widths[1] < 0.8 * 4


@pytest.mark.parametrize("count", [2, 4])
def test_few_observations_change_nothing(count: int) -> None:
    domains: dict[str, Domain] = {
        "optimizer.lr": LR,
        "batch_size": Choice(32, 64, 128),
        "optimizer.name": Choice("adam", "sgd"),
    }
    space, changes = after(domains, hill(1e-1), count)
    assert dict(space.domains) == domains
    assert {change.kind for change in changes.values()} <= {"unclear", "doubtful"}


def test_chance_narrows_seldom() -> None:
    domains: dict[str, Domain] = {
        "optimizer.lr": LR,
        "model.dropout": DROPOUT,
        "batch_size": Choice(32, 64, 128),
        "optimizer.name": Choice("adam", "sgd"),
    }
    found = [after(domains, lambda params: 0.5, 15, seed)[1] for seed in range(40)]
    assert (
        sum(
            any(change.kind in ("narrowed", "finer", "dropped") for change in changes.values())
            for changes in found
        )
        <= 4
    )


@pytest.mark.parametrize(
    ("domain", "path", "best", "wider"),
    [
        (
            Float(1e-5, 1e-3, log=True),
            "optimizer.lr",
            1e-2,
            lambda new: new.high == pytest.approx(1e-2, rel=0.1) and new.low > 2e-5,
        ),
        (
            Float(1e-3, 1e-1, log=True),
            "optimizer.lr",
            1e-4,
            lambda new: new.low == pytest.approx(1e-4, rel=0.1) and new.high < 5e-2,
        ),
        (Float(0.0, 0.2), "model.dropout", 0.5, lambda new: new.high == pytest.approx(0.3)),
        (
            Float(0.0, 0.2, step=0.05),
            "model.dropout",
            0.5,
            lambda new: new.high == pytest.approx(0.3),
        ),
        (Int(4, 10), "model.layers", 20, lambda new: new.high == 13),
        (Int(8, 32, log=True), "model.width", 200, lambda new: new.high > 64),
        (Int(16, 64, step=16), "batch_size", 200, lambda new: new.high == 96),
        (
            Choice(0.001, 0.01, 0.1),
            "optimizer.lr",
            1e-4,
            lambda new: new.options == (0.0001, 0.001, 0.0032),
        ),
        (Choice(32, 64, 128), "batch_size", 256, lambda new: new.options == (91, 128, 256)),
        (Choice(5, 10, 15), "model.layers", 30, lambda new: new.options == (12, 15, 20)),
        (Choice(5, 7, 9), "model.filter_size", 3, lambda new: new.options == (3, 5, 7)),
    ],
)
def test_a_best_at_an_edge_widens_beyond_it_and_is_flagged(
    domain: Domain, path: str, best: float, wider: Callable[[Any], bool]
) -> None:
    by_ratio = path in ("optimizer.lr", "model.width", "batch_size")
    space, changes = after(
        {path: domain},
        lambda params: (
            -abs(math.log(params[path] / best)) if by_ratio else -abs(params[path] - best)
        ),
        30,
        noise=0,
    )
    assert wider(space.domains[path]), space.domains[path]
    assert changes[path].kind == "widened"
    assert f"{path}: the best, " in changes[path].flag
    assert " the edge of " in changes[path].flag
    assert changes[path].text.startswith(f"{changes[path].flag}: widened to ")


@pytest.mark.parametrize(
    ("domain", "path", "sign", "reason"),
    [
        (Float(0.0, 0.7), "model.dropout", -1, "model.dropout must be >= 0"),
        (Choice(2, 4, 8), "batch_size", -1, "batch_size must be >= 2"),
        (Choice(1, 3, 5), "model.filter_size", -1, "model.filter_size must be"),
    ],
)
def test_an_edge_that_cannot_be_widened_is_flagged_with_the_reason(
    domain: Domain, path: str, sign: int, reason: str
) -> None:
    space, changes = after({path: domain}, lambda params: sign * params[path], 30)
    assert changes[path].kind == "edge"
    assert f"and cannot be widened: {reason}" in changes[path].text
    new = space.domains[path]
    assert new.extremes[0] == domain.extremes[0]
    assert new.extremes[-1] < domain.extremes[-1]


def test_a_range_is_widened_as_far_as_a_config_takes_it() -> None:
    """Half of the width further is above 1, which momentum must stay below."""
    space, _ = after(
        {"optimizer.name": Choice("sgd"), "optimizer.momentum": Float(0.5, 0.9)},
        lambda params: params["optimizer.momentum"],
        30,
    )
    momentum = space.domains["optimizer.momentum"]
    assert isinstance(momentum, Float)
    assert 0.93 <= momentum.high < 1


def test_a_best_at_an_edge_by_chance_is_told_and_not_widened() -> None:
    edges = []
    for seed in range(20):
        space, changes = after({"model.dropout": DROPOUT, "optimizer.lr": LR}, hill(1e-3), 30, seed)
        edges += [change.kind for path, change in changes.items() if path == "model.dropout"]
        if changes.get("model.dropout") is None:
            assert space.domains["model.dropout"] == DROPOUT
    assert "doubtful" in edges
    assert edges.count("widened") <= 2


def test_a_region_that_diverges_is_left() -> None:
    space, _ = after(
        {"optimizer.lr": LR}, lambda params: math.nan if params["optimizer.lr"] > 3e-3 else 0.9, 40
    )
    lr = space.domains["optimizer.lr"]
    assert isinstance(lr, Float)
    assert lr.high < 0.05


@pytest.mark.parametrize(
    ("domain", "best", "finer"),
    [
        (Choice(0.001, 0.01, 0.1), 0.01, (0.0032, 0.01, 0.032)),
        (Choice(0.1, 0.001, 0.01), 0.01, (0.0032, 0.01, 0.032)),
    ],
)
def test_numbers_get_new_ones_between(
    domain: Choice, best: float, finer: tuple[float, ...]
) -> None:
    space, changes = after(
        {"optimizer.lr": domain}, lambda params: -abs(math.log(params["optimizer.lr"] / best)), 30
    )
    assert space.domains["optimizer.lr"] == Choice(*finer)
    assert changes["optimizer.lr"].kind == "finer"


def test_a_range_whose_ends_are_near_each_other_keeps_its_digits() -> None:
    space, _ = after(
        {"optimizer.lr": Float(0.1001, 0.1004)},
        lambda params: -1000 * abs(params["optimizer.lr"] - 0.1002),
        60,
    )
    lr = space.domains["optimizer.lr"]
    assert isinstance(lr, Float)
    assert 0.1001 <= lr.low < 0.1002 < lr.high <= 0.1004


@pytest.mark.parametrize(
    "row",
    [(0.55, 0.56, 0.57), (0.0101, 0.0102, 0.0103), (0.991, 0.995, 0.999), (1.0001, 1.0002, 1.0003)],
)
def test_numbers_near_each_other_get_new_ones_between_them_all_the_same(
    row: tuple[float, ...],
) -> None:
    space, changes = after(
        {"optimizer.lr": Choice(*row)},
        lambda params: -abs(params["optimizer.lr"] - row[1]) / (row[1] - row[0]),
        60,
    )
    found = space.domains["optimizer.lr"]
    assert isinstance(found, Choice)
    assert changes["optimizer.lr"].kind == "finer"
    assert set(found.options) - set(row)
    assert all(row[0] <= option <= row[-1] for option in found.options)


def test_a_number_that_is_refused_is_not_put_between() -> None:
    """Filters of even size have no centre."""
    space, changes = after(
        {"model.filter_size": Choice(3, 5, 7)},
        lambda params: -abs(params["model.filter_size"] - 5),
        30,
    )
    assert space.domains["model.filter_size"] == Choice(3, 5, 7)
    assert changes[""].text == (
        "as before, although the effect is clear, because there is nothing to leave out: "
        "model.filter_size"
    )


def test_a_domain_may_stand_for_two_parameters() -> None:
    same = Float(0.0, 0.7)
    space, _ = after(
        {"model.dropout": same, "augment.jitter": same},
        lambda params: -abs(params["model.dropout"] - 0.3),
        40,
    )
    assert space.domains["model.dropout"] != same
    assert space.domains["augment.jitter"] == same


def test_rows_of_numbers_are_told_apart() -> None:
    assert [is_geometric(row) for row in ([0.001, 0.01, 0.1], [32, 64, 128], [0.001, 0.01])] == [
        True
    ] * 3
    assert [
        is_geometric(row) for row in ([10, 20, 30], [5, 10, 15], [3, 5, 7], [0, 4], [32, 64])
    ] == [False] * 5


def test_options_that_are_clearly_worse_are_left_out_but_not_the_last_two() -> None:
    value: Value = lambda params: {"adam": 0.9, "adamw": 0.88, "sgd": 0.5}[params["optimizer.name"]]  # noqa: E731
    space, changes = after({"optimizer.name": Choice("adam", "sgd", "adamw")}, value, 30)
    assert space.domains["optimizer.name"] == Choice("adam", "adamw")
    assert changes["optimizer.name"].text == "optimizer.name: left out sgd, clearly worse than adam"
    again, changes = after({"optimizer.name": Choice("adam", "sgd")}, value, 30)
    assert again.domains["optimizer.name"] == Choice("adam", "sgd")


def test_what_depends_on_others_is_judged_where_it_is_there_and_stays_so() -> None:
    names = ("resnet18", "vgg11_bn")
    cases = Cases(
        Float(1e-5, 1e-1, log=True, when={"model.name": names[0]}),
        Float(1e-6, 1e-2, log=True, when={"model.name": names[1]}),
    )
    domains = {
        "model.name": Choice(*names),
        "optimizer.lr": cases,
        "model.dropout": Float(0.0, 0.6, when={"model.name": names[1]}),
    }

    def value(params: Params) -> float:
        return 0.9 - 0.1 * abs(
            math.log10(
                params["optimizer.lr"] / (1e-2 if params["model.name"] == names[0] else 1e-4)
            )
        )

    space, _ = after(domains, value, 60)
    lr = space.domains["optimizer.lr"]
    assert isinstance(lr, Cases)
    first, second = lr.cases
    assert isinstance(first, Float)
    assert isinstance(second, Float)
    assert (first.when, second.when) == ({"model.name": names[0]}, {"model.name": names[1]})
    assert 1e-4 < first.low < 1e-2 < first.high <= 1e-1
    assert 1e-6 < second.low < 1e-4 < second.high < 1e-2
    assert space.domains["model.dropout"] == domains["model.dropout"]
    assert space.domains["model.name"] == domains["model.name"]


def test_numbers_on_which_others_depend_keep_their_values() -> None:
    domains = {
        "model.layers": Choice(5, 10, 15),
        "model.dropout": Float(0.0, 0.6, when={"model.layers": 10}),
    }
    space, _ = after(domains, lambda params: -abs(params["model.layers"] - 10), 40)
    left = space.domains["model.layers"]
    assert isinstance(left, Choice)
    assert {10} < set(left.options) <= {5, 10, 15}
    assert space.domains["model.dropout"].when == {"model.layers": 10}


def test_a_second_effect_is_seen_behind_a_large_one() -> None:
    def value(params: Params) -> float:
        return hill(1e-3)(params) - 0.3 * abs(params["model.dropout"] - 0.35)

    space, changes = after({"optimizer.lr": LR, "model.dropout": DROPOUT}, value, 60, noise=0.002)
    dropout = space.domains["model.dropout"]
    assert isinstance(dropout, Float)
    assert 0 < dropout.low < 0.35 < dropout.high < 0.7
    assert changes["model.dropout"].kind == "narrowed"
