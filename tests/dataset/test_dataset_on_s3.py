"""A dataset on an object store: increments, crashes, plain readers, training's feed, and what a store refuses."""

# ruff: noqa: F811 (a fixture and the arguments that ask for it have one name)

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import duckdb
import numpy as np
import pandas as pd
import pyarrow.dataset
import pyarrow.fs as pafs
import pytest

from genre_spark.corpora.tracks import track_table
from genre_spark.dataset import assembly
from genre_spark.dataset.extract import extract
from genre_spark.dataset.feed import open_feed
from genre_spark.dataset.identity import sizes_and_times
from genre_spark.dataset.rows import FEATURES
from genre_spark.dataset.store import open_dataset
from genre_spark.errors import DatasetError
from genre_spark.folders import Folder
from genre_spark.settings import load_settings
from tests.dataset.library import SPECS, Library, assert_sound, content
from tests.s3_server import BUCKET, KEY, SECRET, s3, s3_server  # noqa: F401
from tests.s3_server import spark_with_store as session  # noqa: F401

DATA = f"s3://{BUCKET}/mü sic/data"
SETTINGS = load_settings(
    [], ["extract.min_file_mb=1", "extract.tracks_per_row_group=2", "extract.max_error_fraction=1"]
)


class Killed(BaseException):
    """Stands for a job's end: nothing catches it."""


def unneeded():
    raise AssertionError("asked for Spark where there is nothing to compute")


@pytest.fixture
def library(tmp_path):
    return Library(tmp_path / "library", tracks=3)


def filesystem(s3):
    _, _, endpoint = s3.endpoint.rpartition("/")
    return pafs.S3FileSystem(access_key=KEY, secret_key=SECRET, endpoint_override=endpoint, scheme="http")


def test_increments_give_what_a_fresh_extraction_gives_and_any_reader_sees_it(session, s3, library):
    extract(session, library.table(), SPECS, DATA, SETTINGS)
    library.change("track 001 ö")
    library.move("track 002 ö")
    library.spoil(library.add())
    stale = open_dataset(DATA)
    told = []
    dataset = extract(session, library.table(), SPECS, DATA, SETTINGS, on_progress=told.append)
    assert (told[-1].done, told[-1].told, dataset.manifest.commit) == (2, 1, 2)
    wanted = library.content()
    assert content(dataset) == wanted
    assert_sound(dataset, 2)
    again = extract(unneeded, library.table(), SPECS, DATA, SETTINGS)
    assert again.manifest == dataset.manifest
    with pytest.raises(DatasetError, match="was changed while it was read; open it again"):
        stale.tracks()

    tensors = {row["track_id"]: row["mel"] for row in wanted[FEATURES]}
    folder = f"{BUCKET}/mü sic/data/{FEATURES}"
    frame = pd.read_parquet(folder, filesystem=filesystem(s3))
    found = {
        name: np.array(x, np.float32).tobytes().hex() for name, x in zip(frame["track_id"], frame["mel"], strict=True)
    }
    assert found == tensors
    plain = pyarrow.dataset.dataset(folder, filesystem=filesystem(s3))
    with duckdb.connect() as connection:
        rows = connection.register("plain", plain).sql("SELECT track_id, mel FROM plain").fetchall()
    assert {name: np.array(x, np.float32).tobytes().hex() for name, x in rows} == tensors
    rows = session.createDataFrame(plain.to_table(columns=["track_id", "mel"])).collect()
    assert {name: np.array(x, np.float32).tobytes().hex() for name, x in rows} == tensors
    with open_feed(dataset, "mel", dict.fromkeys(tensors, 1), batch_size=2, seed=1) as feed:
        batches = list(feed.epoch(0))
    found = {name: x.tobytes().hex() for batch in batches for name, x in zip(batch.track_ids, batch.x, strict=True)}
    assert found == tensors


