"""The input and the result of a refinement: comparable scores of trials, and the size of noise.

This module also has the sentences and facts that describe the course of a refinement.
"""

import math
from dataclasses import asdict

import numpy as np

from search.decisions.space_refinement import Observation, narrow
from search.journal.events import Refined
from search.journal.result import FAILED, SearchResult, TrialResult, furthest_of_each_training
from search.space import SearchSpace
from search.values.message import Remedy
from search.values.wording import last_line_of
from trainables.errors import counted
from trainables.values import Json, Params

MAX_TRAININGS = 2000
"""The maximum number of trainings that are compared; if there are more, the latest are used."""


def observations(result: SearchResult) -> list[Observation]:
    """Return the observations from which the effects of params are estimated, one per training.

    The score of a training is the share of the other trainings that are worse; ties count half.

    Trials that differ only in length are one training, and one observation: the trial that has
    trained furthest. If each trial counted, a chance effect in one training would be counted
    several times, and would seem significant.

    Two completed trainings are compared by their best values. Any other two are compared by their
    best values up to the epoch that both have reached: a stopped trial must not be compared with
    epochs that it did not train. A diverged training is worse than all trainings that did not
    diverge; a failed one is left out.
    """
    usable = [
        trial
        for trial in result.trials.values()
        if trial.outcome == "diverged" or (trial.epochs and trial.outcome not in FAILED)
    ]
    trainings, metric = furthest_of_each_training(usable)[-MAX_TRAININGS:], result.metric
    if len(trainings) < 2:
        return [Observation(effective_params(trial), 0.5) for trial in trainings]
    longest = max((max(trial.epochs, default=0) for trial in trainings), default=0)
    best = np.full((len(trainings), longest + 1), -math.inf)
    """The best score up to each epoch, of shape (trainings, epochs + 1); -inf if diverged."""
    for row, trial in enumerate(trainings):
        if trial.outcome != "diverged":
            values = [
                metric.score_of(trial.epochs[epoch]) if epoch in trial.epochs else -math.inf
                for epoch in range(1, longest + 1)
            ]
            best[row, 1:] = np.maximum.accumulate(values)
    lengths = np.array(
        [longest if trial.outcome == "diverged" else max(trial.epochs) for trial in trainings]
    )
    whole, rows = (
        np.array([trial.outcome in ("completed", "diverged") for trial in trainings]),
        np.arange(len(trainings)),
    )
    observed = []
    for row, trial in enumerate(trainings):
        common = np.where(whole & whole[row], longest, np.minimum(lengths, lengths[row]))
        own_best, other_best = best[row, common], best[rows, common]
        observed.append(
            Observation(
                effective_params(trial),
                float(
                    ((own_best > other_best).sum() + 0.5 * ((own_best == other_best).sum() - 1))
                    / (len(trainings) - 1)
                ),
            )
        )
    return observed


def effective_params(trial: TrialResult) -> Params:
    """Return the params of a trial, with the number of epochs as limited by `--max-epochs`."""
    return (
        {**trial.params, "epochs": trial.config["epochs"]}
        if "epochs" in trial.params and trial.config
        else trial.params
    )


def noise(result: SearchResult) -> tuple[float, str]:
    """Return the largest gain that counts as noise, and a description of this number.

    The number is the standard deviation between seeds if a selection has measured it, otherwise the
    standard error of the best value.
    """
    if result.selection is not None and (verdict := result.selection.verdict) is not None:
        return verdict.expected.std, "the deviation between seeds that the selection measured"
    data, best = result.started.data, result.ranking[0]
    images = data["train"] if data.get("folds") else data["val"]
    return best.error(images), f"the standard error of {best.value:.4f} on {images:,} images"


def end_reason(result: SearchResult) -> str:
    """Return the reason to end the refinement after the last round; empty if there is none."""
    refinement = result.refinement
    if refinement is None or not refinement.rounds:
        return ""
    last = refinement.rounds[-1]
    number, gain, (chance, what) = (
        last.round,
        result.ranking[0].score - result.metric.score(last.before),
        noise(result),
    )
    new = list(result.trials.values())[last.known :]
    if not new:
        return f"round {number} had no new trials to try"
    # A round whose trials all failed does not count as one without a gain: nothing was tested.
    if all(trial.outcome == "failed" for trial in new):
        why = last_line_of(new[-1].reason, "no reason known")
        return (
            f"all {counted(len(new), 'trial')} of round {number} failed, the last one with: {why}"
        )
    if gain <= chance:
        return f"round {number} gained {gain:.4f}, within the noise of {chance:.4f} ({what})"
    if number >= refinement.terms.rounds:
        return (
            f"the maximum of {number} round{'s' * (number != 1)} is reached; the last one gained "
            f"{gain:.4f}, more than the noise of {chance:.4f} ({what}), so another round may be "
            "worthwhile"
        )
    return ""


def gains(result: SearchResult) -> list[tuple[Refined, int, float]]:
    """Return (round, number of its new trials, best value after it) for each round."""
    refinement = result.refinement
    rounds = refinement.rounds if refinement is not None else []
    ends = [(after.known, after.before) for after in rounds[1:]] + [
        (len(result.trials), result.ranking[0].value if result.ranking else math.nan)
    ]
    return [
        (refined, count - refined.known, value)
        for refined, (count, value) in zip(rounds, ends, strict=False)
    ]


def refinement_sentences(result: SearchResult, go_on: Remedy | None = None) -> list[str]:
    """Describe the rounds of a refinement; empty if there is none.

    `go_on` is the command that continues the refinement. It is named if the refinement has not
    ended.
    """
    refinement = result.refinement
    if refinement is None:
        return []
    sentences = []
    for refined, count, value in gains(result):
        sentences.append(
            f"Refinement, round {refined.round}: {counted(count, 'trial')}, "
            f"best {refined.before:.4f} -> {value:.4f}."
        )
        sentences += [
            f"  {change.text}" for change in refined.changes if change.kind in ("widened", "edge")
        ]
    if refinement.reason:
        return [*sentences, f"The refinement has ended: {refinement.reason}."]
    return [
        *sentences,
        "The refinement is not finished" + (f"; continue with: {go_on}" if go_on else "."),
    ]


def edges(result: SearchResult, space: SearchSpace) -> list[str]:
    """Describe the parameters that have a clear effect and whose best value is at an edge.

    There is one line for each parameter. An edge is the first or the last value of its domain.
    """
    if not result.ranking:
        return []
    _, changes = narrow(space, observations(result), effective_params(result.ranking[0]))
    return [change.flag for change in changes if change.flag and change.is_clear]


def refinement_facts(result: SearchResult) -> Json:
    """Return the rounds of a refinement as JSON-compatible values; empty if there is none."""
    refinement = result.refinement
    if refinement is None:
        return {}
    rounds = [
        {
            "round": refined.round,
            "trials": count,
            "before": refined.before,
            "after": end,
            "changes": [asdict(change) for change in refined.changes],
        }
        for refined, count, end in gains(result)
    ]
    return {
        "refinement": {
            "terms": asdict(refinement.terms),
            "rounds": rounds,
            "is_over": refinement.is_over,
            "reason": refinement.reason,
        }
    }
