"""python -m search.serve MODEL: a trained model over HTTP."""

from search.operations.serve import main
from search.process.lifetime import leave

__all__ = ["main"]

if __name__ == "__main__":
    leave(main())
