"""python -m search: list the commands."""

import sys

from search.process.guard import guarded
from trainables.errors import ConfigError, unknown

VERBS = {
    "data DATA": "look at a data set: classes, copies, leaks, what is left out",
    "run": "start a search",
    "resume NAME": "go on with a search that was cut off",
    "refine NAME": (
        "go on in ranges narrowed around the best, and widened at edges, until the gain is noise"
    ),
    "select NAME": "train the best few again with fresh seeds, choose one, and test it",
    "predict NAME PATH": "what its model says of images",
    "serve MODEL": "a trained model over HTTP",
    "list": "all searches, the newest first",
    "ui": "web pages on all searches: see them, start them, steer them",
    "compare NAME NAME": "searches side by side: what they found, what they differ in",
    "status NAME": "what is done, what runs, what was stopped and why",
    "stop NAME [TRIAL]": "stop one trial, or the search with what it has, after the epoch",
    "pause NAME": "pause a search after the epoch; resume goes on from there",
    "extend NAME": "give a running search more trials, more budget, more at once, or less",
    "why NAME TRIAL": "the story of one trial",
    "sync NAME": "write to MLflow what it missed while it was away",
    "report NAME": "write a search's page: the table, the curves, the test evaluation",
    "clean NAME": "remove checkpoints that nothing needs any more, or all but the answer's",
    "monitor MODEL": "is a model in use still what it was? exit code 7 if something has changed",
    "improve MODEL": "learn from corrected images: challengers, held against the champion",
    "promote NAME": "put the best network into MLflow's model registry, ready to be used elsewhere",
    "label PLACE": "correct images that a served model has met, the most useful first",
    "export NAME": "every trial as CSV or JSON",
    "delete NAME": "delete a search, its checkpoints and its runs in MLflow; it asks first",
}


def command(words: list[str]) -> int:
    """Print the commands and return the exit code.

    Raises:
        ConfigError: there is an argument that is not an option.
    """
    if words and not words[0].startswith("-"):
        known = [verb.split()[0] for verb in VERBS]
        hint = (
            f"'search {words[0]}' is no command. Use python -m search.{words[0]}."
            if words[0] in known
            else unknown("verb", words[0], known)
        )
        raise ConfigError(hint)
    print("Which network, trained how, is best for my images?\n")
    for verb, meaning in VERBS.items():
        print(f"  python -m search.{verb:<17} {meaning}")
    print("\nEach takes --help. Start with: python -m search.run --space table3")
    return 0


if __name__ == "__main__":
    raise SystemExit(guarded(lambda: command(sys.argv[1:])))
