"""The next space of a refinement, from the observations in the current one.

A domain is narrowed if the effect of its parameter is clear, and widened if the best value is at an
edge.

The effect of a parameter is the share of the scores' variance that a quadratic fit explains. For
options without an order, the fit consists of their means. Permutation tests decide whether an
effect is clear, with Bonferroni's correction for the number of parameters. The clearest effect is
found first, and the next one in the residuals. Without a clear effect, nothing is narrowed. Options
may be dropped, but never the last two: unlike the end of a range, a dropped option does not come
back.
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
"""The minimum number of observations to estimate the effect of a parameter."""
CLEAR, LIKELY = 0.05, 0.1
"""The p-values below which an effect is clear enough to narrow a range, and to widen it.

Narrowing loses the values outside, so it requires stronger evidence; widening loses nothing.
"""
EDGE, TOWARDS = 0.1, 0.25
"""Distances from an edge of a range, as shares of its width.

Up to the first, a value is at the edge. Up to the second, it is near the edge.
"""
NARROWEST = 0.25
"""The minimum share of a range that remains after one round."""
BEST_SHARE, MIN_BEST = 0.25, 3
"""The best few observations are this share of all observations, but at least `MIN_BEST`."""
MARGIN = 0.1
"""The share of a range that is kept on either side of the best few values.

It is also the share of these values that may be left out at each end.
"""
WIDER, MAX_HALVED = 0.5, 6
"""The share of its width by which a range is widened.

It is halved until the new end is allowed, in at most `MAX_HALVED` attempts.
"""
GEOMETRIC = 5
"""The minimum ratio of two options that count as a geometric series."""
PERMUTATIONS, MAX_PERMUTED = 999, 2_000_000
"""The maximum number of permutations in a test, and of numbers in all permutations together."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Observation:
    """The params of a trial, and its score: the share of the other trials that are worse."""

    params: Params
    score: float


Refusal = Callable[[Params, str], str]
"""A function of (params, path): returns why the value at the path is not valid; empty if it is."""


@dataclass(frozen=True)
class Effect:
    """The effect of a parameter on the score."""

    p: float
    """The p-value of the permutation test."""
    is_clear: bool = False
    share: float = 0.0
    """The share of the scores' variance that the fit explains (adjusted R squared)."""
    best: int | float = 0.5
    """The place in the range (0 to 1), or the index of the option, where the fit is highest."""


class Factor:
    """A domain of a parameter, with the observations that have a value in this domain."""

    def __init__(
        self, space: SearchSpace, path: str, domain: Domain, observed: Sequence[Observation]
    ) -> None:
        self.path, self.domain = path, domain
        is_parent = any(path in dependent.parents for dependent in space.domains.values())
        self.scale = scale_of(domain) if not (is_parent and isinstance(domain, Choice)) else None
        conditions = ", ".join(
            f"{key} {_format_values(value)}" for key, value in domain.when.items()
        )
        self.label = path if space.domains[path] is domain else f"{path} ({conditions})"
        pairs = [
            (row, observation.params[path])
            for row, observation in enumerate(observed)
            if path in observation.params
            and space.under(path, observation.params) is domain
            and domain.holds(observation.params[path])
        ]
        self.rows = np.array([row for row, _ in pairs], dtype=int)
        self.values = [value for _, value in pairs]
        self.scores = np.array([observed[row].score for row in self.rows])

    @cached_property
    def places(self) -> Array:
        """The place of each observation: from 0 to 1 on a scale, or the index of an option."""
        if self.scale is not None:
            return np.array([self.scale.place(value) for value in self.values])
        return np.array([float(self.options.index(value)) for value in self.values])

    @property
    def options(self) -> tuple[Any, ...]:
        """The options of a choice."""
        assert isinstance(self.domain, Choice)
        return self.domain.options

    def design(self, places: Array) -> Array:
        """Return the design matrix of the fit, of shape (places, columns).

        A quadratic has columns for the place and its square, but only as many as the observed
        places can determine. Without a scale, there is one column per option.
        """
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
        """Return the places of the best few observations, the best first."""
        count = max(MIN_BEST, math.ceil(BEST_SHARE * len(self.rows)))
        return self.places[np.argsort(-self.scores, kind="stable")[:count]]


