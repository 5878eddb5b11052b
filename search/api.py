"""The search in Python: run one, look at it, use its model.

    >>> from search.api import load, result, run
    >>> found = run(
    ...     space="smoke", trials=2, algorithm="random", scheduler="fifo", name="first", quiet=True
    ... )
    >>> found
    <search 'first': 2 completed; best 0..., t000...>
    >>> found.best.params
    {'optimizer.lr': 0.00..., 'batch_size': ...}
    >>> found.trials[["trial", "outcome", "epochs"]]
       trial    outcome  epochs
    0  t0001  completed       2
    1  t0002  completed       2
    >>> print(found.report())
    searches/first/report.html

A search is known by its name afterwards, in this process and in any other:

    >>> result("first").best == found.best
    True
    >>> model = load("first")
    >>> import numpy
    >>> images = numpy.zeros((3, 20, 30), dtype=numpy.uint8)  # grey ones, of another size
    >>> model.probabilities(images).shape
    (3, 10)
    >>> len(model.predict(images))
    3

A mistake is an exception with one line:

    >>> run(space="smoke", trails=2)
    Traceback (most recent call last):
        ...
    trainables.errors.ConfigError: unknown option 'trails'. ... Did you mean 'trials'?
"""

import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from functools import cached_property
from io import TextIOBase
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO, overload

from cluster.exit_codes import ExitCode
from cluster.signals import Terminated
from search.cli.keywords import request_from, words
from search.facts.overview import Overview
from search.facts.trials import trial_table
from search.journal.guessing import answer_against
from search.journal.naming import read_search
from search.journal.result import PAGE, SearchResult, TrialResult
from search.journal.store import Storage, home
from search.operations.list import ListRequest, list_searches
from search.values.message import message_of
from search.values.wording import DEFAULT_STORAGE
from trainables.errors import ConfigError
from trainables.values import Evaluation, Json, Params

if TYPE_CHECKING:
    import pandas as pd

    from search.run import RunOptions
    from search.views.base import Finished
    from trainables.export.model import Model


@dataclass(frozen=True)
class Trial:
    """A snapshot of one trial of a search."""

    name: str
    params: Params
    """The values of the searched parameters, by dotted path: `{"optimizer.lr": 0.01}`."""
    value: float
    """The metric on the validation set at its best epoch; NaN before the first epoch."""
    metric: str
    """The name of the metric that ranks the trials, such as `macro_f1`."""
    outcome: str
    """`completed`, `stopped`, `diverged` or `failed`. Before the trial has ended: `running`,
    `pending`, `held` (it waits at a rung) or `interrupted`."""
    epochs: int
    """The number of finished epochs."""
    metrics: dict[str, float]
    """All metrics of its best epoch, such as `val/loss`; empty before the first epoch."""
    config: Json
    """The complete configuration of the training, as nested dicts."""


class Search:
    """A snapshot of a search. Call `result` for the current state."""

    def __init__(
        self, result: SearchResult, storage: Storage, *, runs: bool = False, exit_code: int = 0
    ) -> None:
        """Wrap the result that was read from a journal.

        Args:
            result: the state of the search.
            storage: the place where the search is stored.
            runs: whether a driver runs the search now.
            exit_code: the exit code of the session, if this process has run it.
        """
        self._result, self._runs, self.storage, self.exit_code = result, runs, storage, exit_code

    @property
    def name(self) -> str:
        """The search's name, as `result` and `load` take it."""
        return self._result.name

    @property
    def outcome(self) -> str:
        """The way it ended, such as `completed`, `budget` or `interrupted`, or else `running`."""
        outcome = self._result.outcome
        return "interrupted" if outcome == "running" and not self._runs else outcome

    @cached_property
    def best(self) -> Trial | None:
        """The best trial; None as long as no trial has finished an epoch."""
        return _trial(self._result.best)

    @cached_property
    def chosen(self) -> Trial | None:
        """The trial that `load` uses: the choice of `search.select`, or else the best trial."""
        return _trial(self._result.chosen)

    @property
    def test(self) -> Evaluation:
        """The evaluation of the chosen trial on the test set; empty if it was not tested."""
        return self._result.chosen_test

    @property
    def above_chance(self) -> bool | None:
        """True if the chosen trial is better than guessing; None if that is unknown."""
        against = answer_against(self._result)
        return None if against is None else against.is_above

    @property
    def trials(self) -> "pd.DataFrame":
        """A table with one row per trial, in the order in which they were suggested.

        It has the columns of `search.export`.
        """
        import pandas as pd

        table = trial_table(self._result)
        return pd.DataFrame(table.rows, columns=table.columns)

    def report(self) -> Path:
        """Return the path of the search's HTML report, which is written first if it is missing.

        If a driver runs the search, each call writes the report again.
        """
        with _unchanged():
            search_home = home(self.storage, self.name)
            folder = search_home.opened(files=True)
            path = folder / PAGE
            if self.outcome == "running" or not path.exists():
                from search.views.page.page import write

                write(SearchResult.read(folder), folder, path)
        return path

    def __repr__(self) -> str:
        from search.views.text.labels import figure_text, outcome_text

        best = self._result.best
        best_text = f"best {figure_text(best)}, {best.trial}" if best is not None else "no result"
        return f"<search '{self.name}': {outcome_text(self._result)}; {best_text}>"


