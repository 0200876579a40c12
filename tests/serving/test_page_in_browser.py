"""The page as a browser shows it, and as people use it: with a mouse, with a keyboard, without scripts."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import GENRES
from tests.serving.conftest import MAX_MB, NAME, Served

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")

LIMIT_MS = 30_000
OVERFLOW = "() => document.documentElement.scrollWidth - window.innerWidth"
# What the eye gets: the picture that is shown, whether its spectrogram is decoded, and colours of the genre cells.
DRAWN = """
async () => {
  const [figure] = [...document.querySelectorAll('figure.song')].filter(each => each.getClientRects().length);
  const image = figure.querySelector('svg image');
  const spectrogram = new Image();
  spectrogram.src = image.getAttribute('href');
  await spectrogram.decode();
  const box = figure.querySelector('svg').getBoundingClientRect();
  const place = image.getBoundingClientRect();
  return {
    width: box.width, height: box.height, columns: spectrogram.naturalWidth, rows: spectrogram.naturalHeight,
    imageShare: place.width / box.width,
    texts: [...figure.querySelectorAll('svg text')].map(each => each.textContent),
    ink: getComputedStyle(figure.querySelector('svg text')).fill,
    // Cells, not the background: paths with a fill of the cells' hue.
    cells: [...figure.querySelectorAll('svg path')].map(path => getComputedStyle(path))
      .filter(style => style.fill !== 'none' && parseFloat(style.fillOpacity) > 0).length,
  };
}
"""
DROP = """
([bytes, name]) => {
  const files = new DataTransfer();
  files.items.add(new File([new Uint8Array(bytes)], name, {type: 'audio/wav'}));
  const drop = new DragEvent('drop', {dataTransfer: files, bubbles: true, cancelable: true});
  document.getElementById('form').dispatchEvent(drop);
}
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        args = ["--no-sandbox", "--disable-gpu", f"--host-resolver-rules=MAP {NAME} 127.0.0.1"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=args)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Any, served: Served) -> Iterator[Callable[..., Any]]:
    """Open the page; at the end nothing may have been complained about, and nobody else asked for anything."""
    contexts: list[Any] = []
    said: list[str] = []
    asked: list[str] = []

    def opened(**options: Any) -> Any:
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(LIMIT_MS)
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(served.address)
        page.bring_to_front()
        return page

    yield opened
    for context in contexts:
        context.close()
    # Chromium reports answers with an error's status by itself.
    assert [text for text in said if "Failed to load resource" not in text] == []
    own = (served.address, f"blob:{served.address}", "data:image/png")
    assert [url for url in asked if not url.startswith(own)] == []


@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (390, "dark")])
def test_a_chosen_file_is_answered_with_genres_timeline_and_spectrogram(
    open_page: Callable[..., Any], write_clip: Callable[..., Path], width: int, scheme: str
) -> None:
    page = open_page(viewport={"width": width, "height": 844}, color_scheme=scheme)
    page.set_input_files("#file", write_clip(seconds=50, rate=4_000, channels=1))
    page.wait_for_selector("#answer-title")

    genre = page.inner_text("#genre")
    assert genre in GENRES
    assert page.inner_text("#status") == f"Done: {genre}, {page.inner_text('.bars li:first-child .value')}."
    shares = [float(text.split()[0]) for text in page.locator(".bars .value").all_inner_texts()]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(100, abs=0.3)
    bars = [bar["width"] for bar in (bar.bounding_box() for bar in page.locator(".bar .full").all()) if bar]
    whole = page.locator(".bar .ground").first.bounding_box()["width"]
    assert bars == pytest.approx([whole * share / 100 for share in shares], abs=1 + whole / 1_000)

    drawn = page.evaluate(DRAWN)
    assert drawn["width"] > 0.8 * min(width, 860) - 60
    assert drawn["imageShare"] > 0.6
    assert (drawn["rows"], drawn["columns"]) == (96, 1_200)
    assert {*GENRES, "1 kHz", "0:30"} <= set(drawn["texts"])
    # Windows at 0, 15 and 20 s, of three genres.
    assert drawn["cells"] >= 3 * 3
    brightness = sum(int(part) for part in drawn["ink"][4:-1].split(","))
    assert brightness > 600 if scheme == "dark" else brightness < 200
    assert page.evaluate(OVERFLOW) <= 0


