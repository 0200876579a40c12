from collections.abc import Callable
from pathlib import Path

import pytest

from genre_spark.errors import RunError
from genre_spark.evaluation.confused import read_confused
from genre_spark.evaluation.confused_tracks import HEARD_PER_PAIR, ShownPair, confused_pairs, left_out, with_excerpts
from genre_spark.evaluation.metrics_file import read_metrics
from genre_spark.evaluation.track_excerpts import Excerpt
from genre_spark.settings import Settings

AUDIO = Settings().audio
FOLK_AS_POP = {"true": "Folk", "predicted": "Pop", "pair_count": 1}


def pairs_of(run: Path) -> list[ShownPair] | None:
    return confused_pairs(read_confused(run), read_metrics(run))


def test_tracks_stand_below_their_pair_with_how_many_of_the_genre_it_is(make_run, write_confused) -> None:
    run = make_run("dnn")
    write_confused(run, [{"p_predicted": 0.9}, {"p_predicted": 0.6, "artist": None}, FOLK_AS_POP])
    pairs = pairs_of(run)
    assert pairs is not None
    support = read_metrics(run)["per_genre"]["Folk"]["support"]
    assert [(pair.true, pair.predicted, pair.count, pair.support) for pair in pairs] == [
        ("Folk", "Rock", 3, support),
        ("Folk", "Pop", 1, support),
    ]
    assert [track.track_id for track in pairs[0].tracks] == ["1", "2"]
    assert [track.artist for track in pairs[0].tracks] == ["Idle Gardens", None]
    assert pairs[0].tracks[0].p_predicted == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("uri", "file"),
    [
        ("file:///music/R%26B/50%25.mp3", "50%.mp3"),
        ("/music/50%25.mp3", "50%25.mp3"),
        ("s3://bucket/a/b%20c.flac", "b c.flac"),
        ("https://key:secret@host/a.mp3?token=secret", "a.mp3"),
        ("", ""),
    ],
)
def test_a_track_is_named_by_its_file_and_no_secret_is_shown(make_run, write_confused, uri: str, file: str) -> None:
    run = make_run("dnn")
    write_confused(run, [{"uri": uri}])
    [pair] = pairs_of(run) or []
    assert pair.tracks[0].file == file


def test_an_evaluation_by_an_older_version_has_no_pairs(make_run) -> None:
    run = make_run("dnn")
    assert pairs_of(run) is None
    assert with_excerpts([None], AUDIO, budget=10**7) == [None]


def test_a_damaged_table_is_refused(make_run, write_confused) -> None:
    run = make_run("dnn")
    write_confused(run, [{}])
    [file] = run.glob("evaluation/confused.parquet/*.parquet")
    file.write_bytes(b"no parquet")
    with pytest.raises(RunError, match=r"confused\.parquet.*can't be read"):
        pairs_of(run)


def test_the_surest_track_of_every_pair_comes_before_the_second_of_any(
    make_run, write_confused, write_clip: Callable[..., Path]
) -> None:
    clips = [write_clip(f"{number}.wav", seconds=0.5, seed=number) for number in range(7)]
    uris = [clip.as_uri() for clip in clips]
    run, other = make_run("dnn"), make_run("cnn1d")
    write_confused(run, [*({"uri": uri} for uri in uris[:4]), FOLK_AS_POP | {"uri": uris[4]}])
    write_confused(other, [{"uri": uri} for uri in uris[5:]])
    counts: list[int] = []
    both = [pairs_of(run), pairs_of(other)]
    done: list[int] = []
    [[rock, pop], [again]] = with_excerpts(
        both, AUDIO, budget=10**7, on_tracks=lambda total: counts.append(total) or (lambda: done.append(1))
    )
    assert [track.excerpt is not None for track in rock.tracks] == [True] * HEARD_PER_PAIR + [False]
    assert counts == [6] == [len(done)]
    first = [rock.tracks[0].excerpt, pop.tracks[0].excerpt, again.tracks[0].excerpt]
    sizes = [found.size for found in first if isinstance(found, Excerpt)]
    [[rock, pop], [again]] = with_excerpts(both, AUDIO, budget=sum(sizes))
    heard = [track.uri for pair in (rock, pop, again) for track in pair.tracks if track.excerpt]
    assert heard == [uris[0], uris[4], uris[5]]
    assert [bool(track.note and "--audio-mb" in track.note) for track in rock.tracks] == [False, True, True, False]
    assert left_out([[rock, pop], [again], None]) == 2 + 0 + 1
