"""Report the software, GPUs, token and services that one machine of a cluster has or can reach.

`cluster.check` runs this module on this machine, and sends its source to every host over ssh. The
module may import only the standard library and boto3, and may use no syntax newer than Python 3.9,
so that a host with an older Python can still report its version. A host prints three lines that
begin with MARK: that it is ready, the time of its clock when the request arrived, and its report.
"""

from __future__ import annotations

import base64
import configparser
import hashlib
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

MARK = "cluster-probe "
OK, ERROR, UNCHECKED = "ok", "error", "not checked"
TIMEOUT_S = 5
REFUSED_KEYS = (
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "InvalidToken",
    "TokenRefreshRequired",
    "AuthFailure",
)
"""The error codes with which S3 rejects credentials."""
PERMISSION = {
    "PutObject": "s3:PutObject",
    "GetObject": "s3:GetObject",
    "ListObjectsV2": "s3:ListBucket",
    "DeleteObjects": "s3:DeleteObject",
}
"""The IAM permission that an operation needs, by the operation's name in boto3."""
CANNOT = {
    "PutObject": "writable",
    "GetObject": "readable",
    "ListObjectsV2": "listable",
    "DeleteObjects": "deletable",
}
"""The adjective in "the bucket is not ..." for a refused operation, by its name in boto3."""

Json = dict[str, Any]
"""A JSON object that is sent to a host or received from one."""
Line = tuple[str, str, str]
"""A level (`OK`, `ERROR`, `UNCHECKED`), an observation, and a remedy."""


def collect(request: Json) -> Json:
    """Collect the report of this machine; slow checks run at the same time.

    Args:
        request: the request of `cluster.check`. Its `environment` is added to `os.environ`;
            `storage` and `tracking` are empty to skip these checks.

    Returns:
        The report: versions, the token's mode and digest, the number of GPUs, on the head the state
        of the cluster, and `lines` with the findings about the bucket and MLflow.
    """
    os.environ.update(request["environment"])
    with ThreadPoolExecutor() as pool:
        lines = [pool.submit(storage, request["storage"])] if request.get("storage") else []
        lines += (
            [pool.submit(mlflow, request["tracking"], needs_login=bool(request.get("is_head")))]
            if request.get("tracking")
            else []
        )
        cards = pool.submit(gpus)
        door = (
            pool.submit(dashboard, request["host"], request["dashboard_port"])
            if request.get("is_head")
            else None
        )
        return {
            "python": platform.python_version(),
            "ray": ray_version(),
            "rsync": shutil.which("rsync") is not None,
            "token": token(request["token"], request["nonce"]),
            "is_up": bool(request.get("is_head"))
            and any(
                is_listening(host, request["gcs_port"]) for host in (request["host"], "127.0.0.1")
            ),
            "gpus": cards.result(),
            "has_card": has_card(),
            "door": door.result() if door else None,
            "lines": [line for future in lines for line in future.result()],
        }


def ray_version() -> str | None:
    """Read Ray's version from its package metadata, which is faster than importing Ray.

    The version is None if Ray is not installed.
    """
    try:
        return metadata.version("ray")
    except metadata.PackageNotFoundError:
        return None


def token(name: str, nonce: str) -> dict[str, str] | None:
    """Read the mode and a digest of Ray's token file; None if the file cannot be read.

    With the digests, the tokens of two machines can be compared without sending them.

    Args:
        name: the file's path; `~` is expanded.
        nonce: a random text that is hashed with the token, the same for all machines.
    """
    try:
        path = Path(name).expanduser()
        text = path.read_text().strip()
        return {
            "mode": f"{path.stat().st_mode & 0o777:04o}",
            "digest": hashlib.sha256(f"{nonce}{text}".encode()).hexdigest(),
        }
    except (OSError, RuntimeError):  # RuntimeError if `~user` names an unknown user
        return None


def gpus() -> int | None:
    """Count the NVIDIA GPUs that the driver lists.

    The result is None if nvidia-smi is not installed, cannot be run or does not respond.
    """
    if shutil.which("nvidia-smi") is None:
        return None
    try:
        listing = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return sum(line.startswith("GPU ") for line in listing.stdout.splitlines())


def has_card() -> bool:
    """True if an NVIDIA GPU is on the PCI bus, even if it has no driver."""
    for device in Path("/sys/bus/pci/devices").glob("*"):
        try:
            if (device / "vendor").read_text().strip() == "0x10de" and (
                device / "class"
            ).read_text().startswith("0x03"):
                return True
        except OSError:
            continue
    return False


def is_listening(host: str, port: int) -> bool:
    """True if a service accepts connections at this address."""
    try:
        socket.create_connection((host, port), timeout=TIMEOUT_S).close()
    except OSError:
        return False
    return True


