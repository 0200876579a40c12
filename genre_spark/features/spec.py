"""What a feature is: a frozen description with a shape and a digest.

A spec is data. The study's three stand in `STUDY_SPECS`, one per family of librosa's in `FRAME_SPECS`; users add theirs
under `features:` in a settings file.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_serializer, model_validator

from genre_spark.corpora.tracks import TRACK_SCHEMA
from genre_spark.errors import FeatureSpecError
from genre_spark.features.bounds import MOST_SEGMENTS, out_of_range, too_large
from genre_spark.features.families import PARAMETERS, Kind, impossible, not_taken, rows_of

# Part of every digest: raise it when the same spec starts to give other numbers.
ALGORITHM_VERSION = 2

# Strict: YAML's `true` and "40" are no numbers.
Positive = Annotated[int, Field(gt=0, strict=True)]
Number = Annotated[float, Field(strict=True)]
Statistic = Literal["mean", "std", "min", "max", "median", "skew", "kurtosis"]
Window = Literal["hann", "hamming", "blackman", "blackmanharris", "nuttall", "boxcar"]

# A parameter that only some kinds take is None for the others; its type is the one that it has where it is taken.
_BY_KIND: Any = Field(default=None)


class Segments(BaseModel):
    """A clip cut into parts of equal length, each a clip of its own.

    Segment number i begins at ``i * (length_s - overlap_s)``. At the sample rate of the spec, its first sample and its
    number of samples are these times rounded to the nearest sample (halves up). What a clip is too short for is zeros.

    Parameters
    ----------
    count : int
        Number of segments.
    length_s, overlap_s : float
        Length of one, and how much of it the next one shares, in seconds. The defaults are those that the study names
        as future work: 6 parts of 5 s with 10 ms overlap, 29.95 s in all.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    count: Annotated[Positive, Field(le=MOST_SEGMENTS)] = 6
    length_s: Annotated[Number, Field(gt=0.0)] = 5.0
    overlap_s: Annotated[Number, Field(ge=0.0)] = 0.01

    @model_validator(mode="before")
    @classmethod
    def _knows_all_names(cls, content: Any) -> Any:
        for name in content if isinstance(content, Mapping) else ():
            if name not in cls.model_fields:
                raise ValueError(f"{name}={content[name]!r} is no parameter; it takes {', '.join(cls.model_fields)}")
        return content

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        if self.overlap_s >= self.length_s:
            raise ValueError(f"overlap_s={self.overlap_s} must be below length_s={self.length_s}")
        return self

    def start_s(self, number: int) -> float:
        """Return the time at which segment `number` (from 0) begins, in seconds."""
        return number * (self.length_s - self.overlap_s)


