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
from trainables.datasets.arrays import Dataset
from trainables.values import Json, Params

TABLE = Path(__file__).with_name("portfolio.json")
MODELS_OF_SEARCH = 3
"""The largest number of examples of a search."""
MAX_S, MAX_BYTES = 3.0, 2**24
"""The time limit for reading the journals of a storage, in seconds, and the maximum size of one.

Journals that are larger, or are not read by then, are ignored.
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

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Self:
        """Return the traits of the data that a journal describes."""
        channels, *size = data["image"]
        fingerprint = data.get("fingerprint", "")
        classes = max(1, len(data["classes"]))
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
    """Its best score; comparable only within a data set."""
    data: str
    """The name of its data set."""
    traits: DataTraits
    search: str = ""
    """The earlier search; empty if the example comes with this program."""
    trial: str = ""

    def to_json(self) -> Json:
        """Return the example as JSON values, without its search."""
        values = asdict(self)
        return {name: values[name] for name in ("data", "traits", "score", "settings")}

    @classmethod
    def from_json(cls, values: Json) -> Self:
        """Build an example from the result of `to_json`."""
        return cls(**{**values, "traits": DataTraits(**values["traits"])})


def shipped_examples() -> list[Example]:
    """Return the examples that come with this program."""
    return [Example.from_json(values) for values in json.loads(TABLE.read_text("utf-8"))]


def examples_in(storage: Storage, task: str, own: str = "") -> list[Example]:
    """Read the examples of all searches of a task in a storage.

    A search whose best trial is not better than guessing has none. A journal that cannot be read
    is ignored, and so are those that are not read within `MAX_S`, the oldest ones.

    Args:
        storage: the storage.
        task: the name of the task.
        own: a search that is left out.
    """
    examples: list[Example] = []
    until = time.monotonic() + MAX_S
    for result in _results(storage, own):
        if result.task.name == task:
            examples += examples_of(result)
        if time.monotonic() > until:
            break
    return examples


def examples_of(result: SearchResult) -> Iterator[Example]:
    """Yield the examples of a search; none if its best trial is not better than guessing."""
    guessing = Guessing.of(result)
    for trial in islice(result.best_of_models.values(), MODELS_OF_SEARCH):
        against = guessing.against(trial) if guessing is not None else None
        if against is not None and not against.is_above:
            return
        data = result.started.data
        settings = {
            path: value
            for path, value in flatten(trial.config)
            if value is not None and not path.startswith(OF_DATA)
        }
        traits = DataTraits.of(data)
        yield Example(settings, trial.score, source_text(data), traits, result.name, trial.trial)


def _results(storage: Storage, own: str) -> Iterator[SearchResult]:
    """Yield the results of the searches in a storage, without the one that is called `own`."""
    try:
        names = _newest_first(storage)
    except OSError:
        return  # the storage is checked elsewhere
    for name in names:
        if name == own:
            continue
        try:
            folder = home(storage, name).opened()
            if (folder / FILE_NAME).stat().st_size <= MAX_BYTES:
                result = SearchResult.read(folder)
                if result.sessions and result.ranking:
                    yield result
        except Exception:  # noqa: BLE001 - one faulty journal must not hide the others
            continue


def _newest_first(storage: Storage) -> list[str]:
    """Return the names of the searches; in a folder, those that were changed last come first."""
    names = searches_in(storage)
    if not isinstance(storage, Path):
        return names
    return sorted(names, key=lambda name: (storage / name / FILE_NAME).stat().st_mtime)[::-1]
