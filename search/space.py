"""Search spaces: named domains, each name a dotted path into `TrialConfig`.

    SearchSpace(
        {
            "optimizer.name": Choice("adam", "sgd"),
            "optimizer.lr": Float(1e-4, 1e-1, log=True),
            "optimizer.momentum": Float(0.5, 0.99, when={"optimizer.name": "sgd"}),
        },
        base={"model.name": "mnist_cnn", "epochs": 10},
    )

Bounds are inclusive. Nonsense is refused at construction with a `ConfigError`. A domain with `when`
exists only in trials where the other parameters have those values (one, or a tuple of several);
`Cases` gives a parameter other domains under other values.
"""

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import cached_property
from typing import Any, Self

import numpy as np

from trainables.config import PATHS, unknown_key
from trainables.errors import ConfigError
from trainables.values import Json, Params

PER_TRIAL_DATA = {"data.scaling"}
"""The settings of the data that may be searched.

All other settings of the data are fixed, because the data are decoded and split only once for all
trials.
"""

MAX_PROBED = 100
"""Up to this number of values of a domain, all are checked before a search (`Domain.probes`).

If there are more, only the extremes are checked.
"""
MAX_EDGES = MAX_PROBED**2
"""Up to this number of points of a space, all are checked before a search (`SearchSpace.edges`)."""
MAX_WHOLE, MAX_STEPS = 10**18, 10**15
"""The largest absolute bound of an `Int`, and the maximum number of steps of a range.

Beyond them, 64-bit floats would not distinguish neighbouring values.
"""

State = tuple[tuple[str, int], ...]
"""The values of the parameters on which others depend, as (path, index) pairs.

The index is the position of the value among those that conditions (`when`) name, or `UNNAMED` for
any other value.
"""
UNNAMED, OTHER_VALUE = -1, object()


@dataclass(frozen=True)
class Domain(ABC):
    """The values that one parameter may take, and the condition under which it exists (`when`).

    `when` maps other parameters to the value that they must have, or to a tuple of such values.
    """

    _: KW_ONLY
    when: Mapping[str, Any] = field(default_factory=dict)

    @property
    @abstractmethod
    def values(self) -> Sequence[Any] | None:
        """All values; None if they cannot be enumerated, as in a range without a step."""

    @property
    @abstractmethod
    def extremes(self) -> tuple[Any, ...]:
        """The values at the edges of the domain."""

    @property
    @abstractmethod
    def count(self) -> int | None:
        """The number of values, without enumerating them; None if `values` is None."""

    @abstractmethod
    def times(self, value: Any) -> int:
        """Count the values of the domain that equal this one."""

    @property
    def probes(self) -> Sequence[Any]:
        """The values to check before a search: all, or the extremes if `MAX_PROBED` is exceeded."""
        values = self.values if self.count is not None and self.count <= MAX_PROBED else None
        return values if values is not None else self.extremes

    @abstractmethod
    def holds(self, value: Any) -> bool:
        """True if a value belongs to the domain."""

    @abstractmethod
    def sample(self, generator: np.random.Generator) -> Any:
        """Draw a value uniformly, on a log scale if the range has `log`."""

    @abstractmethod
    def refuse_nonsense(self) -> None:
        """Check that the domain is valid and has at least one value.

        Raises:
            ConfigError: it is not valid.
        """

    @property
    def parents(self) -> set[str]:
        """The parameters on which the existence or the values of this one depend."""
        return set(self.when)

    def under(self, params: Params) -> "Domain | None":
        """Return the domain under these values of other parameters.

        None if the parameter does not exist under them.
        """
        is_there = all(
            params.get(path) in (allowed if isinstance(allowed, tuple) else (allowed,))
            for path, allowed in self.when.items()
        )
        return self if is_there else None


