import pickle
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from cluster.errors import NotReady
from cluster.preflight import probe
from cluster.storage.bucket import QUICK_TRIES, Bucket, StorageError, WriteConflict
from tests.support.stand_in import FAULTS, REFUSALS, stand_in


@pytest.mark.parametrize(
    "uri",
    [
        "s3://",
        "s3:///x",
        "s3://B/x",
        "s3://a/x",
        "gs://models/x",
        "s3://models/a?b",
        "s3://models/a b",
        "models/x",
    ],
)
def test_what_names_no_place_in_a_bucket_is_refused(uri: str) -> None:
    with pytest.raises(ValueError, match=r"is not a valid S3 address\. Use s3://BUCKET/PREFIX$"):
        Bucket.of(uri)


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("s3://models", "s3://models"),
        ("s3://models/", "s3://models"),
        ("s3://models/a/b/", "s3://models/a/b"),
    ],
)
def test_a_place_is_shown_as_it_is_named(uri: str, shown: str) -> None:
    assert str(Bucket.of(uri)) == shown
    assert str(Bucket.of(uri) / "c") == f"{shown}/c"


def test_the_service_is_the_one_that_the_environment_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://everything")
    assert Bucket.of("s3://models").endpoint == "http://everything"
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://storage")
    assert Bucket.of("s3://models").endpoint == "http://storage"


def test_what_is_stored_is_there_until_it_is_removed(bucket: Bucket) -> None:
    assert bucket.get("a") is None
    assert not bucket.has("a")
    bucket.put(b"1", "a")
    bucket.put(b"2", "b/c")
    Bucket.of("s3://models").put(b"beside", "searches-2/d")
    found = bucket.get("b/c")
    assert found is not None
    assert found.content == b"2"
    assert bucket.has("a")
    assert not bucket.has("b")
    assert list(bucket.listing()) == ["a", "b/c"]
    assert list((bucket / "b").listing()) == ["c"]
    bucket.remove(["a", "b/c", "never there"])
    assert bucket.listing() == {}


def test_a_listing_has_more_than_one_page(bucket: Bucket) -> None:
    for number in range(1005):
        bucket.put(b"", f"{number:04d}")
    assert len(bucket.listing()) == 1005
    bucket.remove(list(bucket.listing()))
    assert bucket.listing() == {}


def test_of_two_who_write_at_once_one_is_told(bucket: Bucket) -> None:
    first = bucket.put(b"1", "a", new=True)
    with pytest.raises(WriteConflict):
        bucket.put(b"2", "a", new=True)
    second = bucket.put(b"3", "a", instead_of=first)
    with pytest.raises(WriteConflict):
        bucket.put(b"4", "a", instead_of=first)
    found = bucket.get("a")
    assert found is not None
    assert (found.content, found.tag) == (b"3", second)


def test_files_go_there_and_come_back(bucket: Bucket, tmp_path: Path) -> None:
    files = [f"{number % 3}/{number}" for number in range(20)]
    for file in files:
        (tmp_path / "here" / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "here" / file).write_text(file)
    bucket.upload(tmp_path / "here", files)
    bucket.download(tmp_path / "there", files)
    assert {file: (tmp_path / "there" / file).read_text() for file in files} == {
        file: file for file in files
    }
    with pytest.raises(FileNotFoundError):
        bucket.download(tmp_path / "there", ["1/1", "never there"])
    assert not list((tmp_path / "there").rglob(".*")), "halves are left"


@pytest.mark.parametrize("part", ["../planted", "epoch-0001/../../planted", "/planted"])
def test_nothing_is_written_outside_the_folder(bucket: Bucket, tmp_path: Path, part: str) -> None:
    """Whoever can write the bucket may name a file as they like."""
    with pytest.raises(StorageError, match="the object cannot be copied into a folder"):
        bucket.download(tmp_path / "here", [part])
    assert not list(tmp_path.rglob("planted"))


def test_a_place_that_works_is_checked_and_left_empty(bucket: Bucket) -> None:
    bucket.check()
    assert bucket.listing() == {}


def test_a_bucket_that_is_not_there_is_not_ready(bucket: Bucket) -> None:
    with pytest.raises(
        NotReady,
        match=(
            r"^storage 's3://other/x' cannot be used: there is no bucket 'other'\. "
            r"Fix the problem, or use another --storage\.$"
        ),
    ):
        Bucket.of("s3://other/x").check()


