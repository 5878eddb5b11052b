"""Which corrected images may be learned from, and what for."""

import io
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from search.feedback.bounded import USUAL
from search.feedback.fair_sample import fair_sample
from search.feedback.learning.corrected import (
    ALREADY_KNOWN,
    CONTRADICTORY,
    HELD_OUT,
    NO_LONGER_STORED,
    PROBABLY_WRONG,
    SELECTION,
    SHOWS_TEST_IMAGE,
    SHOWS_VALIDATION_IMAGE,
    TRAINING,
    UNREADABLE,
    CorrectedImages,
    draw_use,
    read_corrected_images,
    set_aside_images,
    without_rows,
)
from search.feedback.records import Correction, RecordedAnswer, Records, RecordsInfo
from trainables.datasets.arrays import Dataset, Images, Part, join_parts
from trainables.datasets.images import decode

CLASSES = ("cat", "dog")
SIDE = 32


class Opened:
    """A model, as far as images are brought to its form."""

    def pixels(self, path: Path) -> Images:
        return decode(path, (SIDE, SIDE), "RGB")


def pictures(count: int, seed: int) -> Images:
    """Return pictures of which no two look alike, (count, 32, 32, 3)."""
    coarse = np.random.default_rng(seed).integers(0, 256, (count, 8, 8, 3)).astype(np.uint8)
    return np.stack([np.asarray(Image.fromarray(one).resize((SIDE, SIDE))) for one in coarse])


def part(count: int, seed: int) -> Part:
    return Part(pictures(count, seed), np.arange(count) % 2)


@pytest.fixture
def dataset() -> Dataset:
    return Dataset("pets", CLASSES, part(40, 1), part(10, 2), part(10, 3), "0" * 16)


@pytest.fixture
def records(tmp_path: Path) -> Records:
    made = Records.at(tmp_path / "met")
    made.begin(RecordsInfo("models:/pets", CLASSES))
    return made


def png(image: Images) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "png")
    return file.getvalue()


def nearly(image: Images) -> Images:
    """Return an image that differs a little in every pixel."""
    noise = np.random.default_rng(0).integers(-3, 4, image.shape)
    return np.clip(image.astype(int) + noise, 0, 255).astype(np.uint8)


def correct(records: Records, image: Images, label: str = "cat") -> str:
    return records.correct(records.keep_image(png(image)), label, "page").image


def gathered(records: Records, dataset: Dataset) -> CorrectedImages:
    return read_corrected_images(records, Opened(), dataset)  # type: ignore[arg-type]


def one_for(use: str, *, seed: int = 7) -> Images:
    """Return an image whose content is drawn for this use."""
    return next(image for image in pictures(60, seed) if draw_use(image) == use)


def test_images_are_drawn_for_each_use_in_its_share() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (3000, 2, 2, 1)).astype(np.uint8)
    uses = [draw_use(image) for image in noise]
    assert uses.count(HELD_OUT) / 3000 == pytest.approx(0.3, abs=0.03)
    assert uses.count(SELECTION) / 3000 == pytest.approx(0.15, abs=0.02)


def test_what_is_new_is_learned_from_and_its_origin_is_kept(
    records: Records, dataset: Dataset
) -> None:
    name = correct(records, pictures(1, 9)[0], "dog")
    records.write_answers(
        [
            RecordedAnswer("a", 5, name, "1", (0.9, 0.1)),
            RecordedAnswer("b", 9, name, "1", (0.9, 0.1)),
        ]
    )
    (new,) = gathered(records, dataset).new
    assert (new.image, new.label, new.by, new.seen_ms) == (name, "dog", "page", 5)
    assert new.corrected_ms > 5
    assert np.array_equal(new.pixels, pictures(1, 9)[0])


@pytest.mark.parametrize("change", [np.asarray, nearly, np.fliplr], ids=["same", "near", "mirror"])
def test_what_shows_a_test_or_a_validation_image_is_refused_by_name(
    records: Records, dataset: Dataset, change: object
) -> None:
    assert dataset.test is not None
    assert callable(change)
    test = correct(records, change(dataset.test.images[4]))
    val = correct(records, change(dataset.val.images[3]), "dog")
    found = gathered(records, dataset)
    assert found.new == ()
    assert [one.image for one in found.left_out_because(SHOWS_TEST_IMAGE)] == [test]
    assert [one.image for one in found.left_out_because(SHOWS_VALIDATION_IMAGE)] == [val]
    assert "shows a test image: test image 4 (cat)" in str(
        found.left_out_because(SHOWS_TEST_IMAGE)[0]
    )


