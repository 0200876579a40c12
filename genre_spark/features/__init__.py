"""Audio to arrays: pure NumPy and SciPy, no Spark and no files but the audio."""

from genre_spark.features.audio import Pcm, decode
from genre_spark.features.spec import FRAME_SPECS, STUDY_SPECS, FeatureSpec, Segments, resolve_specs

__all__ = [
    "FRAME_SPECS",
    "STUDY_SPECS",
    "FeatureSpec",
    "Pcm",
    "Segments",
    "compute_features",
    "decode",
    "extract_file",
    "resolve_specs",
]


def __getattr__(name: str) -> object:
    # SciPy and soxr take a moment to import; who only needs a spec (the feed, the settings) doesn't wait for them.
    if name in ("compute_features", "extract_file"):
        from genre_spark.features import compute

        return getattr(compute, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
