"""The GPU check as a script, on a CPU: that it runs, on a node with JAX and without TensorFlow and petastorm."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="JAX is not installed")

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu.py"
# As if they were not installed.
WITHOUT = """
import runpy, sys

class Without:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in ("tensorflow", "petastorm"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Without)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run_script(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT, str(SCRIPT), *arguments],
        capture_output=True, text=True, check=False, env={**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"},
    )  # fmt: skip


@pytest.mark.slow
def test_the_script_prints_its_table_on_a_cpu_without_tensorflow_and_petastorm():
    answer = run_script("--tracks", "20", "--epochs", "1", "--batch-size", "8", "--models", "dnn")
    assert answer.returncode == 0, answer.stderr
    (row,) = [line for line in answer.stdout.splitlines() if "dnn" in line]
    cells = [cell.strip() for cell in re.split("[│|]", row) if cell.strip()]
    headings = next(line for line in answer.stdout.splitlines() if "GFLOP/step" in line)
    names = [name.strip() for name in re.split("[┃|]", headings) if name.strip()]
    found = dict(zip(names, cells, strict=True))
    # A product is two operations for each weight and track, and backwards two products; the rest is small.
    products = 3 * 2 * 8 * (80 * 256 + 256 * 256 + 256 * 8) / 1e9
    assert 0.8 * products < float(found["GFLOP/step"]) < 1.5 * products
    assert all(float(found[name]) > 0 for name in ("first s", "feed s", "device s", "bare s", "GB/step", "TFLOP/s"))
    assert found["of limit"] == "-"
    assert "fed from the host's memory" in answer.stdout
    assert "A CPU: nothing here says anything of a GPU." in answer.stdout


def test_the_script_refuses_an_unknown_model_by_name():
    answer = run_script("--tracks", "8", "--models", "rnn")
    assert answer.returncode == 1
    assert "error: unknown model 'rnn'; known are dnn, cnn1d, cnn2d" in answer.stderr
