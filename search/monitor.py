"""python -m search.monitor MODEL --from PLACE: check whether a model still behaves as before.

MODEL is as for search.predict; PLACE contains the records of python -m search.serve (--record).
Three tests compare the received images with the validation images: whether the model is as sure of
its answers, whether it predicts each class as often, and whether it is right as often on a random
sample of images that people have corrected. If nothing has changed, a call reports a change with a
probability of at most --rate. The exit code is 7 if something has changed, and 0 if not, or if
there are too few images to tell.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

from cluster.exit_codes import ExitCode
from search.cli.face import Face
from search.cli.prompt import TerminalTalk
from search.feedback.monitoring.words import facts, verdict
from search.journal.store import own_path
from search.operations.monitor import MonitorRequest, monitor
from search.trained.source import REGISTERED
from search.values.option import flag, group, option
from search.views.terminal import Terminal, say
from trainables.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class MonitorOptions:
    """The options of the command line."""

    request: MonitorRequest = group(MonitorRequest)
    page: Path | None = option(
        "also write an HTML page", metavar="FILE", parse=own_path, before="storage"
    )
    track: bool = flag(
        "log the figures (monitor/...) to MLflow, in a run of this version in the experiment of "
        "its search",
        before="storage",
    )
    json: bool = flag("print the result as one JSON object on the last line")


def command(options: MonitorOptions) -> int:
    """Test the records for changes, print the findings, and then write and log them.

    Returns:
        `ExitCode.CHANGED` if something has changed, or else 0.

    Raises:
        ConfigError: --page or --track is not possible.
    """
    request, page = options.request, options.page
    if page is not None and (page.is_dir() or not page.parent.is_dir()):
        raise ConfigError(f"--page '{page}' must be a file in an existing folder.")
    if options.track and not request.model.startswith(REGISTERED):
        raise ConfigError(
            "--track needs a registered model, such as models:/NAME@champion "
            f"(got '{request.model}')."
        )
    result = monitor(request, TerminalTalk())
    findings, console = result.findings, Terminal(stderr=options.json)
    say(console, f"{findings.model}: {verdict(findings)}")
    for title, text in facts(findings):
        say(console, f"  {title:<12} {text}")
    if page is not None:
        result.write_page(page)
        say(console, f"  page         {page}")
    if options.track:
        result.log(request.location.tracking)
    if options.json:
        sys.stdout.write(json.dumps(findings.to_json()) + "\n")
    return ExitCode.CHANGED if findings.changed else 0


FACE = Face("monitor", MonitorOptions, command, __doc__)
main = FACE.main

if __name__ == "__main__":
    raise SystemExit(main())
