"""python -m search.why NAME TRIAL: the story of one trial."""

from search.operations.why import main

__all__ = ["main"]

if __name__ == "__main__":
    raise SystemExit(main())
