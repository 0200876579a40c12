"""The measurement of the evaluation as a script: that it runs, and that its table tells of all ways."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "evaluate.py"


@pytest.mark.slow
def test_the_script_prints_each_way_beside_model_predict() -> None:
    arguments = ["--dnn", "40", "--cnn2d", "0", "--cores", "2", "--rounds", "1"]
    answer = subprocess.run([sys.executable, SCRIPT, *arguments], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    rows = {cells[1].strip(): cells[2:6] for line in answer.stdout.splitlines() if len(cells := line.split("│")) > 5}
    spark, plain = "Spark local[2]", "model.predict"
    ways = [f"{spark}, from its start", f"{plain}, from its start", f"{spark}, warm"]
    assert list(rows) == [*ways, f"{plain}, warm, with reading", f"{plain}, warm, without reading"]
    for way in ways:
        seconds, rate, ratio, _ = (float(cell) for cell in rows[way])
        assert rate == pytest.approx(40 / seconds, rel=0.1, abs=1)
        assert ratio > 0
    assert float(rows[f"{plain}, from its start"][2]) == float(rows[f"{plain}, warm, with reading"][2]) == 1.0
