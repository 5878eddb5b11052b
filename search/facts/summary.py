"""A search's result as text and tables, for the terminal, MLflow's note and `--json`."""

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from search.decisions.refinement import refinement_facts, refinement_sentences
from search.design.budget import shares_of
from search.facts.guessing import (
    above_chance,
    at_chance,
    guess_rows,
    guessing_text,
    outcome_with_mark,
)
from search.facts.metric import (
    as_good,
    least_score,
    superlative,
    tested_interval,
    tested_value,
)
from search.journal.events import Requested, Selected
from search.journal.guessing import answer_against
from search.journal.journal import FILE_NAME
from search.journal.pareto import front
from search.journal.result import (
    DATA_REPORT,
    SearchResult,
    TrialResult,
    checkpoint_of,
    metric_of,
    moment,
)
from search.journal.store import Home, Storage
from search.spaces.find import file_of
from search.values.message import Message, Remedy, Start
from search.values.objectives import one_cost, value_of
from search.values.statistics import LEVEL
from search.values.wording import DEFAULT_STORAGE
from trainables.catalog.models import MODELS
from trainables.catalog.tasks import Metric
from trainables.config import TrialConfig
from trainables.disk import read_regular
from trainables.errors import counted, printable
from trainables.values import Json, Params

TOP = 10
SHOWN_REQUESTS = 5
"""Maximum number of requests that are shown: the latest ones."""
MIN_RISK = 0.01
"""A smaller probability is written as less than this one."""


def param_text(value: Any) -> str:
    """Format a parameter's value for people: 0.001234 rather than 0.0012339999."""
    return f"{value:.4g}" if isinstance(value, float) else printable(str(value))


def value_text(trial: TrialResult, path: str) -> str:
    """Format a trial's value of a searched parameter; empty if the trial does not have it.

    If --max-epochs reduces the number of epochs, the text includes it: `10 (capped at 2)`.
    """
    value = trial.params.get(path, "")
    return (
        f"{value} (capped at {trial.config['epochs']})"
        if path == "epochs" and value != trial.config["epochs"]
        else param_text(value)
    )


def figure_text(trial: TrialResult, metric: Metric | None = None) -> str:
    """Format a trial's value on the validation set at its best epoch: `0.9721`.

    With folds, it is the mean with the sample standard deviation: `0.9721 ± 0.0080 (5 folds)`.

    Args:
        metric: the metric to format; None for the one that ranks the trial's epochs.
    """
    metric = metric or trial.metric
    deviation = trial.best.get(metric.deviation_key)
    folds = (
        f" ± {deviation:.4f} ({trial.config['data']['folds']} folds)"
        if deviation is not None
        else ""
    )
    unit = f" {metric.unit}" if metric.unit else ""
    return f"{trial.best.get(metric.key, math.nan):.4f}{unit}{folds}"


def primary_text(trial: TrialResult | None) -> str:
    """Format a trial's primary metric as `reached_text` does, whatever metric ranks its epochs."""
    return reached_text(trial, None if trial is None else trial.task.primary)


def primary_facts(trial: TrialResult) -> dict[str, float]:
    """A trial's primary metric as a dictionary with its name, such as `val_accuracy`."""
    return {value_of(trial.task.primary.name): trial.primary_value}


def reached_text(trial: TrialResult | None, metric: Metric | None = None) -> str:
    """Format a trial's value: `0.9721`, `0.8997 (stopped at epoch 3 of 20)`, or `not tried`."""
    if trial is None or not trial.epochs:
        return "not tried"
    stopped = (
        f" (stopped at epoch {len(trial.epochs)} of {trial.config['epochs']})"
        if trial.outcome == "stopped"
        else ""
    )
    return f"{figure_text(trial, metric)}{stopped}"


def outcome_text(result: SearchResult) -> str:
    """Format the number of trials by outcome: `48 completed, 11 stopped, 1 diverged`."""
    order = (
        "completed",
        "stopped",
        "diverged",
        "failed",
        "interrupted",
        "running",
        "held",
        "pending",
    )
    counts = result.counts
    return (
        ", ".join(f"{counts[outcome]} {outcome}" for outcome in order if outcome in counts)
        or "no trials"
    )


