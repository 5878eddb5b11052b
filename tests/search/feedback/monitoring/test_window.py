"""What a model has met, as the tests take it: one version, each image once, a fair sample."""

from pathlib import Path

import numpy as np
import pytest

from search.feedback.fair_sample import fair_sample
from search.feedback.monitoring.window import load_images, load_window, sample_names
from search.feedback.records import Correction, RecordedAnswer, Records, RecordsInfo
from tests.search.feedback.monitoring.made_up import START_MS, made_reference, meet
from trainables.errors import ConfigError


@pytest.fixture
def records(tmp_path: Path) -> Records:
    return Records.at(tmp_path / "met")


def test_the_latest_version_counts_and_others_are_told(records: Records) -> None:
    meet(records, 30, version="1")
    later = meet(records, 20, version="2", seed=2, first_ms=START_MS + 100_000)
    found = load_window(records, made_reference())
    assert (found.version, found.answer_count, found.other_versions) == ("2", 20, {"1": 30})
    assert [one.id for one in found.answers] == [one.id for one in later]
    assert load_window(records, made_reference(), version="1").answer_count == 30
    with pytest.raises(
        ConfigError, match=r"no answers by version '7'.* 1 \(30 answers\), 2 \(20 answers\)"
    ):
        load_window(records, made_reference(), version="7")


def test_an_image_counts_once_however_often_it_is_sent(records: Records) -> None:
    seen = meet(records, 25)
    again = [
        RecordedAnswer(f"again{row}", START_MS + 90_000, seen[0].image, "1", (1.0, 0.0, 0.0))
        for row in range(40)
    ]
    records.write_answers(again)
    found = load_window(records, made_reference())
    assert (found.answer_count, len(found.answers)) == (65, 25)
    assert found.answers[-1].id == "again39"


def test_what_was_met_before_a_time_is_left_out(records: Records) -> None:
    meet(records, 30)
    found = load_window(records, made_reference(), since_ms=START_MS + 10_000)
    assert found.answer_count == 20
    with pytest.raises(ConfigError, match="no answers in this period"):
        load_window(records, made_reference(), since_ms=START_MS + 10**9)


def test_images_of_which_uncertain_ones_are_kept_more_often_become_a_fair_sample() -> None:
    """By the recorder's rule: all uncertain ones, and a tenth of the others."""
    generator = np.random.default_rng(0)
    confidences = generator.uniform(0.34, 1, 4000)
    seen = [
        RecordedAnswer(
            str(row),
            row,
            f"image{row}",
            "1",
            (value, 1 - value, 0.0),
            "uncertain" if value < 0.7 else "usual" if generator.random() < 0.1 else "",
        )
        for row, value in enumerate(np.maximum(confidences, 1 - confidences).tolist())
    ]
    names = sample_names(seen, {one.image for one in seen})
    of = {one.image: max(one.probabilities) for one in seen}
    share = np.mean([value < 0.7 for value in of.values()])
    assert 200 < len(names) == len(set(names))
    assert abs(np.mean([of[name] < 0.7 for name in names]) - share) < 0.01
    few = [one.image for one in seen if one.kept == "uncertain"]
    assert sample_names(seen, few) == []  # nothing is known of the others


def test_corrections_outside_the_random_sample_are_counted_apart(records: Records) -> None:
    meet(records, 30, corrected=30)
    seen = meet(records, 30, seed=2)
    last = sorted(one.image for one in seen)[-3:]
    for name in last:
        records.correct(name, "cat", "label")
    found = load_window(records, made_reference())
    assert len(found.corrected) + found.unsampled == 33
    assert found.unsampled >= 3
    assert len(found.right) == len(found.corrected)


def answer(place: int, confidence: float, kept: str = "") -> RecordedAnswer:
    """Return an answer on the image of this place in the order of names."""
    kept = kept or ("usual" if confidence >= 0.7 else "uncertain")
    return RecordedAnswer(
        str(place), place, f"{place:03d}", "1", (confidence, 1 - confidence), kept
    )


def told(places: list[int], by: str = "label") -> dict[str, Correction]:
    return {f"{place:03d}": Correction(f"{place:03d}", "cat", 1, by) for place in places}


def sample_of(answers: list[RecordedAnswer], corrections: dict[str, Correction]) -> list[int]:
    return sorted(map(int, fair_sample(answers, corrections)))


def test_the_sample_ends_where_usual_images_are_not_corrected() -> None:
    """Above the last one that was shown only unsure ones are corrected: by their margin."""
    answers = [answer(place, 0.5 if place % 3 == 0 else 0.9) for place in range(60)]
    shown = list(range(30))
    unsure = list(range(30, 60, 3))
    assert sample_of(answers, told([*shown, *unsure])) == shown
    assert sample_of(answers, told([place for place in range(60) if place % 3 == 0])) == []


def test_of_unsure_images_alone_there_is_no_sample() -> None:
    answers = [answer(place, 0.5) for place in range(40)]
    assert sample_of(answers, told(list(range(40)))) == []


def test_a_few_that_were_skipped_are_no_end_and_many_are() -> None:
    answers = [answer(place, 0.9) for place in range(40)]
    assert len(sample_of(answers, told([place for place in range(40) if place % 20]))) == 38
    assert len(sample_of(answers, told([place for place in range(40) if place % 4]))) == 0
    assert len(sample_of(answers, told([place for place in range(40) if place % 4 != 3]))) == 3


def test_mistakes_that_visitors_tell_of_do_not_extend_the_sample_but_count_in_it() -> None:
    answers = [answer(place, 0.9) for place in range(50)]
    corrections = told([3, 40, 41, 42, 43], "page") | told([*range(3), *range(4, 40)])
    assert sample_of(answers, corrections) == list(range(40))


def test_images_are_read_as_the_model_saw_them_and_broken_ones_left_out(records: Records) -> None:
    seen = meet(records, 5)
    records.place.put(b"no image", f"images/{seen[0].image}")
    kept = load_images(records, made_reference(), [one.image for one in seen])
    assert [one.name for one in kept] == [one.image for one in seen[1:]]
    assert {one.pixels.shape for one in kept} == {(12, 12, 1)}


def test_other_classes_and_no_records_are_refused(records: Records) -> None:
    with pytest.raises(ConfigError, match="no records in"):
        load_window(records, made_reference())
    records.begin(RecordsInfo("models:/cars", ("fast", "slow")))
    with pytest.raises(ConfigError, match="the records of 'models:/cars', whose 2 classes differ"):
        load_window(records, made_reference())