@contextmanager
def _with_calls() -> Iterator[None]:
    """Add notes to an exception: the Python calls for the commands that its message names."""
    try:
        yield
    except Exception as error:
        remedies = [remedy for remedy in message_of(error).remedies if not remedy.has_blanks]
        notes = [f"In Python: {remedy.call}" for remedy in remedies]
        for note in notes:
            # A decorated function that calls another one must not add the notes twice.
            if note not in getattr(error, "__notes__", ()):
                error.add_note(note)
        raise


@overload
def run(*, dry_run: Literal[True], quiet: bool = False, **options: Any) -> None: ...
@overload
def run(*, dry_run: Literal[False] = False, quiet: bool = False, **options: Any) -> Search: ...


@_with_calls()
def run(*, dry_run: bool = False, quiet: bool = False, **options: Any) -> Search | None:
    """Run a search until it ends, and return it.

    The output of `python -m search.run` is printed. Call this in the main thread, where signals
    arrive: after Ctrl-C or SIGTERM each trial finishes its epoch, and then the signal has its usual
    effect, so Ctrl-C raises KeyboardInterrupt. `result` then returns the search, and
    `search.resume` continues it.

    At the end, signal handlers, exception hooks, environment variables and the levels of existing
    loggers are restored. These changes remain: Ray, MLflow, Optuna and matplotlib are imported, and
    their new loggers keep the level that the search has set; a folder of Ray is on `sys.path`; Ray
    has a token in `~/.ray`; and the search leaves its folder, MLflow's database, and decoded images
    in the cache.

    Args:
        dry_run: print the plan and an estimate of the time, start nothing, and return None.
        quiet: print only errors.
        options: the options of `python -m search.run --help` with underscores: `max_epochs=5`.
            Options that can be repeated take a list, `set` also a mapping: `set={
            "batch_size": 64, "optimizer": {"name": "sgd"}}`. `space` may be a SearchSpace or a
            function that returns one; it is then stored in the journal, where `search.resume` finds
            it.

    Raises:
        ConfigError: an option, the data or the space is wrong, or a search of this name exists;
            nothing was started.
        NotReady, Unavailable: Ray, MLflow or a download is not available.
        LeaseHeld: another process starts a search of this name at the same time.
    """
    if threading.current_thread() is not threading.main_thread():
        raise ConfigError("a search runs in the main thread alone, where signals arrive.")
    code, search = 0, None
    try:
        with _unchanged(), _silence(quiet):
            if (finished := _run(options, dry_run=dry_run)) is None:
                return None
            code = finished.exit_code
            search = Search(finished.result, finished.experiment.storage, exit_code=code)
    except Terminated:
        code = ExitCode.TERMINATED
    if code > 128:  # pass the signal that stopped it to the restored handlers
        signal.raise_signal(code - 128)
    if search is None:  # stopped before it started, and the handler returned
        raise SystemExit(code)
    return search


def _run(options: dict[str, Any], *, dry_run: bool) -> "Finished | None":
    """Run the search with these options, and print its result.

    For a dry run, only print the plan, and return None.
    """
    from cluster.signals import stop_on_signals
    from search.operations.run import run as run_search
    from search.run import print_estimate

    with stop_on_signals():
        run_options = _run_options(options)
        if dry_run or run_options.dry_run:
            print_estimate(run_options.request, as_json=False)
            return None
        return run_search(run_options.request, as_json=run_options.json)


@_with_calls()
def result(name: str, *, storage: str | Path = DEFAULT_STORAGE) -> Search:
    """Read a search from its journal; it may have ended or still be running.

    Args:
        name: the search's name.
        storage: the place where it is stored: a folder, or s3://BUCKET/PREFIX.

    Raises:
        ConfigError: there is no such search.
        DamagedJournal: its journal was damaged or changed.
    """
    place = _place(storage)
    snapshot, holder = read_search(name, place)
    return Search(snapshot, place, runs=bool(holder))


