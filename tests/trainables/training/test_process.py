import platform
import resource
import subprocess
import sys

import pytest
import torch

from trainables.training import process


@pytest.fixture(autouse=True)
def threads_put_back():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("threads", [1, 2])
def test_operations_use_the_threads_asked_for(threads):
    process.prepare(threads)
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize(
    ("gpu", "limits"), [(0.25, [0.25 - 1 / 64]), (0.5, [0.5 - 1 / 64]), (0, []), (1, []), (2, [])]
)
def test_a_part_of_a_gpu_is_that_part_of_its_memory(gpu, limits, monkeypatch):
    """Without a GPU: what is seen here is that torch is told the limit, and only where a card is
    shared.
    """
    told = []
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", told.append)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (0, 64 * process.CONTEXT_BYTES))
    process.prepare(1, gpu)
    assert told == limits


@pytest.mark.parametrize("parts", [1, 2, 4, 8])
@pytest.mark.parametrize("gigabytes", [16, 24, 80])
def test_the_parts_of_a_card_and_their_contexts_fit_on_it(parts, gigabytes):
    card = gigabytes << 30
    each = process.memory_fraction(1 / parts, card)
    assert parts * (each * card + process.CONTEXT_BYTES) <= card
    assert each > 0.6 / parts


def test_a_small_part_is_left_half_of_its_memory():
    assert process.memory_fraction(0.1, 4 << 30) == pytest.approx(0.05)


def test_a_process_that_trains_looks_for_the_fastest_convolutions(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    process.prepare(1)
    assert torch.backends.cudnn.benchmark


FAULTS = """
import resource, sys, torch
from trainables.training.process import prepare
if sys.argv[1] == "prepared":
    prepare(1)
def step():
    return (torch.zeros(12_000_000) + 1).sum()
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the settings are glibc's")
def test_freed_memory_is_kept_for_the_next_step():
    """Two tensors of 48 MB, more than glibc's largest threshold, are 23,000 pages a step, which
    come from the kernel once and not each time.
    """
    faults = {
        how: int(
            subprocess.run(
                [sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True
            ).stdout
        )
        for how in ("plain", "prepared")
    }
    assert faults["plain"] > 20 * 1000 / (resource.getpagesize() // 4096)
    assert faults["prepared"] < faults["plain"] / 10
