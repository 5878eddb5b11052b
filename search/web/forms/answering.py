"""python -m search.web.forms.answering MODEL TRACKING: classify images with a promoted model.

This is a child process of the server. The server writes image files to its stdin, each after a line
with the size of the file in bytes. For each image, the process prints a reply as a line of JSON.
The process exits when stdin is closed.
"""

import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from cluster.errors import NotReady
from search.serving import versions
from search.serving.limits import Limits
from search.serving.versions import ServedVersion
from search.tracking.model_registry import fetch, version_at
from trainables.datasets.images import open_image
from trainables.errors import ConfigError, Unavailable
from trainables.machine import processors
from trainables.values import Json

TOP = 5
"""Number of classes in a reply, the most probable first."""


def load_model(uri: str, tracking: str, folder: Path) -> ServedVersion:
    """Download a registered model into a folder, and load it.

    Raises:
        ConfigError: there is no such model, or it cannot be loaded.
        NotReady: MLflow does not respond.
    """
    number = version_at(uri, tracking)
    model_folder = fetch(uri, tracking, folder)
    return versions.load_version(
        model_folder, uri, number, threads=max(1, processors() // 2), delay_s=0.05
    )


def answer_image(served: ServedVersion, content: bytes) -> Json:
    """Predict an image, and build the reply.

    The reply has the fields of a prediction of `search.serve` and `took_ms`, or only an `error`.

    Args:
        served: the model.
        content: the bytes of an image file.
    """
    began = time.perf_counter()
    try:
        with open_image(content, Limits().pixels) as image:
            pixels = served.model.decoded(image)
        prediction = served.predictions([pixels])[0]
    except ConfigError as error:
        return {"error": str(error)}
    reply: Json = json.loads(served.encoder.encode_image(prediction, "", TOP))
    return {**reply, "took_ms": 1000 * (time.perf_counter() - began)}


def images(stream: BinaryIO) -> Iterator[bytes]:
    """Yield the image files in a stream. Before each file, a line has the file's size in bytes."""
    while line := stream.readline():
        content = stream.read(int(line))
        yield content


def _write_reply(reply: Json) -> None:
    sys.stdout.write(json.dumps(reply) + "\n")
    sys.stdout.flush()


def main(argv: Sequence[str] | None = None) -> int:
    """Load the model, reply to images until stdin ends, and return the exit code."""
    uri, tracking = sys.argv[1:] if argv is None else argv
    with tempfile.TemporaryDirectory(prefix="model-") as folder:
        try:
            served = load_model(uri, tracking, Path(folder))
        except (ConfigError, NotReady, Unavailable, OSError) as error:
            _write_reply({"error": str(error)})
            return 0
    _write_reply({"ready": served.version, "classes": len(served.model.classes)})
    for content in images(sys.stdin.buffer):
        _write_reply(answer_image(served, content))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
