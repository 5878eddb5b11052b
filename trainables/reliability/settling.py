"""The values of an exported model's promises, computed from its own answers on the test set."""

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainables.catalog.entries import import_object
from trainables.config import TrialConfig
from trainables.datasets.arrays import Dataset, Labels
from trainables.errors import ConfigError, counted
from trainables.predictors.base import DESCRIPTION, UNLIKE, Probabilities, at_temperature
from trainables.progress import step
from trainables.reliability.promises import (
    CONFIDENCE,
    Promises,
    select_threshold,
    set_limits,
    smallest_error,
)
from trainables.tasks.calibration import (
    calibration_bias,
    calibration_bins,
    calibration_error,
    log_loss,
)
from trainables.values import Json


def settle_promises(
    promises: Promises,
    chances: Probabilities,
    is_unlike: NDArray[np.bool_],
    labels: Labels,
) -> tuple[Json, Json]:
    """Compute the thresholds with which a model meets its promises, from its test answers.

    Args:
        promises: the promises.
        chances: the model's probabilities, (images, classes).
        is_unlike: True for each image that the model reports as unlike, (images,).
        labels: the true class numbers, (images,).

    Returns:
        The values for `about.json`, and facts about them for people.

    Raises:
        ConfigError: the test images are too few, or the model is too poor, for `max_error`.
    """
    values: Json = {}
    facts: Json = {}
    if promises.max_error is not None:
        confidence, is_right = chances.max(axis=1), chances.argmax(axis=1) == labels
        usual = ~is_unlike
        selection = select_threshold(confidence[usual], is_right[usual], promises.max_error)
        if selection is None:
            least = smallest_error(confidence[usual], is_right[usual])
            allowed = "nothing can be promised"
            if least is not None:
                allowed = f"the smallest that can be promised is {100 * least:.1f} %"
            raise ConfigError(
                f"--max-error {100 * promises.max_error:g}% cannot be promised with "
                f"{counted(int(usual.sum()), 'test image')}: {allowed} with {100 * CONFIDENCE:g} % "
                "confidence. Allow more errors, add test images, or improve the model. Nothing was "
                "registered."
            )
        values["least_probability"] = selection.threshold
        facts["max_error"] = {
            "asked": promises.max_error,
            "threshold": selection.threshold,
            "confidence": CONFIDENCE,
            "images": selection.images,
            "answered": selection.answers,
            "wrong": selection.wrong,
            "bound": selection.bound,
        }
    if promises.coverage is not None:
        limits = set_limits(chances, labels, promises.coverage, by_class=promises.by_class)
        values["limits"] = limits
        sizes = (chances >= np.array([limit or 0.0 for limit in limits])).sum(axis=1)
        facts["coverage"] = {
            "asked": promises.coverage,
            "by_class": promises.by_class,
            "limits": [limit for limit in limits if limit is not None],
            "images": len(labels),
            "mean_size": float(sizes.mean()),
            "without_limit": sum(limit is None for limit in limits),
        }
    return values, facts


def keep_promises(promises: Promises, config: TrialConfig, dataset: Dataset, folder: Path) -> Json:
    """Measure an exported model on the test set, and add the values of its promises to its folder.

    Without a test set, its calibration is measured on the validation set, to which the temperature
    was fitted; with folds, it is not measured.

    Args:
        promises: the promises, which `check_promises` allows.
        config: the trial's config.
        dataset: the data of the search.
        folder: the exported folder.

    Returns:
        Facts for people (`Exported.reliability`); empty for tasks without probabilities.

    Raises:
        ConfigError: see `settle_promises`.
    """
    path = folder / DESCRIPTION
    description = json.loads(path.read_text(encoding="utf-8"))
    part = dataset.test if dataset.test is not None else dataset.val
    if "temperature" not in description or (dataset.folds and dataset.test is None):
        return {}
    model = import_object(f"{config.task.predictor}:Predictor")(folder)
    images = config.load_task().given(part)
    with step(f"measuring how reliable the answers on {counted(len(part), 'image')} are"):
        chances, judgements = model.outputs(images)
    labels = np.asarray(part.targets)
    facts: Json = {
        "calibration": {
            **calibration_facts(chances, description["temperature"], labels),
            "part": "validation" if dataset.test is None else "test",
        }
    }
    if not promises.options:
        return facts
    is_unlike = np.zeros(len(part), dtype=bool)
    if judgements is not None:  # there is only the promise about unlike images so far
        is_unlike = np.array([own.reason == UNLIKE for own in judgements])
    if promises.false_alarms is not None:
        facts["unlike"] = {
            **description["promises"]["unlike"],
            "alarms": int(is_unlike.sum()),
            "of_images": len(part),
            "part": facts["calibration"]["part"],
        }
    if promises.set_on_test_images:
        values, kept_facts = settle_promises(promises, chances, is_unlike, labels)
        description["promises"] = {**description.get("promises", {}), **values}
        path.write_text(json.dumps(description), encoding="utf-8")
        facts |= kept_facts
    return facts


def calibration_facts(chances: Probabilities, temperature: float, labels: Labels) -> Json:
    """Measure the calibration of probabilities before and after their scaling by a temperature.

    Args:
        chances: the scaled probabilities, (images, classes).
        temperature: the temperature.
        labels: the true class numbers, (images,).

    Returns:
        The `temperature`, the number of `images`, and for `before` and `after`: the calibration
        error (`ece`), the error expected by chance alone (`bias`), the `log_loss`, and the `bins`
        of the reliability diagram.
    """
    stages = {"before": at_temperature(1 / temperature, chances), "after": chances}
    return {
        "temperature": temperature,
        "images": len(labels),
        **{
            stage: {
                "ece": calibration_error(labels, own),
                "bias": calibration_bias(own),
                "log_loss": log_loss(own, labels),
                "bins": calibration_bins(own.argmax(axis=1) == labels, own.max(axis=1)),
            }
            for stage, own in stages.items()
        },
    }
