"""Independent draws from the space; none twice where its points can be counted."""

import numpy as np

from search.algorithms.base import Algorithm
from search.space import Params, SearchSpace


class Random(Algorithm):
    """Uniform draws (on the log scale where the domain says so); does not listen."""

    def __init__(self, space: SearchSpace, seed: int) -> None:
        self.space = space
        self.generator = np.random.default_rng(seed)
        self.left = space.size
        self.seen: set[str] = set()

    def ask(self, trial: str) -> Params | None:
        """A new draw; None when a countable space is used up."""
        if self.left == 0:
            return None
        while True:
            params = self.space.sample(self.generator)
            if self.left is None:
                return params
            if repr(params) not in self.seen:
                self.seen.add(repr(params))
                self.left -= 1
                return params
