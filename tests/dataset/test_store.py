import json
import shutil
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from genre_spark.dataset.rows import TENSORS_KEY, tensor_column, tensors_of
from genre_spark.dataset.store import MANIFEST, Dataset, open_dataset
from genre_spark.errors import DatasetError
from genre_spark.features import FeatureSpec, extract_file

SPEC = FeatureSpec(name="m", kind="mel_spectrogram", sample_rate=8_000, n_mels=3, n_frames=4)


def test_tensors_come_back_as_they_went_in() -> None:
    arrays = [np.random.default_rng(i).standard_normal(SPEC.shape).astype(np.float32) for i in range(5)]
    column = pa.chunked_array([tensor_column(arrays[:2], SPEC), tensor_column(arrays[2:], SPEC)])
    np.testing.assert_array_equal(tensors_of(column, SPEC), np.stack(arrays))
    np.testing.assert_array_equal(tensors_of(column.slice(1, 3), SPEC), np.stack(arrays[1:4]))


def test_a_column_of_no_rows_has_the_specs_shape() -> None:
    assert tensors_of(tensor_column([], SPEC), SPEC).shape == (0, 3, 4)


@pytest.mark.parametrize("rows", [[[1.0] * 12, None], [[1.0] * 12, [1.0] * 11]])
def test_a_null_or_ragged_row_is_refused(rows: list) -> None:
    with pytest.raises(DatasetError, match=r"'m' has rows that are not of shape \(3, 4\)"):
        tensors_of(pa.array(rows, pa.list_(pa.float32())), SPEC)


def test_pandas_duckdb_and_spark_read_the_same_tensors(dataset: Dataset, spark: object) -> None:
    track = dataset.tracks().to_pylist()[0]
    expected = extract_file(track["uri"], ["mfcc_mean"])["mfcc_mean"]
    folder = dataset.path / "features"
    by_pandas = pd.read_parquet(folder).set_index("track_id").loc[track["track_id"], "mfcc_mean"]
    query = f"select mfcc_mean from '{folder}/*.parquet' where track_id = ?"
    with duckdb.connect() as connection:
        (by_duckdb,) = connection.execute(query, [track["track_id"]]).fetchone()
    by_spark = spark.read.parquet(str(folder)).where(f"track_id = '{track['track_id']}'").first()["mfcc_mean"]
    for found in (by_pandas, by_duckdb, by_spark):
        np.testing.assert_array_equal(np.asarray(found, np.float32), expected)


def test_shape_spec_and_digest_stand_in_every_files_metadata(dataset: Dataset) -> None:
    for file in dataset.files():
        tensors = json.loads(pq.read_schema(file).metadata[TENSORS_KEY])
        assert {name: tuple(tensor["shape"]) for name, tensor in tensors.items()} == {
            spec.name: spec.shape for spec in dataset.manifest.specs
        }
        assert tensors["mfcc"]["digest"] == dataset.spec("mfcc").digest


def test_nothing_in_a_dataset_is_a_petastorm_pickle(dataset: Dataset) -> None:
    for file in dataset.files():
        keys = set(pq.read_metadata(file).metadata)
        assert keys == {TENSORS_KEY, b"ARROW:schema"}


def test_a_folder_without_a_manifest_is_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no dataset \(extraction\.json is missing\); make one with"):
        open_dataset(tmp_path)


def test_a_track_table_is_no_dataset_yet(corpus: Path) -> None:
    with pytest.raises(DatasetError, match=r"is a file, not a dataset; .* extract --tracks .*tracks\.parquet"):
        open_dataset(corpus)


def test_a_missing_feature_names_those_there_are_and_the_command(dataset: Dataset) -> None:
    with pytest.raises(DatasetError, match="has no feature 'chroma', only mfcc_mean, mfcc, melgram; extract anew with"):
        dataset.spec("chroma")


def test_a_dataset_that_lost_a_file_says_so(dataset: Dataset, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(dataset.path, tmp_path / "dataset"))
    Path(open_dataset(folder).files()[0]).unlink()
    with pytest.raises(
        DatasetError, match=r"can't be read: .*part-00001-000000\.parquet.*; extract it again with --overwrite"
    ):
        open_dataset(folder).tracks()


def test_a_file_cut_short_is_named(dataset: Dataset, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(dataset.path, tmp_path / "dataset"))
    file = Path(open_dataset(folder).files()[0])
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(DatasetError, match=r"can't be read: .*part-00001-000000\.parquet"):
        open_dataset(folder).tracks()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 99}, "format_version=99, this program reads 3; install a newer genre_spark"),
        ({"format_version": 2}, "format_version=2, this program reads 3; extract it again with --overwrite"),
        ({"files": "../elsewhere.parquet"}, "files: "),
        ({"counts": "many"}, "counts: "),
        ({"specs": []}, "specs: "),
        ({"surprise": 1}, "surprise: "),
    ],
)
def test_a_manifest_of_another_form_is_refused_by_name(
    dataset: Dataset, tmp_path: Path, change: dict, message: str
) -> None:
    content = json.loads((dataset.path / MANIFEST).read_text()) | change
    (tmp_path / MANIFEST).write_text(json.dumps(content))
    with pytest.raises(DatasetError, match=message):
        open_dataset(tmp_path)


def test_a_manifest_that_is_no_json_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text("{")
    with pytest.raises(DatasetError, match=r"extraction\.json: can't be read"):
        open_dataset(tmp_path)
