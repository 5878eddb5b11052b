import itertools
from typing import Any

import numpy as np
import pytest

from search.operations.run import experiment_of
from search.operations.run_request import RunRequest
from search.space import SearchSpace
from search.spaces.auto import (
    FEATURES_EPOCHS,
    FEATURES_SHARE,
    FIRST_SHARE,
    FIRST_SIDE,
    LARGE,
    MOST_LABELS,
    SMALL,
    SPREADING,
    TRAINING_SHARE,
    TUNED,
    space_for,
)
from search.spaces.circumstances import MEASURED_SIDE, Circumstances
from search.spaces.find import adaptive, default, names
from search.spaces.probe import PROBES
from trainables.config import TrialConfig
from trainables.errors import ConfigError
from trainables.tasks import TASKS
from trainables.values import Params

PROBED = {name.removeprefix("probe_") for name in PROBES}


def models(space: SearchSpace) -> set[str]:
    return set(space.domains["model.name"].values or ())


def points(space: SearchSpace, count: int = 200) -> list[Params]:
    """Return all first points, and random ones."""
    generator = np.random.default_rng(0)
    first = [space.begin(number, generator) for number in range(len(space.first))]
    return [*filter(None, first), *(space.sample(generator) for _ in range(count))]


def facts(**changes: Any) -> Circumstances:
    changes = {"unlabelled": 0, **changes}
    if "epoch_s" in changes:
        changes.setdefault("cpu_epoch_s", changes["epoch_s"])
    return Circumstances(**changes)


def test_without_a_limit_of_time_no_kind_of_model_is_left_out() -> None:
    assert models(space_for(facts())) == {"svm", *PROBES, *TUNED, *SMALL}


def test_images_without_labels_are_learned_from_right_after_the_probes() -> None:
    space = space_for(facts(unlabelled=500, images=100, weights=["resnet18"]))
    of_resnet = {"probe_resnet18", "spread_resnet18", "resnet18", "pseudo_resnet18"}
    assert models(space) == {"svm", *of_resnet, *SMALL}
    order = [point["model.name"] for point in space.first]
    assert order[1:3] == ["probe_resnet18", "spread_resnet18"]
    assert order.index("pseudo_resnet18") == order.index("resnet18") + 1
    many_labels = space_for(facts(unlabelled=500, images=MOST_LABELS + 1, weights=["resnet18"]))
    assert models(many_labels) == {"svm", "probe_resnet18", "resnet18", *SMALL}, "they add nothing"


def test_a_network_that_trains_on_images_without_labels_takes_longer() -> None:
    def space(unlabelled: int) -> SearchSpace:
        return space_for(
            facts(
                unlabelled=unlabelled,
                images=100,
                weights=["resnet18"],
                time_s=100.0,
                epoch_s=lambda _: 2.0,
            )
        )

    assert {"resnet18", "pseudo_resnet18"} <= models(space(100))
    assert "pseudo_resnet18" not in models(space(2000))


def test_photographs_are_probed_and_tuned_before_networks_are_trained_from_scratch() -> None:
    order = [point["model.name"] for point in space_for(facts()).first]
    assert order[0] == "svm"
    assert order[1] == PROBES[0]
    places = [order.index(name) for name in (PROBES[-1], TUNED[0], SMALL[0])]
    assert places == sorted(places)


def test_other_images_are_first_given_to_networks_that_are_trained_from_scratch() -> None:
    order = [point["model.name"] for point in space_for(facts(are_photographs=False)).first]
    assert order[: 1 + len(SMALL)] == ["svm", *SMALL]


def test_each_model_has_a_first_trial() -> None:
    for photographs, side in itertools.product([False, True], [28, 224]):
        space = space_for(facts(are_photographs=photographs, side=side))
        assert {point["model.name"] for point in space.first} == models(space)


def test_the_most_promising_probe_is_first_tried_with_the_largest_images_too() -> None:
    sides = [
        point["model.input_size"]
        for point in space_for(facts()).first
        if point["model.name"] == PROBES[0]
    ]
    assert sides == [128, 224]


def test_networks_without_weights_are_trained_from_scratch_on_large_images_only() -> None:
    with_weights = {"mobilenet_v2"}
    assert models(space_for(facts(weights=with_weights, side=32))) == {
        "svm",
        "probe_mobilenet_v2",
        "mobilenet_v2",
        *SMALL,
    }
    large = space_for(facts(weights=with_weights, side=224))
    assert models(large) == {"svm", "probe_mobilenet_v2", "mobilenet_v2", *LARGE}
    begun = {point["model.name"]: point.get("model.pretrained") for point in points(large)}
    assert begun["mobilenet_v2"] is True
    assert begun["resnet18"] is None
    assert all(point.get("model.input_size") for point in points(large) if "epochs" in point)


