"""Which images are to be corrected next, and what corrections change."""

import io
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from search.feedback.labelling import LabellingItem, LabellingQueue
from search.feedback.likeness import Likeness
from search.feedback.pictures import as_png, pixels
from search.feedback.records import NotRecorded, RecordedAnswer, Records, RecordsInfo
from trainables.datasets.images import MAX_PIXELS
from trainables.errors import ConfigError, DataError

ABOUT = RecordsInfo("models:/pets", ("cat", "dog", "cow"))


def picture(seed: int, *, brighter: int = 0) -> bytes:
    """Return a picture of four fields of grey, which is like none of another seed."""
    fields = np.random.default_rng(seed).integers(0, 200, size=(4, 4), dtype=np.uint8)
    return png(np.kron(fields + np.uint8(brighter), np.ones((8, 8), np.uint8)))


def png(values: np.ndarray) -> bytes:  # type: ignore[type-arg]
    file = io.BytesIO()
    Image.fromarray(values).save(file, "PNG")
    return file.getvalue()


Meet = Callable[..., str]


@pytest.fixture
def records(tmp_path: Path) -> Records:
    made = Records.at(tmp_path / "met")
    made.begin(ABOUT)
    return made


@pytest.fixture
def meet(records: Records) -> Meet:
    """Return a function that keeps an image and an answer, and returns the image's name."""

    def one(
        content: bytes, chances: tuple[float, ...], kept: str = "uncertain", version: str = "1"
    ) -> str:
        name = records.keep_image(content)
        records.write_answers([RecordedAnswer("a", 1000, name, version, chances, kept)])
        return name

    return one


def compared(labelling: LabellingQueue) -> LabellingQueue:
    """Return it after all images were looked at."""
    stop = threading.Event()
    stop.wait = lambda *_: stop.set() or True  # type: ignore[method-assign, func-returns-value]
    labelling.compare_images(stop)
    return labelling


def order(labelling: LabellingQueue) -> list[tuple[str, str]]:
    return [(one.image, one.why) for one in labelling.next_items(100)]


def test_uncertain_images_come_by_their_margin(records: Records, meet: Meet) -> None:
    unsure = meet(picture(2), (0.6, 0.4, 0))
    unsurer = meet(picture(3), (0.5, 0.45, 0.05))
    labelling = LabellingQueue(records, ABOUT)
    assert order(labelling) == [(unsurer, "uncertain"), (unsure, "uncertain")]
    assert labelling.next_items(1)[0] == LabellingItem(
        unsurer, "uncertain", (0.5, 0.45, 0.05), {"1": "cat"}
    )


def test_images_unlike_the_training_come_first(records: Records, meet: Meet) -> None:
    """A model with promises abstained from them; the latest is the first."""
    unsure = meet(picture(2), (0.5, 0.45, 0.05))
    names = [records.keep_image(picture(seed)) for seed in (3, 4)]
    for time_ms, name in enumerate(names):
        records.write_answers(
            [RecordedAnswer("b", time_ms, name, "1", (0.9, 0.1, 0), "uncertain", "unlike")]
        )
    assert order(LabellingQueue(records, ABOUT)) == [
        (names[1], "unlike"),
        (unsure, "uncertain"),
        (names[0], "unlike"),
    ]


def test_usual_images_come_in_the_order_of_their_names(records: Records, meet: Meet) -> None:
    """Whatever was said of them: by their margins the corrected ones would be the hard ones."""
    margins = np.random.default_rng(0).permutation(20)
    names = [
        meet(picture(seed), (0.75 + margin / 100, 0.25 - margin / 100, 0), "usual")
        for seed, margin in enumerate(margins)
    ]
    meet(picture(0), (0.1, 0.9, 0), "usual", version="2")  # versions disagree about a usual one
    assert order(compared(LabellingQueue(records, ABOUT))) == [
        (name, "sample") for name in sorted(names)
    ]


