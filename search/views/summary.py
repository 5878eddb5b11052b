"""A search's result in words and tables: for the terminal's end, for MLflow's note, for `--json`."""

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from search.budget import shares_of
from search.decisions.refinement import refinement_facts, refinement_sentences
from search.journal.journal import FILE_NAME
from search.journal.pareto import front
from search.journal.result import SearchResult, TrialResult, checkpoint_of
from search.journal.store import Home
from search.objectives import one_cost
from search.statistics import of_images
from trainables.catalog.models import MODELS
from trainables.config import TrialConfig
from trainables.errors import printable

TOP = 10
MIN_RISK = 0.01
"""A smaller chance is not told in figures."""


def param_text(value: Any) -> str:
    """A parameter's value for people: 0.001234 rather than 0.0012339999."""
    return f"{value:.4g}" if isinstance(value, float) else printable(str(value))


def value_text(trial: TrialResult, path: str) -> str:
    """A trial's value of a searched parameter; of epochs that --max-epochs cuts, also to how many:
    `10 (capped at 2)`. Empty where it has none.
    """
    value = trial.params.get(path, "")
    return (
        f"{value} (capped at {trial.config['epochs']})"
        if path == "epochs" and value != trial.config["epochs"]
        else param_text(value)
    )


def figure_text(trial: TrialResult) -> str:
    """Its best validation accuracy: `0.9721`, or of folds the mean and the sample standard
    deviation: `0.9721 ± 0.0080 (5 folds)`.
    """
    folds = (
        f" ± {trial.deviation:.4f} ({trial.config['data']['folds']} folds)"
        if trial.deviation is not None
        else ""
    )
    return f"{trial.accuracy:.4f}{folds}"


def accuracy_text(trial: TrialResult | None) -> str:
    """`0.9721`, or `0.8997 (stopped at epoch 3 of 20)`, or that it was not tried."""
    if trial is None or not trial.epochs:
        return "not tried"
    stopped = (
        f" (stopped at epoch {len(trial.epochs)} of {trial.config['epochs']})"
        if trial.outcome == "stopped"
        else ""
    )
    return f"{figure_text(trial)}{stopped}"


def outcome_text(result: SearchResult) -> str:
    """`48 completed, 11 stopped, 1 diverged`."""
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


def risk_text(result: SearchResult) -> str:
    """What was risked by stopping trials, in words; empty where nothing was, or is known."""
    if not (chance := result.risk.get("chance", 0.0)):
        return ""
    stopped, epochs = (
        sum(trial.outcome in ("stopped", "held") for trial in result.trials.values()),
        result.risk["epochs"],
    )
    if chance < MIN_RISK:
        return f"That the best is among the {stopped} that were stopped is unlikely (less than {MIN_RISK:.0%})."
    surer = 1 - chance / 2
    how = f" (--sure {surer:.2g})" if surer > result.started["experiment"].get("sure", 0.0) else ""
    more = f"about {epochs:,} more epoch{'s' * (epochs != 1)} would halve it{how}"
    told = f"The chance that the best is among the {stopped} that were stopped is about {chance:.0%}; {more}."
    is_told = (
        result.risk.get("new") and result.outcome != "gain"
    )  # which has said what new trials would gain
    return f"{told} {_new_text(chance / 2, result.risk['new'])}" if is_told else told


def _new_text(going_on: float, new: float) -> str:
    """What as many epochs would find in new trials, beside those that were stopped: a better one,
    with what chance.
    """
    found, other = (
        f"about {chance:.0%}" if chance >= MIN_RISK else f"less than {MIN_RISK:.0%}"
        for chance in (new, going_on)
    )
    compared = "as much" if found == other else "more" if new > going_on else "less"
    return f"New trials would gain {compared}: in as many epochs a better one with a chance of {found}, against {other}."


def source_text(data: Mapping[str, Any]) -> str:
    """The data set's name, of a folder with the folder's own, from the journal's facts of it."""
    return (
        f"folder {printable(Path(data['root']).name)}"
        if data["name"] == "folder"
        else str(data["name"])
    )


def strategy_text(experiment: Mapping[str, Any]) -> str:
    """`bayes + asha`, and what is to be low beside a high accuracy: `bayes + asha, for low latency
    too`; from the journal's facts.
    """
    low = " and ".join(experiment.get("objectives", ())[1:])
    return f"{experiment['algorithm']} + {experiment['scheduler']}" + (
        f", for low {low} too" if low else ""
    )


