"""Linear probes: features of a pretrained network, computed once, and a fitted last layer."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torchvision import models

from tests.support.calibrated import calibrated
from trainables.baselines.base import Fitting, load_baseline
from trainables.baselines.classifiers import LinearClassifier
from trainables.catalog.models import MODELS
from trainables.catalog.networks import PROBED
from trainables.catalog.weights import cached
from trainables.checkpoints import checkpoint
from trainables.config import TrialConfig
from trainables.datasets.arrays import Dataset, Part
from trainables.errors import ConfigError
from trainables.evaluation.cost import cost
from trainables.evaluation.estimate import PROCESS_BYTES, checkpoint_bytes, training_bytes
from trainables.evaluation.evaluate import evaluate, features_of, load_model, predictions
from trainables.export.export import export
from trainables.fusion.shapes import cost_key
from trainables.models.weights import check
from trainables.probes.probe import FrozenEncoder, LinearProbe
from trainables.tasks.classification.predictor import Predictor
from trainables.training.cross_validation import Folds

MakeDataset = Callable[..., Dataset]
SIDE = 32


def save_weights(folder: Path, seed: int) -> Path:
    """Save random weights of SqueezeNet, the smallest network."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        state = models.squeezenet1_0().state_dict()
    path = folder / "squeezenet1_0.pth"
    torch.save(state, path)
    return path


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_weights(tmp_path_factory.mktemp("weights"), 0)


@pytest.fixture
def make_probe(weights: Path) -> Callable[..., TrialConfig]:
    def make(**values: Any) -> TrialConfig:
        return TrialConfig().override(
            {
                "model.name": "probe_squeezenet1_0",
                "model.weights": str(weights),
                "model.input_size": SIDE,
                **{path.replace("__", "."): value for path, value in values.items()},
            }
        )

    return make


@pytest.fixture
def colours(make_dataset: MakeDataset) -> Dataset:
    """Sixty training images of three brightnesses, in colour."""
    return make_dataset(channels=3, side=24, train=60, val=30, test=30)


def fit(config: TrialConfig, dataset: Dataset, folder: Path) -> tuple[dict[str, float], Path]:
    """Fit a probe; return the values of its epoch, and its checkpoint."""
    fitting = Fitting(config, dataset)
    (epoch,) = fitting.epochs()
    return epoch.values, checkpoint.save(folder, fitting.state(), {})


def test_it_learns_and_its_values_are_those_of_its_predictions(
    make_probe: Callable[..., TrialConfig], colours: Dataset, tmp_path: Path
) -> None:
    values, path = fit(make_probe(), colours, tmp_path / "saved")
    assert values["val/accuracy"] > 0.9
    evaluation = evaluate(make_probe(), colours, colours.val, path)
    assert evaluation["accuracy"] == values["val/accuracy"]
    chances = predictions(make_probe(), colours, colours.val, path)
    own = chances[np.arange(len(chances)), colours.val.targets]
    assert values["val/loss"] == pytest.approx(-np.log(own).mean(), rel=1e-6)


def test_its_evaluation_tells_what_more_labels_would_bring(
    make_probe: Callable[..., TrialConfig], colours: Dataset, tmp_path: Path
) -> None:
    _, path = fit(make_probe(), colours, tmp_path / "saved")
    values = evaluate(make_probe(), colours, colours.val, path)["more_labels"]
    assert (values["images"], values["validated"]) == (60, 30)
    assert values["sizes"] == [8, 15, 30, 60]
    _, path = fit(make_probe(model__c=3.0), colours, tmp_path / "again")
    assert evaluate(make_probe(model__c=3.0), colours, colours.val, path)["more_labels"] == values
    assert "more_labels" not in evaluate(make_probe(), colours, colours.train, path)


def test_grey_images_of_another_size_are_fitted_too(
    make_probe: Callable[..., TrialConfig], make_dataset: MakeDataset, tmp_path: Path
) -> None:
    values, _ = fit(make_probe(), make_dataset(train=60, val=30), tmp_path / "saved")
    assert values["val/accuracy"] > 0.9


