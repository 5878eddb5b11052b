"""python -m search.select NAME: choose among the best few trials, and test the choice."""

from search.operations.select import main, parser
from search.process.lifetime import leave

__all__ = ["main", "parser"]

if __name__ == "__main__":
    leave(main())
