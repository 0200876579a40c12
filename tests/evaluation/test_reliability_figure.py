from xml.etree import ElementTree

import numpy as np
import pytest

from genre_spark.evaluation.figures import to_svg
from genre_spark.evaluation.metrics import wilson_interval
from genre_spark.evaluation.reliability_figure import reliability_figure
from genre_spark.models.reliability import ReliabilityBin

TABLE = [
    ReliabilityBin(low=0.4, high=0.6, n=40, confidence=0.52, accuracy=0.25),
    ReliabilityBin(low=0.8, high=1.0, n=10, confidence=0.93, accuracy=0.9),
]


def test_bars_are_the_accuracies_over_their_bins_and_dots_the_mean_confidences() -> None:
    axes, counts = reliability_figure(TABLE).axes
    bars = [(bar.get_x(), bar.get_x() + bar.get_width(), bar.get_height()) for bar in axes.patches]
    np.testing.assert_allclose(bars, [(0.4, 0.6, 0.25), (0.8, 1.0, 0.9)])
    (dots,) = [line for line in axes.lines if line.get_marker() == "o"]
    np.testing.assert_allclose(dots.get_xydata(), [(0.52, 0.25), (0.93, 0.9)])
    assert [bar.get_height() for bar in counts.patches] == [40, 10]


def test_a_model_without_error_would_lie_on_the_diagonal() -> None:
    axes, _ = reliability_figure(TABLE).axes
    (diagonal,) = [line for line in axes.lines if line.get_label() == "without error"]
    assert np.asarray(diagonal.get_xydata()).tolist() == [[0, 0], [1, 1]]


def test_each_accuracy_has_its_wilson_interval() -> None:
    axes, _ = reliability_figure(TABLE).axes
    (bars,) = axes.collections
    found = [[segment[0][1], segment[-1][1]] for segment in bars.get_segments()]
    np.testing.assert_allclose(found, [wilson_interval(10, 40), wilson_interval(9, 10)])


@pytest.mark.parametrize("table", [[], TABLE[:1], [ReliabilityBin(low=0, high=1, n=1, confidence=1, accuracy=1)]])
def test_few_bins_or_none_can_be_drawn(table: list[ReliabilityBin], recwarn: pytest.WarningsRecorder) -> None:
    svg = to_svg(reliability_figure(table))
    texts = ["".join(element.itertext()) for element in ElementTree.fromstring(svg).iter() if "text" in element.tag]
    assert {"accuracy", "tracks", "confidence: the largest probability"} <= set(texts)
    assert not recwarn.list
