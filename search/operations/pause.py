"""Pauses a search: each trial finishes its epoch, then the process of the search ends."""

from dataclasses import dataclass

from search.journal.requests import PAUSE, DriverRequest
from search.operations.asking import DriverAsk, DriverReply, ask_driver
from search.operations.talk import SILENT, Talk


@dataclass(frozen=True, kw_only=True)
class PauseRequest(DriverAsk):
    """The search to pause."""


def pause(request: PauseRequest, talk: Talk = SILENT) -> DriverReply:
    """Ask the driver of a search to pause it (see `ask_driver`)."""
    return ask_driver(request, DriverRequest.now(PAUSE), talk)
