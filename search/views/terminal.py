"""Output on a terminal: one way for all text with names, paths and reasons from outside."""

import os
import sys
from typing import Any

from rich.console import Console

from cluster.secrets import redact
from trainables.errors import printable

UNBOUNDED = 10_000
"""The columns of what is no terminal: no line comes so far."""


class Terminal(Console):
    """A console whose reader may go away.

    On stdout, where the output is for that reader alone, printing then ends with `BrokenPipeError`;
    on stderr the console falls silent and the search goes on. In a notebook it writes lines of text
    to these streams too, so that whoever redirects them gets it: nothing can be drawn over there.

    Where the output is no terminal, a line is as long as it is, so that no name in it is broken.
    """

    def __init__(self, **options: Any) -> None:
        stream = sys.stderr if options.get("stderr") else sys.stdout
        is_notebook = type(stream).__module__.startswith("ipykernel.")
        plain = {"force_terminal": False} if is_notebook else {}
        super().__init__(**{"force_jupyter": False, **plain, **options})
        if not (self.is_terminal or is_notebook or "width" in options or "COLUMNS" in os.environ):
            self.width = UNBOUNDED

    def on_broken_pipe(self) -> None:
        """Replace rich's method, which would end the process with a code that says nothing."""
        if not self.stderr:
            raise BrokenPipeError
        self.quiet = True


def say(console: Console, text: str) -> None:
    """Print one line as it is: no markup, control characters, credentials or wrapping."""
    console.print(printable(redact(text)), markup=False, highlight=False, soft_wrap=True)
