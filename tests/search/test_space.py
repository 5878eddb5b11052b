import json
import re
from typing import Any

import numpy as np
import pytest

from search.algorithms.registry import ALGORITHMS
from search.space import Cases, Choice, Domain, Float, Int, SearchSpace, Steps
from search.spaces.find import find, names
from trainables.catalog.datasets import DATASETS
from trainables.catalog.models import MODELS
from trainables.config import TrialConfig
from trainables.errors import ConfigError
from trainables.tasks import TASKS
from trainables.values import Params

CONDITIONAL = {
    "optimizer.name": Choice("adam", "sgd"),
    "optimizer.momentum": Choice(0.5, 0.9, when={"optimizer.name": "sgd"}),
    "batch_size": Choice(32, 64),
}


@pytest.mark.parametrize(
    ("domains", "words"),
    [
        ({"optimizer.lr": Choice()}, "optimizer.lr: Choice requires at least one value"),
        (
            {"optimizer.lr": Choice(0.1, 0.1)},
            "the values of Choice must differ from each other (got 0.1, 0.1)",
        ),
        ({"optimizer.lr": Float(2, 1)}, "low must not exceed high (got low=2, high=1)"),
        ({"optimizer.lr": Float(0, 1, log=True)}, "a log range requires low > 0"),
        ({"optimizer.lr": Float(0.1, float("inf"))}, "bounds must be finite"),
        ({"model.dropout": Float(0, 0.5, step=0)}, "step must be > 0"),
        ({"batch_size": Int(1.5, 4)}, "whole numbers"),  # type: ignore[arg-type]
        ({"seed": Int(0, 10**18 + 1)}, "-10^18 to 10^18 (got a number with 19 digits)"),
        ({"seed": Int(-(10**5000), 0)}, "(got a number with 5,001 digits)"),
        ({"optimizer.lrr": Float(0.1, 1)}, "Did you mean 'optimizer.lr'"),
        (
            {"optimizer.momentum": Float(0, 0.9, when={"optimizer.name": "sgd"})},
            "'when' refers to 'optimizer.name'",
        ),
    ],
)
def test_nonsense_is_refused_at_birth(domains: dict[str, Domain], words: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)):
        SearchSpace(domains)


def test_an_unknown_key_in_the_base_is_refused_at_birth() -> None:
    with pytest.raises(ConfigError, match=r"Did you mean 'model\.name'"):
        SearchSpace({"optimizer.lr": Choice(0.1)}, base={"model.nam": "deep_cnn"})


@pytest.mark.parametrize(
    "path", ["data.name", "data.image_size", "data.train_limit", "data.split_seed"]
)
def test_what_all_trials_share_of_the_data_is_not_searched(path: str) -> None:
    with pytest.raises(ConfigError, match=f"{path} cannot be searched, because all trials share"):
        SearchSpace({path: Choice(1, 2)})
    SearchSpace({"data.scaling": Choice("unit", "standard")})


@pytest.mark.parametrize(
    "domain",
    [
        Float(0.1, 0.3),
        Float(1e-4, 1e-1, log=True),
        Float(0, 1, step=0.25),
        Int(3, 5),
        Int(8, 64, log=True),
        Int(2, 9, step=3),
        Choice("a", "b"),
    ],
)
def test_draws_stay_inside_and_reach_the_edges(domain: Domain) -> None:
    generator = np.random.default_rng(0)
    drawn = [domain.sample(generator) for _ in range(4000)]
    if domain.values is not None:
        assert set(drawn) == set(domain.values)
    else:
        low, high = domain.extremes
        assert low <= min(drawn) <= low + 0.05 * (high - low)
        assert high - 0.05 * (high - low) <= max(drawn) <= high
    assert all(type(value) in (int, float, str) for value in drawn)


def test_a_log_range_draws_each_decade_alike() -> None:
    generator = np.random.default_rng(0)
    drawn = np.array([Float(1e-4, 1e-1, log=True).sample(generator) for _ in range(3000)])
    shares = [np.mean((drawn >= low) & (drawn < 10 * low)) for low in (1e-4, 1e-3, 1e-2)]
    assert min(shares) > 0.3


