"""Independent draws from the space; none twice if its points can be counted."""

import numpy as np

from search.algorithms.base import Algorithm
from search.space import SearchSpace
from trainables.values import Params


class Random(Algorithm):
    """Uniform draws (on the log scale where the domain says so); does not listen."""

    def __init__(self, space: SearchSpace, seed: int) -> None:
        self.space, self.seed, self.size = space, seed, space.size
        self.proposed = 0
        self.seen: set[str] = set()

    def ask(self, trial: str) -> Params | None:
        """Return a new draw; None when a countable space is used up."""
        generator = np.random.default_rng([self.seed, self.proposed])
        if self.size is not None and len(self.seen) >= self.size:
            return None
        params = self.space.begin(self.proposed, generator) or self.space.sample(generator)
        while self.size is not None and repr(params) in self.seen:
            params = self.space.sample(generator)
        self.replay(trial, params)
        return params

    def replay(self, trial: str, params: Params) -> None:
        """Count one more draw; one from another space uses up no point of this one."""
        self.proposed += 1
        if self.size is None or self.space.kept(params) == params:
            self.seen.add(repr(params))
