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

The other commands are functions, too. They take the search's name and `storage`, and as `options`
those of `python -m search.VERB --help` with underscores, except the ones that only affect what is
printed or ask for a preview. They return the outcome:

    >>> from search.api import status, why
    >>> status("first").stage.name
    'OVER'
    >>> why("first", "t0001").trial
    't0001'

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
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from io import TextIOBase
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO, TypeVar, overload

from cluster.exit_codes import ExitCode
from cluster.signals import Terminated, stop_on_signals
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

    from search.facts.standing import SearchStanding
    from search.operations.asking import DriverReply
    from search.operations.compare import ComparedSearches
    from search.operations.deletion import Deletion
    from search.operations.improve import Improvement
    from search.operations.monitor import MonitoringResult
    from search.operations.predict import Predictions
    from search.operations.promote import Promotion
    from search.operations.sync import Synced
    from search.operations.why import Story
    from search.run import RunOptions
    from search.values.explanation import ExplanationReport
    from search.views.base import Finished
    from trainables.export.model import Model
    from trainables.inspection.report import DataReport

Place = str | Path
"""The place where searches are stored: a folder, or s3://BUCKET/PREFIX."""
Outcome = TypeVar("Outcome")
Request = TypeVar("Request")


@dataclass(frozen=True)
class Trial:
    """A snapshot of one trial. Call `result` for the current state of its search."""

    name: str
    params: Params
    """The values of the searched parameters, by dotted path: `{"optimizer.lr": 0.01}`."""
    value: float
    """The metric on the validation set at the trial's best epoch; NaN before the first epoch."""
    metric: str
    """The name of the metric that ranks the trials, such as `macro_f1`."""
    outcome: str
    """`completed`, `stopped`, `diverged` or `failed`. Before the trial has ended: `running`,
    `pending`, `held` (it waits at a rung) or `interrupted`."""
    epochs: int
    """The number of finished epochs."""
    metrics: dict[str, float]
    """All metrics of the trial's best epoch, such as `val/loss`; empty before the first epoch."""
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
            runs: True if a driver runs the search now.
            exit_code: the exit code of the session if this process has run it, otherwise 0.
        """
        self._result, self._runs, self.storage, self.exit_code = result, runs, storage, exit_code

    @property
    def name(self) -> str:
        """The search's name, which can be passed to `result` and `load`."""
        return self._result.name

    @property
    def outcome(self) -> str:
        """The outcome, such as `completed`, `budget` or `interrupted`; `running` before the end."""
        outcome = self._result.outcome
        return "interrupted" if outcome == "running" and not self._runs else outcome

    @cached_property
    def best(self) -> Trial | None:
        """The best trial; None as long as no trial has finished an epoch."""
        return _trial(self._result.best)

    @cached_property
    def chosen(self) -> Trial | None:
        """The model that `load` uses: the choice of a selection, an ensemble, or the best trial.

        An ensemble has no params; its config is that of its first member, with those of all members
        as `members`.
        """
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
        """Write the search's HTML report if it is missing, and return its path.

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


def _loggers() -> list[logging.Logger]:
    entries = [logging.root, *logging.root.manager.loggerDict.values()]
    return [logger for logger in entries if isinstance(logger, logging.Logger)]


@contextmanager
def _unchanged() -> Iterator[None]:
    """Restore environment variables, levels of loggers and `sys.excepthook` when the block ends.

    Ray sets `sys.excepthook`.
    """
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


@contextmanager
def _with_calls() -> Iterator[None]:
    """If an exception recommends commands, add notes to it with the equivalent Python calls."""
    try:
        yield
    except Exception as error:
        remedies = [remedy for remedy in message_of(error).remedies if not remedy.has_blanks]
        for remedy in remedies:
            note = f"In Python: {remedy.call}  # {remedy.import_line}"
            # A decorated function that calls another one must not add the notes twice.
            if note not in getattr(error, "__notes__", ()):
                error.add_note(note)
        raise


@contextmanager
def _operation() -> Iterator[None]:
    """Restore the state of the process after an operation, and add notes to its exceptions.

    The state is the one that `_unchanged` restores; operations that do not change it need only
    `_with_calls`. Operations that another thread calls while a search runs, such as `pause`, must
    not restore the state: this would undo what the search sets in the meantime.
    """
    with _with_calls(), _unchanged():
        yield


@overload
def run(*, dry_run: Literal[True], quiet: bool = False, **options: Any) -> None: ...
@overload
def run(*, dry_run: Literal[False] = False, quiet: bool = False, **options: Any) -> Search: ...


@_with_calls()
def run(*, dry_run: bool = False, quiet: bool = False, **options: Any) -> Search | None:
    """Run a search until it ends, and return it.

    The output is the same as from `python -m search.run`. Call this function in the main thread,
    which receives signals: after Ctrl-C or SIGTERM each trial finishes its epoch, and then the
    signal has its usual effect, so Ctrl-C raises KeyboardInterrupt. `result` then returns the
    search, and `resume` continues it.

    At the end, signal handlers, exception hooks, environment variables and the levels of existing
    loggers are restored. These changes remain: Ray, MLflow, Optuna and matplotlib are imported, and
    their new loggers keep the level that the search has set; a folder of Ray is on `sys.path`; Ray
    has a token in `~/.ray`; and the search leaves its folder, MLflow's database, and decoded images
    in the cache.

    Args:
        dry_run: True to print the plan and an estimate of the time, start nothing, and return
            None.
        quiet: True to print only errors.
        options: the options of `python -m search.run --help` with underscores: `max_epochs=5`.
            Options that can be repeated take a list, `set` also a mapping: `set={
            "batch_size": 64, "optimizer": {"name": "sgd"}}`. `space` may be a SearchSpace or a
            function that returns one; it is then stored in the journal, where `resume` finds it.

    Raises:
        ConfigError: an option, the data or the space is wrong, or a search of this name exists;
            nothing was started.
        NotReady, Unavailable: Ray, MLflow or a download is not available.
        LeaseHeld: another process starts a search of this name at the same time.
    """
    finished = _in_foreground(lambda: _run(options, dry_run=dry_run), quiet=quiet)
    return None if finished is None else _ended_search(finished)


def _run(options: dict[str, Any], *, dry_run: bool) -> "Finished | None":
    """Run the search with these options, and print its result.

    For a dry run, only print the plan, and return None.
    """
    from search.operations.run import run as run_search
    from search.run import print_estimate

    run_options = _run_options(options)
    if dry_run or run_options.dry_run:
        print_estimate(run_options.request, as_json=False)
        return None
    return run_search(run_options.request, as_json=run_options.json)


@_with_calls()
def resume(
    name: str, *, storage: Place = DEFAULT_STORAGE, quiet: bool = False, **options: Any
) -> Search:
    """Continue a search that was cut off, wait until it ends, and return it.

    Signals, output and errors are as in `run`; the options are those of `python -m search.resume`.

    Raises:
        Refused: the space, the data, the code or a library has changed. With `allow_change=True`,
            the search continues nevertheless.
    """

    def session() -> "Finished":
        from search.operations.resume import ResumeRequest, resume

        return resume(_request(ResumeRequest, options, name=name, storage=storage))

    return _ended_search(_in_foreground(session, quiet=quiet))


@_with_calls()
def refine(
    name: str, *, storage: Place = DEFAULT_STORAGE, quiet: bool = False, **options: Any
) -> Search:
    """Continue a search that has ended, in rounds with other ranges of values, and return it.

    Signals, output and errors are as in `run`; the options are those of `python -m search.refine`.
    """

    def session() -> "Finished":
        from search.operations.refine import RefineRequest, refine

        return refine(_request(RefineRequest, options, name=name, storage=storage))

    return _ended_search(_in_foreground(session, quiet=quiet))


@_with_calls()
def select(
    name: str, *, storage: Place = DEFAULT_STORAGE, quiet: bool = False, **options: Any
) -> Search:
    """Train the best trials of a search again, choose one and test it, and return the search.

    Signals, output and errors are as in `run`; the options are those of `python -m search.select`.
    """

    def session() -> "Finished":
        from search.operations.select import SelectRequest, select

        return select(_request(SelectRequest, options, name=name, storage=storage))

    return _ended_search(_in_foreground(session, quiet=quiet))


@_with_calls()
def improve(
    model: str,
    place: str | Path,
    *,
    storage: Place = DEFAULT_STORAGE,
    quiet: bool = False,
    **options: Any,
) -> "Improvement":
    """Train challengers on corrected images, and decide whether one becomes the champion.

    Training works as in `run`. The decision is returned, not printed.

    Args:
        model: a registered model or a search; see `source` of `load`.
        place: the folder or bucket with the corrected images; `--from` on the command line.
        storage: the place where searches are stored.
        quiet: True to print only errors.
        options: those of `python -m search.improve --help`.
    """

    def session() -> "Improvement":
        from search.cli.prompt import TerminalTalk
        from search.operations.improve import ImproveRequest, improve

        explicit = {"model": model, "from": place, "storage": storage}
        return improve(_request(ImproveRequest, options, **explicit), TerminalTalk())

    improvement = _in_foreground(session, quiet=quiet)
    _pass_on_signal(improvement.exit_code)
    return improvement


@_with_calls()
def result(name: str, *, storage: Place = DEFAULT_STORAGE) -> Search:
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


def searches(*, storage: Place = DEFAULT_STORAGE) -> list[Overview]:
    """Read an overview of each search in a storage: the newest first, broken ones last.

    Args:
        storage: a folder, or s3://BUCKET/PREFIX.
    """
    return list_searches(ListRequest(storage=_place(storage)))


@_operation()
def load(
    source: str | Path,
    *,
    trial: str | None = None,
    storage: Place = DEFAULT_STORAGE,
    tracking: str | None = None,
    data_root: str | Path | None = None,
) -> "Model":
    """Load a trained model, ready for images of any size.

    The model of a search is the one that `search.promote` would register, with the same
    probabilities. The first call exports it, which needs the search's images, and caches the
    export. Only a registered model has the promises with which it was promoted: its method `judge`
    returns a `trainables.export.model.JudgedAnswer` for each image, with `answer`, `abstained`,
    `reason` and `set`.

    Args:
        source: a search's name, `models:/NAME@champion` or `models:/NAME/3` in MLflow's registry,
            or the folder of a promoted model.
        trial: a trial of the search; None for the chosen trial, or else the best one.
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

    return load_model(
        ModelSource(
            name=source,
            storage=_place(storage),
            trial=trial,
            tracking=tracking,
            data_root=Path(data_root) if data_root else None,
        )
    )


