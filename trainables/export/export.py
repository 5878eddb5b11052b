"""Export of a checkpoint as a folder that can be used without this project.

The folder contains a copy of its task's predictor (`TaskEntry.predictor`), which predicts from raw
pixels. The predictions are compared with those of the checkpoint, and timed.
"""

import importlib
import json
import shutil
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from trainables.baselines.base import load_baseline
from trainables.catalog.entries import TaskEntry
from trainables.catalog.models import MODELS
from trainables.checkpoints import checkpoint
from trainables.config import TrialConfig
from trainables.datasets.arrays import Dataset, Images
from trainables.errors import ConfigError, Unavailable, counted
from trainables.evaluation.cost import time_batches
from trainables.evaluation.evaluate import TrainedModel, load_model, predictions
from trainables.export import reference
from trainables.export.program import inputs_of, program_of, quiet
from trainables.export.runtime import in_onnxruntime
from trainables.predictors import base as predictor
from trainables.progress import step
from trainables.reliability.promises import NO_PROMISES, Promises, check_promises
from trainables.reliability.settling import keep_promises
from trainables.reliability.unlike import build_detection
from trainables.tasks.base import Predict, Predictions, Task, difference, in_batches
from trainables.training.loop import HALVES, eval_batch
from trainables.values import Json

if TYPE_CHECKING:
    import pandas as pd

NEEDED_FOR_ONNX = ("onnx", "onnxscript", "onnxruntime")
OF_NETWORKS = ("mlflow", "numpy", "pandas", "pillow", "torch")
OF_BASELINES = (
    "mlflow",
    "numpy",
    "pandas",
    "pillow",
    "scikit-image",
    "scikit-learn",
    "scipy",
    "skops",
)
"""The packages that are required to use an exported network, or an exported baseline, with MLflow.

These are their names on PyPI.
"""


class Disagreement(RuntimeError):
    """Two forms of a network differ by more than its task allows (`Task.tolerance`)."""


@dataclass(frozen=True, kw_only=True)
class Exported:
    """An exported folder, and its comparison with the checkpoint on the validation images."""

    folder: Path
    columns: dict[str, str]
    """The columns of the model's table of predictions (`predictor.Predictor.table`), each with its
    type: `string`, `binary`, `long` or `double`.
    """
    example: Images
    """One validation image, uint8 (1, height, width, channels)."""
    requirements: tuple[str, ...]
    """The packages that are needed to use the model."""
    precision: str
    """The precision of the training; the exported model always computes in float32."""
    images: int
    """The number of validation images on which the model and the checkpoint were compared."""
    value: float | None
    """The task's primary metric on these images.

    None with folds, because the networks together were trained on all of the images.
    """
    difference: float
    """The largest difference between the model's predictions and the checkpoint's."""
    inference: dict[str, dict[str, float]]
    """Milliseconds per image, by batch size (`cost.time_per_image`), on one CPU thread."""
    value_range: tuple[float, float] | None = None
    """The pixel values that are mapped to 0 and 255, for images of more than 8 bits."""
    onnx_difference: float | None = None
    """The largest difference between the predictions of torch and ONNX; None without ONNX."""
    onnx_inference: dict[str, dict[str, float]] | None = None
    promises: Promises = NO_PROMISES
    """The promises that the model's answers keep."""
    reliability: Json = field(default_factory=dict)
    """Facts about the model's probabilities and promises: `calibration`, `max_error`, `coverage`
    (`trainables.reliability.settling`) and `unlike` (`trainables.reliability.unlike`), if any.
    """


def check_onnx(config: TrialConfig) -> None:
    """Check that this model can be exported to ONNX on this machine.

    Raises:
        ConfigError: the task does not support ONNX, or the model has no network.
        Unavailable: a package is missing.
    """
    config.task.require("onnx", "--onnx")
    if not MODELS[config.model.name].has_network:
        raise ConfigError(
            f"'{config.model.name}' cannot be exported to ONNX, because it is not a network. "
            "Remove --onnx."
        )
    if missing := [name for name in NEEDED_FOR_ONNX if find_spec(name) is None]:
        raise Unavailable(
            f"--onnx needs packages that are not installed: {', '.join(missing)}. "
            f"Install them with: pip install {' '.join(NEEDED_FOR_ONNX)}"
        )


