"""Which models are used, and which are refused before a request reaches them."""

import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from search.serving import versions
from search.serving.messages import WorkerSettings
from search.serving.versions import load_version
from search.serving.worker import check_task
from tests.support.tasks import boxes
from trainables.errors import ConfigError
from trainables.tasks.classification.predictor import Predictor


@pytest.mark.parametrize(
    ("said", "why"),
    [(np.full((2, 10), np.nan), "NaN or infinite"), (np.zeros((2, 3)), r"of shape \(2, 3\)")],
)
def test_a_model_whose_answers_are_no_probabilities_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, said: np.ndarray, why: str
) -> None:
    monkeypatch.setattr(Predictor, "predictions", lambda self, images: said)
    with pytest.raises(ConfigError, match=why):
        load_version(folder, "pets", "1", threads=1, delay_s=0.05)


def test_only_models_with_feedback_are_recorded_and_compared() -> None:
    served: Any = SimpleNamespace(model=SimpleNamespace(task=boxes.TASK))
    settings = WorkerSettings("m", "", 0, 1, 0.1, shadow_share=0.1)
    with pytest.raises(
        ConfigError, match=r"--shadow cannot be used for boxes: .* Remove this setting\."
    ):
        check_task(settings, served)
    check_task(replace(settings, shadow_share=0.0), served)


def test_a_version_that_hangs_while_it_is_loaded_keeps_no_other_waiting(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load, never = versions.load, threading.Event()
    with monkeypatch.context() as hanging:
        hanging.setattr(versions, "LOAD_S", 0.01)
        hanging.setattr(versions, "load", lambda *_: never.wait() and load(folder, "pets", 1))
        with pytest.raises(ConfigError, match="the model was not loaded within"):
            load_version(folder, "pets", "1", threads=1, delay_s=0.05)
    assert load_version(folder, "pets", "2", threads=1, delay_s=0.05).version == "2"
    never.set()
