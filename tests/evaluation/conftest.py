"""Run folders with made-up, plausible numbers, written by the functions that write the real ones."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from genre_spark.corpora.groups import KINDS, Kind
from genre_spark.corpora.leaks import BorderLeak, KindLeak, LeakAudit, LeakExample
from genre_spark.evaluation.confused import CONFUSED, CONFUSED_SCHEMA
from genre_spark.evaluation.effective_sample import GroupCounts
from genre_spark.evaluation.metrics import build_metrics
from genre_spark.evaluation.metrics_file import write_metrics
from genre_spark.evaluation.same_tracks import PREDICTIONS
from genre_spark.models.reliability import ReliabilityBin
from genre_spark.models.run import EVALUATION, RunRecord, write_history, write_run_record
from genre_spark.settings import Settings

GENRES = ("Electronic", "Experimental", "Folk", "Hip-Hop", "Instrumental", "International", "Pop", "Rock")
PARAMETERS = {"dnn": 88_584, "cnn1d": 255_656, "cnn2d": 2_796_648}
SHARES = {"dnn": 0.48, "cnn1d": 0.44, "cnn2d": 0.56}

MakeRun = Callable[..., Path]


def made_up_history(epochs: int, seed: int = 0) -> list[dict[str, float]]:
    rng = np.random.default_rng(seed)
    rows = []
    for epoch in range(1, epochs + 1):
        learned, noise = 1 - np.exp(-epoch / 15), rng.normal(0, 0.015, size=2)
        rows.append(
            {
                "epoch": epoch,
                "loss": 2.1 - 1.6 * learned,
                "accuracy": 0.12 + 0.7 * learned,
                "val_loss": 2.0 - 0.5 * learned + 10 * abs(noise[0]),
                "val_accuracy": 0.12 + 0.35 * learned + noise[1],
                "seconds": 1.5,
            }
        )
    return rows


def made_up_confusion(n_labels: int, tracks: int, share: float, seed: int = 0) -> np.ndarray:
    """Counts `[shape=(n_labels, n_labels)]` with about `share` of the tracks on the diagonal."""
    rng = np.random.default_rng(seed)
    others = np.where(np.eye(n_labels, dtype=bool), 0.0, (1 - share) / max(n_labels - 1, 1))
    probabilities = others + np.diag(1 - others.sum(axis=1))
    return np.stack([rng.multinomial(tracks // n_labels, row) for row in probabilities])


def made_up_reliability(confusion: np.ndarray) -> list[ReliabilityBin]:
    """A model that is a little surer than it should be, on as many tracks as the matrix holds."""
    n, bins = int(confusion.sum()), range(4, 15)
    counts = np.random.default_rng(1).multinomial(n, [1 / len(bins)] * len(bins))
    return [
        ReliabilityBin(
            low=number / 15, high=(number + 1) / 15, n=int(count), confidence=(number + 0.5) / 15,
            accuracy=round(count * (number - 1) / 15) / int(count),
        )
        for number, count in zip(bins, counts, strict=True)
        if count
    ]  # fmt: skip


def made_up_leaks(
    parts: dict[str, int], *, shared: Sequence[Kind] = (), unknown: Sequence[Kind] = (), by: Sequence[Kind] = KINDS
) -> LeakAudit:
    """Training holds what is `shared` of half the judged tracks; of all tracks it is not known what is `unknown`."""
    judged = "test" if "test" in parts else "validation"
    nothing = KindLeak(crossing=0, tracks=0, judged_with_fellow=0, borders={}, examples=[])
    kinds = dict.fromkeys(("artist", "album", "pcm", "group"), nothing)
    if shared:
        border = {f"training-{judged}": BorderLeak(crossing=37, tracks=300)}
        examples = [LeakExample(value="Idle Gardens", tracks={"training": 8, judged: 4})]
        half = KindLeak(
            crossing=37, tracks=300, judged_with_fellow=parts[judged] // 2, borders=border, examples=examples
        )
        kinds |= dict.fromkeys((*shared, "group"), half)
    none_known = {kind: sum(parts.values()) if kind in unknown else 0 for kind in KINDS}
    return LeakAudit(
        judged=judged,
        tracks=parts,
        tracks_not_found=0,
        tracks_without_artist=none_known["artist"],
        tracks_without_album=none_known["album"],
        tracks_without_pcm_hash=none_known["pcm"],
        by=tuple(by),
        kinds=kinds,
    )


@pytest.fixture(scope="session")
def make_run(tmp_path_factory: pytest.TempPathFactory) -> MakeRun:
    """A function that makes a new run folder at each call."""

    def make(
        model: str = "dnn",
        *,
        split: str = "artist",
        labels: Sequence[str] = GENRES,
        epochs: int = 50,
        share: float | None = None,
        evaluated: bool = True,
        calibrated: bool = True,
        name: str | None = None,
        learning_rate: float = 0.001,
        shared: Sequence[Kind] | None = None,
        unknown: Sequence[Kind] = (),
        by: Sequence[Kind] = KINDS,
        best_epoch: int = 0,
    ) -> Path:
        run = tmp_path_factory.mktemp("runs") / (name or f"{model}-{split}")
        parts = (
            {"training": 560, "validation": 240}
            if split == "study"
            else {"training": 560, "validation": 120, "test": 120}
        )
        write_history(run, made_up_history(epochs, seed=len(model)))
        write_run_record(
            run,
            RunRecord(
                model=model,
                feature="mfcc_mean",
                split=split,
                dataset="data/features",
                settings=Settings().model_dump(mode="json"),
                spec_digest="0123456789abcdef",
                split_digest=f"{split:f<16}",
                tracks_digest="0" * 16,
                leaks=made_up_leaks(
                    parts,
                    shared=("artist",) if shared is None and split == "study" else shared or (),
                    unknown=unknown,
                    by=by,
                ),
                tracks=parts,
                labels=list(labels),
                trainable_parameters=PARAMETERS.get(model, 1_000),
                epochs=epochs,
                best_epoch=best_epoch,
                batch_size=32,
                learning_rate=learning_rate,
                seed=0,
                training_s=75.3,
                versions={"keras": "3.15.1", "numpy": "2.4.6"},
                created="2026-11-14T10:00:00+00:00",
            ),
        )
        if evaluated:
            judged = list(parts)[-1]
            hit = SHARES.get(model, 0.5) if share is None else share
            confusions = {
                part: made_up_confusion(len(labels), tracks, hit if part == judged else min(hit + 0.2, 1.0), seed)
                for seed, (part, tracks) in enumerate(parts.items())
            }
            reliability = made_up_reliability(confusions[judged]) if calibrated else None
            write_metrics(run / EVALUATION, build_metrics(confusions, labels, judged, reliability=reliability))
        return run

    return make


@pytest.fixture(scope="session")
def study_runs(make_run: MakeRun) -> list[Path]:
    """Runs of the study's three models; not to be changed."""
    return [make_run("dnn", epochs=100), make_run("cnn1d"), make_run("cnn2d")]


