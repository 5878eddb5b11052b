"""Reuse of trainings: nothing is trained twice, and all results are as if it were.

Real trainings run behind a driver, without Ray.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cluster.runtime.resources import Demand
from cluster.storage.bucket import Bucket
from search.decisions import earlier_searches as reading
from search.decisions.driver import Driver
from search.decisions.earlier_searches import FUSED, EarlierSearches
from search.decisions.shared_trainings import Relatives
from search.design.experiment import Experiment, base_of
from search.journal import provenance
from search.journal.events import Paused, Resumed, Started
from search.journal.journal import Journal, read
from search.journal.result import SearchResult, checkpoint_of
from search.journal.store import Storage
from search.operations.run import experiment_of
from search.run import parse_options
from search.sessions.estimate import _grid
from search.space import Choice, Int, SearchSpace
from search.spaces.find import find
from search.views.text.sentences import taken_over_text
from tests.support.played import (
    OpenDriver,
    changed,
    decisions,
    play,
    reopened,
    report,
    started_event,
)
from tests.support.stories import story_lines
from trainables import trial as training_a_trial
from trainables.checkpoints import checkpoint
from trainables.config import TrialConfig
from trainables.datasets.arrays import Dataset
from trainables.datasets.load import load
from trainables.messages import Report, WarmStart, WarmStartSource
from trainables.trial import run_trial

SMALL = {
    "model.name": "deep_cnn",
    "model.layers": 3,
    "model.width": 2,
    "data.train_limit": 100,
    "batch_size": 50,
}
Curves = dict[str, tuple[str, list[dict[str, float]]]]
Trained = list[tuple[float, int]]


@pytest.fixture
def small(tmp_path: Path) -> Experiment:
    """Two learning rates, trained for 1, 2 and 3 epochs."""
    space = SearchSpace(
        {"optimizer.lr": Choice(0.001, 0.01), "epochs": Choice(1, 2, 3)}, base=SMALL
    )
    base = TrialConfig().override(space.base)
    return Experiment(
        name="one",
        space_name="small",
        space=space,
        base=base,
        algorithm="grid",
        scheduler="fifo",
        storage=tmp_path / "searches",
    )


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> Trained:
    """The epochs that are really trained, as they are: learning rate and number."""
    epochs: Trained = []

    class Counted(training_a_trial.Training):
        def next_epoch(self) -> Any:
            epochs.append((self.config.optimizer.lr, self.epoch + 1))
            return super().next_epoch()

    monkeypatch.setattr(training_a_trial, "Training", Counted)
    return epochs


def train(driver: Driver, *, slots: int = 1, events: int = 10**6) -> Driver:
    """Play a driver to its end, like `play`, with real trainings in the trials' folders."""
    dataset = load(driver.experiment.base.data).sealed
    running: dict[str, Iterator[Report]] = {}
    while True:
        while len(running) < slots and (suggestion := driver.suggest()) is not None:
            trial, config = suggestion
            folder, request = driver.experiment.trial_folder(trial), driver.handout(trial, config)
            driver.running(trial, host="here")
            running[trial] = run_trial(config, dataset, folder, request)
        if not running:
            driver.finish()
            return driver
        if driver.journal.number >= events:
            return driver
        for trial, reports in list(running.items()):
            if driver.report(trial, next(reports)):
                del running[trial]


@pytest.fixture
def search(tmp_path: Path) -> Iterator[Callable[..., Driver]]:
    """Return a function that runs a search with real trainings to its end.

    Its journal is like the real one's; `cache` lets it look at other searches of the same storage.
    """
    journals = []

    def whole(
        experiment: Experiment,
        *,
        cache: bool = True,
        slots: int = 1,
        fused: bool = False,
        heeds: bool = True,
    ) -> Driver:
        dataset = load(experiment.base.data)
        earlier = EarlierSearches(experiment, dataset, is_enabled=cache).with_fusion(
            fused=fused, say=lambda line: None
        )
        journal = Journal(experiment.folder)
        journals.append(journal)
        driver = Driver(experiment, journal)
        relatives: Relatives = driver.policy.relatives  # type: ignore[attr-defined]
        relatives.earlier = earlier
        if not heeds:
            nothing: dict[str, Any] = {
                "must_wait": lambda *given: False,
                "beginnings": lambda *given: [],
                "milestones": lambda *given: [],
            }
            vars(relatives).update(nothing)
        journal.append(
            Started(
                name=experiment.name,
                experiment=experiment.describe(),
                training=earlier.training,
                **started_event(),
            )
        )
        return train(driver, slots=slots)

    yield whole
    for journal in journals:
        journal.close()


