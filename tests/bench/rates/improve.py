"""`search.improve`: how often equals are called better, right corrections refused, the first lost.

Models are scores of made-up images: what both see of an image is shared, the rest is each one's
own. Equals are drawn alike. Labels are given in the orders in which people give them. All that
decides is the product's own code.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
from numpy.typing import NDArray

from search.feedback.bounded import UNCERTAIN, USUAL
from search.feedback.fair_sample import fair_sample
from search.feedback.learning.corrected import HELD_OUT, MIN_NEW_IMAGES, USE_SHARES
from search.feedback.learning.decision import (
    CHAMPION,
    MARGIN,
    Decision,
    FirstChampion,
    ScoredChallenger,
)
from search.feedback.learning.examined import MAX_SUSPECTED
from search.feedback.learning.joining import ChampionIdentity, ImprovementInfo
from search.feedback.learning.paired import (
    ALPHA,
    POWER,
    PairedComparison,
    images_needed,
    required_test_images,
)
from search.feedback.recorder import RecordingPolicy
from search.feedback.records import EARLIER, Correction, RecordedAnswer
from tests.bench.rates.case import Case, Promise
from trainables.label_errors.doubts import SURE_GAIN, doubts

FEATURE = "search.improve"
EQUALS = Promise("error rate", ALPHA)
FOUND = Promise("power", POWER)
ROUNDS = 10
SHARED = 0.7
"""The share of a score's variance that both models see alike."""
Floats = NDArray[np.float64]
Events = Mapping[str, bool | None]


@dataclass(frozen=True)
class Kind:
    """Images, models, and how people correct them."""

    classes: int
    accuracy: float
    images: int
    order: str
    """How people label: `hash` and `margin` as `search.label` shows images now and showed them,
    `mistakes` of the champion alone, by a program.
    """
    labelled: float = 1.0
    """The share of what was kept that is labelled."""
    share: float = 1.0
    """The server's `--record-share`."""
    confidence: float = 1.0
    """By what the scores are multiplied: above 1 the models are overconfident."""
    visitors: float = 0.0
    """The share of the champion's mistakes on kept images that visitors of the page correct."""


@lru_cache
def signal_of(classes: int, accuracy: float) -> float:
    """Return the score of the right class with which a model is right so often."""
    noise = np.random.default_rng(0).normal(size=(20_000, classes))
    ahead = noise[:, 1:].max(axis=1) - noise[:, 0]
    return float(np.quantile(ahead, accuracy))


def scores_of(kind: Kind, generator: np.random.Generator) -> tuple[Floats, Floats]:
    """Return the scores of champion and challenger, of which those of class 0 are right."""
    shape = kind.images, kind.classes
    shared = SHARED**0.5 * generator.normal(size=shape)
    made = [shared + (1 - SHARED) ** 0.5 * generator.normal(size=shape) for _ in range(2)]
    for scores in made:
        scores[:, 0] += signal_of(kind.classes, kind.accuracy)
    return made[0], made[1]


def names_of(count: int, generator: np.random.Generator) -> list[str]:
    """Return names of images, as their hashes are."""
    names = generator.bytes(32 * count).hex()
    return [names[64 * row : 64 * (row + 1)] for row in range(count)]


def labelled_by(
    kind: Kind, answers: list[RecordedAnswer], generator: np.random.Generator
) -> list[str]:
    """Return the images that people have labelled."""
    kept = [one for one in answers if one.kept]
    if kind.order == "mistakes":
        return [one.image for one in kept if one.probabilities[0] < max(one.probabilities)]
    ranked = np.sort(np.array([one.probabilities for one in kept]), axis=1)
    least = [kept[row].image for row in np.argsort(ranked[:, -1] - ranked[:, -2])]
    count = round(kind.labelled * len(kept))
    if kind.order == "margin":
        return least[:count]
    last = max((one.image for one in kept if one.kept == USUAL), default="")
    unsure = {one.image for one in kept if one.kept == UNCERTAIN}
    turns = [[one for one in least if one in unsure], sorted(one for one in least if one <= last)]
    places: dict[str, int] = {}
    for turn in turns:
        for place, image in enumerate(turn):
            places[image] = min(place, places.get(image, place))
    shown = sorted(places, key=lambda image: (places[image], image))
    return [*shown, *sorted(set(least) - places.keys())][:count]


