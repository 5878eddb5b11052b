import copy
import json
import os
import shutil
from pathlib import Path

import pytest

from trainables import trial
from trainables.checkpoints import checkpoint, heartbeat
from trainables.messages import EpochMetrics, TrialRequest, decode_reports, encode_reports
from trainables.tasks.classification.entry import ENTRY as CLASSIFICATION
from trainables.training.loop import Training
from trainables.training.world import World
from trainables.trial import Superseded, run_trial


@pytest.fixture
def scripted(monkeypatch):
    """Let a training report these (accuracy, loss) of its epochs instead of the measured ones."""

    def script(values):
        class Scripted(Training):
            def next_epoch(self):
                measured = super().next_epoch()
                accuracy, loss = values[measured.epoch - 1]
                return EpochMetrics(
                    measured.epoch, measured.values | {"val/accuracy": accuracy, "val/loss": loss}
                )

        monkeypatch.setattr(trial, "Training", Scripted)

    return script


def kept(folder):
    return [int(path.name.removeprefix("epoch-")) for path in checkpoint.list_checkpoints(folder)]


def test_a_trial_reports_each_epoch_and_that_it_completed(make_config, make_dataset, tmp_path):
    reports = list(run_trial(make_config(epochs=3), make_dataset().sealed, tmp_path))
    assert [report.epoch for report in reports] == [1, 2, 3]
    assert [report.outcome for report in reports] == [None, None, "completed"]
    assert all(report.reason == "" for report in reports)
    assert set(reports[0].metrics) == {
        "train/loss",
        "val/loss",
        "val/accuracy",
        "lr",
        "time/epoch_s",
    }


def test_a_report_is_plain_values(make_config, make_dataset, tmp_path):
    (report,) = run_trial(make_config(epochs=1), make_dataset(), tmp_path)
    assert decode_reports(encode_reports([report])) == [report]


def test_a_checkpoint_is_on_disk_before_its_report_is_out(make_config, make_dataset, tmp_path):
    for report in run_trial(make_config(epochs=3), make_dataset(), tmp_path):
        loaded = checkpoint.load(checkpoint.list_checkpoints(tmp_path)[-1])
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
def test_the_best_and_the_newest_two_checkpoints_are_kept(
    values, best, left, scripted, make_config, make_dataset, tmp_path
):
    scripted(values)
    list(run_trial(make_config(epochs=len(values)), make_dataset(), tmp_path))
    assert kept(tmp_path) == left
    assert checkpoint.load(checkpoint.list_checkpoints(tmp_path)[-1])["extra"]["best_epoch"] == best


def test_never_fewer_than_two_checkpoints_are_there_to_fall_back_on(
    scripted, make_config, make_dataset, tmp_path
):
    scripted([(0.1 * epoch, 1) for epoch in range(5)])
    for report in run_trial(make_config(epochs=5), make_dataset(), tmp_path):
        assert {report.epoch, max(1, report.epoch - 1)} <= set(kept(tmp_path))


def test_a_trial_that_diverges_at_once_has_no_metrics_and_no_checkpoint(
    make_config, make_dataset, tmp_path
):
    (report,) = run_trial(make_config(epochs=5, optimizer__lr=1e6), make_dataset(), tmp_path)
    assert (report.epoch, report.outcome, report.metrics) == (1, "diverged", {})
    assert "loss is" in report.reason
    assert kept(tmp_path) == []


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_trial_that_diverges_later_keeps_its_last_good_checkpoint(
    loss, scripted, make_config, make_dataset, tmp_path
):
    scripted([(0.5, 1), (0.6, 1), (0.1, loss), (0.7, 1)])
    reports = list(run_trial(make_config(epochs=4), make_dataset(), tmp_path))
    assert [report.outcome for report in reports] == [None, None, "diverged"]
    assert reports[-1].reason.startswith("val/loss is")
    assert kept(tmp_path) == [1, 2]


def untimed(reports):
    return [
        (
            report.epoch,
            report.outcome,
            {name: value for name, value in report.metrics.items() if name != "time/epoch_s"},
        )
        for report in reports
    ]


def cut_off(config, dataset, folder, epochs):
    """Train so many epochs of a trial and leave it."""
    reports = run_trial(config, dataset, folder)
    told = [next(reports) for _ in range(epochs)]
    reports.close()
    return told


