"""A linear probe that also learns from images without labels, and training data with such images.

Labels are spread from the images that have one to their neighbours in the space of features, and on
to the neighbours of these (label propagation; Zhou et al. 2004, "Learning with Local and Global
Consistency", in the form of Iscen et al. 2019, arXiv 1904.04717). The linear classifier is then
fitted to all images; one whose class is uncertain counts little. This helps with up to some hundred
labels. With thousands, the images without labels add nothing.

For a network that is trained, the images whose class is the most certain count as training images
of that class (pseudo-labels; Lee 2013).
"""

from dataclasses import replace
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array, diags_array, identity
from scipy.sparse.linalg import cg

from trainables.baselines.base import Beat, no_beat
from trainables.baselines.classifiers import LinearClassifier
from trainables.baselines.feature_classifiers import are_cached, features_of
from trainables.baselines.features import Values
from trainables.catalog.networks import PROBE_SIDE, number_used
from trainables.config import DataConfig, ModelConfig, TrialConfig
from trainables.datasets.arrays import Dataset, Labels, Part, join_names
from trainables.probes.probe import LinearProbe, ProbeNetwork
from trainables.probes.unlabelled import FilesPart, UnlabelledFolder, batches
from trainables.values import Evaluation

ROWS = 2000
"""The number of images whose similarities to all others are computed at once."""
REACH = 0.9
"""The share of an image's class that comes from its neighbours (alpha), rather than from its label.

With 40 labels and 5,000 other images of CIFAR-10 (features of MobileNet v2), 66 % of these get the
right class; with 0.99, which Iscen et al. use, 50 to 60 %, because some classes swallow others.
"""
POWER = 3
"""Similarities are raised to this power, so that near neighbours count more (gamma)."""
STEPS, TOLERANCE = 200, 1e-6
"""The maximum number of steps of the solver, and the relative residual at which it stops."""

Scores = NDArray[np.float64]
Rows = NDArray[np.int64]


def spread(
    labelled: Values,
    labels: Labels,
    unlabelled: Values,
    *,
    classes: int,
    neighbours: int,
    beat: Beat = no_beat,
) -> tuple[Labels, Scores]:
    """Spread labels over the graph of nearest neighbours.

    Args:
        labelled: the features of the images with a label, (labelled, length).
        labels: their class numbers, (labelled,).
        unlabelled: the features of the images without a label, (unlabelled, length).
        classes: the number of classes.
        neighbours: the number of neighbours of each image in the graph.
        beat: called from time to time.

    Returns:
        The class of each image without a label, (unlabelled,), and its certainty from 0 to 1
        (`certainty_of`).
    """
    graph = neighbour_graph(np.concatenate([labelled, unlabelled]), neighbours, beat)
    rows = np.arange(len(labels))
    chances = spread_over(graph, rows, labels, classes=classes, beat=beat)[len(labels) :]
    return chances.argmax(axis=1), certainty_of(chances)


def spread_over(
    graph: csr_array, rows: Rows, labels: Labels, *, classes: int, beat: Beat = no_beat
) -> Scores:
    """Spread labels over a graph of images, and return the shares of the classes of each image.

    Args:
        graph: the graph of nearest neighbours (`neighbour_graph`).
        rows: the images with a label, (labelled,).
        labels: their class numbers, (labelled,).
        classes: the number of classes.
        beat: called from time to time.

    Returns:
        (images, classes); each row has the sum 1. An image that no label reaches has equal shares.
    """
    count = graph.shape[0]
    system = identity(count, format="csr") - REACH * graph
    scores = np.zeros((count, classes))
    for number in np.unique(labels):
        start = np.zeros(count)
        start[rows[labels == number]] = 1 / np.count_nonzero(labels == number)
        scores[:, number], _ = cg(system, start, maxiter=STEPS, rtol=TOLERANCE)
        beat()
    chances = np.maximum(scores, 0)
    totals = chances.sum(axis=1, keepdims=True)
    return np.where(totals > 0, chances / np.where(totals > 0, totals, 1), 1 / classes)


def certainty_of(chances: Scores) -> Scores:
    """Return the certainty of each row of shares, (images,), from 0 to 1.

    It is one minus the entropy, divided by the largest possible entropy.
    """
    entropy = -(chances * np.log(np.maximum(chances, 1e-300))).sum(axis=1)
    certainty: Scores = np.clip(1 - entropy / np.log(max(2, chances.shape[1])), 0, 1)
    return certainty


def neighbour_graph(values: Values, neighbours: int, beat: Beat = no_beat) -> csr_array:
    """Return the normalised graph of nearest neighbours, a symmetric sparse matrix.

    Two images are joined if one is among the nearest neighbours of the other by the cosine of their
    features. The weight of an edge is the cosine to the power `POWER`, divided by the square roots
    of the total weights of both images.
    """
    unit = values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)
    count, most = len(unit), min(neighbours, len(unit) - 1)
    rows, columns, weights = [], [], []
    for first in range(0, count, ROWS):
        cosines = unit[first : first + ROWS] @ unit.T
        own = np.arange(len(cosines))
        cosines[own, first + own] = -1.0
        nearest = np.argpartition(cosines, count - most, axis=1)[:, count - most :]
        rows.append(np.repeat(first + own, most))
        columns.append(nearest.ravel())
        similarity = np.take_along_axis(cosines, nearest, axis=1).ravel().astype(np.float64)
        weights.append(np.maximum(similarity, 0) ** POWER)
        beat()
    edges = coo_array(
        (np.concatenate(weights), (np.concatenate(rows), np.concatenate(columns))),
        shape=(count, count),
    ).tocsr()
    joined = edges.maximum(edges.T)
    scale = diags_array(1 / np.sqrt(np.maximum(joined.sum(axis=1), 1e-12)))
    return csr_array(scale @ joined @ scale)


