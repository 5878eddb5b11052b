"""Commands that pages start as separate processes, which may outlive the server.

Each start of a command is recorded in a folder of the cache, so that a later server of the same
storage finds it. The folder also contains the output of the command. Command lines are lists of
arguments and never pass through a shell.
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
from search.values.message import Message, message_from_json, program
from search.values.verbs import VERBS
from search.web.forms.carried import CODE, LOG, OUTCOME, PROCESS
from trainables.disk import cache_folder, make_private
from trainables.errors import printable

CARRIER = "search.web.forms.carried"
"""The module that runs a command and records its output."""
DESCRIPTION, LOCK = "about.json", "lock"
MODEL = "models:/"
"""Prefix of a subject that is a model. It contains characters that no name of a search contains."""
RESULT, PICTURES = "answers.csv", "pictures"
"""Names of the file and of the folder with the results of a command that has options for them."""
UNREADABLE = (OSError, ValueError, KeyError, TypeError)
"""Errors that occur if the description of a start is missing or incomplete."""
ID = re.compile(r"[0-9]{1,20}-[0-9a-f]{8}")
MAX_KEPT, MAX_ALL = 20, 400
"""Maximum number of recorded starts for a subject, and for all subjects; the oldest finished ones
are removed first.
"""
MAX_LINES = 12
"""Maximum number of log lines on a page; the last ones are shown."""
REFUSES_S, LOOK_S = 3.0, 0.05
"""A new process is watched for `REFUSES_S` seconds, so that the form can show an early error. It is
checked every `LOOK_S` seconds.
"""
ERROR = "error: "
"""Prefix of the lines in which a command reports its errors."""


@dataclass(frozen=True)
class Launched:
    """A command that a page has started."""

    id: str
    verb: str
    subject: str
    """The name of the search that the command works on, or `models:/NAME` for a model."""
    words: tuple[str, ...]
    """The arguments of the command, without the program and the module."""
    began_ms: int
    """The Unix time of the start, in milliseconds."""
    back: str
    """The address of the form that started the command."""
    folder: Path = Path()
    """The folder with the output and the exit code of the command."""

    @property
    def code(self) -> int | None:
        """The exit code; None while there is none."""
        try:
            return int((self.folder / CODE).read_text())
        except (OSError, ValueError):
            return None

    @property
    def is_running(self) -> bool:
        """True while the command, or the process that runs it, is alive: both hold a file lock."""
        return _is_held(self.folder)

    def stop(self) -> None:
        """Send SIGTERM to the command, if it is running."""
        with suppress(OSError, ValueError):
            number = int((self.folder / PROCESS).read_text())
            if self.code is None and self.is_running:
                os.kill(number, signal.SIGTERM)

    @property
    def lines(self) -> list[str]:
        """The last `MAX_LINES` lines that the command has printed."""
        return self.printed_lines[-MAX_LINES:]

    @property
    def printed_lines(self) -> list[str]:
        """All lines that the command has printed, as far as they are still in the log."""
        try:
            text = (self.folder / LOG).read_text(errors="replace")
        except OSError:
            return []
        return [printable(line) for line in text.splitlines() if line.strip()]

    @property
    def refused(self) -> Message:
        """The error message of the command; empty if it has none.

        A command writes its error message to a file (`search.process.guard`). If there is no such
        file, for example because the command was killed, the message consists of the error lines
        that the command has printed.
        """
        with suppress(*UNREADABLE):
            return message_from_json(json.loads((self.folder / OUTCOME).read_text()))
        reasons = [line.removeprefix(ERROR) for line in self.lines if line.startswith(ERROR)]
        return Message("\n".join(reasons))

    @property
    def state(self) -> str:
        """The state in words: `running`, the error message, or the meaning of the exit code."""
        if self.code is None:
            return "running" if self.is_running else ENDED_EARLY
        own_title = VERBS[self.verb].code_titles.get(self.code)
        return str(self.refused) or own_title or ExitCode.title_of(self.code)

    @property
    def state_line(self) -> str:
        """The first line of the state."""
        return self.state.partition("\n")[0]

    @property
    def name(self) -> str:
        """The name of the search or of the model."""
        return self.subject.removeprefix(MODEL)

    @property
    def page(self) -> str:
        """Address of the page of the search or the model."""
        kind = "models" if self.subject.startswith(MODEL) else "searches"
        return f"/{kind}/{quote(self.name, safe='')}"

    @property
    def result(self) -> Path | None:
        """The file with the result; None if the command has none, or has not succeeded."""
        file = self.folder / RESULT
        writes = bool(VERBS[self.verb].output_option)
        is_whole = writes and self.code in (ExitCode.SUCCESS, ExitCode.SOME_FAILED)
        return file if is_whole and file.is_file() else None

    @property
    def command(self) -> str:
        """The command line, quoted for a shell."""
        return command_line(self.verb, self.words)


def command_line(verb: str, words: Sequence[str]) -> str:
    """Format the command line of `search.VERB` with these arguments, quoted for a shell."""
    return shlex.join([program("python"), "-m", f"search.{verb}", *words])


async def refusal_of(started: Launched) -> Message:
    """Watch a new process for up to `REFUSES_S`, and return its error message if it fails.

    The message is empty if the process still runs after that time, or has succeeded.
    """
    until = time.monotonic() + REFUSES_S
    while time.monotonic() < until and started.code is None:
        await asyncio.sleep(LOOK_S)
    return started.refused if started.code else Message()


class Launcher:
    """Starts commands on searches and models of a storage, and finds earlier starts."""

    def __init__(self, place: Storage) -> None:
        name = str(place.absolute()) if isinstance(place, Path) else str(place)
        self._folder = cache_folder("started") / hashlib.sha256(name.encode()).hexdigest()[:16]

    def start(
        self, verb: str, subject: str, words: Sequence[str], back: str, pictures_option: str = ""
    ) -> Launched:
        """Start a command as a separate process.

        Args:
            verb: one of `VERBS` that has a `start_title`.
            subject: the search or model, in the form of `Launched.subject`.
            words: the command's arguments, without the option for its result file.
            back: the address of the form that starts the command.
            pictures_option: the command's option for a folder of pictures; empty for no pictures.

        Raises:
            OSError: the cache cannot be written, or the process cannot be started.
        """
        assert VERBS[verb].start_title, verb
        self._tidy(subject)
        place = self._place(subject)
        make_private(place)
        began_ms = time.time_ns() // 1_000_000
        name = f"{began_ms}-{secrets.token_hex(4)}"
        if option := VERBS[verb].output_option:
            words = [f"{option}={place / name / RESULT}", *words]
        if pictures_option:
            words = [f"{pictures_option}={place / name / PICTURES}", *words]
        launched = Launched(name, verb, subject, tuple(words), began_ms, back, place / name)
        launched.folder.mkdir(mode=0o700)
        description = {key: value for key, value in asdict(launched).items() if key != "folder"}
        # The file is written atomically, since the server may be killed, or another request may
        # read the file, at any time.
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
        # A thread waits for the process, so that no zombie remains while this server runs.
        threading.Thread(target=process.wait, name=f"launched {name}", daemon=True).start()
        return launched

    def find(self, name: str) -> Launched | None:
        """Find a start by its id (`Launched.id`); None if there is none."""
        if not ID.fullmatch(name):
            return None
        for folder in self._folder.glob(f"*/{name}"):
            with suppress(*UNREADABLE):
                return _read(folder)
        return None

    def of(self, subject: str) -> list[Launched]:
        """List the recorded starts for a search or model, the latest first."""
        launches = []
        with suppress(OSError):
            for folder in sorted(self._place(subject).iterdir(), reverse=True):
                with suppress(*UNREADABLE):
                    launches.append(_read(folder))
        return launches

    def forget(self, subject: str) -> None:
        """Remove the recorded starts for a search or model that was deleted."""
        shutil.rmtree(self._place(subject), ignore_errors=True)

    def _place(self, subject: str) -> Path:
        """Return the folder of a subject. Its name is a hash, since a model may be named `..`."""
        return self._folder / hashlib.sha256(subject.encode()).hexdigest()[:32]

    def _tidy(self, subject: str) -> None:
        """Remove the oldest finished starts, so that the limits allow another one."""
        every = sorted(self._folder.glob("*/*"), key=lambda entry: entry.name, reverse=True)
        own = [entry for entry in every if entry.parent == self._place(subject)]
        for folder in {*own[MAX_KEPT - 1 :], *every[MAX_ALL - 1 :]}:
            if not _is_held(folder):
                shutil.rmtree(folder, ignore_errors=True)
                with suppress(OSError):  # the folder has other starts
                    folder.parent.rmdir()


def _is_held(folder: Path) -> bool:
    """True if a process holds the lock of the start in this folder, and thus is alive."""
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
