"""python -m search.web.forms.carried FOLDER VERB WORDS...: run a command.

`launch` starts this module as a process that may outlive the server. The process runs the command,
and writes the command's process id, the end of its output and finally its exit code to files in the
folder.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from search.process.guard import OUTCOME_VARIABLE

LOG, CODE, PROCESS, OUTCOME = "log", "code", "process", "outcome.json"
"""Names of the files for the output, the exit code, the process id, and the error message of the
command.
"""
MAX_LOG, KEPT_LOG = 262_144, 131_072
"""Maximum size of the log in bytes, and the number of bytes at its end that remain after a cut."""


def keep(stream: IO[bytes], path: Path) -> None:
    """Copy a stream to a file that only its owner can read.

    If the file would exceed `MAX_LOG` bytes, only its last `KEPT_LOG` bytes are kept.
    """
    with open(path, "wb+", opener=_private) as file:
        # `read1` returns the available bytes; `read` would wait for more.
        while piece := stream.read1(8192):  # type: ignore[attr-defined]
            if file.tell() + len(piece) > MAX_LOG:
                file.seek(-KEPT_LOG, os.SEEK_END)
                tail = file.read()
                file.seek(0)
                file.truncate()
                file.write(tail)
            file.write(piece)
            file.flush()


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command, and return its exit code."""
    folder, verb, *words = sys.argv[1:] if argv is None else argv
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # A handler, unlike SIG_IGN, is not inherited: the command still reacts to the signals.
        signal.signal(number, lambda *_: None)
    with subprocess.Popen(
        [sys.executable, "-m", f"search.{verb}", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        # The command inherits the lock that this process inherited from `launch`. So the lock
        # is held while either of the two is alive.
        close_fds=False,
        env={**os.environ, OUTCOME_VARIABLE: str(Path(folder, OUTCOME))},
    ) as process:
        assert process.stdout is not None
        Path(folder, PROCESS).write_text(str(process.pid))
        keep(process.stdout, Path(folder, LOG))
        code = process.wait()
    partial = Path(folder, f"{CODE}.partial")
    partial.write_text(str(code))
    partial.replace(Path(folder, CODE))
    return code


if __name__ == "__main__":
    raise SystemExit(main())
