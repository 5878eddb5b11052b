"""The decisions of a refinement: when a round ends, whether another follows, and in which space.

See `search.decisions.space_refinement`.
"""

from collections.abc import Collection, Generator
from dataclasses import replace
from functools import partial
from pathlib import Path

from search.decisions.policy import Decisions, Record
from search.decisions.refinement import effective, observations, why_over
from search.decisions.search_policy import SearchPolicy
from search.decisions.space_refinement import narrow
from search.design.experiment import Experiment, fit_problems
from search.journal.events import Change, Concluded, EventData, Finished, Refined, Risked, Settled
from search.journal.result import Refinement, SearchResult, TrialResult
from search.schedulers.base import Scheduler, Stop
from search.space import SearchSpace
from trainables.checkpoints.lineage import WarmStartSource
from trainables.config import TrialConfig
from trainables.datasets.arrays import Dataset
from trainables.errors import ConfigError
from trainables.messages import Cost
from trainables.values import Params


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


class RefinementPolicy:
    """The policy of a search and its refinement.

    Once a round's trials have ended, it makes the next space, or says why there is none. What it
    does not decide itself, a search's policy does, of which each round has its own.
    """

    def __init__(
        self, experiment: Experiment, record: Record, *, dataset: Dataset | None = None
    ) -> None:
        self.record, self.dataset = record, dataset
        self.search = SearchPolicy(experiment, record)

    @property
    def refinement(self) -> Refinement:
        """The refinement as far as it is known; it has begun."""
        assert self.record.result.refinement is not None
        return self.record.result.refinement

    @property
    def more_later(self) -> bool:
        """True until it is decided that no round follows."""
        return not self.refinement.is_over

    @property
    def more_now(self) -> bool:
        """True if this round has more trials to propose, or the search before its first round."""
        if not self.refinement.rounds:
            return self.search.more_now
        return not self.search.exhausted and len(self.trials) < self._wanted

    @property
    def _wanted(self) -> int:
        """The number of trials there are at the end of this round, those of other spaces too."""
        if not self.refinement.rounds:
            return self.experiment.planned_trials
        return self.refinement.rounds[-1].known + self.refinement.terms.trials

    @property
    def ahead(self) -> int:
        """The number of trials that this round may still have; 1 at least while more may follow."""
        if not (self.more_now or self.more_later):
            return 0
        return max(1, self._wanted - len(self.trials))

    def propose(self, *, idle: bool) -> Decisions:
        """Propose the next trial of this round, or begin another once all have ended."""
        while self.more_now or (
            idle and self.scheduler.choose(new=False) is None and (yield from self._begin_round())
        ):
            yield from self.search.proposals(self._wanted)
            if not self.search.exhausted:
                return

    def _begin_round(self) -> Generator[EventData, None, bool]:
        """Make the next space; return False when there will be no further round."""
        if self.refinement.is_over:
            return False
        result = self.record.result
        if reason := why_over(result):
            yield Settled(reason)
            return False
        best, known = result.ranking[0], len(self.trials)
        before = replace(
            self.experiment, algorithm="bayes", trials=known + self.refinement.terms.trials
        )
        try:
            space, changes = next_space(self.experiment, self.dataset, result)
            experiment = replace(before, space=space)
        except ConfigError as error:
            # New values that are each allowed beside the best trial's may not be so together.
            experiment, changes = (
                before,
                [Change("", "refused", f"nothing, since what was to be makes no space: {error}")],
            )
        number = len(self.refinement.rounds) + 1
        yield Refined(number, experiment.describe(), known, best.value, changes)
        self.search = self._searched(experiment)
        return True

    def _searched(self, experiment: Experiment) -> SearchPolicy:
        """Return a search's policy that has heard the journal, as a resume would make it now."""
        record = replace(self.record, result=SearchResult())
        search = SearchPolicy(experiment, record)
        for event in record.events():
            record.result.apply(event)
            search.hear(event.data)
        search.record = self.record
        return search

    @property
    def experiment(self) -> Experiment:
        """The search, with the space of this round."""
        return self.search.experiment

    @property
    def scheduler(self) -> Scheduler:
        """The scheduler of this round."""
        return self.search.scheduler

    @property
    def at_rung(self) -> Collection[str]:
        """Trials that have come to a rung."""
        return self.search.at_rung

    @property
    def by(self) -> str:
        """The scheduler's name."""
        return self.search.by

    @property
    def trials(self) -> dict[str, TrialResult]:
        """All trials of the search."""
        return self.search.trials

    @property
    def may_wait(self) -> bool:
        """True if the algorithm of this round learns nothing."""
        return self.search.may_wait

    @property
    def outcome(self) -> tuple[str, str]:
        """The outcome of the search."""
        return self.search.outcome

    @property
    def risk(self) -> Risked | None:
        """The risk of stopping the trials that are held."""
        return self.search.risk

    def extend(self, experiment: Experiment) -> None:
        """Go on with another budget; each round has its own number of trials."""
        self.search.extend(experiment)

    def begin(self) -> Decisions:
        """Begin as the search does."""
        return self.search.begin()

    def hear(self, data: EventData) -> None:
        """Hear as the search does: a round's beginning tells it nothing."""
        self.search.hear(data)

    def judge(self, trial: str) -> Stop | None:
        """Return None: the scheduler's word counts."""
        return self.search.judge(trial)

    def follow_up(self) -> Decisions:
        """Decide nothing."""
        return self.search.follow_up()

    def cost(self, trial: str, measured: Cost | None) -> Decisions:
        """Decide what a trial costs to use."""
        return self.search.cost(trial, measured)

    def must_wait(self, trial: str, active: Collection[str], pending: Collection[str]) -> bool:
        """Return whether a relative trains what this trial needs."""
        return self.search.must_wait(trial, active, pending)

    def beginnings(self, trial: str) -> list[WarmStartSource]:
        """Return what relatives have trained of a trial."""
        return self.search.beginnings(trial)

    def milestones(self, config: TrialConfig) -> list[int]:
        """Return the epochs at which a trial's relatives may end."""
        return self.search.milestones(config)

    def wants_cost(self, config: TrialConfig) -> bool:
        """Return whether cost counts, and is not known."""
        return self.search.wants_cost(config)

    def last_word(self, outcome: str, reason: str) -> Finished | Concluded:
        """Return the search's last event."""
        return self.search.last_word(outcome, reason)

    def save(self, folder: Path) -> None:
        """Save what the algorithm of this round has to save."""
        self.search.save(folder)


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