@pytest.mark.parametrize("epochs", [1, 3])
def test_a_trial_that_was_cut_off_goes_on_as_if_it_had_not_been(
    epochs, make_config, make_dataset, tmp_path
):
    config, dataset = make_config(epochs=5, model__dropout=0.3), make_dataset()
    undisturbed = untimed(run_trial(config, dataset, tmp_path / "undisturbed"))
    cut_off(config, dataset, tmp_path / "cut", epochs)
    restored, *rest = run_trial(
        config, dataset, tmp_path / "cut", TrialRequest(attempt=2, known=epochs)
    )
    assert (restored.epoch, restored.restored, restored.metrics) == (epochs, [], {})
    assert untimed(rest) == undisturbed[epochs:]
    assert checkpoint.load(checkpoint.list_checkpoints(tmp_path / "cut")[-1])["extra"][
        "best_epoch"
    ] == max(
        range(1, 6), key=lambda epoch: (*config.ranked_by.rank(undisturbed[epoch - 1][2]), -epoch)
    )


def test_epochs_that_nobody_heard_of_are_told_again(make_config, make_dataset, tmp_path):
    told = cut_off(make_config(epochs=4), make_dataset(), tmp_path, 3)
    reports = run_trial(
        make_config(epochs=4), make_dataset(), tmp_path, TrialRequest(attempt=2, known=1)
    )
    assert next(reports).epoch == 3
    assert [next(reports), next(reports)] == told[1:]
    assert next(reports).epoch == 4


def test_a_trial_that_was_complete_says_so_again_and_trains_nothing(
    make_config, make_dataset, tmp_path
):
    *_, last = run_trial(make_config(epochs=2), make_dataset(), tmp_path)
    restored, again = run_trial(
        make_config(epochs=2), make_dataset(), tmp_path, TrialRequest(attempt=2, known=2)
    )
    assert restored.epoch == 2
    assert again == last


@pytest.mark.parametrize("name", [*checkpoint.FILES, "manifest.json"])
def test_a_damaged_newest_checkpoint_is_passed_over_and_said_so(
    name, make_config, make_dataset, tmp_path
):
    told = cut_off(make_config(epochs=4), make_dataset(), tmp_path, 3)
    (tmp_path / "epoch-0003" / name).write_bytes(b"")
    restored, third, _ = run_trial(
        make_config(epochs=4), make_dataset(), tmp_path, TrialRequest(attempt=2, known=3)
    )
    assert restored.epoch == 2
    assert len(restored.restored) == 1
    assert "epoch-0003" in restored.restored[0]
    assert untimed([third]) == untimed(told[2:])


def test_when_all_checkpoints_are_damaged_a_trial_begins_anew(make_config, make_dataset, tmp_path):
    told = cut_off(make_config(epochs=2), make_dataset(), tmp_path, 1)
    (tmp_path / "epoch-0001" / "state.json").unlink()
    restored, first, _ = run_trial(
        make_config(epochs=2), make_dataset(), tmp_path, TrialRequest(attempt=2)
    )
    assert (restored.epoch, len(restored.restored)) == (0, 1)
    assert untimed([first]) == untimed(told)


def test_a_checkpoint_of_another_configuration_is_not_gone_on_with(
    make_config, make_dataset, tmp_path
):
    list(run_trial(make_config(epochs=4), make_dataset(), tmp_path))
    reports = run_trial(make_config(epochs=4, seed=1), make_dataset(), tmp_path)
    assert "another configuration" in next(reports).restored[0]
    assert next(reports).epoch == 1
    assert kept(tmp_path) == [1]
    reports.close()


def test_an_attempt_that_was_given_up_writes_no_more(make_config, make_dataset, tmp_path):
    zombie = run_trial(make_config(epochs=5), make_dataset(), tmp_path)
    next(zombie)
    newer = run_trial(make_config(epochs=5), make_dataset(), tmp_path, TrialRequest(attempt=2))
    assert [next(newer).epoch for _ in range(4)] == [1, 1, 2, 3]
    with pytest.raises(Superseded, match="attempt 2 of this trial has started"):
        next(zombie)
    assert {2, 3} <= set(kept(tmp_path))
    with pytest.raises(Superseded):
        next(run_trial(make_config(epochs=5), make_dataset(), tmp_path, TrialRequest(attempt=1)))


def test_of_two_attempts_with_one_number_the_later_one_writes(make_config, make_dataset, tmp_path):
    """A driver that is killed before it hears that an attempt runs gives its number out again."""
    request = TrialRequest(attempt=2)
    zombie = run_trial(make_config(epochs=5), make_dataset(), tmp_path, request)
    assert next(zombie).epoch == 1
    later = run_trial(make_config(epochs=5), make_dataset(), tmp_path, request)
    assert [next(later).epoch for _ in range(3)] == [1, 1, 2]
    with pytest.raises(Superseded, match="attempt 2 of this trial was started again"):
        next(zombie)
    assert [report.epoch for report in later] == [3, 4, 5]


