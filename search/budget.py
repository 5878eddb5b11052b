"""What a search may use, in time, epochs, device time or money: `--budget 2h --budget 10gpu-hours`.
The first limit that is used up ends it.

How much is used is computed from the journal's facts. Device time is what trials hold: from the
moment that one runs until it ends or leaves its place, times the CPUs or GPUs of its workers;
trials that share a worker share what it holds. Ray's start, idle places and the evaluation at the
end count as time alone.
"""

import argparse
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from cluster.runtime.resources import Demand
from search.journal.result import SearchResult
from trainables.errors import ConfigError

TIME = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
DEVICE_TIME = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}
UNITS = {
    "time": "s",
    "epochs": "epochs",
    "cpu": "cpu-seconds",
    "gpu": "gpu-seconds",
    "device": "device-seconds",
}
FORMS = "90s, 30m, 2h, 1d; 500epochs; 10gpu-hours, 10cpu-hours, 3600device-seconds; 20usd"
NUMBER = r"(?P<number>\d+(?:\.\d*)?(?:e[+-]?\d+)?)"
FORM = re.compile(
    rf"{NUMBER} ?(?:(?P<time>[smhd])|(?P<epochs>epochs?)|(?P<device>cpu|gpu|device)-(?P<unit>second|minute|hour|day)s?|(?P<money>usd))",
    re.ASCII,
)


@dataclass(frozen=True)
class Limit:
    """One limit."""

    text: str
    """As it was written, in the same form: `2h`, `500 epochs`, `20 usd`."""
    of: str
    """time, epochs, cpu, gpu, device or money."""
    amount: float
    """Seconds, epochs, seconds of so many devices, or money."""

    def __str__(self) -> str:
        return self.text


def limit(text: str) -> Limit:
    """The limit that a text names.

    Raises:
        ConfigError: it names none.
    """
    plain = text.strip().lower()
    plain = f"{plain[1:]}usd" if plain.startswith("$") else plain
    found = FORM.fullmatch(plain)
    if found is None:
        raise ConfigError(f"--budget takes {FORMS} (got '{text[:80]}').")
    amount, of = (
        float(found["number"]),
        next(name for name in ("time", "epochs", "device", "money") if found[name]),
    )
    amount *= (
        TIME[found["time"]] if of == "time" else DEVICE_TIME[found["unit"]] if of == "device" else 1
    )
    if not 0 < amount < math.inf:
        raise ConfigError(f"--budget must be > 0 and finite (got '{text[:80]}').")
    if of == "epochs" and not amount.is_integer():
        raise ConfigError(f"--budget takes whole epochs (got '{text[:80]}').")
    unit = plain[found.end("number") :].strip()
    return Limit(
        f"{found['number']}{'' if of == 'time' else ' '}{unit}",
        found["device"] if of == "device" else of,
        amount,
    )


