import importlib.util
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.slow
def test_petastorms_own_tests_pass_on_the_adapter():
    spec = importlib.util.spec_from_file_location("suite", HERE / "petastorm_suite.py")
    suite = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(suite)
    status, counts, left_out, output = suite.run()
    assert status == 0, output
    assert counts["passed"] >= 68, output
    assert sum(left_out.values()) == counts["deselected"]
