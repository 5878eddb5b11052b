"""The schedulers by name.

To add one, write it in a file of this folder and name it here.
"""

from search.schedulers.asha import Asha
from search.schedulers.base import Scheduler
from search.schedulers.fifo import Fifo
from search.schedulers.halving import Halving
from search.schedulers.hyperband import Hyperband
from search.schedulers.median import Median

SCHEDULERS: dict[str, type[Scheduler]] = {
    "asha": Asha,
    "fifo": Fifo,
    "halving": Halving,
    "hyperband": Hyperband,
    "median": Median,
}
"""For each name, the class, which is created with the setting of a search."""