def curves(result: SearchResult) -> Curves:
    """Outcome and metrics of every trial, by its params, without the times."""
    return {
        str(trial.params): (
            trial.outcome,
            [
                {name: value for name, value in metrics.items() if name != "time/epoch_s"}
                for metrics in trial.epochs.values()
            ],
        )
        for trial in result.trials.values()
    }


def unfolded(search: Callable[..., Driver], experiment: Experiment) -> Driver:
    """Run the same search as if there were no relatives."""
    assert isinstance(experiment.storage, Path)
    return search(
        changed(experiment, storage=experiment.storage / "unfolded"), cache=False, heeds=False
    )


@pytest.mark.parametrize("slots", [1, 2])
@pytest.mark.parametrize("algorithm", ["grid", "random"])
def test_a_folded_search_equals_the_unfolded_one_for_half_the_epochs(
    algorithm: str, slots: int, small: Experiment, search: Callable[..., Driver], trained: Trained
) -> None:
    """In a grid each length goes on from the shorter one.

    At random, a shorter one may come later, and takes the epochs that the longer one had by then.
    """
    expected = unfolded(search, changed(small, algorithm=algorithm)).result
    assert len(trained) == expected.epochs_trained == 2 * (1 + 2 + 3)
    trained.clear()
    folded = search(changed(small, algorithm=algorithm), slots=slots).result
    assert curves(folded) == curves(expected)
    assert sorted(trained) == [(rate, epoch) for rate in (0.001, 0.01) for epoch in (1, 2, 3)], (
        "each epoch of each training once"
    )
    assert folded.epochs_trained == 6
    assert sum(epochs for _, epochs in folded.reused_epochs.values()) == 6
    assert folded == SearchResult.read(small.folder)
    for trial in folded.trials.values():
        about = checkpoint.read_extra(checkpoint_of(trial, small.folder))
        assert about["metrics"] == trial.best, "what it is evaluated by is there"


def test_a_second_search_of_the_same_trains_nothing_and_finds_the_same(
    small: Experiment, search: Callable[..., Driver], trained: Trained
) -> None:
    first = search(small).result
    trained.clear()
    second = search(changed(small, name="two", algorithm="random", seed=5), slots=2).result
    assert trained == []
    assert curves(second) == curves(first)
    assert (second.epochs_trained, second.train_s) == (0, 0)
    assert second.reused_epochs == {"one": (6, 12)}
    assert taken_over_text(second) == "reused 12 epochs (6 trials) of 'one'"
    events = read(small.storage / "two" / "journal.jsonl")  # type: ignore[operator]
    assert any("of 'one' had trained it" in line for line in story_lines(events, "t0001"))
    assert search(changed(small, name="three")).result.epochs_trained == 0, (
        "and a third may take it from the second"
    )


def test_a_longer_one_goes_on_from_what_was_trained_before(
    small: Experiment, search: Callable[..., Driver], trained: Trained
) -> None:
    search(small)
    longer = changed(
        small,
        name="longer",
        space=small.space.fixed({"epochs": 5}),
        base=small.base.override({"epochs": 5}),
    )
    expected = unfolded(search, longer).result
    trained.clear()
    assert curves(search(longer).result) == curves(expected)
    assert sorted(trained) == [(rate, epoch) for rate in (0.001, 0.01) for epoch in (4, 5)]


def test_where_trials_wait_at_rungs_what_is_known_is_heard_to_its_end(
    small: Experiment, search: Callable[..., Driver], trained: Trained
) -> None:
    """The checkpoint of each trial's best epoch is there.

    That holds also for those that are stopped after epochs that others had trained.
    """
    rates = SearchSpace(
        {"optimizer.lr": Choice(*(10**-number for number in range(1, 9)))},
        base={**SMALL, "epochs": 5},
    )
    first = search(changed(small, space=rates, base=small.base.override({"epochs": 5}))).result
    trained.clear()
    longer = changed(
        small,
        name="two",
        scheduler="asha",
        space=rates.fixed({"epochs": 20}),
        base=small.base.override({"epochs": 20}),
    )
    second = search(longer).result
    assert "stopped" in second.counts
    assert len(trained) < 8 * 15
    assert all(epoch > 5 for _, epoch in trained)
    for trial in second.trials.values():
        before = next(one for one in first.trials.values() if one.params == trial.params)
        assert before.epochs.items() <= trial.epochs.items()
        assert checkpoint.read_extra(checkpoint_of(trial, longer.folder))["metrics"] == trial.best


