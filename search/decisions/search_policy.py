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
from search.journal.guessing import answer_against
from search.journal.result import SearchResult, TrialResult
from search.schedulers.base import Scheduler, Setting, Stop, TrialCourse
from search.schedulers.registry import SCHEDULERS
from search.values.objectives import costs_of, measured_keys, need_costs
from search.values.statistics import error_of
from trainables.catalog.models import MODELS
from trainables.config import TrialConfig, training_key
from trainables.errors import ConfigError, counted
from trainables.fusion.shapes import cost_key
from trainables.messages import Cost, WarmStartSource
from trainables.values import Json


def course_of(config: Json) -> TrialCourse:
    """Create the `TrialCourse` of a trial from its config in the journal."""
    epochs, optimizer = config["epochs"], config.get("optimizer", {})
    step = optimizer.get("step_epochs", 0) if optimizer.get("schedule") == "step" else 0
    return TrialCourse(epochs, (epochs - 1) // step * step if step else 0)


class SearchPolicy:
    """The policy of one search.

    A policy that has received the events of a journal makes the same decisions as one that was
    never interrupted.
    """

    more_later = False

    def __init__(self, experiment: Experiment, record: Record) -> None:
        self.experiment, self.record = experiment, record
        self.metric = experiment.base.ranked_by
        """The metric by which trials are ranked, stopped and chosen."""
        self._errors: dict[float, float] = {}
        """Maps reported scores to the standard errors that were reported with them."""
        self.algorithm = self._algorithm()
        self.scheduler = self._scheduler()
        self.relatives = Relatives(experiment, record.earlier)
        self.costs: dict[Hashable, Cost] = {}
        """The measured costs by `cost_key`; empty unless inference cost is an objective."""
        self.needs_costs = need_costs(experiment.objectives)
        """True if inference cost is an objective."""
        self.measures = measured_keys(experiment.objectives)
        """The keys of the objectives that are measured after each epoch."""
        self.unmeasured: set[str] = set()
        """The reasons for unmeasured costs that have been printed; each is printed only once."""
        self.exhausted = False
        """True once the algorithm has nothing more to propose."""
        self.enough = ""
        """The reason why further trials are not worthwhile; empty if they are."""
        self.at_rung: set[str] = set()
        self.lengths: set[int] = set()
        """The distinct numbers of epochs of the scheduled trials.

        If there are several, the forecasts of the scheduler are not passed to the algorithm, since
        they would be for different epochs.
        """
        self._asked = ""
        """The trial that the algorithm has just proposed, which `receive` must not replay."""

    def _algorithm(self) -> Algorithm:
        algorithm = ALGORITHMS[self.experiment.algorithm](
            self.experiment.space, self.experiment.seed
        )
        algorithm.metric = self.metric
        return algorithm

    def _scheduler(self) -> Scheduler:
        experiment = self.experiment
        scheduler = SCHEDULERS[experiment.scheduler](
            Setting(
                experiment.horizon,
                experiment.grace,
                experiment.sure,
                self.metric.top_score,
            )
        )
        scheduler.error_of = self._error_of  # type: ignore[method-assign]
        return scheduler

    @property
    def result(self) -> SearchResult:
        """The search so far."""
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
        """True unless all planned trials are proposed, or more are not worthwhile."""
        return (
            not (self.exhausted or self.enough)
            and len(self.trials) < self.experiment.planned_trials
        )

    @property
    def ahead(self) -> int:
        """The number of trials that are still to be proposed."""
        return max(0, self.experiment.planned_trials - len(self.trials)) if self.more_now else 0

    @property
    def outcome(self) -> tuple[str, str]:
        """(outcome, reason): `completed`, or `gain` if further trials were not worthwhile."""
        return ("gain", self.enough) if self.enough else ("completed", "")

    @property
    def may_wait(self) -> bool:
        """True unless the algorithm learns from results; it should then receive results first."""
        return not self.algorithm.learns

    def extend(self, experiment: Experiment) -> None:
        """Replace the experiment; if its number of trials changes, estimate the gain again."""
        if experiment.planned_trials != self.experiment.planned_trials:
            self.enough = ""
        self.experiment = experiment

    def begin(self) -> Decisions:
        """Decide nothing: the driver continues the trials."""
        yield from ()

    def follow_up(self) -> Decisions:
        """Decide nothing: `receive` has passed ended trials to the algorithm and the scheduler."""
        yield from ()

    def judge(self, trial: str) -> Stop | None:
        """Return None: only the scheduler stops trials."""
        return None

    def last_word(self, outcome: str, reason: str) -> Finished | Concluded:
        """Create the last event of the search."""
        return Finished(outcome, reason)

    def save(self, folder: Path) -> None:
        """Save the files of the algorithm."""
        self.algorithm.save(folder)

    def propose(self, *, idle: bool) -> Decisions:
        """Propose the next of the planned trials."""
        if self.more_now:
            yield from self.proposals(self.experiment.planned_trials)

    def proposals(self, count: int) -> Decisions:
        """Propose trials until the search has `count` of them.

        If params do not make a valid config, the trial fails.
        """
        while (
            not self.exhausted and len(self.trials) < count and not (yield from self._has_enough())
        ):
            trial = f"t{len(self.trials) + 1:04d}"
            if self.algorithm.learns:
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
        """Yield `Enough` if the remaining trials are expected to gain less than `min_gain`.

        Or if the best of `stop_at_chance` trials is not significantly better than guessing.

        Returns:
            True if further trials are not worthwhile.
        """
        min_gain, ahead = (
            self.experiment.min_gain,
            self.experiment.planned_trials - len(self.trials),
        )
        unit, words = (100, "points of ") if self.metric.is_fraction else (1, "")
        if (
            min_gain
            and (expected := unit * expected_gain(values_of(self.result), ahead)) < min_gain
        ):
            reason = (
                f"{counted(ahead, 'more trial')} {'is' if ahead == 1 else 'are'} expected to gain "
                f"{expected:.2g} {words}validation {self.metric.title}, "
                f"less than {min_gain:g} (--min-gain)"
            )
            yield Enough(reason, expected, min_gain, ahead)
        elif (limit := self.experiment.stop_at_chance) and self._is_at_chance(limit):
            reason = (
                f"the best of {counted(self._with_result, 'trial')} is not significantly better "
                "than guessing (--stop-at-chance)"
            )
            yield Enough(reason, 0.0, min_gain, ahead, at_chance=limit)
        return bool(self.enough)

    @property
    def _with_result(self) -> int:
        """The number of trials that have ended with a result."""
        return sum(trial.ended_ms > 0 for trial in self.result.ranking)

    def _is_at_chance(self, least: int) -> bool:
        """True if so many trials have ended with a result, and the best one only guesses."""
        if self._with_result < least:
            return False
        against = answer_against(self.result)
        return against is not None and not against.is_above

    def receive(self, data: EventData) -> None:
        """Pass an event to the algorithm and the scheduler."""
        if isinstance(data, Enough):
            self._receive_enough(data)
        trial = getattr(data, "trial", "")
        if trial not in self.trials:  # an event of the search itself, or of its selection
            return
        match data:
            case Suggested():
                if trial != self._asked:
                    self.algorithm.replay(trial, data.params)
                self._begin(trial, data.stem or trial)
            case Costed():
                self._receive_cost(trial, data.cost)
            case Epoch():
                # Journals of earlier versions have no `Promoted`. There, a further epoch shows
                # that a trial was promoted.
                if trial in self.at_rung:
                    self._promote(trial)
                self._receive_epoch(trial, data.epoch, data.metrics)
            case Held():
                self.at_rung.discard(trial)
            case Promoted():
                self._promote(trial)
            case Ended():
                self._receive_end(trial)

    def _receive_enough(self, event: Enough) -> None:
        """Restore the decision that further trials are not worthwhile.

        The decision no longer applies if the option has changed, or if more trials are planned now.
        """
        if (
            event.wanted == self.experiment.min_gain
            and event.at_chance in (0, self.experiment.stop_at_chance)
            and len(self.trials) + event.ahead >= self.experiment.planned_trials
        ):
            self.enough = event.reason

    def _begin(self, trial: str, training: str) -> None:
        if self._is_scheduled(trial):
            config = self.trials[trial].config
            self.scheduler.begin(trial, self.trials[trial].params, training, course_of(config))
            self.lengths.add(config["epochs"])

    def _receive_cost(self, trial: str, cost: Cost) -> None:
        with suppress(ConfigError):  # the journal may have a model that is no longer in the catalog
            config = TrialConfig.from_dict(self.trials[trial].config)
            self.costs.setdefault(cost_key(config, config.precision), cost)
        if not self.measures:
            self._pass_costs(trial)

    def _pass_costs(self, trial: str) -> None:
        """Pass a trial's values in the further objectives, unless its inference cost is unknown."""
        passed = self.trials[trial]
        if self.needs_costs and not passed.costed:
            return
        facts = {**passed.costed, **(passed.best if passed.epochs else {})}
        costs = costs_of(self.experiment.objectives[1:], facts)
        self.algorithm.cost(trial, costs)
        if self._is_scheduled(trial):
            self.scheduler.cost(trial, costs)

    def _receive_epoch(self, trial: str, epoch: int, metrics: dict[str, float]) -> None:
        score = self.metric.score_of(metrics)
        self._errors.setdefault(score, metrics.get(self.metric.error_key, 0.0))
        self.algorithm.report(trial, epoch, score)
        if self.measures:
            self._pass_costs(trial)
        if self._is_scheduled(trial) and self.scheduler.on_epoch(
            trial, epoch, self.trials[trial].score
        ):
            self.at_rung.add(trial)

    def _error_of(self, value: float) -> float:
        """Return the standard error of a reported score; 0 if it is not known."""
        metric, images = self.metric, self.result.images if self.result.started.data else 0
        metrics = {
            metric.key: metric.score(value),
            metric.error_key: self._errors.get(value, 0.0),
        }
        return error_of(metric, metrics, images)

    def _is_scheduled(self, trial: str) -> bool:
        """True if the scheduler receives the events of a trial.

        The events of a baseline are left out: a baseline has only one epoch, so networks would be
        compared with it after their first epoch. A model that is no longer in the catalog counts as
        a network.
        """
        config = self.trials[trial].config
        model = MODELS.get(config["model"]["name"]) if config else None
        return bool(config) and (model is None or model.kind != "baseline")

    def _promote(self, trial: str) -> None:
        self.scheduler.go_on(trial)
        self.at_rung.discard(trial)

    def _receive_end(self, trial: str) -> None:
        """Pass the end of a trial to the scheduler and the algorithm."""
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
        """The risk of stopping the trials that wait at rungs; None if not known."""
        risk = self.scheduler.risk
        if risk is None:
            return None
        return Risked(risk.chance, risk.epochs, risk.new if self._is_more_left else 0.0)

    @property
    def _is_more_left(self) -> bool:
        """True if the space has points that no trial has tried."""
        space = self.experiment.space
        return not self.exhausted and (
            space.size is None
            or sum(
                space.valid_values(trial.params) == trial.params for trial in self.trials.values()
            )
            < space.size
        )

    def cost(self, trial: str, measured: Cost | None) -> Decisions:
        """Yield an event with the inference cost of a trial's network, if cost is an objective.

        Trials with the same `cost_key` share the cost that was measured first.
        """
        trial_result = self.trials[trial]
        if not self.needs_costs or trial_result.epochs:
            return
        config = TrialConfig.from_dict(trial_result.config)
        cost = self.costs.get(cost_key(config, config.precision), measured)
        if cost and "unknown" in cost:
            if cost["unknown"] not in self.unmeasured:
                self.unmeasured.add(cost["unknown"])
                self.record.note(
                    f"note: the cost of predictions with {trial} could not be measured, so {trial} "
                    f"counts as the most expensive trial ({cost['unknown']})"
                )
        elif cost:
            yield Costed(trial, cost)

    def wants_cost(self, config: TrialConfig) -> bool:
        """True if cost is an objective, and the cost of this config is not known."""
        return self.needs_costs and cost_key(config, config.precision) not in self.costs

    def must_wait(self, trial: str, active: Collection[str], pending: Collection[str]) -> bool:
        """True if a relative is training epochs that this trial needs, or will train them first."""
        return self.relatives.must_wait(trial, self.trials, active, pending)

    def beginnings(self, trial: str) -> list[WarmStartSource]:
        """Return the relatives from which a trial may warm-start, the best first."""
        return self.relatives.beginnings(trial, self.trials, self.result.training)

    def milestones(self, config: TrialConfig) -> list[int]:
        """Return the epochs at which shorter relatives of a trial may end."""
        return self.relatives.milestones(config)
