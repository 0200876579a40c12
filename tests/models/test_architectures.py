import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler

from genre_spark.dataset.scaler import Scaler
from genre_spark.errors import ModelError
from genre_spark.features import STUDY_SPECS, resolve_specs
from genre_spark.models.architectures import ARCHITECTURES, build_model, probabilities, trainable_parameters


def plain_scaler(rows: int) -> Scaler:
    return Scaler(np.zeros(rows, np.float32), np.ones(rows, np.float32), 1)


def shape_of(name: str) -> tuple[int, ...]:
    return resolve_specs([ARCHITECTURES[name].feature])[0].shape


@pytest.mark.parametrize(("name", "parameters"), [("dnn", 88_584), ("cnn1d", 255_656), ("cnn2d", 2_796_648)])
def test_trainable_parameters_are_the_studys_to_the_digit(name: str, parameters: int) -> None:
    shape = STUDY_SPECS[ARCHITECTURES[name].feature].shape
    assert trainable_parameters(build_model(name, shape, 8, plain_scaler(shape[0]))) == parameters


@pytest.mark.parametrize("name", list(ARCHITECTURES))
def test_outputs_are_probabilities_of_the_genres(name: str) -> None:
    shape = shape_of(name)
    model = build_model(name, shape, 5, plain_scaler(shape[0]))
    p = probabilities(model, np.random.default_rng(0).standard_normal((3, *shape)).astype(np.float32))
    assert p.shape == (3, 5)
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("name", list(ARCHITECTURES))
def test_the_first_layer_standardises_as_scikit_learn_does(name: str) -> None:
    shape = shape_of(name)
    x = np.random.default_rng(1).normal(-20, 7, (4, *shape)).astype(np.float32)
    rows = x if x.ndim == 2 else np.moveaxis(x, 1, 2).reshape(-1, shape[0])
    reference = StandardScaler().fit(rows.astype(np.float64))
    scaler = Scaler(reference.mean_.astype(np.float32), (reference.scale_**2).astype(np.float32), len(rows))
    normalization = build_model(name, shape, 8, scaler).layers[1]
    expected = reference.transform(rows.astype(np.float64))
    found = np.asarray(normalization(x))
    found_rows = found if x.ndim == 2 else np.moveaxis(found, 1, 2).reshape(-1, shape[0])
    np.testing.assert_allclose(found_rows, expected, atol=1e-4)


def test_the_1d_model_convolves_along_the_coefficients_with_frames_as_channels() -> None:
    model = build_model("cnn1d", (80, 2_500), 8, plain_scaler(80))
    convolutions = [layer for layer in model.layers if "conv1d" in layer.name]
    assert [layer.kernel.shape for layer in convolutions] == [(3, 2_500, 32), (3, 32, 64)]


def test_the_2d_model_flattens_4_by_83_by_32() -> None:
    model = build_model("cnn2d", (96, 1_366), 8, plain_scaler(96))
    (flatten,) = [layer for layer in model.layers if "flatten" in layer.name]
    assert flatten.input.shape == (None, 4, 83, 32)


def test_an_unknown_model_names_the_known_ones() -> None:
    with pytest.raises(ModelError, match="unknown model 'resnet'; known are dnn, cnn1d, cnn2d"):
        build_model("resnet", (80,), 8, plain_scaler(80))


def test_a_tensor_of_another_rank_is_refused() -> None:
    with pytest.raises(ModelError, match=r"model dnn: needs a feature with 1 axes, not one of shape \(80, 2500\)"):
        build_model("dnn", (80, 2_500), 8, plain_scaler(80))


def test_a_tensor_too_small_for_the_convolutions_is_refused() -> None:
    with pytest.raises(ModelError, match=r"model cnn2d: a feature of shape \(96, 20\) is too small"):
        build_model("cnn2d", (96, 20), 8, plain_scaler(96))


@pytest.mark.parametrize(
    ("name", "parameters"), [("linear518", 518 * 8 + 8), ("cnn_time", 153_600 + 2 * (64 + 128 + 128) + 256 * 8 + 8)]
)
def test_our_models_are_as_small_as_they_say(name: str, parameters: int) -> None:
    shape = shape_of(name)
    # Convolutions: 96 x 5 x 64, 64 x 5 x 128 and 128 x 5 x 128; BatchNorm: two numbers for each filter.
    assert trainable_parameters(build_model(name, shape, 8, plain_scaler(shape[0]))) == parameters


def test_the_model_along_time_takes_clips_of_any_length() -> None:
    for frames in (40, 234, 1_366):
        model = build_model("cnn_time", (96, frames), 3, plain_scaler(96))
        assert probabilities(model, np.zeros((2, 96, frames), np.float32)).shape == (2, 3)


def test_a_number_far_off_counts_no_more_than_three_deviations_in_the_linear_model() -> None:
    model = build_model("linear518", (518,), 4, plain_scaler(518))
    x = np.random.default_rng(0).standard_normal((5, 518)).astype(np.float32)
    x[:, 7], other = 3.0, x.copy()
    other[:, 7] = 1e6
    np.testing.assert_array_equal(probabilities(model, x), probabilities(model, other))
