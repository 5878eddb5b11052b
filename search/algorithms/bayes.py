"""Bayesian search by Optuna's samplers, which also know how far each trial came.

They are the tree-structured Parzen estimator (TPE, Bergstra et al. 2011) and a Gaussian process. No
other module but the report page's importances imports optuna.

If the scheduler can predict the values of trials that have not ended, all are compared at the
horizon. Such a trial counts with a value drawn anew from its prediction for each proposal, so that
an uncertain prediction counts as uncertain, and never with less than it has reached. A prediction
may be wrong, and a region that is never proposed is never corrected: so every `CHANCE_EVERY`th
proposal is drawn at random, as in BOHB (Falkner et al. 2018, arXiv 1807.01774).

Otherwise trials are compared at the last epoch that `MIN_COMPARED` of them have reached, each by
its best value until then. A trial that completed before that epoch counts with its best value. A
trial that has not come so far, because it runs, is held at a rung or was stopped, ranks behind, by
the epoch it reached and its value there; one that diverged ranks last; one that failed says
nothing. So a trial that was stopped early is never taken for one that ended badly, nor for one that
ended. A Gaussian process knows no ranks: there such a trial counts with its value plus the mean
gain of others since that epoch, and a diverged one with the lowest value of all.

If networks are to cost little too (`--objective`), trials are compared by Pareto front first, and
within a front by the metric.
"""

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from search.algorithms.base import Algorithm
from search.journal.result import STUDY
from search.schedulers.base import Expected
from search.space import Cases, Choice, Domain, Int, Range, SearchSpace, Steps
from search.values.objectives import Costs, in_order
from trainables.values import Params

MIN_COMPARED = 10
"""The minimum number of trials to compare, once there are so many."""
TRIES, DRAWS = 8, 1000
"""The times that TPE, and then random sampling, is asked for params that are new."""
CHANCE_EVERY = 3
"""While values at the horizon are only predicted, one of so many proposals is drawn at random."""
STARTUP = 10
"""The samplers themselves draw so many at random first, whatever has been heard."""
OF_ENDS = TRIES
"""Part of the seed that tells the draws of predicted values from those of proposals, whose attempts
are numbered below it.
"""
MAX_TRIALS = 1000
"""The model is fitted to so many trials, the last ones: TPE's time grows with them."""
STATES = {
    "completed": TrialState.COMPLETE,
    "stopped": TrialState.PRUNED,
    "diverged": TrialState.FAIL,
    "failed": TrialState.FAIL,
    "": TrialState.RUNNING,
}


@dataclass
class Known:
    """A trial as heard of so far."""

    params: Params
    """By the study's names."""
    distributions: dict[str, BaseDistribution]
    values: dict[int, float] = field(default_factory=dict)
    """By epoch, the best value so far."""
    costs: Costs = ()
    """The costs of its network, if cost is an objective."""
    outcome: str = ""
    is_inside: bool = True
    """True if it is a point of the space: nothing is learned from others."""

    @property
    def epochs(self) -> int:
        """The last epoch heard of; 0 before the first."""
        return max(self.values, default=0)

    def at(self, epoch: int) -> float:
        """Return its best value until this epoch."""
        return max(value for reached, value in self.values.items() if reached <= epoch)


