import json
from pathlib import Path

import pytest

from cluster.storage.bucket import Bucket, StorageError
from cluster.storage.mirror import CheckpointMirror

KEPT = {f"epoch-{epoch:04d}" for epoch in range(10)}


@pytest.fixture
def mirror(bucket: Bucket) -> CheckpointMirror:
    return CheckpointMirror(bucket / "trials" / "t0001", bucket / "beats" / "t0001")


def checkpoint(folder: Path, epoch: int, text: str = "", folds: int = 0) -> None:
    path = folder / f"epoch-{epoch:04d}"
    files = [f"fold-{fold + 1}/model" for fold in range(folds)] or ["model"]
    for file in files:
        (path / file).parent.mkdir(parents=True, exist_ok=True)
        (path / file).write_text(f"{epoch} {text} {file}")
    (path / "manifest.json").write_text(json.dumps({"text": text}))


def content(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): path.read_text()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_another_machine_gets_the_checkpoints_as_they_were_left(
    mirror: CheckpointMirror, tmp_path: Path
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    checkpoint(here, 1)
    checkpoint(here, 2, folds=2)
    mirror.push(here, KEPT)
    checkpoint(there, 1, "of an earlier attempt")
    checkpoint(there, 9)
    mirror.pull(there)
    assert content(there) == content(here)


def test_unwanted_older_checkpoints_go_and_wanted_ones_stay_though_not_here(
    mirror: CheckpointMirror, tmp_path: Path
) -> None:
    for epoch in (1, 2, 3):
        checkpoint(tmp_path / "first", epoch)
    mirror.write("attempt", "1")
    mirror.push(tmp_path / "first", KEPT)
    checkpoint(tmp_path / "second", 4)
    mirror.push(tmp_path / "second", {"epoch-0001", "epoch-0003", "epoch-0004"})
    assert sorted(mirror.bucket.listing()) == [
        "attempt",
        *(
            f"epoch-{epoch:04d}/{file}"
            for epoch in (1, 3, 4)
            for file in ("manifest.json", "model")
        ),
    ]


def test_an_attempt_that_was_overtaken_removes_and_completes_nothing(
    mirror: CheckpointMirror, tmp_path: Path
) -> None:
    """It was held up between two of its steps, and another has gone on meanwhile."""
    for epoch in (3, 4, 5):
        checkpoint(tmp_path / "newer", epoch, "newer")
    checkpoint(tmp_path / "older", 2, "older")

    def overtaken() -> None:
        raise RuntimeError("attempt 2 has begun")

    mirror.push(tmp_path / "newer", KEPT)
    before = mirror.bucket.listing()
    with pytest.raises(RuntimeError, match="attempt 2"):
        mirror.push(tmp_path / "older", {"epoch-0002"}, overtaken)
    assert mirror.bucket.listing() == before
    mirror.push(tmp_path / "older", {"epoch-0002"})
    assert before.items() <= mirror.bucket.listing().items()


def test_what_is_there_already_is_not_moved_again(
    mirror: CheckpointMirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved: list[str] = []
    for name in ("upload", "download"):
        method = getattr(Bucket, name)
        monkeypatch.setattr(
            Bucket,
            name,
            lambda place, folder, parts, method=method: (
                moved.extend(parts),
                method(place, folder, parts),
            )[1],
        )
    checkpoint(tmp_path, 1)
    mirror.push(tmp_path, KEPT)
    assert moved == ["epoch-0001/model", "epoch-0001/manifest.json"]
    checkpoint(tmp_path, 2)
    mirror.push(tmp_path, KEPT)
    mirror.pull(tmp_path)
    assert moved[2:] == ["epoch-0002/model", "epoch-0002/manifest.json"]


def test_half_a_checkpoint_is_none(
    mirror: CheckpointMirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine dies, or the storage refuses, before the manifest is there."""
    checkpoint(tmp_path / "here", 1)
    mirror.push(tmp_path / "here", KEPT)
    checkpoint(tmp_path / "here", 2)
    upload = Bucket.upload

    def fail(place: Bucket, folder: Path, parts: list[str]) -> None:
        if parts == ["epoch-0002/manifest.json"]:
            raise StorageError("the bucket is on fire")
        upload(place, folder, parts)

    with monkeypatch.context() as patched:
        patched.setattr(Bucket, "upload", fail)
        with pytest.raises(StorageError, match="on fire"):
            mirror.push(tmp_path / "here", KEPT)
    mirror.pull(tmp_path / "there")
    assert {path.name for path in (tmp_path / "there").iterdir()} == {"epoch-0001"}
    mirror.push(tmp_path / "here", KEPT)
    mirror.pull(tmp_path / "there")
    assert content(tmp_path / "there") == content(tmp_path / "here")


def test_an_epoch_that_is_trained_again_replaces_the_one_there(
    mirror: CheckpointMirror, tmp_path: Path
) -> None:
    checkpoint(tmp_path / "here", 1, "first")
    mirror.push(tmp_path / "here", KEPT)
    checkpoint(tmp_path / "elsewhere", 1, "second")
    mirror.push(tmp_path / "elsewhere", KEPT)
    mirror.pull(tmp_path / "here")
    assert "second" in content(tmp_path / "here")["epoch-0001/model"]


def test_one_checkpoint_is_brought_alone(mirror: CheckpointMirror, tmp_path: Path) -> None:
    for epoch in (1, 2, 3):
        checkpoint(tmp_path / "here", epoch)
    mirror.push(tmp_path / "here", KEPT)
    mirror.pull(tmp_path / "there", only="epoch-0002")
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["epoch-0002"]


def test_small_texts_and_heartbeats_have_places_of_their_own(
    mirror: CheckpointMirror, bucket: Bucket
) -> None:
    assert mirror.read("attempt") is None
    mirror.write("attempt", "2")
    mirror.beat("alive")
    assert mirror.read("attempt") == "2"
    assert sorted(bucket.listing()) == ["beats/t0001", "trials/t0001/attempt"]
