"""Options of the requests that continue a search: its limits, and how and where it continues."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search.design.budget import FORMS, Limit, limit_option
from search.journal.keeping import KEEP_HELP
from search.journal.store import own_path
from search.preflight.overrides import Overrides
from search.values.executors import EXECUTOR_HELP, count_or_auto
from search.values.option import flag, option, repeated


def keep_option() -> str | None:
    """Declare the option `--keep` of a verb that continues a search."""
    what: str | None = option(f"{KEEP_HELP} (default: as before)", metavar="WHAT")
    return what


def change_option(what: str) -> bool:
    """Declare the flag `--allow-change`, which continues a search although `what` has changed."""
    allowed: bool = flag(f"continue although {what} has changed")
    return allowed


@dataclass(frozen=True, kw_only=True)
class UsageLimits:
    """The limits on what trainings may use: a budget, and the price of device time.

    The help texts of these options have two placeholders, which `group` replaces: `{of}` says what
    is limited, and `{default}` is the default.
    """

    budget: tuple[Limit, ...] = repeated(
        f"{{of}}: {FORMS}. When it is used up, no trial starts, and each running trial stops "
        "after its epoch; of several (--budget 2h --budget 500epochs), the first that is used up "
        "counts{default}",
        metavar="LIMIT",
        parse=limit_option,
    )
    price: float | None = option(
        "the cost of an hour of one device (a GPU if trials have one, else a CPU core), for a "
        "budget in usd{default}",
        metavar="MONEY",
        parse=float,
    )


def min_gain_option(default: float | None, before: str = "", *, section: str = "") -> Any:
    """Declare the option `--min-gain`.

    Args:
        default: the default value.
        before: the default in words, for the help of a verb that continues a search.
        section: the heading of the option in the help.
    """
    return option(
        "start no more trials when the planned ones are expected to gain less than this, in "
        "points (hundredths) of the metric (log loss: in its own unit); 0: start all of "
        f"them{before}",
        metavar="POINTS",
        parse=float,
        default=default,
        section=section,
    )


def stop_at_chance_option(default: int | None, before: str = "", *, section: str = "") -> Any:
    """Declare the option `--stop-at-chance`; see `min_gain_option` for the arguments."""
    return option(
        "start no more trials when N have a result and the best of them is not significantly "
        f"better than guessing; 0: start all of them{before}",
        metavar="N",
        parse=int,
        default=default,
        section=section,
    )


@dataclass(frozen=True, kw_only=True)
class Where:
    """The options that determine how and where a search continues.

    In their help texts, `group` replaces `{before}` with the default in words.
    """

    concurrency: int | str | None = option(
        "trainings at once, or auto (default: {before})", metavar="N", parse=count_or_auto
    )
    hang_timeout: float | None = option(
        "as for search.run (default: {before})", metavar="SECONDS", parse=float
    )
    address: str | None = option(
        "local, or a running Ray cluster (default: {before})", metavar="ADDRESS"
    )
    executor: str | None = option(f"{EXECUTOR_HELP} (default: {{before}})", metavar="NAME")
    tracking: str | None = option("MLflow's tracking URI (default: {before})", metavar="URI")
    download: bool = flag("download the data set and the initial weights if they are missing")
    data_root: Path | None = option(
        "where the data is now (default: {before})", metavar="DIR", parse=own_path
    )

    def overrides(self, limits: UsageLimits, **values: object) -> Overrides:
        """Combine these options and `limits` into overrides of a recorded experiment.

        `values` are further fields of `Overrides`.
        """
        return Overrides(
            concurrency=self.concurrency,
            hang_timeout=self.hang_timeout,
            address=self.address,
            executor=self.executor,
            tracking=self.tracking,
            download=self.download,
            data_root=self.data_root,
            budget=limits.budget,
            price=limits.price,
            **values,  # type: ignore[arg-type]
        )
