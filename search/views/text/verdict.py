"""The verdict of a search in sentences.

They state the question, the best trial, its uncertainty, a comparison of networks with baselines,
and the test result.
"""

import math
from collections.abc import Sequence

from search.facts.answer import cost_of
from search.facts.data import source_text
from search.facts.metric import interval, least_score, tested_interval
from search.facts.parameters import searched, short_names, value_text
from search.facts.trials import is_baseline, ms_per_image
from search.journal.events import Selected
from search.journal.result import Opening, SearchResult, TrialResult
from search.schedulers.registry import SCHEDULERS
from search.values.message import Message, Remedy, Start
from search.values.objectives import goals_text
from search.values.statistics import LEVEL
from search.values.wording import duration
from search.views.text.labels import outcome_text, superlative, with_article
from search.views.text.sentences import (
    GONE_ON,
    alone_text,
    average_text,
    beside_best_text,
    guessing_text,
    more_labels_text,
    origin_text,
    quicker_text,
    risk_text,
)
from trainables.catalog.entries import WIDTH, Metric
from trainables.catalog.models import MODELS
from trainables.errors import counted, printable
from trainables.values import Evaluation

FEW_IMAGES = 1000
"""With fewer images than this, a sentence contains `only`, and percentages have one decimal."""
MANY_SETTINGS = 6
"""Of more settings that were searched, only the first two are named."""
ON_NEW_IMAGES = "On new images"
"""The title of the sentence on the test images."""
Sentence = tuple[str, Message]
"""(short title, one or more sentences)."""


def verdict(result: SearchResult, decided: Sequence[str] = ()) -> list[Sentence]:
    """Write the sentences in reading order; sentences on facts that are not known are left out.

    Args:
        result: the search.
        decided: the lines of the decision of `search.improve`, in which lines with figures are
            indented.
    """
    figures = [line.strip() for line in decided if line.startswith(" ")]
    outcome = [line for line in decided if not line.startswith(" ")]
    sections: list[tuple[str, str | Message]] = [
        ("Decided", "; ".join(outcome)),
        (title_of(result), _result_sentence(result)),
    ]
    if result.chosen is not None:
        sections += [
            (ON_NEW_IMAGES, "; ".join(figures) or _tested(result)),
            ("How sure", _sure(result)),
            ("Guessing", guessing_text(result)),
            ("For less", quicker_text(result) or alone_text(result)),
            ("A network?", _network(result)),
            ("More labels?", more_labels_text(result)),
            ("Trained weights", _from_nothing(result)),
        ]
    sections.append(("Asked", _question(result)))
    return [(title, Message(text)) for title, text in sections if text]


def answer_sentences(result: SearchResult) -> list[tuple[str, str]]:
    """Write only what was found and, if it was tested, how good it is on new images."""
    sentences = [(title_of(result), _result_sentence(result))]
    if result.chosen_test:
        sentences.append((ON_NEW_IMAGES, _tested(result)))
    return sentences


def title_of(result: SearchResult) -> str:
    """Return the title of the sentence on the answer."""
    return "Chosen" if result.chosen is not None and result.chosen.repeat_of else "Found"


def percent(share: float, images: int = FEW_IMAGES) -> str:
    """Format a share as `97.77%`, or as `97.8%` if it was measured on few images."""
    return f"{100 * share:.{2 if images >= FEW_IMAGES else 1}f}%"


def correct(share: float, images: int, what: str, more: str = "") -> str:
    """Format a share of images as `63 of 96 test images correctly (65.6%)`.

    Args:
        share: the share of the images that are classified correctly.
        images: the number of images.
        what: the noun for the images, such as `test images`.
        more: further text in the parentheses.
    """
    brackets = f"{percent(share, images)}{more and '; '}{more}"
    return f"{round(share * images):,} of {images:,} {what} correctly ({brackets})"


def worth(value: float, metric: Metric, images: int = FEW_IMAGES) -> str:
    """Format a metric's value for a sentence: `97.77%`, or `0.9123`."""
    return percent(value, images) if metric.in_percent else f"{value:.4f} {metric.unit}".rstrip()


