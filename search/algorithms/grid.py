"""Every point of the space exactly once, in an order shuffled by the seed, so that a search cut short has seen all regions."""

import numpy as np

from search.algorithms.base import Algorithm
from search.space import Params, SearchSpace


class Grid(Algorithm):
    """All points; does not listen."""

    def __init__(self, space: SearchSpace, seed: int) -> None:
        points = list(space.points())
        self.left = [points[row] for row in np.random.default_rng(seed).permutation(len(points))][::-1]

    def ask(self, trial: str) -> Params | None:
        """The next point; None after the last."""
        return self.left.pop() if self.left else None

    def replay(self, trial: str, params: Params) -> None:
        """Leave this point out."""
        if self.left and self.left[-1] == params:
            self.left.pop()
        elif params in self.left:
            self.left.remove(params)
