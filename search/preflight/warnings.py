"""Warnings and notes, before a search starts, about valid settings that have surprising effects."""

from collections.abc import Iterator

import numpy as np

from cluster.runtime.session import LOCAL
from cluster.storage.bucket import Bucket
from search.decisions.convergence import MIN_TRIALS
from search.design.experiment import Experiment
from search.journal.journal import FILE_NAME
from search.journal.store import Storage
from search.preflight.disk import image_memory, room
from search.preflight.first_step import to_trained_weights
from search.spaces.find import adaptive
from trainables.catalog.models import MODELS
from trainables.config import DataConfig, TrialConfig
from trainables.datasets.arrays import Dataset
from trainables.errors import counted, printable

UNREADABLE = "cannot be read"
"""Part of the reason for which an unreadable file is left out."""
SUSPECT, SUSPECT_TIMES = 0.6, 2.5
"""Classes are unbalanced if the largest one has at least the first number as its share of the
images, or at least the second number times the share that it would have if all were equally large.
"""


def notes(experiment: Experiment, dataset: Dataset) -> Iterator[str]:
    """Yield all notes and warnings, one line each, which begin with `note:` or `warning:`."""
    yield from dataset.remarks
    if dataset.skipped:
        first = next((each for each in dataset.left_out if UNREADABLE in each.reason), None)
        yield (
            f"warning: {_images(dataset.skipped)} cannot be read and "
            f"{'are' if dataset.skipped > 1 else 'is'} left out"
            f"{f' (first: {first.path})' if first is not None else ''}."
        )
    yield from _unbalanced(experiment, dataset)
    yield from _unfollowed(experiment)
    yield from _sizes(experiment, dataset)
    usual, data = DataConfig(), experiment.base.data
    if idle := [
        name
        for name in ("val_fraction", "val_limit")
        if data.folds is not None and getattr(data, name) != getattr(usual, name)
    ]:
        yield (
            "note: with folds there is no separate validation set, so "
            f"{' and '.join(f'data.{name}' for name in idle)} can be removed."
        )
    if (
        experiment.algorithm != "grid"
        and (untried := len(experiment.space.first) - experiment.planned_trials) > 0
    ):
        count = len(experiment.space.first)
        yield (
            f"note: this space starts with {count} fixed points, and {untried} of them "
            f"{'is' if untried == 1 else 'are'} not tried in "
            f"{counted(experiment.planned_trials, 'trial')}. --trials {count} tries each once."
        )
    yield from idle_options(experiment)
    if experiment.min_gain and experiment.planned_trials <= MIN_TRIALS:
        planned = experiment.planned_trials
        yield (
            f"note: --min-gain has no effect before {MIN_TRIALS} trials have ended, and only "
            f"{planned} {'is' if planned == 1 else 'are'} planned."
        )
    baselines = _baselines(experiment)
    has_others = len({config.model.name for config in experiment.edges} - baselines) > 0
    were_measured = adaptive(experiment.space_source) is not None and has_others
    if experiment.budget.time is not None and baselines and not were_measured:
        yield (
            f"note: the search may exceed its budget of time, because the fit of a baseline "
            f"({', '.join(sorted(baselines))}) is not interrupted."
        )
    yield from _notes_without_reuse(experiment)
    yield from to_trained_weights(experiment, dataset)
    estimate = room(experiment, dataset)
    if estimate is not None and estimate.free < 2 * estimate.needed:
        yield f"warning: {estimate}"
    images = image_memory(dataset)
    if not images.holds(copies=2):
        yield f"warning: {images}"


def idle_options(experiment: Experiment) -> Iterator[str]:
    """Yield a note if the space is smaller than --trials, and one if --price has no effect."""
    if experiment.capped:
        yield f"note: {experiment.capped}."
    if experiment.budget.price is not None and not experiment.budget.is_priced:
        yield (
            f"note: --price {experiment.budget.price:g} does not limit the search, because no "
            "--budget is in usd; only the plan (--dry-run) uses it."
        )


def _notes_without_reuse(experiment: Experiment) -> Iterator[str]:
    """Yield a note if trainings of earlier searches cannot be reused, although this is allowed."""
    if not experiment.cache or not _may_have_searches(experiment.storage):
        return
    if experiment.address != LOCAL:
        yield "note: a search on a cluster does not reuse trainings of earlier searches."
    elif any(config.model.pretrained for config in experiment.edges):
        yield ("note: trials with pretrained weights do not reuse trainings of earlier searches.")


