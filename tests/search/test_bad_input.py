"""Bad input through the real command: one line, the right exit code, before Ray starts."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import Command

SPACES = """
from search.space import Choice, Float, SearchSpace

def empty(): return SearchSpace({"optimizer.lr": Choice()})
def upside_down(): return SearchSpace({"optimizer.lr": Float(2, 1)})
def log_from_zero(): return SearchSpace({"optimizer.lr": Float(0, 1, log=True)})
def unknown_model(): return SearchSpace({"model.name": Choice("table2", "tabel2")})
"""

CASES = [
    (["--space", "tabel3"], "unknown space 'tabel3'. Known: mnist_cnn, smoke, table3. Did you mean 'table3'?", 2),
    (["--space", "spaces.py:unknown_model"], "unknown model 'tabel2'. Known: deep_cnn, mnist_cnn, multi_scale, table2. Did you mean 'table2'?", 2),
    (["--space", "table3", "--data", "minst"], "unknown data set 'minst'. Known: cifar10, digits, fashion_mnist, folder:PATH, mnist. Did you mean 'mnist'?", 2),
    (["--space", "table3", "--set", "lr=1"], "unknown key 'lr'. Known: batch_size, epochs, seed. Did you mean 'optimizer.lr'?", 2),
    (["--space", "table3", "--data", "single"], "'single' is a folder: use --data folder:single.", 2),
    (["--space", "table3", "--set", "optimizer.lrr=1"], "unknown key 'optimizer.lrr'. Known: optimizer.decay, optimizer.lr,", 2),
    (["--space", "table3", "--set", "batch_size=32.5"], "batch_size must be a whole number (got '32.5').", 2),
    (["--space", "table3", "--set", "batch_size"], "a setting has the form key=value (got 'batch_size').", 2),
    (["--space", "spaces.py:empty"], "optimizer.lr: grid is empty", 2),
    (["--space", "spaces.py:upside_down"], "optimizer.lr: low 2 > high 1.", 2),
    (["--space", "spaces.py:log_from_zero"], "optimizer.lr: log range needs low > 0 (got 0).", 2),
    (["--space", "table3", "--trials", "0"], "--trials must be >= 1 (got 0).", 2),
    (["--space", "table3", "--set", "batch_size=5000"], "batch_size 5000 > 1079 training images.", 2),
    (["--space", "smoke", "--set", "data.image_size=3"], "table2 needs images of at least 4 x 4 pixels (got 3 x 3).", 2),
    (["--space", "smoke", "--data", "folder:single"], "class 'b' has 1 image; each class needs a training, a validation and a test image.", 2),
    (
        ["--space", "smoke", "--data", "folder:corrupt"],
        "1 unreadable image (first: a/bad.png: not an image). Remove them, or leave them out with --skip-bad.",
        2,
    ),
    (
        ["--space", "smoke", "--data", "folder:nowhere"],
        "data set folder not found: '{here}/nowhere' (--data folder:PATH). Expected one sub-folder per class.",
        2,
    ),
    (["--space", "smoke", "--data", "mnist"], "mnist not found (or damaged) under '{here}/data' (--data-root).", 2),
    (["--space", "smoke", "--tracking", "http://127.0.0.1:9"], "MLflow not reachable at http://127.0.0.1:9", 4),
    (["--space", "smoke", "--tracking", "./mlruns"], "folder tracking is no longer supported by MLflow", 2),
    (["--space", "smoke", "--device", "cuda"], "the search asks for 1 GPU per trial; none found. Use --device cpu.", 4),
    (["--space", "smoke", "--gpus-per-trial", "0.5"], "the search asks for 0.5 GPU per trial; none found. Use --device cpu.", 4),
    (["--space", "smoke", "--cpus-per-trial", "5000"], "one trial asks for 5000 CPUs and 0 GPUs; there are", 4),
    (["--space", "smoke", "--address", "127.0.0.1:9"], "no Ray cluster at '127.0.0.1:9'", 4),
    (["--space", "smoke", "--workers", "2", "--cpus-per-trial", "0.1", "--set", "batch_size=3"], "batch_size 3 < 4: each of 2 workers needs 2 images", 2),
    (["--space", "smoke", "--storage", "/proc/none"], "storage '/proc/none' is not writable", 4),
    (["--space", "smoke", "--name", "../up"], "a name may use A-Z a-z 0-9 . _ -", 2),
    (["--space", "smoke", "--name", "taken"], "a search named 'taken' is in 'searches' already. Use another --name, or go on with it: ", 2),
    (["--space", "smoke", "--trails", "3"], "unrecognized arguments: --trails 3.", 2),
    (["--space", "smoke", "--trials", "three"], "argument --trials: invalid int value: 'three'.", 2),
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with broken things in it, on a machine without GPUs."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "spaces.py").write_text(SPACES)
    for place, counts in (("single", {"a": 5, "b": 1}), ("corrupt", {"a": 5, "b": 5})):
        for name, count in counts.items():
            (tmp_path / place / name).mkdir(parents=True)
            for number in range(count):
                Image.fromarray(np.full((8, 8), number, np.uint8)).save(tmp_path / place / name / f"{number}.png")
    (tmp_path / "corrupt" / "a" / "bad.png").write_text("this is no image")
    (tmp_path / "searches" / "taken").mkdir(parents=True)
    (tmp_path / "searches" / "taken" / "journal.jsonl").write_text("")
    return tmp_path


@pytest.mark.parametrize(("words", "text", "code"), CASES, ids=[" ".join(words) for words, _, _ in CASES])
def test_bad_input_is_one_line_before_anything_starts(folder: Path, command: Command, words: list[str], text: str, code: int) -> None:
    before = sorted(path.name for path in folder.iterdir())
    done = command("search.run", *words, timeout=60)
    assert done.returncode == code
    assert done.stderr.startswith(f"error: {text.replace('{here}', str(folder))}")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
    assert {path.name for path in folder.iterdir()} - set(before) <= {"cache"}


def test_all_problems_are_listed_at_once(folder: Path, command: Command) -> None:
    done = command("search.run", "--space", "smoke", "--set", "data.image_size=3", "--set", "batch_size=5000")
    assert done.returncode == 2
    assert [line.partition(" ")[2][:10] for line in done.stderr.splitlines()] == ["batch_size", "table2 nee"]


def test_a_gpu_that_is_not_seen_is_found_when_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    from cluster.resources import local_gpus

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert local_gpus() == 2
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert local_gpus() == 0


def test_the_verbs_are_listed(command: Command) -> None:
    done = command("search")
    assert done.returncode == 0
    assert "python -m search.run" in done.stdout
    assert "python -m search.report" in done.stdout