def parts_text(data: Mapping[str, Any]) -> str:
    """`1,079 training, 359 validation, 359 test images`, or how many are in folds."""
    titles = (
        {"train": f"in {data['folds']} folds", "test": "test"}
        if data.get("folds")
        else {"train": "training", "val": "validation", "test": "test"}
    )
    return ", ".join(f"{data[part]:,} {title}" for part, title in titles.items()) + " images"


def searched(result: SearchResult) -> list[str]:
    """The paths that were searched, in the space's order."""
    return list(result.started["experiment"]["space"]["domains"])


def short_names(paths: list[str]) -> dict[str, str]:
    """A word for each path: `optimizer.lr` is `lr`, `model.name` is `model`; the path itself where
    the word would mean two.
    """
    words = {
        path: path.removesuffix(".name") if path.endswith(".name") else path.rpartition(".")[2]
        for path in paths
    }
    taken = Counter(words.values())
    return {path: word if taken[word] == 1 else path for path, word in words.items()}


def is_baseline(trial: TrialResult) -> bool:
    """Whether it is fitted without a network; a model that is no longer registered counts as a
    network.
    """
    model = MODELS.get(trial.config["model"]["name"])
    return model is not None and model.kind == "baseline"


def ms_per_image(trial: TrialResult) -> float | None:
    """Milliseconds for one image alone; None where that was not measured."""
    return one_cost("latency", trial.cost)


def reference_rows(result: SearchResult) -> list[tuple[str, dict[str, Any], TrialResult | None]]:
    """The configuration found, or what a selection chose with the highest of the search, and, where
    the space names one, the reference with its trial, if it was tried. The reference of a space of
    ours belongs to the data that it was published for, so that it is left out beside a user's own
    images.
    """
    rows: list[tuple[str, dict[str, Any], TrialResult | None]] = []
    best, chosen = result.best, chosen_candidate(result)
    if chosen is not None:
        rows.append(("chosen", chosen.params, chosen))
    if best is not None and best is not chosen:
        rows.append(("found" if chosen is None else "highest found", best.params, best))
    experiment = result.started["experiment"]
    space = experiment["space"]
    if space["reference"] and (
        result.started["data"]["name"] != "folder" or experiment.get("space_source")
    ):
        same = (
            trial
            for trial in result.trials.values()
            if trial.config and _is_at(TrialConfig.from_dict(trial.config), space["reference"])
        )
        rows.append((space["reference_title"], space["reference"], next(same, None)))
    return rows


def chosen_candidate(result: SearchResult) -> TrialResult | None:
    """The trial that a selection chose, as the search found it; None before."""
    chosen = result.selection.chosen if result.selection is not None else None
    return result.trials.get(chosen.repeat_of) if chosen is not None else None


def _is_at(config: TrialConfig, reference: dict[str, Any]) -> bool:
    return all(config.value(path) == value for path, value in reference.items())


def models(result: SearchResult) -> list[dict[str, Any]]:
    """The best trial of each model, the best model first: how good it is on the validation part and
    what it costs, as plain values. What was not measured is None, and so is what a model does not
    have.
    """
    return [_model(name, trial) for name, trial in result.best_of_models.items()]


def _model(name: str, trial: TrialResult) -> dict[str, Any]:
    found = trial.evaluation
    val, cost = found.get("val", {}), found.get("cost", {})
    times = cost.get("inference", {})
    return {
        "model": name,
        "trial_id": trial.trial,
        "outcome": trial.outcome,
        "val_accuracy": trial.accuracy,
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


def deviation(trial: TrialResult) -> dict[str, Any]:
    """What stands beside the accuracy of a trial with folds, as plain values."""
    return (
        {}
        if trial.deviation is None
        else {"val_accuracy_std": trial.deviation, "folds": trial.config["data"]["folds"]}
    )


MODEL_COLUMNS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "model": ("model", str),
    "trial_id": ("trial", str),
    "val_accuracy": ("val accuracy", "{:.4f}".format),
    "macro_f1": ("macro F1", "{:.4f}".format),
    "ms_per_image_batch_1": ("ms/image", "{:.3g}".format),
    "ms_per_image_batch_64": ("of 64", "{:.3g}".format),
    "parameters": ("weights", lambda count: f"{count / 1e6:.3g} M"),
    "train_s": ("train s", "{:.1f}".format),
}
"""What the table of models shows, with a title and a format for each; the times are of one image
alone and of one among 64.
"""


