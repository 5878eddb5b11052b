"""The settings of a process that trains: its threads, and how it reuses memory."""

import ctypes
import platform
from dataclasses import dataclass

import torch

MALLOPT = {"M_MMAP_MAX": (-4, 0), "M_TRIM_THRESHOLD": (-1, 2**31 - 1), "M_TOP_PAD": (-2, 64 << 20)}
"""glibc's `mallopt` parameters (mallopt(3)) and our values for them.

With these, activations of any size are allocated on the heap, which keeps freed memory. By default
each step gets new memory from the kernel, page fault by page fault: for images of 224 x 224 a step
then takes 2.2 times as long, and still 1.6 times as long if only blocks below 32 MiB, the largest
possible threshold, are allocated on the heap.
"""


CONTEXT_BYTES = 640 << 20
"""The GPU memory that a process takes in addition to its tensors.

It contains the driver's context and the kernels of cuBLAS and cuDNN, which torch's limit does not
include: about half a GiB on current cards.
"""


def give_back_memory() -> None:
    """Return freed memory, which the heap keeps, to the system."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL("libc.so.6").malloc_trim(0)


@dataclass(frozen=True)
class Settings:
    """The settings of torch that `prepare` changes."""

    threads: int
    benchmark: bool


def restore(before: Settings) -> None:
    """Restore torch's settings; those of the C library and the GPU's memory limit stay."""
    torch.set_num_threads(before.threads)
    torch.backends.cudnn.benchmark = before.benchmark


def prepare(threads: int, gpu: float = 0) -> Settings:
    """Set up this process for training: its threads, its memory, and its share of a GPU.

    Freed memory is kept: a process holds the memory of its largest training until it ends, or until
    `give_back_memory`. If it shares a GPU, it takes no more than its share of the memory: if it
    needs more, it runs out of memory, and not the other processes.

    Args:
        threads: the threads of an operation. A training on a CPU is only reproducible with a fixed
            number.
        gpu: the share of a GPU for this process; no limit is set for 0 or for a whole one.

    Returns:
        The previous settings, for `restore`.
    """
    before = Settings(torch.get_num_threads(), torch.backends.cudnn.benchmark)
    torch.set_num_threads(threads)
    # All batches of a training have the same shape, so that cuDNN searches algorithms only once.
    torch.backends.cudnn.benchmark = True
    if 0 < gpu < 1:
        torch.cuda.set_per_process_memory_fraction(
            memory_fraction(gpu, torch.cuda.mem_get_info()[1])
        )
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL("libc.so.6")
        for parameter, value in MALLOPT.values():
            libc.mallopt(parameter, value)
    return before


def memory_fraction(gpu: float, card_bytes: int) -> float:
    """Return the share of a card's memory that a process's tensors may take.

    Together with the process's context they fit into the share `gpu`. The result is at least half
    of `gpu`.
    """
    return max(gpu - CONTEXT_BYTES / card_bytes, gpu / 2)
