"""A trained model for other programs, checked to give the same probabilities after it was written."""

import hashlib
import importlib
import json
import logging
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from genre_spark.dataset.scaler import Scaler
from genre_spark.errors import BundleError, EnvironmentSetupError, ModelError
from genre_spark.files import complete_file, replace_folder, staging_folder
from genre_spark.models.bundle import DESCRIPTION, SCALER, Bundle, BundleDescription, load_bundle
from genre_spark.models.model_card import model_card
from genre_spark.models.run import BUNDLE

Format = Literal["keras", "savedmodel", "onnx"]
Predict = Callable[[np.ndarray], np.ndarray]

# Of probabilities, which lie between 0 and 1.
TOLERANCE = 1e-5
SEED = 20
# One after the other: a file that knows one size alone is of no use.
BATCHES = (3, 1)
# Beside the signatures: where TensorFlow keeps what a SavedModel's users add.
EXTRA = "assets.extra"
DESCRIBED = "genre_spark.json"
# Of ONNX 1.12 (2022): all that the models need is older, and a file for a newer one runs in fewer places.
OPSET = 17


def export_model(
    source: Path,
    form: Format,
    out: Path,
    *,
    metrics: Mapping[str, float] | None = None,
    overwrite: bool = False,
) -> float:
    """Write a trained model in another form, together with its labels and its feature's specification.

    Parameters
    ----------
    source : Path
        A bundle, or a run that has one.
    form : {"keras", "savedmodel", "onnx"}
        `keras` and `onnx` write a file, and `OUT.json` that describes it; `savedmodel` writes a folder with the
        description in `assets.extra/genre_spark.json`. An ONNX file has it in its metadata, too.
    out : Path
        File or folder to write. It appears when it is complete and checked.
    metrics : mapping of str to float, optional
        What an evaluation found, to stand in the description instead of what the training found.
    overwrite : bool
        Replace what stands there, as long as it is an export.

    Returns
    -------
    float
        Largest difference between a probability of the model and one of what was written, on seeded inputs with the
        scaler's mean and variance.

    Raises
    ------
    BundleError
        If there is no sound bundle, or `out` is in the way or can't be written.
    EnvironmentSetupError
        If a library or the back end for this form is missing.
    ModelError
        If what was written gives other probabilities.
    """
    folder = source if (source / DESCRIPTION).exists() or not (source / BUNDLE).is_dir() else source / BUNDLE
    _refuse_occupied(out, form, overwrite=overwrite)
    _need_libraries(form)
    bundle = load_bundle(folder)
    scaler = Scaler.load(folder / SCALER)
    described = _described(bundle.description, metrics)
    card = model_card(bundle.description, metrics)
    write = {"keras": _write_keras, "savedmodel": _write_savedmodel, "onnx": _write_onnx}[form]
    with staging_folder(out, BundleError) as staging:
        staged = staging / ("model" + (".keras" if form == "keras" else ".onnx" if form == "onnx" else ""))
        try:
            predict = write(staged, bundle, scaler, described, card)
            worst = largest_difference(bundle, scaler, predict)
        except (BundleError, ModelError, EnvironmentSetupError, OSError):
            raise
        except Exception as error:
            if "No space left on device" in str(error):  # TensorFlow's own error, which is no OSError
                raise BundleError(f"{out}: can't be written: No space left on device") from None
            # The converters raise what they happen to stumble over.
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
            raise ModelError(f"{out}: model {bundle.description.architecture} as {form}: {reason}") from error
        if not worst <= TOLERANCE:
            raise ModelError(
                f"{out}: not written: as {form} the model gives probabilities that differ by {worst:.2g} "
                f"(allowed {TOLERANCE:g}); take another --format"
            )
        if form == "savedmodel":
            replace_folder(staged, out)
        else:
            described["sha256"] = hashlib.sha256(staged.read_bytes()).hexdigest()
            with complete_file(_beside(out), BundleError) as partial:
                partial.write_text(_dumped(described), encoding="utf-8")
            staged.replace(out)
    return worst


def seeded_inputs(shape: tuple[int, ...], scaler: Scaler, n: int) -> np.ndarray:
    """Make tensors `[shape=(n, *shape), dtype=float32]` with the scaler's mean and variance, always the same."""
    over_time = (...,) + (np.newaxis,) * (len(shape) - scaler.mean.ndim)
    noise = np.random.default_rng(SEED).standard_normal((n, *shape))
    return (scaler.mean[over_time] + np.sqrt(scaler.variance[over_time]) * noise).astype(np.float32)


def largest_difference(bundle: Bundle, scaler: Scaler, predict: Predict) -> float:
    """Largest difference between the bundle's probabilities and `predict`'s; infinite where shapes or NaN differ."""
    from genre_spark.models.architectures import probabilities

    worst = 0.0
    for n in BATCHES:
        x = seeded_inputs(bundle.description.spec.shape, scaler, n)
        wanted, found = probabilities(bundle.model, x), np.asarray(predict(x))
        if found.shape != wanted.shape or not np.isfinite(found).all():
            return float("inf")
        worst = max(worst, float(np.abs(found - wanted).max()))
    return worst


def _described(description: BundleDescription, metrics: Mapping[str, float] | None) -> dict[str, Any]:
    content = description.model_dump(mode="json", exclude={"sha256", "digest", "format_version"})
    if metrics is not None:
        content["metrics"] = dict(metrics)
    return {
        **content,
        "bundle_digest": description.digest,
        "input": {"name": description.spec.name, "shape": ["batch", *description.spec.shape], "dtype": "float32"},
        "output": {"shape": ["batch", len(description.labels)], "dtype": "float32", "means": "probability per label"},
    }


