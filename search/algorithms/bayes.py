"""Bayesian search: Optuna's samplers, of parzen estimators (TPE, Bergstra et al. 2011) or of a
Gaussian process, that know how far each trial came. The only module that imports optuna.

Where the scheduler can tell what trials that have not ended would come to, all are compared at the
horizon: such a trial counts with what it may come to, drawn anew for each proposal, so that what is
uncertain counts as uncertain; never with less than it has reached. What is told so may be wrong,
and what is never proposed is never found out: every `CHANCE_EVERY`th proposal is drawn at random,
as in BOHB (Falkner et al. 2018, arXiv 1807.01774).

Elsewhere trials are compared where enough of them are: at the last epoch that `MIN_COMPARED` have
reached, each by its best value until then. A trial that was trained to its end before that counts
with what it came to. One that has not come so far, because it runs, is held at a rung or was
stopped, ranks behind, by how far it came and its value there; one that diverged ranks last; one
that failed says nothing. So a trial that was stopped early is never taken for one that ended badly,
nor for one that ended. A Gaussian process knows no ranks: there such a trial counts with its value
and what others have gained since they were where it is, and one that diverged with the least of
all.

Where networks are to cost little too (`--objective`), they are compared by front, those first than
which none is both more accurate and cheaper, and in each by accuracy.
"""

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
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
from search.objectives import Costs, in_order
from search.schedulers.base import Expected
from search.space import Cases, Choice, Domain, Int, Params, Range, SearchSpace, Steps

MIN_COMPARED = 10
"""So many trials are compared at least, once there are so many."""
TRIES, DRAWS = 8, 1000
"""How often TPE, and then chance, is asked for what has not been proposed before."""
CHANCE_EVERY = 3
"""Where ends are only expected, one proposal of so many is drawn at random."""
STARTUP = 10
"""The samplers themselves draw so many at first, whatever has been heard."""
OF_ENDS = TRIES
"""What tells the draws of ends from those of the attempts to propose."""
HIGHEST = 1.0
"""The highest accuracy that there is."""
MAX_TRIALS = 1000
"""The model is of the last so many trials: TPE's time grows with them."""
STATES = {
    "completed": TrialState.COMPLETE,
    "stopped": TrialState.PRUNED,
    "diverged": TrialState.FAIL,
    "failed": TrialState.FAIL,
    "": TrialState.RUNNING,
}


@dataclass
class Known:
    """What has been heard of a trial."""

    params: Params
    """Under the study's names."""
    distributions: dict[str, BaseDistribution]
    values: dict[int, float] = field(default_factory=dict)
    """By epoch, the best value so far."""
    costs: Costs = ()
    """What its network costs, where that counts."""
    outcome: str = ""
    is_inside: bool = True
    """Whether it is a point of the space: of others nothing is learned."""

    @property
    def epochs(self) -> int:
        """How far it came."""
        return max(self.values, default=0)

    def at(self, epoch: int) -> float:
        """Its best value until then."""
        return max(value for reached, value in self.values.items() if reached <= epoch)