def wanted_text(request: Requested) -> str:
    """Format a request as `stop t0003` or `extend --trials +20`."""
    options = (
        f"--{name} {item}"
        for name, value in request.options.items()
        for item in (value if isinstance(value, list) else [value])
    )
    return " ".join([request.action or "something", *filter(None, [request.trial]), *options])


def request_text(request: Requested) -> str:
    """Sentence on a request: who made it, what it asks for, and the reply."""
    refused = "refused: " if request.is_refused else ""
    return printable(
        f"{request.by or 'somebody'} asked to {wanted_text(request)}: {refused}{request.answer}"
    )


def request_lines(result: SearchResult) -> list[str]:
    """A line for each of the last `SHOWN_REQUESTS` answered requests.

    If there are more, the first line gives the number of earlier requests.
    """
    requests = list(result.requests.values())
    last = requests[-SHOWN_REQUESTS:]
    more = len(requests) - len(last)
    return [f"{more} earlier requests are in the journal"] * bool(more) + [
        f"{moment(answered_request.time_ms)}: {request_text(answered_request.request)}"
        for answered_request in last
    ]


def request_facts(result: SearchResult) -> list[Json]:
    """The answered requests as JSON-compatible values."""
    return [
        {"time_ms": answered_request.time_ms, **answered_request.request.to_json()}
        for answered_request in result.requests.values()
    ]


def state_text(result: SearchResult) -> str:
    """The state of trials that were cut short: `stopped`, `held`, or `stopped or held`."""
    states = [state for state in ("stopped", "held") if state in result.counts]
    return " or ".join(states) or "stopped"


def risk_text(result: SearchResult) -> str:
    """Describe the risk that a stopped trial would have been the best; empty without a risk."""
    risk = result.risk
    if risk is None or not (chance := risk.chance):
        return ""
    counts, state = result.counts, state_text(result)
    stopped = counts.get("stopped", 0) + counts.get("held", 0)
    subject = f"one of the {stopped} {state} trials" if stopped != 1 else f"the {state} trial"
    epochs = risk.epochs
    if chance < MIN_RISK:
        return f"It is unlikely (less than {MIN_RISK:.0%}) that {subject} would have been the best."
    surer = 1 - chance / 2
    how = f" (--sure {surer:.2g})" if surer > result.started.experiment.get("sure", 0.0) else ""
    more = f"about {epochs:,} more epoch{'s' * (epochs != 1)} would halve it{how}"
    sentence = f"The chance that {subject} would have been the best is about {chance:.0%}; {more}."
    # A search that ended for lack of gain has already reported what new trials would gain.
    has_more = risk.new and result.outcome != "gain"
    return f"{sentence} {_new_text(chance / 2, risk.new)}" if has_more else sentence


def _new_text(going_on: float, new: float) -> str:
    """Compare new trials with continued ones, for the same number of epochs.

    Args:
        going_on: the chance that continuing stopped trials finds a better one.
        new: the chance that new trials find a better one.
    """
    new_text, old_text = (
        f"about {chance:.0%}" if chance >= MIN_RISK else f"less than {MIN_RISK:.0%}"
        for chance in (new, going_on)
    )
    compared = "as much" if new_text == old_text else "more" if new > going_on else "less"
    return (
        f"New trials promise {compared}: as many epochs of them find a better one with a chance "
        f"of {new_text}, against {old_text}."
    )


def source_text(data: Mapping[str, Any]) -> str:
    """The data set's name, from its description in the journal.

    For a folder of images, it is `folder` and the folder's own name.
    """
    return (
        f"folder {printable(Path(data['root']).name)}"
        if data["name"] == "folder"
        else str(data["name"])
    )


def strategy_text(experiment: Mapping[str, Any]) -> str:
    """Algorithm and scheduler, from the journal's description: `bayes + asha`.

    A metric that is not the primary one is added, and so are costs: `bayes + asha, by macro F1, for
    low latency too`.
    """
    low = " and ".join(experiment.get("objectives", ())[1:])
    metric = metric_of(experiment.get("base", {}))
    return (
        f"{experiment['algorithm']} + {experiment['scheduler']}"
        + ("" if metric.is_primary else f", by {metric.title}")
        + (f", for low {low} too" if low else "")
    )


def classes_text(data: Mapping[str, Any]) -> str:
    """Number of classes as the beginning of a list: `10 classes, `, or empty without classes."""
    count = len(data["classes"])
    return f"{count:,} class{'es' * (count != 1)}, " if count else ""


