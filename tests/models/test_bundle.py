import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from genre_spark.dataset.scaler import Scaler
from genre_spark.errors import BundleError, ModelError
from genre_spark.features import STUDY_SPECS
from genre_spark.models.architectures import build_model, probabilities
from genre_spark.models.backend import keras
from genre_spark.models.bundle import NO_DIGEST, BundleDescription, load_bundle, read_description, save_bundle, sealed
from genre_spark.models.calibration import Calibration, Threshold

SPEC = STUDY_SPECS["mfcc_mean"]
FILES = ("MODEL_CARD.md", "bundle.json", "model.weights.h5", "scaler.npz")


def make_bundle(path: Path, calibration: Calibration | None = None) -> "keras.Model":
    keras.utils.set_random_seed(3)
    random = np.random.default_rng(3)
    scaler = Scaler(random.normal(size=80).astype(np.float32), random.uniform(1, 9, 80).astype(np.float32), 10)
    model = build_model("dnn", SPEC.shape, 3, scaler)
    description = BundleDescription(
        format_version=2,
        architecture="dnn",
        spec=SPEC,
        spec_digest=SPEC.digest,
        labels=["a", "b", "c"],
        split_digest="0" * 16,
        versions={},
        calibration=calibration,
    )
    save_bundle(path, model, scaler, description)
    return model


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundle") / "bundle"
    make_bundle(path)
    return path


@pytest.fixture
def bundle(pristine: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pristine, tmp_path / "bundle"))


def reseal(bundle: Path, **values: object) -> None:
    """Change the description and make all sums fit, as somebody who wants to get something past them would."""
    file = bundle / "bundle.json"
    content = json.loads(file.read_text()) | values | {"digest": NO_DIGEST}
    content["sha256"] = {
        name: hashlib.sha256((bundle / name).read_bytes()).hexdigest() for name in FILES if name != "bundle.json"
    }
    file.write_text(sealed(json.dumps(content)))


def test_a_loaded_model_gives_the_same_probabilities(tmp_path: Path) -> None:
    model = make_bundle(tmp_path / "b")
    x = np.random.default_rng(0).normal(0, 5, (4, 80)).astype(np.float32)
    np.testing.assert_array_equal(probabilities(load_bundle(tmp_path / "b").model, x), probabilities(model, x))


def test_nothing_is_left_beside_a_bundle(pristine: Path) -> None:
    assert [path.name for path in pristine.parent.iterdir()] == ["bundle"]
    assert tuple(sorted(path.name for path in pristine.iterdir())) == FILES


def test_the_optimizer_of_a_trained_model_stays_behind(tmp_path: Path) -> None:
    model = make_bundle(tmp_path / "before")
    model.compile("adam", "sparse_categorical_crossentropy")
    x = np.random.default_rng(0).normal(size=(8, 80)).astype(np.float32)
    model.fit(x, np.arange(8) % 3, verbose=0)
    scaler = Scaler.load(tmp_path / "before" / "scaler.npz")
    save_bundle(tmp_path / "b", model, scaler, read_description(tmp_path / "before"))
    assert (tmp_path / "b" / "model.weights.h5").stat().st_size < 4 * model.count_params() + 50_000
    assert model.optimizer is not None
    np.testing.assert_array_equal(probabilities(load_bundle(tmp_path / "b").model, x), probabilities(model, x))


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


@pytest.mark.parametrize("name", [name for name in FILES if name != "bundle.json"])
@pytest.mark.parametrize("harm", [flip_a_bit, cut_short])
def test_a_file_altered_or_cut_short_is_refused_by_name(
    bundle: Path, name: str, harm: Callable[[Path], object]
) -> None:
    harm(bundle / name)
    with pytest.raises(BundleError, match=f"{name} is not the file that was written"):
        load_bundle(bundle)


