"""What a trained model is on disk; loading it runs no foreign code.

    BUNDLE/
      bundle.json         architecture, feature spec, genres, digests, versions, and the SHA-256 of every file
      model.weights.h5    weights only
      scaler.npz          mean and variance of the training part
      MODEL_CARD.md       the same for people

The architecture is rebuilt from this package's code: nothing in a bundle is unpickled or executed. The sums find damage
and mistakes; they are no signature, and who can write the folder can write sums that fit.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from genre_spark.dataset.scaler import Scaler
from genre_spark.errors import INSTALL_NEWER, BundleError, GenreSparkError
from genre_spark.features.spec import FeatureSpec
from genre_spark.files import is_leftover, replace_folder, staging_folder
from genre_spark.models.calibration import Calibration
from genre_spark.models.model_card import model_card
from genre_spark.models.weights import (
    LARGEST_FILE,
    check_scaler_file,
    check_weights_file,
    limits_of_weights_file,
    n_weights,
)

if TYPE_CHECKING:
    import keras

FORMAT_VERSION = 3
DESCRIPTION = "bundle.json"
WEIGHTS = "model.weights.h5"
SCALER = "scaler.npz"
CARD = "MODEL_CARD.md"

# The files beside the description, by version: the first had no card, and no digest of the description itself; the
# second no calibration, and a program that doesn't know it would give other probabilities.
FILES: Mapping[int, tuple[str, ...]] = {1: (WEIGHTS, SCALER), 2: (WEIGHTS, SCALER, CARD), 3: (WEIGHTS, SCALER, CARD)}

LARGEST_TEXT = 2**20
NO_DIGEST = "0" * 64


class BundleDescription(BaseModel):
    """`bundle.json`.

    Parameters
    ----------
    labels : list of str
        Genres in the order of the model's outputs.
    split_digest : str
        Which track stood in which part.
    sha256, digest
        Written by `save_bundle`: the sums of the other files, and of this one with zeros in the digest's place.
    split, group_by : str
        Name of the split, and what it keeps in one part; empty where it isn't known.
    tracks : dict of str to int
        Tracks in each part.
    settings : dict
        Settings of the training; numbers, texts and truth values.
    metrics : dict of str to float
        What the training found, by name: see `genre_spark.models.model_card.MEANINGS`.
    corpus, licence : str
        What the model was trained on, and what is known of the rights to it.
    created : str
        ISO 8601.
    calibration : Calibration, optional
        What the validation part tells of the probabilities; None where it wasn't asked, and they are the model's own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: int
    architecture: str
    spec: FeatureSpec
    spec_digest: str
    labels: list[str] = Field(min_length=1)
    split_digest: str
    versions: dict[str, str]
    sha256: dict[str, str] = {}
    split: str = ""
    group_by: str = ""
    tracks: dict[str, int] = {}
    settings: dict[str, bool | int | float | str | None] = {}
    metrics: dict[str, float] = {}
    corpus: str = ""
    licence: str = ""
    created: str = ""
    calibration: Calibration | None = None
    digest: str = ""

    @model_validator(mode="before")
    @classmethod
    def _is_text(cls, content: Any) -> Any:
        # JSON can say half a character, as "\ud800", which no page and no file takes.
        try:
            json.dumps(content, ensure_ascii=False, default=str).encode()
        except UnicodeEncodeError as error:
            around = error.object[max(0, error.start - 20) : error.end + 20]
            raise ValueError(f"{around!a} holds a lone surrogate, which is no text") from None
        return content


@dataclass(frozen=True)
class Bundle:
    """A trained model, ready to predict."""

    model: "keras.Model"
    description: BundleDescription


def save_bundle(path: Path, model: "keras.Model", scaler: Scaler, description: BundleDescription) -> None:
    """Write a bundle; it appears under its name only when it is complete.

    Raises
    ------
    BundleError
        If it can't be written.
    """
    from genre_spark.models.backend import keras

    description = description.model_copy(update={"format_version": FORMAT_VERSION, "digest": NO_DIGEST})
    with staging_folder(path, BundleError) as staging:
        # The same layers without the optimizer, which is twice the weights and no part of what predicts.
        keras.Model(model.inputs, model.outputs, name=model.name).save_weights(staging / WEIGHTS)
        scaler.save(staging / SCALER)
        (staging / CARD).write_text(model_card(description), encoding="utf-8")
        sums = {name: _sha256(staging / name) for name in FILES[FORMAT_VERSION]}
        text = description.model_copy(update={"sha256": sums}).model_dump_json(indent=2) + "\n"
        (staging / DESCRIPTION).write_text(sealed(text), encoding="utf-8")
        replace_folder(staging, path)


def sealed(text: str) -> str:
    """Put the digest of a description into it, in the place of 64 zeros."""
    return text.replace(NO_DIGEST, hashlib.sha256(text.encode()).hexdigest(), 1)