@dataclass(frozen=True)
class Budget:
    """All limits of a search; without one it may use whatever it needs. `price` is what an hour of
    a device costs.
    """

    limits: tuple[Limit, ...] = ()
    price: float | None = None

    @classmethod
    def of(cls, description: Mapping[str, Any]) -> Self:
        """The inverse of `describe`. Version 0.1 knew seconds alone, under another name.

        Raises:
            ConfigError: the description is nonsense.
        """
        old = description.get("time_budget")
        texts = [f"{old:.15g}s"] if old else description.get("budget", [])
        return cls(tuple(limit(text) for text in texts), description.get("price"))

    def describe(self) -> dict[str, Any]:
        """Plain values, for the journal."""
        return {"budget": [one.text for one in self.limits], "price": self.price}

    def check(self, demand: Demand) -> None:
        """See that each limit can be measured for trials of this demand.

        Raises:
            ConfigError: one cannot.
        """
        if self.price is not None and not 0 < self.price < math.inf:
            raise ConfigError(
                f"--price must be > 0 (got {self.price:g}): what an hour of one device costs."
            )
        for one in self.limits:
            if one.of == "money" and self.price is None:
                raise ConfigError(
                    f"--budget {one} needs the price of an hour of one device (a GPU if trials have one, else a CPU core). Add --price, as 1.20."
                )
            if one.of == "gpu" and not demand.gpus:
                raise ConfigError(
                    f"--budget {one}: the trials use no GPU. Use cpu-hours, or --device cuda."
                )

    def used(
        self, of: str, result: SearchResult, demand: Demand, wall_s: float | None = None
    ) -> float:
        """How much the search has used, in the unit of such a limit; `wall_s` is the time of all
        sessions where the journal's last event is too old.
        """
        match of:
            case "time":
                return result.wall_s if wall_s is None else wall_s
            case "epochs":
                return result.epochs_trained
            case "money":
                return self.used("device", result, demand) / 3600 * (self.price or 0)
            case "gpu":
                return (
                    demand.gpus
                    * demand.workers
                    * sum(
                        session.trials_s / (session.members * session.per_gpu)
                        for session in result.sessions
                    )
                )
            case "cpu":
                return (
                    demand.cpus
                    * demand.workers
                    * sum(session.trials_s / session.members for session in result.sessions)
                )
        return self.used(device_of(demand), result, demand)

    def from_now(self, result: SearchResult, demand: Demand) -> Self:
        """The same limits beside what the search has used before."""
        amounts = ((one, one.amount + self.used(one.of, result, demand)) for one in self.limits)
        return replace(
            self,
            limits=tuple(
                limit(
                    f"{amount:.12g}usd"
                    if one.of == "money"
                    else f"{math.ceil(amount)}{UNITS[one.of]}"
                )
                for one, amount in amounts
            ),
        )

    def spent(
        self, result: SearchResult, demand: Demand, *, wall_s: float, ahead: int
    ) -> Limit | None:
        """The first limit that is used up, if so many epochs are being trained, which will be
        counted; None while there is something left.
        """
        for one in self.limits:
            if (
                self.used(one.of, result, demand, wall_s) + (ahead if one.of == "epochs" else 0)
                >= one.amount
            ):
                return one
        return None

    @property
    def time(self) -> Limit | None:
        """The shortest limit of time; None without one."""
        limits = (one for one in self.limits if one.of == "time")
        return min(limits, key=lambda one: one.amount, default=None)

    def shares(
        self, result: SearchResult, demand: Demand, wall_s: float | None = None
    ) -> dict[str, float]:
        """How much of each limit the search has used, as shares, by its text; `wall_s` as `used`
        takes it.
        """
        return {
            one.text: self.used(one.of, result, demand, wall_s) / one.amount for one in self.limits
        }

    def per_epoch(self, of: str, demand: Demand, *, epoch_s: float, at_once: int) -> float:
        """How much one epoch of a trial takes of such a limit, if it lasts so long and so many
        trials run at once.
        """
        match of:
            case "time":
                return epoch_s / at_once
            case "epochs":
                return 1
            case "money":
                return (
                    self.per_epoch("device", demand, epoch_s=epoch_s, at_once=at_once)
                    / 3600
                    * (self.price or 0)
                )
        devices = (
            demand.gpus if (device_of(demand) if of == "device" else of) == "gpu" else demand.cpus
        )
        return epoch_s * devices * demand.workers


def device_of(demand: Demand) -> str:
    """What counts as a device for trials of this demand: the GPU where they have one, else the CPU
    core.
    """
    return "gpu" if demand.gpus else "cpu"


def shares_of(result: SearchResult, wall_s: float | None = None) -> dict[str, float]:
    """The shares of its budget that a search has used, from its journal alone (but for `wall_s`,
    which `used` takes); empty without a budget.
    """
    facts = result.started["experiment"] if result.started else {}
    if not facts.get("budget") and not facts.get("time_budget"):
        return {}
    demand = Demand(
        cpus=facts["cpus_per_trial"], gpus=facts["gpus_per_trial"], workers=facts["workers"]
    )
    return Budget.of(facts).shares(result, demand, wall_s)


def shares_text(shares: Mapping[str, float]) -> str:
    """`43% of 2h, 12% of 500 epochs`; empty without a budget."""
    return ", ".join(f"{share:.0%} of {text}" for text, share in shares.items())


def budget_options(
    group: Any,
    before: str = "",
    *,
    of: str = "what all sessions together may use",
    gain: bool = True,
) -> None:
    """Add the options that say what a search may use, and, with `gain`, when more is not worth
    while; `before` says what holds where they are left out.
    """
    default = f" (default: {before})" if before else ""
    group.add_argument(
        "--budget",
        action="append",
        type=_option,
        metavar="LIMIT",
        default=[],
        help=f"{of}: {FORMS}. When it is used up nothing is started, and each trial stops after its epoch; "
        f"of several (--budget 2h --budget 500epochs) the first to be used up counts{default}",
    )
    group.add_argument(
        "--price",
        type=float,
        metavar="MONEY",
        help=f"what an hour of one device costs (a GPU if trials have one, else a CPU core), for a budget in usd{default}",
    )
    if not gain:
        return
    group.add_argument(
        "--min-gain",
        type=float,
        metavar="POINTS",
        default=None if before else 0,
        help=f"start no more trials once those that are planned are expected to gain less, in points of validation accuracy; 0: start them all{default}",
    )


def _option(text: str) -> Limit:
    """The same as an option's type."""
    try:
        return limit(text)
    except ConfigError as error:
        raise argparse.ArgumentTypeError(
            str(error).removeprefix("--budget ").removesuffix(".")
        ) from None
