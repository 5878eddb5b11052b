"""The portfolio: settings that did well in earlier searches.

The earlier searches are those in a storage, and some whose results come with this program
(`portfolio.json`, which `tests.bench.portfolio` writes). The best trials of a search, each of
another model, are its examples.
"""

import json
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Self

from search.facts.data import source_text
from search.journal.guessing import Guessing
from search.journal.journal import FILE_NAME
from search.journal.result import SearchResult
from search.journal.store import Storage, home, searches_in
from search.values.nested import flatten
from trainables.config import TrialConfig
from trainables.datasets.arrays import Dataset
from trainables.errors import printable
from trainables.values import Json, Params

TABLE = Path(__file__).with_name("portfolio.json")
MODELS_OF_SEARCH = 3
"""The largest number of examples of a search."""
MAX_S, MAX_BYTES = 3.0, 2**24
"""The time limit for reading the journals of a storage, in seconds, and the maximum size of one.

No further journal is read after this time, and larger ones are ignored.
"""
UNLIKE_COLOURS = 1.0
"""The distance of images in colour from others: that of ten times as many images or classes."""
OF_DATA = ("data.", "seed", "metric", "precision", "model.weights", "model.unlabelled")
"""Settings that belong to one search: its data, its seeds, its metric and its files."""


@dataclass(frozen=True)
class DataTraits:
    """The properties of a data set by which it is compared with others."""

    images: int
    """The number of training images."""
    side: int
    """The larger one of the height and the width of the images, in pixels."""
    channels: int
    classes: int
    fingerprint: str = ""
    """The fingerprint of the data set; empty if it does not matter."""

    def __post_init__(self) -> None:
        counts = (self.images, self.side, self.channels, self.classes)
        if not all(isinstance(count, int) and count > 0 for count in counts):
            raise ValueError(f"not the traits of a data set: {self}")

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Self:
        """Return the traits of the data that a journal describes.

        Raises:
            ValueError, KeyError, TypeError: it does not describe them.
        """
        channels, *size = data["image"]
        classes, fingerprint = max(1, len(data["classes"])), str(data.get("fingerprint", ""))
        return cls(data["train"], max(size), channels, classes, fingerprint)

    @classmethod
    def of_dataset(cls, dataset: Dataset) -> Self:
        """Return the traits of a data set."""
        channels, *size = dataset.image
        classes = max(1, len(dataset.classes))
        return cls(len(dataset.train), max(size), channels, classes, dataset.fingerprint)

    def distance(self, traits: "DataTraits") -> float:
        """Return 0 for the same data set, and 1 for one that has ten times as many images.

        The numbers of images and of classes, and the sizes of the images, are compared on a log
        scale, and their distances are added.
        """
        if self.fingerprint and self.fingerprint == traits.fingerprint:
            return 0.0
        ratios = (
            self.images / traits.images,
            self.side / traits.side,
            self.classes / traits.classes,
        )
        is_unlike = (self.channels > 1) != (traits.channels > 1)
        return sum(abs(math.log10(ratio)) for ratio in ratios) + UNLIKE_COLOURS * is_unlike


@dataclass(frozen=True)
class Example:
    """A good trial of an earlier search."""

    settings: Params
    """Its config, by dotted path, without the settings that belong to its search."""
    score: float
    """Its best score; comparable only between searches of the same data by the same metric."""
    metric: str
    data: str
    """The name of its data set."""
    traits: DataTraits
    search: str = ""
    """The earlier search; empty if the example comes with this program."""
    trial: str = ""

    @property
    def kind(self) -> tuple[str, int, int, str]:
        """A key that is equal for examples whose scores are compared.

        The number of images may differ, since folders grow.
        """
        return self.data, self.traits.classes, self.traits.channels, self.metric

    def to_json(self) -> Json:
        """Return the example as JSON values, without its search."""
        values = asdict(self)
        return {name: values[name] for name in ("data", "traits", "metric", "score", "settings")}

    @classmethod
    def from_json(cls, values: Json) -> Self:
        """Build an example from the result of `to_json`."""
        return cls(**{**values, "traits": DataTraits(**values["traits"])})


def shipped_examples() -> list[Example]:
    """Return the examples that come with this program."""
    return [Example.from_json(values) for values in json.loads(TABLE.read_text("utf-8"))]


def examples_in(storage: Storage, task: str, own: str = "") -> list[Example]:
    """Read the examples of all searches of a task in a storage.

    A search whose best trial is not better than guessing has none. A journal that cannot be read,
    or is not what this version expects, is ignored.

    Args:
        storage: the storage.
        task: the name of the task.
        own: a search that is left out.
    """
    examples: list[Example] = []
    until = time.monotonic() + MAX_S
    try:
        names = _newest_first(storage)
    except OSError:
        return []  # the storage is checked elsewhere
    for name in names:
        if time.monotonic() > until:
            break
        if name == own:
            continue
        try:
            folder = home(storage, name).opened()
            if (folder / FILE_NAME).stat().st_size <= MAX_BYTES:
                result = SearchResult.read(folder)
                if result.ranking and result.task.name == task:
                    examples += list(examples_of(result, name))
        except Exception:  # noqa: BLE001 - one faulty journal must not hide the others
            continue
    return examples


def examples_of(result: SearchResult, name: str = "") -> Iterator[Example]:
    """Yield the examples of a search; none if its best trial is not better than guessing.

    Args:
        result: the search.
        name: the name by which commands know it; empty for that in its journal.

    Raises:
        KeyError, TypeError, ValueError, ConfigError: the journal is not what this version expects.
    """
    data, guessing = result.started.data, Guessing.of(result)
    source, traits = printable(source_text(data)), DataTraits.of(data)
    for trial in islice(result.best_of_models.values(), MODELS_OF_SEARCH):
        against = guessing.against(trial) if guessing is not None else None
        if against is not None and not against.is_above:
            return
        if not math.isfinite(trial.score) or TrialConfig.from_dict(trial.config).warm_start:
            continue
        settings = {
            path: value
            for path, value in flatten(trial.config)
            if value is not None and not path.startswith(OF_DATA)
        }
        known_as = printable(name or result.name)
        yield Example(
            settings, trial.score, trial.metric.name, source, traits, known_as, trial.trial
        )


def _newest_first(storage: Storage) -> list[str]:
    """Return the names of the searches; in a folder, those that were changed last come first."""
    names = searches_in(storage)
    if not isinstance(storage, Path):
        return names

    def changed(name: str) -> float:
        try:
            return (storage / name / FILE_NAME).stat().st_mtime
        except OSError:  # it was removed in the meantime
            return 0.0

    return sorted(names, key=changed, reverse=True)
