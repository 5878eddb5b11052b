"""Store searches in a bucket of S3 or of a compatible service.

Each machine looks up its own credentials, as boto3 does (environment, `~/.aws`, the instance's
profile). Credentials are never sent to other machines. Temporary failures of a service (503,
time-outs, a lost connection) are retried for some ten seconds, by boto3 and then by `Bucket._send`.
If a failure lasts longer or is permanent, a `StorageError` with the cause and the remedy is raised.
"""

import errno
import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit
from uuid import uuid4

from cluster.errors import NotReady

Response = TypeVar("Response")
SCHEME = "s3://"
NAME = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
"""Matches the names that S3 accepts for buckets."""
TRIES, CONNECT_S, READ_S = 5, 5, 30
"""boto3's attempts for each request, and its time-outs in seconds."""
QUICK_TRIES, QUICK_S = 2, 5
"""boto3's attempts, and its read time-out in seconds, for a `Bucket` whose `quick` is True."""
WAITS = (0.2, 0.5, 1, 2, 4)
"""The pauses before our own retries, in seconds. They are needed because boto3 soon gives up if
the connection is refused (botocore 1.44).
"""
AT_ONCE = 8
"""The maximum number of files that one call transfers at the same time."""
PERMISSIONS = {
    "get_object": "s3:GetObject",
    "head_object": "s3:GetObject",
    "download_file": "s3:GetObject",
    "put_object": "s3:PutObject",
    "upload_file": "s3:PutObject",
    "list_objects_v2": "s3:ListBucket",
    "delete_objects": "s3:DeleteObject",
}
"""The IAM permission that each method of boto3's client needs, for messages."""
EXPIRED_CODES = ("ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired")
REFUSED_CODES = (
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "InvalidToken",
    "InvalidClientTokenId",
)
CONFLICT_CODES = ("PreconditionFailed", "ConditionalRequestConflict")
"""The error codes of S3 for a conditional write whose condition does not hold."""


class StorageError(OSError):
    """The storage does not respond, or refuses; `strerror` states the cause and the remedy."""

    def __init__(self, reason: str, *, is_temporary: bool = False) -> None:
        """Create the error with the code EIO.

        Args:
            reason: the cause and the remedy, which becomes `strerror`.
            is_temporary: True if the same request may succeed in a moment.
        """
        super().__init__(errno.EIO, reason)
        self.is_temporary = is_temporary

    def __reduce__(self) -> tuple[Any, tuple[str], dict[str, bool]]:
        return type(self), (str(self.strerror),), {"is_temporary": self.is_temporary}


class WriteConflict(RuntimeError):
    """The condition of a write does not hold, because another process has written the object."""


@dataclass(frozen=True)
class StoredObject:
    """An object's content, and its tag (ETag), which differs for different contents."""

    content: bytes
    tag: str


@dataclass(frozen=True)
class ObjectFacts:
    """An object, as a bucket's listing describes it."""

    tag: str
    size: int
    """The size in bytes."""
    modified_s: float
    """The time of its last change, in seconds since 1970."""


