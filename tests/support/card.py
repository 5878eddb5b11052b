"""A stand-in for a GPU: torch's device without memory, for machines that have no GPU.

It is watched for operations that would make the processor wait for a card.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

CARD = torch.device("meta")
WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "unique")
"""Operations whose result the processor needs, or whose result's size."""


class Traffic(TorchDispatchMode):
    """Counts copies between the processor's memory and the card's, and waits.

    A wait is an operation for which the processor would have to wait for the card.
    """

    def __init__(self) -> None:
        super().__init__()
        self.copies: list[str] = []
        self.waits: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = kwargs or {}, func.overloadpacket.__name__
        held = [value.device for value in args if isinstance(value, torch.Tensor)]
        target = kwargs.get("device")
        if name == "_to_copy" and target is not None and torch.device(target).type != held[0].type:
            self.copies.append(f"{held[0].type} to {torch.device(target).type}")
        if name == "copy_" and held[0].type != held[1].type:
            self.copies.append(f"{held[1].type} to {held[0].type}")
        if any(name.startswith(wait) for wait in WAITS) and any(
            device.type == CARD.type for device in held
        ):
            self.waits.append(name)
        return func(*args, **kwargs)


class FromValues(TorchFunctionMode):
    """Counts tensors made on the card from values on the processor, which is a copy too."""

    def __init__(self, traffic: Traffic) -> None:
        super().__init__()
        self.traffic = traffic

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if (
            func in (torch.tensor, torch.as_tensor)
            and torch.device(kwargs.get("device") or "cpu").type == CARD.type
        ):
            self.traffic.copies.append("values to card")
        return func(*args, **kwargs)


@contextmanager
def watched() -> Iterator[Traffic]:
    """Count inside this context."""
    traffic = Traffic()
    with FromValues(traffic), traffic:
        yield traffic
