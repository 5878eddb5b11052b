"""Removes the checkpoints of a search that are no longer needed."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from search.journal.keeping import (
    ANSWER,
    CLEANED,
    NEEDED,
    Removable,
    find_removable,
    freed_event,
    remove,
)
from search.journal.lease import LeaseHeld
from search.journal.naming import refuse_cut_off
from search.journal.result import SearchResult
from search.journal.store import Home, Storage
from search.operations.options import SearchRequest
from search.operations.talk import SILENT, Talk
from search.values.option import option
from search.values.wording import cut_off_text
from trainables.errors import ConfigError, unknown


@dataclass(frozen=True, kw_only=True)
class CleanRequest(SearchRequest):
    """A search, and the rule that determines which of its checkpoints are kept."""

    keep: str = option(
        f"{NEEDED}: keep those from which a resume, a refinement or another search continues; "
        f"{ANSWER}: keep that of the best or chosen network, and the best one of each candidate "
        f"of a selection (default: {NEEDED})",
        metavar="WHAT",
        default=NEEDED,
    )


def removable_checkpoints(request: CleanRequest) -> list[Removable]:
    """Find the checkpoints that `clean` would remove.

    Raises:
        NoSuchSearch: there is no such search.
        LeaseHeld: a driver runs the search.
        ConfigError, Refused: see `removable_of`.
    """
    home = request.home()
    result = SearchResult.read(home.opened())
    if holder := home.holder():
        raise LeaseHeld(
            f"the search '{request.name}' is being run by {holder}. Wait until the search ends, "
            "or stop the search first."
        )
    return removable_of(result, home, request.storage, request.keep)


def clean(request: CleanRequest, talk: Talk = SILENT) -> int:
    """Remove the unneeded checkpoints of a search, and return their total size in bytes.

    Raises:
        NoSuchSearch: there is no such search.
        LeaseHeld: a driver runs the search.
        ConfigError, Refused: see `removable_of`.
    """
    return clean_search(request.home(), request.storage, request.keep, talk.note)


def removable_of(result: SearchResult, home: Home, storage: Storage, keep: str) -> list[Removable]:
    """Find the checkpoints of a search that can be removed.

    Args:
        result: the search.
        home: its place in the storage.
        storage: the storage, which error messages name.
        keep: the value of --keep, one of `CLEANED`.

    Raises:
        ConfigError: the value of --keep is unknown.
        Refused: the search, or its selection, was cut off.
    """
    if keep not in CLEANED:
        raise ConfigError(unknown("value of --keep", keep, CLEANED))
    refuse_cut_off(result, storage)
    return find_removable(result, home, keep)


def size_of(removable: Iterable[Removable]) -> int:
    """Return the total size of checkpoints in bytes."""
    return sum(trial.size for trial in removable)


def clean_search(home: Home, storage: Storage, keep: str, note: Callable[[str], None]) -> int:
    """Remove the checkpoints that `keep` does not protect, and return their total size in bytes.

    The removal is recorded in the journal first, so that a resume knows about it. If the process is
    killed before all are removed, the next call removes the rest.

    Args:
        home: the search's place in the storage.
        storage: the storage, which error messages name.
        keep: the value of --keep, one of `CLEANED`.
        note: prints a line; called if the last line of the journal was incomplete.
    """
    with home.lease() as lease:
        journal, events = home.journal(new=False)
        journal.other_driver = lease.other_driver
        if journal.cut_off:
            note(cut_off_text(journal.cut_off))
        try:
            result = SearchResult.of(events, home.folder)
            if not (removable := removable_of(result, home, storage, keep)):
                return 0
            event = freed_event(removable, keep)
            journal.append(event)
            remove(home, removable)
        finally:
            journal.close()
    return event.bytes
