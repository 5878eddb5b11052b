"""python -m search.sync NAME: write the results of a search that MLflow missed to MLflow."""

from cluster.secrets import redact
from search.cli.face import Face
from search.operations.sync import SyncRequest, sync
from trainables.errors import counted


def command(request: SyncRequest) -> int:
    """Write the search to MLflow, print its numbers of trials and epochs; return the exit code."""
    synced = sync(request)
    print(
        f"MLflow has all of {synced.name}: {counted(synced.trials, 'trial')}, "
        f"{counted(synced.epochs, 'epoch')} ({redact(synced.uri)})"
    )
    return 0


FACE = Face("sync", SyncRequest, command, __doc__)
main = FACE.main

if __name__ == "__main__":
    raise SystemExit(main())
