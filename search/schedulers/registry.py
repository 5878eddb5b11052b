"""The schedulers by name. To add one: write it in a file here and name it."""

from collections.abc import Callable

from search.schedulers.asha import Asha
from search.schedulers.base import Scheduler
from search.schedulers.fifo import Fifo

SCHEDULERS: dict[str, Callable[[int], Scheduler]] = {"asha": Asha, "fifo": lambda horizon: Fifo()}
"""Name to what makes a scheduler for trials of at most so many epochs."""
