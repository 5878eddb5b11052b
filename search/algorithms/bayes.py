"""Bayesian search with Optuna's samplers, which also use the epochs that each trial has reached.

They are the tree-structured Parzen estimator (TPE, Bergstra et al. 2011) and a Gaussian process.
Apart from this module, only the importances of the report page import optuna.

If the scheduler can predict the values of trials that have not ended, all trials are compared at
the horizon, the maximum number of epochs. For each proposal, the value of such a trial is sampled
from its prediction, so that the uncertainty of the prediction counts. The sampled value is at least
the best value that the trial has reached. A prediction may be wrong, and is never corrected in a
region where nothing is proposed. Therefore every `CHANCE_EVERY`th proposal is random, as in BOHB
(Falkner et al. 2018, arXiv 1807.01774).

Otherwise trials are compared at the last epoch that `MIN_COMPARED` of them have reached, by their
best values up to that epoch. For a trial that completed earlier, this is its best value. A trial
that has not reached that epoch, because it still runs, waits at a rung or was stopped, ranks behind
these. Such trials are ordered by their last epoch, and then by their best value. A diverged trial
ranks last, and a failed one is ignored. So a trial that was stopped early is treated neither as
completed nor as bad.

If some models are fitted in one epoch, such as baselines, and others trained in several, no epoch
suits the comparison of both: trials are then compared by their best values so far.

A Gaussian process needs values instead of ranks. There, a trial that has not reached the epoch gets
its own best value plus the mean gain of the other trials since its last epoch. A diverged trial
gets the lowest value of all.

With further objectives (`--objective`), trials are compared first by their Pareto front, and within
a front by the metric.
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
"""The number of trials that must have reached the epoch at which trials are compared."""
TRIES, DRAWS = 8, 1000
"""The maximum number of attempts to get new params from TPE, and then from random sampling."""
CHANCE_EVERY = 3
"""While values at the horizon are predicted, every third proposal is random."""
STARTUP = 10
"""The number of random proposals with which Optuna's samplers start by default."""
PREDICTION_STREAM = TRIES
"""The last part of the seed for sampling predicted values; the attempts of a proposal use the lower
numbers.
"""
MAX_TRIALS = 1000
"""The sampler is fitted to at most this number of trials, the latest ones, since TPE's time grows
with their number.
"""
STATES = {
    "completed": TrialState.COMPLETE,
    "stopped": TrialState.PRUNED,
    "diverged": TrialState.FAIL,
    "failed": TrialState.FAIL,
    "": TrialState.RUNNING,
}


@dataclass
class TrialHistory:
    """The results of a trial so far."""

    params: Params
    """The params, by their names in the Optuna study."""
    distributions: dict[str, BaseDistribution]
    values: dict[int, float] = field(default_factory=dict)
    """The best score so far, by epoch."""
    costs: dict[int, Costs] = field(default_factory=dict)
    """The values in further objectives, by the epoch after which they were received.

    Inference costs are received before the first epoch, as of epoch 0. Empty if the metric is the
    only objective.
    """
    outcome: str = ""
    is_inside: bool = True
    """True if the trial is a point of the space; other trials are not used."""

    @property
    def epochs(self) -> int:
        """The last epoch; 0 before the first epoch."""
        return max(self.values, default=0)

    def at(self, epoch: int) -> float:
        """Return the best score up to and including this epoch."""
        return max(value for reached, value in self.values.items() if reached <= epoch)

    def costs_at(self, epoch: int) -> Costs:
        """Return the last costs up to and including this epoch; the first ones if there are none.

        Empty if no costs were received.
        """
        reached = max((received for received in self.costs if received <= epoch), default=None)
        return next(iter(self.costs.values()), ()) if reached is None else self.costs[reached]