class Bayes(Algorithm):
    """Multivariate TPE that proposes nothing twice.

    Conditional parameters are modelled where they exist.
    """

    listens = True
    most = MAX_TRIALS

    def __init__(self, space: SearchSpace, seed: int) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.space, self.seed = space, seed
        self.known: dict[str, Known] = {}
        self.proposed: set[str] = set()
        self.expected: Mapping[str, Expected] = {}
        """The predicted values at the horizon, by trial."""

    def ask(self, trial: str) -> Params | None:
        """Return TPE's most promising params beside the trials that run now.

        None when a space whose points can be counted is used up.
        """
        number = len(self.known)
        study = self._study()
        for params in self._proposals(study, number):
            if repr(params) not in self.proposed:
                self.replay(trial, params)
                return params
        return None

    def replay(self, trial: str, params: Params) -> None:
        """Hear of a trial with these params.

        Nothing is learned from one that is not in the space any more.
        """
        self.proposed.add(repr(params))
        known, distributions = self._in_study(params)
        self.known[trial] = Known(known, distributions, is_inside=len(known) == len(params))

    def _proposals(self, study: optuna.Study, number: int) -> Iterator[Params]:
        """Yield proposals for the trial of this number until one of them is new.

        First comes a first point of the space, if one is left; then TPE's proposals, unless it is
        chance's turn; then random draws; at last every point of a space that can be counted.
        """
        by_chance = (
            bool(self.expected)
            and number >= max(STARTUP, len(self.space.first))
            and number % CHANCE_EVERY == CHANCE_EVERY - 1
        )
        for attempt in range(0 if by_chance else TRIES):
            study.sampler = self._sampler(number, attempt)
            if number < len(self.space.first) and attempt == 0:
                study.enqueue_trial(self._in_study(self.space.first[number])[0])
            yield self._ask(study)
        generator = np.random.default_rng([self.seed, number])
        yield from (self.space.sample(generator) for _ in range(DRAWS))
        if self.space.size is not None:
            yield from self.space.points()

    def _ask(self, study: optuna.Study) -> Params:
        asked = study.ask()
        params: Params = {}
        for path in self.space.domains:
            if (domain := self.space.under(path, params)) is not None:
                params[path] = suggest(asked, self._name(path, domain), domain)
        # Nothing is learned from a failed trial: a proposal is either made once more or, once
        # taken, told to the next study from `known`.
        study.tell(asked, state=TrialState.FAIL)
        return params

    def _study(self) -> optuna.Study:
        """Return the study that TPE is to learn from."""
        study = optuna.create_study(
            direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0)
        )
        known = list(self.known.items())[-self.most :]
        reached = sorted(
            (trial.epochs for _, trial in known if trial.outcome not in ("diverged", "failed")),
            reverse=True,
        )
        compared = max(
            1,
            reached[MIN_COMPARED - 1]
            if len(reached) >= MIN_COMPARED
            else min(filter(None, reached), default=1),
        )
        values = self._study_values(dict(known), compared)
        study.add_trials([_as_learned(trial, values.get(name)) for name, trial in known])
        return study

    def _study_values(self, known: dict[str, Known], compared: int) -> dict[str, float]:
        """Return the values that trials count with; the others rank behind, by `_as_learned`."""
        return self._ends(known) or _compared_values(known, compared)

    def _ends(self, known: dict[str, Known]) -> dict[str, float]:
        """Return the values of completed trials and drawn ones of trials that have not ended.

        Empty if they cannot be predicted.
        """
        if not self.expected or any(trial.costs for trial in known.values()):
            return {}
        generator = np.random.default_rng([self.seed, len(self.known), OF_ENDS])
        ended = {
            name: trial.at(trial.epochs)
            for name, trial in known.items()
            if trial.outcome == "completed"
        }
        waiting = {
            name: trial
            for name, trial in known.items()
            if name in self.expected and trial.values and trial.outcome in ("", "stopped")
        }
        drawn = {
            name: self.expected[name].draw(generator, trial.at(trial.epochs), self.metric.top_score)
            for name, trial in waiting.items()
        }
        return ended | drawn

    def _in_study(self, params: Params) -> tuple[Params, dict[str, BaseDistribution]]:
        """Return those of these params that the space has, and their distributions.

        Both are by the study's names.
        """
        known: Params = {}
        distributions: dict[str, BaseDistribution] = {}
        for path, value in params.items():
            domain = self.space.under(path, params) if path in self.space.domains else None
            if domain is not None and is_held(domain, value):
                name = self._name(path, domain)
                known[name], distributions[name] = value, distribution(domain)
        return known, distributions

    def _name(self, path: str, domain: Domain) -> str:
        """Return the study's name for a parameter.

        There is one name for each domain, since Optuna takes all values of one name to be of one
        distribution.
        """
        whole = self.space.domains[path]
        return f"{path} ({whole.cases.index(domain) + 1})" if isinstance(whole, Cases) else path

    def _sampler(self, number: int, attempt: int) -> optuna.samplers.BaseSampler:
        """Return a sampler whose draws depend on the trial's number and the attempt alone."""
        return self._tpe(self._seed(number, attempt))

    def _seed(self, number: int, attempt: int) -> int:
        return int(
            np.random.SeedSequence(
                [self.seed, number, attempt] if attempt else [self.seed, number]
            ).generate_state(1)[0]
        )

    def _tpe(self, seed: int) -> optuna.samplers.BaseSampler:
        conditional = any(domain.parents for domain in self.space.domains.values())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return optuna.samplers.TPESampler(
                seed=seed, multivariate=True, group=conditional, constant_liar=True
            )

    def cost(self, trial: str, costs: Costs) -> None:
        """Hear what its network costs."""
        self.known[trial].costs = costs

    def expect(self, expected: Mapping[str, Expected]) -> None:
        """Hear the predicted values at the horizon."""
        self.expected = expected

    def report(self, trial: str, epoch: int, value: float) -> None:
        """Hear how good it was after this epoch."""
        known = self.known[trial]
        known.values[epoch] = max(value, known.values.get(known.epochs, value))

    def tell(self, trial: str, outcome: str, value: float | None) -> None:
        """Hear how it ended, and with which value."""
        known = self.known[trial]
        known.outcome = outcome
        if value is not None:
            known.values[known.epochs or 1] = value

    def save(self, folder: Path) -> None:
        """Write the study as `optuna.log`, a new file each time.

        It is a file of Optuna's journal storage, which its dashboard opens.
        """
        partial = folder / f".{STUDY}.partial"
        for left in folder.glob(f"{partial.name}*"):
            left.unlink()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            storage = JournalStorage(JournalFileBackend(str(partial)))
        score = self.metric.score
        study = optuna.create_study(
            storage=storage,
            study_name=folder.name,
            direction="maximize" if self.metric.mode == "max" else "minimize",
        )
        for name, known in self.known.items():
            value = score(known.at(known.epochs)) if known.outcome == "completed" else None
            told = replace(known, values={epoch: score(at) for epoch, at in known.values.items()})
            study.add_trial(_frozen(told, STATES[known.outcome], value, trial=name))
        partial.replace(folder / STUDY)