def export(
    config: TrialConfig,
    dataset: Dataset,
    path: Path,
    folder: Path,
    *,
    onnx: bool = False,
    promises: Promises = NO_PROMISES,
) -> Exported:
    """Export the checkpoint at `path` to a new folder, compare both, and time the exported model.

    With `onnx`, the network is exported to ONNX too. Predictions are compared on all validation
    images, and timed on the CPU. The model's thresholds are such that it meets the `promises`.

    Raises:
        CheckpointError: the checkpoint is damaged.
        Disagreement: the predictions differ by more than the task allows.
        ConfigError: a promise cannot be kept.
        ConfigError, Unavailable: see `check_onnx`.
    """
    if onnx:
        check_onnx(config)
    test_images = len(dataset.test) if dataset.test is not None else 0
    check_promises(promises, config, len(dataset.val), test_images)
    with load_model(config, dataset, path) as saved:
        batch = eval_batch(config, dataset, torch.device("cpu"))
        with step(f"predicting {counted(len(dataset.val), 'validation image')}"):
            before = in_batches(saved.predict, config.load_task().given(dataset.val), batch)
        written = _write(
            saved, config, dataset, path, folder, onnx=onnx, predicted=before, promises=promises
        )
    reliability = keep_promises(promises, config, dataset, folder)
    before = config.load_task().recalibrated(before, written)
    compared = _compare(config, dataset, before, folder, saved.precision)
    return replace(compared, promises=promises, reliability=reliability)


def write(
    config: TrialConfig, dataset: Dataset, path: Path, folder: Path, *, watched: bool = False
) -> None:
    """Export the checkpoint at `path` to a new folder, like `export`, but faster.

    The exported network is compared with the checkpoint's on a single batch, and not timed. The
    reference for monitoring (module `reference`) is written only if the model is to be `watched`.

    Raises:
        CheckpointError: the checkpoint is damaged.
        Disagreement: the predictions differ by more than the task allows.
    """
    with load_model(config, dataset, path) as saved:
        _write(saved, config, dataset, path, folder, onnx=False)
    if watched and "feedback" in config.task.can:
        images = np.asarray(dataset.val.take(reference.sample(dataset)).images)
        reference.write(folder, dataset, _code(config.task).Predictor(folder).predictions(images))


def _write(
    saved: TrainedModel,
    config: TrialConfig,
    dataset: Dataset,
    path: Path,
    folder: Path,
    *,
    onnx: bool,
    predicted: Predictions | None = None,
    promises: Promises = NO_PROMISES,
) -> Json:
    """Write the files of a folder, and return the values of its `about.json`.

    `predicted` are the validation images' predictions, if any.
    """
    task: Task = config.load_task()
    folder.mkdir(parents=True)
    description: Json = {
        **task.describe(dataset),
        "batch": eval_batch(config, dataset, torch.device("cpu")),
    }
    if task.calibrates:
        # With folds, each image is predicted by the network that was not trained on it.
        if predicted is None or dataset.folds is not None:
            predicted = predictions(config, dataset, dataset.val, path)
        description |= task.calibrate(predicted, dataset)
    if dataset.value_range is not None:
        description["value_range"] = dataset.value_range
    if not config.task.is_implied:
        description["task"] = config.task.name
    if saved.module is None:
        with step("exporting the model"):
            description |= _write_baseline(config, path, folder)
    else:
        with torch.autocast("cpu", enabled=False):
            module = task.calibrated(saved.module, description)
            if promises.false_alarms is not None:
                module, values = build_detection(
                    saved.networks[0],
                    config,
                    dataset,
                    promises.false_alarms,
                    description["temperature"],
                )
                description["promises"] = {"unlike": values}
            with step("exporting the model"):
                _write_network(module, task, dataset, description["batch"], folder, onnx=onnx)
    (folder / predictor.DESCRIPTION).write_text(json.dumps(description), encoding="utf-8")
    copy_code(config.task, folder)
    return description


def copy_code(task: TaskEntry, folder: Path) -> None:
    """Copy the predictor of a task, with what all predictors share, as the package `predictor`."""
    package = folder / predictor.CODE
    package.mkdir()
    shutil.copy(str(predictor.__file__), package / "base.py")
    code = Path(str(_code(task).__file__)).read_text(encoding="utf-8")
    alone = code.replace(f"from {predictor.__name__} import", "from .base import")
    (package / "__init__.py").write_text(alone, encoding="utf-8")


def _code(task: TaskEntry) -> Any:
    """Import the module of a task's predictor."""
    return importlib.import_module(task.predictor)


