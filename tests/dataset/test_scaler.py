import io
import pickle
import zipfile

import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler

from genre_spark.dataset.feed import open_feed
from genre_spark.dataset.moments import Moments
from genre_spark.dataset.scaler import Scaler, fit_scaler, fitted_file, load_fitted, save_fitted
from genre_spark.errors import BundleError

LAYOUT = [[6, 9], [5], [10, 10]]
TRAINING = range(0, 40, 2)


def features(number, spec, *, outlier=()):
    """Rows of very different levels and spreads, like MFCCs; row 1 is constant, and row 0 hardly varies."""
    x = np.random.default_rng(number).normal(size=spec.shape).astype(np.float32)
    rows = (slice(None), *[None] * (len(spec.shape) - 1))
    scale = np.array([1e-3, 0, 30, 7], np.float32)[: spec.shape[0]]
    level = np.array([500, 0.1, -200, 3], np.float32)[: spec.shape[0]]
    x = (level[rows] + scale[rows] * x).astype(np.float32)
    return x + np.float32(1e6) if number in outlier else x


def fit(dataset, feature, small_datasets, per="band", **options):
    labels = {small_datasets.track_id(number): 0 for number in TRAINING}
    with open_feed(dataset, feature, labels, batch_size=3, **options) as feed:
        return fit_scaler(feed, per)


@pytest.mark.parametrize("options", [{}, {"seed": 3}, {"seed": 3, "cache_bytes": 2**20}], ids=str)
@pytest.mark.parametrize("feature", ["melgram", "melgram_mean"])
def test_the_scaler_equals_scikit_learns_on_all_rows_at_once(small_datasets, feature, options):
    dataset = small_datasets.write(LAYOUT, tensor=features)
    spec = dataset.spec(feature)
    scaler = fit(dataset, feature, small_datasets, **options)
    frames = [features(number, spec).astype(np.float64).reshape(spec.shape[0], -1).T for number in TRAINING]
    reference = StandardScaler().fit(np.concatenate(frames))
    np.testing.assert_allclose(scaler.mean, reference.mean_, rtol=1e-6)
    np.testing.assert_allclose(scaler.variance, reference.scale_**2, rtol=1e-6)
    assert scaler.n_samples == reference.n_samples_seen_ == sum(map(len, frames))
    assert scaler.variance[1] == 1
    assert scaler.variance[0] < 1e-5
    assert scaler.mean.dtype == scaler.variance.dtype == np.float32
    assert scaler.mean.shape == scaler.variance.shape == (spec.shape[0],)


def test_a_scaler_per_cell_equals_scikit_learns_over_tracks(small_datasets):
    dataset = small_datasets.write(LAYOUT, tensor=features)
    spec = dataset.spec("melgram")
    scaler = fit(dataset, "melgram", small_datasets, per="cell")
    reference = StandardScaler().fit([features(number, spec).reshape(-1).astype(np.float64) for number in TRAINING])
    assert scaler.mean.shape == scaler.variance.shape == spec.shape
    np.testing.assert_allclose(scaler.mean.reshape(-1), reference.mean_, rtol=1e-6)
    np.testing.assert_allclose(scaler.variance.reshape(-1), reference.scale_**2, rtol=1e-6)
    assert scaler.n_samples == len(TRAINING)
    assert (scaler.variance[1] == 1).all()


def test_a_variance_that_float32_cannot_hold_stays_a_variance(tmp_path):
    scaler = Scaler.of(Moments(2, np.zeros(2), np.array([1e-60, 1e60])))
    assert (scaler.variance > 0).all()
    scaler.save(tmp_path / "scaler.npz")
    assert np.isfinite(Scaler.load(tmp_path / "scaler.npz").variance).all()


def test_other_tracks_than_the_training_ones_have_no_influence(small_datasets):
    clean = small_datasets.write(LAYOUT, tensor=features)
    loud = small_datasets.write(
        LAYOUT, tensor=lambda number, spec: features(number, spec, outlier=set(range(40)) - set(TRAINING))
    )
    first, second = (fit(dataset, "melgram", small_datasets) for dataset in (clean, loud))
    np.testing.assert_array_equal(first.mean, second.mean)
    np.testing.assert_array_equal(first.variance, second.variance)


