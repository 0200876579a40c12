"""Which training is gone on with, and what a refusal leaves as it was."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genre_spark.dataset.scaler import Scaler
from genre_spark.errors import RunError
from genre_spark.models.checkpoints import State, load_state, save_plan, save_state
from genre_spark.models.checkpoints_folder import unfinished_run
from genre_spark.models.run import RunRecord, write_run_record

PLAN: dict[str, Any] = {"model": "dnn", "models.dnn.learning_rate": 0.001}


def write_stopped(folder: Path) -> None:
    """What a training leaves that was stopped after four epochs."""
    save_plan(folder / "checkpoint", PLAN, Scaler(np.zeros(2, np.float32), np.ones(2, np.float32), 4), None)
    save_state(folder / "checkpoint", State([{"epoch": n} for n in range(1, 5)], [np.zeros(3)], [np.zeros(3)], None))
    (folder / "train.log").write_text("four epochs")


def files(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("name", ["run", "run.unfinished"])
@pytest.mark.parametrize(
    ("plan", "epochs", "message"),
    [
        (
            PLAN | {"models.dnn.learning_rate": 0.5},
            9,
            r"was begun with models\.dnn\.learning_rate=0\.001, now it is 0\.5;",
        ),
        (
            PLAN,
            3,
            r"already has 4 epochs, more than models\.dnn\.epochs=3; ask for 4 or more, or begin anew with --over",
        ),
    ],
)
def test_a_training_that_is_not_gone_on_with_stays_the_one_there_is(
    tmp_path: Path, name: str, plan: dict[str, Any], epochs: int, message: str
) -> None:
    write_stopped(tmp_path / name)
    before = files(tmp_path)
    run = tmp_path / "run"
    with (
        pytest.raises(RunError, match=f"/run: {message}"),  # as its user calls it
        unfinished_run(run, plan, epochs, overwrite=False, resume=True),
    ):
        pass
    (tmp_path / "run.unfinished" / ".lock").unlink(missing_ok=True)
    assert files(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("epochs", [4, 5])
def test_a_run_whose_training_was_stopped_stays_while_a_copy_is_gone_on_with(
    tmp_path: Path, epochs: int, record: RunRecord
) -> None:
    run = tmp_path / "run"
    write_stopped(run)
    write_run_record(run, record)
    before = files(run)
    with unfinished_run(run, PLAN, epochs, overwrite=False, resume=True) as work:
        state = load_state(work / "checkpoint")
        assert state is not None
        assert len(state.rows) == 4
        assert (work / "train.log").read_text() == "four epochs"
        assert files(run) == before


def test_what_is_gone_on_with_in_its_own_place_is_not_emptied(tmp_path: Path) -> None:
    write_stopped(tmp_path / "run.unfinished")
    with unfinished_run(tmp_path / "run", PLAN, 5, overwrite=False, resume=True) as work:
        assert (work / "train.log").read_text() == "four epochs"
    with unfinished_run(tmp_path / "run", PLAN, 5, overwrite=True, resume=False) as work:
        assert files(work) == {".lock": b""}
    assert not list(tmp_path.iterdir())