def dashboard(host: str, port: int) -> int | None:
    """Request the dashboard's job API without a token, and return the HTTP status.

    The status is 401 or 403 if the cluster requires a token, and 200 if anybody may run code there.
    It is None if no dashboard responds.
    """
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for name in ("127.0.0.1", host):
        try:
            with direct.open(f"http://{name}:{port}/api/jobs/", timeout=TIMEOUT_S) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except (OSError, ValueError):
            continue
    return None


def mlflow(uri: str, *, needs_login: bool) -> list[Line]:
    """Check MLflow by listing one experiment, as a client does.

    A request for the health page would not be enough: for that page, MLflow checks neither the Host
    header nor the login.

    Args:
        uri: the server's address.
        needs_login: True if a missing login is an error. This is so only on the head, where the
            driver writes to MLflow.
    """
    host, login = uri.partition("://")[2].partition("/")[0], mlflow_login()
    request = urllib.request.Request(
        f"{uri.rstrip('/')}/api/2.0/mlflow/experiments/search?max_results=1"
    )
    if login:
        request.add_header("Authorization", f"Basic {base64.b64encode(login.encode()).decode()}")
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
            json.load(answer)
    except urllib.error.HTTPError as error:
        return [
            _refused_by_mlflow(uri, host, error, has_login=bool(login), needs_login=needs_login)
        ]
    except ValueError:
        return [(ERROR, f"the server at {uri} is not MLflow", "Correct --tracking.")]
    except OSError as error:
        reason = getattr(error, "reason", error)
        return [
            (
                ERROR,
                f"MLflow is not reachable at {uri} ({reason})",
                "Start it, open its port to the cluster's network, or correct --tracking.",
            )
        ]
    return [(OK, f"MLflow responds at {uri}", "")]


def mlflow_login() -> str:
    """Read this machine's `user:password` for MLflow from the places where MLflow's client looks.

    These are the environment and `~/.mlflow/credentials`. The result is empty if there is no login.
    """
    user, password = (
        os.environ.get("MLFLOW_TRACKING_USERNAME"),
        os.environ.get("MLFLOW_TRACKING_PASSWORD"),
    )
    if user and password:
        return f"{user}:{password}"
    file = configparser.ConfigParser(interpolation=None)
    try:
        file.read(Path("~/.mlflow/credentials").expanduser())
        login = file["mlflow"]
        return f"{login['mlflow_tracking_username']}:{login['mlflow_tracking_password']}"
    except (configparser.Error, KeyError, OSError, UnicodeDecodeError):
        return ""


def _refused_by_mlflow(
    uri: str, host: str, error: urllib.error.HTTPError, *, has_login: bool, needs_login: bool
) -> Line:
    text = error.read(200).decode(errors="replace")
    if error.code == 403 and "host header" in text.lower():
        return (
            ERROR,
            f"MLflow at {uri} refuses the Host header '{host}' (HTTP 403)",
            f"Start it with --allowed-hosts '{host}', or use a host name that it allows.",
        )
    if error.code == 401 and not has_login:
        what, remedy = (
            f"MLflow at {uri} requires a login",
            "Store it in ~/.mlflow/credentials on the head, with mode 0600.",
        )
        return (
            (ERROR, f"{what}, but none was found", remedy)
            if needs_login
            else (OK, f"{what}, which only the head needs", "")
        )
    if error.code in (401, 403):
        return (
            ERROR,
            f"MLflow at {uri} refuses the login (HTTP {error.code})",
            "Correct ~/.mlflow/credentials, or MLFLOW_TRACKING_USERNAME and _PASSWORD.",
        )
    return (
        ERROR,
        f"the server at {uri} is not MLflow, or is not working (HTTP {error.code})",
        "Correct --tracking, or check the server's log.",
    )


def shortcoming(place: Any, conflict: type[Exception]) -> str:
    """Test that a bucket supports the operations that a search's lock and journal need.

    Args:
        place: a place in the bucket, with the methods `put`, `get`, `listing` and `remove` of
            `cluster.storage.bucket.Bucket`.
        conflict: the exception that `put` raises if its condition does not hold.

    Returns:
        The first fault, as the predicate of a sentence about the bucket; empty if there is none.
    """
    probe = _ProbeObject(place, conflict)
    try:
        return probe.creation_fault() or probe.replacement_fault() or probe.removal_fault()
    finally:
        if probe.is_there:
            with suppress(Exception):  # an earlier error says more than a failed removal
                place.remove([probe.name])


