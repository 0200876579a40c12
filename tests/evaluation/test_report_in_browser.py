"""The report as a browser shows it."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from genre_spark.evaluation.metrics import build_metrics
from genre_spark.evaluation.metrics_file import read_evaluation, read_metrics, write_metrics
from genre_spark.evaluation.report import build_report
from genre_spark.models.run import read_run_record, write_run_record
from genre_spark.settings import Settings

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")

# Of each curve and each dashed line: does the browser hit it at some point along it? What is clipped away is not hit.
# Axes and grids are thinner; a curve of one epoch has no length.
VISIBLE_CURVES = """
() => [...document.querySelectorAll('svg[role=img] path')].filter(path => {
  const style = getComputedStyle(path);
  return style.fill === 'none' && parseFloat(style.strokeWidth) > 1.1 && path.getTotalLength() > 0;
}).map(path => {
  path.scrollIntoView({block: 'center'});
  return [...Array(41).keys()].some(step => {
    const along = path.getPointAtLength(path.getTotalLength() * step / 40).matrixTransform(path.getScreenCTM());
    return document.elementsFromPoint(along.x, along.y).includes(path);
  });
})
"""
FIGURE_SIZES = """
() => [...document.querySelectorAll('figure svg')].map(svg => {
  const box = svg.getBoundingClientRect();
  const drawn = svg.querySelector('g').getBBox();
  return [box.width, box.height, drawn.width, drawn.height];
})
"""
OVERFLOW = "() => document.documentElement.scrollWidth - window.innerWidth"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def report(study_runs: list[Path], make_run, write_confused, tmp_path_factory: pytest.TempPathFactory) -> Path:
    labels = ["<script>document.title = 'taken'</script>", "Unbroken" * 12, *(f"genre {index}" for index in range(28))]
    many = make_run("own", labels=labels, epochs=1, name="long-" * 30)
    folder = tmp_path_factory.mktemp("report")
    random = np.random.default_rng(0)
    tracks = []
    for number in range(4):
        path = folder / f"{number}.flac"
        soundfile.write(path, 0.2 * random.standard_normal(44_100 * 12), 44_100)
        tracks.append({"uri": path.as_uri(), "artist": "Unbroken" * 12})
    write_confused(many, [*tracks, {"true": labels[0], "predicted": labels[1]}])
    build_report([*study_runs, many], folder / "report.html", audio=Settings().audio)
    return folder / "report.html"


@pytest.fixture
def page(browser: Any, report: Path) -> Iterator[Any]:
    page = browser.new_page(viewport={"width": 1200, "height": 844})
    page.goto(report.as_uri())
    yield page
    page.close()


@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (390, "dark")])
def test_the_page_is_whole_quiet_and_as_wide_as_the_window(browser: Any, report: Path, width: int, scheme: str) -> None:
    page = browser.new_page(viewport={"width": width, "height": 844}, color_scheme=scheme)
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url) if not request.url.startswith("data:") else None)
    page.goto(report.as_uri())
    page.evaluate("() => document.querySelectorAll('details').forEach(details => { details.open = true; })")

    assert asked == [report.as_uri()]
    assert said == []
    assert page.title() == "Music genre models: report"
    sizes = page.evaluate(FIGURE_SIZES)
    assert len(sizes) == 12
    assert all(min(size) > 100 for size in sizes)
    assert page.evaluate(OVERFLOW) <= 0
    # Of the three runs with more than one epoch: training and validation of accuracy and loss, two of the study's
    # lines and one of chance. Of all four: the diagonal of the reliability diagram.
    visible = page.evaluate(VISIBLE_CURVES)
    assert len(visible) >= 3 * (4 + 3) + 4
    assert all(visible)
    page.close()


@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (390, "dark")])
def test_a_page_on_evaluations_alone_is_whole_and_quiet_too(
    browser: Any, make_evaluation, write_clip, tmp_path: Path, width: int, scheme: str
) -> None:
    uri = write_clip(seconds=1).as_uri()
    evaluations = [
        make_evaluation(confused=[{"uri": uri}]),
        make_evaluation("long-" * 30, dataset=f"s3://bucket/{'unbroken' * 30}", model="unbroken" * 12, share=0.9),
    ]
    build_report([], tmp_path / "report.html", evaluations=evaluations, audio=Settings().audio)
    page = browser.new_page(viewport={"width": width, "height": 844}, color_scheme=scheme)
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto((tmp_path / "report.html").as_uri())
    page.evaluate("() => document.querySelectorAll('details').forEach(details => { details.open = true; })")
    assert said == []
    assert page.evaluate(OVERFLOW) <= 0
    visible = page.evaluate(VISIBLE_CURVES)
    assert len(visible) >= 2  # the diagonals
    assert all(visible)
    row = read_evaluation(evaluations[0])["confusion"][2]
    page.locator("section:has(#evaluation-1) table.heat tbody tr").nth(2).locator("td").nth(7).hover()
    assert tip(page) == f"true Folk taken for Rock: {row[7]} of {sum(row)} ({100 * row[7] / sum(row):.1f} %)"
    page.get_by_role("button", name="by recall").first.click()
    page.wait_for_function("() => document.querySelector('audio').readyState > 0")
    page.locator("nav a[href='#evaluation-2']").click()
    assert page.locator("#evaluation-2").is_visible()
    page.close()


def test_text_is_light_on_dark_where_the_reader_asks_for_it(browser: Any, report: Path) -> None:
    brightness = {}
    for scheme in ("light", "dark"):
        page = browser.new_page(color_scheme=scheme)
        page.goto(report.as_uri())
        colours = page.evaluate(
            "() => [getComputedStyle(document.body).backgroundColor,"
            " getComputedStyle(document.querySelector('figure svg text')).fill]"
        )
        brightness[scheme] = [sum(int(part) for part in colour[4:-1].split(",")) for colour in colours]
        page.close()
    assert brightness["light"][0] > 600 > 200 > brightness["light"][1]
    assert brightness["dark"][1] > 600 > 200 > brightness["dark"][0]


CONTRASTS = """
() => {
  const parts = colour => colour.match(/[\\d.]+/g).map(Number);
  const luminance = rgb => rgb.map(part => part / 255).map(
    part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4
  ).reduce((sum, part, place) => sum + part * [0.2126, 0.7152, 0.0722][place], 0);
  return [...document.querySelectorAll('table.heat td')].map(cell => {
    const style = getComputedStyle(cell), card = parts(getComputedStyle(cell.closest('.card')).backgroundColor);
    const [red, green, blue, share = 1] = parts(style.backgroundColor);
    const ground = [red, green, blue].map((part, place) => share * part + (1 - share) * card[place]);
    const [dark, light] = [luminance(ground), luminance(parts(style.color).slice(0, 3))].sort((a, b) => a - b);
    return [(light + 0.05) / (dark + 0.05), Number(cell.style.getPropertyValue('--share')), share];
  });
}
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_numbers_can_be_read_on_every_shade_of_the_heat_map(
    browser: Any, make_run, tmp_path: Path, scheme: str
) -> None:
    run = make_run("dnn", epochs=1, labels=[f"{share}" for share in range(51)])
    # Of row n, 2 n in 100 are right.
    right = 2 * np.arange(51)
    labels = read_metrics(run)["labels"]
    for part in (slice(0, 40), slice(15, 51)):
        counts = np.diag(right[part])
        counts[:, 0] += 100 - counts.sum(axis=1)
        write_run_record(run, read_run_record(run).model_copy(update={"labels": labels[part]}))
        write_metrics(run / "evaluation", build_metrics({"test": counts}, labels[part], "test"))
        build_report([run], tmp_path / "report.html")
        page = browser.new_page(color_scheme=scheme)
        page.goto((tmp_path / "report.html").as_uri())
        found = page.evaluate(CONTRASTS)
        assert all(contrast >= 4.5 for contrast, _, _ in found), min(found)
        assert all(drawn == pytest.approx(share, abs=0.01) for _, share, drawn in found if share)
        page.close()