def test_every_other_image_is_the_next_of_a_random_sample(records: Records, meet: Meet) -> None:
    """Of uncertain images too, up to the last usual one: above it usual ones may not be kept."""
    names = [meet(picture(seed), (0.5, 0.4, 0.1)) for seed in range(30)]
    usual = [meet(picture(seed), (0.9, 0.1, 0), "usual") for seed in range(30, 34)]
    sample = sorted(name for name in names + usual if name <= max(usual))
    assert len(usual) < len(sample) < len(names + usual)
    shown = [name for name, _ in order(LabellingQueue(records, ABOUT))]
    assert all(set(sample[:count]) <= set(shown[: 2 * count]) for count in range(len(sample)))


def test_what_was_corrected_nearly_the_same_leaves_no_gap_in_the_sample(
    records: Records, meet: Meet
) -> None:
    names = [meet(picture(1, brighter=step), (0.9, 0.1, 0), "usual") for step in range(6)]
    labelling = compared(LabellingQueue(records, ABOUT))
    labelling.correct(min(names), "cat")
    assert [name for name, _ in order(labelling)] == sorted(names)[1:]


def test_an_image_that_versions_call_otherwise_comes_first(records: Records, meet: Meet) -> None:
    unsure = meet(picture(1), (0.5, 0.4, 0.1))
    other = meet(picture(2), (0.6, 0.1, 0.3))
    meet(picture(2), (0.1, 0.6, 0.3), version="2")
    labelling = LabellingQueue(records, ABOUT)
    assert order(labelling) == [(other, "disagrees"), (unsure, "uncertain")]
    assert labelling.next_items(1)[0].versions == {"1": "cat", "2": "dog"}


def test_nearly_the_same_images_of_two_classes_disagree(records: Records, meet: Meet) -> None:
    one = meet(picture(1), (0.6, 0.4, 0))
    other = meet(picture(1, brighter=9), (0.1, 0.6, 0.3))
    same = meet(picture(1, brighter=20), (0.5, 0.4, 0.1))
    found = dict(order(compared(LabellingQueue(records, ABOUT))))
    assert found.keys() == {one, other, same}
    assert found[one] == found[other] == "disagrees"


def test_an_image_unlike_all_that_is_usual_is_new(records: Records, meet: Meet) -> None:
    for brighter in range(5):
        meet(picture(1, brighter=brighter), (0.6, 0.4, 0))
        meet(picture(1, brighter=brighter + 20), (0.99, 0.01, 0), "usual")
    new = meet(picture(2), (0.65, 0.35, 0))
    shown = dict(order(compared(LabellingQueue(records, ABOUT))))
    assert shown[new] == "new"
    assert list(shown.values()).count("new") == 1


def test_nearly_the_same_as_a_corrected_one_comes_last(records: Records, meet: Meet) -> None:
    one = meet(picture(1), (0.5, 0.5, 0))
    copy = meet(picture(1, brighter=5), (0.55, 0.45, 0))
    other = meet(picture(2), (0.65, 0.35, 0))
    labelling = compared(LabellingQueue(records, ABOUT))
    assert [name for name, _ in order(labelling)] == [one, copy, other]
    labelling.correct(one, "cat")
    assert [name for name, _ in order(labelling)] == [other, copy]


def test_a_correction_is_kept_and_can_be_taken_back(records: Records, meet: Meet) -> None:
    name = meet(picture(1), (0.5, 0.5, 0))
    records.correct(name, "cow", "page")
    labelling = LabellingQueue(records, ABOUT)
    assert order(labelling) == []
    labelling.correct(name, "dog")
    (said,) = Records(records.place).corrections().values()
    assert (said.image, said.label, said.by) == (name, "dog", "label")
    assert labelling.progress.here == 1
    labelling.take_back(name)
    assert [one.label for one in Records(records.place).corrections().values()] == ["cow"]
    labelling.take_back(name)
    assert Records(records.place).corrections() == {}
    assert [one.image for one in labelling.next_items(9)] == [name]
    assert (labelling.progress.corrected, labelling.progress.here, labelling.progress.left) == (
        0,
        0,
        1,
    )


def test_skipped_images_come_last_in_their_order(records: Records, meet: Meet) -> None:
    names = [meet(picture(seed), (0.5 + seed / 100, 0.4, 0)) for seed in range(4)]
    labelling = LabellingQueue(records, ABOUT)
    labelling.skip(names[1])
    labelling.skip(names[0])
    assert [name for name, _ in order(labelling)] == [names[2], names[3], names[1], names[0]]
    assert [one.image for one in labelling.next_items(2, excluded=[names[2]])] == [
        names[3],
        names[1],
    ]


