"""Scores of unlike images, on features whose distribution is sample, and in an exported network."""

import numpy as np
import pytest
import torch
from torch import nn

from trainables.export.export import export
from trainables.export.runtime import in_onnxruntime
from trainables.predictors.base import ONNX, UNLIKE
from trainables.reliability.promises import Promises
from trainables.reliability.unlike import FeatureSample, TappedNetwork, area_above, build_scores
from trainables.tasks.classification.model import Classifier
from trainables.tasks.classification.predictor import Predictor

CLASSES, FEATURES = 3, 12


def clusters(images: int, seed: int, shift: float = 0.0) -> FeatureSample:
    """Draw features around a mean of each class, and logits that follow from them."""
    generator = torch.Generator().manual_seed(seed)
    means = 4 * torch.eye(CLASSES, FEATURES) + 1
    labels = torch.arange(images) % CLASSES
    features = means[labels] + 0.5 * torch.randn(images, FEATURES, generator=generator)
    features = features + shift * torch.randn(FEATURES, generator=torch.Generator().manual_seed(9))
    return FeatureSample(features, features[:, :CLASSES], labels)


def scores_of(sample: FeatureSample, score: nn.Module) -> np.ndarray:
    return score(sample.features, sample.logits).double().numpy()


@pytest.mark.parametrize("name", ["mahalanobis", "neighbours"])
def test_shifted_features_score_higher(name: str) -> None:
    score = build_scores(clusters(300, 0), clusters(100, 1))[name]
    usual, unlike = (
        scores_of(clusters(200, 2), score),
        scores_of(clusters(200, 3, shift=2.0), score),
    )
    assert area_above(usual, unlike) > 0.95
    assert area_above(usual, scores_of(clusters(200, 4), score)) == pytest.approx(0.5, abs=0.1)


def test_combined_scores_are_added_relative_to_ordinary_images() -> None:
    ordinary = clusters(100, 1)
    scores = build_scores(clusters(300, 0), ordinary)
    expected = np.zeros(100)
    for name in ("energy", "neighbours"):
        values = scores_of(ordinary, scores[name])
        expected += (values - values.mean()) / values.std()
    np.testing.assert_allclose(
        scores_of(ordinary, scores["energy and neighbours"]), expected, atol=1e-3
    )


def test_the_energy_is_that_of_small_logits() -> None:
    score = build_scores(clusters(30, 0), clusters(30, 1))["energy"]
    sample = clusters(2, 0)
    np.testing.assert_allclose(
        scores_of(sample, score),
        -np.log(np.exp(sample.logits.double().numpy()).sum(axis=1)),
        rtol=1e-5,
    )


def test_mahalanobis_is_the_distance_to_the_nearest_mean() -> None:
    trained = clusters(3000, 0)
    score = build_scores(trained, trained)["mahalanobis"]
    at_mean = FeatureSample(
        4 * torch.eye(CLASSES, FEATURES) + 1, torch.zeros(3, 3), torch.arange(3)
    )
    assert scores_of(at_mean, score).max() < 0.1
    # The features of a class have the same variance in each direction, so that the mean is their
    # number.
    assert scores_of(clusters(2000, 1), score).mean() == pytest.approx(FEATURES, rel=0.15)


def test_the_area_is_the_share_of_pairs_in_order() -> None:
    assert area_above(np.array([0.0, 1.0]), np.array([1.0, 2.0])) == (0.5 + 3) / 4
    assert area_above(np.array([5.0]), np.array([1.0, 2.0])) == 0


def test_the_features_are_the_inputs_of_the_last_layer() -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))
    images = torch.rand(5, 1, 4, 4)
    tapped = TappedNetwork(network)(images)
    assert tapped.shape == (5, 3 + 16)
    torch.testing.assert_close(network[-1](tapped[:, 3:]), tapped[:, :3])


def test_the_features_of_a_convolution_are_averaged() -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 3, 1), nn.AdaptiveAvgPool2d(1))
    tapped = TappedNetwork(nn.Sequential(network, nn.Flatten()))(torch.rand(2, 1, 6, 6))
    assert tapped.shape == (2, 3 + 4)


def test_an_exported_model_reports_unlike_images(trained_checkpoint, tmp_path) -> None:
    """In torch and in ONNX Runtime alike; on its own images, it rarely does."""
    config, dataset, path = trained_checkpoint("mnist_cnn", train=60, val=60, test=60)
    made = export(
        config,
        dataset,
        path,
        tmp_path / "exported",
        onnx=True,
        promises=Promises(false_alarms=0.1, coverage=0.9),
    )
    torch_model = Classifier(made.folder, "made")
    onnx_model = Classifier(made.folder, "made", in_onnxruntime(made.folder / ONNX, 1))
    noise = np.random.default_rng(0).integers(0, 256, (40, *torch_model.image), dtype=np.uint8)
    for images in (np.asarray(dataset.test.images), noise):
        judged = [model.judged(list(images))[1] for model in (torch_model, onnx_model)]
        assert judged[0] == judged[1]
        reported = np.mean([own.reason == UNLIKE for own in judged[0]])
        assert reported > 0.9 if images is noise else reported <= 0.25
    assert made.reliability["unlike"]["alarms"] == sum(
        own.reason == UNLIKE for own in torch_model.judged(list(dataset.test.images))[1]
    )
    table = Predictor(made.folder).table(noise)
    assert (table["answer"] == "").tolist() == table["abstained"].tolist()
    assert table["abstained"].mean() > 0.9
    assert made.columns["abstained"] == "boolean"
    assert set(table["reason"]) <= {"", UNLIKE}
    assert all(text.startswith("[") for text in table["set"])
