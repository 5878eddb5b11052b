"""python -m search.predict NAME PATHS...: what a model says of images, a line each."""

from search.operations.predict import main, parser

__all__ = ["main", "parser"]

if __name__ == "__main__":
    raise SystemExit(main())
