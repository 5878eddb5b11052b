"""What is said on a terminal: one way for all text that holds names, paths and reasons from outside."""

from rich.console import Console

from search.secrets import masked
from trainables.errors import printable


def say(console: Console, text: str) -> None:
    """One line, as it is: no markup, no control characters, no credentials, no wrapping."""
    console.print(printable(masked(text)), markup=False, highlight=False, soft_wrap=True)


def error_line(text: str) -> str:
    """`error: ...` as one line without control characters or credentials."""
    return f"error: {printable(masked(text))}\n"
