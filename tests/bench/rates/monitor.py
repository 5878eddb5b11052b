"""How often `search.monitor` raises a false alarm, and how often it detects what it says it would.

A made-up model answers images: its confidence is drawn, and it is right as often as that says, or
less often where it is overconfident. Its answers are recorded as a server records them, and people
correct the images that `search.label` shows, in its order.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cluster.storage.folder import objects
from search.feedback.bounded import UNCERTAIN, USUAL
from search.feedback.labelling import LabellingQueue
from search.feedback.monitoring.accuracy import DROP, Accuracy, AccuracyDetector
from search.feedback.monitoring.class_mix import ClassMixDetector
from search.feedback.monitoring.detector import Detector
from search.feedback.monitoring.findings import RATE, build_detectors, rate_per_test
from search.feedback.monitoring.held_to import MIN_TESTED
from search.feedback.monitoring.outputs import CHANGED_SHARE, OutputsDetector
from search.feedback.monitoring.window import Window, load_window
from search.feedback.records import DECIMALS, Correction, RecordedAnswer, Records, RecordsInfo
from tests.bench.rates.case import Case, Promise
from tests.support.improved import ALL, CLEAN, ROUGH, Images, Play
from trainables.datasets.arrays import SIXTEEN_BITS
from trainables.export.reference import Reference

FEATURE = "search.monitor"
BELOW = 0.7
"""All images of a confidence below that are recorded."""
Values = NDArray[np.float64]
FALSE_ALARM = Promise("error rate", RATE)
INTERVAL = Promise("interval", 0.95)
POWER = Promise("power", 0.8)
SHARE_OF_RATE = rate_per_test(RATE, 3)
"""Of each of the three tests."""
PROMISES = {
    "false alarm": FALSE_ALARM,
    "a class marked as changed": FALSE_ALARM,
    "accuracy's interval": INTERVAL,
    "all classes' intervals": INTERVAL,
}


@dataclass(frozen=True)
class Model:
    """A made-up classifier."""

    classes: int = 2
    accuracy: float = 0.9
    is_unequal: bool = False
    """True if each class has half of the images that the one before has."""
    overconfident: float = 1.0
    """Above 1 if its stated confidence is higher than it is right."""

    @property
    def mix(self) -> Values:
        """The share of each class among images."""
        shares = 0.5 ** np.minimum(np.arange(self.classes), 7) if self.is_unequal else 1.0
        weights = np.ones(self.classes) * shares
        mix: Values = weights / weights.sum()
        return mix

    @property
    def named(self) -> Values:
        """The share of the images for which each class is named."""
        wrong = self.mix / (1 - self.mix)
        named: Values = self.accuracy * self.mix + (1 - self.accuracy) * self.mix * (
            wrong.sum() - wrong
        )
        return named

    def answer(
        self, count: int, generator: np.random.Generator
    ) -> tuple[NDArray[np.int64], Values]:
        """Draw classes, and the model's probabilities for images of them."""
        least = 1 / self.classes
        mean = min(max((self.accuracy - least) / (1 - least), 0.05), 0.98)
        chance = generator.beta(3 * mean, 3 * (1 - mean), count)
        confidence = least + (1 - least) * chance
        # As steep as a probability may be: of a calibrated model, right as often as it says.
        slope = min((1 - self.accuracy) / (1 - mean), self.accuracy / mean)
        right = generator.random(count) < self.accuracy + slope * (chance - mean)
        targets = generator.choice(self.classes, count, p=self.mix)
        others = self.mix[None] * (np.arange(self.classes) != targets[:, None])
        places = np.cumsum(others / others.sum(axis=1, keepdims=True), axis=1)
        wrong = (generator.random(count)[:, None] > places).sum(axis=1).clip(0, self.classes - 1)
        named = np.where(right, targets, wrong)
        stated = np.maximum(confidence ** (1 / self.overconfident), least + 1e-3)
        said = np.repeat((1 - stated)[:, None] / (self.classes - 1), self.classes, axis=1)
        said[np.arange(count), named] = stated
        return targets, said


class Remembered(Records):
    """Records in memory, of one model."""

    def __init__(self, classes: tuple[str, ...]) -> None:
        super().__init__(objects(Path("nowhere")))
        self.model, self.answers = RecordsInfo("models:/pets", classes), list[RecordedAnswer]()
        self.told: dict[str, Correction] = {}

    @property
    def info(self) -> RecordsInfo:
        return self.model

    def answer_objects(self) -> dict[str, int]:
        return {"1-made-up.jsonl": 1}

    def read_answers_in(self, name: str) -> list[RecordedAnswer]:
        return self.answers

    def read_answers(self, since_ms: int = 0) -> Iterator[RecordedAnswer]:
        return iter(self.answers)

    def image_sizes(self) -> dict[str, int]:
        return {one.image: 1 for one in self.answers if one.kept}

    def corrections(self) -> dict[str, Correction]:
        return self.told


