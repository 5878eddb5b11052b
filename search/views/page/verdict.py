"""The verdict in words.

It says what was asked, what is best, how sure that is, whether a network was needed, and what the
test said.
"""

import math
from statistics import NormalDist
from typing import Any

from search.journal.result import Opening, SearchResult, TrialResult
from search.phrases import duration
from search.statistics import LEVEL, of_images
from search.views.page.answer import cost_of
from search.views.summary import (
    GONE_ON,
    is_baseline,
    ms_per_image,
    outcome_text,
    quicker_text,
    risk_text,
    searched,
    short_names,
    source_text,
    value_text,
)
from trainables.errors import printable

Sentence = tuple[str, str]
"""A short title, and one or more sentences."""


def verdict(result: SearchResult) -> list[Sentence]:
    """Return the sentences in a reader's order, without those on what is not known yet."""
    said = [("Asked", _asked(result)), ("Found", _found(result))]
    if result.chosen is not None:
        said += [
            ("How sure", _sure(result)),
            ("For less", quicker_text(result, f"python -m search.promote {result.name}")),
            ("A network?", _network(result)),
            ("On new images", _tested(result)),
        ]
    return [(title, text) for title, text in said if text]


def percent(share: float, images: int = 1000) -> str:
    """Return `97.77%`; with one decimal where there are too few images for two."""
    return f"{100 * share:.{2 if images >= 1000 else 1}f}%"


def points(difference: float) -> str:
    """Return a difference of shares: `0.6 points`."""
    return f"{100 * abs(difference):.1f} points"


def _asked(result: SearchResult) -> str:
    experiment, data = result.started["experiment"], result.started["data"]
    names = list(short_names(searched(result)).values())
    what = f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else "".join(names)
    how = {
        "bayes": "Bayesian",
        "gp": "Bayesian (Gaussian process)",
        "random": "Random",
        "grid": "Grid",
    }.get(experiment["algorithm"], experiment["algorithm"])
    stopped = (
        "those that fell behind"
        if any(trial.outcome == "stopped" for trial in result.trials.values())
        else "none"
    )
    until = {"fifo": "each was trained to its end", "asha": f"ASHA stopped {stopped}"}.get(
        experiment["scheduler"], experiment["scheduler"]
    )
    low = "".join(f", with low {name}" for name in result.costs_wanted[:1]) + "".join(
        f" and {name}" for name in result.costs_wanted[1:]
    )
    tell = "tells" if len(names) == 1 else "tell"
    return (
        f"Which {what} (space {experiment['space']['name']}) {tell} the "
        f"{len(data['classes'])} classes of {source_text(data)} apart best{low}? {how} "
        "search "
        f"proposed {count(len(result.trials), 'trial')}; {until} ({outcome_text(result)})."
    )


def count(number: int, word: str) -> str:
    """Return `1 trial`, `1,200 trials`."""
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def one_observation(result: SearchResult) -> str:
    """Return the word for what statistics count: `trial`, or `training`.

    It is `training` where some trials are different lengths of one training.
    """
    return "trial" if len(result.distinct) == len(result.ranking) else "training"


def _found(result: SearchResult) -> str:
    answer = result.chosen
    if answer is None:
        return (
            "No trial has finished an epoch."
            if not result.ranking
            else "No trial's checkpoint is whole."
        )
    candidate = result.trials.get(answer.repeat_of, answer)
    names = short_names(searched(result))
    params = ", ".join(
        f"{names[path]} {value_text(candidate, path)}"
        for path in candidate.params
        if path in names and path != "model.name"
    )
    again = f", trained again as {answer.trial}" if answer is not candidate else ""
    text = (
        f"{answer.config['model']['name']}{f' with {params}' if params else ''} (trial "
        f"{candidate.trial}{again})."
    )
    images = result.started["data"]["val"]
    if answer is candidate:
        text += (
            f" It names {percent(answer.accuracy, images)} of the {images:,} validation "
            f"images right{_folds(answer, images)}"
        )
        text += (
            f", after epoch {answer.best_epoch} of {answer.config['epochs']}."
            if not is_baseline(answer)
            else "."
        )
    if folds := answer.config["data"].get("folds"):
        text += (
            f" It is a committee: new images get the mean probabilities of {folds} such "
            "models, one trained for each fold."
        )
    lost = "".join(
        f" {name} was better on the validation part, but its checkpoint is lost."
        for name in result.passed_over
    )
    return text + lost


