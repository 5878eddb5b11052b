"""The folder of an improvement: the joined data, the champion, and the origin of each image.

It is inside the folder of the improvement's search, so the search does not need the records.

| file | content |
|---|---|
| `about.json` | the champion, and each new image: label, use, times (`ImprovementInfo`) |
| `entry.json`, `*.npy` | the data to search on (`trainables.datasets.joined`) |
| `met/` | the new images: for training (`train`), selection (`val`) and comparison (`test`) |
| `champion-DIGEST/` | the champion's checkpoint; none for a baseline |
"""

import json
import shutil
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Self

from search.feedback.learning.corrected import (
    HELD_OUT,
    PROBABLY_WRONG,
    SELECTION,
    TRAINING,
    CorrectedImages,
    ExcludedImage,
    NewImage,
    without_rows,
)
from search.feedback.learning.decision import round_alpha
from search.feedback.records import EARLIER, Correction
from trainables.config import DataConfig
from trainables.datasets.arrays import Dataset, Decoded, Part, join_parts
from trainables.disk import read_regular
from trainables.values import Json

FOLDER, INFO_FILE, NEW_DATA = "joined", "about.json", "met"
VERSION = 1


@dataclass(frozen=True)
class ChampionIdentity:
    """The model to improve, by its registered version and its trial."""

    model: str
    """The name under which challengers are registered; by default the champion's."""
    version: str
    """The champion's version in the registry; empty if the champion is not registered yet."""
    search: str
    id: str
    """The id of the champion's search."""
    trial: str


@dataclass(frozen=True)
class ImprovementInfo:
    """Description of an improvement: its champion, and the corrections that it learns from."""

    champion: ChampionIdentity
    place: str
    """The place of the records: a folder, or an address in a bucket."""
    images: tuple[Json, ...]
    """The descriptions of the new images (`image_origin`)."""
    left_out: tuple[ExcludedImage, ...]
    suspected: float
    """Share of the corrections that are probably wrong."""
    warm_start: str
    """The champion's checkpoint, relative to the folder; empty for a baseline."""
    version: int = VERSION
    since_ms: int = 0
    """Unix time in milliseconds. Images answered since then represent those that the new model will
    receive.
    """

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the info from the folder of an improvement."""
        document = json.loads(read_regular(folder / INFO_FILE))
        return cls(
            **{
                **document,
                "champion": ChampionIdentity(**document["champion"]),
                "images": tuple(document["images"]),
                "left_out": tuple(ExcludedImage(**excluded) for excluded in document["left_out"]),
            }
        )

    def count(self, use: str) -> int:
        """Count the new images that are used for one purpose, such as training."""
        return sum(image["use"] == use for image in self.images)

    def fair_rows(self) -> list[int]:
        """Rows of the held-out images that were chosen independently of the champion's answers."""
        held_out = [image for image in self.images if image["use"] == HELD_OUT]
        return [row for row, image in enumerate(held_out) if image.get("is_fair", False)]

    def alpha(self, deciding_images: Mapping[str, Container[str]], own: str = "") -> float:
        """Error rate of the test that a challenger is better on the fair held-out images.

        See `round_alpha`.

        Args:
            deciding_images: the images on which each improvement was decided
                (`Records.deciding_images`).
            own: the id of this improvement's search.
        """

        def is_new(image: Json) -> bool:
            by = {search for search, images in deciding_images.items() if image["image"] in images}
            # An image that was set aside by this improvement cannot have decided an earlier one.
            return not by - {own, *([] if image["is_aside"] else [EARLIER])}

        held_out = [image for image in self.images if image["use"] == HELD_OUT]
        fair_images = [held_out[row] for row in self.fair_rows()]
        return round_alpha(sum(map(is_new, fair_images)), len(fair_images))

    def is_same_as(self, other_info: "ImprovementInfo") -> bool:
        """True if both describe the same improvement.

        Images that are left out, `suspected`, and the times and sources of corrections may differ.
        """

        def key(info: ImprovementInfo) -> Json:
            names = ("image", "label", "use", "is_fair")
            images = [[image.get(name) for name in names] for image in info.images]
            return {**asdict(info), "images": images, "left_out": 0, "suspected": 0}

        return key(self) == key(other_info)


def image_origin(new: NewImage) -> Json:
    """Describe a new image without its pixels, as JSON-compatible values."""
    return {
        name: getattr(new, name)
        for name in (
            *("image", "label", "use", "corrected_ms", "by", "seen_ms"),
            *("is_aside", "is_fair"),
        )
    }


