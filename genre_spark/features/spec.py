"""What a feature is: a frozen description with a shape and a digest.

A spec is data. The study's three stand in `STUDY_SPECS`; users add theirs under `features:` in a settings file.
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from genre_spark.corpora.tracks import TRACK_SCHEMA
from genre_spark.errors import FeatureSpecError

# Part of every digest: raise it when the same spec starts to give other numbers.
ALGORITHM_VERSION = 1

Positive = Annotated[int, Field(gt=0)]


class FeatureSpec(BaseModel):
    """One feature of a track: librosa's parameters, and how a clip of any length gets one shape.

    Parameters
    ----------
    name : str
        Name of the column in a dataset.
    kind : {"mfcc", "mel_spectrogram"}
        `librosa.feature.mfcc`, or `librosa.feature.melspectrogram` in dB (`librosa.power_to_db`, reference 1.0,
        80 dB below the loudest bin as floor).
    sample_rate : int
        Rate that the clip is resampled to, in Hz.
    n_fft, hop_length : int
        Window and hop of the STFT, in samples.
    n_mels : int
        Number of mel bands.
    n_mfcc : int, optional
        Number of coefficients; only for `mfcc`, at most `n_mels`.
    fmin, fmax : float
        Edges of the mel filter bank in Hz; `fmax=None` is the Nyquist frequency.
    n_samples : int, optional
        The clip is cut or zero-padded to this many samples before the analysis.
    n_frames : int, optional
        This many frames are kept; a clip too short for them is zero-padded before the analysis.
    summary : {"mean"}, optional
        Statistic over time that replaces the time axis.

    Notes
    -----
    Frames are centred, as librosa's are by default: a signal of n samples has ``1 + n // hop_length`` of them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    kind: Literal["mfcc", "mel_spectrogram"]
    sample_rate: Positive
    n_fft: Positive = 2048
    hop_length: Positive = 512
    n_mels: Positive = 128
    n_mfcc: Positive | None = None
    fmin: float = Field(default=0.0, ge=0.0)
    fmax: float | None = None
    n_samples: Positive | None = None
    n_frames: Positive | None = None
    summary: Literal["mean"] | None = None

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        if self.name in TRACK_SCHEMA.names:
            raise ValueError(f"name={self.name!r} is a column of every dataset; take another")
        nyquist = self.sample_rate / 2
        if (self.kind == "mfcc") != (self.n_mfcc is not None):
            raise ValueError(f"n_mfcc={self.n_mfcc} must be given for kind=mfcc, and only for it")
        if self.n_mfcc is not None and self.n_mfcc > self.n_mels:
            raise ValueError(f"n_mfcc={self.n_mfcc} must be at most n_mels={self.n_mels}")
        if self.fmax is not None and not self.fmin < self.fmax <= nyquist:
            raise ValueError(f"fmax={self.fmax} must be above fmin={self.fmin} and at most {nyquist} Hz (Nyquist)")
        if self.fmin >= nyquist:
            raise ValueError(f"fmin={self.fmin} must be below {nyquist} Hz (Nyquist)")
        lengths = [self.n_samples, self.n_frames, self.summary]
        if sum(length is not None for length in lengths) != 1:
            raise ValueError("exactly one of n_samples, n_frames and summary must be given: it fixes the shape")
        return self

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array: ``(n_mfcc or n_mels,)`` for a summary, else ``(n_mfcc or n_mels, t)``."""
        rows = self.n_mfcc or self.n_mels
        if self.summary is not None:
            return (rows,)
        if self.n_frames is not None:
            return (rows, self.n_frames)
        assert self.n_samples is not None  # the validator's "exactly one"
        return (rows, 1 + self.n_samples // self.hop_length)

    @property
    def digest(self) -> str:
        """SHA-256 over all that decides the numbers (the name does not), 16 hexadecimal digits of it."""
        content = f"{ALGORITHM_VERSION}:{self.model_dump_json(exclude={'name'})}"
        return hashlib.sha256(content.encode()).hexdigest()[:16]


# The study's inputs (80 MFCCs; 2,500 frames of a 30 s clip mean hop 512 at 44.1 kHz, where it has 2,584) and the
# usual setting of a 96 x 1366 mel spectrogram: 29.12 s at 12 kHz.
STUDY_SPECS: Mapping[str, FeatureSpec] = {
    spec.name: spec
    for spec in (
        FeatureSpec(name="mfcc_mean", kind="mfcc", sample_rate=44_100, n_mfcc=80, summary="mean"),
        FeatureSpec(name="mfcc", kind="mfcc", sample_rate=44_100, n_mfcc=80, n_frames=2_500),
        FeatureSpec(
            name="melgram",
            kind="mel_spectrogram",
            sample_rate=12_000,
            n_fft=512,
            hop_length=256,
            n_mels=96,
            n_samples=349_440,
        ),
    )
}


def build_spec(name: str, parameters: Mapping[str, Any]) -> FeatureSpec:
    """Check a specification as it stands in a settings file or a manifest.

    Raises
    ------
    FeatureSpecError
        If a parameter is unknown, of a wrong type or impossible; the message names it and its value.
    """
    try:
        return FeatureSpec(**{**parameters, "name": name})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        if first["type"] == "missing":
            what = f"{where} must be given"
        elif where:
            what = f"{where}={first['input']!r}: {first['msg']}"
        else:
            what = first["msg"].removeprefix("Value error, ")
        raise FeatureSpecError(f"features.{name}: {what}") from None


def resolve_specs(names: Iterable[str], user_specs: Mapping[str, Mapping[str, Any]] | None = None) -> list[FeatureSpec]:
    """Turn names into specs; a user's spec wins over the study's of the same name.

    Raises
    ------
    FeatureSpecError
        If a name is unknown or stands twice, or a user's spec is impossible.
    """
    registry = dict(STUDY_SPECS)
    registry.update({name: build_spec(name, parameters) for name, parameters in (user_specs or {}).items()})
    chosen: dict[str, FeatureSpec] = {}
    for name in names:
        if name not in registry:
            raise FeatureSpecError(
                f"unknown feature {name!r}; known are {', '.join(sorted(registry))} (add yours under `features:`)"
            )
        if name in chosen:
            raise FeatureSpecError(f"feature {name!r} is named twice")
        chosen[name] = registry[name]
    if not chosen:
        raise FeatureSpecError(f"no feature is named; known are {', '.join(sorted(registry))}")
    return list(chosen.values())
