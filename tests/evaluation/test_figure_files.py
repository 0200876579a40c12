from pathlib import Path
from xml.etree import ElementTree

import pytest
from matplotlib.image import imread

from genre_spark.errors import RunError
from genre_spark.evaluation.figure_files import save_figures

KINDS = ("accuracy", "loss", "confusion", "reliability")


def test_the_studys_nine_figures_and_the_reliability_come_as_png_and_svg(study_runs, tmp_path: Path) -> None:
    written = save_figures(study_runs, tmp_path / "figures")
    models = ("dnn", "cnn1d", "cnn2d")
    names = [f"{model}-artist-{kind}.{end}" for model in models for kind in KINDS for end in ("png", "svg")]
    assert [path.name for path in written] == names
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == sorted(names)
    for path in written:
        if path.suffix == ".png":
            pixels = imread(path)
            assert pixels[0, 0].tolist() == [1, 1, 1, 1]
            assert pixels[..., :3].min() < 0.5
        else:
            root = ElementTree.parse(path).getroot()
            texts = {"".join(element.itertext()) for element in root.iter("{http://www.w3.org/2000/svg}text")}
            assert any("artist split" in text for text in texts)
            # Programs that draw SVG know no variables of a page.
            assert "var(" not in path.read_text()


def test_the_same_runs_give_the_same_files(make_run, tmp_path: Path) -> None:
    run = make_run("dnn", epochs=2)
    for folder in ("one", "two"):
        save_figures([run], tmp_path / folder)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_runs_of_one_name_and_of_hostile_names_get_files_of_their_own(make_run, tmp_path: Path) -> None:
    runs = [make_run("dnn", epochs=1), make_run("dnn", epochs=1), make_run("dnn", epochs=1, name="..<b> & $(x)")]
    names = {path.name for path in save_figures(runs, tmp_path)}
    assert len(names) == 24
    assert {"dnn-artist-loss.svg", "dnn-artist-2-loss.svg", "b_x-loss.svg"} <= names
    assert all(name.replace("-", "").replace(".", "").replace("_", "").isalnum() for name in names)


def test_what_a_run_lacks_is_left_out(make_run, tmp_path: Path) -> None:
    run = make_run("dnn", calibrated=False)
    (run / "history.csv").unlink()
    names = [path.name for path in save_figures([run], tmp_path)]
    assert names == ["dnn-artist-confusion.png", "dnn-artist-confusion.svg"]


def test_a_file_in_the_place_of_the_folder_and_no_run_are_refused(make_run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="is a file; name a folder"):
        save_figures([make_run("dnn")], tmp_path / "file")
    with pytest.raises(RunError, match="no run is named"):
        save_figures([], tmp_path)


def test_evaluations_of_bundles_have_figures_without_curves(make_run, make_evaluation, tmp_path: Path) -> None:
    written = save_figures([make_run("dnn", epochs=1)], tmp_path, [make_evaluation(), make_evaluation()])
    names = [path.name for path in written if path.suffix == ".svg"]
    kinds = ("judged-confusion", "judged-reliability", "judged-2-confusion", "judged-2-reliability")
    assert names == [*(f"dnn-artist-{kind}.svg" for kind in KINDS), *(f"{kind}.svg" for kind in kinds)]
    assert "dnn on other-dataset, 120 tracks" in (tmp_path / "judged-confusion.svg").read_text()
    assert [path.name for path in save_figures([], tmp_path / "alone", [make_evaluation()])] == [
        f"judged-{kind}.{end}" for kind in ("confusion", "reliability") for end in ("png", "svg")
    ]