def parts_text(data: Mapping[str, Any]) -> str:
    """Sizes of the splits: `1,079 training, 359 validation, 359 test images`.

    With folds, the number of images in folds replaces those for training and validation.
    """
    titles = (
        {"train": f"in {data['folds']} folds", "test": "test"}
        if data.get("folds")
        else {"train": "training", "val": "validation", "test": "test"}
    )
    return ", ".join(f"{data[part]:,} {title}" for part, title in titles.items()) + " images"


def searched(result: SearchResult) -> list[str]:
    """Paths of the searched parameters, in the space's order."""
    return list(result.started.experiment["space"]["domains"])


def short_names(paths: list[str]) -> dict[str, str]:
    """A short name for each path: `lr` for `optimizer.lr`, `model` for `model.name`.

    If two paths would have the same short name, both keep their full path.
    """
    words = {
        path: path.removesuffix(".name") if path.endswith(".name") else path.rpartition(".")[2]
        for path in paths
    }
    taken = Counter(words.values())
    return {path: word if taken[word] == 1 else path for path, word in words.items()}


def is_baseline(trial: TrialResult) -> bool:
    """True if a trial was fitted without a network.

    A model that is no longer registered counts as a network.
    """
    model = MODELS.get(trial.config["model"]["name"])
    return model is not None and model.kind == "baseline"


def ms_per_image(trial: TrialResult) -> float | None:
    """Inference time in milliseconds of a batch of one image; None if it was not measured."""
    return one_cost("latency", trial.cost)


def reference_rows(result: SearchResult) -> list[tuple[str, Params, TrialResult | None]]:
    """The configurations to compare, each with its title, parameters and trial.

    The first is the best of the search or, after a selection, the chosen training. The space's
    reference comes last, with its trial if it was tried. The reference of a built-in space applies
    only to the data set that it was published for, so it is left out for a user's images.
    """
    rows: list[tuple[str, Params, TrialResult | None]] = []
    if (answer := result.chosen) is not None:
        rows.append(("chosen" if answer.repeat_of else "found", answer.params, answer))
    experiment = result.started.experiment
    space = experiment["space"]
    source = experiment.get("space_source", "")
    is_built_in = bool(source) and file_of(source) is None
    if space["reference"] and not (is_built_in and result.started.data["name"] == "folder"):
        same = (
            trial
            for trial in result.trials.values()
            if trial.config and _is_at(TrialConfig.from_dict(trial.config), space["reference"])
        )
        rows.append((space["reference_title"], space["reference"], next(same, None)))
    return rows


def reference_text(result: SearchResult, trial: TrialResult | None) -> str:
    """Format the value of a trial of `reference_rows`.

    For the chosen training, it is the expected value over fresh seeds.
    """
    verdict = result.selection.verdict if result.selection is not None else None
    if trial is None or verdict is None or trial is not result.chosen:
        return reached_text(trial)
    return f"{verdict.expected.mean:.4f} (mean of {verdict.expected.seeds} seeds)"


def answer_trial(result: SearchResult) -> TrialResult | None:
    """The search's answer: the trial that a selection chose, else the best one.

    None if no trial has a result.
    """
    answer = result.chosen
    return result.trials.get(answer.repeat_of, answer) if answer is not None else None


def _is_at(config: TrialConfig, reference: Params) -> bool:
    return all(config.value(path) == value for path, value in reference.items())


def models(result: SearchResult) -> list[Json]:
    """The best trial of each model as JSON-compatible values, the best model first.

    A row has the model's values on the validation set and its costs. A value that was not measured,
    or that the model does not have, is None.
    """
    return [_model(name, trial) for name, trial in result.best_of_models.items()]


def _model(name: str, trial: TrialResult) -> Json:
    val = trial.evaluation.val if trial.evaluation is not None else {}
    cost = trial.cost
    times = cost.get("inference", {})
    return {
        "model": name,
        "trial_id": trial.trial,
        "outcome": trial.outcome,
        **primary_facts(trial),
        "value": trial.value,
        **deviation(trial),
        "macro_f1": val.get("macro", {}).get("f1"),
        "weighted_f1": val.get("weighted", {}).get("f1"),
        "ece": val.get("ece"),
        "ms_per_image_batch_1": times.get("batch_1", {}).get("median_ms"),
        "ms_per_image_batch_64": times.get("batch_64", {}).get("median_ms"),
        "parameters": cost.get("parameters"),
        "multiply_adds": cost.get("multiply_adds"),
        "bytes": cost.get("bytes"),
        "train_s": round(trial.train_s, 3),
    }


