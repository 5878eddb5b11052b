"""The space of probes from a folder of photographs to predictions."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import models

from search.journal.result import SearchResult
from tests.conftest import Command
from tests.search.conftest import Inline
from trainables.catalog.models import MODELS


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Forty dark and forty bright images, and beside them random weights of SqueezeNet."""
    generator = np.random.default_rng(0)
    for kind, level in (("dark", 60), ("bright", 180)):
        (tmp_path / "pictures" / kind).mkdir(parents=True)
        for number in range(40):
            pixels = generator.normal(level, 20, (32, 32, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pictures" / kind / f"{number}.png")
    (tmp_path / "weights").mkdir()
    torch.manual_seed(0)
    state = models.squeezenet1_0().state_dict()
    torch.save(state, tmp_path / "weights" / MODELS["squeezenet1_0"].weights)
    return tmp_path


@pytest.mark.slow
def test_a_probe_is_searched_promoted_as_a_network_and_used(
    folder: Path, inline: Inline, call: Command
) -> None:
    words = "--space probe --data folder:pictures --weights weights --name probes --trials 3"
    done, summary = inline("run", *words.split(), "--set", "model.input_size=32")
    assert done.returncode == 0, done.stderr
    assert "models that are left out: probe_efficientnet_b0, probe_mobilenet_v2" in done.stderr
    assert summary["trials"] == {"completed": 3}
    result = SearchResult.read(folder / "searches" / "probes")
    assert result.chosen is not None
    assert result.chosen.value is not None
    assert result.chosen.value > 0.9
    assert result.chosen.cost is not None
    assert result.chosen.cost["parameters"] > 700_000, "the network's, not the last layer's alone"
    tracking = ["--tracking", f"sqlite:///{folder}/mlflow.db"]
    promoted = call("search.promote", "probes", "--onnx", *tracking)
    assert promoted.returncode == 0, promoted.stderr
    assert "onnxruntime" in promoted.stdout
    one = folder / "pictures" / "dark" / "0.png"
    predicted = call("search.predict", "models:/probes@champion", one, "--json", *tracking)
    assert predicted.returncode == 0, predicted.stderr
    assert '"class": "dark"' in predicted.stdout


@pytest.mark.slow
def test_a_folder_alone_gives_an_answer_and_a_resume_keeps_the_adapted_space(
    folder: Path, inline: Inline, call: Command
) -> None:
    """Without --space; the search is interrupted by its budget, and continues."""
    words = "--data folder:pictures --weights weights --name auto --budget 2epochs"
    settings = ("--set", "model.input_size=32", "--set", "epochs=2")
    done, _ = inline("run", *words.split(), *settings)
    assert done.returncode == 0, done.stderr
    result = SearchResult.read(folder / "searches" / "auto")
    space = result.started.experiment["space"]
    assert space["name"] == "auto"
    models = space["domains"]["model.name"]["options"]
    assert models == ["svm", "probe_squeezenet1_0", "squeezenet1_0", "deep_cnn", "mnist_cnn"]
    assert result.chosen is not None
    assert result.chosen.value is not None
    assert result.chosen.value > 0.9
    words = ["auto", "--budget", "8epochs", "--trials", "4"]
    done = call("search.resume", *words, "--tracking", f"sqlite:///{folder}/mlflow.db")
    assert done.returncode == 0, done.stderr
    after = SearchResult.read(folder / "searches" / "auto")
    assert after.started.experiment["space"] == space
    assert len(after.trials) == 4
    assert {trial.params["model.name"] for trial in after.trials.values()} <= set(models)
