"""python -m search.list: list the searches in a storage, the newest first."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from search.cli.face import Face
from search.operations.list import ListRequest, list_searches
from search.values.message import Remedy, Start
from search.values.option import flag, group
from search.views.overview_table import overview_table
from search.views.terminal import Terminal, say


@dataclass(frozen=True, kw_only=True)
class ListOptions:
    """The options of the command line."""

    request: ListRequest = group(ListRequest)
    json: bool = flag("print one JSON list, with an object for each search")


def command(options: ListOptions) -> int:
    """Print the table of searches, or JSON with --json, and return the exit code."""
    overviews = list_searches(options.request)
    if options.json:
        print(json.dumps([asdict(overview) for overview in overviews]))
        return 0
    console = Terminal()
    if not overviews:
        start_one, place = Remedy("run", start=Start.ANYWHERE), options.request.storage
        place = place.absolute() if isinstance(place, Path) else place
        say(console, f"there are no searches in '{place}'. Start a search with: {start_one}")
        return 0
    console.print(overview_table(overviews), markup=False)
    for overview in overviews:
        if overview.trouble:
            say(console, f"the search '{overview.name}' cannot be read: {overview.trouble}")
    return 0


FACE = Face("list", ListOptions, command, __doc__)
main = FACE.main

if __name__ == "__main__":
    raise SystemExit(main())
