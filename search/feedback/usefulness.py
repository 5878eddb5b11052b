"""The order in which images are worth labelling, by the features of all images.

Images are joined to their nearest neighbours in the space of features. The most useful image is the
one that is nearest to the most images without a label near them (Yehuda et al. 2022, "Active
Learning Through a Covering Lens", arXiv 2205.11320, here with neighbours instead of a radius). With
few labels, images whose class is uncertain are the wrong choice: they teach less than random ones
(docs/benchmarks.md, "Which images to label").
"""

from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from trainables.baselines.base import Beat, no_beat
from trainables.baselines.features import Values
from trainables.probes.spreading import neighbour_graph, spread_over

NEIGHBOURS = 10

Shares = NDArray[np.float64]


class Usefulness:
    """The graph of all images, and what the labels given so far say about the others."""

    def __init__(self, names: Sequence[str], values: Values, beat: Beat = no_beat) -> None:
        """Build the graph.

        Args:
            names: the names of the images.
            values: their features, (images, length).
            beat: called from time to time.
        """
        self.names = list(names)
        self._rows = {name: row for row, name in enumerate(self.names)}
        self._graph = neighbour_graph(values, NEIGHBOURS, beat)
        self._joined = self._graph.astype(bool).astype(np.int64)

    def shares(self, labels: Mapping[str, str], classes: Sequence[str]) -> Shares | None:
        """Return the shares of the classes for each image, (images, classes).

        They are spread from the labels to neighbours (`trainables.probes.spreading`). None if fewer
        than two classes have labelled images: nothing can be told apart yet.
        """
        own = {name: label for name, label in labels.items() if name in self._rows}
        if len(set(own.values())) < 2:
            return None
        rows = np.array([self._rows[name] for name in own])
        numbers = np.array([classes.index(label) for label in own.values()])
        return spread_over(self._graph, rows, numbers, classes=len(classes))

    def row(self, name: str) -> int | None:
        """Return the row of an image in `shares`; None if its features are not known."""
        return self._rows.get(name)

    def order(self, labelled: Collection[str], allowed: Collection[str]) -> Iterator[str]:
        """Yield the names of allowed images, the most useful first.

        It ends when every image that an allowed one is joined to has a label near it.

        Args:
            labelled: the images that have a label, or will soon have one.
            allowed: the images to choose from.
        """
        is_allowed = np.zeros(len(self.names), dtype=bool)
        is_allowed[[self._rows[name] for name in allowed if name in self._rows]] = True
        is_covered = np.zeros(len(self.names), dtype=bool)
        for name in labelled:
            if (row := self._rows.get(name)) is not None:
                self._cover(row, is_covered)
        while is_allowed.any():
            gains = np.where(is_allowed, self._joined @ ~is_covered, 0)
            row = int(gains.argmax())
            if gains[row] == 0:
                return
            yield self.names[row]
            is_allowed[row] = False
            self._cover(row, is_covered)

    def _cover(self, row: int, is_covered: NDArray[np.bool_]) -> None:
        """Mark an image and its neighbours as covered by a label."""
        is_covered[row] = True
        is_covered[self._graph.indices[self._graph.indptr[row] : self._graph.indptr[row + 1]]] = (
            True
        )