def _compare(
    config: TrialConfig, dataset: Dataset, before: Predictions, folder: Path, precision: str
) -> Exported:
    """Compare the exported model with the checkpoint and with its own ONNX form, if any.

    Both forms are timed.

    After a training in half precision, the difference from the checkpoint is only recorded, because
    the exported model computes in float32.

    Args:
        config: the trial's config.
        dataset: the data set, whose validation images are used.
        before: the checkpoint's predictions for these images.
        folder: the exported folder.
        precision: the precision in which the network was trained.
    """
    task: Task = config.load_task()
    images = task.given(dataset.val)
    written = _code(config.task).Predictor(folder)
    with step(f"predicting {counted(len(images), 'validation image')} with the exported model"):
        after = written.predictions(images)
    difference = task.difference(before, after)
    if precision not in HALVES:
        _check_agreement(task, "the exported network", "the checkpoint", difference)
    if "feedback" in config.task.can:
        reference.write(folder, dataset, after[reference.sample(dataset)])
    # Measured before ONNX Runtime starts threads: their busy-waiting would slow down the model.
    with step("measuring the time of a prediction"):
        inference = times(written.predictions, task, dataset)
    onnx_facts: Json = {}
    if (folder / predictor.ONNX).exists():
        session, alone = (
            in_onnxruntime(folder / predictor.ONNX, threads)
            for threads in (torch.get_num_threads(), 1)
        )
        with step(f"predicting {counted(len(images), 'validation image')} with ONNX Runtime"):
            onnx_predictions = task.apply(session, images, written.batch, dataset)
        onnx_facts = {
            "onnx_difference": task.difference(after, onnx_predictions),
            "onnx_inference": times(
                lambda some: task.apply(alone, some, len(some), dataset), task, dataset
            ),
        }
        _check_agreement(task, "the ONNX network", "torch", onnx_facts["onnx_difference"])
    return Exported(
        folder=folder,
        columns=_columns(written.table(task.examples(dataset, 1))),
        example=task.examples(dataset, 1),
        requirements=OF_NETWORKS if (folder / predictor.NETWORK).exists() else OF_BASELINES,
        precision=precision,
        images=len(images),
        value=None if dataset.folds else task.value(after, dataset.val),
        difference=difference,
        inference=inference,
        value_range=dataset.value_range,
        **onnx_facts,
    )


def _columns(table: "pd.DataFrame") -> dict[str, str]:
    """Return the type of each column of a table in MLflow's schemas, by its title."""
    kinds: dict[type, str] = {
        str: "string",
        bytes: "binary",
        np.int64: "long",
        np.bool_: "boolean",
    }
    return {title: kinds.get(type(table[title][0]), "double") for title in table}


def times(predict: Predict, task: Task, dataset: Dataset) -> dict[str, dict[str, float]]:
    """Measure the milliseconds per image, by batch size, on one CPU thread.

    With several threads the times would vary: threads wait for each other and for other processes.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return time_batches(predict, task, dataset)
    finally:
        torch.set_num_threads(threads)


def _check_agreement(task: Task, first: str, second: str, difference: float) -> None:
    if not difference <= task.tolerance:  # unlike `>`, this also rejects NaN
        raise Disagreement(
            f"the predictions of {first} and {second} for a validation image differ by "
            f"{difference:.2g} (at most {task.tolerance:g} is allowed), so nothing was exported."
        )


def _write_network(
    module: nn.Module, task: Task, dataset: Dataset, batch: int, folder: Path, *, onnx: bool
) -> None:
    """Export `module`, from pixels to raw predictions, as a torch.export program.

    The program is compared with the network on one batch.
    """
    pixels = inputs_of(task, dataset, batch)
    with quiet():
        exported = program_of(module, task, pixels)
        _check_agreement(
            task,
            "the exported network",
            "the trained one",
            difference(module(pixels).numpy(), exported.module()(pixels).numpy()),
        )
        # Otherwise torch would store these images of the data set in the file, as a pickle.
        exported.example_inputs = None
        torch.export.save(exported, folder / predictor.NETWORK)
        if onnx:
            path = folder / predictor.ONNX
            torch.onnx.export(
                exported,
                f=path,
                dynamo=True,
                external_data=False,
                input_names=["images"],
                output_names=[task.entry.output],
                verbose=False,
            )


def _write_baseline(config: TrialConfig, path: Path, folder: Path) -> Json:
    """Write the files of a baseline (`Baseline.export`); return values for `about.json`."""
    saved = checkpoint.load(path)
    fitted = [state["classifier"] for state in saved.get("folds", [saved])]
    return load_baseline(config).export(fitted, folder)
