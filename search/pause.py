"""python -m search.pause NAME: pause a search, as Ctrl-C where it runs would."""

from search.operations.pause import main

__all__ = ["main"]

if __name__ == "__main__":
    raise SystemExit(main())
