"""Requests that are wrong, each answered with its own error in one line, and the server alive."""

import base64
import io
import json
import socket
import struct
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from search.serving.limits import Limits
from search.serving.protocol import PIPELINED
from tests.search.serving.test_app import as_json, as_npy, form
from tests.support.promoted import png
from tests.support.serving import Running, running, until

LIMITS = Limits(
    body_bytes=200_000,
    queue_bytes=800_000,
    images=8,
    pixels=1_000_000,
    request_pixels=3_000_000,
    receive_s=2.0,
)
PNG, JSON, NPY = "image/png", "application/json", "application/x-npy"
GREY = np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)
GOOD = png(GREY)
FORM, FORM_KIND = form([GOOD])


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Running]:
    with running(folder, limits=LIMITS) as made:
        yield made


@pytest.fixture(scope="module")
def hasty(folder: Path) -> Iterator[Running]:
    """A server that waits half a second for a request, at times too short for a whole one."""
    with running(folder, limits=replace(LIMITS, receive_s=0.5)) as made:
        yield made


def bomb(width: int, height: int) -> bytes:
    """A small PNG that says that it has many pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checked = kind + content
        size, sum_ = struct.pack(">I", len(content)), struct.pack(">I", zlib.crc32(checked))
        return size + checked + sum_

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = zlib.compress(bytes(1000))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


def deep() -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8) * 900).save(file, "PNG")
    return file.getvalue()


def floats() -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.ones((8, 8), dtype=np.float32)).save(file, "TIFF")
    return file.getvalue()


def wrapped(images: object) -> bytes:
    return json.dumps({"images": images}).encode()


def tensors(value: object) -> bytes:
    return json.dumps({"inputs": value}).encode()


def headed(shape: str) -> bytes:
    """An array's file that says its shape in these words, with 12 bytes of content."""
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".ljust(191) + "\n"
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(text)) + text.encode() + bytes(12)


TEXT = base64.b64encode(GOOD).decode()
FIELD = b'--b0\r\nContent-Disposition: form-data; name="a"\r\n\r\nhello\r\n--b0--\r\n'
AVIF = png(GREY, "AVIF").replace(b"pitm", b"pixm")
CODE = as_npy(GREY).replace(b"{'descr'", b"{__dict_")
PICKLED = io.BytesIO()
np.save(PICKLED, np.array([{}], dtype=object), allow_pickle=True)