class Bayes(Algorithm):
    """Multivariate TPE with conditional parameters, which never proposes the same params twice."""

    learns = True
    most = MAX_TRIALS

    def __init__(self, space: SearchSpace, seed: int) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.space, self.seed = space, seed
        self.histories: dict[str, TrialHistory] = {}
        self.proposed: set[str] = set()
        self.expected: Mapping[str, Expected] = {}
        """The predicted score at the horizon, by trial."""

    def ask(self, trial: str) -> Params | None:
        """Return TPE's most promising params, given the results and the running trials.

        None if all points of a finite space have been proposed.
        """
        number = len(self.histories)
        study = self._study()
        for params in self._proposals(study, number):
            if repr(params) not in self.proposed:
                self.replay(trial, params)
                return params
        return None

    def replay(self, trial: str, params: Params) -> None:
        """Receive a trial with these params.

        If it is no longer a point of the space, its results are not used.
        """
        self.proposed.add(repr(params))
        study_params, distributions = self._study_params(params)
        self.histories[trial] = TrialHistory(
            study_params, distributions, is_inside=len(study_params) == len(params)
        )

    def _proposals(self, study: optuna.Study, number: int) -> Iterator[Params]:
        """Yield candidates for the trial with this number (from 0); `ask` uses the first new one.

        In this order, they are the space's own first point with this number, if it has one;
        proposals of TPE, unless a random proposal is due; random points; and, in a finite space,
        all points.
        """
        by_chance = (
            bool(self.expected)
            and number >= max(STARTUP, len(self.space.first))
            and number % CHANCE_EVERY == CHANCE_EVERY - 1
        )
        for attempt in range(0 if by_chance else TRIES):
            study.sampler = self._sampler(number, attempt)
            if number < len(self.space.first) and attempt == 0:
                study.enqueue_trial(self._study_params(self.space.first[number])[0])
            yield self._ask(study)
        generator = np.random.default_rng([self.seed, number])
        yield from (self.space.sample(generator) for _ in range(DRAWS))
        if self.space.size is not None:
            yield from self.space.points()

    def _ask(self, study: optuna.Study) -> Params:
        optuna_trial = study.ask()
        params: Params = {}
        for path in self.space.domains:
            if (domain := self.space.under(path, params)) is not None:
                params[path] = suggest(optuna_trial, self._name(path, domain), domain)
        # Samplers ignore failed trials, so a rejected proposal has no effect. If the proposal is
        # used, the next study receives it from `histories`.
        study.tell(optuna_trial, state=TrialState.FAIL)
        return params

    def _study(self) -> optuna.Study:
        """Create the study to which the sampler is fitted."""
        study = optuna.create_study(
            direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0)
        )
        last_trials = list(self.histories.items())[-self.most :]
        reached = sorted(
            (
                trial.epochs
                for _, trial in last_trials
                if trial.outcome not in ("diverged", "failed")
            ),
            reverse=True,
        )
        compared = max(
            1,
            reached[MIN_COMPARED - 1]
            if len(reached) >= MIN_COMPARED
            else min(filter(None, reached), default=1),
        )
        values = self._study_values(dict(last_trials), compared)
        study.add_trials([_as_learned(trial, values.get(name)) for name, trial in last_trials])
        return study

    def _study_values(self, trials: dict[str, TrialHistory], compared: int) -> dict[str, float]:
        """Return the values of the trials that can be compared, by trial; others rank behind them.

        `compared` is the epoch at which trials are compared if values cannot be predicted.
        """
        return self._predicted_values(trials) or _compared_values(trials, compared)

    def _predicted_values(self, trials: dict[str, TrialHistory]) -> dict[str, float]:
        """Return the values at the horizon, measured for completed trials and sampled for others.

        Empty if values cannot be predicted, or if there are further objectives.
        """
        if not self.expected or any(trial.costs for trial in trials.values()):
            return {}
        generator = np.random.default_rng([self.seed, len(self.histories), PREDICTION_STREAM])
        ended = {
            name: trial.at(trial.epochs)
            for name, trial in trials.items()
            if trial.outcome == "completed"
        }
        waiting = {
            name: trial
            for name, trial in trials.items()
            if name in self.expected and trial.values and trial.outcome in ("", "stopped")
        }
        sampled = {
            name: self.expected[name].draw(generator, trial.at(trial.epochs), self.metric.top_score)
            for name, trial in waiting.items()
        }
        return ended | sampled

    def _study_params(self, params: Params) -> tuple[Params, dict[str, BaseDistribution]]:
        """Return the params that are valid in the space, and their distributions.

        The keys of both are the names of the parameters in the Optuna study.
        """
        study_params: Params = {}
        distributions: dict[str, BaseDistribution] = {}
        for path, value in params.items():
            domain = self.space.under(path, params) if path in self.space.domains else None
            if domain is not None and is_valid_value(domain, value):
                name = self._name(path, domain)
                study_params[name], distributions[name] = value, distribution(domain)
        return study_params, distributions

    def _name(self, path: str, domain: Domain) -> str:
        """Return the name of a parameter in the study.

        Each domain has its own name, since Optuna allows one distribution per name.
        """
        whole = self.space.domains[path]
        return f"{path} ({whole.cases.index(domain) + 1})" if isinstance(whole, Cases) else path

    def _sampler(self, number: int, attempt: int) -> optuna.samplers.BaseSampler:
        """Create a sampler whose draws depend only on the trial's number and the attempt."""
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
        """Receive the costs of a trial, before or after an epoch."""
        history = self.histories[trial]
        history.costs[history.epochs] = costs

    def expect(self, expected: Mapping[str, Expected]) -> None:
        """Receive the predicted scores at the horizon."""
        self.expected = expected

    def report(self, trial: str, epoch: int, value: float) -> None:
        """Record a trial's best score up to an epoch."""
        history = self.histories[trial]
        history.values[epoch] = max(value, history.values.get(history.epochs, value))

    def tell(self, trial: str, outcome: str, value: float | None) -> None:
        """Receive the outcome of a trial, and its score."""
        history = self.histories[trial]
        history.outcome = outcome
        if value is not None:
            history.values[history.epochs or 1] = value

    def save(self, folder: Path) -> None:
        """Write the study as `optuna.log`, a file of Optuna's journal storage for its dashboard."""
        partial = folder / f".{STUDY}.partial"
        for leftover in folder.glob(f"{partial.name}*"):
            leftover.unlink()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            storage = JournalStorage(JournalFileBackend(str(partial)))
        score = self.metric.score
        study = optuna.create_study(
            storage=storage,
            study_name=folder.name,
            direction="maximize" if self.metric.mode == "max" else "minimize",
        )
        for name, history in self.histories.items():
            value = score(history.at(history.epochs)) if history.outcome == "completed" else None
            as_values = replace(
                history, values={epoch: score(at) for epoch, at in history.values.items()}
            )
            study.add_trial(_frozen(as_values, STATES[history.outcome], value, trial=name))
        partial.replace(folder / STUDY)


