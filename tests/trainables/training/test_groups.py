"""Groups in training: drawn equally often, or weighted by their losses (group DRO)."""

import dataclasses

import numpy as np
import pytest
import torch

from trainables.checkpoints import checkpoint
from trainables.errors import ConfigError
from trainables.fairness.groups import Attributes
from trainables.fusion.planner import unsuitability
from trainables.training.group_weights import GroupWeights
from trainables.training.loop import Training
from trainables.training.world import World

DRO = {"data__groups": "g.csv", "data__name": "folder", "train__group_dro": 0.5}


@pytest.fixture
def grouped(make_dataset):
    """24 training images of 3 classes; every fourth one has a red mark."""
    dataset = make_dataset()
    parts = {
        title: dataclasses.replace(
            part, names=tuple(f"{title}/{number}.png" for number in range(len(part)))
        )
        for title, part in (("train", dataset.train), ("val", dataset.val), ("test", dataset.test))
    }
    numbers = {name: row % 4 // 3 for part in parts.values() for row, name in enumerate(part.names)}
    attributes = Attributes(("mark",), (("green",), ("red",)), numbers)
    return dataclasses.replace(dataset, attributes=attributes, **parts)


def test_classes_within_groups_are_drawn_equally_often(grouped, make_config):
    config = make_config(
        data__name="folder", data__groups="g.csv", train__sampling="groups", batch_size=24
    )
    training = Training(config, grouped)
    drawn = np.concatenate([training.draws(epoch)[0].flatten().numpy() for epoch in range(1, 101)])
    cells = training.train.groups[drawn] * 3 + grouped.train.targets[drawn]
    shares = np.bincount(cells, minlength=6) / len(cells)
    assert shares == pytest.approx(np.full(6, 1 / 6), abs=0.03)


def test_weights_are_those_of_the_papers_algorithm():
    groups = torch.tensor([0, 0, 0, 1, 2])
    weights = GroupWeights(groups, 0.1, World())
    rows, losses = torch.tensor([0, 1, 3]), torch.tensor([1.0, 3.0, 5.0])
    first = weights.weigh(rows)
    # The mean over the batch is the weighted sum of the groups' mean losses.
    assert float((first * losses).mean()) == pytest.approx((2.0 + 5.0) / 3)
    weights.update(rows, losses)
    grown = np.exp(0.1 * np.array([2.0, 5.0, 0.0])) / 3
    assert weights.shares.numpy() == pytest.approx(grown / grown.sum())
    again = GroupWeights(groups, 0.1, World())
    again.load_state(weights.state())
    assert torch.equal(again.shares, weights.shares)


def test_a_group_with_a_higher_loss_gets_more_weight_in_a_training(grouped, make_config):
    training = Training(make_config(**DRO, epochs=3), grouped)
    plain = Training(make_config(epochs=3), grouped)
    values = [epoch.values["train/loss"] for epoch in training.epochs()]
    assert values != [epoch.values["train/loss"] for epoch in plain.epochs()]
    assert len(training.group_weights.shares) == 6
    assert float(training.group_weights.shares.sum()) == pytest.approx(1)
    assert training.group_weights.shares.std() > 0


def test_a_resumed_training_has_the_weights_of_an_uninterrupted_one(grouped, make_config, tmp_path):
    whole = Training(make_config(**DRO, epochs=3), grouped)
    values = [epoch.values["val/loss"] for epoch in whole.epochs()]
    first = Training(make_config(**DRO, epochs=3), grouped)
    first.next_epoch()
    saved = checkpoint.save(tmp_path, first.state(), {})
    second = Training(make_config(**DRO, epochs=3), grouped)
    second.load_state(checkpoint.load(saved))
    assert [epoch.values["val/loss"] for epoch in second.epochs()] == values[1:]
    assert second.group_weights.state() == whole.group_weights.state()


def test_the_worst_group_is_validated_and_evaluated(grouped, make_config):
    config = make_config(**DRO, metric="worst_group_accuracy", batch_size=24)
    training = Training(config, grouped)
    values = training.next_epoch().values
    chances = training.task.from_outputs(training.validated.batches)
    result = training.task.evaluate(chances, grouped.val, grouped, training.metric)
    assert result["metric"]["value"] == values["val/worst_group_accuracy"]
    rows = result["groups"]["attributes"]["mark"]["groups"]
    assert [(row["name"], row["images"]) for row in rows] == [("green", 9), ("red", 3)]
    assert result["tables"][0]["title"] == "Groups: mark"


@pytest.mark.parametrize("values", [{"train__sampling": "groups"}, {"train__group_dro": 0.01}])
def test_groups_must_be_known(make_config, values):
    with pytest.raises(ConfigError, match=r"requires groups of images\. Pass --groups FILE\.csv"):
        make_config(**values)


def test_the_lowest_share_is_not_averaged_over_folds(make_config):
    with pytest.raises(ConfigError, match=r"cannot be combined with data\.folds"):
        make_config(metric="worst_group_accuracy", data__folds=3)


def test_images_are_not_weighted_twice(make_config):
    with pytest.raises(ConfigError, match="both weight the images in the loss"):
        make_config(**DRO, train__class_weights="balanced")


def test_group_dro_is_not_fused(grouped, make_config):
    assert "train.group_dro" in unsuitability(make_config(**DRO), grouped, "cpu", 8)


def test_mixed_images_have_no_group(make_config):
    with pytest.raises(ConfigError, match="a mixed image may belong to two groups"):
        make_config(**DRO, augment__mix="mixup")
