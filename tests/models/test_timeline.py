from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from genre_spark.dataset.scaler import Scaler
from genre_spark.errors import AudioError, AudioNotFound, AudioTooLong, AudioUndecodable, BundleError, SettingsError
from genre_spark.features import FeatureSpec, Segments
from genre_spark.models import timeline
from genre_spark.models.architectures import build_model
from genre_spark.models.bundle import Bundle, load_bundle
from genre_spark.models.calibration import Calibration, Threshold
from genre_spark.models.predict import Failure, Prediction, predict_files
from genre_spark.models.timeline import Timeline, predict_timeline, predict_timelines
from genre_spark.settings import AudioSettings

MFCC = {"kind": "mfcc", "n_mfcc": 20}
# A model of every way to give clips one shape, and whether windows are resampled.
MODELS = {
    "statistics": ("dnn", {**MFCC, "sample_rate": 22_050, "summary": "mean"}),
    "samples": ("cnn_time", {"kind": "mel_spectrogram", "sample_rate": 12_000, "n_mels": 32, "n_samples": 60_000}),
    "frames": ("cnn1d", {**MFCC, "sample_rate": 22_050, "n_frames": 200}),
    "segments": (
        "dnn",
        {**MFCC, "sample_rate": 22_050, "summary": "mean", "segments": Segments(count=3, length_s=1.5)},
    ),
    "segments of whole samples": (
        "dnn",
        {**MFCC, "sample_rate": 22_050, "summary": "mean", "segments": Segments(count=3, length_s=1.6, overlap_s=0.1)},
    ),
    "segments resampled": (
        "dnn",
        {**MFCC, "sample_rate": 16_000, "summary": "mean", "segments": Segments(count=3, length_s=1.5)},
    ),
}


