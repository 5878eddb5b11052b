"""python -m search.delete NAME: delete a search, its checkpoints and its runs in MLflow.

It prints what would be deleted and what would be kept, and asks for confirmation. Without a
terminal, pass --yes.
"""

import json
from dataclasses import asdict, dataclass

from search.cli.face import Face
from search.cli.prompt import TerminalTalk, can_ask, confirm
from search.operations.delete import DeleteRequest, delete
from search.operations.deletion import Deletion, deletion_lines, purge_text
from search.values.option import flag, group
from search.views.terminal import Terminal, say
from trainables.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class DeleteOptions:
    """The options of the command line."""

    request: DeleteRequest = group(DeleteRequest)
    yes: bool = flag("do not ask for confirmation", before="keep_runs")
    json: bool = flag("print what was deleted as one JSON object")


def command(options: DeleteOptions) -> int:
    """Print what would be deleted, ask for confirmation, delete it; return the exit code."""
    console, talk = Terminal(), TerminalTalk()

    def confirmed(deletion: Deletion) -> bool:
        if not options.json:
            for line in deletion_lines(deletion):
                say(console, line)
        if not options.yes and not can_ask():
            raise ConfigError(
                "nothing was deleted, because the confirmation needs a terminal. Pass --yes to "
                f"delete '{deletion.name}' without confirmation."
            )
        return options.yes or confirm(f"Delete '{deletion.name}'?", yes=False)

    deletion = delete(options.request, confirm=confirmed, talk=talk)
    if deletion is None:
        talk.note("nothing was deleted")
    elif options.json:
        print(json.dumps(asdict(deletion)))
    else:
        say(console, f"{deletion.name} was deleted")
        if deletion.traces is not None and deletion.traces.runs:
            purge = purge_text(deletion.traces.uri)
            say(console, f"  MLflow keeps deleted runs. To remove them permanently: {purge}")
    return 0


FACE = Face("delete", DeleteOptions, command, __doc__)
main = FACE.main

if __name__ == "__main__":
    raise SystemExit(main())