def _folds(trial: TrialResult, images: int) -> str:
    """Return what cross-validation adds to an accuracy, as text."""
    if trial.deviation is None:
        return ""
    folds = trial.config["data"].get("folds")
    return (
        f" (mean ± {percent(trial.deviation, images)} over "
        f"{f'{folds} folds' if folds else 'the folds'})"
    )


def _sure(result: SearchResult) -> str:
    if result.selection is not None and result.selection.chosen is not None:
        return _selected(result.selection.verdict, result.started["data"]["val"]) + (
            f" {GONE_ON}" if result.is_selection_old else ""
        )
    answer, images = result.chosen, result.started["data"]["val"]
    if answer is None or not images:
        return ""
    low, high = of_images(answer.accuracy, images)
    others = [
        trial
        for trial in result.distinct
        if not (
            trial is answer or (answer.training_key and trial.training_key == answer.training_key)
        )
    ]
    near = sum(trial.accuracy >= low for trial in others)
    text = (
        f"{images:,} images tell an accuracy between {percent(low, images)} and "
        f"{percent(high, images)} ({LEVEL:.0%} interval)."
    )
    if near > 0:
        text += (
            f" {count(near, f'other {one_observation(result)}')} "
            f"{'lies' if near == 1 else 'lie'} in that range, so that luck may have decided."
        )
    if others:
        several = f" {one_observation(result)}s" if one_observation(result) != "trial" else ""
        text += (
            f" And it is the highest of {len(others) + 1:,}{several} measured on the same "
            "images, which makes it optimistic;"
        )
        later = (
            ", once the search has ended"
            if result.unfinished or not (result.is_over or result.outcome == "running")
            else ""
        )
        text += f" python -m search.select {result.name} tells by how much{later}."
    return f"{text} {risk_text(result)}".rstrip()


def _selected(verdict: dict[str, Any], images: int) -> str:
    expected, search_value = verdict["expected"], verdict["search_value"]
    mean, low, high = (percent(expected[name], images) for name in ("mean", "low", "high"))
    return (
        f"Trained anew with {count(expected['seeds'], 'fresh seed')}, {mean} of the "
        "validation images are to be expected right "
        f"({verdict['level']:.0%} interval: {low} to {high}), "
        f"{_beside(expected['mean'] - search_value)} {percent(search_value, images)} that "
        "the search saw."
        f"{_compared(verdict)}"
    )


def _beside(difference: float) -> str:
    return (
        f"{points(difference)} {'less' if difference < 0 else 'more'} than the"
        if abs(difference) >= 0.001
        else "as much as the"
    )


def _compared(verdict: dict[str, Any]) -> str:
    """Return what became of the other candidates, in sentences."""
    tied, behind, worse = (
        [row["candidate"] for row in verdict["rows"] if row["state"] == state]
        for state in ("tied", "behind", "dropped")
    )
    text = ""
    if tied:
        rate = f"{verdict['alpha']:.0%}"
        text += (
            f" {', '.join(tied)} {'is' if len(tied) == 1 else 'are'} as good as far as the "
            f"paired tests tell (error rate {rate}); the quickest was taken."
        )
    if behind:
        text += (
            f" {', '.join(behind)} {'is' if len(behind) == 1 else 'are'} behind, which may be "
            "chance."
        )
    if worse:
        text += f" {', '.join(worse)} {'is' if len(worse) == 1 else 'are'} clearly worse."
    return text


