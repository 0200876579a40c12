"""Audio to arrays: pure NumPy and librosa, no Spark and no files but the audio."""

from genre_spark.features.audio import Pcm, decode
from genre_spark.features.spec import STUDY_SPECS, FeatureSpec, resolve_specs

__all__ = ["STUDY_SPECS", "FeatureSpec", "Pcm", "compute_features", "decode", "extract_file", "resolve_specs"]


def __getattr__(name: str) -> object:
    # librosa takes seconds to import; who only needs a spec (the feed, the settings) doesn't wait for it.
    if name in ("compute_features", "extract_file"):
        from genre_spark.features import compute

        return getattr(compute, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
