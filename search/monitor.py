"""python -m search.monitor MODEL --from PLACE: is a model in use still what it was?"""

from search.operations.monitor import main, parser

__all__ = ["main", "parser"]

if __name__ == "__main__":
    raise SystemExit(main())
