"""python -m search.stop NAME [TRIAL]: stop one trial, or the whole search, after the epoch."""

from search.operations.stop import main

__all__ = ["main"]

if __name__ == "__main__":
    raise SystemExit(main())
