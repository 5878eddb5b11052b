"""The copy of a journal in a bucket: pieces of whole lines, of which only the last one grows.

Each event, or group of events, costs one request: a conditional write, which replaces the last
piece only if this driver wrote it. So the copy also prevents two drivers from writing to one
journal: the write of the second driver is refused.
"""

from concurrent.futures import ThreadPoolExecutor

from cluster.storage.bucket import Bucket, StorageError, WriteConflict
from search.journal.journal import DamagedJournal, Event, Replaced, parse_lines

PIECE = 64_000
"""Size in bytes at which a piece is full, so that the next line starts a new piece."""
AT_ONCE = 16
FIRST = "000001"
"""Name of the first piece."""


class JournalCopy:
    """Reads and writes the pieces of one journal, the objects under one prefix of a bucket."""

    def __init__(self, place: Bucket) -> None:
        self.place = place
        self.number, self.piece, self.tag = 1, b"", ""
        """The number, the content and the tag of the last piece in the bucket.

        Content and tag are empty if the piece does not exist yet.
        """

    def read(self) -> bytes:
        """Return the content of the whole journal, and prepare to append to it.

        Raises:
            DamagedJournal: a piece is missing.
            StorageError: a piece was removed while the journal was read.
        """
        names = sorted(self.place.listing())
        if names != [_name(number) for number in range(1, len(names) + 1)]:
            some = f"{', '.join(names[:3])}{' ...' if len(names) > 3 else ''}"
            raise DamagedJournal(
                f"a piece of the journal in {self.place} is missing (found {some}). Restore the "
                "missing piece from a backup."
            )
        with ThreadPoolExecutor(AT_ONCE) as pool:
            answers = list(pool.map(self.place.get, names))
        if None in answers:
            raise StorageError(
                f"{self.place}: a piece of the journal was removed while the journal was being "
                "read; try again"
            )
        pieces = [piece for piece in answers if piece is not None]
        if pieces:
            self.number, self.piece, self.tag = len(pieces), pieces[-1].content, pieces[-1].tag
        return b"".join(piece.content for piece in pieces)

    def read_on(self) -> bytes:
        """Return the bytes that were appended since the last call.

        Raises:
            Replaced: the journal has been replaced or removed.
        """
        content = b""
        while (stored := self.place.get(_name(self.number))) is not None:
            if not stored.content.startswith(self.piece):
                raise Replaced(
                    f"the journal in {self.place} was replaced by another journal. Try again."
                )
            content += stored.content[len(self.piece) :]
            self.piece, self.tag = stored.content, stored.tag
            if len(self.piece) < PIECE:
                return content
            self.number, self.piece, self.tag = self.number + 1, b"", ""
        if self.piece:
            raise Replaced(
                f"the journal in {self.place} was removed. Check that the search still exists."
            )
        return content

    def append(self, lines: bytes) -> None:
        """Append whole lines; repeating the call after a lost response does not append them twice.

        Raises:
            WriteConflict: another driver has written to this journal.
            StorageError: another write was in progress; try again.
        """
        if len(self.piece) >= PIECE:
            self.number, self.piece, self.tag = self.number + 1, b"", ""
        content = self.piece + lines
        try:
            tag = self.place.put(content, _name(self.number), new=not self.tag, instead_of=self.tag)
        except WriteConflict:
            stored = self.place.get(_name(self.number))
            if self.tag == (stored.tag if stored is not None else ""):
                raise StorageError(f"another write to {self.place} was in progress") from None
            if stored is None or stored.content != content:
                raise
            tag = stored.tag
        self.piece, self.tag = content, tag


class CopyTail:
    """Reader of a growing journal in a bucket, which fetches only the new pieces."""

    def __init__(self, place: Bucket) -> None:
        """Start before the first line of the journal in `place`."""
        self._copy, self._lines = JournalCopy(place), 0

    def new(self) -> list[Event]:
        """Return the events that were appended since the last call.

        Raises:
            DamagedJournal: a line is damaged, or a piece is missing.
            Replaced: the journal has been replaced or removed.
            StorageError: a piece was removed while the journal was read for the first time.
        """
        content = self._copy.read_on() if self._lines else self._copy.read()
        lines = content.split(b"\n")[:-1]
        events = list(parse_lines(lines, self._copy.place, self._lines + 1))
        self._lines += len(lines)
        return events


def _name(number: int) -> str:
    return f"{number:06d}"
