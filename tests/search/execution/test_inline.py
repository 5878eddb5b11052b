"""Whole searches in this process, without Ray."""

import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from cluster.exit_codes import ExitCode
from search.journal.journal import FILE_NAME, read
from search.journal.result import SearchResult
from search.values.executors import EXECUTORS
from tests.bench.decisions import plain
from tests.conftest import Command
from trainables.training.loop import Training

TINY = [
    *("--space", "smoke", "--name", "tiny", "--executor", "inline", "--device", "cpu"),
    *("--no-cache", "--trials", "2", "--set", "epochs=2"),
    *("--set", "data.train_limit=200", "--set", "data.val_limit=100"),
]
Search = Callable[..., tuple[int, SearchResult]]
Epoch = Callable[[Training], Any]


@pytest.fixture
def search(call: Command, tmp_path: Path, database: str) -> Search:
    """Run a verb in this process; gives its exit code, and what the search has come to."""

    def run(*words: object, verb: str = "run") -> tuple[int, SearchResult]:
        given = [*TINY, *words] if verb == "run" else ["tiny", *words]
        done = call(f"search.{verb}", *given, "--tracking", database)
        assert "Traceback" not in done.stderr
        return done.returncode, SearchResult.read(tmp_path / "searches" / "tiny")

    return run


@pytest.fixture
def epoch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Epoch], None]]:
    """Let something else happen first, whenever an epoch is to be trained."""
    train = Training.next_epoch

    def before(happens: Epoch) -> None:
        def next_epoch(training: Training) -> Any:
            happens(training)
            return train(training)

        monkeypatch.setattr(Training, "next_epoch", next_epoch)

    return before


def counts(result: SearchResult) -> dict[str, int]:
    return {name: count for name, count in result.counts.items() if count}


def test_a_search_is_trained_evaluated_and_tested(search: Search, tmp_path: Path) -> None:
    code, result = search("--scheduler", "fifo")
    assert (code, counts(result), result.outcome) == (0, {"completed": 2}, "completed")
    assert result.is_tested
    assert result.is_drawn
    assert all(trial.evaluation for trial in result.trials.values())
    assert result.started.experiment["executor"] == "inline"
    assert result.started.slots == 1
    kinds = Counter(event.kind for event in read(tmp_path / "searches" / "tiny" / FILE_NAME))
    assert (kinds["epoch"], kinds["evaluated"], kinds["opened"], kinds["finished"]) == (4, 2, 1, 1)
    code, result = search("--top", 2, "--seeds", 2, verb="select")
    assert code == 0
    assert result.selection is not None
    assert result.selection.is_tested
    assert len(result.selection.repeats) == 4
    code, result = search("--trials", 2, "--rounds", 1, verb="refine")
    assert code == 0
    assert counts(result) == {"completed": 4}


@pytest.mark.parametrize(
    ("words", "trials", "outcome"),
    [
        (["--folds", 2, "--trials", 1], {"completed": 1}, "completed"),
        (["--space", "baselines", "--trials", 1], {"completed": 1}, "completed"),
        (["--budget", "3epochs", "--scheduler", "fifo"], None, "budget"),
        (["--objective", "val_accuracy,latency", "--trials", 1], {"completed": 1}, "completed"),
    ],
    ids=["folds", "a baseline", "a budget", "costs"],
)
def test_so_are(
    search: Search, words: list[object], trials: dict[str, int] | None, outcome: str
) -> None:
    code, result = search(*words)
    assert (code, result.outcome, result.is_tested) == (0, outcome, True)
    assert trials in (None, counts(result))
    assert result.epochs_trained <= 3


