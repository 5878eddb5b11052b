"""A checkpoint as a folder that is used without this project: from raw pixels to probabilities (`serving.predictor` reads it), checked and timed."""

import json
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trainables import checkpoint
from trainables.config import TrialConfig
from trainables.cost import BATCHES, time_per_image
from trainables.datasets.arrays import Dataset, Images
from trainables.errors import ConfigError, Unavailable
from trainables.evaluate import Classify, classifier, probabilities
from trainables.loop import eval_batch, scaling_of
from trainables.serving import predictor

TOLERANCE = 1e-4
"""How far apart probabilities of the same network may be that are computed in two ways."""
NEEDED_FOR_ONNX = ("onnx", "onnxscript", "onnxruntime")
OF_NETWORKS = ("mlflow", "numpy", "pandas", "pillow", "torch")
OF_BASELINES = ("mlflow", "numpy", "pandas", "pillow", "scikit-image", "scikit-learn", "scipy", "skops")
"""What `serving.predictor` imports, as package indexes call it."""


class Disagreement(RuntimeError):
    """Two forms of one network that differ by more than `TOLERANCE`."""


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What was written, and how it compares with the checkpoint on the validation images."""

    folder: Path
    columns: tuple[str, ...]
    """Of the table that it gives (`serving.predictor`)."""
    example: Images
    """One validation image, uint8 (1, height, width, channels)."""
    requirements: tuple[str, ...]
    """Packages that it needs where it is used."""
    precision: str
    """In which it was trained; it computes in float32, whatever that was."""
    images: int
    """Validation images that were compared."""
    accuracy: float
    checkpoint_accuracy: float
    """Of the checkpoint in the precision it was trained in, as it was evaluated."""
    difference: float
    """The largest between two probabilities, the checkpoint's and its."""
    inference: dict[str, dict[str, float]]
    """Milliseconds an image, by batch size (`cost.time_per_image`), on one thread of the CPU."""
    onnx_difference: float | None = None
    """The largest between two probabilities, the ONNX network's and its; None without ONNX."""
    onnx_inference: dict[str, dict[str, float]] | None = None


class FromPixels(nn.Module):
    """A network with what stands before and after it: uint8 (batch, height, width, channels) to float32 probabilities (batch, classes)."""

    mean255: Tensor
    deviation255: Tensor

    def __init__(self, network: nn.Module, mean: Tensor, deviation: Tensor) -> None:
        """`mean` and `deviation` of pixels in 0..1, (channels, 1, 1); the network gives logits, or the logarithms of probabilities."""
        super().__init__()
        self.network = network
        self.register_buffer("mean255", 255 * mean)
        self.register_buffer("deviation255", 255 * deviation)

    def forward(self, images: Tensor) -> Tensor:
        """Scale, classify, softmax."""
        pixels = images.permute(0, 3, 1, 2).float().sub(self.mean255).div(self.deviation255)
        chances: Tensor = self.network(pixels).softmax(dim=1)
        return chances


def check_onnx(config: TrialConfig) -> None:
    """See whether this model can be exported to ONNX here.

    Raises:
        ConfigError: it is no network.
        Unavailable: a package is missing.
    """
    if config.model.is_baseline:
        raise ConfigError(f"'{config.model.name}' is no network: hand-made features have no ONNX form. Leave --onnx out.")
    if missing := [name for name in NEEDED_FOR_ONNX if find_spec(name) is None]:
        raise Unavailable(f"--onnx needs {', '.join(missing)}. Install: pip install {' '.join(NEEDED_FOR_ONNX)}")


def export(config: TrialConfig, dataset: Dataset, path: Path, folder: Path, *, onnx: bool = False) -> Exported:
    """Write the checkpoint at `path` as `folder` (new), with `onnx` as ONNX too, compare on all validation images and time, on the CPU.

    Raises:
        CheckpointError: the checkpoint is damaged.
        Disagreement: what was written gives other probabilities.
        ConfigError, Unavailable: see `check_onnx`.
    """
    if onnx:
        check_onnx(config)
    folder.mkdir(parents=True)
    about: dict[str, Any] = {"classes": list(dataset.classes), "image": dataset.val.images.shape[1:], "batch": eval_batch(config, dataset)}
    with classifier(config, dataset, path) as saved, torch.autocast("cpu", enabled=False):
        precision = saved.precision
        if saved.network is None:
            about |= _write_baseline(config, path, folder)
        else:
            program = _program(FromPixels(saved.network, *scaling_of(config, dataset)).eval(), dataset.val.images[: about["batch"]])
            _save(program, folder / predictor.NETWORK)
            if onnx:
                _save_onnx(program, folder / predictor.ONNX)
    (folder / predictor.ABOUT).write_text(json.dumps(about), encoding="utf-8")
    shutil.copy(predictor.__file__, folder / predictor.CODE)
    return _compared(config, dataset, path, folder, precision)