def models_table(result: SearchResult) -> list[list[str]]:
    """The models side by side, as text: a row of titles and one a model. Empty where there is
    nothing to say beside the best trial.
    """
    rows = models(result)
    if len(rows) < 2 and not any(row["macro_f1"] is not None for row in rows):
        return []
    cells = [
        [
            "" if row[key] is None else printable(form(row[key]))
            for key, (_, form) in MODEL_COLUMNS.items()
        ]
        for row in rows
    ]
    return [[title for title, _ in MODEL_COLUMNS.values()], *cells]


COST_COLUMNS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "latency": MODEL_COLUMNS["ms_per_image_batch_1"],
    "parameters": MODEL_COLUMNS["parameters"],
}
"""What a table calls what was to be low, and how it writes it."""


def front_table(result: SearchResult) -> list[list[str]]:
    """The Pareto front as text: a row of titles and one a trial, the most accurate first; empty
    where accuracy is all that was looked for.
    """
    wanted, costs = result.costs_wanted, result.costs
    rows = [
        [
            trial.trial,
            network_text(trial, result),
            figure_text(trial),
            str(len(trial.epochs)),
            *(_cost_cell(name, costs[trial.trial]) for name in wanted),
        ]
        for trial in front(result)
    ]
    return (
        [
            [
                "trial",
                "network",
                "val accuracy",
                "epochs",
                *(COST_COLUMNS[name][0] for name in wanted),
            ],
            *rows,
        ]
        if rows
        else []
    )


def _cost_cell(name: str, cost: Mapping[str, Any]) -> str:
    """What a table says of this cost; empty of what a classifier has nothing of."""
    value = one_cost(name, cost)
    return "" if value is None else COST_COLUMNS[name][1](value)


def quicker_text(result: SearchResult, promote: str) -> str:
    """Which of the front costs least of those that the validation images do not tell from the best
    trial, and how to take it: by this command. Empty where none costs less, or where a selection
    has chosen another.
    """
    answer, near, costs = result.best, front(result), result.costs
    images = result.started["data"]["val"]
    if answer is None or answer is not result.chosen or not images or answer not in near:
        return ""
    low, _ = of_images(answer.accuracy, images)
    name = result.costs_wanted[0]
    known = {
        trial.trial: one_cost(name, costs[trial.trial]) or 0.0
        for trial in near
        if trial.accuracy >= low
    }
    least = min(known, key=known.__getitem__)
    if not known[least] < known[answer.trial]:
        return ""
    fewer = round((answer.accuracy - result.trials[least].accuracy) * images)
    saved = f"{known[least] / known[answer.trial]:.2g} of the {'time' if name == 'latency' else 'weights'} of {answer.trial}"
    right = (
        f"names {fewer:,} of {images:,} images fewer right, which is within chance"
        if fewer
        else "names as many right"
    )
    return f"{least} takes {saved} and {right}. To use it: {promote} --trial {least}"


def cost_text(cost: Mapping[str, Any]) -> str:
    """`0.138 ms/image, 0.023 M weights`, of what `trainables.evaluation.cost` measures."""
    return ", ".join(
        f"{text} {COST_COLUMNS[name][0]}"
        for name in COST_COLUMNS
        if (text := _cost_cell(name, cost))
    )


def network_text(trial: TrialResult, result: SearchResult) -> str:
    """A trial's network, with what was searched of it: `deep_cnn, layers 10, filter_size 3`."""
    names = short_names(searched(result))
    parts = [
        f"{names[path]} {param_text(value)}"
        for path, value in trial.params.items()
        if path.startswith("model.") and path != "model.name"
    ]
    return ", ".join([trial.config["model"]["name"], *parts])


def markdown_table(rows: list[list[str]]) -> list[str]:
    """Lines of a table; the first row is of titles."""
    titles, *others = rows
    return [
        "| " + " | ".join(titles) + " |",
        "|---" * len(titles) + "|",
        *("| " + " | ".join(row) + " |" for row in others),
    ]


