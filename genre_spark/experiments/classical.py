"""scikit-learn's methods on summary features: what a neural model has to beat.

A method's one free parameter is chosen on the validation part; the model is fitted on the training part alone, as the
neural ones are. Segments of a track vote with the mean of their probabilities, or of the SVM's decision values.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from genre_spark.errors import ExperimentError
from genre_spark.experiments.plan import Method

_C = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)


@dataclass(frozen=True, eq=False)
class Chosen:
    """A fitted method.

    Parameters
    ----------
    scores : callable
        From rows `[shape=(rows, numbers)]` to one score for each label `[shape=(rows, labels)]`.
    parameters : dict of str to float
        What was chosen.
    tried : dict of str to float
        Accuracy on the validation part of each candidate.
    training_s : float
        Wall time of all fits, in seconds.
    size : int, optional
        Numbers that the fit determined, where they can be counted.
    """

    scores: Callable[[np.ndarray], np.ndarray]
    parameters: dict[str, float]
    tried: dict[str, float]
    training_s: float
    size: int | None


def candidates(method: Method) -> list[dict[str, float]]:
    """Parameters to choose from, the simplest model first."""
    known: dict[Method, list[dict[str, float]]] = {
        "majority": [{}],
        "lda": [{}],
        "logistic": [{"C": c} for c in _C],
        "svm": [{"C": c} for c in (0.3, 1.0, 3.0, 10.0)],
        "boosting": [{"max_leaf_nodes": nodes} for nodes in (4, 16)],
    }
    return known[method]


def choose(
    method: Method,
    training: tuple[np.ndarray, np.ndarray],
    validation: tuple[np.ndarray, np.ndarray],
    n_labels: int,
    seed: int,
) -> Chosen:
    """Fit every candidate on the training part and keep the one that is right most often on the validation part.

    Parameters
    ----------
    method : str
    training, validation : pair of np.ndarray
        Rows `[shape=(tracks, segments, numbers)]` and labels `[shape=(tracks,)]`, numbered from 0.
    n_labels : int
    seed : int
        For methods that draw at random.

    Raises
    ------
    ExperimentError
        If the rows are not finite numbers.
    """
    x, y = training
    if not np.isfinite(x).all():
        raise ExperimentError(f"{method}: some numbers of the training part are not finite; extract the tracks again")
    started = time.monotonic()
    tried: dict[str, float] = {}
    best: tuple[float, Any, dict[str, float]] | None = None
    for parameters in candidates(method):
        model = _pipeline(method, parameters, seed)
        model.fit(x.reshape(-1, x.shape[2]), np.repeat(y, x.shape[1]))
        found = float((voted(_scorer(model, n_labels), validation[0]) == validation[1]).mean())
        tried[", ".join(f"{name}={value:g}" for name, value in parameters.items()) or method] = found
        if best is None or found > best[0]:
            best = found, model, parameters
    assert best is not None
    return Chosen(_scorer(best[1], n_labels), best[2], tried, round(time.monotonic() - started, 3), _size(best[1]))


def voted(scores: Callable[[np.ndarray], np.ndarray], x: np.ndarray) -> np.ndarray:
    """Label of each track `[shape=(tracks,)]` for rows `[shape=(tracks, segments, numbers)]`."""
    of_rows = scores(x.reshape(-1, x.shape[2]))
    labels: np.ndarray = of_rows.reshape(len(x), x.shape[1], -1).mean(axis=1).argmax(axis=1)
    return labels


def _pipeline(method: Method, parameters: Mapping[str, float], seed: int) -> Any:
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.dummy import DummyClassifier
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    if method == "majority":
        return make_pipeline(DummyClassifier(strategy="prior"))
    if method == "boosting":
        nodes = int(parameters["max_leaf_nodes"])
        return make_pipeline(
            HistGradientBoostingClassifier(max_leaf_nodes=nodes, early_stopping=False, random_state=seed)
        )
    classifier = {
        "logistic": lambda: LogisticRegression(max_iter=5_000, **parameters),
        # Ledoit and Wolf's shrinkage: there may be fewer tracks than numbers.
        "lda": lambda: LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto"),
        "svm": lambda: SVC(decision_function_shape="ovr", **parameters),
    }[method]()
    return make_pipeline(StandardScaler(), classifier)


def _scorer(model: Any, n_labels: int) -> Callable[[np.ndarray], np.ndarray]:
    classes = model.classes_

    def scores(x: np.ndarray) -> np.ndarray:
        found = model.predict_proba(x) if hasattr(model, "predict_proba") else model.decision_function(x)
        if found.ndim == 1:  # two labels: one decision value
            found = np.stack([-found, found], axis=1)
        # A label that training lacks is never said.
        every = np.full((len(x), n_labels), -np.inf)
        every[:, classes] = found
        return every

    return scores


def _size(model: Any) -> int | None:
    last: Sequence[Any] = [getattr(model[-1], name, None) for name in ("coef_", "intercept_")]
    if hasattr(model[-1], "support_vectors_"):
        return int(model[-1].support_vectors_.size + model[-1].dual_coef_.size + model[-1].intercept_.size)
    return None if last[0] is None else int(sum(np.size(array) for array in last))
