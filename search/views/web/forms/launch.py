"""Verbs that a page starts: processes of their own, which outlive the server.

What was started is kept in a folder of the cache, one for each place of searches, so that a later
server knows it, with the file that the verb writes, if it writes one. The command lines are lists
of words and never meet a shell.
"""

import asyncio
import fcntl
import hashlib
import json
import os
import re
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from urllib.parse import quote

from cluster.exit_codes import ENDED_EARLY, ExitCode
from search.journal.store import Storage
from search.values.message import program
from search.values.verbs import VERBS
from search.views.web.forms.carried import CODE, LOG, PROCESS
from trainables.caches import cache_folder, make_private
from trainables.errors import printable

CARRIER = "search.views.web.forms.carried"
"""The module that carries a verb out."""
DESCRIPTION, LOCK = "about.json", "lock"
MODEL = "models:/"
"""The beginning of a subject that is a model; the name of a search has no such signs."""
RESULT = "answers.csv"
"""The file in the folder of a start that its verb writes, if it has an option for it."""
UNREADABLE = (OSError, ValueError, KeyError, TypeError)
"""The errors where a start was cut off before it was written down."""
ID = re.compile(r"[0-9]{1,20}-[0-9a-f]{8}")
MAX_KEPT, MAX_ALL = 20, 400
"""The most starts about a subject, and about all, that are remembered; the oldest that have ended
go first.
"""
MAX_LINES = 12
"""The most lines of a log on a page: the last ones."""
REFUSES_S, LOOK_S = 3.0, 0.05
"""Seconds for which a start is watched, so that a refusal is on the form that it came from; and
those between two looks.
"""
ERROR = "error: "
"""The beginning of a line by which a verb says why it ends."""


@dataclass(frozen=True)
class Launched:
    """A verb that was started."""

    id: str
    verb: str
    subject: str
    """The name of the search that it is about, or `models:/NAME` of a promoted model."""
    words: tuple[str, ...]
    """The words of its command line, without the program's."""
    began_ms: int
    back: str
    """The address of the form from which it was started."""
    folder: Path = Path()
    """Where its lines and its exit code are kept."""

    @property
    def code(self) -> int | None:
        """The exit code; None while there is none."""
        try:
            return int((self.folder / CODE).read_text())
        except (OSError, ValueError):
            return None

    @property
    def is_running(self) -> bool:
        """True while the verb or the process that carries it out lives: both hold the lock."""
        return _is_held(self.folder)

    def stop(self) -> None:
        """Ask its process to end, if it runs."""
        with suppress(OSError, ValueError):
            number = int((self.folder / PROCESS).read_text())
            if self.code is None and self.is_running:
                os.kill(number, signal.SIGTERM)

    @property
    def lines(self) -> list[str]:
        """The last lines that it has printed."""
        return self.printed_lines[-MAX_LINES:]

    @property
    def printed_lines(self) -> list[str]:
        """The lines that it has printed, as far as the log is kept."""
        try:
            text = (self.folder / LOG).read_text(errors="replace")
        except OSError:
            return []
        return [printable(line) for line in text.splitlines() if line.strip()]

    @property
    def refused(self) -> str:
        """The error lines that it has printed; empty without any."""
        reasons = [line.removeprefix(ERROR) for line in self.lines if line.startswith(ERROR)]
        return "\n".join(reasons)

    @property
    def state(self) -> str:
        """The state, in words."""
        if self.code is None:
            return "at work" if self.is_running else ENDED_EARLY
        own_title = VERBS[self.verb].code_titles.get(self.code)
        return self.refused or own_title or ExitCode.title_of(self.code)

    @property
    def state_line(self) -> str:
        """The state, in a line."""
        return self.state.partition("\n")[0]

    @property
    def name(self) -> str:
        """The name of the search or of the model."""
        return self.subject.removeprefix(MODEL)

    @property
    def page(self) -> str:
        """The address of the page of the search or of the model."""
        kind = "models" if self.subject.startswith(MODEL) else "searches"
        return f"/{kind}/{quote(self.name, safe='')}"

    @property
    def result(self) -> Path | None:
        """The whole file that the verb has written; None if there is none, or not yet."""
        file = self.folder / RESULT
        writes = bool(VERBS[self.verb].output_option)
        is_whole = writes and self.code in (ExitCode.SUCCESS, ExitCode.SOME_FAILED)
        return file if is_whole and file.is_file() else None

    @property
    def command(self) -> str:
        """The command line, to be copied into a shell."""
        return command_line(self.verb, self.words)