def test_an_attempt_takes_over_from_one_of_an_earlier_version(make_config, make_dataset, tmp_path):
    (tmp_path / "attempt").write_text("2")
    reports = run_trial(make_config(epochs=1), make_dataset(), tmp_path, TrialRequest(attempt=2))
    assert [report.epoch for report in reports] == [1]
    with pytest.raises(Superseded, match="attempt 2 of this trial has started, so attempt 1"):
        list(run_trial(make_config(epochs=1), make_dataset(), tmp_path, TrialRequest(attempt=1)))


@pytest.fixture
def stalled(make_config, make_dataset, tmp_path, monkeypatch):
    """Train two epochs; in the midst of saving the third, when `module.name` is called with a path
    that holds `part`, a second attempt trains six.
    """

    def stall(module, name, part):
        original = getattr(module, name)
        config, dataset = make_config(epochs=6), make_dataset()
        old = run_trial(config, dataset, tmp_path)
        assert [next(old).epoch for _ in range(2)] == [1, 2]

        def slow(*arguments, **keywords):
            if any(
                part in str(argument) for argument in arguments if isinstance(argument, str | Path)
            ):
                monkeypatch.setattr(module, name, original)
                list(run_trial(config, dataset, tmp_path, TrialRequest(attempt=2)))
            return original(*arguments, **keywords)

        monkeypatch.setattr(module, name, slow)
        monkeypatch.setattr(trial, "RETRY_S", (0,))
        with pytest.raises(Superseded):
            list(old)
        return tmp_path

    return stall


@pytest.mark.parametrize(
    ("module", "name", "part"),
    [
        (checkpoint.shutil, "rmtree", ".epoch-0003"),
        (checkpoint, "save_file", "epoch-0003"),
        (checkpoint, "sync", "epoch-0003"),
        (checkpoint.shutil, "rmtree", "/epoch-0001"),
    ],
    ids=["before it writes", "while it writes", "before its place", "before it removes"],
)
def test_an_attempt_that_was_stalled_while_it_saved_leaves_the_newer_ones_epochs(
    module, name, part, stalled
):
    folder = stalled(module, name, part)
    assert {5, 6} <= set(kept(folder))
    for path in checkpoint.list_checkpoints(folder):
        checkpoint.verify(path)
    assert not list(folder.glob(".*")), "nothing half-written is left"


def test_an_old_attempt_that_was_stalled_in_its_claim_does_not_take_the_folder_back(
    make_config, make_dataset, tmp_path, monkeypatch
):
    config, dataset, write = make_config(epochs=4), make_dataset(), trial.write_whole
    newer = run_trial(config, dataset, tmp_path, TrialRequest(attempt=2))

    def slow(path, text):
        monkeypatch.setattr(trial, "write_whole", write)
        assert next(newer).epoch == 1
        write(path, text)

    old = run_trial(config, dataset, tmp_path)
    monkeypatch.setattr(trial, "write_whole", slow)
    next(old)
    assert next(newer).epoch == 2
    with pytest.raises(Superseded):
        list(old)
    assert [report.epoch for report in newer] == [3, 4]


def test_what_earlier_attempts_left_half_written_is_removed(make_config, make_dataset, tmp_path):
    for name in (".epoch-0003.partial", ".epoch-0003.1.partial", ".brought-1"):
        (tmp_path / name).mkdir()
    list(run_trial(make_config(), make_dataset(), tmp_path, TrialRequest(attempt=2)))
    assert not list(tmp_path.glob(".*"))


def test_an_old_attempt_that_was_stalled_in_its_claim_leaves_what_a_newer_one_writes(
    make_config, make_dataset, tmp_path
):
    """The newer attempt claimed the folder first and writes; the old one's claim overwrote it."""
    for attempt in (1, 2, 3):
        for name in (f".epoch-0001.{attempt}.partial", f".brought-{attempt}"):
            (tmp_path / name).mkdir()
    (tmp_path / ".epoch-0001.partial").mkdir()
    list(run_trial(make_config(epochs=2), make_dataset(), tmp_path, TrialRequest(attempt=2)))
    assert sorted(path.name for path in tmp_path.glob(".*")) == [
        ".brought-3",
        ".epoch-0001.3.partial",
    ]


