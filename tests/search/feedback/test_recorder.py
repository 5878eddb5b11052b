"""What a recorder keeps of answers, and what it costs them if the storage is slow or away."""

import errno
import io
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cluster.storage.bucket import Bucket
from cluster.storage.folder import ObjectFolder
from search.feedback import recorder
from search.feedback.bounded import RecordsFull
from search.feedback.observer import ServedAnswer
from search.feedback.recorder import Recorder, RecordingPolicy
from search.feedback.records import NotRecorded, Records, RecordsInfo, image_name
from trainables.errors import ConfigError

ABOUT = RecordsInfo("models:/pets", ("cat", "dog"))
SURE, UNSURE = (0.9, 0.1), (0.6, 0.4)
ALL, NONE = RecordingPolicy(share=1), RecordingPolicy(share=0)
Maker = Callable[..., Recorder]


def answered(number: int, chances: tuple[float, ...] = SURE, content: bytes = b"") -> ServedAnswer:
    return ServedAnswer(
        f"a{number}",
        content or f"image {number}".encode(),
        np.zeros((2, 3, 3), dtype=np.uint8),
        "3",
        np.array(chances, dtype=np.float32),
        1000 + number,
    )


@pytest.fixture(params=["folder", "bucket"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path | Bucket:
    found: Path | Bucket = tmp_path / "met"
    return request.getfixturevalue("bucket") if request.param == "bucket" else found


@pytest.fixture
def told() -> list[str]:
    """Return the lines that recorders say."""
    return []


@pytest.fixture
def record(told: list[str]) -> Iterator[Maker]:
    """Makes recorders, and closes them at the end."""
    made: list[Recorder] = []

    def make(place: Path | Bucket, keeping: RecordingPolicy = ALL, **options: Any) -> Recorder:
        made.append(Recorder(place, ABOUT, keeping, print_line=told.append, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_answers_are_kept_in_their_order_with_uncertain_images(
    place: Path | Bucket, record: Maker, told: list[str]
) -> None:
    made = record(place, NONE)
    made.observe([answered(1), answered(2, UNSURE)])
    made.observe([answered(3)])
    made.close()
    records = Records.at(place)
    assert records.info == ABOUT
    assert [(one.id, one.kept) for one in records.read_answers()] == [
        ("a1", ""),
        ("a2", "uncertain"),
        ("a3", ""),
    ]
    second = list(records.read_answers())[1]
    assert second.probabilities == (0.6, 0.4)
    assert (second.version, second.time_ms) == ("3", 1002)
    assert records.image(second.image) == b"image 2"
    assert len(records.image_sizes()) == 1
    assert told == []


def test_a_share_of_the_usual_images_is_kept_the_same_by_each_process() -> None:
    names = [image_name(str(number).encode()) for number in range(2000)]
    kept = [
        bool(RecordingPolicy(share=0.2).reason_to_record(name, np.array(SURE, np.float32)))
        for name in names
    ]
    assert 330 < sum(kept) < 470
    assert kept == [
        bool(RecordingPolicy(share=0.2).reason_to_record(name, np.array(SURE, np.float32)))
        for name in names
    ]
    assert {
        RecordingPolicy(share=1).reason_to_record(name, np.array(SURE, np.float32))
        for name in names
    } == {"usual"}
    assert {
        RecordingPolicy(share=0).reason_to_record(name, np.array(SURE, np.float32))
        for name in names
    } == {""}


def test_an_image_from_which_the_model_abstained_is_always_stored() -> None:
    policy = RecordingPolicy(share=0)
    assert (
        policy.reason_to_record("f" * 64, np.array(SURE, np.float32), abstained=True) == "uncertain"
    )


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_an_array_is_kept_as_png(tmp_path: Path, record: Maker, channels: int) -> None:
    pixels = np.arange(5 * 4 * channels, dtype=np.uint8).reshape(5, 4, channels)
    made = record(tmp_path / "met")
    made.observe([ServedAnswer("a", b"", pixels, "1", np.array(SURE, np.float32), 5)])
    made.close()
    (name,) = made.records.image_sizes()
    content = made.records.image(name)
    assert content is not None
    assert image_name(content) == name == next(made.records.read_answers()).image
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(content))).reshape(5, 4, -1), pixels)


def test_answers_are_written_when_there_are_enough(
    tmp_path: Path, record: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "ANSWERS_PER_OBJECT", 4)
    written = threading.Event()
    put = ObjectFolder.put

    def note(self: ObjectFolder, content: bytes, part: str = "", **options: Any) -> None:
        put(self, content, part, **options)
        if part.startswith("seen/"):
            written.set()

    monkeypatch.setattr(ObjectFolder, "put", note)
    made = record(tmp_path / "met", NONE, interval_s=3600)
    made.observe([answered(number) for number in range(4)])
    assert written.wait(600)
    assert len(list(made.records.read_answers())) == 4


def test_a_slow_storage_costs_records_and_no_answer(
    tmp_path: Path, record: Maker, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "MAX_QUEUED", 10)
    made = record(tmp_path / "met", NONE)
    may_write = threading.Event()
    write = made._bounded.write_answers
    monkeypatch.setattr(
        made._bounded, "write_answers", lambda seen: (may_write.wait(600), write(seen))
    )
    made.observe([answered(number) for number in range(15)])
    assert made.counts.lost == 5
    may_write.set()
    made.close()
    assert [one.id for one in made.records.read_answers()] == [f"a{number}" for number in range(10)]
    assert told == [
        f"answers arrive faster than '{tmp_path / 'met'}' can store them, so some are lost",
        "5 answers could not be recorded",
    ]


def test_a_storage_that_refuses_is_told_once_and_tried_again(
    tmp_path: Path, record: Maker, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    put, refusals = ObjectFolder.put, iter(range(3))

    def refuse(self: ObjectFolder, content: bytes, part: str = "", **options: Any) -> None:
        if part.startswith("seen/") and next(refusals, None) is not None:
            raise OSError(errno.ENOSPC, "No space left on device")
        put(self, content, part, **options)

    made = record(tmp_path / "met", interval_s=0.001)
    monkeypatch.setattr(ObjectFolder, "put", refuse)
    made.observe([answered(1), answered(2)])
    while made.counts.written < 2:
        threading.Event().wait(0.001)
    made.close()
    assert [one.id for one in made.records.read_answers()] == ["a1", "a2"]
    assert [line.partition(":")[0] for line in told] == [
        "answers cannot be recorded at the moment",
        "answers are recorded again",
    ]
    assert "No space left" in told[0]


def test_whatever_goes_wrong_once_the_next_is_recorded(
    tmp_path: Path, record: Maker, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = record(tmp_path / "met", NONE, interval_s=0.001)
    write, errors = made._bounded.write_answers, iter([ZeroDivisionError("division by zero")])

    def fail_once(seen: list[Any]) -> None:
        for error in errors:
            raise error
        write(seen)

    monkeypatch.setattr(made._bounded, "write_answers", fail_once)
    made.observe([answered(1)])
    while made._thread.is_alive() and not made.counts.written:
        threading.Event().wait(0.001)
    assert [one.id for one in made.records.read_answers()] == ["a1"]
    assert "cannot be recorded at the moment: division by zero" in told[0]


def test_what_is_unwritten_at_the_end_is_told(
    tmp_path: Path, record: Maker, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = record(tmp_path / "met", interval_s=3600)
    monkeypatch.setattr(ObjectFolder, "put", lambda *args, **options: _refuse())
    made.observe([answered(1)])
    made.close()
    assert told[-1] == "1 answer could not be recorded"


def _refuse() -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_corrected_image_is_kept_whatever_the_sample_says(
    place: Path | Bucket, record: Maker
) -> None:
    made = record(place, NONE)
    made.remember([answered(1)])
    said = made.correct("dog", "page", answer="a1")
    made.observe([answered(1)])
    made.close()
    records = Records.at(place)
    assert records.image(said.image) == b"image 1"
    assert {one.label for one in records.corrections().values()} == {"dog"}
    assert next(records.read_answers()).image == said.image


def test_an_image_that_is_kept_is_corrected_by_its_name(tmp_path: Path, record: Maker) -> None:
    made = record(tmp_path / "met")
    name = made.records.keep_image(b"image")
    assert made.correct("cat", "api", image=name).image == name


def test_an_answer_of_another_process_is_corrected_with_its_image(
    tmp_path: Path, record: Maker
) -> None:
    made = record(tmp_path / "met")
    with pytest.raises(NotRecorded, match="Send the image too"):
        made.correct("cat", "page", answer="elsewhere")
    said = made.correct("cat", "page", answer="elsewhere", content=b"image")
    assert made.records.image(said.image) == b"image"


def test_a_corrected_image_is_kept_again_if_somebody_removed_it(
    place: Path | Bucket, record: Maker
) -> None:
    made = record(place)
    name = made.correct("cat", "page", content=b"image").image
    Records.at(place).remove_images([name])
    made.correct("dog", "page", content=b"image")
    assert Records.at(place).image(name) == b"image"


def test_no_more_corrections_are_taken_than_a_place_may_have(
    place: Path | Bucket, record: Maker
) -> None:
    """Also of one image, and counting those of other processes; the labels of the owner remain."""
    made, second = (record(place, RecordingPolicy(share=1, corrections=5)) for _ in range(2))
    for label in ("cat", "dog", "cat"):
        made.correct(label, "api", content=b"image")
    for label in ("dog", "cat"):
        second.correct(label, "api", content=b"image")
    for full in (made, second):
        with pytest.raises(RecordsFull, match=r"5 corrections.* accepts at most 5.*--record-bytes"):
            full.correct("dog", "api", content=b"another")
    owner = Records.at(place)
    assert image_name(b"another") not in owner.image_sizes()
    owner.correct(image_name(b"image"), "dog", "label")
    assert owner.count_corrections() == 6


def test_a_correction_to_no_class_keeps_nothing(tmp_path: Path, record: Maker) -> None:
    made = record(tmp_path / "met", NONE)
    made.remember([answered(1)])
    with pytest.raises(ConfigError, match=r"unknown class 'cow'\. Known: cat, dog"):
        made.correct("cow", "page", answer="a1")
    assert made.records.image_sizes() == {}


def test_the_latest_images_alone_are_held(
    tmp_path: Path, record: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        recorder, "MAX_RECENT_BYTES", 3 * (recorder.ANSWER_OVERHEAD_BYTES + len(b"image 1"))
    )
    made = record(tmp_path / "met", NONE)
    made.remember([answered(number) for number in range(5)])
    assert list(made._recent.images) == ["a2", "a3", "a4"]


def test_a_place_full_of_corrections_is_told_once(
    tmp_path: Path, record: Maker, told: list[str]
) -> None:
    made = record(tmp_path / "met", RecordingPolicy(share=1, limit=4000))
    for number in range(3):
        made.correct("cat", "api", content=bytes([number]) * 950)
    made.observe([answered(number, content=bytes([number]) * 950) for number in (7, 8)])
    made.close()
    assert [one.kept for one in made.records.read_answers()] == ["", ""]
    assert len(told) == 1
    assert (
        "has no room for another image, because the corrected images fill its 4,000 bytes"
        in told[0]
    )
    with pytest.raises(RecordsFull, match="--record-bytes"):
        made.correct("cat", "api", content=b"9" * 950)


def test_the_records_of_another_model_are_refused(tmp_path: Path, record: Maker) -> None:
    Records.at(tmp_path / "met").begin(RecordsInfo("models:/cars", ("fast", "slow")))
    with pytest.raises(ConfigError, match="contains the records of 'models:/cars'"):
        record(tmp_path / "met")


def test_a_line_that_cannot_be_printed_costs_no_record(
    tmp_path: Path, record: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither stderr on a full disk nor one that nobody reads ends the recorder's thread."""
    lines = list[str]()

    def refuse(line: str) -> None:
        lines.append(line)
        raise OSError(errno.ENOSPC, "No space left on device")

    made = record(tmp_path / "met", NONE, interval_s=0.001)
    made._print_line = refuse
    write, errors = made._bounded.write_answers, iter([OSError(errno.EIO, "Input/output error")])

    def fail_once(seen: list[Any]) -> None:
        for error in errors:
            raise error
        write(seen)

    monkeypatch.setattr(made._bounded, "write_answers", fail_once)
    made.observe([answered(1)])
    made.close()
    if not made.counts.written:  # it was closed before the second try
        made._write_queued()
    assert [one.id for one in made.records.read_answers()] == ["a1"]
    assert "cannot be recorded at the moment" in lines[0]


def test_the_reason_why_nothing_is_recorded_is_known_until_it_is_over(
    tmp_path: Path, record: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = record(tmp_path / "met", NONE, interval_s=3600)
    assert made.problem == ""
    with monkeypatch.context() as full:
        full.setattr(ObjectFolder, "put", lambda *args, **options: _refuse())
        made.observe([answered(1)])
        with pytest.raises(OSError, match="No space left"):
            made._write_queued()
        made._note_problem(OSError(errno.ENOSPC, "No space left on device"))
        assert "No space left on device" in made.problem
    made._write_queued()
    assert made.problem == ""
    assert made.counts.written == 1


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_has_ended_is_known_and_started_again(
    tmp_path: Path, record: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = record(tmp_path / "met", NONE, interval_s=0.001)
    with monkeypatch.context() as broken:
        broken.setattr(made, "_write_queued", lambda: (_ for _ in ()).throw(SystemExit))
        made._thread.join(600)
        assert made.problem == "the recording thread has ended"
    made.observe([answered(1)])
    assert made.problem == ""
    made.close()
    assert [one.id for one in made.records.read_answers()] == ["a1"]


def test_after_a_restart_a_place_that_refuses_is_waited_for(
    tmp_path: Path, record: Maker, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as full:
        full.setattr(ObjectFolder, "put", lambda *args, **options: _refuse())
        with pytest.raises(OSError, match="No space left"):
            record(tmp_path / "met")
        made = record(tmp_path / "met", interval_s=3600, is_restart=True)
        assert "No space left" in made.problem
    made._write_queued()
    assert made.problem == ""
    made.observe([answered(1)])
    made.close()
    assert made.records.info == ABOUT
    assert [one.id for one in made.records.read_answers()] == ["a1"]
    assert len(told) == 2


def test_a_place_that_is_there_is_begun_without_writing(
    place: Path | Bucket, record: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a process that is started again is not kept from it by a disk that is full just then."""
    record(place).close()
    monkeypatch.setattr(ObjectFolder, "put", lambda *args, **options: _refuse())
    monkeypatch.setattr(Bucket, "put", lambda *args, **options: _refuse())
    assert record(place).problem == ""


def test_a_folder_that_is_removed_meanwhile_is_made_again(tmp_path: Path, record: Maker) -> None:
    """With all that is in it, also an image that had been kept before."""
    made = record(tmp_path / "met", interval_s=3600)
    made.observe([answered(1)])
    made._write_queued()
    shutil.rmtree(tmp_path / "met")
    made.observe([answered(1)])
    made._write_queued()
    records = Records.at(tmp_path / "met")
    assert records.info == ABOUT
    (seen,) = records.read_answers()
    assert (seen.kept, records.image(seen.image)) == ("usual", b"image 1")
    shutil.rmtree(tmp_path / "met")
    said = made.correct("dog", "api", content=b"image 1")
    assert records.image(said.image) == b"image 1"
    assert records.info == ABOUT


@pytest.mark.parametrize(("others", "mode"), [([], 0o700), (["notes.txt"], 0o755)])
def test_a_folder_that_is_there_is_closed_to_others(
    tmp_path: Path, record: Maker, others: list[str], mode: int
) -> None:
    """One that holds other things stays open, but what is kept in it is not."""
    place = tmp_path / "met"
    place.mkdir(mode=0o755)
    for name in others:
        (place / name).write_text("mine")
    made = record(place)
    made.observe([answered(1)])
    made.close()
    assert place.stat().st_mode & 0o777 == mode
    assert {path.stat().st_mode & 0o077 for path in place.iterdir() if path.name not in others} == {
        0
    }