def deviation(trial: TrialResult) -> Json:
    """Standard deviation of a trial's value over folds, and the number of folds, by name.

    Empty without folds.
    """
    name = f"{value_of(trial.metric.name)}_std" if trial.metric.is_primary else "value_std"
    return (
        {}
        if trial.deviation is None
        else {name: trial.deviation, "folds": trial.config["data"]["folds"]}
    )


Columns = dict[str, tuple[str, Callable[[Any], str]]]
"""The columns of a table by key: a title, and a function that formats a value."""

MODEL_COLUMNS: Columns = {
    "model": ("model", str),
    "trial_id": ("trial", str),
    "macro_f1": ("macro F1", "{:.4f}".format),
    "ms_per_image_batch_1": ("ms/image alone", "{:.3g}".format),
    "ms_per_image_batch_64": ("in batches of 64", "{:.3g}".format),
    "parameters": ("weights", lambda count: f"{count / 1e6:.3g} M"),
    "train_s": ("train s", lambda s: f"{s:.1f}" if s < 1000 else f"{s:.0f}"),
}
"""The columns of the table of models, besides its metrics. The times are for a single image and for
an image in a batch of 64.
"""


def model_columns(result: SearchResult) -> Columns:
    """Columns of the table of models.

    They include the task's primary metric and, before it, the ranking metric if that is another. If
    trials are ranked by macro F1, it has only one column: its value at the best epoch equals the
    one of the evaluation.
    """
    metric, primary, names = result.metric, result.task.primary, ("model", "trial_id")
    of_value = {} if metric.is_primary else {"value": (f"val {metric.title}", "{:.4f}".format)}
    of_primary = {value_of(primary.name): (f"val {primary.title}", "{:.4f}".format)}
    other_columns = {
        key: column
        for key, column in MODEL_COLUMNS.items()
        if key not in (*names, "macro_f1" if metric.name == "macro_f1" else "")
    }
    return {**{key: MODEL_COLUMNS[key] for key in names}, **of_value, **of_primary, **other_columns}


def models_table(result: SearchResult) -> list[list[str]]:
    """Table of the models as text: a row of titles, a row per model, then one per way to guess.

    Empty if the table would add nothing to the best trial.
    """
    rows, columns = models(result), model_columns(result)
    known_keys = {key for row in rows for key, value in row.items() if value is not None}
    columns = {key: column for key, column in columns.items() if key in known_keys}
    if len(rows) < 2 and not any(row["macro_f1"] is not None for row in rows):
        return []
    cells = [
        [
            "" if row.get(key) is None else printable(form(row[key]))
            for key, (_, form) in columns.items()
        ]
        for row in (*rows, *guess_rows(result))
    ]
    return [[title for title, _ in columns.values()], *cells]


COST_COLUMNS: Columns = {
    "latency": MODEL_COLUMNS["ms_per_image_batch_1"],
    "parameters": MODEL_COLUMNS["parameters"],
}
"""Title and format of each cost that a search can minimise."""


def front_table(result: SearchResult) -> list[list[str]]:
    """Table of the Pareto front as text: a row of titles, then a row per trial.

    The best trial comes first. Empty if the metric is the only objective.
    """
    cost_names, costs = result.cost_objectives, result.costs
    rows = [
        [
            trial.trial,
            network_text(trial, result),
            figure_text(trial),
            str(len(trial.epochs)),
            *(_cost_cell(name, costs[trial.trial]) for name in cost_names),
        ]
        for trial in front(result)
    ]
    return (
        [
            [
                "trial",
                "network",
                f"val {result.metric.title}",
                "epochs",
                *(COST_COLUMNS[name][0] for name in cost_names),
            ],
            *rows,
        ]
        if rows
        else []
    )


def _cost_cell(name: str, cost: Mapping[str, Any]) -> str:
    """Format a cost for a table; empty if the classifier does not have this cost."""
    value = one_cost(name, cost)
    return "" if value is None else COST_COLUMNS[name][1](value)


