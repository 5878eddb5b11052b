"""python -m search.run --space table3: search for the best network and its training."""

from search.operations.run import main, parser
from search.process.lifetime import leave

__all__ = ["main", "parser"]

if __name__ == "__main__":
    leave(main())
