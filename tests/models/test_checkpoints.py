import json
from pathlib import Path

import numpy as np
import pytest

from genre_spark.dataset.scaler import Scaler
from genre_spark.errors import RunError
from genre_spark.models.backend import keras
from genre_spark.models.checkpoints import (
    State,
    assign,
    begun_scaler,
    check_plan,
    load_state,
    save_plan,
    save_state,
    values_of,
)

ROWS = [{"epoch": 1, "loss": 1 / 3, "val_loss": 0.1}, {"epoch": 2, "loss": 2.0, "val_loss": 7.0}]


def state(size: int = 10, *, best: bool = True) -> State:
    random = np.random.default_rng(0)
    arrays = [random.standard_normal((size, 3)).astype(np.float32), np.array([1, 2**32 - 1], np.uint32)]
    return State(ROWS, arrays, [np.int64(7) * np.ones((), np.int64), arrays[0]], [arrays[0] + 1] if best else None)


def same(one: list[np.ndarray] | None, other: list[np.ndarray] | None) -> bool:
    if one is None or other is None:
        return one is other
    return [(a.dtype, a.tobytes(), a.shape) for a in one] == [(b.dtype, b.tobytes(), b.shape) for b in other]


@pytest.mark.parametrize("best", [True, False])
def test_a_state_reads_back_bit_for_bit(tmp_path: Path, best: bool) -> None:
    written = state(best=best)
    save_state(tmp_path, written)
    read = load_state(tmp_path)
    assert read.rows == written.rows
    assert same(read.variables, written.variables)
    assert same(read.optimizer, written.optimizer)
    assert same(read.best, written.best)
    assert [path.name for path in tmp_path.iterdir()] == ["state.npz"]


def test_a_training_without_a_complete_epoch_has_no_state(tmp_path: Path) -> None:
    assert load_state(tmp_path) is None


@pytest.mark.parametrize("keep", [0, 10, 200, -30])
def test_a_damaged_state_is_refused_by_name(tmp_path: Path, keep: int) -> None:
    save_state(tmp_path, state())
    file = tmp_path / "state.npz"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(RunError, match=r"state\.npz: .*begin anew with --overwrite"):
        load_state(tmp_path)


def test_a_state_with_pickles_is_not_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "state.npz", history=np.array([print], dtype=object))
    with pytest.raises(RunError, match="no checkpoint"):
        load_state(tmp_path)


def test_dropout_and_adam_go_on_where_they_were(tmp_path: Path) -> None:
    def built() -> keras.Model:
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8), keras.layers.Dropout(0.5)])
        model.compile(optimizer=keras.optimizers.Adam(0.1), loss="mse")
        model.optimizer.build(model.trainable_variables)
        return model

    random = np.random.default_rng(0)
    x, y = random.standard_normal((2, 8, 4)).astype(np.float32), random.standard_normal((8, 8)).astype(np.float32)
    begun, resumed = built(), built()
    begun.train_on_batch(x[0], y)
    save_state(tmp_path, State(ROWS, values_of(begun.variables), values_of(begun.optimizer.variables), None))
    read = load_state(tmp_path)
    assign(resumed.variables, read.variables, tmp_path)
    assign(resumed.optimizer.variables, read.optimizer, tmp_path)
    for model in (begun, resumed):
        for _ in range(3):
            model.train_on_batch(x[1], y)
    assert same(values_of(resumed.variables), values_of(begun.variables))
    assert not same(values_of(resumed.variables), read.variables)


def test_a_state_of_another_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is of a model with other weights; begin anew with --overwrite"):
        assign(keras.layers.Dense(2).variables, state().variables, tmp_path)


SCALER = Scaler(np.zeros(2, np.float32), np.ones(2, np.float32), 4)


def test_another_plan_is_refused_by_the_first_thing_that_differs(tmp_path: Path) -> None:
    folder, run = tmp_path / "run.unfinished" / "checkpoint", tmp_path / "run"
    save_plan(folder, {"model": "dnn", "train.seed": 0, "labels": ["a", "b"]}, SCALER, None)
    check_plan(folder, {"model": "dnn", "train.seed": 0, "labels": ["a", "b"]}, 5, run)
    with pytest.raises(RunError, match=r"run: was begun with train\.seed=0, now it is 1; go on with what it was, or"):
        check_plan(folder, {"model": "dnn", "train.seed": 1, "labels": ["a", "b"]}, 5, run)
    with pytest.raises(RunError, match=r"plan\.json: can't be read"):
        check_plan(tmp_path, {}, 5, run)
    (folder / "plan.json").write_text("[]")
    with pytest.raises(RunError, match=r"plan\.json: can't be read: is list, not a mapping; begin anew"):
        check_plan(folder, {}, 5, run)


@pytest.mark.parametrize("source", [None, Path("scalers") / "ä\udcff.npz"])
def test_a_checkpoint_tells_where_its_scaler_came_from(tmp_path: Path, source: Path | None) -> None:
    save_plan(tmp_path, {"model": "dnn"}, SCALER, source)
    scaler, found = begun_scaler(tmp_path, Path("wanted.npz"))
    assert found == source
    assert scaler.n_samples == 4
    # As before it was told.
    (tmp_path / "plan.json").write_text(json.dumps({"model": "dnn"}))
    assert begun_scaler(tmp_path, Path("wanted.npz"))[1] == Path("wanted.npz")


def test_a_full_disk_is_named_and_the_last_good_checkpoint_stays(small_disk: Path) -> None:
    save_state(small_disk, state())
    with pytest.raises(
        RunError, match=r"state\.npz: can't be written: No space left.*before it is kept\); mend that and"
    ):
        save_state(small_disk, state(200_000))
    assert load_state(small_disk).variables[0].shape == (10, 3)
    assert [path.name for path in small_disk.iterdir()] == ["state.npz"]
