"""A place in a bucket of S3, or of a compatible service, where searches are kept.

Credentials are found as boto3 finds them (environment, `~/.aws`, an instance's profile), on each
machine for itself: none is sent. Temporary failures of a service (503, time-outs, a lost
connection) are retried for some ten seconds, by boto3 and beyond it. A failure that lasts longer,
or is final, becomes a `StorageError` that says which permission or setting is missing.
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

Answer = TypeVar("Answer")
SCHEME = "s3://"
NAME = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
TRIES, CONNECT_S, READ_S = 5, 5, 30
QUICK_TRIES, QUICK_S = 2, 5
WAITS = (0.2, 0.5, 1, 2, 4)
"""The pauses before each of our own retries, in seconds: boto3 soon gives up on a refused
connection (botocore 1.44).
"""
AT_ONCE = 8
"""The number of files that one call moves at a time."""
PERMISSIONS = {
    "get_object": "s3:GetObject",
    "head_object": "s3:GetObject",
    "download_file": "s3:GetObject",
    "put_object": "s3:PutObject",
    "upload_file": "s3:PutObject",
    "list_objects_v2": "s3:ListBucket",
    "delete_objects": "s3:DeleteObject",
}
EXPIRED = ("ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired")
REFUSED = ("InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "InvalidClientTokenId")
TAKEN = ("PreconditionFailed", "ConditionalRequestConflict")


class StorageError(OSError):
    """The storage does not answer, or refuses; `strerror` says why and what to do."""

    def __init__(self, reason: str, *, passing: bool = False) -> None:
        """Set the reason.

        Args:
            reason: the cause and the remedy.
            passing: whether the same request may succeed in a moment.
        """
        super().__init__(errno.EIO, reason)
        self.passing = passing

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return type(self), (str(self.strerror),)


class Taken(RuntimeError):
    """The condition of a write does not hold: another process has written there meanwhile."""


@dataclass(frozen=True)
class Stored:
    """An object: its content, and the tag that changes with it."""

    content: bytes
    tag: str


@dataclass(frozen=True)
class Bucket:
    """A bucket, or a prefix in it, as plain values that may cross to other machines.

    `bucket / "part"` is the place below.
    """

    name: str
    prefix: str = ""
    endpoint: str = ""
    """The address of a service that is not AWS's."""
    region: str = ""
    quick: bool = False
    """Give up soon, for callers that ask again by themselves or have no time."""

    @classmethod
    def of(cls, uri: str) -> Self:
        """Return the place that `s3://bucket/prefix` names.

        The service is AWS's, or the one at `AWS_ENDPOINT_URL_S3` or `AWS_ENDPOINT_URL`.

        Raises:
            ValueError: the URI names no bucket, or the service's address is malformed.
        """
        name, _, prefix = uri.removeprefix(SCHEME).partition("/")
        if (
            not uri.startswith(SCHEME)
            or not NAME.fullmatch(name)
            or not re.fullmatch(r"[A-Za-z0-9!_.*'()/-]*", prefix)
        ):
            raise ValueError(f"'{uri}' names no place in a bucket. Write s3://BUCKET/PREFIX")
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
        try:
            known = not endpoint or bool(urlsplit(endpoint).port or urlsplit(endpoint).hostname)
        except ValueError:
            known = False
        if not known:
            raise ValueError(f"AWS_ENDPOINT_URL '{endpoint}' is no address. Write http://HOST:PORT")
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

    def get(self, part: str = "", *, most: int | None = None) -> Stored | None:
        """Return the object that is stored here, or below; None if there is none.

        `most` is the number of bytes that are read of it at most; None for all.
        """

        def ask() -> Stored:
            answer = self._client.get_object(Bucket=self.name, Key=(self / part).prefix)
            return Stored(answer["Body"].read(most), answer["ETag"])

        try:
            return self._asked("get_object", ask)
        except FileNotFoundError:
            return None

    def has(self, part: str = "") -> bool:
        """Return whether an object is stored under exactly this name."""
        try:
            self._asked(
                "head_object",
                lambda: self._client.head_object(Bucket=self.name, Key=(self / part).prefix),
            )
            return True
        except FileNotFoundError:
            return False

    def put(
        self, content: bytes, part: str = "", *, new: bool = False, instead_of: str = ""
    ) -> str:
        """Store an object here, or below, and return its tag.

        Args:
            content: the whole content.
            part: the name below this place.
            new: only if nothing is there.
            instead_of: only if the object that is there has this tag.

        Raises:
            Taken: something else is there. It may be this very content, if an answer was lost on
                its way.
        """
        condition = {"IfNoneMatch": "*"} if new else {"IfMatch": instead_of} if instead_of else {}
        try:
            answer = self._asked(
                "put_object",
                lambda: self._client.put_object(
                    Bucket=self.name, Key=(self / part).prefix, Body=content, **condition
                ),
            )
        except FileNotFoundError as error:
            raise Taken(f"somebody has removed {self / part}") from error
        return str(answer["ETag"])

    def listing(self) -> dict[str, str]:
        """Return the tags of all objects below, by their names relative to this place."""
        return {name: one["ETag"] for name, one in self._below().items()}

    def sizes(self) -> dict[str, int]:
        """Return the bytes of all objects below, by their names relative to this place."""
        return {name: one["Size"] for name, one in self._below().items()}

    def _below(self) -> dict[str, dict[str, Any]]:
        """Return what the service says of all objects below, by their relative names."""
        start = f"{self.prefix}/" if self.prefix else ""

        def ask() -> dict[str, dict[str, Any]]:
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self.name, Prefix=start
            )
            return {
                one["Key"].removeprefix(start): one
                for page in pages
                for one in page.get("Contents", ())
            }

        return self._asked("list_objects_v2", ask)

    def folders(self) -> list[str]:
        """Return the names of the next level below that have objects below them."""
        start = f"{self.prefix}/" if self.prefix else ""

        def ask() -> list[str]:
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self.name, Prefix=start, Delimiter="/"
            )
            return [
                one["Prefix"].removeprefix(start).rstrip("/")
                for page in pages
                for one in page.get("CommonPrefixes", ())
            ]

        # Some servers, such as SeaweedFS, keep the empty folder of what was removed.
        with ThreadPoolExecutor(AT_ONCE) as pool:
            named = self._asked("list_objects_v2", ask)
            kept = pool.map(lambda name: (self / name)._holds_any(), named)
            return [name for name, holds in zip(named, kept, strict=True) if holds]

    def _holds_any(self) -> bool:
        """Return whether there is an object below."""

        def ask() -> bool:
            found = self._client.list_objects_v2(
                Bucket=self.name, Prefix=f"{self.prefix}/", MaxKeys=1
            )
            return bool(found.get("Contents"))

        return self._asked("list_objects_v2", ask)

    def remove(self, parts: list[str]) -> None:
        """Remove the objects of these names."""
        for first in range(0, len(parts), 1000):
            keys = [{"Key": (self / part).prefix} for part in parts[first : first + 1000]]
            answer = self._asked(
                "delete_objects",
                partial(
                    self._client.delete_objects,
                    Bucket=self.name,
                    Delete={"Objects": keys, "Quiet": True},
                ),
            )
            if refused := answer.get("Errors"):
                raise StorageError(
                    f"{self}: {refused[0].get('Code', 'an error')} on removing "
                    f"{refused[0].get('Key')} (s3:DeleteObject)"
                )

    def upload(self, folder: Path, parts: list[str]) -> None:
        """Store files of a folder under the same names."""

        def one(part: str) -> None:
            self._asked(
                "upload_file",
                lambda: self._client.upload_file(
                    str(folder / part), self.name, (self / part).prefix
                ),
            )

        _at_once(one, parts)

    def download(self, folder: Path, parts: list[str]) -> None:
        """Copy the objects of these names into a folder.

        A reader of the folder sees each file whole, either the old or the new one.

        Raises:
            FileNotFoundError: an object is missing.
            StorageError: a name leads out of the folder, or the storage refuses.
        """

        def one(part: str) -> None:
            if Path(part).is_absolute() or ".." in Path(part).parts:
                raise StorageError(
                    f"{self}: '{part[:200]}' leads out of its folder; remove it from the bucket"
                )
            path = folder / part
            path.parent.mkdir(parents=True, exist_ok=True)
            half = path.with_name(f".{path.name}.{uuid4().hex[:8]}")
            try:
                self._asked(
                    "download_file",
                    lambda: self._client.download_file(self.name, (self / part).prefix, str(half)),
                )
                half.replace(path)
            finally:
                half.unlink(missing_ok=True)

        _at_once(one, parts)

    def check(self) -> None:
        """Check that the place supports everything that a search's lock and journal rely on.

        Raises:
            NotReady: it lacks something.
        """
        # Imported here because it brings HTTP along, and few commands check a bucket.
        from cluster.preflight.probe import shortcoming

        try:
            lacking = shortcoming(self / f".probe-{uuid4().hex}", Taken)
        except StorageError as error:
            raise NotReady(
                f"storage '{self}' is not usable: {error.strerror}. "
                "Mend that, or use another --storage."
            ) from error
        if lacking:
            raise NotReady(f"storage '{self}' {lacking}. Use another service, or a folder.")

    def reach(self) -> None:
        """Check that the service listens at all, if it is not AWS's.

        boto3 would try for half a minute.

        Raises:
            StorageError: it does not.
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
            raise StorageError(f"{self}: nothing answers at {self.endpoint} ({error})") from error

    @property
    def _client(self) -> Any:
        return _client(self.endpoint, self.region, self.quick)

    def _asked(self, call: str, ask: Callable[[], Answer]) -> Answer:
        """Return the service's answer, with retries for failures that may pass."""
        for wait in () if self.quick else WAITS:
            try:
                with self._errors(call):
                    return ask()
            except StorageError as error:
                if not error.passing:
                    raise
            time.sleep(wait)
        with self._errors(call):
            return ask()

    @contextmanager
    def _errors(self, call: str) -> Iterator[None]:
        """Translate boto3's errors into those of this module.

        Raises:
            StorageError: the storage does not answer, or refuses.
            Taken: the condition of a write does not hold.
            FileNotFoundError: the object is missing.
        """
        import boto3.exceptions
        import botocore.exceptions

        try:
            yield
        except boto3.exceptions.Boto3Error as error:
            # `upload_file` raises it, and says only that it failed: the cause has the reason.
            cause = error.__cause__ or error.__context__
            told = (
                self._told(cause, call)
                if isinstance(cause, botocore.exceptions.ClientError)
                else StorageError(f"{self}: {error}", passing=True)
            )
            raise told from error
        except botocore.exceptions.ClientError as error:
            raise self._told(error, call) from error
        except (botocore.exceptions.BotoCoreError, botocore.exceptions.HTTPClientError) as error:
            reason = str(error).rstrip(".")
            if isinstance(error, botocore.exceptions.NoCredentialsError):
                reason = (
                    "no credentials found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
                    "write ~/.aws/credentials, or give the machine a profile"
                )
                raise StorageError(f"{self}: {reason}") from error
            raise StorageError(f"{self}: {reason}", passing=True) from error

    def _told(self, error: Any, call: str) -> Exception:
        """Return the exception for an error that the service has answered."""
        code, status = (
            str(error.response.get("Error", {}).get("Code", "")),
            error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0),
        )
        if code in TAKEN or status == 412:
            return Taken(f"somebody else has written to {self}")
        if code == "NoSuchBucket":
            return StorageError(f"there is no bucket '{self.name}'")
        if code in ("NoSuchKey", "404", "NotFound"):
            return FileNotFoundError(errno.ENOENT, "not in the bucket", str(self))
        if code in EXPIRED:
            _client.cache_clear()  # the next call looks for fresh ones
            return StorageError(f"{self}: the credentials have expired ({code}); renew them")
        if code in REFUSED:
            _client.cache_clear()
            return StorageError(f"{self}: the credentials are refused ({code}); correct them")
        if code == "RequestTimeTooSkewed":
            return StorageError(f"{self}: this machine's clock is off ({code}); set it")
        if status == 403:
            return StorageError(
                f"{self}: access denied (403 {code}); the permission {PERMISSIONS[call]} is missing"
            )
        return StorageError(f"{self}: HTTP {status} {code}", passing=status >= 500 or status == 429)


def _at_once(one: Any, parts: list[str]) -> None:
    """Call a function with each part, several at a time; the first error is raised."""
    if len(parts) < 2:
        for part in parts:
            one(part)
        return
    with ThreadPoolExecutor(min(AT_ONCE, len(parts))) as pool:
        for done in [pool.submit(one, part) for part in parts]:
            done.result()


@cache
def _client(endpoint: str, region: str, quick: bool) -> Any:
    """Return a client with the credentials as they are now; several threads may use it."""
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
