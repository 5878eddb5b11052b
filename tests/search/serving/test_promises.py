"""Models that abstain, over HTTP: in JSON, in MLflow's table, in metrics and in the records."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from search.feedback.observer import ServedAnswer
from tests.support.promoted import linear, png
from tests.support.serving import running
from trainables.export.runtime import load
from trainables.predictors.base import DESCRIPTION, UNCERTAIN


class Heard:
    """An observer that keeps what it receives."""

    def __init__(self) -> None:
        self.answers: list[ServedAnswer] = []

    def observe(self, batch: Any) -> None:
        self.answers += batch

    def close(self) -> None:
        pass


@pytest.fixture
def images() -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [generator.integers(0, 256, (8, 8), dtype=np.uint8) for _ in range(20)]


@pytest.fixture
def promised(tmp_path: Path, images: list[np.ndarray]) -> Path:
    """A model that abstains from about half of the images, and whose sets have some classes."""
    folder = linear(tmp_path / "model")
    plain = load(folder, "m", 1).model.predictions([image[..., None] for image in images])
    about = json.loads((folder / DESCRIPTION).read_text())
    about["promises"] = {
        "least_probability": float(np.median(plain.max(axis=1))),
        "limits": [float(np.median(plain)), *[None], *[1.0] * 8],
    }
    (folder / DESCRIPTION).write_text(json.dumps(about))
    return folder


def test_a_model_abstains_over_http_as_by_itself(promised: Path, images: list[np.ndarray]) -> None:
    rows = load(promised, "m", 1).model.rows([image[..., None] for image in images])
    heard = Heard()
    with running(promised, observers=[heard]) as server:
        answers = [
            server.ask("/predict", png(image), "image/png").json["predictions"][0]
            for image in images
        ]
        body = json.dumps({"inputs": np.stack(images).tolist()}).encode()
        table = server.ask("/invocations", body, "application/json").json["predictions"]
        metrics = server.ask("/metrics").body
    assert 5 <= sum(row["abstained"] for row in rows) <= 15
    for row, answer, tabled in zip(rows, answers, table, strict=True):
        assert answer["class"] == row["class"] == tabled["class"]
        assert answer["abstained"] == row["abstained"] == tabled["abstained"]
        assert (answer["answer"] or "") == row["answer"] == tabled["answer"]
        assert (answer["reason"] or "") == row["reason"] == tabled["reason"]
        assert answer["set"] == json.loads(row["set"]) == json.loads(tabled["set"])
        assert "1" in answer["set"]  # a class without a limit
    counted = 2 * sum(row["abstained"] for row in rows)
    assert f'serving_abstained_total{{reason="uncertain"}} {counted}.0'.encode() in metrics
    assert [one.abstained for one in heard.answers[:20]] == [row["reason"] for row in rows]
    assert {one.abstained for one in heard.answers} == {"", UNCERTAIN}


def test_without_promises_the_response_is_as_before(tmp_path: Path) -> None:
    with running(linear(tmp_path / "plain")) as server:
        image = png(np.zeros((8, 8), np.uint8))
        (answer,) = server.ask("/predict", image, "image/png").json["predictions"]
    assert set(answer) == {"class", "probability", "probabilities", "version", "id"}
