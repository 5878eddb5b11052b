"""A model of detection answers with boxes: the same over HTTP, in files and from the predictor."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from search.operations.predict import PredictRequest, predict
from tests.support.promoted import png
from tests.support.serving import Running, running
from trainables.config import DataConfig, TrialConfig
from trainables.datasets.load import load, with_root
from trainables.export.export import write
from trainables.export.model import model_class
from trainables.tasks.detection.predictor import Predictor, as_json, objects_in
from trainables.trial import run_trial

pytestmark = pytest.mark.slow


MODELS: dict[str, dict[str, Any]] = {
    "center_points": {"model.width": 16, "epochs": 2, "optimizer.lr": 3e-3},
    "blob_forest": {"model.trees": 5},
}
"""A small network that is trained for two epochs, and the baseline."""


@pytest.fixture(scope="module", params=MODELS)
def config(request: pytest.FixtureRequest) -> TrialConfig:
    data = with_root(DataConfig(train_limit=80, val_limit=20), "digit_scenes", "")
    base = {"model.name": request.param, "precision": "fp32", "batch_size": 8}
    return TrialConfig().on(data).override(base | MODELS[request.param])


@pytest.fixture(scope="module")
def model(config: TrialConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(config.model.name)
    torch.set_num_threads(1)
    dataset = load(config.data)
    for _ in run_trial(config, dataset, folder / "saved"):
        pass
    saved = folder / "saved" / f"epoch-{config.epochs:04}"
    write(config, dataset, saved, folder / "model")
    return folder / "model"


@pytest.fixture(scope="module")
def server(model: Path) -> Iterator[Running]:
    with running(model) as started:
        yield started


def test_http_answers_for_validation_images_are_those_of_the_predictor(
    config: TrialConfig, model: Path, server: Running
) -> None:
    predictor, images = Predictor(model), load(config.data).val.images
    objects = 0
    for image, detections in zip(images, predictor.predictions(list(images)), strict=True):
        expected = as_json(objects_in(detections, predictor.threshold), predictor.classes)
        (answer,) = server.ask("/predict", png(image), "image/png").json["predictions"]
        sent = answer["prediction"]["boxes"]
        assert [each["class"] for each in sent] == [each["class"] for each in expected]
        for own, other in zip(sent, expected, strict=True):
            assert np.allclose(own["box"], other["box"], atol=0.02)
            assert abs(own["score"] - other["score"]) < 1e-3
        assert sum(answer["prediction"]["counts"].values()) == len(sent)
        objects += len(sent)
    assert objects > 10
    loaded = model_class(model)(model, "a model")
    assert sum(len(own) for own in loaded.objects(list(images))) == objects


def test_predict_writes_pictures_and_one_coco_file(
    config: TrialConfig, model: Path, tmp_path: Path
) -> None:
    images = load(config.data).val.images[:3]
    for number, image in enumerate(images):
        large = image.repeat(2, axis=0).repeat(2, axis=1) if number == 1 else image
        (tmp_path / "in" / "sub").mkdir(parents=True, exist_ok=True)
        Image.fromarray(large).save(tmp_path / "in" / "sub" / f"{number}.png")
    request = PredictRequest(name=str(model), paths=(str(tmp_path / "in"),), out=tmp_path / "out")
    rows = [answer.values for answer in predict(request)]
    content = json.loads((tmp_path / "out" / "detections.json").read_text())
    assert [own["file_name"] for own in content["images"]] == [f"sub/{row}.png" for row in range(3)]
    assert content["images"][1]["width"] == 192
    assert [own["name"] for own in content["categories"]] == ["round", "open"]
    assert len(content["annotations"]) == sum(sum(row.values()) for row in rows)
    for own in content["annotations"]:
        left, top, width, height = own["bbox"]
        side = content["images"][own["image_id"] - 1]["width"]
        assert 0 <= left < left + width <= side
        assert 0 <= top < top + height <= side
    with Image.open(tmp_path / "out" / "sub" / "0_boxes.png") as picture:
        assert picture.size == (480, 480)
