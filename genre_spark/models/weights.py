"""What a file of weights may hold, checked before Keras reads it; nothing here needs Keras."""

import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from math import prod
from pathlib import Path

import numpy as np

from genre_spark.errors import BundleError, ModelError

# A model that was saved with its optimizer holds three times its weights.
TIMES_NEEDED = 4
# Names, groups and headers: about 0.1 MB in the study's largest model.
OVERHEAD = 2**20
OBJECTS = 10_000
# Far beyond what a genre model needs, and no machine's end.
LARGEST_FILE = 2**32


def _dense(inputs: int, outputs: int) -> int:
    return (inputs + 1) * outputs


def _dnn(shape: Sequence[int], n_genres: int) -> int:
    return _dense(shape[0], 256) + _dense(256, 256) + _dense(256, n_genres)


def _cnn1d(shape: Sequence[int], n_genres: int) -> int:
    length, channels = shape
    total = 0
    for filters in (32, 64):
        total += _dense(3 * channels, filters) + 4 * filters
        length, channels = max(0, (length - 2) // 2), filters
    return total + _dense(length * channels, n_genres)


def _cnn2d(shape: Sequence[int], n_genres: int) -> int:
    (height, width), channels = shape, 1
    total = 0
    for filters in (32, 64, 64, 32):
        total += _dense(9 * channels, filters) + 4 * filters
        height, width, channels = max(0, (height - 2) // 2), max(0, (width - 2) // 2), filters
    return total + _dense(height * width * channels, 256) + _dense(256, n_genres)


def _linear518(shape: Sequence[int], n_genres: int) -> int:
    return _dense(shape[0], n_genres)


def _cnn_time(shape: Sequence[int], n_genres: int) -> int:
    channels, total = shape[0], 0
    for filters in (64, 128, 128):
        total += 5 * channels * filters + 4 * filters
        channels = filters
    return total + _dense(2 * channels, n_genres)


# Reckoned, not counted on a model: building one for a shape that is a lie is what has to be avoided.
_COUNTS: Mapping[str, tuple[int, Callable[[Sequence[int], int], int]]] = {
    "dnn": (1, _dnn),
    "cnn1d": (2, _cnn1d),
    "cnn2d": (2, _cnn2d),
    "linear518": (1, _linear518),
    "cnn_time": (2, _cnn_time),
}


def n_weights(architecture: str, shape: Sequence[int], n_genres: int) -> int:
    """Reckon a model's number of weights, BatchNorm's moving statistics included.

    Raises
    ------
    ModelError
        If the architecture is unknown, or reads no tensor of this rank.
    """
    if architecture not in _COUNTS:
        raise ModelError(f"unknown model {architecture!r}; known are {', '.join(_COUNTS)}")
    rank, count = _COUNTS[architecture]
    if len(shape) != rank:
        raise ModelError(f"model {architecture}: needs a feature with {rank} axes, not one of shape {tuple(shape)}")
    return count(shape, n_genres)


def limits_of_weights_file(architecture: str, shape: Sequence[int], n_genres: int) -> tuple[int, int]:
    """Bytes that a model's file of weights has at least, and at most.

    The weights lie in the file as they are: one that is smaller than they are is not this model's, and so no model is
    built that is larger than its file.

    Raises
    ------
    ModelError
        As `n_weights`.
    """
    needed = 4 * n_weights(architecture, shape, n_genres)
    return needed, min(TIMES_NEEDED * needed + OVERHEAD, LARGEST_FILE)


def check_weights_file(path: Path) -> int:
    """Count the weights in a file, and refuse one that is more than plain arrays of numbers, which lie in it.

    A link leads to other files or round in circles, external and virtual arrays do as well, a filter is a plug-in that
    runs, or a small file that becomes a large array; an array without storage is as large as it says it is.

    Returns
    -------
    int
        Numbers in the arrays of the layers; an optimizer's are not counted.

    Raises
    ------
    BundleError
        The message names what stands in the file and where.
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            seen = {h5py.h5o.get_info(file.id).addr}
            groups, count = [file], 0
            while groups:
                group = groups.pop()
                for name in group:
                    if reason := _foreign(group, name, seen):
                        where = f"{group.name.rstrip('/')}/{name}"
                        raise BundleError(f"{path}: {where} is {reason}; train the model again")
                    if isinstance(group[name], h5py.Group):
                        groups.append(group[name])
                    elif re.fullmatch("/layers/[^/]+/vars", group.name):
                        count += prod(group[name].shape)
            return count
    except BundleError:
        raise
    except Exception as error:
        # Whatever the library makes of a rotten file is the file's fault.
        raise BundleError(f"{path}: no file of weights: {_one_line(error)}; train the model again") from None


def _foreign(group: "object", name: str, seen: set[int]) -> str | None:
    """What is wrong with a member of a group; None for a group, or an array as Keras writes it."""
    import h5py

    assert isinstance(group, h5py.Group)
    link = group.get(name, getlink=True)
    if not isinstance(link, h5py.HardLink):
        return f"a link of type {type(link).__name__}"
    member = group[name]
    address = h5py.h5o.get_info(member.id).addr
    if address in seen:
        return "a second name of another object"
    seen.add(address)
    if len(seen) > OBJECTS:
        return f"the object number {len(seen):,}"
    if isinstance(member, h5py.Group):
        return None
    if not isinstance(member, h5py.Dataset):
        return f"a {type(member).__name__}"
    if member.is_virtual or member.external:
        return "an array that lies in another file"
    if member.chunks is not None or member.id.get_create_plist().get_nfilters():
        return "an array in chunks or behind a filter"
    if member.dtype.kind not in "fiu" or member.shape is None:
        return f"an array of {member.dtype}"
    if member.id.get_storage_size() != prod(member.shape) * member.dtype.itemsize:
        return f"said to have shape {member.shape}, which is not what is stored"
    return None


def check_scaler_file(path: Path, shape: Sequence[int]) -> None:
    """Refuse an .npz file whose arrays are packed, or are said to be larger than a tensor of `shape`.

    Raises
    ------
    BundleError
    """
    limit = 4 * prod(shape) + 4096
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                if member.compress_type != zipfile.ZIP_STORED or member.file_size > limit:
                    raise BundleError(f"{path}: {member.filename!r} is packed or too large; train the model again")
                with archive.open(member) as content:
                    if np.lib.format.read_magic(content) != (1, 0):
                        raise BundleError(f"{path}: {member.filename!r} is no array; train the model again")
                    found, _, dtype = np.lib.format.read_array_header_1_0(content)
                    if content.tell() + prod(found) * dtype.itemsize != member.file_size:
                        raise BundleError(f"{path}: {member.filename!r} is not of shape {found}; train the model again")
    except BundleError:
        raise
    except Exception as error:
        raise BundleError(f"{path}: not a scaler: {_one_line(error)}; train the model again") from None


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