@pytest.mark.parametrize("name", FILES)
def test_whatever_byte_is_another_the_bundle_is_refused_in_one_line(bundle: Path, name: str) -> None:
    random = np.random.default_rng(5)
    file = bundle / name
    content = file.read_bytes()
    places = {0, len(content) - 1, *random.integers(len(content), size=120).tolist()}
    for place in sorted(places):
        altered = bytearray(content)
        altered[place] ^= int(random.integers(1, 256))
        file.write_bytes(altered)
        with pytest.raises(BundleError, match=rf"^{bundle}[^\n]*$"):
            read_description(bundle)
    for length in {0, 1, len(content) // 2, len(content) - 1}:
        file.write_bytes(content[:length])
        with pytest.raises(BundleError, match=rf"^{bundle}[^\n]*$"):
            read_description(bundle)
    file.write_bytes(content)
    read_description(bundle)


@pytest.mark.parametrize("name", ["scaler.npz", "MODEL_CARD.md"])
def test_damage_with_sums_that_fit_is_no_other_error(bundle: Path, name: str) -> None:
    random = np.random.default_rng(6)
    content = (bundle / name).read_bytes()
    for place in random.integers(len(content), size=12).tolist():
        altered = bytearray(content)
        altered[place] ^= int(random.integers(1, 256))
        (bundle / name).write_bytes(altered)
        reseal(bundle)
        with contextlib.suppress(BundleError):
            load_bundle(bundle)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(bundle: Path, name: str) -> None:
    (bundle / name).unlink()
    with pytest.raises(BundleError, match=f"{name} is missing"):
        load_bundle(bundle)


def test_a_file_that_does_not_belong_there_is_named(bundle: Path) -> None:
    (bundle / "code.py").write_text("print('hello')")
    with pytest.raises(BundleError, match=r"'code\.py' is no part of a bundle; move it elsewhere"):
        load_bundle(bundle)


def test_a_pipe_in_place_of_a_file_is_not_waited_for(bundle: Path) -> None:
    (bundle / "scaler.npz").unlink()
    os.mkfifo(bundle / "scaler.npz")
    with pytest.raises(BundleError, match=r"scaler\.npz is missing"):
        load_bundle(bundle)


@pytest.mark.parametrize("version", [4, 0, "2", True, None, [2]])
def test_another_version_is_refused(bundle: Path, version: object) -> None:
    reseal(bundle, format_version=version)
    advice = "install a newer genre_spark" if version == 4 else "train the model again"
    with pytest.raises(BundleError, match=f"format_version=.*, this program reads 1 to 3; {advice}$"):
        load_bundle(bundle)


def test_a_bundle_of_the_first_version_still_loads(bundle: Path) -> None:
    (bundle / "MODEL_CARD.md").unlink()
    file = bundle / "bundle.json"
    content = json.loads(file.read_text())
    names = ("format_version", "architecture", "spec", "spec_digest", "labels", "split_digest", "versions", "sha256")
    file.write_text(json.dumps({name: content[name] for name in names} | {"format_version": 1}))
    assert load_bundle(bundle).description.labels == ["a", "b", "c"]


def test_a_bundle_from_before_the_calibration_still_loads_and_has_none(bundle: Path) -> None:
    file = bundle / "bundle.json"
    content = json.loads(file.read_text()) | {"format_version": 2, "digest": NO_DIGEST}
    del content["calibration"]
    file.write_text(sealed(json.dumps(content)))
    assert load_bundle(bundle).description.calibration is None


def test_a_calibration_reads_back_as_it_was_written(tmp_path: Path) -> None:
    calibration = Calibration(
        temperature=1.6180339887,
        n=240,
        ece_before=0.21,
        ece_after=0.03,
        thresholds=[Threshold(precision=0.9, threshold=float(np.float32(0.7)), coverage=1 / 3)],
    )
    make_bundle(tmp_path / "b", calibration)
    assert load_bundle(tmp_path / "b").description.calibration == calibration


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("temperature", float("nan")),
        ("temperature", float("inf")),
        ("temperature", 0.009),
        ("temperature", 101),
        ("temperature", "warm"),
        ("n", 0),
        ("ece_after", 1.5),
        ("thresholds", [{"precision": 0.9, "threshold": 1.1, "coverage": 0.5}]),
        ("thresholds", [{"precision": p, "threshold": 0.5, "coverage": 0.5} for p in (0.9, 0.8)]),
        ("humidity", 1),
    ],
)
def test_an_impossible_calibration_is_refused_by_name(bundle: Path, key: str, value: object) -> None:
    sound = {"temperature": 1.0, "n": 20, "ece_before": 0.1, "ece_after": 0.1, "thresholds": []}
    reseal(bundle, calibration=sound)
    read_description(bundle)
    reseal(bundle, calibration=sound | {key: value})
    with pytest.raises(BundleError, match=rf"bundle\.json: calibration[^\n]*{key}[^\n]*; train the model again$"):
        read_description(bundle)


