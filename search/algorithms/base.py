"""The interface of an algorithm: it proposes params, and may learn from their results.

A proposal depends only on the seed, the number of the trial, and the results so far. So a resumed
search can replay its journal, and make the same proposals as without the interruption.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path

from search.schedulers.base import Expected
from search.values.objectives import Costs
from trainables.tasks import TASKS, task_name
from trainables.values import Params


class Algorithm(ABC):
    """Proposes the params of one trial after another.

    Two algorithms with the same seed that receive the same calls in the same order propose the same
    params.
    """

    learns = False
    """True if the algorithm's proposals depend on results."""

    metric = TASKS[task_name({})].primary
    """The metric of the scores that the algorithm receives; set by the policy."""

    @abstractmethod
    def ask(self, trial: str) -> Params | None:
        """Propose the params of a new trial; None if there is nothing left to propose."""

    @abstractmethod
    def replay(self, trial: str, params: Params) -> None:
        """Receive a trial that was proposed before the search was resumed."""

    def cost(self, trial: str, costs: Costs) -> None:  # noqa: B027 - learning is optional
        """Receive the costs of a trial: before its first epoch, or after each epoch's value.

        Only called if the search has objectives besides its metric.
        """

    def report(self, trial: str, epoch: int, value: float) -> None:  # noqa: B027 - learning is optional
        """Receive a trial's score after an epoch.

        Epochs are counted from 1. A higher score is better.
        """

    def tell(self, trial: str, outcome: str, value: float | None) -> None:  # noqa: B027 - learning is optional
        """Receive the outcome of a trial.

        `value` is the score of a `completed` or `stopped` trial, and None for a `diverged` or
        `failed` one.
        """

    def expect(self, expected: Mapping[str, Expected]) -> None:  # noqa: B027 - learning is optional
        """Receive predictions for the trials that have not ended: their scores at the horizon.

        The horizon is the maximum number of epochs. This is called before each `ask`, with an empty
        mapping if scores cannot be predicted.
        """

    def save(self, folder: Path) -> None:  # noqa: B027 - most have nothing that others could open
        """Export the algorithm's state to the search's folder, for tools of its library.

        An example is a study that optuna-dashboard can open. This project never reads the file.
        """
