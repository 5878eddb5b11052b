"""Probes that learn from images without labels, too."""

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.trainables.probes.test_probe import SIDE, save_weights
from trainables.baselines.base import Fitting
from trainables.checkpoints import checkpoint
from trainables.config import DataConfig, TrialConfig
from trainables.datasets.arrays import Dataset
from trainables.errors import ConfigError
from trainables.evaluation.evaluate import evaluate
from trainables.probes import spreading, unlabelled
from trainables.probes.spreading import SpreadingProbe, neighbour_graph, spread
from trainables.probes.unlabelled import UnlabelledFolder, batches

MakeDataset = Callable[..., Dataset]


def arcs(count: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Return points along two arcs around the origin, and the arc of each.

    Most points of an arc are nearer to the labelled end of the other one than to their own.
    """
    angles = np.linspace(0.3, np.pi - 0.3, count)
    first = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    points = np.concatenate([first, -first])
    noise = np.random.default_rng(0).normal(0, 0.01, points.shape)
    return (points + noise).astype(np.float32), np.repeat([0, 1], count)


def test_a_label_reaches_the_far_end_of_its_cluster() -> None:
    points, classes = arcs()
    ends = [0, 60]
    rest = np.setdiff1d(np.arange(120), ends)
    found, certainty = spread(points[ends], classes[ends], points[rest], classes=2, neighbours=5)
    assert (found == classes[rest]).mean() > 0.98
    nearest = (points[rest] @ points[ends].T).argmax(axis=1)
    assert (nearest == classes[rest]).mean() < 0.8, "the labelled images alone do not tell it"
    assert ((certainty >= 0) & (certainty <= 1)).all()


def test_what_no_label_reaches_counts_nothing() -> None:
    points, classes = arcs()
    found, certainty = spread(points[:1], classes[:1], points[1:], classes=2, neighbours=5)
    of_arc = classes[1:]
    assert (found[of_arc == 0] == 0).all()
    assert certainty[of_arc == 0].min() > 0.99
    assert certainty[of_arc == 1].max() == pytest.approx(0, abs=1e-9)


def test_a_graph_joins_each_image_with_its_nearest_ones_in_both_directions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    points, _ = arcs(50)
    graph = neighbour_graph(points, 4)
    assert abs(graph - graph.T).max() < 1e-12
    assert graph.diagonal().max() == 0
    assert min(np.diff(graph.indptr)) >= 4
    monkeypatch.setattr(spreading, "ROWS", 7)
    assert abs(neighbour_graph(points, 4) - graph).max() < 1e-6, "it is built in pieces"
    assert neighbour_graph(points[:3], 10).shape == (3, 3), "there are fewer others than asked for"


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Sixty images without labels, of three brightnesses, some in a sub-folder."""
    folder = tmp_path / "pictures"
    (folder / "deep").mkdir(parents=True)
    generator = np.random.default_rng(1)
    for number in range(60):
        pixels = generator.normal(40 + 80 * (number % 3), 10, (20, 30, 3)).clip(0, 255)
        place = folder / "deep" if number < 10 else folder
        Image.fromarray(pixels.astype(np.uint8)).save(place / f"{number:02d}.png")
    (folder / "notes.txt").write_text("no image")
    return folder


@pytest.fixture
def make_config(pictures: Path, tmp_path: Path) -> Callable[..., TrialConfig]:
    weights = save_weights(tmp_path, 0)

    def make(**values: Any) -> TrialConfig:
        return TrialConfig().override(
            {
                "model.name": "spread_squeezenet1_0",
                "model.weights": str(weights),
                "model.unlabelled": str(pictures),
                "model.input_size": SIDE,
                **{path.replace("__", "."): value for path, value in values.items()},
            }
        )

    return make


@pytest.fixture
def few(make_dataset: MakeDataset) -> Dataset:
    return make_dataset(channels=3, side=24, train=6, val=60)


def test_the_fit_is_a_networks_and_its_values_are_those_of_its_predictions(
    make_config: Callable[..., TrialConfig], few: Dataset, tmp_path: Path
) -> None:
    config = make_config()
    fitting = Fitting(config, few)
    (epoch,) = fitting.epochs()
    path = checkpoint.save(tmp_path / "saved", fitting.state(), {})
    evaluation = evaluate(config, few, few.val, path)
    assert evaluation["accuracy"] == epoch.values["val/accuracy"]
    assert isinstance(fitting.baseline, SpreadingProbe)
    assert fitting.baseline.unlabelled_features(few).shape[0] == 60
    assert fitting.baseline.fitted_images(few) == 66
    assert fitting.baseline.uncached_images(few) == 0, "all features are in the cache now"
    assert fitting.baseline.fit_seconds(few) > 0


def test_the_images_without_labels_and_the_weights_of_classes_change_the_fit(
    make_config: Callable[..., TrialConfig], few: Dataset
) -> None:
    fits = [
        make_config(),
        make_config(model__name="probe_squeezenet1_0", model__unlabelled=None),
        make_config(train__class_weights="balanced"),
    ]
    uneven = Dataset(
        "folder", few.classes, few.train.take(np.array([0, 1, 2, 3, 4])), few.val, None, "x"
    )
    layers = []
    for config in fits:
        fitting = Fitting(config, uneven)
        list(fitting.epochs())
        layers.append(fitting.fitted.last.weight.numpy())
    assert not np.allclose(layers[0], layers[1])
    assert not np.allclose(layers[0], layers[2])


def test_images_are_read_in_the_form_of_the_data(
    pictures: Path, few: Dataset, make_dataset: MakeDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unlabelled, "BATCH", 25)
    parts = list(batches(UnlabelledFolder(pictures).paths, few))
    assert [len(part) for part in parts] == [25, 25, 10]
    assert all(part.images.shape == part.shape for part in parts)
    assert {part.shape[1:] for part in parts} == {(24, 24, 3)}
    assert {int(label) for part in parts for label in part.targets} == {-1}
    assert len({part.fingerprint for part in parts}) == 3
    grey = next(batches(UnlabelledFolder(pictures).paths, make_dataset(train=6, val=6)))
    assert grey.images.shape[3] == 1
    assert grey.fingerprint != parts[0].fingerprint


def test_images_whose_features_are_cached_are_not_decoded_again(
    make_config: Callable[..., TrialConfig],
    few: Dataset,
    pictures: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    list(Fitting(make_config(), few).epochs())
    monkeypatch.setattr(unlabelled, "decode", None)
    list(Fitting(make_config(model__c=1.0), few).epochs())
    os.utime(pictures / "11.png", (1, 1))
    with pytest.raises(TypeError, match="not callable"):
        list(Fitting(make_config(), few).epochs())


def test_of_too_many_images_some_are_used_and_a_note_says_it(
    pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (
        UnlabelledFolder(pictures).check()
        == f"note: 60 images without labels in '{pictures}' are used, too."
    )
    monkeypatch.setattr(unlabelled, "MOST", 7)
    assert len(set(UnlabelledFolder(pictures).paths)) == 7
    assert UnlabelledFolder(pictures).check() == (
        f"note: 7 of the 60 images without labels in '{pictures}' are used, which is the maximum."
    )


def test_copies_of_images_of_the_data_set_are_left_out(pictures: Path, tmp_path: Path) -> None:
    """A validation image would be learnt from otherwise, and what is measured would be too good."""
    root = tmp_path / "data"
    for part, names in (("train", ("deep/03", "17")), ("val", ("40",))):
        (root / part / "cat").mkdir(parents=True)
        for name in names:
            shutil.copy(pictures / f"{name}.png", root / part / "cat" / f"{name[-2:]}x.png")
    (root / "val" / "cat" / "other.png").write_bytes(b"x" * (pictures / "50.png").stat().st_size)
    data = DataConfig(name="folder", root=str(root))
    used = {path.name for path in UnlabelledFolder(pictures, data).paths}
    assert used == {path.name for path in UnlabelledFolder(pictures).paths} - {
        "03.png",
        "17.png",
        "40.png",
    }
    assert UnlabelledFolder(pictures, data).digest != UnlabelledFolder(pictures).digest
    assert UnlabelledFolder(pictures, data).check() == (
        f"note: 57 images without labels in '{pictures}' are used, too; 3 others are copies of "
        "labelled ones."
    )
    with pytest.raises(ConfigError, match=r"all images in '.*' are in the data set too"):
        _ = UnlabelledFolder(root, data).paths
    with pytest.raises(ConfigError, match=r"'.*gone', cannot be read \(No such file"):
        _ = UnlabelledFolder(pictures, replace(data, root=str(tmp_path / "gone"))).paths


def test_a_folder_that_cannot_be_used_is_named(
    pictures: Path, few: Dataset, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"'.*nowhere', cannot be read \(No such file"):
        _ = UnlabelledFolder(tmp_path / "nowhere").paths
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="has no images"):
        _ = UnlabelledFolder(tmp_path / "empty").paths
    (pictures / "broken.png").write_bytes(b"no image")
    (pictures / "worse.png").write_bytes(b"")
    with pytest.raises(
        ConfigError, match=r"2 images without a label cannot be read \(first: '.*br"
    ):
        UnlabelledFolder(pictures).check()
    with pytest.raises(ConfigError, match=r"broken\.png' cannot be read: the file is not an image"):
        [part.images for part in batches(UnlabelledFolder(pictures).paths, few)]


def test_another_or_changed_file_changes_the_digest(pictures: Path) -> None:
    before = UnlabelledFolder(pictures).digest
    os.utime(pictures / "12.png", (1, 1))
    assert UnlabelledFolder(pictures).digest == before, "it is the same on another machine"
    (pictures / "99.png").write_bytes((pictures / "12.png").read_bytes() + b" ")
    more = UnlabelledFolder(pictures).digest
    (pictures / "99.png").unlink()
    assert len({before, more}) == 2
    assert UnlabelledFolder(pictures).digest == before