def test_a_resume_after_a_clean_trains_again_what_waited(search: Search, call: Command) -> None:
    _, before = search("--budget", "3epochs", "--scheduler", "fifo")
    assert before.unfinished
    done = call("search.clean", "tiny", "--keep", "answer", "--yes")
    assert "trials that can be resumed" in done.stdout or before.best in before.unfinished
    code, result = search("--budget", "9epochs", verb="resume")
    assert (code, counts(result), result.is_tested) == (0, {"completed": 2}, True)
    assert result.epochs_trained == 4


@pytest.mark.parametrize("signals", [1, 2])
def test_a_first_ctrl_c_ends_it_after_the_epoch_and_a_second_breaks_off(
    search: Search, epoch: Callable[[Epoch], None], signals: int
) -> None:
    def interrupt(training: Training) -> None:
        for _ in range(signals if training.epoch == 0 else 0):
            signal.raise_signal(signal.SIGINT)

    epoch(interrupt)
    code, result = search("--scheduler", "fifo")
    assert (code, result.outcome) == (128 + signal.SIGINT, "interrupted")
    assert [len(trial.epochs) for trial in result.trials.values()] == [1 if signals == 1 else 0]
    epoch(lambda training: None)
    code, result = search(verb="resume")
    assert (code, counts(result), result.is_tested) == (0, {"completed": 2}, True)
    assert result.epochs_trained == 4


@pytest.mark.parametrize(
    ("error", "kind", "attempts"), [(RuntimeError, "error", 1), (MemoryError, "memory", 2)]
)
def test_a_trial_that_raises_fails_and_the_others_go_on(
    search: Search,
    epoch: Callable[[Epoch], None],
    tmp_path: Path,
    error: type[Exception],
    kind: str,
    attempts: int,
) -> None:
    spoiled = list[object]()

    def spoil(training: Training) -> None:
        if not spoiled or training.config == spoiled[0]:
            spoiled.append(training.config)
            raise error("no such luck")

    epoch(spoil)
    code, result = search("--scheduler", "fifo")
    assert (code, counts(result)) == (ExitCode.SOME_FAILED, {"completed": 1, "failed": 1})
    (failed,) = result.failed
    assert len(spoiled) == failed.attempt == attempts
    assert (failed.kind, failed.reason) == (kind, f"{error.__name__}: no such luck")
    told = tmp_path / "searches" / "tiny" / f"trials/{failed.trial}/errors/attempt-1.txt"
    assert "in spoil" in told.read_text()


def test_an_evaluation_that_raises_is_told_and_holds_up_no_other(
    search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trainables.evaluation import evaluate as evaluating

    evaluate = evaluating.evaluate

    def spoiled(config: Any, dataset: Any, part: Any, path: Path, **options: Any) -> Any:
        if "t0001" in str(path):
            raise ValueError("no such luck")
        return evaluate(config, dataset, part, path, **options)

    monkeypatch.setattr(evaluating, "evaluate", spoiled)
    _, result = search("--scheduler", "fifo")
    assert result.unevaluated == {"ValueError: no such luck": ["t0001"]}
    assert result.trials["t0002"].evaluation


DEBUGGED = """
import sys
import search.run
from trainables.training.loop import Training
train = Training.next_epoch
def next_epoch(training):
    print("in a training")
    breakpoint()
    return train(training)
Training.next_epoch = next_epoch
for name in ("gone on with", "quit"):
    code = search.run.main([*sys.argv[1:], "--name", name.replace(" ", "-")])
    print(name, code, [name for name in sys.modules if name.partition(".")[0] == "ray"])
"""


def test_a_breakpoint_stops_in_the_training_and_ray_is_never_imported(
    tmp_path: Path, database: str
) -> None:
    """The first search is gone on with at both of its epochs, the second is left by `quit`."""
    done = subprocess.run(
        [sys.executable, "-c", DEBUGGED, *TINY, "--trials", "1", "--tracking", database],
        cwd=tmp_path,
        input="p 1000 + training.epoch\nc\nc\nq\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.count("in a training") == 3
    assert done.stdout.count("(Pdb) 1000\n") == 1
    assert "gone on with 0 []\n" in done.stdout, done.stderr
    assert done.stdout.endswith("quit 130 []\n"), done.stderr
    assert "starting Ray" not in done.stderr
    for name, trials in (("gone-on-with", {"completed": 1}), ("quit", {"interrupted": 1})):
        assert counts(SearchResult.read(tmp_path / "searches" / name)) == trials


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--address", "127.0.0.1:1"], "--address 127.0.0.1:1, because .* Use --address local, or"),
        (["--workers", 2], "--workers 2, because .* Use --workers 1, or --executor tune"),
        (["--fuse", 4], "--fuse 4, because .* Use --fuse off, or"),
        (["--fuse", "measure"], "--fuse measure, because .* Use --fuse off, or"),
        (["--concurrency", 2], "--concurrency 2, because .* Use --concurrency auto, or"),
    ],
)
@pytest.mark.parametrize("more", [[], ["--dry-run"]], ids=["run", "plan"])
def test_what_needs_more_than_this_process_is_refused(
    call: Command, tmp_path: Path, words: list[object], said: str, more: list[str]
) -> None:
    done = call("search.run", *TINY, *words, *more)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert re.search(f"--executor inline cannot be combined with {said}", done.stderr)
    assert not list(tmp_path.iterdir())


