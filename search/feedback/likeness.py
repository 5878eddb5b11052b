"""The likeness of images to others: the correlation of their thumbnails."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]

NEAR = 0.995
"""Two images whose thumbnails correlate by this show nearly the same."""
MOST_NEAR = 20
NOTHING = -1.0
"""The correlation with none."""


@dataclass
class Likeness:
    """Images by name, and how like each is to the known ones, those usual or corrected."""

    near: dict[str, list[str]] = field(default_factory=dict)
    """The images that show nearly the same as each, some of them if they are many."""
    _names: list[str] = field(default_factory=list)
    _rows: dict[str, int] = field(default_factory=dict)
    _thumbs: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 0), np.float32))
    _to_known: Vector = field(default_factory=lambda: np.empty(0, np.float32))
    _to_corrected: Vector = field(default_factory=lambda: np.empty(0, np.float32))
    """The highest correlation of each with another one that is known, or corrected."""
    _known: list[int] = field(default_factory=list)
    _corrected: list[int] = field(default_factory=list)
    """Their rows."""

    def __contains__(self, name: str) -> bool:
        return name in self._rows

    def add(self, name: str, thumbnail: Vector) -> None:
        """Add an image by its thumbnail, of length 1, which is not known yet."""
        row = len(self._rows)
        if row == len(self._thumbs):
            self._grow(len(thumbnail))
        self._thumbs[row] = thumbnail
        like = self._thumbs[:row] @ thumbnail
        self._to_known[row] = like[self._known].max(initial=NOTHING)
        self._to_corrected[row] = like[self._corrected].max(initial=NOTHING)
        self.near[name] = [self._names[other] for other in np.flatnonzero(like >= NEAR)[:MOST_NEAR]]
        for other in self.near[name]:
            if len(self.near[other]) < MOST_NEAR:
                self.near[other].append(name)
        self._rows[name] = row
        self._names.append(name)

    def note(self, name: str, *, corrected: bool) -> None:
        """Note that an image is usual, or was corrected."""
        row, count = self._rows[name], len(self._rows)
        like = self._thumbs[:count] @ self._thumbs[row]
        like[row] = NOTHING
        self._known.append(row)
        self._to_known[:count] = np.maximum(self._to_known[:count], like)
        if corrected:
            self._corrected.append(row)
            self._to_corrected[:count] = np.maximum(self._to_corrected[:count], like)

    def to_known(self, name: str) -> float:
        """Return the highest correlation of an image with another that is usual or corrected."""
        return float(self._to_known[self._rows[name]]) if self._known else 1.0

    def to_corrected(self, name: str) -> float:
        """Return the highest correlation of an image with another that was corrected."""
        return float(self._to_corrected[self._rows[name]]) if name in self._rows else NOTHING

    def _grow(self, length: int) -> None:
        more = max(64, len(self._thumbs))
        before = self._thumbs.reshape(-1, length)
        self._thumbs = np.concatenate([before, np.zeros((more, length), np.float32)])
        empty = np.full(more, NOTHING, np.float32)
        self._to_known = np.concatenate([self._to_known, empty])
        self._to_corrected = np.concatenate([self._to_corrected, empty])
