"""The guard around every command: errors become lines on stderr and exit codes."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.errors import Denied, Mistake, NotReady, Refused
from cluster.exit_codes import ExitCode
from cluster.guard import EXIT_CODES, guarded
from cluster.signals import Terminated
from cluster.storage.bucket import StorageError
from search.journal.journal import DamagedJournal, JournalError
from search.process import guard as verbs

ROOT = Path(__file__).parent.parent.parent


class Moved(NotReady):
    """An error of which only the base is in the table."""


def code_of(error: BaseException, *, is_verb: bool = False) -> int:
    def command() -> int:
        raise error

    return verbs.guarded(command) if is_verb else guarded(command)


@pytest.mark.parametrize("is_verb", [False, True])
@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (Mistake("no such file"), 2, "error: no such file\n"),
        (Refused("in use"), 5, "error: in use\n"),
        (Denied("no key"), 4, "error: no key\n"),
        (Moved("elsewhere\nor gone"), 4, "error: elsewhere\nerror: or gone\n"),
        (KeyboardInterrupt(), 130, "stopped by Ctrl-C\n"),
        (Terminated(), 143, "stopped by SIGTERM\n"),
    ],
)
def test_expected_errors_are_printed_as_they_are(
    error: BaseException,
    code: int,
    line: str,
    is_verb: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert code_of(error, is_verb=is_verb) == code
    assert capsys.readouterr() == ("", line)


@pytest.mark.parametrize("is_verb", [False, True])
@pytest.mark.parametrize(
    ("error", "code", "start"),
    [
        (
            ZeroDivisionError("by 0"),
            1,
            "error: this is a bug in the program (ZeroDivisionError: by 0)",
        ),
        (
            OSError(28, "No space"),
            4,
            "error: the operating system reported an error: [Errno 28] No space",
        ),
    ],
)
def test_details_of_other_errors_are_in_a_file(
    error: Exception, code: int, start: str, is_verb: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    assert code_of(error, is_verb=is_verb) == code
    line, _, path = capsys.readouterr().err.rstrip("\n").partition("; the details are in ")
    assert line == start
    assert f"{type(error).__name__}: " in Path(path).read_text()
    Path(path).unlink()


def test_verbs_expect_more_errors(capsys: pytest.CaptureFixture[str]) -> None:
    assert verbs.EXIT_CODES.items() > EXIT_CODES.items()
    assert code_of(JournalError("no such search"), is_verb=True) == ExitCode.USAGE
    assert code_of(DamagedJournal("line 3"), is_verb=True) == ExitCode.REFUSED
    assert code_of(StorageError("no answer"), is_verb=True) == ExitCode.NOT_READY
    assert capsys.readouterr().err.splitlines() == [
        "error: no such search",
        "error: line 3",
        "error: no answer. Fix the problem, or use another --storage.",
    ]


@pytest.mark.parametrize("module", ["cluster.guard", "search.process.guard"])
def test_nobody_reads_the_output(module: str) -> None:
    """The code is that of SIGPIPE, and Python does not complain about it at its end."""
    begin = (
        f"import os; from {module} import guarded\n"
        "read, write = os.pipe(); os.dup2(write, 1); os.close(read)\n"
        "raise SystemExit(guarded(lambda: print('a line') or 0))"
    )
    # Only what waits in a buffer fails again at Python's end.
    env = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run(
        [sys.executable, "-c", begin], cwd=ROOT, env=env, capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (ExitCode.BROKEN_PIPE, b"")


@pytest.mark.parametrize(
    ("handler", "code"),
    [
        (signal.SIG_DFL, ExitCode.TERMINATED),
        (signal.SIG_IGN, ExitCode.SUCCESS),  # as after nohup
    ],
)
def test_a_signal_stops_a_command_unless_it_is_ignored(
    handler: signal.Handlers, code: ExitCode
) -> None:
    def command() -> int:
        signal.raise_signal(signal.SIGHUP)
        return 0

    before = signal.signal(signal.SIGHUP, handler)
    try:
        assert guarded(command) == code
        assert signal.getsignal(signal.SIGHUP) == handler, "the handler comes back"
    finally:
        signal.signal(signal.SIGHUP, before)


def test_exit_codes_have_titles() -> None:
    assert ExitCode.title_of(6) == "done; the model is no better than guessing"
    assert ExitCode.title_of(4) == ExitCode.title_of(-9) == "ended before it was finished"
    assert str(ExitCode.REFUSED) == "5"
