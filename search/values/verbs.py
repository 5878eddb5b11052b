"""The table of the verbs of `search`: their descriptions, and the properties that pages need."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from cluster.exit_codes import ExitCode


@dataclass(frozen=True, kw_only=True)
class VerbEntry:
    """A verb, which is a module of `search` with a function `main`."""

    meaning: str
    """The verb's description, which `python -m search` prints."""
    arguments: str = ""
    """The verb's positional arguments, such as `NAME`; empty if it has none."""
    start_title: str = ""
    """Title of the page that shows how the verb starts; `{}` stands for the name of the search.
    Empty if no page starts the verb.
    """
    output_option: str = ""
    """The option with which pages choose the verb's output file; empty if pages choose none."""
    code_titles: Mapping[int, str] = field(default_factory=dict)
    """Titles of the exit codes that have a special meaning for this verb."""


VERBS = {
    "data": VerbEntry(
        arguments="DATA",
        meaning="inspect a data set: classes, copies, leaks, and images that are left out",
    ),
    "run": VerbEntry(meaning="start a search", start_title="Starting {}"),
    "resume": VerbEntry(
        arguments="NAME",
        meaning="continue a search that was cut off",
        start_title="Continuing {}",
    ),
    "refine": VerbEntry(
        arguments="NAME",
        meaning=(
            "continue a search in ranges that are narrowed around the best trial and widened at "
            "edges, until the gain is noise"
        ),
        start_title="Refining {}",
    ),
    "select": VerbEntry(
        arguments="NAME",
        meaning="train the best trials again with fresh seeds, choose one, and test it",
        start_title="Choosing the best of {}",
    ),
    "predict": VerbEntry(
        arguments="NAME PATH",
        meaning="predict images with the model of a search",
        start_title="Predictions of {}",
        output_option="--csv",
        code_titles={
            ExitCode.SOME_FAILED: "done; some files could not be read",
            ExitCode.TERMINATED: "stopped",
        },
    ),
    "explain": VerbEntry(
        arguments="NAME [IMAGES]",
        meaning="show which pixels the predictions of a model depend on, and check these maps",
    ),
    "serve": VerbEntry(arguments="MODEL", meaning="serve a trained model over HTTP"),
    "list": VerbEntry(meaning="list all searches, the newest first"),
    "ui": VerbEntry(meaning="serve web pages that show, start and steer searches"),
    "compare": VerbEntry(
        arguments="NAME NAME",
        meaning="compare searches: their results and their differences",
    ),
    "status": VerbEntry(
        arguments="NAME",
        meaning="show the progress of a search, and which trials were stopped and why",
    ),
    "stop": VerbEntry(
        arguments="NAME [TRIAL]",
        meaning="stop one trial, or the search with its results so far, after the epoch",
    ),
    "pause": VerbEntry(
        arguments="NAME", meaning="pause a search after the epoch; resume continues from there"
    ),
    "extend": VerbEntry(
        arguments="NAME",
        meaning="change the trials, the budget or the concurrency of a running search",
    ),
    "why": VerbEntry(arguments="NAME TRIAL", meaning="explain the decisions about one trial"),
    "sync": VerbEntry(arguments="NAME", meaning="write to MLflow the events that it missed"),
    "report": VerbEntry(
        arguments="NAME",
        meaning="write the page of a search: the table, the curves and the test evaluation",
    ),
    "clean": VerbEntry(
        arguments="NAME",
        meaning="remove checkpoints that are no longer needed, or all except the answer's",
    ),
    "monitor": VerbEntry(
        arguments="MODEL",
        meaning="check a served model for changes; the exit code is 7 if something has changed",
    ),
    "improve": VerbEntry(
        arguments="MODEL",
        meaning="train challengers on corrected images, and compare them with the champion",
    ),
    "promote": VerbEntry(
        arguments="NAME",
        meaning="register the best network in MLflow's model registry, to be used elsewhere",
        start_title="Promoting the model of {}",
    ),
    "label": VerbEntry(
        arguments="PLACE",
        meaning="correct the answers of a served model, the most useful images first",
    ),
    "export": VerbEntry(arguments="NAME", meaning="export every trial as CSV or JSON"),
    "delete": VerbEntry(
        arguments="NAME",
        meaning="delete a search, its checkpoints and its runs in MLflow, after a confirmation",
    ),
}
"""All verbs by name, in the order in which users typically need them."""
