"""The trainings of other searches of the same storage, found in their journals.

They count if they are of the same code and data, on the same kind of machine. The journals are read
in a thread while Ray starts. Checkpoints are not looked at here: the worker that goes on from one
sees whether it is there and whole.
"""

import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Self

from cluster.storage.bucket import AT_ONCE, Bucket, StorageError
from search.decisions.shared_trainings import (
    is_shared_between_searches,
    nearness,
    warm_start_source,
)
from search.design.experiment import NAME, Experiment
from search.journal.bucket_log import FIRST, JournalCopy
from search.journal.journal import FILE_NAME, DamagedJournal
from search.journal.provenance import training_fingerprint
from search.journal.store import Storage, home
from trainables.checkpoints.lineage import WarmStartSource, training_key
from trainables.datasets.arrays import Dataset
from trainables.errors import ConfigError

MAX_S = 20.0
"""The seconds that reading may take; after that, what was read until then must do."""
MAX_POINTS = 1000
"""The largest space in which trainings are looked up before the user is told of them.

Of a larger one it is taken that some may match.
"""
FUSED = "-fused"
"""The end of the fingerprint of fused trainings."""
MAX_FIRST_LINE = 2**20
"""The most bytes that are read to find a journal's first line."""

SUGGESTED = re.compile(
    rb'"event": "suggested", "trial": "([A-Za-z0-9-]+)", "stem": "([0-9a-f]{16})"'
)
EPOCH = re.compile(rb'"event": "epoch", "trial": "([A-Za-z0-9-]+)", "epoch": (\d+)')
SESSION = re.compile(rb'"event": "(?:started|resumed|selecting)".*')
"""The beginnings of sessions, to the end of their lines.

They are of whole lines: a quotation mark inside a text has a backslash before it.
"""
FREED = re.compile(rb'"event": "freed", "trials": \[([^\]]*)\]')
"""The trials whose checkpoints were removed, in quotation marks."""
TRAINING = re.compile(rb'"training": "([0-9a-f]{16}(?:-fused)?)"')


