"""A trial that begins with what another has trained is the trial that trains all of it itself, to
the last bit.
"""

import os
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from cluster.storage.mirror import CheckpointMirror
from trainables import trial
from trainables.checkpoints import checkpoint
from trainables.checkpoints.warm_start import BROUGHT
from trainables.messages import TrialRequest, WarmStart, WarmStartSource
from trainables.trial import run_trial


@pytest.fixture
def trained(monkeypatch):
    """The epochs that are really trained, as they are."""
    epochs = []

    class Counted(trial.Training):
        def next_epoch(self):
            epochs.append(self.epoch + 1)
            return super().next_epoch()

    monkeypatch.setattr(trial, "Training", Counted)
    return epochs


def told(reports):
    """What was reported of epochs, without the times."""
    return [
        (
            report.epoch,
            report.outcome,
            report.folds == [],
            {name: value for name, value in report.metrics.items() if name != "time/epoch_s"},
        )
        for report in reports
        if report.metrics
    ]


def weights(folder, epoch):
    return load_file(folder / checkpoint.name(epoch) / "model.safetensors")


def assert_same_checkpoints(folder, fresh, epochs):
    """The last and the best checkpoint hold the same weights and the same history."""
    last = checkpoint.read_extra(fresh / checkpoint.name(epochs))
    for epoch in {epochs, last["best_epoch"]}:
        one, other = weights(folder, epoch), weights(fresh, epoch)
        assert all(torch.equal(one[name], other[name]) for name in {*one, *other})
        histories = [
            checkpoint.read_extra(where / checkpoint.name(epoch))["history"]
            for where in (folder, fresh)
        ]
        for history in histories:
            for metrics in history.values():
                del metrics["time/epoch_s"]
        assert histories[0] == histories[1]


def beginning(folder, epoch, **more):
    return WarmStartSource("other", folder.name, str(folder), epoch, **more)


@pytest.fixture
def compared(make_config, make_dataset, tmp_path, trained):
    """Train `first` epochs of a config, then `second` of them from there, and as many afresh."""

    def compare(first, second, milestones=(), dataset=None, **values):
        config, dataset = (
            make_config(model__dropout=0.3, augment__rotation=10.0, **values),
            dataset or make_dataset(),
        )
        list(
            run_trial(
                config.override({"epochs": first}),
                dataset,
                tmp_path / "t1",
                TrialRequest(milestones=milestones),
            )
        )
        fresh = list(run_trial(config.override({"epochs": second}), dataset, tmp_path / "fresh"))
        trained.clear()
        found = list(
            run_trial(
                config.override({"epochs": second}),
                dataset,
                tmp_path / "t2",
                TrialRequest(beginnings=[beginning(tmp_path / "t1", min(first, second))]),
            )
        )
        assert told(found) == told(fresh)
        assert not list((tmp_path / "t2").glob(f"{BROUGHT}*"))
        return found

    return compare


@pytest.mark.parametrize("schedule", ["constant", "step", "plateau"])
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_longer_one_goes_on_from_the_shorter_ones_end(
    schedule, optimizer, compared, trained, tmp_path
):
    values = {
        "optimizer__schedule": schedule,
        "optimizer__step_epochs": 2,
        "optimizer__patience": 0,
    }
    restored, *_ = compared(3, 5, optimizer__name=optimizer, **values)
    assert (restored.epoch, restored.restored) == (3, [])
    assert restored.begun == WarmStart("other", "t1", 3)
    assert trained == [4, 5]
    assert_same_checkpoints(tmp_path / "t2", tmp_path / "fresh", 5)


def test_a_shorter_one_takes_what_the_longer_one_had_at_that_milestone(compared, trained, tmp_path):
    restored, *_ = compared(6, 3, milestones=[2, 3])
    assert (restored.epoch, restored.begun.epoch) == (3, 3)
    assert trained == []
    assert_same_checkpoints(tmp_path / "t2", tmp_path / "fresh", 3)


