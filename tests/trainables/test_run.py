import json

import pytest

from trainables import checkpoint, run
from trainables.loop import EpochMetrics, Training
from trainables.run import Report, rank, run_trial
from trainables.world import World


@pytest.fixture
def scripted(monkeypatch):
    """Let a training report these (accuracy, loss) of its epochs instead of the measured ones."""

    def script(values):
        class Scripted(Training):
            def _next_epoch(self):
                measured = super()._next_epoch()
                accuracy, loss = values[measured.epoch - 1]
                return EpochMetrics(measured.epoch, measured.values | {"val/accuracy": accuracy, "val/loss": loss})

        monkeypatch.setattr(run, "Training", Scripted)

    return script


def kept(folder):
    return [int(path.name.removeprefix("epoch-")) for path in checkpoint.saved(folder)]


def test_a_trial_reports_each_epoch_and_that_it_completed(make_config, make_dataset, tmp_path):
    reports = list(run_trial(make_config(epochs=3), make_dataset().sealed, tmp_path))
    assert [report.epoch for report in reports] == [1, 2, 3]
    assert [report.outcome for report in reports] == [None, None, "completed"]
    assert all(report.reason == "" for report in reports)
    assert set(reports[0].metrics) == {"train/loss", "val/loss", "val/accuracy", "lr", "time/epoch_s"}


def test_a_report_is_plain_values(make_config, make_dataset, tmp_path):
    (report,) = run_trial(make_config(epochs=1), make_dataset(), tmp_path)
    assert Report(**json.loads(json.dumps(report.to_dict()))) == report


def test_a_checkpoint_is_on_disk_before_its_report_is_out(make_config, make_dataset, tmp_path):
    for report in run_trial(make_config(epochs=3), make_dataset(), tmp_path):
        loaded = checkpoint.load(checkpoint.newest(tmp_path))
        assert loaded["epoch"] == report.epoch
        assert loaded["extra"]["metrics"] == report.metrics


@pytest.mark.parametrize(
    ("values", "best", "left"),
    [
        ([(0.9, 1), (0.5, 1), (0.6, 1), (0.7, 1), (0.8, 1)], 1, [1, 4, 5]),
        ([(0.1, 1), (0.2, 1), (0.9, 1), (0.4, 1), (0.5, 1), (0.6, 1)], 3, [3, 5, 6]),
        ([(0.1, 1), (0.2, 1), (0.3, 1), (0.4, 1)], 4, [3, 4]),
        ([(0.1, 1), (0.9, 1), (0.3, 1)], 2, [2, 3]),
        ([(0.5, 3), (0.5, 1), (0.5, 2), (0.4, 0), (0.5, 1)], 2, [2, 4, 5]),
    ],
)
def test_the_best_and_the_newest_two_checkpoints_are_kept(values, best, left, scripted, make_config, make_dataset, tmp_path):
    scripted(values)
    list(run_trial(make_config(epochs=len(values)), make_dataset(), tmp_path))
    assert kept(tmp_path) == left
    assert checkpoint.load(checkpoint.newest(tmp_path))["extra"]["best_epoch"] == best


def test_never_fewer_than_two_checkpoints_are_there_to_fall_back_on(scripted, make_config, make_dataset, tmp_path):
    scripted([(0.1 * epoch, 1) for epoch in range(5)])
    for report in run_trial(make_config(epochs=5), make_dataset(), tmp_path):
        assert {report.epoch, max(1, report.epoch - 1)} <= set(kept(tmp_path))


def test_a_trial_that_diverges_at_once_has_no_metrics_and_no_checkpoint(make_config, make_dataset, tmp_path):
    (report,) = run_trial(make_config(epochs=5, optimizer__lr=1e6), make_dataset(), tmp_path)
    assert (report.epoch, report.outcome, report.metrics) == (1, "diverged", {})
    assert "loss is" in report.reason
    assert kept(tmp_path) == []


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_trial_that_diverges_later_keeps_its_last_good_checkpoint(loss, scripted, make_config, make_dataset, tmp_path):
    scripted([(0.5, 1), (0.6, 1), (0.1, loss), (0.7, 1)])
    reports = list(run_trial(make_config(epochs=4), make_dataset(), tmp_path))
    assert [report.outcome for report in reports] == [None, None, "diverged"]
    assert reports[-1].reason.startswith("val/loss is")
    assert kept(tmp_path) == [1, 2]


def test_a_trial_that_is_run_again_leaves_nothing_of_the_first_time(make_config, make_dataset, tmp_path):
    list(run_trial(make_config(epochs=4), make_dataset(), tmp_path))
    reports = run_trial(make_config(epochs=4, seed=1), make_dataset(), tmp_path)
    next(reports)
    assert kept(tmp_path) == [1]
    reports.close()


def test_a_trial_may_be_stopped_between_epochs(make_config, make_dataset, tmp_path):
    reports = run_trial(make_config(epochs=100), make_dataset(), tmp_path)
    assert next(reports).outcome is None
    reports.close()
    assert kept(tmp_path) == [1]


def test_only_the_first_process_saves(make_config, make_dataset, tmp_path):
    class Second(World):
        rank = 1

        def slice(self, rows):
            return rows

    assert len(list(run_trial(make_config(), make_dataset(), tmp_path, world=Second()))) == 2
    assert kept(tmp_path) == []


@pytest.mark.parametrize(("better", "worse"), [((0.9, 5.0), (0.8, 0.1)), ((0.8, 0.1), (0.8, 0.2))])
def test_an_epoch_is_better_by_its_accuracy_and_then_by_a_lower_loss(better, worse):
    first, second = (rank({"val/accuracy": accuracy, "val/loss": loss}) for accuracy, loss in (better, worse))
    assert first > second
