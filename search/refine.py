"""python -m search.refine NAME: go on with a search that has come to its end, in rounds."""

from search.operations.refine import main, parser
from search.process.lifetime import leave

__all__ = ["main", "parser"]

if __name__ == "__main__":
    leave(main())
