"""The server explains an answer by a map, within limits."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from search.serving.explaining import MAX_PENDING, Explainer
from search.serving.limits import Refusal
from tests.support.serving import Running


def test_an_answer_is_explained_by_a_map_with_its_verdict(
    server: Running, digits: list[bytes]
) -> None:
    answer = server.ask("/explain", digits[0], "image/png")
    assert answer.status == 200
    (prediction,) = server.ask("/predict", digits[0], "image/png").json["predictions"]
    assert answer.json["class"] == prediction["class"]
    assert answer.json["probability"] == pytest.approx(prediction["probability"], rel=1e-4)
    assert answer.json["method"] == "occlusion"
    assert answer.json["faithful"] == (
        answer.json["faithful"] and answer.json["score"] > answer.json["random_score"]
    )
    with Image.open(io.BytesIO(base64.b64decode(answer.json["map"]))) as picture:
        assert np.ptp(np.asarray(picture)) > 0


def test_only_one_image_is_explained(server: Running, digits: list[bytes]) -> None:
    images = [base64.b64encode(image).decode() for image in digits[:2]]
    body = str({"images": images}).replace("'", '"').encode()
    answer = server.ask("/explain", body, "application/json")
    assert (answer.status, "send one image" in answer.json["error"]) == (413, True)
    assert server.ask("/explain", b"no image", "image/png").status == 422
    assert server.ask("/explain").status == 405


def test_too_many_explanations_are_refused() -> None:
    explainer = Explainer(lambda: False)
    for _ in range(MAX_PENDING):
        explainer.admit()
    with pytest.raises(Refusal, match="too many explanations are waiting"):
        explainer.admit()
    explainer.release()
    explainer.admit()
    explainer.close()
