"""The search in Python: options as values, a search as an object, its model on people's images."""

import doctest
import io
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
from PIL import Image

import search.api
import search.facts.trials
from cluster.errors import Refused
from search.api import Search, load, result, run
from search.cli.keywords import request_from, words
from search.design.experiment import Experiment
from search.feedback.records import Records
from search.journal.journal import DamagedJournal, JournalError
from search.journal.lease import Lease
from search.journal.requests import DriverRequest, waiting_requests
from search.journal.result import SearchResult
from search.journal.store import Home, home, searches_in
from search.operations.improve import Improvement, ImproveRequest
from search.operations.talk import Talk
from search.run import RunOptions, parse_options
from search.values.message import Message, Remedy
from search.values.option import positional, switch
from search.views import terminal
from search.views.base import Finished
from tests.conftest import MakeOnce
from tests.search.feedback.monitoring.made_up import meet, promoted
from tests.support.pages import PAGES
from tests.support.played import OpenDriver, changed, play
from trainables.errors import ConfigError
from trainables.export.model import folder_in

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
SMALL = {"trials": 2, "algorithm": "random", "scheduler": "fifo", "device": "cpu", "quiet": True}


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """Let Ctrl-C interrupt, as in a shell's foreground: in its background the signal is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def _threads() -> int:
    import torch

    return torch.get_num_threads()


def state() -> dict[str, Any]:
    """What a search may not leave changed."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM, signal.SIGHUP)
    return {
        "environment": dict(os.environ),
        "handlers": [signal.getsignal(number) for number in numbers],
        "hooks": (sys.excepthook, sys.unraisablehook),
        "streams": (sys.stdout, sys.stderr),
        "threads": _threads(),
        "root": (logging.root.level, list(logging.root.handlers)),
        "levels": {
            name: logging.getLogger(name).level for name in ("mlflow", "alembic", "ray.tune")
        },
        "folder": Path.cwd(),
    }


