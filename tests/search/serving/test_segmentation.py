"""A segmentation model answers with masks: the same over HTTP, in files and in MLflow."""

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from search.operations.predict import PredictRequest, predict
from search.serving.worker import check_task
from tests.support.promoted import png
from tests.support.serving import Running, running
from trainables.checkpoints import checkpoint
from trainables.config import DataConfig, TrialConfig
from trainables.datasets.load import load, with_root
from trainables.errors import ConfigError
from trainables.export.export import write
from trainables.tasks import TASKS
from trainables.tasks.segmentation.predictor import Predictor
from trainables.training.loop import Training

pytestmark = pytest.mark.slow

IMAGE = np.random.default_rng(0).integers(0, 256, (70, 130, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small U-Net that was not trained."""
    folder = tmp_path_factory.mktemp("unet")
    torch.set_num_threads(1)
    config = TrialConfig().on(with_root(DataConfig(train_limit=8), "scenes", ""))
    config = config.override({"model.width": 8, "model.depth": 3, "precision": "fp32"})
    dataset = load(config.data)
    saved = checkpoint.save(folder / "saved", Training(config, dataset).state(), {})
    write(config, dataset, saved, folder / "model")
    return folder / "model"


@pytest.fixture(scope="module")
def server(model: Path) -> Iterator[Running]:
    with running(model) as made:
        yield made


@pytest.fixture(scope="module")
def written(model: Path, tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """The mask that `search.predict --out` writes for the image."""
    folder = tmp_path_factory.mktemp("written")
    Image.fromarray(IMAGE).save(folder / "a.png")
    request = PredictRequest(name=str(model), paths=(str(folder / "a.png"),), out=folder / "out")
    assert len(list(predict(request))) == 1
    return np.asarray(Image.open(folder / "out" / "a_mask.png"))


def decoded(text: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))


def test_the_mask_over_http_is_that_of_the_file(server: Running, written: np.ndarray) -> None:
    (answer,) = server.ask("/predict", png(IMAGE), "image/png").json["predictions"]
    found = answer["prediction"]
    assert written.shape == IMAGE.shape[:2]
    assert (decoded(found["mask"]) == written).all()
    counts = np.bincount(written.ravel(), minlength=3) / written.size
    assert list(found["shares"]) == ["background", "round", "open"]
    assert list(found["shares"].values()) == pytest.approx(counts.tolist())


def test_mlflows_protocol_has_the_columns_of_mlflows_table(
    server: Running, model: Path, written: np.ndarray
) -> None:
    body = json.dumps({"inputs": [IMAGE.tolist()]}).encode()
    (row,) = server.ask("/invocations", body, "application/json").json["predictions"]
    (own,) = Predictor(model).table([IMAGE]).to_dict("records")
    assert list(row) == list(own)
    assert base64.b64decode(row["mask"]) == own["mask"]
    assert (decoded(row["mask"]) == written).all()
    assert row["share of round"] == pytest.approx(own["share of round"])


@pytest.mark.parametrize(("record", "share", "option"), [("x", 0, "record"), (None, 1, "shadow")])
def test_what_needs_classes_of_images_is_refused(
    record: str | None, share: float, option: str
) -> None:
    settings: Any = SimpleNamespace(record=record, shadow_share=share)
    first: Any = SimpleNamespace(model=SimpleNamespace(task=TASKS["segmentation"]))
    with pytest.raises(ConfigError, match=f"--{option} cannot be used for segmentation"):
        check_task(settings, first)
