"""The deletion of a search: everything that it removes or affects, also as lines of text."""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from cluster.secrets import redact
from search.journal.store import StoredSize
from search.tracking.forget import Traces
from search.values.message import program
from trainables.errors import counted
from trainables.machine import size_text


@dataclass(frozen=True)
class DependentSearch:
    """Another search that has used the search to be deleted."""

    search: str
    trials: int
    """The number of the other search's trials that continued trainings of the deleted search.

    These trials have their own copies of the checkpoints.
    """
    needs_weights: bool
    """True if the other search's trials start from weights in the deleted search's folder."""


@dataclass(frozen=True)
class Deletion:
    """The search to be deleted, and everything that the deletion removes or affects."""

    name: str
    place: str
    size: StoredSize
    traces: Traces | None
    """The search's runs, which are deleted, and its registered models, which stay.

    None if MLflow is left unchanged, or if the runs are unknown because the journal is damaged.
    """
    uses: tuple[DependentSearch, ...]


def deletion_lines(deletion: Deletion) -> Iterator[str]:
    """Yield lines on the files and runs to delete, on what stays, and on dependent searches."""
    count = deletion.size.files
    yield f"{deletion.name}: {counted(count, 'file')}, {size_text(deletion.size.bytes)} in"
    yield f"  {deletion.place}"
    if (traces := deletion.traces) is not None:
        yield f"  {counted(len(traces.runs), 'run')} in MLflow ({redact(traces.uri)})"
        if traces.versions:
            yield f"  not deleted: {', '.join(traces.versions)}, which contain the model"
    else:
        yield "  its runs in MLflow are not deleted"
    for use in deletion.uses:
        if use.trials:
            trials = counted(use.trials, "trial")
            yield (
                f"  '{use.search}' reused trainings of this search for {trials}, and has its own "
                "copies"
            )
        if use.needs_weights:
            yield (
                f"  '{use.search}' starts from weights in this search, and cannot continue "
                "afterwards"
            )


def purge_text(uri: str) -> str:
    """Compose the command that permanently removes MLflow's deleted runs and their files."""
    if uri.startswith(("http:", "https:")):
        return "mlflow gc, on MLflow's server"
    address = shlex.quote(redact(uri))
    return f"{program('mlflow')} gc --backend-store-uri {address} --tracking-uri {address}"
