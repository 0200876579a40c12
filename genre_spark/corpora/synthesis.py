"""The composer: a seed becomes a clip of simple music.

A clip has a key, a chord progression in bars, drums, a bass that follows the chords, chords and a melody in the scale,
some noise, a room and a level. Genre, artist and track each add their part: the genre gives the odds
(`synthesis_styles`), an artist's instruments, equaliser, range, tempo and level are drawn once for all its tracks. So a
model that has heard an artist knows more than the genre: a random split scores higher than an artist-disjoint one.
"""

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from genre_spark.corpora.synthesis_sounds import (
    RATE,
    TIMBRES,
    Voice,
    blocks,
    coloured_noise,
    convolve,
    drum_kit,
    released,
    rms,
    room,
)  # fmt: skip
from genre_spark.corpora.synthesis_styles import CROSSOVER, GROOVES, PROGRESSIONS, SCALES, STYLES, Odds, Style

# Part of a corpus's identity: a change of anything that is heard needs a new number.
COMPOSER_VERSION = 2

_ARTIST, _TRACK = 1, 2  # spawn keys: an artist and a track of the same number share no random numbers
_PEAK = 0.48  # what an MP3 decoder returns was seen to overshoot by three quarters
_BALANCE_DB = {"drums": 0.0, "bass": -3.0, "backing": -5.0, "lead": -3.0}


@dataclass(frozen=True)
class Artist:
    """What all tracks of an artist share."""

    tempo: float
    swing: float
    groove: str
    kit: dict[str, np.ndarray]
    lead: Voice | None
    backing: Voice | None
    bass: Voice | None
    comping: str
    density: float
    drive: float
    noise_db: float
    noise: np.ndarray
    response: np.ndarray
    level_db: float
    balance_db: dict[str, float]
    pan: dict[str, float]
    power_chords: bool
    key: int  # MIDI number, in the octave of the bass, near which its tracks have theirs: voices have a range


@dataclass(frozen=True)
class _Score:
    """The grid of one track: who plays when, on which chord."""

    step: float  # samples
    steps_per_bar: int
    bars: int
    swing: float
    scale: tuple[int, ...]
    key: int  # MIDI number of the key note, in the octave of the bass
    chords: tuple[int, ...]
    playing: dict[str, np.ndarray]  # layer -> does it play in this bar `[shape=(bars,)]`

    def onset(self, bar: int, step: float) -> int:
        """Sample at which a step of a bar begins."""
        delay = self.swing if step % 2 == 1 else 0.0
        return round((bar * self.steps_per_bar + step + delay) * self.step)

    def pitch(self, degree: int) -> int:
        """MIDI number of a degree of the scale; degrees beyond the scale are octaves higher."""
        octave, index = divmod(degree, len(self.scale))
        return self.key + 12 * octave + self.scale[index]

    def chord(self, bar: int) -> int:
        """Degree of the chord of a bar."""
        return self.chords[bar % len(self.chords)]


def compose_clip(genre: str, *, seed: int, artist_id: int, track_id: int, duration_s: float) -> np.ndarray:
    """Compose one clip; the same arguments give the same clip.

    Parameters
    ----------
    genre : str
        A key of `STYLES`.
    seed : int
        Seed of the corpus.
    artist_id, track_id : int
        Clips with the same `artist_id` share instruments, equaliser, range, tempo and level.
    duration_s : float
        Length in seconds.

    Returns
    -------
    np.ndarray [shape=(n, 2), dtype=float32]
        Stereo PCM at `RATE`, its peak below 0.5.
    """
    artist = _artist(genre, seed, artist_id)
    style = STYLES[genre]
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_TRACK, track_id)))
    length = max(1, round(duration_s * RATE))
    groove = artist.groove if rng.random() < 0.9 else _draw(style.grooves, rng)
    score = _score(artist, style, groove, length, rng)
    buses = {
        "drums": _drums(artist, score, GROOVES[groove], length, rng),
        "bass": _bass(artist, score, length, rng),
        "backing": _backing(artist, score, length, rng),
        "lead": _lead(artist, score, length, rng),
    }
    return _master(artist, buses, length, rng)


