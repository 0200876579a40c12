"""What tells the composed genres apart: tempo, groove, harmony, instruments, space and dirt, each with its own odds.

No trait belongs to one genre alone, and an artist takes some traits from a neighbouring genre (`CROSSOVER`): as with
real music, no model can get every track right.
"""

from collections.abc import Mapping
from dataclasses import dataclass

# Probability that an artist takes a trait from a neighbour. It sets how hard the corpus is: at this value a support
# vector machine on the means of 80 MFCCs gets some 45 % of the tracks of unknown artists right (eight genres, 40 tracks
# of 10 artists each), and some 65 % under a random split, which lets it know the artists. Twice as much takes 7 % off.
CROSSOVER = 0.05

Odds = Mapping[str, float]

# One bar each, a character per sixteenth note: twelve of them make 3/4.
GROOVES: Mapping[str, Mapping[str, str]] = {
    "none": {"kick": "................"},
    "boom bap": {"kick": "x..x..x...x.....", "snare": "....x.......x...", "hat": "x.x.x.x.x.x.x.xx"},
    "trap": {"kick": "x......x..x.....", "snare": "........x.......", "hat": "xxxxxxxxxxxxxxxx"},
    "four on the floor": {"kick": "x...x...x...x...", "snare": "....x.......x...", "hat": "..x...x...x...x."},
    "breakbeat": {"kick": "x.x.......xx....", "snare": "....x..x.x..x..x", "hat": "x.x.x.x.x.x.x.x."},
    "rock": {"kick": "x.......x.x.....", "snare": "....x.......x...", "hat": "x.x.x.x.x.x.x.x."},
    "punk": {"kick": "x..x..x.x..x..x.", "snare": "..x...x...x...x.", "hat": "x.x.x.x.x.x.x.x."},
    "ballad": {"kick": "x.........x.....", "snare": "........x.......", "hat": "x...x...x...x..."},
    "train": {"kick": "x...x...x...x...", "snare": "..x...x...x...x."},
    "waltz": {"kick": "x...........", "snare": "....x...x...", "hat": "x...x...x..."},
    "clave": {"kick": "x..x....x..x....", "hand": "x..x..x...x.x...", "hat": "x.xxx.xxx.xxx.xx"},
    "hand drums": {"kick": "x.......x.......", "hand": "x..xx.x.x..xx.xx"},
    "scattered": {"kick": "x....x.......x..", "snare": "......x....x....", "hand": "..x......x.....x"},
}

# Semitones above the key note.
SCALES: Mapping[str, tuple[int, ...]] = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 10),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10),
    "phrygian dominant": (0, 1, 4, 5, 7, 8, 10),
    "whole tone": (0, 2, 4, 6, 8, 10),
}

# Degrees of the scale, a chord each bar.
PROGRESSIONS: Mapping[str, tuple[int, ...]] = {
    "axis": (0, 4, 5, 3),
    "three chords": (0, 3, 4, 0),
    "doo-wop": (0, 5, 3, 4),
    "blues": (0, 0, 3, 0, 4, 3, 0, 4),
    "descent": (0, 6, 5, 4),
    "two chords": (0, 3),
    "circle": (1, 4, 0, 5),
    "drone": (0,),
    "adrift": (0, 2, 6, 1, 5),
}


@dataclass(frozen=True)
class Style:
    """The odds from which artists and tracks of a genre are drawn."""

    neighbours: tuple[str, ...]
    tempo: tuple[float, float]  # mean and standard deviation, beats per minute
    swing: float  # mean delay of every second sixteenth, in sixteenths
    grooves: Odds
    kits: Odds
    scales: Odds
    progressions: Odds
    leads: Odds
    backings: Odds
    basses: Odds
    comping: Odds  # how the chords are played
    density: float  # mean number of melody notes per beat
    drive: float  # mean distortion: 0 is clean, 1 is heavy
    noise_db: float  # mean level of the noise against the music
    tilt: float  # mean slope of the spectrum, dB per octave
    wet: float  # mean share of the room
    level_db: float  # mean loudness, dBFS (RMS)


