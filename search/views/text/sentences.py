"""Sentences on the result of a search: its risk, its requests, guessing, and its selection."""

from search.decisions.refinement import refinement_sentences
from search.decisions.selection import is_average_as_good
from search.facts.metric import least_score, tested_interval
from search.facts.more_labels import labels_forecast
from search.facts.trials import is_baseline, ms_per_image
from search.journal.events import Pooled, Requested
from search.journal.guessing import ERROR_RATE, AgainstGuessing, answer_against, is_tie
from search.journal.pareto import front
from search.journal.result import SearchResult, TrialResult, moment
from search.journal.store import Storage
from search.values.message import Message, Remedy, Start
from search.values.objectives import OBJECTIVES, objective_value
from search.values.statistics import LEVEL
from search.values.wording import DEFAULT_STORAGE
from search.views.text.labels import format_value, state_text, superlative
from trainables.errors import counted, printable

SHOWN_REQUESTS = 5
"""Maximum number of requests to show; earlier requests are only counted."""


HARDLY = 0.01
"""If four times as many images raise the accuracy by less than this, more labels hardly help."""
MIN_RISK = 0.01
"""Probabilities below this value are written as `less than 1%`."""


def risk_text(result: SearchResult) -> str:
    """Describe the risk that a stopped trial would have been the best; empty without a risk.

    If a baseline is the best, it is the risk that a stopped network would have been the best
    network: the scheduler compares networks with each other only.
    """
    risk = result.risk
    if risk is None or not (chance := risk.chance):
        return ""
    counts, state = result.counts, state_text(result)
    stopped = counts.get("stopped", 0) + counts.get("held", 0)
    if not stopped:  # the other trials are still waiting for their turn
        return ""
    subject = f"one of the {stopped} {state} trials" if stopped != 1 else f"the {state} trial"
    if (best := result.best) is not None and is_baseline(best):
        # More epochs or new trials might find a better network, but perhaps no better trial.
        return (
            f"The chance that {subject} would have been the best network is "
            f"{_chance_text(chance)}; whether it would have been better than {best.trial}, which "
            "was fitted once, is not known."
        )
    if chance < MIN_RISK:
        return f"It is unlikely (less than {MIN_RISK:.0%}) that {subject} would have been the best."
    surer = 1 - chance / 2
    how = f" (--sure {surer:.2g})" if surer > result.started.experiment.get("sure", 0.0) else ""
    more = f"about {counted(risk.epochs, 'more epoch')} would halve it{how}"
    sentence = f"The chance that {subject} would have been the best is about {chance:.0%}; {more}."
    if chance > 0.5:
        sentence = f"More training would probably change the answer. {sentence}"
    # If a search ended because of its small gain, the gain of new trials is already in its reason.
    has_more = risk.new and result.outcome != "gain"
    return f"{sentence} {_new_text(chance / 2, risk.new, state)}" if has_more else sentence


def _new_text(going_on: float, new: float, state: str) -> str:
    """Compare training new trials with continuing stopped ones, for the same number of epochs.

    Args:
        going_on: the chance that a better trial is found by continuing stopped trials.
        new: the chance that a better trial is found by training new ones.
        state: the state of the trials that may be continued: stopped or held.
    """
    return (
        f"In that many epochs, new trials find a better one with a chance of {_chance_text(new)}, "
        f"the {state} ones with {_chance_text(going_on)}."
    )


def _chance_text(chance: float) -> str:
    return f"about {chance:.0%}" if chance >= MIN_RISK else f"less than {MIN_RISK:.0%}"


def taken_over_text(result: SearchResult) -> str:
    """Describe the epochs that were reused from earlier trainings; empty if there are none.

    For example: `reused 1,620 epochs (54 trials) of this search; 120 epochs (5 trials) of 'x'`.
    """
    parts = []
    for search, (trials, epochs) in result.reused_epochs.items():
        whose = "this search" if search == result.name else f"'{search}'"
        parts.append(f"{counted(epochs, 'epoch')} ({counted(trials, 'trial')}) of {whose}")
    return f"reused {'; '.join(parts)}" if parts else ""


