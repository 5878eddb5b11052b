"""Images in a bucket (`--data s3://BUCKET/PREFIX`): a copy in the cache, which is read as a folder.

Only objects that are missing or have changed are fetched. Tar files are unpacked (`shards`) and
removed. The address may also be that of a CSV file with the class of each image (`manifest`). Other
machines of a cluster need no copy: they get the decoded images through Ray.
"""

import errno
import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from cluster.errors import NotReady
from cluster.storage.bucket import SCHEME, Bucket, ObjectFacts, StorageError
from search.fetching import manifest, shards
from trainables.config import DataConfig
from trainables.datasets.images import SUFFIXES
from trainables.disk import cache_folder, cache_limit, evict, hold, make_private
from trainables.errors import ConfigError, DataError, counted, printable
from trainables.machine import gigabytes
from trainables.progress import step

FETCHED = SUFFIXES | {shards.SUFFIX, ".csv", ".json", ".txt"}
"""The suffixes of the objects that are fetched: images, shards, and what describes them."""
AT_ONCE = 16
"""The number of objects that are fetched at the same time."""
LARGE = 64_000_000
"""The size in bytes from which an object is copied to the disk piece by piece."""
STATE_FILE, LOCK_FILE, USE_FILE = "copied.json", "lock", "in-use"
VERSION = 1

STATE_S = 5.0
"""The seconds between two times at which the state of a copy is written."""

_in_use: dict[Path, int] = {}
"""The copies that this process uses, with the descriptors that keep them from being evicted."""
_spent: list[float] = []
"""The seconds that each call of `fetch` has taken since `spent_s` was called."""


@dataclass
class State:
    """The content of a copy."""

    tags: dict[str, str] = field(default_factory=dict)
    """The tag of each object that has been copied, by its name."""
    files: dict[str, list[str]] = field(default_factory=dict)
    """The files of each shard, and of each object whose file has another name, relative to the
    copy's folder.
    """
    is_complete: bool = False
    """True if every object of the last listing has been copied."""

    @classmethod
    def of(cls, file: Path) -> "State":
        """Read a state; one that is missing or damaged is empty."""
        try:
            values = json.loads(file.read_text())
            if values.pop("version") == VERSION:
                return cls(**values)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            pass
        return cls()

    def write(self, file: Path) -> None:
        """Write the state, completely or not at all; other threads may change it meanwhile."""
        partial = file.with_name(f".{file.name}")
        tags, files = dict(self.tags), dict(self.files)  # an object's tag is set after its files
        values = {"tags": tags, "files": files, "is_complete": self.is_complete}
        partial.write_text(json.dumps({"version": VERSION, **values}))
        partial.replace(file)

    @property
    def paths(self) -> set[str]:
        """All files that belong to the copy, relative to its folder."""
        return {path for name in self.tags for path in self.files.get(name, [name])}


@dataclass(frozen=True)
class SourceObject:
    """An object that the copy should have."""

    facts: ObjectFacts
    place: str
    """Its file, relative to the copy's folder; empty for a shard, which has many."""


def is_bucket(data: str) -> bool:
    """True if the value of `--data` is an address of a bucket."""
    return data.startswith(SCHEME)


def at_hand(config: DataConfig) -> DataConfig:
    """Return the config with a folder that exists on this machine.

    Images of a bucket are fetched only if their copy is missing here.

    Raises:
        NotReady: the images cannot be fetched.
        DataError: a shard is damaged.
    """
    if not config.bucket or _use(Path(config.root)):
        return config
    return replace(config, root=str(fetch(config.bucket)))


def _use(folder: Path) -> bool:
    """True if a folder exists and is not a copy that is incomplete; a copy is not evicted then."""
    entry = folder.parent.parent
    if entry.parent != cache_folder("buckets"):
        return folder.is_dir()
    try:
        _keep(entry)
        os.utime(entry)
    except OSError:
        return False
    return folder.is_dir() and State.of(entry / STATE_FILE).is_complete


def _keep(entry: Path) -> None:
    """Keep a copy from being evicted as long as this process lives.

    Raises:
        OSError: it does not exist, or is being evicted.
    """
    if entry not in _in_use:
        _in_use[entry] = hold(entry / USE_FILE)


def spent_s() -> float:
    """Return the seconds that this process has spent on fetching since the last call."""
    seconds = sum(_spent)
    _spent.clear()
    return seconds


