"""A model that was improved, and what it meets before and after, played without any training.

Dark images are the hard ones, so that those that people correct look unlike the others; and the new
model is surer of what it was trained on, and always right.
"""

import hashlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cluster.storage.folder import objects
from search.feedback.bounded import UNCERTAIN, USUAL
from search.feedback.fair_sample import fair_sample
from search.feedback.learning.corrected import (
    HELD_OUT,
    TRAINING,
    CorrectedImages,
    NewImage,
    draw_use,
)
from search.feedback.learning.expected import expected_images, trained_image_names
from search.feedback.learning.joining import ChampionIdentity, improvement_info
from search.feedback.learning.paired import PairedComparison
from search.feedback.monitoring.window import Window, load_window
from search.feedback.records import DECIMALS, Correction, RecordedAnswer, Records, RecordsInfo
from trainables.datasets.arrays import SIXTEEN_BITS
from trainables.export.reference import Reference

CLASSES = ("cat", "dog", "fox")
SIDE = 8
BELOW, SHARE = 0.7, 0.4
"""The recorder's: all images below this confidence are kept, and this share of the others."""
CLEAN, ROUGH, ROUGHER = 12.0, 40.0, 60.0
"""The noise of the validation images, of what a model is improved for, and of a new change."""
ALL, MISTAKES = "all", "mistakes"
"""The images that people correct: all of the sample, or what they see to be wrong."""
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Images:
    """Images of one kind, with what the champion and its successor say of them."""

    pixels: NDArray[np.uint8]
    targets: NDArray[np.int64]
    champion: Values
    successor: Values

    @classmethod
    def made(
        cls,
        count: int,
        generator: np.random.Generator,
        noise: float,
        mix: Sequence[float] = (1 / 3, 1 / 3, 1 / 3),
        clear: float = 0.75,
    ) -> "Images":
        """Return so many, whose classes are in this mix.

        `clear` is how clearly the champion sees, beside its successor (1).
        """
        level = generator.uniform(70, 180, count)
        rough = generator.normal(0, noise, (count, SIDE, SIDE, 1))
        pixels = np.clip(level[:, None, None, None] + rough, 0, 255).astype(np.uint8)
        targets = generator.choice(len(CLASSES), count, p=mix)
        signal = 0.8 + 2 * (level - 70) / 110
        scores = generator.normal(0, 1, (count, len(CLASSES)))
        scores[np.arange(count), targets] += signal
        # The champion sees the same, less clearly. Both are right as often as they say.
        dim = clear * scores + np.sqrt(1 - clear**2) * generator.normal(0, 1, scores.shape)
        return cls(
            pixels,
            targets,
            _chances(clear * signal[:, None] * dim),
            _chances(signal[:, None] * scores),
        )

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def names(self) -> list[str]:
        """Their names among the records."""
        return [hashlib.sha256(one.tobytes()).hexdigest() for one in self.pixels]

    def taken(self, rows: NDArray[np.intp]) -> "Images":
        """Return these alone."""
        return Images(*(getattr(self, name)[rows] for name in vars(self)))

    def and_then(self, other: "Images") -> "Images":
        """Return these, and others behind them."""
        each = (
            np.concatenate([getattr(one, name) for one in (self, other)]) for name in vars(self)
        )
        return Images(*each)


def _chances(scores: Values) -> Values:
    raised = np.exp(scores - scores.max(axis=1, keepdims=True))
    found: Values = raised / raised.sum(axis=1, keepdims=True)
    return found


def _png(pixels: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0]).save(file, "PNG", compress_level=1)
    return file.getvalue()


class Remembered(Records):
    """Records in memory."""

    def __init__(self) -> None:
        super().__init__(objects(Path("nowhere")))
        self.answers: list[RecordedAnswer] = []
        self.content: dict[str, NDArray[np.uint8]] = {}
        self.told: dict[str, Correction] = {}

    @property
    def info(self) -> RecordsInfo:
        return RecordsInfo("models:/pets", CLASSES)

    def read_answers(self, since_ms: int = 0) -> Iterator[RecordedAnswer]:
        return (one for one in self.answers if one.time_ms >= since_ms)

    def image_sizes(self) -> dict[str, int]:
        return {name: pixels.size for name, pixels in self.content.items()}

    def image(self, name: str) -> bytes | None:
        return _png(self.content[name]) if name in self.content else None

    def corrections(self) -> dict[str, Correction]:
        return self.told

    def meet(self, images: Images, said: Values, version: str, first_ms: int = 1) -> list[str]:
        """Answer images as a recorder keeps that, a millisecond each; return their names."""
        names = images.names
        for row, name in enumerate(names):
            chances = tuple(round(float(one), DECIMALS) for one in said[row])
            usual = USUAL if int(name[:13], 16) < SHARE * 16**13 else ""
            kept = UNCERTAIN if max(chances) < BELOW else usual
            time_ms = first_ms + row
            self.answers.append(
                RecordedAnswer(f"{version}-{row}", time_ms, name, version, chances, kept)
            )
            if kept:
                self.content[name] = images.pixels[row]
        return names

    def correct_as(self, name: str, label: str, by: str) -> None:
        """Correct an image that is kept."""
        self.told[name] = Correction(name, label, 1, by)


