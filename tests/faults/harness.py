"""Real searches and real MLflow servers as processes that can be hurt: killed, interrupted, started
again.
"""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tests.support.ports import free_port

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
TINY = f"{HERE / 'tiny.py'}:space"
GRID = ("--space", TINY, "--algorithm", "grid", "--scheduler", "fifo")
"""Nine trials of three epochs (t0001 to t0009) whose metrics depend on nothing but the seed."""
INLINE = ("--executor", "inline")
"""For what a test rests on and does not try: it comes to the same journal, without Ray's start."""


def wait_for(condition: Callable[[], bool], *, timeout: float = 300, what: str = "") -> None:
    """Look 50 times a second until the condition holds."""
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, f"waited {timeout:g} s in vain for {what or condition}"
        time.sleep(0.02)


@dataclass(frozen=True)
class Done:
    """The traces that a process left behind."""

    code: int
    out: str
    err: str
    seconds: float

    @property
    def summary(self) -> dict[str, Any]:
        """The `--json` line."""
        assert self.out.strip(), self.err
        return dict(json.loads(self.out.splitlines()[-1]))


class Search:
    """One search in a folder of its own, as a user runs it, its workers wrapped
    (`inject/sitecustomize.py`).
    """

    def __init__(
        self, folder: Path, name: str = "s", *, tracking: str = "", storage: Path | None = None
    ) -> None:
        self.folder, self.name = folder, name
        self.storage = storage or folder / "searches"
        self.tracking = tracking or f"sqlite:///{folder}/mlflow.db"
        self.words = ("--tracking", tracking) if tracking else ()
        self.faults = folder / f"faults-{name}"
        self.faults.mkdir(parents=True, exist_ok=True)
        self.process: subprocess.Popen[bytes] | None = None
        self.began = 0.0

    @property
    def environment(self) -> dict[str, str]:
        """The variables that put its processes under our control."""
        return {"PYTHONPATH": f"{HERE / 'inject'}:{ROOT}", "FAULTS_DIR": str(self.faults)}

    @property
    def home(self) -> Path:
        """The folder where the search keeps everything."""
        return self.storage / self.name

    @property
    def journal(self) -> Path:
        """Its journal."""
        return self.home / "journal.jsonl"

    def plan(self, *faults: dict[str, Any], **more: Any) -> None:
        """Set what goes wrong from now on (see `inject/sitecustomize.py`)."""
        new = self.faults / "plan.new"
        new.write_text(json.dumps({"faults": faults, **more}))
        new.rename(self.faults / "plan.json")

    def truth(self) -> list[dict[str, Any]]:
        """Every epoch that was trained, in order."""
        try:
            return [
                json.loads(line) for line in (self.faults / "truth.jsonl").read_text().splitlines()
            ]
        except FileNotFoundError:
            return []

    def run(self, *words: object, **options: Any) -> "Search":
        """Start `search.run`."""
        return self.start(
            "run", "--name", self.name, *self.words, "--device", "cpu", *words, **options
        )

    def resume(self, *words: object, **options: Any) -> "Search":
        """Start `search.resume`."""
        return self.start("resume", self.name, *words, **options)

    def start(
        self,
        verb: str,
        *words: object,
        before: tuple[str, ...] = (),
        environment: dict[str, str] | None = None,
    ) -> "Search":
        """Start a verb in a process group of its own; `before` stands in front of the command, as
        in `nice python ...`.
        """
        command = [
            *before,
            sys.executable,
            "-m",
            f"search.{verb}",
            "--storage",
            self.storage,
            *["--json"] * (verb in ("run", "resume")),
            *words,
        ]
        self.began = time.monotonic()
        with (self.faults / "out").open("wb") as out, (self.faults / "err").open("wb") as err:
            self.process = subprocess.Popen(
                list(map(str, command)),
                cwd=self.folder,
                env={**os.environ, **self.environment, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
        return self

    @property
    def alive(self) -> subprocess.Popen[bytes]:
        """The process; it must be running."""
        assert self.process is not None
        assert self.process.poll() is None, f"ended early with {self.process.poll()}: {self.err}"
        return self.process

    @property
    def err(self) -> str:
        """The text that it has written to stderr so far."""
        return (self.faults / "err").read_text()

    def wait_for_epochs(self, count: int, *, timeout: float = 300) -> "Search":
        """Until so many epochs have been trained, all starts of this search taken together."""
        return self.wait_until(
            lambda: len(self.truth()) >= count, timeout=timeout, what=f"{count} epochs"
        )

    def wait_for_event(self, kind: str, /, *, timeout: float = 300, **data: Any) -> "Search":
        """Until such an event is in the journal."""
        return self.wait_until(
            lambda: any(data.items() <= event.items() for event in self.events(kind)),
            timeout=timeout,
            what=f"{kind} {data}",
        )

    def wait_until(
        self, condition: Callable[[], bool], *, timeout: float = 300, what: str = ""
    ) -> "Search":
        """Until this holds; fail when the process ends before."""
        wait_for(
            lambda: condition() or (self.alive is None),
            timeout=timeout,
            what=f"{what}; the search says: {self.err[-2000:]}",
        )
        return self

    def events(self, kind: str = "") -> list[dict[str, Any]]:
        """The journal's whole lines, read without the product's help."""
        try:
            lines = self.journal.read_bytes().split(b"\n")[:-1]
        except FileNotFoundError:
            return []
        return [event for event in map(json.loads, lines) if kind in ("", event["event"])]

    def outcome(self, trial: str) -> dict[str, Any]:
        """The last end that the journal tells of a trial."""
        return [event for event in self.events("ended") if event["trial"] == trial][-1]

    def kill9(self) -> None:
        """The driver dies at once. Its Ray dies a little later, without a word, as on a machine
        that runs on.
        """
        self.alive.send_signal(signal.SIGKILL)
        assert self.process is not None
        self.process.wait()

    def interrupt(self, number: int = signal.SIGINT, *, group: bool = False) -> None:
        """Ctrl-C, or another signal, to the driver or to its whole process group."""
        (os.killpg if group else os.kill)(self.alive.pid, number)

    def finish(self, *, timeout: float = 600) -> Done:
        """Wait for the end."""
        assert self.process is not None
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f"still running after {timeout:g} s; it says: {self.err[-3000:]}"
            ) from None
        return Done(
            code, (self.faults / "out").read_text(), self.err, time.monotonic() - self.began
        )

    def processes(self, name: str = "") -> list[int]:
        """Pids of what was started for this search and has `name` in its command line; workers that
        renamed themselves are not among them.
        """
        mine = f"FAULTS_DIR={self.faults}".encode()
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if (
                    mine in (path / "environ").read_bytes().split(b"\0")
                    and name.encode() in (path / "cmdline").read_bytes()
                ):
                    found.append(int(path.name))
        return found

    def part(self, name: str) -> int:
        """The pid of a part of Ray that the running driver has started; those of one that was
        killed may live on for a while.
        """
        for process in psutil.Process(self.alive.pid).children(recursive=True):
            with suppress(psutil.Error):
                if name in " ".join(process.cmdline()):
                    return process.pid
        raise AssertionError(f"the driver has no {name}")

    def end(self) -> None:
        """Leave nothing running."""
        workers = {(line["pid"], line["born"]) for line in self.truth()}
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pid, born in workers:
            with suppress(OSError):
                stat = Path(f"/proc/{pid}/stat").read_text()
                if int(stat.rpartition(")")[2].split()[19]) == born:
                    os.kill(pid, signal.SIGKILL)
        if self.process is not None:
            self.process.wait()


class Server:
    """A real MLflow server that can be killed and started again on the same store and port."""

    def __init__(self, folder: Path, database: Path) -> None:
        self.folder, self.database = folder, database
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> "Server":
        """Start, and wait until it answers."""
        words = [
            "server",
            "--host",
            "127.0.0.1",
            "--port",
            self.port,
            "--workers",
            1,
            "--backend-store-uri",
            f"sqlite:///{self.database}",
        ]
        command = [
            sys.executable,
            "-m",
            "mlflow",
            *words,
            "--artifacts-destination",
            self.folder / "artifacts",
        ]
        quick = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                list(map(str, command)),
                env={**os.environ, **quick},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_for(self.answers, what=f"an MLflow server at {self.uri}")
        return self

    def answers(self) -> bool:
        """Return whether it is up."""
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=30):
                return True
        except OSError:
            return False

    def kill(self) -> None:
        """All its processes at once: the parent alone would leave its workers behind."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
