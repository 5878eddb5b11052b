"""python -m search.extend NAME --trials +20 --budget +1h: change a running search."""

from search.operations.extend import main, parser

__all__ = ["main", "parser"]

if __name__ == "__main__":
    raise SystemExit(main())
