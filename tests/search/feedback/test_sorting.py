"""An unsorted folder: the order of its images, and the folder to which they are sorted."""

import hashlib
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from search.feedback.records import NotRecorded
from search.feedback.sorted_folder import TEST, TRAIN, VAL, SortedFolder, file_name, planned_part
from search.feedback.sorting import SAMPLE, TYPICAL, SortingQueue, sort_folder
from search.feedback.usefulness import Usefulness
from trainables.config import DataConfig
from trainables.datasets.load import load
from trainables.errors import ConfigError
from trainables.probes.probe import HAND_MADE, model_for_files

KINDS = {"red": (200, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 200)}


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Sixty pictures of three kinds, many of the first: stripes of other widths and colours."""
    folder = tmp_path / "pictures"
    (folder / "deep").mkdir(parents=True)
    generator = np.random.default_rng(0)
    for number in range(60):
        kind = list(KINDS)[0 if number < 40 else 1 + number % 2]
        pixels = np.full((24, 24, 3), KINDS[kind], float) + generator.normal(0, 12, (24, 24, 3))
        if kind != "red":
            pixels[:: 3 if kind == "green" else 6] = 255
        place = folder / "deep" if number % 10 == 0 else folder
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(place / f"{kind}{number}.png")
    (folder / "notes.txt").write_text("no image")
    return folder


def kind_of(queue: SortingQueue, image: str) -> str:
    return queue.content(image).stem.rstrip("0123456789")


def compared(queue: SortingQueue) -> SortingQueue:
    queue.compare_images(threading.Event())
    return queue


def label(queue: SortingQueue, count: int) -> list[str]:
    """Give the next images their class, one by one, and return their ids."""
    done = []
    for _ in range(count):
        (item,) = queue.next_items(1)
        queue.correct(item.image, kind_of(queue, item.image))
        done.append(item.image)
    return done


def test_all_kinds_of_images_come_early_and_a_search_reads_what_was_sorted(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    queue = compared(sort_folder(pictures, tmp_path / "out", list(KINDS), None))
    assert "60 images compared" in capsys.readouterr().err
    items = queue.next_items(100)
    assert len(items) == 8
    assert [item.why for item in items].count(SAMPLE) == 3
    assert [item.why for item in items].count(TYPICAL) == 5
    typical = [item.image for item in items if item.why == TYPICAL]
    assert {kind_of(queue, image) for image in typical} == set(KINDS)
    label(queue, 60)
    assert (queue.progress.corrected, queue.progress.left, queue.next_items(1)) == (60, 0, [])
    data = load(DataConfig(name="folder", root=str(tmp_path / "out")))
    assert data.classes == ("blue", "green", "red")
    assert data.test is not None
    parts = {TRAIN: data.train, VAL: data.val, TEST: data.test}
    for part, images in parts.items():
        expected = sum(
            planned_part(file_name(path, pictures)) == part for path in pictures.rglob("*.png")
        )
        assert abs(len(images) - expected) <= 2  # the first image of a class may be moved
    originals = {file_name(path, pictures): path for path in pictures.rglob("*.png")}
    copies = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert {path.name for path in copies} == set(originals)
    for path in copies:
        assert path.read_bytes() == originals[path.name].read_bytes()
        assert path.parent.name == originals[path.name].stem.rstrip("0123456789")


def test_the_parts_are_a_random_sample_of_all_images() -> None:
    parts = [planned_part(f"{number}.jpg") for number in range(5000)]
    for part, share in ((TRAIN, 0.6), (VAL, 0.2), (TEST, 0.2)):
        assert abs(parts.count(part) / len(parts) - share) < 0.02
    names = ("1.jpg", "2.jpg", "ä.png")  # people continue what an earlier version began
    assert [planned_part(name) for name in names] == [VAL, TRAIN, TEST]


def test_a_few_labels_are_divided_like_many(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    for number in range(200):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / "pictures" / f"{number}.png")
    queue = sort_folder(tmp_path / "pictures", tmp_path / "out", ["red"], None)
    for _ in range(60):
        (item,) = queue.next_items(1)
        queue.correct(item.image, "red")
    counts = [queue.target.count(part, "red") for part in (TRAIN, VAL, TEST)]
    assert sum(counts) == 60
    assert counts[0] == 36
    assert 7 <= counts[1] <= 17
    assert 7 <= counts[2] <= 17


def test_the_first_image_of_a_class_is_a_training_image(tmp_path: Path) -> None:
    names = [name for name in map("{}.png".format, range(40)) if planned_part(name) == TEST][:2]
    for name in names:
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    target = SortedFolder(tmp_path / "out")
    target.put(tmp_path / names[0], names[0], "cat")
    target.put(tmp_path / names[1], names[1], "cat")
    assert (target.count(TRAIN, "cat"), target.count(TEST, "cat")) == (1, 1)


def test_guesses_are_spread_from_the_training_images_alone(pictures: Path, tmp_path: Path) -> None:
    queue = compared(sort_folder(pictures, tmp_path / "out", list(KINDS), None))
    assert queue.next_items(1)[0].probabilities == ()
    label(queue, 12)
    items = queue.next_items(8)
    guesses = [queue.classes[int(np.argmax(item.probabilities))] for item in items]
    right = [kind_of(queue, item.image) for item in items]
    assert sum(guess == kind for guess, kind in zip(guesses, right, strict=True)) >= 6
    assert all(abs(sum(item.probabilities) - 1) < 1e-9 for item in items)
    before = queue._shares()
    measuring = next(item.image for item in items if item.why == SAMPLE)
    queue.correct(measuring, "red")
    assert np.array_equal(queue._shares(), before)
    teaching = next(item.image for item in items if item.why != SAMPLE)
    queue.correct(teaching, kind_of(queue, teaching))
    assert not np.array_equal(queue._shares(), before)


def test_sorting_goes_on_where_it_ended(pictures: Path, tmp_path: Path) -> None:
    first = sort_folder(pictures, tmp_path / "out", ["red", "green", "blue"], None)
    done = label(first, 10)
    second = sort_folder(pictures, tmp_path / "out", ["violet"], None)
    assert (second.progress.corrected, second.progress.here, second.progress.left) == (10, 0, 50)
    assert second.classes[-1] == "violet"
    waiting = set()
    while items := second.next_items(100, waiting):
        waiting |= {item.image for item in items}
    assert len(waiting) == 50
    assert waiting.isdisjoint(done)
    with pytest.raises(NotRecorded, match="nothing to undo"):
        second.take_back(done[0])


def test_a_label_is_changed_taken_back_and_skipped(pictures: Path, tmp_path: Path) -> None:
    queue = sort_folder(pictures, tmp_path / "out", ["red"], None)
    first, second = (item.image for item in queue.next_items(2))
    with pytest.raises(ConfigError, match="unknown class 'pink'"):
        queue.correct(first, "pink")
    queue.add_class(" pink ")
    queue.add_class("pink")
    assert queue.classes == ("red", "pink")
    queue.correct(first, "red")
    queue.correct(first, "pink")
    (copy,) = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert copy.parent.name == "pink"
    queue.skip(second)
    waiting = [item.image for item in queue.next_items(100, [])]
    assert second not in waiting
    queue.take_back(first)
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == []
    assert queue.progress.corrected == 0
    with pytest.raises(NotRecorded, match="there is no image '<b>'"):
        queue.content("<b>")


def test_an_image_that_cannot_be_read_is_left_out(pictures: Path, tmp_path: Path) -> None:
    """Also one that is cut off after its header."""
    whole = (pictures / "red1.png").read_bytes()
    (pictures / "cut.png").write_bytes(whole[: len(whole) // 2])
    (pictures / "broken.png").write_bytes(b"no image")
    queue = compared(sort_folder(pictures, tmp_path / "out", ["red"], None))
    assert queue.progress.left == 60
    broken = hashlib.sha256(b"broken.png").hexdigest()
    seen = set[str]()
    while items := queue.next_items(100, seen):
        seen |= {item.image for item in items}
    assert len(seen) == 60
    assert broken not in seen
    assert queue._usefulness is not None


def test_what_another_process_has_sorted_is_found(pictures: Path, tmp_path: Path) -> None:
    queues = [sort_folder(pictures, tmp_path / "out", ["red", "blue"], None) for _ in range(2)]
    image = queues[0].next_items(1)[0].image
    queues[0].correct(image, "red")
    queues[1].correct(image, "blue")
    (copy,) = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert copy.parent.name == "blue"


def test_a_class_keeps_a_training_image(tmp_path: Path) -> None:
    names = [name for name in map("{}.png".format, range(40)) if planned_part(name) == TEST][:2]
    for name in names:
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    target = SortedFolder(tmp_path / "out")
    for name in names:
        target.put(tmp_path / name, name, "cat")
    target.put(tmp_path / names[0], names[0], "dog")
    assert [target.count(TRAIN, label) for label in ("cat", "dog")] == [1, 1]
    again = SortedFolder(tmp_path / "out")
    assert again.labels(TRAIN) == {names[0]: "dog", names[1]: "cat"}


def test_a_folder_with_other_images_is_not_sorted_to(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "out" / "cat").mkdir(parents=True)
    picture = (pictures / "red1.png").read_bytes()
    (tmp_path / "out" / "cat" / "1.png").write_bytes(picture)
    with pytest.raises(
        ConfigError, match=r"not a folder of sorted images \(first other one: 'cat/1"
    ):
        sort_folder(pictures, tmp_path / "out", [], None)
    for part in ("train/cat", "val/dog"):
        (tmp_path / "two" / part).mkdir(parents=True)
        (tmp_path / "two" / part / "1").write_bytes(picture)  # known by its first bytes
    with pytest.raises(ConfigError, match="has two images of the name '1', in 'cat' and in 'dog'"):
        sort_folder(pictures, tmp_path / "two", [], None)


@pytest.mark.parametrize(("first", "second"), [("Dog", "dog"), ("big dog", "big_dog")])
def test_two_classes_must_differ_in_more_than_case(
    first: str, second: str, pictures: Path, tmp_path: Path
) -> None:
    queue = sort_folder(pictures, tmp_path / "out", [first], None)
    with pytest.raises(ConfigError, match=f"'{second}' differs from '{first}' only in its case"):
        queue.add_class(second)


def test_a_comparison_ends_when_it_is_told_to(pictures: Path, tmp_path: Path) -> None:
    queue = sort_folder(pictures, tmp_path / "out", ["red"], None)
    stop = threading.Event()
    stop.set()
    queue.compare_images(stop)
    assert queue._usefulness is None


def test_images_that_cannot_be_compared_are_shown_all_the_same(
    pictures: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    queue = sort_folder(pictures, tmp_path / "out", ["red"], None)

    def fail(*arguments: object) -> None:
        raise MemoryError("too large")

    monkeypatch.setattr(queue._features, "of", fail)
    compared(queue)
    assert capsys.readouterr().err.splitlines()[-1] == (
        "note: the images could not be compared (MemoryError: too large). They are shown in random "
        "order."
    )
    assert len(queue.next_items(3)) == 3


def test_typical_images_cover_the_others() -> None:
    """Of five groups of unequal size, each is seen early."""
    generator = np.random.default_rng(0)
    centres = 10 * np.eye(5, 16)
    sizes = [60, 40, 30, 25, 20]
    values = np.concatenate(
        [
            centre + generator.normal(0, 0.5, (size, 16))
            for centre, size in zip(centres, sizes, strict=True)
        ]
    ).astype(np.float32)
    groups = np.repeat(np.arange(5), sizes)
    useful = Usefulness([str(number) for number in range(len(values))], values)
    order = [int(name) for name in useful.order([], useful.names)]
    assert set(groups[order[:12]]) == set(range(5))
    near = set(order[:1])
    rest = [
        int(name) for name in useful.order([str(order[0])], useful.names) if int(name) not in near
    ]
    assert rest == order[1:]
    assert list(useful.order(useful.names, useful.names)) == []
    assert useful.shares({"0": "a"}, ["a", "b"]) is None
    shares = useful.shares({str(order[0]): "a", str(order[1]): "b"}, ["a", "b"])
    assert shares is not None
    assert np.allclose(shares.sum(axis=1), 1)


def test_features_are_those_of_the_first_network_with_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    assert model_for_files(None).name == HAND_MADE
    with pytest.raises(ConfigError, match="the weights of 'probe_mobilenet_v2' were not found"):
        model_for_files(tmp_path / "nowhere")
