"""The space to search next, from what was observed in this one.

It is narrower where a parameter's effect is clear, and wider where the best lies at an edge.

A parameter's effect is the part of the trials' scores that a quadratic explains (for options
without an order: their means). It is clear when so much is seldom explained of scores that are
dealt out anew by chance, all parameters taken together; the clearest is found first, and the next
in what it leaves. Without a clear effect nothing is narrowed. Options are left out but never the
last two: an option that is left out does not come back, as a range's end may.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.journal.events import Change
from search.space import Cases, Choice, Domain, Float, Int, Range, SearchSpace
from trainables.values import Params

MIN_TRIALS = 5
"""The least number of trials that tell anything of a parameter."""
CLEAR, LIKELY = 0.05, 0.1
"""The p-values below which an effect is clear enough to narrow a range, and to widen it.

Narrowing loses what is outside, so it asks for more; widening loses nothing.
"""
EDGE, TOWARDS = 0.1, 0.25
"""The share of a range that is its edge, and the share that is on the way to it."""
NARROWEST = 0.25
"""The least share of a range that is left of it."""
BEST_SHARE, MIN_BEST = 0.25, 3
"""The share of the trials that are called the best few, and the least number of them."""
MARGIN = 0.1
"""The share of a range that stays on either side of the best few."""
WIDER, MAX_HALVED = 0.5, 6
"""The share of its width by which a range is widened.

It is halved until the new end is allowed, `MAX_HALVED` times at most.
"""
GEOMETRIC = 5
"""The ratio from which on two options are taken for a geometric row."""
DEALT, MAX_DEALT = 999, 2_000_000
"""The number of times scores are dealt out anew, and the most numbers dealt in all."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Observation:
    """A trial's params and its score among all, from 0, worse than any other, to 1."""

    params: Params
    score: float


Refusal = Callable[[Params, str], str]
"""A function that returns why params make no trial, or another than they say.

That is for their value of the given path; empty if they make one.
"""


@dataclass(frozen=True)
class Effect:
    """The effect of a parameter on the score."""

    p: float
    """The probability that chance alone explains as much."""
    is_clear: bool = False
    share: float = 0.0
    """The share of the scores' variance that it explains, less what chance would."""
    best: int | float = 0.5
    """The place in the range, or the number of the option, where the fit is highest."""


class Factor:
    """One domain of a parameter, with the observations that have it and lie in it."""

    def __init__(
        self, space: SearchSpace, path: str, domain: Domain, observed: Sequence[Observation]
    ) -> None:
        self.path, self.domain = path, domain
        is_parent = any(path in other.parents for other in space.domains.values())
        self.scale = scale_of(domain) if not (is_parent and isinstance(domain, Choice)) else None
        conditions = ", ".join(f"{key} {_listed(value)}" for key, value in domain.when.items())
        self.label = path if space.domains[path] is domain else f"{path} ({conditions})"
        held = [
            (row, one.params[path])
            for row, one in enumerate(observed)
            if path in one.params
            and space.under(path, one.params) is domain
            and domain.holds(one.params[path])
        ]
        self.rows = np.array([row for row, _ in held], dtype=int)
        self.values = [value for _, value in held]
        self.scores = np.array([observed[row].score for row in self.rows])

    @cached_property
    def places(self) -> Array:
        """The places of the observations.

        A place is in the range, from 0 to 1, or it is the number of an option.
        """
        if self.scale is not None:
            return np.array([self.scale.place(value) for value in self.values])
        return np.array([float(self.options.index(value)) for value in self.values])

    @property
    def options(self) -> tuple[Any, ...]:
        """The options of a choice."""
        assert isinstance(self.domain, Choice)
        return self.domain.options

    def design(self, places: Array) -> Array:
        """Return the columns that a fit weighs: a quadratic's, or one for each option."""
        if self.scale is None:
            return np.equal.outer(places, np.arange(len(self.options))).astype(float)
        return np.stack([places, places**2], axis=1)[
            :, : max(1, len(set(np.round(self.places, 6))) - 1)
        ]

    @property
    def tried(self) -> Array:
        """The places at which the fit is evaluated."""
        return np.linspace(0, 1, 101) if isinstance(self.domain, Range) else np.unique(self.places)

    def best_few(self) -> Array:
        """Return the places of the best observations, the best first."""
        count = max(MIN_BEST, math.ceil(BEST_SHARE * len(self.rows)))
        return self.places[np.argsort(-self.scores, kind="stable")[:count]]