def markdown_summary(result: SearchResult) -> str:
    """What the search was, how it went, and its ten best trials."""
    experiment, data = result.started["experiment"], result.started["data"]
    images = (
        f"{data['train']:,} images in {data['folds']} folds"
        if data.get("folds")
        else f"{data['train']:,} training, {data['val']:,} validation images"
    )
    lines = [
        f"**{result.name}**: space `{experiment['space']['name']}` on `{source_text(data)}` ({images}), "
        f"{strategy_text(experiment)}, seed {experiment['seed']}.",
        "",
        f"{len(result.trials)} trials ({outcome_text(result)}), {result.epochs_trained:,} epochs in {result.wall_s:.0f} s.",
        *([f"N{taken_over_text(result)[1:]}."] if result.taken_over else []),
    ]
    if result.best is not None:
        tested = f", test accuracy {result.test['accuracy']:.4f}" if result.test else ""
        highest = f"`{result.best.trial}`, validation accuracy {figure_text(result.best)}{tested}"
        if result.selection is not None and (chosen := chosen_candidate(result)) is not None:
            mean = result.selection.verdict["expected"]["mean"]
            lines.append(
                f"Best by a selection: `{chosen.trial}`, expected validation accuracy {mean:.4f} (`selected/val_accuracy_mean`)."
            )
            lines.append(
                f"The highest of the search, which luck had a part in: {highest} (`best/val_accuracy`)."
            )
        else:
            lines.append(f"Best: {highest}.")
    if risked := risk_text(result):
        lines.append(risked)
    if told := refinement_sentences(result):
        lines += ["", *(f"- {sentence.strip()}" for sentence in told)]
    if result.selection is not None and result.selection.verdict:
        lines += [
            "",
            "Chosen: " + " ".join(selection_sentences(result)),
            "",
            *markdown_table(selection_table(result.selection.verdict)),
        ]
    if result.openings:
        lines += ["", f"The test part was opened: {'; '.join(map(str, result.openings))}."]
    if compared := models_table(result):
        lines += ["", "The best trial of each model:", "", *markdown_table(compared)]
    if found := front_table(result):
        lines += [
            "",
            "The Pareto front, the trials of which no other is as accurate and costs no more:",
            "",
            *markdown_table(found),
        ]
    paths = searched(result)
    lines += [
        "",
        "| trial | " + " | ".join(paths) + " | epochs | val accuracy | outcome |",
        "|---" * (len(paths) + 4) + "|",
    ]
    for trial in result.ranking[:TOP]:
        values = " | ".join(param_text(trial.params.get(path, "")) for path in paths)
        lines.append(
            f"| {trial.trial} | {values} | {len(trial.epochs)} | {figure_text(trial)} | {trial.outcome} |"
        )
    return "\n".join(lines)


SELECTION_COLUMNS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "candidate": ("trial", str),
    "model": ("model", str),
    "search_value": ("found", "{:.4f}".format),
    "mean": ("mean", "{:.4f}".format),
    "std": ("std", "{:.4f}".format),
    "seeds": ("seeds", str),
    "p": ("p", lambda p: f"{p:.2g}" if p >= 0.001 else f"{p:.0e}"),
    "ms_per_image": ("ms/image", "{:.3g}".format),
    "state": ("", str),
}
"""What the table of candidates shows, with a title and a format for each: what the search found
each with, and what fresh seeds say.
"""


def selection_table(verdict: dict[str, Any]) -> list[list[str]]:
    """The candidates of a selection side by side, as text: a row of titles and one a candidate, the
    chosen one first.
    """
    rows = [
        {**row, "p": None if row["candidate"] == verdict["leader"] else row["p"]}
        for row in verdict["rows"]
    ]
    cells = [
        [
            "" if row[key] is None else printable(form(row[key]))
            for key, (_, form) in SELECTION_COLUMNS.items()
        ]
        for row in rows
    ]
    return [[title for title, _ in SELECTION_COLUMNS.values()], *cells]


GONE_ON = "The search has gone on since then: search.select chooses anew."