class _ProbeObject:
    """An object that is created, replaced and removed under conditions, to test a place.

    `creation_fault`, `replacement_fault` and `removal_fault` must be called in this order, because
    each of them uses the object that the previous one has written.
    """

    name = "probe"

    def __init__(self, place: Any, conflict: type[Exception]) -> None:
        self.place, self.conflict = place, conflict
        self.is_there = False
        self.tag = ""

    def creation_fault(self) -> str:
        """Test the creation of the object; return a fault of the place, or an empty text."""
        # Ignore the result of the first put. If its response is lost, boto3 retries it, and the
        # retry is refused although the put has succeeded. Only the content is checked, below.
        self._refuses(b"first", new=True)
        if not self._refuses(b"second", new=True):
            return "lets two drivers overwrite each other (If-None-Match is ignored)"
        first = self.place.get(self.name)
        if first is None or first.content != b"first":
            return "does not return the content that was written to it"
        if self.name not in self.place.listing():
            return "does not list a new object immediately"
        self.tag = first.tag
        return ""

    def replacement_fault(self) -> str:
        """Test the replacement of the object; return a fault of the place, or an empty text."""
        is_refused = self._refuses(b"second", instead_of=self.tag)
        second = self.place.get(self.name)
        if second is None or second.content != b"second":
            return (
                "refuses to replace an object whose tag matches (If-Match)"
                if is_refused
                else "does not return the new content of a replaced object immediately"
            )
        if second.tag == self.tag:
            return "has the same tag for different contents of an object"
        if not self._refuses(b"third", instead_of=self.tag):
            return "lets two drivers overwrite each other (If-Match is ignored)"
        self.tag = second.tag
        return ""

    def removal_fault(self) -> str:
        """Test the removal of the object; return a fault of the place, or an empty text."""
        self.place.remove([self.name])
        self.is_there = False
        if self.place.get(self.name) is not None:
            return "still returns a removed object"
        if self.name in self.place.listing():
            return "still lists a removed object"
        return (
            ""
            if self._refuses(b"fourth", instead_of=self.tag)
            else "accepts a replacement of a removed object (If-Match is ignored)"
        )

    def _refuses(self, content: bytes, **condition: Any) -> bool:
        """Put the object under a condition; True if the place reports a conflict."""
        try:
            self.place.put(content, self.name, **condition)
        except self.conflict:
            return True
        self.is_there = True
        return False


class ConditionFailed(Exception):
    """The condition of a put does not hold."""


class FetchedObject:
    """An object's content and tag."""

    def __init__(self, content: bytes, tag: str) -> None:
        self.content, self.tag = content, tag


class ProbedBucket:
    """A prefix in a bucket with the methods that `shortcoming` needs.

    `cluster.storage.bucket` cannot be used here, because hosts may lack the project.
    """

    def __init__(self, client: Any, failure: Any, bucket: str, prefix: str) -> None:
        self.client, self.failure, self.bucket, self.prefix = client, failure, bucket, prefix

    def put(self, content: bytes, name: str, *, new: bool = False, instead_of: str = "") -> None:
        """Store an object, under a condition.

        Args:
            content: the whole content.
            name: the name below the prefix.
            new: store it only if there is no object of this name.
            instead_of: store it only if the present object has this tag; ignored if `new` is set.

        Raises:
            ConditionFailed: the condition does not hold.
        """
        condition = {"IfNoneMatch": "*"} if new else {"IfMatch": instead_of}
        try:
            self.client.put_object(
                Bucket=self.bucket, Key=f"{self.prefix}/{name}", Body=content, **condition
            )
        except self.failure as error:
            status, code = (
                error.response["ResponseMetadata"].get("HTTPStatusCode"),
                error.response["Error"].get("Code"),
            )
            if status in (409, 412) or (instead_of and code in ("NoSuchKey", "404", "NotFound")):
                raise ConditionFailed from error
            raise

    def get(self, name: str) -> FetchedObject | None:
        """Read the object of this name; None if there is none."""
        try:
            answer = self.client.get_object(Bucket=self.bucket, Key=f"{self.prefix}/{name}")
        except self.failure as error:
            if error.response["Error"].get("Code") in ("NoSuchKey", "404", "NotFound"):
                return None
            raise
        return FetchedObject(answer["Body"].read(), answer.get("ETag", ""))

    def listing(self) -> list[str]:
        """List the names of the first 1,000 objects below the prefix."""
        entries = self.client.list_objects_v2(Bucket=self.bucket, Prefix=f"{self.prefix}/").get(
            "Contents", []
        )
        return [entry["Key"][len(self.prefix) + 1 :] for entry in entries]

    def remove(self, names: list[str]) -> None:
        """Remove the objects by one `DeleteObjects` request, as a search does."""
        keys = [{"Key": f"{self.prefix}/{name}"} for name in names]
        for refused in self.client.delete_objects(
            Bucket=self.bucket, Delete={"Objects": keys, "Quiet": True}
        ).get("Errors", ()):
            status = 403 if refused.get("Code") == "AccessDenied" else 500
            raise self.failure(
                {"Error": refused, "ResponseMetadata": {"HTTPStatusCode": status}}, "DeleteObjects"
            )


