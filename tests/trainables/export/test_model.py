"""A model on images as people have them, whatever form they come in."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from trainables.checkpoints import checkpoint
from trainables.config import TrialConfig
from trainables.datasets.arrays import Dataset
from trainables.errors import ConfigError, DataError
from trainables.export.export import write
from trainables.export.model import Model
from trainables.tasks.classification.model import Classifier
from trainables.training.loop import Training


@pytest.fixture
def make_model(make_dataset: Callable[..., Dataset], tmp_path: Path) -> Callable[..., Model]:
    """A small network that was trained for a moment, as a model."""

    def make(channels: int = 3, **changes: Any) -> Model:
        dataset = make_dataset(side=8, channels=channels, train=12, val=6)
        config = TrialConfig().override(
            {"model.name": "deep_cnn", "epochs": 1, "precision": "fp32", "batch_size": 4}
        )
        training = Training(config, dataset)
        list(training.epochs())
        path = checkpoint.save(tmp_path / "saved", training.state(), {})
        write(config, replace(dataset, **changes), path, tmp_path / "model")
        return Classifier(tmp_path / "model", "it")

    return make


def picture(folder: Path, height: int = 20, width: int = 30) -> tuple[Path, Any]:
    """A file with noise, and its pixels."""
    pixels = np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "noise.png")
    return folder / "noise.png", pixels


def test_images_come_in_any_form(make_model: Callable[..., Model], tmp_path: Path) -> None:
    model = make_model()
    path, pixels = picture(tmp_path)
    one = model.probabilities(pixels[None])
    assert one.shape == (1, len(model.classes))
    assert one.sum() == pytest.approx(1)
    for given in (pixels, path, str(path), Image.open(path), [pixels], (path,), iter([path])):
        assert model.probabilities(given) == pytest.approx(one, abs=1e-6)
    several = model.probabilities([path, pixels[:9], Image.open(path).convert("P")])
    assert several.shape == (3, len(model.classes))
    assert several[0] == pytest.approx(one[0], abs=1e-6)
    assert model.predict(path) == [model.classes[one.argmax()]]
    assert model.predict([]) == []
    assert model.probabilities(np.zeros((5, 9, 9), np.uint8)).shape[0] == 5
    assert model.probabilities(np.zeros((9, 9), np.uint8)).shape[0] == 1
    assert "3 classes, trained on colour images of 8 x 8>" in repr(model)


def test_files_are_turned_and_laid_onto_white_as_in_the_training(
    make_model: Callable[..., Model], tmp_path: Path
) -> None:
    model = make_model(channels=1)
    path, pixels = picture(tmp_path)
    turned = Image.fromarray(np.rot90(pixels).copy())
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.png", exif=exif)
    clear = Image.fromarray(pixels).convert("RGBA")
    clear.putalpha(0)
    clear.save(tmp_path / "clear.png")
    upright = model.probabilities(path)
    assert model.probabilities(tmp_path / "turned.png") == pytest.approx(upright, abs=1e-6)
    assert model.probabilities(Image.open(tmp_path / "turned.png")) == pytest.approx(
        upright, abs=1e-6
    )
    white = model.probabilities(np.full((20, 30), 255, np.uint8))
    assert model.probabilities(tmp_path / "clear.png") == pytest.approx(white, abs=1e-6)
    assert model.probabilities(clear) == pytest.approx(white, abs=1e-6)


def test_images_of_more_than_8_bits_are_scaled_as_in_the_training(
    make_model: Callable[..., Model], tmp_path: Path
) -> None:
    levels = np.linspace(1000, 3000, 64).astype(np.uint16).reshape(8, 8)
    Image.fromarray(levels).save(tmp_path / "deep.png")
    model = make_model(channels=1, value_range=(1000, 3000))
    scaled = ((levels.astype(int) - 1000) * 255 // 2000).astype(np.uint8)
    assert model.probabilities(tmp_path / "deep.png") == pytest.approx(
        model.probabilities(scaled), abs=1e-6
    )
    shutil.rmtree(tmp_path / "model")
    shutil.rmtree(tmp_path / "saved")
    with pytest.raises(DataError, match=r"deep.png' has 16-bit values, but the training images"):
        make_model(channels=1).predict(tmp_path / "deep.png")


def test_what_is_no_image_is_told(make_model: Callable[..., Model], tmp_path: Path) -> None:
    model = make_model()
    (tmp_path / "text.png").write_text("no image")
    for given, line in (
        (np.zeros((2, 8, 8, 3)), "images must be a uint8 array"),
        (b"png", "images must be a uint8 array"),
        (7, "images must be a uint8 array"),
        (tmp_path / "absent.png", "absent.png' is not a file"),
        (tmp_path, "is a folder. Pass the files in it"),
        ([tmp_path / "text.png"], "text.png': the file is not an image"),
    ):
        with pytest.raises(ConfigError, match=line):
            model.predict(given)
