"""Folders of promoted models, made in milliseconds: a linear network in ONNX, or a real one."""

import io
import json
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from trainables.export.export import copy_code
from trainables.predictors import base as predictor
from trainables.tasks import TASKS

DIGITS = tuple(str(number) for number in range(10))


def linear(
    folder: Path,
    *,
    classes: tuple[str, ...] = DIGITS,
    image: tuple[int, int, int] = (8, 8, 1),
    always: int | None = None,
    seed: int = 0,
) -> Path:
    """Write a linear network with random weights to a new folder; with `always` it says one class.

    Its `about.json` is that of a classifier.
    """
    folder.mkdir(parents=True)
    weights = np.random.default_rng(seed).normal(0, 0.003, (int(np.prod(image)), len(classes)))
    bias = np.zeros(len(classes))
    if always is not None:
        bias[always] = 100
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["images"], ["values"], to=TensorProto.FLOAT),
            helper.make_node("Flatten", ["values"], ["flat"]),
            helper.make_node("Gemm", ["flat", "weights", "bias"], ["scores"]),
            helper.make_node("Softmax", ["scores"], ["probabilities"]),
        ],
        "linear",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", *image])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, None)],
        [
            numpy_helper.from_array(weights.astype(np.float32), "weights"),
            numpy_helper.from_array(bias.astype(np.float32), "bias"),
        ],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(
        helper.make_model(graph, opset_imports=opset, ir_version=8), str(folder / predictor.ONNX)
    )
    about = {"classes": classes, "image": image, "batch": 256}
    (folder / predictor.DESCRIPTION).write_text(json.dumps(about), encoding="utf-8")
    copy_code(TASKS["classification"], folder)
    return folder


def png(pixels: NDArray[np.uint8], kind: str = "PNG") -> bytes:
    """Return an image as a file would hold it."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def trained(folder: Path) -> None:
    """Train a network for digits for a moment, and export it as ONNX too, to `folder/model`."""
    import torch

    from trainables.checkpoints import checkpoint
    from trainables.config import TrialConfig
    from trainables.datasets.load import load
    from trainables.export.export import export
    from trainables.training.loop import Training

    torch.set_num_threads(1)
    changes = {"model.name": "deep_cnn", "epochs": 1, "precision": "fp32", "data.train_limit": 40}
    config = TrialConfig().override(changes)
    dataset = load(config.data)
    training = Training(config, dataset)
    list(training.epochs())
    saved = checkpoint.save(folder / "saved", training.state(), {})
    export(config, dataset, saved, folder / "model", onnx=True)