@_operation()
def predict(
    name: str, *paths: str | Path, storage: Place = DEFAULT_STORAGE, **options: Any
) -> "Predictions":
    """Load a model, and return its predictions, which are computed while they are iterated over.

    Args:
        name: the model, as the `source` of `load`.
        paths: images, and folders of images.
        storage: the place where the search is stored.
        options: those of `python -m search.predict --help`.
    """
    from search.operations.predict import PredictRequest, predict

    return predict(_request(PredictRequest, options, name=name, storage=storage, paths=paths))


@_operation()
def explain(
    name: str, *images: str | Path, storage: Place = DEFAULT_STORAGE, **options: Any
) -> "ExplanationReport":
    """Explain predictions of a search's model, and write a page about them (`page`).

    Args:
        name: the search.
        images: images, and folders of images; none for validation images.
        storage: the place where the search is stored.
        options: those of `python -m search.explain --help`.
    """
    from search.operations.explain import ExplainRequest, explain

    return explain(_request(ExplainRequest, options, name=name, storage=storage, images=images))


@_operation()
def promote(name: str, *, storage: Place = DEFAULT_STORAGE, **options: Any) -> "Promotion":
    """Register the model of a search in MLflow's registry, as the champion."""
    from search.operations.promote import PromoteRequest, promote

    return promote(_request(PromoteRequest, options, name=name, storage=storage))


