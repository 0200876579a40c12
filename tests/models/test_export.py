import hashlib
import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from genre_spark.cli import main
from genre_spark.dataset.scaler import Scaler
from genre_spark.errors import BundleError, EnvironmentSetupError, ModelError
from genre_spark.features import resolve_specs
from genre_spark.models import export
from genre_spark.models.architectures import ARCHITECTURES, build_model, probabilities
from genre_spark.models.backend import keras
from genre_spark.models.bundle import BundleDescription, load_bundle, save_bundle
from genre_spark.models.export import TOLERANCE, export_model, seeded_inputs

LABELS = ["Blues", "Hip-Hop", "Rock", "\u00c9tude"]
NAMES = {"keras": "model.keras", "onnx": "model.onnx", "savedmodel": "model"}
NEEDS = {"keras": (), "savedmodel": ("tensorflow",), "onnx": ("onnx", "onnxruntime", "tf2onnx")}


def spec_of(name: str) -> "object":
    (spec,) = resolve_specs([ARCHITECTURES[name].feature])
    # As long as the convolutions need it, for speed.
    shorter = {"cnn1d": {"n_frames": 200}, "cnn2d": {"n_samples": 256 * 120}, "cnn_time": {"n_samples": 256 * 120}}
    return spec.model_copy(update=shorter.get(name, {}))


def make_bundle(path: Path, name: str, *, per_cell: bool = False) -> Path:
    spec = spec_of(name)
    keras.utils.set_random_seed(4)
    random = np.random.default_rng(4)
    rows = spec.shape if per_cell else spec.shape[:1]
    # Means far from 0, as decibels have them.
    mean, variance = random.normal(-40, 20, rows), random.uniform(1, 400, rows)
    scaler = Scaler(mean.astype(np.float32), variance.astype(np.float32), 10)
    model = build_model(name, spec.shape, len(LABELS), scaler)
    # Statistics of BatchNorm and biases as after a training: at the start they are all 0 and 1.
    for weight in model.weights:
        if len(weight.shape) == 1:
            weight.assign(random.uniform(0.2, 1.5, weight.shape))
    description = BundleDescription(
        format_version=2, architecture=name, spec=spec, spec_digest=spec.digest, labels=LABELS, split_digest="0" * 16,
        versions={}, metrics={"val_accuracy": 0.5},
    )  # fmt: skip
    save_bundle(path, model, scaler, description)
    return path


# One dense and one convolutional model; with all of them it takes a minute more.
QUICK = ("dnn", "cnn2d")


@pytest.fixture(
    scope="module",
    params=[name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in ARCHITECTURES],
)
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("bundles") / request.param, request.param)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("bundles") / "small", "dnn")


def need(form: str) -> None:
    for library in NEEDS[form]:
        if importlib.util.find_spec(library) is None:
            pytest.skip(f"{library} is not installed")
    if form != "keras" and keras.backend.backend() != "tensorflow":
        pytest.skip(f"{form} needs Keras on tensorflow")


def answers(form: str, path: Path, x: np.ndarray) -> np.ndarray:
    if form == "keras":
        return keras.saving.load_model(path, compile=False).predict_on_batch(x)
    if form == "savedmodel":
        import tensorflow as tf

        (name,) = tf.saved_model.load(str(path)).signatures["serving_default"].structured_input_signature[1]
        (p,) = tf.saved_model.load(str(path)).signatures["serving_default"](**{name: tf.constant(x)}).values()
        return p.numpy()
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x})[0]