CASES: dict[str, tuple[str, bytes, str | None, int, str]] = {
    "no type": ("/predict", GOOD, None, 415, "no Content-Type"),
    "an address": ("/predict", b"http://a/b.png", "text/uri-list", 415, "text/uri-list"),
    "curl's own type": ("/predict", GOOD, "application/x-www-form-urlencoded", 415, "must be"),
    "a type that is none": ("/predict", GOOD, ";;;", 415, "(got ';;;')"),
    "a PDF": ("/predict", b"%PDF-1.7", "application/pdf", 415, "application/pdf"),
    "nothing": ("/predict", b"", PNG, 422, "the file is empty"),
    "text": ("/predict", b"hello", PNG, 422, "not an image"),
    "SVG": ("/predict", b"<svg onload='alert(1)'/>", "image/svg+xml", 422, "not an image"),
    "a cut PNG": ("/predict", GOOD[: len(GOOD) // 2], PNG, 422, "damaged"),
    "half a header": ("/predict", GOOD[:20], PNG, 422, "the PNG file is damaged"),
    "a JPEG's first bytes": ("/predict", b"\xff\xd8\xff\xe0", "image/jpeg", 422, "damaged"),
    "a changed AVIF": ("/predict", AVIF, "image/avif", 422, "damaged"),
    "changed pixels": ("/predict", GOOD[:45] + b"\0\0\0\0" + GOOD[49:], PNG, 422, "damaged"),
    "16 bits": ("/predict", deep(), PNG, 422, "16-bit values"),
    "floating point": ("/predict", floats(), "image/tiff", 422, "floating-point values"),
    "too many pixels": ("/predict", bomb(2000, 1000), PNG, 413, "2 million pixels"),
    "a bomb": ("/predict", bomb(30_000, 30_000), PNG, 413, "pixels"),
    "a huge bomb": ("/predict", bomb(2**31 - 1, 2**31 - 1), PNG, 413, "pixels"),
    "no width": ("/predict", bomb(0, 8), PNG, 422, ""),
    "too many pixels together": (
        "/predict",
        as_json([bomb(1000, 990)] * 4),
        JSON,
        413,
        "pixels in total (limit",
    ),
    "a large body": ("/predict", bytes(200_001), PNG, 413, "the body is too large"),
    "no JSON": ("/predict", b"{", JSON, 400, "not JSON"),
    "no text": ("/predict", b"\xff\xfe\xfd", JSON, 400, "not JSON"),
    "deep JSON": ("/predict", b"[" * 100_000, JSON, 400, "not JSON"),
    "a long number": ("/predict", b"9" * 10_000, JSON, 400, "not JSON"),
    "a list": ("/predict", b"[]", JSON, 400, "JSON must be"),
    "an empty object": ("/predict", b"{}", JSON, 400, "JSON must be"),
    "a text for a list": ("/predict", wrapped(TEXT), JSON, 400, "JSON must be"),
    "numbers for images": ("/predict", wrapped([1, 2]), JSON, 400, "JSON must be"),
    "another key": ("/predict", b'{"images": [], "url": "http://a"}', JSON, 400, "JSON must be"),
    "no images": ("/predict", wrapped([]), JSON, 400, "no image"),
    "no base64": ("/predict", wrapped(["%%%"]), JSON, 400, "not base64"),
    "letters beyond ASCII": ("/predict", wrapped(["ü"]), JSON, 400, "not base64"),
    "an address in JSON": ("/predict", wrapped(["http://a/b.png"]), JSON, 400, "not base64"),
    "too many images": ("/predict", as_json([GOOD] * 9), JSON, 413, "too many images"),
    "one bad of two": ("/predict", as_json([GOOD, b"x"]), JSON, 422, "image 2 of 2 images"),
    "a form without boundary": ("/predict", FORM, "multipart/form-data", 400, "boundary"),
    "another boundary": ("/predict", FORM, "multipart/form-data; boundary=x", 400, "invalid"),
    "a long boundary": ("/predict", FORM, f"multipart/form-data; boundary={'x' * 999}", 400, ""),
    "a cut form": ("/predict", FORM[:-10], FORM_KIND, 400, "ends before"),
    "an empty form": ("/predict", b"--b0--\r\n", FORM_KIND, 400, ""),
    "a field that is no file": ("/predict", FIELD, FORM_KIND, 400, "'a' of the form is not a file"),
    "too many files": ("/predict", form([b""] * 9)[0], FORM_KIND, 413, "too many images"),
    "no array": ("/predict", b"hello", NPY, 400, "numpy.save"),
    "a pickle": ("/predict", PICKLED.getvalue(), NPY, 422, "uint8"),
    "floats": ("/predict", as_npy(np.ones((2, 8, 8))), NPY, 422, "float64"),
    "a vector": ("/predict", as_npy(np.zeros(9, np.uint8)), NPY, 422, "must be uint8"),
    "a cut array": (
        "/predict",
        as_npy(np.zeros((1, 8, 8), np.uint8))[:-1],
        NPY,
        400,
        "according to its header",
    ),
    "an array too long": ("/predict", as_npy(GREY) + b"0", NPY, 400, "according to its header"),
    "a code in its header": (
        "/predict",
        as_npy(GREY).replace(b"{'descr'", b"{__dict_"),
        NPY,
        400,
        "",
    ),
    "sides below 0": ("/predict", headed("(-1, -2, 2, 3)"), NPY, 400, "header"),
    "a huge side": ("/predict", headed(f"(1, {10**30}, 0, 3)"), NPY, 400, "header"),
    "a longer side": ("/predict", headed(f"(0x{'f' * 99}, 1)"), NPY, 400, "header"),
    "truths for sides": ("/predict", headed("(True, True)"), NPY, 400, "header"),
    "a cut header": ("/predict", headed("("), NPY, 400, "numpy.save"),
    "no side": (
        "/predict",
        as_npy(np.zeros((1, 8, 0), np.uint8)),
        NPY,
        422,
        "must be a uint8 array",
    ),
    "five channels": ("/predict", as_npy(np.zeros((1, 8, 8, 5), np.uint8)), NPY, 422, "channels"),
    "too many in an array": ("/predict", as_npy(np.zeros((9, 8, 8), np.uint8)), NPY, 413, "many"),
    "another question": ("/predict?url=http://a", GOOD, PNG, 400, "?top=NUMBER"),
    "top without number": ("/predict?top=all", GOOD, PNG, 400, "whole number"),
    "top below 1": ("/predict?top=0", GOOD, PNG, 400, "from 1 to 999999"),
    "MLflow's CSV": ("/invocations", b"a,b\n1,2", "text/csv", 415, "application/json"),
    "MLflow's table": ("/invocations", b'{"dataframe_split": {}}', JSON, 400, "inputs"),
    "both keys": ("/invocations", b'{"inputs": [1], "instances": [1]}', JSON, 400, "inputs"),
    "no list": ("/invocations", tensors({"a": 1}), JSON, 400, "a list of images"),
    "an empty list": ("/invocations", tensors([]), JSON, 400, "a list of images"),
    "pixels above 255": ("/invocations", tensors([[[256] * 8] * 8]), JSON, 422, "uint8"),
    "shares for pixels": ("/invocations", tensors([[[0.5] * 8] * 8]), JSON, 422, "uint8"),
    "texts for pixels": (
        "/invocations",
        tensors([[["a"] * 8] * 8]),
        JSON,
        422,
        "a number from 0 to 255",
    ),
    "long texts": ("/invocations", tensors([["a" * 1000, *[""] * 9]]), JSON, 422, "numbers"),
    "no pixel": ("/invocations", tensors([[[None] * 8] * 8]), JSON, 422, "numbers"),
    "lists in lists": (
        "/invocations",
        b'{"inputs": ' + b"[" * 99 + b"]" * 99 + b"}",
        JSON,
        422,
        "",
    ),
    "rows of two lengths": ("/invocations", tensors([[[1, 2], [3]]]), JSON, 400, "the same length"),
    "a huge pixel": ("/invocations", tensors([[[10**30] * 8] * 8]), JSON, 422, "uint8"),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_wrong_is_said_in_one_line(server: Running, name: str) -> None:
    path, body, kind, status, words = CASES[name]
    answer = server.ask(path, body, kind)
    text = answer.json["error"]
    assert (answer.status, "\n" in text, "Traceback" in text) == (status, False, False), text
    assert words in text
    assert answer.headers["content-type"] == "application/json"
    assert len(answer.body) < 500
    assert (server.app.admission.size_bytes, server.app.admission.images) == (0, 0)


def test_the_server_still_answers_after_all_of_it(server: Running) -> None:
    assert server.ask("/predict", GOOD, PNG).status == 200


def test_a_compressed_body_is_not_read(server: Running) -> None:
    assert server.ask("/predict", GOOD, PNG, Content_Encoding="gzip").status == 415


def test_other_methods_and_addresses_are_told(server: Running) -> None:
    assert server.ask("/predict").status == 405
    assert server.ask("/predict").json["error"] == "Method Not Allowed: use POST"
    assert server.ask("/nowhere").status == 404
    assert server.ask("/health", b"", PNG).status == 405


HEAD = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"hello\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03", b"400"),
        (HEAD + b"Content-Length: -1\r\n\r\n", b"400"),
        (HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", b"400"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", b"400"),
        (HEAD + b"A: " + b"x" * 40_000, b"431"),
        (HEAD + b"Content-Length: 9999999999\r\n\r\n", b"413"),
    ],
)
def test_bytes_that_are_no_request_are_answered_and_the_connection_ends(
    server: Running, sent: bytes, status: bytes
) -> None:
    found = server.raw(sent)
    assert found.startswith(b"HTTP/1.1 " + status), found
    assert b'{"error": ' in found


