"""Keras, imported without the noise of its back end: model code says `from genre_spark.models.backend import keras`.

The back end is `KERAS_BACKEND`'s, TensorFlow by default.

Raises
------
EnvironmentSetupError
    On import, if Keras or its back end isn't installed.
"""

import contextlib
import logging
import os
from collections.abc import Iterator

from genre_spark.errors import EnvironmentSetupError


@contextlib.contextmanager
def _stderr_dropped() -> Iterator[None]:
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123 (a descriptor is needed, not a path)
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
try:
    # TensorFlow writes notices about CUDA and oneDNN to file descriptor 2, from C++ and before any log level of its own
    # holds. Errors come as exceptions and are not dropped.
    with _stderr_dropped():
        import keras
except ImportError as error:
    raise EnvironmentSetupError(f"this stage needs Keras: {error}; `pip install 'genre-spark[train]'`") from None

# Each model of a process has functions of its own; TensorFlow takes their tracing for a mistake of a loop.
logging.getLogger("tensorflow").addFilter(lambda record: "tf.function retracing" not in record.getMessage())

__all__ = ["keras"]
