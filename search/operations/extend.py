"""Changes the trials, the budget and the concurrency of a running search."""

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
        "as many trials in all, or with + as many more; not fewer than have begun",
        metavar="N",
        default="",
    )
    budget: tuple[str, ...] = repeated(
        f"a limit in place of all of its kind, or with + as much more of each: {FORMS}",
        metavar="LIMIT",
    )
    price: float | None = option("what an hour of one device costs", metavar="MONEY", parse=float)
    concurrency: int | None = option(
        "trainings at once, as far as there is room for them", metavar="N", parse=int
    )


def extend(request: ExtendRequest, talk: Talk = SILENT) -> DriverReply:
    """Ask the driver of a search for other limits (see `ask_driver`)."""
    change = DriverRequest.now(
        EXTEND,
        trials=request.trials,
        budget=request.budget,
        price=request.price,
        concurrency=request.concurrency,
    )
    return ask_driver(request, change, talk)
