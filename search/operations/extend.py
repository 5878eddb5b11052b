"""Changes the number of trials, the budget and the concurrency of a running search."""

from dataclasses import dataclass

from search.design.budget import FORMS
from search.journal.requests import EXTEND, DriverRequest
from search.operations.asking import DriverAsk, DriverReply, ask_driver
from search.operations.talk import SILENT, Talk
from search.values.option import option, repeated


@dataclass(frozen=True, kw_only=True)
class ExtendRequest(DriverAsk):
    """The new limits of a running search."""

    trials: str = option(
        "total number of trials, or with + the number of additional ones; not fewer than have "
        "started",
        metavar="N",
        default="",
    )
    budget: tuple[str, ...] = repeated(
        f"a limit that replaces all of its kind, or with + an addition to each of them: {FORMS}",
        metavar="LIMIT",
    )
    price: float | None = option("the cost of an hour of one device", metavar="MONEY", parse=float)
    concurrency: int | None = option(
        "number of trainings at once, if there is room for them", metavar="N", parse=int
    )


def extend(request: ExtendRequest, talk: Talk = SILENT) -> DriverReply:
    """Ask the driver of a search to change its limits (see `ask_driver`)."""
    change = DriverRequest.now(
        EXTEND,
        trials=request.trials,
        budget=request.budget,
        price=request.price,
        concurrency=request.concurrency,
    )
    return ask_driver(request, change, talk)