def made_up_confused(rows: Sequence[dict[str, object]]) -> pa.Table:
    """Rows of `confused.parquet`; what a row doesn't say is made up."""
    defaults = {"true": "Folk", "predicted": "Rock", "pair_count": 3, "artist": "Idle Gardens", "p_true": 0.2}
    return pa.Table.from_pylist(
        [
            defaults | {"rank": rank, "track_id": str(rank), "uri": f"{rank}.mp3", "p_predicted": 0.7} | row
            for rank, row in enumerate(rows, start=1)
        ],
        schema=CONFUSED_SCHEMA,
    )


@pytest.fixture(scope="session")
def write_confused() -> Callable[..., None]:
    """A function that gives a run the tracks behind its confused pairs, as an evaluation writes them."""

    def write(run: Path, rows: Sequence[dict[str, object]]) -> None:
        folder = run / EVALUATION / CONFUSED
        folder.mkdir(exist_ok=True)
        pq.write_table(made_up_confused(rows), folder / "part-0.parquet")

    return write


@pytest.fixture(scope="session")
def write_answers() -> Callable[..., None]:
    """A function that gives a run the judgement of given answers: predictions of test tracks, and their metrics."""

    def write(
        run: Path,
        right: Sequence[bool],
        artists: Sequence[str] | None = None,
        *,
        labels: Sequence[str] = GENRES,
        with_artists: bool = True,
    ) -> None:
        true = [place % len(labels) for place in range(len(right))]
        predicted = [(genre + (not hit)) % len(labels) for genre, hit in zip(true, right, strict=True)]
        confusion = np.zeros((len(labels), len(labels)), int)
        np.add.at(confusion, (true, predicted), 1)
        groups = None
        if artists is not None:
            of_artist = {artist: [hit for hit, one in zip(right, artists, strict=True) if one == artist] for artist in
                         artists}  # fmt: skip
            kinds = Counter((len(hits), sum(hits)) for hits in of_artist.values())
            groups = [GroupCounts(n=n, hits=hits, groups=number) for (n, hits), number in kinds.items()]
        write_metrics(run / EVALUATION, build_metrics({"test": confusion}, labels, "test", groups=groups))
        columns = {
            "track_id": [f"{place:05}" for place in range(len(right))],
            "part": ["test"] * len(right),
            "genre": [labels[genre] for genre in true],
            "predicted": [labels[genre] for genre in predicted],
        }
        if artists is not None and with_artists:
            columns["artist"] = list(artists)
        pq.write_table(pa.table(columns), run / EVALUATION / PREDICTIONS)

    return write