def fetch(address: str) -> Path:
    """Copy what is missing here of the images at an address; return the folder of the copy.

    Raises:
        ConfigError: the address is not valid, or there are no images.
        NotReady: the bucket cannot be read, or the disk is too small.
        DataError: a shard is damaged.
    """
    try:
        bucket = Bucket.of(address)
    except ValueError as error:
        raise ConfigError(f"--data: {error}.") from error
    digest = hashlib.sha256(f"{bucket.endpoint} {bucket}".encode()).hexdigest()[:16]
    entry = cache_folder("buckets") / digest
    name = PurePosixPath(bucket.prefix).name or bucket.name
    folder, began = entry / "files" / name.removesuffix(manifest.SUFFIX), time.monotonic()
    try:
        make_private(entry.parent)
        folder.mkdir(parents=True, exist_ok=True)
        (entry / USE_FILE).touch()
        _keep(entry)
        with _locked(entry):
            _update(bucket, entry, folder)
        evict(entry.parent, cache_limit(entry.parent), name=USE_FILE, spare=entry)
    except StorageError as error:
        raise NotReady(
            f"the images cannot be fetched: {error.strerror}. Fix the problem, and repeat the "
            "command; what has been fetched stays."
        ) from error
    except OSError as error:
        is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        remedy = "Make room" if is_full else "Repeat the command"
        raise NotReady(
            f"the images in {bucket} cannot be copied to '{entry}' ({error.strerror}). {remedy}, "
            "or set XDG_CACHE_HOME to a folder on another disk."
        ) from error
    finally:
        _spent.append(time.monotonic() - began)
    return folder