def quicker_text(
    result: SearchResult, storage: Storage = DEFAULT_STORAGE, start: Start = Start.ANYWHERE
) -> Message:
    """Recommend a cheaper trial that is as good as the best, within chance.

    It is the cheapest trial on the Pareto front of those that the validation images cannot
    distinguish from the best one. Empty if none costs less, or if a selection has chosen another
    trial.

    Args:
        result: the search.
        storage: the storage of the search, for the command that promotes the cheaper trial.
        start: the beginning of that command.
    """
    answer, near, costs = result.best, front(result), result.costs
    images = result.started.data["val"]
    if answer is None or answer is not result.chosen or not images or answer not in near:
        return Message()
    least_near = least_score(answer, images)
    name = result.cost_objectives[0]
    near_costs = {
        trial.trial: one_cost(name, costs[trial.trial]) or 0.0
        for trial in near
        if trial.score >= least_near
    }
    least = min(near_costs, key=near_costs.__getitem__)
    if not near_costs[least] < near_costs[answer.trial]:
        return Message()
    saved = (
        f"{near_costs[least] / near_costs[answer.trial]:.0%} of the "
        f"{'time' if name == 'latency' else 'weights'} of {answer.trial}"
    )
    compared = _within_chance(result.trials[least], answer, images)
    return Message(
        f"{least} takes {saved}, and {compared}. To use it: ",
        Remedy("promote", result.name, storage, options={"trial": least}, start=start),
    )


def _within_chance(trial: TrialResult, answer: TrialResult, images: int) -> str:
    """Compare a trial with the answer, from which these images cannot distinguish it."""
    if not answer.metric.is_share:
        return f"is as good as far as {images:,} images can tell"
    fewer = round((answer.value - trial.value) * images)
    return (
        f"classifies {fewer:,} of {images:,} images fewer correctly, which may be chance"
        if fewer
        else "classifies as many images correctly"
    )


def cost_text(cost: Mapping[str, Any]) -> str:
    """Format the costs of `trainables.evaluation.cost`: `0.138 ms/image, 0.023 M weights`."""
    return ", ".join(
        f"{text} {COST_COLUMNS[name][0]}"
        for name in COST_COLUMNS
        if (text := _cost_cell(name, cost))
    )


def network_text(trial: TrialResult, result: SearchResult) -> str:
    """A trial's network with its searched options: `deep_cnn, layers 10, filter_size 3`."""
    names = short_names(searched(result))
    parts = [
        f"{names[path]} {param_text(value)}"
        for path, value in trial.params.items()
        if path.startswith("model.") and path != "model.name"
    ]
    return ", ".join([trial.config["model"]["name"], *parts])


def markdown_table(rows: list[list[str]]) -> list[str]:
    """Lines of a Markdown table; the first row holds the titles."""
    titles, *body = rows
    return [
        "| " + " | ".join(titles) + " |",
        "|---" * len(titles) + "|",
        *("| " + " | ".join(row) + " |" for row in body),
    ]


def markdown_summary(result: SearchResult) -> str:
    """The search's settings, its results and its `TOP` best trials in Markdown."""
    lines = [*_setting_lines(result), *_best_lines(result)]
    if beside := guessing_text(result):
        lines.append(beside)
    if risked := risk_text(result):
        lines.append(risked)
    if remarks := [*refinement_sentences(result), *request_lines(result)]:
        lines += ["", *(f"- {sentence.strip()}" for sentence in remarks)]
    if result.selection is not None and result.selection.verdict:
        lines += [
            "",
            " ".join(map(str, selection_sentences(result))),
            "",
            *markdown_table(selection_table(result.selection.verdict)),
        ]
    if result.openings:
        lines += ["", f"The test images were opened {'; '.join(map(str, result.openings))}."]
    if compared := models_table(result):
        lines += ["", "The best trial of each model:", "", *markdown_table(compared)]
    if front_rows := front_table(result):
        lines += [
            "",
            (
                "The Pareto front, the trials for which no other is at least "
                f"{as_good(result.metric)} and costs no more:"
            ),
            "",
            *markdown_table(front_rows),
        ]
    return "\n".join([*lines, *_top_lines(result)])


