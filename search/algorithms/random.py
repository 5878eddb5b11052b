"""Random search: independent points of the space; in a finite space, no point is proposed twice."""

import numpy as np

from search.algorithms.base import Algorithm
from search.space import SearchSpace
from trainables.values import Params


class Random(Algorithm):
    """Proposes uniform random points, on a log scale if the domain has one; it does not learn."""

    def __init__(self, space: SearchSpace, seed: int) -> None:
        self.space, self.seed, self.size = space, seed, space.size
        self.proposed = 0
        self.drawn: set[str] = set()

    def ask(self, trial: str) -> Params | None:
        """Return a new point; None if all points of a finite space have been proposed."""
        generator = np.random.default_rng([self.seed, self.proposed])
        if self.size is not None and len(self.drawn) >= self.size:
            return None
        params = self.space.begin(self.proposed, generator) or self.space.sample(generator)
        while self.size is not None and repr(params) in self.drawn:
            params = self.space.sample(generator)
        self.replay(trial, params)
        return params

    def replay(self, trial: str, params: Params) -> None:
        """Record a point that was proposed earlier.

        Points outside this space count as proposals, but not as points that have been drawn.
        """
        self.proposed += 1
        if self.size is None or self.space.valid_values(params) == params:
            self.drawn.add(repr(params))