# Tracks that follow each other mostly are of the same artist; the notes of one are some ten megabytes.
@functools.lru_cache(maxsize=2)
def _artist(genre: str, seed: int, artist_id: int) -> Artist:
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_ARTIST, artist_id)))

    def style() -> Style:
        own = STYLES[genre]
        return STYLES[str(rng.choice(own.neighbours))] if rng.random() < CROSSOVER else own

    def voice(odds: Odds) -> tuple[str, Voice | None]:
        name = _draw(odds, rng)
        return name, Voice(TIMBRES[name], rng) if name != "none" else None

    mean, spread = style().tempo
    lead, lead_voice = voice(style().leads)
    backing, backing_voice = voice(style().backings)
    if lead == backing == "none":
        backing, backing_voice = "pad", Voice(TIMBRES["pad"], rng)
    return Artist(
        tempo=float(np.clip(rng.normal(mean, spread), 55, 190)),
        swing=float(np.clip(style().swing + rng.normal(0, 0.06), 0, 0.5)),
        groove=_draw(style().grooves, rng),
        kit=drum_kit(_draw(style().kits, rng), rng),
        lead=lead_voice,
        backing=backing_voice,
        bass=voice(style().basses)[1],
        comping=_draw(style().comping, rng),
        density=style().density * math.exp(rng.normal(0, 0.3)),
        drive=float(np.clip(style().drive + rng.normal(0, 0.12), 0, 1)),
        noise_db=style().noise_db + rng.normal(0, 5),
        noise=coloured_noise(rng.uniform(-7, -1), rng),
        response=room(
            style().tilt + rng.normal(0, 0.5),
            float(np.clip(style().wet + rng.normal(0, 0.12), 0.02, 0.7)),
            rng.uniform(0.04, 0.12),
            rng,
        ),
        level_db=float(np.clip(style().level_db + rng.normal(0, 2.5), -27, -14)),
        balance_db={name: level + rng.normal(0, 2.5) for name, level in _BALANCE_DB.items()},
        pan={"backing": rng.uniform(-0.5, 0.5), "lead": rng.uniform(-0.2, 0.2)},
        power_chords=backing == "power guitar",
        key=int(rng.integers(28, 40)),
    )


def _draw(odds: Odds, rng: np.random.Generator) -> str:
    weights = np.array(list(odds.values()), dtype=float)
    return str(rng.choice(list(odds), p=weights / weights.sum()))


