"""The search for a challenger: its space, made from the champion and what its search has observed.

It begins with the champion trained on, at its own learning rate and at a tenth of it, then with its
config trained anew. The other challengers are of the space around it, trained on or anew. Of a
baseline there is one: itself, fitted anew.
"""

from dataclasses import dataclass, replace
from functools import partial

from search.decisions.refinement import effective, observations
from search.decisions.refinement_policy import refusal
from search.decisions.space_refinement import narrow
from search.design.budget import Budget
from search.design.experiment import Experiment, model_option
from search.journal.result import IMPROVEMENT, SearchResult, TrialResult
from search.space import PER_TRIAL_DATA, Cases, Choice, Domain, Float, Range, SearchSpace
from trainables.catalog.models import MODELS
from trainables.config import DataConfig, TrialConfig
from trainables.datasets.arrays import Dataset
from trainables.values import Params

TRIALS = 8
SLOWEST, SLOWER = 30, 10
"""By what the champion's learning rate is divided at most where it is trained on, and in the second
challenger.
"""
MIN_OBSERVED = 4
"""The fewest trainings by which a space is narrowed."""
LR, WARM, MODEL = "optimizer.lr", "warm_start", "model.name"


@dataclass(frozen=True)
class Known:
    """A champion, with its search, its trial and its data."""

    experiment: Experiment
    """Its search."""
    result: SearchResult
    """The result of that search."""
    trial: TrialResult
    config: TrialConfig
    """Of its trial, with the place of the data now."""
    dataset: Dataset


def experiment_of(
    name: str, known: Known, data: DataConfig, warm: str, *, trials: int, budget: Budget
) -> Experiment:
    """Return the search for a challenger.

    None is stopped early: those that are trained on are ahead of those trained anew at first,
    whatever they come to.

    Args:
        name: its name.
        known: the champion.
        data: the joined data.
        warm: the champion's checkpoint there; empty of a baseline.
        trials: the number of challengers.
        budget: what they may use.
    """
    space = space_of(known, warm)
    return replace(
        known.experiment,
        name=name,
        space_name=IMPROVEMENT,
        space=space,
        space_source="",
        settings={},
        base=replace(known.experiment.base, data=data).override(space.base),
        algorithm="bayes",
        scheduler="fifo",
        trials=trials if warm else 1,
        budget=budget,
        min_gain=0.0,
        objectives=(),
        sealed=True,
    )


def space_of(known: Known, warm: str) -> SearchSpace:
    """Return the space of the challengers, with the champion's family alone."""
    params, model = effective(known.trial), known.config.model.name
    space = _anew(known.experiment.space)
    if MODEL in params:
        space = space.fixed({MODEL: model})
    params = {path: value for path, value in params.items() if path not in (MODEL, WARM)}
    base = {path: value for path, value in space.base.items() if _applies(path, model)}
    space = replace(space, base=base, trials=None, reference={}, first=())
    if not warm:
        return replace(space, domains={}, base={**base, **params})
    observed = [
        one
        for one in observations(known.result)
        if one.params.get(MODEL, model) == model and not one.params.get(WARM)
    ]
    if len(observed) >= MIN_OBSERVED:
        refuses = partial(refusal, known.experiment, known.dataset)
        space, _ = narrow(space, observed, params, refuses)
    rate = known.config.optimizer.lr
    domains: dict[str, Domain] = {WARM: Choice(warm, "")}
    for path in (*space.domains, *({LR} - space.domains.keys())):
        own: Domain | None = None
        if path == LR:
            own = Float(rate / SLOWEST, rate, log=True)
        elif path in params:
            own = Choice(params[path])
        domains[path] = _both(path, space, params, own, warm)
    anew = {WARM: "", **params}
    on = {**anew, WARM: warm, LR: rate}
    first = (on, {**on, LR: rate / SLOWER}, anew)
    return replace(space, domains=domains, first=first)


def _anew(space: SearchSpace) -> SearchSpace:
    """Return a space without what it had for trainings that went on from an earlier champion."""
    domains: dict[str, Domain] = {}
    for path, domain in space.domains.items():
        cases = [
            _under(case, {name: value for name, value in case.when.items() if name != WARM})
            for case in (domain.cases if isinstance(domain, Cases) else (domain,))
            if not case.when.get(WARM)
        ]
        if path != WARM and cases:
            domains[path] = cases[0] if len(cases) == 1 else Cases(*cases)
    base = {path: value for path, value in space.base.items() if path != WARM}
    return replace(space, domains=domains, base=base, first=())


def _applies(path: str, model: str) -> bool:
    """Return whether a setting of all trials is one of this model's, with its data as they are."""
    if path.startswith("data."):
        return path in PER_TRIAL_DATA
    option = model_option(path)
    return option in ("", "name") or option in MODELS[model].options


def _both(path: str, space: SearchSpace, params: Params, own: Domain | None, warm: str) -> Domain:
    """Return a parameter's domain: where the champion is trained on `own`, anew the space's."""
    cases = [] if own is None else [_under(own, {WARM: warm})]
    if path in space.domains:
        domain, there = space.domains[path], space.under(path, params)
        for case in domain.cases if isinstance(domain, Cases) else (domain,):
            wide = _holding(case, params[path]) if case is there and path in params else case
            cases.append(_under(wide, {**case.when, WARM: ""}))
    return Cases(*cases)


def _holding(domain: Domain, value: object) -> Domain:
    """Return the domain, with this value too: a refined space may have left it."""
    if domain.holds(value):
        return domain
    if isinstance(domain, Range) and isinstance(value, int | float):
        return replace(domain, low=min(domain.low, value), high=max(domain.high, value))
    assert isinstance(domain, Choice)
    return Choice(*domain.options, value, when=domain.when)


def _under(domain: Domain, when: Params) -> Domain:
    """Return the domain under these conditions."""
    if isinstance(domain, Choice):
        return Choice(*domain.options, when=when)
    return replace(domain, when=when)
