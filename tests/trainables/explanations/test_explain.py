"""Maps of a network that looks at a known place, and the verdicts on these maps."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import binom
from torch import nn

from trainables.catalog.explanations import METHODS, choose_method, supported_methods
from trainables.config import TrialConfig
from trainables.datasets.arrays import Images
from trainables.datasets.load import load
from trainables.errors import ConfigError
from trainables.explanations.examples import (
    CORRECT,
    MISTAKES,
    choose_rows,
    map_in_plane,
    nearest_rows,
)
from trainables.explanations.explain import (
    COMPUTE,
    MAX_CORRELATION,
    REDRAWS,
    Logits,
    explain,
    feature_layer,
    integrated_gradients,
    judge_maps,
    load_explainable,
    rank_correlations,
    with_random_layers,
)
from trainables.explanations.maps import FRACTIONS, ExplainableModel, MapScorer, random_maps
from trainables.explanations.pictures import SIDE, draw_map
from trainables.trial import run_trial

PLACE = slice(4, 8), slice(12, 16)
"""The rows and columns of the bright square on which the classes depend."""


class _SquareNetwork(nn.Module):
    """Class 1 for images that are bright in one place: `PLACE`, which the last layer weights."""

    def __init__(self) -> None:
        super().__init__()
        self.smooth = nn.Conv2d(1, 1, 3, padding=1, bias=False)
        self.smooth.weight.data.fill_(1 / 9)
        self.middle = nn.Conv2d(1, 1, 1, bias=False)
        self.middle.weight.data.fill_(1.0)
        self.last = nn.Linear(400, 2)
        weights = torch.zeros(20, 20)
        weights[PLACE] = 0.5
        self.last.weight.data = torch.stack([-weights.flatten(), weights.flatten()])
        self.last.bias.data = torch.tensor([2.0, -2.0])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.last(self.middle(self.smooth(images)).flatten(1))


class _Member(nn.Module):
    """Takes the place of the module of a task: pixels from 0 to 255 are scaled to 0 to 1."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.network(images.permute(0, 3, 1, 2) / 255)


def model_of(network: nn.Module) -> ExplainableModel:
    member = _Member(network).eval()

    def predict(images: Images) -> np.ndarray:
        with torch.no_grad():
            logits = member(torch.from_numpy(images).float())
        return logits.double().softmax(dim=1).numpy()

    return ExplainableModel(predict, [member], np.zeros(1, np.uint8))  # type: ignore[list-item]


@pytest.fixture
def images() -> Images:
    """Six images of noise that are bright in `PLACE`, of 20 x 20 pixels."""
    pixels = np.random.default_rng(0).integers(0, 40, (6, 20, 20, 1), dtype=np.uint8)
    pixels[:, *PLACE] = 255
    return pixels


@pytest.mark.parametrize("method", ["integrated_gradients", "occlusion"])
def test_a_map_is_highest_where_the_network_looks_and_passes(method: str, images: Images) -> None:
    for explanation in explain(model_of(_SquareNetwork()), method, images):
        assert explanation.number == 1
        inside = np.maximum(explanation.values, 0)[PLACE].sum()
        assert inside > 0.5 * np.maximum(explanation.values, 0).sum()
        assert explanation.is_faithful
        assert explanation.score > explanation.random_score + 0.2
        assert explanation.depends_on_weights
        assert explanation.correlation is not None
        assert explanation.correlation < MAX_CORRELATION


def test_integrated_gradients_add_up_to_the_difference_of_the_logits(images: Images) -> None:
    model = model_of(_SquareNetwork())
    maps = integrated_gradients(model, images, np.ones(len(images), np.int64))
    with torch.no_grad():
        logits = model.networks[0](torch.from_numpy(images).float())
        baseline = model.networks[0](torch.zeros(1, 20, 20, 1))
    np.testing.assert_allclose(maps.sum((1, 2)), (logits - baseline)[:, 1], rtol=1e-4)


def test_grad_cam_is_the_weighted_sum_of_the_last_feature_map(images: Images) -> None:
    network = _SquareNetwork()
    maps = COMPUTE["gradcam"](model_of(network), images, np.ones(len(images), np.int64))
    with torch.no_grad():
        features = network.smooth(torch.from_numpy(images).permute(0, 3, 1, 2) / 255)
    weight = network.last.weight[1].mean().item()
    np.testing.assert_allclose(maps, weight * features[:, 0].numpy(), rtol=1e-4)


