"""Facts about the candidates of a selection."""

from dataclasses import dataclass

from search.journal.events import Finalist
from search.journal.result import SearchResult, Selection
from search.values.statistics import expect
from trainables.values import Json


@dataclass(frozen=True)
class FinalistInterval(Finalist):
    """A candidate of a selection, with the confidence interval of its mean over seeds.

    The bounds `low` and `high` are None if the interval is not known.
    """

    low: float | None
    high: float | None


def finalists(result: SearchResult) -> list[FinalistInterval]:
    """Return the candidates of a selection with intervals of their means; empty before its verdict.

    The interval of the chosen candidate is taken from the verdict. The leader has no difference and
    no p-value, since it would be compared with itself.
    """
    verdict = result.selection.verdict if result.selection is not None else None
    rows: list[FinalistInterval] = []
    bounds = result.metric.limits
    if verdict is None:
        return []
    for row in verdict.rows:
        low = high = None
        if row.candidate == verdict.candidate:
            low, high = verdict.expected.low, verdict.expected.high
        elif row.seeds > 1:
            alone = expect(row.accuracies, 1, verdict.level, images=result.steps, bounds=bounds)
            low, high = alone.low, alone.high
        leads = {"difference": None, "p": None} if row.candidate == verdict.leader else {}
        rows.append(FinalistInterval(**(vars(row) | leads), low=low, high=high))
    return rows


def average_facts(selection: Selection) -> Json:
    """Return the average of the chosen candidate's trainings for `--json`; empty if there is none.

    It has the members, the gain in accuracy over them on average, and whether it was chosen.
    """
    averaged = selection.current_average
    if averaged is None:
        return {}
    facts = ("trial", "members", "metrics", "gain", "error")
    return {
        "average": {
            **{name: getattr(averaged, name) for name in facts},
            "is_chosen": selection.is_average_chosen,
        }
    }
