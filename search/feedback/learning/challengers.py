"""Define the search for a challenger, with a space around the champion.

The first two challengers continue the champion's training, at its own learning rate and at a tenth
of it. The third trains the champion's config from scratch. The others are sampled from the space,
and either continue the champion's training or start from scratch. A champion that is a baseline
has only one challenger: the same model, fitted again. If the champion is an ensemble, its members
are trained from scratch, and their ensemble is a challenger, too.
"""

from dataclasses import dataclass, replace
from functools import partial

from search.decisions.refinement import effective_params, observations
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

CHALLENGERS = 8
"""Default number of challengers."""
MAX_LR_DIVISOR, SECOND_LR_DIVISOR = 30, 10
"""Challengers that continue the champion's training use its learning rate, divided by a number from
1 to `MAX_LR_DIVISOR`. For the second challenger, this number is `SECOND_LR_DIVISOR`.
"""
MIN_OBSERVATIONS = 4
"""The space is narrowed only if at least this many trials were observed."""
LR, WARM_START, MODEL = "optimizer.lr", "warm_start", "model.name"


@dataclass(frozen=True)
class ChampionData:
    """The champion's search, trial, config and data."""

    experiment: Experiment
    """The search that trained the champion."""
    result: SearchResult
    """The result of that search."""
    trial: TrialResult
    config: TrialConfig
    """The config of that trial, with the current folder of the data."""
    dataset: Dataset

    @property
    def members(self) -> list[TrialResult]:
        """The trials of which the champion is an ensemble; empty if it is a single trial."""
        return [self.result.trials[name] for name in self.trial.members]


def challenger_experiment(
    name: str, champion: ChampionData, data: DataConfig, warm: str, *, trials: int, budget: Budget
) -> Experiment:
    """Build the experiment that searches for a challenger.

    No challenger is stopped early: those that continue the champion's training are ahead of the
    others at first, even if they end up worse.

    Args:
        name: the name of the new search.
        champion: the champion and its search.
        data: the config of the joined data.
        warm: the champion's checkpoint, relative to the folder of the joined data; empty for a
            baseline and for an ensemble.
        trials: the number of challengers; a baseline always has one, an ensemble its members.
        budget: the budget of the new search.
    """
    space = challenger_space(champion, warm)
    return replace(
        champion.experiment,
        name=name,
        space_name=IMPROVEMENT,
        space=space,
        space_source="",
        settings={},
        base=replace(champion.experiment.base, data=data).override(space.base),
        algorithm="bayes",
        scheduler="fifo",
        trials=trials if warm else len(champion.members) or 1,
        budget=budget,
        min_gain=0.0,
        stop_at_chance=0,
        objectives=(),
        sealed=True,
    )


def challenger_space(champion: ChampionData, warm: str) -> SearchSpace:
    """Build the space of the challengers, restricted to the champion's model.

    `warm` is the champion's checkpoint. If it is empty, the space contains only the champion's
    config, or begins with those of the members of an ensemble.
    """
    if champion.members:
        return _space_of_members(champion)
    params, model = effective_params(champion.trial), champion.config.model.name
    space = _space_without_warm_start(champion.experiment.space)
    if MODEL in params:
        space = space.fixed({MODEL: model})
    params = {path: value for path, value in params.items() if path not in (MODEL, WARM_START)}
    base = {path: value for path, value in space.base.items() if _is_applicable(path, model)}
    space = replace(space, base=base, trials=None, reference={}, first=(), combine=1)
    if not warm:
        return replace(space, domains={}, base={**base, **params})
    observed = [
        observation
        for observation in observations(champion.result)
        if observation.params.get(MODEL, model) == model and not observation.params.get(WARM_START)
    ]
    if len(observed) >= MIN_OBSERVATIONS:
        refuses = partial(refusal, champion.experiment, champion.dataset)
        space, _ = narrow(space, observed, params, refuses)
    lr = champion.config.optimizer.lr
    domains: dict[str, Domain] = {WARM_START: Choice(warm, "")}
    for path in (*space.domains, *({LR} - space.domains.keys())):
        warm_domain: Domain | None = None
        if path == LR:
            warm_domain = Float(lr / MAX_LR_DIVISOR, lr, log=True)
        elif path in params:
            warm_domain = Choice(params[path])
        domains[path] = _warm_or_fresh_domain(path, space, params, warm_domain, warm)
    fresh_params = {WARM_START: "", **params}
    warm_params = {**fresh_params, WARM_START: warm, LR: lr}
    first = [warm_params, {**warm_params, LR: lr / SECOND_LR_DIVISOR}, fresh_params]
    return replace(space, domains=domains, first=first)