def fair_of(kind: Kind, champion: Floats, generator: np.random.Generator) -> NDArray[np.bool_]:
    """Return which images are held out and fair to the champion."""
    scores = kind.confidence * champion
    raised = np.exp(scores - scores.max(axis=1, keepdims=True))
    chances = raised / raised.sum(axis=1, keepdims=True)
    names, keeping = names_of(kind.images, generator), RecordingPolicy(share=kind.share)
    answers = [
        RecordedAnswer(
            str(row),
            row,
            name,
            "1",
            tuple(chances[row]),
            keeping.reason_to_record(name, chances[row]),
        )
        for row, name in enumerate(names)
    ]
    by = "api" if kind.order == "mistakes" else "label"
    corrections = {
        answer.image: Correction(answer.image, "0", 1, "page")
        for answer in answers
        if answer.kept
        and answer.probabilities[0] < max(answer.probabilities)
        and generator.random() < kind.visitors
    }
    # What visitors have corrected is not shown again.
    shown = [answer for answer in answers if answer.image not in corrections]
    for image in labelled_by(kind, shown, generator):
        corrections[image] = Correction(image, "0", 1, by)
    fair = fair_sample(answers, corrections)
    is_held = generator.random(kind.images) < USE_SHARES[HELD_OUT]
    found: NDArray[np.bool_] = is_held & np.array([name in fair for name in names])
    return found


def decision_of(
    new: PairedComparison,
    old: PairedComparison,
    *,
    alpha: float = ALPHA,
    first: FirstChampion | None = None,
) -> Decision:
    """Return the product's decision on these comparisons."""
    return Decision(
        *("t1", (ScoredChallenger("t1", 0.0, 0.0),), new, old, 0.5, 0.5, MARGIN, 1.0, 1.0, alpha),
        fair=new.images,
        is_fair=new.images >= MIN_NEW_IMAGES[HELD_OUT],
        first=first,
    )


def equals(kind: Kind, generator: np.random.Generator) -> Events:
    """Play a challenger that is as good as the champion."""
    champion, challenger = scores_of(kind, generator)
    rows = fair_of(kind, champion, generator)
    rights = [one[rows].argmax(axis=1) == 0 for one in (champion, challenger)]
    found = decision_of(PairedComparison.of(rights[0], rights[1]), PairedComparison(1, 0, 0))
    return {"called better": found.is_better if found.is_fair else None}


def about(images: list[str], *, is_aside: bool) -> ImprovementInfo:
    """Return an improvement with these images held out."""
    facts = tuple(
        {"image": one, "label": "0", "use": HELD_OUT, "is_aside": is_aside, "is_fair": True}
        for one in images
    )
    return ImprovementInfo(ChampionIdentity("m", "1", "s", "1d", "t1"), "met", facts, (), 0.0, "")


def differing(
    images: int, share: float, difference: float, generator: np.random.Generator
) -> PairedComparison:
    """Return a comparison on images on which two models differ in this share."""
    gained = (share + difference) / 2
    drawn = generator.multinomial(images, [gained, share - gained, 1 - share])
    return PairedComparison(images, int(drawn[0]), int(drawn[1]))


def after_a_deleted_one(difference: float, generator: np.random.Generator) -> Events:
    """Play what comes after an improvement that was deleted before it had decided."""
    count = images_needed(difference or 0.1, 0.25)
    told = about([str(row) for row in range(count)], is_aside=True)
    alpha = told.alpha({EARLIER: set()}, "2d")
    new = differing(count, 0.25, difference, generator)
    return {"called better": decision_of(new, PairedComparison(1, 0, 0), alpha=alpha).is_better}


def round_by_round(each: int, generator: np.random.Generator) -> Events:
    """Play rounds with as many new images each, and all that were held out before."""
    images: list[str] = []
    decided: dict[str, set[str]] = {EARLIER: set()}
    rights = np.empty((0, 2), np.bool_)
    for number in range(ROUNDS):
        facts = about([*images], is_aside=True).images
        images += [f"{number}-{row}" for row in range(each)]
        new = about(images[len(facts) :], is_aside=False).images
        told = ImprovementInfo(
            ChampionIdentity("m", "1", "s", "1d", "t1"), "met", (*facts, *new), (), 0.0, ""
        )
        # The champion stays, and another challenger is as good.
        rights = np.concatenate([rights, generator.random((each, 2)) < 0.7])
        rights[:, 1] = np.where(
            generator.random(len(rights)) < 0.5,
            rights[:, 0],
            generator.random(len(rights)) < 0.7,
        )
        alpha = told.alpha(decided, str(number))
        new_images = PairedComparison.of(rights[:, 0], rights[:, 1])
        if decision_of(new_images, PairedComparison(1, 0, 0), alpha=alpha).is_better:
            return {"ever called better": True}
        decided[str(number)] = set(images)
    return {"ever called better": False}