def wanted_text(request: Requested) -> str:
    """Format the action of a request with its arguments: `stop t0003`, `extend --trials +20`."""
    options = (
        f"--{name} {item}"
        for name, value in request.options.items()
        for item in (value if isinstance(value, list) else [value])
    )
    return " ".join([request.action or "something", *filter(None, [request.trial]), *options])


def request_text(request: Requested) -> str:
    """Write a sentence on a request: its sender, its action and the driver's answer."""
    refused = "refused: " if request.is_refused else ""
    return printable(
        f"{request.by or 'somebody'} asked to {wanted_text(request)}: {refused}{request.answer}"
    )


def request_lines(result: SearchResult) -> list[str]:
    """Write a line for each of the last `SHOWN_REQUESTS` answered requests.

    If there are more requests, the first line states the number of the earlier ones.
    """
    requests = list(result.requests.values())
    last = requests[-SHOWN_REQUESTS:]
    more = len(requests) - len(last)
    earlier = f"the journal has {counted(more, 'earlier request')}"
    return [earlier] * bool(more) + [
        f"{moment(answered_request.time_ms)}: {request_text(answered_request.request)}"
        for answered_request in last
    ]


def remarks(result: SearchResult) -> list[str]:
    """Write lines on the rounds of a refinement, and on the last requests."""
    return [*refinement_sentences(result), *request_lines(result)]


def guessing_text(result: SearchResult) -> str:
    """Compare the answer with guessing, in sentences; empty if they cannot be compared."""
    comparison, answer = answer_against(result), result.chosen
    if comparison is None or answer is None:
        return ""
    tie = f" {tie_text(result)}" if is_tie(result) else ""
    return f"{against_text(comparison, answer.trial)}{tie}"


def tie_text(result: SearchResult) -> str:
    """Write the sentence for a search whose trials all have the same value."""
    count = len(result.ranking)
    all_trials = "Both" if count == 2 else f"All {count:,}"
    value = format_value(result.ranking[0].value, result.metric)
    return f"{all_trials} trials tie at {value}, so none is better than another."


def against_text(comparison: AgainstGuessing, name: str) -> str:
    """Compare a training with guessing, in a sentence that calls it `name`."""
    metric = comparison.metric
    if method := comparison.guess.method:
        return _against_method(comparison, name, method)
    values = (
        f"{comparison.guess.doing} reaches {format_value(comparison.guessed, metric)} "
        f"{metric.title} on the {comparison.images:,} {comparison.part} images, "
        f"{name} {format_value(comparison.value, metric)}"
    )
    if not comparison.is_above:
        luck = f", which may be luck ({_rate(comparison)})" if comparison.difference > 0 else ""
        return f"No better than guessing: {values}{luck}."
    return (
        f"Better than guessing: {values}, at least {metric.gap(comparison.low)} better "
        f"({_rate(comparison)})."
    )


def _against_method(comparison: AgainstGuessing, name: str, method: str) -> str:
    """Compare a training with a method that learns nothing (`Guess.method`), in a sentence."""
    gap, is_ahead = comparison.metric.gap(abs(comparison.difference)), comparison.difference > 0
    start = f"on the {comparison.images:,} {comparison.part} images, {name} is {gap}"
    if comparison.is_above:
        least = comparison.metric.gap(comparison.low)
        return f"Better than {method}: {start} better, at least {least} ({_rate(comparison)})."
    luck = f"better, which may be luck ({_rate(comparison)})" if is_ahead else "worse"
    return f"No better than {method}: {start} {luck}."


def _rate(comparison: AgainstGuessing) -> str:
    """Format the error rate of the test, and the number of epochs that share it."""
    among = f" for all {comparison.looks:,} epochs together" if comparison.looks > 1 else ""
    return f"error rate {ERROR_RATE:.0%}{among}"


