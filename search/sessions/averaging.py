"""The average of the chosen candidate's trainings, as one more network to choose from.

The weights after the last epochs are averaged, not those of the best epochs: with few validation
images, an earlier epoch is often the best by luck, and its weights have not settled.
"""

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

from search.decisions.driver import Driver
from search.decisions.selection import is_average_as_good
from search.decisions.selection_policy import SelectionPolicy
from search.execution.evaluation import Crew, Hung, Tick, await_answer, evaluate, job_of
from search.execution.failures import kind_of, reason_of
from search.execution.job import EvaluationReply
from search.journal.events import Averaged
from search.journal.result import Selection, TrialResult
from search.values.statistics import standard_error
from trainables.config import TrialConfig


def average_name(candidate: str) -> str:
    """Return the name of the average of a candidate's trainings, such as `t0007-average`."""
    return f"{candidate}-average"


def choose_average(driver: Driver, policy: SelectionPolicy, workers: Crew, *, tick: Tick) -> None:
    """Average the chosen candidate's trainings, and choose the average if it is as good as they.

    Only classifiers are averaged whose trainings began with the same weights, and which are ranked
    by accuracy (`can_average`). A training whose checkpoint was removed is left out. If averaging
    fails, a note states the reason, and the best training stays the choice.

    Args:
        driver: the driver of the selection, after its verdict.
        policy: the policy of the selection.
        workers: the processes that evaluate.
        tick: called several times a second.
    """
    selection = policy.selection
    if driver.interrupted or selection.verdict is None or selection.is_tested:
        return
    candidate = selection.verdict.candidate
    members = sorted(
        (trial for trial in policy.ranked(candidate) if not trial.is_freed),
        key=lambda trial: trial.config["seed"],
    )
    if len(members) < 2 or not can_average(TrialConfig.from_dict(members[0].config)):
        return
    names = [trial.trial for trial in members]
    averaged = selection.averaged
    if averaged is None or averaged.candidate != candidate or averaged.members != names:
        if has_fallen(members, policy.result.images):
            return
        averaged = _average(driver, members, workers, tick)
        if averaged is None:
            return
        driver.journal.append(averaged)
    if is_average_as_good(averaged):
        _choose(driver, selection, averaged, workers, tick)


def can_average(config: TrialConfig) -> bool:
    """True if the mean of the weights of such trainings may be a good network.

    Trainings of new networks end at weights whose mean predicts nothing.
    """
    return (
        "average" in config.task.can
        and config.ranked_by.is_primary
        and config.data.folds is None
        and (config.model.pretrained or config.begins_with is not None)
    )


def has_fallen(members: Sequence[TrialResult], images: int) -> bool:
    """True if trainings are clearly worse at their ends than before, on average.

    The limit is a standard error of a share of the validation images. A training that overfits is
    such a case, and so is one whose learning rate stays high.
    """
    courses = [
        [trial.metric.score_of(trial.epochs[epoch]) for epoch in sorted(trial.epochs)]
        for trial in members
    ]
    means = [fmean(scores) for scores in zip(*courses, strict=True)]
    return max(means) - means[-1] > standard_error(means[-1], images)


def _average(
    driver: Driver, members: list[TrialResult], workers: Crew, tick: Tick
) -> Averaged | None:
    """Let a worker average trainings; return None if it fails or the selection is interrupted."""
    first, experiment = members[0], driver.experiment
    name = average_name(first.repeat_of)
    job = job_of(experiment, replace(first, trial=name))
    jobs = [(job_of(experiment, trial), trial.reached) for trial in members]
    worker = workers.for_test()
    try:
        reply: EvaluationReply | None = await_answer(
            driver, workers, tick, worker, "average", job, workers.dataset, jobs, first.reached
        )
    except (workers.broken, Hung) as error:
        reply = EvaluationReply(damaged=reason_of(error, kind_of(error)))
    if reply is None:
        return None
    if reply.damaged is not None:
        driver.journal.complain(
            f"note: the weights of the trainings of {first.repeat_of} were not averaged: "
            f"{reply.damaged}"
        )
        return None
    return Averaged(
        trial=name,
        candidate=first.repeat_of,
        members=[trial.trial for trial in members],
        params=first.params,
        config=first.config,
        epoch=first.reached,
        **reply.found,
    )


def _choose(
    driver: Driver, selection: Selection, averaged: Averaged, workers: Crew, tick: Tick
) -> None:
    """Evaluate the average, and write to the journal that it is the choice."""
    assert selection.average is not None
    assert selection.verdict is not None
    evaluate(driver, workers, [selection.average], [], slots=1, tick=tick)
    if not driver.interrupted and selection.verdict.trial != averaged.trial:
        driver.journal.append(replace(selection.verdict, trial=averaged.trial))