@pytest.mark.parametrize("form", list(NAMES))
def test_another_program_gets_the_same_probabilities(form: str, bundle: Path, tmp_path: Path) -> None:
    need(form)
    out = tmp_path / "exports" / NAMES[form]
    worst = export_model(bundle, form, out)
    assert worst <= TOLERANCE
    loaded = load_bundle(bundle)
    spec = loaded.description.spec
    random = np.random.default_rng(9)
    # Each louder than the one before: noise alone is all the same to a convolution.
    levels = np.linspace(-90, 10, 5).reshape(5, *(1 for _ in spec.shape))
    x = random.normal(levels, 20, (5, *spec.shape)).astype(np.float32)
    wanted = probabilities(loaded.model, x)
    assert np.ptp(wanted, axis=0).max() > 0.01  # an answer that depends on the input
    np.testing.assert_allclose(answers(form, out, x), wanted, atol=TOLERANCE)
    described = json.loads((out / "assets.extra" / "genre_spark.json" if form == "savedmodel" else
                            out.with_name(out.name + ".json")).read_text())  # fmt: skip
    assert described["labels"] == LABELS
    assert described["spec"] == spec.model_dump(mode="json")
    assert described["metrics"] == {"val_accuracy": 0.5}
    if form == "savedmodel":
        assert sorted(path.name for path in out.parent.iterdir()) == [out.name]
        assert "# Model card" in (out / "assets.extra" / "MODEL_CARD.md").read_text()
    else:
        assert sorted(path.name for path in out.parent.iterdir()) == [out.name, out.name + ".json"]
        assert described["sha256"] == hashlib.sha256(out.read_bytes()).hexdigest()


def test_an_onnx_file_knows_its_labels_and_takes_batches_of_any_size(small: Path, tmp_path: Path) -> None:
    need("onnx")
    import onnx

    export_model(small, "onnx", tmp_path / "m.onnx", metrics={"accuracy": 0.75})
    written = onnx.load(tmp_path / "m.onnx")
    properties = {entry.key: entry.value for entry in written.metadata_props}
    assert json.loads(properties["labels"]) == LABELS
    assert json.loads(properties["genre_spark"])["metrics"] == {"accuracy": 0.75}
    (given,), (result,) = written.graph.input, written.graph.output
    assert (given.name, result.name) == ("mfcc_mean", "probabilities")
    assert given.type.tensor_type.shape.dim[0].dim_param == "batch"
    assert [dim.dim_value for dim in given.type.tensor_type.shape.dim][1:] == [80]
    assert "`accuracy` | 0.75" in written.doc_string


def test_a_model_with_a_mean_per_cell_is_the_same_as_onnx(tmp_path: Path) -> None:
    need("onnx")
    bundle = make_bundle(tmp_path / "b", "cnn1d", per_cell=True)
    assert export_model(bundle, "onnx", tmp_path / "m.onnx") <= TOLERANCE


def test_seeded_inputs_have_the_scaler_s_mean_and_variance() -> None:
    scaler = Scaler(np.array([-300.0, 5.0], np.float32), np.array([9.0, 400.0], np.float32), 1)
    x = seeded_inputs((2, 5_000), scaler, 3)
    assert x.dtype == np.float32
    np.testing.assert_allclose(x.mean(axis=(0, 2)), [-300, 5], atol=0.6)
    np.testing.assert_allclose(x.var(axis=(0, 2)), [9, 400], rtol=0.05)
    np.testing.assert_array_equal(x, seeded_inputs((2, 5_000), scaler, 3))


