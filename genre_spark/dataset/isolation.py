"""A process of its own for code that a rotten file can kill or hold up: decoders written in C.

Spark counts a Python worker that dies as a failure of its whole task, tries the same files again, dies again and gives
the job up; a worker that hangs hangs for ever. Here one file costs one error:

    with IsolatedProcess(function, timeout_s=120) as process:
        head, arrays = process.call(item, name="song.mp3")

One child is forked, after all imports, and asked item by item through a socket: JSON, and the bytes of the arrays. A
child that died or took too long is replaced, and its item tried once more alone in the new one, so that whatever else
struck the first (the kernel short of memory, a neighbour's signal) isn't blamed on the file.

On Linux. Elsewhere fork isn't safe once system libraries run threads (macOS), or isn't there: then the function is
called directly, with a warning.
"""

import contextlib
import ctypes
import logging
import os
import signal
import socket
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from genre_spark import errors
from genre_spark.dataset.isolated_child import OUT_OF_MEMORY, Answer, as_json, detach, received, serve
from genre_spark.errors import AudioCrashed, AudioError, AudioTimedOut

logger = logging.getLogger(__name__)

_CAN_FORK = sys.platform.startswith("linux")
# The child of a killed process is gone at once, unless the kernel waits for a disk or a network mount.
_REAP_S = 5.0


class _Lost(Exception):
    """The child is of no use any more; the error to raise if that happens again."""

    def __init__(self, kind: type[AudioError], reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


class _Child(NamedTuple):
    pid: int
    connection: socket.socket


class IsolatedProcess:
    """Calls a function in a child process that may crash or hang.

    Parameters
    ----------
    function : callable
        Takes an item of what JSON holds; returns a `dict` of the same and a `dict` of arrays of numbers. What it
        imports at its first call is imported anew after each crash: better before this object is made. The child has
        the parent's memory as it was, but none of its open files, sockets and pipes but Python's `sys.stderr`.
    timeout_s : float
        Longest time that one call may take, in seconds.
    max_memory_mb : int, optional
        Memory that the child may take on top of what the parent has, in MB (10**6 bytes).
    """

    def __init__(
        self, function: Callable[[Any], Answer], *, timeout_s: float, max_memory_mb: int | None = None
    ) -> None:
        self._function = function
        self._timeout_s = timeout_s
        self._max_memory_mb = max_memory_mb
        self._child: _Child | None = None

    def __enter__(self) -> Self:
        if _CAN_FORK:
            self._child = self._fork()
        else:
            logger.warning("%s has no safe fork: a file that crashes the decoder ends this process", sys.platform)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the child; the next call makes another one."""
        self._end_child()

    @property
    def cpu_s(self) -> float:
        """Processor time of the child that lives, in seconds; 0 where there is none."""
        try:
            assert self._child is not None
            # The name of the program, in brackets, may hold blanks and brackets.
            fields = Path(f"/proc/{self._child.pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        except (AssertionError, OSError):
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def call(self, item: Any, *, name: str) -> Answer:
        """Call the function with an item.

        Parameters
        ----------
        item
            What JSON holds.
        name : str
            The file, for messages.

        Returns
        -------
        dict, dict of str to np.ndarray
            What the function returned.

        Raises
        ------
        GenreSparkError
            What the function raised, if it is one of ours; `AudioError` for any other exception.
        AudioCrashed
            If the child died, twice.
        AudioTimedOut
            If it took longer than `timeout_s`, twice.
        """
        if not _CAN_FORK:
            return self._function(item)
        request = as_json(item)
        for is_last in (False, True):
            try:
                return self._asked(request, name)
            except _Lost as lost:
                logger.info("%s: %s", name, lost)
                if is_last:
                    raise lost.kind(f"{name}: {lost}, twice; leave it out, or encode it anew") from None
        raise AssertionError

    def _asked(self, request: bytes, name: str) -> Answer:
        child = self._child = self._child or self._fork()
        deadline = time.monotonic() + self._timeout_s
        try:
            child.connection.settimeout(self._timeout_s)
            child.connection.sendall(request)
            reply, arrays = received(child.connection, deadline)
        except TimeoutError:
            self._end_child()
            raise _Lost(AudioTimedOut, f"not done within audio.max_decode_s={self._timeout_s:g}") from None
        except (OSError, EOFError):
            raise _Lost(AudioCrashed, self._reason(self._end_child())) from None
        except (ValueError, KeyError, TypeError):
            self._end_child()
            raise _Lost(AudioCrashed, "the process that reads it answered nonsense") from None
        except BaseException:
            # The answer is still to come: the next item's must not be taken for it.
            self._end_child()
            raise
        if "error" not in reply:
            return reply["head"], arrays
        kind = getattr(errors, reply["error"], None)
        if kind is None:
            raise AudioError(f"{name}: {reply['error']}: {reply['detail']}")
        raise kind(reply["detail"])

    def _fork(self) -> _Child:
        ours, theirs = socket.socketpair()
        parent = os.getpid()
        libc = ctypes.CDLL(None)
        with warnings.catch_warnings():
            # Python 3.12 warns of the parent's other threads: the child uses none of what they hold.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            status = 1
            try:
                detach(theirs.fileno(), libc, parent, self._max_memory_mb)
                serve(theirs, self._function)
                status = 0
            finally:
                # Nothing of the parent's is flushed, closed or cleaned up a second time.
                os._exit(status)
        theirs.close()
        return _Child(pid, ours)

    def _end_child(self) -> int | None:
        """Kill the child and return how it ended, as `os.waitstatus_to_exitcode` tells; None when it can't be told."""
        child, self._child = self._child, None
        if child is None:
            return None
        child.connection.close()
        # One that is dying already keeps its own status.
        with contextlib.suppress(ProcessLookupError):
            os.kill(child.pid, signal.SIGKILL)
        return _reaped(child.pid)

    def _reason(self, status: int | None) -> str:
        if status == OUT_OF_MEMORY:
            limit = f" (audio.max_memory_mb={self._max_memory_mb})" if self._max_memory_mb else ""
            return f"takes more memory than there is{limit}"
        if status is None:
            return "the process that reads it vanished"
        if status >= 0:
            return f"the process that reads it ended with status {status}"
        hint = " (perhaps for want of memory)" if -status == signal.SIGKILL else ""
        return f"the process that reads it died of {signal.Signals(-status).name}{hint}"


def _reaped(pid: int) -> int | None:
    deadline = time.monotonic() + _REAP_S
    while True:
        try:
            found, status = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:  # whoever ignores SIGCHLD doesn't learn it
            return None
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= deadline:
            return None
        time.sleep(0.001)
