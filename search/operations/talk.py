"""Notes to the user while an operation runs."""

from typing import Protocol


class Talk(Protocol):
    """Receives the notes of an operation."""

    def note(self, text: str) -> None:
        """Show the user one line that is not part of the result, such as a warning."""


class SilentTalk:
    """A `Talk` without a user: notes are dropped."""

    def note(self, text: str) -> None:
        """Drop the line."""


SILENT = SilentTalk()
