"""The decisions of a refinement: when a round ends, whether another follows, and in which space.

See `search.decisions.space_refinement`.
"""

from dataclasses import replace
from functools import partial
from typing import Any

from search.decisions.driver import Driver
from search.decisions.refinement import effective, observations, why_over
from search.decisions.space_refinement import narrow
from search.experiment import Experiment, fit_problems
from search.journal.events import Change, Refined, Settled
from search.journal.journal import Journal, read
from search.journal.result import Refinement, SearchResult
from search.space import Params, SearchSpace
from trainables.datasets.arrays import Dataset
from trainables.errors import ConfigError


def next_space(
    experiment: Experiment, dataset: Dataset | None, result: SearchResult
) -> tuple[SearchSpace, list[Change]]:
    """Return the space to search next, and how it differs from this one."""
    return narrow(
        experiment.space,
        observations(result),
        effective(result.ranking[0]),
        partial(refusal, experiment, dataset),
    )


class RefineDriver(Driver):
    """The driver of a search and its refinement.

    Once a round's trials have ended, it makes the next space, or says why there is none.
    """

    def __init__(
        self,
        experiment: Experiment,
        journal: Journal,
        *,
        dataset: Dataset | None = None,
        **options: Any,
    ) -> None:
        super().__init__(experiment, journal, **options)
        self.dataset = dataset

    @property
    def refinement(self) -> Refinement:
        """The refinement as far as it is known; it has begun."""
        assert self.result.refinement is not None
        return self.result.refinement

    @property
    def _has_more(self) -> bool:
        return self._has_more_now or not self.refinement.is_over

    @property
    def _has_more_now(self) -> bool:
        """True if this round has more trials to propose, or the search before its first round."""
        return (
            not self.exhausted and len(self.trials) < self._wanted
            if self.refinement.rounds
            else super()._has_more
        )

    @property
    def _wanted(self) -> int:
        """The number of trials there are at the end of this round.

        Trials of other spaces are among them.
        """
        return self.refinement.rounds[-1].known + self.refinement.terms.trials

    @property
    def _more(self) -> int:
        wanted = self._wanted if self.refinement.rounds else self.experiment.planned_trials
        return max(1, wanted - len(self.trials)) if self._has_more else 0

    def _propose(self) -> str:
        while self._has_more_now or (self._is_round_over and self._begin_round()):
            found = super()._propose()
            if found or not self.exhausted:
                return found
        return ""

    @property
    def _is_round_over(self) -> bool:
        """True if no trial trains, and none of those that wait will."""
        return not (self.active or self.pending) and self.scheduler.choose(new=False) is None

    def _begin_round(self) -> bool:
        """Make the next space, and hear everything again for it.

        Returns False when there will be no further round.
        """
        if self.refinement.is_over:
            return False
        if reason := why_over(self.result):
            self.journal.append(Settled(reason))
            return False
        best, known = self.result.ranking[0], len(self.trials)
        before = replace(
            self.experiment, algorithm="bayes", trials=known + self.refinement.terms.trials
        )
        try:
            space, changes = next_space(self.experiment, self.dataset, self.result)
            experiment = replace(before, space=space)
        except ConfigError as error:
            # New values that are each allowed beside the best trial's may not be so together.
            experiment, changes = (
                before,
                [Change("", "refused", f"nothing, since what was to be makes no space: {error}")],
            )
        number = len(self.refinement.rounds) + 1
        self.journal.append(Refined(number, experiment.describe(), known, best.value, changes))
        self._begin_again(experiment)
        return True

    def _begin_again(self, experiment: Experiment) -> None:
        """Decide from now on as a driver that is opened with this experiment.

        A resume in the midst of the round would do the same.
        """
        result, self.experiment, self.exhausted = self.result, experiment, False
        self.algorithm, self.scheduler = self._algorithm(), self._scheduler()
        self.relatives = self.relatives.within(experiment)
        self.result = SearchResult()
        try:
            self.replay(read(self.journal.path))
        finally:
            self.result = result


def refusal(experiment: Experiment, dataset: Dataset | None, params: Params, path: str) -> str:
    """Return why these params make no trial with these data; empty if they do.

    They make none either if the config has another value for this path than they say.
    """
    try:
        config = experiment.config(params)
    except ConfigError as error:
        return str(error)
    if config.value(path) != params[path]:
        return f"it would be {config.value(path)} all the same"
    return (
        next(fit_problems(config, dataset, experiment.demand.workers), "")
        if dataset is not None
        else ""
    )
