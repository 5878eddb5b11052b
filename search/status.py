"""python -m search.status NAME: what is done, what runs, what was stopped and why."""

from search.operations.status import main

__all__ = ["main"]

if __name__ == "__main__":
    raise SystemExit(main())
