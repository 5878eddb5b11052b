"""python -m search.report NAME: one HTML page with the verdict, the pictures and every trial."""

from search.operations.report import main

__all__ = ["main"]

if __name__ == "__main__":
    raise SystemExit(main())
