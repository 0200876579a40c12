"""The state of a training on disk: what it takes to go on as if it had never been stopped.

    CHECKPOINT/
      plan.json     what decides the training's numbers; a resumed training must want the same (but for `train.scaler`,
                    which says where the scaler came from)
      scaler.npz    mean and variance of the training part
      state.npz     history, weights with the states of the random generators, optimizer, and the best epoch's weights

Which tracks come in which order follows from the seed and the epoch's number, so no state of it is kept. The state is
one file, because one file can be replaced in one step. No pickle.
"""

import json
import os
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from genre_spark.dataset.scaler import Scaler
from genre_spark.errors import RunError
from genre_spark.files import complete_file
from genre_spark.models.backend import keras

STATE = "state.npz"
PLAN = "plan.json"
SCALER = "scaler.npz"

# Kept with the plan and not compared: a resumed training has the scaler itself.
SCALER_SOURCE = "train.scaler"

Arrays = list[np.ndarray]


@dataclass(frozen=True, eq=False)
class State:
    """A training at the end of an epoch.

    Parameters
    ----------
    rows : list of dict
        Rows of the history so far.
    variables : list of np.ndarray
        The model's weights and the states of its random generators, in Keras' order.
    optimizer : list of np.ndarray
        The optimizer's variables.
    best : list of np.ndarray, optional
        The weights of the best epoch, where they are wanted and are not the last ones.
    """

    rows: list[dict[str, float]]
    variables: Arrays
    optimizer: Arrays
    best: Arrays | None


def values_of(variables: Sequence[Any]) -> Arrays:
    """Copy variables of any back end, in their order."""
    # ops.copy: a variable that several devices have is no array.
    return [np.array(keras.ops.convert_to_numpy(keras.ops.copy(variable.value))) for variable in variables]


def assign(variables: Sequence[Any], arrays: Sequence[np.ndarray], file: Path) -> None:
    """Give variables the values of arrays that were read from a file.

    Raises
    ------
    RunError
        If they are not of the same number and shapes.
    """
    if [tuple(variable.shape) for variable in variables] != [array.shape for array in arrays]:
        raise RunError(f"{file}: is of a model with other weights; begin anew with --overwrite")
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)


def save_plan(folder: Path, plan: Mapping[str, Any], scaler: Scaler, scaler_source: Path | None) -> None:
    """Write what holds for the whole training.

    Parameters
    ----------
    folder : Path
        Of the checkpoints.
    plan : mapping
        What decides the training's numbers.
    scaler : Scaler
    scaler_source : Path, optional
        Where it was read from; None if it was fitted for this training.
    """
    source = None if scaler_source is None else str(scaler_source)
    with complete_file(folder / PLAN, RunError) as partial:
        partial.write_text(json.dumps({**plan, SCALER_SOURCE: source}, indent=2) + "\n", encoding="utf-8")
    scaler.save(folder / SCALER)


def check_plan(folder: Path, plan: Mapping[str, Any], epochs: int, run: Path) -> None:
    """Refuse to go on with a training that was begun as another one, or that has more epochs than are asked for.

    Parameters
    ----------
    folder : Path
        Of the checkpoints.
    plan : mapping
        What the training is to be.
    epochs : int
        How many epochs it is to have.
    run : Path
        The run as its user names it.

    Raises
    ------
    RunError
        Naming the first thing that differs; or if the plan or the state can't be read.
    """
    begun = _read_plan(folder)
    for key in [*plan, *begun]:
        was, now = begun.get(key), plan.get(key)
        if was != now and key != SCALER_SOURCE:
            raise RunError(
                f"{run}: was begun with {key}={was}, now it is {now}; go on with what it was, or begin anew with "
                "--overwrite"
            )
    state = load_state(folder)
    if state is not None and len(state.rows) > epochs:
        raise RunError(
            f"{run}: already has {len(state.rows)} epochs, more than models.{plan['model']}.epochs={epochs}; ask for "
            f"{len(state.rows)} or more, or begin anew with --overwrite"
        )


def begun_scaler(folder: Path, wanted: Path | None) -> tuple[Scaler, Path | None]:
    """Read the scaler that a training was begun with, and where it came from.

    Parameters
    ----------
    folder : Path
        Of the checkpoints.
    wanted : Path, optional
        Stands for its source in a checkpoint that doesn't name one, as older ones don't.

    Raises
    ------
    BundleError, RunError
        If the scaler or the plan can't be read.
    """
    source = _read_plan(folder).get(SCALER_SOURCE, wanted)
    return Scaler.load(folder / SCALER), None if source is None else Path(source)


def _read_plan(folder: Path) -> dict[str, Any]:
    try:
        begun = json.loads((folder / PLAN).read_text(encoding="utf-8"))
        if not isinstance(begun, dict):
            raise ValueError(f"is {type(begun).__name__}, not a mapping")
    except (OSError, ValueError) as error:
        raise RunError(f"{folder / PLAN}: can't be read: {error}; begin anew with --overwrite") from None
    return begun


def save_state(folder: Path, state: State) -> None:
    """Write the state; until it is complete and on the disk, the one before it stays.

    Raises
    ------
    RunError
        If it can't be written, for instance because the disk is full.
    """
    arrays: dict[str, Any] = {"history": np.frombuffer(json.dumps(state.rows).encode(), np.uint8)}
    for kind, of_kind in (("variable", state.variables), ("optimizer", state.optimizer), ("best", state.best or [])):
        arrays |= {f"{kind}.{number:04}": array for number, array in enumerate(of_kind)}
    file = folder / STATE
    try:
        with complete_file(file, RunError) as partial, partial.open("wb") as sink:
            np.savez(sink, **arrays)
            sink.flush()
            os.fsync(sink.fileno())
    except RunError as error:
        kept = "the one before it is kept" if file.exists() else "there is none before it"
        raise RunError(f"{error} ({kept}); mend that and go on with --resume") from None


def load_state(folder: Path) -> State | None:
    """Read the state of a training that was stopped; None where it has no complete epoch.

    Raises
    ------
    RunError
        If the file is damaged.
    """
    file = folder / STATE
    try:
        with np.load(file, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in sorted(stored.files)}
        rows = json.loads(arrays.pop("history").tobytes().decode())
    except FileNotFoundError:
        return None
    # TypeError and AttributeError: a lone .npy array is no context manager. MemoryError: a shape that is a lie.
    except (OSError, ValueError, EOFError, TypeError, AttributeError, MemoryError, KeyError) as error:
        raise RunError(f"{file}: no checkpoint: {' '.join(str(error).split())}; begin anew with --overwrite") from None
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError) as error:
        raise RunError(f"{file}: damaged: {error}; begin anew with --overwrite") from None

    def of_kind(kind: str) -> Arrays:
        return [array for name, array in arrays.items() if name.startswith(f"{kind}.")]

    return State(rows, of_kind("variable"), of_kind("optimizer"), of_kind("best") or None)
