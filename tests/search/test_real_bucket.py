"""The verbs for a search that is over, on a real S3 server: moto is forgiving."""

import csv
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cluster.exit_codes import ExitCode
from cluster.storage.bucket import Bucket, _client
from search.journal.store import home, storage
from tests.conftest import Command
from tests.support.real import wait_for
from tests.support.services import seaweedfs

pytestmark = pytest.mark.slow(60)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Two classes that a small net tells apart: dark noise and bright noise."""
    generator = np.random.default_rng(0)
    for name, low in (("dark", 0), ("light", 120)):
        for number in range(30):
            pixels = generator.integers(low, low + 120, (16, 16), dtype=np.uint8)
            path = tmp_path / "images" / name / f"{number:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    return tmp_path / "images"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database: str) -> Iterator[str]:
    """Provide a place in a bucket of a real server, which this process and others reach."""
    with seaweedfs(tmp_path) as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", database)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        _client.cache_clear()
        yield f"s3://{server.bucket}/searches"
    _client.cache_clear()


def search_of(images: Path, name: str, seed: int) -> list[str]:
    """Return the options of a search of two trials without Ray."""
    words = f"--space smoke --executor inline --trials 2 --keep all --seed {seed} --name {name}"
    return [*words.split(), "--set", "epochs=2", "--data", f"folder:{images}"]


def names(listed: str) -> set[str]:
    """Return the searches' names of what `search.list --json` printed."""
    return {one["name"] for one in json.loads(listed)}


def test_the_verbs_find_a_search_in_a_real_bucket(
    place: str, images: Path, tmp_path: Path, call: Command
) -> None:
    def verb(name: str, *words: object) -> str:
        done = call(f"search.{name}", *words, "--storage", place)
        assert done.returncode == 0, (name, done.stdout, done.stderr)
        return done.stdout

    kept = home(storage(place), "one")
    first = [*search_of(images, "one", 0), "--storage", place]
    with subprocess.Popen(
        [sys.executable, "-m", "search.run", *first],
        cwd=tmp_path,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as running:
        wait_for(lambda: bool(kept.holder()), running)
        followed = verb("status", "one", "--follow")
        told = running.communicate()[0]
    assert running.returncode == 0, told
    assert "  2 completed of 2; 4 epochs" in followed
    verb("run", *search_of(images, "two", 1))

    assert names(verb("list", "--json")) == {"one", "two"}
    assert "one" in verb("compare", "one", "two")
    rows = list(csv.DictReader(verb("export", "one", "--csv", "-").splitlines()))
    assert [row["trial"] for row in rows] == ["t0001", "t0002"]
    report = json.loads(kept.read("data.json").read_text())
    assert report["counts"]["train"] == [18, 18]
    answers = tmp_path / "answers.csv"
    verb("predict", "one", images, "--csv", answers)
    assert len(answers.read_text().splitlines()) == 61

    verb("clean", "one", "--keep", "answer", "--yes")
    verb("predict", "one", images / "dark" / "00.png")
    verb("delete", "two", "--yes")
    assert names(verb("list", "--json")) == {"one"}


def test_a_search_on_images_in_a_real_bucket(
    place: str, images: Path, tmp_path: Path, call: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = Bucket.of(f"{place.rpartition('/')[0]}/sets/noise")
    sets.upload(images, [f"{path.parent.name}/{path.name}" for path in images.glob("*/*")])
    here, there = search_of(images, "here", 0), search_of(images, "there", 0)
    there[there.index(f"folder:{images}")] = str(sets)
    with monkeypatch.context() as wrong:
        wrong.setenv("AWS_SECRET_ACCESS_KEY", "another")
        _client.cache_clear()
        refused = call("search.run", *there)
    assert (refused.returncode, refused.stdout) == (ExitCode.NOT_READY, "")
    assert "the images cannot be fetched: " in refused.stderr
    assert "the credentials were refused (SignatureDoesNotMatch); correct them" in refused.stderr

    _client.cache_clear()
    best = []
    for words in (here, there):
        done = call("search.run", *words, "--json")
        assert done.returncode == 0, done.stderr
        best.append(json.loads(done.stdout.splitlines()[-1])["best"]["value"])
    assert best[0] == best[1]

    (tmp_path / "cache").rename(tmp_path / "cache of another machine")
    done = call("search.predict", "there", images / "dark" / "00.png", "--json")
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "cache").rglob("buckets/*/files/noise/*/*.png"))) == 60
