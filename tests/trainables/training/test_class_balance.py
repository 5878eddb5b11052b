"""Classes of unlike size: weighted in the loss, or drawn equally often."""

import dataclasses

import numpy as np
import pytest
import torch
from sklearn.svm import SVC
from torch.nn import functional

from trainables.baselines.base import load_baseline
from trainables.baselines.features import compute_features
from trainables.datasets.arrays import Dataset, Part
from trainables.datasets.targets import class_weights
from trainables.tasks.metrics import WithAuxiliary, losses
from trainables.training.loop import Training

LABELS = np.array([0] * 20 + [1] * 5)


@pytest.fixture
def unlike(make_dataset):
    """Twenty training images of one class and five of another, told apart by brightness."""

    def make(**values):
        dataset = make_dataset(classes=2, **values)
        images = np.where(LABELS, 200, 60).astype(np.uint8).repeat(64).reshape(-1, 8, 8, 1)
        images += np.arange(64, dtype=np.uint8).reshape(8, 8, 1) // 4
        return dataclasses.replace(dataset, train=Part(images, LABELS))

    return make


@pytest.mark.parametrize(("kind", "ratio"), [("none", 1), ("sqrt", 2), ("balanced", 4)])
def test_a_rare_class_weighs_more_and_the_mean_is_one(kind, ratio):
    weights = class_weights(kind, np.bincount(LABELS, minlength=2))
    assert weights[1] / weights[0] == pytest.approx(ratio)
    assert weights[LABELS].mean() == pytest.approx(1)


def test_the_weighted_loss_is_followed_and_the_plain_one_told():
    logits, labels = torch.randn(6, 2), torch.tensor([0, 0, 0, 1, 1, 0])
    weights = torch.tensor([0.5, 2.0])[labels]
    each = functional.cross_entropy(logits, labels, reduction="none")
    followed, told = losses(logits, labels, weights)
    assert float(followed) == pytest.approx(float((each * weights).mean()))
    assert float(told) == pytest.approx(float(each.mean()))


def test_auxiliary_heads_are_weighted_too():
    logits, labels = torch.randn(6, 2), torch.tensor([0, 0, 0, 1, 1, 0])
    weights = torch.tensor([0.5, 2.0])[labels]
    alone, _ = losses(logits, labels, weights)
    followed, told = losses(WithAuxiliary(logits, (logits,), 0.3), labels, weights)
    assert float(followed) == pytest.approx(1.3 * float(alone))
    assert float(told) == pytest.approx(float(functional.cross_entropy(logits, labels)))


def test_an_epoch_by_balanced_sampling_is_as_long_and_has_the_classes_equally_often(
    unlike, make_config
):
    config, dataset = make_config(train__sampling="balanced"), unlike()
    training = Training(config, dataset)
    drawn = np.concatenate([training.draws(epoch)[0].flatten().numpy() for epoch in range(1, 41)])
    assert len(training.draws(1)[0].flatten()) == len(
        Training(make_config(), dataset).draws(1)[0].flatten()
    )
    assert LABELS[drawn].mean() == pytest.approx(0.5, abs=0.06)
    assert set(drawn) == set(range(25))
    again = Training(config, dataset).draws(3)[0]
    assert torch.equal(again, training.draws(3)[0])


@pytest.mark.parametrize(
    "values", [{"train__class_weights": "balanced"}, {"train__sampling": "balanced"}], ids=str
)
def test_balance_changes_the_training_and_not_what_is_validated(values, unlike, make_config):
    plain, balanced = (
        [epoch.values for epoch in Training(make_config(**each), unlike()).epochs()]
        for each in ({}, values)
    )
    assert plain[-1]["train/loss"] != balanced[-1]["train/loss"]
    assert plain[-1].keys() == balanced[-1].keys()


@pytest.mark.parametrize("name", ["svm", "tree"])
def test_a_baseline_is_fitted_as_scikit_learn_balances(name, unlike, make_config):
    dataset = unlike()
    inputs = compute_features(dataset.train.images, "hog") + np.random.default_rng(0).normal(
        0, 1, (25, 1)
    ).astype(np.float32)
    config = make_config(
        model__name=name, model__width=None, model__dropout=None, train__class_weights="balanced"
    )
    found = load_baseline(config).fit_to(inputs, dataset)
    if name == "svm":
        gamma = 1 / (inputs.shape[1] * float(inputs.var()))
        theirs = SVC(C=10.0, gamma=gamma, class_weight="balanced").fit(inputs, LABELS)
        assert found.svc_.decision_function(inputs) == pytest.approx(
            theirs.decision_function(inputs), abs=1e-6
        )
    else:
        theirs = found.__class__(max_depth=12, random_state=0, class_weight="balanced")
        assert (theirs.fit(inputs, LABELS).predict(inputs) == found.predict(inputs)).all()
        assert found.tree_.value[0].flatten() == pytest.approx([0.5, 0.5])


def test_each_fold_weighs_by_its_own_training_images(make_config):
    part = Part(np.zeros((25, 8, 8, 1), np.uint8), LABELS)
    dataset = Dataset("made", ("a", "b"), part, part, None, "f", folds=5)
    fold = dataset.fold(2, 0)
    training = Training(make_config(train__class_weights="balanced"), fold)
    assert training.class_weights.tolist() == pytest.approx(
        class_weights("balanced", np.bincount(fold.train.targets, minlength=2)).tolist()
    )