def test_a_milestones_best_epoch_is_kept_with_it(make_config, make_dataset, tmp_path, monkeypatch):
    values = [0.9, 0.1, 0.2, 0.3, 0.95, 0.4, 0.5]

    class Scripted(trial.Training):
        def next_epoch(self):
            measured = super().next_epoch()
            return replace(
                measured, values=measured.values | {"val/accuracy": values[measured.epoch - 1]}
            )

    monkeypatch.setattr(trial, "Training", Scripted)
    list(
        run_trial(make_config(epochs=7), make_dataset(), tmp_path, TrialRequest(milestones=[3, 5]))
    )
    assert [int(path.name[-4:]) for path in checkpoint.list_checkpoints(tmp_path)] == [
        1,
        3,
        5,
        6,
        7,
    ]


def test_without_a_milestone_it_takes_what_there_is_and_trains_the_rest(
    compared, trained, tmp_path
):
    compared(9, 3)
    assert trained in ([1, 2, 3], [2, 3], [3], [])
    assert_same_checkpoints(tmp_path / "t2", tmp_path / "fresh", 3)


def test_the_same_one_is_not_trained_at_all(compared, trained, tmp_path):
    restored, *_, last = compared(4, 4)
    assert (restored.epoch, last.outcome) == (4, "completed")
    assert trained == []
    assert_same_checkpoints(tmp_path / "t2", tmp_path / "fresh", 4)


def test_folds_begin_where_the_others_ended(compared, trained, make_dataset, tmp_path):
    dataset = make_dataset()
    restored, *_ = compared(
        2, 3, dataset=replace(dataset, folds=2, val=dataset.train), data__folds=2
    )
    assert restored.begun.epoch == 2
    assert trained == [3, 3]


def test_a_baseline_is_not_fitted_again(make_config, make_dataset, tmp_path, monkeypatch):
    from trainables.baselines import base as fitting

    config, dataset = (
        make_config(model__name="knn", model__width=None, model__dropout=None),
        make_dataset(side=16),
    )
    *_, fitted = run_trial(config, dataset, tmp_path / "t1")
    monkeypatch.setattr(fitting.Fitting, "next_epoch", None, raising=False)
    restored, last = run_trial(
        config, dataset, tmp_path / "t2", TrialRequest(beginnings=[beginning(tmp_path / "t1", 1)])
    )
    assert (restored.epoch, last.outcome, last.metrics) == (1, "completed", fitted.metrics)


@pytest.mark.parametrize(
    "other", [{"seed": 1}, {"optimizer__lr": 0.5}, {"optimizer__schedule": "cosine"}]
)
def test_what_is_no_beginning_of_it_is_not_taken_for_one(
    other, make_config, make_dataset, tmp_path, trained
):
    list(run_trial(make_config(epochs=2, **other), make_dataset(), tmp_path / "t1"))
    trained.clear()
    config = make_config(epochs=3, **({} if "seed" in other or "optimizer__lr" in other else other))
    restored, *_ = run_trial(
        config,
        make_dataset(),
        tmp_path / "t2",
        TrialRequest(beginnings=[beginning(tmp_path / "t1", 2)]),
    )
    assert (restored.epoch, restored.begun) == (0, None)
    assert "t1 of 'other': epoch-0002 belongs to another configuration" in restored.restored
    assert trained == [1, 2, 3]


