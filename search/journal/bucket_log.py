"""A journal's copy in a bucket: pieces of whole lines, the last of which grows with each event.

Each event costs one request: the last piece is written anew, on condition that it is still what
this driver wrote before. So the copy is also the fence: of two drivers that write one journal, the
second to write is refused.
"""

from concurrent.futures import ThreadPoolExecutor

from cluster.storage.bucket import Bucket, StorageError, Taken
from search.journal.journal import DamagedJournal

PIECE = 64_000
"""A piece of this many bytes or more is not added to any more; the next line begins a new one."""
AT_ONCE = 16
FIRST = "000001"
"""The name of the first piece."""


class JournalCopy:
    """Reads and writes the pieces under one place of a bucket."""

    def __init__(self, place: Bucket) -> None:
        self.place = place
        self.number, self.piece, self.tag = 1, b"", ""
        """The last piece: its number, its content, and its tag as this driver knows it; empty if
        there is none yet.
        """

    def read(self) -> bytes:
        """Return all that was written, and be ready to append to it.

        Raises:
            DamagedJournal: a piece is missing.
            StorageError: the storage refuses.
        """
        names = sorted(self.place.listing())
        if names != [_name(number) for number in range(1, len(names) + 1)]:
            raise DamagedJournal(
                f"{self.place}: a piece of the journal is missing (found {', '.join(names[:3])} "
                "...). Bring it back from a copy."
            )
        with ThreadPoolExecutor(AT_ONCE) as pool:
            pieces = list(pool.map(self.place.get, names))
        if None in pieces:
            raise StorageError(
                f"{self.place}: a piece of the journal was removed while it was read; try again"
            )
        found = [piece for piece in pieces if piece is not None]
        if found:
            self.number, self.piece, self.tag = len(found), found[-1].content, found[-1].tag
        return b"".join(piece.content for piece in found)

    def append(self, line: bytes) -> None:
        """Add a whole line. Adding it again because the answer was lost changes nothing.

        Raises:
            Taken: another driver has written there.
            StorageError: the storage refuses.
        """
        if len(self.piece) >= PIECE:
            self.number, self.piece, self.tag = self.number + 1, b"", ""
        content = self.piece + line
        try:
            tag = self.place.put(content, _name(self.number), new=not self.tag, instead_of=self.tag)
        except Taken:
            there = self.place.get(_name(self.number))
            if self.tag == (there.tag if there is not None else ""):
                raise StorageError(f"{self.place}: a write was in the way of another") from None
            if there is None or there.content != content:
                raise
            tag = there.tag
        self.piece, self.tag = content, tag


def _name(number: int) -> str:
    return f"{number:06d}"
