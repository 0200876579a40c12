import json
import os
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from genre_spark.corpora.tracks import TRACK_SCHEMA, check_tracks, track_table
from genre_spark.dataset.audit import AUDIT, AUDIT_SCHEMA, clean_tracks, validate, with_pcm_hashes
from genre_spark.dataset.audit_summary import (
    EXAMPLES,
    PROBLEMS,
    SUMMARY,
    SUMMARY_TEXT,
    AuditSummary,
    read_summary,
    render_summary,
)  # fmt: skip
from genre_spark.errors import CorpusError
from genre_spark.features.audio import decode
from genre_spark.features.measure import pcm_hash
from genre_spark.settings import Settings, load_settings

RATE = 8_000


def noise(seconds: float, *, seed: int, level: float = 0.3, rate: int = RATE, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-level, level, (round(seconds * rate), channels))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The known faults of real corpora, as made-up files in a folder whose name says something to Hadoop."""
    root = tmp_path_factory.mktemp("corpus") / "genre=[Rock] 100 %"
    root.mkdir()
    for number in range(12):
        rate, channels = (44_100, 48_000, 22_050, RATE)[number % 4], 1 + number % 2
        clip = noise(5.5, seed=number, rate=rate, channels=channels)
        soundfile.write(root / f"good{number:02d}.wav", clip, rate)
    for number, seconds in enumerate((0.5, 1.0, 1.6)):
        soundfile.write(root / f"short{number}.flac", noise(seconds, seed=100 + number), RATE)
    soundfile.write(root / "quiet.wav", noise(6.0, seed=200, level=0.0005), RATE)
    soundfile.write(root / "silence1.wav", np.zeros(6 * RATE), RATE)
    soundfile.write(root / "silence2.wav", np.zeros(6 * RATE), RATE)
    soundfile.write(root / "loud.wav", np.clip(4 * noise(6.0, seed=201), -1, 1), RATE)
    for number in range(3):
        clip = (32_767 * noise(6.0, seed=300 + number)).astype(np.int16)
        soundfile.write(root / f"pair{number}a.wav", clip, RATE)
        soundfile.write(root / f"pair{number}b.flac", clip, RATE)
    soundfile.write(root / "pair0c.aiff", (32_767 * noise(6.0, seed=300)).astype(np.int16), RATE)
    soundfile.write(root / "is_wav.wav", noise(6.0, seed=400), RATE)
    (root / "is_wav.wav").rename(root / "is_wav.mp3")
    soundfile.write(root / "is_ogg.ogg", noise(6.0, seed=401), RATE)
    (root / "is_ogg.ogg").rename(root / "is_ogg.wav")
    wrong = noise(6.0, seed=402)
    wrong[100] = np.nan
    soundfile.write(root / "nan.wav", wrong, RATE, subtype="FLOAT")
    (root / "random.mp3").write_bytes(np.random.default_rng(1).integers(0, 256, 50_000, dtype=np.uint8).tobytes())
    (root / "header.wav").write_bytes((root / "good00.wav").read_bytes()[:30])
    for name in ("page1.mp3", "page2.mp3"):
        (root / name).write_bytes(b"<!DOCTYPE html><html><body>404 Not Found</body></html>\n" * 40)
    (root / "empty1.mp3").touch()
    (root / "empty2.mp3").touch()
    (root / "folder.mp3").mkdir()
    soundfile.write(root / "odd.wav", noise(6.0, seed=403), RATE)
    (root / "odd.wav").rename(os.fsdecode(os.fsencode(root) + b"/odd\xe9.wav"))
    Path(os.fsdecode(os.fsencode(root) + b"/bad\xe9.wav")).write_bytes(b"no audio" * 99)
    return root


WANTED = {
    "short0": ["too_short"],
    "short1": ["too_short"],
    "short2": ["too_short"],
    "quiet": ["silent"],
    "silence1": ["silent"],
    "silence2": ["silent"],
    "loud": ["clipped"],
    "pair0b": ["duplicate"],
    "pair0c": ["duplicate"],
    "pair1b": ["duplicate"],
    "pair2b": ["duplicate"],
    "is_wav": ["mislabelled_extension"],
    "is_ogg": ["mislabelled_extension"],
    "page2": ["broken", "duplicate"],
    **{
        name: ["broken"]
        for name in ("nan", "random", "header", "page1", "empty1", "empty2", "folder", "missing1", "missing2", "bad_")
    },
}


@pytest.fixture(scope="module")
def tracks(folder: Path) -> pa.Table:
    rows: list[dict[str, Any]] = []
    for number, path in enumerate([*sorted(folder.iterdir()), folder / "missing1.mp3", folder / "missing2.mp3"]):
        genre = None if path.stem == "quiet" else ("Rock", "Folk", "Pop")[number % 3]
        name = path.stem.encode("ascii", "replace").decode().replace("?", "_")
        rows.append({"track_id": name, "uri": path.as_uri(), "genre": genre, "artist": f"artist {name[:5]}"})
    genres = {"pair0a": "Rock", "pair0b": "Folk", "pair0c": None, "pair1a": "Pop", "pair1b": "Pop"}
    for row in rows:
        row["genre"] = genres.get(row["track_id"], row["genre"])
        if row["track_id"] == "pair2b":
            row |= {"genre": next(r["genre"] for r in rows if r["track_id"] == "pair2a"), "artist": "somebody else"}
    return track_table(rows, "test")


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("audits") / "key=[value] ä" / "audit"


@pytest.fixture(scope="module")
def told() -> list[int]:
    """How many tracks were done, each time that it was told."""
    return []


@pytest.fixture(scope="module")
def summary(spark: object, tracks: pa.Table, out: Path, settings: Settings, told: list[int]) -> AuditSummary:
    return validate(spark, tracks, out, settings, on_tracks=told.append)


@pytest.fixture(scope="module")
def rows(summary: AuditSummary, out: Path) -> pd.DataFrame:
    return pq.ParquetFile(out / AUDIT).read().to_pandas().set_index("track_id", drop=False)


def test_every_track_stands_in_the_audit_once_sorted(rows: pd.DataFrame, tracks: pa.Table) -> None:
    assert rows["track_id"].tolist() == tracks["track_id"].to_pylist()


def test_every_fault_is_found_and_no_other(rows: pd.DataFrame) -> None:
    found = {track_id: list(problems) for track_id, problems in rows["problems"].items() if len(problems)}
    assert found == WANTED


def test_the_tracks_columns_stay_and_the_hash_is_filled_in(out: Path, rows: pd.DataFrame, tracks: pa.Table) -> None:
    table = pq.ParquetFile(out / AUDIT).read()
    assert table.schema.names == AUDIT_SCHEMA.names
    assert [table.schema.field(name).type for name in AUDIT_SCHEMA.names] == AUDIT_SCHEMA.types
    kept = check_tracks(table, "audit")
    others = [name for name in TRACK_SCHEMA.names if name != "pcm_hash"]
    assert kept.select(others).equals(tracks.select(others))
    for track_id in ("good03", "short1", "pair2b", "is_ogg"):
        assert rows["pcm_hash"][track_id] == pcm_hash(decode(rows["uri"][track_id]).samples)


def test_copies_point_to_the_first_of_their_group(rows: pd.DataFrame) -> None:
    groups = rows.groupby("duplicate_group")["track_id"].apply(list).to_dict()
    assert groups == {
        "page1": ["page1", "page2"],
        "pair0a": ["pair0a", "pair0b", "pair0c"],
        "pair1a": ["pair1a", "pair1b"],
        "pair2a": ["pair2a", "pair2b"],
    }
    copies = rows[rows["duplicate_of"].notna()]
    assert (copies["duplicate_of"] == copies["duplicate_group"]).all()
    assert set(copies["track_id"]) == {"page2", "pair0b", "pair0c", "pair1b", "pair2b"}


def test_pandas_duckdb_and_spark_read_the_same(spark: Any, out: Path, rows: pd.DataFrame) -> None:
    by_duckdb = duckdb.read_parquet(str(out / AUDIT).replace("[", "[[]")).order("track_id").fetchall()
    assert [row[0] for row in by_duckdb] == rows["track_id"].tolist()
    assert pd.read_parquet(out / AUDIT, partitioning=None)["uri"].tolist() == rows["uri"].tolist()
    by_spark = spark.read.option("mergeSchema", "false").parquet(
        str(out / AUDIT).replace("[", "\\[").replace("]", "\\]")
    )
    assert sorted(row.track_id for row in by_spark.collect()) == rows["track_id"].tolist()


def test_the_counts_are_those_of_pandas(summary: AuditSummary, rows: pd.DataFrame) -> None:
    exploded = rows.explode("problems")
    assert summary.problems == {p: int((exploded["problems"] == p).sum()) for p in PROBLEMS}
    has_problem = rows["problems"].map(len) > 0
    assert (summary.tracks, summary.with_problems) == (len(rows), int(has_problem.sum()))
    assert summary.hours == pytest.approx(rows["decoded_s"].sum() / 3_600, abs=1e-4)
    columns = {
        "genres": rows["genre"].fillna("null"),
        "errors": rows["error"],
        "channels": rows["channels"].map("{:.0f}".format).where(rows["channels"].notna()),
        "sample_rates": rows["sample_rate"].map("{:.0f}".format).where(rows["sample_rate"].notna()),
        "formats": (rows["format"] + "/" + rows["codec"]),
    }
    for name, column in columns.items():
        facets = getattr(summary, name)
        assert {value: facet.tracks for value, facet in facets.items()} == column.value_counts().to_dict(), name
        faulty = has_problem.groupby(column).sum().to_dict()
        assert {value: facet.with_problems for value, facet in facets.items()} == faulty
        hours = (rows["decoded_s"].groupby(column).sum() / 3_600).to_dict()
        assert {value: facet.hours for value, facet in facets.items()} == pytest.approx(hours, abs=1e-4)
    quantiles = {float(q): s for q, s in summary.duration_quantiles_s.items()}
    assert quantiles == pytest.approx(rows["decoded_s"].dropna().quantile(list(quantiles)).to_dict(), abs=1e-3)


def test_groups_whose_labels_contradict_each_other_come_first(summary: AuditSummary) -> None:
    assert (summary.duplicate_groups, summary.contradicting_groups) == (4, 2)
    assert [(group.first[0].track_id, group.tracks, group.differ) for group in summary.first_groups] == [
        ("pair0a", 3, ["genre"]),
        ("pair2a", 2, ["artist"]),
        ("page1", 2, []),
        ("pair1a", 2, []),
    ]
    assert [(copy.track_id, copy.genre) for copy in summary.first_groups[0].first] == [
        ("pair0a", "Rock"),
        ("pair0b", "Folk"),
        ("pair0c", None),
    ]


def test_examples_say_what_shows_the_fault(summary: AuditSummary) -> None:
    reasons = {p: {e.track_id: e.reason for e in examples} for p, examples in summary.examples.items()}
    assert reasons["too_short"] == {"short0": "0.50 s", "short1": "1.00 s", "short2": "1.60 s"}
    assert reasons["silent"]["silence1"] == "digital silence"
    assert reasons["silent"]["quiet"].startswith("-70.")
    assert reasons["duplicate"]["pair0c"] == "copy of pair0a"
    assert reasons["mislabelled_extension"] == {"is_ogg": "is OGG/VORBIS", "is_wav": "is WAV/PCM_16"}
    assert reasons["broken"]["missing1"].startswith("AudioNotFound: ")
    assert reasons["broken"]["nan"].startswith("AudioNotFinite: ")
    assert list(reasons) == [name for name in PROBLEMS if name in reasons]


def test_the_summary_on_disk_is_the_one_that_was_returned(summary: AuditSummary, out: Path) -> None:
    assert read_summary(out) == summary
    assert json.loads((out / SUMMARY).read_text())["limits"] == {
        "min_duration_s": 5.0,
        "silent_dbfs": -60.0,
        "max_clipped": 0.001,
    }
    assert (out / SUMMARY_TEXT).read_text() == render_summary(summary)
    assert sorted(path.name for path in out.iterdir()) == [AUDIT, SUMMARY, SUMMARY_TEXT]
    assert [path.name for path in out.parent.iterdir()] == ["audit"]


def test_the_page_names_every_problem_and_every_group(summary: AuditSummary) -> None:
    page = render_summary(summary)
    for name, count in summary.problems.items():
        assert f"| {name} | {count} |" in page
    assert "4 groups. In 2 of them copies carry different genres or artists" in page
    assert "| 1 | pair0b | Folk | artist pair0 | differ in genre |" in page


def test_a_name_from_the_corpus_breaks_no_table_and_becomes_no_html(summary: AuditSummary) -> None:
    strange = summary.examples["broken"][0].model_copy(update={"track_id": "a|b\n<script>"})
    page = render_summary(summary.model_copy(update={"examples": {"broken": [strange]}}))
    assert "| a&#124;b &lt;script&gt; |" in page


def test_a_second_run_needs_overwrite(
    tracks: pa.Table, summary: AuditSummary, out: Path, settings: Settings, tmp_path: Path
) -> None:
    nothing: Any = None  # refused before there is work for Spark
    with pytest.raises(CorpusError, match=r"holds an audit already; replace it with --overwrite"):
        validate(nothing, tracks, out, settings)
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(CorpusError, match="exists and is no audit"):
        validate(nothing, tracks, tmp_path, settings, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_an_audit_of_nothing_readable_gives_way_to_one_with_the_same_rows_whatever_the_tasks(
    spark: object, tracks: pa.Table, summary: AuditSummary, rows: pd.DataFrame, settings: Settings, tmp_path: Path
) -> None:
    audit = tmp_path / "a"
    gone = track_table([{"track_id": f"{n}", "uri": f"file:///nowhere/{n}.mp3"} for n in range(30)], "test")
    empty = validate(spark, gone, audit, settings)
    assert (empty.tracks, empty.problems["broken"], empty.hours) == (30, 30, 0.0)
    assert len(empty.examples["broken"]) == EXAMPLES
    assert (empty.duration_quantiles_s, empty.duplicate_groups) == ({}, 0)
    assert "## broken: 30 (the first 20)" in render_summary(empty)
    with pytest.raises(CorpusError, match="nothing is left"):
        clean_tracks(gone, audit)

    # Another number of tasks, another order of the tracks.
    few = settings.model_copy(update={"extract": load_settings([], ["extract.tracks_per_task=10"]).extract})
    again = validate(spark, tracks.take(list(range(tracks.num_rows))[::-1]), audit, few, overwrite=True)
    pd.testing.assert_frame_equal(pq.ParquetFile(audit / AUDIT).read().to_pandas(), rows.reset_index(drop=True))
    changing = {"created", "wall_s"}
    assert again.model_dump(exclude=changing) == summary.model_dump(exclude=changing)
    assert read_summary(audit) == again
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_progress_is_told_and_ends_with_all(summary: AuditSummary, told: list[int]) -> None:
    assert told == sorted(told)
    assert told[-1] == summary.tracks


def test_cleaning_leaves_out_what_is_broken_too_short_or_silent(
    summary: AuditSummary, out: Path, tracks: pa.Table
) -> None:
    useless = {name for name, problems in WANTED.items() if {"broken", "too_short", "silent"} & set(problems)}
    clean = clean_tracks(tracks, out)
    assert clean["track_id"].to_pylist() == [name for name in tracks["track_id"].to_pylist() if name not in useless]
    assert clean.schema.equals(TRACK_SCHEMA)
    assert clean["pcm_hash"].null_count == 0
    assert clean.drop(["pcm_hash"]).num_columns == len(TRACK_SCHEMA) - 1


def test_hashes_are_filled_in_for_a_part_of_the_tracks_in_their_order(
    summary: AuditSummary, out: Path, rows: pd.DataFrame, tracks: pa.Table
) -> None:
    part = tracks.take([20, 3, 11])
    filled = with_pcm_hashes(part, out)
    assert filled["track_id"].to_pylist() == part["track_id"].to_pylist()
    for track in filled.to_pylist():
        assert track["pcm_hash"] == rows["pcm_hash"][track["track_id"]]


def test_tracks_that_were_not_audited_are_named(summary: AuditSummary, out: Path, tracks: pa.Table) -> None:
    first = tracks.slice(0, 1).to_pylist()[0]
    for stranger in ({**first, "track_id": "new"}, {**first, "uri": "file:///elsewhere.mp3"}):
        with pytest.raises(CorpusError, match=f"says nothing of track '{stranger['track_id']}'"):
            clean_tracks(track_table([stranger], "test"), out)


def test_a_folder_without_an_audit_is_refused_by_name(tracks: pa.Table, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"summary\.json is missing"):
        clean_tracks(tracks, tmp_path)
    (tmp_path / SUMMARY).write_text("{}")
    with pytest.raises(CorpusError, match=r"summary\.json: tracks: Field required; validate again"):
        clean_tracks(tracks, tmp_path)


def test_a_name_that_is_no_utf_8_is_told_in_words(summary: AuditSummary) -> None:
    (reason,) = [example.reason for example in summary.examples["broken"] if example.track_id == "bad_"]
    assert "bad\\udce9.wav: not audio" in reason
