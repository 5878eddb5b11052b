"""What a model has met, as the tests take it: one version, each image once, a fair sample."""

from pathlib import Path

import numpy as np
import pytest

from search.feedback.monitoring.window import Window, sampled, window_of
from search.feedback.records import About, Records, Seen
from tests.search.feedback.monitoring.made_up import START_MS, made_reference, meet
from trainables.errors import ConfigError


@pytest.fixture
def records(tmp_path: Path) -> Records:
    return Records.at(tmp_path / "met")


def test_the_latest_version_counts_and_others_are_told(records: Records) -> None:
    meet(records, 30, version="1")
    later = meet(records, 20, version="2", seed=2, first_ms=START_MS + 100_000)
    found = window_of(records, made_reference())
    assert (found.version, found.answered, found.others) == ("2", 20, {"1": 30})
    assert [one.id for one in found.answers] == [one.id for one in later]
    assert window_of(records, made_reference(), version="1").answered == 30
    with pytest.raises(ConfigError, match=r"no answers by version '7' .* 1 \(30\), 2 \(20\)"):
        window_of(records, made_reference(), version="7")


def test_an_image_counts_once_however_often_it_is_sent(records: Records) -> None:
    seen = meet(records, 25)
    again = [
        Seen(f"again{row}", START_MS + 90_000, seen[0].image, "1", (1.0, 0.0, 0.0))
        for row in range(40)
    ]
    records.write_seen(again)
    found = window_of(records, made_reference())
    assert (found.answered, len(found.answers)) == (65, 25)
    assert found.answers[-1].id == "again39"


def test_what_was_met_before_a_time_is_left_out(records: Records) -> None:
    meet(records, 30)
    found = window_of(records, made_reference(), since_ms=START_MS + 10_000)
    assert found.answered == 20
    with pytest.raises(ConfigError, match="no answers in that time"):
        window_of(records, made_reference(), since_ms=START_MS + 10**9)


def test_images_of_which_uncertain_ones_are_kept_more_often_become_a_fair_sample() -> None:
    """By the recorder's rule: all uncertain ones, and a tenth of the others."""
    generator = np.random.default_rng(0)
    confidences = generator.uniform(0.34, 1, 4000)
    seen = [
        Seen(
            str(row),
            row,
            f"image{row}",
            "1",
            (value, 1 - value, 0.0),
            "uncertain" if value < 0.7 else "usual" if generator.random() < 0.1 else "",
        )
        for row, value in enumerate(np.maximum(confidences, 1 - confidences).tolist())
    ]
    names = sampled(seen, {one.image for one in seen})
    of = {one.image: max(one.probabilities) for one in seen}
    share = np.mean([value < 0.7 for value in of.values()])
    assert 200 < len(names) == len(set(names))
    assert abs(np.mean([of[name] < 0.7 for name in names]) - share) < 0.01
    few = [one.image for one in seen if one.kept == "uncertain"]
    assert sampled(seen, few) == []  # nothing is known of the others


def test_corrections_of_visitors_are_counted_apart(records: Records) -> None:
    meet(records, 30, corrected=4)
    meet(records, 30, corrected=3, by="page", seed=2)
    found = window_of(records, made_reference())
    assert (len(found.corrected), found.by_visitors) == (4, 3)


def test_images_are_read_as_the_model_saw_them_and_broken_ones_left_out(records: Records) -> None:
    seen = meet(records, 5)
    records.place.put(b"no image", f"images/{seen[0].image}")
    found = window_of(records, made_reference())
    assert sorted(one.name for one in found.sample) == sorted(one.image for one in seen[1:])
    assert {one.pixels.shape for one in found.sample} == {(12, 12, 1)}
    assert len(found.features) == 4


def test_other_classes_and_no_records_are_refused(records: Records) -> None:
    with pytest.raises(ConfigError, match="no records in"):
        window_of(records, made_reference())
    records.begin(About("models:/cars", ("fast", "slow")))
    with pytest.raises(ConfigError, match="the records of 'models:/cars', whose classes"):
        window_of(records, made_reference())


def test_the_confidence_below_which_all_is_kept_is_known_by_the_images_that_were() -> None:
    seen = [
        Seen("a", 1, "a", "1", (0.62, 0.38), "uncertain"),
        Seen("b", 2, "b", "1", (0.6912345, 0.3087655), "uncertain"),
        Seen("c", 3, "c", "1", (0.9, 0.1), "usual"),
    ]
    assert Window("1", seen, 3, {}, [], 0).unsure == 0.6912
    assert Window("1", seen[2:], 1, {}, [], 0).unsure is None
