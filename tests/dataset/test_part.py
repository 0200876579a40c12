import ctypes
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from genre_spark.dataset import part as part_module
from genre_spark.dataset.ledger import PLAN_SCHEMA
from genre_spark.dataset.part import Part
from genre_spark.errors import EnvironmentSetupError, FeatureSpecError
from genre_spark.features import extract_file
from genre_spark.features.spec import FeatureSpec, Segments
from genre_spark.settings import AudioSettings

SPEC = FeatureSpec(
    name="small", kind="mel_spectrogram", sample_rate=8_000, n_fft=256, hop_length=128, n_mels=4, summary="mean"
)

HEAVY = {
    "pandas", "librosa", "numba", "sklearn", "tensorflow", "torch", "duckdb", "pyarrow.compute", "pydantic_settings",
    "yaml", "genre_spark.settings",
}  # fmt: skip


@pytest.fixture(autouse=True)
def own_process() -> Iterator[None]:
    """No process that another test made, and none is left."""
    part_module._PROCESSES.clear()
    yield
    for process in part_module._PROCESSES.values():
        process.close()
    part_module._PROCESSES.clear()


@pytest.fixture
def work(tmp_path: Path, write_clip: Callable[..., Path]) -> Path:
    """A job's folder with a plan of three tasks of two clips each."""
    with pq.ParquetWriter(tmp_path / "plan-00000.parquet", PLAN_SCHEMA) as writer:
        for task in range(3):
            clips = [write_clip(f"{task}{n}.wav", seconds=0.3, rate=8_000, seed=10 * task + n) for n in range(2)]
            rows = [{"track_id": clip.stem, "uri": clip.as_uri(), "audio_bytes": clip.stat().st_size} for clip in clips]
            writer.write_table(pa.Table.from_pylist(rows, schema=PLAN_SCHEMA))
    return tmp_path


def rows(work: Path, receipts: list) -> dict[str, np.ndarray]:
    tables = [
        pq.read_table(work / file.name) for receipt in receipts for file in receipt.files if file.table == "features"
    ]
    return {row["track_id"]: np.array(row["small"]) for table in tables for row in table.to_pylist()}


def child_pid() -> int:
    (process,) = part_module._PROCESSES.values()
    assert process._child is not None
    return process._child.pid


def test_tasks_of_one_worker_share_the_process_that_reads_files(work: Path) -> None:
    receipts, pids = [], []
    for task in range(3):
        # Each task brings its own copy along, as one that came through a pickle.
        receipts.append(Part(str(work), [SPEC.model_copy()], AudioSettings(), 16)(task))
        pids.append(child_pid())
    assert len(set(pids)) == 1
    assert sorted(rows(work, receipts)) == ["00", "01", "10", "11", "20", "21"]
    for name, array in rows(work, receipts).items():
        np.testing.assert_array_equal(array, extract_file(work / f"{name}.wav", [SPEC])["small"])
    assert all(receipt.core_s > 0 for receipt in receipts)


def test_another_job_in_the_same_worker_gets_another_process(work: Path) -> None:
    Part(str(work), [SPEC], AudioSettings(), 16)(0)
    first = child_pid()
    other = SPEC.model_copy(update={"n_mels": 5})
    Part(str(work), [other], AudioSettings(), 16)(1)
    assert child_pid() != first
    with pytest.raises(ProcessLookupError):
        os.kill(first, 0)


def test_a_file_that_crashes_the_decoder_is_one_error_row_and_the_rest_is_delivered(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed = part_module._computed

    def crashing(*arguments: object) -> object:
        if "10.wav" in str(arguments[-1]):
            ctypes.string_at(0)  # a real segmentation fault
        return computed(*arguments)

    monkeypatch.setattr(part_module, "_computed", crashing)
    receipts = [Part(str(work), [SPEC], AudioSettings(), 16)(task) for task in range(3)]
    assert sorted(rows(work, receipts)) == ["00", "01", "11", "20", "21"]
    assert [receipt.errors for receipt in receipts] == [{}, {"AudioCrashed": 1}, {}]
    (file,) = (file for file in receipts[1].files if file.table == "errors")
    (error,) = pq.read_table(work / file.name).to_pylist()
    assert error["track_id"] == "10"
    # The path, as all other errors name a file, and not the address that stands in the table.
    assert error["detail"].startswith(f"{work / '10.wav'}: the process that reads it died of SIGSEGV, twice; ")


def test_a_process_that_was_killed_between_two_tasks_costs_no_track(work: Path) -> None:
    part = Part(str(work), [SPEC], AudioSettings(), 16)
    receipts = [part(0)]
    os.kill(child_pid(), signal.SIGKILL)
    receipts += [part(1), part(2)]
    assert sorted(rows(work, receipts)) == ["00", "01", "10", "11", "20", "21"]
    assert not any(receipt.errors for receipt in receipts)


@pytest.mark.parametrize("specs", [["impossible"], ["small", "impossible"]])
def test_a_feature_that_can_not_be_computed_is_one_error_that_names_it_and_no_fault_of_a_track(
    work: Path, specs: list[str]
) -> None:
    # As a spec would come that the check lets through.
    impossible = SPEC.model_copy(update={"name": "impossible", "n_fft": 2**50, "segments": Segments(count=10_000)})
    part = Part(str(work), [{"small": SPEC, "impossible": impossible}[name] for name in specs], AudioSettings(), 16)
    with pytest.raises(FeatureSpecError) as caught:
        part(0)
    assert str(caught.value).startswith("features.impossible: can't be computed, even of silence: ")
    assert "MemoryError: Unable to allocate" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(work.glob("features/*"))
    assert not list(work.glob("errors/*"))


def test_a_library_that_is_not_installed_is_named_and_no_fault_of_a_feature(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "genre_spark.features.compute", None)
    with pytest.raises(EnvironmentSetupError, match=r"features\.compute .*; install genre-spark\[features\] on every"):
        Part(str(work), [SPEC], AudioSettings(), 16)(0)


def test_a_feature_that_is_no_number_is_named_with_the_path_of_the_file(tmp_path: Path) -> None:
    clip = tmp_path / "a b.wav"
    soundfile.write(clip, np.full(8_000, 1e20, np.float32), 8_000, subtype="FLOAT")
    with pq.ParquetWriter(tmp_path / "plan-00000.parquet", PLAN_SCHEMA) as writer:
        row = {"track_id": "a", "uri": clip.as_uri(), "audio_bytes": clip.stat().st_size}
        writer.write_table(pa.Table.from_pylist([row], schema=PLAN_SCHEMA))
    (file,) = Part(str(tmp_path), [SPEC], AudioSettings(), 16)(0).files
    (error,) = pq.read_table(tmp_path / file.name).to_pylist()
    assert (error["error"], error["uri"]) == ("AudioNotFinite", clip.as_uri())
    assert error["detail"] == f"{clip}: feature small comes out as NaN or infinity"


def test_a_worker_imports_nothing_heavy_that_it_does_not_need(work: Path) -> None:
    part = Part(str(work), (SPEC,), AudioSettings(), tracks_per_row_group=1)
    code = (
        "import pickle, sys\n"
        "receipt = pickle.load(sys.stdin.buffer)(0)\n"
        "assert receipt.files[0].rows == 2\n"
        f"print(*sorted({HEAVY} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], input=pickle.dumps(part), capture_output=True, check=True)
    assert done.stdout.decode().split() == []