def _may_have_searches(storage: Storage) -> bool:
    """False if a place has no searches; a bucket is not looked into, and may have some."""
    try:
        return isinstance(storage, Bucket) or any(storage.glob(f"*/{FILE_NAME}"))
    except OSError:
        return True


def _sizes(experiment: Experiment, dataset: Dataset) -> Iterator[str]:
    """Yield a note if pretrained weights require much larger images, which slows training down."""
    _, height, width = dataset.image
    models = [
        config.model
        for config in experiment.edges
        if config.model.pretrained and not config.model.input_size and not config.model.is_baseline
    ]
    side = max(
        (max(MODELS[model.name].effective_size(dataset.image, model.options)) for model in models),
        default=0,
    )
    if side > 2 * max(height, width):
        yield (
            f"note: images of {width} x {height} pixels are enlarged to {side} x {side}, as "
            "the pretrained weights require. --set model.input_size=64 is faster."
        )


def _unbalanced(experiment: Experiment, dataset: Dataset) -> Iterator[str]:
    """Yield a note if classes are unbalanced (`SUSPECT`), so that accuracy is a poor measure.

    The note recommends a metric and a way of training for which all classes count equally. Of
    these two, only what the search does not use already is recommended.
    """
    config, primary = experiment.base, experiment.base.task.primary.name
    if "sampling" not in config.task.can or not len(dataset.train):
        return
    counts = np.bincount(dataset.train.targets.astype(np.int64), minlength=len(dataset.classes))
    largest, images = int(counts.argmax()), int(counts.sum())
    by_share = config.metric == primary
    if counts[largest] / images < min(SUSPECT, SUSPECT_TIMES / len(dataset.classes)) or not (
        by_share or _is_unweighted(experiment)
    ):
        return
    share = round(int(counts[largest]) / images, 3)
    metric_hint = (
        f", so always predicting it reaches an accuracy of {share:g}. With --metric "
        "balanced_accuracy or macro_f1, all classes count equally in the ranking of trials"
        if by_share
        else ""
    )
    training_hint = (
        ". With --set train.class_weights=balanced or train.sampling=balanced, all classes count "
        "equally in training (your own space may search these settings)"
        if _is_unweighted(experiment)
        else ""
    )
    yield (
        f"note: {100 * share:.3g} % of the training images are of class "
        f"'{printable(dataset.classes[largest])}'{metric_hint}{training_hint}."
    )


def _is_unweighted(experiment: Experiment) -> bool:
    """True if no training balances classes, so that large classes count more than small ones."""
    return not any(
        path in experiment.space.domains or experiment.base.value(path) != TrialConfig().value(path)
        for path in ("train.class_weights", "train.sampling")
    )


def _unfollowed(experiment: Experiment) -> Iterator[str]:
    """Yield a note for each setting of `train` that some baselines ignore."""
    train, searched = experiment.base.train, experiment.space.domains
    baselines = _baselines(experiment)
    if baselines and (train.sampling != "shuffled" or "train.sampling" in searched):
        yield (
            "note: train.sampling applies only to networks, which train in batches; baselines "
            f"({', '.join(sorted(baselines))}) are fitted to all images."
        )
    for name in ("group_dro", "ema", "smoothing", "adversarial"):
        if baselines and (getattr(train, name) or f"train.{name}" in searched):
            yield (
                f"note: train.{name} applies only to networks; it has no effect on "
                f"{', '.join(sorted(baselines))}."
            )
    deaf = {name for name in baselines if not MODELS[name].takes_class_weights}
    if deaf and (train.class_weights != "none" or "train.class_weights" in searched):
        yield (
            f"note: train.class_weights has no effect on {', '.join(sorted(deaf))}, which cannot "
            "weight classes."
        )


def _baselines(experiment: Experiment) -> set[str]:
    """Return the names of the baselines in a search's space."""
    return {config.model.name for config in experiment.edges if config.model.is_baseline}


def _images(count: int) -> str:
    return f"{count:,} image{'s' * (count != 1)}"