def test_a_step_counts_without_rounding_errors() -> None:
    assert tuple(Float(0.1, 0.7, step=0.1).values or ()) == (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)


def test_points_are_every_combination_once() -> None:
    points = list(find("table3").points())
    assert len(points) == find("table3").size == 243
    assert len({tuple(point.items()) for point in points}) == 243


def test_a_conditional_parameter_exists_only_under_its_condition() -> None:
    space = SearchSpace(CONDITIONAL)
    points = list(space.points())
    assert space.size == len(points) == 2 + 2 * 2
    assert all(
        ("optimizer.momentum" in point) == (point["optimizer.name"] == "sgd") for point in points
    )
    generator = np.random.default_rng(0)
    assert all(
        ("optimizer.momentum" in point) == (point["optimizer.name"] == "sgd")
        for point in (space.sample(generator) for _ in range(50))
    )


def test_a_range_has_no_grid() -> None:
    space = SearchSpace({"optimizer.lr": Float(0.1, 0.2)})
    assert space.size is None
    with pytest.raises(ConfigError, match=r"'optimizer.lr' is a range without steps\. Use Choice"):
        next(space.points())
    whole = SearchSpace({"model.width": Int(8, 64, log=True)})
    with pytest.raises(ConfigError, match=r"steps\. Use Choice\(\.\.\.\), or --algorithm random"):
        next(whole.points())


def test_edges_hold_every_extreme() -> None:
    for name in names():
        space = find(name)
        edges = list(space.edges())
        for path, domain in space.domains.items():
            assert {edge.get(path) for edge in edges} >= set(domain.extremes)


def test_edges_hold_every_value_of_a_short_domain_beside_a_range() -> None:
    space = SearchSpace({"optimizer.lr": Float(0.1, 0.2), "model.filter_size": Int(3, 7)})
    assert {edge["model.filter_size"] for edge in space.edges()} == {3, 4, 5, 6, 7}


def test_the_description_keeps_bounds_of_zero() -> None:
    assert SearchSpace({"model.dropout": Float(0.0, 0.5)}).describe()["domains"][
        "model.dropout"
    ] == {"kind": "Float", "low": 0.0, "high": 0.5}


def test_a_huge_range_costs_nothing() -> None:
    assert SearchSpace({"seed": Int(0, 2**31)}).size == 2**31 + 1


def test_a_fixed_key_is_no_longer_searched_but_still_a_condition() -> None:
    space = SearchSpace(CONDITIONAL).fixed({"optimizer.name": "sgd"})
    assert "optimizer.name" not in space.domains
    assert space.size == 4
    assert all("optimizer.momentum" in point for point in space.points())


@pytest.mark.parametrize("name", names())
def test_named_spaces_make_valid_configs(name: str) -> None:
    space = find(name)
    generator = np.random.default_rng(0)
    task = space.base.get("data.task")
    data = next(name for name, entry in DATASETS.items() if task in (None, *entry.tasks))
    groups = {"data.groups": "groups.csv"} if "train.group_dro" in space.domains else {}
    for params in [*space.edges(), *(space.sample(generator) for _ in range(20))]:
        TrialConfig().override({"data.name": data, **groups, **space.base, **params})


def test_table3_is_the_papers() -> None:
    space = find("table3")
    assert {path: domain.values for path, domain in space.domains.items()} == {
        "optimizer.lr": (0.001, 0.01, 0.1),
        "batch_size": (32, 64, 128),
        "epochs": (10, 20, 30),
        "model.layers": (5, 10, 15),
        "model.filter_size": (3, 5, 7),
    }
    assert sum(point["epochs"] for point in space.points()) == 4860


@pytest.mark.parametrize("attribute", ["space", "made"])
def test_a_users_own_space_is_found(tmp_path: Any, attribute: str) -> None:
    path = tmp_path / "my_space.py"
    path.write_text(
        "from search.space import Choice, SearchSpace\ndef space():\n"
        "    return SearchSpace({'epochs': Choice(1, 2)})\nmade = space()\n"
    )
    assert list(find(f"{path}:{attribute}").domains) == ["epochs"]


