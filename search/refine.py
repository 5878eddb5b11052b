"""python -m search.refine NAME: continue a search that has finished, in rounds.

Each round searches a space that is derived from the observations so far. Where a parameter's effect
is clear, its range is narrowed around the best value, or new values are inserted between the old
ones. Where the best value is at an edge, the range is widened beyond it, and this is reported. The
refinement ends with the first round whose gain is within noise. All trials belong to the search. To
continue a refinement that was cut off, run the same command again, or search.resume.
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
    json: bool = flag("print the result as one JSON object on the last line")


def command(options: RefineOptions) -> int:
    """Refine the search, or print the next space with --dry-run; return the exit code."""
    if options.dry_run:
        for line in next_space(options.request).lines():
            say(Terminal(), line)
        return 0
    return refine(options.request, as_json=options.json).exit_code


FACE = Face("refine", RefineOptions, command, __doc__)
main = FACE.main

if __name__ == "__main__":
    leave(main())