def _network(result: SearchResult) -> str:
    """Return whether the best network is better than the best baseline, in words."""
    images = result.started["data"]["val"]
    found = list(result.best_of_models.values())
    network = next((trial for trial in found if not is_baseline(trial)), None)
    baseline = next((trial for trial in found if is_baseline(trial)), None)
    if baseline is None:
        return (
            "Not known: nothing was tried but networks. The space baselines fits a "
            "support-vector machine, neighbours and a tree on hand-made features."
        )
    name = baseline.config["model"]["name"]
    if network is None:
        return f"None was tried: {name} is the best of what was fitted without one."
    difference = network.accuracy - baseline.accuracy
    noise = NormalDist().inv_cdf((1 + LEVEL) / 2) * math.sqrt(
        sum(trial.accuracy * (1 - trial.accuracy) for trial in (network, baseline)) / images
    )
    judged = "Yes" if difference > noise else "No" if difference < -noise else "Hardly"
    beyond = "beyond" if abs(difference) > noise else "within"
    behind = (
        f"{points(difference)} {'less' if difference >= 0 else 'more'}, {beyond} the noise of "
        f"{images:,} images"
    )
    reached = (
        f"the best network ({network.config['model']['name']}) reaches "
        f"{percent(network.accuracy, images)}"
    )
    return (
        f"{judged}: {reached}, {name} on hand-made features "
        f"{percent(baseline.accuracy, images)}: {behind}.{_speed(network, baseline)}"
    )


def _speed(network: TrialResult, baseline: TrialResult) -> str:
    times = ms_per_image(network), ms_per_image(baseline)
    if times[0] is None or times[1] is None:
        return ""
    return f" For one image the network takes {times[0]:.3g} ms, the other {times[1]:.3g} ms."


def _tested(result: SearchResult) -> str:
    test = result.chosen_test
    if not test:
        return f"Not known yet. {opened(result.openings)}"
    images = test["images"]
    low, high = (percent(bound, images) for bound in of_images(test["accuracy"], images))
    text = (
        f"{percent(test['accuracy'], images)} of the {images:,} test images are named right "
        f"({LEVEL:.0%} interval: {low} to {high})"
    )
    return f"{text}; nothing was chosen by them. {opened(result.openings)}"


def opened(openings: list[Opening]) -> str:
    """Return when the test part was opened, by what and for which trial, in a sentence."""
    if not openings:
        return "The test part is sealed: nobody has looked at it."
    first, *more = (f"on {opening}" for opening in openings)
    if not more:
        return f"The test part was opened once, {first}."
    return f"The test part was opened {len(openings)} times, first {first}; then {'; '.join(more)}."


def tiles(result: SearchResult) -> list[tuple[str, str, str]]:
    """Return the few numbers to remember: title, number, and what it is about."""
    answer = result.chosen
    if answer is None:
        return []
    images, test, cost = result.started["data"]["val"], result.chosen_test, cost_of(result)
    expected = result.selection.verdict.get("expected") if result.selection is not None else None
    found = [("validation accuracy", percent(answer.accuracy, images), f"{images:,} images")]
    if expected is not None:
        found = [
            (
                "expected accuracy",
                percent(expected["mean"], images),
                f"validation, {count(expected['seeds'], 'fresh seed')}",
            )
        ]
    if test:
        found.append(
            (
                "test accuracy",
                percent(test["accuracy"], test["images"]),
                f"{test['images']:,} images, unseen",
            )
        )
    if times := cost.get("inference"):
        found.append(
            (
                "one image takes",
                f"{times['batch_1']['median_ms']:.3g} ms",
                f"on {printable(cost.get('device') or 'this machine')}",
            )
        )
    if cost.get("parameters") is not None:
        found.append(
            ("weights", f"{cost['parameters'] / 1e6:.3g} M", f"{cost['bytes'] / 1e6:.3g} MB")
        )
    return [*found, ("search time", duration(result.wall_s), count(len(result.trials), "trial"))]
