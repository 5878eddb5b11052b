"""The place where one search is kept: a folder, or a place in a bucket with copies in folders here.

A driver writes in a folder of its own, and readers fetch what they want into another: what is in
the bucket is what counts. A trial's checkpoints never pass through the driver: each worker keeps
its own in the bucket (`cluster.storage.mirror`).
"""

import argparse
import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, NamedTuple
from uuid import uuid4

from cluster.storage.bucket import AT_ONCE, SCHEME, Bucket, StorageError
from cluster.storage.mirror import CHECKPOINT, CheckpointMirror, remove
from search.journal.bucket_lease import PATIENCE_S as BUCKET_PATIENCE_S
from search.journal.bucket_lease import BucketLease, holder_in, is_free
from search.journal.bucket_log import FIRST, CopyTail, JournalCopy
from search.journal.events import Evidence
from search.journal.journal import FILE_NAME, Event, Journal, JournalError, Tail, read
from search.journal.lease import FILE_NAME as LOCK_FILE
from search.journal.lease import PATIENCE_S, SIZE, Lease, holder_of
from search.values.message import Message, Remedy, Start
from trainables.caches import cache_folder, make_private
from trainables.checkpoints.heartbeat import TELL_S, Beat, beat_of, last_beats
from trainables.disk import read_regular

Storage = Path | Bucket
"""A place that keeps searches."""
TRIALS, BEATS = "trials", "beats"
DECISION = "improvement.json"
"""The file beside the journal with what `search.improve` has decided."""
REQUESTS = "requests"
"""The folder of what the driver is asked for (`search.journal.requests`)."""
Opened = tuple[Journal, list[Event]]


class Place(NamedTuple):
    """The place of a trial's checkpoints, as plain values that may cross to other machines."""

    folder: str
    """A folder; with a mirror the address in the bucket, for people."""
    mirror: CheckpointMirror | None = None
    """The mirror that keeps them in a bucket."""


@dataclass(frozen=True)
class Size:
    """The room that a search takes on the disk, or in a bucket."""

    files: int
    bytes: int


