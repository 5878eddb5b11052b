"""The schedulers by name.

To add one, write it in a file of this folder and name it here.
"""

from collections.abc import Callable

from search.schedulers.asha import Asha
from search.schedulers.base import Scheduler, Setting
from search.schedulers.fifo import Fifo

SCHEDULERS: dict[str, Callable[[Setting], Scheduler]] = {
    "asha": Asha,
    "fifo": lambda setting: Fifo(),
}
"""For each name, a function that makes the scheduler for a search's setting."""