@contextmanager
def _locked(entry: Path) -> Iterator[None]:
    """Wait until no other process copies to this entry, and keep others waiting."""
    descriptor = os.open(entry / LOCK_FILE, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        with (
            step("waiting for another command that fetches the same images"),
            suppress(OSError),  # the file system has no locks
        ):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _update(bucket: Bucket, entry: Path, folder: Path) -> None:
    """Make a copy equal to the bucket."""
    with step(f"listing {bucket}"):
        bucket.reach()
        place, sources = _sources(bucket)
    _check_names(place, sources)
    state = State.of(entry / STATE_FILE)
    missing = {
        name: each for name, each in sources.items() if not _is_here(folder, name, each, state)
    }
    removed = state.tags.keys() - sources.keys()
    if not missing and not removed and state.is_complete:
        os.utime(entry)
        return
    _check_disk(bucket, entry, missing)
    state.is_complete = False
    state.write(entry / STATE_FILE)
    for name in [*removed, *(missing.keys() & state.tags.keys())]:
        _remove(folder, name, state)
    _remove_unknown(folder, state)
    try:
        _fetch_all(place, folder, missing, state, entry / STATE_FILE)
        state.is_complete = True
    finally:
        state.write(entry / STATE_FILE)


def _remove_unknown(folder: Path, state: State) -> None:
    """Remove the files that a process has left which was killed before it wrote the state."""
    recorded = state.paths
    for path in folder.rglob("*"):
        if not path.is_dir() and str(path.relative_to(folder)) not in recorded:
            path.unlink()


def _sources(bucket: Bucket) -> tuple[Bucket, dict[str, SourceObject]]:
    """Return the place of the objects to copy, and these by their names relative to it.

    Raises:
        ConfigError: there are none, or the manifest is not valid.
    """
    if bucket.prefix.endswith(manifest.SUFFIX) and (stored := bucket.get()) is not None:
        place = replace(bucket, prefix=bucket.prefix.rpartition("/")[0])
        objects = place.objects()
        places = manifest.places(bucket, stored.content, objects)
        sources = {name: SourceObject(objects[name], path) for name, path in places.items()}
    else:
        place = bucket
        sources = {
            name: SourceObject(facts, "" if name.lower().endswith(shards.SUFFIX) else name)
            for name, facts in bucket.objects().items()
            if _is_fetched(name)
        }
    if not sources:
        raise ConfigError(
            f"there are no images below {bucket}/. Use s3://BUCKET/PREFIX, where PREFIX is the "
            "folder of the images, as for folder:PATH, or contains tar files; or the address of a "
            "CSV file with the columns image and class."
        )
    return place, sources


def _is_fetched(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix.lower() in FETCHED and not path.name.startswith(".")


def _check_names(bucket: Bucket, objects: dict[str, SourceObject]) -> None:
    """Check that each object can become a file.

    Raises:
        ConfigError: a name leads out of the folder, or is that of a folder of other objects.
    """
    folders = {str(parent) for name in objects for parent in PurePosixPath(name).parents}
    for name in objects:
        path = PurePosixPath(name)
        if str(path) != name or path.is_absolute() or ".." in path.parts or name in folders:
            raise ConfigError(
                f"{bucket}: the object '{printable(name[:200])}' cannot become a file of a folder. "
                "Rename it."
            )


def _is_here(folder: Path, name: str, source: SourceObject, state: State) -> bool:
    """True if an object has been copied, and its files are still there."""
    if state.tags.get(name) != source.facts.tag:
        return False
    files = state.files.get(name, [name])
    if not source.place:
        return all((folder / file).is_file() for file in files)
    try:
        return files == [source.place] and (
            (folder / source.place).stat().st_size == source.facts.size
        )
    except OSError:
        return False


def _check_disk(bucket: Bucket, entry: Path, missing: dict[str, SourceObject]) -> None:
    """Check that the disk has room for these objects, and for unpacking the largest shard.

    Raises:
        NotReady: it has not.
    """
    tars = [source.facts.size for source in missing.values() if not source.place]
    needed = sum(source.facts.size for source in missing.values())
    needed += min(sum(tars), AT_ONCE * max(tars, default=0))
    free = shutil.disk_usage(entry).free
    if needed > free:
        raise NotReady(
            f"{counted(len(missing), 'object')} of {bucket} with {gigabytes(needed)} must be "
            f"copied to '{entry}', where {gigabytes(free)} are free. Make room, or set "
            "XDG_CACHE_HOME to a folder on another disk."
        )


def _remove(folder: Path, name: str, state: State) -> None:
    """Remove the files of an object from the copy."""
    state.tags.pop(name, None)
    for file in state.files.pop(name, [name]):
        (folder / file).unlink(missing_ok=True)
        with suppress(OSError):  # the folder has other files
            (folder / file).parent.rmdir()


def _fetch_all(
    bucket: Bucket, folder: Path, missing: dict[str, SourceObject], state: State, file: Path
) -> None:
    """Fetch objects, several at once; after an error, those that had begun are finished.

    The state is written to its file every few seconds, in case the process is killed.
    """
    with (
        step(f"fetching images from {bucket}", len(missing)) as advance,
        ThreadPoolExecutor(AT_ONCE) as pool,
    ):

        def fetch_one(name: str) -> None:
            _fetch_one(bucket, folder, name, missing[name], state)
            advance()

        futures, due = [pool.submit(fetch_one, name) for name in missing], time.monotonic()
        try:
            for future in futures:
                future.result()
                if time.monotonic() > due:
                    state.write(file)
                    due = time.monotonic() + STATE_S
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _fetch_one(bucket: Bucket, folder: Path, name: str, source: SourceObject, state: State) -> None:
    """Fetch an object and, if it is a shard, unpack it; a damaged shard is fetched once more."""
    path = folder / (source.place or name)
    path.parent.mkdir(parents=True, exist_ok=True)
    _download(bucket, name, source.facts, path)
    if not source.place:
        try:
            files = _unpack(path, name, source.facts)
        except DataError:
            _download(bucket, name, source.facts, path)
            try:
                files = _unpack(path, name, source.facts)
            except DataError as error:
                raise DataError(
                    f"the shard {bucket / name} cannot be used: {error}. Store it again, or "
                    "remove it."
                ) from error
        state.files[name] = files
    elif source.place != name:
        state.files[name] = [source.place]
    state.tags[name] = source.facts.tag


def _unpack(path: Path, name: str, facts: ObjectFacts) -> list[str]:
    """Unpack a shard beside itself, remove it, and return its files relative to the copy."""
    try:
        files = shards.unpack(path, path.parent)
    finally:
        path.unlink()
    for file in files:
        os.utime(path.parent / file, (facts.modified_s, facts.modified_s))
    return [str(PurePosixPath(name).parent / file) for file in files]


def _download(bucket: Bucket, name: str, facts: ObjectFacts, path: Path) -> None:
    """Write an object to a file, with the object's time, on which the cache's keys depend.

    Raises:
        StorageError: it is gone, or shorter than the listing said.
    """
    partial = path.with_name(f".{path.name}.part")
    if facts.size >= LARGE:
        with TemporaryDirectory(prefix=".", dir=path.parent) as own:
            bucket.download(Path(own), [name])
            (Path(own) / name).replace(partial)
    else:
        stored = bucket.get(name)
        if stored is None or len(stored.content) != facts.size:
            raise StorageError(f"{bucket / name} has changed while it was fetched")
        partial.write_bytes(stored.content)
    partial.replace(path)
    os.utime(path, (facts.modified_s, facts.modified_s))
