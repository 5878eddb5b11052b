"""Images in a bucket: what is fetched, and what is refused. The bucket is simulated."""

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from cluster.errors import NotReady
from cluster.exit_codes import ExitCode
from cluster.storage.bucket import Bucket, StorageError, StoredObject
from search.fetching import images
from search.fetching.images import at_hand, fetch
from search.operations.data import DataRequest, config_of
from tests.conftest import Command
from tests.search.conftest import Inline
from tests.search.fetching.test_shards import shard
from trainables.config import DataConfig
from trainables.disk import cache_folder
from trainables.errors import ConfigError, DataError
from trainables.inspection.leaks import load_inspected

pytestmark = pytest.mark.usefixtures("bucket")
COUNT = 24
"""The images of each of the two classes."""


class Flowers(NamedTuple):
    """A place in a bucket with images in two classes, and the same images in a folder."""

    place: Bucket
    folder: Path

    @property
    def address(self) -> str:
        """The value of `--data`."""
        return str(self.place)


@pytest.fixture
def flowers(bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Flowers:
    """Dark roses and bright tulips."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "flowers"
    generator = np.random.default_rng(0)
    for name, low in (("rose", 0), ("tulip", 128)):
        (folder / name).mkdir(parents=True)
        for number in range(COUNT):
            pixels = generator.integers(low, low + 128, (8, 8), np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    place = Bucket.of("s3://models/sets/flowers")
    place.upload(folder, [f"{path.parent.name}/{path.name}" for path in folder.glob("*/*")])
    return Flowers(place, folder)


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the objects that are fetched from now on."""
    names: list[str] = []
    get = Bucket.get

    def listen(place: Bucket, part: str = "", *, most: int | None = None) -> StoredObject | None:
        names.append(part)
        return get(place, part, most=most)

    monkeypatch.setattr(Bucket, "get", listen)
    return names


def test_a_bucket_is_read_as_its_folder_would_be(flowers: Flowers) -> None:
    whole = load_inspected(config_of(DataRequest(data=flowers.address))).dataset
    local = load_inspected(config_of(DataRequest(data=str(flowers.folder)))).dataset
    assert whole.fingerprint == local.fingerprint
    assert (whole.classes, len(whole.train), len(whole.test or ())) == (
        local.classes,
        len(local.train),
        len(local.test or ()),
    )


def test_only_what_is_missing_or_has_changed_is_fetched(
    flowers: Flowers, fetched: list[str]
) -> None:
    folder = fetch(flowers.address)
    assert len(fetched) == 2 * COUNT
    fetched.clear()
    assert fetch(flowers.address) == folder
    assert fetched == []

    (folder / "rose/0.png").write_bytes(b"cut")
    (folder / "rose/1.png").unlink()
    flowers.place.put(b"another image, of another size", "rose/2.png")
    flowers.place.put((flowers.folder / "rose/4.png").read_bytes(), "tulip/new.png")
    flowers.place.remove(["tulip/0.png"])
    flowers.place.put(b"a film", "rose/film.mp4")
    flowers.place.put(b"hidden", "rose/.thumbnail.png")
    fetch(flowers.address)
    assert sorted(fetched) == ["rose/0.png", "rose/1.png", "rose/2.png", "tulip/new.png"]
    assert (folder / "rose/0.png").read_bytes() == (flowers.folder / "rose/0.png").read_bytes()
    assert (folder / "rose/2.png").read_bytes() == b"another image, of another size"
    assert len(list(folder.glob("*/*"))) == 2 * COUNT
    assert not (folder / "tulip/0.png").exists()


def test_an_image_that_changed_while_nobody_looked_is_fetched(
    flowers: Flowers, fetched: list[str]
) -> None:
    content = (flowers.folder / "rose/0.png").read_bytes()
    folder = fetch(flowers.address)
    flowers.place.put(content[:-1] + b"?", "rose/0.png")  # as long as before
    fetched.clear()
    fetch(flowers.address)
    assert fetched == ["rose/0.png"]
    assert (folder / "rose/0.png").read_bytes() == content[:-1] + b"?"


def test_what_a_killed_process_has_left_is_used_or_removed(
    flowers: Flowers, fetched: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    get = Bucket.get

    def be_killed(place: Bucket, part: str = "", *, most: int | None = None) -> StoredObject | None:
        if len(fetched) >= 10:
            os._exit(9)
        return get(place, part, most=most)

    monkeypatch.setattr(images, "AT_ONCE", 1)
    monkeypatch.setattr(images, "STATE_S", 0)
    with monkeypatch.context() as killed:
        killed.setattr(Bucket, "get", be_killed)
        if (child := os.fork()) == 0:
            fetch(flowers.address)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    (folder,) = (cache_folder("buckets")).glob("*/files/flowers")
    (folder / "rose/unknown.png").write_bytes(b"of an object that has been removed since")
    (folder / "rose/.0.png.part").write_bytes(b"half an image")
    assert fetch(flowers.address) == folder
    assert 2 * COUNT - 10 <= len(fetched) < 2 * COUNT
    assert len(list(folder.rglob("*.*"))) == 2 * COUNT


def test_what_was_fetched_before_an_error_stays(
    flowers: Flowers, fetched: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    get, limit = Bucket.get, 10

    def expire(place: Bucket, part: str = "", *, most: int | None = None) -> StoredObject | None:
        if len(fetched) >= limit:
            raise StorageError("the credentials have expired (ExpiredToken); renew them")
        return get(place, part, most=most)

    monkeypatch.setattr(images, "AT_ONCE", 1)
    with monkeypatch.context() as expired:
        expired.setattr(Bucket, "get", expire)
        with pytest.raises(NotReady, match=r"expired \(ExpiredToken\); renew them. Fix"):
            fetch(flowers.address)
    assert len(fetched) == limit
    folder = fetch(flowers.address)
    assert len(fetched) == len(set(fetched)) == 2 * COUNT
    assert len(list(folder.glob("*/*"))) == 2 * COUNT


def test_shards_are_unpacked_and_follow_the_bucket(
    flowers: Flowers, fetched: list[str], tmp_path: Path
) -> None:
    sets = Bucket.of("s3://models/shards")
    for part in ("train", "val"):
        for number in range(2):
            files = {f"{key}.png": b"x" * key for key in range(number, number + 3)}
            classes = {f"{key}.cls": str(key % 2).encode() for key in range(number, number + 3)}
            tar = shard(tmp_path / f"{number}.tar", files | classes)
            sets.put(tar.read_bytes(), f"{part}/{number}.tar")
    folder = fetch(str(sets))
    here = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    names = ["0/0@0", "0/0@2", "0/1@2", "1/0@1", "1/1@1", "1/1@3"]
    assert here[:6] == [f"train/{name}.png" for name in names]
    assert len(here) == 12

    sets.remove(["val/1.tar"])
    (folder / "train/0/0@0.png").unlink()
    fetched.clear()
    fetch(str(sets))
    assert fetched == ["train/0.tar"]
    assert len([path for path in folder.rglob("*") if path.is_file()]) == 9


def test_a_damaged_shard_is_fetched_again_and_then_named(
    flowers: Flowers, fetched: list[str], tmp_path: Path
) -> None:
    sets = Bucket.of("s3://models/shards")
    tar = shard(tmp_path / "0.tar", {"cat/0.png": b"x" * 600, "cat/1.png": b"y" * 600})
    sets.put(tar.read_bytes()[:900], "0.tar")
    with pytest.raises(DataError, match=r"the shard s3://models/shards/0\.tar cannot be used"):
        fetch(str(sets))
    assert fetched == ["0.tar", "0.tar"]
    sets.put(tar.read_bytes(), "0.tar")
    assert len(list(fetch(str(sets)).glob("cat/*"))) == 2


def test_the_end_of_a_connection_is_not_the_end_of_a_shard(
    flowers: Flowers, fetched: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = Bucket.of("s3://models/shards")
    tar = shard(tmp_path / "0.tar", {"cat/0.png": b"x" * 600}).read_bytes()
    sets.put(tar, "0.tar")
    get = Bucket.get

    def damage(place: Bucket, part: str = "", *, most: int | None = None) -> StoredObject | None:
        stored = get(place, part, most=most)
        assert stored is not None
        return stored if len(fetched) > 1 else StoredObject(b"?" * len(tar), stored.tag)

    monkeypatch.setattr(Bucket, "get", damage)
    assert (fetch(str(sets)) / "cat/0@0.png").read_bytes() == b"x" * 600


def test_a_manifest_names_the_class_and_the_part_of_each_image(
    flowers: Flowers, fetched: list[str]
) -> None:
    sets = Bucket.of("s3://models/sets")
    lines = [
        "Image,label,split,note",
        "flowers/rose/0.png,red,train,",
        "s3://models/sets/flowers/tulip/1.png,white,val",
        '"flowers/tulip/2.png", white ,Validation,"a, b"',
        "",
    ]
    sets.put(("\ufeff" + "\r\n".join(lines)).encode(), "some.csv")
    folder = fetch("s3://models/sets/some.csv")
    names = {
        "train/red/flowers%2Frose%2F0.png": "rose/0.png",
        "val/white/flowers%2Ftulip%2F1.png": "tulip/1.png",
        "val/white/flowers%2Ftulip%2F2.png": "tulip/2.png",
    }
    assert folder.name == "some"
    assert {str(path.relative_to(folder)) for path in folder.rglob("*.png")} == names.keys()
    for name, original in names.items():
        assert (folder / name).read_bytes() == (flowers.folder / original).read_bytes()

    fetched.clear()
    sets.put("\n".join(lines[:3]).replace("red", "pink").encode(), "some.csv")
    fetch("s3://models/sets/some.csv")
    assert fetched == ["", "flowers/rose/0.png"]  # the manifest itself, and what has moved
    here = {str(path.relative_to(folder)) for path in folder.rglob("*.png")}
    assert here == {"train/pink/flowers%2Frose%2F0.png", "val/white/flowers%2Ftulip%2F1.png"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no column 'image'. Its first line must name the columns: image,class"),
        ("image\nx.png", "has no column 'class'"),
        ("image,class\n,rose", "line 2: it has no image."),
        ("image,class\nx.png", "line 2: '' cannot be the name of a class."),
        ("image,class\nx.png,../up", "line 2: '../up' cannot be the name of a class."),
        ("image,class\nx.png,a\0b", "cannot be the name of a class."),
        ("image,class,part\nx.png,a,spare", "the part 'spare' is not train, val or test."),
        ("image,class\ns3://other/x.png,a", "'s3://other/x.png' is not below s3://models/sets/."),
        ("image,class\nx.png,a\n\nx.png,b", "line 4: 'x.png' is named twice."),
        (
            "image,class\nx.png,a\nflowers/rose/0.png,a",
            "1 of the 2 images in s3://models/sets/some.csv do not exist below s3://models/sets/: "
            "x.png. Store them, or remove their lines.",
        ),
        ("image,class\n\xff", "is not a CSV file in UTF-8"),
    ],
)
@pytest.mark.usefixtures("flowers")
def test_a_manifest_that_is_wrong_is_refused(call: Command, text: str, said: str) -> None:
    Bucket.of("s3://models/sets").put(text.encode("latin-1"), "some.csv")
    done = call("search.data", "s3://models/sets/some.csv")
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_an_incomplete_copy_is_not_used(flowers: Flowers, fetched: list[str]) -> None:
    folder = fetch(flowers.address)
    config = DataConfig(name="folder", root=str(folder), bucket=flowers.address)
    fetched.clear()
    for descriptor in images._in_use.values():
        os.close(descriptor)
    images._in_use.clear()
    assert at_hand(config) == config
    assert fetched == []
    assert list(images._in_use) == [folder.parent.parent]  # so that it is not evicted now
    state = folder.parent.parent / images.STATE_FILE
    stored = images.State.of(state)
    stored.is_complete = False
    stored.write(state)
    (folder / "rose/3.png").unlink()
    assert at_hand(config) == config
    assert fetched == ["rose/3.png"]


def test_the_time_of_fetching_does_not_count_as_the_start_of_a_search(flowers: Flowers) -> None:
    """Or as much time would be kept for its end."""
    images.spent_s()
    began = time.monotonic()
    fetch(flowers.address)
    assert 0 < images.spent_s() <= time.monotonic() - began
    assert images.spent_s() == 0


def test_the_folder_that_the_user_names_is_used_instead(
    flowers: Flowers, fetched: list[str]
) -> None:
    config = DataConfig(name="folder", root=str(flowers.folder), bucket=flowers.address)
    assert at_hand(config) == config
    moved = DataConfig(name="folder", root="/on/another/machine", bucket=flowers.address)
    assert len(list(Path(at_hand(moved).root).glob("*/*"))) == 2 * COUNT
    assert len(fetched) == 2 * COUNT


@pytest.mark.parametrize(
    ("data", "said", "code"),
    [
        ("s3://models/nothing", "there are no images below s3://models/nothing/. Use", 2),
        ("s3://models/sets/flowers/rose/0.png", "there are no images below", 2),
        ("s3://", "--data: 's3://' is not a valid S3 address. Use s3://BUCKET/PREFIX", 2),
        ("s3://missing/flowers", "there is no bucket 'missing'", ExitCode.NOT_READY),
    ],
)
@pytest.mark.usefixtures("flowers")
def test_an_address_without_images_is_refused(
    call: Command, data: str, said: str, code: int
) -> None:
    for verb in (["data", data], ["run", "--space", "smoke", "--data", data]):
        done = call(f"search.{verb[0]}", *verb[1:])
        assert (done.returncode, done.stdout) == (code, "")
        assert said in done.stderr
        assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("name", ["rose/../../up.png", "rose//0.png", "rose"])
def test_an_object_that_cannot_be_a_file_is_named(flowers: Flowers, name: str) -> None:
    flowers.place.put(b"", f"{name}.png" if name == "rose" else name)
    if name == "rose":
        flowers.place.put(b"", "rose.png/0.png")
        name = "rose.png"
    with pytest.raises(ConfigError, match=f"the object '{name}' cannot become a file"):
        fetch(flowers.address)


def test_a_disk_that_is_too_small_is_refused_before_anything_is_fetched(
    flowers: Flowers, fetched: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(NotReady, match=r"48 objects of s3://models/sets/flowers with .* Make room"):
        fetch(flowers.address)
    assert fetched == []


def test_copies_that_are_not_used_make_room(
    flowers: Flowers, monkeypatch: pytest.MonkeyPatch
) -> None:
    Bucket.of("s3://models/others").upload(flowers.folder, ["rose/0.png", "tulip/0.png"])
    first = fetch(flowers.address)
    monkeypatch.setenv("IMAGE_CACHE_GB", "0")
    fetch("s3://models/others")
    assert first.exists()  # this process may still read it
    for descriptor in images._in_use.values():
        os.close(descriptor)
    images._in_use.clear()
    second = fetch("s3://models/others")
    assert (first.exists(), second.exists()) == (False, True)


def test_a_search_goes_on_where_its_copy_is_missing(
    flowers: Flowers, inline: Inline, fetched: list[str], tmp_path: Path, clear: Callable[[], None]
) -> None:
    words = ["--space", "smoke", "--set", "epochs=1", "--set", "batch_size=8", "--trials", 1]
    _, first = inline("run", *words, "--data", flowers.address, "--name", "f")
    clear()
    fetched.clear()
    _, second = inline("resume", "f", "--trials", 2)
    assert len(fetched) == 2 * COUNT
    assert (first["trials"], second["trials"]) == ({"completed": 1}, {"completed": 2})


@pytest.fixture
def clear(tmp_path: Path) -> Callable[[], None]:
    """Remove all caches, as if another machine went on."""

    def remove() -> None:
        images._in_use.clear()
        shutil.rmtree(tmp_path / "cache")

    return remove
