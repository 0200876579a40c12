import math
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imread

from genre_spark.evaluation.figures import accuracy_figure, confusion_figure, loss_figure, save_png, to_svg

GENRES = ("Electronic", "Experimental", "Folk", "Hip-Hop", "Instrumental", "International", "Pop", "Rock")
CONFUSION = np.random.default_rng(0).poisson(2, (8, 8)) + 9 * np.eye(8, dtype=np.int64)
SVG = "{http://www.w3.org/2000/svg}"


def columns(epochs: int) -> dict[str, list[float]]:
    learned = [1 - math.exp(-epoch / 15) for epoch in range(1, epochs + 1)]
    return {
        "epoch": list(range(1, epochs + 1)),
        "loss": [2.1 - 1.6 * share for share in learned],
        "accuracy": [0.12 + 0.7 * share for share in learned],
        "val_loss": [2.0 - 0.5 * share for share in learned],
        "val_accuracy": [0.12 + 0.35 * share for share in learned],
    }


def texts(svg: str) -> list[str]:
    return ["".join(element.itertext()) for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def line_values(figure: Figure, label: str) -> list[float]:
    [line] = [line for line in figure.axes[0].lines if str(line.get_label()).startswith(label)]
    return np.asarray(line.get_ydata()).tolist()


def test_the_curves_are_the_history() -> None:
    history = columns(20)
    figure = accuracy_figure(history, model="dnn")
    assert line_values(figure, "training") == history["accuracy"]
    assert line_values(figure, "validation") == history["val_accuracy"]
    figure = loss_figure(history)
    assert line_values(figure, "training") == history["loss"]
    assert line_values(figure, "validation") == history["val_loss"]


@pytest.mark.parametrize(
    ("model", "numbers"), [("dnn", ("69.1", "48.3")), ("cnn1d", ("52", "44")), ("cnn2d", ("96.8", "42"))]
)
def test_the_studys_accuracies_stand_as_labelled_dashed_lines(model: str, numbers: tuple[str, str]) -> None:
    figure = accuracy_figure(columns(5), model=model)
    dashed = [line for line in figure.axes[0].lines if line.get_linestyle() == "--"]
    assert [f"{100 * np.asarray(line.get_ydata())[0]:.4g}" for line in dashed] == list(numbers)
    assert {f"study {number} %" for number in numbers} <= set(texts(to_svg(figure)))


def test_another_model_has_no_line_of_the_studys() -> None:
    svg = to_svg(accuracy_figure(columns(5), model="transformer", chance=0.125))
    assert not any("study" in text for text in texts(svg))
    assert "chance 12.5 %" in texts(svg)


def test_a_single_epoch_is_drawn_as_a_visible_point(tmp_path: Path) -> None:
    save_png(accuracy_figure(columns(1), model="transformer"), tmp_path / "one.png")
    pixels = imread(tmp_path / "one.png")[..., :3]
    below_the_legend = pixels[pixels.shape[0] // 5 :]
    blue = np.abs(below_the_legend - matplotlib.colors.to_rgb("#0069a8")).max(axis=-1) < 0.02
    assert blue.sum() > 30


def test_a_diverged_training_is_still_drawn() -> None:
    history = columns(3) | {"loss": [math.nan] * 3, "val_loss": [2.0, math.inf, math.nan]}
    assert "training not finite" in texts(to_svg(loss_figure(history)))


def test_a_matrix_shows_counts_and_shares_of_the_row() -> None:
    svg = to_svg(confusion_figure(np.array([[3, 1], [0, 40]]), ["Folk", "Rock"]))
    assert {"3", "75 %", "1", "25 %", "0", "40", "100 %"} <= set(texts(svg))
    assert texts(svg).count("Folk") == texts(svg).count("Rock") == 2
    assert {"true genre", "predicted genre"} <= set(texts(svg))


def test_rows_of_the_picture_are_the_true_genres_from_the_top() -> None:
    figure = confusion_figure(np.array([[3, 1], [0, 40]]), ["Folk", "Rock"])
    axes = figure.axes[0]
    [one] = [text for text in axes.texts if text.get_text().startswith("1\n")]
    column, row = one.get_position()
    assert (axes.get_yticklabels()[int(row)].get_text(), axes.get_xticklabels()[int(column)].get_text()) == (
        "Folk",
        "Rock",
    )
    bottom, top = axes.get_ylim()
    assert bottom > top


def test_thirty_genres_keep_cells_wider_than_their_text() -> None:
    labels = [f"genre number {index}" for index in range(30)]
    confusion = np.full((30, 30), 9_999)
    confusion[0] = 0
    confusion[0, 0] = 9_999  # the widest text: 100 %
    figure = confusion_figure(confusion, labels)
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    axes = figure.axes[0]
    cell = axes.get_window_extent().width / 30
    widest = max(text.get_window_extent(renderer).width for text in axes.texts)
    assert widest < cell
    height = max(label.get_window_extent(renderer).height for label in axes.get_yticklabels())
    assert height < cell


def test_of_a_thousand_genres_those_with_most_mistakes_are_drawn() -> None:
    confusion = 5 * np.eye(1_000, dtype=int)
    confusion[700, 3] = 9
    found = texts(to_svg(confusion_figure(confusion, [f"genre {index}" for index in range(1_000)])))
    assert {"genre 700", "genre 3", "960 others", "true genre (the 40 of 1,000 with most mistakes)"} <= set(found)
    assert found.count("genre 700") == 2
    assert "genre 999" not in found


def test_where_the_others_meet_right_and_wrong_stand_together_and_nothing_is_coloured() -> None:
    confusion = 5 * np.eye(60, dtype=int)
    confusion[0, 1] = 9
    [mesh] = confusion_figure(confusion, [f"genre {index}" for index in range(60)]).axes[0].collections
    shown = np.asarray(mesh.get_array())
    assert shown.shape == (41, 41)
    assert shown[-1, -1] == 0
    assert (np.diag(shown)[1:-1] == 1).all()


@pytest.mark.parametrize("n", [2, 8, 13])
def test_long_names_leave_the_cells_as_wide_as_their_text(n: int) -> None:
    figure = confusion_figure(1_000 * np.eye(n, dtype=int), [f"{index} {'W' * 40}" for index in range(n)])
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    axes = figure.axes[0]
    widest = max(text.get_window_extent(renderer).width for text in axes.texts)
    assert widest < axes.get_window_extent().width / n


@pytest.mark.parametrize("figure", [accuracy_figure, loss_figure])
def test_the_kept_epoch_is_marked_and_its_values_stand_in_the_legend(figure) -> None:
    history = columns(20)
    options = {"model": "dnn"} if figure is accuracy_figure else {}
    quantity = "accuracy" if figure is accuracy_figure else "loss"
    drawn = figure(history, best_epoch=7, **options)
    show = "{:.1f} %".format if figure is accuracy_figure else "{:.2f}".format
    scale = 100 if figure is accuracy_figure else 1
    expected = {
        f"{part} {show(scale * history[name][6])}"
        for part, name in (("training", quantity), ("validation", f"val_{quantity}"))
    }
    assert expected | {"kept: epoch 7"} <= set(texts(to_svg(drawn)))
    lines = {str(line.get_label()): line for line in drawn.axes[0].lines}
    assert set(np.asarray(lines["kept: epoch 7"].get_xdata())) == {7}
    assert all(lines[label].get_markevery() == [6] for label in expected)
    # The last epoch needs no line: all see where the curve ends.
    for kept in (0, 20):
        assert not any("kept" in text for text in texts(to_svg(figure(history, best_epoch=kept, **options))))


def test_curves_that_count_segments_say_so() -> None:
    assert "accuracy on segments" in texts(to_svg(accuracy_figure(columns(3), model="dnn", of_segments=True)))
    assert "accuracy" in texts(to_svg(accuracy_figure(columns(3), model="dnn")))


@pytest.mark.parametrize("name", ["$a$ $", "<b>&amp;", "line\nbreak", "nul\0vt\x0b", "演歌", "x" * 500, ""])
def test_any_genre_can_be_drawn(name: str, recwarn: pytest.WarningsRecorder) -> None:
    root = ElementTree.fromstring(to_svg(confusion_figure(np.eye(2, dtype=int), [name, "Rock"])))
    assert {element.tag for element in root.iter()} <= {
        f"{SVG}{tag}" for tag in ("svg", "g", "path", "text", "tspan", "defs", "use", "clipPath", "rect")
    }
    assert not recwarn.list


def test_the_svg_is_the_same_each_time() -> None:
    assert to_svg(accuracy_figure(columns(9), model="dnn")) == to_svg(accuracy_figure(columns(9), model="dnn"))


def test_figures_share_no_id_and_refer_to_ids_of_their_own() -> None:
    svgs = [
        to_svg(accuracy_figure(columns(9), model="dnn")),
        to_svg(loss_figure(columns(9))),
        to_svg(confusion_figure(CONFUSION, GENRES)),
        to_svg(confusion_figure(CONFUSION, GENRES), ids="again"),
    ]
    seen: set[str] = set()
    for svg in svgs:
        ids = re.findall(r'\bid="([^"]+)"', svg)
        assert len(ids) == len(set(ids))
        assert seen.isdisjoint(ids)
        assert set(re.findall(r'(?:url\(|href=")#([^")]+)', svg)) <= set(ids)
        seen.update(ids)


def test_a_genre_that_looks_like_an_id_is_left_alone() -> None:
    names = ['id="x" url(#x)', "Rock"]
    assert texts(to_svg(confusion_figure(np.eye(2, dtype=int), names))).count(names[0]) == 2


def test_the_svg_names_nothing_outside_and_styles_nothing_outside() -> None:
    svg = to_svg(accuracy_figure(columns(9), model="dnn"), description='a "curve" & more')
    assert re.findall(r"https?://[^\"' ]+", svg) == ["http://www.w3.org/2000/svg"]
    root = ElementTree.fromstring(svg)
    assert not list(root.iter(f"{SVG}style"))
    assert root.attrib["aria-label"] == 'a "curve" & more'


def test_every_colour_of_the_svg_can_be_set_by_the_page() -> None:
    for figure in (accuracy_figure(columns(9), model="dnn", chance=0.1), confusion_figure(np.eye(3) * 5, GENRES[:3])):
        bare = re.sub(r"var\(--figure-[a-z-]+, #[0-9a-f]{6}\)", "", to_svg(figure))
        assert re.findall(r"(?:fill|stroke): (#[0-9a-f]+)", bare) == []


def test_a_png_has_a_white_ground_and_no_partial_file_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "confusion.png"
    save_png(confusion_figure(CONFUSION, GENRES, title="dnn on the test part"), path)
    pixels = imread(path)
    assert pixels[0, 0].tolist() == [1, 1, 1, 1]
    assert pixels.min() < 0.5
    assert [file.name for file in path.parent.iterdir()] == ["confusion.png"]


def test_matplotlibs_parameters_are_left_as_they_were() -> None:
    before = dict(matplotlib.rcParams)
    to_svg(accuracy_figure(columns(3), model="dnn"))
    assert dict(matplotlib.rcParams) == before


def test_pyplot_is_never_imported() -> None:
    code = (
        "import sys, numpy; from genre_spark.evaluation.figures import *;"
        "to_svg(confusion_figure(numpy.eye(2), ['a', 'b']));"
        "sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