@pytest.mark.parametrize("file", ["model.safetensors", "state.json", "manifest.json"])
def test_a_damaged_checkpoint_is_passed_over_and_said_so(
    file, make_config, make_dataset, tmp_path, trained
):
    fresh = list(run_trial(make_config(epochs=4), make_dataset(), tmp_path / "t1"))
    (tmp_path / "t1" / "epoch-0004" / file).write_bytes(b"{}")
    trained.clear()
    restored, *rest = run_trial(
        make_config(epochs=4),
        make_dataset(),
        tmp_path / "t2",
        TrialRequest(beginnings=[beginning(tmp_path / "t1", 4)]),
    )
    assert restored.begun is None or restored.begun.epoch < 4
    assert any("epoch-0004" in line for line in restored.restored)
    assert told(rest) == told(fresh)
    assert 4 in trained
    assert not any((tmp_path / "t2").glob(".*")), "nothing of the damaged one is left"


def test_when_the_best_one_is_damaged_the_last_is_not_taken_either(
    make_config, make_dataset, tmp_path, trained, monkeypatch
):
    """A trial without its best checkpoint could not be evaluated."""
    scripted = [0.9, 0.1, 0.1]

    class Scripted(trial.Training):
        def next_epoch(self):
            measured = super().next_epoch()
            return replace(
                measured, values=measured.values | {"val/accuracy": scripted[measured.epoch - 1]}
            )

    monkeypatch.setattr(trial, "Training", Scripted)
    list(run_trial(make_config(epochs=3), make_dataset(), tmp_path / "t1"))
    os.truncate(tmp_path / "t1" / "epoch-0001" / "model.safetensors", 10)
    trained.clear()
    restored, *_ = run_trial(
        make_config(epochs=3),
        make_dataset(),
        tmp_path / "t2",
        TrialRequest(beginnings=[beginning(tmp_path / "t1", 3)]),
    )
    assert restored.epoch == 0
    assert len(restored.restored) == 3
    assert trained == [1, 2, 3]
    checkpoint.verify(tmp_path / "t2" / "epoch-0001")


def test_one_that_is_gone_is_passed_over_for_another(make_config, make_dataset, tmp_path, trained):
    list(run_trial(make_config(epochs=2), make_dataset(), tmp_path / "t1"))
    trained.clear()
    gone = beginning(tmp_path / "gone", 3)
    restored, *_ = run_trial(
        make_config(epochs=3),
        make_dataset(),
        tmp_path / "t2",
        TrialRequest(beginnings=[gone, beginning(tmp_path / "t1", 2)]),
    )
    assert (restored.begun.trial, restored.restored) == ("t1", [])
    assert trained == [3]
    restored, *_ = run_trial(
        make_config(epochs=3), make_dataset(), tmp_path / "t3", TrialRequest(beginnings=[gone])
    )
    assert (restored.begun, restored.restored) == (
        None,
        ["gone of 'other': there is no checkpoint up to epoch 3"],
    )


def test_both_live_on_by_themselves(make_config, make_dataset, tmp_path):
    """They may share what lies on the disk; what one removes, the other keeps."""
    list(run_trial(make_config(epochs=2), make_dataset(), tmp_path / "t1"))
    reports = run_trial(
        make_config(epochs=9),
        make_dataset(),
        tmp_path / "t2",
        TrialRequest(beginnings=[beginning(tmp_path / "t1", 2)]),
    )
    next(reports)
    one, other = (tmp_path / name / "epoch-0002" / "model.safetensors" for name in ("t1", "t2"))
    assert one.samefile(other)
    list(reports)
    assert (
        not other.exists()
        or checkpoint.read_extra(tmp_path / "t2" / "epoch-0009")["best_epoch"] == 2
    )
    checkpoint.verify(tmp_path / "t1" / "epoch-0002")
    shutil.rmtree(tmp_path / "t1")
    checkpoint.verify(tmp_path / "t2" / "epoch-0009")


def test_a_trial_that_has_come_further_by_itself_is_left_alone(
    make_config, make_dataset, tmp_path, trained
):
    list(run_trial(make_config(epochs=2), make_dataset(), tmp_path / "t1"))
    reports = run_trial(make_config(epochs=4), make_dataset(), tmp_path / "t2")
    assert [next(reports).epoch for _ in range(3)] == [1, 2, 3]
    reports.close()
    trained.clear()
    restored, *_ = run_trial(
        make_config(epochs=4),
        make_dataset(),
        tmp_path / "t2",
        TrialRequest(attempt=2, known=1, beginnings=[beginning(tmp_path / "t1", 2)]),
    )
    assert (restored.epoch, restored.begun) == (3, None)
    assert trained == [4]


