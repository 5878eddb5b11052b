"""Several objectives: what is better than what, who goes on at a rung, and a real search for a
Pareto front.
"""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from search.algorithms.bayes import Bayes
from search.decisions.driver import Driver
from search.design.experiment import SURE, Experiment
from search.facts.summary import json_summary
from search.journal.events import Evaluated, Tested
from search.journal.journal import read
from search.journal.pareto import front
from search.journal.result import SearchResult
from search.journal.store import Home
from search.schedulers.asha import Asha
from search.schedulers.base import NEW, Setting
from search.space import Choice, Float, SearchSpace
from search.tracking.note import markdown_summary
from search.values.objectives import (
    Costs,
    Front,
    costs_of,
    fronts,
    in_order,
    objective_value,
    parse_objectives,
)
from search.views.text.labels import strategy_text
from search.views.text.sentences import quicker_text
from search.views.text.tables import front_table
from tests.bench.curves import sized
from tests.bench.replay import play as replay
from tests.conftest import Command
from tests.search.conftest import Inline
from tests.support.played import OpenDriver, changed, evaluation, play, reopened, report
from tests.support.real import children_of, metrics_of
from trainables.config import TrialConfig
from trainables.errors import ConfigError
from trainables.fusion.shapes import cost_key
from trainables.messages import Report

LATENCY = ("val_accuracy", "latency")


def cost(latency: float, parameters: int | None = 1000) -> dict[str, Any]:
    """What a worker measures, as far as it counts here."""
    return {"inference": {"batch_1": {"median_ms": latency}}, "parameters": parameters}


@pytest.mark.parametrize("seed", range(30))
def test_a_front_is_what_none_is_better_than_once_those_before_it_are_gone(seed: int) -> None:
    generator = np.random.default_rng(seed)
    values = generator.integers(0, 4, 9).astype(float).tolist()
    costs: list[Costs] = [tuple(map(float, generator.integers(0, 3, 2))) for _ in values]

    def is_better(one: int, other: int) -> bool:
        no_worse = values[one] >= values[other] and all(
            mine <= its for mine, its in zip(costs[one], costs[other], strict=True)
        )
        return no_worse and (
            (values[one], costs[one]) != (values[other], costs[other]) or one < other
        )

    expected, left = [0] * len(values), set(range(len(values)))
    for number in range(len(values)):
        foremost = {one for one in left if not any(is_better(other, one) for other in left)}
        left -= foremost
        for one in foremost:
            expected[one] = number
    assert fronts(values, costs).tolist() == expected


