import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from genre_spark.dataset.scaler import Scaler
from genre_spark.errors import BundleError, ModelError
from genre_spark.features import STUDY_SPECS
from genre_spark.models.architectures import build_model, probabilities
from genre_spark.models.backend import keras
from genre_spark.models.bundle import BundleDescription, load_bundle, save_bundle

SPEC = STUDY_SPECS["mfcc_mean"]


def make_bundle(path: Path) -> "keras.Model":
    keras.utils.set_random_seed(3)
    random = np.random.default_rng(3)
    scaler = Scaler(random.normal(size=80).astype(np.float32), random.uniform(1, 9, 80).astype(np.float32), 10)
    model = build_model("dnn", SPEC.shape, 3, scaler)
    description = BundleDescription(
        format_version=1,
        architecture="dnn",
        spec=SPEC,
        spec_digest=SPEC.digest,
        labels=["a", "b", "c"],
        split_digest="0" * 16,
        versions={},
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


def test_a_loaded_model_gives_the_same_probabilities(tmp_path: Path) -> None:
    model = make_bundle(tmp_path / "b")
    x = np.random.default_rng(0).normal(0, 5, (4, 80)).astype(np.float32)
    np.testing.assert_array_equal(probabilities(load_bundle(tmp_path / "b").model, x), probabilities(model, x))


def test_nothing_is_left_beside_a_bundle(pristine: Path) -> None:
    assert [path.name for path in pristine.parent.iterdir()] == ["bundle"]
    assert sorted(path.name for path in pristine.iterdir()) == ["bundle.json", "model.weights.h5", "scaler.npz"]


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["model.weights.h5", "scaler.npz"])
@pytest.mark.parametrize("harm", [flip_a_bit, lambda path: path.write_bytes(path.read_bytes()[:-7])])
def test_a_file_altered_or_cut_short_is_refused_by_name(
    bundle: Path, name: str, harm: Callable[[Path], object]
) -> None:
    harm(bundle / name)
    with pytest.raises(BundleError, match=f"{name} is not the file that was written"):
        load_bundle(bundle)


@pytest.mark.parametrize("name", ["model.weights.h5", "scaler.npz"])
def test_a_missing_file_is_named(bundle: Path, name: str) -> None:
    (bundle / name).unlink()
    with pytest.raises(BundleError, match=f"{name} is missing"):
        load_bundle(bundle)


def change(bundle: Path, **values: object) -> None:
    file = bundle / "bundle.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def test_a_newer_version_is_refused(bundle: Path) -> None:
    change(bundle, format_version=2)
    with pytest.raises(BundleError, match="format_version=2, this program reads 1"):
        load_bundle(bundle)


def test_features_that_this_version_computes_otherwise_are_refused(bundle: Path) -> None:
    change(bundle, spec_digest="f" * 16)
    with pytest.raises(BundleError, match="the model was trained on ffffffffffffffff; train it again"):
        load_bundle(bundle)


def test_weights_of_another_shape_are_refused(bundle: Path) -> None:
    change(bundle, labels=["a", "b"])
    with pytest.raises(BundleError, match=r"model\.weights\.h5 doesn't fit model dnn"):
        load_bundle(bundle)


def test_an_unknown_architecture_is_refused(bundle: Path) -> None:
    change(bundle, architecture="resnet")
    with pytest.raises(ModelError, match="unknown model 'resnet'"):
        load_bundle(bundle)


def test_a_folder_that_is_no_bundle_says_where_one_is(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no bundle .*a run keeps its own at RUN/bundle"):
        load_bundle(tmp_path)