@pytest.fixture(scope="module")
def song(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """37.3 s at 22.05 kHz: noise that grows louder, and a tone that rises."""
    random, n = np.random.default_rng(0), round(37.3 * 22_050)
    time = np.arange(n) / 22_050
    samples = 0.2 * np.sin(2 * np.pi * (200 + 40 * time) * time) + 0.01 * time * random.standard_normal(n)
    path = tmp_path_factory.mktemp("song") / "song.wav"
    soundfile.write(path, samples.astype(np.float32), 22_050, subtype="FLOAT")
    return path


@pytest.fixture(scope="module")
def trained(run: Path) -> Bundle:
    return load_bundle(run / "bundle")


@pytest.fixture(scope="module")
def bundle_of(trained: Bundle) -> Callable[[str], Bundle]:
    """An untrained model of a kind, which tells one input from another as well."""

    def build(kind: str) -> Bundle:
        architecture, parameters = MODELS[kind]
        spec = FeatureSpec(name="feature", **parameters)
        scaler = Scaler(np.zeros(spec.shape[:1], np.float32), np.full(spec.shape[:1], 100, np.float32), 1)
        model = build_model(architecture, spec.shape, len(trained.description.labels), scaler)
        calibration = Calibration(temperature=2.0, n=100, ece_before=0.2, ece_after=0.1)
        update = {"architecture": architecture, "spec": spec, "calibration": calibration}
        return Bundle(model, trained.description.model_copy(update=update))

    return build


def as_files(of: Timeline, song: Path, folder: Path) -> list[Path]:
    """Write each window of a timeline to a file of its own."""
    samples, rate = soundfile.read(song, dtype="float32")
    paths = []
    for number, moment in enumerate(of.moments):
        paths.append(folder / f"{number}.wav")
        window = samples[round(moment.start_s * rate) : round(moment.end_s * rate)]
        soundfile.write(paths[-1], window, rate, subtype="FLOAT")
    return paths


@pytest.mark.parametrize("kind", MODELS)
def test_a_moment_is_bit_for_bit_what_predict_says_of_a_file_with_nothing_but_its_window(
    kind: str, bundle_of: Callable[[str], Bundle], song: Path, tmp_path: Path
) -> None:
    bundle = bundle_of(kind)
    found = predict_timeline(bundle, song, batch_size=7)
    assert len(found.moments) > 1
    answers = list(predict_files(bundle, as_files(found, song, tmp_path), batch_size=7))
    assert [moment.probabilities for moment in found.moments] == [
        answer.probabilities for answer in answers if isinstance(answer, Prediction)
    ]
    # The song changes, and so do the answers.
    assert len({tuple(moment.probabilities.values()) for moment in found.moments}) > 1


@pytest.mark.parametrize(
    ("kind", "window_s", "hop_s"),
    [("statistics", 30, 15), ("samples", 5, 2.5), ("frames", 199 * 512 / 22_050, None), ("segments", 4.48, 1.49)],
)
def test_a_window_is_what_the_model_reads_at_once_and_the_last_one_ends_with_the_file(
    kind: str, window_s: float, hop_s: float | None, bundle_of: Callable[[str], Bundle], song: Path
) -> None:
    found = predict_timeline(bundle_of(kind), song)
    assert found.duration_s == pytest.approx(37.3)
    assert found.path == str(song)
    *usual, last = found.moments
    for number, moment in enumerate(usual):
        assert moment.start_s == pytest.approx(number * (window_s / 2 if hop_s is None else hop_s), abs=1e-3)
    for moment in found.moments:
        assert moment.end_s - moment.start_s == pytest.approx(window_s, abs=1e-3)
    assert found.duration_s - 0.1 * window_s < last.end_s <= found.duration_s
    assert [moment.start_s for moment in found.moments] == sorted({moment.start_s for moment in found.moments})


def test_the_hop_is_what_was_asked_for(bundle_of: Callable[[str], Bundle], song: Path) -> None:
    starts = [moment.start_s for moment in predict_timeline(bundle_of("samples"), song, hop_s=10).moments]
    assert starts == pytest.approx([0, 10, 20, 30, 32.3], abs=1e-4)
    (only,) = predict_timeline(bundle_of("statistics"), song, hop_s=1e300).moments[:-1]
    assert only.start_s == 0


@pytest.mark.parametrize("kind", MODELS)
def test_a_file_shorter_than_a_window_is_one_moment_with_the_answer_for_the_file(
    kind: str, bundle_of: Callable[[str], Bundle], song: Path, tmp_path: Path
) -> None:
    samples, rate = soundfile.read(song, dtype="float32")
    short = tmp_path / "short.wav"
    soundfile.write(short, samples[: 2 * rate], rate, subtype="FLOAT")
    bundle = bundle_of(kind)
    (moment,) = predict_timeline(bundle, short).moments
    (answer,) = predict_files(bundle, [short])
    assert isinstance(answer, Prediction)
    assert (moment.start_s, moment.end_s, moment.probabilities) == (0, 2, answer.probabilities)


@pytest.mark.parametrize("hop_s", [0, -1.5, float("nan"), float("inf")])
def test_a_hop_that_leads_nowhere_is_refused(hop_s: float, trained: Bundle) -> None:
    with pytest.raises(SettingsError, match=rf"hop_s={hop_s:g} must be a positive number"):
        predict_timeline(trained, "nowhere.mp3", hop_s=hop_s)
    with pytest.raises(SettingsError, match="hop_s"):
        list(predict_timelines(trained, [], hop_s=hop_s))


def test_a_file_that_can_not_be_read_is_a_named_error(trained: Bundle, song: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.mp3"
    bad.write_bytes(b"no audio" * 100)
    with pytest.raises(AudioUndecodable, match=r"bad\.mp3"):
        predict_timeline(trained, bad)
    with pytest.raises(AudioNotFound, match=r"nowhere\.mp3"):
        predict_timeline(trained, "nowhere.mp3")
    with pytest.raises(AudioTooLong, match=r"max_duration_s=20"):
        predict_timeline(trained, song, audio=AudioSettings(max_duration_s=20))


def test_whatever_a_library_makes_of_a_file_is_an_audio_error(
    trained: Bundle, song: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object, **kwargs: object) -> None:
        raise ZeroDivisionError("in a library")

    for step in ("decode", "finite_features"):
        with monkeypatch.context() as patched:
            patched.setattr(timeline, step, broken)
            with pytest.raises(AudioError, match=r"song\.wav: ZeroDivisionError: in a library"):
                predict_timeline(trained, song)
            (failed,) = predict_timelines(trained, [song])
            assert isinstance(failed, Failure)
            assert (failed.path, failed.error) == (str(song), "AudioError")


def test_no_more_tensors_are_held_than_go_through_the_model_at_once(
    bundle_of: Callable[[str], Bundle], song: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = []
    of_model = timeline.segment_probabilities

    def counted(bundle: Bundle, arrays: list[np.ndarray]) -> np.ndarray:
        batches.append(sum(len(array) for array in arrays))
        return of_model(bundle, arrays)

    monkeypatch.setattr(timeline, "segment_probabilities", counted)
    found = predict_timeline(bundle_of("segments"), song, hop_s=0.5, batch_size=8)
    # Three segments a window: two windows fit into a batch of eight.
    assert set(batches[:-1]) == {6}
    assert sum(batches) == 3 * len(found.moments)


def test_a_segment_that_windows_share_is_computed_once(
    bundle_of: Callable[[str], Bundle], song: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    of_signal = timeline.finite_features
    monkeypatch.setattr(timeline, "finite_features", lambda *args: calls.append(1) or of_signal(*args))
    found = predict_timeline(bundle_of("segments of whole samples"), song)
    # One of a window and one more with each after it; the last one, which ends with the file, has its own.
    assert len(calls) == 3 + (len(found.moments) - 2) + 3


def test_a_file_gets_its_usual_answer_and_its_timeline_and_a_bad_one_its_reason(
    bundle_of: Callable[[str], Bundle], song: Path
) -> None:
    bundle = bundle_of("segments")
    good, bad = predict_timelines(bundle, [song, "nowhere.mp3"])
    assert not isinstance(good, Failure)
    assert bad == Failure("nowhere.mp3", "AudioNotFound", "nowhere.mp3: No such file or directory")
    (usual,) = predict_files(bundle, [song])
    assert good.prediction == usual
    assert good.timeline == predict_timeline(bundle, song)
    assert good.read_s == pytest.approx(4.48)
    (all_of_it,) = predict_timelines(bundle_of("statistics"), [song])
    assert not isinstance(all_of_it, Failure)
    assert all_of_it.read_s == all_of_it.timeline.duration_s


def test_the_answer_for_a_file_is_not_sure_below_the_threshold_of_the_precision(trained: Bundle, song: Path) -> None:
    calibration = Calibration(
        temperature=1.0, n=100, ece_before=0.2, ece_after=0.1,
        thresholds=[Threshold(precision=0.9, threshold=1.0, coverage=0.5)],
    )  # fmt: skip
    bundle = replace(trained, description=trained.description.model_copy(update={"calibration": calibration}))
    (unsure,) = predict_timelines(bundle, [song], precision=0.9)
    assert not isinstance(unsure, Failure)
    assert unsure.prediction.genre is None
    assert all(moment.leading(1.0) is None for moment in unsure.timeline.moments)
    with pytest.raises(BundleError, match=r"precision=0\.8"):
        list(predict_timelines(bundle, [song], precision=0.8))
