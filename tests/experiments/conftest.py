from collections.abc import Iterator

import pytest
import sklearn.ensemble  # noqa: F401 - so that its OpenMP is there to be limited
from threadpoolctl import threadpool_limits


@pytest.fixture(autouse=True)
def one_thread_for_scikit_learn() -> Iterator[None]:
    """Boosting's threads wait for each other without rest: with more of them than free cores, for minutes."""
    with threadpool_limits(1):
        yield