def test_features_that_this_version_computes_otherwise_are_refused(bundle: Path) -> None:
    reseal(bundle, spec_digest="f" * 16)
    with pytest.raises(BundleError, match="the model was trained on ffffffffffffffff; train it again"):
        load_bundle(bundle)


def test_weights_of_another_shape_are_refused(bundle: Path) -> None:
    reseal(bundle, labels=["a", "b"])
    with pytest.raises(BundleError, match=r"model\.weights\.h5 doesn't fit model dnn"):
        load_bundle(bundle)


def test_a_scaler_of_another_shape_is_refused(bundle: Path) -> None:
    Scaler(np.zeros(7, np.float32), np.ones(7, np.float32), 1).save(bundle / "scaler.npz")
    reseal(bundle)
    with pytest.raises(BundleError, match=r"scaler\.npz has means of shape \(7,\) for a feature of shape \(80,\)"):
        load_bundle(bundle)


def test_an_unknown_architecture_is_refused(bundle: Path) -> None:
    reseal(bundle, architecture="resnet")
    with pytest.raises(ModelError, match="unknown model 'resnet'"):
        load_bundle(bundle)


def test_a_folder_that_is_no_bundle_says_where_one_is(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no bundle .*a run keeps its own at RUN/bundle"):
        load_bundle(tmp_path)


def test_a_description_or_a_file_that_is_too_large_is_refused_unread(bundle: Path, pristine: Path) -> None:
    os.truncate(bundle / "bundle.json", 2**40)
    with pytest.raises(BundleError, match="has more than 1,048,576 bytes"):
        load_bundle(bundle)
    for name in ("model.weights.h5", "scaler.npz", "MODEL_CARD.md"):
        shutil.rmtree(bundle)
        shutil.copytree(pristine, bundle)
        os.truncate(bundle / name, 2**40)
        with pytest.raises(BundleError, match=f"{name} has 1,099,511,627,776 bytes, its model at most "):
            load_bundle(bundle)


def test_brackets_in_brackets_are_no_description(bundle: Path) -> None:
    (bundle / "bundle.json").write_text("[" * 500_000)
    with pytest.raises(BundleError, match="not JSON"):
        load_bundle(bundle)


def test_weights_that_lie_in_another_file_never_reach_keras(bundle: Path, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "outside.h5", "w") as outside:
        outside["data"] = np.zeros((80, 256), np.float32)
    with h5py.File(bundle / "model.weights.h5", "r+") as file:
        del file["layers/dense/vars/0"]
        file["layers/dense/vars/0"] = h5py.ExternalLink(str(tmp_path / "outside.h5"), "/data")
    reseal(bundle)
    with pytest.raises(BundleError, match=r"model\.weights\.h5: /layers/dense/vars/0 is a link of type ExternalLink"):
        load_bundle(bundle)


@pytest.mark.parametrize("layer", ["dense", "dense_1", "dense_2"])
def test_weights_without_a_layer_or_with_one_of_another_name_are_refused(bundle: Path, layer: str) -> None:
    with h5py.File(bundle / "model.weights.h5", "r+") as file:
        file.move(f"layers/{layer}", "layers/other")
    reseal(bundle)
    with pytest.raises(BundleError, match=r"model\.weights\.h5 doesn't fit model dnn"):
        load_bundle(bundle)
    with h5py.File(bundle / "model.weights.h5", "r+") as file:
        del file["layers/other"]
    reseal(bundle)
    with pytest.raises(BundleError, match=r"doesn't fit model dnn: it holds [\d,]+ weights, not 87,299"):
        load_bundle(bundle)


def test_weights_that_are_no_numbers_are_refused(bundle: Path) -> None:
    with h5py.File(bundle / "model.weights.h5", "r+") as file:
        file["layers/dense/vars/1"][3] = np.nan
    reseal(bundle)
    with pytest.raises(BundleError, match=r"model\.weights\.h5 holds weights that are no numbers"):
        load_bundle(bundle)


def test_a_model_larger_than_its_weights_is_not_built(bundle: Path) -> None:
    spec = STUDY_SPECS["mfcc"].model_copy(update={"n_frames": 2**19})
    reseal(bundle, architecture="cnn1d", spec=spec.model_dump(mode="json"), spec_digest=spec.digest)
    with pytest.raises(BundleError, match=r"model\.weights\.h5 has [\d,]+ bytes, its model at least 20\d,\d{3},\d{3}"):
        load_bundle(bundle)
