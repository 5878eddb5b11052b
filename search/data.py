"""python -m search.data DATA: look at a data set before a search trains on it."""

from search.operations.data import main, parser

__all__ = ["main", "parser"]

if __name__ == "__main__":
    raise SystemExit(main())
