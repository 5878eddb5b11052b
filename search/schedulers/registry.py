"""The schedulers by name.

To add one, write it in a file of this folder and name it here.
"""

from collections.abc import Callable

from search.schedulers.asha import Asha
from search.schedulers.base import Scheduler, Setting
from search.schedulers.fifo import Fifo
from search.schedulers.halving import Halving
from search.schedulers.hyperband import Hyperband
from search.schedulers.median import Median

SCHEDULERS: dict[str, Callable[[Setting], Scheduler]] = {
    "asha": Asha,
    "fifo": lambda setting: Fifo(),
    "halving": Halving,
    "hyperband": Hyperband,
    "median": Median,
}
"""For each name, a function that makes the scheduler for a search's setting."""
