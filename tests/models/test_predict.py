from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from genre_spark.dataset.store import Dataset
from genre_spark.errors import BundleError
from genre_spark.features import extract_file
from genre_spark.models.bundle import Bundle, load_bundle
from genre_spark.models.calibration import Calibration, Threshold
from genre_spark.models.predict import Failure, Prediction, predict_files


@pytest.fixture(scope="module")
def bundle(run: Path) -> Bundle:
    return load_bundle(run / "bundle")


def test_each_file_gets_its_answer_in_order_and_a_bad_one_its_reason(
    bundle: Bundle, dataset: Dataset, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.mp3"
    bad.write_bytes(b"no audio" * 100)
    good = dataset.tracks()["uri"].to_pylist()[:3]
    paths = [good[0], bad, good[1], tmp_path / "nowhere.mp3", good[2]]
    results = list(predict_files(bundle, paths, batch_size=2))
    assert [result.path for result in results] == [str(path) for path in paths]
    assert [type(result) for result in results] == [Prediction, Failure, Prediction, Failure, Prediction]
    assert [result.error for result in results if isinstance(result, Failure)] == ["AudioUndecodable", "AudioNotFound"]


def test_an_answer_tells_of_no_segments_where_the_model_reads_whole_clips(bundle: Bundle, dataset: Dataset) -> None:
    (result,) = predict_files(bundle, dataset.tracks()["uri"].to_pylist()[:1])
    assert list(asdict(result)) == ["path", "genre", "probabilities"]


def test_the_genre_is_the_most_probable_and_probabilities_sum_to_one(bundle: Bundle, dataset: Dataset) -> None:
    for result in predict_files(bundle, dataset.tracks()["uri"].to_pylist()[:5]):
        assert isinstance(result, Prediction)
        assert result.genre == max(result.probabilities, key=lambda genre: result.probabilities[genre])
        assert sum(result.probabilities.values()) == pytest.approx(1, abs=1e-5)
        assert list(result.probabilities) == bundle.description.labels


def test_the_answer_is_the_models_on_the_features_of_a_direct_call(bundle: Bundle, dataset: Dataset) -> None:
    uri = dataset.tracks()["uri"].to_pylist()[0]
    (result,) = predict_files(bundle, [uri])
    x = extract_file(uri, [bundle.description.spec])["mfcc_mean"][np.newaxis]
    np.testing.assert_allclose(list(result.probabilities.values()), np.asarray(bundle.model(x))[0], atol=1e-6)


def with_threshold(bundle: Bundle, threshold: float, temperature: float = 1.0) -> Bundle:
    calibration = Calibration(
        temperature=temperature, n=100, ece_before=0.2, ece_after=0.1,
        thresholds=[Threshold(precision=0.9, threshold=threshold, coverage=0.5)],
    )  # fmt: skip
    return replace(bundle, description=bundle.description.model_copy(update={"calibration": calibration}))


def test_below_the_threshold_of_the_stated_precision_the_model_is_not_sure(bundle: Bundle, dataset: Dataset) -> None:
    paths = dataset.tracks()["uri"].to_pylist()
    usual = list(predict_files(bundle, paths))
    top = [max(answer.probabilities.values()) for answer in usual]
    # As one that was found on these very tracks: the track that it comes from is answered.
    chosen = with_threshold(bundle, sorted(top)[len(top) // 2])
    found = list(predict_files(chosen, paths, precision=0.9))
    assert [answer.probabilities for answer in found] == [answer.probabilities for answer in usual]
    for answer, before, share in zip(found, usual, top, strict=True):
        assert answer.genre == (before.genre if share >= sorted(top)[len(top) // 2] else None)
    assert 0 < sum(answer.genre is None for answer in found) < len(found)
    assert list(predict_files(chosen, paths)) == usual


def test_the_threshold_is_one_of_calibrated_probabilities(bundle: Bundle, dataset: Dataset) -> None:
    paths = dataset.tracks()["uri"].to_pylist()[:4]
    (first, *_) = sharp = list(predict_files(with_threshold(bundle, 1.0, 0.1), paths, precision=0.9))
    raw = [np.array(list(answer.probabilities.values())) for answer in predict_files(bundle, paths)]
    for answer, p in zip(sharp, raw, strict=True):
        np.testing.assert_allclose(list(answer.probabilities.values()), p**10 / (p**10).sum(), rtol=1e-3, atol=1e-7)
        assert answer.genre is None or max(answer.probabilities.values()) == 1
    assert list(first.probabilities) == bundle.description.labels


def test_a_precision_that_the_bundle_does_not_know_is_refused(bundle: Bundle) -> None:
    with pytest.raises(BundleError, match=r"no threshold for precision=0\.8: it has those for 0\.9"):
        list(predict_files(with_threshold(bundle, 0.5), ["a.mp3"], precision=0.8))


def test_whatever_a_library_makes_of_a_file_costs_only_that_file(
    bundle: Bundle, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(path: object, *args: object, **kwargs: object) -> dict[str, np.ndarray]:
        if "bad" in str(path):
            raise ZeroDivisionError("in a library")
        return extract_file(path, *args, **kwargs)

    monkeypatch.setattr("genre_spark.models.predict.extract_file", broken)
    bad, good = predict_files(bundle, ["bad.mp3", dataset.tracks()["uri"][0].as_py()])
    assert bad == Failure("bad.mp3", "AudioError", "bad.mp3: ZeroDivisionError: in a library")
    assert isinstance(good, Prediction)


def test_no_file_gives_no_answer(bundle: Bundle) -> None:
    assert list(predict_files(bundle, [])) == []