def _space_of_members(champion: ChampionData) -> SearchSpace:
    """Build the space of an ensemble's members: exactly the params with which each was trained.

    For each model, the space has the parameters that any of its members has, with the values of
    their configs. (The search's own space may have been narrowed since.)
    """
    configs = champion.config.members
    models = list(dict.fromkeys(config.model.name for config in configs))
    paths: dict[str, dict[str, None]] = {model: {} for model in models}
    for member, config in zip(champion.members, configs, strict=True):
        own = dict.fromkeys(path for path in member.params if path not in (MODEL, WARM_START))
        paths[config.model.name] |= own
    first = [
        {MODEL: config.model.name} | {path: config.value(path) for path in paths[config.model.name]}
        for config in configs
    ]
    domains: dict[str, Domain] = {MODEL: Choice(*models)}
    for path in dict.fromkeys(path for each in paths.values() for path in each):
        cases: list[Domain] = []
        for model in models:
            if path in paths[model]:
                values = [params[path] for params in first if params[MODEL] == model]
                cases.append(Choice(*dict.fromkeys(values), when={MODEL: model}))
        domains[path] = cases[0] if len(cases) == 1 else Cases(*cases)
    base = {
        path: value
        for path, value in champion.experiment.space.base.items()
        if path not in (MODEL, WARM_START) and all(_is_applicable(path, model) for model in models)
    }
    return SearchSpace(domains, base=base, first=first, combine=len(configs))


def _space_without_warm_start(space: SearchSpace) -> SearchSpace:
    """Copy a space without the cases that continue the training of an earlier champion."""
    domains: dict[str, Domain] = {}
    for path, domain in space.domains.items():
        cases = [
            _set_condition(
                case, {name: value for name, value in case.when.items() if name != WARM_START}
            )
            for case in (domain.cases if isinstance(domain, Cases) else (domain,))
            if not case.when.get(WARM_START)
        ]
        if path != WARM_START and cases:
            domains[path] = cases[0] if len(cases) == 1 else Cases(*cases)
    base = {path: value for path, value in space.base.items() if path != WARM_START}
    return replace(space, domains=domains, base=base, first=())


def _is_applicable(path: str, model: str) -> bool:
    """True if a setting of the base config applies to this model and to the joined data."""
    if path.startswith("data."):
        return path in PER_TRIAL_DATA
    option = model_option(path)
    return option in ("", "name") or option in MODELS[model].options


def _warm_or_fresh_domain(
    path: str, space: SearchSpace, params: Params, warm_domain: Domain | None, warm: str
) -> Domain:
    """Build a parameter's domain: `warm_domain` for a warm start, otherwise that of the space."""
    cases = [] if warm_domain is None else [_set_condition(warm_domain, {WARM_START: warm})]
    if path in space.domains:
        domain, active = space.domains[path], space.under(path, params)
        for case in domain.cases if isinstance(domain, Cases) else (domain,):
            wide = _widen(case, params[path]) if case is active and path in params else case
            cases.append(_set_condition(wide, {**case.when, WARM_START: ""}))
    return Cases(*cases)


def _widen(domain: Domain, value: object) -> Domain:
    """Widen a domain so that it contains `value`, which a refined space may have excluded."""
    if domain.holds(value):
        return domain
    if isinstance(domain, Range) and isinstance(value, int | float):
        return replace(domain, low=min(domain.low, value), high=max(domain.high, value))
    assert isinstance(domain, Choice)
    return Choice(*domain.options, value, when=domain.when)


def _set_condition(domain: Domain, when: Params) -> Domain:
    if isinstance(domain, Choice):
        return Choice(*domain.options, when=when)
    return replace(domain, when=when)
