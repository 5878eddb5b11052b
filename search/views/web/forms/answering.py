"""python -m search.views.web.forms.answering MODEL TRACKING: what a promoted model says of images.

It runs apart from the server, which tells it images on stdin, each behind a line with the number of
its bytes, and hears a line of JSON for each on stdout. It ends with stdin.
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
from trainables.processors import processors
from trainables.values import Json

TOP = 5
"""The number of classes that are told, the most probable first."""


def loaded(uri: str, tracking: str, folder: Path) -> ServedVersion:
    """Return the model at an address, fetched into a folder, ready to answer.

    Raises:
        ConfigError: there is no such model, or it cannot be loaded.
        NotReady: MLflow does not answer.
    """
    number = version_at(uri, tracking)
    found = fetch(uri, tracking, folder)
    return versions.load_version(
        found, uri, number, threads=max(1, processors() // 2), delay_s=0.05
    )


def said(served: ServedVersion, content: bytes) -> Json:
    """Return what the model says of an image, as `search.serve` answers, and the time it took."""
    began = time.perf_counter()
    try:
        with open_image(content, Limits().pixels) as image:
            pixels = served.model.decoded(image)
        found = served.predictions([pixels])[0]
    except ConfigError as error:
        return {"error": str(error)}
    told: Json = json.loads(served.encoder.encode_image(found, "", TOP))
    return {**told, "took_ms": 1000 * (time.perf_counter() - began)}


def images(stream: BinaryIO) -> Iterator[bytes]:
    """Yield the images that are told, until the stream ends."""
    while line := stream.readline():
        content = stream.read(int(line))
        yield content


def _say(told: Json) -> None:
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()


def main(argv: Sequence[str] | None = None) -> int:
    """Load the model, answer until stdin ends, and return the exit code."""
    uri, tracking = sys.argv[1:] if argv is None else argv
    with tempfile.TemporaryDirectory(prefix="model-") as folder:
        try:
            served = loaded(uri, tracking, Path(folder))
        except (ConfigError, NotReady, Unavailable, OSError) as error:
            _say({"error": str(error)})
            return 0
    _say({"ready": served.version, "classes": len(served.model.classes)})
    for content in images(sys.stdin.buffer):
        _say(said(served, content))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
