import os
import stat
from pathlib import Path

import pytest

from cluster.storage.bucket import Bucket
from search.journal.events import Evidence, Finished, Resumed, Started
from search.journal.journal import FILE_NAME, JournalError
from search.journal.lease import FILE_NAME as LOCK_FILE
from search.journal.store import DECISION, BucketHome, home, storage
from trainables.checkpoints.heartbeat import Heartbeat
from trainables.errors import ConfigError
from trainables.messages import TrialRequest


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As if on another machine: nothing of what was kept here is there."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another cache"))


@pytest.mark.parametrize("text", ["gs://models/x", "s3://", "s3://UPPER/x", "http://host/x"])
def test_a_storage_is_a_folder_or_a_place_in_a_bucket(text: str) -> None:
    with pytest.raises(ConfigError):
        storage(text)


def test_a_folder_is_a_folder(tmp_path: Path) -> None:
    assert storage("searches") == Path("searches")
    kept = home(tmp_path, "s")
    assert (str(kept), kept.opened(), kept.names(), kept.holder()) == (
        f"{tmp_path}/s",
        tmp_path / "s",
        [],
        "",
    )
    assert kept.place("t0001") == (f"{tmp_path}/s/trials/t0001", None)


def test_a_written_file_is_in_the_bucket(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kept = home(bucket, "s")
    kept.write("data.json", b"{}")
    assert [path.name for path in kept.folder.iterdir()] == ["data.json"]
    elsewhere(monkeypatch, tmp_path)
    assert home(bucket, "s").read("data.json").read_bytes() == b"{}"


def test_a_search_in_a_bucket_goes_on_from_another_machine(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kept = home(bucket, "s")
    assert str(kept) == "s3://models/searches/s"
    with kept.lease():
        journal, events = kept.journal(new=True)
        assert events == []
        journal.append(Started())
        journal.append(Evidence(trial="", file="pictures", path=""))
        (kept.folder / "pictures").mkdir()
        (kept.folder / "pictures" / "curves.png").write_text("drawn")
        kept.keep("pictures", "never drawn")
        kept.write(DECISION, b"decided")
        journal.close()
    elsewhere(monkeypatch, tmp_path)
    other = home(bucket, "s")
    assert other.folder != kept.folder
    assert (other.opened(files=True) / "pictures" / "curves.png").read_text() == "drawn"
    assert (other.opened(files=True) / DECISION).read_bytes() == b"decided"
    with other.lease():
        journal, events = other.journal(new=False)
        assert [event.kind for event in events] == ["started", "evidence"]
        journal.append(Resumed())
        journal.close()
    assert (home(bucket, "s").opened() / FILE_NAME).read_text().count("\n") == 3


def test_what_a_dead_driver_has_left_here_does_not_count(bucket: Bucket) -> None:
    kept = home(bucket, "s")
    journal, _ = kept.journal(new=True)
    journal.append(Started())
    journal.copy = lambda line: None  # dies between its own disk and the bucket
    journal.append(Finished("completed", ""))  # is never told
    journal.close()
    again, events = kept.journal(new=False)
    assert [event.kind for event in events] == ["started"]
    again.close()


def test_a_name_that_is_taken_is_not_begun_again(bucket: Bucket) -> None:
    journal, _ = home(bucket, "s").journal(new=True)
    journal.append(Started())
    journal.close()
    assert home(bucket, "s").names() == [FILE_NAME]
    with pytest.raises(JournalError, match="already"):
        home(bucket, "s").journal(new=True)


def test_a_search_that_is_not_there_is_told(bucket: Bucket) -> None:
    with pytest.raises(
        JournalError,
        match=r"^there is no search at 's3://models/searches/none'\. Check the name and --storage",
    ):
        home(bucket, "none").opened()


def test_copies_of_what_is_in_a_bucket_are_their_owners_only(
    bucket: Bucket, tmp_path: Path
) -> None:
    kept = home(bucket, "s")
    assert isinstance(kept, BucketHome)
    (bucket / "s" / "pictures").put(b"pixels", "curves.png")
    fetched = kept.read("pictures") / "curves.png"
    assert fetched.read_bytes() == b"pixels"
    root = tmp_path / "cache" / "image-classifier-search"
    assert fetched.is_relative_to(root)
    assert stat.S_IMODE(root.stat().st_mode) == 0o700


def test_a_trial_that_is_trained_in_a_copy_keeps_it_from_others(
    bucket: Bucket, tmp_path: Path
) -> None:
    place, mirror = home(bucket, "s").place("t0001")
    root = tmp_path / "cache" / "image-classifier-search"
    assert TrialRequest(mirror=mirror, attempt=1).training_folder(place).is_relative_to(root)
    assert stat.S_IMODE(root.stat().st_mode) == 0o700


def test_who_runs_it_is_seen_from_anywhere(bucket: Bucket) -> None:
    kept = home(bucket, "s")
    with kept.lease():
        assert kept.holder().startswith(f"process {os.getpid()} on ")
    assert kept.holder() == ""
    assert kept.names() == []
    assert bucket.has(f"s/{LOCK_FILE}")


def test_a_trial_is_trained_in_a_copy_and_its_heartbeat_is_heard(bucket: Bucket) -> None:
    kept = home(bucket, "s")
    assert isinstance(kept, BucketHome)
    place, mirror = kept.place("t0001")
    folder = TrialRequest(mirror=mirror, attempt=2).training_folder(place)
    assert folder.name == "t0001"
    assert (
        len(
            {
                folder,
                TrialRequest(mirror=mirror, attempt=2).training_folder(place, 1),
                TrialRequest(mirror=mirror, attempt=1).training_folder(place),
            }
        )
        == 3
    )
    beat = Heartbeat(folder, attempt=2, node="n", mirror=mirror)
    assert beat._sender is not None
    beat._sender.join()
    found = kept.beats([kept.folder / "trials" / "t0001", kept.folder / "trials" / "t0002"])
    assert found[1] is None
    assert found[0] is not None
    assert (found[0].pid, found[0].node, found[0].attempt) == (os.getpid(), "n", 2)
    TrialRequest(mirror=mirror, attempt=2).remove_local_folder(place)
    assert not folder.exists()