def searches(*, storage: str | Path = DEFAULT_STORAGE) -> list[Overview]:
    """Read an overview of each search in a place, the newest first, broken ones last.

    Args:
        storage: a folder, or s3://BUCKET/PREFIX.
    """
    return list_searches(ListRequest(storage=_place(storage)))


@_with_calls()
def load(
    source: str | Path,
    *,
    trial: str | None = None,
    storage: str | Path = DEFAULT_STORAGE,
    tracking: str | None = None,
    data_root: str | Path | None = None,
) -> "Model":
    """Load a trained model, ready for images of any size.

    The model of a search is the one that `search.promote` would register, with the same
    probabilities. The first call exports it, which needs the search's images, and caches the
    export.

    Args:
        source: a search's name, `models:/NAME@champion` or `models:/NAME/3` in MLflow's registry,
            or the folder of a promoted model.
        trial: a trial of the search; None for the chosen or else the best one.
        storage: the place where the search is stored.
        tracking: MLflow's tracking URI; None for $MLFLOW_TRACKING_URI, or else
            sqlite:///mlflow.db.
        data_root: the folder of the search's data, if it has moved.

    Raises:
        ConfigError: there is no such search, trial, model or folder.
        LeaseHeld, Refused: the search still runs or was cut off, its images have changed, or the
            checkpoint is damaged.
        NotReady, Unavailable: MLflow or the data is not available.
    """
    from search.trained.source import ModelSource, load_model

    with _unchanged():
        return load_model(
            ModelSource(
                name=source,
                storage=_place(storage),
                trial=trial,
                tracking=tracking,
                data_root=Path(data_root) if data_root else None,
            )
        )


def _run_options(options: Mapping[str, Any]) -> "RunOptions":
    """Convert the options of `run` to those of the command line, with those of the config file.

    Raises:
        ConfigError: an option does not exist, or its value is not allowed.
    """
    from search.run import RunOptions, parse_options
    from search.spaces.find import as_space

    space = options.get("space")
    if space is None or isinstance(space, str | Path):
        return parse_options(words(RunOptions, options))
    run_options = parse_options(words(RunOptions, {**options, "space": None}))
    own_space = as_space(space, getattr(space, "__name__", "given"))
    return replace(run_options, request=replace(run_options.request, space=own_space))


def _place(storage: str | Path) -> Storage:
    return request_from(ListRequest, {"storage": storage}).storage


def _trial(trial: TrialResult | None) -> Trial | None:
    if trial is None:
        return None
    return Trial(
        trial.trial,
        dict(trial.params),
        trial.value,
        trial.metric.name,
        trial.outcome,
        len(trial.epochs),
        dict(trial.best),
        json.loads(json.dumps(trial.config)),
    )


class _Quiet(TextIOBase):
    """A stream that passes on only error lines until `is_over` is set, and then everything.

    It must keep working afterwards, because modules that are imported in the meantime may hold it,
    for example in a logger's handler.
    """

    def __init__(self, real: TextIO) -> None:
        super().__init__()
        self.real, self.is_over, self._line = real, False, ""

    def writable(self) -> bool:
        """Return True, as for any output stream."""
        return True

    def write(self, text: str) -> int:
        """Write the text's lines that begin with "error: "; if `is_over`, the whole text."""
        if self.is_over:
            return self.real.write(text)
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            if line.startswith("error: "):
                self.real.write(f"{line}\n")
                self.real.flush()
        return len(text)

    def flush(self) -> None:
        """Flush the real stream, unless it has been closed already (as at the process's exit)."""
        if self.is_over and not self.real.closed:
            self.real.flush()


@contextmanager
def _silence(quiet: bool) -> Iterator[None]:
    """Suppress output inside this context, except error lines, if `quiet`."""
    if not quiet:
        yield
        return
    streams = [_Quiet(sys.stdout), _Quiet(sys.stderr)]
    try:
        with redirect_stdout(streams[0]), redirect_stderr(streams[1]):
            yield
    finally:
        for stream in streams:
            stream.is_over = True


def _loggers() -> list[logging.Logger]:
    entries = [logging.root, *logging.root.manager.loggerDict.values()]
    return [logger for logger in entries if isinstance(logger, logging.Logger)]


@contextmanager
def _unchanged() -> Iterator[None]:
    """Restore environment variables, loggers' levels and `sys.excepthook` (set by Ray) at exit."""
    environment, hook = dict(os.environ), sys.excepthook
    levels = [(logger, logger.level) for logger in _loggers()]
    try:
        yield
    finally:
        sys.excepthook = hook
        for name in os.environ.keys() - environment.keys():
            del os.environ[name]
        os.environ.update(environment)
        for logger, level in levels:
            logger.setLevel(level)
