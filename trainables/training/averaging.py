"""An exponential moving average of a network's weights, which often predicts better than the last.

After each step, average = decay * average + (1 - decay) * weights (Polyak and Juditsky 1992 for the
idea; the form is that of Tarvainen and Valpola 2017, "Mean teachers are better role models",
equation 1). The first average is a copy of the weights after the first step. The decay of the
average with number n is min(`train.ema`, (1 + n) / (10 + n)), as in TensorFlow's
`ExponentialMovingAverage`, so that early weights are soon forgotten.

Running statistics of batch normalisation are averaged in the same way; whole numbers are copied.
"""

from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from trainables.values import State


def decay_at(number: int, limit: float) -> float:
    """Return the decay of the average with this number, from 0; the first one is a copy."""
    return min(limit, (1 + number) / (10 + number))


class WeightAverage:
    """The average of a network's weights over the steps of its training."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        """Begin with a copy of the network, on its device."""
        self._limit = decay
        self._averaged = AveragedModel(network, multi_avg_fn=self._move, use_buffers=True)
        # On the CPU, reading the number of averages never waits for a GPU.
        self._averaged.n_averaged = self._averaged.n_averaged.cpu()

    @property
    def network(self) -> nn.Module:
        """The network with the averaged weights."""
        return self._averaged.module

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Include the network's weights after a step."""
        self._averaged.update_parameters(network)

    def _move(self, averages: Any, current: Any, number: object) -> None:
        """Move averages, tensors of one type, towards the current values, in place."""
        if averages[0].is_floating_point():
            decay = decay_at(int(self._averaged.n_averaged), self._limit)
            torch._foreach_lerp_(averages, current, 1 - decay)
        else:
            torch._foreach_copy_(averages, current)

    def state(self) -> State:
        """Return the number of averages, which must be restored beside the averaged weights."""
        return {"updates": int(self._averaged.n_averaged)}

    def load_state(self, state: State) -> None:
        """Restore a state that `state` returned; the averaged weights are loaded separately."""
        self._averaged.n_averaged.fill_(state["updates"])
