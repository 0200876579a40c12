"""What the documentation tells exists: commands with their options, settings, files, links; and Sphinx builds it."""

import html.parser
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from genre_spark.settings import Settings
from tests.documents import REPOSITORY, Code, faults, read_page

BIN = Path(sys.executable).parent
sys.path.append(str(REPOSITORY / "docs"))
import generated_pages  # noqa: E402

PAGES = sorted(
    [
        *(REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")),
        *(REPOSITORY / "docs").rglob("*.md"),
    ]
)
PAGE = pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(REPOSITORY)) for page in PAGES])


@PAGE
def test_all_that_a_page_shows_as_code_exists(page: Path, tmp_path: Path) -> None:
    found = [
        f"line {code.line}: {fault}"
        for code in read_page(page.read_text(encoding="utf-8")).code
        for fault in faults(code, tmp_path)
    ]
    assert found == []


@PAGE
def test_every_relative_link_and_picture_of_a_page_leads_somewhere(page: Path) -> None:
    lost = []
    for link in read_page(page.read_text(encoding="utf-8")).links:
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        file = page.parent / path if path else page
        if not file.exists() or (anchor and anchor not in _anchors(file)):
            lost.append(link)
    assert lost == []


def _anchors(file: Path) -> set[str]:
    docs = REPOSITORY / "docs"
    page = str(file.resolve().relative_to(docs).with_suffix("")) if file.resolve().is_relative_to(docs) else ""
    return read_page(generated_pages.filled(page, file.read_text(encoding="utf-8"))).anchors


@pytest.mark.parametrize(
    ("language", "text", "fault"),
    [
        ("sh", "genre-spark extract --tracks T.parquet --out D --retry-error", "--retry-error"),
        ("sh", "genre-spark extract --tracks T.parquet", "out"),
        ("sh", "genre-spark extrakt --out D", "no such command"),
        ("sh", ". .venv/bin/activate\ngenre-spark train --dataset D --model dnn3 --run R", "dnn3"),
        ("sh", "genre-spark evaluate --run R \\\n  --runs S", "--runs"),
        ("sh", "genre-spark evaluate --run R --set evaluate.batch=3", "evaluate.batch"),
        ("sh", "genre-spark evaluate --run R --set spark.ui.enabled=false", "spark.ui"),
        ("sh", "for model in dnn cnn1d; do make trian MODEL=$model; done", "trian"),
        ("sh", "make train MODLE=dnn", "MODLE"),
        ("sh", 'make corpus CORPUS=fma ARGS="--downlaod"', "--downlaod"),
        ("sh", "spark-submit --master yarn jobs/extract.py --trakcs T.parquet --out D", "--trakcs"),
        ("sh", "spark-submit jobs/extrct.py --tracks T.parquet --out D", "jobs/extrct.py"),
        ("sh", "genre-spark evaluate --run R --config conf/clutser.yaml", "conf/clutser.yaml"),
        ("sh", ".venv/bin/python benchmarks/s3_requests.py --clip x", "--clip"),
        ("", "genre-spark corpus {fma,gtsan} --root R", "gtsan"),
        ("", "genre-spark export RUN --format {keras,onx}", "onx"),
        ("", "genre-spark predict [--prcision 0.9]", "--prcision"),
        ("", "--retry-error", "--retry-error"),
        ("", "make demos", "demos"),
        ("", "extract.changed_bye", "extract.changed_bye"),
        ("", "split.folds=two", "split.folds"),
        ("yaml", "train: {sede: 1}", "train.sede"),
        ("yaml", "models: [dnn, cnn9]\nsplits: [artist]\nseeds: [0]", "cnn9"),
        ("python", "from genre_spark import", "no Python"),
        ("bash", "genre-spark nonsense", "call it sh"),
    ],
)
def test_a_mistake_on_a_page_is_found(language: str, text: str, fault: str, tmp_path: Path) -> None:
    found = list(faults(Code(1, language, text), tmp_path))
    assert len(found) == 1
    assert fault in found[0]


@pytest.mark.parametrize(
    ("language", "text"),
    [
        (
            "sh",
            'export SPARK_CONF_DIR=$PWD/conf   # comment\nSHIP="--x y"\nspark-submit $SHIP jobs/evaluate.py --run R',
        ),
        ("sh", "GENRE_SPARK_LOG=spark.log spark-submit ... jobs/extract.py ..."),
        ("sh", "genre-spark extract --tracks T.parquet --out D --set spark.conf.spark.eventLog.enabled=true > log"),
        ("sh", "git clone ... && cd genre_spark && make setup"),
        ("", "genre-spark corpus {fma,gtzan,folder,synthetic} --root DIR --out TRACKS.parquet"),
        ("", "genre-spark extract --wait SECONDS"),
        ("", "--set section.key=value"),
        ("", "train.*"),
        ("", "train.log"),
        ("", "spark.task.maxFailures"),
        ("text", "genre-spark nonsense --is-output"),
    ],
)
def test_what_is_right_or_none_of_our_commands_is_let_pass(language: str, text: str, tmp_path: Path) -> None:
    assert list(faults(Code(1, language, text), tmp_path)) == []


def test_every_setting_and_every_command_stands_in_the_reference() -> None:
    def keys(tree: dict, prefix: str = "") -> list[str]:
        return [
            name
            for key, value in tree.items()
            for name in (keys(value, f"{prefix}{key}.") if isinstance(value, dict) and value else [f"{prefix}{key}"])
        ]

    told = generated_pages.settings()
    assert [name for name in keys(Settings().model_dump()) if f"`{name}`" not in told and name != "features"] == []
    wide = os.environ | {"COLUMNS": "200"}
    answer = subprocess.run([BIN / "genre-spark", "--help"], capture_output=True, text=True, check=True, env=wide)
    stages = re.findall(r"^│ ([a-z][a-z-]+) ", answer.stdout, re.MULTILINE)
    assert len(stages) > 8
    assert [stage for stage in stages if f"## genre-spark {stage}\n" not in generated_pages.commands()] == []


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built pages."""
    out = tmp_path_factory.mktemp("docs")
    answer = subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-d", out / "doctrees", "docs", out / "html"],
        capture_output=True, text=True, check=False, cwd=REPOSITORY,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    return out / "html"


class _Loaded(html.parser.HTMLParser):
    """Addresses that a browser loads with a page, whatever its reader does."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        loads = tag != "a" and not (tag == "link" and named.get("rel") in ("canonical", "next", "prev", "search"))
        self.found += [named[key] or "" for key in ("src", "href", "srcset", "data") if loads and key in named]


def test_sphinx_builds_the_pages_without_a_warning_and_with_all_of_the_api(site: Path) -> None:
    assert "genre-spark predict-library" in (site / "reference" / "cli.html").read_text(encoding="utf-8")
    assert "genre_spark.features.extract_file" in (site / "reference" / "features.html").read_text(encoding="utf-8")


def test_no_built_page_loads_anything_from_the_network(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        loaded = _Loaded()
        loaded.feed(page.read_text(encoding="utf-8"))
        assert [address for address in loaded.found if re.match(r"([a-z]+:)?//", address)] == [], page
    for sheet in site.rglob("*.css"):
        assert re.findall(r"(?:@import|url\()\s*['\"]?(?:https?:)?//", sheet.read_text(encoding="utf-8")) == [], sheet
