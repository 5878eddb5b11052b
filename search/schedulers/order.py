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
        self._orders: dict[int, tuple[list[int], Order]] = {}
        """For each rung, the numbers of changes that its order rests on, and the order."""
        self._likelihoods: dict[tuple[int, int], tuple[tuple[int, int], Array]] = {}
        """For each pair of rungs, the numbers of changes at both, and the log likelihoods."""

    def at(self, level: int) -> Order:
        """Return the order at a rung, from what later rungs show of it."""
        changes, cached = self.standings.changes[level:], self._orders.get(level)
        if cached is not None and cached[0] == changes:
            return cached[1]
        to_go = math.log2(self.ends[-1] / self.ends[level])
        exponents = np.exp(EXPONENT + EXPONENT_TO_GO * math.log(to_go) + EXPONENT_DEVIATION * NODES)
        likelihood = np.zeros(len(NODES))
        for later in range(level + 1, len(self.ends)):
            likelihood += self._log_likelihood(level, later, exponents)
        posterior = np.log(WEIGHTS) + ORDER_POWER * (likelihood - likelihood.max())
        places = self.standings.places[level]
        log_places = np.log(places[~np.isnan(places)])
        totals = np.exp(-np.outer(exponents, log_places)).sum(axis=1)
        order = Order(exponents, posterior - np.logaddexp.reduce(posterior) - np.log(totals))
        self._orders[level] = list(changes), order
        return order

    def _log_likelihood(self, level: int, later: int, exponents: Array) -> Array:
        """Return the log likelihood of each exponent, from the first two at a later rung."""
        standings = self.standings
        changes = standings.changes[level], standings.changes[later]
        cached = self._likelihoods.get((level, later))
        if cached is not None and cached[0] == changes:
            return cached[1]
        places, later_places = standings.places[level], standings.places[later]
        came = np.flatnonzero(~np.isnan(later_places) & ~np.isnan(places))
        likelihood = np.zeros(len(exponents))
        if len(came) > 1:
            # From a nearer rung places predict better: the exponent grows with the root.
            to_go, doublings = (
                math.log2(end / self.ends[level]) for end in (self.ends[-1], self.ends[later])
            )
            nearer = exponents * math.sqrt(to_go / doublings)
            strengths = np.exp(-np.outer(nearer, np.log(places[came])))
            remaining = strengths.sum(axis=1)
            later_places = later_places[came]
            for _ in range(2):
                leader = int(later_places.argmin())
                later_places[leader] = np.inf
                likelihood += np.log(strengths[:, leader] / remaining)
                remaining = np.maximum(remaining - strengths[:, leader], 1e-300)
        self._likelihoods[level, later] = changes, likelihood
        return likelihood
