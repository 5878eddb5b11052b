"""Suspicious labels, which a person checks; and the corrections that this leaves."""

from pathlib import Path

import pytest

from search.feedback.checking import CheckingQueue, SuspiciousImage
from search.feedback.records import NotRecorded
from trainables.datasets.corrections import LEAVE_OUT, read_corrections
from trainables.errors import ConfigError


@pytest.fixture
def queue(tmp_path: Path) -> CheckingQueue:
    (tmp_path / "pets").mkdir()
    images = [
        SuspiciousImage(f"cat/{number}.png", "cat", "dog", 0.9 - number / 10, (0.1, 0.9))
        for number in range(3)
    ]
    return CheckingQueue(tmp_path / "pets", ("cat", "dog"), images)


def names_of(queue: CheckingQueue) -> list[str]:
    return [queue.content(item.image).name for item in queue.next_items(9)]


def test_decisions_are_stored_next_to_the_folder(queue: CheckingQueue, tmp_path: Path) -> None:
    first, second, third = queue.next_items(9)
    assert (first.label, first.suggested, first.chance) == ("cat", "dog", 0.9)
    queue.correct(first.image, "dog")
    queue.correct(second.image, "cat")
    queue.correct(third.image, LEAVE_OUT)
    decisions = read_corrections(tmp_path / "pets.corrections.csv")
    assert {image: each.corrected for image, each in decisions.items()} == {
        "cat/0.png": "dog",
        "cat/1.png": "cat",
        "cat/2.png": LEAVE_OUT,
    }
    assert (queue.progress.here, queue.progress.left) == (3, 0)
    assert list((tmp_path / "pets").iterdir()) == []


def test_a_decision_is_taken_back(queue: CheckingQueue) -> None:
    first = queue.next_items(1)[0].image
    with pytest.raises(NotRecorded, match="nothing to undo"):
        queue.take_back(first)
    queue.correct(first, "dog")
    assert names_of(queue) == ["1.png", "2.png"]
    queue.take_back(first)
    assert names_of(queue) == ["0.png", "1.png", "2.png"]
    assert read_corrections(queue.corrections) == {}


def test_a_skipped_image_comes_last(queue: CheckingQueue) -> None:
    queue.skip(queue.next_items(1)[0].image)
    assert names_of(queue) == ["1.png", "2.png", "0.png"]


def test_unknown_classes_and_images_are_refused(queue: CheckingQueue, tmp_path: Path) -> None:
    first = queue.next_items(1)[0].image
    with pytest.raises(ConfigError, match="unknown class 'bird'"):
        queue.correct(first, "bird")
    with pytest.raises(NotRecorded, match="there is no image 'x' among the suspicious ones"):
        queue.content("x")
    with pytest.raises(ConfigError, match="none can be added"):
        queue.add_class("bird")
    with pytest.raises(ConfigError, match="the class 'leave out' has the name"):
        CheckingQueue(tmp_path, (LEAVE_OUT,), [])
    assert not queue.corrections.exists()
