"""Which models are used, and which are refused before a request reaches them."""

from pathlib import Path

import numpy as np
import pytest

from search.serving.versions import ready
from trainables.errors import ConfigError
from trainables.export.predictor import Predictor
from trainables.export.runtime import _Onnx


@pytest.mark.parametrize(
    ("said", "why"),
    [(np.full((2, 10), np.nan), "no numbers"), (np.zeros((2, 3)), r"\(2, 3\) numbers")],
)
def test_a_model_whose_answers_are_no_probabilities_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, said: np.ndarray, why: str
) -> None:
    for kind in (_Onnx, Predictor):
        monkeypatch.setattr(kind, "predictions", lambda self, images: said)
    with pytest.raises(ConfigError, match=why):
        ready(folder, "pets", "1", threads=1, delay_s=0.05)