def test_a_job_that_dies_at_any_request_leaves_one_state_or_the_other(session, s3, library, monkeypatch):
    extract(session, library.table(), SPECS, DATA, SETTINGS)
    before = content(open_dataset(DATA))
    library.change("track 001 ö")
    library.spoil(library.add())
    with monkeypatch.context() as patch:
        patch.setattr(assembly, "commit", lambda *_: (_ for _ in ()).throw(Killed()))
        with pytest.raises(Killed):
            extract(session, library.table(), SPECS, DATA, SETTINGS)
    prefix = "mü sic/data/"
    stored = s3.client.list_objects_v2(Bucket=BUCKET, Prefix=prefix)["Contents"]
    kept = {each["Key"]: s3.client.get_object(Bucket=BUCKET, Key=each["Key"])["Body"].read() for each in stored}
    after, moment, at = library.content(), "before", 0
    while True:
        at += 3
        for each in s3.client.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", []):
            s3.client.delete_object(Bucket=BUCKET, Key=each["Key"])
        for key, body in kept.items():
            s3.put(key, body)
        with monkeypatch.context() as patch:
            left = at

            def dying(original):
                def step(self, item, *arguments):
                    nonlocal left
                    # The lease is given back as it is where a job ends with an error.
                    if not str(item).startswith("_lock"):
                        left -= 1
                        if left == 0:
                            raise Killed
                    return original(self, item, *arguments)

                return step

            for method in ("write", "_move", "_delete", "delete_folder"):
                patch.setattr(Folder, method, dying(getattr(Folder, method)))
            try:
                extract(unneeded, library.table(), SPECS, DATA, SETTINGS)
            except Killed:
                pass
            else:
                break
        now = content(open_dataset(DATA))
        if now == after:
            moment = "after"
        else:
            assert (now, moment) == (before, "before"), at
        told = []
        dataset = extract(unneeded, library.table(), SPECS, DATA, SETTINGS, on_progress=told.append)
        assert content(dataset) == after
        assert told[-1].done == 0
        assert_sound(dataset, 2)
    assert moment == "after"
    assert at > 10


def test_audio_in_a_bucket_that_changed_is_computed_anew_and_no_other(session, s3, library):
    rows = []
    for name in library.rows:
        s3.put(f"clips/{name}.wav", library.path(name))
        rows.append({"track_id": name, "uri": f"s3://{BUCKET}/clips/{name}.wav"})
    table = track_table([*rows, {"track_id": "gone", "uri": f"s3://{BUCKET}/clips/gone.wav"}], "test")
    extract(session, table, SPECS, DATA, SETTINGS)
    sizes, times = sizes_and_times(table["uri"].to_pylist())
    for uri, size, time in zip(table["uri"].to_pylist(), sizes.to_pylist(), times.to_pylist(), strict=True):
        if "gone" in uri:
            assert (size, time) == (None, None)
        else:
            head = s3.client.head_object(Bucket=BUCKET, Key=uri.removeprefix(f"s3://{BUCKET}/"))
            assert (size, int(time)) == (head["ContentLength"], int(head["LastModified"].timestamp()))
    extract(unneeded, table, SPECS, DATA, SETTINGS)
    library.path("track 002 ö").write_bytes(library.path("track 002 ö").read_bytes() + bytes(2))
    s3.put("clips/track 002 ö.wav", library.path("track 002 ö"))
    s3.put("clips/gone.wav", library.path("track 001 ö"))
    told = []
    dataset = extract(session, table, SPECS, DATA, SETTINGS, on_progress=told.append)
    assert (told[-1].done, dataset.manifest.counts["errors"]) == (2, 0)


def test_a_missing_bucket_is_named(s3, library):
    with pytest.raises(
        DatasetError, match=r"^s3://no-such-bucket/data.*: .*no such bucket; make it, or check"
    ) as caught:
        extract(unneeded, library.table(), SPECS, "s3://no-such-bucket/data", SETTINGS)
    assert "\n" not in str(caught.value)


class Refusing(BaseHTTPRequestHandler):
    """A store that knows nobody."""

    def _refuse(self):
        body = b"<Error><Code>InvalidAccessKeyId</Code><Message>Access Denied</Message></Error>"
        self.send_response(403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _refuse  # noqa: N815

    def log_message(self, *_arguments):
        pass


def test_refused_credentials_are_named_without_a_secret(s3, library, monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    try:
        for address in (DATA, f"s3://{BUCKET}"):
            with pytest.raises(DatasetError, match=rf"^s3://{BUCKET}.*: access denied.*; check the cred") as caught:
                extract(unneeded, library.table(), SPECS, address, SETTINGS)
            assert SECRET not in str(caught.value)
            assert KEY not in str(caught.value)
            assert "\n" not in str(caught.value)
    finally:
        server.shutdown()
        server.server_close()