@dataclass(frozen=True)
class Scale:
    """Numbers between two ends, by size or by ratio."""

    low: float
    high: float
    log: bool

    def place(self, value: float) -> float:
        """Return the place of a number: 0 at the low end, 1 at the high one."""
        low, high, value = (
            math.log(number) if self.log else number for number in (self.low, self.high, value)
        )
        return (value - low) / (high - low)

    def at(self, place: float) -> float:
        """Return the number at a place, the inverse of `place`."""
        if self.log:
            return math.exp(math.log(self.low) + place * (math.log(self.high) - math.log(self.low)))
        return self.low + place * (self.high - self.low)


def scale_of(domain: Domain) -> Scale | None:
    """Return the scale of numbers; None where there is only one, or values have no order."""
    if isinstance(domain, Range):
        return Scale(domain.low, domain.high, domain.log) if domain.low < domain.high else None
    options = domain.options if isinstance(domain, Choice) else ()
    if len(options) < 2 or not all(
        isinstance(value, int | float) and not isinstance(value, bool) for value in options
    ):
        return None
    return Scale(min(options), max(options), is_geometric(sorted(options)))


def is_geometric(numbers: Sequence[float]) -> bool:
    """Return whether the ratios of numbers are more alike than their differences."""
    if numbers[0] <= 0:
        return False
    if len(numbers) == 2:
        return numbers[1] / numbers[0] >= GEOMETRIC
    gaps, ratios = np.diff(numbers), np.diff(np.log(numbers))
    return bool(np.std(ratios) / np.mean(ratios) < np.std(gaps) / np.mean(gaps))


def narrow(
    space: SearchSpace,
    observed: Sequence[Observation],
    best: Params,
    refusal: Refusal = lambda params, path: "",
) -> tuple[SearchSpace, list[Change]]:
    """Return the space to search next, and a word on each parameter.

    A parameter is named if it changed or lies at an edge; the others are listed together.

    Args:
        observed: trials, with scores that may be compared.
        best: the params of the best of them.
        refusal: says why a value that the space did not have makes no trial; it is then not added.
    """
    factors = [factor for path in space.domains for factor in _factors(space, path, observed)]
    changed: dict[tuple[str, int], Domain] = {}
    changes: list[Change] = []
    kept: dict[bool, list[str]] = {False: [], True: []}
    for factor, effect in zip(
        factors, effects(factors, [one.score for one in observed]), strict=True
    ):
        has_best = (
            factor.path in best
            and space.under(factor.path, best) is factor.domain
            and factor.domain.holds(best[factor.path])
        )
        domain, found = revised(factor, effect, best if has_best else None, refusal)
        changed[factor.path, id(factor.domain)] = domain
        changes += found
        kept[effect.is_clear] += [] if found else [factor.label]
    for is_clear, labels in kept.items():
        if labels:
            why = (
                "with a clear effect, but nothing to leave out"
                if is_clear
                else "for want of a clear effect"
            )
            changes.append(
                Change(
                    "", "kept" if is_clear else "unclear", f"as before, {why}: {', '.join(labels)}"
                )
            )
    domains = {path: _with(path, domain, changed) for path, domain in space.domains.items()}
    return replace(space, domains=domains, first=()), changes