@pytest.mark.parametrize("time_s", [10, 60, 200, 3600])
def test_no_training_is_planned_to_take_more_than_its_share(time_s: float) -> None:
    seconds = {"mobilenet_v2": 3.0, "resnet18": 1.5, "deep_cnn": 0.5, "mnist_cnn": 4.0, "svm": 0.2}
    space = space_for(
        facts(
            time_s=time_s,
            epoch_s=lambda name: seconds.get(name, 2.0),
            weights=PROBED,
            images=100,
            unlabelled=200,
        )
    )
    for point in points(space):
        kind, _, name = point["model.name"].rpartition("probe_")
        if point["model.name"] in SPREADING:
            kind, name = "spread", point["model.name"].removeprefix("spread_")
        side = point.get("model.input_size", MEASURED_SIDE)
        epoch_s = seconds.get(name, 2.0) * (side / MEASURED_SIDE) ** 2
        if "epochs" in point:
            assert point["epochs"] * epoch_s <= TRAINING_SHARE * time_s
        else:
            features_s = epoch_s * (FEATURES_EPOCHS if name != "svm" else 1)
            is_first = point["model.name"] == PROBES[0] and side <= FIRST_SIDE
            share = FIRST_SHARE if is_first else FEATURES_SHARE
            assert features_s * (3 if kind == "spread" else 1) <= share * time_s


def test_more_time_gives_larger_images_and_more_epochs() -> None:
    spaces = [
        space_for(facts(time_s=time_s, epoch_s=lambda name: 2.0)) for time_s in (30, 100, 1000)
    ]
    tuned = [[point for point in points(space) if point["model.name"] in TUNED] for space in spaces]
    largest = [max((each["model.input_size"] for each in some), default=0) for some in tuned]
    longest = [max((each["epochs"] for each in some), default=0) for some in tuned]
    assert largest == sorted(largest)
    assert largest[0] < largest[-1]
    assert longest == sorted(longest)


def test_the_classifier_without_a_network_remains_if_the_time_is_too_short_for_all() -> None:
    assert models(space_for(facts(time_s=1.0, epoch_s=lambda name: 1e6))) == {"svm"}
    slow = {"time_s": 100.0, "epoch_s": lambda name: 1e6 * (name == "svm"), "images": 50_000}
    slow_fit = space_for(facts(**slow))
    assert "svm" not in models(slow_fit)


@pytest.mark.parametrize(
    ("images", "batches"),
    [(1, (2,)), (10, (10,)), (16, (16,)), (40, (16, 32)), (1000, (16, 32, 64))],
)
def test_batches_are_not_larger_than_the_data(images: int, batches: tuple[int, ...]) -> None:
    space = space_for(facts(images=images))
    assert space.domains["batch_size"].values == batches
    first = {point["batch_size"] for point in space.first if "batch_size" in point}
    assert first == {min(32, batches[-1])}


def test_a_model_that_the_user_has_chosen_is_searched_however_long_it_takes() -> None:
    slow = {"time_s": 1.0, "epoch_s": lambda name: 1e6}
    tuned = space_for(facts(fixed={"model.name": "mobilenet_v2"}, **slow))
    assert models(tuned) == {"mobilenet_v2"}
    assert {point["epochs"] for point in points(tuned)} == {3}
    assert all(point["model.pretrained"] for point in points(tuned))
    assert models(space_for(facts(fixed={"model.name": "probe_resnet18"}, **slow))) == {
        "probe_resnet18"
    }
    assert models(space_for(facts(fixed={"model.name": "svm"}, **slow))) == {"svm"}


def test_a_size_that_the_user_has_chosen_decides_on_the_epochs() -> None:
    space = space_for(
        facts(fixed={"model.input_size": 192}, time_s=400.0, epoch_s=lambda name: 4.0)
    )
    tuned = [point for point in points(space) if point["model.name"] in TUNED]
    assert {point["model.input_size"] for point in tuned} == {192}
    assert {point["epochs"] for point in tuned} == {5}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fixed": {"model.name": "densenet121"}}, "does not try the model 'densenet121'"),
        (
            {"fixed": {"model.name": "deep_cnn"}, "side": 224},
            "does not train deep_cnn on images of more than 64 pixels",
        ),
        (
            {"fixed": {"model.name": "resnet18"}, "weights": []},
            "uses resnet18 with pretrained weights, and none are available",
        ),
        (
            {"fixed": {"model.name": "spread_resnet18"}, "weights": ["mobilenet_v2"]},
            "uses spread_resnet18 with pretrained weights, and none are available",
        ),
    ],
)
def test_a_model_that_cannot_be_searched_is_refused(changes: Params, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        space_for(facts(**changes))


@pytest.mark.parametrize("weights", [None, [], ["squeezenet1_0"]])
@pytest.mark.parametrize("side", [8, 32, 65, 500])
@pytest.mark.parametrize("photographs", [False, True])
def test_every_point_makes_a_valid_config(
    weights: list[str] | None, side: int, photographs: bool
) -> None:
    space = space_for(facts(weights=weights, side=side, are_photographs=photographs, can_flip=True))
    base = TrialConfig().override({"data.name": "cifar10", **space.base})
    for point in [*space.edges(), *points(space)]:
        assert base.override(point).model.name == point["model.name"]


def test_every_task_has_a_default_space() -> None:
    assert all(default(task, "folder") in names(task) for task in TASKS)
    assert default("classification", "digits") == "table3"
    assert default("classification", "folder") == "auto"


@pytest.mark.parametrize(("data", "space"), [("digits", "table3"), ("scenes", "segmentation")])
def test_a_search_without_a_space_has_the_default_of_its_data(data: str, space: str) -> None:
    assert experiment_of(RunRequest(space=None, data=data)).space_name == space


def test_only_an_adaptive_space_adapts() -> None:
    assert adaptive("auto") is space_for
    assert adaptive("table3") is None
    assert adaptive("own.py:space") is None
    assert adaptive("") is None
