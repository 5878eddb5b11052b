"""A journal's copy in a bucket: pieces of whole lines, the last of which grows with each event.

Each event costs one request: the last piece is written anew, on condition that it is still what
this driver wrote before. So the copy is also the fence: of two drivers that write one journal, the
second to write is refused.
"""

from concurrent.futures import ThreadPoolExecutor

from cluster.storage.bucket import Bucket, StorageError, WriteConflict
from search.journal.journal import DamagedJournal, Event, Replaced, parsed

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

    def read_on(self) -> bytes:
        """Return what was written since it was last read.

        Raises:
            Replaced: what is there is no longer what was read.
            StorageError: the storage refuses.
        """
        found = b""
        while (stored := self.place.get(_name(self.number))) is not None:
            if not stored.content.startswith(self.piece):
                raise Replaced(f"{self.place}: another journal is there now")
            found += stored.content[len(self.piece) :]
            self.piece, self.tag = stored.content, stored.tag
            if len(self.piece) < PIECE:
                return found
            self.number, self.piece, self.tag = self.number + 1, b"", ""
        if self.piece:
            raise Replaced(f"{self.place}: the journal that was read is gone")
        return found

    def append(self, line: bytes) -> None:
        """Add a whole line. Adding it again because the answer was lost changes nothing.

        Raises:
            WriteConflict: another driver has written there.
            StorageError: the storage refuses.
        """
        if len(self.piece) >= PIECE:
            self.number, self.piece, self.tag = self.number + 1, b"", ""
        content = self.piece + line
        try:
            tag = self.place.put(content, _name(self.number), new=not self.tag, instead_of=self.tag)
        except WriteConflict:
            there = self.place.get(_name(self.number))
            if self.tag == (there.tag if there is not None else ""):
                raise StorageError(f"{self.place}: a write was in the way of another") from None
            if there is None or there.content != content:
                raise
            tag = there.tag
        self.piece, self.tag = content, tag


class CopyTail:
    """Reader of a journal in a bucket that is still being written: it fetches what is new alone."""

    def __init__(self, place: Bucket) -> None:
        """Begin before the first line of the journal whose pieces are there."""
        self._copy, self._lines = JournalCopy(place), 0

    def new(self) -> list[Event]:
        """Return the events since the last call.

        Raises:
            DamagedJournal: a line is damaged, or a piece is missing.
            Replaced: what is there is no longer what was read.
            StorageError: the storage refuses.
        """
        content = self._copy.read_on() if self._lines else self._copy.read()
        lines = content.split(b"\n")[:-1]
        events = list(parsed(lines, self._copy.place, self._lines + 1))
        self._lines += len(lines)
        return events


def _name(number: int) -> str:
    return f"{number:06d}"
