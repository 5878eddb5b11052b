"""python -m search.improve MODEL --from PLACE: learn from the images that people have corrected.

MODEL is a registered model (models:/NAME@champion) or a search, whose answer is then the champion.
PLACE, a folder or s3://BUCKET/PREFIX, holds the records of what it met. Corrected images join its
training part; its validation and test part stay as they are. Challengers are trained, the best is
held against the champion by paired tests, on the old test images and on new images that nothing
was trained on, and becomes the champion only if it is better on the new and not worse on the old.
An improvement that was cut off goes on when it is called again.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from search.cli.face import Face
from search.cli.prompt import TerminalTalk
from search.operations.improve import ImproveRequest, improve, improvement_plan
from search.values.option import flag, group
from search.views.terminal import Terminal, say
from trainables.values import Json


@dataclass(frozen=True, kw_only=True)
class ImproveOptions:
    """The options of the command line."""

    request: ImproveRequest = group(ImproveRequest)
    dry_run: bool = flag(
        "say which images would join, the plan, and what it takes to tell; start nothing",
        before="allow_change",
    )
    json: bool = flag("print the result as one JSON object, the last line")


def command(options: ImproveOptions) -> int:
    """Improve the model, or plan that, print the decision or the plan; return the exit code."""
    if options.dry_run:
        plan = improvement_plan(options.request, TerminalTalk())
        print_outcome(plan.lines, plan.facts if options.json else None)
        return 0
    improvement = improve(options.request, TerminalTalk())
    print_outcome(improvement.lines, improvement.decision if options.json else None)
    return improvement.exit_code


def print_outcome(lines: Sequence[str], facts: Json | None) -> None:
    """Print lines, or with facts the lines on stderr and the facts as JSON on stdout."""
    console = Terminal(stderr=facts is not None)
    for line in lines:
        say(console, line)
    if facts is not None:
        print(json.dumps(facts))


FACE = Face("improve", ImproveOptions, command, __doc__)
main = FACE.main

if __name__ == "__main__":
    raise SystemExit(main())