def apart(difference: float, metric: Metric) -> str:
    """Format the difference of two values of a metric: `0.6 points`, or `0.0061`."""
    return f"{100 * abs(difference):.1f} points" if metric.in_percent else f"{abs(difference):.4f}"


def _question(result: SearchResult) -> str:
    experiment, data = result.started.experiment, result.started.data
    names = list(short_names(searched(result)).values())
    if len(names) > MANY_SETTINGS:
        names = [*names[:2], f"{len(names) - 2} other settings"]
    what = f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else "".join(names)
    how = {
        "bayes": "Bayesian",
        "gp": "Bayesian (Gaussian process)",
        "random": "Random",
        "grid": "Grid",
    }.get(experiment["algorithm"], experiment["algorithm"])
    stopped = "those that fell behind" if "stopped" in result.counts else "none"
    paused = f" and {result.counts['held']} are held" if "held" in result.counts else ""
    scheduler = SCHEDULERS.get(experiment["scheduler"])
    rule = scheduler.title if scheduler is not None else experiment["scheduler"]
    until = f"{rule} stopped {stopped}{paused}" if rule else "each was trained to its end"
    goals = goals_text(result.further_objectives)
    low = f", with {goals}" if goals else ""
    by = "" if result.metric.is_primary else f" by {result.metric.title}"
    goal = result.task.goal.format(
        task=result.task.title, data=source_text(data), classes=len(data["classes"])
    )
    return (
        f"Which values of {what} (space {experiment['space']['name']}) {goal}{by}{low}? {how} "
        f"search proposed {counted(len(result.trials), 'trial')}; {until} ({outcome_text(result)})."
    )


def one_observation(result: SearchResult) -> str:
    """Return the noun for one independent observation of a search: `trial` or `training`.

    It is `training` if some trials are different lengths of one training.
    """
    return "trial" if len(result.distinct) == len(result.ranking) else "training"


def _result_sentence(result: SearchResult) -> str:
    answer = result.chosen
    if answer is None:
        return (
            "No trial has finished an epoch."
            if not result.ranking
            else "The checkpoints of all trials are damaged."
        )
    if result.is_ensemble_chosen:
        return _ensemble_sentence(result, answer) + _lost(result)
    candidate = result.trials.get(answer.repeat_of, answer)
    names = short_names(searched(result))
    params = ", ".join(
        f"{names[path]} {value_text(candidate, path)}"
        for path in candidate.params
        if path in names and path != "model.name"
    )
    again = f", {origin_text(result)} {answer.trial}" if answer is not candidate else ""
    text = (
        f"{answer.config['model']['name']}{f' with {params}' if params else ''} (trial "
        f"{candidate.trial}{again})."
    )
    images = result.started.data["val"]
    if answer is candidate:
        text += f" It {_reaches(answer, images)}"
        text += (
            f", after epoch {answer.best_epoch} of {answer.config['epochs']}."
            if not is_baseline(answer)
            else "."
        )
    if folds := answer.config["data"].get("folds"):
        text += (
            f" It is an ensemble: a new image gets the mean probabilities of {folds} such "
            "models, one trained for each fold."
        )
    return text + _lost(result) + _highest(result, candidate)


def _ensemble_sentence(result: SearchResult, ensemble: TrialResult) -> str:
    """Describe the ensemble that is the answer, and its members."""
    combined, images = result.combined, result.started.data["val"]
    assert combined is not None
    members = ", ".join(
        f"{name} ({result.trials[name].config['model']['name']})" for name in combined.members
    )
    return (
        f"An ensemble: an image gets the mean probabilities of "
        f"{counted(len(combined.members), 'trial')}, {members}. With so few validation "
        f"images, none of them can be told to be the best. It {_reaches(ensemble, images)}, and is "
        f"{beside_best_text(combined)}, on these images."
    )


def _lost(result: SearchResult) -> str:
    """Name the models before the answer whose checkpoints cannot be used; empty without any."""
    texts = list[str]()
    for name in result.passed_over:
        was = "preferred" if name in result.ensembles else "better on the validation images"
        texts.append(f" {name} was {was}, but its checkpoint is missing or damaged.")
    return "".join(texts)


