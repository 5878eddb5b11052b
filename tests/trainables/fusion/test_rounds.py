"""Trials that meet for each epoch. Threads here are the trials' own; a `Barrier` makes them come at
once.
"""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from trainables.fusion import rounds as module
from trainables.fusion import stack
from trainables.fusion.rounds import FusionRounds
from trainables.training.loop import Training
from trainables.trial import run_trial

RATES = (0.001, 0.003, 0.01)


def values(epochs):
    return [
        {name: value for name, value in epoch.values.items() if name != "time/epoch_s"}
        for epoch in epochs
    ]


@pytest.fixture
def trainings(make_config, make_dataset):
    """Three of one shape, at rates of their own, in float32."""

    def make(**options):
        dataset = make_dataset()
        return {
            f"t{rate}": Training(
                make_config(optimizer__lr=rate, precision="fp32", epochs=3, **options), dataset
            )
            for rate in RATES
        }

    return make


@pytest.fixture
def sizes(monkeypatch):
    """The sizes of the groups that were fused."""
    seen, fuse = [], module.train_together
    monkeypatch.setattr(
        module, "train_together", lambda group: (seen.append(len(group)), fuse(group))[1]
    )
    return seen


def meet(trainings):
    """Train all to their end, each in a thread; what each yielded or raised."""
    meeting, start = FusionRounds(), threading.Barrier(len(trainings))
    for trial in trainings:
        meeting.join(trial)

    def run(trial, training):
        start.wait()
        try:
            return values(meeting.epochs(trial, training))
        except ZeroDivisionError as error:
            return error
        finally:
            meeting.leave(trial)

    with ThreadPoolExecutor(len(trainings)) as pool:
        return dict(
            zip(trainings, pool.map(run, *zip(*trainings.items(), strict=True)), strict=True)
        )


def alone(trainings):
    return {trial: values(training.epochs()) for trial, training in trainings.items()}


def assert_close(found, expected):
    for trial, epochs in expected.items():
        assert len(found[trial]) == len(epochs)
        for mine, other in zip(found[trial], epochs, strict=True):
            assert mine == pytest.approx(other, rel=1e-5, abs=1e-5)


def test_trials_of_one_shape_train_as_one_network_to_the_losses_of_each_alone(
    trainings, sizes, monkeypatch
):
    monkeypatch.setattr(module, "PATIENCE_S", 600)  # on a busy machine all are late now and then
    assert_close(meet(trainings(model__dropout=0.2)), alone(trainings(model__dropout=0.2)))
    assert sizes == [3, 3, 3]


def test_trials_of_several_shapes_train_by_themselves(make_config, make_dataset, sizes):
    def make():
        dataset = make_dataset()
        return {
            f"w{width}": Training(make_config(model__width=width, precision="fp32"), dataset)
            for width in (2, 4)
        }

    assert meet(make()) == alone(make())
    assert sizes == []


def test_one_that_stops_is_not_waited_for(trainings, sizes, monkeypatch):
    """Were it waited for, the others would take ten minutes a round."""
    monkeypatch.setattr(module, "PATIENCE_S", 600)
    made = trainings()
    meeting, gone = FusionRounds(), threading.Event()
    for trial in made:
        meeting.join(trial)
    first, *others = made

    def stop_after_one():
        epochs = meeting.epochs(first, made[first])
        next(epochs)
        gone.wait(300)
        meeting.leave(first)

    with ThreadPoolExecutor(3) as pool:
        leaving = pool.submit(stop_after_one)
        rest = [
            pool.submit(lambda trial: values(meeting.epochs(trial, made[trial])) or None, trial)
            for trial in others
        ]
        gone.set()
        leaving.result(300)
        for trial, result in zip(others, rest, strict=True):
            assert len(result.result(300)) == 3
            meeting.leave(trial)
    assert sizes[0] == 3


def test_one_that_is_late_misses_the_round(trainings, sizes):
    """It has joined, and does not come: after a while the others go on."""
    made = trainings()
    meeting = FusionRounds()
    for trial in (*made, "late"):
        meeting.join(trial)
    with ThreadPoolExecutor(3) as pool:
        found = dict(
            zip(
                made,
                pool.map(lambda trial: values(meeting.epochs(trial, made[trial])), made),
                strict=True,
            )
        )
    assert_close(found, alone(trainings()))


def test_what_one_raises_is_its_own(trainings, monkeypatch):
    made = trainings()
    bad = list(made)[1]
    monkeypatch.setattr(module, "incompatibility", lambda group: "for this test")
    monkeypatch.setattr(made[bad], "next_epoch", lambda: 1 / 0)
    found = meet(made)
    assert isinstance(found.pop(bad), ZeroDivisionError)
    assert_close(
        found, {trial: epochs for trial, epochs in alone(trainings()).items() if trial != bad}
    )


def test_where_all_at_once_do_not_fit_each_trains_by_itself(trainings, monkeypatch):
    def refuse(group):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(module, "train_together", refuse)
    meeting, made = FusionRounds(), trainings()
    found = [meeting.train_round(made) for _ in range(2)]
    expected = alone(trainings())
    for trial in made:
        assert values([outcomes[trial] for outcomes in found]) == expected[trial][:2]
    assert (
        meeting.note()
        == "3 trials cannot be trained as one network, and are trained one after another (out of "
        "memory)"
    )
    assert meeting.note() == ""  # it is not tried again, and told once


def test_weights_that_were_half_handed_back_are_trained_on_by_nobody(trainings, monkeypatch):
    real, calls = stack.hand_back, []

    def refuse_the_second(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("out of memory")
        real(*arguments)

    monkeypatch.setattr(stack, "hand_back", refuse_the_second)
    made = trainings()
    outcomes = FusionRounds().train_round(made)
    assert {type(outcome) for outcome in outcomes.values()} == {stack.PartialUpdateError}


def test_while_one_trains_all_are_alive(make_config, make_dataset, monkeypatch):
    """A trial that waits for another's turn is not hung."""
    monkeypatch.setattr(module, "BEAT_S", 0.0)
    dataset, beats = make_dataset(), []
    made = {
        f"w{width}": Training(
            make_config(model__width=width),
            dataset,
            on_step=lambda width=width: beats.append(f"w{width}"),
        )
        for width in (2, 4)
    }
    meet(made)
    assert beats.count("w2") == beats.count("w4") > 0


def test_a_trial_with_its_checkpoints_is_the_same_in_company(
    make_config, make_dataset, tmp_path, sizes, monkeypatch
):
    monkeypatch.setattr(module, "PATIENCE_S", 600)  # on a busy machine all are late now and then
    meeting, dataset = FusionRounds(), make_dataset()
    configs = {
        f"t{number}": make_config(optimizer__lr=rate, precision="fp32", epochs=3)
        for number, rate in enumerate(RATES)
    }
    for trial in configs:
        meeting.join(trial)

    def run(trial):
        reports = list(
            run_trial(configs[trial], dataset, tmp_path / "met" / trial, together=meeting)
        )
        meeting.leave(trial)
        return reports

    with ThreadPoolExecutor(3) as pool:
        met = dict(zip(configs, pool.map(run, configs), strict=True))
    assert max(sizes) > 1
    for trial, config in configs.items():
        for mine, other in zip(
            met[trial], run_trial(config, dataset, tmp_path / "alone" / trial), strict=True
        ):
            assert (mine.epoch, mine.outcome) == (other.epoch, other.outcome)
            assert mine.metrics["val/loss"] == pytest.approx(other.metrics["val/loss"], rel=1e-5)