def beside_the_first(
    tests: int, accuracy: float, lost: float, generator: np.random.Generator
) -> Events:
    """Play rounds in which each challenger is a little worse on the old images."""
    first = generator.random(tests) < accuracy
    champion, known = first, accuracy
    for _ in range(ROUNDS):
        # It forgets some and learns others, so that it is right on `lost` less of all images.
        learns = 0.2
        forgets = (learns * (1 - known) + lost) / known
        draws = generator.random(tests)
        challenger = np.where(champion, draws >= forgets, draws < learns)
        found = decision_of(
            PairedComparison(100, 60, 10),  # on the new images each is better, beyond doubt
            PairedComparison.of(champion, challenger),
            first=FirstChampion("t1", PairedComparison.of(first, challenger), float(first.mean())),
        )
        if found.outcome == CHAMPION:
            champion, known = challenger, known - lost
    return {"lost more than twice the margin": known < accuracy - 2 * MARGIN - 1e-9}


def not_worse(tests: int, share: float, generator: np.random.Generator) -> Events:
    """Play a challenger that is worse by a little more than the margin.

    By exactly the margin the test is as often wrong as promised, and the bench could not tell.
    """
    worse = differing(tests, share, -1.1 * MARGIN, generator)
    return {"called not worse": decision_of(PairedComparison(10, 5, 0), worse).is_not_worse}


def equal_passes(share: float, generator: np.random.Generator) -> Events:
    """Play an equal challenger on as many test images as are said to be enough."""
    tests = required_test_images(MARGIN, share)
    found = decision_of(PairedComparison(10, 5, 0), differing(tests, share, 0.0, generator))
    return {"equal passes": found.is_not_worse}


def covers(images: int, share: float, difference: float, generator: np.random.Generator) -> Events:
    """Play the interval for the difference of two models."""
    compared = differing(images, share, difference, generator)
    facts = decision_of(compared, PairedComparison(1, 0, 0)).to_json()["new"]
    return {"interval": facts["low"] <= difference <= facts["high"]}


@dataclass(frozen=True)
class Corrections:
    """Corrections, all of them right."""

    classes: int
    images: int
    apart: float
    """How far apart the classes lie in what the champion's last layer sees."""
    is_even: bool = True
    only_mistakes: bool = False
    dimensions: int = 64


def refused(kind: Corrections, generator: np.random.Generator) -> Events:
    """Play corrections that are all right."""
    mix = None if kind.is_even else generator.dirichlet(np.full(kind.classes, 0.7))
    count = kind.images * (20 if kind.only_mistakes else 1)
    targets = generator.choice(kind.classes, count, p=mix)
    means = generator.normal(size=(kind.classes, kind.dimensions))
    means *= kind.apart / (2 * kind.dimensions) ** 0.5
    features = means[targets] + generator.normal(size=(count, kind.dimensions))
    if kind.only_mistakes:
        # The champion knows the classes less well than they lie apart.
        own = means + generator.normal(size=means.shape) / kind.dimensions**0.5 * kind.apart / 2
        said = (features @ own.T - (own**2).sum(axis=1) / 2).argmax(axis=1)
        rows = np.flatnonzero(said != targets)[: kind.images]
        features, targets = features[rows], targets[rows]
    labels = targets.astype(np.int64)
    found = doubts(features, labels, kind.classes, least_gain=SURE_GAIN)
    return {"right ones refused": found.share > MAX_SUSPECTED}


DECISIONS = (
    Kind(2, 0.9, 20, "hash"),
    Kind(2, 0.5, 100, "hash"),
    Kind(2, 0.7, 400, "hash"),
    Kind(2, 0.9, 400, "hash", 0.5, confidence=4),
    Kind(2, 0.99, 5000, "hash", 0.3, confidence=4),
    Kind(30, 0.5, 400, "hash", 0.7),
    Kind(2, 0.8, 800, "hash", 0.4, visitors=0.5),
    Kind(30, 0.7, 800, "hash", 0.7, visitors=0.8),
    Kind(30, 0.9, 5000, "hash", 0.5, 0.1, confidence=4),
    Kind(30, 0.99, 1000, "hash"),
    Kind(2, 0.7, 1000, "margin", 0.2, confidence=4),
    Kind(2, 0.9, 2000, "margin", 0.4, confidence=4),
    Kind(30, 0.7, 1000, "margin", 0.87, confidence=4),
    Kind(30, 0.9, 1000, "margin", 0.9, confidence=4),
    Kind(2, 0.7, 1000, "margin"),
    Kind(2, 0.5, 1000, "mistakes"),
    Kind(30, 0.5, 1000, "mistakes"),
)
CORRECTIONS = (
    Corrections(30, 60, 4),
    Corrections(30, 60, 8),
    Corrections(30, 120, 4),
    Corrections(30, 200, 6, is_even=False),
    Corrections(30, 400, 3),
    Corrections(10, 300, 4, only_mistakes=True),
    Corrections(10, 100, 2),
    Corrections(10, 300, 5),
    Corrections(2, 60, 1),
    Corrections(2, 60, 3, is_even=False),
    Corrections(2, 300, 1),
    Corrections(2, 300, 4, only_mistakes=True),
    Corrections(2, 1000, 2),
    Corrections(2, 300, 0),
    Corrections(2, 60, 0),
    Corrections(10, 300, 0.3),
    Corrections(2, 300, 0.3, dimensions=5),
)


