from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from search.design.budget import Budget, limit
from search.design.experiment import Experiment, base_of
from search.preflight import adapting
from search.preflight.adapting import (
    adapted,
    available_weights,
    circumstances,
    training_time,
    tried_text,
)
from search.process.lifetime import CommandStart
from search.spaces import auto
from search.spaces.find import find
from tests.search.preflight.test_first_step import of, photographs
from tests.support.played import changed
from trainables.catalog.models import MODELS
from trainables.config import TrialConfig
from trainables.errors import ConfigError


@pytest.fixture
def automatic(experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> Experiment:
    """A search of the space auto on a folder, whose command starts now."""
    monkeypatch.setattr(adapting, "command_start", lambda: CommandStart(0, 0.0))
    monkeypatch.setattr(CommandStart, "ago_s", 0.0)
    space, base = find("auto"), TrialConfig().override({"data.name": "folder"})
    return changed(
        experiment,
        space=space,
        space_name="auto",
        space_source="auto",
        base=base_of(base, space),
        algorithm="bayes",
        device="cpu",
        executor="inline",
    )


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Makes a folder with an empty file of weights for each of these networks."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "empty"))

    def make(*names: str) -> Path:
        (tmp_path / "weights").mkdir()
        for name in names:
            (tmp_path / "weights" / MODELS[name].weights).touch()
        return tmp_path / "weights"

    return make


def with_settings(search: Experiment, **settings: object) -> Experiment:
    paths = {path.replace("__", "."): value for path, value in settings.items()}
    space = search.space.fixed(paths)
    return changed(search, space=space, base=base_of(search.base, space), settings=paths)


def test_only_networks_with_weights_at_hand_are_probed_and_tuned(
    automatic: Experiment, weights: Callable[..., Path]
) -> None:
    search = with_settings(automatic, model__weights=str(weights("squeezenet1_0", "alexnet")))
    fitted, notes = adapted(search, of(photographs(20, side=32)))
    names = fitted.space.domains["model.name"].values
    assert names == ("svm", "probe_squeezenet1_0", "squeezenet1_0", "deep_cnn", "mnist_cnn")
    assert notes == []
    assert tried_text(fitted) == (
        "note: auto tries svm, probe_squeezenet1_0 (64 to 224 pixels), squeezenet1_0 (64 to 224 "
        "pixels, 10 epochs), deep_cnn (30 epochs), mnist_cnn (30 epochs)."
    )
    assert {config.model.weights for config in fitted.edges if config.model.pretrained} == {
        search.settings["model.weights"]
    }


def test_photographs_without_any_weights_are_told_how_to_get_some(
    automatic: Experiment, weights: Callable[..., Path]
) -> None:
    weights()
    fitted, (note,) = adapted(automatic, of(photographs(20)))
    assert "no pretrained weights are available" in note
    assert "--download" in note
    assert not any(config.model.pretrained for config in fitted.edges)
    grey = photographs(20)[..., :1]
    assert adapted(automatic, of(grey))[1] == []
    downloading = changed(automatic, download=True)
    assert adapted(downloading, of(photographs(20)))[1] == [], "they are downloaded"


def test_weights_that_may_be_downloaded_or_are_in_a_file_are_all_tried(
    automatic: Experiment, weights: Callable[..., Path]
) -> None:
    folder = weights("mobilenet_v2")
    assert available_weights(automatic) == []
    assert available_weights(changed(automatic, download=True)) is None
    file = str(folder / MODELS["mobilenet_v2"].weights)
    assert available_weights(with_settings(automatic, model__weights=file)) is None
    (folder / "manifest.json").touch()
    checkpoint = with_settings(automatic, model__weights=str(folder))
    assert available_weights(checkpoint) is None, "it is one network's"


def test_files_of_models_that_are_not_tried_do_not_matter(
    automatic: Experiment, weights: Callable[..., Path]
) -> None:
    folder = weights("mobilenet_v2")
    for name in ("vgg16_bn-a.pth", "vgg16_bn-b.pth"):
        (folder / name).touch()
    search = with_settings(automatic, model__weights=str(folder))
    assert available_weights(search) == ["mobilenet_v2"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model__weights": "{}"}, "has none of the files that --space auto can use"),
        ({"model__input_size": 192}, "--set model.input_size cannot be used.*no pretrained"),
        ({"model__unlabelled": "{}"}, "--unlabelled cannot be used.*no pretrained weights"),
    ],
)
def test_a_setting_that_no_model_has_any_more_is_refused_with_the_reason(
    settings: dict[str, object],
    message: str,
    automatic: Experiment,
    weights: Callable[..., Path],
) -> None:
    folder = weights()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(folder / "a.png")
    given = {path: str(value).format(folder) for path, value in settings.items()}
    given = {path: int(value) if value.isdigit() else value for path, value in given.items()}
    with pytest.raises(ConfigError, match=message):
        adapted(with_settings(automatic, **given), of(photographs(20, side=32)))