@pytest.mark.parametrize(
    ("source", "text", "words"),
    [
        ("tabel3", None, f"Known: {', '.join(names())}. Did you mean 'table3'"),
        ("nowhere.py:space", None, "is not an existing .py file"),
        ("{path}:spaces", "space = 1", "has no 'spaces'"),
        (
            "{path}:space",
            "space = 1",
            "must be a SearchSpace, or a function that returns a SearchSpace (got int",
        ),
        ("{path}:space", "space = 1 / 0", "ZeroDivisionError"),
    ],
)
def test_a_space_that_cannot_be_had_is_one_clear_line(
    tmp_path: Any, source: str, text: str | None, words: str
) -> None:
    path = tmp_path / "my_space.py"
    path.write_text(text or "")
    with pytest.raises(ConfigError) as caught:
        find(source.format(path=path))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


# Cases, first points


BRANCHED = SearchSpace(
    {
        "model.name": Choice("resnet18", "alexnet", "vgg11_bn"),
        "optimizer.lr": Cases(
            Float(1e-5, 1e-3, log=True, when={"model.name": ("alexnet", "vgg11_bn")}),
            Float(1e-3, 1e-1, log=True),
        ),
        "model.dropout": Float(0.2, 0.5, when={"model.name": ("alexnet", "vgg11_bn")}),
    },
    first=[{"model.name": "vgg11_bn", "optimizer.lr": 1e-4}, {"model.name": "alexnet"}],
)


def fits(params: Params) -> bool:
    small = params["model.name"] != "resnet18"
    return ("model.dropout" in params) == small and (
        params["optimizer.lr"] <= 1e-3 if small else params["optimizer.lr"] >= 1e-3
    )


@pytest.mark.parametrize("algorithm", ["random", "bayes"])
def test_each_model_is_searched_over_ranges_of_its_own(algorithm: str) -> None:
    asked = ALGORITHMS[algorithm](BRANCHED, 0)
    found = []
    for number in range(30):
        params = asked.ask(f"t{number}")
        assert params is not None
        found.append(params)
        asked.report(f"t{number}", 1, float(params["model.name"] == "resnet18"))
        asked.tell(f"t{number}", "completed", float(params["model.name"] == "resnet18"))
    assert all(fits(params) for params in found)
    assert {params["model.name"] for params in found} == {"resnet18", "alexnet", "vgg11_bn"}


@pytest.mark.parametrize("algorithm", ["random", "bayes"])
def test_a_search_begins_with_the_first_points_and_completes_them(algorithm: str) -> None:
    """After a replay it goes on where it was."""
    asked, again = ALGORITHMS[algorithm](BRANCHED, 0), ALGORITHMS[algorithm](BRANCHED, 0)
    one, two = asked.ask("t1"), asked.ask("t2")
    assert one is not None
    assert two is not None
    assert (one["model.name"], one["optimizer.lr"], two["model.name"]) == (
        "vgg11_bn",
        1e-4,
        "alexnet",
    )
    assert fits(one)
    assert fits(two)
    again.replay("t1", one)
    assert again.ask("t2") == two
    assert asked.ask("t3") == again.ask("t3")


def test_cases_survive_their_description_and_count_towards_the_edges() -> None:
    described = json.loads(json.dumps(BRANCHED.describe()))
    assert SearchSpace.from_description(described).describe() == BRANCHED.describe()
    assert {
        params["optimizer.lr"] for params in BRANCHED.edges() if params["model.name"] == "alexnet"
    } == {1e-5, 1e-3}
    assert {
        params["optimizer.lr"] for params in BRANCHED.edges() if params["model.name"] == "resnet18"
    } == {1e-3, 1e-1}


def test_a_first_point_keeps_what_is_still_searched() -> None:
    assert BRANCHED.fixed({"model.name": "vgg11_bn"}).first == ({"optimizer.lr": 1e-4},)
    assert BRANCHED.fixed({"model.name": "resnet18"}).first == ()  # none of them was for that
    assert BRANCHED.fixed({"optimizer.lr": 0.01}).first == (
        {"model.name": "vgg11_bn"},
        {"model.name": "alexnet"},
    )
    assert BRANCHED.without("model.name", {"vgg11_bn"}).first == ({"model.name": "alexnet"},)


