"""The decisions of a refinement: when a round ends, whether another follows, and in which space.

See `search.decisions.space_refinement`.
"""

from collections.abc import Collection, Generator
from dataclasses import replace
from functools import partial
from pathlib import Path

from search.decisions.policy import Decisions, Record
from search.decisions.refinement import effective_params, end_reason, observations
from search.decisions.search_policy import SearchPolicy
from search.decisions.space_refinement import narrow
from search.design.experiment import Experiment, fit_problems
from search.journal.events import Change, Concluded, EventData, Finished, Refined, Risked, Settled
from search.journal.result import Refinement, SearchResult, TrialResult
from search.schedulers.base import Scheduler, Stop
from search.space import SearchSpace
from trainables.config import TrialConfig
from trainables.datasets.arrays import Dataset
from trainables.errors import ConfigError
from trainables.messages import Cost, WarmStartSource
from trainables.values import Params


def next_space(
    experiment: Experiment, dataset: Dataset | None, result: SearchResult
) -> tuple[SearchSpace, list[Change]]:
    """Return the space of the next round, and its differences from the current one."""
    return narrow(
        experiment.space,
        observations(result),
        effective_params(result.ranking[0]),
        partial(refusal, experiment, dataset),
    )


class RefinementPolicy:
    """The policy of a search and its refinement.

    Once all trials of a round have ended, this policy starts the next round in a new space, or
    records the reason why no round follows. All other decisions are made by a `SearchPolicy`, a new
    one for each round.
    """

    def __init__(
        self, experiment: Experiment, record: Record, *, dataset: Dataset | None = None
    ) -> None:
        self.record, self.dataset = record, dataset
        self.search = SearchPolicy(experiment, record)

    @property
    def refinement(self) -> Refinement:
        """The refinement so far; it must have started."""
        assert self.record.result.refinement is not None
        return self.record.result.refinement

    @property
    def more_later(self) -> bool:
        """True until the refinement has ended, since another round may follow."""
        return not self.refinement.is_over

    @property
    def more_now(self) -> bool:
        """True if this round, or the search before the first one, has more trials to propose."""
        if not self.refinement.rounds:
            return self.search.more_now
        return not self.search.exhausted and len(self.trials) < self._target_count

    @property
    def _target_count(self) -> int:
        """The total number of trials at the end of this round."""
        if not self.refinement.rounds:
            return self.experiment.planned_trials
        return self.refinement.rounds[-1].known + self.refinement.terms.trials

    @property
    def ahead(self) -> int:
        """The number of trials that this round can still propose; at least 1 if a round may follow.

        Before the first round, these are the trials of the search itself.
        """
        if not (self.more_now or self.more_later):
            return 0
        return max(1, self._target_count - len(self.trials))

    def propose(self, *, idle: bool) -> Decisions:
        """Propose the next trial of this round, or start another round once all have ended."""
        while self.more_now or (
            idle and self.scheduler.choose(new=False) is None and (yield from self._begin_round())
        ):
            yield from self.search.proposals(self._target_count)
            if not self.search.exhausted:
                return

    def _begin_round(self) -> Generator[EventData, None, bool]:
        """Start a round in a new space; return False if there will be no further round."""
        if self.refinement.is_over:
            return False
        result = self.record.result
        if reason := end_reason(result):
            yield Settled(reason)
            return False
        best, count = result.ranking[0], len(self.trials)
        before = replace(
            self.experiment, algorithm="bayes", trials=count + self.refinement.terms.trials
        )
        try:
            space, changes = next_space(self.experiment, self.dataset, result)
            experiment = replace(before, space=space)
        except ConfigError as error:
            # Each new value is valid together with the best trial's other values, but the new
            # values are not valid together.
            experiment, changes = (
                before,
                [
                    Change(
                        "",
                        "refused",
                        f"nothing, because the changes together do not make a valid space: {error}",
                    )
                ],
            )
        number = len(self.refinement.rounds) + 1
        yield Refined(number, experiment.describe(), count, best.value, changes)
        self.search = self._replayed_policy(experiment)
        return True

    def _replayed_policy(self, experiment: Experiment) -> SearchPolicy:
        """Create the policy of a round, and replay the journal, as a resume would."""
        record = replace(self.record, result=SearchResult())
        search = SearchPolicy(experiment, record)
        for event in record.events():
            record.result.apply(event)
            search.receive(event.data)
        search.record = self.record
        return search

    @property
    def experiment(self) -> Experiment:
        """The experiment, with the space of this round."""
        return self.search.experiment

    @property
    def scheduler(self) -> Scheduler:
        """The scheduler of this round."""
        return self.search.scheduler

    @property
    def at_rung(self) -> Collection[str]:
        """The trials that have reached a rung, and are neither promoted nor held yet."""
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
        """True if the algorithm of this round does not learn from results."""
        return self.search.may_wait

    @property
    def outcome(self) -> tuple[str, str]:
        """The outcome of the search."""
        return self.search.outcome

    @property
    def risk(self) -> Risked | None:
        """The risk of stopping the trials that wait at rungs."""
        return self.search.risk

    def extend(self, experiment: Experiment) -> None:
        """Replace the experiment by one with another budget; the trials per round stay the same."""
        self.search.extend(experiment)

    def begin(self) -> Decisions:
        """Decide what to do at the start of a session."""
        return self.search.begin()

    def receive(self, data: EventData) -> None:
        """Pass an event to the policy of the search, which ignores events of the refinement."""
        self.search.receive(data)

    def judge(self, trial: str) -> Stop | None:
        """Return None: only the scheduler stops trials."""
        return self.search.judge(trial)

    def follow_up(self) -> Decisions:
        """Decide nothing: rounds are started by `propose`."""
        return self.search.follow_up()

    def cost(self, trial: str, measured: Cost | None) -> Decisions:
        """Yield an event with the inference cost of a trial's network, if cost is an objective."""
        return self.search.cost(trial, measured)

    def must_wait(self, trial: str, active: Collection[str], pending: Collection[str]) -> bool:
        """True if a relative is training epochs that this trial needs, or will train them first."""
        return self.search.must_wait(trial, active, pending)

    def beginnings(self, trial: str) -> list[WarmStartSource]:
        """Return the relatives from which a trial may warm-start, the best first."""
        return self.search.beginnings(trial)

    def milestones(self, config: TrialConfig) -> list[int]:
        """Return the epochs at which shorter relatives of a trial may end."""
        return self.search.milestones(config)

    def wants_cost(self, config: TrialConfig) -> bool:
        """True if cost is an objective, and the cost of this config is not known."""
        return self.search.wants_cost(config)

    def last_word(self, outcome: str, reason: str) -> Finished | Concluded:
        """Create the last event of the search."""
        return self.search.last_word(outcome, reason)

    def save(self, folder: Path) -> None:
        """Save the files of this round's algorithm."""
        self.search.save(folder)


def refusal(experiment: Experiment, dataset: Dataset | None, params: Params, path: str) -> str:
    """Return the reason why these params are not valid with this data; empty if they are valid.

    Params are also invalid if the config that is made of them has another value at `path`.
    """
    try:
        config = experiment.config(params)
    except ConfigError as error:
        return str(error)
    if config.value(path) != params[path]:
        return f"the config would use {config.value(path)} anyway"
    return (
        next(fit_problems(config, dataset, experiment.demand.workers), "")
        if dataset is not None
        else ""
    )