def _setting_lines(result: SearchResult) -> list[str]:
    """Lines on the space, the data, and the number of trials."""
    experiment, data = result.started.experiment, result.started.data
    images = (
        f"{data['train']:,} images in {data['folds']} folds"
        if data.get("folds")
        else f"{data['train']:,} training, {data['val']:,} validation images"
    )
    return [
        f"**{result.name}**: space `{experiment['space']['name']}` on "
        f"`{source_text(data)}` ({images}), "
        f"{strategy_text(experiment)}, seed {experiment['seed']}.",
        "",
        (
            f"{counted(len(result.trials), 'trial')} ({outcome_text(result)}), "
            f"{counted(result.epochs_trained, 'epoch')} in {result.wall_s:.0f} s."
        ),
        *([f"R{taken_over_text(result)[1:]}."] if result.reused_epochs else []),
    ]


def _best_lines(result: SearchResult) -> list[str]:
    """Lines on the best trial and, after a selection, on the chosen one."""
    if result.best is None:
        return []
    metric = result.metric
    tested = f", test {metric.title} {tested_value(result.test, metric):.4f}" if result.test else ""
    primary = result.task.primary
    beside = (
        "" if metric.is_primary else f", validation {primary.title} {result.best.primary_value:.4f}"
    )
    highest = (
        f"`{result.best.trial}`, validation {metric.title} {figure_text(result.best)}"
        f"{tested}{beside}"
    )
    selection = result.selection
    if selection is None or selection.verdict is None:
        return [f"Best: {highest}."]
    verdict, test = selection.verdict, selection.test
    on_test = f", test {metric.title} {tested_value(test, metric):.4f}" if test else ""
    return [
        (
            f"Chosen: `{verdict.candidate}`, trained again as `{verdict.trial}`, expected "
            f"validation {metric.title} {verdict.expected.mean:.4f} "
            f"(`selected/{value_of(metric.name)}_mean`){on_test}."
        ),
        (
            f"The {superlative(metric)} of the search itself, partly by luck: {highest} "
            f"(`best/{value_of(metric.name)}`)."
        ),
    ]


def _top_lines(result: SearchResult) -> list[str]:
    """Lines of the table of the `TOP` best trials."""
    paths = searched(result)
    lines = [
        "",
        "| trial | " + " | ".join(paths) + f" | epochs | val {result.metric.title} | outcome |",
        "|---" * (len(paths) + 4) + "|",
    ]
    marked = at_chance(result)
    for trial in result.ranking[:TOP]:
        values = " | ".join(param_text(trial.params.get(path, "")) for path in paths)
        lines.append(
            f"| {trial.trial} | {values} | {len(trial.epochs)} | {figure_text(trial)} | "
            f"{outcome_with_mark(trial, marked)} |"
        )
    return lines


SELECTION_COLUMNS: Columns = {
    "candidate": ("trial", str),
    "model": ("model", str),
    "search_value": ("in search", "{:.4f}".format),
    "mean": ("mean", "{:.4f}".format),
    "std": ("std", "{:.4f}".format),
    "seeds": ("seeds", str),
    "p": ("p", lambda p: f"{p:.2g}" if p >= 0.001 else f"{p:.0e}"),
    "ms_per_image": ("ms/image", "{:.3g}".format),
    "state": ("", str),
}
"""The columns of the table of candidates: the value that the search measured, and the results of
fresh seeds.
"""


def selection_table(verdict: Selected) -> list[list[str]]:
    """Table of a selection's candidates as text, the chosen one first.

    The first row holds the titles.
    """
    rows = [
        {**vars(row), "p": None if row.candidate == verdict.leader else row.p}
        for row in verdict.rows
    ]
    cells = [
        [
            "" if row[key] is None else printable(form(row[key]))
            for key, (_, form) in SELECTION_COLUMNS.items()
        ]
        for row in rows
    ]
    return [[title for title, _ in SELECTION_COLUMNS.values()], *cells]


GONE_ON = Message(
    "The search has gone on since then: run ", Remedy("select", start=Start.MODULE), " again."
)


def selection_sentences(result: SearchResult) -> list[Message]:
    """Sentences on the result of a search's selection; empty before its verdict."""
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


def where_kept(trial: TrialResult, home: Home) -> str:
    """Location of a trial's checkpoint, in a folder or a bucket, for display."""
    return f"{home}/{checkpoint_of(trial, Path())}"