@pytest.fixture
def here(tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own with an MLflow database, to work in."""
    shutil.copy(empty_database, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


# Options


def test_options_are_those_of_the_command_line() -> None:
    given = words(
        RunOptions,
        {
            "space": "table3",
            "max_epochs": 5,
            "sealed": True,
            "no_cache": False,
            "grace": None,
            "budget": ["2h", "20epochs"],
            "storage": Path("there"),
            "set": {
                "batch_size": 64,
                "optimizer": {"name": "sgd", "momentum": 0.5},
                "model.pretrained": True,
                "data.val_limit": None,
            },
        },
    )
    on_the_command_line = (
        "--space table3 --max-epochs 5 --sealed --budget 2h --budget 20epochs --storage there "
        "--set batch_size=64 --set optimizer.name=sgd --set optimizer.momentum=0.5 "
        "--set model.pretrained=true --set data.val_limit=none"
    )
    assert parse_options(given) == parse_options(on_the_command_line.split())


@dataclass(frozen=True, kw_only=True)
class Switched:
    """A request with a switch."""

    name: str = positional("a name", metavar="NAME")
    onnx: bool | None = switch("as ONNX or not")


def test_a_switch_is_true_or_false_or_left_as_it_is() -> None:
    assert [
        request_from(Switched, {"name": "-x", "onnx": value}) for value in (True, False, None)
    ] == [Switched(name="-x", onnx=value) for value in (True, False, None)]
    with pytest.raises(ConfigError, match="onnx must be True or False"):
        request_from(Switched, {"name": "x", "onnx": "yes"})


def test_a_file_of_options_is_read_and_what_is_said_wins(here: Path) -> None:
    (here / "mine.yaml").write_text("space: table3\ntrials: 20\n")
    request = search.api._run_options({"config": here / "mine.yaml", "trials": 3}).request
    assert (request.space, request.trials) == ("table3", 3)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"trails": 2}, "unknown option 'trails'. Known: .* Did you mean 'trials'"),
        ({"settings": []}, "unknown option 'settings'"),
        ({"trials": "many"}, "trials: .*invalid int value: 'many'"),
        ({"trials": [1, 2]}, r"trials accepts one value \(got \[1, 2\]\)"),
        ({"sealed": "yes"}, r"sealed must be True or False \(got 'yes'\)"),
        ({"device": "tpu"}, "device: .*invalid choice: 'tpu'"),
        ({"budget": "soon"}, "budget: "),
        ({"set": {"optimizer": {"lrr": 1}}}, "Did you mean 'optimizer.lr'"),
        ({"storage": "gs://there"}, "storage: .*s3://BUCKET/PREFIX"),
        ({"space": "smok"}, "unknown space 'smok'"),
        ({"space": lambda: 7}, "space '<lambda>' must be a SearchSpace, or a function .*got int"),
        ({"data": "here"}, "unknown data set"),
        ({"name": "a/b"}, "--name must have 1 to 64 of the characters"),
    ],
)
def test_nonsense_is_one_line(here: Path, options: dict[str, Any], line: str) -> None:
    before = state()
    with pytest.raises(ConfigError, match=line) as caught:
        run(**{"space": "smoke", "quiet": True, **options})
    assert "\n" not in str(caught.value)
    assert state() == before
    assert not (here / "searches").exists()


def test_a_search_runs_in_the_main_thread_alone(here: Path) -> None:
    said: list[str] = []

    def start() -> None:
        try:
            run(space="smoke")
        except ConfigError as error:
            said.append(str(error))

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert said == [
        "a search must run in the main thread, because only that thread receives signals."
    ]


def test_a_dry_run_prints_the_plan(here: Path, capsys: Any) -> None:
    run(space="smoke", dry_run=True)
    assert "nothing was started" in capsys.readouterr().out
    run(space="smoke", dry_run=True, quiet=True)
    assert capsys.readouterr() == ("", "")
    assert not (here / "searches").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_has_its_usual_effect_once_all_is_put_back(
    number: signal.Signals, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that comes while the search is prepared."""
    came: list[Any] = []

    def mine(number: int, frame: object) -> None:
        came.append((number, signal.getsignal(number) is mine))

    before = signal.signal(number, mine)
    monkeypatch.setattr(
        "search.operations.run.run_search",
        lambda experiment, **given: signal.raise_signal(number),
    )
    try:
        if number == signal.SIGINT:
            with pytest.raises(KeyboardInterrupt):
                run(space="smoke", quiet=True)
        else:
            with pytest.raises(SystemExit) as ended:
                run(space="smoke", quiet=True)
            assert ended.value.code == 143
            assert came == [(number, True)]
        assert signal.getsignal(number) is mine
    finally:
        signal.signal(number, before)


class Cell(io.StringIO):
    """A notebook's stream, which says that it is a terminal."""

    __module__ = "ipykernel.iostream"

    def isatty(self) -> bool:
        return True


def test_a_notebook_gets_lines_of_text_on_its_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    cell = Cell()
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    monkeypatch.setattr(sys, "stderr", cell)
    console = terminal.Terminal(stderr=True)
    terminal.say(console, "told")
    console.print("[bold]loud[/bold]")
    assert cell.getvalue() == "told\nloud\n"
    assert not console.is_terminal  # so that no live table is drawn


def test_importing_it_is_quick_and_imports_nothing_heavy() -> None:
    code = (
        "import sys, search.api; "
        "print({'torch', 'ray', 'mlflow', 'pandas', 'matplotlib', 'sklearn', 'optuna'} "
        "& set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


# A search as an object


@pytest.fixture
def played(experiment: Experiment, open_driver: OpenDriver) -> Callable[..., Path]:
    """A search without trainings, to its end or to so many events; returns its storage."""

    def make(**options: Any) -> Path:
        play(open_driver(experiment), **options)
        return Path(str(experiment.storage))

    return make


def test_an_error_says_how_to_mend_it_in_python(played: Callable[..., Path]) -> None:
    storage = played(events=9)
    with pytest.raises(Refused, match="was cut off") as cut_off:
        load("played", storage=storage)
    assert cut_off.value.__notes__ == [
        f"In Python: resume('played', storage='{storage}')  # from search.api import resume"
    ]
    with pytest.raises(ConfigError, match="no search 'other'") as missing:
        load("other", storage=storage)
    assert missing.value.__notes__ == ["In Python: searches()  # from search.api import searches"]
    with pytest.raises(
        ConfigError, match="is not the folder of a model, because it contains"
    ) as not_a_model:
        load(storage, storage=storage)
    assert not hasattr(not_a_model.value, "__notes__")


def test_an_error_of_a_journal_keeps_its_hint(
    played: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as that of a folder that is removed while it is read."""

    def read(home: Home) -> None:
        raise JournalError(Message(f"no search at '{home}'; ", Remedy("run"), " starts one."))

    storage = played()
    monkeypatch.setattr(SearchResult, "kept_in", read)
    with pytest.raises(ConfigError, match="no search at") as missing:
        result("played", storage=storage)
    assert missing.value.__notes__ == ["In Python: run()  # from search.api import run"]


def test_an_earlier_search_is_read_from_its_journal(played: Callable[..., Path]) -> None:
    found = result("played", storage=played())
    assert isinstance(found, Search)
    assert found.outcome == "completed"
    best = found.best
    assert best is not None
    assert (best.params, best.metric) == ({"optimizer.lr": 0.1, "epochs": 9}, "accuracy")
    assert best.value == best.metrics["val/accuracy"] == pytest.approx(0.59)
    assert (best.epochs, best.outcome, best.config["epochs"]) == (9, "completed", 9)
    assert (found.chosen, found.test) == (best, {})
    assert repr(found) == f"<search 'played': 9 completed; best 0.5900, {best.name}>"


def test_trials_are_a_table(played: Callable[..., Path]) -> None:
    table = result("played", storage=played()).trials
    assert list(table.columns) == [
        *(column.format("accuracy") for column in search.facts.trials.COLUMNS),
        "optimizer.lr",
        "params.epochs",
    ]
    assert len(table) == 9
    assert set(table.outcome) == {"completed"}
    assert list(table.epochs) == list(table["params.epochs"])
    top = table.sort_values("value").iloc[-1]
    assert (top["optimizer.lr"], top["val_loss"]) == (0.1, pytest.approx(0.41))
    assert top["train_s"] == pytest.approx(9 * 0.25)


def test_a_search_that_runs_is_told_as_it_is(
    played: Callable[..., Path], experiment: Experiment
) -> None:
    storage = played(events=12)
    with Lease(experiment.folder):
        found = result("played", storage=storage)
        assert found.outcome == "running"
        assert "running" in set(found.trials.outcome)
        assert found.report().is_file()
    cut_off = result("played", storage=storage)
    assert cut_off.outcome == "interrupted"
    assert "running" not in set(cut_off.trials.outcome)


def test_a_search_without_a_result_has_no_best(
    played: Callable[..., Path], experiment: Experiment
) -> None:
    found = result("played", storage=played(events=2))
    assert (found.best, found.chosen) == (None, None)
    assert repr(found).endswith("; no result>")
    assert found.trials["value"].isna().all()


def test_the_page_is_written_once(played: Callable[..., Path]) -> None:
    before = state()
    found = result("played", storage=played())
    page = found.report()
    assert page.read_text().startswith("<!doctype html>")
    page.write_text("mine")
    assert found.report().read_text() == "mine"
    assert state() == before


def test_what_is_not_there_is_told_with_what_is(played: Callable[..., Path], here: Path) -> None:
    for ask in (result, load):
        with pytest.raises(
            ConfigError, match=r"there is no search 'nothing': '/.*searches' contains no searches"
        ):
            ask("nothing")
    storage = played()
    assert searches_in(storage) == ["played"]
    for ask in (result, load):
        with pytest.raises(ConfigError, match=r"no search 'playd' in .*Did you mean 'played'"):
            ask("playd", storage=storage)
    with pytest.raises(ConfigError, match="has no trial of this name with a result"):
        load("played", trial="t99", storage=storage)
    with pytest.raises(ConfigError, match="is not the folder of a model, because it contains"):
        load(here, storage=storage)
    with pytest.raises(ConfigError, match=r"models:/NAME@champion or models:/NAME/VERSION"):
        load("models:/flowers")
    with pytest.raises(
        ConfigError, match=r"there is no MLflow database at .* Promote a model first"
    ):
        load("models:/flowers@champion", tracking="sqlite:///other.db")
    with pytest.raises(ConfigError, match=r"no model is registered, .* Promote a model first: "):
        load("models:/flowers@champion")
    (storage / "broken" / "trials").mkdir(parents=True)
    (storage / "broken" / "journal.jsonl").write_text("nonsense\n")
    with pytest.raises(DamagedJournal):
        result("broken", storage=storage)


# The other verbs


@pytest.mark.parametrize("verb", ["resume", "refine", "select"])
def test_a_session_runs_as_a_new_search_does(
    verb: str,
    played: Callable[..., Path],
    experiment: Experiment,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Any,
) -> None:
    storage, requests = played(), []
    codes = [6, 130]

    def session(request: Any) -> Finished:
        requests.append(request)
        os.environ["OF_THE_SESSION"] = "1"
        print("progress")
        ended = result("played", storage=storage)._result
        return Finished(experiment, ended, {}, codes.pop(0), 1.0)

    monkeypatch.setattr(f"search.operations.{verb}.{verb}", session)
    before, function = state(), getattr(search.api, verb)
    ended = function("played", storage=storage, quiet=True, allow_change=True, concurrency="auto")
    assert (ended.name, ended.outcome, ended.exit_code) == ("played", "completed", 6)
    assert (ended.storage, ended.best) == (storage, result("played", storage=storage).best)
    (request,) = requests
    assert (request.name, request.storage, request.allow_change) == ("played", storage, True)
    assert request.where.concurrency == "auto"
    assert (capsys.readouterr().out, state()) == ("", before)
    with pytest.raises(KeyboardInterrupt):
        function("played", storage=storage)
    assert (capsys.readouterr().out, state()) == ("progress\n", before)
    with pytest.raises(ConfigError, match="unknown option 'dry_run'"):
        function("played", storage=storage, dry_run=True)
    assert len(requests) == 2


def test_a_session_is_refused_in_python_with_its_call(played: Callable[..., Path]) -> None:
    storage, before = played(events=9), state()
    for verb in (search.api.refine, search.api.select):
        with pytest.raises(Refused, match="interrupted before it had finished") as unfinished:
            verb("played", storage=storage, quiet=True)
        assert unfinished.value.__notes__ == [
            f"In Python: resume('played', storage='{storage}')  # from search.api import resume"
        ]
    assert state() == before


def test_a_search_is_read_and_compared(
    played: Callable[..., Path], experiment: Experiment, open_driver: OpenDriver
) -> None:
    storage = played()
    play(open_driver(changed(experiment, name="again")))
    standing = search.api.status("played", storage=storage)
    assert (standing.stage.name, len(standing.result.trials)) == ("OVER", 9)
    story = search.api.why("played", "t0002", storage=storage)
    assert (story.trial, story.result.name) == ("t0002", "played")
    compared = search.api.compare("played", "again", storage=storage)
    assert [contender.name for contender in compared.comparison.searches] == ["played", "again"]
    with pytest.raises(ConfigError, match="no trial 't0010' in played"):
        search.api.why("played", "t0010", storage=storage)
    with pytest.raises(ConfigError, match="pass the names of at least two searches") as alone:
        search.api.compare("played", storage=storage)
    assert alone.value.__notes__ == ["In Python: searches()  # from search.api import searches"]


def test_a_search_is_steered(played: Callable[..., Path]) -> None:
    storage = played(events=9)
    trials = result("played", storage=storage).trials
    (trial,) = trials.trial[trials.outcome == "interrupted"]
    asked = (
        "the request was sent. The search is not running; when it continues, the request is "
        "carried out first. To continue it: "
    )
    for reply in (
        search.api.stop("played", trial, storage=storage),
        search.api.extend("played", storage=storage, trials=8, budget=["1h", "20usd"], price=2),
    ):
        assert reply.text.startswith(asked)
        assert not reply.was_interrupted
    stopped, extended = waiting_requests(home(storage, "played"))
    assert isinstance(stopped, DriverRequest)
    assert isinstance(extended, DriverRequest)
    assert (stopped.action, stopped.trial) == ("stop", trial)
    assert (extended.trials, extended.budget, extended.price) == ("8", ("1h", "20usd"), 2.0)
    with pytest.raises(ConfigError, match="is not running"):
        search.api.pause("played", storage=storage)


def test_checkpoints_and_searches_are_removed(played: Callable[..., Path]) -> None:
    storage = played()
    with pytest.raises(ConfigError, match="unknown value of --keep 'all'"):
        search.api.clean("played", storage=storage, keep="all")
    best = result("played", storage=storage).best
    assert best is not None
    saved = storage / "played" / "trials" / best.name / "epoch-0001"  # not its best epoch
    saved.mkdir(parents=True)
    (saved / "model.safetensors").write_bytes(bytes(998))
    (saved / "manifest.json").write_text("{}")
    assert search.api.clean("played", storage=storage, keep="answer") == 1000
    assert not saved.exists()
    journal = (storage / "played" / "journal.jsonl").read_text()
    assert search.api.clean("played", storage=storage, keep="answer") == 0
    assert (storage / "played" / "journal.jsonl").read_text() == journal
    with pytest.raises(ConfigError, match="unknown option 'yes'"):
        search.api.delete("played", storage=storage, yes=True)
    deletion = search.api.delete("played", storage=storage, keep_runs=True)
    assert (deletion.name, deletion.traces) == ("played", None)
    assert searches_in(storage) == []


def test_a_data_set_is_inspected() -> None:
    before = state()
    inspected = search.api.data("digits", set={"data.train_limit": 100})
    assert (inspected.name, inspected.images["train"], len(inspected.classes)) == (
        "digits",
        100,
        10,
    )
    assert state() == before


def test_a_model_is_improved(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    requests, codes = [], [0, 130]

    def session(request: ImproveRequest, talk: Talk) -> Improvement:
        requests.append(request)
        talk.note("noted")
        return Improvement(name="x", exit_code=codes.pop(0))

    monkeypatch.setattr("search.operations.improve.improve", session)
    before, words = state(), ("models:/x@champion", "records")
    improvement = search.api.improve(*words, storage="there", onnx=False, margin=5, quiet=True)
    assert (improvement.name, improvement.version) == ("x", None)
    (request,) = requests
    assert (request.model, request.place, request.storage) == (
        words[0],
        Path("records"),
        Path("there"),
    )
    assert (request.onnx, request.margin, request.register) == (False, 5.0, None)
    assert (capsys.readouterr().err, state()) == ("", before)
    with pytest.raises(KeyboardInterrupt):
        search.api.improve(*words)
    assert capsys.readouterr().err == "noted\n"


def test_a_model_in_use_is_monitored(tmp_path: Path) -> None:
    model, records = promoted(tmp_path / "model"), tmp_path / "records"
    meet(Records.at(records), 40, mix=(0.98, 0.01, 0.01))
    findings = search.api.monitor(str(model), records, rate=0.01).findings
    assert (findings.changed, findings.rate) == (["class mix"], 0.01)
    with pytest.raises(ConfigError, match=r"rate: .*a rate from 0\.01"):
        search.api.monitor(str(model), records, rate=1)


def test_the_examples_of_the_page_hold(
    played: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that read a search, which is named as ours here."""
    monkeypatch.chdir(played().parent)
    (example,) = [
        code
        for code in re.findall(r"```python\n(.*?)```", PAGES["docs/python.md"], re.DOTALL)
        if "import clean" in code
    ]
    names: dict[str, Any] = {}
    exec(compile(example.replace("flowers", "played"), "docs/python.md", "exec"), names)
    assert (names["standing"].result.name, names["removed_bytes"]) == ("played", 0)


# For real


SEARCHED = """
from search.api import result, run
from search.space import Choice, SearchSpace
from tests.search.test_api import SMALL, state

own = SearchSpace(
    {"optimizer.lr": Choice(0.001, 0.003, 0.01)},
    base={"model.name": "deep_cnn", "epochs": 2, "data.train_limit": 300},
)
before = state()
found = run(**{**SMALL, "space": own, "name": "own", "executor": "inline"})
assert state() == before
assert found.best == result("own").best
assert len(found.trials) == 2
assert found.outcome == "completed"
assert found.test["accuracy"] > 0.2
print("true", flush=True)
"""


def in_own_process(script: Path) -> None:
    """Run a script that prints `true` at its end, in its folder.

    A process of its own is needed: in one that has used Ray without a token Ray refuses any.
    """
    named = {"PYTHONPATH": str(Path(search.api.__file__).parents[1])}
    environment = {
        name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"
    }
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=script.parent,
        env=environment | named,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines()[-1:] == ["true"], done.stdout + done.stderr


@pytest.fixture(scope="module")
def searched(make_once: MakeOnce, empty_database: Path) -> Path:
    """A search of an own space on the digits, run from Python, and what it left changed."""

    def fill(folder: Path) -> None:
        shutil.copy(empty_database, folder)
        (folder / "searched.py").write_text(SEARCHED)
        in_own_process(folder / "searched.py")

    return make_once("api", fill)


@pytest.mark.slow(60)
def test_a_loaded_model_is_the_promoted_one(
    searched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the search, from MLflow's registry, from its folder, and as MLflow loads it."""
    monkeypatch.chdir(searched)
    promotion = search.api.promote("own")
    assert promotion.registered.uri == "models:/own@champion"
    images = np.random.default_rng(1).integers(0, 256, (40, 8, 8, 1), dtype=np.uint8)
    wide = np.random.default_rng(2).integers(0, 256, (7, 31, 24, 3), dtype=np.uint8)
    model = load("own")
    (folder,) = {path.parent for path in searched.rglob("about.json")}
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    theirs = mlflow.pyfunc.load_model("models:/own@champion")
    for given in (images, wide):
        table = theirs.predict(given)
        chances = table.iloc[:, 2:].to_numpy()
        for own in (
            model,
            load("models:/own@champion"),
            load("models:/own/1"),
            load(folder),
            load(folder.parent.parent),
        ):
            assert own.probabilities(given) == pytest.approx(chances, abs=1e-7)
            assert own.predict(given) == list(table["class"])
    assert folder_in(folder.parent.parent) == folder
    Image.fromarray(images[0, ..., 0]).save(tmp_path / "digit.png")
    predictions = search.api.predict("own", tmp_path / "digit.png", trial=promotion.trial.trial)
    assert [answer.values["class"] for answer in predictions] == model.predict(images[:1])
    assert (predictions.images, predictions.unread) == (1, 0)
    with pytest.raises(ConfigError, match=r"unknown model 'owns'. Known: own. Did you mean 'own'"):
        load("models:/owns@champion")
    with pytest.raises(
        ConfigError,
        match=r"'models:/own/7' does not exist\. Existing addresses: models:/own@champion, .*/1",
    ):
        load("models:/own/7")
    with pytest.raises(ConfigError, match="Existing addresses: models:/own@champion"):
        load("models:/own@challenger")


@pytest.mark.slow(30)
def test_a_search_of_a_space_made_in_python_goes_on(
    searched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(searched, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    before = state()
    continued = search.api.resume("own", trials=3, quiet=True)
    assert state() == before
    assert (continued.exit_code, continued.outcome) == (0, "completed")
    assert continued.trials.outcome.tolist() == ["completed"] * 3
    synced = search.api.sync("own")
    assert (synced.trials, synced.epochs) == (3, 6)
    assert state() == before


IN_ITS_OWN_PROCESS = """
import doctest
import search.api
import search.facts.trials
from search.spaces.smoke import space as smoke
from tests.search.test_api import FLAGS, SMALL, state

before = state()
assert doctest.testmod(search.api, optionflags=FLAGS) == (0, 16)
assert state() == before
for executor in ("tune", "inline"):
    again = search.api.run(**{**SMALL, "space": smoke, "name": executor, "executor": executor})
    assert again.outcome == "completed"
    assert again.exit_code == 0
    assert state() == before, executor
print("true", flush=True)
"""


@pytest.mark.ray
@pytest.mark.slow(40)
@pytest.mark.promise
def test_what_it_says_of_itself_is_true(here: Path) -> None:
    """The examples of the module, and that they leave nothing changed; several in one process."""
    script = here / "itself.py"
    script.write_text(IN_ITS_OWN_PROCESS)
    in_own_process(script)


@pytest.mark.ray
@pytest.mark.slow(30)
def test_ctrl_c_pauses_the_search_and_raises(here: Path) -> None:
    script = (
        "import os, signal, threading\n"
        "from search.api import result, run\n"
        "from search.journal.journal import Journal\n"
        "from search.journal.events import Epoch\n"
        # A shell's background ignores it, and children inherit that.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "add, told = Journal.add, []\n"
        "def first_epoch(self, data):\n"
        "    done = add(self, data)\n"
        "    if isinstance(data, Epoch) and not told:\n"
        "        told.append(data)\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "    return done\n"
        "Journal.add = first_epoch\n"
        "try:\n"
        "    run(space='table3', trials=2, name='cut', concurrency=1, quiet=True)\n"
        "except KeyboardInterrupt:\n"
        "    print('raised', result('cut').outcome, flush=True)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=here, capture_output=True, text=True, check=False
    )
    assert done.stdout == "raised interrupted\n", (done.returncode, done.stderr)


def test_what_keeps_the_quiet_stream_outlives_the_real_one() -> None:
    """A logger's handler may keep it until the interpreter ends; closing flushes once more."""
    real = io.StringIO()
    quiet = search.api._Quiet(real)
    quiet.is_over = True
    real.close()
    quiet.close()
    assert quiet.closed
