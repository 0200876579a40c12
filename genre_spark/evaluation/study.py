"""The study's published numbers.

Source: "Classifying Music", A. Burrows, J. Jackson, N. Zamora: its table of models and its nine figures.
"""

from collections.abc import Mapping
from dataclasses import dataclass

# Where the numbers come from, in the words that stand beside them wherever they are shown.
STUDY_SOURCE = "“Classifying Music” by A. Burrows, J. Jackson and N. Zamora"
STUDY_DATA = "FMA-small (8,000 tracks, 8 genres), random 70/30 split, validation tracks"


@dataclass(frozen=True)
class StudyModel:
    """What the study says of one of its models.

    Parameters
    ----------
    study_name : str
        The study's name for it.
    parameters : int
        Number of trainable parameters.
    epochs : int
        Epochs of training.
    training_accuracy, validation_accuracy : float
        After the last epoch, between 0 and 1, in the precision that the study gives.
    """

    study_name: str
    parameters: int
    epochs: int
    training_accuracy: float
    validation_accuracy: float


STUDY: Mapping[str, StudyModel] = {
    "dnn": StudyModel("2D", 88_584, 100, 0.691, 0.483),
    "cnn1d": StudyModel("3D", 255_656, 50, 0.52, 0.44),
    "cnn2d": StudyModel("4D", 2_796_648, 50, 0.968, 0.42),
}
