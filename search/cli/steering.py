"""The command lines of pause, stop and extend, which send a request and print the reply."""

from collections.abc import Callable
from typing import TypeVar

from cluster.exit_codes import ExitCode
from search.cli.face import Face
from search.operations.asking import DriverAsk, DriverReply
from search.operations.talk import SilentTalk, Talk
from trainables.errors import printable

Ask = TypeVar("Ask", bound=DriverAsk)


class _Printed(SilentTalk):
    """Prints notes on stdout, with the name of the search."""

    def __init__(self, name: str) -> None:
        self._name = name

    def note(self, text: str) -> None:
        print(printable(f"{self._name}: {text}"), flush=True)


def steering_face(
    verb: str,
    request_type: type[Ask],
    operation: Callable[[Ask, Talk], DriverReply],
    description: str | None,
) -> Face[Ask]:
    """Build the command line of a verb that sends a request to a driver and prints its reply."""

    def command(request: Ask) -> int:
        talk = _Printed(request.name)
        reply = operation(request, talk)
        talk.note(reply.text)
        return ExitCode.INTERRUPTED if reply.was_interrupted else ExitCode.SUCCESS

    return Face(verb, request_type, command, description)