class FeatureSpec(BaseModel):
    """One feature of a track: librosa's parameters, and how a clip of any length gets one shape.

    A kind takes those parameters of librosa's function of its name that stand in
    `genre_spark.features.families.PARAMETERS`, with librosa's defaults. All others are as librosa has them, and one
    that is named is refused; so are sizes beyond all reason (`genre_spark.features.bounds`).

    Parameters
    ----------
    name : str
        Name of the column in a dataset.
    kind : str
        Function of `librosa.feature`, or one of: `mel_spectrogram`, `melspectrogram` in dB (`librosa.power_to_db`,
        reference 1.0, 80 dB below the loudest bin as floor); `mfcc_delta`, `delta` of `mfcc`; `onset_strength`,
        `librosa.onset.onset_strength`; `fma_518`, the 518 columns of FMA's features.csv.
    sample_rate : int
        Rate that the clip is resampled to, 2,000 to 768,000 Hz.
    hop_length : int
        Samples from one frame to the next.
    n_fft, win_length, window : int, int, str
        Frame and window of the STFT, in samples; `win_length=None` is `n_fft`. For `tempogram` `win_length` is the
        length of the autocorrelation in frames.
    frame_length : int
        Samples in a frame, for `rms` and `zero_crossing_rate`.
    n_mels, n_mfcc : int
        Number of mel bands, and of coefficients (at most `n_mels`).
    fmin, fmax : float
        Edges of the mel filter bank in Hz (`fmax=None`: the Nyquist frequency), or the lowest frequency of the
        contrast's bands or the constant-Q transform.
    order, width : int
        Order of the derivative and frames that it is taken from.
    n_chroma, n_octaves, bins_per_octave, win_len_smooth : int
        Shape of the chroma, of the constant-Q transform, and frames that CENS smooths over.
    tuning : float, optional
        Deviation from A440 in fractions of a bin; None: estimated from each clip.
    n_bands, quantile, roll_percent : int, float, float
        Of the spectral contrast and the roll-off.
    lag, max_size : int
        Of the onset strength, in frames and mel bands.
    n_samples : int, optional
        The clip is cut or zero-padded to this many samples before the analysis.
    n_frames : int, optional
        This many frames are kept; a clip too short for them is zero-padded before the analysis.
    summary : tuple of {"mean", "std", "min", "max", "median", "skew", "kurtosis"}, optional
        Statistics over time that replace the time axis, as NumPy and `scipy.stats` define them (of a row that doesn't
        change, the skew is 0 and the kurtosis -3). A single name may stand alone.
    segments : Segments, optional
        Each track gives an array per segment instead of one.

    Notes
    -----
    Frames are centred, as librosa's are by default: a signal of n samples has ``1 + n // hop_length`` of them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    kind: Kind
    sample_rate: Positive
    hop_length: Positive = 512
    n_fft: Positive = _BY_KIND
    win_length: Positive | None = None
    window: Window = _BY_KIND
    frame_length: Positive = _BY_KIND
    n_mels: Positive = _BY_KIND
    n_mfcc: Positive = _BY_KIND
    fmin: Annotated[Number, Field(ge=0.0)] = _BY_KIND
    fmax: Number | None = None
    order: Annotated[Positive, Field(le=2)] = _BY_KIND
    width: Positive = _BY_KIND
    n_chroma: Positive = _BY_KIND
    n_octaves: Positive = _BY_KIND
    bins_per_octave: Positive = _BY_KIND
    win_len_smooth: Positive = _BY_KIND
    tuning: Annotated[Number, Field(ge=-0.5, le=0.5)] | None = None
    n_bands: Positive = _BY_KIND
    quantile: Annotated[Number, Field(gt=0.0, lt=1.0)] = _BY_KIND
    roll_percent: Annotated[Number, Field(gt=0.0, lt=1.0)] = _BY_KIND
    lag: Positive = _BY_KIND
    max_size: Positive = _BY_KIND
    n_samples: Positive | None = None
    n_frames: Positive | None = None
    summary: Annotated[tuple[Statistic, ...], Field(min_length=1)] | None = None
    segments: Segments | None = None

    @model_validator(mode="before")
    @classmethod
    def _with_defaults_of_the_kind(cls, content: Any) -> Any:
        if not isinstance(content, Mapping):
            return content
        kind = content.get("kind")
        if not isinstance(kind, str) or kind not in PARAMETERS:
            return content
        taken = PARAMETERS[kind]
        for name, value in content.items():
            reason = not_taken(kind, name, value)
            if reason:
                raise ValueError(reason)
        given = {name: value for name, value in content.items() if value is not None}
        if isinstance(given.get("summary"), str):
            given["summary"] = (given["summary"],)
        return {name: value for name, value in taken.items() if value is not None} | given

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        if self.name in TRACK_SCHEMA.names:
            raise ValueError(f"name={self.name!r} is a column of every dataset; take another")
        reason = out_of_range(self) or impossible(self) or too_large(self)
        if reason:
            raise ValueError(reason)
        return self

    @model_serializer(mode="wrap")
    def _without_what_is_not_taken(self, serialise: Any) -> dict[str, Any]:
        return {name: value for name, value in serialise(self).items() if value is not None}

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array, of one segment where there are segments.

        ``(rows, t)``, or ``(statistics * rows,)`` for a summary: all rows of the first statistic, then of the second.
        """
        if self.kind == "fma_518":
            return (518,)
        rows = rows_of(self)
        if self.summary is not None:
            return (len(self.summary) * rows,)
        if self.n_frames is not None:
            return (rows, self.n_frames)
        assert self.n_samples is not None  # the validator's "exactly one"
        return (rows, 1 + self.n_samples // self.hop_length)

    @property
    def segment_starts_s(self) -> tuple[float, ...]:
        """Where the segments begin, in seconds; ``(0.0,)`` without segments."""
        if self.segments is None:
            return (0.0,)
        return tuple(self.segments.start_s(number) for number in range(self.segments.count))

    @property
    def digest(self) -> str:
        """SHA-256 over all that decides the numbers (the name does not), 16 hexadecimal digits of it."""
        content = json.dumps([ALGORITHM_VERSION, self.model_dump(mode="json", exclude={"name"})], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]


def _named(*specs: FeatureSpec) -> Mapping[str, FeatureSpec]:
    return {spec.name: spec for spec in specs}


# The study's inputs (80 MFCCs; 2,500 frames of a 30 s clip mean hop 512 at 44.1 kHz, where it has 2,584) and the
# usual setting of a 96 x 1366 mel spectrogram: 29.12 s at 12 kHz.
STUDY_SPECS: Mapping[str, FeatureSpec] = _named(
    FeatureSpec(name="mfcc_mean", kind="mfcc", sample_rate=44_100, n_mfcc=80, summary=("mean",)),
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

# librosa's other families at its own rate: 30 s are 1,292 frames.
_HALF_RATE: dict[str, Any] = {"sample_rate": 22_050, "n_samples": 661_500}
FRAME_SPECS: Mapping[str, FeatureSpec] = _named(
    *(
        FeatureSpec(name=kind, kind=kind, **_HALF_RATE)
        for kind in PARAMETERS
        if kind not in ("mfcc", "mfcc_delta", "fma_518")
    ),
    FeatureSpec(name="mfcc_delta", kind="mfcc_delta", **_HALF_RATE),
    FeatureSpec(name="mfcc_delta2", kind="mfcc_delta", order=2, **_HALF_RATE),
    # FMA's program takes each clip at its own rate; 95 % of its clips have this one.
    FeatureSpec(name="fma_518", kind="fma_518", sample_rate=44_100),
)

REGISTRY: Mapping[str, FeatureSpec] = {**STUDY_SPECS, **FRAME_SPECS}


def build_spec(name: str, parameters: Mapping[str, Any]) -> FeatureSpec:
    """Check a specification as it stands in a settings file or a manifest.

    Raises
    ------
    FeatureSpecError
        If a parameter is unknown, of a wrong type or impossible; the message names it and its value.
    """
    if parameters.get("name", name) != name:
        raise FeatureSpecError(f"features.{name}: name={parameters['name']!r} must be left out: {name!r} is its name")
    try:
        return FeatureSpec.model_validate({**parameters, "name": name})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        what = first["msg"].removeprefix("Value error, ")
        if first["type"] == "missing":
            what = f"{where} must be given"
        elif where == "segments" and first["type"] == "value_error":
            what = f"{where}: {what}"
        elif where:
            what = f"{where}={first['input']!r}: {what}"
        raise FeatureSpecError(f"features.{name}: {what}") from None


def resolve_specs(names: Iterable[str], user_specs: Mapping[str, Mapping[str, Any]] | None = None) -> list[FeatureSpec]:
    """Turn names into specs; a user's spec wins over ours of the same name.

    Raises
    ------
    FeatureSpecError
        If a name is unknown or stands twice, or a user's spec is impossible.
    """
    registry = dict(REGISTRY)
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
