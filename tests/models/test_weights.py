import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from genre_spark.dataset.scaler import Scaler
from genre_spark.errors import BundleError, ModelError
from genre_spark.models.architectures import ARCHITECTURES, build_model
from genre_spark.models.backend import keras
from genre_spark.models.weights import check_scaler_file, check_weights_file, limits_of_weights_file, n_weights


def untrained(name: str, shape: tuple[int, ...], n_genres: int) -> "keras.Model":
    scaler = Scaler(np.zeros(shape[0], np.float32), np.ones(shape[0], np.float32), 1)
    return build_model(name, shape, n_genres, scaler)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    untrained("dnn", (80,), 3).save_weights(tmp_path / "model.weights.h5")
    return tmp_path / "model.weights.h5"


@pytest.mark.parametrize("name", list(ARCHITECTURES))
@pytest.mark.parametrize("cells", [(80, 500), (97, 301)])
def test_the_reckoned_number_of_weights_is_that_of_the_model(name: str, cells: tuple[int, int]) -> None:
    shape = cells[: ARCHITECTURES[name].rank]
    scaler = Scaler(np.zeros(shape[0], np.float32), np.ones(shape[0], np.float32), 1)
    assert n_weights(name, shape, 7) == build_model(name, shape, 7, scaler).count_params()


def test_every_architecture_is_reckoned_and_no_other() -> None:
    with pytest.raises(ModelError, match=f"unknown model 'resnet'; known are {', '.join(ARCHITECTURES)}"):
        n_weights("resnet", (80,), 3)
    with pytest.raises(ModelError, match="cnn1d: needs a feature with 2 axes, not one of shape"):
        n_weights("cnn1d", (80,), 3)


@pytest.mark.parametrize("name", list(ARCHITECTURES))
def test_a_file_is_within_its_limits_with_its_optimizer_and_without(name: str, tmp_path: Path) -> None:
    shape = (80, 200)[: ARCHITECTURES[name].rank]
    model = untrained(name, shape, 7)
    low, high = limits_of_weights_file(name, shape, 7)
    file = tmp_path / "model.weights.h5"
    model.save_weights(file)
    assert low < file.stat().st_size < high
    model.compile("adam", "sparse_categorical_crossentropy")
    model.optimizer.build(model.trainable_variables)
    model.save_weights(file)
    assert 2 * low < file.stat().st_size < high
    assert check_weights_file(file) == model.count_params()


def linked_elsewhere(file: h5py.File, outside: Path) -> None:
    del file["layers/dense/vars/0"]
    file["layers/dense/vars/0"] = h5py.ExternalLink(str(outside), "/data")


def soft_link(file: h5py.File, outside: Path) -> None:
    del file["layers/dense/vars/0"]
    file["layers/dense/vars/0"] = h5py.SoftLink("/layers/dense_1/vars/0")


def stored_elsewhere(file: h5py.File, outside: Path) -> None:
    del file["layers/dense/vars/0"]
    external = [(str(outside), 0, 80 * 256 * 4)]
    file["layers/dense/vars"].create_dataset("0", (80, 256), "f4", external=external)


def virtual(file: h5py.File, outside: Path) -> None:
    del file["layers/dense/vars/0"]
    layout = h5py.VirtualLayout((80, 256), "f4")
    layout[:] = h5py.VirtualSource(str(outside), "data", (80, 256))
    file["layers/dense/vars"].create_virtual_dataset("0", layout)


def packed(file: h5py.File, outside: Path) -> None:
    del file["layers/dense/vars/0"]
    file["layers/dense/vars"].create_dataset("0", (200_000, 2_000), "f4", compression="gzip")


def hollow(file: h5py.File, outside: Path) -> None:
    del file["layers/dense/vars/0"]
    file["layers/dense/vars"].create_dataset("0", (2**20, 2**20), "f4")


def circle(file: h5py.File, outside: Path) -> None:
    file["layers/dense/vars/again"] = file["layers"]


def text(file: h5py.File, outside: Path) -> None:
    file["layers/dense/vars/more"] = "text"


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (linked_elsewhere, "a link of type ExternalLink"),
        (soft_link, "a link of type SoftLink"),
        (stored_elsewhere, "an array that lies in another file"),
        (virtual, "an array that lies in another file"),
        (packed, "an array in chunks or behind a filter"),
        (hollow, r"said to have shape \(1048576, 1048576\), which is not what is stored"),
        (circle, "a second name of another object"),
        (text, "an array of object"),
    ],
)
def test_anything_but_plain_arrays_is_refused_by_name(
    weights: Path, tmp_path: Path, harm: Callable[[h5py.File, Path], None], reason: str
) -> None:
    with h5py.File(tmp_path / "outside.h5", "w") as outside:
        outside["data"] = np.zeros((80, 256), np.float32)
    with h5py.File(weights, "r+") as file:
        harm(file, tmp_path / "outside.h5")
    with pytest.raises(BundleError, match=rf"^{weights}: /layers/dense/vars/\w+ is {reason}; train the model again$"):
        check_weights_file(weights)


@pytest.mark.parametrize("content", [b"", b"no HDF5 at all" * 100])
def test_what_is_no_hdf5_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.weights.h5").write_bytes(content)
    with pytest.raises(BundleError, match="no file of weights: OSError: "):
        check_weights_file(tmp_path / "model.weights.h5")


def test_bytes_that_are_others_are_no_other_error(weights: Path) -> None:
    random = np.random.default_rng(8)
    content = weights.read_bytes()
    refused = []
    # The first 2,000 bytes and the last ones hold groups and names.
    for place in random.integers(-2_000, 2_000, size=300).tolist():
        altered = bytearray(content)
        altered[place] ^= int(random.integers(1, 256))
        weights.write_bytes(altered)
        try:
            check_weights_file(weights)
        except BundleError as error:
            refused.append(str(error))
    assert len(refused) > 20
    assert not any("\n" in message for message in refused)


@pytest.mark.parametrize(("compression", "header"), [(zipfile.ZIP_DEFLATED, (80,)), (zipfile.ZIP_STORED, (2**40,))])
def test_a_scaler_that_would_grow_is_refused(tmp_path: Path, compression: int, header: tuple[int, ...]) -> None:
    with zipfile.ZipFile(tmp_path / "scaler.npz", "w", compression) as archive:
        for name in ("mean", "variance", "n_samples"):
            with archive.open(f"{name}.npy", "w") as file:
                np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": header})
                file.write(bytes(320))
    with pytest.raises(BundleError, match=r"scaler\.npz: 'mean\.npy' is "):
        check_scaler_file(tmp_path / "scaler.npz", (80,))