def test_what_is_trained_on_already_adds_nothing(records: Records, dataset: Dataset) -> None:
    correct(records, nearly(dataset.train.images[2]), "cat")
    found = gathered(records, dataset)
    assert (found.new, [one.why for one in found.left_out]) == ((), [ALREADY_KNOWN])


def test_what_contradicts_the_training_part_is_told(records: Records, dataset: Dataset) -> None:
    correct(records, dataset.train.images[2], "dog")
    (told,) = gathered(records, dataset).left_out_because(CONTRADICTORY)
    assert "training image 2 (cat)" in str(told)


def test_an_image_that_came_twice_is_learned_from_once(records: Records, dataset: Dataset) -> None:
    image = pictures(1, 9)[0]
    first, again = correct(records, image), correct(records, nearly(image))
    found = gathered(records, dataset)
    assert [one.image for one in found.new] == [first]
    assert [one.image for one in found.left_out_because(ALREADY_KNOWN)] == [again]


def test_corrections_that_contradict_each_other_are_all_left_out(
    records: Records, dataset: Dataset
) -> None:
    image = pictures(1, 9)[0]
    names = [correct(records, image, "cat"), correct(records, nearly(image), "dog")]
    names.append(correct(records, nearly(nearly(image)), "cat"))
    found = gathered(records, dataset)
    assert found.new == ()
    assert sorted(one.image for one in found.left_out_because(CONTRADICTORY)) == sorted(names)


def sampled(count: int, *, sure: str = USUAL) -> list[RecordedAnswer]:
    return [RecordedAnswer(str(n), n, f"{n:02x}" * 32, "1", (0.9, 0.1), sure) for n in range(count)]


def said(images: Iterable[int], by: str) -> dict[str, Correction]:
    names = [f"{n:02x}" * 32 for n in images]
    return {name: Correction(name, "cat", 99, by) for name in names}


@pytest.mark.parametrize(
    ("by", "count", "fair"),
    [
        *(("api", 20, 20), ("api", 19, 19), ("page", 20, 0), ("label", 20, 20)),
        # Of a sample that is corrected in part those count up to which nearly all are.
        *(("label", 10, 9), ("page", 10, 0), ("api", 10, 9)),
    ],
)
def test_a_champion_is_judged_by_what_was_not_chosen_for_its_mistakes(
    by: str, count: int, fair: int
) -> None:
    answers = sampled(20)
    answers[0] = replace(answers[0], kept="uncertain")
    chosen = [*range(count - 1), 19]
    assert len(fair_sample(answers, said(chosen, by))) == fair


def test_of_the_unsure_ones_as_many_count_as_of_the_usual() -> None:
    unsure = sampled(20, sure="uncertain")
    answers = [*sampled(5), *unsure[5:]]
    assert fair_sample(answers, said(range(20), "api")) == set(said(range(5), "api"))


def test_what_was_shown_with_the_least_sure_ones_first_is_no_sample() -> None:
    """Half of the usual images were corrected, those that the model was least sure of."""
    generator = np.random.default_rng(0)
    sure = generator.uniform(0.7, 1, 200)
    answers = [
        RecordedAnswer(str(n), n, f"{n:02x}" * 32, "1", (float(sure[n]), 1 - float(sure[n])), USUAL)
        for n in range(200)
    ]
    least = said(np.argsort(sure)[:100].tolist(), "label")
    assert len(fair_sample(answers, least)) < 10
    in_order = said(range(100), "label")
    assert fair_sample(answers, in_order) == in_order.keys()


def test_images_met_after_a_sitting_are_no_gap_in_it() -> None:
    """Of 200 images half were met before a sitting that came to its end, half after it."""
    order = np.random.default_rng(0).permutation(200)
    met = {f"{n:02x}" * 32: int(time_ms) for n, time_ms in enumerate(order)}
    answers = [
        RecordedAnswer(str(n), met[name], name, "1", (0.9, 0.1), USUAL)
        for n, name in enumerate(met)
    ]
    before = {name for name, time_ms in met.items() if time_ms < 100}
    later = max(met, key=lambda name: met[name])
    corrections = {name: Correction(name, "cat", 99, "label") for name in (*before, later)}
    fair = fair_sample(answers, corrections)
    assert fair <= before
    assert len(fair) >= 95


