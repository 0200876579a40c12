"""What a trained model is on disk; loading it runs no foreign code.

    BUNDLE/
      bundle.json         architecture, feature spec, genres, digests, versions, and the SHA-256 of the other files
      model.weights.h5    weights only
      scaler.npz          mean and variance of the training part

The architecture is rebuilt from this package's code: nothing in a bundle is unpickled or executed.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, ValidationError

from genre_spark.dataset.scaler import Scaler
from genre_spark.errors import BundleError
from genre_spark.features.spec import FeatureSpec
from genre_spark.files import replace_folder, staging_folder

if TYPE_CHECKING:
    import keras

FORMAT_VERSION = 1
DESCRIPTION = "bundle.json"
WEIGHTS = "model.weights.h5"
SCALER = "scaler.npz"


class BundleDescription(BaseModel):
    """`bundle.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: int
    architecture: str
    spec: FeatureSpec
    spec_digest: str
    labels: list[str]
    split_digest: str
    versions: dict[str, str]
    sha256: dict[str, str] = {}


@dataclass(frozen=True)
class Bundle:
    """A trained model, ready to predict."""

    model: "keras.Model"
    description: BundleDescription


def save_bundle(path: Path, model: "keras.Model", scaler: Scaler, description: BundleDescription) -> None:
    """Write a bundle; it appears under its name only when it is complete."""
    with staging_folder(path, BundleError) as staging:
        model.save_weights(staging / WEIGHTS)
        scaler.save(staging / SCALER)
        sums = {name: _sha256((staging / name).read_bytes()) for name in (WEIGHTS, SCALER)}
        text = description.model_copy(update={"sha256": sums}).model_dump_json(indent=2)
        (staging / DESCRIPTION).write_text(text + "\n", encoding="utf-8")
        replace_folder(staging, path)


def read_description(path: Path) -> BundleDescription:
    """Read and check a bundle's description, and the sums of its files.

    Raises
    ------
    BundleError
        If it is no bundle, of another version, incomplete, or altered since it was written.
    """
    try:
        content = json.loads((path / DESCRIPTION).read_text(encoding="utf-8"))
    except OSError:
        raise BundleError(f"{path}: no bundle ({DESCRIPTION} is missing); a run keeps its own at RUN/bundle") from None
    except ValueError as error:
        raise BundleError(f"{path / DESCRIPTION}: not JSON: {error}") from None
    version = content.get("format_version") if isinstance(content, dict) else None
    if version != FORMAT_VERSION:
        raise BundleError(f"{path}: format_version={version!r}, this program reads {FORMAT_VERSION}")
    try:
        description = BundleDescription.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BundleError(f"{path / DESCRIPTION}: {where}: {first['msg']}") from None
    for name in (WEIGHTS, SCALER):
        try:
            found = _sha256((path / name).read_bytes())
        except OSError:
            raise BundleError(f"{path}: {name} is missing; train the model again") from None
        if found != description.sha256.get(name):
            raise BundleError(f"{path}: {name} is not the file that was written (its SHA-256 differs)")
    if description.spec.digest != description.spec_digest:
        raise BundleError(
            f"{path}: feature {description.spec.name} has digest {description.spec.digest} in this version, "
            f"the model was trained on {description.spec_digest}; train it again"
        )
    return description


def load_bundle(path: Path) -> Bundle:
    """Rebuild a trained model.

    Raises
    ------
    BundleError
        As `read_description`, and if the weights don't fit the architecture.
    ModelError
        If this version doesn't know the architecture.
    """
    description = read_description(path)
    from genre_spark.models.architectures import build_model

    scaler = Scaler.load(path / SCALER)
    model = build_model(description.architecture, description.spec.shape, len(description.labels), scaler)
    try:
        model.load_weights(path / WEIGHTS)
    except (ValueError, OSError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise BundleError(f"{path}: {WEIGHTS} doesn't fit model {description.architecture}: {reason}") from None
    return Bundle(model, description)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