def _highest(result: SearchResult, candidate: TrialResult) -> str:
    """Name the best trial of the search, if a selection chose another one; otherwise empty."""
    best, metric = result.best, result.metric
    if best is None or candidate is best:
        return ""
    value = worth(best.value, metric, result.started.data["val"])
    return (
        f" In the search itself, {best.trial} had the {superlative(metric)} validation "
        f"{metric.title} ({value}), partly by luck."
    )


def _reaches(trial: TrialResult, images: int) -> str:
    """Describe a trial's value: `classifies 63 of 96 validation images correctly (65.6%)`.

    With another metric: `reaches a macro F1 of 0.9123 on the ... images, and classifies 65.6% of
    them correctly`.
    """
    folds, primary = _folds(trial, images), trial.task.primary
    if trial.metric.is_share and folds:
        right = percent(trial.value, images)
        return f"classifies {right} of the {images:,} validation images correctly{folds}"
    if trial.metric.is_share:
        return f"classifies {correct(trial.value, images, 'validation images')}"
    reached = (
        f"reaches {with_article(trial.metric)} of {worth(trial.value, trial.metric, images)} on "
        f"the {images:,} validation images{folds}"
    )
    if trial.metric.is_primary:
        return reached
    if primary.is_share:
        right = percent(trial.primary_value, images)
        return f"{reached}, and classifies {right} of them correctly"
    beside = worth(trial.primary_value, primary, images)
    return f"{reached}, and {with_article(primary)} of {beside}"


def _folds(trial: TrialResult, images: int) -> str:
    """Describe the spread of a trial's value over the folds; empty without folds."""
    if trial.deviation is None:
        return ""
    folds = trial.config["data"].get("folds")
    return (
        f" (mean ± {worth(trial.deviation, trial.metric, images)} over "
        f"{f'{folds} folds' if folds else 'the folds'})"
    )


def _sure(result: SearchResult) -> str | Message:
    selection, images = result.selection, result.started.data["val"]
    if selection is not None and selection.chosen is not None and selection.verdict is not None:
        about_trainings = _selected(selection.verdict, images, result.metric)
        sentence = f"{about_trainings} {average_text(result)}".rstrip()
        return Message(f"{sentence} ", GONE_ON) if result.is_selection_old else sentence
    answer = result.chosen
    if answer is None or not images:
        return ""
    metric = answer.metric
    bounds = interval(answer, images)
    rivals = [
        trial
        for trial in result.distinct
        if not (
            trial is answer or (answer.training_key and trial.training_key == answer.training_key)
        )
    ]
    least = least_score(answer, images)
    near = sum(trial.score >= least for trial in rivals)
    text = f"The true {metric.title} cannot be estimated from {images:,} images."
    if bounds is not None:
        low, high = (worth(bound, metric, images) for bound in bounds)
        text = (
            f"With {'only ' * (images < FEW_IMAGES)}{images:,} images, the true {metric.title} may "
            f"lie between {low} and {high} ({LEVEL:.0%} interval)."
        )
    if result.is_ensemble_chosen:
        return (
            f"{text} Its members are the best trials on the same images, which makes it "
            f"optimistic. {risk_text(result)}"
        ).rstrip()
    if near > 0 and bounds is not None:
        text += (
            f" {counted(near, f'other {one_observation(result)}')} "
            f"{'lies' if near == 1 else 'lie'} in that range, so luck may have decided."
        )
    if rivals:
        several = f" {one_observation(result)}s" if one_observation(result) != "trial" else ""
        text += (
            f" It is also the {superlative(metric)} of {len(rivals) + 1:,}{several} measured on "
            "the same images, which makes it optimistic;"
        )
        later = (
            ", once the search has ended"
            if not result.is_over and (result.unfinished or result.outcome != "running")
            else ""
        )
        select = Remedy("select", result.name, start=Start.ANYWHERE)
        return Message(
            f"{text} ", select, f" measures by how much{later}. {risk_text(result)}".rstrip()
        )
    return f"{text} {risk_text(result)}".rstrip()


