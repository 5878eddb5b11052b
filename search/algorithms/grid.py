"""Grid search: every point of the space exactly once, in an order that the seed shuffles.

Because of the shuffled order, even an interrupted search has tried all regions. Points that differ
only in their number of epochs follow each other, the shortest first, unless the learning rate
depends on this number. So each of these trials can continue the training of the one before.
"""

import numpy as np

from search.algorithms.base import Algorithm
from search.space import SearchSpace
from trainables.config import HORIZON_FREE, OptimizerConfig
from trainables.values import Params

EPOCHS, SCHEDULE = "epochs", "optimizer.schedule"


class Grid(Algorithm):
    """Proposes all points; it does not learn."""

    def __init__(self, space: SearchSpace, seed: int) -> None:
        points = list(space.points())
        families: dict[str, list[Params]] = {}
        for row in np.random.default_rng(seed).permutation(len(points)):
            families.setdefault(family(points[row], space), []).append(points[row])
        # Reversed, since `ask` takes points from the end.
        self.remaining = [
            point for members in families.values() for point in sorted(members, key=length)
        ][::-1]

    def ask(self, trial: str) -> Params | None:
        """Return the next point; None after the last."""
        return self.remaining.pop() if self.remaining else None

    def replay(self, trial: str, params: Params) -> None:
        """Remove this point from the remaining ones, if it is one of them."""
        if self.remaining and self.remaining[-1] == params:
            self.remaining.pop()
        elif params in self.remaining:
            self.remaining.remove(params)


def family(point: Params, space: SearchSpace) -> str:
    """Return a key that is equal for points that are different lengths of one training.

    Such points differ only in their number of epochs, and their learning rate does not depend on
    it.
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
    """Return the number of epochs of a point; 0 if the space does not search it."""
    return int(point.get(EPOCHS, 0))