@pytest.mark.parametrize(("fault", "words"), FAULTS.items())
def test_a_service_that_lacks_what_lock_and_journal_rely_on_is_not_ready(
    fault: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each thing by itself: one that heeds If-None-Match may well ignore If-Match."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    with stand_in(fault) as (endpoint, store):
        with pytest.raises(
            NotReady,
            match=rf"^storage 's3://models/searches' {words}\. "
            r"Use another object store, or a folder\.$",
        ):
            Bucket("models", "searches", endpoint).check()
        assert not store.objects or fault == "keeps what is removed"


def test_a_service_that_has_all_of_it_is_ready_and_left_empty(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    with stand_in() as (endpoint, store):
        Bucket("models", "searches", endpoint).check()
        assert not store.objects


@pytest.mark.parametrize("fault", REFUSALS)
def test_a_check_names_the_missing_permission_and_removes_what_it_may(
    fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    permission, what = REFUSALS[fault]
    with stand_in(fault) as (endpoint, store):
        with pytest.raises(
            NotReady,
            match=(
                r"^storage 's3://models/searches' cannot be used: .*; "
                rf"the permission {permission} is missing\. "
            ),
        ):
            Bucket("models", "searches", endpoint).check()
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        where = "models" if permission == "s3:ListBucket" else "models/searches/*"
        said = (
            f"bucket 'models' is not {what} (AccessDenied)",
            f"Allow {permission} on arn:aws:s3:::{where}.",
        )
        assert probe.storage("s3://models/searches") == [(probe.ERROR, *said)]
        assert len(store.objects) == (2 if fault == "may not delete" else 0)


def refusal(code: str, status: int) -> ClientError:
    return ClientError(
        {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "PutObject"
    )  # type: ignore[typeddict-item]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            refusal("AccessDenied", 403),
            r"access denied \(403 AccessDenied\); the permission s3:PutObject is missing",
        ),
        (
            refusal("ExpiredToken", 400),
            r"the credentials have expired \(ExpiredToken\); renew them",
        ),
        (
            refusal("InvalidAccessKeyId", 403),
            r"the credentials were refused \(InvalidAccessKeyId\); correct them",
        ),
        (refusal("RequestTimeTooSkewed", 403), r"this machine's clock is wrong"),
        (refusal("SlowDown", 503), r"HTTP 503 SlowDown"),
        (
            EndpointConnectionError(endpoint_url="http://nowhere"),
            r"Could not connect to the endpoint URL",
        ),
    ],
)
def test_a_refusal_says_what_is_missing(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, error: Exception, words: str
) -> None:
    monkeypatch.setattr("cluster.storage.bucket.WAITS", ())

    def refuse(*arguments: Any, **options: Any) -> None:
        raise error

    monkeypatch.setattr(bucket._client, "put_object", refuse)
    with pytest.raises(StorageError, match=r"s3://models/searches: ") as told:
        bucket.put(b"", "a")
    assert re.search(words, str(told.value.strerror))


def test_without_credentials_it_is_said_where_they_are_looked_for(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from cluster.storage.bucket import _client

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    _client.cache_clear()
    with pytest.raises(StorageError, match=r"no credentials were found; set AWS_ACCESS_KEY_ID"):
        bucket.get("a")


def test_what_fails_for_a_moment_is_tried_again(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    put, errors = (
        bucket._client.put_object,
        [EndpointConnectionError(endpoint_url="http://nowhere"), refusal("InternalError", 500)],
    )

    def fail_twice(**options: Any) -> Any:
        if errors:
            raise errors.pop()
        return put(**options)

    monkeypatch.setattr("cluster.storage.bucket.WAITS", (0.01, 0.01))
    monkeypatch.setattr(bucket._client, "put_object", fail_twice)
    bucket.put(b"1", "a")
    assert bucket.has("a")


def test_a_quick_bucket_asks_a_service_that_never_answers_only_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A lease, a heartbeat: they ask again by themselves, and a search that ends waits for them."""
    monkeypatch.setattr("cluster.storage.bucket.QUICK_S", 0.2)
    for name, value in {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}.items():
        monkeypatch.setenv(name, value)
    with socket.socket() as hole:
        hole.bind(("127.0.0.1", 0))
        hole.listen()
        with pytest.raises(StorageError, match="Read timeout"):
            Bucket("models", endpoint=f"http://127.0.0.1:{hole.getsockname()[1]}", quick=True).get(
                "a"
            )
        hole.setblocking(False)
        assert len(list(connections(hole))) == QUICK_TRIES


def connections(listening: socket.socket) -> Iterator[None]:
    while True:
        try:
            listening.accept()[0].close()
        except BlockingIOError:
            return
        yield


@pytest.mark.parametrize("is_temporary", [False, True])
def test_an_error_reaches_whoever_has_asked_in_another_process(is_temporary: bool) -> None:
    """Ray carries it there as a pickle."""
    error = StorageError("access denied", is_temporary=is_temporary)
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert (type(again), again.strerror, again.is_temporary) == (
        StorageError,
        "access denied",
        is_temporary,
    )
    assert str(again) == str(error)


def test_what_is_to_be_replaced_and_is_gone_was_taken(bucket: Bucket) -> None:
    tag = bucket.put(b"1", "a")
    bucket.remove(["a"])
    with pytest.raises(WriteConflict):
        bucket.put(b"2", "a", instead_of=tag)


def test_an_endpoint_that_is_no_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://host:port")
    with pytest.raises(ValueError, match=r"is not a valid address\. Use http://HOST:PORT"):
        Bucket.of("s3://models")
