"""The predictive power of places at rungs, measured in the search itself."""

import math
from typing import NamedTuple

import numpy as np

from search.schedulers.standings import Array, Standings

EXPONENT, EXPONENT_TO_GO, EXPONENT_DEVIATION = 0.7, -0.5, 0.5
"""The prior of the log of an order's exponent: its mean at one doubling to go, the change of that
with the log of the doublings, and its deviation. They were set once, not tuned.
"""
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(5)
"""Points and weights of Gauss-Hermite quadrature over this prior."""
ORDER_POWER = 0.5
"""The power of the likelihood of an order: leaders of successive rungs are not independent."""


class Order(NamedTuple):
    """The predictive power of places at a rung: P(place r is best at the end) ~ r ** -alpha.

    A Plackett-Luce model with a random exponent. Its posterior rests on the first two at each later
    rung among those that came there, by their places here. It is conditional on who came there, so
    that it does not matter that mostly the foremost continued.
    """

    exponents: Array
    log_weights: Array
    """For each exponent: log of its posterior weight over the sum of place ** -alpha."""

    def log_chances(self, places: Array) -> Array:
        """Return the log of the chance of each place to be the best."""
        terms = self.log_weights[:, None] - np.outer(self.exponents, np.log(places))
        log_chances: Array = np.logaddexp.reduce(terms, axis=0)
        return log_chances


class Orders:
    """The orders at all rungs; one is computed again when values there or further on change."""

    def __init__(self, standings: Standings, horizon: int) -> None:
        self.standings, self.ends = standings, [*standings.rungs, horizon]
        self._cache: dict[int, tuple[list[int], Order]] = {}
        """For each rung, the numbers of changes that its order rests on, and the order."""

    def at(self, level: int) -> Order:
        """Return the order at a rung, from what later rungs show of it."""
        standings = self.standings
        changes, cached = standings.changes[level:], self._cache.get(level)
        if cached is not None and cached[0] == changes:
            return cached[1]
        places = standings.places[level]
        to_go = math.log2(self.ends[-1] / self.ends[level])
        exponents = np.exp(EXPONENT + EXPONENT_TO_GO * math.log(to_go) + EXPONENT_DEVIATION * NODES)
        likelihood = np.zeros(len(NODES))
        for later in range(level + 1, len(self.ends)):
            came = np.flatnonzero(~np.isnan(standings.places[later]) & ~np.isnan(places))
            if len(came) < 2:
                continue
            # From a nearer rung places predict better: the exponent grows with the root.
            doublings = math.log2(self.ends[later] / self.ends[level])
            nearer = exponents * math.sqrt(to_go / doublings)
            strengths = np.exp(-np.outer(nearer, np.log(places[came])))
            remaining = strengths.sum(axis=1)
            for leader in np.argsort(standings.places[later, came], kind="stable")[:2].tolist():
                likelihood += np.log(strengths[:, leader] / remaining)
                remaining = np.maximum(remaining - strengths[:, leader], 1e-300)
        posterior = np.log(WEIGHTS) + ORDER_POWER * (likelihood - likelihood.max())
        log_places = np.log(places[~np.isnan(places)])
        totals = np.exp(-np.outer(exponents, log_places)).sum(axis=1)
        order = Order(exponents, posterior - np.logaddexp.reduce(posterior) - np.log(totals))
        self._cache[level] = list(changes), order
        return order
