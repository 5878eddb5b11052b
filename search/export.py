"""python -m search.export NAME: every trial as a row, its searched parameters as columns."""

from search.operations.export import main

__all__ = ["main"]

if __name__ == "__main__":
    raise SystemExit(main())
