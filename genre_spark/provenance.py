"""How an artefact says what made it."""

import importlib.metadata
import platform
from collections.abc import Iterable
from datetime import UTC, datetime

import genre_spark


def versions_of(libraries: Iterable[str]) -> dict[str, str]:
    """Versions of this package, of Python, and of the named libraries."""
    own = {"genre_spark": genre_spark.__version__, "python": platform.python_version()}
    return own | {name: importlib.metadata.version(name) for name in libraries}


def now() -> str:
    """Time of day in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