@dataclass(frozen=True)
class Range(Domain):
    """The base class of `Float` and `Int`: inclusive bounds, and a log scale, a step or neither."""

    low: float
    high: float
    _: KW_ONLY
    log: bool = False
    step: float | None = None

    def refuse_nonsense(self) -> None:
        """Check the bounds, the log scale and the step.

        Raises:
            ConfigError: a bound is not finite, low > high, `log` is combined with low <= 0 or with
                a step, or the step is not positive or too small.
        """
        if not (math.isfinite(self.low) and math.isfinite(self.high)):
            raise ConfigError(f"bounds must be finite (got {self.low} to {self.high}).")
        if self.low > self.high:
            raise ConfigError(f"low must not exceed high (got low={self.low}, high={self.high}).")
        if self.log and self.low <= 0:
            raise ConfigError(f"a log range requires low > 0 (got {self.low}).")
        if self.step is not None and (self.step <= 0 or self.log):
            raise ConfigError(
                "step must be > 0 and cannot be combined with log "
                f"(got step={self.step}, log={self.log})."
            )
        if self.count is not None and self.count > MAX_STEPS:
            raise ConfigError(
                f"step {self.step} divides {self.low} to {self.high} into more than 10^15 values. "
                "Use a larger step, or none."
            )

    @property
    def extremes(self) -> tuple[Any, ...]:
        """Both bounds."""
        return (self.low, self.high)

    @property
    def count(self) -> int | None:
        """The number of values low, low + step, ... up to high; None without a step."""
        if self.step is None:
            return None
        steps = (self.high - self.low) / self.step
        # The tolerance makes `high` count if a step reaches it up to a rounding error.
        return (
            math.floor(steps + max(1e-9, 1e-12 * steps)) + 1
            if math.isfinite(steps)
            else MAX_STEPS + 1
        )

    @property
    def values(self) -> Sequence[Any] | None:
        """The values low, low + step, ... up to high; None without a step."""
        return None if self.count is None else Steps(self)

    def times(self, value: Any) -> int:
        """Return 1 if the range has this value, or else 0; also 0 without a step."""
        return int(self.values is not None and value in self.values)

    def holds(self, value: Any) -> bool:
        """True for a number between the bounds, which are included; the step is not checked."""
        return isinstance(value, int | float) and self.low <= value <= self.high

    def sample(self, generator: np.random.Generator) -> Any:
        """Draw a value uniformly from the steps, or between the bounds (inclusive)."""
        if (values := self.values) is not None:
            return values[int(generator.integers(len(values)))]
        low, high = self._span()
        if self.log:
            return self.cleaned(math.exp(generator.uniform(math.log(low), math.log(high))))
        return self.cleaned(generator.uniform(low, high))

    def _span(self) -> tuple[float, float]:
        return self.low, self.high

    def cleaned(self, value: float) -> Any:
        """Round a value to 12 significant digits, and clip it to the bounds."""
        return min(max(float(f"{value:.12g}"), self.low), self.high)


class Steps(Sequence[Any]):
    """The values of a range with a step, computed on access because there may be millions."""

    def __init__(self, of: Range) -> None:
        assert of.step is not None
        self._of, self._step, self._count = of, of.step, of.count or 0

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> Any:
        numbers = range(self._count)[index]
        return (
            [self._at(number) for number in numbers]
            if isinstance(index, slice)
            else self._at(numbers)
        )

    def __contains__(self, value: object) -> bool:
        return (
            isinstance(value, int | float)
            and self._of.holds(value)
            and self.nearest(value) == value
        )

    def nearest(self, value: float) -> Any:
        """Return the nearest step to a value; of two at the same distance, the lower one."""
        number = round((value - self._of.low) / self._step)
        near = (min(max(each, 0), self._count - 1) for each in (number - 1, number, number + 1))
        return min(map(self._at, near), key=lambda step: abs(step - value))

    def _at(self, number: int) -> Any:
        return self._of.cleaned(self._of.low + number * self._step)


@dataclass(frozen=True)
class Float(Range):
    """Real numbers from `low` to `high`, inclusive."""


