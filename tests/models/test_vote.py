import numpy as np
from sklearn.ensemble import VotingClassifier

from genre_spark.models.vote import soft_vote


class Says:
    """A classifier of scikit-learn's that knows its answers already."""

    def __init__(self, p: np.ndarray) -> None:
        self._p = p

    def predict_proba(self, x: object) -> np.ndarray:
        return self._p


def test_the_vote_is_scikit_learns_soft_vote_with_a_segment_as_voter() -> None:
    p = np.random.default_rng(0).dirichlet(np.ones(8), size=(50, 6)).astype(np.float32)
    reference = VotingClassifier([], voting="soft")
    reference.estimators_ = [Says(p[:, segment]) for segment in range(6)]
    np.testing.assert_allclose(soft_vote(p), reference.predict_proba(None), rtol=1e-6)


def test_the_sure_outvote_the_many() -> None:
    (p,) = soft_vote(np.array([[[0.45, 0.55], [0.45, 0.55], [1.0, 0.0]]], np.float32))
    np.testing.assert_allclose(p, [1.9 / 3, 1.1 / 3], rtol=1e-6)


def test_a_single_segment_keeps_its_bits() -> None:
    p = np.random.default_rng(0).dirichlet(np.ones(8), size=(5, 1)).astype(np.float32)
    np.testing.assert_array_equal(soft_vote(p), p[:, 0])
    assert soft_vote(p).dtype == np.float32