@_operation()
def monitor(
    model: str, place: str | Path, *, storage: Place = DEFAULT_STORAGE, **options: Any
) -> "MonitoringResult":
    """Test whether the recorded predictions of a model differ from those on validation images.

    Args:
        model: the model, as the `source` of `load`.
        place: the folder or bucket with the records; `--from` on the command line.
        storage: the place where the search is stored.
        options: those of `python -m search.monitor --help`.
    """
    from search.operations.monitor import MonitorRequest, monitor

    explicit = {"model": model, "from": place, "storage": storage}
    return monitor(_request(MonitorRequest, options, **explicit))


@_operation()
def data(source: str | Path, **options: Any) -> "DataReport":
    """Inspect a data set: its classes, files, copies and leaks.

    `source` is the path of a folder, or a value of the option `data` of `run`.
    """
    from search.operations.data import DataRequest, inspect_data

    return inspect_data(_request(DataRequest, options, data=source))


@_with_calls()
def status(name: str, *, storage: Place = DEFAULT_STORAGE, **options: Any) -> "SearchStanding":
    """Read the progress of a search."""
    from search.operations.status import StatusRequest, status

    return status(_request(StatusRequest, options, name=name, storage=storage))


@_with_calls()
def why(name: str, trial: str, *, storage: Place = DEFAULT_STORAGE, **options: Any) -> "Story":
    """Read the history of a trial, such as its retries and its end, as events of its search."""
    from search.operations.why import WhyRequest, why

    return why(_request(WhyRequest, options, name=name, storage=storage, trial=trial))


