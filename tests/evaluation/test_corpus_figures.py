import itertools
import statistics
import subprocess
import sys

import librosa
import matplotlib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from genre_spark.evaluation.corpus_figures import clip_figure, counts_figure, profiles_figure, values_figure
from genre_spark.evaluation.figures import to_svg
from genre_spark.features import Pcm, compute_features, resolve_specs

RATE = 22_050
SPECS = resolve_specs(["mel_spectrogram", "chroma_stft", "onset_strength"])


def tone(hertz: float, seconds: float = 4.0) -> Pcm:
    time = np.arange(round(seconds * RATE)) / RATE
    return Pcm((0.5 * np.sin(2 * np.pi * hertz * time)).astype(np.float32), RATE)


def bars_of(figure: Figure, panel: int = 0) -> dict[str, list[tuple[float, float]]]:
    """Begin and end of each bar, by series."""
    return {
        container.get_label(): [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in container]
        for container in figure.axes[panel].containers
    }


def brightest_row(figure: Figure, panel: int, seconds: float) -> str:
    """Label of the mark on the brightest row of a picture at a time."""
    axes = figure.axes[panel]
    [picture] = axes.images
    begin, end, _, _ = picture.get_extent()
    array = np.asarray(picture.get_array())
    row = int(array[:, int((seconds - begin) / (end - begin) * array.shape[1])].argmax())
    marks = {
        int(place): label.get_text() for place, label in zip(axes.get_yticks(), axes.get_yticklabels(), strict=True)
    }
    return marks[min(marks, key=lambda place: abs(place - row))]


def test_counts_stand_end_to_end_in_the_order_of_the_names() -> None:
    figure = counts_figure(["Folk", "Rock"], {"artist": {"training": [3, 5], "test": [1, 0]}})
    assert bars_of(figure) == {"training": [(0, 3), (0, 5)], "test": [(3, 4), (5, 5)]}
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["Folk", "Rock"]
    bottom, top = axes.get_ylim()
    assert bottom > top, "the first name is on top"


def test_a_part_has_one_colour_and_one_entry_in_the_legend_whatever_the_panels_hold() -> None:
    figure = counts_figure(["Folk"], {"study": {"validation": [1]}, "artist": {"training": [1], "validation": [2]}})
    colours = [
        bar.get_facecolor()
        for axes in figure.axes
        for container in axes.containers
        if container.get_label() == "validation"
        for bar in container
    ]
    assert len(colours) == 2
    assert len(set(colours)) == 1
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["validation", "training"]


def test_counts_that_do_not_fit_the_names_are_refused() -> None:
    with pytest.raises(ValueError, match="artist: test has 1 counts for 2 names"):
        counts_figure(["Folk", "Rock"], {"artist": {"test": [1]}})


def test_the_names_of_sixty_artists_do_not_overlap() -> None:
    figure = counts_figure([f"artist number {n}" for n in range(60)], {"": {"training": [1] * 60}})
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    boxes = [label.get_window_extent(renderer) for label in figure.axes[0].get_yticklabels()]
    assert all(above.y0 >= below.y1 for above, below in itertools.pairwise(boxes))


@pytest.mark.parametrize("name", ["$a$ $", "<b>&amp;", "line\nbreak", "nul\0", "演歌", "x" * 500, ""])
def test_any_name_can_be_drawn(name: str, recwarn: pytest.WarningsRecorder) -> None:
    to_svg(counts_figure([name, "Rock"], {name: {name: [1, 2]}}))
    to_svg(values_figure([name, "Rock"], {name: [0.1, 0.2]}))
    to_svg(profiles_figure([name, "Rock"], np.eye(2), xlabel="MFCC"))
    assert not recwarn.list


def test_every_track_is_a_dot_in_the_row_of_its_group_beside_the_median() -> None:
    groups, values = ["b", "a", "b", "b"], [4.0, 1.0, 2.0, 9.0]
    axes = values_figure(groups, {"level": values}).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]
    dots = [line for line in axes.lines if line.get_marker() == "o"]
    for place, group in enumerate(("a", "b")):
        inside = [value for value, other in zip(values, groups, strict=True) if other == group]
        assert np.asarray(dots[place].get_xdata()).tolist() == inside
        assert np.abs(np.asarray(dots[place].get_ydata()) - place).max() < 0.5
        bar = [line for line in axes.lines if line.get_marker() != "o"][place]
        assert set(np.asarray(bar.get_xdata())) == {statistics.median(inside)}


