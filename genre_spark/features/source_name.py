"""What a file is called in messages."""

from pathlib import Path

from genre_spark.errors import GenreSparkError
from genre_spark.files import printable
from genre_spark.filesystems import is_remote, local_path, masked


def source_name(uri: str | Path) -> str:
    """Name of a file for people: its plain path, or its address where it lies elsewhere.

    Parameters
    ----------
    uri : str or Path
        A path, a `file://` address with its percent signs, or a remote address.

    Returns
    -------
    str
        Without secrets. What is no address of anything is shown as it is.
    """
    if is_remote(uri):
        return masked(uri)
    try:
        return printable(local_path(uri, GenreSparkError))
    except GenreSparkError:
        return masked(uri)
