"""python -m search.promote NAME: register the best network of a search in MLflow's model registry.

A registered model can be used without this project.
"""

import json
from dataclasses import dataclass

from cluster.secrets import redact
from search.cli.face import Face
from search.cli.prompt import TerminalTalk
from search.design.experiment import absolute
from search.operations.promote import PromoteRequest, Promotion, promote
from search.trained.description import model_figures, not_complete
from search.values.message import Remedy
from search.values.option import flag, group
from search.views.terminal import Terminal, say
from search.views.text.labels import model_text


@dataclass(frozen=True, kw_only=True)
class PromoteOptions:
    """The options of the command line."""

    request: PromoteRequest = group(PromoteRequest)
    json: bool = flag("print the result as one JSON object on the last line")


def command(options: PromoteOptions) -> int:
    """Promote the model, print its version in the registry, and return the exit code."""
    promotion = promote(options.request, TerminalTalk())
    console = Terminal()
    for line in promotion_lines(promotion):
        say(console, line)
    if options.json:
        print(json.dumps(promotion.to_json()))
    return 0


def promotion_lines(promotion: Promotion) -> list[str]:
    """Return lines that describe the registered model, and how to use and serve it."""
    result, trial, registered = promotion.result, promotion.trial, promotion.registered
    uri = redact(absolute(promotion.tracking))
    was = (
        f"; version {registered.before}, the previous champion, is kept"
        if registered.before
        else ""
    )
    serve = Remedy("serve", arguments=[registered.uri], options={"tracking": uri})
    now = f"version {registered.version} of {registered.name}{was}.{not_complete(result, trial)}"
    figures = model_figures(result, trial, promotion.exported)
    return [
        f"{trial.trial} ({model_text(trial)}) of {result.name} is the champion: {now}",
        *(f"  {title}: {text}" for title, text in figures.items()),
        (
            f'  use it: import mlflow; mlflow.set_tracking_uri("{uri}"); '
            f'model = mlflow.pyfunc.load_model("{registered.uri}")'
        ),
        f"  serve it: {serve}",
        *([f"  report: {promotion.page}"] if promotion.page is not None else []),
    ]


FACE = Face("promote", PromoteOptions, command, __doc__)
main = FACE.main

if __name__ == "__main__":
    raise SystemExit(main())