@_with_calls()
def compare(*names: str, storage: Place = DEFAULT_STORAGE, **options: Any) -> "ComparedSearches":
    """Compare two or more searches: their results, and the values in which they differ."""
    from search.operations.compare import CompareRequest, compare

    return compare(_request(CompareRequest, options, names=names, storage=storage))


@_with_calls()
def pause(name: str, *, storage: Place = DEFAULT_STORAGE, **options: Any) -> "DriverReply":
    """Ask the driver of a search to pause it after the current epochs, and wait for the reply."""
    from search.operations.pause import PauseRequest, pause

    return pause(_request(PauseRequest, options, name=name, storage=storage))


@_with_calls()
def stop(
    name: str,
    trial: str | None = None,
    *,
    storage: Place = DEFAULT_STORAGE,
    **options: Any,
) -> "DriverReply":
    """Ask the driver to stop one trial, or without `trial` the whole search; wait for the reply."""
    from search.operations.stop import StopRequest, stop

    return stop(_request(StopRequest, options, name=name, storage=storage, trial=trial))


@_with_calls()
def extend(name: str, *, storage: Place = DEFAULT_STORAGE, **options: Any) -> "DriverReply":
    """Ask the driver of a search to change its limits (`trials="+20"`), and wait for the reply."""
    from search.operations.extend import ExtendRequest, extend

    return extend(_request(ExtendRequest, options, name=name, storage=storage))


@_operation()
def sync(name: str, *, storage: Place = DEFAULT_STORAGE, **options: Any) -> "Synced":
    """Complete MLflow's record of a search, from the search's journal."""
    from search.operations.sync import SyncRequest, sync

    return sync(_request(SyncRequest, options, name=name, storage=storage))


@_with_calls()
def clean(name: str, *, storage: Place = DEFAULT_STORAGE, **options: Any) -> int:
    """Remove the unneeded checkpoints of a search, and return their total size in bytes."""
    from search.operations.clean import CleanRequest, clean

    return clean(_request(CleanRequest, options, name=name, storage=storage))


@_operation()
def delete(name: str, *, storage: Place = DEFAULT_STORAGE, **options: Any) -> "Deletion":
    """Delete a search, its checkpoints and its runs in MLflow, without asking for confirmation."""
    from search.operations.delete import DeleteRequest, delete

    deletion = delete(_request(DeleteRequest, options, name=name, storage=storage))
    assert deletion is not None  # None only if a `confirm` function is passed and returns False
    return deletion


def _in_foreground(work: Callable[[], Outcome], *, quiet: bool) -> Outcome:
    """Run a session in the main thread, and restore the state of the process at the end.

    If a signal stops `work` before it returns, the signal then has its usual effect.

    Raises:
        ConfigError: this is not the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        raise ConfigError(
            "a search must run in the main thread, because only that thread receives signals."
        )
    with suppress(Terminated), _unchanged(), _silence(quiet), stop_on_signals():
        return work()
    signal.raise_signal(signal.SIGTERM)
    raise SystemExit(ExitCode.TERMINATED)  # reached if the handler of SIGTERM returned


def _ended_search(finished: "Finished") -> Search:
    """Return the search after a session, or let a signal that ended the session take effect."""
    _pass_on_signal(finished.exit_code)
    return Search(finished.result, finished.experiment.storage, exit_code=finished.exit_code)


def _pass_on_signal(exit_code: int) -> None:
    """If a signal ended a session, raise it again, for the handlers that have been restored."""
    if exit_code > 128:
        signal.raise_signal(exit_code - 128)


def _request(request_type: type[Request], options: Mapping[str, Any], **explicit: Any) -> Request:
    """Build the request of an operation from the arguments of its function in this module."""
    return request_from(request_type, {**explicit, **options})


def _run_options(options: Mapping[str, Any]) -> "RunOptions":
    """Convert the options of `run`, and those of its config file, to options of the command line.

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
    return _request(ListRequest, {}, storage=storage).storage


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

    The stream must still work when `is_over` is set, because modules that were imported in the
    meantime may refer to it, for example in the handler of a logger.
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
        """If `is_over`, flush the real stream, unless it is closed, as when the process ends."""
        if self.is_over and not self.real.closed:
            self.real.flush()


@contextmanager
def _silence(quiet: bool) -> Iterator[None]:
    """If `quiet`, suppress all output inside this context except error lines."""
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