class Gaussian(Bayes):
    """A Gaussian process with log expected improvement.

    TPE proposes the conditional parameters. It proposes all parameters if the Gaussian process
    proposes params that were tried before, for example at an edge of the space. A proposal takes a
    few tenths of a second, and longer with more trials. The first proposal takes a few seconds,
    because torch is imported.
    """

    most = 300

    def _sampler(self, number: int, attempt: int) -> optuna.samplers.BaseSampler:
        if attempt:
            return super()._sampler(number, attempt)
        seed = self._seed(number, attempt)
        return optuna.samplers.GPSampler(
            seed=seed, independent_sampler=self._tpe(seed), warn_independent_sampling=False
        )

    def _study_values(self, trials: dict[str, TrialHistory], compared: int) -> dict[str, float]:
        values = super()._study_values(trials, compared)
        if not values:
            return values
        least, filled = min(values.values()), dict(values)
        has_costs = any(trial.costs for trial in trials.values())
        for name, trial in trials.items():
            if trial.outcome == "diverged":
                filled[name] = least
            elif name not in values and trial.values and trial.outcome != "failed":
                filled[name] = (
                    least
                    if has_costs
                    else min(
                        max(values.values()),
                        trial.at(trial.epochs) + _mean_gain(trials, values, trial.epochs),
                    )
                )
        return filled