def test_a_training_track_does_have_influence(small_datasets):
    clean = small_datasets.write(LAYOUT, tensor=features)
    loud = small_datasets.write(LAYOUT, tensor=lambda number, spec: features(number, spec, outlier={TRAINING[-1]}))
    first, second = (fit(dataset, "melgram", small_datasets) for dataset in (clean, loud))
    assert (second.mean > first.mean + 1e4).all()


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "run" / "scaler.npz"
    Scaler(np.array([1, -2], np.float32), np.array([0.5, 1], np.float32), 7).save(path)
    return path


def test_a_saved_scaler_is_loaded_bit_for_bit(saved):
    scaler = Scaler.load(saved)
    np.testing.assert_array_equal(scaler.mean, np.array([1, -2], np.float32))
    np.testing.assert_array_equal(scaler.variance, np.array([0.5, 1], np.float32))
    assert (scaler.n_samples, scaler.mean.dtype, scaler.variance.dtype) == (7, np.float32, np.float32)
    assert [file.name for file in saved.parent.iterdir()] == ["scaler.npz"]


def test_saving_twice_gives_the_same_bytes(saved):
    again = saved.with_name("again.npz")
    Scaler.load(saved).save(again)
    assert again.read_bytes() == saved.read_bytes()


GOOD = {"mean": np.zeros(2, np.float32), "variance": np.ones(2, np.float32), "n_samples": np.int64(3)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mean": None}, "mean"),
        ({"variance": None}, "variance"),
        ({"n_samples": None}, "n_samples"),
        ({"variance": np.ones(3, np.float32)}, r"variance is float32 of shape \(3,\)"),
        ({"mean": np.zeros((2, 1), np.float32)}, r"variance is float32 of shape \(2,\)"),
        ({"mean": np.float32(0), "variance": np.float32(1)}, r"mean is float32 of shape \(\)"),
        ({"mean": np.zeros(0, np.float32), "variance": np.zeros(0, np.float32)}, r"of shape \(0,\)"),
        ({"mean": np.zeros(2)}, "mean is float64"),
        ({"mean": np.array([0, np.nan], np.float32)}, "no mean"),
        ({"variance": np.array([0, 1], np.float32)}, "no variance"),
        ({"n_samples": np.int64(0)}, "n_samples=0"),
        ({"n_samples": np.ones(2, np.int64)}, "n_samples="),
        ({"n_samples": np.float64(3)}, "n_samples=3.0"),
        ({"mean": np.array([{}, 1], object)}, "allow_pickle=False"),
    ],
)
def test_a_file_with_wrong_arrays_is_refused_by_name(tmp_path, change, message):
    path = tmp_path / "scaler.npz"
    np.savez(path, **{name: value for name, value in {**GOOD, **change}.items() if value is not None})
    with pytest.raises(BundleError, match=rf"scaler\.npz: .*{message}") as refusal:
        Scaler.load(path)
    assert "\n" not in str(refusal.value)


def one_npy() -> bytes:
    content = io.BytesIO()
    np.save(content, np.zeros(2))
    return content.getvalue()


def huge_claim() -> bytes:
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000000,), }"
    member = b"\x93NUMPY\x01\x00" + (len(header) + 1).to_bytes(2, "little") + header + b"\n"
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("mean.npy", member)
    return content.getvalue()


@pytest.mark.parametrize(
    "content",
    [b"", b"not a zip", b"PK\x03\x04 cut off", one_npy(), pickle.dumps({"mean": 1}), huge_claim()],
    ids=["empty", "text", "cut zip", "npy", "pickle", "huge claim"],
)
def test_a_file_that_is_no_scaler_is_refused(tmp_path, content):
    path = tmp_path / "scaler.npz"
    path.write_bytes(content)
    with pytest.raises(BundleError, match=r"scaler\.npz: .*train the model again") as refusal:
        Scaler.load(path)
    assert "\n" not in str(refusal.value)


