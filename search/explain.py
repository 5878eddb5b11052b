"""python -m search.explain NAME [IMAGES...]: show what the predictions of a model depend on.

For each image it computes a map of the pixels that support the predicted class, checks how
faithful this map is, and whether it depends on the trained weights. Without images, the most
confident mistakes on validation images and a few correct predictions are explained. It writes a
folder with an HTML page and the pictures.
"""

import json
import sys
from dataclasses import dataclass

from cluster.exit_codes import ExitCode
from search.cli.face import Face
from search.cli.prompt import TerminalTalk
from search.operations.explain import ExplainRequest, explain
from search.values.option import flag, group
from search.views.predictions import NOT_READ
from search.views.terminal import Terminal, say
from search.views.text.explanations import check_text, class_text, faithful_text, summary_lines


@dataclass(frozen=True, kw_only=True)
class ExplainOptions:
    """The options of the command line."""

    request: ExplainRequest = group(ExplainRequest)
    json: bool = flag("print the result as one JSON object on the last line")


def command(options: ExplainOptions) -> int:
    """Explain images, print the verdicts, and return the exit code."""
    report = explain(options.request, TerminalTalk())
    terminal = Terminal(stderr=options.json)
    for image in report.images:
        say(terminal, f"{image.name}: {class_text(image)}")
        say(terminal, f"  {faithful_text(image)}; check {check_text(image)}")
    for line in report.unread:
        say(terminal, f"{NOT_READ}{line}")
    for line in summary_lines(report):
        say(terminal, line)
    say(terminal, f"the page was written to {report.page}")
    if options.json:
        sys.stdout.write(json.dumps({"explanations": report.to_json()}) + "\n")
    return ExitCode.SOME_FAILED if report.unread else 0


FACE = Face("explain", ExplainOptions, command, __doc__)
main = FACE.main

if __name__ == "__main__":
    raise SystemExit(main())
