"""The sounds of the composed clips: notes from wavetables, struck drums, coloured noise, and a room with an equaliser.

All signals are float32 at `RATE`. Everything here is NumPy and SciPy's FFT, so that a worker process is up in a moment.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import scipy.fft

RATE = 44_100

_TABLE = 2_048  # samples of one period
_HARMONICS = 64
_TAPS = 16_384  # of the room
# SciPy's FFT computes four transforms at once: two blocks of two channels. Of the sizes tried (32,768 to 131,072) this
# one was the fastest, and twice as fast as NumPy's.
_FFT, _BLOCKS = 40_960, 2
_GRAIN = 8_192  # notes are rendered in multiples of this many samples, so that tracks of other tempi can use them, too
_RELEASE = np.linspace(1, 0, RATE // 50, dtype=np.float32)
_NOISE = 1 << 17
_BLOCK = 1 << 16


@dataclass(frozen=True)
class Timbre:
    """An instrument: harmonic `k` has the amplitude `k ** -slope`, times `even` where `k` is even.

    `formant` is the centre in Hz of a resonance (0: none), `attack` and `decay` are time constants in s, `dulling` is
    the time in s after which the upper harmonics are gone (0: never), `vibrato` and `unison` are depths in cents.
    """

    slope: float = 1.0
    even: float = 1.0
    formant: float = 0.0
    attack: float = 0.004
    decay: float = 1e6
    dulling: float = 0.0
    vibrato: float = 0.0
    unison: float = 0.0


TIMBRES = {
    "guitar": Timbre(slope=1.2, decay=0.7, dulling=0.25),
    "power guitar": Timbre(slope=0.8, decay=2.0, unison=4),
    "lead guitar": Timbre(slope=0.9, attack=0.01, decay=3.0, vibrato=18),
    "lute": Timbre(slope=0.7, formant=1_800, decay=0.45, dulling=0.35),
    "piano": Timbre(slope=1.6, decay=0.9, dulling=0.4, unison=1),
    "organ": Timbre(slope=1.1, even=0.5, attack=0.01, vibrato=6),
    "accordion": Timbre(slope=0.6, even=0.6, formant=1_200, attack=0.03, unison=7),
    "strings": Timbre(slope=1.2, attack=0.15, vibrato=8, unison=6),
    "fiddle": Timbre(slope=0.9, formant=2_500, attack=0.05, vibrato=22),
    "flute": Timbre(slope=2.4, attack=0.06, vibrato=14),
    "voice": Timbre(slope=1.1, formant=750, attack=0.04, vibrato=28),
    "bell": Timbre(slope=0.9, even=0.05, decay=0.8, dulling=0.5),
    "square": Timbre(slope=1.0, even=0.0),
    "saw": Timbre(slope=1.0, attack=0.008, unison=9),
    "pad": Timbre(slope=1.7, attack=0.3, unison=8),
    "sub": Timbre(slope=3.5, decay=0.9),
    "synth bass": Timbre(slope=0.9, decay=0.5, dulling=0.12),
    "finger bass": Timbre(slope=1.7, decay=0.8, dulling=0.3),
}


class Voice:
    """An artist's own specimen of an instrument: it keeps the notes that it has played."""

    def __init__(self, timbre: Timbre, rng: np.random.Generator) -> None:
        stretch = np.exp(rng.normal(0, 0.3, 4))
        self.timbre = replace(
            timbre,
            slope=max(0.3, timbre.slope + rng.normal(0, 0.2)),
            formant=timbre.formant * stretch[0],
            attack=timbre.attack * stretch[1],
            decay=timbre.decay * stretch[2],
            vibrato=timbre.vibrato * stretch[3],
        )
        self._body = np.exp(rng.normal(0, 0.35, _HARMONICS))
        self._phases = np.exp(2j * np.pi * rng.random(_HARMONICS))
        self._played: dict[tuple[float, int], np.ndarray] = {}

    def note(self, midi: float, length: int) -> np.ndarray:
        """Samples `[shape=(length,)]` of the note with the MIDI number `midi`, RMS about 1 at its start.

        It ends without a release: `released` adds it.
        """
        key = (midi, -(-length // _GRAIN) * _GRAIN)
        if key not in self._played:
            self._played[key] = self._play(440.0 * 2 ** ((midi - 69) / 12), key[1])
        return self._played[key][:length]

    def _tables(self, hz: float) -> tuple[np.ndarray, np.ndarray]:
        k = np.arange(1, min(_HARMONICS, int(0.4 * RATE / hz)) + 1)
        gains = k**-self.timbre.slope * np.where(k % 2, 1.0, self.timbre.even) * self._body[: k.size]
        if self.timbre.formant:
            gains = gains * (0.15 + np.exp(-0.5 * (np.log2(k * hz / self.timbre.formant) / 0.6) ** 2))
        gains = gains / np.sqrt(0.5 * np.sum(gains**2))
        dull = gains * np.exp(-(k - 1) / 2.5) if self.timbre.dulling else gains
        spectra = np.zeros((2, _TABLE // 2 + 1), np.complex64)
        spectra[0, 1 : k.size + 1] = dull * self._phases[: k.size]
        spectra[1, 1 : k.size + 1] = (gains - dull) * self._phases[: k.size]
        lasting, fading = np.fft.irfft(spectra, axis=1) * np.float32(_TABLE / 2)
        return lasting, fading

    def _play(self, hz: float, length: int) -> np.ndarray:
        timbre = self.timbre
        lasting, fading = self._tables(hz)
        t = np.arange(length, dtype=np.float32) / np.float32(RATE)
        turns = t * np.float32(hz)
        if timbre.vibrato:
            depth = hz * (2 ** (timbre.vibrato / 1_200) - 1) / (2 * np.pi * 5.5)
            turns += np.float32(depth) * np.sin(np.float32(2 * np.pi * 5.5) * t)
        place = _places(turns)
        sound = lasting[place]
        if timbre.dulling:
            sound += fading[place] * np.exp(t * np.float32(-1 / timbre.dulling))
        if timbre.unison:
            sound += lasting[_places(turns * np.float32(2 ** (timbre.unison / 1_200)))]
            sound *= np.float32(0.7)
        if timbre.decay < 100:
            sound *= np.exp(t * np.float32(-1 / timbre.decay))
        rise = min(length, int(4 * timbre.attack * RATE))
        sound[:rise] *= 1 - np.exp(t[:rise] * np.float32(-1 / timbre.attack))
        return sound


def released(note: np.ndarray, gain: float) -> np.ndarray:
    """Give a note `[shape=(n,)]` its level and let it fall silent at its end; the note itself stays as it is."""
    sound = np.float32(gain) * note
    fall = min(sound.size, _RELEASE.size)
    sound[sound.size - fall :] *= _RELEASE[_RELEASE.size - fall :]
    return sound


def _places(turns: np.ndarray) -> np.ndarray:
    return (turns * np.float32(_TABLE)).astype(np.int32) & (_TABLE - 1)


# Kick: pitch in Hz and decay in s; snare: decay and share of noise; hat: decay; hand drum: pitch and decay.
_KITS = {
    "acoustic": {"kick": (62, 0.12), "snare": (0.12, 0.7), "hat": (0.05, 0.0), "hand": (150, 0.15)},
    "machine": {"kick": (48, 0.3), "snare": (0.09, 0.9), "hat": (0.025, 0.0), "hand": (240, 0.1)},
    "hand": {"kick": (85, 0.18), "snare": (0.05, 0.85), "hat": (0.035, 0.0), "hand": (200, 0.14)},
}


def drum_kit(kind: str, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """One stroke `[shape=(n,)]` of each drum of an artist's kit: kick, snare, hat and hand drum."""
    own = {name: np.array(pair) * np.exp(rng.normal(0, 0.22, 2)) for name, pair in _KITS[kind].items()}
    t = np.arange(int(0.45 * RATE), dtype=np.float32) / RATE
    noise = rng.standard_normal(t.size, dtype=np.float32)
    hiss = np.diff(noise, n=2, prepend=np.zeros(2, np.float32)) / 2.5  # differences let the treble through
    share = min(own["snare"][1], 0.95)
    snare_hz = 190 * np.exp(rng.normal(0, 0.15))
    body = np.sin(2 * np.pi * snare_hz * t) * np.exp(-t / 0.06)
    rattle = (noise + hiss * rng.uniform(0, 1)) * np.exp(-t / own["snare"][0])
    click = rng.uniform(0.05, 0.4) * noise * np.exp(-t / 0.003)
    strokes = {
        "kick": _membrane(t, *own["kick"], drop=3.0) + click,
        "snare": (1 - share) * body + 0.6 * share * rattle,
        "hat": 0.35 * hiss * np.exp(-t / own["hat"][0]),
        "hand": 0.7 * _membrane(t, *own["hand"], drop=0.6) + 0.5 * click,
    }
    fade = np.minimum(1, (t[-1] - t) / 0.02)
    return {name: (stroke * fade).astype(np.float32) for name, stroke in strokes.items()}


def _membrane(t: np.ndarray, hz: float, decay: float, *, drop: float) -> np.ndarray:
    """A sine whose pitch falls from `(1 + drop) * hz` to `hz` within some 25 ms."""
    turns = hz * (t + drop * 0.025 * (1 - np.exp(-t / 0.025)))
    return np.sin(2 * np.pi * turns) * np.exp(-t / decay)


def coloured_noise(slope: float, rng: np.random.Generator) -> np.ndarray:
    """Noise `[shape=(2, 131072)]` of RMS 1 whose power changes by `slope` dB per octave.

    Three seconds that begin where they end: repeated, nobody hears the seam.
    """
    octaves = np.log2(np.fft.rfftfreq(_NOISE, 1 / RATE).clip(20) / 1_000).astype(np.float32)
    spectrum = rng.standard_normal((2, octaves.size, 2), dtype=np.float32).view(np.complex64)[..., 0]
    noise = np.fft.irfft(spectrum * 10 ** (np.float32(slope) * octaves / 20), axis=1)
    return noise / np.sqrt(np.mean(noise**2))


def room(tilt: float, wet: float, size_s: float, rng: np.random.Generator) -> np.ndarray:
    """Impulse response `[shape=(2, taps)]` of an artist's equaliser and small room.

    Parameters
    ----------
    tilt : float
        Slope of the equaliser in dB per octave, around 1 kHz; it gets bumps and an upper limit of its own.
    wet : float
        Share of the reverberation.
    size_s : float
        Time constant of its decay.
    """
    t = np.arange(_TAPS) / RATE
    tail = rng.standard_normal((2, _TAPS)) * np.exp(-t / size_s)
    tail *= wet / np.sqrt(np.sum(tail**2, axis=1, keepdims=True))
    early = _TAPS // 32  # the equaliser's response reaches a little to the left of the impulse
    response = np.roll(tail, early, axis=1)
    response[:, early] += 1 - wet

    hz = np.fft.rfftfreq(_TAPS, 1 / RATE).clip(20)
    octaves = np.log2(hz / 1_000)
    gain_db = tilt * octaves
    for centre, width, height in zip(
        rng.uniform(-3.5, 3.5, 5), rng.uniform(0.4, 1, 5), rng.normal(0, 2.5, 5), strict=True
    ):
        gain_db += height * np.exp(-0.5 * ((octaves - centre) / width) ** 2)
    ceiling = 15_000 * np.exp(-abs(rng.normal(0, 0.3)))
    gain_db -= 10 * np.log10(1 + (hz / ceiling) ** 8) + 10 * np.log10(1 + (30 / hz) ** 4)
    response = np.fft.irfft(np.fft.rfft(response) * 10 ** (gain_db.clip(-40, 15) / 20))
    response[:, -early:] *= np.linspace(1, 0, early)
    return response.astype(np.float32)


def convolve(signal: np.ndarray, response: np.ndarray) -> np.ndarray:
    """Convolve `signal` `[shape=(2, n)]` with a `room`, cut to the length of `signal`: overlap-save."""
    channels, length = signal.shape
    hop = _FFT - _TAPS
    rounds = -(-length // (_BLOCKS * hop))
    padded = np.zeros((channels, _TAPS + rounds * _BLOCKS * hop), np.float32)
    padded[:, _TAPS : _TAPS + length] = signal
    frames = np.lib.stride_tricks.sliding_window_view(padded, _FFT, axis=1)[:, ::hop]
    spectrum = scipy.fft.rfft(response, _FFT)[:, None]
    heard = np.empty((channels, rounds * _BLOCKS, hop), np.float32)
    for first in range(0, rounds * _BLOCKS, _BLOCKS):
        some = slice(first, first + _BLOCKS)
        heard[:, some] = scipy.fft.irfft(scipy.fft.rfft(frames[:, some]) * spectrum, _FFT)[:, :, _TAPS:]
    return heard.reshape(channels, -1)[:, :length]


def blocks(length: int) -> Iterator[slice]:
    """Cut a signal into pieces that stay in the processor's cache through all steps of a computation."""
    return (slice(first, first + _BLOCK) for first in range(0, length, _BLOCK))


def rms(signal: np.ndarray) -> float:
    """Root mean square of all samples `[shape=(n,) or (channels, n)]` together."""
    parts = (channel[block] for channel in np.atleast_2d(signal) for block in blocks(signal.shape[-1]))
    # Not np.vdot: BLAS' sum depends on its number of threads, and a corpus must not.
    return math.sqrt(sum(float(np.einsum("i,i", part, part)) for part in parts) / signal.size)