def test_a_trial_is_held_against_few_others_to_find_its_front(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With all pairs, a decision would cost the square of the number of trials."""
    asked = 0
    undercuts = Front.undercuts

    def count(front: Front, first: float, second: float) -> bool:
        nonlocal asked
        asked += 1
        return undercuts(front, first, second)

    monkeypatch.setattr(Front, "undercuts", count)
    generator, trials = np.random.default_rng(0), 2000
    values = generator.random(trials).tolist()
    costs: list[Costs] = [tuple(one) for one in generator.random((trials, 2)).tolist()]
    number = int(fronts(values, costs).max()) + 1
    assert asked <= trials * (math.log2(number) + 2)


def test_trials_stand_by_front_and_in_each_by_value() -> None:
    values = {"slow": 0.9, "good": 0.8, "worse": 0.7, "quick": 0.5, "bad": 0.4}
    costs: dict[str, Costs] = {
        "slow": (9.0,),
        "good": (3.0,),
        "worse": (4.0,),
        "quick": (1.0,),
        "bad": (2.0,),
    }
    assert in_order(values, costs) == (["slow", "good", "quick", "worse", "bad"], 3)
    assert in_order(values, {})[0] == list(values), "without costs, by value"
    assert in_order(values, costs | {"quick": ()}) == (
        ["slow", "good", "bad", "worse", "quick"],
        3,
    ), "a cost that is not known is the highest"
    assert in_order({}, {}) == ([], 0)


def test_objectives_are_accuracy_and_then_costs() -> None:
    wanted = ("val_accuracy", "parameters", "latency")
    assert parse_objectives("val_accuracy, parameters,latency", "accuracy") == wanted
    assert parse_objectives("val_auc,latency", "auc") == ("val_auc", "latency")
    measured = cost(0.5, None)
    assert costs_of(("parameters", "latency"), measured) == (0.0, 0.5)
    assert costs_of((), measured) == ()
    for text in (
        "",
        "latency",
        "latency,val_accuracy",
        "val_accuracy,speed",
        "val_accuracy,latency,latency",
        "val_accuracy,latency,parameters,corruption_accuracy",
    ):
        with pytest.raises(
            ConfigError,
            match="--objective must be val_accuracy, optionally followed by one or two of "
            "latency, parameters, corruption_accuracy, separated by commas",
        ):
            parse_objectives(text, "accuracy")


def test_what_does_not_go_together_is_refused(experiment: Experiment) -> None:
    with pytest.raises(
        ConfigError,
        match=(
            r"--min-gain 0.5 cannot be combined with --objective val_accuracy,latency, "
            r"because a minimum gain is possible only if accuracy is the only objective"
        ),
    ):
        changed(experiment, objectives=LATENCY, min_gain=0.5)
    space = SearchSpace({"model.name": Choice("deep_cnn", "svm")})
    with pytest.raises(ConfigError, match="--objective parameters cannot be used with svm"):
        changed(experiment, space=space, objectives=("val_accuracy", "parameters"))
    assert changed(experiment, space=space, objectives=LATENCY)
    described = changed(experiment, objectives=LATENCY).describe()
    assert (
        Experiment.from_description("played", described, experiment.storage).objectives == LATENCY
    )
    del described["objectives"]
    assert Experiment.from_description("played", described, experiment.storage).objectives == (
        "val_accuracy",
    ), "a journal of an earlier version"


def test_none_that_stands_on_the_front_is_left_behind_at_a_rung() -> None:
    """Sixty trials whose curves are parallel: everybody on the front comes to the end, and few
    others do.
    """
    generator, come, begun = np.random.default_rng(0), dict[str, int](), iter(range(60))
    costs: dict[str, Costs] = {
        f"t{number}": (float(generator.integers(1, 12)),) for number in range(60)
    }
    ends = {
        trial: 0.5 + 0.03 * cost + 0.05 * generator.normal() for trial, (cost,) in costs.items()
    }
    asha = Asha(Setting(64, sure=SURE))
    while (trial := asha.choose(new=len(asha.standings.trials) < 60)) is not None:
        if trial == NEW:
            trial = f"t{next(begun)}"
            asha.begin(trial, {}, trial)
            asha.cost(trial, costs[trial])
        else:
            asha.go_on(trial)
        is_over = False
        while not is_over:
            come[trial] = come.get(trial, 0) + 1
            is_over = (
                asha.on_epoch(trial, come[trial], ends[trial] * (1 - 0.4 * 0.8 ** come[trial]))
                or come[trial] == 64
            )
        if come[trial] == 64:
            asha.end(trial, "completed", ends[trial])
    ordered, count = in_order(ends, costs)
    assert count == 7
    assert [come[trial] for trial in ordered[:count]] == [64] * count
    assert sum(epochs == 64 for epochs in come.values()) <= 3 * count
    waiting = next(trial for trial, epochs in come.items() if epochs < 64)
    assert "(all objectives count)" in asha.why(waiting).reason


def test_what_a_network_costs_is_asked_for_once_and_told_of_each_trial(
    experiment: Experiment, open_driver: OpenDriver
) -> None:
    space = SearchSpace(
        {"optimizer.lr": Choice(0.001, 0.01), "model.layers": Choice(5, 10)},
        base={"model.name": "deep_cnn", "epochs": 2},
    )
    driver = open_driver(
        changed(
            experiment, space=space, base=TrialConfig().override(space.base), objectives=LATENCY
        )
    )
    asked: list[bool] = []

    def train(config: TrialConfig, epoch: int) -> Report:
        asked.append(driver.policy.wants_cost(config)) if epoch == 1 else None
        layers = config.model.options["layers"]
        told = report(epoch, layers / 20 + config.optimizer.lr, "completed" if epoch == 2 else None)
        return replace(told, cost=cost(float(layers)) if epoch == 1 else None)

    result = play(driver, train).result
    assert sorted(asked) == [False, False, True, True]
    assert {name: objective_value("latency", cost) for name, cost in result.costs.items()} == {
        name: float(trial.config["model"]["layers"]) for name, trial in result.trials.items()
    }
    kinds = [event.kind for event in read(driver.journal.path) if event.trial == "t0001"]
    assert kinds[:4] == ["suggested", "running", "costed", "epoch"]
    assert [trial.params["model.layers"] for trial in front(result)] == [10, 5]
    assert all(trial.params["optimizer.lr"] == 0.01 for trial in front(result))
    assert (
        SearchResult.of(read(driver.journal.path), driver.experiment.folder).trials == result.trials
    )


def test_the_sampler_hears_what_networks_cost(
    experiment: Experiment, open_driver: OpenDriver
) -> None:
    driver = open_driver(changed(experiment, objectives=LATENCY, algorithm="bayes", trials=3))
    play(
        driver,
        lambda config, epoch: replace(
            report(epoch, 0.5, "completed" if epoch == config.epochs else None),
            cost=cost(7.0),
        ),
    )
    assert isinstance(driver.policy.algorithm, Bayes)
    histories = driver.policy.algorithm.histories.values()
    assert [history.costs for history in histories] == [{0: (7.0,)}] * 3


@pytest.mark.parametrize("algorithm", ["grid", "bayes"])
@pytest.mark.parametrize("events", [12, 25, 60])
def test_a_search_for_a_front_goes_on_as_if_it_had_not_been_cut_off(
    experiment: Experiment, open_driver: OpenDriver, tmp_path: Path, algorithm: str, events: int
) -> None:
    space = SearchSpace(
        {"optimizer.lr": Choice(0.001, 0.01, 0.1), "model.layers": Choice(5, 10, 15)},
        base={"model.name": "deep_cnn", "epochs": 9, "optimizer.schedule": "cosine"},
    )
    wanted = changed(
        experiment,
        space=space,
        base=TrialConfig().override(space.base),
        objectives=LATENCY,
        scheduler="asha",
        algorithm=algorithm,
        trials=9,
    )

    def train(config: TrialConfig, epoch: int) -> Report:
        layers = config.model.options["layers"]
        value = 0.4 + layers / 50 + min(config.optimizer.lr, 0.02) * 5 + epoch / 100
        said = report(epoch, value, "completed" if epoch == 9 else None)
        return replace(said, cost=cost(float(layers)))

    undisturbed = play(open_driver(replace(wanted, storage=tmp_path / "undisturbed")), train).result
    cut = play(open_driver(wanted), train, events=events)
    again = play(reopened(cut), train)
    again.journal.close()
    assert {
        name: (trial.params, trial.outcome, trial.costed)
        for name, trial in again.result.trials.items()
    } == {
        name: (trial.params, trial.outcome, trial.costed)
        for name, trial in undisturbed.trials.items()
    }


@pytest.mark.parametrize("seed", range(3))
def test_the_sampler_proposes_what_may_be_on_the_front(seed: int) -> None:
    """Wide networks are more accurate and slower; whatever their width, a rate near 0.01 is best,
    and that is learned of narrow ones too.
    """
    space = SearchSpace(
        {"model.width": Choice(4, 8, 16, 32, 64), "optimizer.lr": Float(1e-4, 1, log=True)}
    )
    bayes, proposed = Bayes(space, seed), []
    for number in range(60):
        params = bayes.ask(f"t{number}")
        assert params is not None
        width, off = params["model.width"], abs(np.log10(params["optimizer.lr"]) + 2)
        bayes.cost(f"t{number}", (float(width),))
        bayes.report(f"t{number}", 1, 0.5 + 0.05 * np.log2(width) - 0.1 * off)
        bayes.tell(f"t{number}", "completed", 0.5 + 0.05 * np.log2(width) - 0.1 * off)
        proposed.append((width, off))
    assert np.mean([off for _, off in proposed[40:]]) < 0.75 * np.mean(
        [off for _, off in proposed[:10]]
    )
    assert len({width for width, off in proposed[20:] if off < 0.3}) >= 4, (
        "good ones of nearly all widths"
    )


@pytest.mark.slow(100)
@pytest.mark.long
def test_a_search_for_the_front_comes_nearer_to_it_than_one_for_accuracy() -> None:
    """On known curves, by each one's default, at which the one for the front spends more epochs.

    At equal cost it comes no nearer: one for accuracy that is surer finds about as good a front.
    """
    front, accuracy = (
        [replay(sized(seed), seed, 4, objectives=names) for seed in range(200, 208)]
        for names in (LATENCY, ("val_accuracy",))
    )
    regret, cost = (
        [np.mean([getattr(one, figure) for one in those]) for those in (front, accuracy)]
        for figure in ("regret", "cost")
    )
    assert cost[0] < 0.37
    assert regret[0] < 0.6 * regret[1]


@pytest.fixture
def measured(experiment: Experiment, open_driver: OpenDriver) -> tuple[Driver, SearchResult]:
    """A search for accuracy, latency and parameters: of three networks the largest is the best, and
    the middle one no better than the small.
    """
    space = SearchSpace(
        {"model.layers": Choice(5, 10, 15)}, base={"model.name": "deep_cnn", "epochs": 1}
    )
    objectives = (*LATENCY, "parameters")
    driver = open_driver(
        changed(
            experiment, space=space, base=TrialConfig().override(space.base), objectives=objectives
        )
    )

    def train(config: TrialConfig, epoch: int) -> Report:
        layers = config.model.options["layers"]
        said = report(1, {5: 0.8, 10: 0.8, 15: 0.9}[layers], "completed")
        return replace(said, cost=cost(layers / 10, layers * 1000))

    return driver, play(driver, train).result


def test_the_front_is_told_everywhere(measured: tuple[Driver, SearchResult]) -> None:
    _, result = measured
    assert [
        (trial.primary_value, objective_value("latency", result.costs[trial.trial]))
        for trial in front(result)
    ] == [(0.9, 1.5), (0.8, 0.5)]
    names = {trial.params["model.layers"]: trial.trial for trial in result.trials.values()}
    assert front_table(result) == [
        ["trial", "network", "val accuracy", "epochs", "ms/image alone", "weights"],
        [names[15], "deep_cnn, layers 15", "0.9000", "1", "1.5", "0.015 M"],
        [names[5], "deep_cnn, layers 5", "0.8000", "1", "0.5", "0.005 M"],
    ]
    summary = json_summary(result, tracking={}, home=Home(Path("s")), wall_s=1.0)
    quick = {
        "trial_id": names[5],
        "params": {"model.layers": 5},
        "val_accuracy": 0.8,
        "value": 0.8,
        "latency": 0.5,
        "parameters": 5000,
        "outcome": "completed",
    }
    assert summary["front"][1] == {**quick, "checkpoint": f"s/trials/{names[5]}/epoch-0001"}
    assert "| deep_cnn, layers 5 | 0.8000 | 1 | 0.5 | 0.005 M |" in markdown_summary(result)
    assert (
        strategy_text(result.started.experiment)
        == "grid + fifo, for low latency and parameters too"
    )


def test_costs_that_are_held_against_each_other_were_measured_alike(
    measured: tuple[Driver, SearchResult],
) -> None:
    """What was measured beside other training, and what with nothing beside it, are not on one
    front.
    """
    driver, result = measured
    names = {trial.params["model.layers"]: trial.trial for trial in result.trials.values()}
    for layers in (15, 10):
        driver.journal.append(Evaluated(trial=names[layers], epoch=1, **evaluation()))
        assert objective_value("parameters", result.costs[names[layers]]) == layers * 1000, (
            "that of its first epoch, until all were measured alone"
        )
    driver.journal.append(Evaluated(trial=names[5], epoch=1, **evaluation()))
    assert {objective_value("parameters", cost) for cost in result.costs.values()} == {1234567}


def test_the_answer_is_of_the_front_and_what_is_damaged_is_not(
    measured: tuple[Driver, SearchResult],
) -> None:
    driver, result = measured
    names = {trial.params["model.layers"]: trial.trial for trial in result.trials.values()}
    assert [trial.trial for trial in result.ranking] == [names[15], names[5], names[10]], (
        "of equally accurate ones the cheaper is the better"
    )
    assert result.best is front(result)[0]
    driver.journal.append(
        Tested(
            trial=names[5],
            epoch=1,
            test={"accuracy": 0.8, "images": 4},
            passed_over={names[15]: "gone"},
        )
    )
    assert [trial.trial for trial in front(result)] == [names[5]]
    assert result.best is front(result)[0]


def test_a_network_that_is_as_good_for_less_is_named(measured: tuple[Driver, SearchResult]) -> None:
    _, result = measured
    names = {trial.params["model.layers"]: trial.trial for trial in result.trials.values()}
    said = quicker_text(result)
    assert str(said) == (
        f"{names[5]} needs 33% of the time that {names[15]} needs, and classifies 5 of 50 "
        f"images fewer correctly, which may be chance. To use {names[5]}: python -m search.promote "
        f"{result.name} --trial {names[5]}"
    )
    result.started.data["val"] = 5000
    assert not quicker_text(result), "so many images tell them apart"


def test_a_cost_that_cannot_be_measured_is_told_and_the_trial_goes_on(
    experiment: Experiment, open_driver: OpenDriver
) -> None:
    driver = open_driver(changed(experiment, objectives=LATENCY, trials=2))
    told: list[str] = []
    driver.journal.complain = told.append
    unknown = {"unknown": "RuntimeError: no such operator"}
    result = play(
        driver,
        lambda config, epoch: replace(
            report(epoch, 0.5, "completed" if epoch == config.epochs else None), cost=unknown
        ),
    ).result
    assert result.counts == {"completed": 2}
    assert result.costs == {}
    assert front(result) == []
    (once,) = told
    assert once.endswith("counts as the most expensive trial (RuntimeError: no such operator)")


def test_before_precision_is_known_other_batch_sizes_may_have_another_cost() -> None:
    """`auto` is bfloat16 where a batch is work enough."""
    small, large = (
        TrialConfig().override({"batch_size": size, "optimizer.lr": size / 1000})
        for size in (32, 128)
    )
    assert cost_key(small, "auto") != cost_key(large, "auto")
    assert cost_key(small, "fp32") == cost_key(large, "fp32")
    assert cost_key(small, "auto") == cost_key(
        small.override({"optimizer.lr": 0.5, "epochs": 3}), "auto"
    )


def test_without_costs_there_is_no_front(experiment: Experiment, open_driver: OpenDriver) -> None:
    result = play(open_driver(experiment)).result
    assert front(result) == []
    assert front_table(result) == []
    assert "Pareto" not in markdown_summary(result)
    assert json_summary(result, tracking={}, home=Home(Path("s")), wall_s=1.0)["front"] == []


ROBUST = ("val_accuracy", "corruption_accuracy")
ONE = SearchSpace({"optimizer.lr": Choice(0.01)})
CORRUPTED = "val/corruption_accuracy"


def robust(experiment: Experiment, **options: Any) -> Experiment:
    """A search in which a smaller network is less accurate, and more robust."""
    space = SearchSpace(
        {"model.layers": Choice(5, 10, 15)}, base={"model.name": "deep_cnn", "epochs": 4}
    )
    base = TrialConfig().override(space.base)
    options = {"objectives": ROBUST, "scheduler": "asha", "algorithm": "grid", **options}
    return changed(experiment, space=space, base=base, **options)


def train_robust(config: TrialConfig, epoch: int) -> Report:
    layers = config.model.options["layers"]
    said = report(epoch, layers / 20 + epoch / 100, "completed" if epoch == 4 else None)
    corrupted = {5: 0.5, 10: 0.3, 15: 0.4}[layers] + epoch / 100
    return replace(said, metrics={**said.metrics, CORRUPTED: corrupted})


def test_of_robustness_more_is_better(experiment: Experiment, open_driver: OpenDriver) -> None:
    driver = open_driver(robust(experiment))
    result = play(driver, train_robust).result
    names = {trial.params["model.layers"]: trial.trial for trial in result.trials.values()}
    assert [trial.trial for trial in front(result)] == [names[15], names[5]]
    assert front_table(result) == [
        ["trial", "network", "val accuracy", "epochs", "corrupted accuracy"],
        [names[15], "deep_cnn, layers 15", "0.7900", "4", "44.0%"],
        [names[5], "deep_cnn, layers 5", "0.2900", "4", "54.0%"],
    ]
    summary = json_summary(result, tracking={}, home=Home(Path("s")), wall_s=1.0)
    assert [row["corruption_accuracy"] for row in summary["front"]] == [0.44, 0.54]
    assert strategy_text(result.started.experiment).endswith(", for high corruption accuracy too")
    assert "and has at least as high a corruption accuracy:" in markdown_summary(result)
    assert not [event for event in read(driver.journal.path) if event.kind == "costed"]


def test_a_more_robust_network_that_is_as_good_is_recommended(
    experiment: Experiment, open_driver: OpenDriver
) -> None:
    def train(config: TrialConfig, epoch: int) -> Report:
        said = train_robust(config, epoch)
        value = 0.8 + config.model.options["layers"] / 1000
        return replace(said, metrics={**said.metrics, "val/accuracy": value})

    result = play(open_driver(robust(experiment, scheduler="fifo")), train).result
    names = {trial.params["model.layers"]: trial.trial for trial in result.trials.values()}
    assert str(quicker_text(result)).startswith(
        f"{names[5]} classifies 54.0% instead of 44.0% of corrupted images correctly, and "
        "classifies"
    )


def test_a_trial_whose_latency_is_unknown_is_not_on_a_front_with_robustness(
    experiment: Experiment, open_driver: OpenDriver
) -> None:
    def train(config: TrialConfig, epoch: int) -> Report:
        is_measured = config.model.options["layers"] == 5
        measured = cost(1.0) if is_measured else {"unknown": "RuntimeError: no such operator"}
        return replace(train_robust(config, epoch), cost=measured)

    driver = open_driver(robust(experiment, objectives=(*ROBUST, "latency"), scheduler="fifo"))
    driver.journal.complain = lambda _: None
    result = play(driver, train).result
    assert [trial.params["model.layers"] for trial in front(result)] == [5]


def test_a_trial_is_asked_for_what_the_objectives_need(
    experiment: Experiment, open_driver: OpenDriver
) -> None:
    for objectives, measures, with_cost in (
        (ROBUST, (CORRUPTED,), False),
        (LATENCY, (), True),
        ((*ROBUST, "latency"), (CORRUPTED,), True),
    ):
        driver = open_driver(robust(experiment, objectives=objectives, name="-".join(objectives)))
        suggested = driver.suggest()
        assert suggested is not None
        request = driver.handout(*suggested)
        assert (request.measures, request.with_cost) == (measures, with_cost)


def test_robustness_is_refused_where_it_cannot_be_measured(experiment: Experiment) -> None:
    words = {"data.name": "scenes", "data.task": "segmentation", "model.name": "unet"}
    segmentation = TrialConfig().override(words)
    with pytest.raises(
        ConfigError, match="--objective corruption_accuracy cannot be used for segmentation: its "
    ):
        changed(
            experiment, base=segmentation, objectives=("val_iou", "corruption_accuracy"), space=ONE
        )
    folds = experiment.base.override({"data.folds": 3})
    with pytest.raises(
        ConfigError, match="--objective corruption_accuracy cannot be combined with --folds 3"
    ):
        changed(experiment, base=folds, objectives=ROBUST)


def test_at_a_rung_values_of_the_same_epoch_are_compared() -> None:
    """Robustness grows with the epochs: that of an older trial must not beat a younger one."""
    asha = Asha(Setting(16))
    for trial, last in (("old", 16), ("young", 1)):
        asha.begin(trial, {}, trial)
        for epoch in range(1, last + 1):
            robustness = 0.2 + epoch / 100 + (0.05 if trial == "young" else 0)
            asha.cost(trial, (-robustness,))
            if asha.on_epoch(trial, epoch, 0.5 + epoch / 100) and epoch < last:
                asha.go_on(trial)
    assert asha.standings.places[0, :2].tolist() == [2.0, 1.0]
    assert asha.standings.costs[0, :, 0].tolist() == pytest.approx(
        [-0.2 - epoch / 100 for epoch in (*asha.rungs, 16)]
    )


def test_the_sampler_compares_robustness_at_the_epoch_at_which_it_compares_accuracy() -> None:
    bayes = Bayes(SearchSpace({"optimizer.lr": Float(1e-4, 1, log=True)}), 0)
    bayes.ask("t0001")
    for epoch in (1, 2, 3):
        bayes.report("t0001", epoch, epoch / 10)
        bayes.cost("t0001", (-epoch / 20,))
    history = bayes.histories["t0001"]
    assert [history.costs_at(epoch) for epoch in (0, 1, 2, 9)] == [
        (-0.05,),
        (-0.05,),
        (-0.1,),
        (-0.15,),
    ]


@pytest.mark.promise
@pytest.mark.slow
def test_a_real_search_finds_networks_of_several_sizes(
    tmp_path: Path, inline: Inline, call: Command
) -> None:
    words = [
        "--space",
        "table3",
        "--trials",
        10,
        "--max-epochs",
        3,
        "--seed",
        1,
        "--set",
        "data.train_limit=400",
        "--name",
        "small",
    ]
    done, summary = inline("run", *words, "--objective", "val_accuracy,latency,parameters")
    assert done.returncode == 0, done.stderr
    assert "the Pareto front" in done.stderr
    accuracies, latencies = (
        [one[name] for one in summary["front"]] for name in ("val_accuracy", "latency")
    )
    assert summary["front"][0]["trial_id"] == summary["best"]["trial_id"]
    assert accuracies == sorted(accuracies, reverse=True)
    result = SearchResult.read((tmp_path / summary["journal"]).parent)
    assert len(summary["front"]) > 1
    assert all(trial.costed["parameters"] for trial in result.trials.values() if trial.epochs)
    assert min(latencies) == min(
        objective_value("latency", cost) or 0 for cost in result.costs.values()
    )
    assert {run.data.tags["search.trial"] for run in children_of(summary, tmp_path)} == metrics_of(
        summary, tmp_path
    ).keys()
    page = (tmp_path / "searches" / "small" / "report.html").read_text()
    assert "The Pareto front" in page
    assert "Validation accuracy against the number of weights" in page
    refused = call("search.refine", "small")
    assert refused.returncode == 5
    assert (
        "'small' has the objectives val_accuracy, latency, parameters, but a refinement can "
        "optimize only accuracy."
    ) in refused.stderr