def selection_sentences(result: SearchResult) -> list[str]:
    """What a search's selection came to, in words; empty before."""
    selection = result.selection
    if selection is None or not selection.verdict:
        return []
    verdict, expected = selection.verdict, selection.verdict["expected"]
    chosen, leader, count = verdict["candidate"], verdict["leader"], len(verdict["rows"])
    found = [
        f"Expect {expected['mean']:.4f} of validation accuracy of {chosen}: {expected['low']:.4f} to {expected['high']:.4f} with {verdict['level']:.0%} "
        f"confidence, over {expected['seeds']} fresh seeds. The search found it with {verdict['search_value']:.4f}."
    ]
    if leader != chosen:
        times = {row["candidate"]: row["ms_per_image"] for row in verdict["rows"]}
        found.append(
            f"{leader} had the highest mean; {chosen} is as good within half a standard error, and takes {times[chosen]:.3g} ms an image "
            f"instead of {times[leader]:.3g}."
        )
    behind = [row["candidate"] for row in verdict["rows"] if row["state"] == "dropped"]
    if count > 1:
        worse = (
            f"clearly worse: {', '.join(behind)}"
            if behind
            else "none is clearly worse than the leader"
        )
        found.append(
            f"Of {count} candidates {worse} (paired t-tests, error rate {verdict['alpha']:g} for all of them together)."
        )
    if test := selection.test:
        low, high = of_images(test["accuracy"], test["images"])
        found.append(
            f"On the test part {verdict['trial']} reaches {test['accuracy']:.4f} ({low:.4f} to {high:.4f}, as {test['images']:,} images allow)."
        )
    return [*found, GONE_ON] if result.is_selection_old else found


def where_kept(trial: TrialResult, home: Home) -> str:
    """The same for people, wherever the search is kept."""
    return f"{home}/{checkpoint_of(trial, Path())}"


def taken_over_text(result: SearchResult) -> str:
    """`not trained twice: 1,620 epochs of 54 trials, from this search; 120 epochs of 5 trials, from
    'x'`. Empty if all was trained.
    """
    parts = []
    for search, (trials, epochs) in result.taken_over.items():
        whose = "this search" if search == result.name else f"'{search}'"
        parts.append(
            f"{epochs:,} epoch{'s' * (epochs != 1)} of {trials:,} trial{'s' * (trials != 1)}, from {whose}"
        )
    return f"not trained twice: {'; '.join(parts)}" if parts else ""


def json_summary(
    result: SearchResult, *, tracking: dict[str, str], home: Home, wall_s: float
) -> dict[str, Any]:
    """What `--json` prints; `wall_s` is the time of all sessions to their end, which the journal
    does not know.
    """
    return {
        "name": result.name,
        "outcome": result.outcome,
        "best": None if result.best is None else _best(result, result.best, home),
        "passed_over": result.passed_over,
        "models": models(result),
        "front": _front(result, home),
        **refinement_facts(result),
        "trials": result.counts,
        "risk": result.risk.get("chance"),
        "epochs_trained": result.epochs_trained,
        "epochs_taken_over": sum(epochs for _, epochs in result.taken_over.values()),
        "wall_s": round(wall_s, 3),
        "train_s": round(result.train_s, 3),
        "slots": result.started["slots"],
        "slot_efficiency": round(result.slot_efficiency, 4),
        "budget": {limit: round(share, 4) for limit, share in shares_of(result, wall_s).items()},
        "mlflow": tracking,
        "journal": f"{home}/{FILE_NAME}",
    }


def json_selection(result: SearchResult, *, tracking: dict[str, str], home: Home) -> dict[str, Any]:
    """What `search.select --json` prints."""
    selection, chosen = result.selection, result.chosen
    verdict = selection.verdict if selection is not None else {}
    return {
        "name": result.name,
        "outcome": selection.outcome if selection is not None else None,
        **{
            key: verdict.get(key)
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
        "test_accuracy": selection.test.get("accuracy") if selection is not None else None,
        "openings": [str(opening) for opening in result.openings],
        "checkpoint": where_kept(chosen, home) if verdict and chosen is not None else None,
        "trainings": len(selection.repeats) if selection is not None else 0,
        "train_s": round(selection.train_s, 3) if selection is not None else 0,
        "mlflow": tracking,
        "journal": f"{home}/{FILE_NAME}",
    }


def _best(result: SearchResult, best: TrialResult, home: Home) -> dict[str, Any]:
    return {
        "trial_id": best.trial,
        "params": best.params,
        "val_accuracy": best.accuracy,
        **deviation(best),
        "test_accuracy": result.test.get("accuracy"),
        "epoch": best.best_epoch,
        "checkpoint": where_kept(best, home),
    }


def _front(result: SearchResult, home: Home) -> list[dict[str, Any]]:
    wanted, costs = result.costs_wanted, result.costs
    return [
        {
            "trial_id": trial.trial,
            "params": trial.params,
            "val_accuracy": trial.accuracy,
            **deviation(trial),
            **{name: one_cost(name, costs[trial.trial]) for name in wanted},
            "outcome": trial.outcome,
            "checkpoint": where_kept(trial, home),
        }
        for trial in front(result)
    ]