@dataclass(frozen=True)
class Use:
    """A model in use, and what people correct."""

    model: Model = Model()
    reference: int = 400
    met: int = 400
    share: float = 0.3
    """The recorder's: the share of the usual images that is kept."""
    labelled: float = 0.5
    """The share of the kept images that is corrected, in the order of `search.label`."""
    visitors: float = 0.0
    """The share of the wrong answers on kept images that visitors of the page have corrected."""

    def made(self, generator: np.random.Generator) -> tuple[Reference, Window]:
        """Draw a reference and what the model has met since."""
        classes = tuple(f"class {number}" for number in range(self.model.classes))
        targets, said = self.model.answer(self.reference, generator)
        reference = Reference(classes, (12, 12, 1), SIXTEEN_BITS, targets, said)
        targets, said = self.model.answer(self.met, generator)
        records = Remembered(classes)
        known = {}
        names = generator.bytes(8 * self.met).hex()
        rounded, highest, named = said.round(DECIMALS), said.max(axis=1), said.argmax(axis=1)
        for row, chances in enumerate(rounded.tolist()):
            name = names[16 * row : 16 * (row + 1)]
            usual = USUAL if int(name[:13], 16) < self.share * 16**13 else ""
            kept = UNCERTAIN if highest[row] < BELOW else usual
            records.answers.append(RecordedAnswer(name, row, name, "1", tuple(chances), kept))
            known[name] = classes[targets[row]]
            wrong = kept and named[row] != targets[row]
            if wrong and generator.random() < self.visitors:
                records.told[name] = Correction(name, known[name], 1, "page")
        labelling = LabellingQueue(records, records.info)
        for item in labelling.next_items(round(self.labelled * len(records.image_sizes()))):
            records.told[item.image] = Correction(item.image, known[item.image], 1, "label")
        return reference, load_window(records, reference)

    def play(self, generator: np.random.Generator) -> Mapping[str, bool | None]:
        """Look once at a model for which nothing has changed."""
        reference, window = self.made(generator)
        return events(build_detectors(reference, window), window, self.model)


def events(
    detectors: list[Detector], window: Window, model: Model | None
) -> Mapping[str, bool | None]:
    """Say what a look at a model in use has stated wrongly."""
    rate = rate_per_test(RATE, max(1, len(detectors)))
    alarm = any(detector.p_value() <= rate for detector in detectors) if detectors else None
    shares = next((d.shares(rate) for d in detectors if isinstance(d, ClassMixDetector)), None)
    covers = is_inside = None
    if model is not None and shares is not None:
        covers = all(
            one.low <= true <= one.high for one, true in zip(shares, model.named, strict=True)
        )
    if model is not None and len(window.corrected) >= MIN_TESTED:
        found = Accuracy.of(window.right)
        is_inside = found.low <= model.accuracy <= found.high
    return {
        "false alarm": alarm,
        "a class marked as changed": None if shares is None else any(one.changed for one in shares),
        "accuracy's interval": is_inside,
        "all classes' intervals": covers,
    }


def sees_drop(
    model: Model, reference: int, generator: np.random.Generator
) -> Mapping[str, bool | None]:
    """Lower the accuracy as stated, and correct as many images as are said to be enough."""
    before = (generator.random(reference) < model.accuracy).astype(float)
    needed = AccuracyDetector(before, before[:0]).images_needed(SHARE_OF_RATE)
    if needed is None:
        return {"accuracy": None}
    now = generator.random(needed) < before.mean() - DROP
    return {"accuracy": AccuracyDetector(before, now).p_value() <= SHARE_OF_RATE}


def sees_class(
    model: Model, reference: int, generator: np.random.Generator
) -> Mapping[str, bool | None]:
    """Let the class that is named in the statement become as frequent as it says."""
    names = tuple(map(str, range(model.classes)))

    def answers(count: int, mix: Values) -> Values:
        said: Values = np.eye(model.classes)[generator.choice(model.classes, count, p=mix)]
        return said

    before, mix = answers(reference, model.named), model.named
    detector = ClassMixDetector(before, before[:0], names)
    needed = detector.images_needed(SHARE_OF_RATE)
    if needed is None:
        return {"class mix": None}
    number, _, after = detector.stated_change
    mix = mix * (1 - after) / (1 - mix[number])
    mix[number] = after
    found = ClassMixDetector(before, answers(needed, mix), names)
    return {"class mix": found.p_value() <= SHARE_OF_RATE}