def test_an_image_that_joined_with_a_wrong_label_is_learned_from_again(
    records: Records, dataset: Dataset
) -> None:
    image, other = one_for(TRAINING), one_for(TRAINING, seed=8)
    name, kept = correct(records, image, "cat"), correct(records, other, "dog")
    both = Part(np.stack([image, other]), np.array([0, 1]))
    now = replace(dataset, train=join_parts(dataset.train, both))
    before = {name: "cat", kept: "dog"}
    same = read_corrected_images(records, Opened(), now, before)  # type: ignore[arg-type]
    assert (same.new, same.replaced) == ((), ())
    records.correct(name, "dog", "label")
    found = read_corrected_images(records, Opened(), now, before)  # type: ignore[arg-type]
    assert [(one.image, one.label, one.use) for one in found.new] == [(name, "dog", TRAINING)]
    assert found.left_out_because(CONTRADICTORY) == []
    rest = without_rows(now, found.replaced).train
    assert len(rest) == 41
    assert not any(np.array_equal(image, one) for one in rest.images)


@pytest.mark.parametrize("use", [HELD_OUT, SELECTION])
def test_a_mirror_image_of_what_is_trained_on_judges_nothing(
    records: Records, dataset: Dataset, use: str
) -> None:
    old = next(image for image in dataset.train.images if draw_use(np.fliplr(image)) == use)
    new = next(
        image
        for image in pictures(200, 7)
        if draw_use(image) == TRAINING and draw_use(np.fliplr(image)) == use
    )
    kept = correct(records, new)
    for image in (old, new):
        correct(records, np.fliplr(image))
    found = gathered(records, dataset)
    assert [one.image for one in found.new] == [kept]
    assert [one.why for one in found.left_out] == [ALREADY_KNOWN] * 2


def test_what_was_set_aside_and_is_trained_on_now_judges_nothing(
    records: Records, dataset: Dataset
) -> None:
    image = one_for(HELD_OUT)
    name = correct(records, image)
    set_aside_images(records, gathered(records, dataset))
    now = replace(
        dataset, train=join_parts(dataset.train, Part(image[None], np.zeros(1, np.int64)))
    )
    found = gathered(records, now)
    assert (found.new, [one.image for one in found.left_out_because(ALREADY_KNOWN)]) == ((), [name])


def test_what_shows_an_image_set_aside_is_not_trained_on_though_that_was_taken_back(
    records: Records, dataset: Dataset
) -> None:
    image = one_for(HELD_OUT)
    name = correct(records, image)
    set_aside_images(records, gathered(records, dataset))
    records.take_back(name)
    again = correct(records, nearly(image))
    found = gathered(records, dataset)
    assert (found.new, [one.image for one in found.left_out_because(ALREADY_KNOWN)]) == (
        (),
        [again],
    )


def test_what_cannot_be_read_or_is_gone_is_told(records: Records, dataset: Dataset) -> None:
    broken = records.correct(records.keep_image(b"no image"), "cat", "page").image
    gone = correct(records, pictures(1, 9)[0])
    records.remove_images([gone])
    found = gathered(records, dataset)
    assert [one.image for one in found.left_out_because(UNREADABLE)] == [broken]
    assert "not an image" in str(found.left_out_because(UNREADABLE)[0])
    assert [one.image for one in found.left_out_because(NO_LONGER_STORED)] == [gone]


def test_what_is_held_out_stays_so_in_every_round(records: Records, dataset: Dataset) -> None:
    """Also once the records have removed it, and where it comes again nearly the same."""
    held, trained = one_for(HELD_OUT), one_for(TRAINING)
    names = [correct(records, held), correct(records, trained)]
    first = gathered(records, dataset)
    set_aside_images(records, first)
    records.remove_images(names)
    assert records.set_aside_uses() == {names[0]: HELD_OUT}
    again = next(
        image
        for step in range(1, 200)
        if draw_use(
            image := np.clip(held.astype(int) + step % 3 - 1 + (held > step), 0, 255).astype(
                np.uint8
            )
        )
        == TRAINING
    )
    nearly_held = correct(records, again)
    second = gathered(records, dataset)
    assert [(one.image, one.use, one.is_aside) for one in second.new] == [
        (names[0], HELD_OUT, True)
    ]
    assert [one.image for one in second.left_out_because(ALREADY_KNOWN)] == [nearly_held]
    assert np.array_equal(second.new[0].pixels, first.with_use(HELD_OUT)[0].pixels)


def test_doubted_images_are_left_out_the_likeliest_first(
    records: Records, dataset: Dataset
) -> None:
    names = [correct(records, image) for image in pictures(3, 9)]
    left = gathered(records, dataset).without_doubted(
        {names[2]: "97 % likely", names[0]: "60 % likely"}
    )
    assert [one.image for one in left.new] == [names[1]]
    assert [one.image for one in left.left_out_because(PROBABLY_WRONG)] == [names[2], names[0]]
