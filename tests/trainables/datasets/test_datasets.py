"""Every registered data set, made small in its own files; then the variants of each file format."""

import hashlib
import pickle
import socket
import struct
from urllib.error import URLError

import numpy as np
import pytest
import torchvision
from PIL import Image

from trainables.catalog.datasets import DATASETS
from trainables.config import DataConfig
from trainables.datasets.arrays import Dataset, Decoded, Part
from trainables.datasets.load import Whole, divide, load, with_root
from trainables.datasets.sources import decode, files, find
from trainables.errors import DataError, Unavailable

TORCHVISION = ("mnist", "fashion_mnist", "cifar10")
IDX = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST"}
CLOTHES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*arguments, **keywords):
        raise AssertionError("a test reached for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def noise(count, *shape):
    return np.random.default_rng(11).integers(0, 256, (count, *shape), dtype=np.uint8)


def write_idx(path, array):
    path.write_bytes(
        bytes([0, 0, 8, array.ndim])
        + struct.pack(f">{array.ndim}I", *array.shape)
        + array.tobytes()
    )


def make_idx(root, name):
    folder = root / IDX[name] / "raw"
    folder.mkdir(parents=True, exist_ok=True)
    images = noise(80, 28, 28)
    for part, rows in (("train", slice(0, 60)), ("t10k", slice(60, 80))):
        write_idx(folder / f"{part}-images-idx3-ubyte", images[rows])
        write_idx(folder / f"{part}-labels-idx1-ubyte", (np.arange(80)[rows] % 10).astype(np.uint8))


def make_cifar10(root, monkeypatch):
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True, exist_ok=True)
    images = noise(80, 3, 32, 32).reshape(80, -1)
    parts = {
        **{f"data_batch_{number}": range(12 * number - 12, 12 * number) for number in range(1, 6)},
        "test_batch": range(60, 80),
    }
    for name, rows in parts.items():
        (folder / name).write_bytes(
            pickle.dumps({"data": images[list(rows)], "labels": [row % 10 for row in rows]})
        )
    (folder / "batches.meta").write_bytes(
        pickle.dumps({"label_names": [f"thing {number}" for number in range(10)]})
    )
    sums = {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    loader = torchvision.datasets.CIFAR10
    monkeypatch.setattr(
        loader, "train_list", [[name, sums[name]] for name in parts if name != "test_batch"]
    )
    monkeypatch.setattr(loader, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(loader, "meta", loader.meta | {"md5": sums["batches.meta"]})


@pytest.fixture
def source(tmp_path, monkeypatch, write_images):
    """Write a data set's files by its name; `DataConfig` values follow. A data set without a maker
    here is not tested: add one.
    """

    def make(name, **values):
        root = tmp_path / "data"
        if name in IDX:
            make_idx(root, name)
        elif name == "cifar10":
            make_cifar10(root, monkeypatch)
        elif name == "folder" and not root.exists():
            for number in range(4):
                write_images(root / f"class {number}", 10 + 10 * number)
        elif name not in ("digits", "folder"):
            pytest.fail(f"no files are made for data set '{name}'")
        return DataConfig(name=name, root=str(root), **values)

    return make


each = pytest.mark.parametrize(
    "name",
    sorted(
        name
        for name, entry in DATASETS.items()
        if not entry.is_own and "classification" in entry.tasks
    ),
)


def parts_of(dataset: Dataset) -> dict[str, Part]:
    return {"train": dataset.train, "val": dataset.val, "test": dataset.test}


def pixels_of(part: Part) -> list[bytes]:
    return [image.tobytes() for image in part.images]


def equal(left: Part, right: Part) -> bool:
    return np.array_equal(left.images, right.images) and np.array_equal(left.targets, right.targets)


# Every registered data set


@each
def test_parts_hold_uint8_images_and_int64_labels_of_known_classes(name, source):
    dataset = load(source(name))
    assert dataset.name == name
    assert dataset.image[0] in (1, 3)
    assert len(dataset.classes) == len(set(dataset.classes)) == (4 if name == "folder" else 10)
    for part in parts_of(dataset).values():
        assert part.images.dtype == np.uint8
        assert part.targets.dtype == np.int64
        assert part.images.shape == (len(part), *dataset.image[1:], dataset.image[0])
        assert part.targets.shape == (len(part),)
        assert set(part.targets) == set(range(len(dataset.classes)))


@each
def test_parts_are_disjoint_and_lose_nothing(name, source):
    decoded = decode(source(name))
    dataset = load(source(name))
    seen = [pixels for part in parts_of(dataset).values() for pixels in pixels_of(part)]
    whole = pixels_of(decoded.train) + (pixels_of(decoded.test) if decoded.test else [])
    assert sorted(seen) == sorted(whole)
    assert len(set(seen)) == len(seen)


@each
def test_images_keep_their_labels(name, source):
    decoded, dataset = decode(source(name)), load(source(name))
    known = {}
    for part in (decoded.train, decoded.test):
        known |= dict(zip(pixels_of(part), part.targets, strict=True)) if part else {}
    for part in parts_of(dataset).values():
        assert [known[pixels] for pixels in pixels_of(part)] == part.targets.tolist()


@each
def test_the_drawn_parts_are_stratified(name, source):
    decoded, dataset = decode(source(name)), load(source(name))
    whole = np.bincount(decoded.train.targets)
    for part in [dataset.val] + [dataset.test] * (decoded.test is None):
        shares = np.bincount(part.targets, minlength=len(whole))
        assert np.abs(shares - whole * len(part) / len(decoded.train)).max() <= 1.01


@each
def test_parts_have_the_sizes_of_their_fractions(name, source):
    config = source(name, val_fraction=0.25, test_fraction=0.3)
    decoded, dataset = decode(config), load(config)
    count = len(decoded.train)
    assert len(dataset.val) == round(0.25 * count)
    assert len(dataset.test) == (round(0.3 * count) if decoded.test is None else len(decoded.test))
    assert len(dataset.train) == count - len(dataset.val) - (
        len(dataset.test) if decoded.test is None else 0
    )


@each
def test_equal_seeds_split_equally_and_others_do_not(name, source):
    first, again, other = (load(source(name, split_seed=seed)) for seed in (3, 3, 4))
    for part in ("train", "val", "test"):
        assert equal(getattr(first, part), getattr(again, part))
    assert not equal(first.val, other.val)
    assert first.fingerprint == again.fingerprint == other.fingerprint


@each
@pytest.mark.parametrize("limit", [10, 13, 30])
def test_train_limit_is_exact_and_changes_no_other_part(name, limit, source):
    whole, limited = load(source(name)), load(source(name, train_limit=limit))
    assert len(limited.train) == limit
    assert set(limited.train.targets) == set(whole.train.targets)
    assert set(pixels_of(limited.train)) <= set(pixels_of(whole.train))
    assert equal(limited.val, whole.val)
    assert equal(limited.test, whole.test)


@each
def test_a_train_limit_of_as_many_images_as_there_are_or_more_keeps_all(name, source):
    whole = load(source(name))
    for limit in (len(whole.train), 10**6):
        assert equal(load(source(name, train_limit=limit)).train, whole.train)


@each
def test_a_train_limit_just_below_what_there_is_is_exact(name, source):
    limit = len(load(source(name)).train) - 1
    assert len(load(source(name, train_limit=limit)).train) == limit


@each
def test_val_limit_bounds_the_validation_part(name, source):
    limited = load(source(name, val_limit=10))
    assert len(limited.val) == 10
    assert set(limited.val.targets) == set(range(len(limited.classes)))
    assert len(limited.train) > len(load(source(name)).train)


@each
def test_the_sealed_copy_has_no_test_part_and_all_else(name, source):
    dataset = load(source(name))
    sealed = dataset.sealed
    assert sealed.test is None
    assert dataset.test is not None
    assert (sealed.train, sealed.val, sealed.classes, sealed.fingerprint, sealed.image) == (
        dataset.train, dataset.val, dataset.classes, dataset.fingerprint, dataset.image,
    )  # fmt: skip


@each
def test_image_size_makes_all_images_square(name, source):
    plain, small = load(source(name)), load(source(name, image_size=6))
    assert small.image == (plain.image[0], 6, 6)
    for part in parts_of(small).values():
        assert part.images.shape[1:] == (6, 6, plain.image[0])
        assert part.images.dtype == np.uint8
    assert abs(small.train.images.mean() - plain.train.images.mean()) < 15
    assert small.train.targets.tolist() == plain.train.targets.tolist()


@each
def test_the_fingerprint_follows_the_pixels(name, source):
    assert load(source(name)).fingerprint == load(source(name)).fingerprint
    assert load(source(name)).fingerprint != load(source(name, image_size=6)).fingerprint


@each
def test_the_channel_statistics_are_those_of_the_training_images(name, source):
    dataset = load(source(name))
    mean, deviation = dataset.channel_statistics
    assert mean.dtype == deviation.dtype == np.float32
    np.testing.assert_allclose(mean, (dataset.train.images / 255).mean(axis=(0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(
        deviation, (dataset.train.images / 255).std(axis=(0, 1, 2)), rtol=1e-5
    )


# Digits


def test_digits_has_all_its_images_in_17_levels_from_black_to_white():
    decoded = decode(DataConfig())
    assert decoded.train.images.shape == (1797, 8, 8, 1)
    assert decoded.classes == tuple("0123456789")
    assert decoded.test is None
    levels = np.unique(decoded.train.images)
    assert (len(levels), levels.min(), levels.max()) == (17, 0, 255)
    dataset = load(DataConfig())
    assert [len(part) for part in parts_of(dataset).values()] == [1079, 359, 359]


# torchvision's


@pytest.mark.parametrize("name", TORCHVISION)
def test_the_given_test_part_is_the_test_part(name, source):
    dataset = load(source(name))
    expected = (
        noise(80, 3, 32, 32)[60:].transpose(0, 2, 3, 1)
        if name == "cifar10"
        else noise(80, 28, 28)[60:, ..., None]
    )
    assert np.array_equal(dataset.test.images, expected)
    assert dataset.test.targets.tolist() == [row % 10 for row in range(60, 80)]
    assert len(dataset.train) + len(dataset.val) == 60


def test_classes_carry_their_names(source):
    assert load(source("cifar10")).classes == tuple(f"thing {number}" for number in range(10))
    assert load(source("fashion_mnist")).classes == CLOTHES
    assert load(source("mnist")).classes[7] == "7 - seven"


@pytest.mark.parametrize("name", TORCHVISION)
def test_absent_files_are_an_error_that_says_what_to_do(name, tmp_path):
    with pytest.raises(DataError) as error:
        load(DataConfig(name=name, root=str(tmp_path)))
    text = (
        f"the files of {name} are missing or damaged in '{tmp_path}' (--data-root). "
        "Use --data-root DIR with torchvision's layout, or --download to download them."
    )
    assert str(error.value) == text


FILES = [
    ("mnist", "MNIST/raw/train-images-idx3-ubyte"),
    ("fashion_mnist", "FashionMNIST/raw/t10k-labels-idx1-ubyte"),
]
FILES += [
    ("cifar10", f"cifar-10-batches-py/{file}")
    for file in ("data_batch_3", "test_batch", "batches.meta")
]
DAMAGES = {
    "missing": None,
    "cut off": lambda content: content[:-5],
    "empty": lambda content: b"",
    "zeros": lambda content: bytes(len(content)),
    "not of the format": lambda content: b"<html>404 Not Found</html>",
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize(("name", "file"), FILES, ids=[file for _, file in FILES])
def test_a_damaged_file_is_an_error_that_says_so(name, file, damage, source, tmp_path):
    config = source(name)
    path = tmp_path / "data" / file
    path.unlink() if damage is None else path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=rf"^the files of {name} are missing or damaged in"):
        load(config)


def test_labels_that_do_not_match_the_images_are_an_error(source, tmp_path):
    config = source("mnist")
    write_idx(
        tmp_path / "data/MNIST/raw/train-labels-idx1-ubyte", (np.arange(50) % 10).astype(np.uint8)
    )
    with pytest.raises(DataError):
        load(config)


def test_labels_where_images_should_be_are_an_error(source, tmp_path):
    config = source("mnist")
    folder = tmp_path / "data/MNIST/raw"
    (folder / "train-images-idx3-ubyte").write_bytes(
        (folder / "train-labels-idx1-ubyte").read_bytes()
    )
    with pytest.raises(DataError, match=r"^the files of mnist are missing or damaged in"):
        load(config)


def test_a_label_beyond_the_classes_is_an_error(source, tmp_path):
    config = source("mnist")
    write_idx(
        tmp_path / "data/MNIST/raw/train-labels-idx1-ubyte", (np.arange(60) % 11).astype(np.uint8)
    )
    with pytest.raises(DataError):
        load(config)


def test_a_batch_with_another_sum_is_not_unpickled(source, tmp_path):
    class Planted:
        def __reduce__(self):
            return (tmp_path / "ran").touch, ()

    config = source("cifar10")
    (tmp_path / "data/cifar-10-batches-py/data_batch_1").write_bytes(pickle.dumps(Planted()))
    with pytest.raises(DataError):
        load(config)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", TORCHVISION)
@pytest.mark.parametrize(
    "error",
    [URLError("no route"), RuntimeError("md5 differs"), TimeoutError("slow")],
    ids=lambda error: type(error).__name__,
)
def test_a_failed_download_is_unavailable_not_the_users_fault(name, error, tmp_path, monkeypatch):
    def fail(*arguments, **keywords):
        raise error

    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", fail)
    monkeypatch.setattr("torchvision.datasets.cifar.download_and_extract_archive", fail)
    with pytest.raises(
        Unavailable,
        match=(
            rf"(?s)^{name} could not be downloaded to '{tmp_path}' .*Check the network, "
            r"or copy the files into this folder\.$"
        ),
    ):
        load(DataConfig(name=name, root=str(tmp_path)), download=True)


def test_a_download_fetches_the_files_that_are_read(tmp_path, monkeypatch):
    config = DataConfig(name="mnist", root=str(tmp_path))
    monkeypatch.setattr(
        "torchvision.datasets.mnist.download_and_extract_archive",
        lambda *arguments, **keywords: make_idx(tmp_path, "mnist"),
    )
    downloaded = load(config, download=True)
    assert equal(load(config).train, downloaded.train)


# Splits of what is decoded


def decoded_of(sizes, *, test=None):
    labels = np.repeat(np.arange(len(sizes)), sizes).astype(np.int64)
    images = np.arange(len(labels), dtype=np.uint8).reshape(-1, 1, 1, 1)
    return Decoded(
        tuple("abcdefgh"[: len(sizes)]),
        Part(images, labels),
        None if test is None else decoded_of(test).train,
    )


def divided(decoded, **values):
    return divide(Whole(decoded, None), DataConfig(**values))[0]


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    ("sizes", "test", "values"),
    [
        ([3, 3], None, {}),
        ([3, 60], None, {}),
        ([2, 2], [1, 1], {}),
        ([3, 100], None, {"val_fraction": 0.6, "test_fraction": 0.3}),
        ([3, 100], None, {"train_limit": 20}),
        ([2, 100], [5, 5], {"train_limit": 20}),
        ([40, 5, 3], None, {"val_limit": 3, "train_limit": 3}),
    ],
)
def test_every_class_is_in_every_part(sizes, test, values, seed):
    dataset = divided(decoded_of(sizes, test=test), split_seed=seed, **values)
    for part in parts_of(dataset).values():
        assert set(part.targets) == set(range(len(sizes)))


def test_a_train_limit_is_exact_for_imbalanced_classes():
    assert len(divided(decoded_of([200, 5, 5, 5, 5]), train_limit=12).train) == 12


def test_a_dataset_source_is_a_name_or_a_folder():
    base = DataConfig(image_size=9)
    assert with_root(base, "mnist", "/data") == DataConfig(name="mnist", root="/data", image_size=9)
    for source in ("folder", "folder:"):  # not the working directory
        assert with_root(base, source, "/data").root == ""
    assert with_root(base, "folder:/a:b", "/data") == DataConfig(
        name="folder", root="/a:b", image_size=9
    )
    with pytest.raises(ValueError, match=r"Did you mean 'mnist'\?"):
        with_root(base, "mnsit", "")


@each
def test_every_file_that_is_read_is_listed(name, source):
    config = source(name)
    layout = find(config)
    found = files(config) if layout is None else layout.paths
    assert all(path.is_file() for path in found)
    assert (
        len(found)
        == len(set(found))
        == {"digits": 0, "mnist": 4, "fashion_mnist": 4, "cifar10": 7, "folder": 100}[name]
    )


def test_a_part_takes_rows_as_a_copy():
    part = Part(np.arange(6, dtype=np.uint8).reshape(3, 2, 1, 1), np.array([4, 5, 6]))
    taken = part.take(np.array([2, 0]))
    assert taken.targets.tolist() == [6, 4]
    assert taken.images.ravel().tolist() == [4, 5, 0, 1]
    assert not np.shares_memory(taken.images, part.images)


@pytest.mark.parametrize("change", ["pixel", "label", "class", "test part"])
def test_a_fingerprint_changes_with_everything_that_is_trained_on(change):
    decoded, other = decoded_of([3, 3]), decoded_of([3, 3])
    assert decoded.fingerprint == decoded_of([3, 3]).fingerprint
    if change == "pixel":
        other.train.images[0] += 1
    elif change == "label":
        other.train.targets[0] = 1
    elif change == "class":
        other = Decoded(("a", "c"), other.train)
    else:
        other = Decoded(other.classes, other.train, other.train)
    assert decoded.fingerprint != other.fingerprint


def test_resizing_is_bilinear_and_keeps_a_flat_image_flat():
    from trainables.datasets.images import resize

    flat = np.full((2, 5, 7, 3), 77, dtype=np.uint8)
    assert np.array_equal(resize(flat, 4), np.full((2, 4, 4, 3), 77))
    grey = noise(2, 8, 8, 1)
    expected = np.asarray(
        Image.fromarray(grey[1, ..., 0]).resize((5, 5), Image.Resampling.BILINEAR)
    )
    assert np.array_equal(resize(grey, 5)[1, ..., 0], expected)
    assert resize(grey, None) is grey
    assert resize(grey, 8) is grey
