"""python -m search.select NAME: choose one of the best few trials of a search, and test it.

The trials are trained again with fresh seeds and compared; one of them is chosen, and evaluated on
the sealed test set.

The value of the best trial of a search is too optimistic, because the best of many was lucky. A
selection reports the value to expect, and of which network. To continue a selection that was cut
off, run the same command again; with another --top, --seeds or --alpha, the candidates are compared
again, based on the existing trainings.
"""

import json
from dataclasses import asdict, dataclass

from search.cli.face import Face
from search.operations.select import SelectRequest, select, selection_cost
from search.process.lifetime import leave
from search.values.option import flag, group
from search.views.terminal import Terminal, say


@dataclass(frozen=True, kw_only=True)
class SelectOptions:
    """The options of the command line."""

    request: SelectRequest = group(SelectRequest)
    dry_run: bool = flag(
        "print what it would train and how long that takes, and exit", before="allow_change"
    )
    json: bool = flag("print the result as one JSON object on the last line")


def command(options: SelectOptions) -> int:
    """Select a trial and print it, or print the cost with --dry-run; return the exit code."""
    if options.dry_run:
        print_cost(options)
        return 0
    return select(options.request, as_json=options.json).exit_code


def print_cost(options: SelectOptions) -> None:
    """Print the candidates and the cost of the selection, or a line if nothing is left to do."""
    preview = selection_cost(options.request)
    if preview.cost is None:
        say(Terminal(stderr=True), str(preview))
        return
    if preview.note:
        say(Terminal(stderr=True), preview.note)
    facts = {"candidates": preview.candidates, **asdict(preview.cost)}
    print(json.dumps(facts) if options.json else preview)


FACE = Face("select", SelectOptions, command, __doc__)
main = FACE.main

if __name__ == "__main__":
    leave(main())
