"""python -m search.promote NAME: put a search's best network into MLflow's model registry."""

from search.operations.promote import main, parser

__all__ = ["main", "parser"]

if __name__ == "__main__":
    raise SystemExit(main())
