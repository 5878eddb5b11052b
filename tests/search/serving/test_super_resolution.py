"""A model of super-resolution answers with enlarged images: the same over HTTP and in files."""

import base64
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from search.operations.predict import PredictRequest, predict
from tests.support.promoted import png
from tests.support.serving import Running, running
from trainables.checkpoints import checkpoint
from trainables.config import DataConfig, TrialConfig
from trainables.datasets.load import load, with_root
from trainables.export.export import write
from trainables.tasks.super_resolution.predictor import Predictor
from trainables.training.loop import Training

pytestmark = pytest.mark.slow

IMAGE = np.random.default_rng(0).integers(0, 256, (40, 75, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small ESPCN that was not trained."""
    folder = tmp_path_factory.mktemp("espcn")
    torch.set_num_threads(1)
    config = TrialConfig().on(with_root(DataConfig(train_limit=8), "photographs", ""))
    config = config.override(
        {"model.name": "espcn", "model.width": 8, "precision": "fp32", "data.image_size": 16}
    )
    dataset = load(config.data)
    saved = checkpoint.save(folder / "saved", Training(config, dataset).state(), {})
    write(config, dataset, saved, folder / "model")
    return folder / "model"


@pytest.fixture(scope="module")
def server(model: Path) -> Iterator[Running]:
    with running(model) as made:
        yield made


def test_http_answers_with_what_predict_writes(
    model: Path, server: Running, tmp_path: Path
) -> None:
    Image.fromarray(IMAGE).save(tmp_path / "a.png")
    request = PredictRequest(
        name=str(model), paths=(str(tmp_path / "a.png"),), out=tmp_path / "out"
    )
    (row,) = predict(request)
    assert row.values == {"width": 150, "height": 80}
    written = np.asarray(Image.open(tmp_path / "out" / "a_x2.png"))
    assert written.shape == (80, 150, 3)
    (answer,) = server.ask("/predict", png(IMAGE), "image/png").json["predictions"]
    prediction = answer["prediction"]
    assert (prediction["width"], prediction["height"]) == (150, 80)
    sent = np.asarray(Image.open(io.BytesIO(base64.b64decode(prediction["image"]))))
    assert np.array_equal(sent, written)
    assert np.array_equal(sent, Predictor(model).predictions([IMAGE])[0])