def test_a_damaged_file_is_refused_or_unchanged_wherever_a_byte_is_wrong(saved):
    content = saved.read_bytes()
    for place in range(0, len(content), 7):
        saved.write_bytes(content[:place] + bytes([content[place] ^ 0x5A]) + content[place + 1 :])
        try:
            scaler = Scaler.load(saved)
        except BundleError:
            continue
        np.testing.assert_array_equal(scaler.mean, np.array([1, -2], np.float32))
        np.testing.assert_array_equal(scaler.variance, np.array([0.5, 1], np.float32))
    for length in range(0, len(content), 50):
        saved.write_bytes(content[:length])
        with pytest.raises(BundleError):
            Scaler.load(saved)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(BundleError, match=r"scaler\.npz: no such scaler; train the model again"):
        Scaler.load(tmp_path / "scaler.npz")


# -- files that say what they were fitted on --------------------------------------------------------------------------

SPLIT = "0123456789abcdef"


@pytest.fixture
def fitted(small_datasets, tmp_path):
    """A folder of fitted scalers, and the specs that they are of."""
    dataset = small_datasets.write(LAYOUT, tensor=features)
    for name, per in (("melgram", "cell"), ("melgram_mean", "band")):
        scaler = fit(dataset, name, small_datasets, per=per)
        save_fitted(fitted_file(tmp_path / "scalers", name), scaler, dataset.spec(name), SPLIT)
    return tmp_path / "scalers", dataset.spec("melgram"), dataset.spec("melgram_mean")


def test_a_fitted_scaler_is_found_in_its_folder_or_by_its_file(fitted):
    folder, spec, mean_spec = fitted
    of_folder, of_file = (load_fitted(path, spec, SPLIT) for path in (folder, folder / "melgram.npz"))
    assert of_folder.mean.tobytes() == of_file.mean.tobytes()
    assert of_folder.variance.tobytes() == Scaler.load(folder / "melgram.npz").variance.tobytes()
    assert of_folder.mean.shape == spec.shape
    assert load_fitted(folder, mean_spec, SPLIT, "band").mean.shape == mean_spec.shape


def test_a_fitted_scaler_of_something_else_is_refused_by_name(fitted):
    folder, spec, mean_spec = fitted
    again = "fit it again with `genre-spark fit-scaler`"
    for path, of, split, per, message in (
        (folder, spec, "f" * 16, None, rf"melgram\.npz: .* of split {SPLIT}, not of f{{16}}; {again}"),
        (
            folder / "melgram.npz",
            mean_spec,
            SPLIT,
            None,
            r"melgram\.npz: was fitted on feature 'melgram' .*'melgram_mean'",
        ),
        (folder, spec.model_copy(update={"hop_length": 7}), SPLIT, None, r"melgram\.npz: was fitted on feature"),
        (folder, spec, SPLIT, "band", rf"melgram\.npz: has means of shape \(3, 5\), not \(3,\); {again}"),
        (folder, spec.model_copy(update={"name": "chroma"}), SPLIT, None, rf"chroma\.npz: no such scaler; {again}"),
    ):
        with pytest.raises(BundleError, match=message) as refusal:
            load_fitted(path, of, split, per)
        assert "\n" not in str(refusal.value)


def test_a_scaler_that_says_nothing_of_its_origin_is_refused(fitted):
    folder, spec, _ = fitted
    Scaler.load(folder / "melgram.npz").save(folder / "melgram.npz")
    with pytest.raises(BundleError, match=r"melgram\.npz: not a scaler: .*fitted_on"):
        load_fitted(folder, spec, SPLIT)
    np.savez(folder / "melgram.npz", **GOOD, fitted_on=np.array("{}"))
    with pytest.raises(BundleError, match=r"melgram\.npz: doesn't say what it was fitted on"):
        load_fitted(folder, spec, SPLIT)
