"""The images of a data set, ranked by the probability that their label is wrong."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainables.baselines.base import load_baseline
from trainables.baselines.feature_classifiers import FeatureClassifier
from trainables.baselines.features import Values
from trainables.catalog.models import MODELS
from trainables.config import DataConfig, ModelConfig, TrialConfig
from trainables.errors import ConfigError
from trainables.inspection.leaks import MIRRORED, InspectedData, Places, components
from trainables.inspection.report import (
    LIKELY,
    MAX_LISTED,
    MAX_PAIRS,
    MIN_EXPECTED,
    LabelErrors,
    PairErrors,
    SuspiciousLabel,
)
from trainables.label_errors.doubts import Doubts, Floats, Labels, doubts
from trainables.progress import step
from trainables.tasks import TASKS
from trainables.tasks.pictures import encode_webp

SUSPICIOUS = 0.1
"""The probability of being wrong from which on an image is listed."""
FEWEST_SHARE, FEWEST = 0.05, 50
"""At least this share of the images, but at most `FEWEST`, are listed if another class fits better.
"""


@dataclass(frozen=True)
class RankedLabels:
    """The labels of all images of a data set, and which of them are probably wrong."""

    classes: tuple[str, ...]
    numbers: Labels
    """The images, by their numbers in `InspectedData.places`, (images,)."""
    labels: Labels
    """The label of each image, (images,)."""
    is_decided: NDArray[np.bool_]
    """True for images whose label a person has checked, (images,)."""
    doubts: Doubts
    model: str
    """The model whose features were used."""

    @property
    def suggestions(self) -> Labels:
        """The most probable other class of each image, (images,)."""
        suggestions: Labels = self._of_others.argmax(axis=1)
        return suggestions

    @property
    def order(self) -> Labels:
        """The rows of the suspicious images that nobody has checked, the most suspicious first."""
        rows, probabilities = np.arange(len(self.labels)), self.doubts.probabilities
        own = probabilities[rows, self.labels]
        ranked = np.lexsort((own, -self.doubts.chances))
        ranked = ranked[~self.is_decided[ranked]]
        fits_better = probabilities.argmax(axis=1) != self.labels
        fewest = min(FEWEST, round(FEWEST_SHARE * len(rows)))
        is_listed = self.doubts.chances[ranked] >= SUSPICIOUS
        is_listed |= (np.arange(len(ranked)) < fewest) & fits_better[ranked]
        order: Labels = ranked[is_listed]
        return order

    @property
    def pairs(self) -> Floats:
        """The expected number of wrong labels by label and true class, (classes, classes).

        Labels that a person has checked are not counted. A wrong label's true class has the
        probabilities of the classifier for the other classes, since wrong labels are drawn without
        regard to the true class.
        """
        chances = np.where(self.is_decided, 0.0, self.doubts.chances)
        rest = self._of_others
        shares = rest / np.maximum(rest.sum(axis=1, keepdims=True), 1e-300)
        counts = np.zeros((len(self.classes), len(self.classes)))
        np.add.at(counts, self.labels, chances[:, None] * shares)
        return counts

    @property
    def _of_others(self) -> Floats:
        """The probabilities of the classes, where that of the label is 0, (images, classes)."""
        probabilities = self.doubts.probabilities.copy()
        probabilities[np.arange(len(self.labels)), self.labels] = 0
        return probabilities


def check_labels(config: DataConfig, option: str) -> None:
    """Check that the images of a data set have one label each, as an option needs.

    Raises:
        ConfigError: its targets are not classes.
    """
    if not TASKS[config.task].load_targets().are_classes:
        raise ConfigError(
            f"wrong labels are looked for in images of classes, but '{config.root or config.name}' "
            f"is for {TASKS[config.task].title}. Leave out {option}."
        )


def rank_labels(
    inspected: InspectedData, config: DataConfig, model: ModelConfig, checked: Collection[str] = ()
) -> RankedLabels:
    """Rank the images of all parts by the probability that their label is wrong.

    Copies of a picture are never judged by each other. An image that was left out since an equal
    one has another class is ranked too: at least one of the two labels is wrong.

    Args:
        inspected: the data set, whose targets are classes (`check_labels`).
        config: its config.
        model: the model whose features are used (`model_for_files`).
        checked: the files of images whose label a person has checked.
    """
    places, dataset = inspected.places, inspected.dataset
    numbers = np.setdiff1d(np.arange(len(places.part)), inspected.removed_of_one_class)
    labels = places.strata[numbers]
    with step("computing the features of images"):
        values = compute_features(inspected, config, model)[numbers]
    names = [name for part in places.parts.values() for name in part.names or [""] * len(part)]
    is_checked = np.array([name in checked for name in names], bool)[numbers]
    return RankedLabels(
        dataset.classes,
        numbers,
        labels,
        is_checked,
        doubts(values, labels, len(dataset.classes), _groups(inspected)[numbers]),
        model.name,
    )


def compute_features(inspected: InspectedData, config: DataConfig, model: ModelConfig) -> Values:
    """Compute the features of all images, in the order of `InspectedData.places`."""
    baseline = load_baseline(TrialConfig(model=model, data=config))
    assert isinstance(baseline, FeatureClassifier), MODELS[model.name]
    parts = inspected.places.parts.values()
    return np.concatenate([baseline.features(part, inspected.dataset) for part in parts])


def _groups(inspected: InspectedData) -> Labels:
    """Return the group of each image, (images,): those with equal or nearly equal pictures."""
    pairs = inspected.pairs
    edges = np.stack([pairs.image, pairs.same_as], axis=1)[pairs.kind != MIRRORED]
    return components(edges, len(inspected.places.part))


def describe_ranking(ranked: RankedLabels, places: Places) -> LabelErrors:
    """Describe ranked labels as plain values, with pictures of the most suspicious images."""
    unchecked = ~ranked.is_decided
    chances, suggestions = ranked.doubts.chances, ranked.suggestions
    source = MODELS[ranked.model].source
    return LabelErrors(
        judged=int(unchecked.sum()),
        checked=int(ranked.is_decided.sum()),
        expected=float(chances[unchecked].sum()),
        likely=int((chances[unchecked] >= LIKELY).sum()),
        features=f"features of {source}" if source else "hand-made features",
        pairs=_pairs(ranked),
        suspicious=tuple(
            SuspiciousLabel(
                places.image(int(ranked.numbers[row])),
                ranked.classes[suggestions[row]],
                float(chances[row]),
                _thumbnail(places, int(ranked.numbers[row])),
            )
            for row in ranked.order[:MAX_LISTED]
        ),
    )


def _pairs(ranked: RankedLabels) -> tuple[PairErrors, ...]:
    """List the pairs of classes with the most expected errors."""
    counts = ranked.pairs
    largest = np.argsort(-counts, axis=None, kind="stable")[:MAX_PAIRS]
    pairs = zip(*np.unravel_index(largest, counts.shape), strict=True)
    return tuple(
        PairErrors(ranked.classes[label], ranked.classes[other_class], float(count))
        for label, other_class in pairs
        if (count := counts[label, other_class]) >= MIN_EXPECTED
    )


def _thumbnail(places: Places, number: int) -> str:
    title, row = places.locate(number)
    single = places.parts[title].take(np.array([row]))
    return encode_webp(next(single.each()))
