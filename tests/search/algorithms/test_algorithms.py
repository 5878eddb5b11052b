from collections import Counter
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from search.algorithms.bayes import Bayes, Gaussian
from search.algorithms.registry import ALGORITHMS
from search.schedulers.base import Expected
from search.space import Choice, Float, Int, SearchSpace
from search.spaces.find import find
from trainables.values import Params


def asked(name: str, space: SearchSpace, seed: int, count: int) -> list[Params]:
    """Params of `count` trials, each told as completed with a value that likes a low rate."""
    algorithm = ALGORITHMS[name](space, seed)
    found = []
    for number in range(count):
        params = algorithm.ask(f"t{number}")
        assert params is not None
        found.append(params)
        algorithm.report(f"t{number}", 1, 0.5)
        algorithm.tell(f"t{number}", "completed", 1 - params.get("optimizer.lr", 0))
    return found


@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_same_seed_proposes_the_same(name: str) -> None:
    space = find("table3")
    assert asked(name, space, 1, 14) == asked(name, space, 1, 14)
    assert asked(name, space, 1, 14) != asked(name, space, 2, 14)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_conditional_parameters_exist_only_under_their_condition(name: str) -> None:
    space = SearchSpace(
        {
            "optimizer.name": Choice("adam", "sgd"),
            "optimizer.momentum": Choice(0.5, 0.7, 0.9, when={"optimizer.name": "sgd"}),
            "batch_size": Choice(16, 32, 64),
        }
    )
    found = asked(name, space, 0, 12)
    assert {params["optimizer.name"] for params in found} == {"adam", "sgd"}
    assert all(
        ("optimizer.momentum" in params) == (params["optimizer.name"] == "sgd") for params in found
    )


@pytest.mark.parametrize("name", ["bayes", pytest.param("gp", marks=pytest.mark.slow), "random"])
def test_values_lie_in_their_ranges(name: str) -> None:
    space = SearchSpace(
        {"optimizer.lr": Float(1e-3, 1e-1, log=True), "model.dropout": Float(0.0, 0.5)}
    )
    for params in asked(name, space, 0, 30):
        assert 1e-3 <= params["optimizer.lr"] <= 1e-1
        assert 0 <= params["model.dropout"] <= 0.5


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_countable_space_is_visited_once_and_then_used_up(name: str) -> None:
    space = find("table3").fixed({"model.layers": 5, "model.filter_size": 3})
    algorithm = ALGORITHMS[name](space, 0)
    found = [algorithm.ask(f"t{number}") for number in range(space.size + 1)]
    assert found[-1] is None
    assert Counter(map(str, found[:-1])) == Counter(map(str, space.points()))


def test_suggestions_of_random_do_not_depend_on_what_it_hears() -> None:
    space = find("table3")
    deaf = ALGORITHMS["random"](space, 3)
    assert asked("random", space, 3, 10) == [deaf.ask(f"t{number}") for number in range(10)]


@pytest.mark.parametrize("name", ["bayes", pytest.param("gp", marks=pytest.mark.slow)])
def test_bayes_learns(name: str) -> None:
    """After its random start it proposes better than chance."""
    found = asked(name, SearchSpace({"optimizer.lr": Float(0.001, 1.0)}), 0, 40)
    start, later = found[:10], found[25:]
    assert sum(params["optimizer.lr"] for params in later) / len(later) < 0.5 * sum(
        params["optimizer.lr"] for params in start
    ) / len(start)


