"""The report as a browser shows it."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from genre_spark.evaluation.report import build_report

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
def report(study_runs: list[Path], make_run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    labels = ["<script>document.title = 'taken'</script>", "Unbroken" * 12, *(f"genre {index}" for index in range(28))]
    many = make_run("own", labels=labels, epochs=1, name="long-" * 30)
    out = tmp_path_factory.mktemp("report") / "report.html"
    build_report([*study_runs, many], out)
    return out


@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (390, "dark")])
def test_the_page_is_whole_quiet_and_as_wide_as_the_window(browser: Any, report: Path, width: int, scheme: str) -> None:
    page = browser.new_page(viewport={"width": width, "height": 844}, color_scheme=scheme)
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(report.as_uri())
    page.evaluate("() => document.querySelectorAll('details').forEach(details => { details.open = true; })")

    assert asked == [report.as_uri()]
    assert said == []
    assert page.title() == "Music genre models: report"
    sizes = page.evaluate(FIGURE_SIZES)
    assert len(sizes) == 16
    assert all(min(size) > 100 for size in sizes)
    assert page.evaluate(OVERFLOW) <= 0
    # Of the three runs with more than one epoch: training and validation of accuracy and loss, two of the study's
    # lines and one of chance. Of all four: the diagonal of the reliability diagram.
    visible = page.evaluate(VISIBLE_CURVES)
    assert len(visible) >= 3 * (4 + 3) + 4
    assert all(visible)
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
