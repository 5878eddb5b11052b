import json
from collections import Counter
from statistics import fmean, stdev

import numpy as np
import pytest
import torch

from trainables.checkpoints import checkpoint
from trainables.checkpoints.checkpoint import CheckpointError
from trainables.config import DataConfig, TrialConfig
from trainables.datasets.arrays import Dataset, Part, PartSubset
from trainables.datasets.load import load
from trainables.errors import DataError
from trainables.evaluation import estimate
from trainables.evaluation.cost import cost
from trainables.evaluation.estimate import Times, epochs_seconds
from trainables.evaluation.evaluate import evaluate, load_model, predictions
from trainables.fusion.planner import unsuitability
from trainables.messages import EpochMetrics, TrialRequest, decode_reports, encode_reports
from trainables.tasks.classification.entry import ENTRY as CLASSIFICATION
from trainables.training.cross_validation import Folds, combine_folds
from trainables.training.loop import Training
from trainables.trial import run_trial

DIGITS = DataConfig(name="digits", folds=5, split_seed=3)


@pytest.fixture
def folded(make_dataset):
    """A made data set in three folds, and how to divide it otherwise."""

    def make(folds: int = 3, count: int = 60) -> Dataset:
        made = make_dataset(train=count)
        return Dataset(
            made.name,
            made.classes,
            made.train,
            made.train,
            made.test,
            made.fingerprint,
            folds=folds,
        )

    return make


@pytest.fixture
def config(make_config):
    return make_config(data__folds=3, epochs=3, model__dropout=0.3)


