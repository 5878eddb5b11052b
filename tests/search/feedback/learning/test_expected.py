"""What a model that was improved is expected to meet: which images, and which names."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from search.feedback.bounded import UNCERTAIN, USUAL
from search.feedback.learning.corrected import (
    ALREADY_KNOWN,
    CONTRADICTORY,
    HELD_OUT,
    PROBABLY_WRONG,
    SELECTION,
    SHOWS_TEST_IMAGE,
    TRAINING,
    CorrectedImages,
    ExcludedImage,
    NewImage,
)
from search.feedback.learning.expected import (
    champion_answers,
    complete_answers,
    fair_held_out,
    shared_luck,
    trained_image_names,
)
from search.feedback.learning.joining import ChampionIdentity, ImprovementInfo, improvement_info
from search.feedback.records import RecordedAnswer
from tests.support.improved import CLASSES, CLEAN, ROUGH, Images, Play, Remembered
from trainables.datasets.arrays import Part
from trainables.export import reference

PETS = ChampionIdentity("pets", "2", "pets", "1d", "t0001")


def answer(
    number: int, version: str = "2", confidence: float = 0.9, kept: str = USUAL
) -> RecordedAnswer:
    rest = (1 - confidence) / 2
    return RecordedAnswer(
        f"{version}-{number}", number, str(number), version, (confidence, rest, rest), kept
    )


def improvement(
    *uses: str, fair: bool = True, left_out: tuple[ExcludedImage, ...] = ()
) -> ImprovementInfo:
    """Return one of which the images are named by their numbers."""
    pixels: NDArray[np.uint8] = np.zeros((4, 4, 1), np.uint8)
    new = [
        NewImage(str(number), "cat", pixels, 1, "label", 1, use, is_fair=fair)
        for number, use in enumerate(uses)
    ]
    return improvement_info(PETS, "met", CorrectedImages(tuple(new), left_out), 0.0, "")


def held(count: int) -> Part:
    """Return images held out, each of its own brightness."""
    images = np.arange(count, dtype=np.uint8)[:, None, None, None]
    return Part(np.tile(images, (1, 4, 4, 1)), np.zeros(count, np.int64))


def brightness(part: Part) -> list[int]:
    return sorted(part.images[:, 0, 0, 0].tolist())


def test_answers_of_the_champion_count_until_the_improvement_began() -> None:
    records = Remembered()
    records.answers = [answer(number, "1" if number < 10 else "2") for number in range(40)]
    records.answers += [answer(50, "3")]
    found = champion_answers(records, improvement(), CLASSES, until_ms=29)
    assert [one.time_ms for one in found] == list(range(10, 30))
    told = replace(improvement(), since_ms=25)
    assert [one.time_ms for one in champion_answers(records, told, CLASSES, 29)] == list(
        range(25, 30)
    )
    # Of a champion that was served otherwise, the images are those that were met as well.
    told = replace(improvement(), champion=replace(PETS, version=""))
    assert {one.version for one in champion_answers(records, told, CLASSES, 5)} == {"1"}
    assert champion_answers(records, improvement(), ("a", "b"), 29) == []


def test_a_version_that_has_hardly_answered_yet_stands_for_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The images are those of the one that has answered most; none is left out of so many."""
    monkeypatch.setattr("search.feedback.learning.expected.MAX_ANSWERS", 10)
    records = Remembered()
    records.answers = [answer(number, "1") for number in range(60)]
    records.answers += [answer(number) for number in range(60, 79)]
    found = champion_answers(records, improvement(), CLASSES, until_ms=100)
    assert [one.time_ms for one in found] == list(range(60))
    records.answers += [answer(79)]
    found = champion_answers(records, improvement(), CLASSES, until_ms=100)
    assert [one.time_ms for one in found] == list(range(60, 80))


def test_images_of_a_time_of_which_many_are_gone_are_no_sample() -> None:
    """Those that nobody had corrected went first."""
    answers = [answer(number, kept=USUAL if number % 2 else "") for number in range(200)]
    names = [one.image for one in answers]
    assert complete_answers(answers, set(names)) == answers
    assert complete_answers(answers, {*names[:40], *names[100:]}) == answers[96:]
    few = set(names) - {"7", "151"}
    assert complete_answers(answers, few) == answers, "two were taken out by hand"
    assert list(complete_answers(answers, set())) == []


def test_the_fair_images_held_out_are_those_of_known_class() -> None:
    told = improvement(HELD_OUT, TRAINING, HELD_OUT, SELECTION, HELD_OUT)
    answers = [answer(number) for number in range(4)]
    # The fifth was not met in that time.
    assert brightness(fair_held_out(told, held(3), answers)[0]) == [0, 1]
    unfair = improvement(HELD_OUT, HELD_OUT, HELD_OUT, fair=False)
    assert len(fair_held_out(unfair, held(3), answers)[0]) == 0


def test_luck_is_that_of_the_images_on_which_the_champion_was_wrong() -> None:
    right, gained = np.array([True, True, True, False]), np.array([True, False, True, False])
    assert shared_luck(0.1, right, gained).tolist() == pytest.approx([0.2, 0, 0.2, 0])
    assert shared_luck(0.15, right, 0 * gained == 1).tolist() == pytest.approx([0.2] * 3 + [0])
    assert len(shared_luck(0.1, right[:0], gained[:0])) == 0


def test_where_no_unsure_ones_are_known_the_others_do_not_stand_for_all() -> None:
    told, sure = improvement(*[HELD_OUT] * 10), [answer(number) for number in range(90)]
    unsure = [answer(number, confidence=0.5, kept=UNCERTAIN) for number in range(100, 110)]
    assert len(fair_held_out(told, held(10), [*sure, *unsure])[0]) == 0
    # Of so few unsure ones none is expected among ten.
    assert len(fair_held_out(told, held(10), [*sure, *unsure[:1]])[0]) == 10
    known = [answer(0, confidence=0.5, kept=UNCERTAIN), *sure[1:]]
    assert len(fair_held_out(told, held(10), [*known, *unsure])[0]) == 10


def test_it_was_trained_on_what_joined_in_all_rounds_and_what_shows_that_again() -> None:
    reasons = (ALREADY_KNOWN, CONTRADICTORY, SHOWS_TEST_IMAGE, PROBABLY_WRONG)
    left_out = tuple(ExcludedImage(f"left out {why}", "cat", why) for why in reasons)
    first = improvement(TRAINING, HELD_OUT)
    second = improvement(HELD_OUT, HELD_OUT, TRAINING, left_out=left_out)
    found = trained_image_names([first, second])
    assert found == ["0", f"left out {ALREADY_KNOWN}", f"left out {CONTRADICTORY}", "2"]


def test_a_sample_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search.feedback.learning.expected.IMAGES", 100)
    generator = np.random.default_rng(0)
    play = Play(Images.made(400, generator, ROUGH), Images.made(30, generator, CLEAN))
    met = play.improved().earlier
    assert met is not None
    # Of the 100 those that their pixels keep from training.
    assert 20 < len(met.probabilities) < 70
    assert met.trained.dtype == np.dtype(f"S{reference.LETTERS}")
