"""How often early stopping stops the best trial, beside `1 - P` of `--sure P`.

The tasks are made up anew in each repetition; `tests.bench.replay` plays recorded ones too, and
says what that costs.
"""

from collections.abc import Callable
from functools import partial

import numpy as np

from search.design.experiment import SURE
from tests.bench.curves import MADE_UP, Task
from tests.bench.rates.case import Case, Promise
from tests.bench.replay import play

WORKERS = 4


def stop_the_best(
    make: Callable[[int], Task], generator: np.random.Generator
) -> dict[str, bool | None]:
    """Play a search of a new task; the best is lost if a worse one was chosen instead."""
    seed = int(generator.integers(2**31))
    return {"the best is stopped": play(make(seed), seed, WORKERS).lost}


def cases() -> list[Case]:
    """Return a case for each kind of made-up task."""
    return [
        Case(
            feature="`search.run --sure` (early stopping)",
            title=f"made up: {make.__name__}",
            promises={"the best is stopped": Promise("error rate", 1 - SURE)},
            play=partial(stop_the_best, make),
            repetitions=100,
        )
        for make in MADE_UP
    ]
