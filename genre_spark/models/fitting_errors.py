"""What goes wrong in a fit, told as what it is: back ends wrap it, or say it in words of their own."""

import contextlib
from collections.abc import Iterator

from genre_spark.errors import GenreSparkError, ModelError, RunError
from genre_spark.models.devices import is_out_of_memory
from genre_spark.models.fitting_batches import Batches
from genre_spark.settings import ModelSettings

# How the operating system, and TensorFlow after it, says that a disk is full.
DISK_FULL = "No space left on device"


@contextlib.contextmanager
def errors_of(*parts: Batches) -> Iterator[None]:
    """Raise what a feed raised, whatever a back end made of it, and name a full disk."""
    try:
        yield
    except GenreSparkError:
        raise
    except Exception as error:
        for batches in parts:
            if isinstance(batches.error, GenreSparkError):
                raise batches.error from None
        if DISK_FULL in str(error):
            reason = " ".join(str(error).split())[:200]
            raise RunError(f"the run's disk is full: {reason}; free some of it and --resume") from None
        raise


@contextlib.contextmanager
def memory_explained(name: str, chosen: ModelSettings) -> Iterator[None]:
    """Say what to lower where the device's memory is too small."""
    try:
        yield
    except Exception as error:
        if isinstance(error, GenreSparkError) or not is_out_of_memory(error):
            raise
        raise ModelError(
            f"model {name}: the device's memory is too small for batches of {chosen.batch_size}; lower "
            f"models.{name}.batch_size, or set train.on_device=off"
        ) from None