CLIPPED = """
() => [...document.querySelectorAll('.scroll:has(.heat), .scroll:has(.genres)')].filter(
  box => box.scrollWidth > box.clientWidth
).map(box => [box.textContent.trim().slice(0, 40), box.scrollWidth, box.clientWidth])
"""
LINES_OF_NAMES = """
() => [...document.querySelectorAll('.heat tbody th')].map(head => {
  const range = document.createRange();
  range.selectNodeContents(head);
  return new Set([...range.getClientRects()].map(box => Math.round(box.top))).size;
})
"""


@pytest.mark.parametrize("width", [1200, 1130, 1000, 390])
def test_a_matrix_of_the_studys_genres_needs_no_scrolling_and_breaks_no_name(
    browser: Any, study_runs: list[Path], tmp_path: Path, width: int
) -> None:
    build_report(study_runs, tmp_path / "report.html")
    page = browser.new_page(viewport={"width": width, "height": 844})
    page.goto((tmp_path / "report.html").as_uri())
    # A telephone is too narrow for the cells, and the names stay in sight.
    assert width < 480 or page.evaluate(CLIPPED) == []
    assert page.evaluate(LINES_OF_NAMES) == [1] * 3 * 8
    page.close()


HEAT = "section:has(#run-1) table.heat"