def improvement_info(
    champion: ChampionIdentity,
    place: str,
    corrected_images: CorrectedImages,
    suspected: float,
    warm_start: str,
) -> ImprovementInfo:
    """Build the description of an improvement; see the fields of `ImprovementInfo`."""
    images = tuple(image_origin(new_image) for new_image in corrected_images.new)
    return ImprovementInfo(
        champion, place, images, corrected_images.left_out, suspected, warm_start
    )


def write_folder(
    folder: Path,
    info: ImprovementInfo,
    dataset: Dataset,
    corrected_images: CorrectedImages,
    checkpoint: Path,
) -> None:
    """Write the folder of an improvement completely or not at all, replacing an existing one."""
    from trainables.datasets.joined import write as write_data

    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    new_training = corrected_images.part(TRAINING, dataset.classes)
    training = join_parts(without_rows(dataset, corrected_images.replaced).train, new_training)
    write_data(
        partial,
        Decoded(
            dataset.classes,
            training,
            val=dataset.val,
            test=dataset.test,
            value_range=dataset.value_range,
        ),
    )
    set_aside = {use: corrected_images.part(use, dataset.classes) for use in (SELECTION, HELD_OUT)}
    write_data(
        partial / NEW_DATA,
        Decoded(
            dataset.classes,
            new_training,
            val=set_aside[SELECTION],
            test=set_aside[HELD_OUT],
        ),
    )
    if info.warm_start:
        shutil.copytree(checkpoint, partial / info.warm_start)
    (partial / INFO_FILE).write_text(json.dumps(asdict(info), indent=1), encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def joined_labels(rounds: Sequence[ImprovementInfo]) -> dict[str, str]:
    """Labels of the images that joined the training set in these rounds, by image name.

    If an image joined in several rounds, the last label counts.
    """
    return {
        image["image"]: image["label"]
        for info in rounds
        for image in info.images
        if image["use"] == TRAINING
    }


def doubted_images(rounds: Sequence[ImprovementInfo], new_images: Sequence[NewImage]) -> list[str]:
    """List the names of the new training images whose corrections were doubted in these rounds.

    An image that was corrected again since then, even with the same label, is not listed.
    """
    doubted = set[Doubted]().union(*map(_doubted, rounds))
    return [
        image.image
        for image in new_images
        if image.use == TRAINING and _is_among(doubted, image, image.corrected_ms)
    ]


def unseen_corrections(
    info: ImprovementInfo, corrections: Iterable[Correction]
) -> list[Correction]:
    """List the corrections that an improvement has not used.

    A doubted correction is listed if it was repeated since then, even with the same label.
    """
    doubted = _doubted(info)
    labels = {(image["image"], image["label"]) for image in info.images}
    labels |= {(image.image, image.label) for image in info.left_out if image.why != PROBABLY_WRONG}
    return [
        correction
        for correction in corrections
        if (correction.image, correction.label) not in labels
        and not _is_among(doubted, correction, correction.time_ms)
    ]


Doubted = tuple[str, str, int]
"""An image, its doubted label, and the Unix time of the correction in milliseconds. The time is 0
if an earlier version of this program wrote the file.
"""


def _doubted(info: ImprovementInfo) -> set[Doubted]:
    return {
        (image.image, image.label, image.corrected_ms)
        for image in info.left_out
        if image.why == PROBABLY_WRONG
    }


def _is_among(doubted: set[Doubted], image: NewImage | Correction, corrected_ms: int) -> bool:
    return any((image.image, image.label, time_ms) in doubted for time_ms in (0, corrected_ms))


def load_set_aside(folder: Path) -> dict[str, Part]:
    """Load the images that were set aside from the folder of an improvement, by their use."""
    from trainables.datasets.cache import read_entry

    entry = read_entry(folder / NEW_DATA)
    assert entry.val is not None
    assert entry.test is not None
    return {SELECTION: entry.val, HELD_OUT: entry.test}


def joined_data_config(config: DataConfig, folder: Path, validation: int) -> DataConfig:
    """Build the config of the joined data from the champion's data config.

    Args:
        config: the champion's data config.
        folder: the folder of the joined data.
        validation: the number of the champion's validation images, all of which are used.
    """
    plain = DataConfig()
    return replace(
        config,
        name="joined",
        root=str(folder.absolute()),
        bucket="",
        image_size=None,
        train_limit=None,
        val_limit=max(config.val_limit, validation),
        val_fraction=plain.val_fraction,
        test_fraction=plain.test_fraction,
    )


def exclusion_lines(left_out: Sequence[ExcludedImage], most: int = 10) -> list[str]:
    """Format up to `most` excluded images in one line each; another line counts the others."""
    more = [f"and {len(left_out) - most:,} more"] if len(left_out) > most else []
    return [*map(str, left_out[:most]), *more]
