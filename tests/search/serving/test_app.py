"""Images over HTTP in every form, and what the server tells of itself."""

import base64
import io
import json
import socket
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from search.feedback.observer import ServedAnswer
from search.serving.admission import Admission
from search.serving.limits import Limits
from tests.support.promoted import linear, png
from tests.support.serving import BUSY_S, Answer, Running, running, until
from trainables.datasets.images import open_image
from trainables.export.runtime import load
from trainables.machine import processors
from trainables.predictors.base import column
from trainables.tasks.classification.model import Classifier as Model


def probabilities(folder: Path, images: list[bytes]) -> np.ndarray:
    """What the model says by itself."""
    model = load(folder, "m", 1).model
    found: np.ndarray = model.predictions(
        np.stack([model.decoded(open_image(one)) for one in images])
    )
    return found


def form(images: Sequence[bytes], boundary: str = "b0") -> tuple[bytes, str]:
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="f"; filename="{number}.png"\r\n'
        f"Content-Type: image/png\r\n\r\n".encode()
        + content
        + b"\r\n"
        for number, content in enumerate(images)
    ]
    return b"".join(parts) + f"--{boundary}--\r\n".encode(), (
        f"multipart/form-data; boundary={boundary}"
    )


def as_json(images: Sequence[bytes]) -> bytes:
    return json.dumps({"images": [base64.b64encode(one).decode() for one in images]}).encode()


def as_npy(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, pixels)
    return file.getvalue()


def pixels_of(images: Sequence[bytes]) -> np.ndarray:
    return np.stack([np.asarray(open_image(one)) for one in images])


def test_an_image_is_answered_with_class_probabilities_version_and_id(
    server: Running, folder: Path, digits: list[bytes]
) -> None:
    answer = server.ask("/predict", digits[0], "image/png")
    wanted = probabilities(folder, digits[:1])[0]
    (found,) = answer.json["predictions"]
    assert answer.status == 200
    assert (found["class"], found["version"]) == (str(wanted.argmax()), "1")
    assert found["probability"] == pytest.approx(wanted.max(), rel=1e-5)
    assert list(found["probabilities"]) == [str(number) for number in range(10)]
    assert list(found["probabilities"].values()) == pytest.approx(wanted.tolist(), rel=1e-5)
    assert answer.json["model"] == "pets"
    again = server.ask("/predict", digits[0], "application/octet-stream").json["predictions"][0]
    assert again["probabilities"] == found["probabilities"]
    assert again["id"] != found["id"]


def test_every_form_of_a_request_gives_the_same(
    server: Running, folder: Path, digits: list[bytes]
) -> None:
    wanted = probabilities(folder, digits)
    for body, kind in (
        form(digits),
        (as_json(digits), "application/json"),
        (as_npy(pixels_of(digits)), "application/x-npy"),
        (as_npy(pixels_of(digits)[..., None]), "application/x-npy"),
    ):
        answer = server.ask("/predict", body, kind)
        assert answer.status == 200, answer.body
        found = [list(one["probabilities"].values()) for one in answer.json["predictions"]]
        assert np.allclose(found, wanted, rtol=1e-5, atol=1e-9)


def test_a_file_with_a_name_beyond_ascii_is_one_too(server: Running, digits: list[bytes]) -> None:
    """RFC 7578 forbids the form, and clients such as Java's and R's send it all the same."""
    body, kind = form(digits[:1])
    for name in (b"filename*=UTF-8''%c3%a4.png", b"FileName* = \"UTF-8''a\""):
        answer = server.ask("/predict", body.replace(b'filename="0.png"', name), kind)
        assert answer.status == 200, answer.body
    field = server.ask("/predict", body.replace(b'; filename="0.png"', b""), kind)
    assert "is not a file" in field.json["error"]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_answers_that_are_no_numbers_are_an_error_of_their_request_alone(
    folder: Path, digits: list[bytes], monkeypatch: pytest.MonkeyPatch, bad: float
) -> None:
    """JSON has no NaN, and nothing is recorded of them."""
    heard, predictions = Heard(), Model.predictions

    def broken(self: Model, images: Any) -> Any:
        found = np.array(predictions(self, images))
        found[np.asarray(images).max(axis=(1, 2, 3)) == 255, 3] = bad
        return found

    white = png(np.full((8, 8), 255, np.uint8))
    dim = png(np.full((8, 8), 25, np.uint8))
    with running(folder, observers=[heard]) as server:
        monkeypatch.setattr(Model, "predictions", broken)
        answer = server.ask("/predict", white, "image/png")
        assert (answer.status, answer.json) == (
            500,
            {"error": "the model returned NaN or infinite values"},
        )
        answer = server.ask("/predict", as_json([dim, white]), "application/json")
        assert (answer.status, "image 2 of 2" in answer.json["error"]) == (500, True)
        pixels = json.dumps({"inputs": pixels_of([white]).tolist()}).encode()
        assert server.ask("/invocations", pixels, "application/json").status == 500
        assert server.ask("/predict", dim, "image/png").status == 200
    assert [one.content for one in heard.answers] == [dim]


