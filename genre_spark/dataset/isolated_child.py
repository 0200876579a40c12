"""What the child of an `IsolatedProcess` does, and what travels between the two.

A message is JSON behind its length, 4 bytes, most significant first. The bytes of the arrays that a reply describes
follow it as they are. Nothing is unpickled: the child reads files of strangers with decoders in C.
"""

import contextlib
import ctypes
import faulthandler
import gc
import json
import os
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Answer = tuple[dict[str, Any], dict[str, np.ndarray]]

# Exit status of a child whose function asked for more memory than it may have.
OUT_OF_MEMORY = 97

_PR_SET_PDEATHSIG = 1
_RANDOM = ("/dev/urandom", "/dev/random")
_LENGTH = struct.Struct("!I")
# A larger one comes from a process whose memory is spoilt.
_MOST_JSON = 64 << 20


def received(connection: socket.socket, deadline: float) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Read a reply and its arrays."""
    reply = _received_json(connection, deadline)
    arrays = {}
    for name, kind, shape in reply.get("arrays", ()):
        dtype = np.dtype(kind)
        if dtype.kind not in "biufc":
            raise ValueError(kind)
        arrays[name] = np.empty(shape, dtype)
        _fill(connection, _bytes_of(arrays[name]), deadline)
    return reply, arrays


def _received_json(connection: socket.socket, deadline: float | None) -> Any:
    length = bytearray(_LENGTH.size)
    _fill(connection, memoryview(length), deadline)
    (size,) = _LENGTH.unpack(length)
    if size > _MOST_JSON:
        raise ValueError(size)
    text = bytearray(size)
    _fill(connection, memoryview(text), deadline)
    return json.loads(text)


def as_json(content: Any) -> bytes:
    """Pack a message."""
    text = json.dumps(content).encode()
    return _LENGTH.pack(len(text)) + text


def _fill(connection: socket.socket, buffer: memoryview, deadline: float | None) -> None:
    while buffer:
        left_s = None if deadline is None else deadline - time.monotonic()
        if left_s is not None and left_s <= 0:
            raise TimeoutError
        connection.settimeout(left_s)
        count = connection.recv_into(buffer)
        if count == 0:
            raise EOFError
        buffer = buffer[count:]


def _bytes_of(array: np.ndarray) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


def detach(kept: int, libc: ctypes.CDLL, parent: int, max_memory_mb: int | None) -> None:
    """Make a forked process independent of what its parent has open, and mortal with it."""
    import resource

    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)
    signal.set_wakeup_fd(-1)
    # A terminal sends Ctrl-C to all; the parent decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)
    faulthandler.disable()
    # What was garbage at the fork is the parent's to clean up (a temporary folder, say).
    gc.freeze()
    errors_out = os.dup(2)
    null = os.open(os.devnull, os.O_RDWR)
    # Descriptors keep their numbers, so that a library that believes in one doesn't write into another's file. On 1 and
    # 2 decoders chatter.
    for entry in list(Path("/proc/self/fd").iterdir()):
        descriptor = int(entry.name)
        with contextlib.suppress(OSError):
            # The AWS library keeps its source of random numbers open, and dies without any.
            if descriptor not in (kept, errors_out, null) and str(entry.readlink()) not in _RANDOM:
                os.dup2(null, descriptor, inheritable=False)
    sys.stdout = sys.stderr = os.fdopen(errors_out, "w", buffering=1, encoding="utf-8", errors="backslashreplace")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if max_memory_mb is not None:
        limit_memory(max_memory_mb)


def limit_memory(megabytes: int) -> None:
    """Let this process take so many MB (10**6 bytes) more than it has; Linux only."""
    import resource

    allowed = _data_bytes() + megabytes * 1_000_000
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (allowed if hard == resource.RLIM_INFINITY else min(allowed, hard), hard))


def _data_bytes() -> int:
    """Writable memory of this process: what RLIMIT_DATA limits."""
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    (kilobytes,) = (line.split()[1] for line in status.splitlines() if line.startswith("VmData:"))
    return int(kilobytes) * 1_024


def serve(connection: socket.socket, function: Callable[[Any], Answer]) -> None:
    """Answer until the parent closes the connection."""
    with contextlib.suppress(EOFError, ConnectionError):
        while True:
            reply, arrays = _answer(function, _received_json(connection, None))
            connection.sendall(as_json(reply))
            for array in arrays:
                connection.sendall(_bytes_of(array))


def _answer(function: Callable[[Any], Answer], item: Any) -> tuple[dict[str, Any], list[np.ndarray]]:
    try:
        head, named = function(item)
    except MemoryError:
        # What a library makes of that is anybody's guess: this process isn't asked again.
        os._exit(OUT_OF_MEMORY)
    except BaseException as error:
        return {"error": type(error).__name__, "detail": str(error)}, []
    arrays = {name: np.asarray(array, order="C") for name, array in named.items()}
    described = [(name, array.dtype.str, array.shape) for name, array in arrays.items()]
    return {"head": head, "arrays": described}, list(arrays.values())
