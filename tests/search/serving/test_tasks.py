"""Models for other tasks than classification, which answer with what they predict."""

import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support.promoted import png
from tests.support.serving import Running, running
from tests.support.tasks import boxes, registered
from tests.support.tasks.boxes_predictor import Predictor
from trainables.checkpoints import checkpoint
from trainables.config import DataConfig, TrialConfig
from trainables.datasets.load import load, with_root
from trainables.export.export import write
from trainables.training.loop import Training

pytestmark = pytest.mark.slow

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 1), dtype=np.uint8)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a detector that was trained for a moment."""
    folder = tmp_path_factory.mktemp("boxes")
    torch.set_num_threads(1)
    with registered(boxes):
        config = TrialConfig().on(with_root(DataConfig(), boxes.NAME, ""))
        config = config.override({"model.name": boxes.NAME, "epochs": 1, "precision": "fp32"})
        dataset = load(config.data)
        training = Training(config, dataset)
        list(training.epochs())
        saved = checkpoint.save(folder / "saved", training.state(), {})
        write(config, dataset, saved, folder / "model")
    return folder / "model"


@pytest.fixture(scope="module")
def server(model: Path) -> Iterator[Running]:
    with registered(boxes), running(model) as made:
        yield made


def test_a_detector_answers_with_the_boxes_of_each_image(server: Running, model: Path) -> None:
    file = io.BytesIO()
    np.save(file, IMAGES)
    answer = server.ask("/predict", file.getvalue(), "application/x-npy")
    wanted = Predictor(model).predictions(IMAGES)
    for found, own in zip(answer.json["predictions"], wanted, strict=True):
        assert np.allclose(np.reshape(found["prediction"], own.shape), own, atol=1e-5)
        assert found["version"] == "1"


def test_mlflows_protocol_gives_the_tasks_own_table(server: Running, model: Path) -> None:
    body = json.dumps({"inputs": IMAGES.tolist()}).encode()
    answer = server.ask("/invocations", body, "application/json")
    assert [list(row) for row in answer.json["predictions"]] == [["boxes", "score"]] * 3


def test_images_of_another_size_are_refused(server: Running) -> None:
    answer = server.ask("/predict", png(IMAGES[0, :8, :8, 0]), "image/png")
    assert answer.status == 422
    assert "images must have 16 x 16 pixels" in answer.json["error"]
