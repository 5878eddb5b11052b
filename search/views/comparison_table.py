"""The comparison of searches as a table and sentences."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.table import Table

from search.facts.comparison import Compared, Contender, Contrast
from search.facts.parameters import param_text
from search.journal.result import SearchResult, TrialResult
from search.values.wording import duration
from search.views.text.labels import figure_text, outcome_text, strategy_text
from trainables.catalog.entries import Metric
from trainables.errors import printable


def comparison_rows(comparison: Compared, results: Sequence[SearchResult]) -> Iterator[list[str]]:
    """Yield the rows of a table with a column for each search; the first row has the names."""
    yield ["", *(result.name for result in results)]
    titles = {result.metric.title for result in results}
    yield [
        f"best val {titles.pop()}" if len(titles) == 1 else "best val",
        *(
            "" if result.best is None else _best_text(result.best, with_metric=bool(titles))
            for result in results
        ),
    ]
    yield ["  95 % interval", *map(_interval_text, comparison.searches)]
    yield ["  trial", *(contender.trial for contender in comparison.searches)]
    if any(contender.expected is not None for contender in comparison.searches):
        yield [
            "expected (select)",
            *(
                "" if contender.expected is None else f"{contender.expected:.4f}"
                for contender in comparison.searches
            ),
        ]
    yield ["trials", *map(outcome_text, results)]
    yield ["epochs", *(f"{contender.epochs:,}" for contender in comparison.searches)]
    yield ["took", *(duration(contender.wall_s) for contender in comparison.searches)]
    yield ["trained", *(duration(contender.train_s) for contender in comparison.searches)]
    yield ["strategy", *(strategy_text(result.started.experiment) for result in results)]
    yield ["data", *(contender.data for contender in comparison.searches)]
    yield ["train / val / test", *(_parts_text(result.started.data) for result in results)]
    for heading, values in (
        ("best trials differ in", comparison.params),
        ("settings", comparison.settings),
    ):
        if values:
            yield [f"{heading}:", *("" for _ in results)]
        for name, row in values.items():
            yield [f"  {name}", *("-" if value is None else param_text(value) for value in row)]


def comparison_table(rows: Iterator[list[str]]) -> Table:
    """Build a table from rows; the first row becomes the titles."""
    table = Table(box=None, pad_edge=False)
    for number, title in enumerate(next(rows)):
        table.add_column(title, no_wrap=number == 0, overflow="fold")
    for row in rows:
        table.add_row(*map(printable, row))
    return table


def _parts_text(data: Mapping[str, Any]) -> str:
    return " / ".join(f"{data[part]:,}" for part in ("train", "val", "test"))


def _best_text(best: TrialResult, *, with_metric: bool) -> str:
    return f"{figure_text(best)} ({best.metric.title})" if with_metric else figure_text(best)


def _interval_text(contender: Contender) -> str:
    return (
        ""
        if contender.low is None or contender.high is None
        else f"{contender.low:.4f} to {contender.high:.4f}"
    )


def contrast_sentence(contrast: Contrast, metric: Metric) -> str:
    """Describe a contrast in a sentence; `metric` is the metric of the leader."""
    if contrast.difference is None:
        return f"{contrast.name} and {contrast.leader} cannot be compared: {contrast.note}."
    gap = metric.gap(contrast.difference)
    if contrast.difference == 0:
        return f"{contrast.name} is as good as {contrast.leader} ({contrast.note})."
    sure = "beyond noise" if contrast.is_beyond_noise else "within noise"
    evidence = (
        f"p {contrast.p:.2g}"
        if contrast.low is None or contrast.high is None
        else f"95 % interval {metric.gap(contrast.low)} to {metric.gap(contrast.high)}"
    )
    many = contrast.candidates or 1
    among = f"; corrected for the best of {many:,} trainings" if many > 1 else ""
    return (
        f"{contrast.name} is {gap} behind {contrast.leader}: {sure} "
        f"({evidence}{among}; {contrast.note})."
    )