@dataclass(frozen=True)
class Int(Range):
    """Whole numbers from `low` to `high`, inclusive."""

    low: int
    high: int

    def refuse_nonsense(self) -> None:
        """Check the bounds, the log scale and the step.

        Raises:
            ConfigError: as for a `Range`; or a bound or the step is not an integer, or its absolute
                value is above `MAX_WHOLE`.
        """
        for value in (self.low, self.high, self.step):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
                raise ConfigError(f"Int accepts only whole numbers (got {value!r}).")
            if value is not None and abs(value) > MAX_WHOLE:
                digits = math.floor(math.log10(abs(value))) + 1
                raise ConfigError(
                    "Int accepts only whole numbers from -10^18 to 10^18 "
                    f"(got a number with {digits:,} digits)."
                )
        super().refuse_nonsense()

    @property
    def count(self) -> int | None:
        """The number of values; None on a log scale."""
        return None if self.log else (self.high - self.low) // int(self.step or 1) + 1

    @property
    def values(self) -> Sequence[Any] | None:
        """The whole numbers from low to high, by `step`.

        None on a log scale, on which the numbers are not equally likely.
        """
        return None if self.log else range(self.low, self.high + 1, int(self.step or 1))

    def times(self, value: Any) -> int:
        """Return 1 if the range has this value, or else 0; also 0 on a log scale."""
        is_whole = isinstance(value, int | float) and math.isfinite(value) and value == int(value)
        return int(is_whole and self.values is not None and int(value) in self.values)

    def _span(self) -> tuple[float, float]:
        # Draws are rounded: without this margin, the lowest and the highest number would be drawn
        # half as often as the others.
        return self.low - 0.4999, self.high + 0.4999

    def cleaned(self, value: float) -> Any:
        """Round a value to the nearest whole number, and clip it to the bounds."""
        return min(max(round(value), self.low), self.high)


@dataclass(frozen=True, init=False)
class Choice(Domain):
    """One of several values, all equally likely."""

    options: tuple[Any, ...]

    def __init__(self, *options: Any, when: Mapping[str, Any] | None = None) -> None:
        object.__setattr__(self, "options", options)
        object.__setattr__(self, "when", when or {})

    def refuse_nonsense(self) -> None:
        """Check the options.

        Raises:
            ConfigError: there is no option, or two are the same.
        """
        if not self.options:
            raise ConfigError("Choice requires at least one value (got none).")
        if len({repr(option) for option in self.options}) < len(self.options):
            raise ConfigError(
                "the values of Choice must differ from each other "
                f"(got {', '.join(map(str, self.options))})."
            )

    @property
    def count(self) -> int:
        """The number of options."""
        return len(self.options)

    def times(self, value: Any) -> int:
        """Count the options that equal this value; 1, 1.0 and True are equal."""
        return sum(option == value for option in self.options)

    @property
    def values(self) -> tuple[Any, ...]:
        """The options."""
        return self.options

    @property
    def extremes(self) -> tuple[Any, ...]:
        """The options."""
        return self.options

    def holds(self, value: Any) -> bool:
        """True if a value equals one of the options."""
        return value in self.options

    def sample(self, generator: np.random.Generator) -> Any:
        """Draw an option, each with the same probability."""
        return self.options[generator.integers(len(self.options))]


@dataclass(frozen=True, init=False)
class Cases(Domain):
    """A parameter whose domain depends on the values of other parameters.

    Its domain is the first case whose `when` is fulfilled. If there is none, the parameter does not
    exist.
    """

    cases: tuple[Domain, ...]

    def __init__(self, *cases: Domain) -> None:
        object.__setattr__(
            self,
            "cases",
            tuple(
                inner
                for case in cases
                for inner in (case.cases if isinstance(case, Cases) else (case,))
            ),
        )
        object.__setattr__(self, "when", {})

    @property
    def parents(self) -> set[str]:
        """The parameters on which any case depends."""
        return {parent for case in self.cases for parent in case.parents}

    def under(self, params: Params) -> Domain | None:
        """Return the first case that exists under these values; None if there is no such case."""
        return next((case for case in self.cases if case.under(params) is not None), None)

    def refuse_nonsense(self) -> None:
        """Check the cases.

        Raises:
            ConfigError: there is no case, or a case is not valid.
        """
        if not self.cases:
            raise ConfigError("Cases requires at least one domain (got none).")
        for case in self.cases:
            case.refuse_nonsense()

    @property
    def count(self) -> int | None:
        """The sum of the cases' counts, though cases may share values; None if a count is None."""
        each = [case.count for case in self.cases]
        return None if None in each else sum(count or 0 for count in each)

    def times(self, value: Any) -> int:
        """Raise TypeError: call the method of the case that `under` returns."""
        raise TypeError(
            "Cases has no times() of its own. Call times() of the domain that under() returns."
        )

    @property
    def values(self) -> Sequence[Any] | None:
        """The values of all cases, without duplicates; None if a case cannot be enumerated."""
        each = [case.values for case in self.cases]
        return (
            None
            if any(values is None for values in each)
            else list(dict.fromkeys(value for values in each for value in values or ()))
        )

    @property
    def extremes(self) -> tuple[Any, ...]:
        """The extremes of all cases, without duplicates."""
        return tuple(dict.fromkeys(value for case in self.cases for value in case.extremes))

    def holds(self, value: Any) -> bool:
        """True if a value belongs to at least one case."""
        return any(case.holds(value) for case in self.cases)

    def sample(self, generator: np.random.Generator) -> Any:
        """Raise TypeError: call the method of the case that `under` returns."""
        raise TypeError(
            "Cases has no sample() of its own. Call sample() of the domain that under() returns."
        )