def test_an_executor_that_there_is_not_is_refused(call: Command) -> None:
    done = call("search.run", "--space", "smoke", "--executor", "inlin")
    assert done.returncode == 2
    assert "inlin" in done.stderr
    assert all(name in done.stderr for name in EXECUTORS)


def test_a_plan_has_one_trial_at_once(call: Command) -> None:
    done = call("search.run", *TINY, "--dry-run")
    assert "  1 trial at once on this machine" in done.stdout


def told(folder: Path) -> list[tuple[str, dict[str, Any]]]:
    """The events of a journal, without what says nothing of a decision or a result."""
    return [
        (
            event.kind,
            plain(event.data.to_json())
            | {
                name: value
                for name, value in getattr(event.data, "metrics", {}).items()
                if name != "time/epoch_s"
            },
        )
        for event in read(folder / "searches" / "one" / FILE_NAME)
    ]


@pytest.mark.ray
@pytest.mark.slow(60)
@pytest.mark.long
def test_both_executors_come_to_the_same_journal(
    tmp_path_factory: pytest.TempPathFactory, empty_database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One trial at once, with one seed; then each goes on with what the other began."""
    folders = {name: tmp_path_factory.mktemp(name) for name in EXECUTORS}

    def run(verb: str, folder: Path, executor: str, *words: object) -> None:
        own = ("--executor", executor, "--tracking", f"sqlite:///{folder}/mlflow.db")
        given = [*map(str, words), *own]
        if executor == "tune":
            subprocess.run([sys.executable, "-m", f"search.{verb}", *given], cwd=folder, check=True)
        else:
            monkeypatch.chdir(folder)
            assert import_module(f"search.{verb}").main(given) == 0

    for name, folder in folders.items():
        shutil.copy(empty_database, folder)
        words = "--space table3 --name one --trials 8 --max-epochs 3 --concurrency 1 --device cpu"
        run("run", folder, name, *words.split())
    assert told(folders["tune"]) == told(folders["inline"])
    kinds = Counter(kind for kind, _ in told(folders["inline"]))
    assert kinds["held"], "nobody waited at a rung"
    assert kinds["epoch"] > 8
    for name, other in (("tune", "inline"), ("inline", "tune")):
        run("resume", folders[name], other, "one", "--trials", 10)
    assert told(folders["tune"]) == told(folders["inline"])
    for name, other in (("tune", "inline"), ("inline", "tune")):
        result = SearchResult.read(folders[name] / "searches" / "one")
        assert (len(result.trials), result.outcome) == (10, "completed")
        assert result.started.experiment.get("executor", "tune") == other
