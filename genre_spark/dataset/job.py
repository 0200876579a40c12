"""One change of a dataset: what it is about, and whether what stands in the folder may be changed so."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from genre_spark.dataset.commit import WORK, is_list
from genre_spark.dataset.product import Features
from genre_spark.dataset.progress import Tally
from genre_spark.dataset.rows import ERRORS, FEATURES
from genre_spark.dataset.store import (
    FORMAT_VERSION,
    MANIFEST,
    Dataset,
    Manifest,
    open_dataset,
)
from genre_spark.errors import INSTALL_NEWER, DatasetError, ExtractionFailed
from genre_spark.folders import Folder
from genre_spark.provenance import versions_of
from genre_spark.settings import Settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    SparkSource = SparkSession | Callable[[], SparkSession]

logger = logging.getLogger(__name__)

# What decides the numbers, and so stands in the manifest.
LIBRARIES = ("librosa", "mkl_fft", "numpy", "scipy", "soundfile", "soxr", "pyspark", "pyarrow")


@dataclass(frozen=True)
class Job:
    """One change of a dataset on its way."""

    folder: Folder
    before: Dataset | None
    work: str
    product: Features
    settings: Settings
    spark: "SparkSource"
    tally: Tally

    def session(self) -> "SparkSession":
        """Start the session, or take the one that runs."""
        return self.spark() if callable(self.spark) else self.spark


def fingerprint_of(product: Features, settings: Settings) -> dict[str, Any]:
    """What two jobs must have in common for the one to go on with what the other computed."""
    return {
        "format_version": FORMAT_VERSION,
        "digests": {spec.name: spec.digest for spec in product.specs},
        "predictor": product.predictor.model_dump() if product.predictor is not None else None,
        "audio": settings.audio.decoding(),
        "changed_by": settings.extract.changed_by,
        "versions": versions_of(LIBRARIES),
    }


def standing_dataset(folder: Folder, product: Features, settings: Settings, *, overwrite: bool) -> Dataset | None:
    """Open the dataset that is to be changed; refuse what is none, or a different one."""
    there = folder.names()
    names = [name for name in there if not name.startswith("_")]
    if not names:
        return None
    if MANIFEST not in names:
        if WORK in there and all(name in (FEATURES, ERRORS) or is_list(name) for name in names):
            return None  # files of a job that died before its first commit was complete
        raise DatasetError(f"{folder}: exists and is no dataset; name another folder for --out")
    try:
        dataset = open_dataset(folder.address)
    except DatasetError as error:
        if not overwrite or str(error).endswith(INSTALL_NEWER):
            raise
        return None
    if overwrite:
        return dataset
    manifest = dataset.manifest
    wanted = {spec.name: spec.digest for spec in product.specs}
    if manifest.predictor != product.predictor:
        then = f"predictions of another model ({manifest.predictor.digest})" if manifest.predictor else "features"
        raise DatasetError(f"{folder}: holds {then}; take another folder for --out, or replace it with --overwrite")
    if (manifest.digests, manifest.audio) != (wanted, settings.audio.decoding()):
        raise DatasetError(
            f"{folder}: holds a dataset of {_difference(manifest, wanted, settings)}; take another folder for --out, "
            "or replace it with --overwrite"
        )
    return dataset


def warn_of_versions(dataset: Dataset | None) -> None:
    """Say which libraries a dataset was computed with that are others here."""
    if dataset is None:
        return
    now, then = versions_of(LIBRARIES), dataset.manifest.versions
    for name in sorted({*now, *then}):
        if now.get(name) != then.get(name):
            logger.warning(
                "%s: was computed with %s %s, here it is %s: the last bits of new rows may differ",
                dataset, name, then.get(name, "missing"), now.get(name, "missing"),
            )  # fmt: skip


def _difference(manifest: Manifest, wanted: dict[str, str], settings: Settings) -> str:
    if set(manifest.digests) != set(wanted):
        return f"other features ({', '.join(manifest.digests)})"
    for name, digest in wanted.items():
        if manifest.digests[name] != digest:
            return f"another spec of {name!r} (digest {manifest.digests[name]}, not {digest})"
    for key, value in settings.audio.decoding().items():
        if manifest.audio.get(key) != value:
            return f"audio.{key}={manifest.audio.get(key)}, not {value}"
    return "other settings"


def has_failed(counts: dict[str, int], settings: Settings) -> bool:
    """Tell whether an extraction with these counts counts as failed."""
    return not counts["features"] or counts["errors"] / counts["tracks"] > settings.extract.max_error_fraction


def failure(place: str, counts: dict[str, int], errors: pa.Table, settings: Settings) -> ExtractionFailed:
    """Error that says so."""
    first = errors.sort_by("track_id").slice(0, 1).to_pylist()[0]
    return ExtractionFailed(
        f"{place}: {counts['errors']} of {counts['tracks']} tracks failed (the first: {first['detail']}), more "
        f"than extract.max_error_fraction={settings.extract.max_error_fraction:g} allows; see its {ERRORS}/ table"
    )
