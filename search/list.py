"""python -m search.list: the searches that are kept in a place, the newest first."""

from search.operations.list import main

__all__ = ["main"]

if __name__ == "__main__":
    raise SystemExit(main())
