"""A scaler of either shape in front of a model: what it standardises to, and that a bundle keeps it."""

import numpy as np
import pytest

from genre_spark.dataset.moments import Moments
from genre_spark.dataset.scaler import Scaler
from genre_spark.errors import ModelError
from genre_spark.features.spec import STUDY_SPECS

SHAPE = (80, 20)


@pytest.fixture(scope="module")
def tensors():
    return np.random.default_rng(0).normal(5, 3, (40, *SHAPE)).astype(np.float32)


@pytest.mark.parametrize(("per", "axes"), [("band", (0, 2)), ("cell", (0,))])
def test_a_model_standardises_its_input_per_band_or_per_cell(tensors, per, axes):
    from genre_spark.models.architectures import build_model
    from genre_spark.models.backend import keras

    model = build_model("cnn1d", SHAPE, 3, Scaler.of(Moments.of(tensors, per)))
    (standardise,) = [layer for layer in model.layers if isinstance(layer, keras.layers.Normalization)]
    x = np.asarray(keras.Model(model.input, standardise.output).predict_on_batch(tensors))
    np.testing.assert_allclose(x.mean(axis=axes), 0, atol=1e-5)
    np.testing.assert_allclose(x.std(axis=axes), 1, atol=1e-4)


def test_mixed_precision_rounds_no_tensor_before_its_mean_is_taken_off(tensors):
    from genre_spark.models.architectures import build_model
    from genre_spark.models.backend import keras

    far = tensors - 5_000
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = build_model("cnn1d", SHAPE, 3, Scaler.of(Moments.of(far)))
    finally:
        keras.config.set_dtype_policy("float32")
    (standardise,) = [layer for layer in model.layers if isinstance(layer, keras.layers.Normalization)]
    x = np.asarray(keras.Model(model.input, standardise.output).predict_on_batch(far))
    wanted = (far.astype(np.float64) - far.mean((0, 2), np.float64)[:, None]) / far.std((0, 2), np.float64)[:, None]
    np.testing.assert_allclose(x, wanted, atol=2e-3)
    assert model.layers[2].compute_dtype == "bfloat16"


def test_a_scaler_that_does_not_fit_is_refused_by_its_shape():
    from genre_spark.models.architectures import build_model

    for shape in [(3,), (80, 19), (20,), (80, 20, 1)]:
        with pytest.raises(
            ModelError, match=rf"a scaler of shape \({', '.join(map(str, shape))},?\) doesn't fit"
        ) as no:
            build_model("cnn1d", SHAPE, 3, Scaler(np.zeros(shape, np.float32), np.ones(shape, np.float32), 1))
        assert "\n" not in str(no.value)


def test_a_bundle_keeps_a_scaler_per_cell(tmp_path, tensors):
    from genre_spark.models.architectures import build_model, probabilities
    from genre_spark.models.bundle import FORMAT_VERSION, BundleDescription, load_bundle, save_bundle

    spec = STUDY_SPECS["mfcc"].model_copy(update={"n_frames": SHAPE[1]})
    scaler = Scaler.of(Moments.of(tensors, "cell"))
    model = build_model("cnn1d", SHAPE, 3, scaler)
    description = BundleDescription(
        format_version=FORMAT_VERSION, architecture="cnn1d", spec=spec, spec_digest=spec.digest, labels=["a", "b", "c"],
        split_digest="0" * 16, versions={},
    )  # fmt: skip
    save_bundle(tmp_path / "bundle", model, scaler, description)
    loaded = load_bundle(tmp_path / "bundle").model
    np.testing.assert_array_equal(probabilities(loaded, tensors), probabilities(model, tensors))