@dataclass(frozen=True)
class Scale:
    """A linear or logarithmic scale between two numbers."""

    low: float
    high: float
    log: bool

    def place(self, value: float) -> float:
        """Map a number to its place: 0 at the low end, 1 at the high end."""
        low, high, value = (
            math.log(number) if self.log else number for number in (self.low, self.high, value)
        )
        return (value - low) / (high - low)

    def at(self, place: float) -> float:
        """Map a place to its number (the inverse of `place`)."""
        if self.log:
            return math.exp(math.log(self.low) + place * (math.log(self.high) - math.log(self.low)))
        return self.low + place * (self.high - self.low)


def scale_of(domain: Domain) -> Scale | None:
    """Return the scale of a domain; None for a single number, or values without an order."""
    if isinstance(domain, Range):
        return Scale(domain.low, domain.high, domain.log) if domain.low < domain.high else None
    options = domain.options if isinstance(domain, Choice) else ()
    if len(options) < 2 or not all(
        isinstance(value, int | float) and not isinstance(value, bool) for value in options
    ):
        return None
    return Scale(min(options), max(options), is_geometric(sorted(options)))


def is_geometric(numbers: Sequence[float]) -> bool:
    """True if the ratios of sorted numbers vary less than their differences do."""
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
    """Create the next space, and describe the changes.

    Parameters that change, or whose best value is at an edge, are described one by one; the others
    are listed together.

    Args:
        space: the current space.
        observed: the observations in the current space, or in earlier ones.
        best: the params of the best trial.
        refusal: returns the reason why a new value is not valid; such a value is not added.
    """
    factors = [factor for path in space.domains for factor in _factors(space, path, observed)]
    changed: dict[tuple[str, int], Domain] = {}
    changes: list[Change] = []
    unchanged: dict[bool, list[str]] = {False: [], True: []}
    for factor, effect in zip(
        factors, effects(factors, [observation.score for observation in observed]), strict=True
    ):
        has_best = (
            factor.path in best
            and space.under(factor.path, best) is factor.domain
            and factor.domain.holds(best[factor.path])
        )
        domain, factor_changes = revise(factor, effect, best if has_best else None, refusal)
        changed[factor.path, id(factor.domain)] = domain
        changes += factor_changes
        unchanged[effect.is_clear] += [] if factor_changes else [factor.label]
    for is_clear, labels in unchanged.items():
        if labels:
            why = (
                "although the effect is clear, because there is nothing to leave out"
                if is_clear
                else "because the effect is not clear"
            )
            changes.append(
                Change(
                    "", "kept" if is_clear else "unclear", f"as before, {why}: {', '.join(labels)}"
                )
            )
    domains = {path: _revise_cases(path, domain, changed) for path, domain in space.domains.items()}
    return replace(space, domains=domains, first=()), changes


def _factors(space: SearchSpace, path: str, observed: Sequence[Observation]) -> list[Factor]:
    """Return a factor for each case of a parameter that has observations and several values."""
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


def _revise_cases(path: str, domain: Domain, changed: dict[tuple[str, int], Domain]) -> Domain:
    """Return a domain with its changes; for `Cases`, with the changes of each case."""
    if isinstance(domain, Cases):
        return Cases(*(changed.get((path, id(case)), case) for case in domain.cases))
    return changed.get((path, id(domain)), domain)


def effects(factors: Sequence[Factor], scores: Sequence[float]) -> list[Effect]:
    """Estimate the effect of each factor on the scores.

    The clearest effect is found first, then the next one in the residuals, until none is clear.
    """
    residuals, generator = np.array(scores, dtype=float), np.random.default_rng(0)
    clear_effects: dict[int, Effect] = {}
    while True:
        rest = {
            number: _effect(factors[number], residuals, generator)
            for number in range(len(factors))
            if number not in clear_effects
        }
        clear = [number for number, effect in rest.items() if effect.p * len(rest) <= CLEAR]
        if not clear:
            return [clear_effects.get(number) or rest[number] for number in range(len(factors))]
        first = max(clear, key=lambda number: rest[number].share)
        clear_effects[first] = replace(rest[first], is_clear=True)
        residuals[factors[first].rows] -= _fit_at(factors[first], residuals, factors[first].places)


