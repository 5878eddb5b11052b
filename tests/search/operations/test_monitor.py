"""The verb: what it says and returns, of records in a folder and in a bucket."""

import json
from datetime import datetime
from pathlib import Path

import pytest

from cluster.storage.bucket import Bucket
from search.feedback.monitoring.findings import find_changes
from search.feedback.monitoring.window import load_window
from search.feedback.records import Records
from search.operations.monitor import figures
from search.operations.records_options import since, time_text
from tests.conftest import Command
from tests.search.feedback.monitoring.made_up import made_reference, meet, promoted
from trainables.errors import ConfigError
from trainables.export import reference
from trainables.predictors import base as predictor


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return promoted(tmp_path / "model")


def test_a_change_has_an_exit_code_a_line_and_a_page(
    model: Path, tmp_path: Path, call: Command
) -> None:
    meet(Records.at(tmp_path / "met"), 120, mix=(0.9, 0.05, 0.05), corrected=120)
    done = call("search.monitor", model, "--from", "met", "--page", "page.html", "--json")
    assert done.returncode == 7, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["changed"] == ["class mix"]
    assert [share["changed"] for share in told["shares"]] == [True, True, True]
    assert [check["name"] for check in told["checks"]] == ["outputs", "class mix", "accuracy"]
    first = done.stderr.splitlines()[0]
    assert first == f"{model}: changed: the class mix (false-alarm rate 0.05)"
    page = (model.parent / "page.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "default-src 'none'" in page


def test_records_in_a_bucket_are_read_too(model: Path, bucket: Bucket, call: Command) -> None:
    meet(Records.at(bucket), 40, mix=(0.98, 0.01, 0.01), corrected=1)
    done = call("search.monitor", model, "--from", bucket)
    assert done.returncode == 7, done.stderr
    assert "changed: the class mix" in done.stdout
    assert "of a random sample" in done.stdout
    assert "but 20 are required" in done.stdout


def test_no_change_is_said_with_what_would_have_been_seen(
    model: Path, tmp_path: Path, call: Command
) -> None:
    meet(Records.at(tmp_path / "met"), 150)
    done = call("search.monitor", model, "--from", "met")
    assert done.returncode == 0, done.stderr
    assert "no change" in done.stdout.splitlines()[0]
    assert "enough to detect a quarter of the images" in done.stdout
    assert "accuracy     not known: 0 corrected images of a random sample, but 20" in done.stdout


def test_too_few_images_are_no_verdict(model: Path, tmp_path: Path, call: Command) -> None:
    meet(Records.at(tmp_path / "met"), 10)
    done = call("search.monitor", model, "--from", "met", "--page", "page.html")
    assert done.returncode == 0, done.stderr
    assert "too few images for a test: 10 images answered, but 20 are required" in done.stdout
    meet(Records.at(tmp_path / "met"), 25, seed=2)
    done = call("search.monitor", model, "--from", "met")
    assert "too few images for a test of the answers, the class mix, the accuracy" in done.stdout


def test_images_are_not_needed(model: Path, tmp_path: Path, call: Command) -> None:
    """Those that were kept may have gone for want of room, or be unreadable."""
    records = Records.at(tmp_path / "met")
    records.remove_images([one.image for one in meet(records, 60)])
    done = call("search.monitor", model, "--from", "met")
    assert done.returncode == 0, done.stderr
    assert "60 images and 400 validation images" in done.stdout


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--from", "none"], "no records in 'none'"),
        (["--from", "met", "--version", "9"], "no answers by version '9'"),
        (["--from", "met", "--since", "1h"], "no answers in this period"),
        (["--from", "met", "--since", "soon"], "a time such as 90m, 12h, 1d"),
        (["--from", "met", "--rate", "0.001"], "expected a rate from 0.01 to 0.5 (got '0.001')"),
        (["--from", "met", "--track"], "--track needs a registered model"),
        (["--from", "met", "--page", "no/where.html"], "must be a file in an existing folder"),
        ([], "--from"),
    ],
)
def test_what_cannot_be_is_refused(
    words: list[str], line: str, model: Path, tmp_path: Path, call: Command
) -> None:
    meet(Records.at(tmp_path / "met"), 5)
    done = call("search.monitor", model, *words)
    assert done.returncode == 2
    assert line in done.stderr
    assert "Traceback" not in done.stderr


def test_a_model_without_a_reference_is_to_be_promoted_again(
    model: Path, tmp_path: Path, call: Command
) -> None:
    meet(Records.at(tmp_path / "met"), 5)
    (model / reference.FILE).write_bytes(b"damaged")
    done = call("search.monitor", model, "--from", "met")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "cannot be read. Promote the model again." in done.stderr
    (model / reference.FILE).unlink()
    done = call("search.monitor", model, "--from", "met")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "promoted by an earlier version" in done.stderr
    assert "Promote the model again." in done.stderr


def test_a_place_without_records_is_refused_before_the_model_is_read(
    tmp_path: Path, call: Command
) -> None:
    done = call("search.monitor", tmp_path / "no-model", "--from", tmp_path / "met")
    assert done.returncode == 2
    assert f"there are no records in '{tmp_path / 'met'}'" in done.stderr


def test_other_tasks_are_refused(model: Path, tmp_path: Path, call: Command) -> None:
    meet(Records.at(tmp_path / "met"), 5)
    about = json.loads((model / predictor.DESCRIPTION).read_text())
    (model / predictor.DESCRIPTION).write_text(json.dumps({**about, "task": "segmentation"}))
    done = call("search.monitor", model, "--from", "met")
    assert done.returncode == 2
    assert "this model is for segmentation, and cannot be monitored: its predictions" in done.stderr


def test_times() -> None:
    now_ms = datetime.now().timestamp() * 1000
    assert now_ms - since("90m") == pytest.approx(90 * 60_000, abs=5000)
    assert since("2026-11-28T14:00") == datetime(2026, 11, 28, 14).timestamp() * 1000
    assert since(time_text(1_780_313_600_123)) == 1_780_313_600_123
    with pytest.raises(ConfigError):
        since("1w")


def test_mlflow_gets_the_figures_under_one_name(tmp_path: Path) -> None:
    records = Records.at(tmp_path / "met")
    meet(records, 60, corrected=60)
    held = made_reference()
    found = figures(find_changes("pets", held, load_window(records, held)))
    assert all(name.startswith("monitor/") for name in found)
    assert {"monitor/images", "monitor/accuracy", "monitor/class_mix_p"} < found.keys()