def _factors(space: SearchSpace, path: str, observed: Sequence[Observation]) -> list[Factor]:
    """Return a factor for each case of a parameter that was observed and has a scale or options."""
    domain = space.domains[path]
    cases = domain.cases if isinstance(domain, Cases) else (domain,)
    return [
        factor
        for case in cases
        if len((factor := Factor(space, path, case, observed)).rows)
        and (factor.scale or _is_choice(case))
    ]


def _is_choice(domain: Domain) -> bool:
    return isinstance(domain, Choice) and len(domain.options) > 1


def _with(path: str, domain: Domain, changed: dict[tuple[str, int], Domain]) -> Domain:
    """Return a domain, or its cases, as they are now."""
    if isinstance(domain, Cases):
        return Cases(*(changed.get((path, id(case)), case) for case in domain.cases))
    return changed.get((path, id(domain)), domain)


def effects(factors: Sequence[Factor], scores: Sequence[float]) -> list[Effect]:
    """Return the effect of each parameter.

    The clearest is found first, then the next in what it leaves of the scores, until none is clear.
    """
    left, generator = np.array(scores, dtype=float), np.random.default_rng(0)
    found: dict[int, Effect] = {}
    while True:
        rest = {
            number: _effect(factors[number], left, generator)
            for number in range(len(factors))
            if number not in found
        }
        clear = [number for number, effect in rest.items() if effect.p * len(rest) <= CLEAR]
        if not clear:
            return [found.get(number) or rest[number] for number in range(len(factors))]
        first = max(clear, key=lambda number: rest[number].share)
        found[first] = replace(rest[first], is_clear=True)
        left[factors[first].rows] -= _fitted(factors[first], left, factors[first].places)


