"""The searched parameters of a search: their paths, short names and values."""

from collections import Counter
from typing import Any

from search.journal.result import SearchResult, TrialResult
from trainables.errors import printable


def param_text(value: Any) -> str:
    """Format a parameter's value for people: 0.001234 rather than 0.0012339999."""
    return f"{value:.4g}" if isinstance(value, float) else printable(str(value))


def value_text(trial: TrialResult, path: str) -> str:
    """Format a trial's value of a searched parameter; empty if the trial does not have it.

    If --max-epochs reduces the number of epochs, the text has both numbers: `10 (capped at 2)`.
    """
    value = trial.params.get(path, "")
    return (
        f"{value} (capped at {trial.config['epochs']})"
        if path == "epochs" and value != trial.config["epochs"]
        else param_text(value)
    )


def searched(result: SearchResult) -> list[str]:
    """Return the paths of the searched parameters, in the space's order."""
    return list(result.started.experiment["space"]["domains"])


def short_names(paths: list[str]) -> dict[str, str]:
    """Return a short name for each path: `lr` for `optimizer.lr`, `model` for `model.name`.

    If two paths have the same short name, each keeps its full path.
    """
    words = {
        path: path.removesuffix(".name") if path.endswith(".name") else path.rpartition(".")[2]
        for path in paths
    }
    taken = Counter(words.values())
    return {path: word if taken[word] == 1 else path for path, word in words.items()}
