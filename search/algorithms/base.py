"""The interface of an algorithm: it proposes params, and may listen to their results.

A proposal is a function of the seed, the trial's number and what was heard before, and of nothing
else: a search that is resumed hears its journal again and goes on as if it had never stopped.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path

from search.schedulers.base import Expected
from search.values.objectives import Costs
from trainables.catalog.tasks import CLASSIFICATION
from trainables.values import Params


class Algorithm(ABC):
    """Proposes the params of one trial after another.

    Two with the same seed that hear the same things in the same order propose the same.
    """

    listens = False
    """True if its proposals depend on what it hears."""

    metric = CLASSIFICATION.primary
    """The metric whose scores are heard; the driver sets it."""

    @abstractmethod
    def ask(self, trial: str) -> Params | None:
        """Return params for a new trial; None when there is nothing left to propose."""

    @abstractmethod
    def replay(self, trial: str, params: Params) -> None:
        """Hear that a trial with these params was proposed before the search was cut off."""

    def cost(self, trial: str, costs: Costs) -> None:  # noqa: B027 - listening is optional
        """Hear what a trial's network costs, before its first epoch.

        Called if the search has objectives beside its metric.
        """

    def report(self, trial: str, epoch: int, value: float) -> None:  # noqa: B027 - listening is optional
        """Hear a trial's value (higher is better) after an epoch (1-based)."""

    def tell(self, trial: str, outcome: str, value: float | None) -> None:  # noqa: B027 - listening is optional
        """Hear how a trial ended.

        `completed` and `stopped` have a value, `diverged` and `failed` have none.
        """

    def expect(self, expected: Mapping[str, Expected]) -> None:  # noqa: B027 - listening is optional
        """Hear the predicted values at the horizon of trials that have not ended.

        Called before each `ask`. Empty if that cannot be told.
        """

    def save(self, folder: Path) -> None:  # noqa: B027 - most have nothing that others could open
        """Leave in the search's folder what tools of the algorithm's own library can open.

        Nothing here reads it.
        """
