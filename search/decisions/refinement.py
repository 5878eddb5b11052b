"""The basis of a refinement and its result: how trials compare, and how much gain is noise.

Also the sentences and facts that tell how a refinement went.
"""

import math
from dataclasses import asdict

import numpy as np

from search.decisions.space_refinement import Observation, narrow
from search.journal.events import Refined
from search.journal.result import FAILED, SearchResult, TrialResult, one_a_training
from search.space import SearchSpace
from search.values.message import Remedy
from search.values.wording import last_line_of
from trainables.errors import counted
from trainables.values import Json, Params

MAX_TRAININGS = 2000
"""The most trainings that are compared; of more, the last are."""


def observations(result: SearchResult) -> list[Observation]:
    """Return the trainings that tell something of their params, each with a score.

    The score is the share of the others that it is better than.

    Trials that differ in length alone are one training, and so one observation: the one that came
    furthest. If each counted, an effect that one training has by chance would seem clear, since all
    its lengths have it too.

    Two that came to their end are compared by their best values, others by their best up to the
    epoch that both have reached: a stopped trial is never held against epochs that it was not
    given. One that diverged is worse than all that did not; one that failed tells nothing.
    """
    heard = [
        trial
        for trial in result.trials.values()
        if trial.outcome == "diverged" or (trial.epochs and trial.outcome not in FAILED)
    ]
    known, metric = one_a_training(heard)[-MAX_TRAININGS:], result.metric
    if len(known) < 2:
        return [Observation(effective(trial), 0.5) for trial in known]
    longest = max((max(trial.epochs, default=0) for trial in known), default=0)
    best = np.full((len(known), longest + 1), -math.inf)
    """By epoch; of a trial that diverged, lower than any."""
    for row, trial in enumerate(known):
        if trial.outcome != "diverged":
            values = [
                metric.score_of(trial.epochs[epoch]) if epoch in trial.epochs else -math.inf
                for epoch in range(1, longest + 1)
            ]
            best[row, 1:] = np.maximum.accumulate(values)
    lengths = np.array(
        [longest if trial.outcome == "diverged" else max(trial.epochs) for trial in known]
    )
    whole, rows = (
        np.array([trial.outcome in ("completed", "diverged") for trial in known]),
        np.arange(len(known)),
    )
    found = []
    for row, trial in enumerate(known):
        common = np.where(whole & whole[row], longest, np.minimum(lengths, lengths[row]))
        mine, others = best[row, common], best[rows, common]
        found.append(
            Observation(
                effective(trial),
                float(
                    ((mine > others).sum() + 0.5 * ((mine == others).sum() - 1)) / (len(known) - 1)
                ),
            )
        )
    return found


def effective(trial: TrialResult) -> Params:
    """Return a trial's params as it was trained: with the epochs that --max-epochs left."""
    return (
        {**trial.params, "epochs": trial.config["epochs"]}
        if "epochs" in trial.params and trial.config
        else trial.params
    )


def noise(result: SearchResult) -> tuple[float, str]:
    """Return how much of a gain may be chance, and what that number is.

    It is the deviation between seeds that a selection has measured, else the standard error of the
    best value on the images that it was measured on.
    """
    if result.selection is not None and (verdict := result.selection.verdict) is not None:
        return verdict.expected.std, "the deviation between seeds that the selection measured"
    data, best = result.started.data, result.ranking[0]
    images = data["train"] if data.get("folds") else data["val"]
    return best.error(images), f"the standard error of {best.value:.4f} on {images:,} images"


def why_over(result: SearchResult) -> str:
    """Return why no further round is worth it after the last one; empty if one is."""
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
        return f"round {number} had nothing new to try"
    # Not a round without a gain: nothing was learned of its space.
    if all(trial.outcome == "failed" for trial in new):
        why = last_line_of(new[-1].reason, "no reason known")
        return f"all {counted(len(new), 'trial')} of round {number} failed, the last with: {why}"
    if gain <= chance:
        return f"round {number} gained {gain:.4f}, within the noise of {chance:.4f} ({what})"
    if number >= refinement.terms.rounds:
        return (
            f"it has had its {number} round{'s' * (number != 1)}; the last gained {gain:.4f}, "
            f"more than the noise of {chance:.4f} ({what}): another may pay"
        )
    return ""


def gains(result: SearchResult) -> list[tuple[Refined, int, float]]:
    """Return each round with the number of its new trials and the best value after it."""
    refinement = result.refinement
    rounds = refinement.rounds if refinement is not None else []
    ends = [(after.known, after.before) for after in rounds[1:]] + [
        (len(result.trials), result.ranking[0].value if result.ranking else math.nan)
    ]
    return [
        (one, known - one.known, value) for one, (known, value) in zip(rounds, ends, strict=False)
    ]


def refinement_sentences(result: SearchResult, go_on: Remedy | None = None) -> list[str]:
    """Return what a search's refinement came to, in words; empty before it begins.

    `go_on` is the command that goes on with it, where it has not come to its end.
    """
    refinement = result.refinement
    if refinement is None:
        return []
    found = []
    for one, count, value in gains(result):
        found.append(
            f"Refinement, round {one.round}: {counted(count, 'trial')}, "
            f"best {one.before:.4f} -> {value:.4f}."
        )
        found += [
            f"  {change.text}" for change in one.changes if change.kind in ("widened", "edge")
        ]
    if refinement.reason:
        return [*found, f"The refinement has ended: {refinement.reason}."]
    return [
        *found,
        "The refinement has not come to its end" + (f"; go on with: {go_on}" if go_on else "."),
    ]


def edges(result: SearchResult, space: SearchSpace) -> list[str]:
    """Return a line for each edge of the space at which the best trial lies.

    Only edges of parameters with a clear effect count.
    """
    if not result.ranking:
        return []
    _, changes = narrow(space, observations(result), effective(result.ranking[0]))
    return [change.flag for change in changes if change.flag and change.is_clear]


def refinement_facts(result: SearchResult) -> Json:
    """Return the course of a refinement as plain values; empty before it begins."""
    refinement = result.refinement
    if refinement is None:
        return {}
    rounds = [
        {
            "round": one.round,
            "trials": count,
            "before": one.before,
            "after": end,
            "changes": [asdict(change) for change in one.changes],
        }
        for one, count, end in gains(result)
    ]
    return {
        "refinement": {
            "terms": asdict(refinement.terms),
            "rounds": rounds,
            "is_over": refinement.is_over,
            "reason": refinement.reason,
        }
    }
