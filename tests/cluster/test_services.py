"""The services of the cluster tests are what they are said to be."""

import urllib.error
import urllib.request
from pathlib import Path

import boto3
import pytest
from botocore.exceptions import ClientError
from mlflow import MlflowClient

from tests.cluster.services import S3, mlflow_server, postgres, seaweedfs

pytestmark = pytest.mark.slow


def client(server: S3, secret: str) -> "boto3.client":
    return boto3.client("s3", endpoint_url=server.endpoint, aws_access_key_id=server.key, aws_secret_access_key=secret, region_name="us-east-1")


def test_mlflow_keeps_runs_in_postgresql_and_artifacts_in_a_bucket_that_is_closed_to_others(tmp_path: Path) -> None:
    with (
        seaweedfs(tmp_path) as bucket,
        postgres() as database,
        mlflow_server(tmp_path, database, f"s3://{bucket.bucket}/mlflow", environment=bucket.environment) as url,
    ):
        tracking = MlflowClient(url)
        run = tracking.create_run(tracking.create_experiment("e")).info
        tracking.log_text(run.run_id, "hello", "a.txt")
        mine = client(bucket, bucket.secret)
        keys = [one["Key"] for one in mine.list_objects_v2(Bucket=bucket.bucket)["Contents"]]
        assert [key for key in keys if key.endswith("/a.txt")]
        with pytest.raises(ClientError, match=r"SignatureDoesNotMatch|AccessDenied|Forbidden"):
            client(bucket, "wrong").list_objects_v2(Bucket=bucket.bucket)
        wrong_host = urllib.request.Request(f"{url}/api/2.0/mlflow/experiments/get?experiment_id=0", headers={"Host": "elsewhere"})
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(wrong_host, timeout=30)
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(bucket.endpoint, timeout=5)
