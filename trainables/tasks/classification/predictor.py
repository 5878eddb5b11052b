"""Class names and probabilities of raw images, predicted by a promoted classifier.

This file is copied with the classifier, and `base` beside it (`trainables.predictors.base`).

    Predictor(folder).table(images)

returns a table with one row for each image: `class`, `probability`, and for each class NAME a
column `probability of NAME`. Images are uint8, of any size: one array, (count, height, width) if
they are grey, or else (count, height, width, channels) with 1 channel (grey), 2 (grey and alpha), 3
(RGB) or 4 (RGB and alpha); or a list of images, each (height, width) or (height, width, channels),
whose sizes may differ. A single image is passed as `image[None]` or `[image]`.

A model that was promoted with promises has further columns: `answer`, which is `class` or empty if
the model abstains; `abstained`; `reason`, which is `unlike` (the image is unlike those of the
training), `uncertain` (the probability is too low) or empty; and `set`, a JSON list of the classes
that are possible.

The folder contains `about.json` (the classes, the shape of images, the batch size), this file, and
`network.pt2`, a torch.export program from uint8 pixels to probabilities. For a baseline it
contains, instead of the network, `classifier-1.skops` (with folds, one such file for each) and
`features.py`, which computes the features of images.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trainables.predictors.base import (
    FEATURES,
    NETWORK,
    UNCERTAIN,
    UNLIKE,
    Images,
    JudgedPredictions,
    Judgement,
    Probabilities,
    Run,
    TaskPredictor,
    as_images,
    as_trained,
    at_temperature,
    column,
    judgement_columns,
    load_module,
    load_program,
)

if TYPE_CHECKING:
    import pandas as pd


class ClassPredictor(TaskPredictor):
    """A classifier loaded from its folder."""

    def load(self, folder: Path, description: dict[str, Any], run: Run | None) -> None:
        """Load the network or the baseline, and the promises."""
        if run is None:
            is_network = (folder / NETWORK).exists()
            run = load_program(folder) if is_network else _baseline(folder, description)
        self._classify = run
        self.promises: dict[str, Any] = description.get("promises", {})
        limits = self.promises.get("limits")
        # A class without a limit belongs to each set.
        self._limits = limits and np.array([limit or 0.0 for limit in limits])

    def predictions(self, images: Any) -> Probabilities:
        """Predict the probability of each class, float64 (count, classes).

        Args:
            images: in any form that `as_images` accepts.

        Raises:
            ValueError: the images have another form.
        """
        return self.raw(images)[:, : len(self.classes)]

    def outputs(self, images: Any) -> JudgedPredictions:
        """Predict images like `predictions`, and judge each prediction if there are promises."""
        values = self.raw(images)
        probabilities = values[:, : len(self.classes)]
        return JudgedPredictions(probabilities, self._judge(values) if self.promises else None)

    def raw(self, images: Any) -> Probabilities:
        """Compute the outputs of the network, float64 (count, values).

        These are the probabilities and, if unlike images are detected, the score of an image.
        """
        arrays = as_images(images)
        batches = [
            self._classify(self._as_trained(arrays[first : first + self.batch]))
            for first in range(0, len(arrays), self.batch)
        ]
        return (
            np.concatenate(batches).astype(np.float64)
            if batches
            else np.empty((0, len(self.classes)))
        )

    def _judge(self, values: Probabilities) -> list[Judgement]:
        probabilities = values[:, : len(self.classes)]
        reasons = [""] * len(values)
        if (least := self.promises.get("least_probability")) is not None:
            for row in np.flatnonzero(probabilities.max(axis=1, initial=0.0) < least).tolist():
                reasons[row] = UNCERTAIN
        if len(values) and (unlike := self.promises.get("unlike")) is not None:
            for row in np.flatnonzero(values[:, -1] > unlike["limit"]).tolist():
                reasons[row] = UNLIKE
        if self._limits is None:
            return [Judgement(reason, None) for reason in reasons]
        return list(map(Judgement, reasons, self._possible_classes(probabilities)))

    def _possible_classes(self, probabilities: Probabilities) -> list[list[str]]:
        """Return the names of the possible classes of each image, the most probable first."""
        rows, numbers = np.nonzero(probabilities >= self._limits)
        ranked = np.lexsort((-probabilities[rows, numbers], rows))
        labels: list[list[str]] = [[] for _ in range(len(probabilities))]
        for row, number in zip(rows[ranked].tolist(), numbers[ranked].tolist(), strict=True):
            labels[row].append(self.classes[number])
        return labels

    def _as_trained(self, images: Images | list[Images]) -> Images:
        if isinstance(images, list):
            return np.concatenate([as_trained(image[None], self.image) for image in images])
        return as_trained(images, self.image)

    def table(self, images: Any) -> "pd.DataFrame":
        """Return a table of the predicted classes and probabilities, one row for each image."""
        import pandas as pd  # importing it takes half a second, and servers do not need it

        chances, judgements = self.outputs(images)
        columns: dict[str, Any] = {
            "class": [self.classes[number] for number in chances.argmax(axis=1)],
            "probability": chances.max(axis=1, initial=0.0),
        }
        if judgements is not None:
            columns |= judgement_columns(columns["class"], judgements)
        return pd.DataFrame(
            columns | {column(name): chances[:, number] for number, name in enumerate(self.classes)}
        )


Predictor = ClassPredictor
"""The name by which the code that loads a model finds the class, whatever the model's task is."""


def _baseline(folder: Path, description: dict[str, Any]) -> Run:
    """Load scikit-learn classifiers, and return a function that averages their probabilities.

    The function computes the hand-crafted features of images first.
    """
    import skops.io

    features = load_module(folder / FEATURES)
    members = [
        (
            skops.io.load(folder / own["file"], trusted=["sklearn.tree._tree.Tree"]),
            own["temperature"],
        )
        for own in description["members"]
    ]

    def classify(images: Images) -> Probabilities:
        values = np.hstack(
            [
                features.compute_features(images, kind)
                for kind in features.kinds_of(description["features"])
            ]
        )
        chances = np.zeros((len(images), len(description["classes"])))
        for fitted, temperature in members:
            chances[:, fitted.classes_] += _fitted_chances(fitted, temperature, values) / len(
                members
            )
        return at_temperature(description.get("temperature", 1.0), chances)

    return classify


def _fitted_chances(fitted: Any, temperature: float | None, values: Any) -> Probabilities:
    """Predict class probabilities from features.

    Only an SVM has a temperature. Its probabilities are softmax(decisions / temperature).
    """
    from scipy.special import softmax

    if temperature is None:
        probabilities: Probabilities = fitted.predict_proba(values)
        return probabilities
    decisions = fitted.decision_function(values)
    decisions = (
        np.column_stack([-decisions / 2, decisions / 2]) if decisions.ndim == 1 else decisions
    )
    return np.asarray(softmax(decisions / temperature, axis=1), dtype=np.float64)