def test_a_map_that_ignores_the_network_fails_the_check(
    images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(COMPUTE, "edges", lambda model, some, classes: some[..., 0] / 255)
    for explanation in explain(model_of(_SquareNetwork()), "edges", images):
        assert explanation.correlation == pytest.approx(1)
        assert explanation.depends_on_weights is False


def test_maps_of_random_layers_fail_the_check_of_the_trained_network(images: Images) -> None:
    model, classes = model_of(_SquareNetwork()), np.ones(len(images), np.int64)
    maps = COMPUTE["integrated_gradients"](with_random_layers(model, (99, 0)), images, classes)
    judged = judge_maps(model, "integrated_gradients", images, classes, maps)
    assert not any(explanation.depends_on_weights for explanation in judged)


@pytest.mark.slow
def test_at_most_one_foreign_map_in_twenty_passes_the_check(images: Images) -> None:
    model, classes = model_of(_SquareNetwork()), np.ones(len(images), np.int64)
    passed = []
    for number in range(20):
        foreign = with_random_layers(model, (99, number))
        maps = COMPUTE["integrated_gradients"](foreign, images, classes)
        judged = judge_maps(model, "integrated_gradients", images, classes, maps, seed=number)
        passed += [explanation.depends_on_weights for explanation in judged]
    assert sum(passed) <= binom.ppf(0.999, len(passed), 1 / (REDRAWS + 1))


def test_random_layers_leave_the_model_and_its_first_layers_as_they_are() -> None:
    model = model_of(_SquareNetwork())
    changed = with_random_layers(model, (0, 0)).networks[0].state_dict()
    state = model.networks[0].state_dict()
    differing = [name for name in state if not state[name].equal(changed[name])]
    assert differing == ["network.last.weight"]
    again = with_random_layers(model, (0, 0)).networks[0].state_dict()
    assert all(changed[name].equal(again[name]) for name in changed)


def test_a_baseline_is_not_checked_and_a_flat_map_is_not_faithful(images: Images) -> None:
    baseline = ExplainableModel(
        lambda some: np.full((len(some), 2), 0.5), [], np.zeros(1, np.uint8)
    )
    first, *_ = explain(baseline, "occlusion", images)
    assert (first.depends_on_weights, first.is_faithful, first.score) == (None, False, 0)
    assert first.to_json()["check"] is None


def test_insertion_is_high_and_deletion_low_for_the_right_place(images: Images) -> None:
    right, wrong = np.zeros((2, 6, 20, 20))
    right[:, *PLACE], wrong[:, 12:16, 4:8] = 1, 1
    scorer = MapScorer(model_of(_SquareNetwork()), images, np.ones(6, np.int64))
    best, worst = scorer.score(right), scorer.score(wrong)
    assert (best.insertion > worst.insertion).all()
    assert (best.deletion < worst.deletion).all()
    some = scorer.score(right[[4, 1]], np.array([4, 1]))
    np.testing.assert_allclose(some.values, best.values[[4, 1]], atol=0.02)


def test_scores_are_areas_under_the_curves_of_the_probability() -> None:
    """The probability of this model is the share of bright pixels."""
    model = ExplainableModel(
        lambda some: np.stack([(some > 0).mean(axis=(1, 2, 3))] * 2, axis=1), [], np.zeros(1, int)
    )
    images = np.zeros((1, 20, 20, 1), np.uint8)
    images[:, :, :10] = 255
    bright_first = np.where(images[..., 0] > 0, 1.0, 0.0)
    deletion = MapScorer(model, images, np.zeros(1, int)).score(bright_first).deletion
    shares = np.maximum(0.5 - FRACTIONS, 0)
    assert deletion[0] == pytest.approx(np.trapezoid(shares, FRACTIONS))


def test_random_maps_have_the_same_values_in_other_places() -> None:
    maps = np.random.default_rng(0).random((3, 5, 7))
    moved = random_maps(maps, np.random.default_rng(1))
    assert not (moved == maps).all()
    np.testing.assert_array_equal(
        np.sort(moved.reshape(3, -1), axis=1), np.sort(maps.reshape(3, -1), axis=1)
    )


def test_rank_correlations() -> None:
    rising = np.arange(12.0).reshape(1, 3, 4)
    assert rank_correlations(rising, np.exp(rising))[0] == pytest.approx(1)
    assert rank_correlations(rising, -rising)[0] == pytest.approx(-1)
    assert rank_correlations(rising, np.ones((1, 3, 4)))[0] == 0


def test_the_last_feature_map_is_before_pooling_to_a_pixel() -> None:
    layers = nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Conv2d(2, 2, 1)
    )
    assert feature_layer(layers, torch.zeros(1, 1, 8, 8)) is layers[1]
    with pytest.raises(ValueError, match="no convolution"):
        feature_layer(nn.Sequential(nn.Flatten()), torch.zeros(1, 1, 8, 8))


