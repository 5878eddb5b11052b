"""A search's budget in time, epochs, device time or money: `--budget 2h --budget 10gpu-hours`.

The search ends as soon as one of its limits is used up.

The usage is computed from the journal. The device time of a trial is the time during which it
occupies a slot, multiplied by the CPUs or GPUs of its workers. Trials that share a worker share its
devices. The start of Ray, idle slots and the evaluation at the end count as time, but not as device
time.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from cluster.runtime.resources import Demand
from search.journal.result import SearchResult
from trainables.errors import ConfigError
from trainables.values import Json

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
    rf"{NUMBER} ?(?:(?P<time>s(?:ec(?:ond)?s?)?|m(?:in(?:ute)?s?)?|h(?:(?:ou)?rs?)?|d(?:ays?)?)"
    r"|(?P<epochs>epochs?)"
    r"|(?P<device>cpu|gpu|device)-(?P<unit>second|minute|hour|day)s?|(?P<money>usd))",
    re.ASCII,
)


@dataclass(frozen=True)
class Limit:
    """One limit of a budget."""

    text: str
    """The limit as the user wrote it, with normalised units: `2h`, `500 epochs`, `20 usd`."""
    of: str
    """The kind of limit: time, epochs, cpu, gpu, device or money."""
    amount: float
    """The amount, in the unit of the kind: seconds, epochs, device-seconds or money."""

    def __str__(self) -> str:
        return self.text

    def plus(self, amount: float) -> "Limit":
        """Return the limit, increased by an amount in its unit; the sum is rounded up.

        A sum of money is not rounded.
        """
        if self.of == "money":
            return limit(f"{self.amount + amount:.12g}usd")
        total = math.ceil(self.amount + amount)
        if self.of == "epochs":
            return limit(f"{total}epochs")
        # Use the largest unit without a remainder: 3h instead of 10800s.
        units = TIME if self.of == "time" else DEVICE_TIME
        unit = next(unit for unit in reversed(units) if total % units[unit] == 0)
        kind = unit if self.of == "time" else f"{self.of}-{unit}s"
        return limit(f"{total // units[unit]}{kind}")


def limit(text: str) -> Limit:
    """Parse a limit, such as `2h`, `2 hours` or `10gpu-hours`.

    Raises:
        ConfigError: the text is not a limit.
    """
    plain = text.strip().lower()
    plain = f"{plain[1:]}usd" if plain.startswith("$") else plain
    match = FORM.fullmatch(plain)
    if match is None:
        raise ConfigError(f"--budget must have one of these forms: {FORMS} (got '{text[:80]}').")
    amount, of = (
        float(match["number"]),
        next(name for name in ("time", "epochs", "device", "money") if match[name]),
    )
    if of == "time":
        amount *= TIME[match["time"][0]]
    elif of == "device":
        amount *= DEVICE_TIME[match["unit"]]
    if not 0 < amount < math.inf:
        raise ConfigError(f"--budget must be > 0 and finite (got '{text[:80]}').")
    if of == "epochs" and not amount.is_integer():
        raise ConfigError(f"--budget must be a whole number of epochs (got '{text[:80]}').")
    unit = match["time"][0] if of == "time" else plain[match.end("number") :].strip()
    return Limit(
        f"{match['number']}{'' if of == 'time' else ' '}{unit}",
        match["device"] if of == "device" else of,
        amount,
    )


@dataclass(frozen=True)
class Budget:
    """All limits of a search; there may be none. `price` is the price of one device per hour."""

    limits: tuple[Limit, ...] = ()
    price: float | None = None

    @classmethod
    def of(cls, description: Mapping[str, Any]) -> Self:
        """Create a budget from a description by `describe`.

        Descriptions by version 0.1 have only a number of seconds, `time_budget`.

        Raises:
            ConfigError: the description is not valid.
        """
        old = description.get("time_budget")
        texts = [f"{old:.15g}s"] if old else description.get("budget", [])
        return cls(tuple(limit(text) for text in texts), description.get("price"))

    def describe(self) -> Json:
        """Describe the budget as JSON values, for the journal."""
        return {"budget": [limit.text for limit in self.limits], "price": self.price}

    @property
    def is_priced(self) -> bool:
        """True if a limit is in money, which requires the price."""
        return any(limit.of == "money" for limit in self.limits)

    def with_limits(self, replacements: Sequence[Limit]) -> Self:
        """Return this budget with `replacements` instead of its limits of the same kinds."""
        kinds = {limit.of for limit in replacements}
        return replace(
            self, limits=(*(limit for limit in self.limits if limit.of not in kinds), *replacements)
        )

    def check(self, demand: Demand) -> None:
        """Check that the usage of each limit can be measured for trials with this demand.

        Raises:
            ConfigError: a limit needs a price or a GPU that is missing, or the price is not valid.
        """
        if self.price is not None and not 0 < self.price < math.inf:
            raise ConfigError(
                f"--price must be positive and finite (got {self.price:g}). The price is the cost "
                "of one device per hour."
            )
        for limit in self.limits:
            if limit.of == "money" and self.price is None:
                raise ConfigError(
                    f"--budget {limit} requires the price of one device per hour (a GPU if trials "
                    "use GPUs, otherwise a CPU core). Add the price, for example --price 1.20."
                )
            if limit.of == "gpu" and not demand.gpus:
                raise ConfigError(
                    f"--budget {limit} limits GPU time, but the trials do not use a GPU. Use a "
                    "limit in cpu-hours, or --device cuda."
                )

    def used(
        self, of: str, result: SearchResult, demand: Demand, wall_s: float | None = None
    ) -> float:
        """Return the search's usage so far, in the unit of a limit of kind `of`.

        `wall_s` is the duration of all sessions in seconds. With None it is computed from the
        journal, without the time since the last event.
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
        """Return this budget with each limit increased by the search's usage so far."""
        used = ((limit, self.used(limit.of, result, demand)) for limit in self.limits)
        return replace(self, limits=tuple(limit.plus(amount) for limit, amount in used))

    def spent(
        self, result: SearchResult, demand: Demand, *, wall_s: float, ahead: int
    ) -> Limit | None:
        """Return the first limit that is used up; None if there is none.

        `wall_s` is the duration of all sessions in seconds. `ahead` is the number of epochs that
        are being trained now; they count as used.
        """
        for limit in self.limits:
            if (
                self.used(limit.of, result, demand, wall_s) + (ahead if limit.of == "epochs" else 0)
                >= limit.amount
            ):
                return limit
        return None

    @property
    def time(self) -> Limit | None:
        """The shortest time limit; None if there is no time limit."""
        limits = (limit for limit in self.limits if limit.of == "time")
        return min(limits, key=lambda limit: limit.amount, default=None)

    def shares(self, result: SearchResult, demand: Demand) -> dict[str, float]:
        """Return the used share of each limit, by the limit's text; above 1 if it is exceeded."""
        return {
            limit.text: self.used(limit.of, result, demand) / limit.amount for limit in self.limits
        }

    def per_epoch(self, of: str, demand: Demand, *, epoch_s: float, at_once: int) -> float:
        """Return the usage of one epoch of a trial, in the unit of a limit of kind `of`.

        `epoch_s` is the duration of an epoch in seconds, `at_once` the number of trials that run at
        once.
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
    """Return the kind of device whose time is counted: `gpu` if the trials use GPUs, else `cpu`."""
    return "gpu" if demand.gpus else "cpu"


def shares_of(result: SearchResult) -> dict[str, float]:
    """Return the used share of each limit of a search, by the limit's text; empty without limits.

    They are computed only from its journal, so that every command and page shows the same values.
    """
    facts = result.started.experiment
    if not facts.get("budget") and not facts.get("time_budget"):
        return {}
    demand = Demand(
        cpus=facts["cpus_per_trial"], gpus=facts["gpus_per_trial"], workers=facts["workers"]
    )
    return Budget.of(facts).shares(result, demand)


def shares_text(shares: Mapping[str, float]) -> str:
    """Format shares: `43% of the 2h budget, 12% of the 500 epochs budget`; empty without any."""
    return ", ".join(f"{share:.0%} of the {text} budget" for text, share in shares.items())


def limit_option(text: str) -> Limit:
    """Parse a limit, for the `parse` of an option; the error message does not name `--budget`.

    Raises:
        ConfigError: the text is not a limit.
    """
    try:
        return limit(text)
    except ConfigError as error:
        raise ConfigError(str(error).removeprefix("--budget ").removesuffix(".")) from None
