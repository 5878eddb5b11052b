"""python -m search.refine NAME: go on with a search that has come to its end, in rounds.

Each round searches a space made from what was observed so far. Where a parameter's effect is clear,
its range is narrowed to what is around the best, or new values are put between the old ones; where
the best lies at an edge, the range is widened beyond it, and that is said. It ends with the first
round whose gain is within noise. All trials are the search's own. A refinement that was cut off
goes on when it is called again, or with search.resume.
"""

from dataclasses import dataclass

from search.cli.face import Face
from search.operations.refine import RefineRequest, next_space, refine
from search.process.lifetime import leave
from search.values.option import flag, group
from search.views.terminal import Terminal, say


@dataclass(frozen=True, kw_only=True)
class RefineOptions:
    """The options of the command line."""

    request: RefineRequest = group(RefineRequest)
    dry_run: bool = flag("print what the next round would change; start nothing")
    json: bool = flag("print the result as one JSON object, the last line")


def command(options: RefineOptions) -> int:
    """Refine the search, which prints the result, or print the next space; return the exit code."""
    if options.dry_run:
        for line in next_space(options.request).lines():
            say(Terminal(), line)
        return 0
    return refine(options.request, as_json=options.json).exit_code


FACE = Face("refine", RefineOptions, command, __doc__)
main = FACE.main

if __name__ == "__main__":
    leave(main())
