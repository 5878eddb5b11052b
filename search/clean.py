"""python -m search.clean NAME: remove checkpoints of a search that has finished.

It first prints what it would remove, how much space that frees, and what is no longer possible
without it. The results, the page and MLflow stay as they are.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from search.cli.face import Face
from search.cli.prompt import can_ask, confirm
from search.journal.keeping import Removable, totals_by_kind
from search.operations.clean import CleanRequest, clean, removable_checkpoints, size_of
from search.operations.talk import SilentTalk
from search.values.option import flag, group
from search.views.removable_table import removable_table
from search.views.terminal import Terminal, say
from trainables.errors import ConfigError
from trainables.machine import size_text


@dataclass(frozen=True, kw_only=True)
class CleanOptions:
    """The options of the command line."""

    request: CleanRequest = group(CleanRequest)
    dry_run: bool = flag("print what would be removed, and exit")
    yes: bool = flag("do not ask for confirmation")
    json: bool = flag("print the result as one JSON object on the last line")


def command(options: CleanOptions) -> int:
    """Print the removable checkpoints, ask for confirmation, remove them; return the exit code."""
    request, console = options.request, Terminal(stderr=options.json)
    removable = removable_checkpoints(request)
    size, removed_bytes, keep = size_of(removable), 0, request.keep
    if not removable:
        say(console, f"no checkpoints of '{request.name}' can be removed with --keep {keep}")
    else:
        say(
            console,
            f"with --keep {keep}, {size_text(size)} of checkpoints of '{request.name}' can be "
            "removed",
        )
        console.print(removable_table(removable))
    if removable and not options.dry_run and (options.yes or confirm_removal(request.name, size)):
        removed_bytes = clean(request, _Notes(console))
        say(console, f"{size_text(removed_bytes)} of checkpoints were removed")
    elif removable:
        say(console, "nothing was removed")
    if options.json:
        print(json.dumps(as_json(removable, removed_bytes)))
    return 0


class _Notes(SilentTalk):
    """Prints notes on the console of the command."""

    def __init__(self, console: Terminal) -> None:
        self._console = console

    def note(self, text: str) -> None:
        say(self._console, text)


def confirm_removal(name: str, size: int) -> bool:
    """Ask the user to confirm the removal of `size` bytes; True if the answer is yes.

    Raises:
        ConfigError: the command does not run at a terminal.
    """
    if not can_ask():
        raise ConfigError(
            "nothing was removed, because the confirmation needs a terminal. Pass --yes to remove "
            "the checkpoints without confirmation, or --dry-run to list them."
        )
    return confirm(f"Remove {size_text(size)} of checkpoints of '{name}'?", yes=False)


def as_json(removable: Sequence[Removable], size: int) -> dict[str, object]:
    """Describe the removable checkpoints and the removed bytes as JSON-compatible values."""
    kinds = {
        kind.title: {"trials": trials, "bytes": bytes_}
        for kind, (trials, bytes_) in totals_by_kind(removable).items()
    }
    return {"removable": kinds, "removed_bytes": size}


FACE = Face("clean", CleanOptions, command, __doc__)
main = FACE.main

if __name__ == "__main__":
    raise SystemExit(main())
