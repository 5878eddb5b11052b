"""The home of a search, where it is stored: a folder, or a bucket with copies in local folders.

With a bucket, the driver writes to a local folder of its own, and readers download the files they
need into another local folder. The bucket is the source of truth. The checkpoints of trials do not
pass through the driver: each worker uploads its own to the bucket (`cluster.storage.mirror`).
"""

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
from trainables.checkpoints.heartbeat import SEND_S, Beat, last_beats
from trainables.disk import cache_folder, make_private, read_regular
from trainables.errors import ConfigError

Storage = Path | Bucket
"""A storage that contains searches: a folder, or a prefix in a bucket."""
TRIALS, BEATS = "trials", "beats"
DECISION = "improvement.json"
"""The file next to the journal with the decision of `search.improve`."""
EXPLANATIONS = "explanations.json"
"""The file next to the journal with predictions that `search.explain` explained."""
REQUESTS = "requests"
"""The folder of requests to the driver (`search.journal.requests`)."""
OpenedJournal = tuple[Journal, list[Event]]


class Place(NamedTuple):
    """The location of a trial's checkpoints, as values that can be sent to other machines."""

    folder: str
    """The absolute path of the folder. With a mirror it is the address in the bucket, which is only
    used in messages.
    """
    mirror: CheckpointMirror | None = None
    """Copies the checkpoints to a bucket; None if they are stored in a folder."""


@dataclass(frozen=True)
class StoredSize:
    """The size of a search, on disk or in a bucket."""

    files: int
    bytes: int


