"""Bayesian search: Optuna's TPE sampler (Bergstra et al. 2011), told the truth about each trial. The only module that imports optuna.

A completed trial is COMPLETE with its best value; a stopped one PRUNED with its intermediate values, which TPE ranks below the
completed ones by how far they came; a diverged or failed one FAIL.
"""

import warnings
from pathlib import Path

import numpy as np
import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import Trial, TrialState

from search.algorithms.base import Algorithm
from search.result import STUDY
from search.space import Cases, Choice, Domain, Int, Params, Range, SearchSpace

STATES = {"completed": TrialState.COMPLETE, "stopped": TrialState.PRUNED, "diverged": TrialState.FAIL, "failed": TrialState.FAIL}


class Bayes(Algorithm):
    """Multivariate TPE over an in-memory study; conditional parameters are modelled where they exist."""

    def __init__(self, space: SearchSpace, seed: int) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.space, self.seed = space, seed
        self.trials: dict[str, Trial] = {}
        self.study = optuna.create_study(direction="maximize")

    def ask(self, trial: str) -> Params | None:
        """What TPE thinks most promising beside the trials that run now."""
        number = len(self.study.get_trials(deepcopy=False))
        self.study.sampler = self._sampler(number)
        if number < len(self.space.first):
            self.study.enqueue_trial(self._known(self.space.first[number]))
        return self._ask(trial)

    def replay(self, trial: str, params: Params) -> None:
        """A trial with these params; a parameter that the space no longer has, or a value, is left out."""
        self.study.enqueue_trial(self._known(params))
        self.study.sampler = optuna.samplers.RandomSampler(seed=0)
        self._ask(trial)

    def _ask(self, trial: str) -> Params:
        asked = self.trials[trial] = self.study.ask()
        asked.set_user_attr("trial", trial)
        params: Params = {}
        for path in self.space.domains:
            if (domain := self.space.under(path, params)) is not None:
                params[path] = suggest(asked, self._name(path, domain), domain)
        return params

    def _known(self, params: Params) -> Params:
        """Those of these params that the space has, under the study's names."""
        known: Params = {}
        for path, value in params.items():
            domain = self.space.under(path, params) if path in self.space.domains else None
            if domain is not None and domain.holds(value):
                known[self._name(path, domain)] = value
        return known

    def _name(self, path: str, domain: Domain) -> str:
        """What the study calls a parameter: one name a domain, since Optuna takes what has one name for one distribution."""
        whole = self.space.domains[path]
        return f"{path} ({whole.cases.index(domain) + 1})" if isinstance(whole, Cases) else path

    def _sampler(self, number: int) -> optuna.samplers.TPESampler:
        """A sampler whose draws are those of this trial's number."""
        seed = int(np.random.SeedSequence([self.seed, number]).generate_state(1)[0])
        conditional = any(domain.parents for domain in self.space.domains.values())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return optuna.samplers.TPESampler(seed=seed, multivariate=True, group=conditional, constant_liar=True)

    def report(self, trial: str, epoch: int, value: float) -> None:
        """An intermediate value."""
        self.trials[trial].report(value, epoch)

    def tell(self, trial: str, outcome: str, value: float | None) -> None:
        """The end, in Optuna's words."""
        state = STATES[outcome]
        self.study.tell(self.trials.pop(trial), value if state is TrialState.COMPLETE else None, state=state)

    def save(self, folder: Path) -> None:
        """The study as `optuna.log`, a file of Optuna's journal storage, which its dashboard opens; a new one each time."""
        partial = folder / f".{STUDY}.partial"
        for left in folder.glob(f"{partial.name}*"):
            left.unlink()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            storage = JournalStorage(JournalFileBackend(str(partial)))
        optuna.copy_study(from_study_name=self.study.study_name, from_storage=self.study._storage, to_storage=storage, to_study_name=folder.name)
        partial.replace(folder / STUDY)


def suggest(trial: Trial, name: str, domain: Domain) -> object:
    """Ask Optuna for one parameter, by the study's name for it."""
    if isinstance(domain, Choice):
        return trial.suggest_categorical(name, domain.options)
    assert isinstance(domain, Range)
    if isinstance(domain, Int):
        return trial.suggest_int(name, domain.low, domain.high, log=domain.log, step=int(domain.step or 1))
    return trial.suggest_float(name, domain.low, domain.high, log=domain.log, step=domain.step)