def _mean_gain(trials: dict[str, TrialHistory], values: dict[str, float], since: int) -> float:
    """Return the mean gain of trials from this epoch to their `values`; 0 if no trial has both."""
    return float(
        np.mean(
            [
                value - trials[name].at(since)
                for name, value in values.items()
                if min(trials[name].values) <= since
            ]
            or [0.0]
        )
    )


def _compared_values(trials: dict[str, TrialHistory], compared: int) -> dict[str, float]:
    """Return the values of the trials that have reached the epoch `compared`, or completed earlier.

    If some trials are fits of one epoch, all trials count with their best values so far.

    With further objectives, a value is the negated index in the order of Pareto fronts.
    """
    usable = {
        name: trial
        for name, trial in trials.items()
        if trial.values and trial.outcome not in ("diverged", "failed")
    }
    has_fits = any(
        trial.outcome == "completed" and trial.epochs == 1 for trial in usable.values()
    ) and any(trial.epochs > 1 for trial in usable.values())
    comparable = {
        name: trial
        for name, trial in usable.items()
        if has_fits or trial.epochs >= compared or trial.outcome == "completed"
    }
    at = {
        name: trial.epochs if has_fits else min(compared, trial.epochs)
        for name, trial in comparable.items()
    }
    values = {name: trial.at(at[name]) for name, trial in comparable.items()}
    costs = {name: trial.costs_at(at[name]) for name, trial in comparable.items()}
    if any(costs.values()):
        return {name: -float(place) for place, name in enumerate(in_order(values, costs)[0])}
    return values


def _as_learned(history: TrialHistory, value: float | None) -> FrozenTrial:
    """Convert a trial to the Optuna trial that the sampler is fitted to.

    `value` is None for a trial that ranks behind the others.
    """
    if history.outcome == "failed" or not history.is_inside:
        return _frozen(history, TrialState.FAIL)
    if value is not None:
        return _frozen(history, TrialState.COMPLETE, value)
    if history.outcome == "diverged":
        return create_trial(
            state=TrialState.PRUNED, params=history.params, distributions=history.distributions
        )
    return _frozen(history, TrialState.PRUNED if history.values else TrialState.RUNNING)


def _frozen(
    history: TrialHistory, state: TrialState, value: float | None = None, **attributes: str
) -> FrozenTrial:
    """Convert a trial to an Optuna trial."""
    fields = {
        "params": history.params,
        "distributions": history.distributions,
        "intermediate_values": history.values,
        "user_attrs": attributes,
    }
    return create_trial(state=state, value=value, **fields)  # type: ignore[arg-type]


def suggest(trial: Trial, name: str, domain: Domain) -> object:
    """Let Optuna suggest the value of one parameter."""
    if isinstance(domain, Choice):
        return trial.suggest_categorical(name, domain.options)
    assert isinstance(domain, Range)
    if isinstance(domain, Int):
        return trial.suggest_int(
            name, domain.low, domain.high, log=domain.log, step=int(domain.step or 1)
        )
    value = trial.suggest_float(name, domain.low, domain.high, log=domain.log, step=domain.step)
    return domain.values.nearest(value) if isinstance(domain.values, Steps) else value


def is_valid_value(domain: Domain, value: Any) -> bool:
    """True if both this project and Optuna accept a value as part of a domain."""
    return domain.holds(value) and bool(domain.count is None or domain.times(value))


def distribution(domain: Domain) -> BaseDistribution:
    """Convert a domain to an Optuna distribution."""
    if isinstance(domain, Choice):
        return CategoricalDistribution(domain.options)
    assert isinstance(domain, Range)
    if isinstance(domain, Int):
        return IntDistribution(domain.low, domain.high, log=domain.log, step=int(domain.step or 1))
    return FloatDistribution(domain.low, domain.high, log=domain.log, step=domain.step)