def more_labels_text(result: SearchResult) -> str:
    """Describe what twice as many training images would bring; empty if it is not known."""
    forecast = labels_forecast(result)
    if forecast is None:
        return ""
    is_other = result.best is not None and result.best.config["model"]["name"] != forecast.model
    caveat = " The best model may gain more, or less." if is_other else ""
    now, then, most = (forecast.at(times) for times in (1, 2, 4))
    images = forecast.curve["images"]
    effect = (
        f"even {4 * images:,} would bring about {most['likely']:.0%} only"
        if most["likely"] - now["likely"] < HARDLY
        else f"{4 * images:,} about {most['likely']:.0%}"
    )
    return (
        f"With {2 * images:,} training images instead of {images:,}, {forecast.model} would "
        f"classify about {then['likely']:.0%} of new images correctly ({then['low']:.0%} to "
        f"{then['high']:.0%}; now about {now['likely']:.0%}); {effect}. This is extrapolated from "
        f"fewer images.{caveat}"
    )


def quicker_text(
    result: SearchResult, storage: Storage = DEFAULT_STORAGE, start: Start = Start.ANYWHERE
) -> Message:
    """Recommend a trial that is better in the first further objective, if it may be as good.

    A trial on the Pareto front may be as good as the best trial if its score is at least the lower
    confidence bound of the best score. Of these trials, the one that is the best in the objective
    is recommended, for instance the fastest. The message is empty if the best trial itself is the
    best in it, or if a selection has chosen another trial.

    Args:
        result: the search.
        storage: the storage of the search, for the command that promotes the recommended trial.
        start: the beginning of that command.
    """
    answer, near, costs = result.best, front(result), result.costs
    images = result.started.data["val"]
    if answer is None or answer is not result.chosen or not images or answer not in near:
        return Message()
    least_near = least_score(answer, images)
    name = result.further_objectives[0]
    objective = OBJECTIVES[name]
    values = {
        trial.trial: objective_value(name, costs[trial.trial]) or 0.0
        for trial in near
        if trial.score >= least_near
    }
    least = min(values, key=lambda trial: objective.cost(values[trial]))
    value, before = values[least], values[answer.trial]
    if not objective.cost(value) < objective.cost(before):
        return Message()
    saved = objective.saving.format(
        answer=answer.trial,
        share=f"{value / before:.0%}" if before else "",
        value=objective.form(value),
        before=objective.form(before),
    )
    compared = _within_chance(result.trials[least], answer, images)
    return Message(
        f"{least} {saved}, and {compared}. To use {least}: ",
        Remedy("promote", result.name, storage, options={"trial": least}, start=start),
    )


def _within_chance(trial: TrialResult, answer: TrialResult, images: int) -> str:
    """Compare a trial with the answer; the difference may be chance with this number of images."""
    if not answer.metric.is_share:
        return f"is as good as far as {images:,} images can tell"
    fewer = round((answer.value - trial.value) * images)
    return (
        f"classifies {fewer:,} of {images:,} images fewer correctly, which may be chance"
        if fewer
        else "classifies as many images correctly"
    )


GONE_ON = Message(
    "The search has continued since this selection. Run ",
    Remedy("select", start=Start.MODULE),
    " again.",
)


def average_text(result: SearchResult) -> str:
    """Compare the average of the chosen candidate's trainings with them; empty if there is none."""
    selection = result.selection
    if selection is None or (averaged := selection.current_average) is None:
        return ""
    accuracy = averaged.metrics[result.metric.key]
    points = f"{100 * abs(averaged.gain):.1f} points"
    beside = f"{points} {'less' if averaged.gain < 0 else 'more'} than"
    if points == "0.0 points":
        beside = "as much as"
    outcome = "It was chosen."
    if averaged.gain < 0:
        outcome = "It was chosen, because this is less than half a standard error."
    if not selection.is_average_chosen:
        outcome = (
            "Its checkpoint cannot be used."
            if is_average_as_good(averaged)
            else "The best of them was chosen instead."
        )
    return (
        f"A network with the average weights of the {len(averaged.members)} trainings of "
        f"{averaged.candidate} reaches {format_value(accuracy, result.metric)} of the validation "
        f"images, {beside} one of them after the same {averaged.epoch} epochs on average (standard "
        f"error {100 * averaged.error:.1f} points). {outcome}"
    )