def test_a_dropped_file_is_played_from_where_its_picture_is_clicked(
    open_page: Callable[..., Any], write_clip: Callable[..., Path]
) -> None:
    page = open_page()
    content = list(write_clip(seconds=40, rate=4_000, channels=1).read_bytes())
    page.evaluate(DROP, [content, "a <b>bold<i> & name.wav"])
    page.wait_for_selector("#answer-title")
    assert page.inner_text("#name") == "a <b>bold<i> & name.wav"
    figure = page.locator("figure.wide")
    box = figure.bounding_box()
    begin, end = (float(figure.get_attribute(f"data-{name}")) for name in ("begin", "end"))
    figure.click(position={"x": box["width"] * (begin + 0.75 * (end - begin)), "y": 20})
    page.wait_for_function("() => document.getElementById('audio').currentTime >= 29.9")
    assert page.evaluate("document.getElementById('audio').currentTime") == pytest.approx(30, abs=2)
    page.wait_for_selector("figure.wide .head", state="visible")


def test_all_of_it_works_with_the_keyboard_and_has_names_for_a_screen_reader(
    open_page: Callable[..., Any], write_clip: Callable[..., Path]
) -> None:
    page = open_page()
    assert page.get_by_label("Choose an audio file").get_attribute("type") == "file"
    # Keys that come before the page's first picture are lost.
    page.get_by_text("The model is ready.").wait_for()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "file"
    opened: list[Any] = []
    page.on("filechooser", lambda chooser: opened.append(chooser))  # a Python function is asked for
    for _ in range(10):
        # A browser on a busy machine may lose a key.
        page.keyboard.press("Space")
        page.wait_for_timeout(1_000)
        if opened:
            break
    opened[0].set_files(write_clip(seconds=40, rate=4_000, channels=1))
    page.wait_for_selector("#answer-title")
    assert page.get_by_role("status").inner_text().startswith("Done: ")
    assert "mel spectrogram" in page.get_by_role("img").get_attribute("aria-label")
    page.locator("summary").focus()
    page.keyboard.press("Enter")
    rows = page.get_by_role("row").all_inner_texts()
    assert [row.split("\t")[0] for row in rows] == ["time", "the song", "0:00 to 0:30", "0:10 to 0:40"]
    page.get_by_role("button", name="Play from 0:10 to 0:40").press("Enter")
    page.wait_for_function("() => document.getElementById('audio').currentTime >= 9.9")


def test_errors_are_named_in_the_page(open_page: Callable[..., Any], tmp_path: Path) -> None:
    page = open_page()
    for name, content, error in (
        ("bad.mp3", b"no audio " * 100, "AudioUndecodable"),
        ("large.wav", bytes(MAX_MB * 1_000_000 + 1), "UploadTooLarge"),
        ("empty.flac", b"", "AudioEmpty"),
    ):
        (tmp_path / name).write_bytes(content)
        page.set_input_files("#file", tmp_path / name)
        page.wait_for_function("error => document.getElementById('error')?.textContent === error", arg=error)
        assert page.get_by_role("alert").is_visible()


def test_without_scripts_it_is_a_form_like_any_other(
    open_page: Callable[..., Any], write_clip: Callable[..., Path]
) -> None:
    page = open_page(java_script_enabled=False)
    page.set_input_files("#file", write_clip())
    page.get_by_role("button", name="Listen").click()
    assert page.locator("#genre").inner_text() in GENRES


def test_the_form_works_under_a_name_that_is_not_loopback(
    browser: Any, served: Served, write_clip: Callable[..., Path]
) -> None:
    # There browsers don't say `Sec-Fetch-Site`: the origin alone tells that the page is the server's own.
    page = browser.new_page(java_script_enabled=False)
    sent: list[Any] = []
    page.on("request", lambda request: sent.append(request) if request.method == "POST" else None)
    page.goto(f"http://{NAME}:{served.port}/")
    page.set_input_files("#file", write_clip())
    page.get_by_role("button", name="Listen").click()
    assert page.locator("#genre").inner_text() in GENRES
    headers = sent[0].all_headers()
    assert headers["origin"] == f"http://{NAME}:{served.port}"
    assert "sec-fetch-site" not in headers
    page.close()


def test_another_page_in_the_same_browser_can_neither_send_nor_read(
    browser: Any, served: Served, write_clip: Callable[..., Path], tmp_path: Path
) -> None:
    foreign = tmp_path / "foreign.html"
    foreign.write_text(
        f'<form method="post" enctype="multipart/form-data" action="{served.address}predict">'
        '<input type="file" name="file"><button>send</button></form>'
    )
    page = browser.new_page()
    page.goto(foreign.as_uri())
    assert page.evaluate(f"() => fetch('{served.address}').then(() => 'read', () => 'refused')") == "refused"
    page.set_input_files("input", write_clip())
    with page.expect_navigation() as navigation:
        page.click("button")
    assert navigation.value.status == 403
    assert "ForeignOrigin" in page.content()
    page.close()