def decisions() -> list[Case]:
    """Return the cases of the decision between equals."""
    promises = {"called better": EQUALS}
    found = [
        Case(
            FEATURE,
            f"equals, {kind.classes} classes, {kind.accuracy:g} right, {kind.images:,} images, "
            f"{100 * kind.labelled:g} % labelled by {kind.order}"
            + (", overconfident" if kind.confidence > 1 else "")
            + (", visitors correct mistakes" if kind.visitors else ""),
            promises,
            partial(equals, kind),
            # Of 20 images few plays have enough that are held out.
            4000 if kind.images == 20 else 500,
        )
        for kind in DECISIONS
    ]
    deleted = "after an improvement was deleted undecided"
    return [
        *found,
        Case(FEATURE, f"equals, {deleted}", promises, partial(after_a_deleted_one, 0.0), 3000),
        *(
            Case(
                FEATURE,
                f"{100 * better:g} points better, {deleted}, as many images as are asked for",
                {"called better": FOUND},
                partial(after_a_deleted_one, better),
            )
            for better in (0.05, 0.1)
        ),
        Case(
            FEATURE,
            f"equals, {ROUNDS} rounds with 50 more images each",
            {"ever called better": Promise("error rate", 0.1)},
            partial(round_by_round, 50),
            2000,
        ),
    ]


def comparisons() -> list[Case]:
    """Return the cases of the comparison on the old test images."""
    worse = {"called not worse": EQUALS}
    return [
        *(
            Case(
                FEATURE,
                f"worse by 1.1 points on {tests:,} test images, differing on {100 * share:g} %",
                worse,
                partial(not_worse, tests, share),
                5000,
            )
            for tests, share in ((300, 0.02), (1000, 0.02), (1000, 0.1), (5000, 0.05))
        ),
        *(
            Case(
                FEATURE,
                f"an equal that differs on {100 * share:g} % of as many test images as asked for",
                {"equal passes": FOUND},
                partial(equal_passes, share),
            )
            for share in (0.02, 0.05, 0.2)
        ),
        *(
            Case(
                FEATURE,
                f"the difference on {images:,} images, {100 * truly:g} points, differing on "
                f"{100 * share:g} %",
                {"interval": Promise("interval", 0.95)},
                partial(covers, images, share, truly),
                2000,
            )
            for images, share, truly in (
                (20, 0.3, 0.0),
                (20, 0.5, 0.3),
                (100, 0.1, 0.05),
                (400, 0.02, -0.01),
                (5000, 0.05, 0.01),
            )
        ),
        *(
            Case(
                FEATURE,
                f"{ROUNDS} rounds, each {100 * lost:.2g} points worse, {tests:,} test images, "
                f"{accuracy:g} right",
                {"lost more than twice the margin": Promise("error rate", ALPHA)},
                partial(beside_the_first, tests, accuracy, lost),
                500,
            )
            for tests, accuracy, lost in (
                (300, 0.95, 0.004),
                (1000, 0.5, 0.007),
                (1000, 0.9, 0.0102),
                (4000, 0.7, 0.0052),
                (4000, 0.9, 0.002),
                (10_000, 0.99, 0.003),
            )
        ),
    ]


def cases() -> list[Case]:
    """Return all cases of `search.improve`."""
    return [
        *decisions(),
        *comparisons(),
        *(
            Case(
                FEATURE,
                f"right corrections, {kind.classes} classes{'' if kind.is_even else ', uneven'}, "
                f"{kind.images:,} images, {kind.apart:g} apart"
                + (", the champion's mistakes alone" if kind.only_mistakes else ""),
                {"right ones refused": Promise("error rate", 0.05)},
                partial(refused, kind),
                300,
            )
            for kind in CORRECTIONS
        ),
    ]