def test_a_full_disk_is_waited_for_and_nothing_is_trained_meanwhile(
    make_config, make_dataset, tmp_path, monkeypatch
):
    save, refusals = (
        checkpoint.save,
        [OSError(28, "No space left on device"), OSError(28, "No space left on device")],
    )

    def sometimes_full(*arguments, **keywords):
        if refusals:
            raise refusals.pop()
        return save(*arguments, **keywords)

    monkeypatch.setattr(checkpoint, "save", sometimes_full)
    monkeypatch.setattr(trial, "RETRY_S", (0,))
    monkeypatch.setattr(heartbeat, "EVERY_S", 0)
    reports, beats = [], []
    for report in run_trial(make_config(epochs=2), make_dataset(), tmp_path):
        reports.append(report)
        if report.waiting:
            beats.append((tmp_path / "heartbeat").stat().st_mtime_ns)
            os.utime(tmp_path / "heartbeat", (0, 0))
    assert len(beats) == 2
    assert all(beats), "to wait is no reason to be taken for hung"
    assert [(report.epoch, bool(report.waiting), bool(report.metrics)) for report in reports] == [
        (1, True, False),
        (1, True, False),
        (1, False, True),
        (2, False, True),
    ]
    assert "No space left on device" in reports[0].waiting
    assert kept(tmp_path) == [1, 2]


def test_each_step_is_a_sign_of_life(make_config, make_dataset, tmp_path, monkeypatch):
    write, texts = heartbeat.Heartbeat._text, []

    def note(beat):
        texts.append(write(beat))
        return texts[-1]

    monkeypatch.setattr(heartbeat.Heartbeat, "_text", note)
    monkeypatch.setattr(heartbeat, "EVERY_S", 0)
    list(run_trial(make_config(epochs=2, batch_size=8), make_dataset(), tmp_path, node="here"))
    # The first is written before any step; each epoch has three steps, and one of validation.
    epochs = [json.loads(text)["epochs"] for text in texts]
    assert epochs == [0, 0, 0.3333, 0.6667, 0.6667, 1, 1.3333, 1.6667, 1.6667]
    assert len(set(map(len, texts))) == 1, "readers would find parts of longer texts"
    beat = heartbeat.last_beats([tmp_path])[0]
    assert (beat.pid, beat.node, beat.attempt) == (os.getpid(), "here", 1)
    assert heartbeat.last_beats([tmp_path / "none"])[0] is None


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


def test_the_first_process_decides_from_which_epoch_all_go_on(make_config, make_dataset, tmp_path):
    """The second one's newest checkpoint is whole, the first one's is not."""
    config, dataset, said = make_config(epochs=4), make_dataset(), []
    told = cut_off(config, dataset, tmp_path / "first", 3)
    shutil.copytree(tmp_path / "first", tmp_path / "second")
    (tmp_path / "first" / "epoch-0003" / "model.safetensors").write_bytes(b"")

    class First(World):
        def from_first(self, value):
            said.append(copy.deepcopy(value))
            return value

    class Second(World):
        rank = 1

        def slice(self, rows):
            return rows

        def from_first(self, value):
            return said.pop()

    each = [
        list(
            run_trial(
                config,
                dataset,
                tmp_path / world.__name__.lower(),
                TrialRequest(attempt=2, known=2),
                world=world(),
            )
        )
        for world in (First, Second)
    ]
    assert [[report.epoch for report in reports] for reports in each] == [[2, 3, 4]] * 2
    assert untimed(each[0]) == untimed(each[1])
    assert untimed(each[0][1:2]) == untimed(told[2:])


@pytest.mark.parametrize(("better", "worse"), [((0.9, 5.0), (0.8, 0.1)), ((0.8, 0.1), (0.8, 0.2))])
def test_an_epoch_is_better_by_its_accuracy_and_then_by_a_lower_loss(better, worse):
    first, second = (
        CLASSIFICATION.metric("accuracy").rank({"val/accuracy": accuracy, "val/loss": loss})
        for accuracy, loss in (better, worse)
    )
    assert first > second


@pytest.mark.parametrize("epochs", [1, 3])
def test_what_a_network_costs_comes_with_the_first_epoch_that_is_told(
    make_config, make_dataset, tmp_path, epochs
):
    config, dataset = make_config(epochs=3), make_dataset().sealed
    reports = run_trial(config, dataset, tmp_path, TrialRequest(with_cost=True))
    told = [next(reports) for _ in range(epochs)]
    assert told[0].cost["parameters"] > 0
    assert told[0].cost["inference"]["batch_1"]["median_ms"] > 0
    assert all(report.cost is None for report in told[1:])
    restored, *again = run_trial(config, dataset, tmp_path, TrialRequest(attempt=2, with_cost=True))
    assert restored.cost is None
    assert [report.cost is not None for report in again] == [True, False, False], (
        "whoever asks has not heard of it"
    )
    assert again[0].cost["parameters"] == told[0].cost["parameters"]
    assert all(report.cost is None for report in run_trial(config, dataset, tmp_path / "unasked"))
