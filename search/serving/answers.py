"""Encoding of a model's answers as JSON.

The parts that all answers of a version have in common are encoded only once.
"""

import json
from collections.abc import Callable, Sequence
from math import isfinite
from typing import Any

import numpy as np

from search.serving.limits import Refusal
from trainables.predictors.base import column, judgement_columns


class Encoder:
    """Encodes the answers of a version as JSON."""

    def __init__(
        self,
        name: str,
        version: str,
        classes: tuple[str, ...],
        plain: Callable[[Any], Any] = lambda prediction: prediction,
    ) -> None:
        """Prepare the parts that all answers have in common.

        Args:
            name: the name of the model.
            version: the name of the version.
            classes: the classes whose probabilities the model predicts.
            plain: converts another task's prediction to a value for JSON (`Model.plain`).
        """
        self._plain = plain
        self._class_names = [json.dumps(label) for label in classes]
        self._quoted = dict(zip(classes, self._class_names, strict=True))
        self._version = json.dumps(version)
        self.head = f'{{"model":{json.dumps(name)},"predictions":['
        """The beginning of a response, before the answers on its images."""
        self._all_classes = ",".join(
            f"{label.replace('%', '%%')}:%.6g" for label in self._class_names
        )

    def encode_image(
        self, prediction: Any, answer_id: str, top: int | None, judgement: Any = None
    ) -> str:
        """Encode the answer on one image.

        Args:
            prediction: the probability of each class, (classes,), or the prediction of a task
                without classes of images.
            answer_id: the unique id of the answer.
            top: the number of classes to include, the most probable first; None for all.
            judgement: the prediction's `trainables.predictors.base.Judgement`; None for a model
                without promises.
        """
        tail = f'"version":{self._version},"id":"{answer_id}"}}'
        if (
            not self._class_names
            or np.ndim(prediction) != 1
            or len(prediction) != len(self._class_names)
        ):
            return f'{{"prediction":{json.dumps(to_plain(self._plain(prediction)))},{tail}'
        values = prediction.tolist()
        highest = max(values)
        index = values.index(highest)
        if top is None:
            probabilities = self._all_classes % tuple(values)
        else:
            order = sorted(range(len(values)), key=values.__getitem__, reverse=True)[:top]
            probabilities = ",".join(
                f"{self._class_names[class_index]}:{values[class_index]:.6g}"
                for class_index in order
            )
        judged = "" if judgement is None else self._judged(index, judgement)
        return (
            f'{{"class":{self._class_names[index]},"probability":{highest:.6g},{judged}'
            f'"probabilities":{{{probabilities}}},{tail}'
        )

    def _judged(self, index: int, judgement: Any) -> str:
        """Encode what a model with promises adds to the answer of the class at `index`."""
        answer = "null" if judgement.reason else self._class_names[index]
        reason = f'"{judgement.reason}"' if judgement.reason else "null"
        labels = judgement.labels
        possible = ""
        if labels is not None:
            possible = f'"set":[{", ".join(self._quoted[label] for label in labels)}],'
        abstained = "true" if judgement.reason else "false"
        return f'"answer":{answer},"abstained":{abstained},"reason":{reason},{possible}'


def check_numbers(answers: Sequence[Any]) -> None:
    """Check that the probabilities of each image are finite.

    Args:
        answers: the probabilities of each image, (classes,); other predictions are not checked.

    Raises:
        Refusal: a probability is NaN or infinite, which JSON cannot express.
    """
    for number, answer in enumerate(answers, 1):
        if isinstance(answer, np.ndarray) and answer.ndim == 1 and not isfinite(answer.sum()):
            image = f" for image {number} of {len(answers)}" if len(answers) > 1 else ""
            raise Refusal(500, f"the model returned NaN or infinite values{image}")


def to_plain(value: Any) -> Any:
    """Convert a value, and the arrays in it, to JSON-compatible values.

    NaN and infinity become None.
    """
    if isinstance(value, np.ndarray | np.generic):
        return to_plain(value.tolist())
    if isinstance(value, dict):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


def table(answers: Sequence[Any], classes: list[str]) -> list[dict[str, Any]]:
    """Build a row for each image, in the format of MLflow's scoring server.

    Args:
        answers: a `ComputedAnswer` for each image.
        classes: the names of the classes.
    """
    return [_table_row(answer.prediction, answer.judgement, classes) for answer in answers]


def _table_row(probabilities: Any, judgement: Any, classes: list[str]) -> dict[str, Any]:
    label = classes[int(probabilities.argmax())]
    judged = {} if judgement is None else judgement_columns([label], [judgement])
    return {
        "class": label,
        "probability": float(probabilities.max()),
        **{title: values[0] for title, values in judged.items()},
        **{column(name): float(value) for name, value in zip(classes, probabilities, strict=True)},
    }