class EarlierSearches:
    """The trials of other searches, by their training key."""

    def __init__(
        self, experiment: Experiment, dataset: Dataset, *, is_enabled: bool = True
    ) -> None:
        """Begin to read in a thread, if it `is_enabled`."""
        self.experiment = experiment
        self.training = training_of(experiment, dataset)
        """The fingerprint of what decides a training beside its config.

        It is the same in the journals that are read.
        """
        self.trouble = ""
        """The reason that storage could not be read, if so."""
        self._kinds: dict[str, str] = {}
        """For each search its fingerprint, which tells whether its trials were fused."""
        self._trials: dict[str, list[tuple[str, str, int]]] = {}
        """For each training key the search, the trial and its last epoch."""
        self._thread = Thread(
            target=self._read, args=[self.training.encode() if is_enabled else b""], daemon=True
        )
        self._thread.start()

    def of(self, training: str, length: int, most: int) -> list[WarmStartSource]:
        """Return trials of this training key, as `shared_trainings.OtherTrainings.of` does."""
        self._thread.join()
        matching = [
            entry
            for entry in self._trials.get(training, ())
            if self._kinds[entry[0]] == self.training
        ]
        nearest = sorted(matching, key=lambda entry: nearness(entry[2], length))[:most]
        return [
            warm_start_source(name, trial, epoch, home(self.experiment.storage, name))
            for name, trial, epoch in nearest
        ]

    @property
    def searches(self) -> list[str]:
        """The searches of which something may be used."""
        self._thread.join()
        return [name for name, kind in self._kinds.items() if kind == self.training]

    def with_fusion(self, *, fused: bool, say: Callable[[str], None]) -> Self:
        """Hear whether trials are fused, tell the user what is reused, and return this object.

        Fused trials are rounded in another way, so that only searches of the same kind count. `say`
        gets a line for people, if there is something to say.
        """
        self.training += FUSED * fused
        if (searches := self.searches) and self._may_match():
            names = ", ".join(searches[:3]) + " ..." * (len(searches) > 3)
            say(
                "note: what was trained before with this code, data and kind of machine is not "
                f"trained again ({names}); --no-cache trains it anew"
            )
        if self.trouble:
            say(
                f"note: earlier searches could not be looked at ({self.trouble}); what they have "
                "trained may be trained again"
            )
        return self

    def _may_match(self) -> bool:
        """True if earlier trainings may be of this search's trials.

        They may, where its trials are too many to be looked through, unless all begin with weights.
        """
        size = self.experiment.space.size
        if size is None or size > MAX_POINTS:
            configs = (config.to_dict() for config in self.experiment.edges)
            return any(map(is_shared_between_searches, configs))
        for params in self.experiment.space.points():
            with suppress(ConfigError):  # params that make no trial
                config = self.experiment.config(params)
                if is_shared_between_searches(config.to_dict()) and self.of(
                    training_key(config), 1, 1
                ):
                    return True
        return False

    def _read(self, training: bytes) -> None:
        if not training:
            return
        until = time.monotonic() + MAX_S
        try:
            for name, content in _journals(self.experiment.storage, self.experiment.name, training):
                with suppress(ValueError):  # its texts are no UTF-8: others may have written it
                    self._take(name, content)
                if time.monotonic() > until:
                    break
        except OSError as error:
            self.trouble = str(error.strerror or error)

    def _take(self, name: str, content: bytes) -> None:
        """Add the trials of a journal, if all its sessions have one and the same fingerprint."""
        kinds = {
            match[1].decode() if (match := TRAINING.search(session)) else ""
            for session in SESSION.findall(content)
        }
        if len(kinds) != 1 or "" in kinds:
            return
        reached = {trial: int(epoch) for trial, epoch in EPOCH.findall(content)}
        freed = {trial for names in FREED.findall(content) for trial in names.split(b'"')[1::2]}
        trials = [
            (trial, training)
            for trial, training in SUGGESTED.findall(content)
            if reached.get(trial) and trial not in freed
        ]
        for trial, training in trials:
            self._trials.setdefault(training.decode(), []).append(
                (name, trial.decode(), reached[trial])
            )
        self._kinds |= {name: kinds.pop()} if trials else {}


def training_of(experiment: Experiment, dataset: Dataset) -> str:
    """Return the fingerprint of what decides how a config is trained.

    It does not tell whether trials are fused.
    """
    demand = experiment.demand
    return training_fingerprint(
        data=dataset.fingerprint,
        device=experiment.device,
        threads=max(1, int(demand.cpus)),
        workers=demand.workers,
    )


def _journals(storage: Storage, own: str, training: bytes) -> Iterator[tuple[str, bytes]]:
    """Return the names and journals of other searches whose first line has this fingerprint.

    The newest come first, where that is known.
    """
    return (
        _in_bucket(storage, own, training)
        if isinstance(storage, Bucket)
        else _in_folder(storage, own, training)
    )


def _in_folder(storage: Path, own: str, training: bytes) -> Iterator[tuple[str, bytes]]:
    paths = [
        path
        for path in storage.glob(f"*/{FILE_NAME}")
        if path.parent.name != own and NAME.fullmatch(path.parent.name) and path.is_file()
    ]
    for path in sorted(paths, key=_changed, reverse=True):
        try:
            with path.open("rb") as file:
                if training in file.readline(MAX_FIRST_LINE):
                    file.seek(0)
                    yield path.parent.name, file.read()
        except OSError:  # not readable for this user, or gone since
            continue


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0


def _in_bucket(bucket: Bucket, own: str, training: bytes) -> Iterator[tuple[str, bytes]]:
    names = [name for name in bucket.folders() if name != own and NAME.fullmatch(name)]

    def read(name: str) -> bytes:
        place = bucket / name / FILE_NAME
        first = place.get(FIRST)
        if first is None or training not in first.content.partition(b"\n")[0]:
            return b""
        try:
            return JournalCopy(place).read()
        except (StorageError, DamagedJournal):  # one with a piece missing
            return b""

    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield from (
            (name, content)
            for name, content in zip(names, pool.map(read, names), strict=True)
            if content
        )