def _score(artist: Artist, style: Style, groove: str, length: int, rng: np.random.Generator) -> _Score:
    steps_per_bar = len(GROOVES[groove]["kick"])
    step = RATE * 60 / (artist.tempo * math.exp(rng.normal(0, 0.05))) / 4
    bars = math.ceil(length / (step * steps_per_bar))
    scale = SCALES[_draw(style.scales, rng)]
    # Players rest for four bars at a time, never all of them: the first block is for everybody.
    rests = {
        name: rng.random(-(-bars // 4)) < share for name, share in (("drums", 0.15), ("bass", 0.15), ("lead", 0.3))
    }
    playing = {name: np.repeat(~rest, 4)[:bars] for name, rest in rests.items()} | {"backing": np.ones(bars, bool)}
    for layer in playing.values():
        layer[:4] = True
    return _Score(
        step=step,
        steps_per_bar=steps_per_bar,
        bars=bars,
        swing=artist.swing,
        scale=scale,
        key=artist.key + int(rng.integers(-2, 3)),
        chords=PROGRESSIONS[_draw(style.progressions, rng)],
        playing=playing,
    )


def _add(bus: np.ndarray, onset: int, sound: np.ndarray) -> None:
    if onset < bus.size:
        kept = sound[: bus.size - onset]
        bus[onset : onset + kept.size] += kept


def _drums(
    artist: Artist, score: _Score, groove: Mapping[str, str], length: int, rng: np.random.Generator
) -> np.ndarray:
    bus = np.zeros(length, np.float32)
    for drum, pattern in groove.items():
        beats = [step for step, mark in enumerate(pattern) if mark == "x"]
        for bar in np.flatnonzero(score.playing["drums"]).tolist():
            for step in beats:
                if rng.random() < 0.95:
                    accent = 1.0 if step % 4 == 0 else 0.75
                    stroke = np.float32(accent * rng.uniform(0.8, 1)) * artist.kit[drum]
                    _add(bus, score.onset(bar, step), stroke)
    return bus


def _bass(artist: Artist, score: _Score, length: int, rng: np.random.Generator) -> np.ndarray:
    bus = np.zeros(length, np.float32)
    if artist.bass is None:
        return bus
    every = int(rng.choice([2, 4, 8], p=[0.4, 0.35, 0.25]))
    steps = range(0, score.steps_per_bar, every)
    # Mostly the root of the chord, sometimes its fifth or octave; the same line in each bar.
    line = [0 if step == 0 else int(rng.choice([0, 0, 0, 4, 7])) for step in steps]
    samples = int(0.95 * every * score.step)
    for bar in np.flatnonzero(score.playing["bass"]).tolist():
        for step, interval in zip(steps, line, strict=True):
            pitch = score.pitch(score.chord(bar) + interval)
            _add(bus, score.onset(bar, step), released(artist.bass.note(pitch, samples), 1.0))
    return bus


def _backing(artist: Artist, score: _Score, length: int, rng: np.random.Generator) -> np.ndarray:
    bus = np.zeros(length, np.float32)
    if artist.backing is None:
        return bus
    above = 12 if artist.power_chords else 24
    # A whole-tone scale has six degrees: the chord then is augmented, which is what it should be.
    degrees = (0, 4, 7) if artist.power_chords else (0, 2, 4, 6) if rng.random() < 0.3 else (0, 2, 4)
    every, held = {"sustain": (score.steps_per_bar, 1.0), "strum": (2, 1.6), "stab": (4, 0.35), "arpeggio": (2, 2.0)}[
        artist.comping
    ]
    start = 2 if artist.comping == "stab" else 0
    samples = int(every * held * score.step)
    for bar in range(score.bars):
        pitches = [score.pitch(score.chord(bar) + degree) + above for degree in degrees]
        for count, step in enumerate(range(start, score.steps_per_bar, every)):
            onset = score.onset(bar, step)
            if artist.comping == "arpeggio":
                _add(bus, onset, released(artist.backing.note(pitches[count % len(pitches)], samples), 1.0))
                continue
            if artist.comping == "strum" and step % 4 and rng.random() < 0.3:
                continue
            for string, pitch in enumerate(pitches):
                late = string * RATE // 120 if artist.comping == "strum" else 0
                _add(bus, onset + late, released(artist.backing.note(pitch, samples), 0.7))
    return bus


def _lead(artist: Artist, score: _Score, length: int, rng: np.random.Generator) -> np.ndarray:
    bus = np.zeros(length, np.float32)
    if artist.lead is None:
        return bus
    # A motif of two bars in degrees above the chord: heard again and again, a little varied.
    steps = 2 * score.steps_per_bar
    weight = np.where(np.arange(steps) % 4 == 0, 1.6, np.where(np.arange(steps) % 2 == 0, 1.0, 0.4))
    onsets = np.flatnonzero(rng.random(steps) < np.clip(artist.density / 4 * weight, 0, 0.95))
    if onsets.size == 0:
        onsets = np.array([0])
    motif = np.clip(np.cumsum(rng.choice([-2, -1, -1, 0, 1, 1, 2], onsets.size)), -5, 7)
    motif[onsets % 8 == 0] = motif[onsets % 8 == 0] // 2 * 2  # chord tones on the strong beats
    lengths = np.minimum(np.diff(onsets, append=steps), 6)
    for bar in range(0, score.bars, 2):
        if not score.playing["lead"][bar]:
            continue
        for onset, degree, held in zip(onsets.tolist(), motif.tolist(), lengths.tolist(), strict=True):
            if rng.random() < 0.12:
                continue
            varied = degree + int(rng.integers(-1, 2)) if rng.random() < 0.15 else degree
            pitch = score.pitch(score.chord(bar + onset // score.steps_per_bar) + varied) + 36
            note = artist.lead.note(pitch, int(0.92 * held * score.step))
            _add(bus, score.onset(bar, onset), released(note, rng.uniform(0.7, 1)))
    return bus


def _master(artist: Artist, buses: dict[str, np.ndarray], length: int, rng: np.random.Generator) -> np.ndarray:
    mix = np.zeros((2, length), np.float32)
    for name, bus in buses.items():
        level = rms(bus)
        if level == 0:
            continue
        if name in ("backing", "lead") and artist.drive > 0.05:
            bus *= np.float32(6 * artist.drive**2 / level)
            np.tanh(bus, out=bus)
            level = rms(bus)
        gain = 10 ** ((artist.balance_db[name] + rng.normal(0, 0.5)) / 20) / level
        pan = artist.pan.get(name, 0.0)
        for block in blocks(length):
            mix[0, block] += np.float32(gain * (1 - pan)) * bus[block]
            mix[1, block] += np.float32(gain * (1 + pan)) * bus[block]
    noise = np.float32(max(rms(mix), 1e-3) * 10 ** (min(artist.noise_db, 0.0) / 20)) * artist.noise
    loop = noise.shape[1]
    for first in range(-int(rng.integers(loop)), length, loop):
        heard = slice(max(first, 0), min(first + loop, length))
        mix[:, heard] += noise[:, heard.start - first : heard.stop - first]
    mix = convolve(mix, artist.response)
    master_gain = np.float32(10 ** ((artist.level_db + rng.normal(0, 0.5)) / 20) / max(rms(mix), 1e-9) / _PEAK)
    clip = np.empty((length, 2), np.float32)
    for number, channel in enumerate(mix):
        for block in blocks(length):
            clip[block, number] = _PEAK * np.tanh(master_gain * channel[block])
    return clip