@pytest.mark.parametrize("seed", [0, 7])
def test_folds_are_stratified_and_disjoint_and_their_union_is_the_training_part(seed):
    dataset = load(DIGITS)
    folds = [dataset.fold(number, seed) for number in range(1, 6)]
    rows = [fold.val.rows for fold in folds]
    assert sorted(np.concatenate(rows)) == list(range(len(dataset.train)))
    assert {len(own) for own in rows} <= {len(dataset.train) // 5, len(dataset.train) // 5 + 1}
    for digit in range(10):
        counts = [int((fold.val.targets == digit).sum()) for fold in folds]
        assert max(counts) - min(counts) <= 1
    for fold, own in zip(folds, rows, strict=True):
        assert (fold.folds, fold.test is dataset.test) == (None, True)
        assert not set(own) & set(fold.train.rows)
        assert len(fold.train) + len(own) == len(dataset.train)
        assert np.array_equal(fold.val.images, dataset.train.images[own])
        assert np.array_equal(fold.train.targets, dataset.train.targets[fold.train.rows])
    assert dataset.least_trained == min(len(fold.train) for fold in folds)


def test_the_test_part_is_the_same_as_without_folds_and_all_else_is_in_a_fold():
    plain, dataset = load(DataConfig(name="digits", split_seed=3)), load(DIGITS)
    assert np.array_equal(dataset.test.images, plain.test.images)
    assert np.array_equal(dataset.test.targets, plain.test.targets)
    assert len(dataset.train) == len(plain.train) + len(plain.val)
    assert dataset.val is dataset.train


def test_another_seed_of_the_trial_or_of_the_split_divides_in_another_way():
    dataset = load(DIGITS)
    first = dataset.fold(1, 0).val.rows
    assert not np.array_equal(first, dataset.fold(1, 1).val.rows)
    assert np.array_equal(first, dataset.fold(1, 0).val.rows)
    other = Dataset(
        dataset.name, dataset.classes, dataset.train, dataset.val, None, "", folds=5, split_seed=4
    )
    assert not np.array_equal(first, other.fold(1, 0).val.rows)


def test_a_limit_holds_for_the_images_that_are_in_folds():
    dataset = load(DataConfig(name="digits", folds=5, train_limit=103))
    assert len(dataset.train) == 103
    assert sum(len(dataset.fold(number, 0).val) for number in range(1, 6)) == 103


def test_a_class_with_fewer_images_than_folds_is_refused_in_one_line():
    with pytest.raises(
        DataError,
        match=r"^class '\w' has (\d) training images, but each of the 20 folds needs an image "
        r"of every class\. "
        r"Use --folds \1, or add images\.$",
    ):
        load(DataConfig(name="digits", folds=20, train_limit=60))


def test_a_selection_is_what_a_copy_of_it_is(make_dataset):
    whole, rows = make_dataset(channels=3).train, np.array([1, 4, 5, 9])
    chosen, copy = PartSubset(whole, rows), whole.take(rows)
    assert len(chosen) == 4
    assert np.array_equal(chosen.images, copy.images)
    assert np.array_equal(np.concatenate(list(chosen.chunks())), copy.images)
    assert (chosen.shape, chosen.fingerprint) == (copy.shape, copy.fingerprint)
    assert np.array_equal(chosen.take(np.array([2, 0])).images, copy.take(np.array([2, 0])).images)
    assert chosen.fingerprint == copy.fingerprint


def test_a_fold_is_trained_as_a_copy_of_its_images_is(make_config, folded):
    """Without a copy on the way, its channel statistics are those of its own training images."""
    fold = folded().fold(2, 0)
    copied = Dataset(
        "made",
        fold.classes,
        *(Part(part.images, part.targets) for part in (fold.train, fold.val)),
        None,
        "",
    )
    config = make_config(data__folds=3, augment__rotation=10.0)
    for one, other in zip(
        Training(config, fold).epochs(), Training(config, copied).epochs(), strict=True
    ):
        assert {**one.values, "time/epoch_s": 0} == {**other.values, "time/epoch_s": 0}


def test_no_network_is_trained_on_data_in_folds_by_accident(make_config, folded):
    with pytest.raises(ValueError, match="cannot be trained on 3 folds"):
        Training(make_config(), folded())
    for data, folds in ((folded(), None), (folded().fold(1, 0), 3), (folded(), 4)):
        with pytest.raises(ValueError, match="cannot be trained on data with"):
            Folds(make_config(data__folds=folds), data, lambda own: Training(make_config(), own))
    with pytest.raises(ValueError, match="is not divided into folds"):
        folded().fold(1, 0).fold(1, 0)


def untimed(reports):
    return [
        (
            report.epoch,
            report.outcome,
            {**report.metrics, "time/epoch_s": 0.0},
            [{**fold, "time/epoch_s": 0.0} for fold in report.folds],
        )
        for report in reports
    ]


def test_an_epoch_is_the_mean_of_networks_that_are_trained_alone(config, folded, tmp_path):
    dataset = folded()
    reports = list(run_trial(config, dataset.sealed, tmp_path))
    alone = [
        list(Training(config, dataset.fold(number, config.seed)).epochs()) for number in (1, 2, 3)
    ]
    assert [report.outcome for report in reports] == [None, None, "completed"]
    for report, epochs in zip(reports, zip(*alone, strict=True), strict=True):
        for own, trained in zip(report.folds, epochs, strict=True):
            assert {**own, "time/epoch_s": 0} == {**trained.values, "time/epoch_s": 0}
        accuracies = [fold["val/accuracy"] for fold in report.folds]
        assert report.metrics["val/accuracy"] == pytest.approx(np.mean(accuracies), rel=1e-12)
        assert report.metrics["val/accuracy_std"] == pytest.approx(
            np.std(accuracies, ddof=1), rel=1e-12
        )
        assert report.metrics["train/loss"] == fmean(fold["train/loss"] for fold in report.folds)
        assert report.metrics["time/epoch_s"] == sum(fold["time/epoch_s"] for fold in report.folds)
    assert decode_reports(encode_reports(reports)) == reports


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_trial_with_folds_that_was_cut_off_goes_on_as_if_it_had_not_been(
    epochs, config, folded, tmp_path
):
    undisturbed = untimed(run_trial(config, folded(), tmp_path / "undisturbed"))
    reports = run_trial(config, folded(), tmp_path / "cut")
    for _ in range(epochs):
        next(reports)
    reports.close()
    restored, *rest = run_trial(
        config, folded(), tmp_path / "cut", TrialRequest(attempt=2, known=0)
    )
    assert (restored.epoch, restored.restored, restored.folds) == (epochs, [], [])
    assert untimed(rest) == undisturbed
    ends = [
        checkpoint.load(checkpoint.list_checkpoints(tmp_path / name)[-1])
        for name in ("undisturbed", "cut")
    ]
    for one, other in zip(*(end["folds"] for end in ends), strict=True):
        assert one["model"].keys() == other["model"].keys()
        assert all(torch.equal(one["model"][name], other["model"][name]) for name in one["model"])


@pytest.mark.parametrize(
    "name",
    ["fold-1/model.safetensors", "fold-3/optimizer.safetensors", "state.json", "manifest.json"],
)
def test_a_damaged_file_of_any_fold_is_passed_over(name, config, folded, tmp_path):
    reports = run_trial(config, folded(), tmp_path)
    told = [next(reports), next(reports)]
    reports.close()
    (tmp_path / "epoch-0002" / name).write_bytes(b"")
    restored, second, _ = run_trial(config, folded(), tmp_path, TrialRequest(attempt=2, known=1))
    assert restored.epoch == 1
    assert "epoch-0002" in restored.restored[0]
    assert untimed([second]) == untimed(told[1:])


def test_a_checkpoint_that_lacks_a_fold_is_none(config, folded, tmp_path):
    list(run_trial(config, folded(), tmp_path))
    path = tmp_path / "epoch-0003"
    document = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(
        json.dumps({name: facts for name, facts in document.items() if "fold-2" not in name})
    )
    with pytest.raises(CheckpointError):
        checkpoint.load(path)


def test_when_one_fold_diverges_the_trial_has(config, folded, tmp_path, monkeypatch):
    real, second = Training.next_epoch, folded().fold(2, config.seed).train.rows

    def next_epoch(self):
        epoch = real(self)
        broken = self.epoch == 2 and np.array_equal(self.train.rows, second)
        return EpochMetrics(epoch.epoch, {**epoch.values, "train/loss": 2e9}) if broken else epoch

    monkeypatch.setattr(Training, "next_epoch", next_epoch)
    first, last = run_trial(config, folded(), tmp_path)
    assert (first.outcome, last.epoch, last.outcome, last.metrics) == (None, 2, "diverged", {})
    assert last.reason == "train/loss is 2e+09 at epoch 2 in fold 2"
    assert [path.name for path in checkpoint.list_checkpoints(tmp_path)] == ["epoch-0001"]


def test_one_fold_alone_deviates_from_nothing():
    values = {"val/accuracy": float("nan"), "time/epoch_s": 1.0}
    assert combine_folds(1, [values], CLASSIFICATION.metrics).values["val/accuracy_std"] == 0
    assert (
        combine_folds(1, [values], CLASSIFICATION.metrics).diverged
        == "val/accuracy is nan at epoch 1 in fold 1"
    )


@pytest.fixture(params=["deep_cnn", "knn"])
def saved(request, make_config, folded, tmp_path):
    """A trial of a network, or of a baseline, with its data and its last checkpoint."""
    options = (
        {"model__features": "edges", "model__neighbours": 3}
        if request.param == "knn"
        else {"model__width": 4, "model__dropout": 0.3}
    )
    config = TrialConfig().override(
        {"model.name": request.param, "batch_size": 8, "data.folds": 3, "epochs": 2, "seed": 5}
    )
    config = config.override({name.replace("__", "."): value for name, value in options.items()})
    *_, report = run_trial(config, folded().sealed, tmp_path)
    return config, folded(), checkpoint.list_checkpoints(tmp_path)[-1], report


def test_on_its_own_images_a_trial_is_measured_by_networks_that_have_not_seen_them(saved):
    config, dataset, path, report = saved
    found = evaluate(config, dataset, dataset.val, path)
    assert found["members"]["accuracy"] == [fold["val/accuracy"] for fold in report.folds]
    assert (found["members"]["mean"], found["members"]["std"]) == (
        report.metrics["val/accuracy"],
        report.metrics["val/accuracy_std"],
    )
    assert found["accuracy"] == pytest.approx(
        np.average(found["members"]["accuracy"], weights=[20, 20, 20])
    )
    chances = predictions(config, dataset, dataset.train, path)
    assert found["accuracy"] == (chances.argmax(axis=1) == dataset.train.targets).mean()
    losses = [
        -np.log(np.clip(chances[fold.val.rows, fold.val.targets], np.finfo(float).eps, 1)).mean()
        for fold in (dataset.fold(k, 5) for k in (1, 2, 3))
    ]
    assert losses == pytest.approx([fold["val/loss"] for fold in report.folds], rel=1e-5)
    copy = Part(dataset.train.images.copy(), dataset.train.targets)
    assert np.array_equal(predictions(config, dataset, copy, path), chances), (
        "the same images are not asked of who has seen them"
    )


def test_new_images_are_asked_of_the_committee(saved):
    config, dataset, path, _ = saved
    found, chances = (
        evaluate(config, dataset, dataset.test, path),
        predictions(config, dataset, dataset.test, path),
    )
    assert found["accuracy"] == (chances.argmax(axis=1) == dataset.test.targets).mean()
    assert len(found["members"]["accuracy"]) == 3
    assert found["members"]["mean"] == pytest.approx(fmean(found["members"]["accuracy"]))
    assert found["members"]["std"] == pytest.approx(stdev(found["members"]["accuracy"]))
    with load_model(config, dataset, path) as made:
        np.testing.assert_allclose(made.predict(dataset.test.images), chances, rtol=1e-6)
        assert len(made.networks) == (0 if config.model.is_baseline else 3)


def test_the_committee_is_a_module_from_pixels_to_probabilities(saved):
    config, dataset, path, _ = saved
    if config.model.is_baseline:
        return
    with load_model(config, dataset, path) as made:
        images = torch.from_numpy(dataset.test.images)
        chances = made.module(images)
        each = torch.stack([member(images) for member in made.members])
    assert torch.allclose(chances, each.mean(dim=0))
    assert torch.allclose(chances.sum(dim=1), torch.ones(len(images), dtype=torch.float64))
    assert len({float(member.shift[0]) for member in made.members}) == 3, (
        "each has the statistics of its own training images"
    )


def test_a_committee_costs_what_its_networks_do(saved, make_config, make_dataset, tmp_path):
    config, dataset, path, _ = saved
    found = cost(config, dataset, path)
    if config.model.is_baseline:
        assert (found["parameters"], found["multiply_adds"]) == (None, None)
        assert found["bytes"] == sum(
            (path / f"fold-{number}" / "classifier.skops").stat().st_size for number in (1, 2, 3)
        )
        return
    plain, one = config.override({"data.folds": None}), make_dataset()
    list(run_trial(plain, one, tmp_path / "plain"))
    single = cost(plain, one, tmp_path / "plain" / "epoch-0002")
    assert all(found[name] == 3 * single[name] for name in ("parameters", "multiply_adds", "bytes"))
    assert found["inference"]["batch_1"]["median_ms"] > single["inference"]["batch_1"]["median_ms"]


def test_a_checkpoint_and_data_that_do_not_fit_are_told(saved, make_dataset):
    config, _, path, _ = saved
    with pytest.raises(
        ValueError, match="contains 3 networks, but the data are not divided into folds"
    ):
        evaluate(config, make_dataset(), make_dataset().test, path)


def test_features_are_computed_once_however_the_images_are_divided(
    folded, make_config, tmp_path, cache_home
):
    for seed in (0, 1):
        config = TrialConfig().override(
            {"model.name": "tree", "model.features": "edges", "data.folds": 3, "seed": seed}
        )
        list(run_trial(config, folded(), tmp_path / str(seed)))
    kept = Counter(
        path.suffix for path in (cache_home / "image-classifier-search" / "features").iterdir()
    )
    assert kept[".npy"] == 1


def test_folds_are_not_fused_and_their_time_is_that_of_all(config, folded, monkeypatch):
    assert unsuitability(config, folded(), "cpu", 8) == (
        "the folds of a trial are trained one after another"
    )
    monkeypatch.setattr(estimate, "_times", lambda *_: Times(0.5, 0.1))
    one, three = (
        epochs_seconds([config], dataset)[0] for dataset in (folded().fold(1, 0), folded())
    )
    assert three == pytest.approx(3 * one)


def test_without_folds_a_data_set_is_for_one_network():
    dataset = load(DataConfig(name="digits"))
    assert (dataset.folds, dataset.least_trained, dataset.of_one_network() is dataset) == (
        None,
        len(dataset.train),
        True,
    )


@pytest.mark.parametrize("name", ["macro_f1", "log_loss"])
@pytest.mark.parametrize("model", ["deep_cnn", "tree"])
def test_folds_are_ranked_by_the_metric_that_was_asked_for(name, model, folded, tmp_path):
    options = {"model.name": model} | ({"model.features": "lbp"} if model == "tree" else {})
    config = TrialConfig().override(
        {"metric": name, "epochs": 2, "batch_size": 8, "data.folds": 3, **options}
    )
    metric = config.ranked_by
    for report in run_trial(config, folded().sealed, tmp_path):
        each = [fold[metric.key] for fold in report.folds]
        assert report.metrics[metric.key] == pytest.approx(np.mean(each))
        assert report.metrics[metric.deviation_key] == pytest.approx(np.std(each, ddof=1))
        errors = [fold[metric.error_key] for fold in report.folds]
        assert report.metrics[metric.error_key] == pytest.approx(np.linalg.norm(errors) / 3)
    assert report.outcome == "completed"
    found = evaluate(config, folded(), folded().train, sorted(tmp_path.glob("epoch-*"))[-1])
    assert found["metric"]["name"] == name
    freedoms = [fold[metric.freedom_key] for fold in report.folds]
    expected = sum(freedoms) if all(freedoms) else 0
    assert report.metrics[metric.freedom_key] == pytest.approx(expected)


def test_the_folds_variances_add_up_and_one_that_is_not_finite_diverges():
    def fold(loss, error):
        told = {"train/loss": 1.0, "val/loss": loss, "val/accuracy": 0.5, "time/epoch_s": 1.0}
        return {**told, "val/log_loss": loss, "val/log_loss_error": error}

    values = combine_folds(
        1, [fold(0.5, 0.3), fold(0.7, 1.0), fold(0.9, 3.5)], CLASSIFICATION.metrics
    ).values
    assert values["val/log_loss_error"] == pytest.approx(1.2175, abs=1e-4)
    assert values["val/log_loss_std"] == pytest.approx(0.2)
    assert combine_folds(
        1, [fold(0.5, 0.3), fold(float("nan"), 1.0)], CLASSIFICATION.metrics
    ).diverged
