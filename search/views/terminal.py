"""What is said on a terminal: one way for all text that holds names, paths and reasons from
outside.
"""

from rich.console import Console

from cluster.secrets import masked
from trainables.errors import printable


class Terminal(Console):
    """A console whose reader may go away: what was printed for that reader alone ends there, a
    search goes on in silence.
    """

    def on_broken_pipe(self) -> None:
        """rich would end the process here, with a code that says nothing."""
        if not self.stderr:
            raise BrokenPipeError
        self.quiet = True


def say(console: Console, text: str) -> None:
    """One line, as it is: no markup, no control characters, no credentials, no wrapping."""
    console.print(printable(masked(text)), markup=False, highlight=False, soft_wrap=True)
