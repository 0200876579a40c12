"""The study's three models, to the parameter, and ours; pure Keras 3.

Each begins with a Normalization layer that carries the scaler, so that a model takes features as they come out of the
extraction. Trainable parameters for eight genres: 88,584 (`dnn`), 255,656 (`cnn1d`) and 2,796,648 (`cnn2d`) of the
study's; 4,152 (`linear518`) and 156,296 (`cnn_time`) of ours. What else was tried stands in docs/models.md.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from genre_spark.dataset.scaler import Scaler
from genre_spark.errors import ModelError
from genre_spark.models.backend import keras

layers = keras.layers

# The study names an L2 regulariser and no strength: this is Keras' default.
L2_STRENGTH = 0.01
DROPOUT = 0.15


@dataclass(frozen=True)
class Architecture:
    """One way from a feature to genres.

    Attributes
    ----------
    name : str
        What `--model` takes.
    feature : str
        Column of the dataset that it reads.
    rank : int
        Number of axes of that feature's tensor.
    hidden : callable
        From the standardised input `[shape=(batch, *feature shape)]` and BatchNorm's momentum to the last hidden layer
        `[shape=(batch, units)]`.
    """

    name: str
    feature: str
    rank: int
    hidden: Callable[[keras.KerasTensor, float], keras.KerasTensor]


def _dnn(x: keras.KerasTensor, momentum: float) -> keras.KerasTensor:
    for _ in range(2):
        x = layers.Dense(256, activation="relu")(x)
        x = layers.Dropout(0.5)(x)
    return x


def _cnn1d(x: keras.KerasTensor, momentum: float) -> keras.KerasTensor:
    # The convolution runs along the coefficients; the frames are its channels.
    for filters in (32, 64):
        x = layers.Conv1D(filters, 3, activation="relu", kernel_regularizer=keras.regularizers.L2(L2_STRENGTH))(x)
        x = layers.MaxPooling1D(2)(x)
        x = layers.BatchNormalization(momentum=momentum)(x)
        x = layers.Dropout(DROPOUT)(x)
    return layers.Flatten()(x)


def _cnn2d(x: keras.KerasTensor, momentum: float) -> keras.KerasTensor:
    x = layers.Reshape((*x.shape[1:], 1))(x)
    for filters in (32, 64, 64, 32):
        x = layers.Conv2D(filters, 3, activation="relu")(x)
        x = layers.MaxPooling2D(2)(x)
        x = layers.BatchNormalization(momentum=momentum)(x)
        x = layers.Dropout(DROPOUT)(x)
    return layers.Dense(256, activation="relu")(layers.Flatten()(x))


def _linear518(x: keras.KerasTensor, momentum: float) -> keras.KerasTensor:
    # Cut at three deviations: statistics such as kurtosis have outliers that would decide alone. Half of the numbers
    # are left out in each step, so that none is relied on.
    x = layers.Rescaling(1 / 3)(x)
    x = layers.Activation("hard_tanh")(x)
    return layers.Dropout(0.5)(layers.Rescaling(3.0)(x))


def _cnn_time(x: keras.KerasTensor, momentum: float) -> keras.KerasTensor:
    # The convolution runs along time; the bands are its channels, so that one filter sees a whole spectrum (S. Dieleman
    # and B. Schrauwen 2014, "End-to-end learning for music audio"). A clip's level and contrast are taken out first.
    x = layers.AveragePooling1D(4)(layers.Permute((2, 1))(x))
    x = layers.LayerNormalization(axis=(1, 2), center=False, scale=False)(x)
    x = layers.SpatialDropout1D(0.1)(x)
    for filters in (64, 128, 128):
        x = layers.Conv1D(filters, 5, padding="same", use_bias=False)(x)
        x = layers.Activation("relu")(layers.BatchNormalization(momentum=momentum)(x))
        x = layers.MaxPooling1D(4, padding="same")(x)
    x = layers.Concatenate()([layers.GlobalAveragePooling1D()(x), layers.GlobalMaxPooling1D()(x)])
    return layers.Dropout(0.4)(x)


ARCHITECTURES: Mapping[str, Architecture] = {
    architecture.name: architecture
    for architecture in (
        Architecture("dnn", "mfcc_mean", 1, _dnn),
        Architecture("cnn1d", "mfcc", 2, _cnn1d),
        Architecture("cnn2d", "melgram", 2, _cnn2d),
        Architecture("linear518", "fma_518", 1, _linear518),
        Architecture("cnn_time", "melgram", 2, _cnn_time),
    )
}


def find_architecture(name: str) -> Architecture:
    """Look an architecture up by name.

    Raises
    ------
    ModelError
        If there is none; the message names those that there are.
    """
    if name not in ARCHITECTURES:
        raise ModelError(f"unknown model {name!r}; known are {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[name]


def build_model(
    name: str, shape: tuple[int, ...], n_genres: int, scaler: Scaler, *, batch_norm_momentum: float = 0.99
) -> keras.Model:
    """Build an untrained model.

    Parameters
    ----------
    name : str
        Name of an architecture.
    shape : tuple of int
        Shape of the feature's tensor.
    n_genres : int
        Number of outputs.
    scaler : Scaler
        Mean and variance of the training part, `[shape=(shape[0],)]` or `[shape=shape]`.
    batch_norm_momentum : float
        How slowly BatchNorm's moving statistics follow in training; it changes nothing in a trained model.

    Returns
    -------
    keras.Model
        From `[shape=(batch, *shape)]` to probabilities `[shape=(batch, n_genres)]`.

    Raises
    ------
    ModelError
        If the architecture is unknown, the tensor too small or of another rank, or the scaler of another shape.
    """
    architecture = find_architecture(name)
    if len(shape) != architecture.rank:
        raise ModelError(f"model {name}: needs a feature with {architecture.rank} axes, not one of shape {shape}")
    inputs = keras.Input(shape, name=architecture.feature)
    if scaler.mean.shape not in (tuple(shape), tuple(shape[:1])):
        raise ModelError(f"model {name}: a scaler of shape {scaler.mean.shape} doesn't fit a feature of shape {shape}")
    # Axis 1 of the batch is the coefficient or the band: one mean and variance each, over time where there is time; or
    # one for each cell.
    axes = tuple(range(1, 1 + scaler.mean.ndim))
    # In float32 whatever the policy: bfloat16 has 8 bits, which a large mean takes all of.
    normalization = layers.Normalization(axis=axes, mean=scaler.mean, variance=scaler.variance, dtype="float32")
    standardised = normalization(inputs)
    try:
        hidden = architecture.hidden(standardised, batch_norm_momentum)
    except ValueError:
        raise ModelError(f"model {name}: a feature of shape {shape} is too small for its convolutions") from None
    return keras.Model(inputs, layers.Dense(n_genres, activation="softmax", name="genre")(hidden), name=name)


def trainable_parameters(model: keras.Model) -> int:
    """Count the weights that training changes: BatchNorm's moving statistics and the scaler are left out."""
    return sum(math.prod(weight.shape) for weight in model.trainable_weights)


def probabilities(model: keras.Model, x: np.ndarray) -> np.ndarray:
    """Probability of every genre `[shape=(batch, n_genres), dtype=float32]` for tensors `[shape=(batch, *shape)]`."""
    return np.asarray(model.predict_on_batch(x), dtype=np.float32)