def _effect(factor: Factor, scores: Array, generator: np.random.Generator) -> Effect:
    """Return a parameter's effect, compared with that on scores that are dealt out anew."""
    mine = scores[factor.rows] - scores[factor.rows].mean()
    design = factor.design(factor.places)
    basis, sizes, _ = np.linalg.svd(design - design.mean(axis=0), full_matrices=False)
    basis, total, count = basis[:, sizes > 1e-6], float(mine @ mine), len(mine)
    freedom = count - basis.shape[1] - 1
    if count < MIN_TRIALS or not basis.shape[1] or freedom < 1 or total < 1e-9:
        return Effect(1.0)
    explained = float(((mine @ basis) ** 2).sum()) / total
    times = min(DEALT, MAX_DEALT // count)
    dealt = ((generator.permuted(np.tile(mine, (times, 1)), axis=1) @ basis) ** 2).sum(
        axis=1
    ) / total
    fit = _fitted(factor, scores, factor.tried)
    best = float(factor.tried[int(fit.argmax())])
    share = max(0.0, 1 - (1 - explained) * (count - 1) / freedom) * min(
        1.0, float(mine.var() / max(1e-12, factor.scores.var()))
    )
    return Effect(
        (1 + int((dealt >= explained - 1e-9).sum())) / (times + 1), share=share, best=best
    )


def _fitted(factor: Factor, scores: Array, places: Array) -> Array:
    """Return the values at these places of the fit to a parameter's observations."""
    mine, ones = scores[factor.rows], np.ones((len(factor.rows), 1))
    weights, *_ = np.linalg.lstsq(np.hstack([ones, factor.design(factor.places)]), mine, rcond=None)
    return np.asarray(
        np.hstack([np.ones((len(places), 1)), factor.design(places)]) @ weights, dtype=float
    )


def revised(
    factor: Factor, effect: Effect, best: Params | None, refusal: Refusal
) -> tuple[Domain, list[Change]]:
    """Return one domain as it is to be next.

    `best` is None where the best trial does not have the parameter.
    """
    if isinstance(factor.domain, Range):
        return _range(factor, effect, best, refusal)
    return (
        _numbers(factor, effect, best, refusal)
        if factor.scale is not None
        else _options(factor, effect, best)
    )


def _range(
    factor: Factor, effect: Effect, best: Params | None, refusal: Refusal
) -> tuple[Domain, list[Change]]:
    """Return the next range, with its changes.

    It is a window where the effect is clear, and wider at an edge at which the best lies.
    """
    domain, scale, path = factor.domain, factor.scale, factor.path
    assert isinstance(domain, Range)
    assert scale is not None
    before, low, high = _span(domain), domain.low, domain.high
    top = scale.place(best[path]) if best is not None else None
    side = _edge(top, effect) if top is not None else 0
    if effect.is_clear:
        first, last = _window(factor, effect, top, side)
        low, high = _within(
            domain, scale.at(first) if first > 0 else low, scale.at(last) if last < 1 else high
        )
    narrower = replace(domain, low=low, high=high)
    is_narrower = (low, high) != (domain.low, domain.high)
    p = f"its effect is clear, p {effect.p:.2g}"
    if not side or best is None or top is None:
        return narrower, [
            Change(
                path,
                "narrowed",
                f"{factor.label}: {before} becomes {_span(narrower)}, around the best ({p})",
            )
        ] if is_narrower else []
    end = domain.high if side > 0 else domain.low
    where = "at" if abs(top - (side > 0)) <= EDGE else "near"
    flag = f"{factor.label}: the best, {_shown(best[path])}, is {where} the edge of {before}"
    if effect.p > LIKELY or abs(effect.best - (side > 0)) > TOWARDS:
        now = f"; {_span(narrower)} from now on ({p})" if is_narrower else ""
        return narrower, [
            Change(
                path,
                "doubtful",
                f"{flag}: not widened, for it is not clear that it gets better there{now}",
                flag,
            )
        ]
    new, reason = _widened(domain, scale, side, lambda value: refusal({**best, path: value}, path))
    wider = replace(narrower, high=new) if side > 0 else replace(narrower, low=new)
    now = f"; {_span(wider)} from now on ({p})" if is_narrower else ""
    if new == end:
        return wider, [
            Change(
                path, "edge", f"{flag}, and cannot be widened: {reason}{now}", flag, effect.is_clear
            )
        ]
    return wider, [
        Change(path, "widened", f"{flag}: widened to {_shown(new)}{now}", flag, effect.is_clear)
    ]


def _edge(place: float, effect: Effect) -> int:
    """Return the end at which the best lies: -1, 1, or 0 for neither.

    With a clear effect whose fit is best at the end itself, the best needs only be on the way
    there.
    """
    for side in (-1, 1):
        away = place if side < 0 else 1 - place
        at = effect.best if side < 0 else 1 - effect.best
        if away <= EDGE or (effect.is_clear and at <= EDGE and away <= TOWARDS):
            return side
    return 0


def _window(factor: Factor, effect: Effect, top: float | None, side: int) -> tuple[float, float]:
    """Return the part of a range around its best few and the fit's highest place.

    The more depends on the parameter, the narrower it is. An edge at which the best lies is not cut
    off.
    """
    few = factor.best_few()
    ends = (few[0] if top is None else top, effect.best, *np.quantile(few, (MARGIN, 1 - MARGIN)))
    low, high = min(ends) - MARGIN, max(ends) + MARGIN
    if (short := max(NARROWEST, 1 - math.sqrt(effect.share)) - (high - low)) > 0:
        low, high = low - short / 2, high + short / 2
    # A part that would lie outside of the range is given to the other end.
    low, high = low - max(0.0, high - 1), high - min(0.0, low)
    return (0.0 if side < 0 else max(0.0, low)), (1.0 if side > 0 else min(1.0, high))


def _within(domain: Range, low: float, high: float) -> tuple[float, float]:
    """Return bounds that the range may have, no further out than its own."""
    if domain.step is not None:
        first, last = (
            math.floor((low - domain.low) / domain.step + 1e-9),
            math.ceil((high - domain.low) / domain.step - 1e-9),
        )
        low, high = (domain.low + number * domain.step for number in (first, last))
    if isinstance(domain, Int):
        low, high = math.floor(low + 1e-9), math.ceil(high - 1e-9)
    low, high = max(domain.low, low), min(domain.high, high)
    ends = max(domain.low, _rounded(domain, low)), min(domain.high, _rounded(domain, high))
    return ends if ends[0] < ends[1] else (low, high)


def _rounded(domain: Domain, value: float) -> float:
    """Return a number as people write it."""
    return (
        round(value)
        if isinstance(domain, Int)
        else float(
            f"{value:.3g}" if isinstance(domain, Float) and domain.step is None else f"{value:.12g}"
        )
    )


def _widened(
    domain: Range, scale: Scale, side: int, refused: Callable[[Any], str]
) -> tuple[float, str]:
    """Return a new end, as far out as is allowed.

    It is the old one, with the reason, if none is allowed.
    """
    end, reason = (domain.high if side > 0 else domain.low), ""
    width = WIDER
    if scale.log:
        whole = math.log(scale.high / scale.low)
        width = min(max(WIDER, 1 / whole), math.log(10) / whole)
    for halved in range(MAX_HALVED):
        value = scale.at((side > 0) + side * width / 2**halved)
        if domain.step is not None:
            value = end + side * domain.step * max(1, round(abs(value - end) / domain.step))
        value = _rounded(domain, value)
        if (value - end) * side <= 0:
            break
        if not (found := refused(value)):
            return value, ""
        reason = reason or found
    return end, reason.rstrip(".") or "there is no number beside it"


def _numbers(
    factor: Factor, effect: Effect, best: Params | None, refusal: Refusal
) -> tuple[Domain, list[Change]]:
    """Return the next options that are numbers, with the changes.

    There are new ones between the best and its neighbours, and one beyond it where the best is the
    first or last.
    """
    path, scale, row = factor.path, factor.scale, sorted(factor.options)
    assert scale is not None
    assert isinstance(factor.domain, Choice)
    fits = min(range(len(row)), key=lambda number: abs(scale.place(row[number]) - effect.best))
    top = row.index(best[path]) if best is not None and best[path] in row else fits
    side = (
        0
        if best is None or effect.p > LIKELY or row[fits] != best[path]
        else (top == len(row) - 1) - (top == 0)
    )
    new, tried = list(row), best if best is not None else {}
    if effect.is_clear:
        new = _finer(
            row,
            min(fits, top),
            max(fits, top),
            scale.log,
            lambda value: not refusal({**tried, path: value}, path),
        )
    is_finer, p = new != row, f"its effect is clear, p {effect.p:.2g}"
    if not side or best is None:
        text = f"{factor.label}: {_listed(row)} becomes {_listed(new)}, around the best ({p})"
        return _choice(factor, new), [Change(path, "finer", text)] if is_finer else []
    beyond, reason = _beyond(
        row, top, side, scale.log, lambda value: refusal({**best, path: value}, path)
    )
    new = sorted({*new, *([beyond] if beyond is not None else [])})
    flag = f"{factor.label}: the best, {_shown(row[top])}, is at the edge of {_listed(row)}"
    now = f"; {_listed(new)} from now on ({p})" if is_finer else ""
    if beyond is None:
        return _choice(factor, new), [
            Change(
                path, "edge", f"{flag}, and cannot be widened: {reason}{now}", flag, effect.is_clear
            )
        ]
    return _choice(factor, new), [
        Change(path, "widened", f"{flag}: widened to {_shown(beyond)}{now}", flag, effect.is_clear)
    ]


def _beyond(
    row: list[Any], top: int, side: int, log: bool, refused: Callable[[Any], str]
) -> tuple[Any, str]:
    """Return a number beyond the first or last option.

    It is as far beyond as the option before it is away, or less far where that is refused; None,
    with the reason, if all are.
    """
    reason = ""
    for halved in range(MAX_HALVED // 2):
        value = _between(row[top], row[top - side], log, -1 / 2**halved)
        if value in row:
            break
        if not (found := refused(value)):
            return value, ""
        reason = reason or found
    return None, reason.rstrip(".") or "there is no number beside it"


def _finer(
    row: list[Any], first: int, last: int, log: bool, is_allowed: Callable[[Any], bool]
) -> list[Any]:
    """Return the options from `first` to `last`, with one between each two and on either side.

    Where none may be between, the neighbour itself is taken.
    """
    found = row[first : last + 1]
    for one, other in zip(
        range(max(0, first - 1), min(last + 1, len(row) - 1)),
        range(max(1, first), min(last + 2, len(row))),
        strict=True,
    ):
        middle = _between(row[one], row[other], log)
        if middle not in row and is_allowed(middle):
            found.append(middle)
        else:
            found += [row[number] for number in (one, other) if row[number] not in found]
    return sorted(found)


def _between(one: Any, other: Any, log: bool, part: float = 0.5) -> Any:
    """Return a number part of the way from one to another, whole where they are.

    A `part` of -1 is as far on the other side. The number has two digits, or as many as it takes.
    """
    value = (
        math.exp(math.log(one) + part * math.log(other / one))
        if log
        else one + part * (other - one)
    )
    if isinstance(one, int) and isinstance(other, int):
        return round(value)
    rounded = (float(f"{value:.{digits}g}") for digits in range(2, 17))
    return next(
        (
            number
            for number in rounded
            if number not in (one, other)
            and (number > one) == (value > one)
            and (number > other) == (value > other)
        ),
        value,
    )


def _choice(factor: Factor, options: Sequence[Any]) -> Choice:
    return Choice(*options, when=factor.domain.when)


def _options(
    factor: Factor, effect: Effect, best_trial: Params | None
) -> tuple[Domain, list[Change]]:
    """Return the next options without an order, with the changes.

    Those that are clearly worse are left out, but never the last two, or the best trial's.
    """
    if not effect.is_clear:
        return factor.domain, []
    few = set(factor.best_few().astype(int))
    few |= (
        {factor.options.index(best_trial[factor.path])}
        if best_trial is not None and best_trial[factor.path] in factor.options
        else set()
    )
    best, generator = int(effect.best), np.random.default_rng(0)
    means = {
        number: float(factor.scores[factor.places == number].mean())
        for number in set(factor.places.astype(int))
    }
    worse = [
        number
        for number in sorted(means, key=lambda number: means[number])
        if number != best
        and number not in few
        and _is_worse(factor, number, best, CLEAR / max(1, len(means) - 1), generator)
    ][: max(0, len(factor.options) - 2)]
    if not worse:
        return factor.domain, []
    left = [option for number, option in enumerate(factor.options) if number not in worse]
    gone = _listed([factor.options[number] for number in sorted(worse)])
    text = f"{factor.label}: left out {gone}, clearly worse than {_shown(factor.options[best])}"
    return _choice(factor, left), [Change(factor.path, "dropped", text)]


def _is_worse(
    factor: Factor, number: int, best: int, level: float, generator: np.random.Generator
) -> bool:
    """Return whether an option's scores are clearly below the best one's.

    They are if chance alone seldom makes so large a difference.
    """
    mine, other = factor.scores[factor.places == number], factor.scores[factor.places == best]
    if min(len(mine), len(other)) < MIN_BEST:
        return False
    both, seen = np.concatenate([mine, other]), other.mean() - mine.mean()
    dealt = generator.permuted(np.tile(both, (DEALT, 1)), axis=1)
    differences = dealt[:, len(mine) :].mean(axis=1) - dealt[:, : len(mine)].mean(axis=1)
    return bool((1 + int((differences >= seen - 1e-9).sum())) / (DEALT + 1) <= level)


def _span(domain: Range) -> str:
    return f"{_shown(domain.low)} to {_shown(domain.high)}"


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _listed(values: Any) -> str:
    return ", ".join(map(_shown, values)) if isinstance(values, list | tuple) else _shown(values)