def test_what_a_fixed_value_leaves_of_the_first_points() -> None:
    """With the optimizer fixed each family is still tried first; its learning rate was for the
    other optimizer.
    """
    first = find("zoo").fixed({"optimizer.name": "sgd"}).first
    assert {params["model.name"] for params in first} == {
        params["model.name"] for params in find("zoo").first
    }
    assert not any(
        "optimizer.lr" in params for params in first if params["model.name"] == "resnet18"
    )


def test_a_first_point_that_its_domain_does_not_hold_is_refused() -> None:
    with pytest.raises(
        ConfigError,
        match=r"a point of 'first' sets model\.dropout=0\.9, but this value is not possible",
    ):
        SearchSpace({"model.dropout": Float(0.1, 0.2)}, first=[{"model.dropout": 0.9}])


def test_cases_may_be_nested() -> None:
    inner = Cases(Float(1e-5, 1e-4, when={"optimizer.name": "sgd"}), Float(1e-3, 1e-2))
    space = SearchSpace({"optimizer.name": Choice("sgd", "adam"), "optimizer.lr": Cases(inner)})
    asked = [ALGORITHMS[algorithm](space, 0).ask("t1") for algorithm in ("random", "bayes")]
    assert all(
        (params["optimizer.lr"] <= 1e-4) == (params["optimizer.name"] == "sgd")
        for params in asked
        if params is not None
    )
    assert None not in asked


def test_a_first_point_of_something_else_is_refused() -> None:
    with pytest.raises(
        ConfigError,
        match=r"a point of 'first' sets 'optimizer\.lr', which is not a searched parameter",
    ):
        SearchSpace({"model.dropout": Float(0.1, 0.2)}, first=[{"optimizer.lr": 1}])


def test_the_zoo_begins_with_every_model_once_and_searches_them_all() -> None:
    space = find("zoo")
    wanted = {
        name
        for name, entry in MODELS.items()
        if "classification" in entry.tasks
        and (entry.weights or entry.kind == "baseline")
        and not entry.fitted_by
        and not entry.extended_by
    }
    assert set(space.domains["model.name"].values or ()) == wanted
    assert sorted(params["model.name"] for params in space.first) == sorted(wanted)


def test_the_zoo_of_segmentation_begins_with_every_model_that_suits_a_cpu() -> None:
    space = find("segmentation_zoo")
    wanted = {
        name
        for name, entry in MODELS.items()
        if "segmentation" in entry.tasks and not name.endswith("resnet50")
    }
    assert set(space.domains["model.name"].values or ()) == wanted
    assert sorted(params["model.name"] for params in space.first) == sorted(wanted)


def test_the_zoo_of_detection_begins_with_every_model() -> None:
    space = find("detection_zoo")
    wanted = {name for name, entry in MODELS.items() if "detection" in entry.tasks}
    assert set(space.domains["model.name"].values or ()) == wanted
    assert sorted(params["model.name"] for params in space.first) == sorted(wanted)


def test_the_space_of_detection_compares_its_network_with_a_baseline() -> None:
    kinds = [MODELS[params["model.name"]].kind for params in find("detection").first]
    assert kinds == ["baseline", "network"]


# Many points


def chain(*ends: int) -> SearchSpace:
    """Whole numbers, each of which is there where the one before is 1."""
    paths = ["epochs", "batch_size", "model.width", "model.filter_size", "optimizer.patience"][
        : len(ends)
    ]
    conditions = [{}, *({path: 1} for path in paths)]
    return SearchSpace(
        {
            path: Int(1, end, when=when)
            for path, end, when in zip(paths, ends, conditions, strict=False)
        }
    )


def test_points_of_a_conditional_space_are_counted_and_not_listed() -> None:
    """Of five such parameters nobody lists the points before the sun is cold."""
    free = SearchSpace(
        {
            **{path: Int(1, 10**6) for path in ("epochs", "batch_size", "seed")},
            "optimizer.patience": Int(1, 10**9, when={"epochs": (1, 2)}),
        }
    )
    assert free.size == 2 * 10**6 * 10**6 * 10**9 + (10**6 - 2) * 10**6 * 10**6
    assert chain(10**6, 10**6, 10**6).size == 3 * 10**6 - 2


