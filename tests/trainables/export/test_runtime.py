"""A model's folder made ready to serve: what computes, with how many threads, and what is said."""

import io
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.conftest import MakeOnce
from tests.support.promoted import linear, trained
from trainables.datasets.images import open_image
from trainables.export import runtime
from trainables.predictors.base import ONNX

LIBRARIES = ("torch", "pandas", "mlflow", "sklearn", "scipy")
LOOK = f"""
import sys
from pathlib import Path
import numpy
from trainables.export.runtime import load
made = load(Path(sys.argv[1]), "m", 1)
made.model.predictions(numpy.zeros((2, *made.model.image), dtype=numpy.uint8))
print(made.engine, [name for name in {LIBRARIES} if name in sys.modules])
"""


def test_onnx_needs_neither_torch_nor_pandas(tmp_path: Path) -> None:
    folder = linear(tmp_path / "model")
    done = subprocess.run(
        [sys.executable, "-c", LOOK, str(folder)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "ONNX Runtime []\n"


@pytest.mark.slow
def test_onnx_and_torch_say_the_same(make_once: MakeOnce, tmp_path: Path) -> None:
    with_onnx, without = make_once("trained-digits", trained) / "model", tmp_path / "without"
    shutil.copytree(with_onnx, without, ignore=shutil.ignore_patterns(ONNX))
    fast, slow = runtime.load(with_onnx, "m", 1), runtime.load(without, "m", 1)
    assert (fast.engine, slow.engine) == ("ONNX Runtime", "torch")
    assert fast.model.signature == slow.model.signature
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 1), dtype=np.uint8)
    found, wanted = (each.model.predictions(images) for each in (fast, slow))
    assert np.abs(found - wanted).max() < 1e-5


def test_decoding_content_gives_what_decoding_its_file_gives(
    tmp_path: Path,
) -> None:
    """Also of photographs, of which the decoder gives a smaller image."""
    model = runtime.load(linear(tmp_path / "model", image=(8, 8, 3)), "m", 1).model
    generator = np.random.default_rng(0)
    kinds = {
        "JPEG": (1000, 1200, 3),
        "PNG": (20, 30, 4),
        "GIF": (9, 5),
        "WEBP": (40, 30, 3),
    }
    for kind, shape in kinds.items():
        pixels = generator.integers(0, 256, shape, dtype=np.uint8)
        content = io.BytesIO()
        Image.fromarray(pixels).save(content, format=kind)
        path = tmp_path / kind
        path.write_bytes(content.getvalue())
        found = model.decoded(open_image(content.getvalue()))
        assert np.array_equal(found, model.pixels(path))


def test_more_threads_are_used_only_where_they_are_worth_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    took = {1: 1.0, 2: 0.6, 4: 0.55, 8: 0.1}
    made: list[int] = []

    def make(threads: int) -> Any:
        made.append(threads)
        return threads

    monkeypatch.setattr(runtime, "_batch_seconds", lambda threads, images: took[threads])
    assert runtime.fastest(make, 8)[1] == 2
    assert made == [1, 2, 4, 2]
    assert runtime.fastest(make, 1)[1] == 1


def test_batches_are_as_large_as_fit_the_time() -> None:
    made = runtime.Runtime(None, "", 1, {1: 0.01, 2: 0.015, 4: 0.03})  # type: ignore[arg-type]
    assert [made.batch_within(limit) for limit in (0.001, 0.01, 0.02, 1)] == [0, 1, 2, 4]