def tip(page: Any) -> str:
    return page.locator("#tip").inner_text() if page.locator("#tip").is_visible() else ""


def test_pointing_at_a_cell_tells_it_in_words(page: Any, study_runs: list[Path]) -> None:
    metrics = read_metrics(study_runs[0])
    row = metrics["confusion"][2]
    cells = page.locator(f"{HEAT} tbody tr").nth(2).locator("td")
    cells.nth(7).hover()
    assert tip(page) == f"true Folk taken for Rock: {row[7]} of {sum(row)} ({100 * row[7] / sum(row):.1f} %)"
    cells.nth(2).hover()
    assert tip(page) == f"Folk named rightly: {row[2]} of {sum(row)} ({100 * row[2] / sum(row):.1f} %)"
    page.locator("h1").hover()
    assert tip(page) == ""


def test_the_arrow_keys_go_from_cell_to_cell(page: Any, study_runs: list[Path]) -> None:
    row = read_metrics(study_runs[0])["confusion"][1]
    page.locator(f"{HEAT} td[tabindex='0']").focus()
    assert tip(page).startswith("Electronic named rightly")
    for key in ("ArrowUp", "ArrowDown", "ArrowRight", "ArrowRight"):
        page.keyboard.press(key)
    assert tip(page).startswith(f"true Experimental taken for Folk: {row[2]} of {sum(row)}")
    assert page.locator(f"{HEAT} td[tabindex='0']").count() == 1
    page.keyboard.press("Escape")
    assert tip(page) == ""


