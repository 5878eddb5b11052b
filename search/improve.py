"""python -m search.improve MODEL --from PLACE: learn from the images that people have corrected."""

from search.operations.improve import main, parser

__all__ = ["main", "parser"]

if __name__ == "__main__":
    raise SystemExit(main())
