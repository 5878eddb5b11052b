"""python -m search.sync NAME: write to MLflow what it missed of a search while it was away."""

from search.operations.sync import main

__all__ = ["main"]

if __name__ == "__main__":
    raise SystemExit(main())