class Gaussian(Bayes):
    """A Gaussian process with log expected improvement.

    Conditional parameters are proposed by TPE, and so are all if the process proposes what was
    proposed before, as at an edge of the space. A proposal takes tenths of a second, and more with
    the number of trials; the first one a few seconds, for torch, which it computes with.
    """

    most = 300

    def _sampler(self, number: int, attempt: int) -> optuna.samplers.BaseSampler:
        if attempt:
            return super()._sampler(number, attempt)
        seed = self._seed(number, attempt)
        return optuna.samplers.GPSampler(
            seed=seed, independent_sampler=self._tpe(seed), warn_independent_sampling=False
        )

    def _study_values(self, known: dict[str, Known], compared: int) -> dict[str, float]:
        values = super()._study_values(known, compared)
        if not values:
            return values
        least, found = min(values.values()), dict(values)
        has_costs = any(trial.costs for trial in known.values())
        for name, trial in known.items():
            if trial.outcome == "diverged":
                found[name] = least
            elif name not in values and trial.values and trial.outcome != "failed":
                found[name] = (
                    least
                    if has_costs
                    else min(
                        max(values.values()),
                        trial.at(trial.epochs) + _mean_gain(known, values, trial.epochs),
                    )
                )
        return found


def _mean_gain(known: dict[str, Known], values: dict[str, float], since: int) -> float:
    """Return the mean gain since this epoch of the trials that have values."""
    return float(
        np.mean(
            [
                value - known[name].at(since)
                for name, value in values.items()
                if min(known[name].values) <= since
            ]
            or [0.0]
        )
    )


def _compared_values(known: dict[str, Known], compared: int) -> dict[str, float]:
    """Return the values that trials are compared by at this epoch.

    Only trials count that have come there or completed before. With costs the value is the negative
    place in the order of fronts.
    """
    heard = {
        name: trial
        for name, trial in known.items()
        if trial.values and trial.outcome not in ("diverged", "failed")
    }
    there = {
        name: trial
        for name, trial in heard.items()
        if trial.epochs >= compared or trial.outcome == "completed"
    }
    values = {name: trial.at(min(compared, trial.epochs)) for name, trial in there.items()}
    costs = {name: trial.costs for name, trial in there.items()}
    if any(costs.values()):
        return {name: -float(place) for place, name in enumerate(in_order(values, costs)[0])}
    return values


def _as_learned(known: Known, value: float | None) -> FrozenTrial:
    """Return a trial as a sampler is to see it, with this value if it has one."""
    if known.outcome == "failed" or not known.is_inside:
        return _frozen(known, TrialState.FAIL)
    if value is not None:
        return _frozen(known, TrialState.COMPLETE, value)
    if known.outcome == "diverged":
        return create_trial(
            state=TrialState.PRUNED, params=known.params, distributions=known.distributions
        )
    return _frozen(known, TrialState.PRUNED if known.values else TrialState.RUNNING)


def _frozen(
    known: Known, state: TrialState, value: float | None = None, **attributes: str
) -> FrozenTrial:
    """Return a trial in Optuna's form."""
    given = {
        "params": known.params,
        "distributions": known.distributions,
        "intermediate_values": known.values,
        "user_attrs": attributes,
    }
    return create_trial(state=state, value=value, **given)  # type: ignore[arg-type]


def suggest(trial: Trial, name: str, domain: Domain) -> object:
    """Ask Optuna for one parameter, by the study's name for it."""
    if isinstance(domain, Choice):
        return trial.suggest_categorical(name, domain.options)
    assert isinstance(domain, Range)
    if isinstance(domain, Int):
        return trial.suggest_int(
            name, domain.low, domain.high, log=domain.log, step=int(domain.step or 1)
        )
    value = trial.suggest_float(name, domain.low, domain.high, log=domain.log, step=domain.step)
    return domain.values.nearest(value) if isinstance(domain.values, Steps) else value


def is_held(domain: Domain, value: Any) -> bool:
    """Return whether a domain holds a value, by Optuna's rules too."""
    return domain.holds(value) and bool(domain.count is None or domain.times(value))


def distribution(domain: Domain) -> BaseDistribution:
    """Return a domain in Optuna's form."""
    if isinstance(domain, Choice):
        return CategoricalDistribution(domain.options)
    assert isinstance(domain, Range)
    if isinstance(domain, Int):
        return IntDistribution(domain.low, domain.high, log=domain.log, step=int(domain.step or 1))
    return FloatDistribution(domain.low, domain.high, log=domain.log, step=domain.step)
