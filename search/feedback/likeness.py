"""Similarity of images, measured by the correlation of their thumbnails."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]

NEAR_CORRELATION = 0.995
"""Two images are near-duplicates if the correlation of their thumbnails is at least this."""
MAX_NEAR = 20
"""Maximum length of an image's list of near-duplicates."""
NO_CORRELATION = -1.0
"""The correlation of an image if there is no other image to compare it with."""


@dataclass
class Likeness:
    """Similarity of images to each other and to familiar images, which are usual or corrected."""

    near: dict[str, list[str]] = field(default_factory=dict)
    """Names of the near-duplicates of each image, at most `MAX_NEAR`."""
    _names: list[str] = field(default_factory=list)
    _rows: dict[str, int] = field(default_factory=dict)
    _thumbs: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 0), np.float32))
    _to_familiar: Vector = field(default_factory=lambda: np.empty(0, np.float32))
    _to_corrected: Vector = field(default_factory=lambda: np.empty(0, np.float32))
    """For each image, by row, the highest correlation with another familiar image, and with another
    corrected one; `NO_CORRELATION` if there is none.
    """
    _familiar_rows: list[int] = field(default_factory=list)
    _corrected_rows: list[int] = field(default_factory=list)
    """The rows of the familiar and of the corrected images."""

    def __contains__(self, name: str) -> bool:
        return name in self._rows

    def add(self, name: str, thumbnail: Vector) -> None:
        """Add a new image, whose thumbnail is a flat unit vector, (pixels,)."""
        row = len(self._rows)
        if row == len(self._thumbs):
            self._grow(len(thumbnail))
        self._thumbs[row] = thumbnail
        correlations = self._thumbs[:row] @ thumbnail
        self._to_familiar[row] = correlations[self._familiar_rows].max(initial=NO_CORRELATION)
        self._to_corrected[row] = correlations[self._corrected_rows].max(initial=NO_CORRELATION)
        self.near[name] = [
            self._names[near_name]
            for near_name in np.flatnonzero(correlations >= NEAR_CORRELATION)[:MAX_NEAR]
        ]
        for near_name in self.near[name]:
            if len(self.near[near_name]) < MAX_NEAR:
                self.near[near_name].append(name)
        self._rows[name] = row
        self._names.append(name)

    def mark_familiar(self, name: str, *, is_corrected: bool) -> None:
        """Mark an added image as familiar: as corrected if `is_corrected`, otherwise as usual.

        A usual image may be marked as corrected later.
        """
        row, count = self._rows[name], len(self._rows)
        correlations = self._thumbs[:count] @ self._thumbs[row]
        correlations[row] = NO_CORRELATION
        self._familiar_rows.append(row)
        self._to_familiar[:count] = np.maximum(self._to_familiar[:count], correlations)
        if is_corrected:
            self._corrected_rows.append(row)
            self._to_corrected[:count] = np.maximum(self._to_corrected[:count], correlations)

    def to_familiar(self, name: str) -> float:
        """Highest correlation of an image with another, familiar one; 1 if none is familiar."""
        return float(self._to_familiar[self._rows[name]]) if self._familiar_rows else 1.0

    def to_corrected(self, name: str) -> float:
        """Highest correlation of an image with another, corrected one.

        It is -1 if no other image is corrected, or if the image was not added.
        """
        return float(self._to_corrected[self._rows[name]]) if name in self._rows else NO_CORRELATION

    def _grow(self, length: int) -> None:
        more = max(64, len(self._thumbs))
        before = self._thumbs.reshape(-1, length)
        self._thumbs = np.concatenate([before, np.zeros((more, length), np.float32)])
        empty = np.full(more, NO_CORRELATION, np.float32)
        self._to_familiar = np.concatenate([self._to_familiar, empty])
        self._to_corrected = np.concatenate([self._to_corrected, empty])
