"""python -m search.label PLACE: a page on which images that a model has met are corrected."""

from search.operations.label import main

__all__ = ["main"]

if __name__ == "__main__":
    raise SystemExit(main())