def test_top_tells_the_most_probable_classes(
    server: Running, folder: Path, digits: list[bytes]
) -> None:
    (found,) = server.ask("/predict?top=3", digits[0], "image/png").json["predictions"]
    ranked = np.argsort(-probabilities(folder, digits[:1])[0])[:3]
    assert list(found["probabilities"]) == [str(number) for number in ranked]


def test_larger_images_are_decoded_as_those_of_the_training(server: Running, folder: Path) -> None:
    photograph = png(
        np.random.default_rng(0).integers(0, 256, (900, 1200, 3), dtype=np.uint8), "JPEG"
    )
    (found,) = server.ask("/predict", photograph, "image/jpeg").json["predictions"]
    wanted = probabilities(folder, [photograph])[0]
    assert list(found["probabilities"].values()) == pytest.approx(wanted.tolist(), rel=1e-5)


def test_many_clients_at_once_each_get_their_own_answer(
    server: Running, folder: Path, digits: list[bytes]
) -> None:
    wanted = probabilities(folder, digits)
    answers: list[list[Answer]] = [[] for _ in range(8)]

    def ask(number: int) -> None:
        for _ in range(10):
            answers[number].append(server.ask("/predict", digits[number % 4], "image/png"))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, own in enumerate(answers):
        for answer in own:
            (found,) = answer.json["predictions"]
            assert list(found["probabilities"].values()) == pytest.approx(
                wanted[number % 4].tolist(), rel=1e-5
            )


def test_classes_of_any_name_are_told_as_they_are(tmp_path: Path, digits: list[bytes]) -> None:
    names = ('<script>"', "50%", "two\nlines", "ü")
    with running(linear(tmp_path / "model", classes=names, always=1)) as server:
        (found,) = server.ask("/predict", digits[0], "image/png").json["predictions"]
        assert tuple(found["probabilities"]) == names
        assert found["class"] == "50%"
        assert b'serving_predictions_total{class="50%"} 1.0' in server.ask("/metrics").body


def test_it_tells_of_itself(server: Running, digits: list[bytes]) -> None:
    server.ask("/predict", digits[0], "image/png")
    for path in ("/health", "/ready"):
        told = server.ask(path).json
        assert (told["version"], told["engine"], told["refused"]) == ("1", "ONNX Runtime", None)
    assert server.ask("/version").json == {"model": "pets", "version": "1"}
    assert server.ask("/ping").status == 200
    assert "/predict" in server.ask("/openapi.json").json["paths"]
    text = server.ask("/metrics").body.decode()
    for line in (
        'serving_requests_total{path="/predict",status="200"}',
        'serving_request_seconds_count{path="/predict"}',
        "serving_batch_images_count",
        'serving_images_total{version="1"}',
        "serving_queue_images 0.0",
        "serving_queue_bytes 0.0",
    ):
        assert line in text


