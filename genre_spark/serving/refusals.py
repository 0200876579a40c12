"""What the server refuses, and with which status of HTTP."""

from genre_spark.errors import AudioError, AudioTimedOut, GenreSparkError


class Refused(GenreSparkError):
    """A request that isn't answered; its class name is the `error` of the answer."""

    status = 400


class NoFile(Refused):
    """The request holds no file, or not in the form of an HTML form."""


class ForeignOrigin(Refused):
    """Another web page sent the request."""

    status = 403


class UploadTooSlow(Refused):
    """The file didn't arrive in time."""

    status = 408


class UploadTooLarge(Refused):
    """The file is larger than the settings allow."""

    status = 413


class UploadNotStored(Refused):
    """The file can't be written, as to a full disk."""

    status = 507


class NoForm(Refused):
    """The body is no form with a file."""

    status = 415


class Busy(Refused):
    """As many files wait as the settings allow."""

    status = 503


class NoModel(Refused):
    """The process with the model can't be started again."""

    status = 503


def status_of(error: GenreSparkError) -> int:
    """Return the status of HTTP that tells of an error."""
    if isinstance(error, Refused):
        return error.status
    if isinstance(error, AudioTimedOut):
        return 504
    return 422 if isinstance(error, AudioError) else 500
