"""Copies of images: equal, nearly equal, mirrored, and what is none."""

import io
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from trainables.datasets.arrays import Images, Part, Ragged
from trainables.disk import cache_folder
from trainables.inspection import copies
from trainables.inspection.copies import (
    MIRROR,
    NOT_LOOKED_FOR,
    find_copies,
    hashes,
    load_copies,
    thumbnails,
)


def photographs(count: int, *, side: int = 48, seed: int = 0) -> Images:
    """Smooth colour images with some detail, no two alike."""
    noise = np.random.default_rng(seed).normal(size=(count, side, side, 3))
    smooth = gaussian_filter(noise, (0, side / 16, side / 16, 0.5)) * 400
    fine = gaussian_filter(noise, (0, 1, 1, 0)) * 20
    return np.clip(128 + smooth + fine, 0, 255).astype(np.uint8)


def part(images: Images) -> Part:
    return Part(images, np.zeros(len(images), np.int64))


def as_jpeg(image: Images) -> Images:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=60)
    return np.asarray(Image.open(buffer))


def resized(image: Images) -> Images:
    side = len(image)
    small = Image.fromarray(image).resize((side * 3 // 4, side * 3 // 4))
    return np.asarray(small.resize((side, side)))


def darker(image: Images) -> Images:
    return (image * 0.7 + 20).astype(np.uint8)


CHANGES = {"compressed": as_jpeg, "resized": resized, "darker": darker}


def test_equal_images_are_found_in_and_across_parts() -> None:
    train, test = photographs(20), photographs(10, seed=1)
    train[7], test[3] = train[2], train[5]
    found = find_copies([part(train), part(test)])
    expected = np.arange(30)
    expected[[7, 23]] = 2, 5
    np.testing.assert_array_equal(found.original, expected)
    assert found.limit == ""


@pytest.mark.parametrize("change", CHANGES)
def test_a_picture_that_was_changed_a_little_is_found(change: str) -> None:
    train, test = photographs(40), photographs(20, seed=1)
    for row in range(8):
        test[row] = CHANGES[change](train[row])
    found = find_copies([part(train), part(test)])
    np.testing.assert_array_equal(found.near, [(row, 40 + row) for row in range(8)])
    assert len(found.mirrored) == 0


def test_a_mirrored_picture_is_no_equal_one() -> None:
    images = photographs(30)
    images[9] = images[4][:, ::-1]
    found = find_copies([part(images)])
    assert len(found.near) == 0
    np.testing.assert_array_equal(found.mirrored, [(4, 9)])


def test_no_two_of_different_pictures_are_taken_for_one() -> None:
    found = find_copies([part(photographs(300))])
    assert (len(found.near), len(found.mirrored)) == (0, 0)


def test_images_with_nothing_on_them_are_no_copies_of_each_other() -> None:
    images = photographs(30)
    images[:5] = np.arange(5).reshape(-1, 1, 1, 1)
    images[:5, 10, 10] += 1
    assert len(find_copies([part(images)]).near) == 0


def test_of_tiny_images_equal_ones_alone_are_looked_for() -> None:
    images = photographs(10, side=8)
    images[3] = images[1]
    found = find_copies([part(images)])
    assert found.limit == f"{NOT_LOOKED_FOR}: some images have fewer than 24 pixels per side"
    assert found.original[3] == 1


def test_images_that_all_look_alike_are_not_taken_for_copies() -> None:
    """As of a camera that never moves."""
    ground = photographs(1, side=64)
    noise = np.random.default_rng(0).integers(-9, 10, (40, 64, 64, 3))
    found = find_copies([part(np.clip(ground + noise, 0, 255).astype(np.uint8))])
    assert len(found.near) == 0
    assert found.limit == f"{NOT_LOOKED_FOR}: the images are too similar"


def test_copies_of_other_sizes_are_found_among_images_of_mixed_sizes() -> None:
    images = list(photographs(30, side=64))
    images.append(np.asarray(Image.fromarray(images[3]).resize((48, 40))))
    found = find_copies([Part(Ragged.of(images), np.zeros(31, np.int64))])
    np.testing.assert_array_equal(found.near, [(3, 30)])


def test_equal_images_are_found_among_images_of_mixed_sizes() -> None:
    one, other, third = (np.full((*shape, 3), 1, np.uint8) for shape in ((4, 5), (5, 4), (4, 5)))
    found = find_copies([Part(Ragged.of([one, other]), np.arange(2)), part(third[None])])
    np.testing.assert_array_equal(found.original, [0, 1, 0])


def test_the_hash_of_a_mirror_image_is_known() -> None:
    images = photographs(20)
    np.testing.assert_array_equal(hashes(images[:, :, ::-1]), hashes(images) ^ MIRROR)


def test_thumbnails_are_means_of_pixels() -> None:
    images = photographs(3, side=48)
    means = images.reshape(3, 16, 3, 16, 3, 3).mean(axis=(2, 4)).swapaxes(2, 3)
    means -= means.mean(axis=(1, 2, 3), keepdims=True)
    means /= np.linalg.norm(means.reshape(3, -1), axis=1).reshape(3, 1, 1, 1)
    np.testing.assert_allclose(thumbnails(images, 16), means, atol=1e-5)


def test_a_copy_of_a_symmetric_picture_is_found() -> None:
    """Half of its frequencies are 0, but for rounding."""
    train, test = photographs(20), photographs(10, seed=1)
    train[:, :, 24:] = train[:, :, 23::-1]
    test[:6] = [darker(image) for image in train[:6]]
    near = find_copies([part(train), part(test)]).near
    assert {(row, 20 + row) for row in range(6)} <= set(map(tuple, near.tolist()))


def test_copies_are_known_among_some_of_the_images_in_another_order() -> None:
    images = photographs(24, side=32)
    images[5], images[9], images[11] = images[2], as_jpeg(images[2]), images[7]
    images[20] = images[8][:, ::-1]
    rows = np.random.default_rng(0).permutation(24)[:20]
    rows = np.array([9, 20, 5, 8, *(row for row in rows if row not in (2, 5, 8, 9, 20))])
    known, found = find_copies([part(images)]).among(rows), find_copies([part(images[rows])])
    np.testing.assert_array_equal(known.original, found.original)
    np.testing.assert_array_equal(known.near, found.near)
    np.testing.assert_array_equal(known.mirrored, found.mirrored)
    assert (known.near.tolist(), known.mirrored.tolist()) == ([[0, 2]], [[1, 3]])


@pytest.mark.parametrize("has_room", [True, False])
def test_many_thumbnails_are_in_a_file_or_computed_when_they_are_used(
    has_room: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = np.concatenate([photographs(12), photographs(12)[:, :, ::-1], photographs(6, seed=1)])
    images[:12] = [darker(image) for image in images[:12]]
    images[24:] = [as_jpeg(image) for image in images[:6]]
    in_memory = find_copies([part(images)])
    assert len(in_memory.near) == 6
    assert len(in_memory.mirrored) == 18
    reserved, kinds = [], []
    allocate = copies._allocate

    def reserve(file: int, start: int, size: int) -> None:
        reserved.append(size)
        if not has_room:
            raise OSError("no space is left")
        os.ftruncate(file, start + size)

    def recording(shape: tuple[int, ...]) -> np.ndarray | None:
        table = allocate(shape)
        kinds.append(type(table))
        return table

    monkeypatch.setattr(copies, "_allocate", recording)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(copies, "IN_MEMORY", 0)
    monkeypatch.setattr(os, "posix_fallocate", reserve)
    found = find_copies([part(images)])
    assert reserved == [30 * 32 * 32 * 3 * 4], "of 30 images"
    assert kinds == [np.memmap if has_room else type(None)]
    for name in ("original", "near", "mirrored"):
        np.testing.assert_array_equal(getattr(found, name), getattr(in_memory, name))
    assert not list(cache_folder("thumbnails").iterdir())


def test_the_cache_that_is_turned_off_gets_no_thumbnails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("IMAGE_CACHE_GB", "0")
    monkeypatch.setattr(copies, "IN_MEMORY", 0)
    assert copies._allocate((3, 32, 3, 32)) is None


def test_each_image_is_read_twice_however_many_pairs_it_is_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Once for its content and hash, once for its thumbnail; all are in the sample of 400, too."""
    images = np.concatenate([photographs(1)] * 60)
    images += np.arange(60, dtype=np.uint8)[:, None, None, None] % 3
    images = np.concatenate([images, photographs(300, seed=1)])
    images[:60, 0, 0, 0] = np.arange(60)
    reads, passes = [], []
    take, chunks = Part.take, Part.chunks

    def recording(taken: Part, rows: np.ndarray) -> Part:
        reads.extend(rows.tolist())
        return take(taken, rows)

    def recording_chunks(read: Part) -> Iterator[Images]:
        passes.append(len(read))
        return chunks(read)

    monkeypatch.setattr(Part, "take", recording)
    monkeypatch.setattr(Part, "chunks", recording_chunks)
    monkeypatch.setattr(copies, "BATCH", 50)
    found = find_copies([part(images)])
    assert len(found.near) > 500
    assert passes.count(len(images)) == 2, "once all, and once the copy of those in the sample"
    assert max(np.bincount(reads)) == 2, "in the sample, and for its thumbnail"


@pytest.fixture
def large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Part]:
    """Two parts whose copies are cached below `tmp_path`."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(copies, "MIN_CACHED", 10)
    images = photographs(30, side=32)
    images[25] = images[3]
    return [part(images[:20]), part(images[20:])]


def test_copies_are_looked_for_once(large: list[Part], monkeypatch: pytest.MonkeyPatch) -> None:
    first = load_copies(large, "f00d", 3)
    assert load_copies(large, "other").original[25] == 3
    monkeypatch.delattr(copies, "find_copies")
    np.testing.assert_array_equal(load_copies(large, "f00d", 3).original, first.original)
    assert first.original[25] == 3


def test_a_damaged_entry_is_found_anew(large: list[Part], tmp_path: Path) -> None:
    first = load_copies(large, "f00d")
    (file,) = tmp_path.rglob(copies.FILE)
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    np.testing.assert_array_equal(load_copies(large, "f00d").original, first.original)
    assert file.stat().st_size == len(whole)
