import numpy as np
import pytest
import torch

from trainables.baselines.base import Fitting
from trainables.config import TrialConfig
from trainables.messages import TrialRequest
from trainables.robustness import measure
from trainables.robustness.corruptions import corrupt
from trainables.robustness.measure import KINDS, CorruptedImages, EpochMeasurements
from trainables.robustness.stress_tests import CORRUPTION_ACCURACY
from trainables.training.loop import Training
from trainables.trial import run_trial

REQUEST = TrialRequest(measures=(CORRUPTION_ACCURACY,))


@pytest.fixture
def config(make_config):
    return make_config(epochs=3, optimizer__lr=0.01)


@pytest.fixture(autouse=True)
def no_prepared_images(monkeypatch):
    monkeypatch.setattr(measure, "PREPARED", {})


def values_of(config, dataset, folder, request=REQUEST):
    return [
        report.metrics[CORRUPTION_ACCURACY]
        for report in run_trial(config, dataset, folder, request)
        if report.metrics
    ]


def test_each_image_has_a_corruption_of_its_own_and_all_kinds_are_equally_frequent(
    config, make_dataset
):
    dataset = make_dataset(val=2 * len(KINDS))
    images = CorruptedImages(config, dataset).images
    kinds = np.random.default_rng([config.data.split_seed, 1]).permutation(len(images))
    assert np.bincount(kinds % len(KINDS)).tolist() == [2] * len(KINDS)
    for row in (0, 7, 99):
        name, severity = KINDS[kinds[row] % len(KINDS)]
        assert (images[row] == corrupt(dataset.val.images[row], name, severity, row)).all()


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_a_trial_reports_the_accuracy_on_corrupted_images_after_each_epoch(
    config, make_dataset, tmp_path, ema
):
    config = config.override({"train.ema": ema})
    dataset = make_dataset(train=96, val=60).sealed
    training, images = Training(config, dataset), CorruptedImages(config, dataset)
    expected = []
    for _ in training.epochs():
        module = training.task.module(training.used_network, training.val).eval()
        with torch.no_grad():
            predicted = training.task.predict(module, images.images, 60, "cpu", dataset)
        expected.append(np.mean(predicted.argmax(axis=1) == images.classes))
    assert values_of(config, dataset, tmp_path) == pytest.approx(expected)
    assert len(set(expected)) > 1


def test_the_measurement_does_not_change_the_training(config, make_dataset, tmp_path):
    dataset = make_dataset(train=96, val=60).sealed
    with_it, without_it = (
        [
            report.metrics["val/loss"]
            for report in run_trial(config, dataset, tmp_path / name, asked)
        ]
        for name, asked in (("with", REQUEST), ("without", TrialRequest()))
    )
    assert with_it == without_it


def test_a_trial_that_continues_reports_what_it_measured_before(config, make_dataset, tmp_path):
    dataset = make_dataset(train=96, val=60).sealed
    undisturbed = values_of(config, dataset, tmp_path / "undisturbed")
    reports = run_trial(config, dataset, tmp_path / "cut", REQUEST)
    for _ in range(2):
        next(reports)
    reports.close()
    again = TrialRequest(attempt=2, known=1, measures=REQUEST.measures)
    assert values_of(config, dataset, tmp_path / "cut", again) == undisturbed[1:]


def test_baselines_are_measured_too(make_dataset):
    config = TrialConfig().override({"model.name": "svm", "model.features": "hog"})
    dataset = make_dataset(side=16, val=20)
    fitting = Fitting(config, dataset)
    list(fitting.epochs())
    images = CorruptedImages(config, dataset)
    predicted = fitting.baseline.predict([fitting.fitted], images.images, dataset)
    values = EpochMeasurements(REQUEST.measures, config, dataset).measure(fitting)
    assert values == {CORRUPTION_ACCURACY: np.mean(predicted.argmax(axis=1) == images.classes)}


def test_the_trials_of_a_process_share_the_images(config, make_dataset, monkeypatch):
    monkeypatch.setattr(measure, "MAX_IMAGES", 5)
    dataset, further = make_dataset(val=20), make_dataset(val=21)
    first, second, third = (
        EpochMeasurements(REQUEST.measures, config, data).measurements[CORRUPTION_ACCURACY]
        for data in (dataset, dataset, further)
    )
    assert first is second
    assert first is not third
    assert len(first.images) == 5
