"""The report as one HTML file that needs nothing beside it."""

import base64
import io
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from matplotlib.figure import Figure

from search.report import figures
from search.result import SearchResult
from search.summary import accuracy_text, models_table, outcome_text, param_text, reference_rows, searched
from trainables.errors import printable

TEMPLATE = Path(__file__).with_name("page.html")


def render(result: SearchResult) -> str:
    """The page's text. Everything that comes from users' files and names is escaped."""
    test = result.test
    pictures = {"curves": figures.search_curves(result)}
    if test:
        pictures |= {"confusion": figures.confusion(test), "roc": figures.roc(test)}
    ranked = result.ranking
    environment = Environment(autoescape=True, undefined=StrictUndefined, finalize=lambda value: printable(value) if isinstance(value, str) else value)
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        result=result,
        experiment=result.started["experiment"],
        data=result.started["data"],
        slots=result.started["slots"],
        provenance=result.started["provenance"],
        test=test,
        outcomes=outcome_text(result),
        references=reference_rows(result),
        models=models_table(result),
        paths=searched(result),
        rows=ranked + [trial for trial in result.trials.values() if trial not in ranked],
        text=param_text,
        accuracy=accuracy_text,
        pictures={name: _inline(figure) for name, figure in pictures.items()},
    )


def _inline(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130, bbox_inches="tight")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
