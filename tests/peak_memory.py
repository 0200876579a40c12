"""How much memory a piece of code takes at its highest, measured in a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

# Not `ru_maxrss`: a new process inherits its parent's highest, under which its own growth goes unseen.
_PEAK = """
def _peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:")) / 1000
"""


def peak_growth_mb(code: str, *arguments: object, after: str = "") -> float:
    """Run `after`, then `code`; return by how many MB the second raised the process's highest memory."""
    if not Path("/proc/self/status").is_file():
        pytest.skip("no /proc here")
    program = f"{_PEAK}\n{after}\n_before = _peak()\n{code}\nprint(_peak() - _before)\n"
    answer = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stderr
    return float(answer.stdout)