def test_bayes_tells_optuna_the_truth(tmp_path: Path) -> None:
    bayes = Bayes(find("mnist_cnn"), 0)
    for trial, outcome in (
        ("a", "completed"),
        ("b", "stopped"),
        ("c", "diverged"),
        ("d", "failed"),
    ):
        bayes.ask(trial)
        if outcome in ("completed", "stopped"):
            bayes.report(trial, 1, 0.3)
            bayes.report(trial, 2, 0.6)
        bayes.tell(trial, outcome, 0.6 if outcome in ("completed", "stopped") else None)
    folder = tmp_path / "mine"
    folder.mkdir()
    bayes.save(folder)
    copy = optuna.load_study(
        study_name="mine", storage=JournalStorage(JournalFileBackend(str(folder / "optuna.log")))
    )
    assert [trial.state for trial in copy.trials] == [
        TrialState.COMPLETE,
        TrialState.PRUNED,
        TrialState.FAIL,
        TrialState.FAIL,
    ]
    assert copy.trials[0].value == 0.6
    assert copy.trials[1].intermediate_values == {1: 0.3, 2: 0.6}
    assert [trial.user_attrs["trial"] for trial in copy.trials] == ["a", "b", "c", "d"]


def test_bayes_compares_values_at_the_epoch_that_enough_trials_reached() -> None:
    """Twelve came to epoch 4, one was held at 2, one ended there, one diverged, one failed, one
    runs; what is compared are values at epoch 4.
    """
    bayes = Bayes(SearchSpace({"optimizer.lr": Float(0.001, 1.0)}), 0)
    for number in range(17):
        bayes.ask(f"t{number}")
        epochs = {12: 2, 13: 2, 14: 1, 15: 1, 16: 0}.get(number, 8 if number == 0 else 4)
        for epoch in range(1, epochs + 1):
            bayes.report(f"t{number}", epoch, number / 100 + epoch / 10)
    bayes.tell("t13", "completed", 0.33)
    bayes.tell("t14", "diverged", None)
    bayes.tell("t15", "failed", None)
    learned = bayes._study().trials
    assert [trial.value for trial in learned[:12]] == pytest.approx(
        [number / 100 + 0.4 for number in range(12)]
    )
    assert {trial.state for trial in learned[:12]} == {TrialState.COMPLETE}
    assert [trial.state for trial in learned[12:]] == [
        TrialState.PRUNED,
        TrialState.COMPLETE,
        TrialState.PRUNED,
        TrialState.FAIL,
        TrialState.RUNNING,
    ]
    assert learned[12].intermediate_values == pytest.approx({1: 0.22, 2: 0.32}), (
        "held: by how far it came, and its value there"
    )
    assert learned[13].value == 0.33, "what ended before counts with what it came to"
    assert learned[14].intermediate_values == {}, "diverged: behind all"


def test_beside_fits_of_one_epoch_trainings_count_with_their_best_so_far() -> None:
    """Eleven fits; a training of four epochs that is the best at its end, and one at a rung."""
    bayes = Bayes(SearchSpace({"model.name": Choice("svm", "deep_cnn"), "seed": Int(0, 10**6)}), 0)
    for number in range(13):
        bayes.ask(f"t{number}")
        for epoch in range(1, {11: 4, 12: 2}.get(number, 1) + 1):
            bayes.report(f"t{number}", epoch, 0.7 if number < 11 else 0.2 * epoch)
        if number < 12:
            bayes.tell(f"t{number}", "completed", 0.7 if number < 11 else 0.8)
    values = [trial.value for trial in bayes._study().trials]
    assert values == pytest.approx([*[0.7] * 11, 0.8, 0.4])


def test_a_gaussian_process_learns_forecasts_of_held_trials_and_least_of_diverged() -> None:
    gp = Gaussian(SearchSpace({"optimizer.lr": Float(0.001, 1.0)}), 0)
    for number in range(15):
        gp.ask(f"t{number}")
        for epoch in range(1, {12: 2, 13: 1, 14: 0}.get(number, 4) + 1):
            gp.report(f"t{number}", epoch, number / 100 + epoch / 10)
    gp.tell("t13", "diverged", None)
    learned = gp._study().trials
    assert [trial.state for trial in learned] == [TrialState.COMPLETE] * 14 + [TrialState.RUNNING]
    assert learned[11].value == pytest.approx(0.51)
    assert learned[12].value == pytest.approx(0.51), (
        "0.32, and 0.2 as the others gained from there, but not better than all"
    )
    assert learned[13].value == pytest.approx(0.4)