@pytest.mark.parametrize(
    "space",
    [
        chain(3, 4, 5, 2),
        SearchSpace(CONDITIONAL),
        SearchSpace(
            {
                "epochs": Choice(1, 2, 3),
                "batch_size": Int(2, 4, when={"epochs": (1, 3)}),
                "seed": Int(0, 1, when={"batch_size": (3, 9)}),
            }
        ),
        SearchSpace(
            {
                "epochs": Int(1, 4),
                "batch_size": Cases(
                    Int(2, 3, when={"epochs": 1}),
                    Choice(8, 16, 32, when={"epochs": (1, 2)}),
                    Int(64, 65, when={"epochs": 4}),
                ),
            }
        ),
        SearchSpace(
            {
                "model.dropout": Float(0, 0.5, step=0.1),
                "epochs": Int(1, 3, when={"model.dropout": 0.3}),
            }
        ),
        SearchSpace(
            {
                "epochs": Int(1, 3, when={"model.name": "table2"}),
                "batch_size": Int(2, 4, when={"epochs": 2}),
            },
            base={"model.name": "table2"},
        ),
        SearchSpace(
            {
                "epochs": Int(1, 3, when={"model.name": "other"}),
                "batch_size": Int(2, 4, when={"epochs": 2}),
            },
            base={"model.name": "table2"},
        ),
        SearchSpace({}),
    ],
)
def test_as_many_points_are_counted_as_there_are(space: SearchSpace) -> None:
    assert space.size == len(list(space.points()))


def test_edges_of_a_deep_space_are_few_and_hold_every_probe() -> None:
    space = chain(100, 100, 100, 100, 100)
    edges = list(space.edges())
    assert len(edges) <= 100 * 2**5
    for path in space.domains:
        assert {edge[path] for edge in edges if path in edge} == set(range(1, 101))


def test_the_steps_of_a_range_are_not_kept() -> None:
    domain = Float(0, 1, step=1e-9)
    assert domain.values is not None
    assert (len(domain.values), domain.values[0], domain.values[-1], domain.values[7]) == (
        10**9 + 1,
        0.0,
        1.0,
        7e-9,
    )
    assert 0.5 in domain.values
    assert 0.1234567891 not in domain.values
    assert SearchSpace({"model.dropout": domain}).size == 10**9 + 1
    assert 0 <= domain.sample(np.random.default_rng(0)) <= 1


def test_the_nearest_step_is_found() -> None:
    steps = Float(0.1, 0.5, step=0.1).values
    assert isinstance(steps, Steps)
    assert list(steps) == [0.1, 0.2, 0.3, 0.4, 0.5]
    assert [steps.nearest(value) for value in (0, 0.14, 0.26, 0.9)] == [0.1, 0.1, 0.3, 0.5]


@pytest.mark.parametrize(
    ("domain", "words"),
    [
        (Int(0, 10**30), r"from -10\^18 to 10\^18"),
        (Float(0, 1, step=1e-300), "more than 10\\^15 values"),
    ],
)
def test_more_values_than_can_be_told_apart_are_refused(domain: Domain, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        SearchSpace({"seed" if isinstance(domain, Int) else "model.dropout": domain})


def test_a_search_has_one_metric() -> None:
    with pytest.raises(ConfigError, match="Choose it with --metric"):
        SearchSpace({"metric": Choice("accuracy", "auc")})


def test_edges_take_a_parents_values_of_the_case_that_exists():
    space = SearchSpace(
        {
            "warm_start": Choice("champion", ""),
            "optimizer.name": Cases(
                Choice("sgd", when={"warm_start": "champion"}),
                Choice("adam", "sgd", when={"warm_start": ""}),
            ),
            "optimizer.lr": Float(0.001, 0.1),
            "optimizer.momentum": Float(0.5, 0.9, when={"optimizer.name": "sgd"}),
        }
    )
    names = {
        (params["warm_start"], params["optimizer.name"], "optimizer.momentum" in params)
        for params in space.edges()
    }
    assert names == {("champion", "sgd", True), ("", "adam", False), ("", "sgd", True)}


def test_a_space_names_the_task_that_it_is_for() -> None:
    assert names("segmentation") == ["segmentation", "segmentation_zoo"]
    assert "table3" in names("classification")
    assert sorted(name for task in TASKS for name in names(task)) == names()