def _compared(config: TrialConfig, dataset: Dataset, path: Path, folder: Path, precision: str) -> Exported:
    """The written forms beside the checkpoint and each other."""
    images, labels = dataset.val.images, dataset.val.labels
    written = predictor.Classifier(folder)
    before, chances = probabilities(config, dataset, dataset.val, path), written.probabilities(images)
    difference = largest(before, chances)
    if precision != "bf16":
        _agree("the exported network", "the checkpoint", difference)
    inference = times(written.probabilities, images)  # before onnxruntime has threads, which keep looking for work
    found: dict[str, Any] = {}
    if (folder / predictor.ONNX).exists():
        classify = in_onnxruntime(folder / predictor.ONNX, torch.get_num_threads())
        others = np.concatenate([classify(images[first : first + written.batch]) for first in range(0, len(images), written.batch)])
        found = {"onnx_difference": largest(chances, others), "onnx_inference": times(in_onnxruntime(folder / predictor.ONNX, 1), images)}
        _agree("the ONNX network", "torch", found["onnx_difference"])
    return Exported(
        folder=folder,
        columns=tuple(written.table(images[:1]).columns),
        example=np.array(images[:1]),
        requirements=OF_BASELINES if config.model.is_baseline else OF_NETWORKS,
        precision=precision,
        images=len(images),
        accuracy=float((chances.argmax(axis=1) == labels).mean()),
        checkpoint_accuracy=float((before.argmax(axis=1) == labels).mean()),
        difference=difference,
        inference=inference,
        **found,
    )


def times(classify: Classify, images: Images) -> dict[str, dict[str, float]]:
    """Milliseconds an image, alone and among others, on one thread: several would wait for each other and for whatever else runs."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return {f"batch_{size}": time_per_image(classify, np.ascontiguousarray(images[np.arange(size) % len(images)])) for size in BATCHES}
    finally:
        torch.set_num_threads(threads)


def largest(chances: NDArray[np.floating[Any]], others: NDArray[np.floating[Any]]) -> float:
    """The largest difference between two probabilities; NaN if one of them is."""
    return float(np.abs(chances - others).max())


def _agree(one: str, other: str, difference: float) -> None:
    if not difference <= TOLERANCE:
        raise Disagreement(
            f"{one} and {other} differ by {difference:.2g} in a probability of a validation image (allowed: {TOLERANCE:g}). Nothing was registered."
        )


def _program(network: nn.Module, images: Images) -> torch.export.ExportedProgram:
    """The network as a program for any number of images, tried on these."""
    pixels = torch.from_numpy(np.array(images))
    with torch.no_grad(), _quiet():
        program = torch.export.export(network, (pixels[[0, -1]],), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},))
        _agree("the exported network", "the trained one", largest(network(pixels).numpy(), program.module()(pixels).numpy()))
    program.example_inputs = None  # torch would pickle them, images of the data set, into the file
    return program


def _save(program: torch.export.ExportedProgram, path: Path) -> None:
    with _quiet():
        torch.export.save(program, path)


def _save_onnx(program: torch.export.ExportedProgram, path: Path) -> None:
    with _quiet():
        torch.onnx.export(program, f=path, dynamo=True, external_data=False, input_names=["images"], output_names=["probabilities"], verbose=False)


@contextmanager
def _quiet() -> Iterator[None]:
    """What torch's exporters warn of is their own."""
    with warnings.catch_warnings(action="ignore"):
        yield


def in_onnxruntime(path: Path, threads: int) -> Classify:
    """The network at `path` in onnxruntime, on so many threads of the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def classify(images: Images) -> NDArray[np.float64]:
        found: NDArray[np.float64] = session.run(None, {"images": images})[0].astype(np.float64)
        return found

    return classify


def _write_baseline(config: TrialConfig, path: Path, folder: Path) -> dict[str, Any]:
    """The fitted classifier without types of this project, and the code of its features; what `about.json` says of them."""
    import skops.io

    from trainables.baselines import features

    fitted = checkpoint.load(path)["classifier"]
    temperature = getattr(fitted, "temperature_", None)
    skops.io.dump(fitted if temperature is None else fitted.svc_, folder / predictor.CLASSIFIER)
    shutil.copy(features.__file__, folder / predictor.FEATURES)
    return {"features": config.model.options["features"], "temperature": None if temperature is None else float(temperature)}
