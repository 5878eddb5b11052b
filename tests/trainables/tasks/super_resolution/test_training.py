"""Super-resolution: crops for training, whole images for all else, and an export that agrees."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from trainables.baselines.base import Fitting
from trainables.checkpoints import checkpoint
from trainables.config import AugmentConfig, TrialConfig
from trainables.datasets.arrays import Dataset, Part, Ragged
from trainables.errors import ConfigError
from trainables.evaluation.evaluate import evaluate, predictions
from trainables.export.export import export
from trainables.export.model import model_class
from trainables.export.runtime import in_onnxruntime
from trainables.predictors.base import ONNX
from trainables.tasks.pixels import Pixels
from trainables.tasks.super_resolution.entry import ENTRY as SUPER_RESOLUTION
from trainables.tasks.super_resolution.predictor import Predictor, interpolate
from trainables.tasks.super_resolution.quality import psnr
from trainables.tasks.super_resolution.reducing import cut_to_multiple, reduce
from trainables.tasks.super_resolution.training import SuperResolution
from trainables.training.cross_validation import Folds
from trainables.training.loop import Training

BASE = {
    "data.task": "super_resolution",
    "data.name": "photographs",
    "model.name": "espcn",
    "model.width": 16,
    "optimizer.lr": 4e-3,
    "batch_size": 8,
    "epochs": 4,
    "precision": "fp32",
}


def patterns(count: int = 15, scale: int = 2, *, seed: int = 0) -> Part:
    """Sharp checks at random angles, in images of mixed sizes."""
    generator, large = np.random.default_rng(seed), []
    for _ in range(count):
        height, width = generator.integers(60, 110, 2)
        down, across = np.mgrid[:height, :width]
        angle, period = generator.uniform(0, np.pi), generator.uniform(7, 14)
        turned = down * np.cos(angle) + across * np.sin(angle)
        checks = (
            np.sign(np.sin(2 * np.pi * turned / period))
            * generator.uniform(40, 100, 3)[:, None, None]
        )
        image = (127 + checks).transpose(1, 2, 0).clip(0, 255).astype(np.uint8)
        large.append(cut_to_multiple(image, scale))
    names = tuple(f"{number}.png" for number in range(count))
    return Part(Ragged.of([reduce(image, scale) for image in large]), Ragged.of(large), names)


def make_patterns(scale: int = 2, *, folds: int | None = None) -> Dataset:
    train, val = patterns(scale=scale), patterns(12, scale, seed=1)
    if folds:
        return Dataset(
            "photographs", (), train, train, None, "f", side=16, folds=folds,
            strata=np.zeros(len(train), np.int64),
        )  # fmt: skip
    return Dataset("photographs", (), train, val, None, "f", side=16)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, ...]:
    """A small ESPCN after a few epochs: its config, data, checkpoint and values."""
    torch.set_num_threads(1)
    dataset, config = make_patterns(), TrialConfig().override(BASE)
    training = Training(config, dataset)
    values = [epoch.values for epoch in training.epochs()]
    path = checkpoint.save(tmp_path_factory.mktemp("espcn") / "saved", training.state(), {})
    return config, dataset, path, values


def test_it_learns_and_its_values_are_those_of_whole_images(trained: tuple[Any, ...]) -> None:
    config, dataset, path, values = trained
    report = evaluate(config, dataset, dataset.val, path)
    assert values[-1]["val/gain"] > 0.5
    assert report["gain"] == pytest.approx(values[-1]["val/gain"], abs=1e-6)
    assert report["psnr"] == pytest.approx(values[-1]["val/psnr"], abs=1e-6)
    assert report["psnr"] - report["bicubic_psnr"] == pytest.approx(report["gain"])
    assert report["metric"]["low"] < report["gain"] < report["metric"]["high"]
    enlarged = predictions(config, dataset, dataset.val, path)
    gains = [
        psnr(image, truth, 2) - psnr(interpolate(small, 2, "bicubic"), truth, 2)
        for image, truth, small in zip(
            enlarged, dataset.val.targets, dataset.val.images, strict=True
        )
    ]
    assert np.mean(gains) == pytest.approx(report["gain"])
    assert min(gains) == pytest.approx(report["least_gain"])
    assert sum(gain > 0 for gain in gains) == report["above_bicubic"]
    error = np.std(gains, ddof=1) / len(gains) ** 0.5
    assert values[-1]["val/gain_error"] == pytest.approx(error)


def test_the_hardest_images_are_shown_first(trained: tuple[Any, ...]) -> None:
    config, dataset, path, _ = trained
    report = evaluate(config, dataset, dataset.val, path)
    (table,) = report["tables"]
    mean, *rows = table["rows"]
    assert mean[:2] == ["mean of 12 images", pytest.approx(report["psnr"])]
    values = [row[1] for row in rows]
    assert values == sorted(values)
    assert report["pictures"][0]["title"].startswith(f"{rows[0][0]}: ")
    assert "ssim" in report


@pytest.mark.parametrize("metric", ["psnr", "ssim"])
def test_other_metrics_rank_trials_too(metric: str) -> None:
    config = TrialConfig().override({**BASE, "metric": metric, "epochs": 1})
    (epoch,) = Training(config, make_patterns()).epochs()
    assert {"val/gain", "val/psnr", "val/loss", f"val/{metric}"} <= epoch.values.keys()
    assert epoch.values[f"val/{metric}_error"] > 0


def test_crops_of_both_images_show_the_same_place() -> None:
    """The small crop is the reduced large crop, whatever place, turn and mirror were drawn."""
    dataset = make_patterns(scale=3)
    config = TrialConfig().override(BASE)
    pixels = Pixels(dataset.train, dataset, config, torch.device("cpu"))
    task: SuperResolution = config.load_task()
    rows = torch.arange(8)
    changes = task.draw(AugmentConfig(), 1, 8, torch.Generator().manual_seed(5), pixels.device)[0]
    assert set(changes[2].tolist()) > {0.0}
    assert set(changes[3].tolist()) == {0.0, 1.0}
    batch = task.batch(pixels, rows, changes)
    assert batch.targets.shape == (8, 3, 48, 48)
    large = (255 * batch.targets).round().byte().permute(0, 2, 3, 1).numpy()
    small = (batch.inputs.scaled * pixels.deviation + pixels.mean).permute(0, 2, 3, 1).numpy()
    for whole, crop in zip(large, 255 * small, strict=True):
        inner = slice(3, -3)
        difference = np.abs(reduce(whole, 3)[inner, inner] - crop[inner, inner])
        assert difference.max() < 2


def test_without_turns_crops_stay_upright() -> None:
    config = TrialConfig().override({**BASE, "task.turns": False})
    changes = config.load_task().draw(
        AugmentConfig(), 3, 8, torch.Generator().manual_seed(5), torch.device("cpu")
    )
    assert not changes[:, 2:].any()
    assert changes[:, :2].std() > 0.1


@pytest.mark.parametrize("loss", ["l1", "l2", "charbonnier"])
def test_each_loss_is_least_for_the_true_image(loss: str) -> None:
    config = TrialConfig().override({**BASE, "task.loss": loss})
    task, dataset = config.load_task(), make_patterns()
    pixels = Pixels(dataset.train, dataset, config, torch.device("cpu"))
    changes = task.draw(AugmentConfig(), 1, 4, torch.Generator(), pixels.device)[0]
    batch = task.batch(pixels, torch.arange(4), changes)
    scale = 0.1  # the unit of corrections
    truth = (batch.targets - batch.inputs.enlarged) / scale
    right, wrong = (
        task.step(lambda images, output=output: output, batch, torch.no_grad())
        for output in (truth, 0.5 * truth)
    )
    assert float(right.train) == pytest.approx(1e-3 if loss == "charbonnier" else 0, abs=1e-4)
    assert float(wrong.train) > 5 * float(right.train)
    assert float(wrong.told) > float(right.told)


def test_images_larger_than_a_tile_are_enlarged_without_seams(trained: tuple[Any, ...]) -> None:
    """Tiles overlap by more than what the network sees, so that they change nothing inside."""
    config, dataset, path, _ = trained
    task = config.load_task()
    image = next(iter(patterns(1, seed=7).images))
    network = task.network(config.model, dataset)
    network.load_state_dict(checkpoint.load(path)["model"])
    pixels = Pixels(dataset.val, dataset, config, torch.device("cpu"))
    module = task.module(network.eval(), pixels)
    with torch.no_grad():
        (tiled,) = task.predict(module, [image], 1, "cpu", dataset)
        whole = module(torch.from_numpy(image[None]))[0].round().byte().numpy()
    assert tiled.shape == whole.shape
    assert image.shape[0] > 32, "several tiles"
    inner = slice(12, -12)
    assert np.abs(tiled[inner, inner].astype(int) - whole[inner, inner]).max() <= 1


def test_the_exported_model_agrees_in_torch_and_onnx(
    trained: tuple[Any, ...], tmp_path: Path
) -> None:
    config, dataset, path, values = trained
    exported = export(config, dataset, path, tmp_path / "model", onnx=True)
    assert exported.difference < 1e-3
    assert exported.onnx_difference is not None
    assert exported.onnx_difference < 1e-3
    assert exported.value == pytest.approx(values[-1]["val/gain"], abs=0.01)
    assert exported.columns == {"width": "long", "height": "long", "image": "binary"}
    about = json.loads((tmp_path / "model" / "about.json").read_text())
    assert (about["scale"], about["task"], about["classes"]) == (2, "super_resolution", [])
    model = model_class(tmp_path / "model")(tmp_path / "model", "m")
    model.check()
    image = np.random.default_rng(0).integers(0, 256, (45, 130, 3), dtype=np.uint8)
    (enlarged,) = model.predict([image])
    assert enlarged.shape == (90, 260, 3)
    run = in_onnxruntime(tmp_path / "model" / ONNX, 1)
    (by_onnx,) = Predictor(tmp_path / "model", run).predictions([image])
    assert np.abs(by_onnx.astype(int) - enlarged).max() <= 1
    (answer,) = model.answers([image])
    assert answer.row == {"width": 260, "height": 90}
    assert list(answer.files) == ["_x2.png"]
    (row,) = Predictor(tmp_path / "model").table([image]).to_dict("records")
    assert row["image"] == answer.files["_x2.png"]


def test_folds_average_the_corrections(tmp_path: Path) -> None:
    dataset = make_patterns(folds=3)
    config = TrialConfig().override({**BASE, "data.folds": 3, "epochs": 2})
    training = Folds(config, dataset, lambda fold: Training(config, fold))
    values = [epoch.values for epoch in training.epochs()]
    path = checkpoint.save(tmp_path / "saved", training.state(), {})
    report = evaluate(config, dataset, dataset.val, path)
    assert report["gain"] == pytest.approx(values[-1]["val/gain"], abs=0.05)
    exported = export(config, dataset, path, tmp_path / "model")
    assert exported.difference < 1e-3


def test_a_training_continues_to_the_last_bit(trained: tuple[Any, ...]) -> None:
    config, dataset, _, values = trained
    first = Training(config, dataset)
    for _ in range(2):
        first.next_epoch()
    second = Training(config, dataset)
    second.load_state(first.state())
    again = [epoch.values for epoch in second.epochs()]
    times = {"time/epoch_s"}
    for before, after in zip(values[2:], again, strict=True):
        assert {key: before[key] for key in before.keys() - times} == {
            key: after[key] for key in after.keys() - times
        }


@pytest.mark.parametrize("name", ["nearest", "bilinear", "bicubic", "lanczos"])
def test_interpolations_are_baselines(name: str, tmp_path: Path) -> None:
    dataset = make_patterns()
    config = TrialConfig().override({**BASE, "model.name": name, "model.width": None})
    fitting = Fitting(config, dataset)
    (epoch,) = fitting.epochs()
    path = checkpoint.save(tmp_path / "saved", fitting.state(), {})
    report = evaluate(config, dataset, dataset.val, path)
    assert report["gain"] == pytest.approx(epoch.values["val/gain"])
    if name == "bicubic":
        assert report["gain"] == 0
    exported = export(config, dataset, path, tmp_path / "model")
    assert exported.difference == 0
    (enlarged,) = model_class(tmp_path / "model")(tmp_path / "model", "m").predict(
        [dataset.val.images[0]]
    )
    size = enlarged.shape[1], enlarged.shape[0]
    expected = Image.fromarray(dataset.val.images[0]).resize(size, Image.Resampling[name.upper()])
    difference = np.abs(enlarged.astype(int) - np.asarray(expected))[4:-4, 4:-4]
    assert difference.max() <= (3 if name == "bicubic" else 0), "Pillow rounds twice"


def test_a_network_that_corrects_nothing_is_exactly_bicubic() -> None:
    """Also in bfloat16, in which its corrections, but not the enlargement itself, are computed."""
    dataset = make_patterns()
    for precision in ("fp32", "bf16"):
        config = TrialConfig().override({**BASE, "epochs": 1, "precision": precision})
        training = Training(config, dataset)
        for weights in training.network.parameters():
            torch.nn.init.zeros_(weights)
        values = training._validate().values(training.world)
        assert abs(values["val/gain"]) < 1e-3


def test_a_process_without_validation_images_adds_nothing() -> None:
    config = TrialConfig().override(BASE)
    dataset = make_patterns()
    pixels = Pixels(dataset.val.take(np.arange(1)), dataset, config, torch.device("cpu"))
    meter = config.load_task().meter(config.ranked_by, pixels, keeps=False)
    world = SimpleNamespace(
        size=2,
        slice=lambda rows: rows[1::2],
        sum=lambda values: values + torch.tensor([[0.1, 2.0, 30.0, 0.0]], dtype=torch.float64),
    )
    assert meter.values(world)["val/gain"] == 2.0


def test_images_of_equal_size_that_are_no_squares_are_cut_to_squares() -> None:
    """Not continued by their edges, which are no true pixels."""
    large = np.random.default_rng(0).integers(0, 256, (6, 64, 32, 3), dtype=np.uint8)
    small = np.stack([reduce(image, 2) for image in large])
    part = Part(small, large)
    dataset = Dataset("photographs", (), part, part, None, "f")
    config = TrialConfig().override(BASE)
    task, pixels = config.load_task(), Pixels(part, dataset, config, torch.device("cpu"))
    changes = task.draw(AugmentConfig(), 1, 6, torch.Generator(), pixels.device)[0]
    batch = task.batch(pixels, torch.arange(6), changes)
    assert batch.targets.shape == (6, 3, 32, 32)


def test_grey_photographs_are_enlarged_too(tmp_path: Path) -> None:
    colour = make_patterns()
    train, val = (
        Part(
            Ragged.of([image[..., :1] for image in part.images]),
            Ragged.of([image[..., :1] for image in part.targets]),
        )
        for part in (colour.train, colour.val)
    )
    dataset = Dataset("photographs", (), train, val, None, "f", side=16)
    config = TrialConfig().override({**BASE, "epochs": 1})
    training = Training(config, dataset)
    training.next_epoch()
    path = checkpoint.save(tmp_path / "saved", training.state(), {})
    export(config, dataset, path, tmp_path / "model")
    (enlarged,) = Predictor(tmp_path / "model").predictions([np.zeros((9, 7), np.uint8)])
    assert enlarged.shape == (18, 14, 1)


def test_augmentations_that_would_blur_are_refused() -> None:
    assert "augment" not in SUPER_RESOLUTION.can
    with pytest.raises(ConfigError, match="augment cannot be used for super_resolution"):
        TrialConfig().override({**BASE, "augment.flip": True})


def test_a_predictor_takes_grey_images_and_names_what_it_takes(
    trained: tuple[Any, ...], tmp_path: Path
) -> None:
    config, dataset, path, _ = trained
    export(config, dataset, path, tmp_path / "model")
    predictor = Predictor(tmp_path / "model")
    generator = np.random.default_rng(0)
    grey = generator.integers(0, 256, (20, 30), dtype=np.uint8)
    forms: list[Any] = [[grey], grey, grey[..., None], grey[None, ..., None]]
    first, *others = [predictor.predictions(images) for images in forms]
    assert first[0].shape == (40, 60, 3)
    assert (first[0] == first[0][..., :1]).all(), "a grey picture stays grey"
    assert all(np.array_equal(first[0], other[0]) for other in others)
    colour = generator.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    assert np.array_equal(predictor.predictions(colour)[0], predictor.predictions([colour])[0])
    for wrong in (np.zeros((20, 30, 4), np.uint8), np.zeros((20, 30, 3))):
        with pytest.raises(ValueError, match=r"this model takes uint8 images of shape \(height"):
            predictor.predictions([wrong])