STYLES: Mapping[str, Style] = {
    "Hip-Hop": Style(
        neighbours=("Electronic", "Pop", "Instrumental"),
        tempo=(90, 10),
        swing=0.25,
        grooves={"boom bap": 6, "trap": 4, "breakbeat": 1},
        kits={"machine": 6, "acoustic": 3},
        scales={"minor": 5, "dorian": 3, "major": 1},
        progressions={"two chords": 4, "descent": 3, "drone": 2, "axis": 1},
        leads={"voice": 6, "none": 1, "bell": 1, "square": 1},
        backings={"piano": 3, "strings": 2, "pad": 2, "organ": 2, "none": 1},
        basses={"sub": 6, "synth bass": 2, "finger bass": 1},
        comping={"sustain": 3, "stab": 3, "arpeggio": 1},
        density=2.6,
        drive=0.15,
        noise_db=-30,
        tilt=-1.6,
        wet=0.15,
        level_db=-17,
    ),
    "Pop": Style(
        neighbours=("Rock", "Electronic", "Folk"),
        tempo=(116, 12),
        swing=0.05,
        grooves={"rock": 4, "four on the floor": 4, "ballad": 2, "boom bap": 1},
        kits={"machine": 4, "acoustic": 5},
        scales={"major": 7, "minor": 2, "mixolydian": 1},
        progressions={"axis": 6, "doo-wop": 3, "three chords": 1, "circle": 1},
        leads={"voice": 8, "square": 1, "piano": 1},
        backings={"piano": 3, "guitar": 3, "pad": 2, "strings": 1},
        basses={"finger bass": 5, "synth bass": 3},
        comping={"strum": 4, "sustain": 3, "arpeggio": 2},
        density=1.8,
        drive=0.12,
        noise_db=-45,
        tilt=0.3,
        wet=0.2,
        level_db=-17,
    ),
    "Folk": Style(
        neighbours=("Pop", "International", "Instrumental"),
        tempo=(104, 15),
        swing=0.12,
        grooves={"none": 6, "train": 3, "waltz": 2, "ballad": 1},
        kits={"acoustic": 3, "hand": 4},
        scales={"major": 5, "mixolydian": 3, "dorian": 2, "minor": 1},
        progressions={"three chords": 6, "two chords": 2, "axis": 1, "doo-wop": 1},
        leads={"voice": 5, "flute": 1, "fiddle": 2, "guitar": 1},
        backings={"guitar": 8, "accordion": 1},
        basses={"none": 4, "finger bass": 3},
        comping={"strum": 4, "arpeggio": 5},
        density=1.4,
        drive=0.02,
        noise_db=-32,
        tilt=-0.6,
        wet=0.15,
        level_db=-23,
    ),
    "Rock": Style(
        neighbours=("Pop", "Experimental", "Electronic"),
        tempo=(132, 18),
        swing=0.03,
        grooves={"rock": 7, "punk": 3, "breakbeat": 1, "ballad": 1},
        kits={"acoustic": 9, "machine": 1},
        scales={"minor": 4, "mixolydian": 4, "major": 2, "dorian": 1},
        progressions={"three chords": 3, "descent": 3, "blues": 3, "axis": 1},
        leads={"voice": 5, "lead guitar": 4},
        backings={"power guitar": 8, "organ": 1, "guitar": 1},
        basses={"finger bass": 8, "synth bass": 1},
        comping={"strum": 8, "sustain": 2},
        density=1.7,
        drive=0.65,
        noise_db=-33,
        tilt=0.5,
        wet=0.12,
        level_db=-15,
    ),
    "Experimental": Style(
        neighbours=("Electronic", "Instrumental", "Rock"),
        tempo=(92, 28),
        swing=0.2,
        grooves={"none": 5, "scattered": 4, "hand drums": 1},
        kits={"machine": 3, "acoustic": 2, "hand": 2},
        scales={"whole tone": 5, "phrygian dominant": 2, "minor": 2},
        progressions={"adrift": 4, "drone": 5},
        leads={"none": 4, "bell": 2, "lead guitar": 1, "saw": 2, "fiddle": 1},
        backings={"pad": 3, "saw": 2, "strings": 2, "bell": 2, "none": 1},
        basses={"none": 5, "sub": 3, "synth bass": 1},
        comping={"sustain": 7, "stab": 2},
        density=0.9,
        drive=0.45,
        noise_db=-10,
        tilt=0.0,
        wet=0.5,
        level_db=-21,
    ),
    "International": Style(
        neighbours=("Folk", "Pop", "Instrumental"),
        tempo=(110, 16),
        swing=0.15,
        grooves={"clave": 5, "hand drums": 6, "waltz": 1, "none": 1},
        kits={"hand": 7, "acoustic": 3},
        scales={"phrygian dominant": 5, "dorian": 2, "major": 2, "mixolydian": 1},
        progressions={"drone": 4, "two chords": 4, "descent": 2},
        leads={"lute": 4, "voice": 3, "flute": 2, "accordion": 1},
        backings={"lute": 3, "accordion": 3, "guitar": 2, "none": 1},
        basses={"none": 3, "finger bass": 4},
        comping={"arpeggio": 3, "strum": 3, "stab": 3},
        density=2.4,
        drive=0.08,
        noise_db=-28,
        tilt=-0.2,
        wet=0.2,
        level_db=-20,
    ),
    "Instrumental": Style(
        neighbours=("Folk", "Electronic", "Experimental"),
        tempo=(84, 14),
        swing=0.05,
        grooves={"none": 7, "ballad": 3, "waltz": 1},
        kits={"acoustic": 5, "machine": 2},
        scales={"major": 4, "minor": 4, "dorian": 2},
        progressions={"circle": 4, "axis": 2, "descent": 2, "adrift": 1},
        leads={"piano": 4, "fiddle": 2, "flute": 2, "none": 1},
        backings={"piano": 4, "strings": 5, "pad": 2},
        basses={"none": 6, "finger bass": 2},
        comping={"sustain": 5, "arpeggio": 4},
        density=1.1,
        drive=0.01,
        noise_db=-42,
        tilt=-1.4,
        wet=0.45,
        level_db=-24,
    ),
    "Electronic": Style(
        neighbours=("Hip-Hop", "Pop", "Experimental"),
        tempo=(126, 9),
        swing=0.04,
        grooves={"four on the floor": 8, "breakbeat": 3, "trap": 1},
        kits={"machine": 9, "acoustic": 1},
        scales={"minor": 6, "dorian": 2, "major": 1},
        progressions={"two chords": 4, "drone": 3, "descent": 2, "axis": 1},
        leads={"saw": 4, "square": 4, "none": 2, "bell": 1},
        backings={"saw": 3, "pad": 5, "none": 1},
        basses={"synth bass": 7, "sub": 2},
        comping={"arpeggio": 4, "stab": 3, "sustain": 3},
        density=2.2,
        drive=0.3,
        noise_db=-38,
        tilt=0.6,
        wet=0.3,
        level_db=-16,
    ),
}

FMA_SMALL_GENRES: tuple[str, ...] = tuple(STYLES)
