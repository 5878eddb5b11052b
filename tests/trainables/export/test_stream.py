"""Many files through a model: their order, what cannot be read, and how much is held at once."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from trainables.errors import DataError
from trainables.export.model import AHEAD, Answer, answer_files


class Counting:
    """A model that answers with the number in a file's name, and says what it was given."""

    batch = 4

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.decoders: set[int] = set()

    def pixels(self, path: str) -> str:
        self.decoders.add(threading.get_ident())
        if path.startswith("bad"):
            raise DataError(f"'{path}': not an image.")
        if path.startswith("denied"):
            raise PermissionError("denied")
        return path

    def answers(self, images: list[Any]) -> list[Answer]:
        self.batches.append(len(images))
        return [Answer({"class": f"of {image}"}) for image in images]


@pytest.fixture
def model() -> Any:
    """A model that computes nothing."""
    return Counting()


def test_answers_come_in_the_order_of_the_files(model: Any) -> None:
    files = [str(number) for number in range(10)]
    found = list(answer_files(model, files, threads=3))
    assert [(one.file, one.values["class"]) for one in found] == [
        (file, f"of {file}") for file in files
    ]
    assert model.batches == [4, 4, 2]
    assert threading.get_ident() not in model.decoders


def test_what_cannot_be_read_is_answered_with_its_reason(model: Any) -> None:
    found = list(answer_files(model, ["1", "bad", "2", "denied"]))
    assert [(one.file, one.error) for one in found] == [
        ("1", ""),
        ("bad", "not an image"),
        ("2", ""),
        ("denied", "denied"),
    ]
    assert [one.values for one in found if one.error] == [{}, {}]


def test_no_more_is_read_ahead_than_the_model_needs(model: Any) -> None:
    taken: list[int] = []

    def endless() -> Iterator[str]:
        while True:
            taken.append(1)
            yield "file"

    found = answer_files(model, endless())
    assert next(found).file == "file"
    assert len(taken) <= (AHEAD + 1) * model.batch
    found.close()  # type: ignore[attr-defined]


def test_nothing_gives_nothing(model: Any) -> None:
    assert list(answer_files(model, [])) == []


def test_a_mistake_in_the_program_is_not_taken_for_a_bad_file(model: Any, tmp_path: Path) -> None:
    model.pixels = lambda path: 1 / 0
    with pytest.raises(ZeroDivisionError):
        list(answer_files(model, ["1"]))
