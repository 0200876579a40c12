"""How sure a model is, made true: one temperature for its probabilities, and thresholds below which it isn't sure.

All of it is about tracks, after the segments' vote. The temperature is that of Guo, Pleiss, Sun and Weinberger, "On
calibration of modern neural networks", ICML 2017 (arXiv:1706.04599): softmax(log p / T), fitted on the validation part.
"""

import logging
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from genre_spark.errors import BundleError
from genre_spark.models.reliability import Share, expected_calibration_error
from genre_spark.models.vote import soft_vote

if TYPE_CHECKING:
    import keras

    from genre_spark.dataset.feed import Feed
    from genre_spark.dataset.scaler import Scaler

# Where the temperature is looked for. Without an end a part on which every track is right would get 0, which makes
# every answer certain.
TEMPERATURES = (0.1, 10.0)
# Fewer tracks say nothing about a temperature, and fewer answers nothing about a precision.
FEWEST_TRACKS = 20
FEWEST_ANSWERS = 10
PRECISIONS = (0.7, 0.8, 0.9, 0.95)

# Smallest normal float32: a softmax in float32 gives 0 for what is smaller, and of 0 there is no logarithm.
_TINY = float(np.finfo(np.float32).tiny)

logger = logging.getLogger(__name__)


class Threshold(BaseModel):
    """Where a model begins to be sure enough.

    Parameters
    ----------
    precision : float
        Share of right answers that was asked for.
    threshold : float
        Top probability from which on the answers on validation reached it.
    coverage : float
        Share of the validation tracks that got an answer.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    precision: Annotated[float, Field(gt=0.0, le=1.0)]
    threshold: Share
    coverage: Share


class Calibration(BaseModel):
    """What the validation part tells of a model's probabilities; part of its bundle.

    Parameters
    ----------
    temperature : float
        1 leaves the probabilities as they are.
    n : int
        Validation tracks that it was fitted on.
    ece_before, ece_after : float
        Expected calibration error on these tracks, without and with the temperature.
    thresholds : list of Threshold
        By rising precision; those of `PRECISIONS` that were reached.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    temperature: Annotated[float, Field(ge=0.01, le=100.0)]
    n: Annotated[int, Field(ge=1)]
    ece_before: Share
    ece_after: Share
    thresholds: list[Threshold] = []

    @model_validator(mode="after")
    def _in_order(self) -> "Calibration":
        precisions = [threshold.precision for threshold in self.thresholds]
        if precisions != sorted(set(precisions)):
            raise ValueError(f"thresholds are for precisions {precisions}, which must rise")
        return self


def calibrated(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Sharpen or soften probabilities; the most probable genre stays the same one.

    Parameters
    ----------
    probabilities : np.ndarray [shape=(n, genres)]
        Rows sum to 1.
    temperature : float
        Below 1 sharpens, above 1 softens, 1 changes nothing.

    Returns
    -------
    np.ndarray [shape=(n, genres), dtype=float32]
        softmax(log p / temperature).
    """
    p = np.asarray(probabilities)
    if temperature == 1.0:
        return p.astype(np.float32)
    powers = _log(p) / temperature
    powers = np.exp(powers - powers.max(axis=1, keepdims=True))
    softened = (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)
    # What differed before may be equal in float32: then the first of the equal ones would win.
    top = p.argmax(axis=1)
    for row in np.flatnonzero(softened.argmax(axis=1) != top):
        softened[row, top[row]] = np.nextafter(softened[row].max(), np.float32(1.0))
    return softened


def track_probabilities(of_segments: np.ndarray, calibration: Calibration | None) -> np.ndarray:
    """Probabilities of tracks as users see them: the segments' vote on the raw ones, then the temperature.

    Parameters
    ----------
    of_segments : np.ndarray [shape=(tracks, segments, genres), dtype=float32]
        What the model says of each segment.
    calibration : Calibration, optional
        The bundle's.

    Returns
    -------
    np.ndarray [shape=(tracks, genres), dtype=float32]
    """
    p = soft_vote(of_segments)
    return p if calibration is None else calibrated(p, calibration.temperature)


def fit_temperature(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Find the temperature with the smallest negative log-likelihood.

    Parameters
    ----------
    probabilities : np.ndarray [shape=(n, genres)]
    labels : np.ndarray [shape=(n,)]
        Index of the true genre.

    Returns
    -------
    float
        Within `TEMPERATURES`: where every track is right, as near to the lower end as makes no difference. 1 of fewer
        than `FEWEST_TRACKS` tracks, with a warning, and where none is better than 1.
    """
    from scipy.optimize import minimize_scalar

    if len(labels) < FEWEST_TRACKS:
        logger.warning(
            "%d validation tracks are too few to calibrate the probabilities (at least %d): they stay as they are",
            len(labels), FEWEST_TRACKS,
        )  # fmt: skip
        return 1.0
    log_p, rows = _log(probabilities), np.arange(len(labels))

    def loss(log_temperature: float) -> float:
        scaled = log_p / np.exp(log_temperature)
        scaled = scaled - scaled.max(axis=1, keepdims=True)
        return float((np.log(np.exp(scaled).sum(axis=1)) - scaled[rows, labels]).mean())

    low, high = np.log(TEMPERATURES)
    # Convex in 1 / T, so that there is one minimum.
    found = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x)) if found.fun < loss(0.0) else 1.0


