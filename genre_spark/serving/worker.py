"""The server's side of the process that listens: start it, ask it, end it when it hangs."""

import contextlib
import logging
import math
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from genre_spark import errors
from genre_spark.dataset.isolated_child import OUT_OF_MEMORY, as_json, received
from genre_spark.errors import AudioCrashed, AudioError, AudioTimedOut, GenreSparkError, ModelError
from genre_spark.settings_sections import AudioSettings

logger = logging.getLogger(__name__)

# TensorFlow takes a few seconds to start, many on a busy machine with cold disks.
LOADING_S = 300.0
_REAP_S = 5.0
# More comes from a process whose memory is spoilt.
MOST_MOMENTS, MOST_SHADES = 100_000, 1_000_000


@dataclass(frozen=True)
class Heard:
    """What the model says of a file.

    Attributes
    ----------
    duration_s : float
    is_sure : bool
        Whether the top probability reaches the threshold of the precision that was asked for.
    probabilities : np.ndarray [shape=(genres,)]
        In the order of the bundle's labels, as `of_moments`.
    of_moments : np.ndarray [shape=(moments, genres)]
    spans_s : np.ndarray [shape=(moments, 2)]
        Begin and end of the moments, in seconds.
    shades : np.ndarray [shape=(n_mels, t), dtype=uint8]
        The mel spectrogram, see `genre_spark.serving.listener.shades`.
    """

    duration_s: float
    is_sure: bool
    probabilities: np.ndarray
    of_moments: np.ndarray
    spans_s: np.ndarray
    shades: np.ndarray


class Worker:
    """One process with a model in it, which may crash or hang.

    Parameters
    ----------
    bundle : Path
    audio : AudioSettings
        Limits on what is decoded.
    precision : float, optional
        As `genre_spark.models.predict.predict_files` takes it.
    """

    def __init__(self, bundle: Path, audio: AudioSettings, precision: float | None = None) -> None:
        self._load = {
            "bundle": str(bundle.resolve()), "audio": audio.model_dump(mode="json"), "precision": precision,
        }  # fmt: skip
        self._process: subprocess.Popen | None = None
        self._connection: socket.socket | None = None

    @property
    def pid(self) -> int | None:
        """Number of the process; None while there is none."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def start(self) -> None:
        """Start the process, from a thread that lives as long as the server does: the kernel ends it with that one."""
        self.end()
        self._connection, theirs = socket.socketpair()
        with theirs:
            # -P: no module is taken from the folder that the server happens to be started in.
            command = [sys.executable, "-P", "-m", "genre_spark.serving.listener", str(theirs.fileno())]
            self._process = subprocess.Popen(  # noqa: S603 - our own module, by numbers of ours
                [*command, str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                # Where decoders and TensorFlow chatter.
                stderr=None if logger.isEnabledFor(logging.DEBUG) else subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )

    def load(self) -> None:
        """Wait until the model is loaded.

        Raises
        ------
        GenreSparkError
            What the bundle is refused for; `ModelError` for anything else.
        """
        try:
            self._ask({"load": self._load}, LOADING_S)
        except GenreSparkError:
            self.end()
            raise
        except TimeoutError:
            self.end()
            raise ModelError(f"{self._load['bundle']}: not loaded within {LOADING_S:g} s; try again") from None
        except (OSError, EOFError, ValueError, KeyError, TypeError):
            raise ModelError(f"{self._load['bundle']}: {_reason(self.end())} while it loaded the model") from None

    def listen(self, path: Path, n_genres: int, timeout_s: float) -> Heard:
        """Ask for a file's genres.

        A process that died or took too long is ended; `start` and `load` make another one.

        Parameters
        ----------
        path : Path
        n_genres : int
            How many the model has.
        timeout_s : float
            Longest time that it may take, in seconds.

        Raises
        ------
        AudioError
            If the file can't be read.
        AudioCrashed
            If the process died over it.
        AudioTimedOut
            If it takes longer than `timeout_s`.
        """
        try:
            head, arrays = self._ask({"path": str(path)}, timeout_s)
            return _checked(head, arrays, n_genres)
        except GenreSparkError:
            raise
        except TimeoutError:
            self.end()
            raise AudioTimedOut(f"{path}: not done within serve.max_predict_s={timeout_s:g}") from None
        except (OSError, EOFError):
            reason = _reason(self.end())
            raise AudioCrashed(f"{path}: {reason}; leave it out, or encode it anew") from None
        except (ValueError, KeyError, TypeError, AttributeError):
            self.end()
            raise AudioCrashed(f"{path}: the process that reads it answered nonsense") from None

    def end(self) -> int | None:
        """End the process at once; return how it ended, None where there is none."""
        connection, self._connection = self._connection, None
        if connection is not None:
            # Who waits for an answer in another thread learns it.
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        process, self._process = self._process, None
        if process is None:
            return None
        # One that has died already keeps its own status.
        process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(_REAP_S)
        return None

    def _ask(self, request: dict[str, Any], timeout_s: float) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        connection = self._connection
        if connection is None:
            raise EOFError
        deadline = time.monotonic() + timeout_s
        connection.settimeout(timeout_s)
        connection.sendall(as_json(request))
        reply, arrays = received(connection, deadline)
        if "error" not in reply:
            return reply["head"], arrays
        kind = getattr(errors, str(reply["error"]), None)
        if not (isinstance(kind, type) and issubclass(kind, GenreSparkError)):
            raise AudioError(f"{reply['error']}: {reply['detail']}")
        raise kind(str(reply["detail"]))


def _checked(head: dict[str, Any], arrays: dict[str, np.ndarray], n_genres: int) -> Heard:
    """Take nothing on trust that comes from a process in which a stranger's file was decoded."""
    heard = Heard(duration_s=float(head["duration_s"]), is_sure=head["is_sure"] is True, **arrays)
    n_moments = len(heard.spans_s)
    shares: Sequence[np.ndarray] = (heard.probabilities, heard.of_moments)
    is_right = (
        heard.probabilities.shape == (n_genres,)
        and heard.of_moments.shape == (n_moments, n_genres)
        and heard.spans_s.shape == (n_moments, 2)
        and 0 < n_moments <= MOST_MOMENTS
        and all(((share >= 0) & (share <= 1 + 1e-6)).all() for share in shares)
        and np.isfinite(heard.spans_s).all()
        and math.isfinite(heard.duration_s)
        and heard.shades.ndim == 2
        and 0 < heard.shades.size <= MOST_SHADES
        and heard.shades.dtype == np.uint8
    )
    if not is_right:
        raise ValueError
    return heard


def _reason(status: int | None) -> str:
    if status is None:
        return "the process that reads it vanished"
    if status == OUT_OF_MEMORY:
        return "the process that reads it wanted more memory than there is (audio.max_memory_mb)"
    if status >= 0:
        return f"the process that reads it ended with status {status}"
    hint = " (perhaps for want of memory)" if -status == signal.SIGKILL else ""
    return f"the process that reads it died of {signal.Signals(-status).name}{hint}"
