"""Where few photographs are led to trained weights, and where nobody is bothered."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision import models

from search.design.experiment import Experiment, base_of
from search.preflight.changes import changes, facts_now
from search.preflight.first_step import few_photographs, to_trained_weights
from search.preflight.prepare import Prepared, check_weights
from search.space import SearchSpace
from search.spaces.find import find
from tests.support.played import changed
from trainables.catalog.models import MODELS
from trainables.config import TrialConfig
from trainables.datasets.arrays import Dataset, Part
from trainables.errors import ConfigError
from trainables.inspection.leaks import inspect_data
from trainables.inspection.report import report_of

Images = np.ndarray


def photographs(count: int = 60, side: int = 64) -> Images:
    """Smooth colours with a sensor's noise, (count, side, side, 3)."""
    generator = np.random.default_rng(0)
    across = np.linspace(0, 1, side)
    shades = generator.uniform(40, 200, (count, 1, 1, 3)) * (0.5 + 0.5 * across[:, None, None])
    images = shades * (0.7 + 0.3 * across[None, :, None]) + generator.normal(0, 6, (side, side, 3))
    return images.clip(0, 255).astype(np.uint8)


def drawings() -> Images:
    """Discs of one colour on white."""
    rows, columns = np.mgrid[-32:32, -32:32]
    disc = (rows**2 + columns**2 < 400)[..., None]
    return np.where(disc, (200, 30, 30), 255)[None].repeat(60, 0).astype(np.uint8)


def of(images: Images) -> Dataset:
    targets = np.arange(len(images)) % 2
    part = Part(images, targets)
    return Dataset("folder", ("cat", "dog"), part, part, None, "fingerprint")


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts a family's weights, an empty file, into torch's cache, which begins empty."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)

    def put(*names: str) -> None:
        for name in names:
            (folder / MODELS[name].weights).touch()

    return put


def test_few_photographs_are_led_to_weights_in_the_cache(
    experiment: Experiment, cached: Callable[..., None]
) -> None:
    cached("mobilenet_v2", "alexnet")
    assert list(to_trained_weights(experiment, of(photographs()))) == [
        "note: with only 60 training photographs, networks with pretrained weights usually "
        "do much better. Try --space auto (the weights of mobilenet_v2, alexnet are in torch's "
        "cache)."
    ]


def test_a_family_that_auto_does_not_search_is_named(
    experiment: Experiment, cached: Callable[..., None]
) -> None:
    cached("densenet121")
    (line,) = to_trained_weights(experiment, of(photographs()))
    assert "--space transfer --set model.name=densenet121 (the weights of" in line


def test_without_weights_at_hand_nothing_is_said(
    experiment: Experiment, cached: Callable[..., None]
) -> None:
    cached()
    assert list(to_trained_weights(experiment, of(photographs()))) == []


@pytest.mark.parametrize("space", ["baselines", "transfer", "probe", "auto"])
def test_a_search_that_trains_no_network_from_nothing_is_left_alone(
    space: str, experiment: Experiment, cached: Callable[..., None]
) -> None:
    cached("resnet18")
    searched: SearchSpace = find(space)
    other = changed(
        experiment, space=searched, base=base_of(TrialConfig(), searched), algorithm="bayes"
    )
    assert list(to_trained_weights(other, of(photographs()))) == []


@pytest.mark.parametrize(
    ("what", "images"),
    [
        ("drawings", drawings()),
        ("grey", photographs()[..., :1]),
        ("grey, kept as colour", photographs()[..., :1].repeat(3, axis=3)),
        ("tiny", photographs(side=28)),
        ("many", photographs(2001, side=32)),
    ],
)
def test_what_is_no_photograph_or_not_few_is_none(
    what: str, images: Images, experiment: Experiment
) -> None:
    assert few_photographs(experiment.base.task, of(photographs()))
    assert not few_photographs(experiment.base.task, of(images)), what


def test_networks_without_weights_are_left_out_where_a_search_begins_and_not_later(
    experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save(models.squeezenet1_0().state_dict(), folder / MODELS["squeezenet1_0"].weights)
    searched = find("transfer")
    transfer = changed(
        experiment, space=searched, base=base_of(TrialConfig(), searched), algorithm="bayes"
    )
    left, digests, told = check_weights(transfer, of(photographs()), anew=True)
    assert left.space.domains["model.name"].values == ("squeezenet1_0",)
    assert {params["model.name"] for params in left.space.first} == {"squeezenet1_0"}
    assert list(digests) == [MODELS["squeezenet1_0"].weights]
    assert told == [
        "note: models that are left out: mobilenet_v2, resnet18, whose weights are not in "
        f"'{folder}' (use --download)"
    ]
    with pytest.raises(
        ConfigError,
        match=r"the weights of mobilenet_v2, resnet18, with which 'played' started, are missing at "
        r"'.*mobilenet_v2-7ebf99e0.pth', '.*'. Restore them there, or use --download\.",
    ):
        check_weights(transfer, of(photographs()), anew=False)


def test_a_search_that_began_before_this_was_asked_goes_on(experiment: Experiment) -> None:
    looked = inspect_data(of(photographs()), experiment.base.data)
    report = report_of(looked, experiment.base.data)
    prepared = Prepared(experiment, looked, report, None, [])  # type: ignore[arg-type]
    now = facts_now(experiment, prepared)
    assert now.data["few_photographs"] is True
    data = {key: value for key, value in now.data.items() if key != "few_photographs"}
    assert changes(replace(now, data=data), now) == []