@dataclass(frozen=True)
class SearchSpace:
    """The parameters that are searched (`domains`), and the settings of all trials (`base`).

    Args:
        domains: the domains by dotted path. A parameter must come after those on which it depends.
        base: fixed settings by dotted path.
        trials: the default number of trials; None leaves it to the search.
        reference: a known configuration, such as a paper's, to compare with the best one found.
        reference_title: the title of the reference.
        first: complete or partial points with which a random or Bayesian search starts.
        combine: the number of the best trials whose predictions the answer may average, if there
            are few validation images (`search.decisions.combining`); 1 for the best trial alone.

    Raises:
        ConfigError: a path is unknown or may not be searched, a domain is not valid, a domain
            depends on a parameter that is neither in the base nor before it in `domains`, or a
            first point is not in the space.
    """

    domains: Mapping[str, Domain]
    base: Mapping[str, Any] = field(default_factory=dict)
    trials: int | None = None
    reference: Mapping[str, Any] = field(default_factory=dict)
    reference_title: str = "reference"
    first: Sequence[Params] = ()
    combine: int = 1

    def __post_init__(self) -> None:
        for path in self.base:
            if path not in PATHS:
                raise unknown_key(path)
        for position, (path, domain) in enumerate(self.domains.items()):
            if path not in PATHS:
                raise unknown_key(path)
            if path.startswith("data.") and path not in PER_TRIAL_DATA:
                raise ConfigError(
                    f"{path} cannot be searched, because all trials share one copy of the data. "
                    f"Set {path} with --set, or in the space's base."
                )
            if path == "metric":
                raise ConfigError(
                    "metric cannot be searched, because it ranks all trials. Choose it with "
                    "--metric."
                )
            try:
                domain.refuse_nonsense()
            except ConfigError as error:
                raise ConfigError(f"{path}: {error}") from None
            for parent in domain.parents:
                if parent not in (*list(self.domains)[:position], *self.base):
                    raise ConfigError(
                        f"{path}: 'when' refers to '{parent}', which must be searched "
                        f"before {path} or set in the space's base."
                    )
        for params in self.first:
            for path in params.keys() - self.domains.keys():
                raise ConfigError(
                    f"a point of 'first' sets '{path}', which is not a searched parameter. "
                    f"Remove '{path}' from the point, or add it to the space."
                )
            for path in params.keys() - self.valid_values(params).keys():
                raise ConfigError(
                    f"a point of 'first' sets {path}={params[path]}, but this value is not "
                    "possible with the other values of the point. Change the value, or remove "
                    f"{path} from the point."
                )

    def fixed(self, values: Mapping[str, Any]) -> Self:
        """Return a copy in which these paths have fixed values and are not searched.

        In the first points, values that are no longer valid are removed. Points that become empty
        or equal to another are removed as well.
        """
        domains = {path: domain for path, domain in self.domains.items() if path not in values}
        fixed = replace(self, domains=domains, base={**self.base, **values}, first=())
        points = [fixed.valid_values(params) for params in self.first]
        return replace(
            fixed,
            first=tuple(
                params
                for number, params in enumerate(points)
                if params and params not in points[:number]
            ),
        )

    def valid_values(self, params: Params) -> Params:
        """Select the parameters whose values are in their domains, given the other values.

        If a value on which a domain depends is missing, it suffices that any case of the domain
        contains the parameter's value.
        """
        values: Params = {}
        for path, whole in self.domains.items():
            context = {**self.base, **values}
            domain = whole.under(context) if whole.parents <= context.keys() else whole
            if path in params and domain is not None and domain.holds(params[path]):
                values[path] = params[path]
        return values

    def without(self, path: str, values: Collection[Any]) -> Self:
        """Return a copy without these options of the `Choice` at `path`.

        First points that use them are left out as well.
        """
        choice = self.domains[path]
        assert isinstance(choice, Choice)
        remaining = Choice(
            *(option for option in choice.options if option not in values), when=choice.when
        )
        first = tuple(params for params in self.first if params.get(path) not in values)
        return replace(self, domains={**self.domains, path: remaining}, first=first)

    def under(self, path: str, params: Params) -> Domain | None:
        """Return a parameter's domain under the values of other parameters and of the base.

        None if the parameter does not exist under them.
        """
        return self.domains[path].under({**self.base, **params})

    @property
    def _combinations(self) -> float:
        """The number of points if all conditions are ignored, an upper bound on the actual number.

        It is infinite if the `count` of a domain is None.
        """
        return math.prod(
            math.inf if domain.count is None else domain.count for domain in self.domains.values()
        )

    @cached_property
    def size(self) -> int | None:
        """The number of grid points; None if the `count` of a domain is None.

        There may be too many points to enumerate them. Instead, the parameters are visited in their
        order, and the points so far are counted for each state. A state is a combination of the
        values on which later parameters depend. Values that no condition names share one state.
        """
        if any(domain.count is None for domain in self.domains.values()):
            return None
        named_values = self._named_values
        last = {
            parent: place
            for place, domain in enumerate(self.domains.values())
            for parent in domain.parents
        }
        states: dict[State, int] = {(): 1}
        for place, path in enumerate(self.domains):
            reached: dict[State, int] = {}
            for state, ways in states.items():
                context = {
                    parent: named_values[parent][number] if number != UNNAMED else OTHER_VALUE
                    for parent, number in state
                }
                domain = self.under(path, context)
                still_needed = tuple(entry for entry in state if last[entry[0]] > place)
                for number, count in (
                    _ways(domain, named_values.get(path, []))
                    if domain is not None
                    else [(UNNAMED, 1)]
                ):
                    is_needed = domain is not None and last.get(path, -1) > place
                    after = (*still_needed, (path, number)) if is_needed else still_needed
                    reached[after] = reached.get(after, 0) + ways * count
            states = reached
        return sum(states.values())

    @property
    def _named_values(self) -> dict[str, list[Any]]:
        """Maps each parameter to those of its values that conditions (`when`) name.

        There are no duplicates.
        """
        named_values: dict[str, list[Any]] = {}
        for whole in self.domains.values():
            for case in whole.cases if isinstance(whole, Cases) else (whole,):
                for parent, allowed in case.when.items():
                    values = named_values.setdefault(parent, [])
                    values += [
                        value
                        for value in (allowed if isinstance(allowed, tuple) else (allowed,))
                        if value not in values
                    ]
        return named_values

    def points(self) -> Iterator[Params]:
        """Yield every point of the grid exactly once; the last parameter changes fastest.

        Raises:
            ConfigError: a range has no finite number of values: it is a `Float` without a step, or
                an `Int` with a log scale.
        """
        for path, domain in self.domains.items():
            if domain.count is None:
                has_log_scale = isinstance(domain, Range) and domain.log
                remedy = "Use Choice(...)" if has_log_scale else "Use Choice(...) or step=..."
                raise ConfigError(
                    f"a grid requires a finite number of values, but '{path}' is a range without "
                    f"steps. {remedy}, or --algorithm random."
                )
        yield from self._points({}, list(self.domains))

    def _points(self, params: Params, rest: list[str]) -> Iterator[Params]:
        if not rest:
            yield params
            return
        path, *after = rest
        domain = self.under(path, params)
        if domain is None:
            yield from self._points(params, after)
            return
        for value in domain.values or ():
            yield from self._points({**params, path: value}, after)

    def sample(self, generator: np.random.Generator) -> Params:
        """Draw a point: for each parameter that exists, a value of its domain, independently."""
        params: Params = {}
        for path in self.domains:
            if (domain := self.under(path, params)) is not None:
                params[path] = domain.sample(generator)
        return params

    def begin(self, number: int, generator: np.random.Generator) -> Params | None:
        """Return one of the first points, with its missing values drawn at random.

        `number` is its index in `first`, from 0. None if there is no such point.
        """
        if number >= len(self.first):
            return None
        point = self.first[number]
        whole = {**point, **self.fixed(point).sample(generator)}
        return {path: whole[path] for path in self.domains if path in whole}

    def edges(self) -> Iterator[Params]:
        """Yield points to check before a search starts.

        They are all points if there are at most `MAX_EDGES`, otherwise points that together contain
        every probe of every domain.
        """
        if self._combinations <= MAX_EDGES:
            yield from self.points()
            return
        widest = max((len(domain.probes) for domain in self.domains.values()), default=1)
        parents = self._parents_probes(MAX_EDGES // widest)
        for combination in itertools.product(*parents.values()):
            chosen = dict(zip(parents, combination, strict=True))
            for number in range(widest):
                params: Params = {}
                for path in self.domains:
                    if (domain := self.under(path, params)) is not None:
                        # Of `Cases`, only the probes of the case under these values are valid.
                        valid_probes = [
                            probe for probe in chosen.get(path, ()) if domain.holds(probe)
                        ]
                        probes = valid_probes or domain.probes
                        params[path] = probes[number % len(probes)]
                yield params

    def _parents_probes(self, most: int) -> dict[str, list[Sequence[Any]]]:
        """Group the probes of each parameter on which others depend.

        `edges` uses all combinations of groups. Each probe is a group of its own, unless that makes
        more than `most` combinations. In this case, probes that no condition distinguishes share a
        group, first in the parameters with the most probes.
        """
        named_values, parents = (
            self._named_values,
            {parent for domain in self.domains.values() for parent in domain.parents},
        )
        probe_groups: dict[str, list[Sequence[Any]]] = {
            path: [[probe] for probe in self.domains[path].probes]
            for path in parents
            if path in self.domains
        }
        for path in sorted(probe_groups, key=lambda path: -len(probe_groups[path])):
            if math.prod(map(len, probe_groups.values())) <= most:
                break
            groups: dict[int, list[Any]] = {}
            for (probe,) in probe_groups[path]:
                groups.setdefault(
                    named_values[path].index(probe) if probe in named_values[path] else UNNAMED, []
                ).append(probe)
            probe_groups[path] = list(groups.values())
        return probe_groups

    def describe(self) -> Json:
        """Convert the space to JSON-compatible values, for the journal."""
        return {
            "domains": {path: _describe(domain) for path, domain in self.domains.items()},
            "base": dict(self.base),
            "trials": self.trials,
            "reference": dict(self.reference),
            "reference_title": self.reference_title,
            **({"first": [dict(params) for params in self.first]} if self.first else {}),
            **({"combine": self.combine} if self.combine > 1 else {}),
        }

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> Self:
        """Build a space from the result of `describe`."""
        domains = {path: _domain(dict(values)) for path, values in description["domains"].items()}
        return cls(
            domains,
            **{
                name: description[name]
                for name in (
                    "base",
                    "trials",
                    "reference",
                    "reference_title",
                    "first",
                    "combine",
                )
                if name in description
            },
        )


def _ways(domain: Domain, named_values: list[Any]) -> Iterator[tuple[int, int]]:
    """Count the values of a domain that equal each of `named_values`, and all other values.

    Yields:
        (index in `named_values`, number of equal values), and (`UNNAMED`, number of all other
        values). Pairs whose number is 0 are left out.
    """
    each = [domain.times(value) for value in named_values]
    yield from ((number, count) for number, count in enumerate(each) if count)
    if rest := (domain.count or 0) - sum(each):
        yield UNNAMED, rest


def _domain(values: Json) -> Domain:
    if values["kind"] == Cases.__name__:
        return Cases(*(_domain(dict(case)) for case in values["cases"]))
    kind = {domain.__name__: domain for domain in (Float, Int, Choice)}[values.pop("kind")]
    when = {
        path: tuple(allowed) if isinstance(allowed, list) else allowed
        for path, allowed in values.pop("when", {}).items()
    }
    return kind(*values.pop("options", ()), **values, when=when)


def _describe(domain: Domain) -> Json:
    """Convert a domain to JSON-compatible values, without fields that are None, False or {}."""
    if isinstance(domain, Cases):
        return {"kind": Cases.__name__, "cases": [_describe(case) for case in domain.cases]}
    unset: tuple[Any, ...] = (None, False)
    set_fields = {
        name: _plain(value)
        for name, value in vars(domain).items()
        if not any(value is empty for empty in unset) and value != {}
    }
    return {"kind": type(domain).__name__, **set_fields}


def _plain(value: Any) -> Any:
    return (
        {
            path: list(allowed) if isinstance(allowed, tuple) else allowed
            for path, allowed in value.items()
        }
        if isinstance(value, Mapping)
        else value
    )
