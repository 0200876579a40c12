"""Every error that genre_spark raises on purpose.

The command line prints the message of a `GenreSparkError` as one line and exits with status 1, so a message names the
file, key or value at fault and says what to do. The class names of `AudioError`'s children are the values of the
`error` column of a dataset's error table.
"""

# How an error ends that tells of a dataset, a run or a bundle which a newer version wrote.
INSTALL_NEWER = "install a newer genre_spark"


class GenreSparkError(Exception):
    """Base of all errors raised on purpose: bad input or a broken environment, never a fault of the program."""


class SettingsError(GenreSparkError):
    """A settings file or an override has a wrong key or value."""


class EnvironmentSetupError(GenreSparkError):
    """Something that a stage needs is not installed: Java, or an extra of this package."""


class CorpusError(GenreSparkError):
    """A corpus or a track table can't be read, or says something impossible."""


class DownloadError(CorpusError):
    """A corpus can't be fetched, or what was fetched is not what was published."""


class SplitError(GenreSparkError):
    """A track table can't be split as asked."""


class FeatureSpecError(GenreSparkError):
    """A feature is unknown, or its specification asks for something impossible."""


class AudioError(GenreSparkError):
    """A track's audio can't be turned into features. In a job it is one row of the error table."""


class AudioNotFound(AudioError):
    """There is no file, or it can't be opened for reading."""


class AudioUndecodable(AudioError):
    """The bytes are not audio that the decoder knows, or are damaged."""


class AudioEmpty(AudioError):
    """The file holds no samples."""


class AudioNotFinite(AudioError):
    """The samples, or the features computed from them, hold NaN or infinity."""


class AudioTooLong(AudioError):
    """The clip is longer than the settings allow."""


class AudioShortened(AudioError):
    """Less came out of the file than it announces."""


class AudioCrashed(AudioError):
    """The process that read the file died over it, twice."""


class AudioTimedOut(AudioError):
    """Reading the file took longer than the settings allow, twice."""


class DatasetError(GenreSparkError):
    """A folder is no dataset of ours, or lacks what is asked of it."""


class ExtractionFailed(GenreSparkError):
    """More tracks failed than the settings allow."""


class FeedError(GenreSparkError):
    """What came out of a dataset is not what its manifest and the split say."""


class ModelError(GenreSparkError):
    """A model is unknown or can't be built for the data at hand."""


class RunError(GenreSparkError):
    """A run folder is missing, unfinished or in the way."""


class BundleError(GenreSparkError):
    """A trained model on disk is incomplete, altered or of another version."""


class ExperimentError(GenreSparkError):
    """An experiment's file is wrong, or its results don't belong together."""
