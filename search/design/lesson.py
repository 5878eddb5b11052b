"""Settings that did well in an earlier search, and that a new search tries early."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from trainables.values import Json, Params


@dataclass(frozen=True)
class Lesson:
    """The settings of a good trial of an earlier search, as they are in the space of a new one."""

    params: Params
    """The settings, by dotted path: one of the space's first points."""
    data: str
    """The name of the data set of the earlier search."""
    search: str = ""
    """The earlier search; empty if it is one of those whose results come with this program."""
    trial: str = ""

    @property
    def origin(self) -> str:
        """The origin of the settings, as a phrase."""
        if self.search:
            return f"{self.trial} of the search {self.search} ({self.data})"
        return f"a search on {self.data} (its results come with this program)"

    def is_tried_by(self, params: Params) -> bool:
        """True if a trial with these params tries the settings."""
        return self.params.items() <= params.items()

    def to_json(self) -> Json:
        """Return the lesson as JSON values, without empty texts."""
        return {name: value for name, value in vars(self).items() if value != ""}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Build a lesson from the result of `to_json`; fields of later versions are ignored."""
        names = [field.name for field in fields(cls)]
        return cls(**{name: values[name] for name in names if name in values})


def lessons_in(description: Mapping[str, Any]) -> list[Lesson]:
    """Return the lessons in the description of a search, as it is in the journal.

    Those that are damaged are left out.
    """
    values = description.get("lessons", [])
    return [
        Lesson.from_json(each)
        for each in (values if isinstance(values, list) else [])
        if isinstance(each, dict)
        and isinstance(each.get("params"), dict)
        and isinstance(each.get("data"), str)
    ]


def lesson_of(params: Params, lessons: Iterable[Lesson]) -> Lesson | None:
    """Return the lesson that a trial with these params tries; None if it tries none."""
    return next((lesson for lesson in lessons if lesson.is_tried_by(params)), None)