@pytest.mark.parametrize("sent", [HEAD + b"Content-Length: 100\r\n\r\nhalf", HEAD, b""])
def test_a_request_that_does_not_arrive_is_answered_and_the_connection_ends(
    hasty: Running, sent: bytes
) -> None:
    found = hasty.raw(sent)
    assert found.startswith(b"HTTP/1.1 408"), found
    assert b'{"error": ' in found


def test_a_body_without_a_length_is_bounded_too(server: Running) -> None:
    pieces = [b"20000\r\n" + bytes(0x20000) + b"\r\n"] * 2
    head = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    assert server.raw(head, *pieces).startswith(b"HTTP/1.1 413")


def test_a_client_that_leaves_costs_nothing(server: Running) -> None:
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(HEAD + b"Content-Length: 1000\r\n\r\nhalf")
    until(lambda: server.app.admission.size_bytes == 0)
    assert server.ask("/predict", GOOD, PNG).status == 200


def test_an_answer_is_sent_before_the_next_request_is_refused(server: Running) -> None:
    """The next header begins in the bytes in which a body ends that is longer than one may be."""
    photograph = bytes(120_000)
    first = HEAD + f"Content-Length: {len(photograph)}\r\n\r\n".encode() + photograph
    whole = server.raw(first + HEAD, b"Content-Length: 1\r\nConnection: close\r\n\r\n0")
    assert whole.count(b"HTTP/1.1 422") == 2
    cut = server.raw(first + HEAD + b"A: ", b"x" * 40_000)
    assert cut.startswith(b"HTTP/1.1 422")
    assert b"HTTP/1.1 431" in cut


