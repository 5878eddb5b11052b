"""python -m search.clean NAME: remove checkpoints of a search that has come to its end."""

from search.operations.clean import main

__all__ = ["main"]

if __name__ == "__main__":
    raise SystemExit(main())
