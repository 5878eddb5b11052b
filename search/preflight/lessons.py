"""Lessons of earlier searches: a new search tries some settings early that did well in them.

Source: Feurer et al., "Initializing Bayesian Hyperparameter Optimization via Meta-Learning" (2015).
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TypeGuard

from search.design.experiment import Experiment
from search.design.lesson import Lesson
from search.preflight.portfolio import DataTraits, Example, examples_in, shipped_examples
from search.space import Domain, SearchSpace
from trainables.catalog.models import MODELS
from trainables.datasets.arrays import Dataset
from trainables.errors import ConfigError
from trainables.progress import step
from trainables.values import Params

MOST_LESSONS = 5
"""The largest number of lessons of a search; they delay the settings that its space begins with."""
OPTIMIZER = ("optimizer.name", "optimizer.schedule")
"""The settings on which the meaning of a learning rate depends."""
LARGEST = 10**15
"""Larger numbers in a journal are ignored."""


def with_lessons(experiment: Experiment, dataset: Dataset) -> tuple[Experiment, list[str]]:
    """Return a search that tries good settings of earlier searches early, and a note about them.

    They follow the models at the beginning that are fitted in one step, such as probes, so that
    they do not delay the first answer. The search is unchanged if there are none.
    """
    with step("reading earlier searches"):
        own = examples_in(experiment.storage, experiment.base.data.task, experiment.name)
    traits = DataTraits.of_dataset(dataset)
    lessons = chosen_lessons(experiment, traits, [*own, *shipped_examples()])
    if not lessons:
        return experiment, []
    first, new = experiment.space.first, [lesson.params for lesson in lessons]
    place = next((number for number, point in enumerate(first) if not _is_fit(point)), len(first))
    space = replace(experiment.space, first=(*first[:place], *new, *first[place:]))
    return replace(experiment, space=space, lessons=tuple(lessons)), [
        f"note: settings that did well before are tried early: {_origins_text(lessons)}. "
        "--no-learn leaves them out."
    ]


def _origins_text(lessons: Sequence[Lesson]) -> str:
    """Name the searches of the storage one by one, and those of this program together."""
    parts = [lesson.origin for lesson in lessons if lesson.search]
    if shipped := [lesson.data for lesson in lessons if not lesson.search]:
        names = ", ".join(dict.fromkeys(shipped))
        parts.append(
            f"{len(shipped)} of searches whose results come with this program (on {names})"
        )
    return "; ".join(parts)


def chosen_lessons(
    experiment: Experiment, traits: DataTraits, examples: Iterable[Example]
) -> list[Lesson]:
    """Choose the lessons of a search: the best of each data set, the most similar ones first.

    If there are few data sets, the next best examples of each follow. Examples that the space of
    the search does not contain are left out, and so are settings that it tries first anyway.

    Args:
        experiment: the search.
        traits: the properties of its data.
        examples: the examples.
    """
    expressed = [
        (example, params)
        for example in examples
        if (params := params_of(example, experiment)) is not None
        and not _includes_any(params, experiment.space.first)
    ]
    by_kind: dict[tuple[str, int, int, str], list[tuple[Example, Params]]] = {}
    for example, params in sorted(expressed, key=lambda each: -each[0].score):
        by_kind.setdefault(example.kind, []).append((example, params))
    ranked = sorted(
        (
            (rank, min(traits.distance(each.traits) for each, _ in group), example, params)
            for group in by_kind.values()
            for rank, (example, params) in enumerate(group)
        ),
        key=lambda each: each[:2],
    )
    lessons: list[Lesson] = []
    for _, _, example, params in ranked:
        if len(lessons) < MOST_LESSONS and not _includes_any(
            params, (lesson.params for lesson in lessons)
        ):
            lessons.append(Lesson(params, example.data, example.search, example.trial))
    return lessons


def _includes_any(params: Params, points: Iterable[Params]) -> bool:
    """True if a trial of one of these points may have exactly these params."""
    return any(point.items() <= params.items() for point in points)


def params_of(example: Example, experiment: Experiment) -> Params | None:
    """Return the settings of an example in the space of a search.

    Numbers outside of their domain are replaced by the nearest ones in it. None if the space does
    not have the example's model, or trains it from another beginning or with another optimizer.
    """
    space, settings, params = experiment.space, example.settings, Params()
    for path in space.domains:
        domain = space.under(path, params)
        if domain is None or path not in settings:
            continue
        value = nearest_value(domain, settings[path])
        if value is None:
            return None
        params[path] = value
    try:
        config = experiment.config(params | _only_value(space, "model.pretrained", params))
    except ConfigError:
        return None
    begins = config.model.options.get("pretrained", False), settings.get("model.pretrained", False)
    optimizers = (
        (config.optimizer.name, config.optimizer.schedule),
        tuple(settings.get(path) for path in OPTIMIZER),
    )
    is_same = begins[0] == begins[1] and optimizers[0] == optimizers[1]
    if config.model.name != settings.get("model.name"):
        return None
    return params if config.model.is_baseline or is_same else None


def _only_value(space: SearchSpace, path: str, params: Params) -> Params:
    """Return the value of a parameter if it is the only one under these params, else nothing."""
    domain = space.under(path, params) if path in space.domains else None
    values = domain.values if domain is not None else None
    return {path: values[0]} if values is not None and len(values) == 1 else {}


def nearest_value(domain: Domain, value: object) -> object:
    """Return the value itself or, of a number, the nearest one in the domain; None if none is."""
    if domain.holds(value):
        return value
    options = [each for each in domain.values or domain.extremes if _is_number(each)]
    if not _is_number(value) or not options:
        return None
    return min(options, key=lambda each: abs(each - value))


def _is_number(value: object) -> TypeGuard[float]:
    """True for a number that can be compared with others."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) < LARGEST


def _is_fit(point: Params) -> bool:
    """True if a point's model is fitted in one step."""
    name = point.get("model.name")
    return name in MODELS and MODELS[name].kind == "baseline"