def own_path(text: str) -> Path:
    """Parse the path of a file or folder, for the `parse` of an option.

    `~` means the home folder, even if the shell did not expand it.

    Raises:
        ConfigError: the user after `~` has no home folder.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        user = text.partition("/")[0]
        raise ConfigError(
            f"there is no home folder for '{user[:80]}'; to use a folder with this name, write "
            f"'./{user[:80]}'"
        ) from error


def storage(text: str) -> Storage:
    """Parse `--storage`: a folder or `s3://BUCKET/PREFIX`.

    Raises:
        ConfigError: the text is neither of these.
    """
    if "://" not in text:
        return own_path(text)
    if not text.startswith(SCHEME):
        raise ConfigError(f"expected a folder or s3://BUCKET/PREFIX (got '{text[:200]}')")
    try:
        return Bucket.of(text)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def home(place: Storage, name: str) -> "Home":
    """Return the home of the search with this name, which need not exist."""
    return Home(place / name) if isinstance(place, Path) else BucketHome(place / name, name)


def searches_in(place: Storage) -> list[str]:
    """Return the names of the searches in a place, sorted.

    In a bucket, these are all prefixes, even those that contain no search.
    """
    if isinstance(place, Path):
        return sorted(path.parent.name for path in place.glob(f"*/{FILE_NAME}"))
    place.reach()
    return sorted(place.folders())


class Home:
    """The home of a search that is stored in a folder."""

    is_shared: ClassVar = True
    """True if other machines may see the same folder."""
    asked_every_s: ClassVar = 0.25
    """Seconds between two polls for requests."""
    beats_every_s: ClassVar = 1.0
    beats_late_s: ClassVar = 0.0
    """Seconds between two polls for heartbeats, and the maximum delay of a heartbeat in seconds."""
    patience_s: ClassVar = PATIENCE_S
    """A driver whose lock has not changed for this many seconds counts as dead."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __str__(self) -> str:
        return str(self.folder)

    def exists(self) -> bool:
        """True if the folder contains a journal or trials."""
        return any((self.folder / part).exists() for part in (FILE_NAME, TRIALS))

    def opened(self, *, files: bool = False) -> Path:
        """Return a local folder that contains the journal, for readers.

        With `files`, it also contains the files that the journal names as evidence, the decision
        of `search.improve` and the explained predictions of `search.explain`.
        """
        return self.folder

    def tail(self) -> Tail | CopyTail:
        """Return a reader that follows the journal as it grows."""
        return Tail(self.folder / FILE_NAME)

    def stamp(self) -> str:
        """Return a string that changes whenever the journal does; empty if there is no journal."""
        try:
            status = (self.folder / FILE_NAME).stat()
        except FileNotFoundError:
            return ""
        return f"{status.st_ino} {status.st_size} {status.st_mtime_ns}"

    def read(self, part: str) -> Path:
        """Return the local path of a file or folder of the search, for readers."""
        return self.folder / part

    def lease(
        self, *, say: Callable[[str], None] = lambda text: None
    ) -> "AbstractContextManager[Lease | BucketLease]":
        """Return the lease that a driver must hold, as a context manager."""
        return Lease(self.folder, say=say)

    def holder(self) -> str:
        """Name the driver that runs the search now, as far as is known; empty if none does."""
        return holder_of(self.folder)

    def lock(self) -> bytes:
        """Return the content of the lock, which a driver changes every few seconds."""
        try:
            return read_regular(self.folder / LOCK_FILE, SIZE)
        except FileNotFoundError:
            return b""

    def journal(self, *, new: bool) -> OpenedJournal:
        """Open the journal for writing, and return it with its events.

        The caller must hold the lease. `new` is True to create the journal.
        """
        return (Journal(self.folder), []) if new else Journal.reopen(self.folder)

    def names(self) -> list[str]:
        """Return the names of the files and folders of the search, except the lock."""
        return (
            sorted(path.name for path in self.folder.iterdir() if path.name != LOCK_FILE)
            if self.folder.is_dir()
            else []
        )

    def trials(self) -> list[str]:
        """Return the names of the trials that have a folder."""
        return sorted(path.name for path in (self.folder / TRIALS).glob("*"))

    def place(self, trial: str) -> Place:
        """Return the location of a trial's checkpoints."""
        return Place(str((self.folder / TRIALS / trial).absolute()))

    def has(self, checkpoint: str) -> bool:
        """True if this checkpoint, a path relative to the search's folder, exists."""
        return (self.folder / checkpoint).is_dir()

    def checkpoints(self, trials: Iterable[str]) -> dict[str, dict[str, int]]:
        """Return the size in bytes of each checkpoint of these trials, by trial and name.

        If n checkpoints share a file, each of them counts 1 / n of its size.
        """
        sizes_by_trial = {
            trial: {
                path.name: _bytes_in(path)
                for path in saved_checkpoints(self.folder / TRIALS / trial)
            }
            for trial in trials
        }
        return {trial: sizes for trial, sizes in sizes_by_trial.items() if sizes}

    def drop(self, trial: str, checkpoints: Iterable[str]) -> None:
        """Remove checkpoints of a trial, if they exist."""
        for name in checkpoints:
            remove(self.folder / TRIALS / trial / name)

    def beats(self, folders: list[Path]) -> list[Beat | None]:
        """Return the last heartbeat of each trial, given the folders of the trials.

        None for a trial whose heartbeat cannot be read.
        """
        return last_beats(folders)

    def fetch(self, *parts: str) -> None:
        """Copy files or folders from the storage into the driver's folder, if they exist.

        Does nothing in this class, because the driver's folder is the storage.
        """

    def keep(self, *parts: str) -> None:
        """Copy files or folders from the driver's folder to the storage.

        Does nothing in this class, because the driver's folder is the storage.
        """

    def write(self, name: str, content: bytes) -> None:
        """Write a file into the driver's folder atomically, and copy it to the storage (`keep`)."""
        _write(self.folder / name, content)
        self.keep(name)

    def open_for_requests(self) -> None:
        """Create the folder for requests, with the permissions of the search's folder."""
        folder = self.folder / REQUESTS
        with suppress(FileExistsError):
            folder.mkdir()
            folder.chmod(stat.S_IMODE(self.folder.stat().st_mode))

    def ask(self, request: str, content: bytes) -> None:
        """Store a request for the driver, atomically."""
        self.open_for_requests()
        _write(self.folder / REQUESTS / request, content)

    def requests(self) -> dict[str, int]:
        """Return the size in bytes of each file in the folder of requests, by name."""
        sizes = dict[str, int]()
        with suppress(FileNotFoundError), self._requests() as folder, os.scandir(folder) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):  # it was answered in the meantime
                    sizes[entry.name] = entry.stat(follow_symlinks=False).st_size
        return sizes

    def request(self, request: str, most: int) -> bytes:
        """Read at most `most` bytes of a request.

        Raises:
            OSError: it does not exist, is not a regular file, or the storage fails.
        """
        with self._requests() as folder:
            descriptor = os.open(
                request, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder
            )
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError("it is not a regular file")
            return file.read(most)

    def drop_request(self, request: str) -> None:
        """Remove a request, if it is still there."""
        with suppress(FileNotFoundError), self._requests() as folder:
            os.unlink(request, dir_fd=folder)

    @contextmanager
    def _requests(self) -> Iterator[int]:
        """Open the folder of requests, and yield its descriptor.

        Other users can write to the folder. Therefore symbolic links are not followed, neither for
        the folder itself nor for the requests in it.
        """
        descriptor = os.open(self.folder / REQUESTS, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def size(self) -> StoredSize:
        """Return the size of the search, without its lock file."""
        lock = self.folder / LOCK_FILE
        files = [path for path in self.folder.rglob("*") if path.is_file() and path != lock]
        return StoredSize(len(files), _bytes_of(files))

    def remove(self) -> None:
        """Remove the whole search. The caller must hold the lease.

        The journal is removed last, so that an interrupted removal still leaves a search that is
        listed.
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
    """The home of a search that is stored in a bucket."""

    is_shared: ClassVar = False
    asked_every_s: ClassVar = 2.0
    beats_every_s: ClassVar = SEND_S
    beats_late_s: ClassVar = 2 * SEND_S
    patience_s: ClassVar = BUCKET_PATIENCE_S

    def __init__(self, bucket: Bucket, name: str) -> None:
        super().__init__(copy_folder("driven", bucket))
        self.bucket, self.name = bucket, name

    def __str__(self) -> str:
        return str(self.bucket)

    def exists(self) -> bool:
        """True if the bucket contains the first piece of the journal."""
        self.bucket.reach()
        return self.bucket.has(f"{FILE_NAME}/{FIRST}")

    def opened(self, *, files: bool = False) -> Path:
        """Download the journal, and return the folder of the copy for readers.

        Raises:
            JournalError: there is no such search.
        """
        self.bucket.reach()
        folder = self._read
        content = JournalCopy(self.bucket / FILE_NAME).read()
        if not content and not self.names():
            raise JournalError(
                Message(
                    f"there is no search at '{self}'. Check the name and --storage, or start a "
                    "search with '",
                    Remedy("run", start=Start.ANYWHERE),
                    "'.",
                )
            )
        make_private(cache_folder("storage"))
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _write(folder / FILE_NAME, content)
        if files:
            names = evidence_files(read(folder / FILE_NAME))
            self._fetch(folder, [*names, DECISION, EXPLANATIONS])
        return folder

    def tail(self) -> Tail | CopyTail:
        """Return a reader that follows the journal in the bucket."""
        return CopyTail(self.bucket / FILE_NAME)

    def stamp(self) -> str:
        """Return the name and tag of the last piece, which change whenever the journal does."""
        return repr(max((self.bucket / FILE_NAME).listing().items(), default=""))

    def read(self, part: str) -> Path:
        """Download a file or folder into the copy for readers, and return its path there."""
        self._fetch(self._read, [part])
        return self._read / part

    @property
    def _read(self) -> Path:
        return copy_folder("read", self.bucket)

    def lease(
        self, *, say: Callable[[str], None] = lambda text: None
    ) -> "AbstractContextManager[Lease | BucketLease]":
        """Return the lease, which is an object in the bucket."""
        return BucketLease(self.bucket, self.name, say=say)

    def holder(self) -> str:
        """Name the driver that the lock records; empty if it is free."""
        stored = self.bucket.get(LOCK_FILE)
        return (
            f"{holder_in(stored)}, if it is still alive"
            if stored is not None and not is_free(stored)
            else ""
        )

    def lock(self) -> bytes:
        """Return the content of the lock in the bucket."""
        stored = self.bucket.get(LOCK_FILE)
        return b"" if stored is None else stored.content

    def journal(self, *, new: bool) -> OpenedJournal:
        """Create the driver's copy of the journal, open it for writing, and return its events.

        Files that an earlier driver has left in the driver's folder are removed.

        Raises:
            JournalError: `new` is True, but the search already exists.
        """
        copy = JournalCopy(self.bucket / FILE_NAME)
        shutil.rmtree(self.folder, ignore_errors=True)
        make_private(cache_folder("storage"))
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        content = copy.read()
        if new and content:
            raise JournalError(
                f"a search named '{self.name}' already exists at '{self}'. Use another --name."
            )
        if not new:
            _write(self.folder / FILE_NAME, content)
        journal, events = super().journal(new=new)
        self._fetch(self.folder, evidence_files(events))  # MLflow may not have these files yet
        journal.copy = copy.append
        return journal, events

    def names(self) -> list[str]:
        """Return the names of the files and folders in the bucket, except the lock."""
        self.bucket.reach()
        return sorted({part.partition("/")[0] for part in self.bucket.listing()} - {LOCK_FILE})

    def trials(self) -> list[str]:
        """Return the names of the trials in the bucket."""
        return sorted({part.partition("/")[0] for part in (self.bucket / TRIALS).listing()})

    def place(self, trial: str) -> Place:
        """Return the address of a trial's checkpoints, and the mirror that uploads them."""
        beats = replace(self.bucket, quick=True) / BEATS / trial
        return Place(
            f"{self}/{TRIALS}/{trial}", CheckpointMirror(self.bucket / TRIALS / trial, beats)
        )

    def has(self, checkpoint: str) -> bool:
        """Return True without a check: the download of a missing checkpoint fails."""
        return True

    def checkpoints(self, trials: Iterable[str]) -> dict[str, dict[str, int]]:
        """Return the size in bytes of each checkpoint of these trials, by trial and name."""
        names, sizes_by_trial = set(trials), dict[str, dict[str, int]]()
        for part, size in (self.bucket / TRIALS).sizes().items():
            trial, name, *rest = part.split("/")
            if rest and trial in names and name.startswith(CHECKPOINT):
                sizes = sizes_by_trial.setdefault(trial, {})
                sizes[name] = sizes.get(name, 0) + size
        return sizes_by_trial

    def drop(self, trial: str, checkpoints: Iterable[str]) -> None:
        """Remove checkpoints of a trial from the bucket, if they exist."""
        mirror = self.place(trial).mirror
        assert mirror is not None
        mirror.drop(checkpoints)

    def beats(self, folders: list[Path]) -> list[Beat | None]:
        """Return the last heartbeats in the bucket; None for each that cannot be read now."""
        bucket = replace(self.bucket, quick=True)

        def fetch_beat(folder: Path) -> Beat | None:
            with suppress(StorageError):
                if (stored := bucket.get(f"{BEATS}/{folder.name}")) is not None:
                    return Beat.parse(stored.content.decode())
            return None

        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(fetch_beat, folders))

    def fetch(self, *parts: str) -> None:
        """Download files or folders into the driver's folder."""
        self._fetch(self.folder, list(parts))

    def write(self, name: str, content: bytes) -> None:
        """Write a file as `Home.write`, also if the driver ran on another machine."""
        make_private(cache_folder("storage"))
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        super().write(name, content)

    def keep(self, *parts: str) -> None:
        """Upload files or folders from the driver's folder."""
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
        """Return the size in bytes of each request in the bucket, by name.

        If the storage fails, this is retried only for a short time.
        """
        return (replace(self.bucket, quick=True) / REQUESTS).sizes()

    def request(self, request: str, most: int) -> bytes:
        """Read at most `most` bytes of a request in the bucket.

        Raises:
            FileNotFoundError: there is no such request.
        """
        stored = replace(self.bucket, quick=True).get(f"{REQUESTS}/{request}", most=most)
        if stored is None:
            raise FileNotFoundError(request)
        return stored.content

    def drop_request(self, request: str) -> None:
        """Remove a request from the bucket."""
        replace(self.bucket, quick=True).remove([f"{REQUESTS}/{request}"])

    def size(self) -> StoredSize:
        """Return the size of the search in the bucket, without its lock."""
        sizes = {name: size for name, size in self.bucket.sizes().items() if name != LOCK_FILE}
        return StoredSize(len(sizes), sum(sizes.values()))

    def remove(self) -> None:
        """Remove the search from the bucket, its journal last, and remove its local copies."""
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


