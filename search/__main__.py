"""python -m search: list the commands."""

import sys

from search.process.guard import guarded
from search.values.verbs import VERBS
from trainables.errors import ConfigError, unknown


def command(words: list[str]) -> int:
    """Print the list of commands, and return the exit code.

    Args:
        words: the command line; options such as --help are ignored.

    Raises:
        ConfigError: the first word is not an option, such as a verb after a space.
    """
    if words and not words[0].startswith("-"):
        hint = (
            f"'search {words[0]}' is not a command. Use python -m search.{words[0]}."
            if words[0] in VERBS
            else unknown("verb", words[0], VERBS)
        )
        raise ConfigError(hint)
    print("Which network is best for my images, and how should it be trained?\n")
    for name, verb in VERBS.items():
        usage = f"{name} {verb.arguments}"
        print(f"  python -m search.{usage:<17} {verb.meaning}")
    print("\nEvery command has a --help option.")
    print("Start with: python -m search.run --data folder:PATH")
    return 0


if __name__ == "__main__":
    raise SystemExit(guarded(lambda: command(sys.argv[1:])))
