import subprocess
import sys

import pytest

from cluster.errors import NotReady
from cluster.runtime.resources import Demand, Resources, slots


@pytest.mark.parametrize(
    ("have", "demand", "fit"),
    [
        (Resources(cpus=2), Demand(), 2),
        (Resources(cpus=2), Demand(cpus=0.5), 4),
        (Resources(cpus=8), Demand(cpus=1, workers=3), 2),
        (Resources(cpus=16, gpus=4), Demand(cpus=1, gpus=1), 4),
        (Resources(cpus=2, gpus=4), Demand(cpus=1, gpus=1), 2),
        (Resources(cpus=64, gpus=2), Demand(cpus=1, gpus=0.25), 8),
        (Resources(cpus=64, gpus=2), Demand(cpus=1, gpus=0.4), 4),
        (Resources(cpus=64, gpus=1), Demand(cpus=1, gpus=0.1), 10),  # although 1 // 0.1 is 9
        (Resources(cpus=64, gpus=8), Demand(cpus=1, gpus=2, workers=2), 2),
    ],
)
def test_as_many_trials_as_fit(have: Resources, demand: Demand, fit: int) -> None:
    assert slots(have, demand) == fit


@pytest.mark.parametrize(
    ("have", "demand", "words"),
    [
        (
            Resources(cpus=2),
            Demand(gpus=1),
            "needs 1 GPU per trial, but no GPU was found. Use --device cpu",
        ),
        (
            Resources(cpus=2),
            Demand(cpus=3),
            "one trial needs 3 CPUs and 0 GPUs, but there are 2 CPUs",
        ),
        (
            Resources(cpus=8, gpus=1),
            Demand(gpus=1, workers=2),
            "2 GPUs, but there are 8 CPUs and 1 GPU",
        ),
    ],
)
def test_what_does_not_fit_is_said(have: Resources, demand: Demand, words: str) -> None:
    with pytest.raises(NotReady, match=words):
        slots(have, demand)


def test_windows_is_refused_in_one_line() -> None:
    begin = (
        "import argparse, tempfile, traceback, pathlib, sys; sys.platform = 'win32'; "
        "import cluster.cli"
    )
    done = subprocess.run(
        [sys.executable, "-c", begin], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (
        2,
        "",
        "error: this program runs on Linux; on Windows use WSL.\n",
    )


def test_a_search_begins_where_no_call_of_linux_is_there() -> None:
    """On a simulated macOS every verb can be imported, and machines are counted.

    The calls that Linux alone has are missing there. The libraries are those of Linux.
    """
    begin = (
        "import os, platform; del os.sched_getaffinity\n"
        "import search.run, search.resume, search.select, search.sync, search.report\n"
        "from search.operations.run import experiment_of\n"
        "from search.operations.run_request import RunRequest\n"
        "from search.preflight.prepare import platform_notes, needed_resources\n"
        "needed_resources(experiment_of(RunRequest(space='smoke', device='cpu')))\n"
        "platform.system = lambda: 'Darwin'\n"
        "print(*platform_notes())"
    )
    done = subprocess.run(
        [sys.executable, "-c", begin], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (
        done.stdout == "note: this program was tested only on Linux, and this machine runs Darwin\n"
    )