@pytest.mark.parametrize("algorithm", [Bayes, Gaussian])
def test_a_trial_that_was_stopped_counts_with_what_it_may_come_to(algorithm: type[Bayes]) -> None:
    """Drawn anew for each proposal; one that has ended, or diverged, is what it is."""
    model = algorithm(SearchSpace({"optimizer.lr": Float(0.001, 1.0)}), 0)
    for number, outcome in enumerate(("completed", "stopped", "", "diverged")):
        model.ask(f"t{number}")
        model.report(f"t{number}", 1, 0.5)
        model.tell(f"t{number}", outcome, 0.5 if outcome == "completed" else None)
    model.expect({f"t{number}": Expected(0.8, 0.01, 5.0) for number in range(4)})
    first = [trial.value for trial in model._study().trials]
    assert first == [trial.value for trial in model._study().trials], "a function of what was heard"
    model.ask("t4")
    then = [trial.value for trial in model._study().trials]
    assert first[0] == then[0] == 0.5
    assert first[1:3] == pytest.approx([0.8, 0.8], abs=0.06)
    assert not set(first[1:3]) & set(then[1:3])
    assert first[3] == (0.5 if algorithm is Gaussian else None)


@pytest.mark.parametrize("algorithm", [Bayes, Gaussian])
def test_every_third_proposal_is_drawn_at_random_where_ends_are_only_expected(
    algorithm: type[Bayes],
) -> None:
    """All that is expected to be good is in one corner: what is proposed by it stays there, and
    chance goes elsewhere. Points that are given come first.
    """
    space = SearchSpace({"optimizer.lr": Float(0.0, 1.0)}, first=({"optimizer.lr": 0.3},) * 3)
    found: dict[bool, list[float]] = {}
    for is_expected in (True, False):
        model, found[is_expected] = algorithm(space, 0), []
        for number in range(24):
            model.expect(
                {
                    name: Expected(history.at(1), 0.001, 5.0)
                    for name, history in model.histories.items()
                }
                if is_expected
                else {}
            )
            params = model.ask(f"t{number}")
            assert params is not None
            rate = float(params["optimizer.lr"])
            found[is_expected].append(rate)
            model.report(f"t{number}", 1, 0.9 - rate)
            model.tell(f"t{number}", "stopped" if is_expected else "completed", 0.9 - rate)
    assert found[True][0] == found[False][0] == 0.3
    chance = [found[True][number] for number in range(11, 24, 3)]
    assert chance == [
        space.sample(np.random.default_rng([0, number]))["optimizer.lr"]
        for number in range(11, 24, 3)
    ]
    assert np.mean(chance) > 2 * np.mean(
        [rate for number, rate in enumerate(found[True]) if number > 11 and number % 3 != 2]
    )
    assert np.mean(found[False][12:]) < 0.5 * np.mean(chance), "trials that have ended are believed"


@pytest.mark.parametrize("there", [b"", b"torn", None])
def test_the_study_is_written_anew_each_time(tmp_path: Path, there: bytes | None) -> None:
    algorithm = Bayes(find("smoke"), 0)
    algorithm.ask("t0001")
    if there is None:
        algorithm.save(tmp_path)
    else:
        (tmp_path / "optuna.log").write_bytes(there)
        (tmp_path / ".optuna.log.partial").write_bytes(there)
    algorithm.tell("t0001", "completed", 0.5)
    algorithm.save(tmp_path)
    (study,) = optuna.get_all_study_summaries(
        JournalStorage(JournalFileBackend(str(tmp_path / "optuna.log")))
    )
    assert study.best_trial is not None
    assert study.best_trial.value == 0.5
    assert [path.name for path in tmp_path.iterdir()] == ["optuna.log"]