@dataclass
class Play:
    """An improvement: its champion has met `before`, of which people have corrected some."""

    before: Images
    validation: Images
    corrected: str = ALL
    records: Remembered = field(default_factory=Remembered)
    least: float = 0.0
    """The standard errors by which the successor has to be better."""
    gathered: CorrectedImages = field(default_factory=lambda: CorrectedImages(()))
    """The images that it learns from."""
    trained: set[bytes] = field(default_factory=set)
    """The pixels of those that it was trained on."""

    def __post_init__(self) -> None:
        """Let the champion meet the images, and people correct them."""
        self.rows = {name: row for row, name in enumerate(self.before.names)}
        self.records.meet(self.before, self.before.champion, "1")
        is_wrong = self.before.champion.argmax(axis=1) != self.before.targets
        by = "label" if self.corrected == ALL else "page"
        for name in self.records.content:
            if self.corrected == ALL or is_wrong[self.rows[name]]:
                self.records.correct_as(name, CLASSES[self.before.targets[self.rows[name]]], by)
        fair = fair_sample(self.records.read_answers(), self.records.corrections())
        new = []
        for name, one in self.records.told.items():
            pixels = self.before.pixels[self.rows[name]]
            use = draw_use(pixels)
            new.append(NewImage(name, one.label, pixels, 1, by, 1, use, is_fair=name in fair))
            if use == TRAINING:
                self.trained.add(pixels.tobytes())
        self.gathered = CorrectedImages(tuple(new))

    def improved(self) -> Reference:
        """Return the successor's reference."""
        told = improvement_info(
            ChampionIdentity("pets", "1", "pets", "1d", "t1"), "met", self.gathered, 0.0, ""
        )
        own = self.validation
        held = Reference(CLASSES, (SIDE, SIDE, 1), SIXTEEN_BITS, own.targets, own.successor)
        known = {one.tobytes(): row for row, one in enumerate(self.before.pixels)}

        def predict(pixels: NDArray[np.uint8]) -> Values:
            return self.says(self.before.taken(np.array([known[one.tobytes()] for one in pixels])))

        met = expected_images(
            predict,
            *(
                held,
                self.records,
                told,
                self.gathered.part(HELD_OUT, CLASSES),
                trained_image_names([told]),
            ),
            until_ms=len(self.before),
            luck=self.decision().luck(self.least),
        )
        return replace(held, earlier=met)

    def decision(self) -> PairedComparison:
        """Return the champion and its successor on the fair images that were held out."""
        fair = [self.rows[one.image] for one in self.gathered.with_use(HELD_OUT) if one.is_fair]
        some = self.before.taken(np.array(fair, dtype=np.intp))
        rights = (said.argmax(axis=1) == some.targets for said in (some.champion, some.successor))
        return PairedComparison.of(*rights)

    def says(self, images: Images) -> Values:
        """Return the successor's probabilities."""
        said = images.successor.copy()
        for row, pixels in enumerate(images.pixels):
            if pixels.tobytes() in self.trained:
                said[row] = 0.02 + 0.94 * np.eye(len(CLASSES))[images.targets[row]]
        return said

    def meets(self, after: Images, reference: Reference, corrected: float = 0.0) -> Window:
        """Return the window of what the successor meets; a share of the kept is corrected."""
        names = self.records.meet(after, self.says(after), "2", 10**6)
        draw = np.random.default_rng(len(names))
        for row, name in enumerate(names):
            if name in self.records.content and draw.random() < corrected:
                self.records.correct_as(name, CLASSES[after.targets[row]], "label")
        return load_window(self.records, reference, version="2")