def evidence_files(events: list[Event]) -> list[str]:
    """Return the paths of the files and folders that a journal names as evidence."""
    return [event.data.file for event in events if isinstance(event.data, Evidence)]


def copy_folder(kind: str, bucket: Bucket) -> Path:
    """Return the local folder for copies of a search in a bucket.

    `kind` is "driven" for the copy of the driver, or "read" for the copy of readers.
    """
    return (
        cache_folder("storage")
        / kind
        / hashlib.sha256(repr(bucket).encode()).hexdigest()[:12]
        / Path(bucket.prefix).name
    )


def saved_checkpoints(trial: Path) -> list[Path]:
    """Return the checkpoints in a trial's folder, including incomplete ones."""
    return sorted(path for path in trial.glob(f"{CHECKPOINT}*") if path.is_dir())


def _bytes_in(checkpoint: Path) -> int:
    return _bytes_of(path for path in checkpoint.rglob("*") if path.is_file())


def _bytes_of(files: Iterable[Path]) -> int:
    """Add up the sizes of files in bytes; a file with n hard links counts 1 / n of its size."""
    return sum(status.st_size // status.st_nlink for status in map(Path.stat, files))


def _write(path: Path, content: bytes) -> None:
    partial = path.with_name(f".{path.name}.{uuid4().hex[:8]}")
    partial.write_bytes(content)
    partial.replace(path)
