"""The algorithms by name. To add one, create a module in this folder and an entry here."""

from collections.abc import Callable

from search.algorithms.base import Algorithm
from search.algorithms.bayes import Bayes, Gaussian
from search.algorithms.grid import Grid
from search.algorithms.random import Random
from search.space import SearchSpace

ALGORITHMS: dict[str, Callable[[SearchSpace, int], Algorithm]] = {
    "bayes": Bayes,
    "gp": Gaussian,
    "grid": Grid,
    "random": Random,
}
"""Maps names to functions that create an algorithm from a space and a seed."""
