"""The stores that pyarrow opens itself, with bounded waits: S3, Google Cloud Storage, Azure, HDFS."""

import configparser
import os
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow.fs as pafs

S3_SCHEMES = ("s3", "s3a")  # s3a is Hadoop's and Spark's name for it
NATIVE_SCHEMES = frozenset({*S3_SCHEMES, "gs", "gcs", "abfs", "abfss", "hdfs"})

# A store that doesn't answer must not hold up a job: three tries, each given up after these many seconds.
CONNECT_TIMEOUT_S = 5
SILENCE_TIMEOUT_S = 15
ATTEMPTS = 3

_PREFIXES = ("AWS_", "AZURE_", "GOOGLE_", "STORAGE_EMULATOR_HOST")


def store_environment() -> frozenset[tuple[str, str]]:
    """Environment variables that decide how a store is opened: a file system holds for one set of them."""
    return frozenset(item for item in os.environ.items() if item[0].startswith(_PREFIXES))


def native_filesystem(
    scheme: str, authority: str, process: int, environment: frozenset[tuple[str, str]]
) -> tuple[pafs.FileSystem, str]:
    """File system of a store, and the path there that its addresses begin with.

    `process` and `environment` are only what a cache of the results must tell apart.
    """
    if scheme in S3_SCHEMES:
        return _s3(), authority
    if scheme in ("gs", "gcs"):
        # pyarrow's own limit is a quarter of an hour.
        return pafs.GcsFileSystem(retry_time_limit=timedelta(seconds=ATTEMPTS * SILENCE_TIMEOUT_S)), authority
    if scheme == "hdfs":
        filesystem, _ = pafs.FileSystem.from_uri(f"hdfs://{authority}/")
        return filesystem, "/"
    container, _, host = authority.rpartition("@")
    key = os.environ.get("AZURE_STORAGE_KEY")
    if key is not None and host.endswith(".core.windows.net"):
        return pafs.AzureFileSystem(host.split(".")[0], account_key=key), container
    filesystem, path = pafs.FileSystem.from_uri(f"{scheme}://{authority}/")
    return filesystem, path.rstrip("/")


def _s3() -> pafs.S3FileSystem:
    # pyarrow honours neither AWS_ENDPOINT_URL nor, in all its ways of opening a bucket, the region's two variables.
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    address = urlsplit(endpoint if "://" in endpoint else f"https://{endpoint}")
    return pafs.S3FileSystem(
        region=_region(),
        endpoint_override=(address.netloc + address.path.rstrip("/")) or None,
        scheme=address.scheme,
        connect_timeout=CONNECT_TIMEOUT_S,
        request_timeout=SILENCE_TIMEOUT_S,
        retry_strategy=pafs.AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS),
        # A small object is one request instead of three, and a killed process leaves no upload open.
        allow_delayed_open=True,
    )


def _region() -> str:
    """Region from the environment or the profile; asking the network for a bucket's would hang where there is none."""
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if region:
        return region
    profile = os.environ.get("AWS_PROFILE", "default")
    profiles = configparser.ConfigParser(interpolation=None)
    try:
        profiles.read(Path(os.environ.get("AWS_CONFIG_FILE", "~/.aws/config")).expanduser())
        section = profile if profile == "default" else f"profile {profile}"
        return profiles.get(section, "region", fallback="us-east-1")
    except (configparser.Error, OSError, RuntimeError, UnicodeDecodeError):
        # The AWS library reads the file too and says what is wrong with it.
        return "us-east-1"