def _selected(verdict: Selected, images: int, metric: Metric) -> str:
    expected, search_value = verdict.expected, verdict.search_value
    mean, low, high = (
        worth(value, metric, images) for value in (expected.mean, expected.low, expected.high)
    )
    reach = (
        f"classifies {mean} of the validation images correctly on average"
        if metric.is_share
        else f"reaches a validation {metric.title} of {mean} on average"
    )
    return (
        f"Trained again with {counted(expected.seeds, 'fresh seed')}, {verdict.candidate} {reach} "
        f"({verdict.level:.0%} interval: {low} to {high}), "
        f"{_beside(expected.mean - search_value, metric)} "
        f"{worth(search_value, metric, images)} that the search measured."
        f"{_compared(verdict)}"
    )


def _beside(difference: float, metric: Metric) -> str:
    return (
        f"{apart(difference, metric)} {'less' if difference < 0 else 'more'} than the"
        if abs(difference) >= (0.001 if metric.in_percent else 0.0001)
        else "as much as the"
    )


def _compared(verdict: Selected) -> str:
    """Describe the results of the candidates that were not chosen, in sentences."""
    tied, behind, worse = (
        [row.candidate for row in verdict.rows if row.state == state]
        for state in ("tied", "behind", "dropped")
    )
    text = ""
    if tied:
        rate = f"{verdict.alpha:.0%}"
        text += (
            f" {', '.join(tied)} {'is' if len(tied) == 1 else 'are'} as good according to paired "
            f"tests (error rate {rate}); the fastest one was chosen."
        )
    if behind:
        text += (
            f" {', '.join(behind)} {'is' if len(behind) == 1 else 'are'} behind, perhaps by chance."
        )
    if worse:
        text += f" {', '.join(worse)} {'is' if len(worse) == 1 else 'are'} clearly worse."
    return text


def _network(result: SearchResult) -> str:
    """Compare the best network with the best baseline; empty for a task without baselines."""
    if not result.task.baselines:
        return ""
    images = result.started.data["val"]
    best_trials = list(result.best_of_models.values())
    network = next((trial for trial in best_trials if not is_baseline(trial)), None)
    baseline = next((trial for trial in best_trials if is_baseline(trial)), None)
    if baseline is None:
        return f"Not known: only networks were tried. {result.task.baselines}"
    name = baseline.config["model"]["name"]
    if network is None and MODELS[name].has_network:
        return (
            f"Not known: networks were tried only with weights that stayed as they were. {name}, a "
            f"linear classifier {MODELS[name].method}, is the best."
        )
    if network is None:
        return f"No network was tried: {name} is the best of the baselines."
    metric, gain = result.metric, network.score - baseline.score
    noise = WIDTH * math.hypot(*(trial.error(images) for trial in (network, baseline)))
    epochs = network.config["epochs"]
    is_unfinished = network.reached < epochs  # a longer training might do better
    judged = "Yes" if gain > noise else "Not clearly"
    if gain < -noise:
        judged = "Not in the epochs that it had" if is_unfinished else "No"
    beyond = "beyond" if abs(gain) > noise else "within"
    behind = (
        f"{apart(gain, metric)} {'less' if network.value >= baseline.value else 'more'}, "
        f"{beyond} the noise of {images:,} images"
    )
    reached = (
        f"the best network ({network.config['model']['name']}) reaches "
        f"{worth(network.value, metric, images)}"
        f"{f' within {network.reached} of {epochs} epochs' if is_unfinished else ''}"
    )
    return (
        f"{judged}: {reached}, {name} {MODELS[name].method} "
        f"{worth(baseline.value, metric, images)}: {behind}.{_speed(network, baseline)}"
    )


def _from_nothing(result: SearchResult) -> str:
    """Suggest pretrained weights for a few photographs; empty if they do not apply."""
    began = [trial.config.get("model", {}).get("pretrained") for trial in result.trials.values()]
    if not result.started.data.get("few_photographs") or any(began):
        return ""
    return (
        f"None were used. With so few photographs ({result.started.data['train']:,} to train on), "
        "networks that start from trained weights usually do much better: --space auto --download."
    )