def _write_keras(path: Path, bundle: Bundle, scaler: Scaler, described: dict[str, Any], card: str) -> Predict:
    from genre_spark.models.architectures import probabilities
    from genre_spark.models.backend import keras

    bundle.model.save(path)
    read = keras.saving.load_model(path, compile=False, safe_mode=True)
    return lambda x: probabilities(read, x)


def _write_savedmodel(path: Path, bundle: Bundle, scaler: Scaler, described: dict[str, Any], card: str) -> Predict:
    import tensorflow as tf

    bundle.model.export(path, format="tf_saved_model", verbose=False)
    extra = path / EXTRA
    extra.mkdir()
    (extra / DESCRIBED).write_text(_dumped(described), encoding="utf-8")
    (extra / "MODEL_CARD.md").write_text(card, encoding="utf-8")
    read = tf.saved_model.load(str(path))
    return lambda x: read.serve(x).numpy()


def _write_onnx(path: Path, bundle: Bundle, scaler: Scaler, described: dict[str, Any], card: str) -> Predict:
    # Not `import`: they are in an extra of their own, and a type checker would miss them where it isn't installed.
    onnx, onnxruntime = importlib.import_module("onnx"), importlib.import_module("onnxruntime")
    described["input"]["name"], described["output"]["name"] = bundle.model.inputs[0].name, "probabilities"
    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # NumPy's, about Keras' own look at it
        _without_constants(bundle, scaler).export(path, format="onnx", opset_version=OPSET, verbose=False)
    written = onnx.load(path)
    (result,) = written.graph.output
    for node in written.graph.node:
        node.output[:] = ["probabilities" if name == result.name else name for name in node.output]
    result.name = "probabilities"
    for value in (written.graph.input[0], result):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    written.doc_string = card
    onnx.helper.set_model_props(
        written, {"labels": json.dumps(described["labels"]), "genre_spark": json.dumps(described, sort_keys=True)}
    )
    onnx.checker.check_model(written, full_check=True)
    onnx.save(written, path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    # Inputs beside the feature would be constants that the converter lost.
    (given,) = session.get_inputs()
    return lambda x: session.run(["probabilities"], {given.name: x})[0]


def _without_constants(bundle: Bundle, scaler: Scaler) -> Any:
    """Rebuild the model so that tf2onnx can convert it.

    It takes the mean and variance of a Normalization layer, which are tensors made outside of the graph, for inputs of
    the model; a Rescaling layer makes them in the graph.
    """
    from genre_spark.models.backend import keras

    model = bundle.model
    axes = (...,) + (np.newaxis,) * (len(bundle.description.spec.shape) - scaler.mean.ndim)
    mean, deviation = scaler.mean[axes], np.sqrt(scaler.variance[axes])
    (normalization,) = [layer for layer in model.layers if isinstance(layer, keras.layers.Normalization)]
    inputs = keras.Input(model.input_shape[1:], name=model.inputs[0].name)
    # In two steps, as Normalization does it: in one, a large mean would cost digits.
    centred = keras.layers.Rescaling(1.0, -mean)(inputs)
    standardised = keras.layers.Rescaling(1.0 / np.maximum(deviation, keras.backend.epsilon()))(centred)
    after = keras.Model(normalization.output, model.output)
    rebuilt = keras.Model(inputs, after(standardised), name=model.name)
    # Keras exports only a model that was called with numbers once.
    rebuilt.predict_on_batch(np.zeros((1, *model.input_shape[1:]), np.float32))
    return rebuilt


def _need_libraries(form: Format) -> None:
    # First: it keeps TensorFlow from talking.
    from genre_spark.models.backend import keras

    backend = keras.backend.backend()
    if form != "keras" and backend != "tensorflow":
        raise EnvironmentSetupError(
            f"--format {form} needs the back end tensorflow, not {backend}; set KERAS_BACKEND=tensorflow for the export"
        )
    for library in ("onnx", "onnxruntime", "tf2onnx") if form == "onnx" else ():
        try:
            importlib.import_module(library)
        except ImportError as error:
            raise EnvironmentSetupError(
                f"--format {form} needs {library}: {error}; `pip install 'genre-spark[train,export]'`"
            ) from None


def _refuse_occupied(out: Path, form: Format, *, overwrite: bool) -> None:
    suffix = {"keras": ".keras", "onnx": ".onnx", "savedmodel": ""}[form]
    if suffix and out.suffix != suffix:
        raise BundleError(f"{out}: a {form} file is named *{suffix}; give such a name to --out")
    if form == "savedmodel" and out.exists() and not (out / EXTRA / DESCRIBED).is_file() and _holds_something(out):
        raise BundleError(f"{out}: is not an export of this program; name another folder for --out")
    if suffix and out.is_dir():
        raise BundleError(f"{out}: is a folder; name a file for --out")
    if out.exists() and not overwrite and _holds_something(out):
        raise BundleError(f"{out}: exists; replace it with --overwrite, or give another name to --out")


def _holds_something(path: Path) -> bool:
    return not path.is_dir() or any(path.iterdir())


def _beside(out: Path) -> Path:
    return out.with_name(out.name + ".json")


def _dumped(described: Mapping[str, Any]) -> str:
    return json.dumps(described, indent=2, ensure_ascii=False) + "\n"
