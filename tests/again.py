"""Run tests that have failed once more, one at a time.

    python -m pytest --again-later=FILE ...    # writes down the tests that fail, and exits with 0
    python -m tests.again FILE                 # 1 if one of them fails again

A test that passes now is flaky: it depends on something that it does not name, such as what else
the machine was doing. It is printed with both outputs, since that is a fault too.
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

MOST = 20
"""More failures than this are no accident, and are not tried again."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that writes down the tests that fail."""
    parser.addoption(
        "--again-later",
        metavar="FILE",
        help="write the tests that fail into FILE, for python -m tests.again, and exit with 0",
    )


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write down the tests that failed, if that is asked for, and end well."""
    file = session.config.getoption("again_later")
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if file is None or reporter is None or session.exitstatus != pytest.ExitCode.TESTS_FAILED:
        return
    reports = [*reporter.stats.get("failed", []), *reporter.stats.get("error", [])]
    write_failures(Path(file), reports)
    session.exitstatus = pytest.ExitCode.OK


def write_failures(file: Path, reports: Iterable[pytest.TestReport]) -> None:
    """Add the tests that failed, each with what it said, as a line of JSON."""
    with file.open("a") as lines:
        for report in reports:
            # With several processes the name of the test's group follows its own.
            test = re.sub(r"@[\w/.-]+$", "", report.nodeid)
            lines.write(json.dumps({"test": test, "output": report.longreprtext}) + "\n")


def read_failures(file: Path) -> dict[str, str]:
    """Return each test that failed, and its output; a test may have failed twice, at its end."""
    outputs: dict[str, str] = {}
    if file.exists():
        for line in file.read_text().splitlines():
            failure = json.loads(line)
            outputs[failure["test"]] = outputs.get(failure["test"], "") + failure["output"]
    return outputs


def run(test: str) -> subprocess.CompletedProcess[str]:
    """Run one test in a process of its own."""
    words = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rA", "--durations=0", test]
    return subprocess.run(words, capture_output=True, text=True, check=False)


def main(argv: list[str]) -> int:
    """Try each test of the file again; return the exit code."""
    failures = read_failures(Path(argv[0]))
    if len(failures) > MOST:
        print(f"{len(failures)} tests failed: too many to try again")
        return 1
    is_red = False
    for test, output in failures.items():
        done = run(test)
        is_red |= done.returncode != 0
        print(f"\n{'failed again' if done.returncode else 'flaky'}: {test}")
        print(f"--- the first time:\n{output}\n--- alone:\n{done.stdout}{done.stderr}", flush=True)
    return int(is_red)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
