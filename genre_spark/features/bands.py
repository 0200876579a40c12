"""Products of a spectrogram with a filter bank, and decibels."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

# Columns that a matrix product in single precision has in the processor's registers.
_BANDS_AT_ONCE = 16


class BandGroup(NamedTuple):
    """Neighbouring bands, the columns of the squares that they use, and the weights `[shape=(columns, bands)]`."""

    bands: slice
    columns: slice
    weights: np.ndarray


def band_groups(bank: np.ndarray) -> tuple[BandGroup, ...]:
    """Cut a filter bank `[shape=(bands, 1 + n_fft // 2)]` into groups: a mel filter covers few bins."""
    # Real and imaginary part of each bin, but the first and the last have the real one alone.
    packed = np.repeat(bank, 2, axis=1)[:, 1:-1]
    groups = []
    for start in range(0, len(bank), _BANDS_AT_ONCE):
        bands = slice(start, min(start + _BANDS_AT_ONCE, len(bank)))
        used = np.flatnonzero(packed[bands].any(axis=0))
        columns = slice(used[0], used[-1] + 1) if len(used) else slice(0, 0)
        groups.append(BandGroup(bands, columns, np.ascontiguousarray(packed[bands, columns].T, np.float32)))
    return tuple(groups)


class BandEnergies:
    """Energies in the bands of a filter bank: a consumer of squares.

    Parameters
    ----------
    groups : sequence of BandGroup
        The filters: `band_groups` of a bank.
    n_frames : int
        Frames that will come.

    Attributes
    ----------
    energies : np.ndarray [shape=(n_frames, bands), dtype=float32]
        Filled block by block.
    """

    def __init__(self, groups: Sequence[BandGroup], n_frames: int) -> None:
        self.energies = np.zeros((n_frames, groups[-1].bands.stop), np.float32)
        self._groups = groups

    def add(self, start: int, block: np.ndarray) -> None:
        """Take the squares of a block of frames."""
        energies = self.energies[start : start + len(block)]
        for bands, columns, weights in self._groups:
            np.matmul(block[:, columns], weights, out=energies[:, bands])


def power_to_db(power: np.ndarray) -> np.ndarray:
    """Decibels relative to 1, of 1e-10 at the least and 80 below the loudest: `librosa.power_to_db`; in place."""
    np.maximum(power, 1e-10, out=power)
    np.log10(power, out=power)
    np.multiply(power, 10.0, out=power)
    return np.maximum(power, power.max() - 80.0, out=power)
