"""Rows of the page's tables.

The tables list the stopped and the failed trials, the most frequent mistakes of the answer, all
trials, and the provenance and cost of the search.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from search.decisions.refinement import refinement_sentences
from search.design.lesson import lesson_of, lessons_in
from search.facts.data import source_text
from search.facts.parameters import param_text, searched
from search.facts.trials import best_first, failures_by_kind
from search.journal.result import DatedRegistration, SearchResult, TrialResult, elapsed_s, moment
from search.values.wording import duration
from search.views.page.quality import MAX_NAMES
from search.views.text.labels import classes_text, parts_text, strategy_text, used_text
from search.views.text.sentences import request_lines, taken_over_text
from trainables.errors import counted

SHOWN_NAMES, SHOWN_REASONS, SHOWN_MISTAKES, SHOWN_WEAKEST = 4, 2, 8, 15
LONGEST_REASON = 160
Row = tuple[str, ...]


def stops(result: SearchResult) -> list[Row]:
    """Group the stopped trials by the source of the decision (`Decided.by`) and by rung.

    A row has the source, the rung (empty if there is none), the number of trials, some of their
    names, and a reason.
    """
    groups: dict[tuple[str, int], list[TrialResult]] = {}
    for trial in result.trials.values():
        if trial.outcome == "stopped":
            by, rung = (trial.stop.by, trial.stop.rung) if trial.stop is not None else ("", None)
            groups.setdefault((by, rung or 0), []).append(trial)
    return [
        (
            by,
            f"epoch {rung}" if rung else "",
            str(len(trials)),
            _names(trials),
            _shortened(_why_stopped(trials[-1])),
        )
        for (by, rung), trials in sorted(groups.items(), key=lambda item: item[0])
    ]


def _why_stopped(trial: TrialResult) -> str:
    return (trial.stop.reason if trial.stop is not None else "") or trial.reason


def failures(result: SearchResult) -> list[Row]:
    """Group the failed and diverged trials by their kind of failure.

    A row has the outcome, the number of trials, some of their names, and the most frequent reasons.
    """
    return [
        (
            kind,
            str(len(trials)),
            _names(trials),
            "; ".join(
                f"{_shortened(reason)}"
                for reason, _ in Counter(t.reason for t in trials).most_common(SHOWN_REASONS)
            ),
        )
        for kind, trials in failures_by_kind(result).items()
    ]


def retried(result: SearchResult) -> str:
    """Write a sentence on the number of retried trials and their failures; empty without any."""
    kinds = Counter(kind for trial in result.trials.values() for kind in trial.retries)
    trials = sum(bool(trial.retries) for trial in result.trials.values())
    return (
        f"{counted(trials, 'trial')} continued after a failure "
        f"({', '.join(f'{number} {kind}' for kind, number in kinds.items())})."
        if trials
        else ""
    )


def _names(trials: Sequence[TrialResult]) -> str:
    return ", ".join(trial.trial for trial in trials[:SHOWN_NAMES]) + (
        " …" if len(trials) > SHOWN_NAMES else ""
    )


def _shortened(text: str) -> str:
    line = next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")
    return line if len(line) <= LONGEST_REASON else line[: LONGEST_REASON - 1] + "…"


def mistakes(evaluation: Mapping[str, Any]) -> list[Row]:
    """List the most frequent mistakes of a classifier.

    A row has the true class, the predicted class, the number of such mistakes, and the number of
    images of the true class.
    """
    matrix, classes = evaluation["confusion_matrix"], evaluation["classes"]
    limit = SHOWN_WEAKEST if len(classes) > MAX_NAMES else SHOWN_MISTAKES
    wrong = [
        (number, row, column)
        for row, counts in enumerate(matrix)
        for column, number in enumerate(counts)
        if row != column and number
    ]
    return [
        (classes[row], classes[column], str(number), f"{sum(matrix[row]):,}")
        for number, row, column in sorted(wrong, key=lambda cell: -cell[0])[:limit]
    ]


def weakest(evaluation: Mapping[str, Any]) -> list[Row]:
    """List the classes with the lowest recall.

    A row has the name of the class, the number of its images that are classified correctly, the
    number of its images, and the recall. Empty if the classes are few enough for a readable
    confusion matrix.
    """
    matrix, classes = evaluation["confusion_matrix"], evaluation["classes"]
    if len(classes) <= MAX_NAMES:
        return []
    rows = [
        (counts[number] / sum(counts), classes[number], counts[number], sum(counts))
        for number, counts in enumerate(matrix)
        if sum(counts)
    ]
    return [
        (name, f"{right:,}", f"{images:,}", f"{recall:.1%}")
        for recall, name, right, images in sorted(rows)[:SHOWN_WEAKEST]
    ]


def trusted_registration(result: SearchResult) -> DatedRegistration | None:
    """Return the last registered model; None if none has facts about its reliability."""
    last = next(reversed(result.registrations), None)
    return last if last is not None and last.event.reliability else None


def trial_rows(result: SearchResult) -> list[tuple[TrialResult, list[str]]]:
    """List all trials, the best first, with the values of their searched parameters as text."""
    paths = searched(result)
    return [
        (trial, [param_text(trial.params[path]) if path in trial.params else "" for path in paths])
        for trial in best_first(result)
    ]


def origin(result: SearchResult) -> list[tuple[str, str]]:
    """List (title, text) on the data set, splits, seeds, search, cost, versions and code."""
    experiment, data, provenance = (
        result.started.experiment,
        result.started.data,
        result.started.provenance,
    )
    setting, size = experiment["base"]["data"], " x ".join(map(str, data["image"]))
    versions = ", ".join(
        f"{name.removeprefix('version.')} {value}"
        for name, value in provenance.items()
        if name.startswith("version.") and value
    )
    places = {"git.commit": "commit", "code": "code", "host": "host", "user": "user"}
    return [
        (
            "Data set",
            (
                f"{source_text(data)}: {classes_text(data)}images of {size} "
                f"(channels, height, width); fingerprint {data['fingerprint']}"
            ),
        ),
        (
            "Splits",
            f"{parts_text(data)}; split seed {setting.get('split_seed', 0)}{_split(setting)}",
        ),
        (
            "Seeds",
            f"search {experiment['seed']}, training {experiment['base']['seed']}{_fresh(result)}",
        ),
        (
            "Search",
            (
                f"{strategy_text(experiment)}, up to {counted(experiment['horizon'], 'epoch')} "
                f"per trial, id {result.started.id}"
            ),
        ),
        *(
            [("Refinement", " ".join(map(str.strip, sentences)))]
            if (sentences := refinement_sentences(result))
            else []
        ),
        *(("Learned from", line) for line in lesson_lines(result)),
        *(("Asked", line) for line in request_lines(result)),
        *(("Registered", str(registration)) for registration in result.registrations),
        ("Cost", cost(result)),
        ("Begun", f"{moment(result.started_ms)}, {counted(len(result.sessions), 'session')}"),
        ("Versions", versions),
        (
            "Code and place",
            ", ".join(
                f"{title} {provenance[key]}" for key, title in places.items() if provenance.get(key)
            ),
        ),
    ]


def lesson_lines(result: SearchResult) -> Iterator[str]:
    """Yield a line on each trial that tried settings of an earlier search, the best first."""
    lessons = lessons_in(result.started.experiment)
    for place, trial in enumerate(result.ranking, 1):
        if (lesson := lesson_of(trial.params, lessons)) is not None:
            yield (
                f"{lesson.origin}: {trial.trial} tried its settings, {result.metric.title} "
                f"{trial.value:.4f}, place {place} of {len(result.ranking)}"
            )


def _split(setting: Mapping[str, Any]) -> str:
    return (
        f", training set limited to {setting['train_limit']:,}"
        if setting.get("train_limit")
        else ""
    )


def _fresh(result: SearchResult) -> str:
    repeats = result.selection.repeats.values() if result.selection is not None else ()
    seeds = sorted({trial.config["seed"] for trial in repeats if trial.config})
    return f", selection {', '.join(map(str, seeds))}" if seeds else ""


def cost(result: SearchResult) -> str:
    """Describe the cost of the search and its selection.

    The text has the seconds from start to end, the seconds of training, and two numbers of device
    hours: those used for training, and those reserved.
    """
    experiment = result.started.experiment
    per_trial = experiment["gpus_per_trial"] * experiment["workers"]
    unit, devices = (
        ("GPU", per_trial)
        if per_trial
        else ("CPU core", experiment["cpus_per_trial"] * experiment["workers"])
    )
    sessions = [
        *result.sessions,
        *(result.selection.sessions if result.selection is not None else []),
    ]
    wall_s = elapsed_s(sessions)
    held_s = sum(session.slot_s for session in sessions)
    used_s = result.train_s + (result.selection.train_s if result.selection is not None else 0)
    rounded = f" ({duration(wall_s)})" if wall_s >= 120 else ""
    spared = f" ({taken_over_text(result)})" if result.reused_epochs else ""
    return (
        f"{wall_s:,.0f} s{rounded} from start to end; {used_s:,.0f} s of training, "
        f"{counted(result.epochs_trained, 'epoch')} of the search{spared}, on "
        f"{counted(result.started.slots, 'slot')}; {used_s * devices / 3600:.3g} {unit} "
        f"hours of training, {held_s * devices / 3600:.3g} reserved{used_text(result)}"
    )