def test_what_gives_other_probabilities_is_not_left(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = export._write_keras

    def wrong(*arguments: object) -> export.Predict:
        predict = write(*arguments)
        return lambda x: predict(x) + 2e-5

    monkeypatch.setattr(export, "_write_keras", wrong)
    with pytest.raises(ModelError, match=r"m\.keras: not written: as keras .* differ by 2e-05 \(allowed 1e-05\)"):
        export_model(small, "keras", tmp_path / "m.keras")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", [np.full((3, 4), np.nan), np.zeros((3, 5)), np.zeros(3)])
def test_not_a_number_or_another_shape_is_no_small_difference(small: Path, wrong: np.ndarray) -> None:
    scaler = Scaler.load(small / "scaler.npz")
    assert export.largest_difference(load_bundle(small), scaler, lambda x: wrong) == float("inf")


def test_a_missing_library_is_named(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(
        EnvironmentSetupError, match=r"--format onnx needs onnx: .*pip install 'genre-spark\[train,export\]'"
    ):
        export_model(small, "onnx", tmp_path / "m.onnx")


def test_what_stands_there_is_kept(small: Path, tmp_path: Path) -> None:
    (tmp_path / "m.keras").write_text("mine")
    with pytest.raises(BundleError, match=r"m\.keras: exists; replace it with --overwrite"):
        export_model(small, "keras", tmp_path / "m.keras")
    assert (tmp_path / "m.keras").read_text() == "mine"
    export_model(small, "keras", tmp_path / "m.keras", overwrite=True)
    assert (tmp_path / "m.keras").read_bytes()[:2] == b"PK"


def test_a_folder_of_something_else_is_not_replaced_even_when_asked(small: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("mine")
    with pytest.raises(BundleError, match="thesis: is not an export of this program"):
        export_model(small, "savedmodel", tmp_path / "thesis", overwrite=True)
    with pytest.raises(BundleError, match=r"thesis: a keras file is named \*\.keras"):
        export_model(small, "keras", tmp_path / "thesis", overwrite=True)


def test_a_savedmodel_is_replaced_when_asked(small: Path, tmp_path: Path) -> None:
    need("savedmodel")
    for overwrite in (False, True):
        export_model(small, "savedmodel", tmp_path / "m", overwrite=overwrite)
    assert [path.name for path in tmp_path.iterdir()] == ["m"]
    with pytest.raises(BundleError, match="exists; replace it with --overwrite"):
        export_model(small, "savedmodel", tmp_path / "m")


@pytest.mark.parametrize("form", ["keras", "savedmodel", "onnx"])
def test_a_full_disk_is_told_in_the_same_words_for_every_form(form: str, small: Path, small_disk: Path) -> None:
    need(form)
    (small_disk / "filler").write_bytes(bytes(shutil.disk_usage(small_disk).free - 2**17))
    out = small_disk / ("m" if form == "savedmodel" else f"m.{form}")
    with pytest.raises(BundleError, match="/m[^:]*: can't be written: No space left on device$"):
        export_model(small, form, out)
    assert [path.name for path in small_disk.iterdir()] == ["filler"]


def test_a_damaged_bundle_is_not_exported(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "b", "dnn")
    with (bundle / "scaler.npz").open("ab") as file:
        file.write(b"more")
    with pytest.raises(BundleError, match=r"scaler\.npz is not the file that was written"):
        export_model(bundle, "keras", tmp_path / "m.keras")


def test_the_command_takes_a_bundle_or_its_run(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "bundle").symlink_to(small)
    for source in (small, run):
        with pytest.raises(SystemExit) as end:
            main(["export", str(source), "--format", "keras", "--out", str(tmp_path / "m.keras"), "--overwrite"])
        assert not end.value.code
        assert capsys.readouterr().out.startswith(f"keras -> {tmp_path / 'm.keras'} (probabilities differ by 0")
    with pytest.raises(SystemExit) as end:
        main(["export", str(tmp_path), "--format", "keras", "--out", str(tmp_path / "n.keras")])
    assert end.value.code == 1
    assert "no bundle (bundle.json is missing)" in capsys.readouterr().err


def test_a_run_s_export_tells_what_its_evaluation_found(run: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as end:
        main(["export", str(run), "--format", "keras", "--out", str(tmp_path / "m.keras")])
    assert not end.value.code
    found = json.loads((run / "evaluation" / "metrics.json").read_text())
    metrics = json.loads((tmp_path / "m.keras.json").read_text())["metrics"]
    low, high = found["accuracy_interval"]
    assert metrics.pop("accuracy_low") == low
    assert metrics.pop("accuracy_high") == high
    assert metrics == {name: found[name] for name in ("accuracy", "n", "chance", "macro_f1")}