class Bayes(Algorithm):
    """Multivariate TPE; conditional parameters are modelled where they exist. Proposes nothing
    twice.
    """

    listens = True
    most = MAX_TRIALS

    def __init__(self, space: SearchSpace, seed: int) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.space, self.seed = space, seed
        self.known: dict[str, Known] = {}
        self.proposed: set[str] = set()
        self.expected: Mapping[str, Expected] = {}
        """What trials would come to."""

    def ask(self, trial: str) -> Params | None:
        """What TPE thinks most promising beside the trials that run now; None when a space whose
        points can be counted is used up.
        """
        number = len(self.known)
        study = self._study()
        for params in self._proposals(study, number):
            if repr(params) not in self.proposed:
                self.replay(trial, params)
                return params
        return None

    def replay(self, trial: str, params: Params) -> None:
        """A trial with these params. Nothing is learned from one that is not in the space any more."""
        self.proposed.add(repr(params))
        known, distributions = self._known(params)
        self.known[trial] = Known(known, distributions, is_inside=len(known) == len(params))

    def _proposals(self, study: optuna.Study, number: int) -> Iterator[Params]:
        """A first point of the space, if one is left; what TPE proposes, where it is its turn; and
        when that is nothing new, draws.
        """
        by_chance = (
            bool(self.expected)
            and number >= max(STARTUP, len(self.space.first))
            and number % CHANCE_EVERY == CHANCE_EVERY - 1
        )
        for attempt in range(0 if by_chance else TRIES):
            study.sampler = self._sampler(number, attempt)
            if number < len(self.space.first) and attempt == 0:
                study.enqueue_trial(self._known(self.space.first[number])[0])
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
        study.tell(
            asked, state=TrialState.FAIL
        )  # it is asked for once more, or it is told of by its own name
        return params

    def _study(self) -> optuna.Study:
        """What TPE is to learn from."""
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
        values = self._told(dict(known), compared)
        study.add_trials([_learned(trial, values.get(name)) for name, trial in known])
        return study

    def _told(self, known: dict[str, Known], compared: int) -> dict[str, float]:
        """The values that trials count with; others rank behind them, those of `_learned`."""
        return self._ends(known) or _values(known, compared)

    def _ends(self, known: dict[str, Known]) -> dict[str, float]:
        """What trials came to or, drawn, may come to; nothing while that cannot be told."""
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
            name: self.expected[name].draw(generator, trial.at(trial.epochs), HIGHEST)
            for name, trial in waiting.items()
        }
        return ended | drawn

    def _known(self, params: Params) -> tuple[Params, dict[str, BaseDistribution]]:
        """Those of these params that the space has, and from what they are drawn, under the study's
        names.
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
        """What the study calls a parameter: one name a domain, since Optuna takes what has one name
        for one distribution.
        """
        whole = self.space.domains[path]
        return f"{path} ({whole.cases.index(domain) + 1})" if isinstance(whole, Cases) else path

    def _sampler(self, number: int, attempt: int) -> optuna.samplers.BaseSampler:
        """A sampler whose draws are those of this trial's number."""
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
        """What its network costs."""
        self.known[trial].costs = costs

    def expect(self, expected: Mapping[str, Expected]) -> None:
        """What trials would come to."""
        self.expected = expected

    def report(self, trial: str, epoch: int, value: float) -> None:
        """How good it was after this epoch."""
        known = self.known[trial]
        known.values[epoch] = max(value, known.values.get(known.epochs, value))

    def tell(self, trial: str, outcome: str, value: float | None) -> None:
        """How it ended, and with what."""
        known = self.known[trial]
        known.outcome = outcome
        if value is not None:
            known.values[known.epochs or 1] = value

    def save(self, folder: Path) -> None:
        """The study as `optuna.log`, a file of Optuna's journal storage, which its dashboard opens;
        a new one each time.
        """
        partial = folder / f".{STUDY}.partial"
        for left in folder.glob(f"{partial.name}*"):
            left.unlink()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            storage = JournalStorage(JournalFileBackend(str(partial)))
        study = optuna.create_study(storage=storage, study_name=folder.name, direction="maximize")
        for name, known in self.known.items():
            value = known.at(known.epochs) if known.outcome == "completed" else None
            study.add_trial(_frozen(known, STATES[known.outcome], value, trial=name))
        partial.replace(folder / STUDY)


class Gaussian(Bayes):
    """A Gaussian process with log expected improvement; what is conditional is proposed by TPE, and
    so is all where the process proposes what was proposed before, as at an edge. A proposal takes
    tenths of a second, and more with the number of trials; the first one a few seconds, for torch,
    which it computes with.
    """

    most = 300

    def _sampler(self, number: int, attempt: int) -> optuna.samplers.BaseSampler:
        if attempt:
            return super()._sampler(number, attempt)
        seed = self._seed(number, attempt)
        return optuna.samplers.GPSampler(
            seed=seed, independent_sampler=self._tpe(seed), warn_independent_sampling=False
        )

    def _told(self, known: dict[str, Known], compared: int) -> dict[str, float]:
        values = super()._told(known, compared)
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
                        trial.at(trial.epochs) + _gained(known, values, trial.epochs),
                    )
                )
        return found


def _gained(known: dict[str, Known], values: dict[str, float], since: int) -> float:
    """What those with these values have gained in the mean since this epoch."""
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


def _values(known: dict[str, Known], compared: int) -> dict[str, float]:
    """What those trials are compared by, where they are at this epoch, that have come there or
    ended before.
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


def _learned(known: Known, value: float | None) -> FrozenTrial:
    """A trial as a sampler is to see it, which counts with this value if it has one."""
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
    """A trial in Optuna's words."""
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
    """Whether a domain holds a value, in Optuna's eyes too."""
    return domain.holds(value) and bool(domain.count is None or domain.times(value))


def distribution(domain: Domain) -> BaseDistribution:
    """A domain in Optuna's words."""
    if isinstance(domain, Choice):
        return CategoricalDistribution(domain.options)
    assert isinstance(domain, Range)
    if isinstance(domain, Int):
        return IntDistribution(domain.low, domain.high, log=domain.log, step=int(domain.step or 1))
    return FloatDistribution(domain.low, domain.high, log=domain.log, step=domain.step)
