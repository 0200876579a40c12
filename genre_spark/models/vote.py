"""From the segments' probabilities to the track's."""

import numpy as np


def soft_vote(probabilities: np.ndarray) -> np.ndarray:
    """Mean over segments: each votes with its probabilities, and all count the same.

    Parameters
    ----------
    probabilities : np.ndarray [shape=(tracks, segments, genres), dtype=float32]
        What the model says of each segment.

    Returns
    -------
    np.ndarray [shape=(tracks, genres), dtype=float32]
        Of a single segment, its own values.

    Notes
    -----
    The sum rule of Kittler, Hatef, Duin and Matas, "On combining classifiers", IEEE Transactions on Pattern Analysis
    and Machine Intelligence 20(3), 1998, doi:10.1109/34.667881; one of those that Silla, Kaestner and Koerich,
    "Automatic music genre classification using ensemble of classifiers", IEEE SMC 2007, take for segments of music.
    """
    return probabilities.mean(axis=1, dtype=np.float64).astype(np.float32)
