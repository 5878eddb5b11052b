"""python -m search.resume NAME: go on with a search that was cut off."""

from search.operations.resume import main, parser
from search.process.lifetime import leave

__all__ = ["main", "parser"]

if __name__ == "__main__":
    leave(main())
