"""Terminal output of text from outside, such as names, paths and error messages."""

import os
import sys
from typing import Any

from rich.console import Console

from cluster.secrets import redact
from trainables.errors import printable

UNBOUNDED = 10_000
"""Width used when the stream is not a terminal, so that nothing wraps."""


class Terminal(Console):
    """A rich console that handles closed pipes, notebooks and output that is not a terminal.

    If the reader closes the stream, printing raises `BrokenPipeError` on stdout. On stderr, the
    console becomes quiet and the search continues. In a notebook, the console writes plain lines to
    the same streams, so that they can be redirected. If the output is not a terminal, lines are not
    wrapped, so that no name is broken.
    """

    def __init__(self, **options: Any) -> None:
        stream = sys.stderr if options.get("stderr") else sys.stdout
        is_notebook = type(stream).__module__.startswith("ipykernel.")
        plain = {"force_terminal": False} if is_notebook else {}
        super().__init__(**{"force_jupyter": False, **plain, **options})
        if not (self.is_terminal or is_notebook or "width" in options or "COLUMNS" in os.environ):
            self.width = UNBOUNDED

    def on_broken_pipe(self) -> None:
        """Replace rich's method, which would end the process with an uninformative exit code."""
        if not self.stderr:
            raise BrokenPipeError
        self.quiet = True


def say(console: Console, text: str) -> None:
    """Print one line literally: without markup, control characters, credentials or wrapping."""
    console.print(printable(redact(text)), markup=False, highlight=False, soft_wrap=True)