def test_what_is_recorded_meanwhile_comes_too(
    records: Records, meet: Meet, monkeypatch: pytest.MonkeyPatch
) -> None:
    meet(picture(1), (0.5, 0.5, 0))
    labelling = LabellingQueue(records, ABOUT)
    late = meet(picture(2), (0.4, 0.35, 0.25))
    assert len(order(labelling)) == 1
    monkeypatch.setattr("search.feedback.labelling.REFRESH_S", 0)
    assert late in dict(order(labelling))


def test_an_image_that_cannot_be_read_is_left_out(records: Records, meet: Meet) -> None:
    meet(b"no image", (0.5, 0.5, 0))
    name = meet(picture(1), (0.6, 0.4, 0))
    labelling = compared(LabellingQueue(records, ABOUT))
    assert [one.image for one in labelling.next_items(9)] == [name]
    assert labelling.progress.left == 1


def test_an_image_without_an_answer_comes_too(records: Records) -> None:
    name = records.keep_image(picture(1))
    assert LabellingQueue(records, ABOUT).next_items(9) == [LabellingItem(name, "rest", (), {})]


def test_an_answer_that_is_no_number_is_none(records: Records, meet: Meet) -> None:
    name = meet(picture(1), (float("nan"), 0.5, 0.5))
    assert LabellingQueue(records, ABOUT).next_items(9) == [LabellingItem(name, "rest", (), {})]


def test_what_is_no_class_or_not_kept_is_refused(records: Records, meet: Meet) -> None:
    name = meet(picture(1), (0.5, 0.5, 0))
    labelling = LabellingQueue(records, ABOUT)
    with pytest.raises(ConfigError, match="unknown class 'horse'"):
        labelling.correct(name, "horse")
    with pytest.raises(NotRecorded):
        labelling.correct("0" * 64, "cat")
    assert len(labelling.next_items(9)) == 1


def test_likeness_grows_with_the_images() -> None:
    thumbs = np.random.default_rng(0).normal(size=(200, 12)).astype(np.float32)
    thumbs /= np.linalg.norm(thumbs, axis=1, keepdims=True)
    likeness = Likeness()
    for number, thumb in enumerate(thumbs):
        likeness.add(str(number), thumb)
        if number % 50 == 0:
            likeness.mark_familiar(str(number), is_corrected=number == 50)
    expected = thumbs @ thumbs.T
    np.fill_diagonal(expected, -1)
    for number in (0, 50, 63, 64, 199):
        known, corrected = expected[number, ::50].max(), expected[number, 50]
        assert likeness.to_familiar(str(number)) == pytest.approx(known, abs=1e-5)
        assert likeness.to_corrected(str(number)) == pytest.approx(corrected, abs=1e-5)


def test_a_large_or_odd_image_is_shown_as_png() -> None:
    file = io.BytesIO()
    Image.fromarray(np.full((1200, 3000), 7, np.uint8)).save(file, "TIFF")
    with Image.open(io.BytesIO(as_png(file.getvalue()))) as shown:
        assert (shown.format, shown.size) == ("PNG", (1024, 410))


def test_a_bomb_is_not_decoded() -> None:
    side = int(MAX_PIXELS**0.5) + 10
    file = io.BytesIO()
    Image.new("1", (side, side)).save(file, "PNG")
    with pytest.raises(DataError, match="million pixels"):
        pixels(file.getvalue())


def test_an_unexpected_error_is_reported_once_and_does_not_end_the_comparison(
    records: Records,
    meet: Meet,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = [meet(picture(seed), (0.6, 0.4, 0)) for seed in range(3)]
    labelling = LabellingQueue(records, ABOUT)
    look_at = LabellingQueue._compare_image

    def fail(self: LabellingQueue, name: str) -> None:
        if name in names[:2]:
            raise RuntimeError("out of luck")
        look_at(self, name)

    monkeypatch.setattr(LabellingQueue, "_compare_image", fail)
    compared(labelling)
    assert names[2] in labelling._likeness
    assert capsys.readouterr().err.count("RuntimeError: out of luck") == 1
