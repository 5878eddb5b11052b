"""The conversation with the user while an operation works."""

from typing import Protocol


class Talk(Protocol):
    """Receives notes, and answers questions."""

    def note(self, text: str) -> None:
        """Tell the user one line that is not part of the result, such as a warning."""

    def confirm(self, question: str) -> bool:
        """Ask a question whose answer is yes or no, and return True for yes."""


class SilentTalk:
    """A `Talk` without a user: notes are dropped, and the answer to each question is yes.

    A caller in Python asks for an operation by calling it, so nothing is left to confirm.
    """

    def note(self, text: str) -> None:
        """Drop the line."""

    def confirm(self, question: str) -> bool:
        """Confirm."""
        return True


SILENT = SilentTalk()
