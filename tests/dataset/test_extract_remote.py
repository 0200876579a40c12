"""Extraction from a bucket: the same bytes as from disk, by workers that know the store from their environment."""

# ruff: noqa: F811 (a fixture and the arguments that ask for it have one name)

import pyarrow as pa
import pyarrow.dataset

from genre_spark.corpora.folder import load_folder
from genre_spark.dataset.extract import extract
from genre_spark.features import resolve_specs
from tests.s3_server import SECRET, s3, s3_server, spark_with_store  # noqa: F401


def rows(dataset, kind):
    return pyarrow.dataset.dataset(sorted((dataset.path / kind).iterdir())).to_table().sort_by("track_id")


def test_features_of_a_bucket_are_byte_for_byte_those_of_the_same_files_on_disk(
    spark_with_store,
    s3,
    write_clip,
    tmp_path,
    settings,
):
    library = tmp_path / "library" / "röck #1"
    library.mkdir(parents=True)
    for seed, extension in enumerate(["wav", "flac", "mp3", "ogg"]):
        clip = write_clip(f"{seed}.{extension}", seconds=2.0, seed=seed).rename(library / f"{seed} %.{extension}")
        s3.put(f"library/röck #1/{clip.name}", clip)
    (library / "bad.mp3").write_bytes(b"no audio at all")
    s3.put("library/röck #1/bad.mp3", b"no audio at all")
    remote = load_folder("s3://music/library")
    assert remote["track_id"].equals(load_folder(library.parent)["track_id"])
    gone = {"track_id": "gone", "uri": "s3://music/library/gone.mp3"}
    remote = pa.concat_tables([remote, pa.Table.from_pylist([gone], schema=remote.schema)])

    specs = resolve_specs(["mfcc_mean", "melgram"])
    from_bucket = extract(spark_with_store, remote, specs, tmp_path / "remote", settings)
    from_disk = extract(spark_with_store, load_folder(library.parent), specs, tmp_path / "local", settings)
    assert from_bucket.manifest.counts == {"tracks": 6, "features": 4, "rows": 4, "errors": 2}
    # The stores have clocks of their own, and the bytes of the copies are the same.
    own = ["uri", "audio_modified"]
    assert rows(from_bucket, "features").drop_columns(own).equals(rows(from_disk, "features").drop_columns(own))
    errors = from_bucket.errors().sort_by("track_id").to_pylist()
    assert [error["error"] for error in errors] == ["AudioNotFound", "AudioUndecodable"]
    assert errors[0]["detail"] == "s3://music/library/gone.mp3: no such file or folder; check the bucket's name too"
    assert SECRET not in str(errors)
