"""python -m search.compare A B ...: what searches found, side by side, and what they differ in."""

from search.operations.compare import main

__all__ = ["main"]

if __name__ == "__main__":
    raise SystemExit(main())
