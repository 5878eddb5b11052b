"""The table of the verbs of `search`: their descriptions, and the properties that pages need."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from cluster.exit_codes import ExitCode


@dataclass(frozen=True, kw_only=True)
class VerbEntry:
    """A verb, which is a module of `search` with a function `main`."""

    meaning: str
    """Its description, which `python -m search` prints."""
    arguments: str = ""
    """Its positional arguments, such as `NAME`; empty without any."""
    start_title: str = ""
    """Title of the page on its start, with `{}` for the subject; empty if no page starts it."""
    output_option: str = ""
    """The option for the output file, if pages start it with one; otherwise empty."""
    code_titles: Mapping[int, str] = field(default_factory=dict)
    """Titles of the exit codes that have a special meaning for this verb."""


VERBS = {
    "data": VerbEntry(
        arguments="DATA",
        meaning="look at a data set: classes, copies, leaks, what is left out",
    ),
    "run": VerbEntry(meaning="start a search", start_title="Starting {}"),
    "resume": VerbEntry(
        arguments="NAME",
        meaning="go on with a search that was cut off",
        start_title="Continuing {}",
    ),
    "refine": VerbEntry(
        arguments="NAME",
        meaning=(
            "go on in ranges narrowed around the best, and widened at edges, until the gain is "
            "noise"
        ),
        start_title="Refining {}",
    ),
    "select": VerbEntry(
        arguments="NAME",
        meaning="train the best few again with fresh seeds, choose one, and test it",
        start_title="Choosing the best of {}",
    ),
    "predict": VerbEntry(
        arguments="NAME PATH",
        meaning="what its model says of images",
        start_title="Predictions of {}",
        output_option="--csv",
        code_titles={
            ExitCode.SOME_FAILED: "done; some files could not be read",
            ExitCode.TERMINATED: "stopped",
        },
    ),
    "serve": VerbEntry(arguments="MODEL", meaning="a trained model over HTTP"),
    "list": VerbEntry(meaning="all searches, the newest first"),
    "ui": VerbEntry(meaning="web pages on all searches: see them, start them, steer them"),
    "compare": VerbEntry(
        arguments="NAME NAME",
        meaning="searches side by side: what they found, what they differ in",
    ),
    "status": VerbEntry(
        arguments="NAME", meaning="what is done, what runs, what was stopped and why"
    ),
    "stop": VerbEntry(
        arguments="NAME [TRIAL]",
        meaning="stop one trial, or the search with what it has, after the epoch",
    ),
    "pause": VerbEntry(
        arguments="NAME", meaning="pause a search after the epoch; resume goes on from there"
    ),
    "extend": VerbEntry(
        arguments="NAME",
        meaning="give a running search more trials, more budget, more at once, or less",
    ),
    "why": VerbEntry(arguments="NAME TRIAL", meaning="the story of one trial"),
    "sync": VerbEntry(arguments="NAME", meaning="write to MLflow what it missed while it was away"),
    "report": VerbEntry(
        arguments="NAME",
        meaning="write a search's page: the table, the curves, the test evaluation",
    ),
    "clean": VerbEntry(
        arguments="NAME",
        meaning="remove checkpoints that nothing needs any more, or all but the answer's",
    ),
    "monitor": VerbEntry(
        arguments="MODEL",
        meaning=("is a model in use still what it was? exit code 7 if something has changed"),
    ),
    "improve": VerbEntry(
        arguments="MODEL",
        meaning="learn from corrected images: challengers, held against the champion",
    ),
    "promote": VerbEntry(
        arguments="NAME",
        meaning="put the best network into MLflow's model registry, ready to be used elsewhere",
        start_title="Promoting the model of {}",
    ),
    "label": VerbEntry(
        arguments="PLACE",
        meaning="correct images that a served model has met, the most useful first",
    ),
    "export": VerbEntry(arguments="NAME", meaning="every trial as CSV or JSON"),
    "delete": VerbEntry(
        arguments="NAME",
        meaning="delete a search, its checkpoints and its runs in MLflow; it asks first",
    ),
}
"""All verbs by name, in the order in which users typically need them."""
