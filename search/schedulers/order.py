"""The predictive power of places at rungs, measured in the search itself."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from search.schedulers.standings import Array, Standings

EXPONENT, EXPONENT_TO_GO, EXPONENT_DEVIATION = 0.7, -0.5, 0.5
"""The prior of the log of an order's exponent: its mean at one doubling to go, the change of that
with the log of the doublings, and its deviation. They were set once, not tuned.
"""
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(5)
"""Points and weights of Gauss-Hermite quadrature over this prior."""
LOG_WEIGHTS = np.log(WEIGHTS)
ORDER_POWER = 0.5
"""The power of the likelihood of an order: leaders of successive rungs are not independent."""


class Order(NamedTuple):
    """The predictive power of places at a rung: P(place r is best at the end) ~ r ** -alpha.

    A Plackett-Luce model with a random exponent. Its posterior rests on the first two at each later
    rung among those that came there, by their places here. It is conditional on who came there, so
    that it does not matter that mostly the foremost continued.
    """

    strengths: Array
    """For each exponent, and 0, 1, 2, ... half places: place ** -alpha."""
    weights: Array
    """For each exponent: its posterior weight over the sum of the strengths of all places."""

    def log_chances(self, places: Array) -> Array:
        """Return the log of the chance of each place to be the best."""
        log_chances: Array = np.log((self.weights @ self.strengths).take(_half_places(places)))
        return log_chances


class Orders:
    """The orders at all rungs; one is computed again when values there or further on change."""

    def __init__(self, standings: Standings, horizon: int) -> None:
        self.standings, self.ends = standings, [*standings.rungs, horizon]
        self.exponents = [
            np.exp(
                EXPONENT
                + EXPONENT_TO_GO * math.log(math.log2(horizon / rung))
                + EXPONENT_DEVIATION * NODES
            )
            for rung in standings.rungs
        ]
        """For each rung, the exponents at the nodes of the quadrature."""
        self._orders: dict[int, tuple[list[int], Order]] = {}
        """For each rung, the numbers of changes that its order rests on, and the order."""
        self._likelihoods: dict[tuple[int, int], tuple[tuple[int, int], Array]] = {}
        """For each pair of rungs, the numbers of changes that matter, and the log likelihoods."""
        self._sums: dict[int, tuple[int, Array, Array]] = {}
        """For each rung, the number of its changes, the strengths of its places, and their sums."""
        self._strengths: dict[int, Array] = {}
        """For each rung, each exponent, and 0, 1, 2, ... half places: place ** -alpha.

        Half places, since two that are equal share the mean of their places; the first is not used.
        """

    def at(self, level: int) -> Order:
        """Return the order at a rung, from what later rungs show of it."""
        changes, cached = self.standings.changes[level:], self._orders.get(level)
        if cached is not None and cached[0] == changes:
            return cached[1]
        likelihood = np.zeros(len(NODES))
        for later in range(level + 1, len(self.ends)):
            likelihood += self._log_likelihood(level, later)
        posterior = LOG_WEIGHTS + ORDER_POWER * (likelihood - likelihood.max())
        if level not in self._sums or self._sums[level][0] != changes[0]:
            has_arrived = self.standings.has_arrived[level]
            places = self.standings.places[level].take(np.flatnonzero(has_arrived))
            counts = np.bincount(_half_places(places))
            strengths = self._strengths_at(level, len(counts))
            self._sums[level] = changes[0], strengths, strengths @ counts
        _, strengths, sums = self._sums[level]
        weights = np.exp(posterior - np.logaddexp.reduce(posterior)) / sums
        self._orders[level] = list(changes), Order(strengths, weights)
        return self._orders[level][1]

    def _strengths_at(self, level: int, size: int) -> Array:
        """Return place ** -alpha for so many half places."""
        strengths = self._strengths.get(level, np.ones((len(NODES), 1)))
        if strengths.shape[1] < size:
            places = np.arange(1, 2 * size) / 2
            powers = np.exp(-np.outer(self.exponents[level], np.log(places)))
            strengths = self._strengths[level] = np.insert(powers, 0, 1.0, axis=1)
        return strengths[:, :size]

    def _log_likelihood(self, level: int, later: int) -> Array:
        """Return the log likelihood of each exponent, from the first two at a later rung."""
        standings = self.standings
        changes = int(standings.shifts[level, later]), standings.changes[later]
        cached = self._likelihoods.get((level, later))
        if cached is not None and cached[0] == changes:
            return cached[1]
        places, later_places = standings.places[level], standings.places[later]
        came = np.flatnonzero(standings.has_arrived[later] & standings.has_arrived[level])
        likelihood = np.zeros(len(NODES))
        if len(came) > 1:
            # From a nearer rung places predict better: the exponent grows with the root.
            to_go, doublings = (
                math.log2(end / self.ends[level]) for end in (self.ends[-1], self.ends[later])
            )
            nearer = self.exponents[level] * math.sqrt(to_go / doublings)
            strengths = np.exp(-np.outer(nearer, np.log(places.take(came))))
            remaining = strengths.sum(axis=1)
            later_places = later_places.take(came)
            for _ in range(2):
                leader = int(later_places.argmin())
                later_places[leader] = np.inf
                likelihood += np.log(strengths[:, leader] / remaining)
                remaining = np.maximum(remaining - strengths[:, leader], 1e-300)
        self._likelihoods[level, later] = changes, likelihood
        return likelihood


def _half_places(places: Array) -> NDArray[np.intp]:
    return (2 * places).astype(np.intp)
