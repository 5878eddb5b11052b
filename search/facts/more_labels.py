"""The forecast for more labels, by the best trial that has one."""

from dataclasses import dataclass

from search.journal.result import SearchResult
from trainables.values import Json

KEY = "more_labels"
"""The key in a trial's evaluation (`trainables.probes.more_labels`)."""


@dataclass(frozen=True)
class LabelsForecast:
    """The learning curve of a kind of model, and what it promises."""

    trial: str
    model: str
    curve: Json
    """The values that `trainables.probes.more_labels.more_labels` returns."""

    def at(self, times: float) -> Json:
        """Return the forecast for a multiple of the present number of training images.

        It has `low`, `likely` and `high`, which are accuracies.

        Raises:
            KeyError: there is none for this multiple.
        """
        forecasts: dict[float, Json] = {each["times"]: each for each in self.curve["forecasts"]}
        return forecasts[times]


def labels_forecast(result: SearchResult) -> LabelsForecast | None:
    """Return the forecast of the best trial that has one; None if there is none."""
    for trial in result.ranking:
        evaluation = trial.evaluation
        if evaluation is not None and KEY in evaluation.val:
            name = str(trial.config["model"]["name"])
            return LabelsForecast(trial.trial, name, evaluation.val[KEY])
    return None