def sees_outputs(
    model: Model, reference: int, generator: np.random.Generator
) -> Mapping[str, bool | None]:
    """Let the model answer a quarter of the images with less confidence than any before."""
    before = model.answer(reference, generator)[1]
    needed = OutputsDetector(before, before[:0]).images_needed(SHARE_OF_RATE)
    if needed is None:
        return {"outputs": None}
    now = model.answer(needed, generator)[1]
    now[generator.random(needed) < CHANGED_SHARE] = 0  # below any confidence
    return {"outputs": OutputsDetector(before, now).p_value() <= SHARE_OF_RATE}


def improved(clear: float, generator: np.random.Generator) -> Mapping[str, bool | None]:
    """Look at a model that was improved: chosen because it was better on the held-out images."""
    while True:
        before = Images.made(300, generator, ROUGH, clear=clear)
        improvement = Play(before, Images.made(400, generator, CLEAN), ALL, least=1.645)
        if improvement.decision().p_better <= 0.05:
            break
    reference = improvement.improved()
    window = improvement.meets(Images.made(200, generator, ROUGH), reference, 1.0)
    return events(build_detectors(reference, window), window, None)


MANY = Model(30, 0.9)
USES: dict[str, Use] = {
    "2 classes, accuracy 0.5, 100 images": Use(Model(2, 0.5), met=100, share=1.0, labelled=1.0),
    "2 classes, accuracy 0.9, 20 images": Use(met=20, share=1.0, labelled=1.0),
    "2 classes, accuracy 0.99, 20 of 20 validation images": Use(
        Model(2, 0.99), reference=20, met=60, share=1.0, labelled=1.0
    ),
    "2 classes, accuracy 0.99, 1,000 images": Use(Model(2, 0.99), 2000, 1000),
    "2 classes, accuracy 0.95, 5,000 images, unequal": Use(
        Model(2, 0.95, is_unequal=True), 2000, 5000, share=0.05
    ),
    "30 classes, accuracy 0.5, 1,000 images, two fifths labelled": Use(
        Model(30, 0.5), 1000, 1000, share=0.2, labelled=0.4
    ),
    "30 classes, accuracy 0.9, 400 images": Use(MANY),
    "30 classes, accuracy 0.99, 100 images, unequal": Use(
        Model(30, 0.99, is_unequal=True), 200, 100, share=1.0, labelled=1.0
    ),
    "30 classes, accuracy 0.8, 5,000 images, unequal": Use(
        Model(30, 0.8, is_unequal=True), 2000, 5000, share=0.05
    ),
    "10 classes, accuracy 0.8, overconfident, a fifth labelled": Use(
        Model(10, 0.8, overconfident=4), 1000, 1000, labelled=0.2
    ),
    "10 classes, accuracy 0.7, overconfident, half labelled": Use(
        Model(10, 0.7, overconfident=3), 400, 600, share=0.5
    ),
    "5 classes, accuracy 0.85, visitors correct mistakes": Use(
        Model(5, 0.85), 600, 1000, share=0.5, labelled=0.3, visitors=0.5
    ),
    "3 classes, accuracy 0.6, mostly unsure": Use(Model(3, 0.6), 500, 700, share=0.1),
}
POWERS = (
    (Model(2, 0.5), 2000),
    (Model(2, 0.8), 1000),
    (Model(2, 0.9, is_unequal=True), 500),
    (Model(2, 0.95), 2000),
    (Model(2, 0.99), 60),
    (Model(2, 0.99), 2000),
    (Model(5, 0.85, is_unequal=True), 700),
    (MANY, 2000),
    (Model(30, 0.99), 400),
    (Model(30, 0.6, is_unequal=True), 2000),
    (Model(10, 0.95, overconfident=4), 300),
)


def cases() -> list[Case]:
    """List the cases: nothing has changed, then what has."""
    unchanged = [Case(FEATURE, title, PROMISES, use.play, 500) for title, use in USES.items()]
    alarms = dict.fromkeys(("false alarm", "a class marked as changed"), FALSE_ALARM)
    unchanged += [
        Case(FEATURE, f"improved; {title}", alarms, partial(improved, clear), 400)
        for title, clear in (("a clear gain", 0.75), ("a small gain", 0.9))
    ]
    plays = {"accuracy": sees_drop, "class mix": sees_class, "outputs": sees_outputs}
    # The test of confidences hardly depends on the model; its power is slow to simulate.
    models = {"accuracy": POWERS, "class mix": POWERS, "outputs": POWERS[1::2]}
    powers = [
        Case(
            FEATURE,
            f"{_title(model)}, {count:,} before",
            {name: POWER},
            partial(make, model, count),
            250,
        )
        for name, make in plays.items()
        for model, count in models[name]
    ]
    return unchanged + powers


def _title(model: Model) -> str:
    """Name a model in a table."""
    parts = [f"{model.classes} classes", f"accuracy {model.accuracy:g}"]
    parts += ["unequal"] * model.is_unequal + ["overconfident"] * (model.overconfident > 1)
    return ", ".join(parts)