def test_one_whose_first_epochs_came_out_otherwise_is_passed_over(
    make_config, make_dataset, tmp_path, trained
):
    list(run_trial(make_config(epochs=4), make_dataset(train=30), tmp_path / "t1"))
    reports = run_trial(make_config(epochs=4), make_dataset(), tmp_path / "t2")
    assert [next(reports).epoch for _ in range(2)] == [1, 2]
    reports.close()
    trained.clear()
    restored, *_ = run_trial(
        make_config(epochs=4),
        make_dataset(),
        tmp_path / "t2",
        TrialRequest(attempt=2, known=1, beginnings=[beginning(tmp_path / "t1", 4)]),
    )
    assert (restored.epoch, restored.begun) == (2, None)
    assert all(
        "the metrics of the first epochs in " in line
        and " differ from the metrics of this trial" in line
        for line in restored.restored
    )
    assert restored.restored
    assert trained == [3, 4]


def test_who_was_cut_off_before_it_was_heard_says_again_with_what_it_began(
    make_config, make_dataset, tmp_path
):
    list(run_trial(make_config(epochs=2), make_dataset(), tmp_path / "t1"))
    first = run_trial(
        make_config(epochs=4),
        make_dataset(),
        tmp_path / "t2",
        TrialRequest(beginnings=[beginning(tmp_path / "t1", 2)]),
    )
    while (
        not checkpoint.list_checkpoints(tmp_path / "t2")
        or checkpoint.list_checkpoints(tmp_path / "t2")[-1].name != "epoch-0003"
    ):
        next(first)
    first.close()
    shutil.rmtree(tmp_path / "t1")
    restored, *_ = run_trial(
        make_config(epochs=4), make_dataset(), tmp_path / "t2", TrialRequest(attempt=2)
    )
    assert (restored.epoch, restored.begun) == (3, WarmStart("other", "t1", 2))
    restored, *_ = run_trial(
        make_config(epochs=4), make_dataset(), tmp_path / "t2", TrialRequest(attempt=3, known=2)
    )
    assert restored.begun is None, "it was heard"


def test_in_a_bucket_it_is_brought_from_place_to_place(
    make_config, make_dataset, tmp_path, trained, bucket
):
    one, other, fresh = (
        CheckpointMirror(bucket / "s" / "trials" / name, bucket / "s" / "beats" / name)
        for name in ("t1", "t2", "fresh")
    )
    list(
        run_trial(make_config(epochs=2), make_dataset(), tmp_path / "t1", TrialRequest(mirror=one))
    )
    expected = list(
        run_trial(
            make_config(epochs=3), make_dataset(), tmp_path / "fresh", TrialRequest(mirror=fresh)
        )
    )
    shutil.rmtree(tmp_path / "t1")
    trained.clear()
    reports = run_trial(
        make_config(epochs=3),
        make_dataset(),
        tmp_path / "t2",
        TrialRequest(mirror=other, beginnings=[beginning(tmp_path / "t1", 2, mirror=one)]),
    )
    restored = next(reports)
    assert restored.begun.epoch == 2
    assert "epoch-0002" in other.names(), "it is kept before anybody hears of it"
    assert told(reports) == told(expected)
    assert trained == [3]
    shutil.rmtree(tmp_path / "t2")
    again, *_ = run_trial(
        make_config(epochs=3),
        make_dataset(),
        tmp_path / "t2",
        TrialRequest(mirror=other, attempt=2),
    )
    assert (again.epoch, again.begun.epoch) == (3, 2)
