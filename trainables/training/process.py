"""The settings that a process makes once before it trains: its threads and how it keeps memory."""

import ctypes
import platform
from dataclasses import dataclass

import torch

MEMORY = {"M_MMAP_MAX": (-4, 0), "M_TRIM_THRESHOLD": (-1, 2**31 - 1), "M_TOP_PAD": (-2, 64 << 20)}
"""glibc's `mallopt` parameters (mallopt(3)) and our values for them.

With these, activations of any size come from the heap, which keeps what is freed. By default each
step gets its memory from the kernel anew, page fault by page fault: on images of 224 x 224 a step
takes 2.2 times as long by default, and 1.6 times as long when only blocks below 32 MiB, the largest
threshold there is, come from the heap.
"""


CONTEXT_BYTES = 640 << 20
"""Memory of a GPU that a process takes beside its tensors.

It holds the driver's context and the kernels of cuBLAS and cuDNN, which no limit of torch's counts.
About half a GiB on the cards of today.
"""


def give_back_memory() -> None:
    """Give memory that is kept and not used back to the system."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL("libc.so.6").malloc_trim(0)


@dataclass(frozen=True)
class Settings:
    """The settings of torch that `prepare` changes."""

    threads: int
    benchmark: bool


def restore(before: Settings) -> None:
    """Put the settings back; how the C library keeps memory, and a GPU's part, stay."""
    torch.set_num_threads(before.threads)
    torch.backends.cudnn.benchmark = before.benchmark


def prepare(threads: int, gpu: float = 0) -> Settings:
    """Set up this process for training: its threads, its memory, and its part of a GPU.

    Freed memory is kept: a process holds what its largest training needed until it ends, or until
    `give_back_memory`. Of a GPU that it shares with others it takes no more memory than its part:
    if it needs more, it runs out of memory itself, and its neighbours do not.

    Args:
        threads: threads for one operation. A fixed number is also what makes a CPU training repeat
            exactly.
        gpu: the part of a GPU that is this process's own; no limit is set for 0 or for a whole one.

    Returns:
        The settings as they were before, for `restore`.
    """
    before = Settings(torch.get_num_threads(), torch.backends.cudnn.benchmark)
    torch.set_num_threads(threads)
    # A training's batches have one shape: the fastest convolution is looked for once.
    torch.backends.cudnn.benchmark = True
    if 0 < gpu < 1:
        torch.cuda.set_per_process_memory_fraction(
            memory_fraction(gpu, torch.cuda.mem_get_info()[1])
        )
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL("libc.so.6")
        for parameter, value in MEMORY.values():
            libc.mallopt(parameter, value)
    return before


def memory_fraction(gpu: float, card_bytes: int) -> float:
    """Return the part of a card's memory that a process's tensors may take.

    Together with the process's context they fit into the part `gpu`. It is at least half of `gpu`.
    """
    return max(gpu - CONTEXT_BYTES / card_bytes, gpu / 2)
