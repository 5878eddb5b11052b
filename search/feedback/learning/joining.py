"""The folder with everything of an improvement: the joined data, the champion, where all is from.

It lies in the folder of the improvement's search, which so needs the records no more.

| file | what |
|---|---|
| `about.json` | the champion, and each new image: its label, its use, when it came (`About`) |
| `entry.json`, `*.npy` | the data to search on (`trainables.datasets.joined`) |
| `met/` | the images that were set aside, likewise: to choose by as `val`, held out as `test` |
| `champion-DIGEST/` | the champion's checkpoint; none of a baseline |
"""

import json
import shutil
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Self

from search.feedback.learning.corrected import (
    CHOOSING,
    DOUBTED,
    HELD,
    TRAINED,
    Gathered,
    LeftOut,
    New,
    without_rows,
)
from search.feedback.learning.decision import alpha_of
from search.feedback.records import EARLIER, Correction
from trainables.config import DataConfig
from trainables.datasets.arrays import Dataset, Decoded, Part, joined
from trainables.disk import read_regular
from trainables.values import Json

FOLDER, ABOUT, MET = "joined", "about.json", "met"
VERSION = 1


@dataclass(frozen=True)
class Champion:
    """The model that is to be improved."""

    model: str
    """The name under which it is registered."""
    version: str
    """Its version there; empty where it is not registered yet."""
    search: str
    id: str
    """Its search's own."""
    trial: str