def test_each_model_has_its_methods() -> None:
    assert supported_methods("mnist_cnn") == list(METHODS)
    assert supported_methods("vit") == ["integrated_gradients", "occlusion"]
    assert supported_methods("probe_resnet18") == list(METHODS)
    assert supported_methods("svm") == ["occlusion"]
    assert choose_method("classification", ["svm"], None) == "occlusion"
    assert choose_method("classification", ["resnet18"], None) == "integrated_gradients"
    # All members of an ensemble must support the method.
    with pytest.raises(
        ConfigError, match="the model 'vit', which has no convolutional feature map"
    ):
        choose_method("classification", ["resnet18", "vit"], "gradcam")


@pytest.mark.parametrize(
    ("task", "model", "method", "message"),
    [
        ("segmentation", "unet", None, "segmentation cannot be explained; those of classification"),
        ("classification", "svm", "gradcam", "a baseline without gradients. Use occlusion"),
        ("classification", "vit", "gradcam", "no convolutional feature map"),
        ("classification", "vit", "lime", "unknown method 'lime'"),
    ],
)
def test_what_cannot_be_explained_is_refused(
    task: str, model: str, method: str | None, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        choose_method(task, [model], method)


def test_confident_mistakes_come_first() -> None:
    confidences = np.linspace(0.6, 0.9, 40)
    chances = np.stack([confidences, 1 - confidences], axis=1)
    targets = np.where(np.arange(40) % 4 == 0, 1, 0)
    rows = choose_rows(chances, targets)
    assert rows[:MISTAKES].tolist() == [36, 32, 28, 24, 20, 16, 12, 8]
    assert len(rows) == MISTAKES + CORRECT
    assert (targets[rows[MISTAKES:]] == 0).all()
    assert len(choose_rows(chances[:3], np.ones(3, int))) == 3


def test_nearest_images_have_the_same_direction() -> None:
    features = np.array([[1.0, 0.0], [0.0, 3.0], [0.5, 0.6]])
    rows, similarities = nearest_rows(np.array([[0.0, 1.0]]), features, 2)
    assert rows.tolist() == [[1, 2]]
    assert similarities[0, 0] == pytest.approx(1)


def test_the_plane_separates_groups_and_needs_some_images() -> None:
    features = np.random.default_rng(0).normal(size=(40, 5))
    features[20:] += 30
    points = map_in_plane(features)
    assert points is not None
    assert (points.min(), points.max()) == (0, 1)
    centres = points[:20].mean(axis=0), points[20:].mean(axis=0)
    within = np.linalg.norm(points[:20] - centres[0], axis=1).mean()
    assert np.linalg.norm(centres[0] - centres[1]) > 2 * within
    assert map_in_plane(features[:9]) is None


def test_a_picture_is_coloured_where_the_map_is_high() -> None:
    values = np.zeros((10, 10))
    values[:5] = 1
    picture = np.asarray(
        Image.open(io.BytesIO(draw_map(np.full((10, 10, 1), 90, np.uint8), values)))
    )
    assert picture.shape == (SIDE, SIDE, 3)
    assert (picture[-1] == 90).all()
    assert picture[0, 0, 0] > picture[0, 0, 2] + 50


def test_a_trained_network_is_explained_with_its_own_scaling(tmp_path: Path) -> None:
    settings = {"model.name": "mnist_cnn", "epochs": 1, "data.train_limit": 60}
    config = TrialConfig().override({**settings, "precision": "fp32", "data.scaling": "standard"})
    dataset = load(config.data)
    list(run_trial(config, dataset, tmp_path))
    images = dataset.val.images[:4]
    with load_explainable(config, dataset, next(tmp_path.glob("epoch-*"))) as model:
        assert isinstance(model.networks[0], Logits)
        pixels = torch.from_numpy(images).float()
        chances = model.networks[0](pixels).double().softmax(dim=1).numpy()
        np.testing.assert_allclose(chances, model.predict(images), atol=1e-6)
        for method in METHODS:
            maps = COMPUTE[method](model, images, np.zeros(4, np.int64))
            assert maps.shape == images.shape[:3]
            assert np.abs(maps).max() > 0
