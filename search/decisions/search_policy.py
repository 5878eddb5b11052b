"""The policy of a search: an algorithm proposes trials, and a scheduler holds them at rungs."""

from collections.abc import Collection, Generator, Hashable
from contextlib import suppress
from pathlib import Path

from search.algorithms.base import Algorithm
from search.algorithms.registry import ALGORITHMS
from search.decisions.convergence import expected_gain, values_of
from search.decisions.policy import Decisions, Record
from search.decisions.shared_trainings import Relatives
from search.design.experiment import Experiment
from search.journal.events import (
    Concluded,
    Costed,
    Ended,
    Enough,
    Epoch,
    EventData,
    Finished,
    Held,
    Promoted,
    Risked,
    Suggested,
)
from search.journal.result import SearchResult, TrialResult
from search.schedulers.base import Scheduler, Setting, Stop
from search.schedulers.registry import SCHEDULERS
from search.values.objectives import costs_of
from search.values.statistics import error_of
from trainables.catalog.models import MODELS
from trainables.checkpoints.lineage import WarmStartSource, training_key
from trainables.config import TrialConfig
from trainables.errors import ConfigError, counted
from trainables.fusion.shapes import cost_key
from trainables.messages import Cost


class SearchPolicy:
    """The decisions of one search.

    One that has heard a journal's events decides as the one that wrote them would have.
    """

    more_later = False

    def __init__(self, experiment: Experiment, record: Record) -> None:
        self.experiment, self.record = experiment, record
        self.metric = experiment.base.ranked_by
        """By which trials are ranked, stopped and chosen."""
        self._errors: dict[float, float] = {}
        """The standard errors that were reported, by the score that was heard."""
        self.algorithm = self._algorithm()
        self.scheduler = self._scheduler()
        self.relatives = Relatives(experiment, record.earlier)
        self.costs: dict[Hashable, Cost] = {}
        """The measured cost of using a classifier, once for all that are alike, where it counts."""
        self.unmeasured: set[str] = set()
        """The reasons, as told, that a cost could not be measured."""
        self.exhausted = False
        """True once the algorithm has nothing more to propose."""
        self.enough = ""
        """The reason that no further trial is worth while; empty if one is."""
        self.at_rung: set[str] = set()
        self.lengths: set[int] = set()
        """The numbers of epochs of the scheduled trials.

        If there are several, the algorithm is not told what trials would come to, since some end
        before others.
        """
        self._asked = ""
        """The trial that the algorithm has just been asked for."""

    def _algorithm(self) -> Algorithm:
        """Return the algorithm that proposes params."""
        found = ALGORITHMS[self.experiment.algorithm](self.experiment.space, self.experiment.seed)
        found.metric = self.metric
        return found

    def _scheduler(self) -> Scheduler:
        """Return the scheduler that holds trials at rungs."""
        experiment = self.experiment
        found = SCHEDULERS[experiment.scheduler](
            Setting(
                experiment.horizon,
                experiment.space,
                experiment.grace,
                experiment.sure,
                self.metric.top_score,
            )
        )
        found.error_of = self._error_of  # type: ignore[method-assign]
        return found

    @property
    def result(self) -> SearchResult:
        """The search, as far as it is known."""
        return self.record.result

    @property
    def trials(self) -> dict[str, TrialResult]:
        """All trials of the search."""
        return self.result.trials

    @property
    def by(self) -> str:
        """The scheduler's name."""
        return self.experiment.scheduler

    @property
    def more_now(self) -> bool:
        """True while not all planned trials are proposed, and more are worth while."""
        return (
            not (self.exhausted or self.enough)
            and len(self.trials) < self.experiment.planned_trials
        )

    @property
    def ahead(self) -> int:
        """The number of planned trials that are not proposed yet."""
        return max(0, self.experiment.planned_trials - len(self.trials)) if self.more_now else 0

    @property
    def outcome(self) -> tuple[str, str]:
        """`completed`, or `gain` if more trials were not worth while."""
        return ("gain", self.enough) if self.enough else ("completed", "")

    @property
    def may_wait(self) -> bool:
        """True if the algorithm learns nothing: one that does should hear of some trials first."""
        return not self.algorithm.listens

    def extend(self, experiment: Experiment) -> None:
        """Go on with other numbers; whether more trials are worth while is judged anew."""
        if experiment.planned_trials != self.experiment.planned_trials:
            self.enough = ""
        self.experiment = experiment

    def begin(self) -> Decisions:
        """Decide nothing: all that is to be done is known from the trials."""
        yield from ()

    def follow_up(self) -> Decisions:
        """Decide nothing: the algorithm and the scheduler have heard of it."""
        yield from ()

    def judge(self, trial: str) -> Stop | None:
        """Return None: the scheduler's word counts."""
        return None

    def last_word(self, outcome: str, reason: str) -> Finished | Concluded:
        """Return the search's last event."""
        return Finished(outcome, reason)

    def save(self, folder: Path) -> None:
        """Save what the algorithm has to save."""
        self.algorithm.save(folder)

    def propose(self, *, idle: bool) -> Decisions:
        """Propose the next of the planned trials."""
        if self.more_now:
            yield from self.proposals(self.experiment.planned_trials)

    def proposals(self, wanted: int) -> Decisions:
        """Propose trials until there are so many.

        Params that make no valid config are a failed trial.
        """
        while (
            not self.exhausted and len(self.trials) < wanted and not (yield from self._has_enough())
        ):
            trial = f"t{len(self.trials) + 1:04d}"
            if self.algorithm.listens:
                self.algorithm.expect(self.scheduler.expected if len(self.lengths) == 1 else {})
            params = self.algorithm.ask(trial)
            if params is None:
                self.exhausted = True
                return
            self._asked = trial
            try:
                config = self.experiment.config(params)
            except ConfigError as error:
                yield Suggested(trial=trial, params=params, config={})
                yield Ended(trial, "failed", str(error), "error")
                continue
            yield Suggested(
                trial=trial, stem=training_key(config), params=params, config=config.to_dict()
            )

    def _has_enough(self) -> Generator[EventData, None, bool]:
        """Decide whether the planned trials are expected to gain less than is wanted."""
        wanted, ahead = self.experiment.min_gain, self.experiment.planned_trials - len(self.trials)
        unit, words = (100, "points of ") if self.metric.is_fraction else (1, "")
        if wanted and (expected := unit * expected_gain(values_of(self.result), ahead)) < wanted:
            reason = (
                f"{counted(ahead, 'more trial')} {'is' if ahead == 1 else 'are'} expected to gain "
                f"{expected:.2g} {words}validation {self.metric.title}, "
                f"less than {wanted:g} (--min-gain)"
            )
            yield Enough(reason, expected, wanted, ahead)
        return bool(self.enough)

    def hear(self, data: EventData) -> None:
        """Tell the algorithm and the scheduler."""
        if isinstance(data, Enough):
            self._hear_enough(data)
        trial = getattr(data, "trial", "")
        if trial not in self.trials:  # an event of the search itself, or of its selection
            return
        match data:
            case Suggested():
                if trial != self._asked:
                    self.algorithm.replay(trial, data.params)
                self._begin(trial, data.stem or trial)
            case Costed():
                self._hear_cost(trial, data.cost)
            case Epoch():
                # A journal of an earlier version does not say which trials were promoted.
                if trial in self.at_rung:
                    self._go_on(trial)
                self._hear_epoch(trial, data.epoch, data.metrics)
            case Held():
                self.at_rung.discard(trial)
            case Promoted():
                self._go_on(trial)
            case Ended():
                self._tell(trial)

    def _hear_enough(self, told: Enough) -> None:
        """Hear that further trials were not worth while.

        That still holds unless less gain is asked for now, or more trials are planned.
        """
        if (
            told.wanted == self.experiment.min_gain
            and len(self.trials) + told.ahead >= self.experiment.planned_trials
        ):
            self.enough = told.reason

    def _begin(self, trial: str, training: str) -> None:
        if self._is_scheduled(trial):
            self.scheduler.begin(trial, self.trials[trial].params, training)
            self.lengths.add(self.trials[trial].config["epochs"])

    def _hear_cost(self, trial: str, cost: Cost) -> None:
        with suppress(ConfigError):  # a replay may tell of a model that is no longer registered
            config = TrialConfig.from_dict(self.trials[trial].config)
            self.costs.setdefault(cost_key(config, config.precision), cost)
        costs = costs_of(self.experiment.objectives[1:], cost)
        self.algorithm.cost(trial, costs)
        if self._is_scheduled(trial):
            self.scheduler.cost(trial, costs)

    def _hear_epoch(self, trial: str, epoch: int, metrics: dict[str, float]) -> None:
        score = self.metric.score_of(metrics)
        self._errors.setdefault(score, metrics.get(self.metric.error_key, 0.0))
        self.algorithm.report(trial, epoch, score)
        if self._is_scheduled(trial) and self.scheduler.on_epoch(
            trial, epoch, self.trials[trial].score
        ):
            self.at_rung.add(trial)

    def _error_of(self, value: float) -> float:
        """Return the standard error of a score that was heard; 0 where it is not known."""
        metric, images = self.metric, self.result.images if self.result.started.data else 0
        told = {
            metric.key: metric.score(value),
            metric.error_key: self._errors.get(value, 0.0),
        }
        return error_of(metric, told, images)

    def _is_scheduled(self, trial: str) -> bool:
        """Return whether the scheduler hears of a trial.

        It does not hear of a baseline, whose one epoch is its end: networks would be compared with
        that at their first epoch. A replay may tell of a model that is no longer registered; it
        counts as a network.
        """
        config = self.trials[trial].config
        model = MODELS.get(config["model"]["name"]) if config else None
        return bool(config) and (model is None or model.kind != "baseline")

    def _go_on(self, trial: str) -> None:
        self.scheduler.go_on(trial)
        self.at_rung.discard(trial)

    def _tell(self, trial: str) -> None:
        """Tell the scheduler and the algorithm how a trial ended."""
        ended = self.trials[trial]
        self.at_rung.discard(trial)
        if self._is_scheduled(trial):
            self.scheduler.end(trial, ended.outcome, ended.score)
        self.algorithm.tell(
            trial,
            ended.outcome,
            ended.score if ended.outcome in ("completed", "stopped") and ended.epochs else None,
        )

    @property
    def risk(self) -> Risked | None:
        """The risk of stopping the trials that are held."""
        risk = self.scheduler.risk
        if risk is None:
            return None
        return Risked(risk.chance, risk.epochs, risk.new if self._is_more_left else 0.0)

    @property
    def _is_more_left(self) -> bool:
        """True if the space has more than was tried."""
        space = self.experiment.space
        return not self.exhausted and (
            space.size is None
            or sum(space.kept(trial.params) == trial.params for trial in self.trials.values())
            < space.size
        )

    def cost(self, trial: str, measured: Cost | None) -> Decisions:
        """Decide what a trial costs to use, where that counts.

        It is the cost that was measured first, of all trials that are alike.
        """
        known = self.trials[trial]
        if len(self.experiment.objectives) < 2 or known.epochs:
            return
        config = TrialConfig.from_dict(known.config)
        cost = self.costs.get(cost_key(config, config.precision), measured)
        if cost and "unknown" in cost:
            if cost["unknown"] not in self.unmeasured:
                self.unmeasured.add(cost["unknown"])
                self.record.note(
                    f"note: what {trial} costs to use could not be measured, so it counts as the "
                    f"highest ({cost['unknown']})"
                )
        elif cost:
            yield Costed(trial, cost)

    def wants_cost(self, config: TrialConfig) -> bool:
        """Return whether cost counts, and that of no trial like this one is known."""
        return (
            len(self.experiment.objectives) > 1
            and cost_key(config, config.precision) not in self.costs
        )

    def must_wait(self, trial: str, active: Collection[str], pending: Collection[str]) -> bool:
        """Return whether a relative trains now, or will first, what this trial needs."""
        return self.relatives.must_wait(trial, self.trials, active, pending)

    def beginnings(self, trial: str) -> list[WarmStartSource]:
        """Return what relatives have trained of a trial."""
        return self.relatives.beginnings(trial, self.trials, self.result.training)

    def milestones(self, config: TrialConfig) -> list[int]:
        """Return the epochs at which a trial's relatives may end."""
        return self.relatives.milestones(config)