@dataclass(frozen=True)
class About:
    """The subject of an improvement: its champion, and the corrections that it learns from."""

    champion: Champion
    place: str
    """The place of the records."""
    images: tuple[Json, ...]
    """Each new image: its name, label and use, by whom and when it was corrected and met."""
    left_out: tuple[LeftOut, ...]
    suspected: float
    """The share of the corrections that is probably wrong."""
    warm_start: str
    """The champion's checkpoint, relative to the folder; empty of a baseline."""
    version: int = VERSION
    since_ms: int = 0
    """The Unix time in milliseconds from which on images are as they are expected to be."""

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read it from the folder of an improvement."""
        told = json.loads(read_regular(folder / ABOUT))
        return cls(
            **{
                **told,
                "champion": Champion(**told["champion"]),
                "images": tuple(told["images"]),
                "left_out": tuple(LeftOut(**one) for one in told["left_out"]),
            }
        )

    def count(self, use: str) -> int:
        """Return the number of new images of one use."""
        return sum(one["use"] == use for one in self.images)

    def fair(self) -> list[int]:
        """Return which of the held-out images, in their order, are fair to the champion."""
        held = [one for one in self.images if one["use"] == HELD]
        return [row for row, one in enumerate(held) if one.get("is_fair", False)]

    def alpha(self, decided: Mapping[str, Container[str]], own: str = "") -> float:
        """Return the error rate with which these tell that a challenger is better.

        Args:
            decided: the images by which each improvement has decided (`Records.decided`).
            own: the id of this one's search.
        """

        def is_new(one: Json) -> bool:
            by = {search for search, images in decided.items() if one["image"] in images}
            # What this improvement was the first to set aside has decided in no earlier one.
            return not by - {own, *([] if one["is_aside"] else [EARLIER])}

        held = [one for one in self.images if one["use"] == HELD]
        fair = [held[row] for row in self.fair()]
        return alpha_of(sum(map(is_new, fair)), len(fair))

    def is_as(self, other: "About") -> bool:
        """Return whether this is about the same champion and images."""

        def key(told: About) -> Json:
            names = ("image", "label", "use", "is_fair")
            images = [[one.get(name) for name in names] for one in told.images]
            return {**asdict(told), "images": images, "left_out": 0, "suspected": 0}

        return key(self) == key(other)


def origin(new: New) -> Json:
    """Return where a new image is from, as plain values."""
    return {
        name: getattr(new, name)
        for name in (
            *("image", "label", "use", "corrected_ms", "by", "seen_ms"),
            *("is_aside", "is_fair"),
        )
    }


def about(
    champion: Champion, place: str, gathered: Gathered, suspected: float, warm_start: str
) -> About:
    """Return what an improvement is about."""
    images = tuple(origin(one) for one in gathered.new)
    return About(champion, place, images, gathered.left_out, suspected, warm_start)


def write(
    folder: Path, told: About, dataset: Dataset, gathered: Gathered, checkpoint: Path
) -> None:
    """Write a new folder, whole or not at all."""
    from trainables.datasets.joined import write as write_data

    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    trained = gathered.part(TRAINED, dataset.classes)
    whole = joined(without_rows(dataset, gathered.replaced).train, trained)
    write_data(
        partial,
        Decoded(
            dataset.classes,
            whole,
            val=dataset.val,
            test=dataset.test,
            value_range=dataset.value_range,
        ),
    )
    aside = {use: gathered.part(use, dataset.classes) for use in (CHOOSING, HELD)}
    write_data(
        partial / MET, Decoded(dataset.classes, trained, val=aside[CHOOSING], test=aside[HELD])
    )
    if told.warm_start:
        shutil.copytree(checkpoint, partial / told.warm_start)
    (partial / ABOUT).write_text(json.dumps(asdict(told), indent=1), encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def joined_before(rounds: Sequence[About]) -> dict[str, str]:
    """Return the images that have joined in these rounds, the first first, with their labels."""
    return {
        one["image"]: one["label"]
        for told in rounds
        for one in told.images
        if one["use"] == TRAINED
    }


def doubted_before(rounds: Sequence[About], new: Sequence[New]) -> list[str]:
    """Return the new images whose corrections were doubted in one of these rounds.

    Those that were not doubted then have joined, and are no longer among the new ones.
    """
    doubted = set[Doubted]().union(*map(_doubted, rounds))
    return [
        image.image
        for image in new
        if image.use == TRAINED and _is_among(doubted, image, image.corrected_ms)
    ]


def unseen_corrections(about: About, corrections: Iterable[Correction]) -> list[Correction]:
    """Return the corrections that an improvement knew nothing of.

    One that it doubted is among them if it was made again since, also with the same label.
    """
    doubted = _doubted(about)
    labels = {(image["image"], image["label"]) for image in about.images}
    labels |= {(image.image, image.label) for image in about.left_out if image.why != DOUBTED}
    return [
        correction
        for correction in corrections
        if (correction.image, correction.label) not in labels
        and not _is_among(doubted, correction, correction.time_ms)
    ]


Doubted = tuple[str, str, int]
"""An image, its doubted label, and when it was corrected; 0 from earlier versions."""


def _doubted(about: About) -> set[Doubted]:
    return {
        (image.image, image.label, image.corrected_ms)
        for image in about.left_out
        if image.why == DOUBTED
    }


def _is_among(doubted: set[Doubted], image: New | Correction, corrected_ms: int) -> bool:
    return any((image.image, image.label, time_ms) in doubted for time_ms in (0, corrected_ms))


def aside(folder: Path) -> dict[str, Part]:
    """Return the images that were set aside, by their use."""
    from trainables.datasets.cache import read_entry

    found = read_entry(folder / MET)
    assert found.val is not None
    assert found.test is not None
    return {CHOOSING: found.val, HELD: found.test}


def data_config(config: DataConfig, folder: Path, validation: int) -> DataConfig:
    """Return the config of the joined data, given the champion's and its validation images."""
    plain = DataConfig()
    return replace(
        config,
        name="joined",
        root=str(folder.absolute()),
        image_size=None,
        train_limit=None,
        val_limit=max(config.val_limit, validation),
        val_fraction=plain.val_fraction,
        test_fraction=plain.test_fraction,
    )


def listed(left_out: Sequence[LeftOut], most: int = 10) -> list[str]:
    """Return images that are left out, a line each, and how many more there are."""
    more = [f"and {len(left_out) - most:,} more"] if len(left_out) > most else []
    return [*map(str, left_out[:most]), *more]
