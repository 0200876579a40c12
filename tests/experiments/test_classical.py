import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.preprocessing import StandardScaler

from genre_spark.errors import ExperimentError
from genre_spark.experiments.classical import candidates, choose, voted
from genre_spark.experiments.plan import METHODS, Method

Part = tuple[np.ndarray, np.ndarray]


def part(seed: int, tracks: int = 90, segments: int = 2) -> Part:
    rng = np.random.default_rng(seed)
    y = np.arange(tracks) % 3
    x = rng.normal(size=(tracks, segments, 8))
    x[np.arange(tracks), :, y] += 2.5
    return x.astype(np.float32), y


@pytest.mark.parametrize("method", [method for method in METHODS if method != "majority"])
def test_a_method_learns_what_can_be_learnt_and_is_chosen_on_validation(method: Method) -> None:
    training, validation, test = part(0), part(1), part(2)
    chosen = choose(method, training, validation, 3, seed=0)
    assert (voted(chosen.scores, test[0]) == test[1]).mean() > 0.85
    assert len(chosen.tried) == len(candidates(method))
    best = max(chosen.tried.values())
    assert (voted(chosen.scores, validation[0]) == validation[1]).mean() == best
    assert chosen.parameters in candidates(method)


def test_majority_says_what_training_has_most_of() -> None:
    x, y = part(0)
    y = np.where(y == 2, 1, y)
    chosen = choose("majority", (x, y), part(1), 3, seed=0)
    assert set(voted(chosen.scores, part(2)[0])) == {1}


def test_segments_vote_with_the_mean_of_their_probabilities() -> None:
    (x, y), (other, _) = part(0), part(3)
    chosen = choose("lda", (x, y), part(1), 3, seed=0)
    scaler = StandardScaler().fit(x.reshape(-1, 8))
    model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(
        scaler.transform(x.reshape(-1, 8)), np.repeat(y, 2)
    )
    means = model.predict_proba(scaler.transform(other.reshape(-1, 8))).reshape(90, 2, 3).mean(axis=1)
    np.testing.assert_array_equal(voted(chosen.scores, other), means.argmax(axis=1))


@pytest.mark.parametrize("method", ["svm", "logistic"])
def test_two_genres_of_which_training_may_lack_a_third(method: Method) -> None:
    (x, y), validation = part(0), part(1)
    two = y < 2
    chosen = choose(method, (x[two], y[two]), validation, 3, seed=0)
    found = voted(chosen.scores, validation[0])
    assert set(found) == {0, 1}
    assert (found == validation[1])[validation[1] < 2].mean() > 0.9


def test_numbers_that_are_not_finite_are_refused() -> None:
    x, y = part(0)
    x[3, 0, 0] = np.nan
    with pytest.raises(ExperimentError, match="not finite"):
        choose("svm", (x, y), part(1), 3, seed=0)
