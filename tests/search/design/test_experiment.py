from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cluster.runtime.resources import Demand
from search.design.budget import Budget, limit
from search.design.experiment import Experiment, base_of
from search.space import Choice, Float, Int, SearchSpace
from search.spaces.find import find
from tests.support.played import changed
from trainables.config import TrialConfig
from trainables.datasets.arrays import Dataset, Part
from trainables.errors import ConfigError


def dataset(images: int, side: int) -> Dataset:
    part = Part(np.zeros((images, side, side, 1), np.uint8), np.zeros(images, np.int64))
    return Dataset("made", ("a", "b"), part, part, part, "f00d")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "../x"}, "--name must have 1 to 64 of the characters"),
        ({"name": ""}, "--name must have 1 to 64 of the characters"),
        ({"name": "a" * 65}, "--name must have 1 to 64 of the characters"),
        ({"name": "-rf"}, "--name must have 1 to 64 of the characters"),
        ({"name": "Blut Bild\xe4r"}, "(got 'Blut Bild\xe4r'; for example 'Blut-Bildaer')"),
        (
            {"algorithm": "beyes"},
            "unknown algorithm 'beyes'. Known: bayes, gp, grid, random. Did you mean 'bayes'?",
        ),
        (
            {"scheduler": "ahsa"},
            "unknown scheduler 'ahsa'. Known: asha, fifo, halving, hyperband, median.",
        ),
        ({"trials": 0}, "--trials must be >= 1 (got 0)"),
        ({"max_epochs": -5}, "--max-epochs must be >= 1 (got -5)"),
        ({"concurrency": 0}, "--concurrency must be >= 1"),
        (
            {"budget": Budget((limit("2gpu-hours"),))},
            "--budget 2 gpu-hours limits GPU time, but the trials do not use a GPU.",
        ),
        (
            {"budget": Budget((limit("20usd"),))},
            "--budget 20 usd requires the price of one device per hour",
        ),
        ({"budget": Budget((), -1.0)}, "--price must be positive and finite (got -1)"),
        ({"budget": Budget((), float("nan"))}, "--price must be positive and finite (got nan)"),
        ({"stop_at_chance": -1}, "--stop-at-chance must be at least 0 trials (got -1)"),
        ({"min_gain": -0.1}, "--min-gain must be at least 0 and below 100 points (got -0.1)"),
        ({"demand": Demand(cpus=float("nan"))}, "--cpus-per-trial must be > 0"),
        ({"demand": Demand(cpus=0)}, "--cpus-per-trial must be > 0"),
        ({"space": SearchSpace({"model.filter_size": Int(3, 7)})}, "model.filter_size must be odd"),
        (
            {
                "space": SearchSpace(
                    {
                        "optimizer.name": Choice("adam", "sgd"),
                        "optimizer.momentum": Choice(None, 0.9),
                    }
                )
            },
            "requires optimizer.name=sgd",
        ),
        (
            {"space": SearchSpace({"optimizer.lr": Float(0.1, 0.2)})},
            "'optimizer.lr' is a range without steps",
        ),
        (
            {"space": SearchSpace({"optimizer.lr": Choice(0.1, -1)})},
            "optimizer.lr must be > 0 (got -1)",
        ),
        (
            {"space": SearchSpace({"seed": Choice(*range(20_000))})},
            "has 20,000 grid points (limit 10,000). Use --trials N",
        ),
    ],
)
def test_nonsense_is_refused_at_birth(
    experiment: Experiment, change: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        changed(experiment, **change)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_does_not_fit_the_data_is_named_once_each(experiment: Experiment) -> None:
    space = SearchSpace(
        {"batch_size": Choice(32, 64, 128), "model.name": Choice("table2", "multi_scale")}
    )
    problems = list(changed(experiment, space=space).problems(dataset(images=100, side=3)))
    assert problems == [
        (
            "table2 needs images of at least 4 x 4 pixels (got 3 x 3). "
            "Use --set data.image_size=4 or another model."
        ),
        (
            "multi_scale needs images of at least 4 x 4 pixels (got 3 x 3). "
            "Use --set data.image_size=4 or another model."
        ),
        (
            "batch_size 128 exceeds the 100 training images. Use a smaller one with --set "
            "batch_size=N, or add images."
        ),
    ]


def test_a_family_that_cannot_take_the_images_is_left_out_of_the_search(
    experiment: Experiment,
) -> None:
    """AlexNet's and Inception's smallest images are 63 and 75 pixels high; the search goes on
    without them, and says what would have them in.
    """
    zoo = changed(experiment, space=find("zoo"), algorithm="bayes", trials=12)
    fitting, left_out = zoo.fitting(dataset(images=500, side=32))
    names = fitting.space.domains["model.name"].values or ()
    assert set(zoo.space.domains["model.name"].values or ()) - set(names) == {
        "alexnet",
        "inception_v3",
    }
    assert {params["model.name"] for params in fitting.space.first} == set(names)
    assert left_out == [
        (
            "note: a model was left out: alexnet needs images of at least 63 x 63 pixels "
            "(got 32 x 32). "
            "Use --set model.input_size=63 or another model."
        ),
        (
            "note: a model was left out: inception_v3 needs images of at least 75 x 75 "
            "pixels (got 32 x 32). "
            "Use --set model.input_size=75 or another model."
        ),
    ]
    assert list(fitting.problems(dataset(images=500, side=32))) == []


def test_batch_sizes_above_the_number_of_images_are_left_out_unless_all_are(
    experiment: Experiment,
) -> None:
    search = changed(experiment, space=find("table3"))
    fitting, left_out = search.fitting(dataset(images=100, side=8))
    assert fitting.space.domains["batch_size"].values == (32, 64)
    assert left_out == [
        "note: batch_size 128 was left out, because there are only 100 training images"
    ]
    assert list(fitting.problems(dataset(images=100, side=8))) == []
    assert search.fitting(dataset(images=128, side=8)) == (search, [])
    none_fit, left_out = search.fitting(dataset(images=20, side=8))
    assert (none_fit, left_out) == (search, [])
    assert list(none_fit.problems(dataset(20, 8))) == [
        (
            "batch_size 32, 64, 128 exceeds the 20 training images. Use a smaller one with --set "
            "batch_size=N, or add images."
        )
    ]


def test_what_was_got_is_what_the_network_would_see(experiment: Experiment) -> None:
    space = find("zoo").fixed({"model.input_size": 20})
    _, left_out = changed(experiment, space=space, algorithm="bayes", trials=12).fitting(
        dataset(images=500, side=32)
    )
    assert (
        "note: a model was left out: densenet121 needs images of at least 29 x 29 pixels "
        "(got 20 x 20)." in "\n".join(left_out)
    )


@pytest.mark.parametrize(("size", "side"), [({"model.input_size": 80}, 32), ({}, 80)])
def test_nothing_is_left_out_of_images_that_are_large_enough_or_are_enlarged(
    experiment: Experiment, size: dict[str, Any], side: int
) -> None:
    zoo = changed(experiment, space=find("zoo").fixed(size), algorithm="bayes", trials=12)
    assert zoo.fitting(dataset(images=500, side=side)) == (zoo, [])


def test_baselines_are_left_out_where_several_workers_train_a_trial(experiment: Experiment) -> None:
    zoo = changed(
        experiment,
        space=find("zoo"),
        algorithm="bayes",
        trials=12,
        demand=Demand(cpus=0.5, workers=2),
    )
    fitting, left_out = zoo.fitting(dataset(images=500, side=80))
    assert not {"svm", "knn", "tree"} & set(fitting.space.domains["model.name"].values or ())
    assert left_out[0] == (
        "note: a model was left out: svm is a baseline, and a baseline is fitted by one "
        "process (got --workers 2). "
        "Remove --workers, or use a network."
    )
    assert list(fitting.problems(dataset(images=500, side=80))) == []


def test_a_model_that_is_there_under_a_condition_is_no_trouble(experiment: Experiment) -> None:
    conditional = SearchSpace(
        {
            "optimizer.name": Choice("adam", "sgd"),
            "model.name": Choice("table2", "mnist_cnn", when={"optimizer.name": "sgd"}),
        }
    )
    search = changed(experiment, space=conditional)
    assert search.fitting(dataset(images=500, side=8)) == (search, [])


def test_where_nothing_is_left_to_search_one_trial_is_planned(experiment: Experiment) -> None:
    space = find("zoo").fixed({"model.name": "table2"})
    assert (
        changed(
            experiment, space=space, base=base_of(TrialConfig(), space), algorithm="bayes"
        ).planned_trials
        == 1
    )


def test_a_model_that_was_asked_for_alone_is_refused(experiment: Experiment) -> None:
    space = find("zoo").fixed({"model.name": "alexnet"})
    alone = changed(
        experiment, space=space, base=base_of(TrialConfig(), space), algorithm="bayes", trials=12
    )
    fitting, left_out = alone.fitting(dataset(images=500, side=32))
    assert not left_out
    assert list(fitting.problems(dataset(images=500, side=32))) == [
        (
            "alexnet needs images of at least 63 x 63 pixels (got 32 x 32). "
            "Use --set model.input_size=63 or another model."
        )
    ]


def test_what_fits_has_no_problems(experiment: Experiment) -> None:
    assert list(experiment.problems(dataset(images=100, side=8))) == []


@pytest.mark.parametrize(("max_epochs", "horizon"), [(None, 9), (4, 4), (100, 9)])
def test_the_horizon_is_the_longest_trial(
    experiment: Experiment, max_epochs: int | None, horizon: int
) -> None:
    assert changed(experiment, max_epochs=max_epochs).horizon == horizon


def test_the_description_is_plain_and_complete(experiment: Experiment) -> None:
    described = experiment.describe()
    assert described["space"]["domains"]["epochs"] == {"kind": "Choice", "options": (3, 6, 9)}
    assert described["base"] == experiment.base.to_dict()
    assert described["trials"] == 9


@pytest.fixture
def settings_of() -> Callable[..., Experiment]:
    """The experiment that a command line makes."""
    from search.operations.run import experiment_of
    from search.run import parse_options

    def make(*words: str) -> Experiment:
        return experiment_of(parse_options(["--device", "cpu", *words]).request)

    return make


def test_a_setting_changes_the_base_and_fixes_a_searched_key(
    settings_of: Callable[..., Experiment],
) -> None:
    made = settings_of(
        "--space",
        "table3",
        "--set",
        "epochs=5",
        "--set",
        "optimizer.weight_decay=0.1",
        "--seed",
        "7",
    )
    assert "epochs" not in made.space.domains
    assert made.space.size == 81
    assert (
        made.base.epochs,
        made.base.optimizer.weight_decay,
        made.base.seed,
        made.base.data.split_seed,
    ) == (5, 0.1, 7, 7)
    assert made.config({"optimizer.lr": 0.1}).epochs == 5


def test_flip_can_be_asked_for_where_it_keeps_the_meaning(
    settings_of: Callable[..., Experiment],
) -> None:
    assert settings_of(
        "--space", "smoke", "--data", "cifar10", "--set", "augment.flip=true"
    ).base.augment.flip
    with pytest.raises(ConfigError, match=r"augment\.flip cannot be used for 'mnist'"):
        settings_of("--space", "smoke", "--data", "mnist", "--set", "augment.flip=true")


def test_a_folder_is_named_in_the_data_option(settings_of: Callable[..., Experiment]) -> None:
    made = settings_of("--space", "smoke", "--data", "folder:/some/flowers")
    assert (made.base.data.name, made.base.data.root) == ("folder", "/some/flowers")
    assert made.name.startswith("smoke-folder-")


def test_two_equal_command_lines_make_equal_experiments(
    settings_of: Callable[..., Experiment],
) -> None:
    first, second = (settings_of("--space", "table3", "--name", "x") for _ in range(2))
    assert first == replace(second)


def test_the_baselines_features_can_be_fixed(experiment: Experiment) -> None:
    space = find("baselines").fixed({"model.features": "lbp"})
    search = changed(experiment, space=space, base=base_of(TrialConfig(), space))
    assert search.planned_trials == 24
    assert {search.config(params).model.features for params in space.points()} == {"lbp"}
    assert {search.config(params).model.name for params in space.points()} == {"svm", "knn", "tree"}
    assert search.horizon == 1


def test_a_grid_that_nobody_puts_in_order_is_refused(experiment: Experiment) -> None:
    space = SearchSpace(
        {"seed": Int(1, 10**6), "epochs": Int(1, 9, when={"seed": 1})}, base=experiment.space.base
    )
    with pytest.raises(
        ConfigError,
        match=r"1,000,008 grid points, which are too many to shuffle .* Use --algorithm random",
    ):
        changed(experiment, space=space, trials=5)


def test_a_space_that_searches_the_model_may_name_another_task_than_the_folder() -> None:
    """A folder of photographs alone is recognised for no other task than classification."""
    folder = TrialConfig().override({"data.name": "folder", "data.root": "/photographs"})
    base = base_of(folder, find("super_resolution"))
    assert (base.data.task, base.metric, base.data.root) == (
        "super_resolution",
        "gain",
        "/photographs",
    )
    assert base_of(folder, find("segmentation_zoo")).data.task == "segmentation"