def test_images_without_labels_are_counted_and_left_out_where_labels_are_many(
    automatic: Experiment, weights: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = weights("squeezenet1_0")
    for number in range(3):
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(folder / f"{number}.png")
    both = {"model__weights": str(folder), "model__unlabelled": str(folder)}
    search, data = with_settings(automatic, **both), of(photographs(20, side=32))
    assert circumstances(search, data).unlabelled == 3
    fitted, _ = adapted(search, data)
    assert "spread_squeezenet1_0" in (fitted.space.domains["model.name"].values or ())
    monkeypatch.setattr(adapting, "MOST_LABELS", 10)
    monkeypatch.setattr(auto, "MOST_LABELS", 10)
    fitted, (note,) = adapted(search, data)
    assert "spread_squeezenet1_0" not in (fitted.space.domains["model.name"].values or ())
    assert "--unlabelled is not used: beside 20 labelled images" in note


def test_too_little_time_for_networks_with_weights_is_no_error(
    automatic: Experiment, weights: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    search = with_settings(automatic, model__weights=str(weights("squeezenet1_0")))
    search = changed(search, budget=Budget((limit("1m"),)))
    monkeypatch.setattr(adapting, "epoch_seconds", lambda *facts: 1e6)
    fitted, _ = adapted(search, of(photographs(20, side=32)))
    assert [config.model.name for config in fitted.edges] == ["svm"] * len(fitted.edges)


def test_a_fixed_models_options_do_not_hinder_the_measurement_of_others(
    automatic: Experiment, weights: Callable[..., Path]
) -> None:
    weights()
    search = with_settings(automatic, model__name="deep_cnn", model__layers=7)
    search = changed(search, budget=Budget((limit("1h"),)))
    fitted, _ = adapted(search, of(photographs(40, side=32)))
    assert {(config.model.name, config.model.layers) for config in fitted.edges} == {
        ("deep_cnn", 7)
    }


def test_the_users_settings_hold_in_the_adapted_space(
    automatic: Experiment, weights: Callable[..., Path]
) -> None:
    weights()
    search = with_settings(automatic, model__name="deep_cnn", epochs=3, optimizer__lr=0.01)
    fitted, _ = adapted(search, of(photographs(20, side=32)))
    assert {"model.name", "epochs", "optimizer.lr"}.isdisjoint(fitted.space.domains)
    assert {(config.model.name, config.epochs) for config in fitted.edges} == {("deep_cnn", 3)}


def test_the_images_decide_which_networks_and_changes_are_tried(
    automatic: Experiment, weights: Callable[..., Path]
) -> None:
    weights()
    large = adapted(automatic, of(photographs(20, side=224)))[0].space.domains
    small = adapted(automatic, of(photographs(20, side=32)))[0].space.domains
    assert "deep_cnn" in (small["model.name"].values or ())
    assert "deep_cnn" not in (large["model.name"].values or ())
    assert "augment.flip" in small
    digits = changed(automatic, base=automatic.base.override({"data.name": "digits"}))
    assert "augment.flip" not in adapted(digits, of(photographs(20)[..., :1]))[0].space.domains


@pytest.mark.parametrize(
    ("budget", "least", "most"), [("100s", 40, 100), ("1h", 3500, 3600), ("10epochs", None, None)]
)
def test_the_start_and_the_end_of_the_search_are_no_time_for_training(
    budget: str, least: float | None, most: float | None, automatic: Experiment
) -> None:
    search = changed(automatic, budget=Budget((limit(budget),)))
    time_s = training_time(search)
    assert (time_s is None) is (least is None)
    if time_s is not None and least is not None and most is not None:
        assert least <= time_s < most


def test_the_time_of_an_epoch_is_measured_for_these_images(
    automatic: Experiment, weights: Callable[..., Path]
) -> None:
    weights()
    facts = circumstances(
        changed(automatic, budget=Budget((limit("1h"),))), of(photographs(64, side=32))
    )
    few, many = facts.epoch_s("deep_cnn"), facts.epoch_s("resnet18")
    assert 0 < few < many
    assert facts.cpu_epoch_s("svm") > 0
    tiny = of(np.zeros((8, 4, 4, 1), np.uint8))
    assert circumstances(automatic, tiny).epoch_s("squeezenet1_0") > 0, "it resizes images"
    assert circumstances(automatic, tiny).epoch_s("svm") == 0.0, "they are too small for it"
    on_gpu = circumstances(changed(automatic, device="cuda"), tiny)
    assert on_gpu.epoch_s("deep_cnn") == 0.0
    assert on_gpu.cpu_epoch_s("deep_cnn") > 0


def test_another_space_stays_as_it_is(experiment: Experiment) -> None:
    search = changed(experiment, space_source="table3")
    assert adapted(search, of(photographs(20))) == (search, [])
