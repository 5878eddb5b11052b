"""What all tests share."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cluster import storage
from cluster.storage import Bucket

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """Run `python -m MODULE ...` in a folder of its own, as a user would, and return what it printed and its exit code."""

    def run(module: str, *arguments: object, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-m", module, *map(str, arguments)]
        return subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=timeout, check=False)

    return run


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """An empty place in a bucket that moto plays, for tests that look at how it is used and not at a service."""
    from moto import mock_aws

    for name, value in {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "us-east-1"}.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    with mock_aws():
        storage._client.cache_clear()
        place = Bucket.of("s3://models/searches")
        place._client.create_bucket(Bucket=place.name)
        yield place
    storage._client.cache_clear()