def read_description(path: Path) -> BundleDescription:
    """Read and check a bundle's description, and the sums of its files.

    Raises
    ------
    BundleError
        If it is no bundle, of another version, not of the files that were written, or altered since.
    ModelError
        If this version doesn't know the architecture.
    """
    description = _parsed(path)
    names = FILES[description.format_version]
    try:
        found = {member.name: member for member in path.iterdir() if not is_leftover(member.name)}
    except OSError as error:
        raise BundleError(f"{path}: can't be read: {error.strerror}") from None
    for name in sorted(found.keys() - {DESCRIPTION, *names}):
        raise BundleError(f"{path}: {name!r} is no part of a bundle; move it elsewhere")
    spec = description.spec
    limits = {
        WEIGHTS: limits_of_weights_file(description.architecture, spec.shape, len(description.labels)),
        SCALER: (0, min(8 * prod(spec.shape) + LARGEST_TEXT, LARGEST_FILE)),
        CARD: (0, LARGEST_TEXT),
    }
    for name in names:
        _check_file(path, name, limits[name], description.sha256.get(name))
    if spec.digest != description.spec_digest:
        raise BundleError(
            f"{path}: feature {spec.name} has digest {spec.digest} in this version, "
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
    shape = description.spec.shape
    found, wanted = (
        check_weights_file(path / WEIGHTS),
        n_weights(description.architecture, shape, len(description.labels)),
    )
    misfit = f"{path}: {WEIGHTS} doesn't fit model {description.architecture}"
    if found != wanted:
        # Keras may leave a layer that it doesn't find as it was, at random.
        raise BundleError(f"{misfit}: it holds {found:,} weights, not {wanted:,}; train the model again")
    check_scaler_file(path / SCALER, shape)
    scaler = Scaler.load(path / SCALER)
    if scaler.mean.shape not in (shape, shape[:1]):
        raise BundleError(f"{path}: {SCALER} has means of shape {scaler.mean.shape} for a feature of shape {shape}")
    from genre_spark.models.architectures import build_model

    try:
        model = build_model(description.architecture, shape, len(description.labels), scaler)
        model.load_weights(path / WEIGHTS)
    except GenreSparkError:
        raise
    except Exception as error:
        # Keras raises what it happens to stumble over; the file is checked, so that it is its content.
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise BundleError(f"{misfit}: {reason}") from None
    if not all(np.isfinite(weight).all() for weight in model.get_weights()):
        raise BundleError(f"{path}: {WEIGHTS} holds weights that are no numbers; train the model again")
    return Bundle(model, description)


def _parsed(path: Path) -> BundleDescription:
    file = path / DESCRIPTION
    try:
        with file.open("rb") as opened:
            raw = opened.read(LARGEST_TEXT + 1)
    except OSError:
        raise BundleError(f"{path}: no bundle ({DESCRIPTION} is missing); a run keeps its own at RUN/bundle") from None
    if len(raw) > LARGEST_TEXT:
        raise BundleError(f"{file}: has more than {LARGEST_TEXT:,} bytes; train the model again")
    try:
        content: Any = json.loads(raw)
    # RecursionError: brackets in brackets.
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{file}: not JSON: {' '.join(str(error).split())}; train the model again") from None
    version = content.get("format_version") if isinstance(content, dict) else None
    # `True` is 1 to Python.
    if type(version) is not int or version not in FILES:
        known = f"{min(FILES)} to {max(FILES)}"
        advice = INSTALL_NEWER if type(version) is int and version > max(FILES) else "train the model again"
        raise BundleError(f"{path}: format_version={version!r:.40}, this program reads {known}; {advice}")
    if version > 1:
        _check_seal(file, raw, content.get("digest"))
    try:
        return BundleDescription.model_validate(content)
    except (ValidationError, RecursionError, ValueError) as error:
        raise BundleError(f"{file}: {_first_reason(error)}; train the model again") from None


def _first_reason(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return str(error).splitlines()[0]
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return " ".join((f"{where}: {first['msg']}" if where else first["msg"]).split())


def _check_seal(file: Path, raw: bytes, digest: object) -> None:
    if isinstance(digest, str) and re.fullmatch("[0-9a-f]{64}", digest):
        # Over the bytes, not over what they say: so no byte can change unseen.
        blank = raw.replace(b'"digest": "' + digest.encode(), b'"digest": "' + NO_DIGEST.encode(), 1)
        if hashlib.sha256(blank).hexdigest() == digest:
            return
    raise BundleError(f"{file}: is not what was written (its digest differs); train the model again")


def _check_file(path: Path, name: str, limits: tuple[int, int], expected: str | None) -> None:
    file = path / name
    # Not a pipe, which would be waited for.
    if not file.is_file():
        raise BundleError(f"{path}: {name} is missing; train the model again")
    try:
        size = file.stat().st_size
        if size > limits[1]:
            raise BundleError(f"{path}: {name} has {size:,} bytes, its model at most {limits[1]:,}; train it again")
        found = _sha256(file)
    except OSError as error:
        raise BundleError(f"{path}: {name} can't be read: {error.strerror}; train the model again") from None
    if found != expected:
        raise BundleError(
            f"{path}: {name} is not the file that was written (its SHA-256 differs); train the model again"
        )
    if size < limits[0]:
        raise BundleError(f"{path}: {name} has {size:,} bytes, its model at least {limits[0]:,}; train it again")


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