@pytest.mark.parametrize("path", ["/predict", "/invocations", "/health", "/metrics", "/"])
def test_a_name_that_is_not_the_servers_is_refused(server: Running, path: str) -> None:
    for body in (None, GOOD):
        answer = server.ask(path, body, PNG, Host="evil.example:80")
        assert answer.status == 403
        assert "evil.example" in answer.json["error"]


@pytest.mark.parametrize(
    "headers", [{"Sec_Fetch_Site": "cross-site"}, {"Origin": "https://evil.example"}]
)
def test_another_sites_form_sends_no_images(server: Running, headers: dict[str, str]) -> None:
    assert server.ask("/predict", GOOD, PNG, **headers).status == 403
    assert server.ask("/predict", GOOD, PNG, Sec_Fetch_Site="same-origin").status == 200


def test_a_body_that_is_only_announced_takes_no_room(server: Running) -> None:
    with ExitStack() as stack:
        for _ in range(20):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            connection.sendall(HEAD + b"Content-Length: 200000\r\n\r\n")
        assert server.ask("/predict", GOOD, PNG).status == 200


UPGRADES = {
    "Java's HttpClient": (
        b"Connection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABk\r\n"
        b"Upgrade: h2c\r\n"
    ),
    "keep-alive": b"Connection: keep-alive, upgrade\r\nUpgrade: h2c\r\n",
    "two lines": b"connection: keep-alive\r\nconnection: upgrade\r\nupgrade: h2c\r\n",
    "a web socket": b"Connection: Upgrade\r\nUpgrade: websocket\r\n",
    "two protocols": b"Connection: Upgrade\r\nUpgrade: TLS/1.2\r\nUpgrade: h2c\r\n",
}
LENGTH = f"Content-Length: {len(GOOD)}\r\n\r\n".encode()
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
LAST = b"GET /version HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def chunks(content: bytes, size: int = 50) -> bytes:
    pieces = [content[start : start + size] for start in range(0, len(content), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(one), one) for one in pieces) + b"0\r\n"


@pytest.mark.parametrize("upgrade", UPGRADES)
def test_an_upgrade_that_is_not_taken_is_ignored(server: Running, upgrade: str) -> None:
    """By RFC 9110, section 7.8; the next request on the connection is answered too."""
    for rest in (LENGTH + GOOD, CHUNKED + chunks(GOOD) + b"\r\n"):
        request = HEAD + UPGRADES[upgrade] + rest
        for pieces in (
            [request * 3 + LAST],
            [request[:200], request[200:], LAST],
            [*(request[place : place + 1] for place in range(len(request))), LAST],
        ):
            found = server.raw(*pieces)
            assert found.count(b"HTTP/1.1 200 OK") == b"".join(pieces).count(b"HTTP/1.1"), found
            assert b"HTTP/1.1 4" not in found
            assert found.count(b'"class":') == b"".join(pieces).count(b"POST")