@pytest.mark.parametrize(("button", "order"), [("by tracks", "support"), ("by recall", "recall")])
def test_sorting_moves_rows_and_columns_alike_and_back(page: Any, study_runs, button: str, order: str) -> None:
    metrics = read_metrics(study_runs[0])
    labels = metrics["labels"]
    ranked = sorted(labels, key=lambda genre: -metrics["per_genre"][genre][order])
    figure = page.locator("section:has(#run-1) figure:has(table.heat)")

    def shown() -> tuple[list[str], list[str], list[list[int]]]:
        return page.evaluate(
            "table => [[...table.querySelectorAll('tbody th')].map(head => head.textContent),"
            " [...table.tHead.rows[0].cells].slice(1, -1).map(head => head.textContent),"
            " [...table.tBodies[0].rows].map(row => [...row.cells].slice(1, -1).map(cell => Number(cell.dataset.n)))]",
            page.query_selector(HEAT),
        )

    assert shown() == [labels, labels, metrics["confusion"]]
    figure.get_by_role("button", name=button).click()
    rows, columns, counts = shown()
    assert rows == columns == ranked
    places = [labels.index(genre) for genre in ranked]
    assert counts == [[metrics["confusion"][row][column] for column in places] for row in places]
    assert figure.get_by_role("button", pressed=True).inner_text() == button
    figure.get_by_role("button", name="as listed").click()
    assert shown() == [labels, labels, metrics["confusion"]]


def test_excerpts_play_and_spectrograms_are_drawn(page: Any) -> None:
    page.evaluate("() => document.querySelectorAll('details').forEach(details => { details.open = true; })")
    page.wait_for_function("() => [...document.querySelectorAll('audio')].every(player => player.readyState > 0)")
    durations = page.evaluate("() => [...document.querySelectorAll('audio')].map(player => player.duration)")
    assert durations == pytest.approx([10, 10, 10], abs=0.2)
    sizes = page.evaluate("() => [...document.images].map(image => [image.naturalWidth, image.naturalHeight])")
    assert sizes == [[320, 96]] * 3
    # One at a time: the second silences the first.
    for number in range(2):
        page.evaluate(
            "number => { const player = document.querySelectorAll('audio')[number]; player.muted = true;"
            " player.play(); }",
            number,
        )
        page.wait_for_function("number => document.querySelectorAll('audio')[number].currentTime > 0", arg=number)
    page.wait_for_function("() => document.querySelectorAll('audio')[0].paused")
    assert not page.evaluate("() => document.querySelectorAll('audio')[1].paused")


def test_no_other_script_runs_than_the_one_of_the_page(browser: Any, report: Path, tmp_path: Path) -> None:
    html = report.read_text()
    changed = tmp_path / "changed.html"
    changed.write_text(
        html.replace(
            "</main>", "<script>document.title = 'taken'</script><img src=x onerror='document.title = 1'></main>"
        )
    )
    page = browser.new_page()
    page.goto(changed.as_uri())
    assert page.title() == "Music genre models: report"
    assert page.locator(".sort").first.is_visible()  # the page's own still runs
    changed.write_text(html.replace('"use strict";', '"use strict"; document.title = "taken";'))
    page.goto(changed.as_uri())
    assert page.title() == "Music genre models: report"
    assert not page.locator(".sort").first.is_visible()
    page.close()


def test_without_scripts_all_can_be_read_and_nothing_is_offered_that_would_not_work(browser: Any, report: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(report.as_uri())
    assert page.locator(f"{HEAT} tbody tr").count() == 8
    assert page.locator(f"{HEAT} td").first.is_visible()
    assert not page.locator(".sort").first.is_visible()
    assert not page.locator("#tip").is_visible()
    context.close()


def test_on_paper_all_is_open_and_nothing_is_cut_off(browser: Any, report: Path) -> None:
    page = browser.new_page(viewport={"width": 700, "height": 990})
    page.goto(report.as_uri())
    page.emulate_media(media="print")
    page.evaluate("() => dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    clipped = page.evaluate(
        "() => [...document.querySelectorAll('.scroll, pre, table')].filter(box =>"
        " box.getBoundingClientRect().right > innerWidth + 1 || (getComputedStyle(box).overflowX !== 'visible'"
        " && box.scrollWidth > box.clientWidth + 1)).map(box => box.outerHTML.slice(0, 80))"
    )
    assert clipped == []
    page.evaluate("() => dispatchEvent(new Event('afterprint'))")
    assert page.locator("details:not([open])").count() > 0
    assert page.pdf().startswith(b"%PDF")
    page.close()