def test_a_group_without_tracks_keeps_its_row() -> None:
    axes = values_figure(["right"], {"confidence": [0.9]}, order=["right", "wrong"]).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["right", "wrong"]


def test_a_pandas_table_is_drawn_column_by_column() -> None:
    pd = pytest.importorskip("pandas")
    table = pd.DataFrame({"level": [1.0, 2.0, 3.0], "brightness": [4.0, 5.0, 6.0]})
    figure = values_figure(pd.Series(["a", "b", "a"], index=[7, 8, 9]), table)
    assert [axes.get_xlabel() for axes in figure.axes] == ["level", "brightness"]


def test_profiles_are_coloured_around_zero() -> None:
    profiles = np.array([[0.0, 2.0], [-1.0, 0.5]])
    [picture] = profiles_figure(["Folk", "Rock"], profiles, xlabel="MFCC").axes[0].images
    assert np.array_equal(picture.get_array(), profiles)
    low, high = picture.get_clim()
    assert low == -high
    white = picture.to_rgba(np.array([[0.0]]))[0, 0, :3]
    assert white.min() > 0.95


@pytest.mark.parametrize("hertz", [500, 1_000, 4_000])
def test_the_marks_of_a_mel_spectrogram_are_its_frequencies(hertz: int) -> None:
    pcm = tone(hertz)
    figure = clip_figure(pcm, compute_features(pcm, SPECS), SPECS)
    assert brightest_row(figure, 1, 2.0) == f"{hertz:,}"


@pytest.mark.parametrize("note", ["A4", "C5", "F♯3"])
def test_the_marks_of_a_chroma_are_its_notes(note: str) -> None:
    pcm = tone(float(librosa.note_to_hz(note)))
    figure = clip_figure(pcm, compute_features(pcm, SPECS), SPECS)
    assert brightest_row(figure, 2, 2.0) == note[:-1]


def test_a_click_stands_at_its_time_in_the_waveform_and_in_the_onset_strength() -> None:
    samples = np.zeros(4 * RATE, np.float32)
    samples[2 * RATE : 2 * RATE + 200] = 0.9
    pcm = Pcm(samples, RATE)
    figure = clip_figure(pcm, compute_features(pcm, SPECS), SPECS, span_s=(1.0, 3.5))
    [onsets] = figure.axes[3].lines
    assert np.asarray(onsets.get_xdata())[np.asarray(onsets.get_ydata()).argmax()] == pytest.approx(2.0, abs=0.06)
    [waveform] = figure.axes[0].collections
    corners = waveform.get_paths()[0].vertices
    assert corners[corners[:, 1].argmax(), 0] == pytest.approx(2.0, abs=0.01)
    assert figure.axes[0].get_xlim() == (1.0, 3.5)


def test_what_is_filled_up_behind_the_end_of_a_clip_is_left_out() -> None:
    pcm = tone(440, seconds=2.0)
    figure = clip_figure(pcm, compute_features(pcm, SPECS), SPECS, span_s=(0.5, 9.0))
    assert figure.axes[0].get_xlim() == (0.5, 2.0)
    [picture] = figure.axes[1].images
    assert picture.get_extent()[1] == pytest.approx(2.0, abs=2 * 512 / RATE)


def test_a_span_behind_the_clip_and_a_feature_without_time_are_refused() -> None:
    pcm = tone(440, seconds=2.0)
    with pytest.raises(ValueError, match=r"holds nothing of a clip of 2\.00 s"):
        clip_figure(pcm, {}, [], span_s=(2.0, 3.0))
    summary = resolve_specs(["mfcc_mean"])
    with pytest.raises(ValueError, match="mfcc_mean of shape .* has no time axis"):
        clip_figure(pcm, compute_features(pcm, summary), summary)


def test_matplotlibs_parameters_are_left_as_they_were() -> None:
    before = dict(matplotlib.rcParams)
    to_svg(counts_figure(["Folk"], {"": {"training": [1]}}))
    assert dict(matplotlib.rcParams) == before


def test_pyplot_is_never_imported() -> None:
    code = (
        "import sys; from genre_spark.evaluation import corpus_figures, run_figures;"
        "corpus_figures.values_figure(['a'], {'level': [1.0]});"
        "sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