def _speed(network: TrialResult, baseline: TrialResult) -> str:
    times = ms_per_image(network), ms_per_image(baseline)
    if times[0] is None or times[1] is None:
        return ""
    return f" For one image the network takes {times[0]:.3g} ms, the baseline {times[1]:.3g} ms."


def _tested(result: SearchResult) -> str:
    test = result.chosen_test
    if not test and result.is_improvement:
        return (
            "Not measured in the search: search.improve compares the best one with the champion "
            "on new images and on the old test images, and decides."
        )
    if not test:
        return f"Not known yet. {openings_text(result.openings)}"
    images, metric, primary = test["images"], result.metric, result.task.primary
    value, bounds = tested_interval(test, metric)
    reached, sure = worth(value, metric, images), f"{LEVEL:.0%} interval not known"
    if bounds is not None:
        low, high = (worth(bound, metric, images) for bound in bounds)
        sure = f"{LEVEL:.0%} interval: {low} to {high}"
    first = worth(test[primary.name], primary, images)
    name = result.chosen.trial if result.chosen is not None else ""
    if result.is_ensemble_chosen:
        name = "The ensemble"
    text = (
        f"{name} classifies {correct(test[metric.name], images, 'test images', sure)}"
        if metric.is_share
        else f"{name} reaches {with_article(metric)} of {reached} on the {images:,} test images "
        f"({sure})"
    )
    if not metric.is_primary:
        text += (
            f", and classifies {first} of them correctly"
            if primary.is_share
            else f", and {with_article(primary)} of {first}"
        )
    return f"{text}. They influenced no choice. {openings_text(result.openings)}"


def openings_text(openings: list[Opening]) -> str:
    """Describe when the test set was used, by which command and for which trial."""
    if not openings:
        return "The test images are sealed: nothing has been measured on them."
    first, *more = (f"on {opening}" for opening in openings)
    if not more:
        return f"They were opened once, {first}."
    return f"They were opened {len(openings)} times, first {first}; then {'; '.join(more)}."


def tiles(result: SearchResult) -> list[tuple[str, str, str]]:
    """Return the most important figures as (title, figure, explanation); empty without answer."""
    answer = result.chosen
    if answer is None:
        return []
    images, test, cost = result.started.data["val"], result.chosen_test, cost_of(result)
    chosen = result.selection.verdict if result.selection is not None else None
    expected = chosen.expected if chosen is not None else None
    metric, title = result.metric, result.metric.title
    rows = [(f"validation {title}", worth(answer.value, metric, images), f"{images:,} images")]
    if expected is not None:
        rows = [
            (
                f"expected validation {title}",
                worth(expected.mean, metric, images),
                f"mean of {counted(expected.seeds, 'fresh seed')}",
            )
        ]
    if test:
        rows.append(
            (
                f"test {title}",
                worth(tested_interval(test, metric)[0], metric, test["images"]),
                f"{test['images']:,} unseen images",
            )
        )
    if not metric.is_primary:
        rows.append(_primary_tile(answer, images, test))
    if times := cost.get("inference"):
        rows.append(
            (
                "one image takes",
                f"{times['batch_1']['median_ms']:.3g} ms",
                f"while searching, on {printable(cost.get('device') or 'this machine')}"
                + (f" ({counted(cost['threads'], 'thread')})" if cost.get("threads") else ""),
            )
        )
    if (weights := cost.get("parameters")) is not None:
        rows.append(("weights", f"{weights / 1e6:.3g} M", f"{cost['bytes'] / 1e6:.3g} MB"))
    return [*rows, ("search time", duration(result.wall_s), counted(len(result.trials), "trial"))]


def _primary_tile(answer: TrialResult, images: int, test: Evaluation) -> tuple[str, str, str]:
    """Return the tile of the task's primary metric, for a search that ranks by another metric."""
    primary = answer.task.primary
    if test:
        value = worth(test[primary.name], primary, test["images"])
        return (f"test {primary.title}", value, "of the same images")
    value = worth(answer.primary_value, primary, images)
    return (f"validation {primary.title}", value, f"{images:,} images")
