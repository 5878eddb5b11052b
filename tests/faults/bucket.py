"""A search that is kept in a bucket, as its users run it; the journal is read there, without the
product's help.
"""

import json
from pathlib import Path
from typing import Any

import boto3

from tests.faults.harness import Search
from tests.support.services import S3


class BucketSearch(Search):
    """One that reaches its bucket under `endpoint`."""

    def __init__(self, folder: Path, server: S3, endpoint: str = "") -> None:
        super().__init__(folder)
        self.server, self.endpoint = server, endpoint or server.endpoint
        self.where = f"s3://{server.bucket}/{folder.name}"
        self.client = boto3.client(
            "s3",
            endpoint_url=server.endpoint,
            aws_access_key_id=server.key,
            aws_secret_access_key=server.secret,
            region_name="us-east-1",
        )
        self.machine = "first"
        """Where its driver runs: each machine has a disk of its own."""

    @property
    def environment(self) -> dict[str, str]:
        """The variables that its processes get."""
        reach = {**self.server.environment, "AWS_ENDPOINT_URL": self.endpoint}
        return {
            **super().environment,
            **reach,
            "XDG_CACHE_HOME": str(self.folder / f"{self.machine} machine"),
        }

    def start(self, verb: str, *words: object, **options: Any) -> Search:
        """Start a verb."""
        return super().start(verb, "--storage", self.where, *words, **options)

    def keys(self) -> list[str]:
        """Return the keys of its objects in the bucket."""
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.server.bucket, Prefix=f"{self.folder.name}/{self.name}/"
        )
        return [
            one["Key"].removeprefix(f"{self.folder.name}/{self.name}/")
            for page in pages
            for one in page.get("Contents", ())
        ]

    def events(self, kind: str = "") -> list[dict[str, Any]]:
        """The journal's whole lines, piece by piece."""
        pieces = sorted(key for key in self.keys() if key.startswith("journal.jsonl/"))
        read = (
            self.client.get_object(
                Bucket=self.server.bucket, Key=f"{self.folder.name}/{self.name}/{piece}"
            )["Body"].read()
            for piece in pieces
        )
        return [
            event
            for event in map(json.loads, b"".join(read).splitlines())
            if kind in ("", event["event"])
        ]