def beside_best_text(combined: Pooled) -> str:
    """Compare an ensemble with its best member: `1.0 points better than t0003, its best member`."""
    gap = f"{100 * abs(combined.gain):.1f} points"
    best = f"{combined.members[0]}, its best member"
    if combined.gain == 0:
        return f"as good as {best}"
    return f"{gap} {'worse' if combined.gain < 0 else 'better'} than {best}"


def alone_text(
    result: SearchResult, storage: Storage = DEFAULT_STORAGE, start: Start = Start.ANYWHERE
) -> Message:
    """Name the best member of an ensemble that is the answer, which costs less; else empty.

    Args:
        result: the search.
        storage: the storage of the search, for the command that promotes the member.
        start: the beginning of that command.
    """
    combined, ensemble = result.combined, result.ensemble
    if combined is None or ensemble is None or not result.is_ensemble_chosen:
        return Message()
    best = result.trials[combined.members[0]]
    times = [ms_per_image(model) for model in (best, ensemble)]
    takes = (
        f"takes {times[0] / times[1]:.0%} of the time for an image ({times[0]:.3g} instead of "
        f"{times[1]:.3g} ms)"
        if times[0] is not None and times[1] is not None
        else f"is one model instead of {len(combined.members)}"
    )
    return Message(
        f"{best.trial} alone {takes}. To use {best.trial}: ",
        Remedy("promote", result.name, storage, options={"trial": best.trial}, start=start),
    )


def origin_text(result: SearchResult) -> str:
    """Return the words between a selection's candidate and its network: `trained again as`."""
    selection = result.selection
    is_average = selection is not None and selection.is_average_chosen
    return "whose trainings were averaged as" if is_average else "trained again as"


def selection_sentences(result: SearchResult) -> list[Message]:
    """Write sentences on the result of a search's selection; empty before its verdict."""
    selection = result.selection
    if selection is None or (verdict := selection.verdict) is None:
        return []
    expected = verdict.expected
    metric = result.metric
    chosen, leader, count = verdict.candidate, verdict.leader, len(verdict.rows)
    sentences = [
        f"Expect a validation {metric.title} of {expected.mean:.4f} from {chosen} "
        f"({verdict.level:.0%} interval: {expected.low:.4f} to {expected.high:.4f}, from "
        f"{expected.seeds} fresh seeds). The search had measured {verdict.search_value:.4f}."
    ]
    if leader != chosen:
        times = {row.candidate: row.ms_per_image for row in verdict.rows}
        sentences.append(
            f"{leader} had the {superlative(metric)} mean; {chosen} is as good within half a "
            f"standard error, and takes {times[chosen]:.3g} ms per image "
            f"instead of {times[leader]:.3g} ms."
        )
    if sentence := average_text(result):
        sentences.append(sentence)
    behind = [row.candidate for row in verdict.rows if row.state == "dropped"]
    if count > 1:
        worse = (
            f"these are clearly worse: {', '.join(behind)}" if behind else "none is clearly worse"
        )
        sentences.append(
            f"Of the {count} candidates, {worse} (paired t-tests, error rate "
            f"{verdict.alpha:.0%} for all of them together)."
        )
    if test := selection.test:
        value, bounds = tested_interval(test, metric)
        sure = f" ({LEVEL:.0%} interval: {'{:.4f} to {:.4f}'.format(*bounds)})" if bounds else ""
        primary = result.task.primary
        beside = "" if metric.is_primary else f"; {primary.title} {test[primary.name]:.4f}"
        sentences.append(
            f"On the {test['images']:,} test images, {verdict.trial} reaches {value:.4f}"
            f"{sure}{beside}. They influenced no choice."
        )
    return [*map(Message, sentences), *([GONE_ON] if result.is_selection_old else [])]
