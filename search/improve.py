"""python -m search.improve MODEL --from PLACE: learn from the images that people have corrected.

MODEL is a registered model (models:/NAME@champion) or a search, whose answer is then the champion.
PLACE, a folder or s3://BUCKET/PREFIX, contains the records of the images that it received.
Corrected images join its training set; its validation set and its test set stay as they are.
Challengers are trained, and the best one is compared with the champion by paired tests, on the old
test images and on new images that no model was trained on. It becomes the champion only if it is
better on the new images and not worse on the old ones. To continue an improvement that was cut off,
run the same command again.
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
        "print which images would be added, the plan, and the number of images that is needed to "
        "detect an improvement; start nothing",
        before="allow_change",
    )
    json: bool = flag("print the result as one JSON object on the last line")


def command(options: ImproveOptions) -> int:
    """Improve the model or plan the improvement, print the result, and return the exit code."""
    if options.dry_run:
        plan = improvement_plan(options.request, TerminalTalk())
        print_outcome(plan.lines, plan.facts if options.json else None)
        return 0
    improvement = improve(options.request, TerminalTalk())
    print_outcome(improvement.lines, improvement.decision if options.json else None)
    return improvement.exit_code


def print_outcome(lines: Sequence[str], facts: Json | None) -> None:
    """Print lines; with facts, print the lines on stderr and the facts as JSON on stdout."""
    console = Terminal(stderr=facts is not None)
    for line in lines:
        say(console, line)
    if facts is not None:
        print(json.dumps(facts))


FACE = Face("improve", ImproveOptions, command, __doc__)
main = FACE.main

if __name__ == "__main__":
    raise SystemExit(main())
