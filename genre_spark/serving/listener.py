"""The process that listens: it loads the model once, then decodes what strangers drop, and may crash over it.

`genre_spark.serving.worker` starts it and ends it. What travels between the two is JSON and plain numbers
(`genre_spark.dataset.isolated_child`): a decoder that was taken over can't hand objects to the server.
"""

import ctypes
import math
import os
import socket
import sys
from pathlib import Path
from typing import Any

import numpy as np

from genre_spark import errors
from genre_spark.dataset.isolated_child import Answer, detach, limit_memory, serve
from genre_spark.errors import AudioError
from genre_spark.features.audio import Pcm, decode
from genre_spark.features.compute import compute_features
from genre_spark.features.spec import FeatureSpec
from genre_spark.settings_sections import AudioSettings

# Of what is drawn; the model's own feature may be no picture at all.
RATE, N_FFT, HOP, N_MELS = 22_050, 2_048, 512, 96
# A picture has no more columns than a wide screen has dots, and 80 dB of 256 shades.
MOST_COLUMNS = 1_200
RANGE_DB = 80.0


class Listener:
    """Answers the requests of a `Worker`: first `{"load": ...}`, then any number of `{"path": ...}`."""

    def __init__(self) -> None:
        self._bundle: Any = None
        self._audio = AudioSettings()
        self._precision: float | None = None

    def __call__(self, request: dict[str, Any]) -> Answer:
        """Load the model, or listen to a file."""
        if "load" in request:
            self._load(**request["load"])
            return {}, {}
        return self._listen(request["path"])

    def _load(self, bundle: str, audio: dict[str, Any], precision: float | None) -> None:
        from genre_spark.models.architectures import probabilities
        from genre_spark.models.bundle import load_bundle

        self._audio, self._precision = AudioSettings.model_validate(audio), precision
        self._bundle = load_bundle(Path(bundle))
        # The first answer of a model takes longer than all others: not the first visitor's.
        probabilities(self._bundle.model, np.zeros((1, *self._bundle.description.spec.shape), np.float32))
        if self._audio.max_memory_mb is not None and sys.platform.startswith("linux"):
            limit_memory(self._audio.max_memory_mb)

    def _listen(self, path: str) -> Answer:
        from genre_spark.models.predict import Failure
        from genre_spark.models.timeline import predict_timelines

        (found,) = predict_timelines(self._bundle, [path], audio=self._audio, precision=self._precision)
        if isinstance(found, Failure):
            raise getattr(errors, found.error, AudioError)(found.detail)
        labels, moments = self._bundle.description.labels, found.timeline.moments
        pcm = decode(path, **self._audio.decoding())
        arrays = {
            "probabilities": np.array([found.prediction.probabilities[label] for label in labels]),
            "of_moments": np.array([[moment.probabilities[label] for label in labels] for moment in moments]),
            "spans_s": np.array([[moment.start_s, moment.end_s] for moment in moments]),
            "shades": shades(spectrogram_db(pcm)),
        }
        return {"duration_s": found.timeline.duration_s, "is_sure": found.prediction.genre is not None}, arrays


def spectrogram_db(pcm: Pcm) -> np.ndarray:
    """Mel spectrogram of a whole file in dB `[shape=(N_MELS, t)]`."""
    n_samples = math.ceil(len(pcm.samples) * RATE / pcm.sample_rate)
    spec = FeatureSpec(
        name="picture", kind="mel_spectrogram", sample_rate=RATE, n_fft=N_FFT, hop_length=HOP, n_mels=N_MELS,
        n_samples=n_samples,
    )  # fmt: skip
    return compute_features(pcm, [spec])[spec.name]


def shades(mel_db: np.ndarray) -> np.ndarray:
    """Make a picture of a mel spectrogram.

    Parameters
    ----------
    mel_db : np.ndarray [shape=(n_mels, t)]
        In dB.

    Returns
    -------
    np.ndarray [shape=(n_mels, at most MOST_COLUMNS), dtype=uint8]
        255 at the loudest bin, 0 from `RANGE_DB` below it on; a column is the loudest of the frames it stands for.
    """
    n_frames = mel_db.shape[1]
    starts = np.arange(min(n_frames, MOST_COLUMNS)) * n_frames // min(n_frames, MOST_COLUMNS)
    columns = np.maximum.reduceat(mel_db, starts, axis=1)
    return np.clip(np.rint(255 * (1 + (columns - columns.max()) / RANGE_DB)), 0, 255).astype(np.uint8)


def main(descriptor: int, parent: int) -> None:
    """Listen until the server closes the connection or ends."""
    connection = socket.socket(fileno=descriptor)
    if sys.platform.startswith("linux"):
        # None of the server's files; and this process ends with the server.
        detach(descriptor, ctypes.CDLL(None), parent, None)
    serve(connection, Listener())


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
    # Nothing of a process that reads files of strangers is flushed or cleaned up.
    os._exit(0)
