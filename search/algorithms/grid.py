"""Every point of the space exactly once, in an order shuffled by the seed.

So a search cut short has seen all regions. Points that differ in their epochs alone follow each
other, the shortest first: if the learning rate does not depend on the number of epochs, each is the
beginning of the next.
"""

import numpy as np

from search.algorithms.base import Algorithm
from search.space import SearchSpace
from trainables.checkpoints.lineage import HORIZON_FREE
from trainables.config import OptimizerConfig
from trainables.values import Params

EPOCHS, SCHEDULE = "epochs", "optimizer.schedule"


class Grid(Algorithm):
    """All points; does not listen."""

    def __init__(self, space: SearchSpace, seed: int) -> None:
        points = list(space.points())
        families: dict[str, list[Params]] = {}
        for row in np.random.default_rng(seed).permutation(len(points)):
            families.setdefault(family(points[row], space), []).append(points[row])
        # Reversed, since `ask` takes points from the end.
        self.left = [
            point for members in families.values() for point in sorted(members, key=length)
        ][::-1]

    def ask(self, trial: str) -> Params | None:
        """Return the next point; None after the last."""
        return self.left.pop() if self.left else None

    def replay(self, trial: str, params: Params) -> None:
        """Leave this point out."""
        if self.left and self.left[-1] == params:
            self.left.pop()
        elif params in self.left:
            self.left.remove(params)


def family(point: Params, space: SearchSpace) -> str:
    """Return a text that is equal for points that are lengths of one training.

    These differ in their epochs alone, under a learning rate that does not depend on the number of
    epochs.
    """
    schedule = point.get(SCHEDULE, space.base.get(SCHEDULE, OptimizerConfig().schedule))
    return repr(
        {
            path: value
            for path, value in point.items()
            if path != EPOCHS or schedule not in HORIZON_FREE
        }
    )


def length(point: Params) -> int:
    """Return a point's epochs; 0 if they are not searched."""
    return int(point.get(EPOCHS, 0))