class SpreadingProbe(LinearProbe):
    """A probe that is fitted to the training images and to those without labels."""

    @cached_property
    def paths(self) -> list[Path]:
        """The images without labels that are used.

        Raises:
            ConfigError: see `UnlabelledFolder.paths`.
        """
        return UnlabelledFolder(self.folder, self.config.data).paths

    @property
    def folder(self) -> Path:
        """The folder of the images without labels."""
        return Path(str(self.config.model.options["unlabelled"]))

    def fit(self, dataset: Dataset, beat: Beat = no_beat) -> ProbeNetwork:
        """Spread the labels, and fit the last layer to all images."""
        values = self.features(dataset.train, dataset, beat)
        more = self.unlabelled_features(dataset, beat)
        network = ProbeNetwork(self._pretrained(dataset), values.shape[1], len(dataset.classes))
        network.put(self.fit_to_all(values, more, dataset, beat))
        return network

    def unlabelled_features(self, dataset: Dataset, beat: Beat = no_beat) -> Values:
        """Return the features of the images without labels, (images, length).

        Each batch of images is cached by itself, so that they are never all in memory.
        """
        kind = self._kind(self._pretrained(dataset), dataset)
        each = batches(self.paths, dataset, beat)
        return np.concatenate([features_of(part, kind, beat) for part in each])

    def spread(
        self, labelled: Values, unlabelled: Values, dataset: Dataset, beat: Beat
    ) -> tuple[Labels, Scores]:
        """Return the class of each image without a label, and its certainty, given the features."""
        return spread(
            labelled,
            dataset.train.targets,
            unlabelled,
            classes=len(dataset.classes),
            neighbours=self.config.model.options["neighbours"],
            beat=beat,
        )

    def fit_to_all(
        self, labelled: Values, unlabelled: Values, dataset: Dataset, beat: Beat = no_beat
    ) -> LinearClassifier:
        """Fit the classifier to images with and without labels, given their features.

        The weights of classes (`train.class_weights`) apply to the classes that labels are spread
        to, too.
        """
        labels = dataset.train.targets
        more_labels, certainty = self.spread(labelled, unlabelled, dataset, beat)
        # Their mean is 1, so that `c` means the same as without images without labels.
        certainty = certainty / certainty.mean() if certainty.any() else np.ones_like(certainty)
        weights = np.concatenate([np.ones(len(labels)), certainty])
        all_labels = np.concatenate([labels, more_labels])
        if (of_class := self.class_weights(dataset)) is not None:
            weights *= of_class[all_labels]
        values = np.concatenate([labelled, unlabelled])
        return self.new_classifier().fit(values, all_labels, weights)

    def further_evaluation(self, fitted: ProbeNetwork, dataset: Dataset) -> Evaluation:
        """Return nothing: the images without labels change what more labels would bring."""
        return {}

    def fitted_images(self, dataset: Dataset) -> int:
        """Return the number of images to which the classifier is fitted."""
        return super().fitted_images(dataset) + len(self.paths)

    def uncached_images(self, dataset: Dataset) -> int:
        """Return the number of images, with and without labels, whose features are not cached."""
        kind = self._kind(self._pretrained(dataset), dataset)
        parts = batches(self.paths, dataset)
        more = sum(len(part) for part in parts if not are_cached(part, kind))
        return super().uncached_images(dataset) + more


def most_certain(certainty: Scores) -> Rows:
    """Return the rows of the images that are used, sorted, given the certainty of each."""
    return np.sort(np.argsort(-certainty, kind="stable")[: number_used(len(certainty))])


@lru_cache(maxsize=4)
def _count(folder: Path, data: DataConfig) -> int:
    return number_used(len(UnlabelledFolder(folder, data).paths))


class PseudoLabels:
    """The images without labels that a network also trains on."""

    def __init__(self, config: TrialConfig) -> None:
        """Build the probe in whose space of features images are neighbours.

        `config` is that of the network, with the folder of the images (`model.unlabelled`).
        """
        options = config.model.options
        model = ModelConfig(
            name=config.model.name.replace("pseudo_", "spread_", 1),
            weights=options["weights"],
            input_size=min(options["input_size"] or PROBE_SIDE, PROBE_SIDE),
            unlabelled=options["unlabelled"],
            neighbours=options["neighbours"],
        )
        self.probe = SpreadingProbe(replace(config, model=model))

    @property
    def count(self) -> int:
        """The number of images that are added to the training set, counted once by a process.

        Raises:
            ConfigError: see `UnlabelledFolder.paths`.
        """
        return _count(self.probe.folder, self.probe.config.data)

    def added_to(self, dataset: Dataset, beat: Beat | None = None) -> Dataset:
        """Return a data set with these images in its training set.

        Raises:
            ConfigError: the images cannot be used, or the weights are missing.
        """
        beat = beat or no_beat
        labelled = self.probe.features(dataset.train, dataset, beat)
        unlabelled = self.probe.unlabelled_features(dataset, beat)
        classes, certainty = self.probe.spread(labelled, unlabelled, dataset, beat)
        rows = most_certain(certainty)
        images = FilesPart([self.probe.paths[row] for row in rows], dataset, beat).images
        labels = classes[rows].astype(dataset.train.targets.dtype)
        paths = tuple(f"unlabelled/{self.probe.paths[row].name}" for row in rows)
        train = Part(
            np.concatenate([dataset.train.images, images]),
            np.concatenate([dataset.train.targets, labels]),
            join_names(dataset.train.names, paths),
        )
        return replace(dataset, train=train, strata=None, groups=None)