def _effect(factor: Factor, scores: Array, generator: np.random.Generator) -> Effect:
    """Estimate the effect of a factor on the scores, with a permutation test."""
    mine = scores[factor.rows] - scores[factor.rows].mean()
    design = factor.design(factor.places)
    basis, sizes, _ = np.linalg.svd(design - design.mean(axis=0), full_matrices=False)
    basis, total, count = basis[:, sizes > 1e-6], float(mine @ mine), len(mine)
    freedom = count - basis.shape[1] - 1
    if count < MIN_TRIALS or not basis.shape[1] or freedom < 1 or total < 1e-9:
        return Effect(1.0)
    explained = float(((mine @ basis) ** 2).sum()) / total
    times = min(PERMUTATIONS, MAX_PERMUTED // count)
    permuted = ((generator.permuted(np.tile(mine, (times, 1)), axis=1) @ basis) ** 2).sum(
        axis=1
    ) / total
    fit = _fit_at(factor, scores, factor.tried)
    best = float(factor.tried[int(fit.argmax())])
    share = max(0.0, 1 - (1 - explained) * (count - 1) / freedom) * min(
        1.0, float(mine.var() / max(1e-12, factor.scores.var()))
    )
    return Effect(
        (1 + int((permuted >= explained - 1e-9).sum())) / (times + 1), share=share, best=best
    )


def _fit_at(factor: Factor, scores: Array, places: Array) -> Array:
    """Fit the scores of a parameter's observations, and evaluate the fit at these places."""
    mine, ones = scores[factor.rows], np.ones((len(factor.rows), 1))
    weights, *_ = np.linalg.lstsq(np.hstack([ones, factor.design(factor.places)]), mine, rcond=None)
    return np.asarray(
        np.hstack([np.ones((len(places), 1)), factor.design(places)]) @ weights, dtype=float
    )


def revise(
    factor: Factor, effect: Effect, best: Params | None, refusal: Refusal
) -> tuple[Domain, list[Change]]:
    """Return the next domain of a parameter, and its changes.

    `best` is None if the best trial has no value in this domain.
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
    """Return the next range, and its changes.

    If the effect is clear, the range becomes narrower. If the best value is at an edge, the range
    is widened there.
    """
    domain, scale, path = factor.domain, factor.scale, factor.path
    assert isinstance(domain, Range)
    assert scale is not None
    before, low, high = _span(domain), domain.low, domain.high
    top = scale.place(best[path]) if best is not None else None
    side = _edge(top, effect) if top is not None else 0
    if effect.is_clear:
        first, last = _window(factor, effect, top, side)
        low, high = _allowed_bounds(
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
    flag = f"{factor.label}: the best, {_format_value(best[path])}, is {where} the edge of {before}"
    if effect.p > LIKELY or abs(effect.best - (side > 0)) > TOWARDS:
        now = f"; {_span(narrower)} from now on ({p})" if is_narrower else ""
        return narrower, [
            Change(
                path,
                "doubtful",
                f"{flag}: not widened, because it is not clear that values beyond it are "
                f"better{now}",
                flag,
            )
        ]
    new, reason = _widen(domain, scale, side, lambda value: refusal({**best, path: value}, path))
    wider = replace(narrower, high=new) if side > 0 else replace(narrower, low=new)
    now = f"; {_span(wider)} from now on ({p})" if is_narrower else ""
    if new == end:
        return wider, [
            Change(
                path, "edge", f"{flag}, and cannot be widened: {reason}{now}", flag, effect.is_clear
            )
        ]
    return wider, [
        Change(
            path, "widened", f"{flag}: widened to {_format_value(new)}{now}", flag, effect.is_clear
        )
    ]


def _edge(place: float, effect: Effect) -> int:
    """Return the end of the range at which the best value is: -1 (low), 1 (high), or 0 for neither.

    `place` is the place of the best value, from 0 to 1. If the effect is clear and its fit is best
    at an end, it suffices that the best value is near this end.
    """
    for side in (-1, 1):
        away = place if side < 0 else 1 - place
        at = effect.best if side < 0 else 1 - effect.best
        if away <= EDGE or (effect.is_clear and at <= EDGE and away <= TOWARDS):
            return side
    return 0


def _window(factor: Factor, effect: Effect, top: float | None, side: int) -> tuple[float, float]:
    """Return the part (low, high) of a range around its best few values and the best fit.

    The larger the effect, the narrower the part. If the best value is at an edge (`side`), that
    edge does not change.
    """
    few = factor.best_few()
    ends = (few[0] if top is None else top, effect.best, *np.quantile(few, (MARGIN, 1 - MARGIN)))
    low, high = min(ends) - MARGIN, max(ends) + MARGIN
    if (short := max(NARROWEST, 1 - math.sqrt(effect.share)) - (high - low)) > 0:
        low, high = low - short / 2, high + short / 2
    # If the part extends beyond one end of the range, the excess is added at its other end.
    low, high = low - max(0.0, high - 1), high - min(0.0, low)
    return (0.0 if side < 0 else max(0.0, low)), (1.0 if side > 0 else min(1.0, high))


def _allowed_bounds(domain: Range, low: float, high: float) -> tuple[float, float]:
    """Round new bounds to values that the range can have, within its current bounds."""
    if domain.step is not None:
        first, last = (
            math.floor((low - domain.low) / domain.step + 1e-9),
            math.ceil((high - domain.low) / domain.step - 1e-9),
        )
        low, high = (domain.low + number * domain.step for number in (first, last))
    if isinstance(domain, Int):
        low, high = math.floor(low + 1e-9), math.ceil(high - 1e-9)
    low, high = max(domain.low, low), min(domain.high, high)
    ends = max(domain.low, _round(domain, low)), min(domain.high, _round(domain, high))
    return ends if ends[0] < ends[1] else (low, high)


def _round(domain: Domain, value: float) -> float:
    """Round a number for readability.

    It becomes an integer for an `Int`. Otherwise it has 12 significant digits, or 3 for a `Float`
    without a step.
    """
    return (
        round(value)
        if isinstance(domain, Int)
        else float(
            f"{value:.3g}" if isinstance(domain, Float) and domain.step is None else f"{value:.12g}"
        )
    )


def _widen(
    domain: Range, scale: Scale, side: int, refused: Callable[[Any], str]
) -> tuple[float, str]:
    """Find the new end of a range that is widened.

    Returns:
        The new end, as far out as is allowed, and an empty text; or the old end and the reason why
        no other is allowed.
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
        value = _round(domain, value)
        if (value - end) * side <= 0:
            break
        if not (objection := refused(value)):
            return value, ""
        reason = reason or objection
    return end, reason.rstrip(".") or "there is no number beyond it"


def _numbers(
    factor: Factor, effect: Effect, best: Params | None, refusal: Refusal
) -> tuple[Domain, list[Change]]:
    """Return the next options of a choice of numbers, and the changes.

    If the effect is clear, new options are inserted between the best one and its neighbours. If the
    best option is the first or the last, a new one may be added beyond it.
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
        before, after = _format_values(row), _format_values(new)
        text = f"{factor.label}: {before} becomes {after}, around the best ({p})"
        return _choice(factor, new), [Change(path, "finer", text)] if is_finer else []
    beyond, reason = _beyond(
        row, top, side, scale.log, lambda value: refusal({**best, path: value}, path)
    )
    new = sorted({*new, *([beyond] if beyond is not None else [])})
    value = _format_value(row[top])
    flag = f"{factor.label}: the best, {value}, is at the edge of {_format_values(row)}"
    now = f"; {_format_values(new)} from now on ({p})" if is_finer else ""
    if beyond is None:
        return _choice(factor, new), [
            Change(
                path, "edge", f"{flag}, and cannot be widened: {reason}{now}", flag, effect.is_clear
            )
        ]
    return _choice(factor, new), [
        Change(
            path,
            "widened",
            f"{flag}: widened to {_format_value(beyond)}{now}",
            flag,
            effect.is_clear,
        )
    ]


def _beyond(
    row: list[Any], top: int, side: int, log: bool, refused: Callable[[Any], str]
) -> tuple[Any, str]:
    """Find a number beyond the first or last option, which has the index `top`.

    The first attempt is as far from this option as the neighbour on the other side. If it is
    refused, closer numbers are tried.

    Returns:
        The number and an empty text; or None and the reason if all numbers are refused.
    """
    reason = ""
    for halved in range(MAX_HALVED // 2):
        value = _between(row[top], row[top - side], log, -1 / 2**halved)
        if value in row:
            break
        if not (objection := refused(value)):
            return value, ""
        reason = reason or objection
    return None, reason.rstrip(".") or "there is no number beyond it"


def _finer(
    row: list[Any], first: int, last: int, log: bool, is_allowed: Callable[[Any], bool]
) -> list[Any]:
    """Return the options from index `first` to `last`, with new ones between and beside them.

    If a new option is not allowed, its neighbours are included instead.
    """
    options = row[first : last + 1]
    for below, above in zip(
        range(max(0, first - 1), min(last + 1, len(row) - 1)),
        range(max(1, first), min(last + 2, len(row))),
        strict=True,
    ):
        middle = _between(row[below], row[above], log)
        if middle not in row and is_allowed(middle):
            options.append(middle)
        else:
            options += [row[number] for number in (below, above) if row[number] not in options]
    return sorted(options)


def _between(start: Any, end: Any, log: bool, part: float = 0.5) -> Any:
    """Return the number at the fraction `part` of the way from `start` to `end`.

    With a `part` of -1, the number is as far from `start` as `end` is, but on the other side. If
    both `start` and `end` are integers, so is the number. Otherwise it is rounded to at least two
    digits, and to as many as are needed to differ from both.
    """
    value = (
        math.exp(math.log(start) + part * math.log(end / start))
        if log
        else start + part * (end - start)
    )
    if isinstance(start, int) and isinstance(end, int):
        return round(value)
    rounded = (float(f"{value:.{digits}g}") for digits in range(2, 17))
    return next(
        (
            number
            for number in rounded
            if number not in (start, end)
            and (number > start) == (value > start)
            and (number > end) == (value > end)
        ),
        value,
    )


def _choice(factor: Factor, options: Sequence[Any]) -> Choice:
    return Choice(*options, when=factor.domain.when)


def _options(
    factor: Factor, effect: Effect, best_trial: Params | None
) -> tuple[Domain, list[Change]]:
    """Return the next options of a choice without an order, and the changes.

    Clearly worse options are dropped, but at least two options remain. The option of the best trial
    is never dropped.
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
    remaining = [option for number, option in enumerate(factor.options) if number not in worse]
    dropped = _format_values([factor.options[number] for number in sorted(worse)])
    name = _format_value(factor.options[best])
    text = f"{factor.label}: left out {dropped}, clearly worse than {name}"
    return _choice(factor, remaining), [Change(factor.path, "dropped", text)]


def _is_worse(
    factor: Factor, number: int, best: int, level: float, generator: np.random.Generator
) -> bool:
    """True if an option's scores are clearly below those of the best one (permutation test)."""
    scores, best_scores = (
        factor.scores[factor.places == number],
        factor.scores[factor.places == best],
    )
    if min(len(scores), len(best_scores)) < MIN_BEST:
        return False
    pooled, gap = (
        np.concatenate([scores, best_scores]),
        best_scores.mean() - scores.mean(),
    )
    permuted = generator.permuted(np.tile(pooled, (PERMUTATIONS, 1)), axis=1)
    differences = permuted[:, len(scores) :].mean(axis=1) - permuted[:, : len(scores)].mean(axis=1)
    return bool((1 + int((differences >= gap - 1e-9).sum())) / (PERMUTATIONS + 1) <= level)


def _span(domain: Range) -> str:
    return f"{_format_value(domain.low)} to {_format_value(domain.high)}"


def _format_value(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _format_values(values: Any) -> str:
    return (
        ", ".join(map(_format_value, values))
        if isinstance(values, list | tuple)
        else _format_value(values)
    )