def own_path(text: str) -> Path:
    """Return the file or folder that a text names, as an option's type.

    `~` is the home folder, even where the shell did not expand it.

    Raises:
        argparse.ArgumentTypeError: no home folder is known of the user after `~`.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        user = text.partition("/")[0]
        raise argparse.ArgumentTypeError(
            f"no home folder is known of '{user[:80]}'; a folder of that name is './{user[:80]}'"
        ) from error


def storage(text: str) -> Storage:
    """Return the place that `--storage` names, as an option's type.

    Raises:
        argparse.ArgumentTypeError: it is neither a folder nor an address of a bucket.
    """
    if "://" not in text:
        return own_path(text)
    if not text.startswith(SCHEME):
        raise argparse.ArgumentTypeError(
            f"a folder or s3://BUCKET/PREFIX is needed (got '{text[:200]}')"
        )
    try:
        return Bucket.of(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def home(place: Storage, name: str) -> "Home":
    """Return the place where the search of this name is kept."""
    return Home(place / name) if isinstance(place, Path) else BucketHome(place / name, name)


def searches_in(place: Storage) -> list[str]:
    """Return the names of the searches that are kept there, in order.

    Of a bucket these are all names that have something below them.

    Raises:
        StorageError: the bucket refuses.
    """
    if isinstance(place, Path):
        return sorted(path.parent.name for path in place.glob(f"*/{FILE_NAME}"))
    place.reach()
    return sorted(place.folders())


class Home:
    """A search that is kept in a folder."""

    is_shared: ClassVar = True
    """True if other machines may see that folder."""
    asked_every_s: ClassVar = 0.25
    """Seconds between two looks for requests."""
    beats_every_s: ClassVar = 1.0
    beats_late_s: ClassVar = 0.0
    """Seconds between two looks for heartbeats, and how many seconds late these may be seen."""
    patience_s: ClassVar = PATIENCE_S
    """Seconds after which a driver whose lock has not changed counts as dead."""

    def __init__(self, folder: Path) -> None:
        """Take `folder`, the driver's."""
        self.folder = folder

    def __str__(self) -> str:
        return str(self.folder)

    def exists(self) -> bool:
        """Return whether there is a search, whole or not."""
        return any((self.folder / part).exists() for part in (FILE_NAME, TRIALS))

    def opened(self, *, files: bool = False) -> Path:
        """Return a folder with the journal, for readers.

        With `files` it also holds what the journal names as evidence, and what an improvement has
        decided.
        """
        return self.folder

    def tail(self) -> Tail | CopyTail:
        """Return a reader of its journal that goes on where it ended."""
        return Tail(self.folder / FILE_NAME)

    def stamp(self) -> str:
        """Return a text that changes with its journal; empty where there is none."""
        try:
            found = (self.folder / FILE_NAME).stat()
        except FileNotFoundError:
            return ""
        return f"{found.st_ino} {found.st_size} {found.st_mtime_ns}"

    def read(self, part: str) -> Path:
        """Return a file or folder of the search, for readers."""
        return self.folder / part

    def lease(
        self, *, say: Callable[[str], None] = lambda text: None
    ) -> "AbstractContextManager[Lease | BucketLease]":
        """Return the lease that its driver holds."""
        return Lease(self.folder, say=say)

    def holder(self) -> str:
        """Return the driver that runs it now, as far as can be told; empty for none."""
        return holder_of(self.folder)

    def lock(self) -> bytes:
        """Return the content of its lock, which its driver changes every few seconds."""
        try:
            return read_regular(self.folder / LOCK_FILE, SIZE)
        except FileNotFoundError:
            return b""

    def journal(self, *, new: bool) -> Opened:
        """Return its journal to write to, and the events so far. The caller holds the lease."""
        return (Journal(self.folder), []) if new else Journal.reopen(self.folder)

    def names(self) -> list[str]:
        """Return the names of what is there already, beside a lock."""
        return (
            sorted(path.name for path in self.folder.iterdir() if path.name != LOCK_FILE)
            if self.folder.is_dir()
            else []
        )

    def trials(self) -> list[str]:
        """Return the names of the trials that have a folder."""
        return sorted(path.name for path in (self.folder / TRIALS).glob("*"))

    def place(self, trial: str) -> Place:
        """Return the place of a trial's checkpoints."""
        return Place(str((self.folder / TRIALS / trial).absolute()))

    def has(self, checkpoint: str) -> bool:
        """Return whether this checkpoint, a path in the search's folder, is there."""
        return (self.folder / checkpoint).is_dir()

    def checkpoints(self, trials: Iterable[str]) -> dict[str, dict[str, int]]:
        """Return the bytes of each checkpoint of these trials, by trial and name.

        A file that another trial has too, which goes on from this one, counts in part.
        """
        found = {
            trial: {path.name: _bytes_in(path) for path in saved(self.folder / TRIALS / trial)}
            for trial in trials
        }
        return {trial: sizes for trial, sizes in found.items() if sizes}

    def drop(self, trial: str, checkpoints: Iterable[str]) -> None:
        """Remove checkpoints of a trial, as far as they are there."""
        for name in checkpoints:
            remove(self.folder / TRIALS / trial / name)

    def beats(self, folders: list[Path]) -> list[Beat | None]:
        """Return the last heartbeat of the trial of each of these folders."""
        return last_beats(folders)

    def fetch(self, *parts: str) -> None:
        """Copy these files or folders into the driver's folder, as far as they exist."""

    def keep(self, *parts: str) -> None:
        """Copy these files or folders of the driver's to where the search is kept."""

    def write(self, name: str, content: bytes) -> None:
        """Write a file, whole or not at all, and keep it."""
        _write(self.folder / name, content)
        self.keep(name)

    def open_for_requests(self) -> None:
        """Let whoever may write into the search's folder ask its driver for something."""
        place = self.folder / REQUESTS
        with suppress(FileExistsError):
            place.mkdir()
            place.chmod(stat.S_IMODE(self.folder.stat().st_mode))

    def ask(self, request: str, content: bytes) -> None:
        """Put a request there, whole or not at all, for the driver to take up."""
        self.open_for_requests()
        _write(self.folder / REQUESTS / request, content)

    def requests(self) -> dict[str, int]:
        """Return the bytes of each request that is there, by name.

        Raises:
            OSError: the storage refuses.
        """
        found = dict[str, int]()
        with suppress(FileNotFoundError), self._requests() as place, os.scandir(place) as entries:
            for one in entries:
                with suppress(FileNotFoundError):  # it was answered just now
                    found[one.name] = one.stat(follow_symlinks=False).st_size
        return found

    def request(self, request: str, most: int) -> bytes:
        """Return the content of a request, or `most` bytes of it.

        Raises:
            OSError: it is gone, it is no plain file, or the storage refuses.
        """
        with self._requests() as place:
            descriptor = os.open(request, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=place)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError("it is no plain file")
            return file.read(most)

    def drop_request(self, request: str) -> None:
        """Remove a request, which has been answered, if it is still there.

        Raises:
            OSError: the storage refuses.
        """
        with suppress(FileNotFoundError), self._requests() as place:
            os.unlink(request, dir_fd=place)

    @contextmanager
    def _requests(self) -> Iterator[int]:
        """Open the folder of requests.

        Others may write here: neither it nor what is in it may be a link to anything else.
        """
        place = os.open(self.folder / REQUESTS, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            yield place
        finally:
            os.close(place)

    def size(self) -> Size:
        """Return how much it holds, beside a lock."""
        lock = self.folder / LOCK_FILE
        files = [path for path in self.folder.rglob("*") if path.is_file() and path != lock]
        return Size(len(files), _bytes_of(files))

    def remove(self) -> None:
        """Remove all of it, the journal last, so that what is left if this ends early has a name.

        The caller holds the lease.
        """
        last = [self.folder / name for name in (FILE_NAME, LOCK_FILE)]
        for path in self.folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path not in last:
                path.unlink()
        for path in last:
            path.unlink(missing_ok=True)
        if self.folder.is_symlink():
            self.folder.unlink()
        else:
            self.folder.rmdir()


class BucketHome(Home):
    """A search that is kept in a bucket."""

    is_shared: ClassVar = False
    asked_every_s: ClassVar = 2.0
    beats_every_s: ClassVar = TELL_S
    beats_late_s: ClassVar = 2 * TELL_S
    patience_s: ClassVar = BUCKET_PATIENCE_S

    def __init__(self, bucket: Bucket, name: str) -> None:
        super().__init__(copies("driven", bucket))
        self.bucket, self.name = bucket, name

    def __str__(self) -> str:
        return str(self.bucket)

    def exists(self) -> bool:
        """Return whether the bucket has the beginning of a journal."""
        self.bucket.reach()
        return self.bucket.has(f"{FILE_NAME}/{FIRST}")

    def opened(self, *, files: bool = False) -> Path:
        """Return the folder of a copy for readers, with the journal fetched anew.

        Raises:
            JournalError: no such search.
        """
        self.bucket.reach()
        folder = self._read
        content = JournalCopy(self.bucket / FILE_NAME).read()
        if not content and not self.names():
            raise JournalError(
                Message(
                    f"no search at '{self}'. Check the name and --storage; '",
                    Remedy("run", start=Start.ANYWHERE),
                    "' starts one.",
                )
            )
        make_private(cache_folder("storage"))
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _write(folder / FILE_NAME, content)
        if files:
            self._fetch(folder, [*evidence(read(folder / FILE_NAME)), DECISION])
        return folder

    def tail(self) -> Tail | CopyTail:
        """Return a reader of its journal in the bucket that goes on where it ended."""
        return CopyTail(self.bucket / FILE_NAME)

    def stamp(self) -> str:
        """Return a text that changes with its journal: of its pieces only the last one grows."""
        return repr(max((self.bucket / FILE_NAME).listing().items(), default=""))

    def read(self, part: str) -> Path:
        """Fetch a file or folder into the readers' copy and return its path there."""
        self._fetch(self._read, [part])
        return self._read / part

    @property
    def _read(self) -> Path:
        return copies("read", self.bucket)

    def lease(
        self, *, say: Callable[[str], None] = lambda text: None
    ) -> "AbstractContextManager[Lease | BucketLease]":
        """Return the lease that is an object in the bucket."""
        return BucketLease(self.bucket, self.name, say=say)

    def holder(self) -> str:
        """Return the driver that the lock names; empty for none."""
        found = self.bucket.get(LOCK_FILE)
        return (
            f"{holder_in(found)}, if that still lives"
            if found is not None and not is_free(found)
            else ""
        )

    def lock(self) -> bytes:
        """Return the content of its lock in the bucket."""
        found = self.bucket.get(LOCK_FILE)
        return b"" if found is None else found.content

    def journal(self, *, new: bool) -> Opened:
        """Begin the driver's copy anew and return its journal with the events so far.

        Files that another driver, or an earlier one, has left here do not count.

        Raises:
            JournalError: a new search was asked for, and there is one already.
        """
        copy = JournalCopy(self.bucket / FILE_NAME)
        shutil.rmtree(self.folder, ignore_errors=True)
        make_private(cache_folder("storage"))
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        content = copy.read()
        if new and content:
            raise JournalError(
                f"a search named '{self.name}' is at '{self}' already. Use another --name."
            )
        if not new:
            _write(self.folder / FILE_NAME, content)
        journal, events = super().journal(new=new)
        self._fetch(self.folder, evidence(events))  # which MLflow may not have yet
        journal.copy = copy.append
        return journal, events

    def names(self) -> list[str]:
        """Return the names of what is in the bucket, beside a lock."""
        self.bucket.reach()
        return sorted({part.partition("/")[0] for part in self.bucket.listing()} - {LOCK_FILE})

    def trials(self) -> list[str]:
        """Return the names of the trials in the bucket."""
        return sorted({part.partition("/")[0] for part in (self.bucket / TRIALS).listing()})

    def place(self, trial: str) -> Place:
        """Return the place of a trial's checkpoints in the bucket."""
        beats = replace(self.bucket, quick=True) / BEATS / trial
        return Place(
            f"{self}/{TRIALS}/{trial}", CheckpointMirror(self.bucket / TRIALS / trial, beats)
        )

    def has(self, checkpoint: str) -> bool:
        """Return True: a missing checkpoint is noticed when it is fetched."""
        return True

    def checkpoints(self, trials: Iterable[str]) -> dict[str, dict[str, int]]:
        """Return the bytes of each checkpoint of these trials, by trial and name."""
        wanted, found = set(trials), dict[str, dict[str, int]]()
        for part, size in (self.bucket / TRIALS).sizes().items():
            trial, name, *rest = part.split("/")
            if rest and trial in wanted and name.startswith(CHECKPOINT):
                sizes = found.setdefault(trial, {})
                sizes[name] = sizes.get(name, 0) + size
        return found

    def drop(self, trial: str, checkpoints: Iterable[str]) -> None:
        """Remove checkpoints of a trial from the bucket, as far as they are there."""
        mirror = self.place(trial).mirror
        assert mirror is not None
        mirror.drop(checkpoints)

    def beats(self, folders: list[Path]) -> list[Beat | None]:
        """Return the last heartbeats that the bucket holds; None while it does not answer."""
        bucket = replace(self.bucket, quick=True)

        def one(folder: Path) -> Beat | None:
            with suppress(StorageError):
                if (stored := bucket.get(f"{BEATS}/{folder.name}")) is not None:
                    return beat_of(stored.content.decode())
            return None

        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(one, folders))

    def fetch(self, *parts: str) -> None:
        """Download these files or folders from the bucket."""
        self._fetch(self.folder, list(parts))

    def keep(self, *parts: str) -> None:
        """Upload these files or folders to the bucket."""
        paths = [
            path
            for part in parts
            for path in [self.folder / part, *(self.folder / part).rglob("*")]
            if path.is_file()
        ]
        self.bucket.upload(
            self.folder, [path.relative_to(self.folder).as_posix() for path in paths]
        )

    def open_for_requests(self) -> None:
        """Do nothing: a bucket has no folders."""

    def ask(self, request: str, content: bytes) -> None:
        """Put a request into the bucket."""
        self.bucket.put(content, f"{REQUESTS}/{request}")

    def requests(self) -> dict[str, int]:
        """Return the bytes of each request in the bucket, by name; give up soon."""
        return (replace(self.bucket, quick=True) / REQUESTS).sizes()

    def request(self, request: str, most: int) -> bytes:
        """Return the content of a request in the bucket, or `most` bytes of it."""
        found = replace(self.bucket, quick=True).get(f"{REQUESTS}/{request}", most=most)
        if found is None:
            raise FileNotFoundError(request)
        return found.content

    def drop_request(self, request: str) -> None:
        """Remove a request from the bucket."""
        replace(self.bucket, quick=True).remove([f"{REQUESTS}/{request}"])

    def size(self) -> Size:
        """Return how much the bucket holds of it, beside a lock."""
        sizes = {name: size for name, size in self.bucket.sizes().items() if name != LOCK_FILE}
        return Size(len(sizes), sum(sizes.values()))

    def remove(self) -> None:
        """Remove it from the bucket, the journal last, and its copies here."""
        parts = list(self.bucket.listing())
        last = [part for part in parts if part.startswith((f"{FILE_NAME}/", LOCK_FILE))]
        self.bucket.remove([part for part in parts if part not in last])
        self.bucket.remove(last)
        for copy in (self.folder, self._read):
            shutil.rmtree(copy, ignore_errors=True)

    def _fetch(self, folder: Path, parts: list[str]) -> None:
        make_private(cache_folder("storage"))
        for part in dict.fromkeys(parts):
            if below := [f"{part}/{name}" for name in (self.bucket / part).listing()]:
                self.bucket.download(folder, below)
            elif self.bucket.has(part):
                self.bucket.download(folder, [part])


def evidence(events: list[Event]) -> list[str]:
    """Return the files and folders that a journal names as worth keeping."""
    return [event.data.file for event in events if isinstance(event.data, Evidence)]


def copies(kind: str, bucket: Bucket) -> Path:
    """Return the folder here for copies of what is in a bucket."""
    return (
        cache_folder("storage")
        / kind
        / hashlib.sha256(repr(bucket).encode()).hexdigest()[:12]
        / Path(bucket.prefix).name
    )


def saved(trial: Path) -> list[Path]:
    """Return the checkpoints in a trial's folder, also those that are not whole."""
    return sorted(path for path in trial.glob(f"{CHECKPOINT}*") if path.is_dir())


def _bytes_in(checkpoint: Path) -> int:
    return _bytes_of(path for path in checkpoint.rglob("*") if path.is_file())


def _bytes_of(files: Iterable[Path]) -> int:
    """Return the bytes of files; one with several names counts in part under each."""
    return sum(found.st_size // found.st_nlink for found in map(Path.stat, files))


def _write(path: Path, content: bytes) -> None:
    partial = path.with_name(f".{path.name}.{uuid4().hex[:8]}")
    partial.write_bytes(content)
    partial.replace(path)