def test_the_page_of_documentation_loads_nothing(server: Running) -> None:
    page = server.ask("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert b"http://" not in page.body.replace(b"http://127.0.0.1:8000", b"")
    assert b"<script" not in page.body


def test_mlflows_protocol_gives_what_mlflow_gives(
    server: Running, folder: Path, digits: list[bytes]
) -> None:
    """The rows are those of the table that a promoted model makes for MLflow's own server."""
    pixels = pixels_of(digits)
    for key in ("inputs", "instances"):
        body = json.dumps({key: pixels[..., None].tolist()}).encode()
        answer = server.ask("/invocations", body, "application/json; charset=utf-8")
        rows = answer.json["predictions"]
        assert [row["class"] for row in rows] == [
            str(number) for number in probabilities(folder, digits).argmax(axis=1)
        ]
        assert list(rows[0]) == ["class", "probability", *(column(str(one)) for one in range(10))]
    ragged = {"inputs": [pixels[0].tolist(), np.zeros((5, 9), int).tolist()]}
    answer = server.ask("/invocations", json.dumps(ragged).encode(), "application/json")
    assert len(answer.json["predictions"]) == 2


@pytest.mark.filterwarnings("ignore:.*Any type hint:UserWarning")
def test_mlflows_own_client_is_answered(server: Running, digits: list[bytes]) -> None:
    from mlflow.pyfunc.scoring_server.client import ScoringServerClient

    client = ScoringServerClient("127.0.0.1", server.port)
    client.wait_server_ready(timeout=BUSY_S)
    found = client.invoke(pixels_of(digits)).get_predictions()
    assert found.shape == (4, 12)


class Heard:
    """An observer that keeps what it hears."""

    def __init__(self) -> None:
        self.answers: list[ServedAnswer] = []
        self.threads: set[int] = set()
        self.is_closed = False

    def observe(self, batch: Sequence[ServedAnswer]) -> None:
        self.threads.add(threading.get_ident())
        self.answers += batch
        if len(self.answers) == 1:
            raise RuntimeError("an observer's mistake, which no client hears of")

    def close(self) -> None:
        self.is_closed = True


def test_observers_hear_of_each_answer_as_it_was_sent(folder: Path, digits: list[bytes]) -> None:
    heard = Heard()
    with running(folder, observers=[heard]) as server:
        (first,) = server.ask("/predict", digits[0], "image/png").json["predictions"]
        server.ask("/predict", as_npy(pixels_of(digits)), "application/x-npy")
        refused = server.ask("/predict", b"no image", "image/png")
    assert refused.status == 422
    assert heard.is_closed
    assert len(heard.threads) == 1
    assert heard.answers[0].id == first["id"]
    assert [one.content for one in heard.answers] == [digits[0], b"", b"", b"", b""]
    assert {one.version for one in heard.answers} == {"1"}
    told = list(first["probabilities"].values())
    assert heard.answers[0].probabilities.tolist() == pytest.approx(told, rel=1e-5)
    assert np.array_equal(heard.answers[1].pixels[..., 0], pixels_of(digits)[0])


def test_more_routes_are_answered_beside_its_own(folder: Path) -> None:
    route = Route("/mine", lambda request: PlainTextResponse("mine"))
    with running(folder, more_routes=[route]) as server:
        assert server.ask("/mine").body == b"mine"


def test_a_model_that_fails_is_told_and_the_next_request_answered(
    folder: Path, digits: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(folder, limits=Limits()) as server:
        model = server.app.versions.current.model
        with monkeypatch.context() as broken:
            broken.setattr(model, "_predictor", None)
            broken.setattr(type(model), "image", (8, 8, 1))
            answer = server.ask("/predict", digits[0], "image/png")
        assert (answer.status, answer.json) == (
            500,
            {"error": "the model failed (AttributeError)"},
        )
        assert server.ask("/predict", digits[0], "image/png").status == 200


def test_several_images_are_made_by_threads_and_figures_kept_up_to_date(
    folder: Path, digits: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    threads, measured = list[str](), threading.Event()
    accepted, decoded = Model.accepted, Model.decoded

    def named(call: Callable[..., Any]) -> Callable[..., Any]:
        def made(*arguments: Any) -> Any:
            threads.append(threading.current_thread().name.partition("_")[0])
            return call(*arguments)

        return made

    monkeypatch.setattr(Admission, "measure", lambda _: measured.set())
    with running(folder) as server:
        monkeypatch.setattr(Model, "accepted", named(accepted))
        monkeypatch.setattr(Model, "decoded", named(decoded))
        server.ask("/predict", as_npy(pixels_of(digits)), "application/x-npy")
        server.ask("/predict", as_json(digits), "application/json")
        body = json.dumps({"inputs": pixels_of(digits).tolist()}).encode()
        server.ask("/invocations", body, "application/json")
        assert measured.wait(BUSY_S)
    assert threads == ["decoding"] * 6


def test_what_nobody_waits_for_is_not_decoded(
    folder: Path, digits: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client sends 200 images and leaves while the first are decoded."""
    begun, may_end = list[str](), threading.Event()
    decoded = Model.decoded

    def slowly(*arguments: Any) -> Any:
        begun.append(threading.current_thread().name)
        assert may_end.wait(BUSY_S)
        return decoded(*arguments)

    body = as_json([png(np.zeros((200, 200), np.uint8))] * 200)
    head = (
        "POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    with running(folder) as server:
        with monkeypatch.context() as slow:
            slow.setattr(Model, "decoded", slowly)
            with socket.create_connection(("127.0.0.1", server.port)) as connection:
                connection.sendall(head.encode() + body)
                until(lambda: bool(begun))
                assert server.app.admission.images == 200
            until(lambda: server.app.admission.images == 0)
            may_end.set()
        assert server.ask("/predict", digits[0], "image/png").status == 200
        assert len(begun) <= processors()
        until(lambda: server.app._decoding.wait_s(1) == 0)


def test_a_client_that_waits_is_answered_though_it_has_sent_more(server: Running) -> None:
    image = png(np.random.default_rng(2).integers(0, 256, (300, 300, 3), dtype=np.uint8))
    head = f"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(image)}\r\n"
    asked = f"{head}Content-Type: image/png\r\n\r\n".encode() + image
    last = b"GET /version HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    assert server.raw(asked * 5 + last).count(b"HTTP/1.1 200 OK") == 6