def test_an_upgrade_without_a_body_is_ignored_and_a_tunnel_refused(server: Running) -> None:
    asked = b"GET /version HTTP/1.1\r\nHost: localhost\r\n" + UPGRADES["Java's HttpClient"]
    assert server.raw(asked + b"\r\n" + LAST).count(b"HTTP/1.1 200 OK") == 2
    tunnel = b"CONNECT localhost:1 HTTP/1.1\r\nHost: localhost\r\n\r\n"
    assert server.raw(tunnel).startswith(b"HTTP/1.1 400")


def test_trailers_are_ignored_as_far_as_they_are_short(server: Running) -> None:
    """They could else stand for a header that was checked, such as the type of the body."""
    ended = CHUNKED + chunks(GOOD) + b"Content-Encoding: gzip\r\nContent-Type: a/b\r\n\r\n"
    assert server.raw(HEAD + ended + LAST).count(b"HTTP/1.1 200 OK") == 2


@pytest.mark.parametrize("line", [b"A: b\r\n", b"x"], ids=["many", "long"])
@pytest.mark.parametrize("path", [b"/predict", b"/health"], ids=["read", "not read"])
def test_trailers_are_bounded(server: Running, path: bytes, line: bytes) -> None:
    """The connection ends long before all of them have arrived."""
    head = HEAD.replace(b"/predict", path) + CHUNKED + chunks(GOOD) + b"A: "
    piece, sent = line * (16_384 // len(line)), 0
    with socket.create_connection(("127.0.0.1", server.port), timeout=600) as connection:
        connection.sendall(head)
        with suppress(ConnectionError):
            while sent < 1 << 28:
                connection.sendall(piece)
                sent += len(piece)
    assert sent < 1 << 23  # as much as the buffers of the system take
    until(lambda: server.app.admission.size_bytes == 0)
    assert server.ask("/predict", GOOD, PNG).status == 200


def test_trailers_that_are_too_long_are_told(server: Running) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=600) as connection:
        connection.sendall(HEAD + CHUNKED + chunks(GOOD))
        until(lambda: server.app.admission.size_bytes == len(GOOD))
        connection.sendall(b"A: " + b"b" * 40_000)
        assert connection.recv(65536).startswith(b"HTTP/1.1 431")


def test_requests_that_wait_on_one_connection_are_bounded(server: Running) -> None:
    asked = b"GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n"
    found = server.raw(asked * 1000)
    assert found.count(b"HTTP/1.1 200 OK") == PIPELINED + 1
    assert found.count(b"HTTP/1.1 503") == 1
    assert server.raw(asked * PIPELINED + LAST).count(b"HTTP/1.1 200 OK") == PIPELINED + 1


def test_a_request_that_waits_for_another_is_not_refused_before_that_is_answered(
    server: Running,
) -> None:
    """The second one is cut off by its trailers while the first is still decoded."""
    image = png(np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8))
    first = HEAD + f"Content-Length: {len(image)}\r\n\r\n".encode() + image
    second = HEAD + CHUNKED + chunks(GOOD) + b"A: "
    found = server.raw(first + second, b"b" * 40_000)
    assert found.startswith(b"HTTP/1.1 200 OK"), found[:100]
    assert found.count(b"HTTP/1.1 ") == 2


def test_idle_connections_make_room_for_new_ones(folder: Path) -> None:
    with running(folder, limits=replace(LIMITS, connections=4)) as made, ExitStack() as stack:

        def connect() -> socket.socket:
            address = ("127.0.0.1", made.port)
            return stack.enter_context(socket.create_connection(address, timeout=600))

        idle = [connect() for _ in range(4)]
        used = connect()  # the first of the others ends
        used.sendall(HEAD + LENGTH + GOOD[:20])
        assert idle[0].recv(1) == b""
        for _ in range(20):
            assert made.ask("/predict", GOOD, PNG).status == 200
        assert idle[1].recv(1) == b""
        used.sendall(GOOD[20:])
        assert used.recv(65536).startswith(b"HTTP/1.1 200 OK")
        busy = [connect() for _ in range(4)]
        for one in busy:
            one.sendall(HEAD + LENGTH + GOOD[:20])
        until(lambda: made.app.admission.size_bytes == 4 * 20)
        assert made.raw().startswith(b"HTTP/1.1 503")
