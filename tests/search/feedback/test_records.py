"""Records of what a model has met, in a folder and in a bucket."""

import json
import os
import stat
import time
from collections.abc import Callable
from dataclasses import asdict
from itertools import count
from pathlib import Path

import pytest

from cluster.storage.bucket import Bucket
from cluster.storage.folder import ObjectFolder
from search.feedback.records import (
    ANSWERS,
    EARLIER,
    Correction,
    NotRecorded,
    RecordedAnswer,
    Records,
    RecordsInfo,
    image_name,
)
from trainables.errors import ConfigError

PETS = RecordsInfo("models:/pets", ("cat", "dog"))
Reader = Callable[[], Records]


@pytest.fixture(params=["folder", "bucket"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Reader:
    """Return a function that opens the same place anew, as another process would."""
    place: Path | Bucket = tmp_path / "met"
    if request.param == "bucket":
        place = request.getfixturevalue("bucket")
    return lambda: Records.at(place)


def seen(number: int, **options: str) -> RecordedAnswer:
    return RecordedAnswer(f"a{number}", 1000 + number, "0" * 64, "3", (0.25, 0.75), **options)


def test_only_an_answer_that_was_withheld_has_a_reason_in_its_file(tmp_path: Path) -> None:
    """So that earlier versions can read the others."""
    records = Records.at(tmp_path)
    records.begin(PETS)
    records.write_answers([seen(1), seen(2, abstained="unlike")])
    (file,) = (tmp_path / ANSWERS).iterdir()
    assert ["abstained" in line for line in file.read_text().splitlines()] == [False, True]
    assert list(Records.at(tmp_path).read_answers()) == [seen(1), seen(2, abstained="unlike")]


def test_what_was_written_is_read_in_its_order(opened: Reader) -> None:
    records = opened()
    records.begin(PETS)
    records.write_answers([seen(1), seen(2, kept="usual")])
    records.write_answers([seen(3)])
    again = opened()
    assert again.info == PETS
    assert list(again.read_answers()) == [seen(1), seen(2, kept="usual"), seen(3)]
    assert list(again.read_answers(since_ms=1002)) == [seen(2, kept="usual"), seen(3)]


def test_a_place_without_records_has_none(opened: Reader) -> None:
    records = opened()
    assert records.info is None
    assert list(records.read_answers()) == []
    assert records.corrections() == {}
    assert records.image("0" * 64) is None


def test_an_image_is_kept_once_under_its_hash(opened: Reader) -> None:
    name = opened().keep_image(b"pixels")
    assert opened().keep_image(b"pixels") == name == image_name(b"pixels")
    assert opened().image_sizes() == {name: 6}
    assert opened().image(name) == b"pixels"
    opened().remove_images([name])
    assert opened().image(name) is None


def test_a_name_that_is_no_hash_leads_nowhere(opened: Reader) -> None:
    opened().begin(PETS)
    assert opened().image("../about.json") is None


def test_the_last_correction_of_an_image_counts(opened: Reader) -> None:
    records = opened()
    records.begin(PETS)
    name = records.keep_image(b"pixels")
    records.correct(name, "cat", "page")
    records.correct(name, "dog", "label")
    assert {image: one.label for image, one in opened().corrections().items()} == {name: "dog"}


def test_nobody_takes_back_what_another_said(opened: Reader) -> None:
    first, second = opened(), opened()
    first.begin(PETS)
    name = first.keep_image(b"pixels")
    first.correct(name, "cat", "label")
    second.correct(name, "dog", "label")
    now = first.take_back(name)
    assert now is not None
    assert now.label == opened().corrections()[name].label == "dog"
    with pytest.raises(NotRecorded, match="was not corrected in this session"):
        first.take_back(name)
    assert second.take_back(name) is None
    assert opened().corrections() == {}


def test_the_order_of_corrections_needs_no_clock(
    opened: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = count(9_000_000_000_000, -1_000_000_000)
    monkeypatch.setattr(time, "time_ns", lambda: next(times))
    first, second = opened(), opened()
    first.begin(PETS)
    name = first.keep_image(b"pixels")
    first.correct(name, "cat", "label")
    second.correct(name, "dog", "label")  # by a clock that is behind
    assert opened().corrections()[name].label == "dog"
    first.correct(name, "dog", "label")
    first.correct(name, "cat", "label")  # after the clock was set back
    assert opened().corrections()[name].label == "cat"
    now = first.take_back(name)
    assert now is not None
    assert now.label == "dog"


def test_corrections_of_earlier_versions_come_first(
    opened: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = opened()
    records.begin(PETS)
    name = records.keep_image(b"pixels")
    old = Correction(name, "cat", 9_000, "label")
    records.place.put(
        json.dumps(asdict(old)).encode(), "corrections/000000000009000-7.ab-000000.json"
    )
    monkeypatch.setattr(time, "time_ns", lambda: 1_000_000)
    records.correct(name, "dog", "label")
    assert opened().corrections()[name].label == "dog"


def test_what_has_decided_is_noted_by_search(opened: Reader) -> None:
    records = opened()
    records.set_aside("held", "a" * 64, b"pixels")
    # As an earlier version has left it: what was set aside may have decided.
    assert opened().deciding_images() == {EARLIER: {"a" * 64}}
    records.note_deciding_images(EARLIER, records.deciding_images()[EARLIER], new=True)
    records.set_aside("held", "b" * 64, b"pixels")
    records.note_deciding_images("1d", ["b" * 64])
    records.note_deciding_images(EARLIER, ["c" * 64], new=True)
    assert opened().deciding_images() == {EARLIER: {"a" * 64}, "1d": {"b" * 64}}


def test_a_correction_names_a_class_and_an_image_that_is_kept(opened: Reader) -> None:
    records = opened()
    records.begin(PETS)
    name = records.keep_image(b"pixels")
    with pytest.raises(ConfigError, match=r"unknown class 'horse'. Known: cat, dog"):
        records.correct(name, "horse", "page")
    with pytest.raises(ConfigError, match="there is no recorded image"):
        records.correct("1" * 64, "cat", "page")


def test_a_place_has_the_records_of_one_model(opened: Reader) -> None:
    opened().begin(PETS)
    opened().begin(PETS)
    with pytest.raises(ConfigError, match="contains the records of 'models:/pets'"):
        opened().begin(RecordsInfo("models:/cars", ("fast", "slow")))
    with pytest.raises(
        ConfigError, match="contains the records of 'models:/pets' with other classes"
    ):
        opened().begin(RecordsInfo("models:/pets", ("cat", "cow")))


def test_a_folder_with_records_is_for_its_owner_alone(tmp_path: Path) -> None:
    records = Records.at(tmp_path / "met")
    records.begin(PETS)
    name = records.keep_image(b"pixels")
    modes = [
        stat.S_IMODE((tmp_path / "met" / part).stat().st_mode)
        for part in ("", "images", f"images/{name}", "about.json")
    ]
    assert modes == [0o700, 0o700, 0o600, 0o600]


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[]", b'{"label": "cat"}', b"\n1\n"])
def test_what_is_damaged_is_named_once_and_left_out(
    opened: Reader, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    records = opened()
    records.begin(PETS)
    name = records.keep_image(b"pixels")
    records.correct(name, "cat", "page")
    records.write_answers([seen(1)])
    records.place.put(content, "corrections/1-x-1.json")
    records.place.put(content or b"{", "seen/1-x-1.jsonl")
    again = opened()
    for _ in range(2):
        assert {image: one.label for image, one in again.corrections().items()} == {name: "cat"}
        assert list(again.read_answers()) == [seen(1)]
    lines = capsys.readouterr().err.splitlines()
    assert [line.removeprefix(f"note: '{records.place}/") for line in lines] == [
        "corrections/1-x-1.json' is damaged and left out. Remove it.",
        "seen/1-x-1.jsonl' is damaged and left out. Remove it.",
    ]


def test_a_place_whose_owner_cannot_be_read_is_refused(opened: Reader) -> None:
    opened().begin(PETS)
    opened().place.put(b"", "about.json")
    with pytest.raises(ConfigError, match=r"about\.json' is damaged\. Remove this file"):
        opened().begin(PETS)


def test_what_a_folder_keeps_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The content is there before its name, and the name before anybody hears of it."""
    fsync, synced = os.fsync, list[str]()

    def note(descriptor: int) -> None:
        fsync(descriptor)
        synced.append("names" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "content")
        assert (tmp_path / "met" / "a").exists() == (synced[-1] == "names")

    monkeypatch.setattr(os, "fsync", note)
    ObjectFolder(tmp_path / "met").put(b"1", "a")
    assert synced == ["content", "names"]


def test_a_file_that_is_removed_meanwhile_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("gone", "here"):
        ObjectFolder(tmp_path).put(b"12", name)
    is_file = Path.is_file

    def removed(self: Path) -> bool:
        found = is_file(self)
        if self.name == "gone":
            self.unlink()
        return found

    monkeypatch.setattr(Path, "is_file", removed)
    assert ObjectFolder(tmp_path).sizes() == {"here": 2}


@pytest.mark.parametrize("stray", ["notes.txt", "Thumbs.db", "x-1.jsonl", "1-2/3-4.jsonl"])
def test_what_a_person_has_left_among_the_objects_is_not_looked_at(
    opened: Reader, stray: str
) -> None:
    records = opened()
    records.begin(PETS)
    records.write_answers([seen(1)])
    name = records.keep_image(b"image")
    for folder in ("seen", "images"):
        records.place.put(b"anything", f"{folder}/{stray}")
    assert [one.id for one in opened().read_answers()] == ["a1"]
    assert list(opened().image_sizes()) == [name]
    assert len(opened().answer_objects()) == 1


def test_answers_are_in_order_though_a_clock_was_set_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The version of the latest answer is the one that is watched."""
    clock = iter((5000, 2000, 1000))
    monkeypatch.setattr("search.feedback.records.now_ms", lambda: next(clock))
    for version in ("1", "2", "3"):
        records = Records.at(tmp_path)
        records.answer_objects()
        records.write_answers([RecordedAnswer("a", 0, "b" * 64, version, (1.0, 0.0))])
    assert [answer.version for answer in Records.at(tmp_path).read_answers()] == ["1", "2", "3"]
