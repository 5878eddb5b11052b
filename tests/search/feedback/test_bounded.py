"""Records that take no more than so many bytes: which images and answers go, and which stay."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.storage.bucket import Bucket
from search.feedback import bounded
from search.feedback.bounded import BoundedRecords
from search.feedback.records import RecordedAnswer, Records, RecordsInfo, image_name

ABOUT = RecordsInfo("models:/pets", ("cat", "dog"))
LIMIT = 13_400
SIZE = 1000
"""Bytes of an image, of which 10 fill three quarters of the limit."""
Opener = Callable[[], BoundedRecords]


def opener(place: Path | Bucket) -> Opener:
    """Return a function that opens the same place anew, as another process would."""
    Records.at(place).begin(ABOUT)
    return lambda: BoundedRecords(Records.at(place), LIMIT)


@pytest.fixture
def opened(tmp_path: Path) -> Opener:
    return opener(tmp_path / "met")


def image(number: int) -> bytes:
    return f"image {number} ".ljust(SIZE).encode()


def name(number: int) -> str:
    return image_name(image(number))


def seen(number: int, kept: str = "") -> RecordedAnswer:
    return RecordedAnswer(f"a{number}", number, name(number), "1", (0.5, 0.5), kept)


def keep(records: BoundedRecords, number: int, kept: str = "usual") -> bool:
    """Keep an image and say why."""
    is_kept = records.keep_image(name(number), image(number), kept, number)
    records.write_answers([seen(number, kept)])
    return is_kept


def kept(records: BoundedRecords) -> set[int]:
    names = records.records.image_sizes().keys()
    return {number for number in range(60) if name(number) in names}


def test_the_oldest_usual_images_go_before_uncertain_ones(opened: Opener) -> None:
    records = opened()
    for number in range(10):
        assert keep(records, number, "uncertain" if number < 3 else "usual")
    assert keep(records, 10)
    assert kept(records) == {0, 1, 2, *range(5, 11)}


def test_uncertain_images_go_when_there_are_no_others(opened: Opener) -> None:
    records = opened()
    for number in range(11):
        assert keep(records, number, "uncertain")
    assert kept(records) == set(range(2, 11))


def test_corrected_images_never_go_and_nothing_more_is_kept(opened: Opener) -> None:
    records = opened()
    fill_with_corrected(records)
    assert not keep(records, 10)
    assert kept(records) == set(range(10))


def fill_with_corrected(records: BoundedRecords) -> None:
    for number in range(10):
        keep(records, number)
        records.records.correct(name(number), "cat", "label")


@pytest.mark.parametrize("kind", ["folder", "bucket"])
def test_another_process_knows_what_was_kept_and_why(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str
) -> None:
    place = tmp_path / "met" if kind == "folder" else request.getfixturevalue("bucket")
    first, second = (opener(place)() for _ in range(2))
    for number in range(10):
        keep(first, number, "uncertain" if number < 3 else "usual")
    assert keep(second, 10)
    assert kept(first) == {0, 1, 2, *range(5, 11)}


def test_an_image_stays_that_is_corrected_while_room_is_made(
    opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    records, other = opened(), opened().records
    for number in range(10):
        keep(records, number)
    sort = BoundedRecords._eviction_order

    def corrected_meanwhile(self: BoundedRecords) -> list[str]:
        found = sort(self)
        other.correct(name(0), "cat", "label")
        return found

    monkeypatch.setattr(BoundedRecords, "_eviction_order", corrected_meanwhile)
    assert keep(records, 10)
    assert kept(records) == {0, *range(2, 11)}


def test_what_others_keep_counts_towards_the_limit(opened: Opener) -> None:
    processes = [opened() for _ in range(3)]
    for number in range(60):
        keep(processes[number % 3], number)
        assert len(kept(processes[0])) <= 10
    assert 59 in kept(processes[0])


def test_an_image_counts_once_and_by_its_last_sight(opened: Opener) -> None:
    records = opened()
    for number in range(10):
        keep(records, number)
    records.keep_image(name(0), image(0), "usual", 100)
    keep(records, 10)
    assert kept(records) == {0, *range(3, 11)}


def test_an_image_larger_than_all_removes_nothing(opened: Opener) -> None:
    records = opened()
    keep(records, 0)
    assert not records.keep_image("f" * 64, bytes(LIMIT), "uncertain", 1)
    assert kept(records) == {0}


def test_the_oldest_answers_go_but_for_those_on_images_that_are_kept(opened: Opener) -> None:
    records = opened()
    keep(records, 0)
    for number in range(1, 50):
        records.write_answers([seen(number)])
        assert sum(records.records.answer_objects().values()) <= LIMIT / 4
    numbers = [one.time_ms for one in records.records.read_answers()]
    assert numbers == [0, *range(numbers[1], 50)]
    assert numbers[1] > 25


def test_a_storage_that_removes_nothing_has_no_answer_twice(
    opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = opened()
    keep(records, 0)
    remove = Records.remove_answer_objects
    monkeypatch.setattr(Records, "remove_answer_objects", lambda *args: _refuse())
    number = 0
    with suppress(OSError):  # once there is no room for more
        for number in range(1, 50):
            records.write_answers([seen(number)])
    assert number < 49
    for _ in range(5):
        with pytest.raises(OSError, match="refused"):
            records.write_answers([seen(number)])
    monkeypatch.setattr(Records, "remove_answer_objects", remove)
    records.write_answers([seen(number)])
    numbers = [one.time_ms for one in records.records.read_answers()]
    assert numbers == [0, *range(numbers[1], number + 1)]


def _refuse() -> None:
    raise OSError("refused")


def test_a_place_that_was_full_is_tried_again_later(
    opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = opened()
    fill_with_corrected(records)
    assert not keep(records, 10)
    records.records.remove_images([name(0)])
    assert not keep(records, 11)
    monkeypatch.setattr(bounded.time, "monotonic", lambda: 1e12)
    assert keep(records, 12)


def test_where_a_clock_was_set_back_new_images_are_no_older_than_those_there(
    opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, later_ms = opened(), 10**14
    monkeypatch.setattr("search.feedback.records.now_ms", lambda: later_ms)
    for number in range(10):
        before.keep_image(name(number), image(number), "usual", later_ms - 10 + number)
        before.write_answers([replace(seen(number, "usual"), time_ms=later_ms - 10 + number)])
    monkeypatch.undo()
    after = opened()
    assert after.keep_image(name(10), image(10), "usual", 1)
    assert kept(after) == set(range(2, 11))
