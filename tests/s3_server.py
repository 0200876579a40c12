"""A real S3 server on loopback, for tests of audio and tables that don't lie on this machine."""

import logging
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

BUCKET = "music"
KEY = "test-key-1234"
SECRET = "a/test+secret-5678"


@dataclass(frozen=True)
class S3:
    """The server's address, the variables under which it is found, and a client that isn't pyarrow's."""

    endpoint: str
    client: Any

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_REGION": "eu-central-1",
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
        }

    def put(self, key: str, content: bytes | Path = b"") -> None:
        body = content.read_bytes() if isinstance(content, Path) else content
        self.client.put_object(Bucket=BUCKET, Key=key, Body=body)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3]:
    boto3 = pytest.importorskip("boto3")
    moto = pytest.importorskip("moto.server")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line per request
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    endpoint = f"http://127.0.0.1:{port}"
    client = boto3.client(
        "s3", endpoint_url=endpoint, region_name="eu-central-1", aws_access_key_id=KEY, aws_secret_access_key=SECRET
    )
    yield S3(endpoint, client)
    server.stop()


@pytest.fixture
def s3(s3_server: S3, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
    """The server with an empty bucket, and an environment that leads there and nowhere else."""
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_SESSION_TOKEN", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {**s3_server.environment, "AWS_EC2_METADATA_DISABLED": "true"}.items():
        monkeypatch.setenv(name, value)
    location = {"LocationConstraint": "eu-central-1"}
    s3_server.client.create_bucket(Bucket=BUCKET, CreateBucketConfiguration=location)
    yield s3_server
    request = urllib.request.Request(f"{s3_server.endpoint}/moto-api/reset", method="POST")
    urllib.request.urlopen(request).close()


@pytest.fixture
def spark_with_store(spark, s3):
    """The session; its Python workers get the variables that on a cluster stand in the nodes' environment."""
    environment = spark.sparkContext.environment
    before = dict(environment)
    environment.update(s3.environment, AWS_EC2_METADATA_DISABLED="true")
    yield spark
    environment.clear()
    environment.update(before)
