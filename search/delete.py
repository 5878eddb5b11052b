"""python -m search.delete NAME: delete a search, its checkpoints and its runs in MLflow."""

from search.operations.delete import main

__all__ = ["main"]

if __name__ == "__main__":
    raise SystemExit(main())