def storage(url: str) -> list[Line]:
    """Check that a bucket supports the operations of a search, with a temporary object in `url`."""
    bucket, _, prefix = url.partition("://")[2].partition("/")
    key = "/".join(filter(None, [prefix.strip("/"), f".probe-{uuid.uuid4().hex}"]))
    try:
        import boto3.session
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError, ClientError
    except ImportError:
        is_bare = ray_version() is None  # nothing is installed yet; `findings` reports that
        return [
            (UNCHECKED, "the bucket (boto3 is not installed yet)", "")
            if is_bare
            else (ERROR, "boto3 is not installed", "Install it: pip install boto3.")
        ]
    try:
        options = Config(
            connect_timeout=TIMEOUT_S,
            read_timeout=TIMEOUT_S,
            retries={"total_max_attempts": 2, "mode": "standard"},
        )
        session = boto3.session.Session()
        client = session.client(
            "s3", config=options, region_name=session.region_name or "us-east-1"
        )
        lacking = shortcoming(ProbedBucket(client, ClientError, bucket, key), ConditionFailed)
    except ClientError as error:
        where = client.meta.endpoint_url
        return [
            _refused_by_s3(
                bucket,
                prefix,
                error.operation_name,
                error.response,
                where,
                is_there=_is_there(client, bucket, ClientError),
            )
        ]
    except (BotoCoreError, ValueError) as error:
        return [_unreachable(url, type(error).__name__, str(error))]
    if lacking:
        return [
            (
                ERROR,
                f"bucket '{bucket}' {lacking}",
                "Use another storage: here, two drivers could run the same search, or lose data.",
            )
        ]
    return [
        (
            OK,
            (
                f"bucket '{bucket}' is readable and writable, and supports "
                "deletions and conditional writes"
            ),
            "",
        )
    ]


def _is_there(client: Any, bucket: str, failure: type[Exception]) -> bool:
    """True unless the service reports that there is no bucket of this name.

    This needs a separate request, because some servers respond to a write without permission with
    "forbidden" even if the bucket does not exist.
    """
    try:
        client.head_bucket(Bucket=bucket)
    except failure as error:
        return bool(error.response["ResponseMetadata"].get("HTTPStatusCode") != 404)  # type: ignore[attr-defined]
    return True


def _refused_by_s3(
    bucket: str,
    prefix: str,
    operation: str,
    response: Json,
    where: str,
    *,
    is_there: bool,
) -> Line:
    code, status = (
        response["Error"].get("Code", ""),
        response["ResponseMetadata"].get("HTTPStatusCode"),
    )
    if code == "NoSuchBucket" or not is_there:
        return ERROR, f"bucket '{bucket}' does not exist", "Create it, or correct --storage."
    if code == "RequestTimeTooSkewed":
        return (
            ERROR,
            f"S3 at {where} refuses requests because the machine's clock is wrong",
            "Synchronize it by NTP.",
        )
    if code in REFUSED_KEYS:
        return (
            ERROR,
            f"S3 at {where} refuses the credentials ({code})",
            "Renew them, or set AWS_ENDPOINT_URL to the service that they are for.",
        )
    if status == 403:
        place = (
            bucket
            if operation == "ListObjectsV2"
            else "/".join(filter(None, [bucket, prefix.strip("/"), "*"]))
        )
        return (
            ERROR,
            f"bucket '{bucket}' is not {CANNOT[operation]} ({code})",
            f"Allow {PERMISSION[operation]} on arn:aws:s3:::{place}.",
        )
    return (
        ERROR,
        f"bucket '{bucket}' is not {CANNOT[operation]} ({code}, HTTP {status})",
        "Check the storage's log, and try again.",
    )


def _unreachable(url: str, kind: str, text: str) -> Line:
    if kind in ("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError"):
        return (
            ERROR,
            f"there are no AWS credentials for {url}",
            "Give the machine an instance profile, or create ~/.aws/credentials.",
        )
    return (
        ERROR,
        f"S3 is not reachable for {url} ({text.rstrip('.')})",
        "Correct AWS_ENDPOINT_URL, or allow connections to it.",
    )


def _print_answer(answer: Any) -> None:
    # The host's shell may have printed an unfinished line, which the first line break ends.
    sys.stdout.write(f"\n{MARK}{json.dumps(answer)}\n")
    sys.stdout.flush()


def main() -> None:
    """Read one request from stdin, and print the answers; runs on a host."""
    _print_answer("ready")
    request = json.loads(sys.stdin.readline())
    _print_answer(time.time())
    _print_answer(collect(request))


if __name__ == "__main__":
    main()