def test_the_features_of_an_image_are_computed_once(
    make_probe: Callable[..., TrialConfig],
    colours: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, _ = fit(make_probe(), colours, tmp_path / "first")
    images = []
    compute = LinearProbe._compute

    def count(self: LinearProbe, encoder: FrozenEncoder, some: Any, *more: Any) -> Any:
        images.append(len(some))
        return compute(self, encoder, some, *more)

    monkeypatch.setattr(LinearProbe, "_compute", count)
    again, path = fit(make_probe(model__c=10.0), colours, tmp_path / "again")
    predictions(make_probe(), colours, colours.train, path)
    assert images == [], "all were in the cache"
    assert again["val/loss"] != first["val/loss"]
    fit(make_probe(model__input_size=40), colours, tmp_path / "larger")
    assert images == [60, 30], "another size has other features"


def test_other_weights_have_other_features(
    make_probe: Callable[..., TrialConfig], colours: Dataset, tmp_path: Path
) -> None:
    other = save_weights(tmp_path, 1)
    features = [
        load_baseline(config).features(colours.val, colours)
        for config in (make_probe(), make_probe(model__weights=str(other)))
    ]
    assert features[0].shape == features[1].shape == (30, 512)
    assert not np.allclose(*features)


@pytest.mark.parametrize("name", PROBED)
def test_the_features_are_the_inputs_of_the_last_layer(
    name: str, colours: Dataset, tmp_path: Path
) -> None:
    with torch.random.fork_rng(devices=[]):
        theirs = models.get_model(name).eval()
    torch.save(theirs.state_dict(), tmp_path / f"{name}.pth")
    config = TrialConfig().override(
        {"model.name": f"probe_{name}", "model.weights": str(tmp_path), "model.input_size": SIDE}
    )
    check(config.model, colours.image, 3)
    images = colours.val.images[:2]
    features = load_baseline(config).compute(images, colours)
    dense = [layer for layer in theirs.modules() if isinstance(layer, torch.nn.Linear)]
    inputs = list[torch.Tensor]()
    mean, deviation = (
        torch.tensor(values).view(3, 1, 1)
        for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    pixels = torch.nn.functional.interpolate(
        torch.from_numpy(images).permute(0, 3, 1, 2) / 255,
        (SIDE, SIDE),
        mode="bilinear",
        antialias=True,
    )
    with torch.no_grad():
        if not dense:  # SqueezeNet: a convolution and an average over the image
            maps = theirs.features((pixels - mean) / deviation)
            expected = maps.mean(dim=(2, 3))
        else:
            dense[-1].register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
            theirs((pixels - mean) / deviation)
            expected = inputs[0]
    np.testing.assert_allclose(features, expected.numpy(), rtol=1e-3, atol=1e-4)


def test_it_is_exported_as_a_network_that_gives_the_same_probabilities(
    make_probe: Callable[..., TrialConfig], colours: Dataset, tmp_path: Path
) -> None:
    _, path = fit(make_probe(), colours, tmp_path / "saved")
    exported = export(make_probe(), colours, path, tmp_path / "model", onnx=True)
    assert exported.difference < 1e-5
    assert exported.onnx_difference is not None
    assert exported.onnx_difference < 1e-5
    assert "torch" in " ".join(exported.requirements)
    assert colours.test is not None
    np.testing.assert_allclose(
        Predictor(tmp_path / "model").predictions(colours.test.images),
        calibrated(tmp_path / "model", predictions(make_probe(), colours, colours.test, path)),
        atol=1e-5,
    )


def test_in_folds_each_image_is_predicted_by_a_fit_without_it(
    make_probe: Callable[..., TrialConfig], colours: Dataset, tmp_path: Path
) -> None:
    dataset = replace(colours, val=colours.train, folds=3)
    config = make_probe(data__folds=3)
    folds = Folds(config, dataset, lambda own: Fitting(config, own))
    (epoch,) = folds.epochs()
    path = checkpoint.save(tmp_path / "saved", folds.state(), {})
    found = evaluate(config, dataset, dataset.train, path)
    assert found["members"]["accuracy"] == [each["val/accuracy"] for each in epoch.folds]
    exported = export(config, dataset, path, tmp_path / "model")
    assert exported.difference < 1e-5


def test_a_class_without_training_images_is_never_predicted(
    make_probe: Callable[..., TrialConfig], colours: Dataset, tmp_path: Path
) -> None:
    has_two = colours.train.targets < 2
    two = Part(colours.train.images[has_two], colours.train.targets[has_two])
    dataset = replace(colours, train=two)
    _, path = fit(make_probe(), dataset, tmp_path / "saved")
    with load_model(make_probe(), dataset, path) as saved:
        chances = saved.predict(colours.val.images)
    assert chances[:, 2].max() == 0
    np.testing.assert_allclose(
        chances, predictions(make_probe(), dataset, dataset.val, path), atol=1e-5
    )


@pytest.mark.parametrize("classes", [2, 3])
def test_the_classifier_is_scikit_learns_on_standardised_features(classes: int) -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, classes, 200)
    values = (generator.normal(labels[:, None], 3, (200, 5)) * [1, 10, 0.1, 5, 0]).astype("float32")
    theirs = make_pipeline(StandardScaler(), LogisticRegression(C=0.3)).fit(values, labels)
    ours = LinearClassifier(C=0.3).fit(values, labels)
    expected = theirs.predict_proba(values)
    np.testing.assert_allclose(ours.predict_proba(values), expected, atol=1e-3)
    weights, biases = ours.logits()
    logits = torch.from_numpy(values @ weights.T + biases)
    np.testing.assert_allclose(logits.softmax(dim=1).numpy(), expected, atol=1e-3)


def test_its_checkpoint_is_enough_where_the_weights_are_gone_or_others(
    make_probe: Callable[..., TrialConfig], colours: Dataset, tmp_path: Path
) -> None:
    place = save_weights(tmp_path, 3)
    config = make_probe(model__weights=str(place))
    values, path = fit(config, colours, tmp_path / "saved")
    before = predictions(config, colours, colours.val, path)
    save_weights(tmp_path, 4)
    np.testing.assert_array_equal(predictions(config, colours, colours.val, path), before)
    place.unlink()
    evaluation = evaluate(config, colours, colours.val, path)
    assert evaluation["accuracy"] == values["val/accuracy"]
    assert export(config, colours, path, tmp_path / "model").difference < 1e-5


def test_a_fit_that_was_cut_off_continues_with_what_was_saved(
    make_probe: Callable[..., TrialConfig], colours: Dataset, tmp_path: Path
) -> None:
    _, path = fit(make_probe(), colours, tmp_path / "saved")
    again = Fitting(make_probe(), colours)
    again.load_state(checkpoint.load(path))
    assert list(again.epochs()) == []
    assert again.state()["model"].keys() == checkpoint.load(path)["model"].keys()
    new = Fitting(make_probe(), colours)
    new.load_state(Fitting(make_probe(), colours).state())
    assert len(list(new.epochs())) == 1


def test_its_cost_is_that_of_the_whole_network_whatever_its_regularisation(
    make_probe: Callable[..., TrialConfig], colours: Dataset, tmp_path: Path
) -> None:
    _, path = fit(make_probe(), colours, tmp_path / "saved")
    found = cost(make_probe(), colours, path)
    encoder = sum(weights.numel() for weights in models.squeezenet1_0().features.parameters())
    assert found["parameters"] == encoder + 3 * 513
    assert 4 * found["parameters"] < found["bytes"] < 4.1 * found["parameters"]
    assert cost_key(make_probe(), "fp32") == cost_key(make_probe(model__c=5.0), "fp32")
    assert cost_key(make_probe(), "fp32") != cost_key(make_probe(model__input_size=64), "fp32")


def test_its_time_includes_the_features_until_they_are_cached(
    make_probe: Callable[..., TrialConfig],
    make_dataset: MakeDataset,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dataset, probe = (
        make_dataset(channels=3, side=24, train=2000, val=30),
        load_baseline(make_probe()),
    )
    monkeypatch.setattr(LinearProbe, "growth", 0)
    clock = iter(np.arange(100.0))
    monkeypatch.setattr("trainables.probes.probe.time.perf_counter", lambda: next(clock))
    monkeypatch.setattr(
        LinearProbe,
        "_compute",
        lambda self, encoder, images, *more: np.zeros((len(images), 3), "f"),
    )
    monkeypatch.setattr(LinearProbe, "_sampled_s", lambda self, dataset, count: 0.5)
    cold_s = probe.fit_seconds(dataset, box_s=0)
    probe.features(dataset.train, dataset)
    probe.features(dataset.val, dataset)
    warm_s = probe.fit_seconds(dataset, box_s=0)
    assert cold_s - warm_s == pytest.approx(2030 / 16)


def test_its_memory_and_its_room_are_bounded(
    make_probe: Callable[..., TrialConfig], colours: Dataset, tmp_path: Path
) -> None:
    config = make_probe()
    assert training_bytes(config, colours) > PROCESS_BYTES
    _, path = fit(config, colours, tmp_path / "saved")
    most = checkpoint_bytes(config.model, colours.image, 3, images=60)
    size = sum(file.stat().st_size for file in path.rglob("*.safetensors"))
    assert 0.9 * most < size <= most + 20_000


def test_labels_are_doubted_by_the_features_of_the_network(
    make_probe: Callable[..., TrialConfig], colours: Dataset, tmp_path: Path
) -> None:
    _, path = fit(make_probe(), colours, tmp_path / "saved")
    features = features_of(make_probe(), colours, path, colours.val.images)
    expected = load_baseline(make_probe()).features(colours.val, colours)
    np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-5)


def test_without_weights_there_is_no_probe(
    make_probe: Callable[..., TrialConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert make_probe().model.pretrained is True
    with pytest.raises(ConfigError, match=r"model\.pretrained=false cannot be used with probe_"):
        make_probe(model__pretrained=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    (tmp_path / "hub" / "checkpoints" / MODELS["resnet18"].weights).touch()
    assert cached() == ["resnet18"], "networks alone are listed"