def with_data(monkeypatch: pytest.MonkeyPatch) -> None:
    read_data = reading.training_fingerprint
    monkeypatch.setattr(
        reading, "training_fingerprint", lambda **about: read_data(**about | {"data": "f00d"})
    )


def with_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "TRAINING", ("trainables/training/l*.py",))


def with_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = provenance.version
    monkeypatch.setattr(
        provenance, "version", lambda name: "0.1" if name == "torch" else installed(name)
    )


def with_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "CPUS", Path("/nowhere"))


@pytest.mark.parametrize("change", [with_data, with_code, with_torch, with_machine])
def test_another_fingerprint_is_another_training(
    change: Callable[..., None], small: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = load(small.base.data)
    before = reading.training_of(small, dataset)
    assert reading.training_of(changed(small, name="two", seed=9), dataset) == before
    change(monkeypatch)
    assert reading.training_of(small, dataset) != before


@pytest.mark.parametrize("demand", [Demand(cpus=2), Demand(workers=2)])
def test_so_are_more_threads_or_workers(demand: Demand, small: Experiment) -> None:
    dataset = load(small.base.data)
    assert reading.training_of(changed(small, demand=demand), dataset) != reading.training_of(
        small, dataset
    )


def test_what_was_trained_in_another_way_is_trained_anew(
    small: Experiment,
    search: Callable[..., Driver],
    trained: Trained,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    search(small)
    trained.clear()
    result = search(changed(small, name="two", base=small.base.override({"seed": 1}))).result
    assert len(trained) == result.epochs_trained == 6
    assert result.reused_epochs.keys() == {"two"}
    with_code(monkeypatch)
    search(changed(small, name="three"))
    assert len(trained) == 12


def test_without_the_cache_all_is_trained(
    small: Experiment, search: Callable[..., Driver], trained: Trained
) -> None:
    first = search(small).result
    trained.clear()
    again = search(changed(small, name="two"), cache=False).result
    assert len(trained) == 6
    assert curves(again) == curves(first)


def test_fused_trials_are_rounded_in_another_way(
    small: Experiment, search: Callable[..., Driver], trained: Trained
) -> None:
    search(small, fused=True)
    trained.clear()
    search(changed(small, name="two"))
    assert len(trained) == 6
    trained.clear()
    search(changed(small, name="three"), fused=True)
    assert trained == []


def test_a_damaged_checkpoint_is_trained_again_and_the_result_is_the_same(
    small: Experiment, search: Callable[..., Driver], trained: Trained
) -> None:
    first = search(small).result
    for path in small.folder.glob("trials/*/epoch-*/model.safetensors"):
        os.truncate(path, 10)
    trained.clear()
    second = search(changed(small, name="two"))
    assert curves(second.result) == curves(first)
    assert len(trained) == 6
    told = [event.data for event in read(second.journal.path) if event.kind == "restored"]
    assert any(
        "of 'one': " in line and "is damaged" in line for event in told for line in event.damaged
    )
    assert second.result.reused_epochs.keys() == {"two"}


def test_trials_whose_folders_are_gone_are_trained_again(
    small: Experiment, search: Callable[..., Driver], trained: Trained
) -> None:
    search(small)
    for path in small.folder.glob("trials/*"):
        path.rename(path.with_name(f"{path.name}-gone"))
    trained.clear()
    assert search(changed(small, name="two")).result.counts == {"completed": 6}
    assert len(trained) == 6


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def test_a_journal_that_makes_no_sense_is_passed_over(
    small: Experiment, search: Callable[..., Driver], trained: Trained
) -> None:
    path = search(small).journal.path
    first, *rest = lines_of(path)
    path.write_bytes(first + b"\x00{]\n" * 9 + b"".join(rest)[:-30])
    trained.clear()
    assert search(changed(small, name="two")).result.counts == {"completed": 6}


def test_a_search_that_went_on_with_other_code_is_not_taken_from(
    small: Experiment, search: Callable[..., Driver], trained: Trained
) -> None:
    driver = search(small)
    driver.journal.append(Resumed(training="0" * 16, slots=1, began_ms=0))
    trained.clear()
    search(changed(small, name="two"))
    assert len(trained) == 6


@pytest.mark.parametrize("slots", [1, 2])
def test_a_search_that_was_cut_off_goes_on_to_the_same_end_and_trains_nothing_twice(
    slots: int,
    small: Experiment,
    search: Callable[..., Driver],
    trained: Trained,
    open_driver: OpenDriver,
) -> None:
    expected = search(small).result
    for events in range(2, len(lines_of(small.folder / "journal.jsonl")), 13):
        trained.clear()
        cut = train(open_driver(changed(small, name=f"cut{events}")), slots=slots, events=events)
        again = train(reopened(cut), slots=slots)
        assert curves(again.result) == curves(expected)
        assert again.result.epochs_trained == len(trained) == len({*trained}) == 6


def test_where_the_checkpoints_are_gone_what_is_missing_is_trained(
    small: Experiment, search: Callable[..., Driver], open_driver: OpenDriver
) -> None:
    """Cut off after a line of the journal, and no folder of a trial is there."""
    expected = search(small).result
    lines = lines_of(small.folder / "journal.jsonl")
    for count in range(2, len(lines), 12):
        cut = open_driver(changed(small, name=f"cut{count}"))
        cut.journal.path.write_bytes(b"".join(lines[:count]))
        assert curves(train(reopened(cut)).result) == curves(expected), lines[count - 1]


@pytest.fixture
def lengths(experiment: Experiment) -> Experiment:
    """Nine configurations, three trainings."""
    return changed(
        experiment,
        space=replace(experiment.space, base={"model.name": "deep_cnn"}),
        base=TrialConfig(),
    )


@pytest.mark.parametrize(
    "algorithm",
    ["bayes", *(pytest.param(name, marks=pytest.mark.slow) for name in ("grid", "random"))],
)
def test_a_search_cut_off_between_two_lines_goes_on_as_if_it_had_not_been(
    open_driver: OpenDriver, lengths: Experiment, algorithm: str
) -> None:
    search = changed(lengths, algorithm=algorithm, scheduler="asha", trials=9, seed=3)
    undisturbed = play(open_driver(changed(search, name="undisturbed")))
    lines = lines_of(undisturbed.journal.path)
    for count in range(1, len(lines), 2):
        cut = open_driver(changed(search, name=f"cut{count}"))
        cut.journal.path.write_bytes(b"".join(lines[:count]))
        again = play(reopened(cut))
        assert decisions(again.experiment) == decisions(undisturbed.experiment), lines[count - 1]


@pytest.mark.parametrize("heard", [2, 4])
def test_one_that_took_over_epochs_and_is_paused_at_a_rung_is_handed_out_once(
    open_driver: OpenDriver, lengths: Experiment, heard: int
) -> None:
    """It may be cut off in the midst of the epochs that it took over.

    Or it has trained on to the rung by itself.
    """
    space = SearchSpace(
        {"optimizer.lr": Choice(0.1)}, base={"model.name": "deep_cnn", "epochs": 16}
    )
    driver = open_driver(
        changed(lengths, space=space, base=TrialConfig().override(space.base), scheduler="asha"),
        slots=2,
    )
    trial, _ = asked(driver)
    driver.running(trial)
    begun = WarmStart("earlier", "t0001", 3)
    driver.report(trial, Report(3, restored=[], begun=begun, more=True))
    for epoch in range(1, heard):
        driver.report(trial, replace(report(epoch, 0.5), more=epoch < 3))
    driver.close("interrupted", "Ctrl-C")
    driver.report(trial, report(heard, 0.6))
    driver.finish()
    again = reopened(driver, slots=2)
    assert [
        suggestion[0] if (suggestion := again.suggest()) is not None else None for _ in range(2)
    ] == [trial, None]
    assert not again.policy.scheduler.standings.waits.any()  # type: ignore[attr-defined]


def asked(driver: Driver) -> tuple[str, int]:
    """The trial that is handed out, and its epochs."""
    suggestion = driver.suggest()
    assert suggestion is not None
    return suggestion[0], suggestion[1].epochs


def test_a_longer_one_waits_for_the_shorter_one_and_others_go_before_it(
    open_driver: OpenDriver, lengths: Experiment
) -> None:
    driver = open_driver(lengths, slots=4)
    handed = [asked(driver) for _ in range(3)]
    assert handed == [("t0001", 3), ("t0004", 3), ("t0007", 3)]
    assert driver.suggest() is None, "all others wait"
    assert not driver.over
    assert driver.outstanding == 9
    for epoch in (1, 2, 3):
        driver.report("t0001", report(epoch, outcome="completed" if epoch == 3 else None))
    assert asked(driver) == ("t0002", 6)
    (first,) = driver.policy.beginnings("t0002")
    assert first == WarmStartSource("played", "t0001", str(lengths.trial_folder("t0001")), 3)
    assert driver.suggest() is None, "the longest waits for the second"


def test_a_shorter_one_waits_until_the_longer_one_has_come_by(
    open_driver: OpenDriver, lengths: Experiment
) -> None:
    driver = open_driver(
        changed(lengths, algorithm="random", space=lengths.space.fixed({"optimizer.lr": 0.1})),
        slots=2,
    )
    points = iter([{"epochs": 9}, {"epochs": 3}])
    driver.policy.algorithm.ask = lambda trial: next(points, None)  # type: ignore[method-assign]
    trial, epochs = asked(driver)
    assert (epochs, driver.policy.milestones(driver.experiment.config({"epochs": 9}))) == (
        9,
        [3, 6],
    )
    for epoch in (1, 2, 3):
        assert driver.suggest() is None
        driver.report(trial, report(epoch))
    assert asked(driver) == ("t0002", 3)


def test_who_is_to_be_tried_again_goes_before_the_longer_ones(
    open_driver: OpenDriver, lengths: Experiment
) -> None:
    driver = open_driver(
        changed(lengths, space=lengths.space.fixed({"optimizer.lr": 0.1})), slots=2
    )
    trial, _ = asked(driver)
    assert driver.suggest() is None
    driver.running(trial)
    driver.fail(trial, "lost", "its process died")
    assert asked(driver) == ("t0001", 3)


def test_a_paused_relative_is_not_waited_for(open_driver: OpenDriver, lengths: Experiment) -> None:
    """The trial that comes first trains on; the other begins there when it goes on."""
    driver = open_driver(
        changed(lengths, algorithm="random", space=lengths.space.fixed({"optimizer.lr": 0.1})),
        slots=2,
    )
    points = iter([{"epochs": 6}, {"epochs": 9}])
    driver.policy.algorithm.ask = lambda trial: next(points, None)  # type: ignore[method-assign]
    first, _ = asked(driver)
    driver.running(first)
    driver.report(first, report(1))
    driver.journal.append(Paused(trial=first, epoch=1, reason="by a scheduler"))
    driver.active.discard(first)
    second, _ = asked(driver)
    driver.running(second)
    for epoch in range(1, 5):
        driver.report(second, report(epoch))
    assert [one.epoch for one in driver.policy.beginnings(first)] == [4]


def test_after_a_change_of_code_nothing_is_taken_over_from_before(
    open_driver: OpenDriver, lengths: Experiment
) -> None:
    driver = open_driver(changed(lengths, space=lengths.space.fixed({"optimizer.lr": 0.1})))
    first, _ = asked(driver)
    driver.running(first)
    for epoch in (1, 2, 3):
        driver.report(first, report(epoch, outcome="completed" if epoch == 3 else None))
    second, _ = asked(driver)
    assert len(driver.policy.beginnings(second)) == 1
    driver.journal.append(Resumed(training="0" * 16, slots=1, began_ms=0))
    assert driver.policy.beginnings(second) == []


def test_not_more_wait_than_is_good_for_who_proposes(
    open_driver: OpenDriver, lengths: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search.decisions.driver.MAX_WAITING", 5)
    space = SearchSpace({"epochs": Int(1, 1000)}, base={"model.name": "deep_cnn"})
    driver = open_driver(changed(lengths, space=space), slots=2)
    asked(driver)
    assert driver.suggest() is None
    assert len(driver.pending) == 7
    assert driver.policy.milestones(driver.experiment.config({"epochs": 1000})) == []


def test_copied_epochs_count_once(open_driver: OpenDriver, lengths: Experiment) -> None:
    driver = open_driver(changed(lengths, space=lengths.space.fixed({"optimizer.lr": 0.1})))
    first, _ = asked(driver)
    for epoch in (1, 2, 3):
        driver.report(first, report(epoch, outcome="completed" if epoch == 3 else None))
    trial, _ = asked(driver)
    begun = WarmStart("played", "t0001", 3)
    driver.report(trial, Report(3, restored=[], begun=begun))
    for epoch in (1, 2, 3, 4):
        driver.report(trial, report(epoch))
    known = driver.trials[trial]
    assert list(known.own_epochs) == [4]
    assert len(known.epochs) == 4
    assert driver.result.reused_epochs == {"played": (1, 3)}
    assert (driver.result.epochs_trained, driver.result.train_s) == (4, 4 * 0.25)


def test_table_iii_is_2430_epochs() -> None:
    space = find("table3")
    whole = Experiment(
        name="s",
        space_name="table3",
        space=space,
        base=TrialConfig(),
        algorithm="grid",
        scheduler="fifo",
        storage=Path("searches"),
    )
    assert (whole.planned_trials, whole.horizon) == (243, 30)
    assert sum(config.epochs for config in _grid(whole)) == 2430
    cosine = changed(whole, base=TrialConfig().override({"optimizer.schedule": "cosine"}))
    assert sum(config.epochs for config in _grid(cosine)) == 4860


def test_a_bucket_is_looked_through_too(bucket: Bucket, small: Experiment) -> None:
    dataset = load(small.base.data)
    for name, kind in (("one", ""), ("other", FUSED)):
        known = changed(small, name=name, storage=bucket)
        journal, _ = known.home.journal(new=True)
        driver = Driver(known, journal)
        journal.append(
            Started(
                name=name,
                experiment=known.describe(),
                training=EarlierSearches(known, dataset, is_enabled=False).training + kind,
                **started_event(),
            )
        )
        play(driver)
        journal.close()
    mine: Storage = bucket
    said: list[str] = []
    earlier = EarlierSearches(changed(small, name="mine", storage=mine), dataset).with_fusion(
        fused=False, say=said.append
    )
    assert earlier.searches == ["one"]
    assert "earlier searches (one) with the same code" in said[0]
    stems = {event.data.stem for event in read(driver.journal.path) if event.kind == "suggested"}
    found = [one for stem in stems for one in earlier.of(stem, 2, 4)]
    assert [one.epoch for one in found] == 2 * [2, 3, 1], "the nearest first"
    assert {one.folder for one in found} >= {f"{bucket}/one/trials/t0001"}
    assert found[0].mirror is not None


def test_what_cannot_be_of_this_search_is_not_named(small: Experiment) -> None:
    dataset = load(small.base.data)
    known = changed(small, name="known")
    journal = Journal(known.folder)
    driver = Driver(known, journal)
    journal.append(
        Started(
            name="known",
            experiment=known.describe(),
            training=EarlierSearches(known, dataset, is_enabled=False).training,
            **started_event(),
        )
    )
    play(driver)
    journal.close()
    said: list[str] = []
    EarlierSearches(changed(small, name="mine"), dataset).with_fusion(fused=False, say=said.append)
    assert "earlier searches (known) with the same code" in said[0]
    other = changed(small, name="other", base=small.base.override({"seed": 99}))
    EarlierSearches(other, dataset).with_fusion(fused=False, say=said.append)
    assert len(said) == 1


def test_of_trials_that_begin_with_weights_it_is_not_said_that_earlier_ones_are_used(
    small: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another note says that they are trained again, whatever earlier searches have trained."""
    monkeypatch.setattr(EarlierSearches, "searches", ["known"])
    monkeypatch.setattr(EarlierSearches, "of", lambda self, *given: ["a training"])
    dataset = load(small.base.data)
    said: list[str] = []
    few = {"model.name": Choice("mobilenet_v2", "resnet18"), "batch_size": Choice(16, 32)}
    for space, notes in (
        (find("transfer"), 0),
        (SearchSpace(few, base={"model.pretrained": True}), 0),
        (find("zoo"), 1),
        (SearchSpace(few), 2),
    ):
        base = base_of(TrialConfig(), space)
        experiment = changed(small, space=space, base=base, algorithm="bayes", trials=3)
        EarlierSearches(experiment, dataset).with_fusion(fused=False, say=said.append)
        assert len(said) == notes


def test_a_storage_that_does_not_answer_is_told_and_hinders_nothing(
    small: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> Any:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(reading, "_journals", refuse)
    said: list[str] = []
    dataset: Dataset = load(small.base.data)
    assert (
        EarlierSearches(small, dataset).with_fusion(fused=False, say=said.append).of("0" * 16, 1, 1)
        == []
    )
    assert said == [
        f"note: earlier searches in '{small.storage}' could not be read (Input/output error), "
        "so this search cannot reuse all of their trainings"
    ]


@pytest.mark.parametrize(("words", "cache"), [([], True), (["--no-cache"], False)])
def test_no_cache_is_said_once_and_holds_for_a_resume(words: list[str], cache: bool) -> None:
    given = experiment_of(
        parse_options(["--space", "table3", "--name", "s", "--device", "cpu", *words]).request
    )
    assert given.cache is cache
    assert Experiment.from_description("s", given.describe(), given.storage).cache is cache