def taken_over_text(result: SearchResult) -> str:
    """Text on reused trainings; empty if there are none.

    For example: `reused 1,620 epochs (54 trials) of this search; 120 epochs (5 trials) of 'x'`.
    """
    parts = []
    for search, (trials, epochs) in result.reused_epochs.items():
        whose = "this search" if search == result.name else f"'{search}'"
        parts.append(
            f"{epochs:,} epoch{'s' * (epochs != 1)} ({trials:,} trial{'s' * (trials != 1)}) of "
            f"{whose}"
        )
    return f"reused {'; '.join(parts)}" if parts else ""


def json_summary(
    result: SearchResult, *, tracking: dict[str, str], home: Home, wall_s: float
) -> Json:
    """Build the object that `--json` prints.

    Args:
        wall_s: the duration of all sessions in seconds, including the time after the journal's last
            event.
    """
    return {
        "name": result.name,
        **metric_facts(result.metric),
        "outcome": result.outcome,
        "best": None if result.best is None else _best(result, result.best, home),
        "above_chance": above_chance(answer_against(result)),
        "guesses": result.started.data.get("guesses", []),
        "passed_over": result.passed_over,
        "models": models(result),
        "front": _front(result, home),
        **refinement_facts(result),
        "trials": result.counts,
        "risk": result.risk.chance if result.risk is not None else None,
        "epochs_trained": result.epochs_trained,
        "epochs_taken_over": sum(epochs for _, epochs in result.reused_epochs.values()),
        "wall_s": round(wall_s, 3),
        "train_s": round(result.train_s, 3),
        "slots": result.started.slots,
        "slot_efficiency": round(result.slot_efficiency, 4),
        "budget": {limit: round(share, 4) for limit, share in shares_of(result).items()},
        "requests": request_facts(result),
        "mlflow": tracking,
        "journal": f"{home}/{FILE_NAME}",
        "data": _data(home),
    }


def _data(home: Home) -> Json | None:
    """Load the report on the data that is stored with a search; None if it cannot be read."""
    try:
        report: Json = json.loads(read_regular(home.read(DATA_REPORT)))
    except (OSError, ValueError):
        return None
    return report


def json_selection(result: SearchResult, *, tracking: dict[str, str], home: Home) -> Json:
    """Build the object that `search.select --json` prints."""
    selection, chosen = result.selection, result.chosen
    verdict = selection.verdict if selection is not None else None
    facts = verdict.to_json() if verdict is not None else {}
    checkpoint = where_kept(chosen, home) if facts and chosen is not None else None
    test = selection.test if selection is not None else {}
    return {
        "name": result.name,
        **metric_facts(result.metric),
        "outcome": selection.outcome if selection is not None else None,
        **{
            key: facts.get(key)
            for key in (
                "candidate",
                "trial",
                "leader",
                "expected",
                "search_value",
                "alpha",
                "level",
                "rows",
            )
        },
        f"test_{result.task.primary.name}": test.get(result.task.primary.name),
        "test_value": tested_value(test, result.metric),
        "above_chance": above_chance(answer_against(result)),
        "openings": [str(opening) for opening in result.openings],
        "checkpoint": checkpoint,
        "trainings": len(selection.repeats) if selection is not None else 0,
        "train_s": round(selection.train_s, 3) if selection is not None else 0,
        "mlflow": tracking,
        "journal": f"{home}/{FILE_NAME}",
    }


def metric_facts(metric: Metric) -> dict[str, str]:
    """Name of the metric that ranks trials, and its mode: `max` or `min`."""
    return {"metric": metric.name, "mode": metric.mode}


def _best(result: SearchResult, best: TrialResult, home: Home) -> Json:
    return {
        "trial_id": best.trial,
        "params": best.params,
        **primary_facts(best),
        "value": best.value,
        **deviation(best),
        f"test_{best.task.primary.name}": result.test.get(best.task.primary.name),
        "test_value": tested_value(result.test, result.metric),
        "epoch": best.best_epoch,
        "checkpoint": where_kept(best, home),
    }


def _front(result: SearchResult, home: Home) -> list[Json]:
    cost_names, costs = result.cost_objectives, result.costs
    return [
        {
            "trial_id": trial.trial,
            "params": trial.params,
            **primary_facts(trial),
            "value": trial.value,
            **deviation(trial),
            **{name: one_cost(name, costs[trial.trial]) for name in cost_names},
            "outcome": trial.outcome,
            "checkpoint": where_kept(trial, home),
        }
        for trial in front(result)
    ]