@dataclass(frozen=True)
class Bucket:
    """A bucket or a prefix in it, as plain values that can be sent to other machines.

    `bucket / "part"` is the prefix `part` below this one. All methods raise `StorageError` if the
    service refuses, or still fails after all retries.
    """

    name: str
    prefix: str = ""
    endpoint: str = ""
    """The address of the service; empty for AWS."""
    region: str = ""
    quick: bool = False
    """Make few attempts with short time-outs, for callers that retry themselves or cannot wait."""

    @classmethod
    def of(cls, uri: str) -> Self:
        """Parse `s3://bucket/prefix`.

        The address of the service is `AWS_ENDPOINT_URL_S3` or `AWS_ENDPOINT_URL`, or else that of
        AWS.

        Raises:
            ValueError: the URI names no bucket, or the service's address is malformed.
        """
        name, _, prefix = uri.removeprefix(SCHEME).partition("/")
        if (
            not uri.startswith(SCHEME)
            or not NAME.fullmatch(name)
            or not re.fullmatch(r"[A-Za-z0-9!_.*'()/-]*", prefix)
        ):
            raise ValueError(f"'{uri}' is not a valid S3 address. Use s3://BUCKET/PREFIX")
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
        try:
            is_valid = not endpoint or bool(urlsplit(endpoint).port or urlsplit(endpoint).hostname)
        except ValueError:
            is_valid = False
        if not is_valid:
            raise ValueError(
                f"the endpoint '{endpoint}' (from AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL) is not "
                "a valid address. Use http://HOST:PORT"
            )
        return cls(
            name,
            prefix.strip("/"),
            endpoint,
            os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "",
        )

    def __str__(self) -> str:
        return f"{SCHEME}{self.name}/{self.prefix}".rstrip("/")

    def __truediv__(self, part: str) -> Self:
        return replace(self, prefix=f"{self.prefix}/{part}".strip("/"))

    def get(self, part: str = "", *, most: int | None = None) -> StoredObject | None:
        """Read the object of this name; None if there is none.

        Args:
            part: the name below this place; empty for the object at this place itself.
            most: the maximum number of bytes to read; None for all.
        """

        def ask() -> StoredObject:
            answer = self._client.get_object(Bucket=self.name, Key=(self / part).prefix)
            return StoredObject(answer["Body"].read(most), answer["ETag"])

        try:
            return self._send("get_object", ask)
        except FileNotFoundError:
            return None

    def has(self, part: str = "") -> bool:
        """True if an object is stored under exactly this name."""
        try:
            self._send(
                "head_object",
                lambda: self._client.head_object(Bucket=self.name, Key=(self / part).prefix),
            )
            return True
        except FileNotFoundError:
            return False

    def put(
        self, content: bytes, part: str = "", *, new: bool = False, instead_of: str = ""
    ) -> str:
        """Store an object, and return its tag.

        Args:
            content: the whole content.
            part: the name below this place; empty for the object at this place itself.
            new: store it only if there is no object of this name.
            instead_of: store it only if the present object has this tag.

        Raises:
            WriteConflict: the condition does not hold. The present object may nevertheless have
                this content, if an earlier attempt succeeded but its response was lost.
        """
        condition = {"IfNoneMatch": "*"} if new else {"IfMatch": instead_of} if instead_of else {}
        try:
            answer = self._send(
                "put_object",
                lambda: self._client.put_object(
                    Bucket=self.name, Key=(self / part).prefix, Body=content, **condition
                ),
            )
        # S3 responds with "not found" if the condition is on the tag of a missing object.
        except FileNotFoundError as error:
            raise WriteConflict(f"another process has removed {self / part}") from error
        return str(answer["ETag"])

    def listing(self) -> dict[str, str]:
        """List the tags of all objects below this place, by their relative names."""
        return {name: entry["ETag"] for name, entry in self._below().items()}

    def sizes(self) -> dict[str, int]:
        """List the sizes in bytes of all objects below this place, by their relative names."""
        return {name: entry["Size"] for name, entry in self._below().items()}

    def objects(self) -> dict[str, ObjectFacts]:
        """List all objects below this place, by their relative names."""
        return {
            name: ObjectFacts(entry["ETag"], entry["Size"], entry["LastModified"].timestamp())
            for name, entry in self._below().items()
        }

    def _below(self) -> dict[str, dict[str, Any]]:
        """List the service's entries of all objects below this place, by their relative names."""
        start = f"{self.prefix}/" if self.prefix else ""

        def ask() -> dict[str, dict[str, Any]]:
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self.name, Prefix=start
            )
            return {
                entry["Key"].removeprefix(start): entry
                for page in pages
                for entry in page.get("Contents", ())
            }

        return self._send("list_objects_v2", ask)

    def folders(self) -> list[str]:
        """List the names of the direct subfolders, which are prefixes with objects below them."""
        start = f"{self.prefix}/" if self.prefix else ""

        def ask() -> list[str]:
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self.name, Prefix=start, Delimiter="/"
            )
            return [
                entry["Prefix"].removeprefix(start).rstrip("/")
                for page in pages
                for entry in page.get("CommonPrefixes", ())
            ]

        # Some servers, such as SeaweedFS, still list a prefix after all its objects were removed.
        with ThreadPoolExecutor(AT_ONCE) as pool:
            names = self._send("list_objects_v2", ask)
            answers = pool.map(lambda name: (self / name)._has_objects(), names)
            return [name for name, has_any in zip(names, answers, strict=True) if has_any]

    def _has_objects(self) -> bool:
        def ask() -> bool:
            page = self._client.list_objects_v2(
                Bucket=self.name, Prefix=f"{self.prefix}/", MaxKeys=1
            )
            return bool(page.get("Contents"))

        return self._send("list_objects_v2", ask)

    def remove(self, parts: list[str]) -> None:
        """Remove the objects with these names; missing ones are ignored.

        Raises:
            StorageError: the storage refuses to remove an object. Others may have been removed.
        """
        # S3 removes at most 1,000 objects in one request.
        for first in range(0, len(parts), 1000):
            keys = [{"Key": (self / part).prefix} for part in parts[first : first + 1000]]
            answer = self._send(
                "delete_objects",
                partial(
                    self._client.delete_objects,
                    Bucket=self.name,
                    Delete={"Objects": keys, "Quiet": True},
                ),
            )
            if refused := answer.get("Errors"):
                raise StorageError(
                    f"{self}: the object {refused[0].get('Key')} cannot be removed "
                    f"({refused[0].get('Code', 'unknown error')}; check that you have the "
                    "permission s3:DeleteObject)"
                )

    def upload(self, folder: Path, parts: list[str]) -> None:
        """Store files of a folder under their names relative to the folder."""

        def upload_file(part: str) -> None:
            self._send(
                "upload_file",
                lambda: self._client.upload_file(
                    str(folder / part), self.name, (self / part).prefix
                ),
            )

        _at_once(upload_file, parts)

    def download(self, folder: Path, parts: list[str]) -> None:
        """Copy the objects with these names into a folder.

        Each file is replaced atomically: readers see either the old or the new one, complete.

        Raises:
            FileNotFoundError: an object is missing.
            StorageError: a name leads out of the folder, or the storage refuses.
        """

        def download_file(part: str) -> None:
            if Path(part).is_absolute() or ".." in Path(part).parts:
                raise StorageError(
                    f"{self}: the object name '{part[:200]}' is an absolute path or contains '..', "
                    "so the object cannot be copied into a folder; remove it from the bucket"
                )
            path = folder / part
            path.parent.mkdir(parents=True, exist_ok=True)
            half = path.with_name(f".{path.name}.{uuid4().hex[:8]}")
            try:
                self._send(
                    "download_file",
                    lambda: self._client.download_file(self.name, (self / part).prefix, str(half)),
                )
                half.replace(path)
            finally:
                half.unlink(missing_ok=True)

        _at_once(download_file, parts)

    def check(self) -> None:
        """Check that the storage supports all operations that a search's lock and journal need.

        Raises:
            NotReady: the storage cannot be used, or does not support one of these operations.
        """
        # Imported here because it imports urllib.request, and few commands check a bucket.
        from cluster.preflight.probe import shortcoming

        try:
            lacking = shortcoming(self / f".probe-{uuid4().hex}", WriteConflict)
        except StorageError as error:
            raise NotReady(
                f"storage '{self}' cannot be used: {error.strerror}. "
                "Fix the problem, or use another --storage."
            ) from error
        if lacking:
            raise NotReady(f"storage '{self}' {lacking}. Use another object store, or a folder.")

    def reach(self) -> None:
        """Check that a server listens at the service's address; AWS itself is not checked.

        This fails after `CONNECT_S` seconds at most, whereas boto3 would try for half a minute.

        Raises:
            StorageError: no server listens at the address.
        """
        if not self.endpoint:
            return
        parts = urlsplit(self.endpoint)
        try:
            socket.create_connection(
                (parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)),
                timeout=CONNECT_S,
            ).close()
        except OSError as error:
            raise StorageError(
                f"{self}: no server responds at {self.endpoint} ({error})"
            ) from error

    @property
    def _client(self) -> Any:
        return _client(self.endpoint, self.region, self.quick)

    def _send(self, call: str, ask: Callable[[], Response]) -> Response:
        """Send a request, with retries after temporary failures, and return the response.

        Args:
            call: the name of the client's method, for error messages.
            ask: sends the request.
        """
        for wait in () if self.quick else WAITS:
            try:
                with self._errors(call):
                    return ask()
            except StorageError as error:
                if not error.is_temporary:
                    raise
            time.sleep(wait)
        with self._errors(call):
            return ask()

    @contextmanager
    def _errors(self, call: str) -> Iterator[None]:
        """Translate boto3's errors into those of this module.

        Raises:
            StorageError: the storage does not respond, or refuses.
            WriteConflict: the condition of a write does not hold.
            FileNotFoundError: the object is missing.
        """
        import boto3.exceptions
        import botocore.exceptions

        try:
            yield
        except boto3.exceptions.Boto3Error as error:
            # `upload_file` raises an error without the service's error code; its cause has it.
            cause = error.__cause__ or error.__context__
            storage_error = (
                self._as_exception(cause, call)
                if isinstance(cause, botocore.exceptions.ClientError)
                else StorageError(f"{self}: {error}", is_temporary=True)
            )
            raise storage_error from error
        except botocore.exceptions.ClientError as error:
            raise self._as_exception(error, call) from error
        except (botocore.exceptions.BotoCoreError, botocore.exceptions.HTTPClientError) as error:
            reason = str(error).rstrip(".")
            if isinstance(error, botocore.exceptions.NoCredentialsError):
                reason = (
                    "no credentials were found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
                    "create ~/.aws/credentials, or give the machine an instance profile"
                )
                raise StorageError(f"{self}: {reason}") from error
            raise StorageError(f"{self}: {reason}", is_temporary=True) from error

    def _as_exception(self, error: Any, call: str) -> Exception:
        """Translate the service's error response to `call` into an exception."""
        code, status = (
            str(error.response.get("Error", {}).get("Code", "")),
            error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0),
        )
        if code in CONFLICT_CODES or status == 412:
            return WriteConflict(f"another process has written to {self}")
        if code == "NoSuchBucket":
            return StorageError(f"there is no bucket '{self.name}'")
        if code in ("NoSuchKey", "404", "NotFound"):
            return FileNotFoundError(
                errno.ENOENT, "there is no such object in the bucket", str(self)
            )
        if code in EXPIRED_CODES:
            _client.cache_clear()  # the next call reads the credentials again
            return StorageError(f"{self}: the credentials have expired ({code}); renew them")
        if code in REFUSED_CODES:
            _client.cache_clear()
            return StorageError(f"{self}: the credentials were refused ({code}); correct them")
        if code == "RequestTimeTooSkewed":
            return StorageError(f"{self}: this machine's clock is wrong ({code}); correct it")
        if status == 403:
            return StorageError(
                f"{self}: access denied (403 {code}); the permission {PERMISSIONS[call]} is missing"
            )
        return StorageError(
            f"{self}: the service responded with HTTP {status} {code}",
            is_temporary=status >= 500 or status == 429,
        )


def _at_once(move: Any, parts: list[str]) -> None:
    """Call a function with each part, in up to `AT_ONCE` threads; raise the first error."""
    if len(parts) < 2:
        for part in parts:
            move(part)
        return
    with ThreadPoolExecutor(min(AT_ONCE, len(parts))) as pool:
        for future in [pool.submit(move, part) for part in parts]:
            future.result()


@cache
def _client(endpoint: str, region: str, quick: bool) -> Any:
    """Create boto3's client for S3 with the present credentials; it is thread-safe and cached.

    `_as_exception` clears the cache when the credentials have expired or are refused.
    """
    import boto3.session
    from botocore.config import Config

    tries, read_s = (QUICK_TRIES, QUICK_S) if quick else (TRIES, READ_S)
    retries = {"mode": "standard", "total_max_attempts": tries}
    config = Config(
        retries=retries,
        connect_timeout=CONNECT_S,
        read_timeout=read_s,
        max_pool_connections=2 * AT_ONCE,
    )
    session = boto3.session.Session()
    region = region or session.region_name or "us-east-1"
    return session.client("s3", endpoint_url=endpoint or None, region_name=region, config=config)