def command_line(verb: str, words: Sequence[str]) -> str:
    """Return the command line of a verb as a shell takes it."""
    return shlex.join([program("python"), "-m", f"search.{verb}", *words])


async def refusal_of(started: Launched) -> str:
    """Wait shortly for a refusal of a verb that was just started; return its reasons, or ""."""
    until = time.monotonic() + REFUSES_S
    while time.monotonic() < until and started.code is None:
        await asyncio.sleep(LOOK_S)
    return started.refused if started.code else ""


class Launcher:
    """Starts verbs on searches and models, and knows those that were started for a place."""

    def __init__(self, place: Storage) -> None:
        name = str(place.absolute()) if isinstance(place, Path) else str(place)
        self._folder = cache_folder("started") / hashlib.sha256(name.encode()).hexdigest()[:16]

    def start(self, verb: str, subject: str, words: Sequence[str], back: str) -> Launched:
        """Start a verb apart from this process.

        Args:
            verb: one of `VERBS` that has a `start_title`.
            subject: what it is about, as `Launched.subject`.
            words: of its command line, without the option for the file that it writes.
            back: the address of the form where it was asked for.

        Raises:
            OSError: the cache cannot be written, or no process started.
        """
        assert VERBS[verb].start_title, verb
        self._tidy(subject)
        place = self._place(subject)
        make_private(place)
        began_ms = time.time_ns() // 1_000_000
        name = f"{began_ms}-{secrets.token_hex(4)}"
        if option := VERBS[verb].output_option:
            words = [f"{option}={place / name / RESULT}", *words]
        launched = Launched(name, verb, subject, tuple(words), began_ms, back, place / name)
        launched.folder.mkdir(mode=0o700)
        description = {key: value for key, value in asdict(launched).items() if key != "folder"}
        # Whole at once: this server may be cut off, or asked for it, at any time.
        (launched.folder / f"{DESCRIPTION}.partial").write_text(json.dumps(description))
        (launched.folder / f"{DESCRIPTION}.partial").replace(launched.folder / DESCRIPTION)
        with (launched.folder / LOCK).open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            process = subprocess.Popen(
                [sys.executable, "-m", CARRIER, str(launched.folder), verb, *words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                pass_fds=[lock.fileno()],
            )
        # Its end is taken note of, so that no zombie stays while this server lives.
        threading.Thread(target=process.wait, name=f"launched {name}", daemon=True).start()
        return launched

    def find(self, name: str) -> Launched | None:
        """Return the start of this id; None if it is not known."""
        if not ID.fullmatch(name):
            return None
        for folder in self._folder.glob(f"*/{name}"):
            with suppress(*UNREADABLE):
                return _read(folder)
        return None

    def of(self, subject: str) -> list[Launched]:
        """The starts about a subject, the last first."""
        launches = []
        with suppress(OSError):
            for folder in sorted(self._place(subject).iterdir(), reverse=True):
                with suppress(*UNREADABLE):
                    launches.append(_read(folder))
        return launches

    def forget(self, subject: str) -> None:
        """Remove the starts about a subject that was deleted."""
        shutil.rmtree(self._place(subject), ignore_errors=True)

    def _place(self, subject: str) -> Path:
        """The folder of a subject, by a hash, since a model's name may be anything, also `..`."""
        return self._folder / hashlib.sha256(subject.encode()).hexdigest()[:32]

    def _tidy(self, subject: str) -> None:
        """Make room for one more start about a subject."""
        every = sorted(self._folder.glob("*/*"), key=lambda entry: entry.name, reverse=True)
        own = [entry for entry in every if entry.parent == self._place(subject)]
        for folder in {*own[MAX_KEPT - 1 :], *every[MAX_ALL - 1 :]}:
            if not _is_held(folder):
                shutil.rmtree(folder, ignore_errors=True)
                with suppress(OSError):  # other starts are in it
                    folder.parent.rmdir()


def _is_held(folder: Path) -> bool:
    """True if the process of the start in this folder lives."""
    try:
        with (folder / LOCK).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False


def _read(folder: Path) -> Launched:
    document = json.loads((folder / DESCRIPTION).read_text())
    names = {field.name for field in fields(Launched)} - {"folder"}
    values = {name: document[name] for name in names}
    return Launched(**{**values, "words": tuple(values["words"])}, folder=folder)
