"""How many threads a training process uses."""

import torch


def limit_threads(count: int) -> None:
    """Use this many threads for one operation. A fixed number is also what makes a CPU training repeat exactly."""
    torch.set_num_threads(count)