EXPERIMENT = """\
model,split,part,n,groups,accuracy,accuracy_low,accuracy_high,macro_f1,macro_f1_low,macro_f1_high,seed_spread,\
training_accuracy,gap,validation_accuracy,parameters,training_s,trainings
majority,artist,test,200,40,0.4,0.3,0.5,0.1,0.05,0.2,,0.4,0.0,0.4,,0.1,1
svm:<fma>,artist,test,200,40,0.51,0.41,0.6,0.45,0.35,0.55,0.02,0.9,0.39,0.5,1000,2.5,3
"""
COMPARISONS = """\
model,reference,split,groups,difference,difference_low,difference_high,verdict
svm:<fma>,majority,artist,40,0.11,0.01,0.21,better
"""


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    """A folder with the tables of an experiment of two models; may be changed."""
    folder = tmp_path / "experiment"
    folder.mkdir()
    (folder / "results.csv").write_text(EXPERIMENT)
    (folder / "comparisons.csv").write_text(COMPARISONS)
    return folder


@pytest.fixture(scope="session")
def make_evaluation(tmp_path_factory: pytest.TempPathFactory) -> MakeRun:
    """A function that makes a new folder as `genre-spark evaluate --bundle` writes it, but for its predictions."""

    def make(
        name: str = "judged",
        *,
        labels: Sequence[str] = GENRES,
        n: int = 120,
        share: float = 0.5,
        by_artist: bool = True,
        confused: Sequence[dict[str, object]] | None = None,
        **known: object,
    ) -> Path:
        folder = tmp_path_factory.mktemp("evaluations") / name
        confusion = made_up_confusion(len(labels), n, share)
        groups = [GroupCounts(hits=2, n=3, groups=n // 6), GroupCounts(hits=1, n=3, groups=n // 6)]
        metrics = build_metrics(
            {"all": confusion}, labels, "all", reliability=made_up_reliability(confusion),
            groups=groups if by_artist else None,
        )  # fmt: skip
        known = {
            "dataset": "s3://bucket/other-dataset", "bundle": "0123456789abcdef", "model": "dnn",
            "feature": "mfcc_mean", "unseen": {"Polka": 4, "<Zouk>": 2}, "unlabelled": 3,
        } | known  # fmt: skip
        write_metrics(folder, metrics | known)
        if confused is not None:
            (folder / CONFUSED).mkdir()
            pq.write_table(made_up_confused(confused), folder / CONFUSED / "part-0.parquet")
        return folder

    return make
