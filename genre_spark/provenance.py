"""How an artefact says what made it."""

import contextlib
import importlib.metadata
import platform
from collections.abc import Iterable
from datetime import UTC, datetime

import genre_spark


def versions_of(libraries: Iterable[str]) -> dict[str, str]:
    """Versions of this package, of Python, and of those of the named libraries that are installed."""
    versions = {"genre_spark": genre_spark.__version__, "python": platform.python_version()}
    for name in libraries:
        # A Spark distribution's pyspark, say, has no metadata.
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


def now() -> str:
    """Time of day in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
