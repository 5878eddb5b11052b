"""python -m search.status NAME: show the progress of a search, and why trials were stopped."""

import json
from dataclasses import dataclass

from search.cli.face import Face
from search.cli.follow import Follow
from search.facts.standing import SearchStanding, standing_json
from search.operations.status import StatusRequest, status
from search.values.option import flag, group
from search.views.standing import SHOWN_TRIALS, rows_left, status_lines, trials_table
from search.views.terminal import Terminal, say
from trainables.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class StatusOptions:
    """The options of the command line."""

    request: StatusRequest = group(StatusRequest)
    all: bool = flag("show all trials")
    follow: bool = flag(
        "follow the search until it ends: redraw the table on a terminal, otherwise print a line "
        "for each change"
    )
    json: bool = flag("print one JSON object")


def command(options: StatusOptions) -> int:
    """Print the state of the search, or follow it with --follow, and return the exit code."""
    request = options.request
    if options.follow:
        home = request.home()
        if options.json or options.all:
            raise ConfigError(
                "--follow cannot be combined with --json or --all. Use --follow "
                "without them, or leave it out."
            )
        return Follow(request.name, home, request.storage).run()
    standing = status(request)
    if options.json:
        print(json.dumps(standing_json(standing)))
    else:
        _print_standing(standing, shows_all=options.all)
    return 0


def _print_standing(standing: SearchStanding, *, shows_all: bool) -> None:
    console, lines, trials = Terminal(), status_lines(standing), standing.result.trials
    for line in lines:
        say(console, line)
    if trials:
        count = len(trials) if shows_all else SHOWN_TRIALS
        rows = rows_left(console, lines) if console.is_terminal and not shows_all else None
        console.print(trials_table(standing.result, count, rows=rows), markup=False)


FACE = Face("status", StatusOptions, command, __doc__)
main = FACE.main

if __name__ == "__main__":
    raise SystemExit(main())