def threshold_for(
    probabilities: np.ndarray, labels: np.ndarray, precision: float, *, fewest: int = 1
) -> Threshold | None:
    """Find from which top probability on the answers are right often enough.

    Parameters
    ----------
    probabilities : np.ndarray [shape=(n, genres)]
        Calibrated ones of the validation tracks.
    labels : np.ndarray [shape=(n,)]
        Index of the true genre.
    precision : float
        Share of right answers among those that are given.
    fewest : int
        Answers that there must be: of one that is right the precision is 1, and that says nothing.

    Returns
    -------
    Threshold or None
        The smallest one, among the top probabilities that occur; None where none gives this precision.
    """
    p = np.asarray(probabilities)
    confidence, hits = p.max(axis=1), p.argmax(axis=1) == np.asarray(labels)
    order = np.argsort(-confidence, kind="stable")
    answers = np.arange(1, len(order) + 1)
    # Tracks that are equally sure are answered together: only behind the last of them may the line be drawn.
    is_last = np.append(confidence[order][1:] != confidence[order][:-1], True)
    reached = np.flatnonzero(is_last & (answers >= fewest) & (np.cumsum(hits[order]) >= precision * answers - 1e-9))
    if not len(reached):
        return None
    last = int(reached[-1])
    return Threshold(
        precision=precision, threshold=float(confidence[order[last]]), coverage=float(answers[last] / len(order))
    )


def calibrate(probabilities: np.ndarray, labels: np.ndarray) -> Calibration:
    """Fit temperature and thresholds on the raw probabilities `[shape=(n, genres)]` of the validation tracks."""
    temperature = fit_temperature(probabilities, labels)
    p = calibrated(probabilities, temperature)
    thresholds = [threshold_for(p, labels, precision, fewest=FEWEST_ANSWERS) for precision in PRECISIONS]
    return Calibration(
        temperature=temperature,
        n=len(labels),
        ece_before=expected_calibration_error(probabilities, labels),
        ece_after=expected_calibration_error(p, labels),
        thresholds=[threshold for threshold in thresholds if threshold] if len(labels) >= FEWEST_TRACKS else [],
    )


def fit_calibration(trained: "keras.Model", scaler: "Scaler", validation: "Feed") -> Calibration:
    """Calibrate a trained model on the validation part.

    Parameters
    ----------
    trained : keras.Model
        With the weights that are kept.
    scaler : Scaler
        The one that it was built with.
    validation : Feed
        Of the validation part; it is read once.

    Raises
    ------
    FeedError
        If the data can't be read.
    """
    from genre_spark.models.architectures import build_model, probabilities

    # As `load_bundle` will build it: on one device and in float32, whatever it was trained on and in.
    model = build_model(trained.name, validation.spec.shape, trained.output_shape[-1], scaler)
    model.set_weights(trained.get_weights())
    batches = [(batch.track_ids, probabilities(model, batch.x), batch.y) for batch in validation.epoch(0)]
    track_ids, of_rows, labels = (np.concatenate(column) for column in zip(*batches, strict=True))
    # The rows of a track side by side.
    order = np.argsort(track_ids, kind="stable").reshape(validation.n_tracks, -1)
    return calibrate(soft_vote(of_rows[order]), labels[order[:, 0]])


def threshold_of(calibration: Calibration | None, precision: float) -> float:
    """Look up from which top probability on a model answers with this precision.

    Raises
    ------
    BundleError
        If there is no threshold for it; the message names those that there are.
    """
    thresholds = calibration.thresholds if calibration else []
    for threshold in thresholds:
        if np.isclose(threshold.precision, precision, rtol=0, atol=1e-9):
            return threshold.threshold
    known = ", ".join(f"{threshold.precision:g}" for threshold in thresholds)
    reason = f"it has those for {known}" if known else "it has none; train it again with more validation tracks"
    raise BundleError(f"the bundle has no threshold for precision={precision:g}: {reason}")


def _log(probabilities: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(np.asarray(probabilities, np.float64), _TINY))
