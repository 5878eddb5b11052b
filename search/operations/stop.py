"""Stops one trial, or a whole search, after the current epoch."""

from dataclasses import dataclass

from search.journal.requests import STOP, DriverRequest
from search.operations.asking import DriverAsk, DriverReply, ask_driver
from search.operations.talk import SILENT, Talk
from search.values.option import positional


@dataclass(frozen=True, kw_only=True)
class StopRequest(DriverAsk):
    """The search to stop, or one of its trials."""

    trial: str | None = positional(
        "the trial, such as t0001; if left out, the whole search stops", metavar="TRIAL", nargs="?"
    )


def stop(request: StopRequest, talk: Talk = SILENT) -> DriverReply:
    """Ask the driver of a search to stop it, or one trial (see `ask_driver`)."""
    return ask_driver(request, DriverRequest.now(STOP, trial=request.trial or ""), talk)
