"""The schedulers by name. To add one: write it in a file here and name it."""

from collections.abc import Callable

from search.schedulers.asha import Asha
from search.schedulers.base import Scheduler, Setting
from search.schedulers.fifo import Fifo

SCHEDULERS: dict[str, Callable[[Setting], Scheduler]] = {
    "asha": Asha,
    "fifo": lambda setting: Fifo(),
}
"""Name to what makes a scheduler for a search's setting."""
